"""What is known of a segment, for whoever schedules its conversion and its merge. Loads no polars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

REMARKED_VALUES = 500
"""So many different unknown statuses (resources, shapes) are counted by name."""


def segment_name(source: int, number: int) -> str:
    """Name a segment so that the names sort in the order of the sources."""
    return f"{source:05d}-{number:07d}"


def segment_key(source: int, number: int) -> int:
    """Number a segment in the same order, in 64 bits."""
    return (source << 32) + number


@dataclass(frozen=True)
class SegmentRecord:
    """One finished segment.

    ``source`` is its archive's place in the order, ``shown`` the archive's name. ``lines`` counts blank lines too, as
    does ``lines_before``, those of the archive before the segment: only the coordinator knows them. ``stored_bytes`` is
    the segment's share of the file on the disk, ``size`` what its rows take in memory, ``blocks`` how many files of each
    kind hold them.
    """

    source: int
    number: int
    shown: str
    payloads: int
    filtered: int
    lines: int
    stored_bytes: int
    blocks: int
    size: int
    remarks: dict[str, dict[str, int]]
    lines_before: int = 0

    @property
    def key(self) -> int:
        """The number by which rows name the segment."""
        return segment_key(self.source, self.number)

    def files(self, segments: Path, kind: str) -> list[Path]:
        """Return the files of its ``entries``, ``rejected`` rows or ``versions``, in order."""
        directory = segments / segment_name(self.source, self.number)
        return [directory / f"{kind}-{block}.arrow" for block in range(self.blocks)]


def add_counts(total: dict[str, dict[str, int]], remarks: Mapping[str, Mapping[str, int]]) -> None:
    """Add remarks to ``total``; of each kind at most ``REMARKED_VALUES`` different values are kept."""
    for kind, counts in remarks.items():
        known = total.setdefault(kind, {})
        for value, count in counts.items():
            if value in known or len(known) < REMARKED_VALUES:
                known[value] = known.get(value, 0) + count
