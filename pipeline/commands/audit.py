"""``calpendo-pipeline audit``: how accurate the mapping is, on a file of bookings or on the last days of a server."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.commands.exits import FAILED, exit_codes, say

if TYPE_CHECKING:
    from rich.progress import Progress

    from pipeline.audit import Audit

WORTH_PROCESSES = 48 << 20
"""Bytes from which on more processes save more than they cost to start."""
PACKED_TIMES = 10
"""About how many times larger a packed file is when unpacked."""


def audit(
    file: Annotated[
        Path | None,
        typer.Argument(help="Bookings, one JSON object per line; without it, the last days of the server."),
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
        int | None, typer.Option(help="Fetch this many days before today, and today (default 90).", min=0)
    ] = None,
    expected: Annotated[
        Path | None, typer.Option(help="Hand-checked entries, one label per line: shows what is wrong.")
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
            help="Exit with 1 when accuracy (with --expected) or coverage (without) is below this percentage.",
            min=0,
            max=100,
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes for a large file; default: one per core.", min=1)
    ] = None,
) -> None:
    """Say which bookings made it and why not, whether every field is right, which titles and times stand out.

    Exit code 0: done; 1: under --fail-under, or the fetch failed; 2: the configuration, a label or the call is wrong.
    """
    with exit_codes():
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


def audit_file(
    file: Path,
    config_file: Path | None,
    source: str | None,
    expected: Path | None,
    *,
    reveal: bool,
    workers: int | None,
) -> Audit:
    """Audit a file of bookings with a configuration's mapping, or with the example's."""
    from pipeline.audit import audit, read_payloads
    from pipeline.processes import available_cores
    from pipeline.simulator.sample import WITHOUT_CONFIG, file_config

    bookings = read_payloads(file)
    config = file_config(config_file, source)
    if config_file is None:
        say(f"Note: {WITHOUT_CONFIG}", err=True)
    size = bookings.archive.size
    unpacked = size * (PACKED_TIMES if bookings.archive.packing else 1)
    count = workers or (available_cores() if unpacked >= WORTH_PROCESSES else 1)
    with _progress() as progress:
        task = progress.add_task("Reading bookings", total=size)

        def tell(_: int) -> None:
            progress.update(task, completed=bookings.position)

        return audit(bookings, config, expected, reveal=reveal, workers=count, progress=tell)


def audit_server(
    config_file: Path, source: str | None, days: int, expected: Path | None, *, reveal: bool
) -> tuple[str, Audit]:
    """Audit the last days of a running Calpendo, and return what was audited, in words, and the audit."""
    from pipeline.audit import LiveBookings, audit
    from pipeline.calpendo.client import CalpendoClient
    from pipeline.config import PipelineConfig
    from pipeline.config.credentials import Credentials
    from pipeline.config.file import select_source
    from pipeline.transform.selection import Selection

    settings = select_source(config_file, source)
    config = PipelineConfig.from_dict(settings.config, source_name=settings.name)
    credentials = Credentials.from_environment()
    with CalpendoClient(config, credentials) as client, _progress() as progress:
        task = progress.add_task("Fetching day by day", total=days + 1)
        bookings = LiveBookings(
            client,
            config,
            days,
            on_day=lambda day: progress.update(task, advance=1, description=f"Fetched {day}"),
        )
        found = audit(bookings, config, expected, reveal=reveal, selection=Selection.of(config))
    said = bookings.warnings
    if bookings.failed:
        said = (*said, f"{bookings.failed} listed bookings could not be fetched and are not in this audit")
    return f"{settings.name}, the last {days} days", replace(found, warnings=(*found.warnings, *said))


def write_rules(found: Audit, path: Path, source: str | None) -> int:
    """Put the rules that an audit suggests into a configuration, behind those that it has, and return how many.

    One that leaves a visit out of the id, though no subject shows two, is for a person to decide.
    """
    from pipeline.config import PipelineConfig
    from pipeline.config.file import select_source
    from pipeline.verify.configuration_writer import updated_configuration, write_all
    from pipeline.verify.proposals import appended

    settings = select_source(path, source)
    config = PipelineConfig.from_dict(settings.config, source_name=settings.name, offline=True)
    sources = {rule.target: rule.source for rule in config.rules}
    rules: dict[str, list[dict[str, object]]] = {}
    for row in found.suggestions.iter_rows(named=True):
        if sources.get(row["target"]) == row["source"] and not row["visit_in_doubt"]:
            rules.setdefault(row["target"], []).append(json.loads(row["extract"]))
    if rules:
        write_all([updated_configuration(path, {"field_mapping": appended(config, rules)}, source)])
    return sum(map(len, rules.values()))


def show(found: Audit, *, as_json: bool) -> None:
    """Print tables, or one JSON object."""
    if as_json:
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


@contextlib.contextmanager
def _progress() -> Iterator[Progress]:
    """Show a progress bar on standard error where that is a terminal; nothing otherwise."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from pipeline.commands.render import terminal

    console = terminal(err=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield progress
