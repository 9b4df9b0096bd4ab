"""Parquet: a column of payload texts, or rows as columns (``frames``)."""

from __future__ import annotations

from typing import Any

import polars as pl

from pipeline.archives.frames import PAYLOAD_TYPES, UNREADABLE, frame_payloads
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
    frame = _collected(name, _scan(path, name).slice(start, count))
    try:
        return frame_payloads(frame)
    except UNREADABLE as error:
        raise _damaged(name, error) from None


def _scan(path: str, name: str) -> pl.LazyFrame:
    try:
        frame = pl.scan_parquet(path, hive_partitioning=False, glob=False)
        schema = frame.collect_schema()
    except _FAULTS as error:
        raise _damaged(name, error) from None
    if PAYLOAD not in schema:
        return frame
    if not isinstance(schema[PAYLOAD], PAYLOAD_TYPES):
        raise PluginConfigError(
            f"{name}: column 'payload' is {schema[PAYLOAD]}; it must be text, binary or a struct"
        )
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
