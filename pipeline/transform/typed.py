"""JSON texts of ordinary bookings -> columns by path, through typed records; whatever is out of the ordinary is left.

Most bookings hold what is wanted where it usually stands, and as the type it usually has. Such a text is decoded in one
step into a record, without making the objects that nobody asks for. A text with anything else (another type, a value in
another of the ``places`` of a path, no JSON at all) is left to the general way, which takes everything. What is read
here means exactly what it would have meant there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from types import NoneType
from typing import Annotated, Any, Final, TypeAlias, cast

import msgspec
import polars as pl
from msgspec import NODEFAULT, Meta, Struct, UnsetType

from pipeline.transform.cells import MAX_ID, as_texts
from pipeline.transform.fields import UNDER, Place, places

Kind: TypeAlias = Any
"""What msgspec takes for a type: a class or a union of them."""
Way: TypeAlias = tuple[str, ...]
"""Names of attributes, from a record down to an object or a value."""

IDENTIFIER: Final[Kind] = Annotated[int, Meta(ge=1, le=MAX_ID)]
"""A booking's id, which must stand at the path's first place."""
FLAG: Final[Kind] = bool | None
TEXT: Final[Kind] = str | None
TEXT_NOT_NULL: Final[Kind] = str
"""A text that may be missing, but not null."""
TEXT_OR_NUMBER: Final[Kind] = str | int | None

_NOTHING: Final[Kind] = UnsetType
"""The type of a key at which no value may stand: no JSON value is of it."""
_DTYPES: Final = {IDENTIFIER: pl.Int64, FLAG: pl.Boolean}
_REFUSALS = (msgspec.DecodeError, UnicodeError, RecursionError)
_AT_ONCE: Final = 1000
"""Values that become columns together: few enough that their objects are still in the processor's cache."""


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

    def way(self, keys: Sequence[str]) -> Way | None:
        """Return the attributes that lead a record to the value there, None where none can stand."""
        node, attributes = self, []
        for key in keys:
            if not isinstance(node, _Node):
                return None
            attributes.append(f"f{list(node.children).index(key)}")
            node = node.children[key]
        return None if isinstance(node, _Node) or node is _NOTHING else tuple(attributes)

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
                fields.append((name, child, NODEFAULT if child is IDENTIFIER else None))
        keys = {f"f{number}": key for number, key in enumerate(self.children)}
        return msgspec.defstruct("Record", fields, rename=keys, frozen=True, eq=False, gc=False, kw_only=True)


class TypedReader:
    """Decodes texts into records that hold the values of some paths, each with the type it usually has.

    ``kinds``: path -> type. Where two paths meet in one place, the type of the first counts.
    """

    def __init__(self, kinds: dict[str, Kind]) -> None:
        tree = _Node()
        for path, kind in kinds.items():
            for place in _usual_places(path, kind):
                tree.plant(_keys(place), kind)
        for path, kind in kinds.items():
            for place in _places(path, kind):
                tree.forbid(_keys(place))
        self.kinds = kinds
        self.ways = {path: _ways(tree, path, kind) for path, kind in kinds.items()}
        self.is_mixed = {path: kind is TEXT_OR_NUMBER for path, kind in kinds.items()}
        self.empty: dict[Way, Struct] = {}
        self._decode: Callable[[str | bytes], Struct] = msgspec.json.Decoder(tree.record(self.empty)).decode
        stations = {
            way[:length] for ways in self.ways.values() for way in ways for length in range(1, len(way) + 1)
        }
        self.getters = {way: _getter(way[-1]) for way in stations}

    def read(self, texts: Sequence[object]) -> tuple[list[Struct], list[int]]:
        """Return the records of the ordinary texts, in order, and the indices of those that are left."""
        records: list[Struct] = []
        left: list[int] = []
        remaining = iter(_utf8_texts(texts))
        while len(records) + len(left) < len(texts):
            try:
                records.extend(map(self._decode, remaining))  # keeps what came before a refusal
            except _REFUSALS:
                left.append(len(records) + len(left))
        return records, left


class TypedColumns:
    """The values of a reader's records, one column a path, null where nothing stands or null does.

    Texts and numbers are String, flags Boolean, ids Int64.
    """

    def __init__(self, reader: TypedReader) -> None:
        self._reader = reader
        self._size = 0
        self._values: dict[str, list[Any]] = {path: [] for path in reader.kinds}
        self._frames: list[pl.DataFrame] = []

    def add(self, records: list[Struct]) -> None:
        """Add the records' values."""
        walk = _Walk(self._reader, records)
        for path, values in self._values.items():
            values += walk.column(path)
        self._size += len(records)
        if self._size >= _AT_ONCE:
            self._make_columns()

    def frame(self) -> pl.DataFrame:
        """Return all values added so far."""
        self._make_columns()
        return pl.concat(self._frames, rechunk=True)

    def _make_columns(self) -> None:
        self._frames.append(
            pl.DataFrame(
                {path: _series(self._values[path], kind) for path, kind in self._reader.kinds.items()}
            )
        )
        self._values = {path: [] for path in self._reader.kinds}
        self._size = 0


