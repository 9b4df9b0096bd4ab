"""Bookings as JSON texts -> the columns of the bookings frame, without the objects that nobody asks for.

Most bookings hold what is wanted where it usually stands, and as the type it usually has. Such a text is decoded in one
step into a record of these values. A text with anything else (another type, a value in another of the ``places`` of a
path, no JSON at all) is left, to be ``parsed`` and read as an object. What is read here means exactly what it would
have meant there: the properties over any JSON hold both together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from operator import attrgetter
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import msgspec
import polars as pl
from msgspec import NODEFAULT, Meta, Struct, UnsetType

from pipeline.transform import booking_hash
from pipeline.transform.json_values import HIDDEN, MAX_ID, REFUSALS, UNDER, Place, Text, places
from pipeline.transform.read_objects import (
    CANCELLED,
    FALLBACKS,
    HASHED,
    ID,
    RANGES,
    TEXTS,
    as_flags,
    as_texts,
    no_texts,
    none_undecodable,
    source_columns,
)

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig

Kind: TypeAlias = Any
"""What msgspec takes for a type: a class or a union of them."""
Way: TypeAlias = tuple[str, ...]
"""Names of attributes, from a record down to an object or a value."""

_IDENTIFIER: Final[Kind] = Annotated[int, Meta(ge=1, le=MAX_ID)]
"""A booking's id, which must stand at the path's first place."""
_FLAG: Final[Kind] = bool | None
_TEXT: Final[Kind] = str | None
_HASHED_TEXT: Final[Kind] = str
"""A text that may be missing, but not null: there the hash differs, which a column hides."""
_TEXT_OR_NUMBER: Final[Kind] = str | int | None
_NOTHING: Final[Kind] = UnsetType
"""The type of a key at which no value may stand: no JSON value is of it."""

_CANCELLED_FLAG: Final = "flag:cancelled"
_AT_ONCE: Final = 1000
"""Values that become columns together: few enough that their objects are still in the processor's cache."""


class TextReader:
    """Decodes ordinary texts into columns, part by part."""

    def __init__(self, config: PipelineConfig) -> None:
        self._sources = source_columns(config)
        self._form = _record_form(tuple(self._sources.values()))
        self._ids: list[int] = []
        self._cancelled: list[bool | None] = []
        self._texts: dict[str, list[str | None]] = {path: [] for path in self._form.texts}
        self._frames: list[pl.DataFrame] = []
        self._is_tried = True

    def add(self, texts: Sequence[Text]) -> Sequence[int]:
        """Add the rows of the ordinary texts, in order; return the indices of those that are left."""
        if not self._is_tried:
            return range(len(texts))
        records: list[Struct] = []
        left: list[int] = []
        remaining = iter(texts)
        while len(records) + len(left) < len(texts):
            try:
                records.extend(map(self._form.decode, remaining))  # keeps what came before a refusal
            except REFUSALS:
                left.append(len(records) + len(left))
        # Where none is ordinary the texts are of another kind, and trying would only cost time.
        self._is_tried = bool(records)
        walk = _Walk(self._form, records)
        self._ids += walk.values(ID)
        flags = walk.values(CANCELLED)
        self._cancelled += as_flags(flags, set(map(type, flags)))
        for path, found in self._texts.items():
            found += walk.texts(path)
        if len(self._ids) >= _AT_ONCE:
            self._make_columns()
        return left

    def columns(self) -> dict[str, pl.Series]:
        """Return all rows added so far, one column a name."""
        self._make_columns()
        values = pl.concat(self._frames, rechunk=True)
        texts = _without_hidden(values.drop(_CANCELLED_FLAG).with_columns(pl.col(ID).cast(pl.String)))
        columns = {name: texts[path] for name, path in (TEXTS | self._sources).items()}
        literals = {
            booking_hash.literal_column(name): _literals(values[path], columns[name])
            for name, path in HASHED.items()
        }
        for name, paths in FALLBACKS.items():
            columns[name] = _first((columns[name], *(texts[path] for path in paths)))
        ranges = {name: _first(texts[path] for path in paths) for name, paths in RANGES.items()}
        if any(series.null_count() < len(series) for series in ranges.values()):
            holds_times = columns["formatted_name"].str.starts_with("[").fill_null(value=False)
            ranges = {name: series.set(holds_times, None) for name, series in ranges.items()}
        return {
            **columns,
            **ranges,
            **literals,
            "booking_id": values[ID],
            "cancelled": values[_CANCELLED_FLAG],
            "fault": no_texts(len(values)),
            "undecodable": none_undecodable(len(values)),
        }

    def _make_columns(self) -> None:
        texts = {path: _text_series(found) for path, found in self._texts.items()}
        ids = pl.Series(self._ids, dtype=pl.Int64)
        flags = pl.Series(self._cancelled, dtype=pl.Boolean)
        self._frames.append(pl.DataFrame({ID: ids, _CANCELLED_FLAG: flags, **texts}))
        self._ids, self._cancelled, self._texts = [], [], {path: [] for path in self._texts}


