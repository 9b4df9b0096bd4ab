"""``calpendo-pipeline status``: the last runs, the last success, what waits; an exit code for a monitor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.commands.exits import FAILED, exit_codes

if TYPE_CHECKING:
    from datetime import datetime

    from pipeline.delivery.history import Health


def status(
    config: Annotated[
        Path | None,
        typer.Option(help="Pylantir's configuration file; without it, the only ledger of this user."),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="The source's name, where the file holds several.")
    ] = None,
    max_age: Annotated[
        str | None, typer.Option(help="Exit with 1 when nothing has succeeded for so long: 15m, 2h, 1d.")
    ] = None,
    last: Annotated[int, typer.Option(help="How many runs to show.", min=0)] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show how a source is doing: its last runs, its last success, what is owed, pending, held back or rejected.

    Reads a copy of the ledger, also while another process works with it; asks no server. Exit code 0, or 1 when
    --max-age is given and the last success is older, or 2 when the configuration is wrong.
    """
    with exit_codes():
        from datetime import UTC, datetime

        from pipeline.commands.ledgers import duration, find_ledger

        limit = duration(max_age) if max_age is not None else None
        found = _health(find_ledger(config, source), datetime.now(UTC), last)
    if as_json:
        import json

        typer.echo(json.dumps(found.to_dict(), ensure_ascii=False))
    else:
        _show(found)
    if limit is not None and found.is_older_than(limit):
        typer.secho(f"nothing has succeeded for more than {max_age}", fg=typer.colors.RED, err=True)
        raise typer.Exit(FAILED)


def _health(path: Path, now: datetime, last: int) -> Health:
    from pipeline.delivery.history import Health, health
    from pipeline.delivery.ledger import Ledger

    if not path.exists():
        return Health(now)
    with Ledger.copy(path) as ledger:
        return health(ledger, now, runs=last)


def _show(found: Health) -> None:
    from rich.console import Console
    from rich.table import Table

    from pipeline.commands.ledgers import shown
    from pipeline.commands.render import wide_enough

    console = wide_enough(Console(highlight=False), 140)
    console.print(
        "no cycle has succeeded yet" if found.age is None else f"last success: {shown(found.age)} ago",
        markup=False,
    )
    for booking_id, (since, attempts) in found.owed.items():
        console.print(f"owed: booking {booking_id} since {since:%Y-%m-%d %H:%M %Z}, {attempts} cycles tried")
    for text, number in (
        ("entries pending: the host has not acknowledged them", len(found.pending)),
        ("withdrawals held back until a second cycle confirms them", len(found.held)),
        ("bookings in quarantine: see `calpendo-pipeline quarantine list`", found.quarantined),
    ):
        if number:
            console.print(f"{number} {text}", markup=False)
    if not found.runs:
        return
    columns = ("listed", "emitted", "unchanged", "filtered", "rejected", "fetch_failed", "gone", "withdrawn")
    table = Table(title="Last runs, newest first (times in UTC)", title_justify="left")
    for heading in ("started", "outcome", *columns, "seconds"):
        table.add_column(heading.replace("_", " "), no_wrap=True)
    for run in found.runs:
        table.add_row(
            f"{run.started:%Y-%m-%d %H:%M:%S}",
            run.outcome,
            *(str(getattr(run, name)) for name in columns),
            f"{run.total_seconds:.2f}",
            style="red" if run.outcome == "failed" else None,
        )
    console.print(table)
    if found.runs[0].error:
        console.print(f"last error: {found.runs[0].error}", markup=False)