class _Walk:
    """One walk through some records, each object and value taken once."""

    def __init__(self, reader: TypedReader, records: list[Struct]) -> None:
        self._reader = reader
        self._nothing = [None] * len(records)
        self._objects: dict[Way, list[Struct] | None] = {(): records}

    def column(self, path: str) -> list[Any]:
        """Return the path's value in each record, None where it is null or missing everywhere."""
        values = self._nothing
        for way in self._reader.ways[path]:
            if values is self._nothing:
                values = self._values(way)
            elif None in values:
                more = self._values(way)
                values = [
                    other if value is None else value for value, other in zip(values, more, strict=True)
                ]
        return as_texts(values, set(map(type, values))) if self._reader.is_mixed[path] else values

    def _values(self, way: Way) -> list[Any]:
        objects = self._at(way[:-1])
        return self._nothing if objects is None else self._reader.getters[way](objects)

    def _at(self, way: Way) -> list[Struct] | None:
        """Return the objects at the end of a way, an empty one where a booking has none; None where no booking has."""
        if way not in self._objects:
            found = self._values(way)
            kinds = set(map(type, found))
            if NoneType in kinds:
                empty = self._reader.empty[way]
                found = [empty if item is None else item for item in found]
            self._objects[way] = None if kinds == {NoneType} else found
        return self._objects[way]


def _series(values: list[Any], kind: Kind) -> pl.Series:
    """Return the values as a column; where there is none, polars would look at one after the other for a type."""
    dtype = _DTYPES.get(kind, pl.String)
    if values and values[0] is None and values.count(None) == len(values):
        return pl.Series([None], dtype=dtype).new_from_index(0, len(values))
    return pl.Series(values, dtype=dtype)


@lru_cache(maxsize=32)
def typed_reader(kinds: tuple[tuple[str, Kind], ...]) -> TypedReader:
    """Return the reader for these paths and types, made once."""
    return TypedReader(dict(kinds))


def _getter(name: str) -> Callable[[list[Struct]], list[Any]]:
    """Return a function that takes an attribute from each of some objects.

    Written out as source, one for each way: the interpreter then learns where the attribute lies, and a loop takes half
    of the time of ``map(attrgetter(name), objects)``.
    """
    source = f"lambda objects: [item.{name} for item in objects]"
    return cast("Callable[[list[Struct]], list[Any]]", eval(source))  # noqa: S307  of "f" and a number


def _places(path: str, kind: Kind) -> tuple[Place, ...]:
    """Return where the general way looks; behind an id, which cannot be missing, nowhere."""
    return places(path)[:1] if kind is IDENTIFIER else places(path)


def _usual_places(path: str, kind: Kind) -> tuple[Place, ...]:
    """Return where a server puts it: nested, below ``properties`` where the path says so, else at the top or below."""
    keys = tuple(path.removeprefix(UNDER).split("."))
    usual = (Place(True, keys),) if path.startswith(UNDER) else (Place(False, keys), Place(True, keys))
    return tuple(place for place in usual if place in _places(path, kind))


def _ways(tree: _Node, path: str, kind: Kind) -> tuple[Way, ...]:
    return tuple(way for place in _places(path, kind) if (way := tree.way(_keys(place))) is not None)


def _keys(place: Place) -> tuple[str, ...]:
    return (UNDER.removesuffix("."), *place.keys) if place.in_properties else place.keys


def _utf8_texts(given: Sequence[object]) -> Sequence[str | bytes]:
    """Return the texts, an empty one, which is no JSON, for what is no text or no UTF-8: msgspec would pass over it."""
    kinds = set(map(type, given))
    if kinds == {str} or (kinds == {bytes} and _are_utf8(given)):
        return cast("Sequence[str | bytes]", given)
    return [item if type(item) is str or (type(item) is bytes and _is_utf8(item)) else "" for item in given]


def _are_utf8(texts: Sequence[object]) -> bool:
    """Tell whether all texts are UTF-8; polars looks without making Python's own text of them."""
    try:
        pl.Series(texts, dtype=pl.Binary).cast(pl.String)
    except pl.exceptions.PolarsError:
        return False
    return True


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
