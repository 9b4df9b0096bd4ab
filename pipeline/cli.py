"""``calpendo-pipeline``: the thin shell over the library. Each command lives in ``pipeline/commands``."""

from __future__ import annotations

import typer

app = typer.Typer(
    name="calpendo-pipeline",
    help="Calpendo bookings in, checked DICOM worklist entries out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line."""
    app()
