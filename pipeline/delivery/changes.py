"""What changed: today's entries against the ledger, as joins of frames; no loop runs over rows. And an entry as text and back,
the form in which the ledger keeps what it last sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, time
from hashlib import blake2b
from typing import Any, Literal

import orjson
import polars as pl

from pipeline.errors import PluginSchemaError

DATE_KEY = "scheduled_start_date"
TIME_KEY = "scheduled_start_time"
DURATION_KEY = "scheduled_procedure_step_duration"
STATUS_KEY = "performed_procedure_step_status"
DISCONTINUED = "DISCONTINUED"

Change = Literal["new", "changed", "resent", "unchanged"]

# How a value of each type becomes text: by its whole number where it has one, because polars' own rendering of
# dates, times and booleans is not promised to stay the same from one version to the next.
_AS_NUMBER = (pl.Date, pl.Time, pl.Boolean)
_DIFFERENCES = {"booking_id": pl.Int64, "field": pl.String, "old": pl.String, "new": pl.String}


def digests(entries: pl.DataFrame) -> pl.Series:
    """Give the digest of each row over all its columns: 32 hex digits (BLAKE2b, 128 bits).

    ``entries``: String, integer, Boolean, Date and Time columns, any order. Equal rows have equal digests across
    processes, machines and polars versions; null differs from "", and a new or renamed column changes every digest.
    Raises ``PluginSchemaError`` on a column of another type.
    """
    parts: list[pl.Expr] = []
    for name, dtype in sorted(entries.schema.items()):
        column = pl.col(name)
        if dtype in _AS_NUMBER:
            column = column.to_physical().cast(pl.Int64)
        elif not (dtype == pl.String or dtype == pl.Null or dtype.is_integer()):
            raise PluginSchemaError(
                f"the entry column {name!r} has the type {dtype}, which no digest is defined for"
            )
        text = column.cast(pl.String)
        # The length before each value keeps neighbours apart: ("ab", "c") is not ("a", "bc").
        parts += [
            pl.lit(f"{name}="),
            text.str.len_bytes().cast(pl.String).fill_null("-"),
            pl.lit(":"),
            text.fill_null(""),
        ]
    if not parts:
        return pl.Series("digest", [], dtype=pl.String)
    rows = entries.select(pl.concat_str(parts).alias("row"))["row"].to_list()
    return pl.Series(
        "digest", [blake2b(row.encode(), digest_size=16).hexdigest() for row in rows], dtype=pl.String
    )


def compare(current: pl.DataFrame, lines: pl.DataFrame) -> pl.DataFrame:
    """Add ``change`` to today's entries: new, changed, resent (pending and equal), or unchanged.

    ``current`` has ``booking_id`` and ``digest``; ``lines`` is the ledger's part (``LINES_SCHEMA``). Rows and their
    order stay; nulls of ``current`` do not occur. A pending entry is never "unchanged": the host may not have it.
    """
    known = lines.select("booking_id", known_digest="digest", known_state="state")
    return (
        current.join(known, on="booking_id", how="left", maintain_order="left")
        .with_columns(
            pl.when(pl.col("known_digest").is_null())
            .then(pl.lit("new"))
            .when(pl.col("known_digest") != pl.col("digest"))
            .then(pl.lit("changed"))
            .when(pl.col("known_state") == "pending")
            .then(pl.lit("resent"))
            .otherwise(pl.lit("unchanged"))
            .alias("change")
        )
        .drop("known_digest", "known_state")
    )


def changed_fields(ids: pl.Series, entries: pl.DataFrame, before: Mapping[int, str]) -> pl.DataFrame:
    """List each field that differs: ``booking_id``, ``field``, ``old`` and ``new`` (text or null).

    ``ids`` are the booking ids of ``entries``, row by row; ``before`` holds the ledger's last entry of the same
    bookings as JSON text. A field that one side lacks counts as null. In the order of ``entries``.
    """
    if not len(ids):  # The usual case, and the joins below cost a quiet cycle 2 ms also without rows.
        return pl.DataFrame(schema=_DIFFERENCES)
    old_ids, old = _old_entries(before)
    names = list(dict.fromkeys([*entries.columns, *old.columns]))
    differences = (
        _long(ids, entries, names, "new")
        .join(_long(old_ids, old, names, "old"), on=["booking_id", "field"], how="inner")
        .filter(pl.col("old").ne_missing(pl.col("new")))
    )
    order = pl.DataFrame({"booking_id": ids, "place": pl.int_range(len(ids), eager=True)})
    fields = pl.DataFrame(
        {"field": names, "rank": range(len(names))}, schema={"field": pl.String, "rank": pl.Int64}
    )
    return (
        differences.join(order, on="booking_id")
        .join(fields, on="field")
        .sort("place", "rank")
        .select("booking_id", "field", "old", "new")
    )


def field_counts(differences: pl.DataFrame) -> dict[str, int]:
    """Count in how many bookings each field changed, most often changed first."""
    counts = differences.group_by("field").len().sort(["len", "field"], descending=[True, False])
    return dict(counts.iter_rows())


def digests_of(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Give the digests of entries that are plain dicts already: the same as those of the frame's rows.

    Entries of an older mapping may have other keys; each set of keys is a frame of its own.
    """
    found: dict[int, str] = {}
    by_keys: dict[tuple[str, ...], list[int]] = {}
    for index, entry in enumerate(entries):
        by_keys.setdefault(tuple(sorted(entry)), []).append(index)
    typed: dict[str, Any] = {DATE_KEY: pl.Date, TIME_KEY: pl.Time, DURATION_KEY: pl.Int64}
    for names, rows in by_keys.items():
        frame = pl.DataFrame(
            {name: [entries[row][name] for row in rows] for name in names},
            schema={name: typed.get(name, pl.String) for name in names},
        )
        found |= zip(rows, digests(frame).to_list(), strict=True)
    return [found[index] for index in range(len(entries))]


