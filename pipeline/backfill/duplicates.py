"""One booking, one row, over the whole output: which versions of a booking are replaced by a newer one.

Each segment sets aside an index of its rows (booking id, modification, row, state), split by id into a few buckets;
one bucket of all segments together fits in memory, whatever the archive's size. The newest ``modified`` stays; of
equal ones, and where none has any, the one that comes last in the sources' order. All versions compete, whatever
became of them: a newest version that is rejected replaces an older one that was fine, as it has on the server.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from pipeline.backfill.files import Layout, read_counts, whole_file, write_json
from pipeline.backfill.merge import intact, read_piece
from pipeline.backfill.records import Piece
from pipeline.transform.times import iso_instants

STATES = ("accepted", "rejected", "filtered")
Indexed = tuple[int, str, tuple[Piece, ...]]
"""A segment's place in the order, its name, and where its part of one bucket lies."""


def by_bucket(index: pl.DataFrame, buckets: int) -> dict[int, pl.DataFrame]:
    """Split an index by id; ids are nearly consecutive, so that the remainder spreads them evenly."""
    parts = index.with_columns(bucket=pl.col("booking_id").mod(buckets)).partition_by(
        "bucket", as_dict=True, include_key=False, maintain_order=True
    )
    return {int(key[0]): part for key, part in parts.items()}


def find_replaced(output: Path, bucket: int, indexed: Sequence[Indexed]) -> dict[str, int]:
    """Find the rows of one bucket that are replaced and write them down by segment; count them by their state."""
    layout = Layout(output)
    done = layout.found / f"{bucket:04d}.json"
    known = read_counts(done, STATES)
    if known is not None:
        return known
    frames = [
        read_piece(layout.rows_of(name), piece).with_columns(segment=pl.lit(place, pl.UInt32))
        for place, name, pieces in indexed
        for piece in pieces
    ]
    counts = dict.fromkeys(STATES, 0)
    if frames:
        losers = replaced_rows(pl.concat(frames))
        with whole_file(layout.found / f"{bucket:04d}.parquet") as temporary:
            losers.write_parquet(temporary, row_group_size=20_000)
        for state, count in losers["state"].value_counts().iter_rows():
            counts[STATES[state]] = count
    write_json(done, counts)
    return counts


def replaced_rows(index: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of ``index`` (booking_id, modified, segment, row, state) that a newer one replaces.

    Sorted by segment and row. An unreadable ``modified`` is older than any other.
    """
    repeated = index.filter(pl.col("booking_id").is_duplicated())
    return (
        repeated.with_columns(iso_instants(repeated["modified"]).alias("instant"))
        .sort("booking_id", "instant", "segment", "row", nulls_last=False)
        .filter(pl.col("booking_id") == pl.col("booking_id").shift(-1))
        .drop("instant")
        .sort("segment", "row")
    )


def losers_by_segment(output: Path, segments: Sequence[tuple[int, str]]) -> list[str]:
    """Gather what ``find_replaced`` found for each of some segments; name those that lose a row."""
    layout = Layout(output)
    places = dict(segments)
    with intact(layout.found):
        found = (
            pl.scan_parquet(sorted(layout.found.glob("*.parquet")))
            .filter(pl.col("segment").is_between(min(places), max(places)))
            .sort("segment", "row")
            .collect()
        )
    losing = []
    for (place,), losers in found.partition_by("segment", as_dict=True, include_key=False).items():
        name = places[int(place)]
        with whole_file(layout.losers / name) as temporary:
            losers.write_ipc_stream(temporary)
        losing.append(name)
    return losing
