"""``calpendo-pipeline quarantine``: look at rejected bookings, try them again, forget them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.commands.exits import FAILED, AnySource, ConfigFile, OneSource, exit_codes, say

if TYPE_CHECKING:
    from pipeline.delivery.quarantine import Item

quarantine_app = typer.Typer(
    name="quarantine",
    help="Look at rejected bookings, try them again with today's configuration, or forget them.",
    no_args_is_help=True,
)


def _items(paths: Sequence[Path], names: Collection[str] = (), *, resolved: bool = False) -> list[Item]:
    from pipeline.delivery.ledger import Ledger
    from pipeline.delivery.quarantine import items

    with ExitStack() as copies:
        ledgers = [copies.enter_context(Ledger.copy(path)) for path in paths]
        return items(*ledgers, names=names, resolved=resolved)


@quarantine_app.command("list")
def list_items(
    config: ConfigFile = None,
    source: AnySource = None,
    resolved: Annotated[bool, typer.Option("--all", help="Also those that pass by now.")] = False,
) -> None:
    """List the rejected bookings with their reasons; no patient's data is shown."""
    with exit_codes():
        from pipeline.commands.ledgers import ledgers_by_source
        from pipeline.commands.render import Cell, Records, terminal

        ledgers = ledgers_by_source(config, source)
        found = [(name, item) for name, paths in ledgers.items() for item in _items(paths, resolved=resolved)]
        rows: list[dict[str, Cell]] = [
            {
                **({"source": name} if len(ledgers) > 1 else {}),
                "id": item.name,
                "reasons": item.reasons,
                "first seen (UTC)": f"{item.first_seen:%Y-%m-%d %H:%M}",
                "last seen (UTC)": f"{item.last_seen:%Y-%m-%d %H:%M}",
                "run": item.run,
                "rules": item.schema_version,
                "passes since (UTC)": f"{item.resolved:%Y-%m-%d %H:%M}" if item.resolved else "",
            }
            for name, item in found
        ]
        shown = Records({name: name for name in rows[0]}, rows) if rows else "The quarantine is empty."
        terminal().print(shown)


@quarantine_app.command()
def show(
    item_id: Annotated[str, typer.Argument(metavar="ID", help="A booking's id, or q1, q2, ... as listed.")],
    config: ConfigFile = None,
    source: OneSource = None,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Show the values themselves: patients' data.")
    ] = False,
) -> None:
    """Show one rejected booking: why, and its payload with every value masked by its shape."""
    with exit_codes():
        from pipeline.commands.ledgers import find_ledgers
        from pipeline.commands.render import terminal
        from pipeline.delivery.quarantine import masked, opened
        from pipeline.transform.reasons import explain

        found = _items(find_ledgers(config, source), [item_id])
        if not found:
            say(f"there is no booking {item_id} in quarantine", fg=typer.colors.RED, err=True)
            raise typer.Exit(FAILED)
        console = terminal()
        # Several only where there is no booking's id: each host counts such payloads by itself.
        for item in found:
            for reason in item.reasons:
                console.print(f"{reason}: {' '.join(explain(reason))}")
            say(_written((opened if reveal else masked)(item.payload)))


def _written(payload: Any) -> str:
    """Lay a payload out for the terminal, however deep it is."""
    import json

    try:
        return json.dumps(payload, indent=2, ensure_ascii=False)
    except RecursionError:
        return json.dumps(payload, ensure_ascii=False)


@quarantine_app.command()
def replay(
    item_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Ids as listed; without them, all.")
    ] = None,
    config: Annotated[Path, typer.Option(help="Pylantir's configuration file, as it is today.")] = ...,  # type: ignore[assignment]
    source: OneSource = None,
) -> None:
    """Run today's configuration over the kept payloads and tell which pass now; nothing is sent or changed.

    Exit code 0 when all pass, else 1.
    """
    with exit_codes():
        from pipeline.commands.ledgers import ledgers_of, source_config
        from pipeline.commands.render import Records, terminal
        from pipeline.delivery import quarantine

        checked = source_config(config, source)
        results = quarantine.replay(_items(ledgers_of(checked), item_ids or ()), checked)
        unknown = [
            item_id for item_id in item_ids or () if item_id not in {result.item.name for result in results}
        ]
        for item_id in unknown:
            say(f"there is no booking {item_id} in quarantine", fg=typer.colors.RED, err=True)
        rows = (
            {
                "id": result.item.name,
                "now": "passes" if result.passes else result.reasons or f"filtered: {result.filtered}",
                "before": result.item.reasons,
            }
            for result in results
        )
        passing = sum(result.passes for result in results)
        console = terminal()
        if results:
            console.print(Records({"id": "id", "now": "now", "before": "was rejected because"}, rows))
        console.print(f"{passing} of {len(results)} pass now")
    if passing < len(results) or unknown:
        raise typer.Exit(FAILED)


@quarantine_app.command()
def purge(
    older_than: Annotated[str, typer.Option(help="Forget what was not seen for so long: 30d, 2w, 12h.")],
    config: ConfigFile = None,
    source: OneSource = None,
) -> None:
    """Forget rejected bookings that have not been seen for a time; also while another process works."""
    with exit_codes():
        from datetime import UTC, datetime

        from pipeline.commands.ledgers import duration, find_ledgers
        from pipeline.delivery import quarantine
        from pipeline.delivery.ledger import Ledger

        before = datetime.now(UTC) - duration(older_than)
        count = 0
        for path in find_ledgers(config, source):
            with Ledger.beside(path) as ledger:
                with ledger.transaction() as connection:
                    count += quarantine.purge(connection, before)
                ledger.shrink()
        say(f"{count} forgotten")
