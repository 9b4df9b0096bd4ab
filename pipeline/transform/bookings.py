"""Payloads -> the bookings frame: one row a payload, in order, both generations, nothing thrown away (T008, T014)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, cast

import polars as pl

from pipeline.fields import BOOKING
from pipeline.transform import booking_hash, reasons
from pipeline.transform.columns import in_parts, paused_collector
from pipeline.transform.json_values import TEXT_TYPES, JsonObject, Text, parsed
from pipeline.transform.read_objects import HASHED, ObjectReader, source_columns
from pipeline.transform.read_text import TextReader

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig

Payload = JsonObject | str | bytes

_DTYPES: Final = {"id": pl.Int64(), "flag": pl.Boolean(), "text": pl.String()}

PAYLOAD_FAULTS: Final = (
    reasons.PAYLOAD_NOT_JSON,
    reasons.PAYLOAD_NOT_OBJECT,
    reasons.LONE_SURROGATE,
    reasons.TEXT_UNDECODABLE,
)
"""Faults of a payload as a whole."""


def bookings_schema(config: PipelineConfig) -> dict[str, pl.DataType]:
    """Return the bookings frame's columns and types, in order."""
    fields = {field.column: _DTYPES[field.usual] for field in BOOKING}
    return {
        "row": pl.UInt32(),
        "booking_id": fields.pop("booking_id"),
        "fault": pl.String(),
        "undecodable": pl.List(pl.String()),
        "generation": pl.String(),
        **fields,
        **{booking_hash.literal_column(name): pl.String() for name in HASHED},
        **dict.fromkeys(source_columns(config), pl.String()),
    }


def is_readable() -> pl.Expr:
    """Tell whether the payload itself could be read; only then is anything about its fields worth saying."""
    return ~pl.col("fault").is_in(PAYLOAD_FAULTS).fill_null(value=False)


def read_bookings(payloads: Iterable[Payload], config: PipelineConfig) -> pl.DataFrame:
    """Read payloads (objects, or JSON text as str or bytes) into one row each; never raises on content.

    Columns: ``row`` UInt32 (the payload's place), ``booking_id`` Int64, ``fault`` String (why the payload is
    unusable, a code of ``reasons``, else null), ``undecodable`` List(String) (columns out of whose text a character was
    left, because it could not be decoded; null where there is none), ``generation`` String (``A``: times in ``formattedName``; ``B``:
    in ``dateRange``), then String as given ``title``, ``status``, ``formatted_name``, ``project``,
    ``resource``, ``modified``, ``resource:name``, ``range_start`` and ``range_finish`` (only on B),
    ``cancelled`` Boolean, ``hash:*`` String (JSON of what the hash must not take from the text columns) and
    ``source:<path>`` String for each source of the mapping.
    """
    texts, objects = TextReader(config), ObjectReader(config)
    as_objects: list[int] = []
    size = 0
    with paused_collector():
        for some in in_parts(payloads):
            if set(map(type, some)) == {dict}:
                objects.add(some)
                rows: Sequence[int] = range(len(some))
            else:
                rows = _read_texts(some, texts, objects)
            as_objects += (size + row for row in rows)
            size += len(some)
        every = pl.int_range(size, dtype=pl.UInt32, eager=True)
        if len(as_objects) == size:
            return _frame(every, objects.columns(), config)
        if not as_objects:
            return _frame(every, texts.columns(), config)
        odd = pl.Series(as_objects, dtype=pl.UInt32)
        ordinary = every.filter(~every.is_in(odd.implode()))
        parts = [_frame(ordinary, texts.columns(), config), _frame(odd, objects.columns(), config)]
        return pl.concat(parts).sort("row")


def _read_texts(some: Sequence[object], texts: TextReader, objects: ObjectReader) -> Sequence[int]:
    """Have the ordinary texts read as such and all else as objects; return the indices of the latter."""
    if set(map(type, some)) <= {str, bytes}:
        others = texts.add(cast("Sequence[Text]", some))
    else:
        given = {index: item for index, item in enumerate(some) if isinstance(item, TEXT_TYPES)}
        indices = list(given)
        left = {indices[place] for place in texts.add(list(given.values()))}
        others = [index for index in range(len(some)) if index in left or index not in given]
    items, faults = [], {}
    for place, index in enumerate(others):
        item = some[index]
        if isinstance(item, TEXT_TYPES):
            try:
                item = parsed(item)
            except ValueError:
                item, faults[place] = None, reasons.PAYLOAD_NOT_JSON
        items.append(item)
    if items:
        objects.add(items, faults)
    return others


def _frame(rows: pl.Series, columns: dict[str, pl.Series], config: PipelineConfig) -> pl.DataFrame:
    """Return a reader's columns as the bookings frame; ``generation`` follows from the ranges among them."""
    is_range = columns["range_start"].is_not_null() | columns["range_finish"].is_not_null()
    generation = pl.Series(["A", "B"], dtype=pl.String).gather(is_range.cast(pl.UInt32))
    whole = columns | {"row": rows, "generation": generation}
    return pl.DataFrame({name: whole[name] for name in bookings_schema(config)})
