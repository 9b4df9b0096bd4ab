"""One chunk judged as a batch is: transformed, and every row with the reasons for which it would be rejected."""

from __future__ import annotations

import json
from collections.abc import Sequence

import polars as pl

from pipeline.audit.task import Task
from pipeline.audit.vocabularies import RESOURCE_SOURCE, STATUS_SOURCE
from pipeline.schema import split
from pipeline.transform.entries import MODALITY, STATUS, entry_columns, transform_bookings, vocabulary_source
from pipeline.transform.selection import Selection

_NO_HASH = json.dumps({"booking_hash": "0" * 64})


def judged(bookings: pl.DataFrame, task: Task) -> pl.DataFrame:
    """Transform a bookings frame and add what the audit asks of every row.

    Added to the columns of ``transform_bookings``: ``reasons`` List(String), all that ``process_batch`` would reject
    the row for but for other rows with its id; ``filtered`` String, why the task's selection leaves it out;
    ``rejected`` and ``any_unmatched`` Boolean; ``status_source`` and ``resource_source`` String, what the
    vocabularies were asked. Where no label names ``notes`` the booking hash, an eighth of the work, is not computed:
    ``booking_hash`` is left out and ``notes`` holds no digest of the booking.
    """
    config, selection = task.config, task.selection or Selection()
    transformed = transform_bookings(bookings, config, selection.reject_flags())
    if not task.labels.name("notes"):
        transformed = transformed.drop("booking_hash").with_columns(notes=pl.lit(_NO_HASH))
    wide = transformed.with_columns(
        vocabulary_source(config, STATUS).alias(STATUS_SOURCE),
        vocabulary_source(config, MODALITY).alias(RESOURCE_SOURCE),
        any_unmatched=pl.col("unmatched").list.len() > 0,
        filtered=selection.filter_reason(transformed.collect_schema().names()),
    ).collect()
    reasons = _reasons(wide, entry_columns(config))
    return wide.with_columns(reasons.alias("reasons"), (reasons.list.len() > 0).alias("rejected"))


def _reasons(wide: pl.DataFrame, columns: Sequence[str]) -> pl.Series:
    """The reasons of the transform, or where it has none, those of the schema gate."""
    reasons = wide["reject_reasons"]
    sound = reasons.list.len() == 0
    verdict = split(wide.filter(sound).select(columns))
    if verdict.accepted.all():
        return reasons
    return _put(reasons, sound.arg_true().filter(~verdict.accepted), verdict.reasons)


def _put(lists: pl.Series, rows: pl.Series, replacements: pl.Series) -> pl.Series:
    """Put lists into the given rows; ``scatter`` does not take lists."""
    place = pl.DataFrame({"row": rows.cast(pl.UInt32), "other": replacements})
    whole = (
        lists.to_frame("own").with_row_index("row").join(place, on="row", how="left", maintain_order="left")
    )
    return whole.select(pl.coalesce("other", "own"))["other"]
