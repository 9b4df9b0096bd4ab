"""Bookings as objects -> the columns of the bookings frame: no type, place or fault is unexpected here (T008, T014).

Values become text as Python's ``str()`` writes them; null, missing keys, objects, lists and ``<Hidden>`` become null.
The objects are read part by part, column by column, so that those of one part stay in the processor's cache.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from operator import itemgetter
from types import NoneType
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from pipeline.fields import BOOKING, SOURCE
from pipeline.transform import booking_hash, reasons
from pipeline.transform.json_values import HIDDEN, MAX_ID, JsonObject, Place, booking_id, places, stands_at

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig

_FIELDS: Final = {field.column: field for field in BOOKING}
ID: Final = _FIELDS["booking_id"].paths[0]
CANCELLED: Final = _FIELDS["cancelled"].paths[0]
TEXTS: Final = {
    field.column: field.paths[0] for field in BOOKING if field.usual == "text" and not field.is_range
}
FALLBACKS: Final = {name: others for name in TEXTS if (others := _FIELDS[name].paths[1:])}
"""Where a text is taken from, in this order, when its own path has none."""
RANGES: Final = {field.column: field.paths for field in BOOKING if field.is_range}
HASHED: Final = {field.column: field.paths[0] for field in BOOKING if field.hashed}

UNDECODABLE: Final = pl.List(pl.String)
NOTHING: Final[JsonObject] = {}
"""Stands for a payload that is no object."""

_HALVES: Final = re.compile("[\ud800-\udfff]")
_BYTES: Final = re.compile("[\udc80-\udcff]")
"""What bytes become that cannot be decoded."""
_TEXT_KINDS: set[type] = {str, NoneType}
_FLAG_KINDS: set[type] = {bool, NoneType}
_FLAG_WORDS = {"true": True, "false": False}


def source_columns(config: PipelineConfig) -> dict[str, str]:
    """Return column name -> path for every distinct source of the mapping's rules."""
    return {f"{SOURCE}{rule.source}": rule.source for rule in config.rules}


def none_undecodable(size: int) -> pl.Series:
    """Return the column of those that lost characters, for rows in which none did."""
    return pl.Series([None], dtype=UNDECODABLE).new_from_index(0, size)


def no_texts(size: int) -> pl.Series:
    """Return a column of text without any."""
    return pl.Series([None], dtype=pl.String).new_from_index(0, size)


class ObjectReader:
    """Reads objects into columns, part by part.

    What only few rows have (a fallback, a literal of the hash, a fault) is kept by row.
    """

    def __init__(self, config: PipelineConfig) -> None:
        self._sources = source_columns(config)
        self._paths = tuple(dict.fromkeys((*TEXTS.values(), *self._sources.values())))
        self._size = 0
        self._ids: list[int | None] = []
        self._cancelled: list[bool | None] = []
        self._texts: dict[str, list[str | None]] = {path: [] for path in self._paths}
        self._ranges: dict[str, list[str | None]] = {name: [] for name in RANGES}
        self._sparse: dict[str, dict[int, str]] = defaultdict(dict)
        self._undecodable: dict[int, list[str]] = defaultdict(list)
        self._needed = {"formatted_name", "range_start"}.union(
            f"{SOURCE}{rule.source}" for rule in config.rules if rule.target == "patient_id"
        )

    def add(self, objects: Sequence[object], faults: dict[int, str] | None = None) -> None:
        """Add some objects' rows; ``faults`` are the reasons of those that are none, by index."""
        found = dict(faults or {})
        if found or set(map(type, objects)) != {dict}:
            for index, item in enumerate(objects):
                if not isinstance(item, dict):
                    found.setdefault(index, reasons.PAYLOAD_NOT_OBJECT)
        part = _Part([item if isinstance(item, dict) else NOTHING for item in objects])
        self._ids += as_ids(*part.raw(ID))
        self._cancelled += as_flags(*part.raw(CANCELLED))
        texts = {path: part.texts(path) for path in self._paths}
        for path in self._paths:
            self._texts[path] += texts[path]
        for name, paths in FALLBACKS.items():
            self._put(name, part.fills(texts[TEXTS[name]], paths))
        for name, ranges in part.ranges(texts[TEXTS["formatted_name"]]).items():
            self._ranges[name] += ranges
        for name, path in HASHED.items():
            self._put(booking_hash.literal_column(name), part.literals(path, texts[path]))
        self._put("fault", found)
        self._size += len(objects)

    def _put(self, name: str, found: dict[int, str]) -> None:
        if found:
            self._sparse[name].update((self._size + row, text) for row, text in found.items())

    def columns(self) -> dict[str, pl.Series]:
        """Return all rows added so far, one column a name."""
        columns = {
            "booking_id": pl.Series(self._ids, dtype=pl.Int64),
            "cancelled": pl.Series(self._cancelled, dtype=pl.Boolean),
        }
        by_path = {path: text_column(texts) for path, texts in self._texts.items()}
        for name, path in (TEXTS | self._sources).items():
            columns[name], faults = by_path[path]
            self._note(name, columns[name], faults)
        for name, texts in self._ranges.items():
            columns[name], faults = text_column(texts)
            self._note(name, columns[name], faults)
        for name in (*FALLBACKS, *map(booking_hash.literal_column, booking_hash.FIELDS)):
            columns[name] = self._filled(name, columns.get(name))
        for row in columns["booking_id"].is_null().arg_true():
            self._sparse["fault"].setdefault(row, reasons.BOOKING_ID_INVALID)
        undecodable = pl.Series(
            [self._undecodable.get(row) for row in range(self._size)] if self._undecodable else [],
            dtype=UNDECODABLE,
        )
        return columns | {
            "fault": self._filled("fault", None),
            "undecodable": undecodable if self._undecodable else none_undecodable(self._size),
        }

    def _note(self, name: str, series: pl.Series, faults: dict[int, str]) -> None:
        """Note the rows of a column whose text lost characters; identity and time are not taken from such a text."""
        for row, fault in faults.items():
            if name in self._needed and (name != "formatted_name" or series[row].startswith("[")):
                self._sparse["fault"].setdefault(row, fault)
            self._undecodable[row].append(name)

    def _filled(self, name: str, series: pl.Series | None) -> pl.Series:
        if series is None:
            series = no_texts(self._size)
        found = self._sparse[name]
        if not found:
            return series
        rows = list(found)
        texts, faults = text_column(list(found.values()))
        filled = series.clone().scatter(rows, texts)
        self._note(name, filled, {rows[place]: fault for place, fault in faults.items()})
        return filled


