"""Payloads -> ``Batch``: the one door to the columns. Plugin, audit and backfill all go through it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from pipeline.errors import PluginSchemaError
from pipeline.schema import split
from pipeline.transform import reasons
from pipeline.transform.bookings import SOURCE, read_bookings
from pipeline.transform.duplicates import superseded
from pipeline.transform.entries import (
    MODALITY,
    STATUS,
    entry_columns,
    mapped_rules,
    transform_bookings,
    vocabulary_source,
)
from pipeline.transform.labels import true_names
from pipeline.transform.payloads import Payload, paused_collector, payload_text
from pipeline.transform.rows import to_rows
from pipeline.transform.selection import Selection
from pipeline.transform.shapes import shape_expr

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig

__all__ = ["Batch", "BatchFlags", "Selection", "process_batch"]

REJECTED = {
    "row": pl.UInt32,
    "booking_id": pl.Int64,
    "reason": pl.String,
    "reasons": pl.List(pl.String),
    "payload": pl.String,
}
FILTERED = {"row": pl.UInt32, "booking_id": pl.Int64, "reason": pl.String}
_LONGEST_NAME = 64


@dataclass(frozen=True)
class BatchFlags:
    """What a person should look at, though nothing was rejected for it. Tuples hold booking ids.

    ``unknown_statuses`` and ``unknown_resources`` count the accepted bookings by the value that no table knows (a
    missing one counts under ``""``; one that is taken from another field or is very long, under its shape).
    ``unmatched`` counts, for each target, the shapes of the source values that its pattern did not match, over all
    bookings that were asked for, and ``unmatched_ids`` says which.
    """

    dst_ambiguous: tuple[int, ...]
    dst_nonexistent: tuple[int, ...]
    multi_day: tuple[int, ...]
    unknown_statuses: dict[str, int]
    unknown_resources: dict[str, int]
    unmatched: dict[str, dict[str, int]]
    unmatched_ids: dict[str, tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class Batch:
    """One batch, told apart: every payload is in exactly one of ``accepted``, ``rejected`` and ``filtered``.

    ``accepted``: the transformed frame (see ``transform_bookings``), entry columns and bookkeeping.
    ``rejected``: ``row``, ``booking_id`` (null if unreadable), ``reason`` ("a; b"), ``reasons``, ``payload`` (JSON text).
    ``filtered``: ``row``, ``booking_id``, ``reason`` (resource, status, window or study): read, but not asked for.
    Rows keep the payloads' order. The frames hold patients' names; ``repr`` does not.
    """

    config: PipelineConfig
    accepted: pl.DataFrame
    rejected: pl.DataFrame
    filtered: pl.DataFrame
    flags: BatchFlags

    @cached_property
    def entries(self) -> pl.DataFrame:
        """Exactly the emitted columns, one row an accepted booking."""
        return self.accepted.select(entry_columns(self.config))

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the entries as dictionaries of plain Python values."""
        return to_rows(self.entries)

    def __repr__(self) -> str:
        """Show sizes only."""
        return f"Batch(accepted={len(self.accepted)}, rejected={len(self.rejected)}, filtered={len(self.filtered)})"


def process_batch(
    payloads: Iterable[Payload], config: PipelineConfig, *, selection: Selection | None = None
) -> Batch:
    """Turn payloads into checked entries; without ``selection`` nothing is filtered.

    Of several payloads with one booking id the one with the newest ``modified`` stays (the last one where that does not
    tell), whatever becomes of it; the others are rejected ``duplicate_booking_id``.

    Raises PluginSchemaError when a frame has not the known structure, or a payload would be lost or doubled.
    """
    given = payloads if isinstance(payloads, Sequence) else list(payloads)
    with paused_collector():
        bookings = read_bookings(given, config)
        wide = transform_bookings(bookings, config).collect(engine="in-memory")
        return _told_apart(wide, given, config, selection)


def _told_apart(
    wide: pl.DataFrame, payloads: Sequence[object], config: PipelineConfig, selection: Selection | None
) -> Batch:
    wide = _with_batch_reasons(wide, selection)
    filtered = pl.DataFrame(schema=FILTERED)
    if selection is not None:
        why = wide.select(selection.filter_reason(wide.columns)).to_series()
        # A duplicate is rejected as such, wherever it would belong.
        why = why.set(wide["reject_reasons"].list.contains(reasons.DUPLICATE_BOOKING_ID), None)
        filtered = wide.select("row", "booking_id").with_columns(why).filter(why.is_not_null())
        wide = _rows_where(wide, why.is_null())
    sound = wide["reject_reasons"].list.len() == 0
    candidates, unsound = _rows_where(wide, sound), _rows_where(wide, ~sound)
    verdict = split(candidates.select(entry_columns(config)))
    accepted = _rows_where(candidates, verdict.accepted)
    failed = _rows_where(candidates, ~verdict.accepted).with_columns(verdict.reasons.alias("reject_reasons"))
    rejected = _rejected(pl.concat([unsound, failed]).sort("row"), payloads)
    _check_conservation(len(payloads), accepted, rejected, filtered)
    return Batch(config, accepted, rejected, filtered, _flags(accepted, wide, config))


