"""The same booking more than once, also far apart in a file: which copy counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from pipeline.audit.tally import Schema
from pipeline.transform import reasons
from pipeline.transform.bookings import superseded

_KEPT: Schema = {
    "booking_id": pl.Int64,
    "fault": pl.String,
    "modified": pl.String,
    "line": pl.Int64,
    "reasons": pl.List(pl.String),
}


def collect(wide: pl.DataFrame) -> pl.DataFrame:
    """Keep which line holds which booking; ``line`` is a column of the chunk."""
    return wide.select(list(_KEPT)).filter(pl.col("booking_id").is_not_null())


def superseded_lines(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The lines that gave way to another copy: booking_id, line, and the reasons each had for itself."""
    ids = pl.concat([part["booking_id"] for part in parts]) if parts else pl.Series(dtype=pl.Int64)
    repeated = ids.filter(ids.is_duplicated()).unique()
    if not len(repeated):
        return pl.DataFrame(schema=_KEPT)
    copies = pl.concat([part.filter(pl.col("booking_id").is_in(repeated.implode())) for part in parts])
    return copies.filter(superseded(copies))


def as_rejections(gone: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """What superseded lines add to the rejections by reason; a reason they had before no longer stands alone."""
    if not len(gone):
        return
    own = pl.col("reasons").list.len()
    yield gone.select(
        pl.lit(reasons.DUPLICATE_BOOKING_ID).alias("reason"),
        pl.len().cast(pl.Int64).alias("bookings"),
        (own == 0).sum().cast(pl.Int64).alias("alone"),
        pl.col("booking_id").implode().alias("booking_ids"),
    ).head(1)
    yield (
        gone.filter(own == 1)
        .select(
            pl.col("reasons").list.first().alias("reason"),
            pl.lit(0, dtype=pl.Int64).alias("bookings"),
            pl.lit(-1, dtype=pl.Int64).alias("alone"),
            pl.lit([], dtype=pl.List(pl.Int64)).alias("booking_ids"),
        )
    )  # fmt: skip


def as_pairs(gone: pl.DataFrame) -> pl.DataFrame:
    """What superseded lines add to the pairs of reasons."""
    # Not a sorted list of the two: polars 1.40 cannot make one where there are no rows.
    other, own = pl.col("reasons"), pl.lit(reasons.DUPLICATE_BOOKING_ID)
    comes_first = other < own
    return (
        gone.select("reasons")
        .explode("reasons")
        .filter(pl.col("reasons").is_not_null())
        .select(
            reason=pl.when(comes_first).then(other).otherwise(own),
            with_reason=pl.when(comes_first).then(own).otherwise(other),
        )
        .group_by("reason", "with_reason", maintain_order=True)
        .agg(pl.len().cast(pl.Int64).alias("bookings"))
    )