class _Part:
    """Some objects, and the values at a path in each of them, walked once a path."""

    def __init__(self, objects: list[JsonObject]) -> None:
        self.objects = objects
        below = [item.get("properties") for item in objects]
        self.properties = [item if isinstance(item, dict) else NOTHING for item in below]
        self._raw: dict[str, tuple[list[Any], set[type]]] = {}

    @cached_property
    def _keys(self) -> frozenset[object]:
        return frozenset().union(*self.objects)

    @cached_property
    def _property_keys(self) -> frozenset[object]:
        return frozenset().union(*self.properties)

    def raw(self, path: str) -> tuple[list[Any], set[type]]:
        """Return the values at the path, each as ``paths.find`` would return it, and their types."""
        if path not in self._raw:
            values = self._column(path)
            self._raw[path] = values, set(map(type, values))
        return self._raw[path]

    def _column(self, path: str) -> list[Any]:
        values: list[Any] | None = None
        for place in places(path):
            if place.keys[0] not in (self._property_keys if place.in_properties else self._keys):
                continue
            found = self._values(place)
            if values is None:
                values = found
            elif None in values:
                values = [
                    other if value is None else value for value, other in zip(values, found, strict=True)
                ]
        return [None] * len(self.objects) if values is None else values

    def _values(self, place: Place) -> list[Any]:
        """Walk one place down for all objects together: one pass a key, far faster than one walk an object."""
        head, *rest = place.keys
        values = _at(self.properties if place.in_properties else self.objects, head)
        for key in rest:
            if set(map(type, values)) == {dict}:
                values = _at(values, key)
            else:
                values = [value.get(key) if isinstance(value, dict) else None for value in values]
        return values

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
        if kinds == {str} and texts is values and is_whole("".join(values)):
            return {}
        place = places(path)[0]
        return {
            row: booking_hash.literal(value, is_null=value is None and stands_at(self.objects[row], place))
            for row, (value, text) in enumerate(zip(values, texts, strict=True))
            if text is None or not isinstance(value, str) or not is_whole(value)
        }


def _at(objects: list[JsonObject], key: str) -> list[Any]:
    try:
        return list(map(itemgetter(key), objects))
    except KeyError:
        return [item.get(key) for item in objects]


def as_texts(values: list[Any], kinds: set[type]) -> list[str | None]:
    """Return the values as text; ``kinds`` are their types, so that the usual cases need no look at each value."""
    if kinds <= _TEXT_KINDS:
        return values if HIDDEN not in values else [None if value == HIDDEN else value for value in values]
    if kinds == {int}:
        try:
            return list(map(str, values))
        except ValueError:  # more digits than Python writes out
            pass
    return [as_text(value) for value in values]


def as_text(value: Any) -> str | None:
    """Return one value as text, see the module's docstring."""
    if isinstance(value, str):
        return None if value == HIDDEN else str.__str__(value)
    if isinstance(value, (bool, int, float)):
        try:
            return str(value)
        except ValueError:
            return None
    return None


def as_ids(values: list[Any], kinds: set[type]) -> list[int | None]:
    """Return booking ids, None where a value is none (``paths.booking_id``)."""
    if kinds == {int} and min(values) > 0 and max(values) <= MAX_ID:
        return values
    return list(map(booking_id, values))


def as_flags(values: list[Any], kinds: set[type]) -> list[bool | None]:
    """Return truth values; the words true and false count in any case, anything else is None."""
    return values if kinds <= _FLAG_KINDS else [_as_flag(value) for value in values]


def _as_flag(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    return _FLAG_WORDS.get(value.strip().lower()) if isinstance(value, str) else None


def is_whole(text: str) -> bool:
    """Return whether a text holds no half of a surrogate pair."""
    return text.isascii() or _HALVES.search(text) is None


def text_column(texts: list[str | None]) -> tuple[pl.Series, dict[int, str]]:
    """Return the texts as a column, and the faults of those, by row, that hold halves of surrogate pairs.

    UTF-8 cannot carry these; they are left out of the column's text. The fault says whether a byte could not be decoded
    (``read_text.decoded``) or half of a pair arrived as such.
    """
    try:
        return pl.Series(texts, dtype=pl.String), {}
    except UnicodeEncodeError:
        pass
    whole = [text and _HALVES.sub("", text) for text in texts]
    faults = {
        row: reasons.TEXT_UNDECODABLE if _BYTES.search(text) else reasons.LONE_SURROGATE
        for row, (text, kept) in enumerate(zip(texts, whole, strict=True))
        if text is not None and text != kept
    }
    return pl.Series(whole, dtype=pl.String), faults