def _with_batch_reasons(wide: pl.DataFrame, selection: Selection | None) -> pl.DataFrame:
    """Put before ``reject_reasons`` what only the batch and the selection tell."""
    duplicate = superseded(wide)
    flags = selection.reject_flags() if selection else {}
    if not flags and not duplicate.any():
        return wide
    more = true_names({reasons.DUPLICATE_BOOKING_ID: pl.lit(duplicate), **flags})
    return wide.with_columns(more.list.concat("reject_reasons").alias("reject_reasons"))


def _rejected(turned_away: pl.DataFrame, payloads: Sequence[object]) -> pl.DataFrame:
    texts = pl.Series([payload_text(payloads[row]) for row in turned_away["row"]], dtype=pl.String)
    return turned_away.select(
        "row",
        "booking_id",
        pl.col("reject_reasons").list.join("; ").alias("reason"),
        pl.col("reject_reasons").alias("reasons"),
        texts.alias("payload"),
    )


def _rows_where(frame: pl.DataFrame, wanted: pl.Series) -> pl.DataFrame:
    """Filter, without copying a wide frame where all or no rows are wanted: by far the most frequent cases."""
    if wanted.all():
        return frame
    return frame.filter(wanted) if wanted.any() else frame.clear()


def _check_conservation(given: int, *parts: pl.DataFrame) -> None:
    """Hold the law: every payload is in exactly one part."""
    rows = pl.concat([part["row"] for part in parts])
    if len(rows) != given or rows.n_unique() != given:
        sizes = " + ".join(str(len(part)) for part in parts)
        raise PluginSchemaError(f"{given} payloads, but {sizes} rows accepted, rejected and filtered")


def _flags(accepted: pl.DataFrame, wanted: pl.DataFrame, config: PipelineConfig) -> BatchFlags:
    return BatchFlags(
        dst_ambiguous=_ids(accepted, "dst_ambiguous"),
        dst_nonexistent=_ids(accepted, "dst_nonexistent"),
        multi_day=_ids(accepted, "multi_day"),
        unknown_statuses=_unknown(accepted, "status_known", _told_as(config, STATUS, "status")),
        unknown_resources=_unknown(accepted, "modality_known", _told_as(config, MODALITY, "resource")),
        **_unmatched(wanted, config),
    )


def _ids(frame: pl.DataFrame, flag: str) -> tuple[int, ...]:
    return tuple(frame.filter(flag)["booking_id"].to_list())


def _unknown(accepted: pl.DataFrame, known: str, told: pl.Expr) -> dict[str, int]:
    """Count values that no table knows, the most frequent first."""
    return _counts(accepted.filter(~pl.col(known)).select(told.fill_null("").alias("value")))


def _told_as(config: PipelineConfig, target: str, field: str) -> pl.Expr:
    """Return what an unknown value is told as: itself where it is a name out of ``field``, else its shape.

    A mapping may cut a modality out of the title, and a text of that length is no resource's name either.
    """
    value = vocabulary_source(config, target)
    sources = [rule.source.removeprefix("properties.") for rule in config.rules if rule.target == target]
    if any(source.partition(".")[0] != field for source in sources):
        return shape_expr(value)
    return pl.when(value.str.len_chars() > _LONGEST_NAME).then(shape_expr(value)).otherwise(value)


def _unmatched(wanted: pl.DataFrame, config: PipelineConfig) -> dict[str, Any]:
    failing = wanted.filter(pl.col("unmatched").list.len() > 0)
    shapes: dict[str, dict[str, int]] = {}
    ids: dict[str, tuple[int, ...]] = {}
    for rule in mapped_rules(config) if len(failing) else ():
        rows = failing.filter(pl.col("unmatched").list.contains(rule.target))
        if len(rows):
            shapes[rule.target] = _counts(
                rows.select(shape_expr(pl.col(f"{SOURCE}{rule.source}")).alias("value"))
            )
            ids[rule.target] = tuple(rows["booking_id"].drop_nulls().to_list())
    return {"unmatched": shapes, "unmatched_ids": ids}


def _counts(values: pl.DataFrame) -> dict[str, int]:
    counted = values.group_by("value").len().sort(["len", "value"], descending=[True, False])
    return dict(counted.rows())
