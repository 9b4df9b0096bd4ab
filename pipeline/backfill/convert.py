"""One segment of an archive -> its accepted, rejected and replaced rows, set aside for the merge.

A segment goes block by block through ``process_batch``, the same door as every other booking, and is committed whole
by one rename: a killed conversion leaves nothing, one done twice is kept once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from pipeline.archives import Block, Segment, read_segments
from pipeline.backfill.duplicates import STATES, by_bucket
from pipeline.backfill.files import ROWS, Layout, put_json, segment_name, whole_directory
from pipeline.backfill.merge import SpillWriter
from pipeline.backfill.plan import ServerRange, Source
from pipeline.backfill.records import Piece, SegmentRecord, add_counts
from pipeline.batch import TIME_FLAGS, Batch, process_batch, unknown_resources, unknown_statuses
from pipeline.transform.reasons import DUPLICATE_BOOKING_ID

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig
    from pipeline.transform.selection import Selection

HELD_ROWS = 100_000
REMARKED_VALUES = 200
"""So many different unknown statuses (resources, shapes) are counted by name."""


def convert_source(
    output: Path,
    source: Source,
    segment_bytes: int,
    buckets: int,
    first: int,
    step: int,
    config: PipelineConfig,
    server: ServerRange | None,
) -> int:
    """Convert segment ``first`` of ``source`` and every ``step``-th one after it, those that are not done yet.

    With ``step`` 0 only segment ``first`` is converted. Bookings of a ``server`` pass the configuration's filters,
    those of an archive are all converted. Returns how many segments were passed, which for a compressed source is
    how many it has.
    """
    layout = Layout(output)
    selection = _selection(config, server) if server else None

    def wanted(number: int) -> bool:
        mine = number == first if step == 0 else number % step == first
        return mine and not (layout.segments / segment_name(source.index, number)).is_dir()

    passed = 0
    for segment in read_segments(source.file, segment_bytes, wanted):
        passed = segment.number + 1
        if segment.wanted:
            name = segment_name(source.index, segment.number)
            with whole_directory(layout.segments / name) as directory:
                with SpillWriter(directory / ROWS) as rows:
                    record = _Conversion(rows, buckets, config, selection).run(source, segment)
                put_json(directory / "record.json", record.to_json())
    return passed


class _Conversion:
    """One segment on its way: what it has counted, and the file it writes to."""

    def __init__(
        self, rows: SpillWriter, buckets: int, config: PipelineConfig, selection: Selection | None
    ) -> None:
        self._rows = rows
        self._buckets = buckets
        self._config = config
        self._selection = selection
        self._counts = dict.fromkeys(("payloads", *STATES, "replaced"), 0)
        self._months: dict[str, list[Piece]] = defaultdict(list)
        self._index: dict[int, list[Piece]] = defaultdict(list)
        self._rejected: list[Piece] = []
        self._replaced: list[Piece] = []
        self._remarks: dict[str, dict[str, int]] = {}
        self._held: list[pl.DataFrame] = []
        self._held_index: list[pl.DataFrame] = []

    def run(self, source: Source, segment: Segment) -> SegmentRecord:
        """Convert the segment's blocks and return its record."""
        for block in segment.blocks:
            self._take(block)
            if sum(frame.height for frame in self._held_index) >= HELD_ROWS:
                self._set_aside()
        self._set_aside()
        return SegmentRecord(
            source=source.index,
            number=segment.number,
            lines=segment.lines,
            stored_bytes=segment.stored_bytes,
            months={month: tuple(pieces) for month, pieces in sorted(self._months.items())},
            rejected_pieces=tuple(self._rejected),
            replaced_pieces=tuple(self._replaced),
            index={bucket: tuple(pieces) for bucket, pieces in sorted(self._index.items())},
            remarks=self._remarks,
            **self._counts,
        )

    def _take(self, block: Block) -> None:
        batch = process_batch(block.payloads, self._config, selection=self._selection)
        lines = pl.Series("row", block.lines, dtype=pl.UInt32)
        older = batch.rejected["reasons"].list.contains(DUPLICATE_BOOKING_ID)
        replaced, rejected = batch.rejected.filter(older), batch.rejected.filter(~older)
        versions = _versions(batch)
        entries = batch.entries.with_columns(batch.asked_for["row"].filter(batch.is_accepted))
        self._held.append(_at_lines(entries, lines))
        if not rejected.is_empty():
            self._rejected.append(self._rows.add(_at_lines(rejected, lines)))
        if not replaced.is_empty():
            losers = versions.join(replaced.select("row"), on="row", how="semi", maintain_order="left")
            self._replaced.append(self._rows.add(_at_lines(losers, lines)))
            versions = versions.join(replaced.select("row"), on="row", how="anti", maintain_order="left")
        self._held_index.append(_at_lines(versions, lines))
        counted = {
            "payloads": len(block.payloads),
            "accepted": batch.entries.height,
            "rejected": rejected.height,
            "filtered": batch.filtered.height,
            "replaced": replaced.height,
        }
        for name, count in counted.items():
            self._counts[name] += count
        add_counts(self._remarks, _remarks(batch), REMARKED_VALUES)

    def _set_aside(self) -> None:
        if self._held:
            first_day = pl.col("scheduled_start_date").dt.month_start().alias("month")
            held = pl.concat(self._held).with_columns(first_day)
            for (month,), part in held.partition_by("month", as_dict=True, include_key=False).items():
                self._months[month.isoformat()[: len("2026-01")]].append(self._rows.add(part))
        if self._held_index:
            for bucket, part in by_bucket(pl.concat(self._held_index), self._buckets).items():
                self._index[bucket].append(self._rows.add(part))
        self._held, self._held_index = [], []


