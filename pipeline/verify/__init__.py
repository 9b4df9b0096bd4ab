"""Is everything in place for going live? One typed line a check, with what to do (T025)."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from pipeline.config import PipelineConfig
from pipeline.config.base_url import api_path_in
from pipeline.config.credentials import Credentials, environment
from pipeline.config.file import SourceSettings, select_source
from pipeline.errors import PluginConfigError
from pipeline.verify import setup_checks
from pipeline.verify.mapping_checks import patterns
from pipeline.verify.setup_checks import Check, State, Verification, failed, ok, skipped, warning
from pipeline.wording import counted

T = TypeVar("T")

__all__ = ["Check", "State", "Verification", "verify"]


def verify(
    path: str | Path,
    source: str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    now: datetime | None = None,
    at_least: float = 80.0,
) -> Verification:
    """Check whether a configuration is ready for going live (T025).

    Looks at the file, the login, the options, Pylantir's registration and the zone data, then asks the server and tries
    the mapping on its bookings. Nothing that a configuration, an environment or a server can do is raised: each fault
    becomes a line.

    Args:
        path: The configuration file.
        source: The source's name, where the file holds several.
        environ: The environment; None means the process's own, with ``.env`` behind it.
        now: The present, aware; None means the clock.
        at_least: The percentage of bookings that a field's patterns have to match.

    Returns:
        A ``Verification`` with one ``Check`` per line; ``passed`` says whether none of them failed.
    """
    return Verification(tuple(_checks(Path(path), source, environ, now or datetime.now(UTC), at_least)))


def _checks(
    path: Path, source: str | None, environ: Mapping[str, str] | None, now: datetime, at_least: float
) -> Iterator[Check]:
    yield setup_checks.versions()
    config = credentials = None
    told = yield from _tried("environment", lambda: environment() if environ is None else environ, ".env: ")
    settings = yield from _tried("configuration", lambda: select_source(path, source), f"{path}: ")
    if told is None:
        yield skipped("login", "not looked at: .env has to be fixed first")
    else:
        credentials = yield from _tried("login", lambda: Credentials.from_environment(told))
    if credentials is not None:
        yield ok("login", "CALPENDO_USERNAME and CALPENDO_PASSWORD are set")
    known = os.environ if told is None else told
    if settings is not None:
        options = partial(PipelineConfig.from_dict, settings.config, source_name=settings.name)
        config = yield from _tried("configuration", lambda: options(environ=known))
    yield setup_checks.registration()
    if config is None or settings is None:
        yield skipped("connection", "not tried: the configuration has to be corrected first")
        return
    yield from _configured(config, settings, now)
    if credentials is None:
        why = ".env has to be fixed first" if told is None else "the login is missing"
        yield skipped("connection", f"not tried: {why}")
        return
    from pipeline.verify.server_checks import server

    hosted = setup_checks.under_pylantir(settings, known)
    yield from server(config, credentials, now, settings.sync_interval, hosted=hosted, at_least=at_least)


def _configured(config: PipelineConfig, settings: SourceSettings, now: datetime) -> Iterator[Check]:
    """Yield what a valid configuration means on this machine."""
    yield ok(
        "configuration",
        f"source {config.source_name!r}: {counted(len(config.resources), 'resource')},"
        f" {counted(len(config.rules), 'mapped field')}, "
        f"every {settings.sync_interval:g} s",
    )
    for caution in config.warnings:
        yield warning("configuration", caution, "see the table of options in docs/configuration.md")
    if "api_path" not in settings.config and not api_path_in(config.base_url, ""):
        yield warning(
            "configuration",
            "api_path is not written: the commands ask at /webdav, Pylantir at /api",
            'write "api_path": "/webdav" or "/api", whichever your server has',
        )
    yield from patterns(config)
    yield setup_checks.modalities(config)
    yield from setup_checks.zones(config, now)
    yield setup_checks.output_zone(config, now)
    yield setup_checks.state(config, served_by_pylantir=settings.database is not None)
    yield from setup_checks.worklist_files(config)


def _tried(name: str, make: Callable[[], T], where: str = "") -> Generator[Check, None, T | None]:
    """Return what ``make`` returns; where it is refused, yield a line per fault and return None."""
    try:
        return make()
    except PluginConfigError as error:
        for fault in error.faults:
            found, _, write = fault.partition("; write ")
            yield failed(name, where + found, f"write {write}" if write else "")
    return None
