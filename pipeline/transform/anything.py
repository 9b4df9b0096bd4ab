"""The bookings frame of any payloads at all: no type, place or fault is unexpected here (T008, T014).

The payloads are read part by part, column by column, and their objects dropped before the next are made.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from types import NoneType
from typing import TYPE_CHECKING, Any

import polars as pl

from pipeline.transform import booking_hash, reasons
from pipeline.transform.booking_fields import (
    CANCELLED,
    FALLBACKS,
    HASHED,
    ID,
    RANGES,
    TEXTS,
    no_texts,
    source_columns,
    text_paths,
    without_rows,
)
from pipeline.transform.cells import as_flags, as_ids, as_text, as_texts, text_column
from pipeline.transform.fields import column, places, stands_at
from pipeline.transform.payloads import Payload, Payloads, in_parts

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig

_INEXACT = {float}
_INEXACT_IN_HASH = {float, dict, list}


def any_bookings(payloads: Iterable[Payload], config: PipelineConfig) -> pl.DataFrame:
    """Return the bookings frame without ``row``."""
    sheet = _Sheet(config)
    for some in in_parts(payloads):
        sheet.add(Payloads(some))
    return sheet.frame()


class _Part:
    """Some payloads, and the values at a path in each of them, walked once a path."""

    def __init__(self, payloads: Payloads, paths: Iterable[str]) -> None:
        self.payloads = payloads
        self._raw: dict[str, tuple[list[Any], set[type]]] = {}
        self._keep_numbers_whole(paths)

    def raw(self, path: str) -> tuple[list[Any], set[type]]:
        """Return the values at the path and their types."""
        if path not in self._raw:
            values = column(self.payloads, path)
            self._raw[path] = values, set(map(type, values))
        return self._raw[path]

    def _keep_numbers_whole(self, paths: Iterable[str]) -> None:
        """Read anew what orjson may have rounded: rows with a float, or with an object that enters the hash."""
        rows: set[int] = set()
        for path in paths:
            values, kinds = self.raw(path)
            inexact = _INEXACT_IN_HASH if path in HASHED.values() else _INEXACT
            if not inexact.isdisjoint(kinds):
                rows.update(row for row, value in enumerate(values) if type(value) in inexact)
        if rows and self.payloads.exact(rows):
            self._raw.clear()

    def texts(self, path: str) -> list[str | None]:
        """Return the values at the path as text."""
        return as_texts(*self.raw(path))

    def fills(self, texts: list[str | None], paths: Sequence[str]) -> dict[int, str]:
        """Return, by row, the text of the first of the paths that has any, for rows where ``texts`` has none."""
        if None not in texts:
            return {}
        columns = [self.raw(path)[0] for path in paths]
        found = {}
        for row, text in enumerate(texts):
            if text is None:
                for values in columns:
                    if (other := as_text(values[row])) is not None:
                        found[row] = other
                        break
        return found

    def ranges(self, formatted_names: list[str | None]) -> dict[str, list[str | None]]:
        """Return start and end of ``dateRange``, None where ``formattedName`` holds the times."""
        nothing: list[str | None] = [None] * len(formatted_names)
        if all(self.raw(path)[1] == {NoneType} for paths in RANGES.values() for path in paths):
            return dict.fromkeys(RANGES, nothing)
        holds_times = [name is not None and name.startswith("[") for name in formatted_names]
        found = {}
        for name, (path, *others) in RANGES.items():
            texts = list(self.texts(path))
            for row, text in self.fills(texts, others).items():
                texts[row] = text
            found[name] = [None if held else text for held, text in zip(holds_times, texts, strict=True)]
        return found

    def literals(self, path: str, texts: list[str | None]) -> dict[int, str]:
        """Return the JSON of the hashed values that are no plain text, by row."""
        values, kinds = self.raw(path)
        if kinds == {str} and texts is values:
            return {}
        place = places(path)[0]
        return {
            row: booking_hash.literal(value, is_null=value is None and stands_at(self.payloads, row, place))
            for row, (value, text) in enumerate(zip(values, texts, strict=True))
            if text is None or not isinstance(value, str)
        }


class _Sheet:
    """Columns that grow part by part, as plain lists until all is read.

    ``texts`` has one list a path; what only few rows have (fills, hash literals, faults) is kept by row.
    """

    def __init__(self, config: PipelineConfig) -> None:
        self.config = config
        self.sources = source_columns(config)
        self.paths = text_paths(config)
        self.size = 0
        self.ids: list[int | None] = []
        self.cancelled: list[bool | None] = []
        self.texts: dict[str, list[str | None]] = {path: [] for path in self.paths}
        self.ranges: dict[str, list[str | None]] = {name: [] for name in RANGES}
        self.sparse: dict[str, dict[int, str]] = defaultdict(dict)

    def add(self, payloads: Payloads) -> None:
        """Add a part's rows."""
        part = _Part(payloads, (*self.paths, ID))
        self.ids += as_ids(*part.raw(ID))
        self.cancelled += as_flags(*part.raw(CANCELLED))
        texts = {path: part.texts(path) for path in self.paths}
        for path in self.paths:
            self.texts[path] += texts[path]
        for name, paths in FALLBACKS.items():
            self._add(name, part.fills(texts[TEXTS[name]], paths))
        for name, ranges in part.ranges(texts[TEXTS["formatted_name"]]).items():
            self.ranges[name] += ranges
        for name, path in HASHED.items():
            self._add(booking_hash.literal_column(name), part.literals(path, texts[path]))
        self._add("fault", payloads.faults)
        self.size += len(payloads)

    def _add(self, name: str, found: dict[int, str]) -> None:
        if found:
            self.sparse[name].update((self.size + row, text) for row, text in found.items())

    def frame(self) -> pl.DataFrame:
        """Return all rows added so far as the bookings frame."""
        columns = {
            "booking_id": pl.Series(self.ids, dtype=pl.Int64),
            "cancelled": pl.Series(self.cancelled, dtype=pl.Boolean),
        }
        by_path = {path: self._text_column(texts) for path, texts in self.texts.items()}
        columns |= {name: by_path[path] for name, path in (TEXTS | self.sources).items()}
        columns |= {name: self._text_column(texts) for name, texts in self.ranges.items()}
        for name in (*FALLBACKS, *map(booking_hash.literal_column, booking_hash.FIELDS)):
            columns[name] = self._filled(columns.get(name), self.sparse[name])
        for row in columns["booking_id"].is_null().arg_true():
            self.sparse["fault"].setdefault(row, reasons.BOOKING_ID_INVALID)
        columns["fault"] = self._filled(None, self.sparse["fault"])
        return without_rows(columns, self.config)

    def _text_column(self, texts: list[str | None], rows: Sequence[int] | None = None) -> pl.Series:
        """Return texts as a column; rows whose text cannot be carried get their fault."""
        series, torn = text_column(texts)
        for index in torn:
            self.sparse["fault"].setdefault(rows[index] if rows else index, reasons.LONE_SURROGATE)
        return series

    def _filled(self, series: pl.Series | None, found: dict[int, str]) -> pl.Series:
        if series is None:
            series = no_texts(self.size)
        rows = list(found)
        return series.clone().scatter(rows, self._text_column(list(found.values()), rows)) if rows else series