class _Node:
    """An object of the usual booking: JSON key -> the object below it, or the type of the value there."""

    def __init__(self) -> None:
        self.children: dict[str, _Node | Kind] = {}

    def plant(self, keys: Sequence[str], kind: Kind) -> None:
        """Let a value of this type stand there; what was planted before stays."""
        node = self
        for key in keys[:-1]:
            child = node.children.setdefault(key, _Node())
            if not isinstance(child, _Node):
                return
            node = child
        node.children.setdefault(keys[-1], kind)

    def forbid(self, keys: Sequence[str]) -> None:
        """Let nothing stand there, unless it was planted: at the first key that no usual value has on its way."""
        node = self
        for key in keys:
            child = node.children.setdefault(key, _NOTHING)
            if not isinstance(child, _Node):
                return
            node = child

    def leaf(self, keys: Sequence[str]) -> tuple[Way, Kind] | None:
        """Return the attributes that lead a record to the value there and its type, None where none can stand."""
        node: _Node | Kind = self
        attributes = []
        for key in keys:
            if not isinstance(node, _Node):
                return None
            attributes.append(f"f{list(node.children).index(key)}")
            node = node.children[key]
        return None if isinstance(node, _Node) or node is _NOTHING else (tuple(attributes), node)

    def record(self, empty: dict[Way, Struct], here: Way = ()) -> type[Struct]:
        """Return the class of the records; note in ``empty`` what to take for each object that a booking lacks."""
        fields: list[tuple[str, Any, Any]] = []
        for number, child in enumerate(self.children.values()):
            name = f"f{number}"
            if isinstance(child, _Node):
                below = child.record(empty, (*here, name))
                empty[(*here, name)] = below()
                fields.append((name, below | None, None))
            else:
                fields.append((name, child, NODEFAULT if child is _IDENTIFIER else None))
        keys = {f"f{number}": key for number, key in enumerate(self.children)}
        return msgspec.defstruct("Record", fields, rename=keys, frozen=True, eq=False, gc=False, kw_only=True)


class _RecordForm:
    """The record of the usual booking: which values it holds, of which types, and where in it they stand.

    Where two paths meet in one place, the type of the first counts.
    """

    def __init__(self, kinds: dict[str, Kind], texts: Iterable[str]) -> None:
        tree = _Node()
        for path, kind in kinds.items():
            for place in _usual_places(path, kind):
                tree.plant(place.whole, kind)
        for path, kind in kinds.items():
            for place in _places(path, kind):
                tree.forbid(place.whole)
        leaves = {
            path: [leaf for place in _places(path, kind) if (leaf := tree.leaf(place.whole))]
            for path, kind in kinds.items()
        }
        self.ways = {path: [way for way, _ in found] for path, found in leaves.items()}
        self.texts = [path for path in texts if path != ID]
        self.is_text = {
            path: all(kind in (_TEXT, _HASHED_TEXT) for _, kind in found) for path, found in leaves.items()
        }
        self.empty: dict[Way, Struct] = {}
        self.decode: Callable[[Text], Struct] = msgspec.json.Decoder(tree.record(self.empty)).decode


