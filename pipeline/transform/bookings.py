"""Payloads -> the bookings frame: one row a payload, in order, both generations, nothing thrown away (T008, T014)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from pipeline.transform import booking_hash, reasons
from pipeline.transform.cells import flag_column, id_column, text_column
from pipeline.transform.fields import column, places
from pipeline.transform.payloads import Payload, Payloads, paused_collector

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig

SOURCE: str = "source:"
RESOURCE_NAME: str = "resource:name"

_PATHS = {
    "biskit_type": "biskitType",
    "title": "title",
    "status": "status",
    "formatted_name": "formattedName",
    "project": "properties.project.formattedName",
    "resource": "properties.resource.formattedName",
    "created": "properties.created",
    "modified": "properties.modified",
}
_START = "properties.dateRange.start"
_ENDS = ("properties.dateRange.finish", "properties.dateRange.end")
_CANCELLED = "properties.cancelled"
_NAMES = {name: (f"properties.{name}.name", f"properties.{name}") for name in ("project", "resource")}
_HASHED = {name: _PATHS[name] for name in booking_hash.FIELDS}


def source_columns(config: PipelineConfig) -> dict[str, str]:
    """Return column name -> path for every distinct source of the mapping's rules."""
    return {f"{SOURCE}{rule.source}": rule.source for rule in config.rules}


def bookings_schema(config: PipelineConfig) -> dict[str, pl.DataType]:
    """Return the bookings frame's columns and types, in order."""
    return {
        "row": pl.UInt32(),
        "booking_id": pl.Int64(),
        "fault": pl.String(),
        "generation": pl.String(),
        **dict.fromkeys(_PATHS, pl.String()),
        "range_start": pl.String(),
        "range_finish": pl.String(),
        "cancelled": pl.Boolean(),
        RESOURCE_NAME: pl.String(),
        **{booking_hash.literal_column(name): pl.String() for name in booking_hash.FIELDS},
        **dict.fromkeys(source_columns(config), pl.String()),
    }


def read_bookings(payloads: Iterable[Payload], config: PipelineConfig) -> pl.DataFrame:
    """Read payloads (objects, or JSON text as str or bytes) into one row each; never raises on content.

    Columns: ``row`` UInt32 (the payload's place), ``booking_id`` Int64, ``fault`` String (why the payload is
    unusable, a code of ``reasons``, else null), ``generation`` String (``A``: times in ``formattedName``; ``B``:
    ``dateRange``), then ``biskit_type``, ``title``, ``status``, ``formatted_name``, ``project``, ``resource``,
    ``created``, ``modified``, ``range_start``, ``range_finish`` String as given (``range_*`` only on B),
    ``cancelled`` Boolean, ``resource:name`` String, ``hash:*`` String (JSON of what the hash must not take from the
    text columns) and ``source:<path>`` String for each source of the mapping.
    """
    with paused_collector():
        return _Reading(Payloads(payloads), config).frame()


class _Reading:
    """One pass over a batch: raw values by path, each walked once, then typed columns."""

    def __init__(self, payloads: Payloads, config: PipelineConfig) -> None:
        self.payloads = payloads
        self.sources = source_columns(config)
        self.broken: set[int] = set()
        self._raw: dict[str, list[Any]] = {}
        self._keep_numbers_whole()

    def raw(self, path: str) -> list[Any]:
        if path not in self._raw:
            self._raw[path] = column(self.payloads, path)
        return self._raw[path]

    def _keep_numbers_whole(self) -> None:
        """Read anew what orjson may have rounded: rows with a float, or an object that enters the hash."""
        hashed = set(_HASHED.values())
        rows: set[int] = set()
        for path in (*_PATHS.values(), *self.sources.values(), "id"):
            inexact = {float, dict, list} if path in hashed else {float}
            values = self.raw(path)
            if inexact.isdisjoint(map(type, values)):
                continue
            rows.update(index for index, value in enumerate(values) if type(value) in inexact)
        if rows and self.payloads.exact(rows):
            self._raw.clear()

    def text(self, name: str, values: list[Any]) -> pl.Series:
        return text_column(name, values, self.broken)

    @cached_property
    def _size(self) -> int:
        return len(self.payloads)

    def frame(self) -> pl.DataFrame:
        texts = {name: self.text(name, self.raw(path)) for name, path in _PATHS.items()}
        literals = [
            booking_hash.literals(self.payloads, name, self.raw(path), texts[name], places(path)[0])
            for name, path in _HASHED.items()
        ]
        resource_name = self.text(RESOURCE_NAME, self.raw(_NAMES["resource"][0]))
        for name, others in _NAMES.items():
            texts[name] = self._filled(texts[name], others)
        starts, ends = self._ranges(texts["formatted_name"])
        columns = [
            *texts.values(),
            starts,
            ends,
            flag_column("cancelled", self.raw(_CANCELLED)),
            resource_name,
            *literals,
            *(self.text(name, self.raw(path)) for name, path in self.sources.items()),
        ]
        ids = id_column("booking_id", self.raw("id"))
        generation = pl.when(pl.col("range_start").is_null() & pl.col("range_finish").is_null())
        return pl.DataFrame([self._rows(), ids, self._faults(ids), *columns]).select(
            "row",
            "booking_id",
            "fault",
            generation.then(pl.lit("A")).otherwise(pl.lit("B")).alias("generation"),
            *(series.name for series in columns),
        )

    def _rows(self) -> pl.Series:
        return pl.int_range(self._size, dtype=pl.UInt32, eager=True).alias("row")

    def _faults(self, ids: pl.Series) -> pl.Series:
        found = self.payloads.faults
        codes: list[str | None] = [None] * self._size
        for index, code in found.items():
            codes[index] = code
        for index in self.broken:
            codes[index] = codes[index] or reasons.LONE_SURROGATE
        if ids.null_count():
            for index in ids.is_null().arg_true():
                codes[index] = codes[index] or reasons.BOOKING_ID_INVALID
        return pl.Series("fault", codes, dtype=pl.String)

    def _filled(self, series: pl.Series, paths: tuple[str, ...]) -> pl.Series:
        """Fill a resource's or project's missing display form from its name, or from the plain text given."""
        for path in paths:
            if not series.null_count():
                break
            series = series.zip_with(series.is_not_null(), self.text(series.name, self.raw(path)))
        return series

    def _ranges(self, formatted_names: pl.Series) -> tuple[pl.Series, pl.Series]:
        """Return start and end of ``dateRange`` for the rows whose ``formattedName`` holds no times."""
        wanted = ~formatted_names.str.starts_with("[").fill_null(value=False)
        if not wanted.any():
            nothing = pl.Series("range_start", [None] * self._size, dtype=pl.String)
            return nothing, nothing.alias("range_finish")
        start = self.text("range_start", self.raw(_START))
        end = self.text("range_finish", self.raw(_ENDS[0]))
        end = self._filled(end, _ENDS[1:])
        return start.set(~wanted, None), end.set(~wanted, None)
