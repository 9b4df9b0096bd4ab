"""``calpendo-pipeline preview``: the list as its host would get it now, what is not on it and why, what would change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.commands.arguments import AsJson, ConfigFile, File, OneSource, Text, told
from pipeline.commands.exits import exit_codes, say

if TYPE_CHECKING:
    from pipeline.commands.render import Records
    from pipeline.verify.preview import Preview


def preview(
    config: ConfigFile,
    source: OneSource = None,
    days: Annotated[
        int | None,
        typer.Option(help="The site's next days, today included, instead of the window.", min=1, max=366),
    ] = None,
    host: Annotated[
        Text,
        told(
            "Whose list: pylantir, worklist, caller, output:PATH. Default: pylantir where the file is Pylantir's own,"
            " worklist where it names a directory."
        ),
    ] = None,
    html: Annotated[File, told("Write one page for the control room, with everything in it.")] = None,
    as_json: AsJson = False,
    reveal: Annotated[
        bool, told("Show ids, names and titles as they are, not as shapes.", "--reveal")
    ] = False,
) -> None:
    """Show the list as the scanners would get it now, what is not on it and why, and what would change.

    Reads the server as a cycle does, and writes nothing: the next cycle delivers what is shown here. Exit code 0: done;
    1: the fetch failed; 2: the configuration is wrong.
    """
    with exit_codes():
        import logging

        from pipeline.verify.preview import preview as look

        # What the log's lines say stands in the preview, too.
        logging.basicConfig(level=logging.CRITICAL)
        found = look(config, source, days=days, reveal=reveal, host=host)
        if html is not None:
            from pipeline.page import write_page
            from pipeline.verify.preview import render_preview

            write_page(render_preview(found), html, is_private=found.is_revealed)
        if as_json:
            import json

            say(json.dumps(found.to_dict(), ensure_ascii=False))
        else:
            _show(found)
        if html is not None:
            say(f"The page for a browser: {html}", err=True)


def _show(found: Preview) -> None:
    from pipeline.commands.render import terminal

    console = terminal()
    for item in _renderables(found):
        if not isinstance(item, str):
            console.print("")
        console.print(item)


def _renderables(found: Preview) -> Iterator[str | Records]:
    """Yield what the list would be, scanner by scanner and day by day; what is not on it; what to fix; what changes."""
    from pipeline.commands.render import CHANGE_STYLES, STATUS_STYLES, Records, plain
    from pipeline.verify import preview as views

    def styled(row: dict[str, str | None]) -> dict[str, Any]:
        styles = {"status": STATUS_STYLES, "change": CHANGE_STYLES}
        return row | {
            key: plain(row[key] or "", known.get(row[key] or "", "")) for key, known in styles.items()
        }

    yield found.title
    yield from views.said(found)
    headings = {"time": "time", "booking_id": "booking", **views.LIST_HEADINGS}
    for heading, rows in views.by_day(found):
        listed = map(styled, map(views.list_row, rows))
        yield Records(headings, listed, title=heading, prose=("patient_name", "study"))
    for headings, records, title, prose in (
        (_OFF_THE_LIST, views.by_reason(found), "Not on the list", ("why", "what_to_do")),
        (_REPAIRS, views.by_repair(found), "Repaired on the way", ("why", "what_to_do")),
        (_DIFFERENCES, views.differences(found), "What changes on the list", ("old", "new")),
    ):
        if records:
            yield Records(headings, records, title=title, prose=prose)


_OFF_THE_LIST = {"reason": "reason", "why": "why", "what_to_do": "what to do", "bookings": "bookings"}
_REPAIRS = {
    "field": "field",
    "kind": "repair",
    "why": "why",
    "what_to_do": "what to do",
    "bookings": "bookings",
}
_DIFFERENCES = {"booking_id": "booking", "field": "field", "old": "now", "new": "then"}
