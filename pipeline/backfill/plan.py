"""What a backfill was asked to do, kept beside its work so that only the same backfill goes on with it.

Its sources are globs and directories resolved to files, each recognised by ``archives``. A source is remembered with its
size, its time of change and a digest of its first and last mebibyte, so that a resumed backfill notices when it would
mix two versions of an archive.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.archives import Archive, bookings_only, reading, recognise
from pipeline.errors import PluginConfigError, PluginStateError
from pipeline.version import __version__

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig
    from pipeline.config.credentials import Credentials


SUFFIXES = (
    *(f"{ending}{packed}" for ending in (".ndjson", ".jsonl", ".json") for packed in ("", ".gz", ".zst")),
    ".parquet",
)
SAMPLE_BYTES = 1 << 20


@dataclass(frozen=True)
class Source:
    """One archive file. ``name`` is how it was given, ``path`` absolute; ``index`` is its place in the order.

    The order decides between two versions of a booking with equal ``modified``: the later one stays. ``archive`` is
    what the file was recognised as: None in a source of an earlier run, of which only the content is compared.
    """

    index: int
    name: str
    path: str
    size: int
    mtime_ns: int
    digest: str
    archive: Archive | None = None

    @property
    def file(self) -> Archive:
        """What the file was recognised as."""
        assert self.archive is not None  # noqa: S101  only sources of an earlier run have none, and are not read
        return self.archive

    def same_content(self, other: Source) -> bool:
        """Tell whether the file is, by all that is remembered, the one that ``other`` was."""
        return (self.size, self.mtime_ns, self.digest) == (other.size, other.mtime_ns, other.digest)


def find_sources(given: str | Path | Iterable[str | Path]) -> tuple[Source, ...]:
    """Resolve one or several files, directories and globs to sources, in the order given, globs and directories sorted by name.

    A file named twice is read once. Raises ``PluginConfigError`` with one fault for each name that leads to nothing
    readable, and for each file that holds no bookings archive.
    """
    faults: list[str] = []
    paths: dict[str, str] = {}
    given = [given] if isinstance(given, (str, Path)) else given
    if hasattr(given, "columns") or not isinstance(given, Iterable):
        raise PluginConfigError(
            f"sources: got a {type(given).__name__}; write the paths of files, or hand bookings to process_batch"
        )
    for pattern in given:
        try:
            found = _expand(str(pattern))
        except (OSError, ValueError) as error:
            faults.append(
                f"{pattern}: cannot be searched ({getattr(error, 'strerror', None) or 'no such name'})"
            )
            continue
        if not found:
            faults.append(
                f"{pattern}: no such file, and no file matches it; give a file, a directory or a glob"
            )
        for name in found:
            paths.setdefault(os.path.realpath(name), name)
    sources: list[Source] = []
    for path, name in paths.items():
        try:
            sources.append(describe(len(sources), bookings_only(recognise(path, name))))
        except PluginConfigError as error:
            faults.append(str(error))
    if faults:
        raise PluginConfigError("; ".join(faults), faults)
    return tuple(sources)


def describe(index: int, archive: Archive) -> Source:
    """Note an archive's size, time of change and digest; ``PluginConfigError`` where it cannot be read."""
    with reading(archive.name), Path(archive.path).open("rb") as handle:
        facts = os.fstat(handle.fileno())
        head = handle.read(SAMPLE_BYTES)
        handle.seek(max(facts.st_size - SAMPLE_BYTES, 0))
        tail = handle.read(SAMPLE_BYTES)
    digest = hashlib.sha256(head + b"\0" + tail).hexdigest()
    return Source(index, archive.name, archive.path, facts.st_size, facts.st_mtime_ns, digest, archive)


def changed_sources(then: Sequence[Source], now: Sequence[Source]) -> list[str]:
    """Name what differs between the sources of an earlier run and today's; empty where nothing does."""
    before, after = {s.path: s for s in then}, {s.path: s for s in now}
    faults = []
    for path in before | after:
        if path not in after:
            faults.append(f"{before[path].name}: was a source then and is none now")
        elif path not in before:
            faults.append(f"{after[path].name}: is a source now and was none then")
        elif not after[path].same_content(before[path]):
            faults.append(f"{after[path].name}: its contents, size or time of change are not what they were")
    if not faults and [s.path for s in then] != [s.path for s in now]:
        faults.append(
            "the sources stand in another order, which decides between equally new versions of a booking"
        )
    return sorted(faults)


def look_again(source: Source) -> Source:
    """Look at a source's file once more, as it is now."""
    try:
        return describe(source.index, source.file)
    except PluginConfigError:
        raise PluginConfigError(
            f"{source.name}: was readable when the backfill began and is not now"
        ) from None


def _expand(pattern: str) -> list[str]:
    if Path(pattern).is_dir():
        return sorted(
            str(path)
            for path in Path(pattern).rglob("*")
            if path.is_file() and path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")
        )
    if Path(pattern).exists():
        return [pattern]
    return sorted(name for name in glob.glob(pattern, recursive=True) if Path(name).is_file())  # noqa: PTH207


