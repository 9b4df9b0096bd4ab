"""Frames and their rows as payloads: Parquet, polars, pandas, and whatever speaks Arrow, all read the same way.

With a column ``payload`` (text, binary, or the booking itself) each row is one booking. Otherwise the columns are a row's own
keys: ``id``, ``title``, ``formattedName``, ``properties`` as a struct, or flat ones with a dotted path as the mapping
has them (``properties.project.formattedName``, ``dateRange.start``). A table cannot tell an absent key from a null one: null, NaN and
NaT are read as absent. Dates and times that are not text become ISO 8601 text, those of a zone as UTC. A whole number that
is stored as a float is a whole number: pandas makes floats of a column of numbers that has gaps.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import polars as pl

from pipeline.archives.text_rows import PAYLOAD, table_row
from pipeline.errors import PluginConfigError
from pipeline.transform.json_values import MAX_ID

PAYLOAD_TYPES = (pl.String, pl.Binary, pl.Struct, pl.Object)
UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError, OverflowError)
"""What polars raises where a value has no form in Python; its messages quote the value."""


def frame_payloads(frame: pl.DataFrame) -> list[Any]:
    """Return one payload per row: JSON text or bytes, or objects as JSON would hold them.

    Raises one of ``UNREADABLE``.
    """
    if PAYLOAD in frame.columns:
        return payload_cells(frame.select(_plain(pl.col(PAYLOAD), frame.schema[PAYLOAD]))[PAYLOAD])
    plain = frame.select(_plain(pl.col(name), dtype) for name, dtype in frame.schema.items())
    return [row_payload(row) for row in plain.iter_rows(named=True)]


def payload_cells(cells: Iterable[Any]) -> list[Any]:
    """Return the cells of a payload column; an empty one is no booking, and is rejected as such."""
    return [
        "null" if cell is None else cell if isinstance(cell, (str, bytes)) else _as_json(cell)
        for cell in cells
    ]


def row_payload(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of a table as the booking that it holds."""
    return table_row(_as_json(row).items())


def _plain(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Leave out dates of years that Python's calendar does not have, and take zoned times as UTC.

    The value is absent then, the row stays. UTC, because polars hands a zoned time over by zone data of its own.
    """
    if isinstance(dtype, pl.Date):
        return pl.when(column.is_between(date.min, date.max)).then(column)
    if isinstance(dtype, pl.Datetime):
        column = column.dt.convert_time_zone("UTC") if dtype.time_zone else column
        # A day from either end, so that no zone carries a moment beyond it.
        return pl.when(column.dt.year().is_between(2, 9998)).then(column)
    return column


def _as_json(value: Any) -> Any:
    match value:
        case dict():
            items = ((key, _as_json(item)) for key, item in value.items() if item is not None)
            return {key: item for key, item in items if item is not None}
        case list():
            return [_as_json(item) for item in value]
        case bool() | int() | str():
            return value
        case float():
            if value != value:  # NaN
                return None
            return int(value) if value.is_integer() and abs(value) <= MAX_ID else value
        case datetime() | date() | time():
            return value.isoformat()
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case bytes():
            return value.decode("utf-8", "backslashreplace")
        case timedelta():
            return str(value)
        case _:  # numpy's scalars and arrays, where pandas holds them
            return _as_json(value.tolist()) if hasattr(value, "tolist") else value


_FAULTS = (pl.exceptions.PolarsError, pl.exceptions.PanicException)


def parquet_columns(path: str, name: str) -> tuple[str, ...]:
    """Return the names of the columns, which a file has also without rows."""
    return tuple(_scan(path, name).collect_schema())


def row_count(path: str, name: str) -> int:
    """Return the number of rows from the file's own footer."""
    return int(_collected(name, _scan(path, name).select(pl.len())).item())


def parquet_payloads(path: str, name: str, start: int, count: int) -> list[Any]:
    """Return ``count`` rows from ``start`` on: JSON text or bytes, or objects as JSON would hold them."""
    frame = _collected(name, _scan(path, name).slice(start, count))
    try:
        return frame_payloads(frame)
    except UNREADABLE as error:
        raise _damaged(name, error) from None


def _scan(path: str, name: str) -> pl.LazyFrame:
    try:
        frame = pl.scan_parquet(path, hive_partitioning=False, glob=False)
        frame.collect_schema()
    except _FAULTS as error:
        raise _damaged(name, error) from None
    return payload_columns(frame, f"{name}:")


def payload_columns(frame: pl.LazyFrame, told: str) -> pl.LazyFrame:
    """Return the column of payloads alone where a frame has one; ``PluginConfigError`` where it can hold none."""
    kind = frame.collect_schema().get(PAYLOAD)
    if kind is None:
        return frame
    if not isinstance(kind, PAYLOAD_TYPES):
        raise PluginConfigError(f"{told} column 'payload' is {kind}; it must be text, binary or a struct")
    return frame.select(PAYLOAD)


def _collected(name: str, frame: pl.LazyFrame) -> pl.DataFrame:
    try:
        return frame.collect()
    except _FAULTS as error:
        raise _damaged(name, error) from None


def _damaged(name: str, error: BaseException) -> PluginConfigError:
    # By its kind alone: polars' messages quote the file's content.
    return PluginConfigError(
        f"{name}: cannot be read as Parquet ({type(error).__name__}); it is damaged or cut off: write it again"
    )
