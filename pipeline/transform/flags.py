"""What a person should look at in a batch, read off the few columns it stands in: the frame may be wide and long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import polars as pl

from pipeline.fields import SOURCE
from pipeline.transform.entries import MODALITY, STATUS, patterned_rules
from pipeline.transform.shapes import shape_expr

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig

TIME_FLAGS: Final = ("dst_ambiguous", "dst_nonexistent", "multi_day")
_LONGEST_NAME = 64


@dataclass(frozen=True)
class BatchFlags:
    """What a person should look at, though nothing was rejected for it. Tuples hold booking ids.

    ``unknown_statuses`` and ``unknown_resources`` count the accepted bookings by the value that no table knows (a
    missing one counts under ``""``; one that is taken from another field or is very long, under its shape).
    ``unmatched`` counts, for each target, the shapes of the source values that its pattern did not match, over all
    bookings that were asked for, and ``unmatched_ids`` says which. ``pattern_timeouts`` names, for each target, those of
    them where the pattern was stopped: the field was left empty, or the booking rejected for want of its patient_id.
    ``repaired`` says which accepted bookings' fields go
    out otherwise than mapped: by field, then by kind (``repairs.KINDS``). ``translated`` counts, by field, the accepted
    bookings whose value was only written in DICOM's form, without loss.
    """

    dst_ambiguous: tuple[int, ...]
    dst_nonexistent: tuple[int, ...]
    multi_day: tuple[int, ...]
    unknown_statuses: dict[str, int]
    unknown_resources: dict[str, int]
    unmatched: dict[str, dict[str, int]]
    unmatched_ids: dict[str, tuple[int, ...]]
    pattern_timeouts: dict[str, tuple[int, ...]]
    repaired: dict[str, dict[str, tuple[int, ...]]]
    translated: dict[str, int]


def batch_flags(config: PipelineConfig, asked_for: pl.DataFrame, is_accepted: pl.Series) -> BatchFlags:
    """Read all flags off a batch's ``asked_for`` and ``is_accepted``."""
    shapes, unmatched_ids = _unmatched(config, asked_for)
    ids = asked_for["booking_id"]
    raised = {name: tuple(ids.filter(asked_for[name] & is_accepted).to_list()) for name in TIME_FLAGS}
    return BatchFlags(
        **raised,
        unknown_statuses=unknown_statuses(config, asked_for, is_accepted),
        unknown_resources=unknown_resources(config, asked_for, is_accepted),
        unmatched=shapes,
        unmatched_ids=unmatched_ids,
        pattern_timeouts=_timed_out(asked_for),
        repaired=_repaired(asked_for, is_accepted),
        translated=_translated(asked_for, is_accepted),
    )


def _repaired(asked_for: pl.DataFrame, is_accepted: pl.Series) -> dict[str, dict[str, tuple[int, ...]]]:
    rows = asked_for.select("booking_id", "repaired").filter(
        is_accepted & (asked_for["repaired"].list.len() > 0)
    )
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    if rows.is_empty():
        return found
    named = rows.explode("repaired").group_by("repaired", maintain_order=True).agg("booking_id")
    for label, ids in sorted(named.rows()):
        field, _, kind = label.partition(":")
        found.setdefault(field, {})[kind] = tuple(ids)
    return found


def _translated(asked_for: pl.DataFrame, is_accepted: pl.Series) -> dict[str, int]:
    rows = asked_for["translated"].filter(is_accepted & (asked_for["translated"].list.len() > 0))
    return dict(rows.explode().value_counts(sort=True, name="count").rows()) if len(rows) else {}


def unknown_statuses(
    config: PipelineConfig, asked_for: pl.DataFrame, is_accepted: pl.Series
) -> dict[str, int]:
    """Count the accepted bookings' statuses that no table knows, the most frequent first."""
    return _unknown(config, STATUS, "status", asked_for, is_accepted & ~asked_for["status_known"])


def unknown_resources(
    config: PipelineConfig, asked_for: pl.DataFrame, is_accepted: pl.Series
) -> dict[str, int]:
    """Count the accepted bookings' resources that no table knows, the most frequent first."""
    return _unknown(config, MODALITY, "resource", asked_for, is_accepted & ~asked_for["modality_known"])


def _unknown(
    config: PipelineConfig, target: str, field: str, asked_for: pl.DataFrame, unknown: pl.Series
) -> dict[str, int]:
    if not unknown.any():
        return {}
    source = "status_source" if target == STATUS else "modality_source"
    counted = asked_for.select(value=source).filter(unknown).group_by("value").len()
    return _counts(counted.with_columns(_told(config, target, field)))


def _told(config: PipelineConfig, target: str, field: str) -> pl.Expr:
    """Return what an unknown ``value`` is told as: itself where it is a name out of ``field``, else its shape.

    A mapping may cut a modality out of the title, and a text of that length is no resource's name either.
    """
    value = pl.col("value").fill_null("")
    sources = [rule.source.removeprefix("properties.") for rule in config.rules if rule.target == target]
    if any(source.partition(".")[0] != field for source in sources):
        return shape_expr(value)
    return pl.when(value.str.len_chars() > _LONGEST_NAME).then(shape_expr(value)).otherwise(value)


def _unmatched(
    config: PipelineConfig, asked_for: pl.DataFrame
) -> tuple[dict[str, dict[str, int]], dict[str, tuple[int, ...]]]:
    is_failing = asked_for["unmatched"].list.len() > 0
    shapes: dict[str, dict[str, int]] = {}
    ids: dict[str, tuple[int, ...]] = {}
    if not is_failing.any():
        return shapes, ids
    rules = patterned_rules(config)
    sources = {f"{SOURCE}{rule.source}" for rule in rules}
    failing = asked_for.select("booking_id", "unmatched", *sources).filter(is_failing)
    for rule in rules:
        rows = failing.filter(pl.col("unmatched").list.contains(rule.target))
        if len(rows):
            shape = shape_expr(pl.col(f"{SOURCE}{rule.source}")).alias("value")
            shapes[rule.target] = _counts(rows.select(shape, len=pl.lit(1)))
            ids[rule.target] = tuple(rows["booking_id"].drop_nulls().to_list())
    return shapes, ids


def _timed_out(asked_for: pl.DataFrame) -> dict[str, tuple[int, ...]]:
    late = asked_for.select("booking_id", "timed_out").filter(pl.col("timed_out").list.len() > 0)
    ids: dict[str, tuple[int, ...]] = {}
    for booking_id, targets in late.drop_nulls("booking_id").iter_rows():
        for target in targets:
            ids[target] = (*ids.get(target, ()), booking_id)
    return ids


def _counts(values: pl.DataFrame) -> dict[str, int]:
    """Add up ``len`` by ``value``, the most frequent first."""
    counted = values.group_by("value").agg(pl.col("len").sum())
    return dict(counted.sort(["len", "value"], descending=[True, False]).rows())
