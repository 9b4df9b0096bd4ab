"""One segment of an archive -> its entries, its rejected rows and all versions of bookings in it, set aside for the merge.

A segment passes block by block through ``process_batch``, the same door as every other booking, and is committed whole
by one rename: a killed conversion leaves nothing, one done twice is kept once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from pipeline.archives import Segment, read_segments, segment_count
from pipeline.backfill.layout import (
    RECORD,
    Layout,
    must_read,
    put_json,
    read_json,
    whole_directory,
    write_json,
)
from pipeline.backfill.merge import disk
from pipeline.backfill.plan import ServerRange, Source
from pipeline.backfill.records import SegmentRecord, add_counts, segment_key, segment_name
from pipeline.backfill.server import server_selection
from pipeline.batch import TIME_FLAGS, Batch, process_batch, unknown_resources, unknown_statuses
from pipeline.transform.reasons import DUPLICATE_BOOKING_ID

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig
    from pipeline.transform.selection import Selection


def convert_source(
    output: Path,
    source: Source,
    segment_bytes: int,
    first: int,
    step: int,
    config: PipelineConfig,
    server: ServerRange | None,
) -> list[SegmentRecord]:
    """Convert segment ``first`` of ``source`` and every ``step``-th one after it, those that are not done yet.

    Bookings of a ``server`` pass the configuration's filters, those of an archive are all converted. Returns what is
    known of all these segments, whoever converted them.
    """
    layout = Layout(output)
    selection = server_selection(config, server) if server else None
    end = layout.ends / f"{source.index:05d}.json"

    def place(number: int) -> Path:
        return layout.segments / segment_name(source.index, number)

    def wanted(number: int) -> bool:
        return number % step == first and not place(number).is_dir()

    count = segment_count(source.file, segment_bytes) or read_json(end, int)
    if count is None or any(map(wanted, range(count))):
        passed = 0
        for segment in read_segments(source.file, segment_bytes, wanted):
            passed = segment.number + 1
            if segment.wanted:
                with whole_directory(place(segment.number)) as directory:
                    record = _convert(directory, source, segment, config, selection)
                    put_json(directory / RECORD, asdict(record))
        if count is None:
            count = passed
            write_json(end, count)
    return [must_read(place(number) / RECORD, SegmentRecord) for number in range(first, count, step)]


def _convert(
    directory: Path, source: Source, segment: Segment, config: PipelineConfig, selection: Selection | None
) -> SegmentRecord:
    """Write the segment's rows as Arrow files, one of each kind per block, and return what is known of it."""
    remarks: dict[str, dict[str, int]] = {}
    blocks = payloads = filtered = size = 0
    key = pl.lit(segment_key(source.index, segment.number), pl.UInt64).alias("segment")
    for block in segment.blocks:
        batch = process_batch(block.payloads, config, selection=selection)
        lines = pl.Series("row", block.lines, dtype=pl.UInt32)
        for kind, frame in _parts(batch).items():
            placed = frame.with_columns(key, row=lines.gather(frame["row"]))
            with disk(directory.parent):
                placed.write_ipc(directory / f"{kind}-{blocks}.arrow", compression="lz4")
            size += int(placed.estimated_size())
        add_counts(remarks, _remarks(batch))
        blocks += 1
        payloads += len(block.payloads)
        filtered += batch.filtered.height
    return SegmentRecord(
        source=source.index,
        number=segment.number,
        shown=source.name,
        payloads=payloads,
        filtered=filtered,
        lines=segment.lines,
        stored_bytes=segment.stored_bytes,
        blocks=blocks,
        size=size,
        remarks=remarks,
    )


def _parts(batch: Batch) -> dict[str, pl.DataFrame]:
    """Return a batch's rows by what becomes of them; ``row`` is a payload's place in the block.

    ``versions`` are all payloads that are versions of a booking, whatever became of them. As in ``process_batch``, a
    payload without an id, or one that is unusable, stands for itself.
    """
    older = batch.rejected["reasons"].list.contains(DUPLICATE_BOOKING_ID)
    versions = pl.concat(
        part.select("row", "booking_id", "modified", "fault", is_filtered=pl.lit(is_filtered))
        for part, is_filtered in ((batch.asked_for, False), (batch.filtered, True))
    )
    return {
        "entries": batch.entries.with_columns(batch.asked_for["row"].filter(batch.is_accepted)),
        "rejected": batch.rejected.filter(~older),
        "versions": versions.filter(pl.col("fault").is_null() & pl.col("booking_id").is_not_null())
        .drop("fault")
        .sort("row"),
    }


def _remarks(batch: Batch) -> Mapping[str, Mapping[str, int]]:
    """Count what a person should look at; not the shapes that no pattern caught, which the audit counts."""
    told = (batch.config, batch.asked_for, batch.is_accepted)
    return {
        "unknown_statuses": unknown_statuses(*told),
        "unknown_resources": unknown_resources(*told),
        "times": {name: int((batch.asked_for[name] & batch.is_accepted).sum()) for name in TIME_FLAGS},
        "filtered": dict(batch.filtered["reason"].value_counts().iter_rows()),
    }
