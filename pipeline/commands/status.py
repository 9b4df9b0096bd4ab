"""``calpendo-pipeline status``: the last runs, the last success, what waits; an exit code for a monitor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.commands.exits import FAILED, AnySource, ConfigFile, exit_codes, say
from pipeline.wording import counted, first_of

if TYPE_CHECKING:
    from datetime import datetime

    from pipeline.report import Health


_SHOWN = 20


def status(
    config: ConfigFile = None,
    source: AnySource = None,
    host: Annotated[
        str | None,
        typer.Option(help="Only this host, as shown: caller, pylantir, output:PATH, worklist:DIR."),
    ] = None,
    max_age: Annotated[
        str | None,
        typer.Option(
            help="Exit with 1 when nothing has succeeded for so long, or a booking that has not ended has been owed"
            " for so long: 15m, 2h, 1d."
        ),
    ] = None,
    last: Annotated[int, typer.Option(help="How many runs to show.", min=0)] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show how each source is doing at each host: last runs, last success, what is owed, pending, held back or rejected.

    Reads a copy of the ledgers, also while other processes work with them; asks no server. Exit code 0, or 1 when
    --max-age is given and a host's last success is older, or a booking that has not ended yet has been owed for longer,
    or 2 when the configuration is wrong or nothing has run with it yet.
    """
    with exit_codes():
        from datetime import UTC, datetime

        from pipeline.commands.ledgers import duration, ledgers_by_source

        limit = duration(max_age) if max_age is not None else None
        hosts = _health(ledgers_by_source(config, source), datetime.now(UTC), last, host)
    if as_json:
        import json

        # A monitor reads the host that has waited longest; the others stand behind it.
        first, *others = (found.to_dict() for found in hosts)
        say(json.dumps(first | {"other_hosts": others}, ensure_ascii=False))
    else:
        for place, found in enumerate(hosts):
            if place:
                say("")
            _show(found)
    if limit is None:
        return
    late = [_name(found) for found in hosts if found.is_older_than(limit)]
    left = {_name(found): ids for found in hosts if (ids := found.left_behind(limit))}
    for name, ids in left.items():
        which = f" for {name}" if len(hosts) > 1 else ""
        text = f"{len(ids)} bookings that have not ended yet have been owed{which} for more than {max_age}: {first_of(ids)}"
        say(text, fg=typer.colors.RED, err=True)
    if late:
        which = f" for {', '.join(late)}" if len(hosts) > 1 else ""
        say(f"nothing has succeeded{which} for more than {max_age}", fg=typer.colors.RED, err=True)
        if 0 < len(late) < len(hosts):
            say(
                "  Choose what to watch with --source and --host, or delete the ledger of one that is no more.",
                err=True,
            )
    if late or left:
        raise typer.Exit(FAILED)


def _health(
    ledgers: Mapping[str, Sequence[Path]], now: datetime, last: int, host: str | None
) -> list[Health]:
    """Read how each source is doing at each host, the one without a success for the longest time first."""
    from datetime import timedelta

    from pipeline.delivery.ledger import CALLER, Ledger
    from pipeline.report import Health, health

    found: list[Health] = []
    for source, paths in ledgers.items():
        here = []
        for path in paths:
            with Ledger.copy(path) as ledger:
                here.append(health(ledger, now, runs=last))
        if host is not None:
            here = [each for each in here if each.host == host]
        found += here or [Health(now, host or CALLER, source=source)]
    return sorted(found, key=lambda each: timedelta.max if each.age is None else each.age, reverse=True)


def _name(found: Health) -> str:
    return f"{found.source} ({found.host})" if found.source else found.host


def _show(found: Health) -> None:
    from rich.text import Text

    from pipeline.commands.ledgers import shown
    from pipeline.commands.render import Cell, Records, plain, terminal
    from pipeline.transform.reasons import HELD, explain

    console = terminal()
    console.print(plain(f"{_name(found)}:"), style="bold")
    console.print(f"ledger: {found.ledger or 'none yet, nothing has run'}")
    console.print(
        "no cycle has succeeded yet" if found.age is None else f"last success: {shown(found.age)} ago"
    )
    for booking_id, owed in list(found.owed.items())[:_SHOWN]:
        console.print(
            f"owed: booking {booking_id} since {owed.since:%Y-%m-%d %H:%M %Z}, {owed.attempts} cycles tried"
            + (f", no time for it in the last {owed.passed_over}" if owed.passed_over else "")
        )
    if len(found.owed) > _SHOWN:
        console.print(f"owed: {len(found.owed) - _SHOWN} more bookings")
    for booking_id, why in list(found.held_back.items())[:_SHOWN]:
        reason = " ".join(explain(why)) if why in HELD else why or "it waits for a second cycle"
        console.print(f"held back: booking {booking_id}: {why + ': ' if why in HELD else ''}{reason}")
    if len(found.held_back) > _SHOWN:
        console.print(f"held back: {len(found.held_back) - _SHOWN} more bookings")
    if found.pending:
        console.print(
            f"pending at the host, which has not acknowledged them: {counted(len(found.pending), 'booking')}, {first_of(found.pending)}"
        )
    if found.quarantined:
        console.print(
            f"{counted(found.quarantined, 'booking')} in quarantine: see `calpendo-pipeline quarantine list`"
        )
    if not found.runs:
        return
    counts = ("listed", "emitted", "unchanged", "filtered", "rejected", "fetch_failed", "gone", "withdrawn")
    rows: list[dict[str, Cell]] = [
        {
            "started": f"{run.started:%Y-%m-%d %H:%M:%S}",
            "outcome": Text(run.outcome, style="red" if run.outcome == "failed" else ""),
            **{name: getattr(run, name) for name in counts},
            "counts": [
                f"{name.replace('_', ' ')} {getattr(run, name)}" for name in counts if getattr(run, name)
            ],
            "seconds": f"{run.total_seconds:.2f}",
        }
        for run in found.runs
    ]
    title = "Last runs, newest first (times in UTC)"
    columns = ("started", "outcome", *counts, "seconds")
    wide = Records(
        {name: name.replace("_", " ") for name in columns}, rows, title=title, right=(*counts, "seconds")
    )
    narrow = ("started", "outcome", "seconds", "counts")
    console.print(
        wide if wide.fits(console.width) else Records({name: name for name in narrow}, rows, title=title)
    )
    if found.runs[0].error:
        console.print(f"last error: {found.runs[0].error}")