FORMAT = 3
"""Of the work directory: work that a killed backfill left in another form cannot be continued."""
SEGMENT_BYTES = 24 << 20

# How bookings are fetched, and where the ledger lies, has no part in what an entry looks like.
NO_PART_IN_ENTRIES = frozenset(
    {"warnings", "log_original_values", "state_path", "acknowledge", "max_withdrawn", "retention_days"}
    | {"base_url", "api_path", "allow_insecure_http", "resources", "status_filter", "allowed_studies"}
    | {"window_mode", "daily_window", "lookback_multiplier", "lookahead_hours", "include_running"}
    | {"max_booking_hours", "query_date_format", "fetch_mode", "full_refresh", "fetch_operators"}
    | {"max_workers", "list_timeout", "detail_timeout", "body_deadline", "batch_deadline", "lock_timeout"}
    | {"max_body_bytes", "max_retries", "retry_after_cap", "transliterate"}
)
DECIDES_WHAT_IS_FETCHED = ("base_url", "api_path", "resources", "status_filter", "allowed_studies")


@dataclass(frozen=True)
class ServerRange:
    """Bookings of a running server that start on the days ``first`` to ``last``, both included, in the site's zone.

    ISO dates; ``days`` is how many of them one request asks for at most.
    """

    first: str
    last: str
    days: int = 7

    def check(self, config: PipelineConfig, credentials: Credentials | None) -> None:
        """Raise ``PluginConfigError`` where the range holds no day, or the server cannot be asked."""
        if self.last < self.first:
            raise PluginConfigError(f"--from {self.first} lies after --to {self.last}; swap them")
        if self.days < 1:
            raise PluginConfigError("--window-days: write 1 or more")
        told = "a range of days is fetched from a server"
        if credentials is None:
            raise PluginConfigError(f"{told} and needs credentials")
        if not config.base_url or not config.resources:
            raise PluginConfigError(f"{told}: base_url and resources must be configured")


@dataclass(frozen=True)
class Plan:
    """The whole of what decides a backfill's output.

    ``settings`` is the configuration's part in it, ``versions`` those of this package and of the zone data.
    """

    settings: str
    versions: str
    sources: tuple[Source, ...]
    server: ServerRange | None = None
    segment_bytes: int = SEGMENT_BYTES
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values; what a source was recognised as is no part of it."""
        value = asdict(self)
        for source in value["sources"]:
            del source["archive"]
        return value


def make_plan(
    config: PipelineConfig, sources: Sequence[Source], server: ServerRange | None, segment_bytes: int
) -> Plan:
    """Join configuration, versions and sources to a plan."""
    return Plan(
        settings=settings_digest(config, fetched=server is not None),
        versions=f"calpendo-pipeline {__version__}, pytz {version('pytz')}",
        sources=tuple(sources),
        server=server,
        segment_bytes=segment_bytes,
    )


def settings_digest(config: PipelineConfig, *, fetched: bool) -> str:
    """Digest the options that decide what the output holds; a new option counts until it is known to have no part."""
    ignored = NO_PART_IN_ENTRIES - (set(DECIDES_WHAT_IS_FETCHED) if fetched else set())
    part = {name: getattr(config, name) for name in type(config).model_fields if name not in ignored}
    text = json.dumps(part, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def joined(earlier: Plan, plan: Plan, *, finished: bool) -> Plan:
    """Return ``plan`` with the segment size of an ``earlier`` one that asks for the same output.

    The form of the work directory counts while there is work left: a ``finished`` backfill has none. Raises
    ``PluginStateError`` with the difference and what to do.
    """
    reasons = _differences(earlier, plan, finished=finished)
    if reasons:
        raise PluginStateError(
            f"the output directory holds {'a finished' if finished else 'an unfinished'} backfill that cannot be joined with this one: {'; '.join(reasons)}. "
            "Name another directory, or use --restart to throw that one away and begin anew"
        )
    return replace(plan, segment_bytes=earlier.segment_bytes)


def refuse_reserved_targets(config: PipelineConfig) -> None:
    """Raise ``PluginConfigError`` where a mapped field bears the name of the partition's column."""
    if any(rule.target == "month" for rule in config.rules):
        raise PluginConfigError(
            "field_mapping: a target named 'month' would hide the partition's own column in a backfill; rename it"
        )


def _differences(earlier: Plan, plan: Plan, *, finished: bool) -> list[str]:
    reasons = []
    if earlier.versions != plan.versions:
        reasons.append(f"it was made by {earlier.versions}, this is {plan.versions}")
    elif not finished and earlier.format != plan.format:
        reasons.append("it was left in another form than this version's")
    if earlier.settings != plan.settings:
        reasons.append("it was made with another configuration")
    if earlier.server != plan.server:
        reasons.append("it was made for another range of days of a server, or for files")
    if plan.server is None and earlier.server is None:
        reasons += changed_sources(earlier.sources, plan.sources)
    return reasons


def _plain(value: object) -> Any:
    if hasattr(value, "items"):
        return sorted(value.items())
    if hasattr(value, "__dataclass_fields__"):
        return asdict(value)  # type: ignore[call-overload]
    return str(value)