class _Walk:
    """One walk through some records, each object and value taken once."""

    def __init__(self, form: _RecordForm, records: list[Struct]) -> None:
        self._form = form
        self._nothing = [None] * len(records)
        self._objects: dict[Way, list[Struct] | None] = {(): records}

    def values(self, path: str) -> list[Any]:
        """Return the path's value in each record, None where it is null or missing everywhere."""
        values: list[Any] = self._nothing
        for way in self._form.ways[path]:
            if values is self._nothing:
                values = self._at(way)
            elif None in values:
                more = self._at(way)
                values = [
                    other if value is None else value for value, other in zip(values, more, strict=True)
                ]
        return values

    def texts(self, path: str) -> list[str | None]:
        """Return the path's values as text, ``<Hidden>`` among them where all are text."""
        values = self.values(path)
        return values if self._form.is_text[path] else as_texts(values, set(map(type, values)))

    def _at(self, way: Way) -> list[Any]:
        objects = self._objects_at(way[:-1])
        return self._nothing if objects is None else list(map(attrgetter(way[-1]), objects))

    def _objects_at(self, way: Way) -> list[Struct] | None:
        """Return the objects at the end of a way, an empty one where a booking has none; None where no booking has."""
        if way not in self._objects:
            found = self._at(way)
            kinds = set(map(type, found))
            if NoneType in kinds:
                empty = self._form.empty[way]
                found = [empty if item is None else item for item in found]
            self._objects[way] = None if kinds == {NoneType} else found
        return self._objects[way]


@lru_cache(maxsize=32)
def _record_form(sources: tuple[str, ...]) -> _RecordForm:
    """Return the form of the records where these paths are mapped, made once.

    What enters the hash comes first and is a text, never a number: the hash would differ. (A number is left.)
    """
    texts = (*TEXTS.values(), *(path for paths in (FALLBACKS | RANGES).values() for path in paths))
    kinds = {ID: _IDENTIFIER, CANCELLED: _FLAG, **dict.fromkeys(HASHED.values(), _HASHED_TEXT)}
    for path in texts:
        kinds.setdefault(path, _TEXT)
    hashed = {place for path in HASHED.values() for place in places(path)}
    for path in sources:
        kinds.setdefault(path, _TEXT_OR_NUMBER if hashed.isdisjoint(places(path)) else _TEXT)
    return _RecordForm(kinds, dict.fromkeys((*texts, *sources)))


def _places(path: str, kind: Kind) -> tuple[Place, ...]:
    """Return where a path is looked up; behind an id, which cannot be missing, nowhere."""
    return places(path)[:1] if kind is _IDENTIFIER else places(path)


def _usual_places(path: str, kind: Kind) -> tuple[Place, ...]:
    """Return where a server puts it: nested, below ``properties`` where the path says so, else at the top or below."""
    keys = tuple(path.removeprefix(UNDER).split("."))
    usual = (Place(True, keys),) if path.startswith(UNDER) else (Place(False, keys), Place(True, keys))
    return tuple(place for place in usual if place in _places(path, kind))


def _text_series(values: list[str | None]) -> pl.Series:
    """Return the values as a column; where there is none, polars would look at one after the other for a type."""
    if values and values[0] is None and values.count(None) == len(values):
        return no_texts(len(values))
    return pl.Series(values, dtype=pl.String)


def _without_hidden(texts: pl.DataFrame) -> pl.DataFrame:
    """Return the texts with null for ``<Hidden>``."""
    hidden = texts.select((pl.all() == HIDDEN).any()).row(0, named=True)
    # Looked at together, replaced one by one: hardly any site hides a field.
    return texts.with_columns(
        texts[path].set(texts[path] == HIDDEN, None) for path in texts.columns if hidden[path]
    )


def _literals(values: pl.Series, texts: pl.Series) -> pl.Series:
    """Return the JSON of what is no plain text: a missing value, or a hidden one. (None of them is null.)"""
    if texts.null_count() == 0:
        return no_texts(len(texts))
    written = [None, booking_hash.literal(None, is_null=False), booking_hash.literal(HIDDEN, is_null=False)]
    which = texts.is_null().cast(pl.UInt32) + (texts.is_null() & values.is_not_null()).cast(pl.UInt32)
    return pl.Series(written, dtype=pl.String).gather(which)


def _first(columns: Iterable[pl.Series]) -> pl.Series:
    """Return, row by row, the first text there is."""
    first, *others = columns
    for other in others:
        if first.null_count() and other.null_count() < len(other):
            first = first.zip_with(first.is_not_null(), other)
    return first