def _selection(config: PipelineConfig, server: ServerRange) -> Selection:
    """Return what was asked of the server, to be asked again on this side."""
    from pipeline.backfill.server import range_window
    from pipeline.transform.selection import Selection

    window = range_window(config, server)
    return Selection(
        resources=config.resources,
        status=config.status_filter,
        start=window.start.astimezone(UTC),
        end=window.end.astimezone(UTC),
        include_running=False,
        allowed_studies=config.allowed_studies,
    )


def _at_lines(frame: pl.DataFrame, lines: pl.Series) -> pl.DataFrame:
    """Turn ``row`` from a place in the block to the line in the segment."""
    return frame.with_columns(row=lines.gather(frame["row"]))


def _versions(batch: Batch) -> pl.DataFrame:
    """Return booking_id, modified, row and state of the payloads that are versions of a booking.

    As in ``process_batch``, a payload without an id, or one that is unusable, stands for itself.
    """
    accepted, rejected, filtered = (pl.lit(number, dtype=pl.UInt8) for number in range(len(STATES)))
    state = pl.when(batch.is_accepted).then(accepted).otherwise(rejected)
    parts = [(batch.asked_for, state)]
    if not batch.filtered.is_empty():
        parts.append((batch.filtered, filtered))
    return pl.concat(
        part.select("booking_id", "modified", "row", "fault", state=state)
        .filter(pl.col("fault").is_null() & pl.col("booking_id").is_not_null())
        .drop("fault")
        for part, state in parts
    )


def _remarks(batch: Batch) -> Mapping[str, Mapping[str, int]]:
    """Count what a person should look at; not the shapes that no pattern caught, which are the audit's to tell."""
    told = (batch.config, batch.asked_for, batch.is_accepted)
    return {
        "unknown_statuses": unknown_statuses(*told),
        "unknown_resources": unknown_resources(*told),
        "times": {name: int((batch.asked_for[name] & batch.is_accepted).sum()) for name in TIME_FLAGS},
        "filtered": dict(batch.filtered["reason"].value_counts().iter_rows()),
    }
