"""``calpendo-pipeline check``: does a file of entries or bookings keep the contract? For a person, and for CI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.exits import exit_codes


def check(
    file: Annotated[Path, typer.Argument(help="JSON, CSV or Parquet file of entries, bookings or labels.")],
    config: Annotated[
        Path | None,
        typer.Option(help="Take bookings through this configuration's mapping, too.", dir_okay=False),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="The source's name, where the file holds several.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Show at most this many failing rows.", min=0)] = 50,
) -> None:
    """Validate a file against the schemas; failing rows are named by booking id and rule, and no value is shown.

    Exit code 0: all rows keep all rules; 1: some do not; 2: the file or the configuration cannot be read.
    """
    with exit_codes():
        from pipeline.check import check_file, explain
        from pipeline.commands.render import terminal
        from pipeline.simulator.sample import file_config

        result = check_file(file, file_config(config, source) if config is not None else None)
        console = terminal()
        for fault in result.structure:
            console.print(f"structure  {fault}")
        for failure in result.failures[:limit]:
            booking = f"booking {failure.booking_id}" if failure.booking_id else "no readable id"
            console.print(f"{result.counted} {failure.line}  {booking}  {'; '.join(failure.rules)}")
        if len(result.failures) > limit:
            console.print(f"... and {len(result.failures) - limit} more (--limit shows them)")
        if result.by_rule:
            console.print()
            for rule, count in result.by_rule.items():
                reason = explain(rule)
                console.print(f"{count:>7}  {rule}: {reason.meaning} {reason.remedy}")
        failing = len(result.failures)
        console.print(f"{file}: {result.rows} {_NAMES[result.kind]}, {failing} failing")
        if not result.passed:
            raise typer.Exit(1)


_NAMES = {"entries": "entries", "bookings": "bookings", "labels": "labels", "empty": "rows"}
