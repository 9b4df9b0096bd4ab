"""Parquet: a column of payload texts, or rows as columns.

With a column ``payload`` (text or binary) each row is one booking's JSON; the rejected rows of an earlier backfill
have this form, so that they can be read again. Otherwise the columns are a row's own keys (of a booking ``id``,
``title``, ``properties`` as a struct, ...). Parquet cannot tell an absent key from a null one: null is read as absent.
Dates and times that are not text become ISO 8601 text.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import polars as pl

from pipeline.archives.lines import PAYLOAD
from pipeline.errors import PluginConfigError

_FAULTS = (pl.exceptions.PolarsError, pl.exceptions.PanicException)


def parquet_columns(path: str, name: str) -> tuple[str, ...]:
    """Return the names of the columns, which a file has also without rows."""
    return tuple(_scan(path, name).collect_schema())


def row_count(path: str, name: str) -> int:
    """Return the number of rows from the file's own footer."""
    return int(_collected(name, _scan(path, name).select(pl.len())).item())


def parquet_payloads(path: str, name: str, start: int, count: int) -> list[Any]:
    """Return ``count`` rows from ``start`` on: JSON text or bytes, or objects as JSON would hold them."""
    frame = _collected(name, _scan(path, name).slice(start, count).with_columns(_of_this_calendar()))
    if PAYLOAD in frame.columns:
        return ["null" if text is None else text for text in frame[PAYLOAD]]
    try:
        return [_as_json(row) for row in frame.iter_rows(named=True)]
    except (ValueError, OverflowError, pl.exceptions.PanicException) as error:
        raise _damaged(name, error) from None


def _of_this_calendar() -> list[pl.Expr]:
    """Leave out dates of years that Python's calendar does not have: the value is absent, the row stays."""
    dates, moments = pl.selectors.date(), pl.selectors.datetime()
    return [
        pl.when(dates.is_between(date.min, date.max)).then(dates),
        # A day from either end, so that no zone carries a moment beyond it.
        pl.when(moments.dt.year().is_between(2, 9998)).then(moments),
    ]


def _scan(path: str, name: str) -> pl.LazyFrame:
    try:
        frame = pl.scan_parquet(path, hive_partitioning=False, glob=False)
        schema = frame.collect_schema()
    except _FAULTS as error:
        raise _damaged(name, error) from None
    if PAYLOAD not in schema:
        return frame
    if schema[PAYLOAD] not in (pl.String, pl.Binary):
        raise PluginConfigError(f"{name}: column 'payload' is {schema[PAYLOAD]}; it must be text or binary")
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


def _as_json(value: Any) -> Any:
    match value:
        case dict():
            return {key: _as_json(item) for key, item in value.items() if item is not None}
        case list():
            return [_as_json(item) for item in value]
        case datetime() | date() | time():
            return value.isoformat()
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case bytes():
            return value.decode("utf-8", "backslashreplace")
        case timedelta():
            return str(value)
        case _:
            return value
