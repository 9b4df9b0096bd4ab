"""One chunk of bookings, looked at by every subject at once: small frames out, which all chunks' are added to."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from pipeline.archives import Block
from pipeline.audit import accuracy, census, duplicates, fields, rejections, repeats, times, vocabularies
from pipeline.audit.tally import Frames
from pipeline.audit.task import Task
from pipeline.batch import Batch, judge_bookings
from pipeline.transform.bookings import read_bookings


def count_block(task: Task, block: Block) -> Frames:
    """Read a block's payloads and count them."""
    return count_chunk(task, read_bookings(block.payloads, task.config), block.lines)


def count_chunk(task: Task, bookings: pl.DataFrame, lines: Sequence[int]) -> Frames:
    """Judge a bookings frame and count it for every subject; ``lines`` are where its bookings stand, from 0.

    Copies of one booking are not told here but over all chunks (``repeats``). The booking hash is only computed where
    a label names ``notes``.
    """
    rows = pl.int_range(len(bookings), dtype=pl.UInt32, eager=True)
    batch = judge_bookings(
        bookings.with_columns(row=rows),
        task.config,
        selection=task.selection,
        hashed=task.labels.name("notes"),
    )
    wide = _looked_at(batch, lines)
    readable = wide.filter(pl.col("fault").is_null())
    found = {
        "chunks": _size(batch, readable),
        **fields.collect(readable, task.config, reveal=task.reveal),
        **times.collect(readable, task.config.timezone),
        "census": census.collect(readable, task.config),
        "statuses": vocabularies.collect(readable, vocabularies.STATUS),
        "resources": vocabularies.collect(readable, vocabularies.RESOURCE),
        "rejections": rejections.collect(batch.rejected),
        "co_occurrence": rejections.collect_pairs(batch.rejected),
        "repairs": rejections.collect_repairs(batch.accepted),
        "duplicates": duplicates.collect(wide.filter(~pl.col("rejected"))),
        "repeats": repeats.collect(wide),
    }
    if len(task.labels):
        found["labelled"] = accuracy.collect(wide, task.labels)
    return {name: frame for name, frame in found.items() if len(frame)}


def _looked_at(batch: Batch, lines: Sequence[int]) -> pl.DataFrame:
    """Return the bookings asked for with what the subjects look at besides.

    Added: ``reasons`` List(String), why the batch rejects the row; ``rejected`` and ``any_unmatched`` Boolean;
    ``line`` Int64, from 1.
    """
    why = batch.rejected.select("row", "reasons")
    return batch.asked_for.join(why, on="row", how="left", maintain_order="left").with_columns(
        pl.col("reasons").fill_null([]),
        rejected=pl.col("reasons").is_not_null(),
        any_unmatched=pl.col("unmatched").list.len() > 0,
        line=pl.Series(lines, dtype=pl.Int64).gather(batch.asked_for["row"]) + 1,
    )


def _size(batch: Batch, readable: pl.DataFrame) -> pl.DataFrame:
    days = readable["wall_start"].dt.date()
    asked_for, filtered = len(batch.asked_for), len(batch.filtered)
    return pl.DataFrame(
        {
            "bookings": [asked_for + filtered],
            "filtered": [filtered],
            "unreadable": [asked_for - len(readable)],
            "rejected": [len(batch.rejected)],
            "first_day": pl.Series([days.min()], dtype=pl.Date),
            "last_day": pl.Series([days.max()], dtype=pl.Date),
        }
    )
