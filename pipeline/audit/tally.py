"""Small frames out of chunks: count in a chunk, add the counts, keep the first few booking ids."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

IDS = 20
"""Booking ids kept a line; the counts are never capped."""
EXAMPLES = 5
"""Shapes (or values, revealed) kept a field."""
TITLES = 12
"""Titles kept a shape and chunk, to check suggested patterns against; they leave the audit only when revealed."""
ROWS = 500
"""Lines kept in lists of single bookings and in the census."""

Frames = dict[str, pl.DataFrame]
"""What one chunk gives: small frames by name; those of all chunks are added up by ``total``-like functions."""

Schema = dict[str, pl.DataType | type[pl.DataType]]
ID_LIST = pl.List(pl.Int64)


def count_by(frame: pl.DataFrame, *keys: str) -> pl.DataFrame:
    """Count the bookings a key, with the first ids: keys, bookings Int64, booking_ids List(Int64)."""
    return frame.group_by(*keys, maintain_order=True).agg(
        pl.len().cast(pl.Int64).alias("bookings"),
        pl.col("booking_id").drop_nulls().head(IDS).alias("booking_ids"),
    )


def add_up(parts: Sequence[pl.DataFrame], schema: Schema, *, keys: Sequence[str]) -> pl.DataFrame:
    """Add the counts of many chunks: Int64 columns beside the keys are summed, lists are joined and capped.

    Answers an empty frame of ``schema`` where there is no part; the largest count stands first, equal ones by
    their keys.
    """
    if not parts:
        return pl.DataFrame(schema=schema)
    whole = pl.concat(parts).select(list(schema))
    sums = [name for name, kind in schema.items() if kind == pl.Int64 and name not in keys]
    lists = [name for name, kind in schema.items() if isinstance(kind, pl.List) and name not in keys]
    return (
        whole.group_by(list(keys), maintain_order=True)
        .agg(pl.col(sums).sum(), *(pl.col(name).explode().drop_nulls().head(IDS) for name in lists))
        .select(list(schema))
        .sort("bookings", *keys, descending=[True, *(False for _ in keys)], nulls_last=True)
    )


def share(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
    """``part / whole`` as Float64, null where the whole is nothing."""
    return pl.when(whole > 0).then(part / whole)
