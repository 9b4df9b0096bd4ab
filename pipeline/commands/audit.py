"""``calpendo-pipeline audit``: how accurate the mapping is, on a file of bookings or on the last days of a server."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.commands.exits import FAILED, exit_codes, say

if TYPE_CHECKING:
    from pipeline.audit import Audit


def audit(
    file: Annotated[
        Path | None,
        typer.Argument(help="Bookings, one JSON object a line; without it, the last days of the server."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="Pylantir's configuration file, or one source's config object; default: the example."
        ),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="The source's name, where the file holds several.")
    ] = None,
    days: Annotated[
        int | None, typer.Option(help="Fetch the last so many days and today (default 90).", min=0)
    ] = None,
    expected: Annotated[
        Path | None, typer.Option(help="Hand-checked entries, one label a line: shows what is wrong.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write one page for a browser, with everything in it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Show titles and values as they are, not as shapes.")
    ] = False,
    write_config: Annotated[
        bool,
        typer.Option(
            "--write-config", help="Put the suggested rules into the file of --config, behind its own."
        ),
    ] = False,
    fail_under: Annotated[
        float | None,
        typer.Option(
            help="Exit with 1 when accuracy (with --expected) or coverage (without) is under so many percent.",
            min=0,
            max=100,
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes for a large file; default: one a core.", min=1)
    ] = None,
) -> None:
    """Say which bookings made it and why not, whether every field is right, which titles and times stand out.

    Exit code 0: done; 1: under --fail-under, or the fetch failed; 2: the configuration, a label or the call is wrong.
    """
    with exit_codes():
        from pipeline.commands.audit_run import audit_file, audit_server, write_rules

        refuse_contradictions(file, config, days, write_config=write_config)
        if file is not None:
            found = audit_file(file, config, source, expected, reveal=reveal, workers=workers)
            heading = file.name
        else:
            assert config is not None  # noqa: S101  said by refuse_contradictions
            span = 90 if days is None else days
            heading, found = audit_server(config, source, span, expected, reveal=reveal)
        if html is not None:
            from datetime import datetime

            from pipeline.audit.page import render_page
            from pipeline.page import write_page

            page = render_page(found, heading=heading, created=datetime.now().astimezone())
            write_page(page, html, is_private=found.overview.revealed)
        show(found, as_json=as_json)
        if html is not None:
            say(f"The report for a browser: {html}", err=True)
        if write_config and config is not None:
            added = write_rules(found, config, source)
            rules = "1 rule was" if added == 1 else f"{added or 'No'} rules were"
            say(f"{rules} added to {config}.", err=True)
        if fail_under is not None:
            hold_to(found, fail_under)


def refuse_contradictions(
    file: Path | None, config: Path | None, days: int | None, *, write_config: bool = False
) -> None:
    """Raise ``PluginConfigError`` where it is not clear what to audit, or where to write."""
    from pipeline.errors import PluginConfigError

    if file is None and config is None:
        raise PluginConfigError("name a file of bookings, or --config for the bookings of a server")
    if write_config and config is None:
        raise PluginConfigError("--write-config changes the file named by --config; name it")
    if file is not None and days is not None:
        raise PluginConfigError("--days fetches from a server; leave it out where a file is named")


def show(found: Audit, *, as_json: bool) -> None:
    """Print tables, or one JSON object."""
    if as_json:
        import json

        say(json.dumps(found.to_dict(), ensure_ascii=False))
        return
    from rich.text import Text

    from pipeline.commands.audit_tables import renderables
    from pipeline.commands.render import terminal

    console = terminal()
    for item in renderables(found):
        # JSON to be pasted stays on its line, whatever the terminal's width.
        console.print(item, soft_wrap=isinstance(item, Text) and item.no_wrap is True)


def hold_to(found: Audit, percent: float) -> None:
    """Exit with 1, naming every field that is under ``percent``."""
    if found.passes(percent):
        return
    if not len(found.judged):
        say("--fail-under: there was nothing to judge.", fg=typer.colors.RED, err=True)
    for row in found.judged.iter_rows(named=True):
        if row["percent"] < percent:
            # Rounded down: what is under the limit must not read as the limit.
            reached = math.floor(row["percent"] * 100) / 100
            say(
                f"{row['name']}: {row['measure']} {reached:.2f} % is under {percent:g} %",
                fg=typer.colors.RED,
                err=True,
            )
    raise typer.Exit(FAILED)
