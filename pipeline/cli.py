"""``calpendo-pipeline``: the thin shell over the library. Each command lives in ``pipeline/commands``.

Nothing heavy is imported here: polars, pandera, requests and rich wait inside the command that needs them.
"""

from __future__ import annotations

import typer

from pipeline.commands.audit import audit
from pipeline.commands.backfill import backfill
from pipeline.commands.check import check
from pipeline.commands.demo import demo
from pipeline.commands.pylantir import PASS_ALL_ON, pylantir
from pipeline.commands.quarantine import quarantine_app
from pipeline.commands.run import run
from pipeline.commands.simulate import simulate
from pipeline.commands.status import status
from pipeline.commands.verify import verify

app = typer.Typer(
    name="calpendo-pipeline",
    help="Calpendo bookings in, checked DICOM worklist entries out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (demo, verify, run, status):
    app.command()(command)
app.add_typer(quarantine_app, name="quarantine")
for command in (audit, check, backfill, simulate):
    app.command()(command)
app.command("pylantir", context_settings=PASS_ALL_ON)(pylantir)


@app.callback(invoke_without_command=True)
def _options(
    version: bool = typer.Option(False, "--version", help="Show the version and stop."),
) -> None:
    if version:
        from pipeline import __version__

        typer.echo(f"calpendo-pipeline {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line."""
    app()
