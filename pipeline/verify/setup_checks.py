"""What a check reports, and the checks that need no server: versions, time zones, modalities, ledger, registration (T025).

A check reports one line, without patients' data and without credentials.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytz

from pipeline.config import PipelineConfig
from pipeline.config.file import SourceSettings
from pipeline.errors import PluginConfigError
from pipeline.transform.times import to_wall
from pipeline.wording import install


class State(StrEnum):
    """How a check ended. Only ``FAILED`` stops a centre from going live."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """One line: what was looked at, what was found, and what to do about it (empty where nothing is to do)."""

    name: str
    state: State
    found: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Verification:
    """All lines of one verification, in the order in which they were looked at."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """True where no check failed; warnings and skipped checks do not count against it."""
        return all(check.state is not State.FAILED for check in self.checks)

    def count(self, state: State) -> int:
        """Return how many checks ended so."""
        return sum(check.state is state for check in self.checks)


def ok(name: str, found: str) -> Check:
    """Return a line that asks for nothing."""
    return Check(name, State.OK, found)


def warning(name: str, found: str, advice: str) -> Check:
    """Return a line that somebody should read."""
    return Check(name, State.WARNING, found, advice)


def failed(name: str, found: str, advice: str) -> Check:
    """Return a line that must be corrected first."""
    return Check(name, State.FAILED, found, advice)


def skipped(name: str, found: str, advice: str = "") -> Check:
    """Return a line for what could not or need not be looked at."""
    return Check(name, State.SKIPPED, found, advice)


TESTED_PYLANTIR = "0.4.6"


def versions() -> Check:
    """Report the installed versions: what is asked first when something is odd."""
    parts = [f"Python {sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"]
    parts += [f"{name} {version(name)}" for name in ("calpendo-pipeline", "polars", "pandera", "pytz")]
    return ok("environment", ", ".join(parts))


class ZoneDifference(NamedTuple):
    """A library that disagrees with pytz: since which instant, and by how many minutes its clock is ahead."""

    library: str
    since: datetime
    minutes: int


def _hours_from(now: datetime) -> pl.Series:
    """Return every hour of a year from ``now`` on, as naive UTC."""
    first = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0, tzinfo=None)
    last = first + timedelta(days=366)
    return pl.datetime_range(first, last, "1h", closed="left", time_unit="us", eager=True)


def compare_zone(zone: str, now: datetime) -> tuple[list[str], list[ZoneDifference]]:
    """Compare every hour of a year; returns the libraries that were compared, and those that differ from pytz.

    A library that does not know the zone at all is left out of both: it cannot mislead.
    """
    from pipeline.audit.times_in_doubt import other_libraries

    instants = _hours_from(now)
    ours = to_wall(instants, zone)
    compared: list[str] = []
    differences: list[ZoneDifference] = []
    for library in other_libraries(zone):
        theirs = library.to_wall(instants)
        if theirs.null_count() == len(theirs):
            continue
        name = f"{library.name} ({library.version})"
        compared.append(name)
        apart = (theirs != ours).arg_true()
        if len(apart):
            minutes = round((theirs[apart[0]] - ours[apart[0]]).total_seconds() / 60)
            differences.append(ZoneDifference(name, instants[apart[0]].replace(tzinfo=UTC), minutes))
    return compared, differences


def zones(config: PipelineConfig, now: datetime) -> Iterator[Check]:
    """Compare the zone data of pytz, polars and the system for the site over the next year."""
    from pipeline.audit.times_in_doubt import pytz_version

    release = f"pytz {pytz_version()}"
    compared, differences = compare_zone(config.timezone, now)
    for difference in differences:
        ahead = "ahead of" if difference.minutes > 0 else "behind"
        since = "now" if difference.since <= now else f"from {difference.since:%Y-%m-%d} on"
        yield warning(
            "time zones",
            f"{difference.library} is {abs(difference.minutes)} minutes {ahead} {release} for "
            f"{config.timezone} {since}",
            "entries follow pytz; update the other one (tzdata of the system, polars) where people read its times",
        )
    if not differences:
        others = " and ".join(compared) or "nothing else to compare"
        yield ok("time zones", f"{config.timezone}: {release} agrees with {others} for a year")
    # Governments change clocks on short notice.
    if int(vars(pytz)["OLSON_VERSION"][:4]) < now.year - 1:
        yield warning("time zones", f"{release} is old", "run: pip install --upgrade pytz")


def output_zone(config: PipelineConfig, now: datetime) -> Check:
    """Warn where the times on the scanner's list will not be those of the clock on the wall."""
    name = "output zone"
    target = config.timezone if config.output_timezone == "site" else config.output_timezone
    if "output_timezone" not in config.model_fields_set:
        return ok(name, f"is not set: the site's own time ({config.timezone}) under Pylantir, UTC elsewhere")
    if target == config.timezone:
        return ok(name, f"times are emitted as the site's clock shows them ({config.timezone})")
    hours = _hours_from(now)
    ahead = (to_wall(hours, target) - to_wall(hours, config.timezone)).dt.total_minutes() / 60
    most = max(ahead, key=abs)
    if not most:
        return ok(name, f"times are emitted in {target}, all year the same as the site's clock")
    return warning(
        name,
        f"times are emitted in {target}, up to {most:+g} hours from the site's clock ({config.timezone})",
        'most consoles show the time as it comes; for site time write "output_timezone": "site"',
    )


