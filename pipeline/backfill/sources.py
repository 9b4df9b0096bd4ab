"""Which archives a backfill reads: globs and directories resolved, each file recognised by its first bytes.

A source is remembered with its size, its time of change and a digest of its first and last mebibyte, so that a
resumed backfill notices when it would mix two versions of an archive.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.errors import PluginConfigError

Kind = Literal["ndjson", "gzip", "zstd", "parquet"]

SUFFIXES = (".ndjson", ".jsonl", ".ndjson.gz", ".jsonl.gz", ".ndjson.zst", ".jsonl.zst", ".parquet")
SAMPLE_BYTES = 1 << 20


@dataclass(frozen=True)
class Source:
    """One archive file. ``name`` is how it was given, ``path`` absolute; ``index`` is its place in the order.

    The order decides between two versions of a booking with equal ``modified``: the later one stays.
    """

    index: int
    name: str
    path: str
    kind: Kind
    size: int
    mtime_ns: int
    digest: str

    def same_content(self, other: Source) -> bool:
        """Tell whether the file is, by all that is remembered, the one that ``other`` was."""
        return (self.kind, self.size, self.mtime_ns, self.digest) == (
            other.kind,
            other.size,
            other.mtime_ns,
            other.digest,
        )


def find_sources(given: Iterable[str | Path]) -> tuple[Source, ...]:
    """Resolve files, directories and globs to sources, in the order given, globs and directories sorted by name.

    A file named twice is read once. Raises ``PluginConfigError`` with one fault for each name that leads to nothing
    readable, and for each file that holds no bookings archive.
    """
    faults: list[str] = []
    paths: dict[str, str] = {}
    for pattern in given:
        found = _expand(str(pattern))
        if not found:
            faults.append(
                f"{pattern}: no such file, and no file matches it; give a file, a directory or a glob"
            )
        for name in found:
            paths.setdefault(os.path.realpath(name), name)
    sources: list[Source] = []
    for path, name in paths.items():
        try:
            sources.append(describe(len(sources), name, path))
        except OSError as error:
            faults.append(f"{name}: cannot be read ({error.strerror})")
        except ValueError as error:
            faults.append(f"{name}: {error}")
    if faults:
        raise PluginConfigError("; ".join(faults), faults)
    return tuple(sources)


def describe(index: int, name: str, path: str) -> Source:
    """Look at one file: its kind by its first bytes, size, time of change and digest; ``ValueError`` for no archive."""
    file = Path(path)
    with file.open("rb") as handle:
        facts = os.fstat(handle.fileno())
        head = handle.read(SAMPLE_BYTES)
        handle.seek(max(facts.st_size - SAMPLE_BYTES, 0))
        tail = handle.read(SAMPLE_BYTES)
    kind = _recognise(head)
    digest = hashlib.sha256(head + b"\0" + tail).hexdigest()
    return Source(index, name, path, kind, facts.st_size, facts.st_mtime_ns, digest)


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
        return describe(source.index, source.name, source.path)
    except (OSError, ValueError) as error:
        raise PluginConfigError(
            f"{source.name}: was readable when the backfill began and is not now"
        ) from error


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


def _recognise(head: bytes) -> Kind:
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return "zstd"
    if head.startswith(b"PAR1"):
        return "parquet"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"["):
        raise ValueError("is one JSON array, not one booking a line; make NDJSON of it with: jq -c '.[]'")
    if b"\0" in head[:2] or head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError("is neither NDJSON (plain, gzip or zstd) nor Parquet")
    return "ndjson"
