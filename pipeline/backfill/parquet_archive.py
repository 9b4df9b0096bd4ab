"""Parquet archives of bookings: a column of payload texts, or bookings as columns.

With a column ``payload`` (text or binary) each row is one booking's JSON; the rejected rows of an earlier backfill
have this form, so that they can be read again. Otherwise the columns are a booking's own keys (``id``, ``title``,
``properties`` as a struct, ...). Parquet cannot tell an absent key from a null one: null is read as absent. Dates and
times that are not text become ISO 8601 text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime, time
from typing import Any

import polars as pl

from pipeline.backfill.readers import Block, Segment
from pipeline.backfill.sources import Source
from pipeline.errors import PluginConfigError

PAYLOAD = "payload"


def row_count(source: Source) -> int:
    """Return the number of rows from the file's own footer."""
    return int(_scan(source).select(pl.len()).collect().item())


def parquet_segments(source: Source, rows: int, wanted: Callable[[int], bool]) -> Iterator[Segment]:
    """Yield the wanted segments of ``rows`` rows each; see ``readers.read_segments``."""
    total = row_count(source)
    for number in filter(wanted, range(max(1, -(-total // rows)))):
        count = min(rows, total - number * rows)
        segment = Segment(number, lines=count, stored_bytes=source.size * count // max(total, 1))
        if count:
            segment.blocks = _blocks(source, number * rows, count)
        yield segment


def _blocks(source: Source, start: int, count: int) -> Iterator[Block]:
    frame = _scan(source).slice(start, count).collect()
    if PAYLOAD in frame.columns:
        payloads: list[Any] = ["null" if text is None else text for text in frame[PAYLOAD]]
    else:
        payloads = [_as_json(row) for row in frame.iter_rows(named=True)]
    yield Block(payloads, list(range(count)))


def _scan(source: Source) -> pl.LazyFrame:
    try:
        frame = pl.scan_parquet(source.path, hive_partitioning=False, glob=False)
        schema = frame.collect_schema()
    except pl.exceptions.PolarsError as error:
        raise PluginConfigError(
            f"{source.name}: cannot be read as Parquet ({type(error).__name__})"
        ) from error
    if PAYLOAD in schema:
        if schema[PAYLOAD] not in (pl.String, pl.Binary):
            raise PluginConfigError(
                f"{source.name}: column 'payload' is {schema[PAYLOAD]}; it must be text or binary"
            )
        return frame.select(PAYLOAD)
    if "id" not in schema:
        shown = ", ".join(schema.names()[:8])
        raise PluginConfigError(
            f"{source.name}: holds no bookings: it has neither a column 'payload' with their JSON nor a column 'id' "
            f"(columns: {shown})"
        )
    return frame


def _as_json(value: Any) -> Any:
    match value:
        case dict():
            return {key: _as_json(item) for key, item in value.items() if item is not None}
        case list():
            return [_as_json(item) for item in value]
        case datetime() | date() | time():
            return value.isoformat()
        case _:
            return value