def modalities(config: PipelineConfig) -> Check:
    """Report the configured resources that ``resource_modality_mapping`` does not cover."""
    from pipeline.transform.vocabularies import modality_translator

    translate = modality_translator(config.resource_modality_mapping)
    unmapped = {
        name: modality for name in config.resources for modality, known in (translate(name),) if not known
    }
    if not unmapped:
        return ok("modalities", "each configured resource has a modality")
    told = ", ".join(f"{name!r} becomes {modality!r}" for name, modality in unmapped.items())
    first = next(iter(unmapped))
    return warning(
        "modalities",
        f"no modality is written for {len(unmapped)} of {len(config.resources)} resources: {told}",
        f'write, for example, "resource_modality_mapping": {{"{first}": "MR"}}',
    )


def state(config: PipelineConfig, *, served_by_pylantir: bool = False) -> Check:
    """Check that the file of the host's ledger can be written, without creating anything."""
    from pipeline.delivery.ledger import CALLER, PYLANTIR, foreign, ledger_path, worklist_host

    host = PYLANTIR if served_by_pylantir else CALLER
    if config.worklist_dir is not None:
        host = worklist_host(Path(config.worklist_dir))
    path = ledger_path(config, host)
    if path is None:
        return warning(
            "ledger",
            "is kept in memory: after a restart everything is sent again and nothing can be withdrawn",
            'leave "state_path" out, or name a file',
        )
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    kind_fits = place.is_file() if place == path else place.is_dir()
    if kind_fits and os.access(place, os.R_OK | os.W_OK):
        # The caller's ledger names the others: they are refused together.
        for named in filter(None, (path, ledger_path(config))):
            why = foreign(named)
            if why:
                return failed("ledger", f"{named} is {why}", 'name another file with "state_path"')
        is_there = "is there and" if place == path else "will be made and"
        return ok("ledger", f"{path} {is_there} can be written")
    advice = 'name a file in a writable folder with "state_path", or correct the rights'
    return failed("ledger", f"{path} cannot be written", advice)


def worklist_files(config: PipelineConfig) -> Iterator[Check]:
    """Check the directory of worklist files, where there is one: who can write and read it, and who has a station."""
    if config.worklist_dir is None:
        return
    from pipeline.delivery.ledger import ledger_path
    from pipeline.worklist_files.directory import WorklistDirectory

    name = "worklist files"
    place = Path(config.worklist_dir).expanduser().absolute()
    mode = int(config.worklist_file_mode, 8)
    directory = WorklistDirectory.of(config, place)
    try:
        directory.refuse_unusable(ledger_path(config))
    except PluginConfigError as error:
        found, _, advice = str(error).partition("; ")
        yield failed(name, found, advice)
        return
    yield _readers(name, place, mode)
    yield _stations(config)


