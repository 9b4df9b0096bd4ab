"""Payloads -> the bookings frame: one row a payload, in order, both generations, nothing thrown away (T008, T014)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import polars as pl

from pipeline.transform import reasons
from pipeline.transform.anything import any_bookings
from pipeline.transform.booking_fields import bookings_schema, usual_kinds
from pipeline.transform.ordinary import ordinary_bookings
from pipeline.transform.payloads import Payload, in_parts, paused_collector
from pipeline.transform.typed import TypedColumns, typed_reader

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig

PAYLOAD_FAULTS: Final = (reasons.PAYLOAD_NOT_JSON, reasons.PAYLOAD_NOT_OBJECT, reasons.LONE_SURROGATE)
"""Faults of a payload as a whole."""


def is_readable() -> pl.Expr:
    """Tell whether the payload itself could be read; only then is anything about its fields worth saying."""
    return ~pl.col("fault").is_in(PAYLOAD_FAULTS).fill_null(value=False)


def read_bookings(payloads: Iterable[Payload], config: PipelineConfig) -> pl.DataFrame:
    """Read payloads (objects, or JSON text as str or bytes) into one row each; never raises on content.

    Columns: ``row`` UInt32 (the payload's place), ``booking_id`` Int64, ``fault`` String (why the payload is
    unusable, a code of ``reasons``, else null), ``generation`` String (``A``: times in ``formattedName``; ``B``:
    in ``dateRange``), then String as given ``title``, ``status``, ``formatted_name``, ``project``,
    ``resource``, ``modified``, ``resource:name``, ``range_start`` and ``range_finish`` (only on B),
    ``cancelled`` Boolean, ``hash:*`` String (JSON of what the hash must not take from the text columns) and
    ``source:<path>`` String for each source of the mapping.
    """
    with paused_collector():
        ordinary, left, size = _told_apart(payloads, config)
        rows = pl.int_range(size, dtype=pl.UInt32, eager=True)
        if not left:
            return ordinary.insert_column(0, rows.alias("row"))
        others = any_bookings(left.values(), config)
    odd = pl.Series(list(left), dtype=pl.UInt32)
    return (
        pl.concat([ordinary, others])
        .insert_column(0, pl.concat([rows.filter(~rows.is_in(odd.implode())), odd]).alias("row"))
        .sort("row")
        .select(*bookings_schema(config))
    )


def _told_apart(
    payloads: Iterable[Payload], config: PipelineConfig
) -> tuple[pl.DataFrame, dict[int, Payload], int]:
    """Return the frame of the ordinary payloads, the others by row, and how many there are of both."""
    reader = typed_reader(usual_kinds(config))
    columns = TypedColumns(reader)
    left: dict[int, Payload] = {}
    size = 0
    is_tried = True
    for some in in_parts(payloads):
        records, others = reader.read(some) if is_tried else ([], range(len(some)))
        if records:
            columns.add(records)
        else:  # a source of another kind, where trying would only cost time
            is_tried = False
        left.update((size + index, some[index]) for index in others)
        size += len(some)
    return ordinary_bookings(columns.frame(), config), left, size
