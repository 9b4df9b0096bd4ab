"""What is known of a finished segment: its counts, and where its rows lie in the work directory.

Nothing here loads polars: the coordinator reads records, and stays small.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.backfill.files import segment_name


@dataclass(frozen=True)
class Piece:
    """Where one frame lies in a spill file, and how many rows it has."""

    offset: int
    length: int
    rows: int


@dataclass(frozen=True)
class SegmentPieces:
    """Where a segment's rows for one part of the output lie.

    ``source`` is the archive's name as shown, ``lines_before`` counts its lines before the segment; ``has_losers``
    says that rows of the segment were replaced by another segment's.
    """

    segment: str
    pieces: tuple[Piece, ...]
    source: str
    lines_before: int
    has_losers: bool


@dataclass(frozen=True)
class SegmentRecord:
    """Counts of one segment: ``payloads = accepted + rejected + filtered + replaced``.

    ``replaced`` are only those replaced within the segment's own blocks. ``lines`` counts blank lines too. ``months``
    says where the accepted rows of each month lie, ``index`` where each bucket of ids does; ``rejected_pieces`` and
    ``replaced_pieces`` likewise.
    """

    source: int
    number: int
    payloads: int = 0
    lines: int = 0
    stored_bytes: int = 0
    accepted: int = 0
    rejected: int = 0
    filtered: int = 0
    replaced: int = 0
    months: Mapping[str, tuple[Piece, ...]] = field(default_factory=dict)
    rejected_pieces: tuple[Piece, ...] = ()
    replaced_pieces: tuple[Piece, ...] = ()
    index: Mapping[int, tuple[Piece, ...]] = field(default_factory=dict)
    remarks: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The segment's name, which sorts in the order of the sources."""
        return segment_name(self.source, self.number)

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> SegmentRecord:
        """Read what ``to_json`` gave and JSON carried."""
        return cls(
            **{
                **value,
                "months": {month: _pieces(pieces) for month, pieces in value["months"].items()},
                "index": {int(bucket): _pieces(pieces) for bucket, pieces in value["index"].items()},
                "rejected_pieces": _pieces(value["rejected_pieces"]),
                "replaced_pieces": _pieces(value["replaced_pieces"]),
            }
        )


def _pieces(value: list[dict[str, int]]) -> tuple[Piece, ...]:
    return tuple(Piece(**piece) for piece in value)


def add_counts(
    total: dict[str, dict[str, int]], remarks: Mapping[str, Mapping[str, int]], limit: int
) -> None:
    """Add one segment's remarks to ``total``; of each kind at most ``limit`` different values are kept."""
    for kind, counts in remarks.items():
        known = total.setdefault(kind, {})
        for value, count in counts.items():
            if value in known or len(known) < limit:
                known[value] = known.get(value, 0) + count
