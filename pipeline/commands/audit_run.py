"""What the audit command does before it prints: configuration, bookings, progress, and the page's file."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.commands.exits import say
from pipeline.config import PipelineConfig

if TYPE_CHECKING:
    from rich.progress import Progress

    from pipeline.audit import Audit

WORTH_PROCESSES = 48 << 20
"""Bytes from which on more processes save more than they cost to start."""
PACKED_TIMES = 10
"""About how many times its size a packed file is."""


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
    from pipeline.simulator.sample import WITHOUT_CONFIG, file_config

    bookings = read_payloads(file)
    config = file_config(config_file, source)
    if config_file is None:
        say(f"Note: {WITHOUT_CONFIG}", err=True)
    size = bookings.archive.size
    unpacked = size * (PACKED_TIMES if bookings.archive.packing else 1)
    count = workers or (_cores() if unpacked >= WORTH_PROCESSES else 1)
    with _progress() as progress:
        task = progress.add_task("Reading bookings", total=size)

        def tell(_: int) -> None:
            progress.update(task, completed=bookings.position)

        return audit(bookings, config, expected, reveal=reveal, workers=count, progress=tell)


def audit_server(
    config_file: Path, source: str | None, days: int, expected: Path | None, *, reveal: bool
) -> tuple[str, Audit]:
    """Audit the last days of a running Calpendo; returns what was audited, in words, and the audit."""
    from pipeline.audit import LiveBookings, audit
    from pipeline.audit.what_if import asked_for
    from pipeline.calpendo.client import CalpendoClient
    from pipeline.config.credentials import Credentials
    from pipeline.config.file import select_source

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
        found = audit(bookings, config, expected, reveal=reveal, selection=asked_for(config))
    said = bookings.warnings
    if bookings.failed:
        said = (*said, f"{bookings.failed} listed bookings could not be fetched and are not in this audit")
    return f"{settings.name}, the last {days} days", replace(found, warnings=(*found.warnings, *said))


def write_rules(found: Audit, path: Path, source: str | None) -> int:
    """Put the rules that an audit suggests into a configuration, behind those that it has; returns how many.

    One that leaves a visit out of the id, though no subject shows two, is for a person to decide.
    """
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


@contextlib.contextmanager
def _progress() -> Iterator[Progress]:
    """A bar on standard error where that is a terminal; nothing otherwise."""
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


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
