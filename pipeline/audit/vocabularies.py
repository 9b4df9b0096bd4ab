"""Statuses and resources: what each source value became, how often, and whether the table knew it (T013)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from pipeline.audit.tally import ID_LIST, ROWS, Schema, add_up, count_by
from pipeline.transform.shapes import shape_expr
from pipeline.transform.vocabularies import OTHER_MODALITY, STEP_STATUSES

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig

STATUS = ("status_source", "performed_procedure_step_status", "status_known")
RESOURCE = ("modality_source", "modality", "modality_known")

_SCHEMA: Schema = {
    "value": pl.String,
    "mapped": pl.String,
    "known": pl.Boolean,
    "cancelled": pl.Boolean,
    "bookings": pl.Int64,
    "booking_ids": ID_LIST,
}
_FALLBACKS = (OTHER_MODALITY, *STEP_STATUSES)
_KEYS = ("value", "mapped", "known", "cancelled")


def collect(wide: pl.DataFrame, columns: tuple[str, str, str]) -> pl.DataFrame:
    """Count one chunk by source value, mapped value and whether it was known; columns as in ``STATUS``."""
    value, mapped, known = columns
    return count_by(
        wide.select(
            pl.col(value).alias("value"),
            pl.col(mapped).alias("mapped"),
            pl.col(known).alias("known"),
            _cancelled(columns).alias("cancelled"),
            "booking_id",
        ),
        "value",
        "mapped",
        "known",
        "cancelled",
    )


def _cancelled(columns: tuple[str, str, str]) -> pl.Expr:
    """A booking marked as cancelled is DISCONTINUED whatever its status says."""
    return pl.col("cancelled").fill_null(value=False) if columns == STATUS else pl.lit(value=False)


def total(parts: Sequence[pl.DataFrame], *, masked: bool) -> pl.DataFrame:
    """One row a source value, the most frequent first; where ``masked``, values are shapes.

    A status or resource is no patient's data and is shown as it is, so that it can be entered in the table; it is
    masked only where the mapping takes it from elsewhere. What no table knows may then be its own modality, so that
    a title would show up there too.
    """
    counted = add_up(parts, _SCHEMA, keys=_KEYS)
    if masked:
        mapped = pl.col("mapped")
        own = ~pl.col("known") & ~mapped.is_in(_FALLBACKS)
        shaped = counted.with_columns(
            shape_expr(pl.col("value")),
            pl.when(own).then(shape_expr(mapped)).otherwise(mapped).alias("mapped"),
        )
        counted = add_up([shaped], _SCHEMA, keys=_KEYS)
    return counted.head(ROWS)


def taken_from_elsewhere(config: PipelineConfig, target: str) -> bool:
    """Tell whether a rule says where a vocabulary's value stands, so that it may hold anything."""
    return any(rule.target == target for rule in config.rules)
