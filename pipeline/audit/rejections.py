"""Which bookings did not make it, and why; which reasons come together; and what was repaired in those that did."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from pipeline.audit.tally import ID_LIST, IDS, Schema, add_up
from pipeline.transform.reasons import explain, field_reason

_REASONS: Schema = {"reason": pl.String, "bookings": pl.Int64, "alone": pl.Int64, "booking_ids": ID_LIST}
_REPAIRS: Schema = {"target": pl.String, "kind": pl.String, "bookings": pl.Int64, "booking_ids": ID_LIST}
_PAIRS: Schema = {"reason": pl.String, "with_reason": pl.String, "bookings": pl.Int64}


def collect(rejected: pl.DataFrame) -> pl.DataFrame:
    """Count one chunk of rejected bookings (booking_id, reasons List(String)), one row a reason."""
    return (
        rejected.select("booking_id", "reasons", (pl.col("reasons").list.len() == 1).alias("alone"))
        .explode("reasons")
        .group_by(pl.col("reasons").alias("reason"), maintain_order=True)
        .agg(
            pl.len().cast(pl.Int64).alias("bookings"),
            pl.col("alone").sum().cast(pl.Int64),
            pl.col("booking_id").drop_nulls().head(IDS).alias("booking_ids"),
        )
    )


def collect_pairs(rejected: pl.DataFrame) -> pl.DataFrame:
    """Count pairs of reasons on one booking: each pair once, in the alphabet's order."""
    several = rejected.filter(pl.col("reasons").list.len() > 1).select("reasons").with_row_index("at")
    single = several.explode("reasons")
    return (
        single.join(single, on="at")
        .filter(pl.col("reasons") < pl.col("reasons_right"))
        .group_by(pl.col("reasons").alias("reason"), pl.col("reasons_right").alias("with_reason"))
        .agg(pl.len().cast(pl.Int64).alias("bookings"))
        .sort("reason", "with_reason")
    )


def collect_repairs(accepted: pl.DataFrame) -> pl.DataFrame:
    """Count what was repaired in one chunk of accepted bookings (booking_id, repaired), one row per field and kind."""
    named = (
        accepted.select("booking_id", "repaired")
        .filter(pl.col("repaired").list.len() > 0)
        .explode("repaired")
    )
    parts = pl.col("repaired").str.split_exact(":", 1).struct.rename_fields(["target", "kind"])
    return (
        named.select("booking_id", parts.alias("parts"))
        .unnest("parts")
        .group_by("target", "kind", maintain_order=True)
        .agg(
            pl.len().cast(pl.Int64).alias("bookings"),
            pl.col("booking_id").head(IDS).alias("booking_ids"),
        )
    )


def total_repairs(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One row per field and kind of repair, the most frequent first, in plain words."""
    counted = add_up(parts, _REPAIRS, keys=("target", "kind"))
    explained = [explain(field_reason(*row)) for row in counted.select("target", "kind").rows()]
    return counted.select(
        "target",
        "kind",
        pl.Series("meaning", [item.meaning for item in explained], dtype=pl.String),
        pl.Series("remedy", [item.remedy for item in explained], dtype=pl.String),
        "bookings",
        "booking_ids",
    )


def total(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One row a reason, the most frequent first, with what it means and what to do in plain words."""
    counted = add_up(parts, _REASONS, keys=("reason",))
    explained = [explain(reason) for reason in counted["reason"]]
    return counted.select(
        "reason",
        pl.Series("meaning", [item.meaning for item in explained], dtype=pl.String),
        pl.Series("remedy", [item.remedy for item in explained], dtype=pl.String),
        "bookings",
        "alone",
        "booking_ids",
    )


def total_pairs(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One row a pair of reasons, the most frequent first."""
    return add_up(parts, _PAIRS, keys=("reason", "with_reason"))
