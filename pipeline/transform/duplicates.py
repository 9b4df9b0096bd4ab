"""Several payloads of one booking: which one counts."""

from __future__ import annotations

import polars as pl

from pipeline.transform.times import iso_instants


def superseded(bookings: pl.DataFrame) -> pl.Series:
    """Return, for each row, whether another row of the same booking counts instead of it (Boolean).

    The newest ``modified`` counts, and the last row where that does not tell; an unreadable ``modified`` is the oldest.
    Rows without a booking id, or whose payload is unusable, stand for themselves.
    """
    ids = bookings["booking_id"].set(bookings["fault"].is_not_null(), None)
    nothing = pl.Series("superseded", [False], dtype=pl.Boolean).new_from_index(0, len(ids))
    if ids.drop_nulls().is_unique().all():
        return nothing
    rows = (ids.is_duplicated() & ids.is_not_null()).arg_true()
    copies = pl.DataFrame(
        {"row": rows, "id": ids.gather(rows), "modified": bookings["modified"].gather(rows)}
    )
    newest = (
        copies.with_columns(iso_instants(copies["modified"]))
        .sort("id", "modified", "row", nulls_last=False)
        .group_by("id", maintain_order=True)
        .last()
    )
    return nothing.scatter(rows.filter(~rows.is_in(newest["row"].implode())), True)