def _readers(name: str, place: Path, mode: int) -> Check:
    """Report who can read the files in a directory: its group has to be the worklist server's."""
    written = f"{place} can be written"
    if os.name != "posix":
        return ok(name, written)
    about = place.stat()
    if mode & 0o004 and about.st_mode & 0o005 == 0o005:
        return warning(
            name,
            f"{written}; every user of this machine can read the files",
            'they hold patients\' names: write "worklist_file_mode": "0640" and give the directory the server\'s group',
        )
    group, others = _others_of(about.st_gid)
    if not mode & 0o040 or about.st_mode & 0o050 != 0o050:
        modes = f"directory {about.st_mode & 0o777:04o}, files {mode:04o}"
        found = f"{written}, but its group {group!r} cannot read the files ({modes})"
        return failed(name, found, f'chmod g+rxs {place}, and "worklist_file_mode": "0640"')
    if not others:
        return warning(
            name,
            f"{written}, but no other user is in its group {group!r}: the worklist server may not read it",
            f"give it the server's group, for example: chgrp orthanc {place} && chmod g+rxs {place}",
        )
    return ok(name, f"{written}; its group {group!r} reads it: {', '.join(others[:5])}")


def _others_of(number: int) -> tuple[str, list[str]]:
    """Return a group's name, and its users other than root and this one."""
    import grp
    import pwd

    try:
        group = grp.getgrgid(number)
    except KeyError:
        return str(number), []
    users = [*group.gr_mem, *(user.pw_name for user in pwd.getpwall() if user.pw_gid == number)]
    own = {user.pw_name for user in pwd.getpwall() if user.pw_uid in (0, os.geteuid())}
    return group.gr_name, sorted(set(users) - own)


def _stations(config: PipelineConfig) -> Check:
    """Report the resources without a station: a console that filters by its own would not see their bookings."""
    from pipeline.transform.vocabularies import by_beginning
    from pipeline.worklist_files.dataset import UNKNOWN_STATION

    find = by_beginning(config.resource_ae_title)
    missing = [name for name in config.resources if find(name) is None]
    mapped = next((rule.source for rule in config.rules if rule.target == "scheduled_station_aetitle"), None)
    if not missing:
        titles = ", ".join(f"{name} {find(name)}" for name in config.resources[:5])
        return ok("stations", f"each configured resource has a station: {titles}")
    if mapped is not None:
        return ok("stations", f"taken from {mapped!r}, else from resource_ae_title")
    return failed(
        "stations",
        f"no station for {', '.join(map(repr, missing))}: its bookings go out for {UNKNOWN_STATION!r}, which no console asks for",
        f'write, for example, "resource_ae_title": {{"{missing[0]}": "PRISMA"}}: the title that the scanner asks with',
    )


def under_pylantir(settings: SourceSettings, environ: Mapping[str, str]) -> PipelineConfig | None:
    """Return the configuration as Pylantir reads it, where the file is Pylantir's own and Pylantir is installed."""
    if settings.database is None or find_spec("pylantir") is None:
        return None
    from pipeline.pylantir.configuration import with_host_defaults

    return PipelineConfig.from_dict(
        with_host_defaults(settings.config), source_name=settings.name, environ=environ
    )


def registration() -> Check:
    """Register the plugin as the launcher does, where Pylantir is installed (T023)."""
    name = "Pylantir"
    if find_spec("pylantir") is None:
        return skipped(name, "is not installed", f"to serve a scanner, {install('pylantir')}")
    try:
        installed = version("pylantir")
    except PackageNotFoundError:
        installed = "of unknown version"
    try:
        from pylantir.data_sources import PLUGIN_REGISTRY

        from pipeline.pylantir import CalendoPylantirPlugin, register

        register()
        registered = PLUGIN_REGISTRY.get("calpendo") is CalendoPylantirPlugin
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        return failed(
            name,
            f"{installed}: the plugin cannot be registered ({type(error).__name__})",
            f"install the tested version: pip install 'pylantir=={TESTED_PYLANTIR}'",
        )
    if not registered:
        return failed(
            name, f"{installed}: another plugin holds the type 'calpendo'", "look for a second registration"
        )
    if installed != TESTED_PYLANTIR:
        return warning(
            name,
            f"{installed}: the plugin registers, but the tested version is {TESTED_PYLANTIR}",
            f"pip install 'pylantir=={TESTED_PYLANTIR}', or watch the first day closely",
        )
    return ok(name, f"{installed}: the plugin registers; start it with calpendo-pipeline pylantir start")