def _old_entries(before: Mapping[int, str]) -> tuple[pl.Series, pl.DataFrame]:
    rows: list[dict[str, Any]] = orjson.loads(f"[{','.join(before.values())}]")
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: pl.Series(name, [row.get(name) for row in rows], strict=False) for name in names}
    return pl.Series("booking_id", list(before), dtype=pl.Int64), pl.DataFrame(columns)


def _long(ids: pl.Series, entries: pl.DataFrame, names: Sequence[str], value: str) -> pl.DataFrame:
    """One row a booking and field, values as text; a column that is not there is null."""
    parts = [
        pl.DataFrame({"booking_id": ids, value: _text(entries, name)}).with_columns(field=pl.lit(name))
        for name in names
    ]
    empty = pl.DataFrame(schema={"booking_id": pl.Int64, value: pl.String, "field": pl.String})
    return pl.concat([empty, *parts])


def _text(entries: pl.DataFrame, name: str) -> pl.Series:
    """Give a column as the ledger's JSON has it: times with a fraction only where there is one."""
    if name not in entries.columns:
        return pl.Series(name, [None] * entries.height, dtype=pl.String)
    column = entries[name]
    if column.dtype == pl.Time:
        whole, exact = column.dt.to_string("%H:%M:%S"), column.dt.to_string("%H:%M:%S%.6f")
        return whole.zip_with(column.dt.nanosecond() == 0, exact)
    if column.dtype == pl.Date:
        return column.dt.to_string("%Y-%m-%d")
    return column.cast(pl.String)


def to_text(entry: Mapping[str, Any]) -> str:
    """Write an entry as JSON; dates and times are ISO 8601."""
    # By Python's isoformat: orjson 3.13 writes the microsecond 10000 of a time as ".10000", a tenth of a second.
    return orjson.dumps(dict(entry), default=_iso, option=orjson.OPT_PASSTHROUGH_DATETIME).decode()


def from_text(text: str) -> dict[str, Any]:
    """Read an entry back, with its ``datetime.date`` and ``datetime.time``."""
    entry: dict[str, Any] = orjson.loads(text)
    if isinstance(entry.get(DATE_KEY), str):
        entry[DATE_KEY] = date.fromisoformat(entry[DATE_KEY])
    if isinstance(entry.get(TIME_KEY), str):
        entry[TIME_KEY] = time.fromisoformat(entry[TIME_KEY])
    return entry


def _iso(value: Any) -> str:
    if isinstance(value, (date, time)):
        return value.isoformat()
    raise TypeError(f"an entry holds no {type(value).__name__}")
