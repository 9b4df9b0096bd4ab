"""Which bookings did not make it, and why; which reasons come together; and what was repaired in those that did.

Of several copies of one booking, also far apart in a file, one counts; the others are rejected. ``transform.selection.superseded``
says which one.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from pipeline.audit.findings import FRAMES, add_up, count_by, first_ids, joined, schema
from pipeline.transform.reasons import DUPLICATE_BOOKING_ID, explain, field_reason
from pipeline.transform.selection import superseded

_COPIES = schema("booking_id fault modified line reasons")


def collect(rejected: pl.DataFrame) -> pl.DataFrame:
    """Count one chunk of rejected bookings (booking_id, reasons List(String)), one row per reason."""
    return (
        rejected.select(
            "booking_id", pl.col("reasons").alias("reason"), alone=pl.col("reasons").list.len() == 1
        )
        .explode("reason")
        .group_by("reason", maintain_order=True)
        .agg(
            pl.len().cast(pl.Int64).alias("bookings"),
            pl.col("alone").sum().cast(pl.Int64),
            first_ids(pl.col("booking_id")),
        )
    )


def collect_pairs(rejected: pl.DataFrame) -> pl.DataFrame:
    """Count pairs of reasons on one booking: each pair once, in alphabetical order."""
    single = (
        rejected.filter(pl.col("reasons").list.len() > 1)
        .select(pl.col("reasons").alias("reason"))
        .with_row_index("at")
        .explode("reason")
    )
    return (
        single.join(single, on="at", suffix="_too")
        .filter(pl.col("reason") < pl.col("reason_too"))
        .group_by("reason", with_reason="reason_too")
        .agg(pl.len().cast(pl.Int64).alias("bookings"))
    )


def collect_repairs(accepted: pl.DataFrame) -> pl.DataFrame:
    """Count what was repaired in one chunk of accepted bookings (booking_id, repaired), one row per field and kind."""
    repaired = accepted.select("booking_id", "repaired").filter(pl.col("repaired").list.len() > 0)
    parts = pl.col("repaired").str.split_exact(":", 1).struct.rename_fields(["target", "kind"])
    return count_by(
        repaired.explode("repaired").select("booking_id", parts.alias("parts")).unnest("parts"),
        "target",
        "kind",
    )


def collect_copies(wide: pl.DataFrame) -> pl.DataFrame:
    """Keep which line holds which booking; ``line`` is a column of the chunk."""
    return wide.select(list(_COPIES)).filter(pl.col("booking_id").is_not_null())


def total(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Add up ``rejections``: a row per reason, the most frequent first, with what it means and what to do."""
    counted = add_up(parts, schema("reason bookings alone booking_ids"), "reason")
    return _explained(counted, counted["reason"].to_list(), "rejections")


def total_repairs(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Add up ``repairs``: a row per field and kind of repair, the most frequent first, with what it means."""
    counted = add_up(parts, schema("target kind bookings booking_ids"), "target", "kind")
    return _explained(
        counted, [field_reason(*row) for row in counted.select("target", "kind").rows()], "repairs"
    )


def total_pairs(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Add up ``co_occurrence``: a row per pair of reasons, the most frequent first."""
    return add_up(parts, FRAMES["co_occurrence"], "reason", "with_reason")


def superseded_lines(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return the lines that gave way to another copy of their booking, with the reasons that each had of its own."""
    copies = joined(parts, _COPIES).filter(pl.col("booking_id").is_duplicated())
    return copies.filter(superseded(copies))


def as_rejections(gone: pl.DataFrame) -> pl.DataFrame:
    """Return what superseded lines add to the rejections; a reason they had before no longer stands alone."""
    own = pl.col("reasons").list
    given_way = gone.select(
        reason=pl.lit(DUPLICATE_BOOKING_ID),
        bookings=pl.lit(1, pl.Int64),
        alone=(own.len() == 0).cast(pl.Int64),
        booking_ids=pl.concat_list("booking_id"),
    )
    not_alone = gone.filter(own.len() == 1).select(
        reason=own.first(),
        bookings=pl.lit(0, pl.Int64),
        alone=pl.lit(-1, pl.Int64),
        booking_ids=pl.lit([], pl.List(pl.Int64)),
    )
    return pl.concat([given_way, not_alone])


def as_pairs(gone: pl.DataFrame) -> pl.DataFrame:
    """Return what superseded lines add to the pairs of reasons."""
    pairs = collect_pairs(gone.with_columns(pl.concat_list("reasons", pl.lit(DUPLICATE_BOOKING_ID))))
    return pairs.filter(pl.any_horizontal(pl.all().exclude("bookings") == DUPLICATE_BOOKING_ID))


def _explained(counted: pl.DataFrame, reasons: Sequence[str], frame: str) -> pl.DataFrame:
    """Add what each line's reason means and what to do, in plain words."""
    words = pl.DataFrame(map(explain, reasons), schema=schema("meaning remedy"), orient="row")
    return counted.hstack(words).select(list(FRAMES[frame]))
