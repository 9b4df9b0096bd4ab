"""``calpendo-pipeline run``: one real cycle against a configured server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.exits import exit_codes


def run(
    config: Annotated[
        Path, typer.Option(help="Pylantir's configuration file, or one source's config object.")
    ],
    source: Annotated[
        str | None, typer.Option(help="The source's name, where the file holds several.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Write the entries to a .parquet, .ndjson or .csv file.", dir_okay=False),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show what would change; keep ledger and quarantine as they are."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print entries and report as JSON.")] = False,
) -> None:
    """Fetch the window's bookings once and emit what is new, changed or withdrawn since the last run.

    Exit code 0: done; 1: the fetch failed and nothing was recorded as delivered; 2: the configuration is wrong.
    """
    with exit_codes():
        from pipeline.commands.cycle import plan_cycle, run_cycle

        if dry_run:
            plan_cycle(config, source, as_json=as_json)
        else:
            run_cycle(config, source, output=output, as_json=as_json)
