"""Which archives a backfill reads: globs and directories resolved, each file recognised by ``archives``.

A source is remembered with its size, its time of change and a digest of its first and last mebibyte, so that a
resumed backfill notices when it would mix two versions of an archive.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.archives import Archive, bookings_only, reading, recognise
from pipeline.errors import PluginConfigError

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

    def to_json(self) -> dict[str, Any]:
        """Return what is remembered of the file as plain JSON values."""
        return {key: value for key, value in asdict(self).items() if key in _REMEMBERED}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Source:
        """Read what ``to_json`` returned, of whichever version; more than is remembered today is passed over."""
        return cls(**{key: value[key] for key in _REMEMBERED})


_REMEMBERED = ("index", "name", "path", "size", "mtime_ns", "digest")


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
    faults = [
        f"{before[path].name}: was a source then and is none now" for path in before.keys() - after.keys()
    ]
    faults += [
        f"{after[path].name}: is a source now and was none then" for path in after.keys() - before.keys()
    ]
    faults += [
        f"{source.name}: its contents, size or time of change are not what they were"
        for path, source in after.items()
        if path in before and not source.same_content(before[path])
    ]
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
