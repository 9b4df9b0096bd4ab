"""One chunk of bookings, looked at by every subject at once: small frames out, which all chunks' are added to."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from pipeline.audit import accuracy, census, duplicates, fields, rejections, repeats, times, vocabularies
from pipeline.audit.judged import judged
from pipeline.audit.tally import Frames
from pipeline.audit.task import Payload, Task
from pipeline.transform.bookings import read_bookings


def count_payloads(task: Task, payloads: Sequence[Payload], first_line: int) -> Frames:
    """Read payloads and count them; ``first_line`` is the line of the first."""
    return count_chunk(task, read_bookings(payloads, task.config), first_line)


def count_chunk(task: Task, bookings: pl.DataFrame, first_line: int) -> Frames:
    """Judge a bookings frame and count it for every subject; ``first_line`` is the line of its first booking."""
    every = judged(bookings, task).with_columns(
        line=pl.int_range(first_line, first_line + len(bookings), dtype=pl.Int64, eager=True)
    )
    wide = every.filter(pl.col("filtered").is_null()) if task.selection else every
    readable = wide.filter(pl.col("fault").is_null())
    rejected = wide.filter("rejected")
    found = {
        "chunks": _size(every, wide, readable, rejected),
        **fields.collect(readable, task.config, reveal=task.reveal),
        **times.collect(readable, task.config.timezone),
        "census": census.collect(readable, task.config),
        "statuses": vocabularies.collect(readable, vocabularies.STATUS),
        "resources": vocabularies.collect(readable, vocabularies.RESOURCE),
        "rejections": rejections.collect(rejected),
        "co_occurrence": rejections.collect_pairs(rejected),
        "duplicates": duplicates.collect(wide.filter(~pl.col("rejected"))),
        "repeats": repeats.collect(wide),
    }
    if len(task.labels):
        found["labelled"] = accuracy.collect(wide, task.labels)
    return {name: frame for name, frame in found.items() if len(frame)}


def _size(
    every: pl.DataFrame, wide: pl.DataFrame, readable: pl.DataFrame, rejected: pl.DataFrame
) -> pl.DataFrame:
    days = readable["wall_start"].dt.date()
    return pl.DataFrame(
        {
            "bookings": [len(every)],
            "filtered": [len(every) - len(wide)],
            "unreadable": [len(wide) - len(readable)],
            "rejected": [len(rejected)],
            "first_day": pl.Series([days.min()], dtype=pl.Date),
            "last_day": pl.Series([days.max()], dtype=pl.Date),
        }
    )
