"""One subject, one time, two bookings: booked twice, or moved to another scanner and not cancelled."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from pipeline.audit.findings import FRAMES, IDS, joined, schema
from pipeline.transform.shapes import shape_expr


def collect(accepted: pl.DataFrame) -> pl.DataFrame:
    """Keep each subject's start times; cancelled bookings take nobody's time and are left out."""
    return accepted.filter(
        pl.col("patient_id").is_not_null()
        & pl.col("start_utc").is_not_null()
        & (pl.col("performed_procedure_step_status") != "DISCONTINUED")
    ).select("booking_id", pl.col("patient_id").alias("subject"), "start_utc", "resource")


def total(parts: Sequence[pl.DataFrame], *, reveal: bool) -> pl.DataFrame:
    """Return a row per subject and start with more than one booking, the most bookings first."""
    found = (
        joined(parts, schema("booking_id subject start_utc resource"))
        .filter(pl.struct("subject", "start_utc").is_duplicated())
        .group_by("subject", "start_utc", maintain_order=True)
        .agg(
            pl.col("booking_id").n_unique().cast(pl.Int64).alias("bookings"),
            pl.col("booking_id").unique(maintain_order=True).head(IDS).alias("booking_ids"),
            pl.col("resource").drop_nulls().unique(maintain_order=True).head(IDS).alias("resources"),
        )
        .filter(pl.col("bookings") > 1)
        .sort("bookings", "start_utc", descending=[True, False], maintain_order=True)
        .select(list(FRAMES["duplicates"]))
    )
    return found if reveal else found.with_columns(shape_expr(pl.col("subject")))
