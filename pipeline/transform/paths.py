"""Where a value stands in a booking, and what its id may be: the one look-up of the client and of the columns.

A dotted path is looked up at the top level, nested and as one flat key, then the same below ``properties``. A leading
``properties.`` is looked up there first, and then at the top level, so that it also finds flat answers. The first
value that is not null counts.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, NamedTuple

JsonObject = dict[str, Any]

UNDER: Final = "properties."
HIDDEN: Final = "<Hidden>"
"""What Calpendo writes in place of a field that the account may not read."""
MAX_ID: Final = 2**53 - 1
"""Calpendo's ids are JavaScript's safe integers (the vendor's API pages)."""

_PROPERTIES: Final = UNDER.removesuffix(".")
_MISSING: Final = object()


class Place(NamedTuple):
    """One place where a path may stand: below ``properties`` or at the top, and the keys from there."""

    in_properties: bool
    keys: tuple[str, ...]

    @property
    def whole(self) -> tuple[str, ...]:
        """Return the keys from the top."""
        return (_PROPERTIES, *self.keys) if self.in_properties else self.keys


@lru_cache(maxsize=256)
def places(path: str) -> tuple[Place, ...]:
    """Return the places of a path in the order in which they are looked at."""
    plain = path.removeprefix(UNDER)
    top = (Place(False, tuple(plain.split("."))), Place(False, (plain,)))
    below = (Place(True, tuple(plain.split("."))), Place(True, (plain,)))
    if plain == path:
        return tuple(dict.fromkeys(top + below))
    return tuple(dict.fromkeys((below[0], Place(False, (path,)), *top, below[1])))


def find(booking: JsonObject, path: str) -> tuple[bool, Any]:
    """Look a path up in one booking or row of a list.

    Returns:
        Whether the path's key stands in any of its places, be its value null, and the first value that is not null.
    """
    is_there = False
    for place in places(path):
        value = _at(booking, place)
        if value is not _MISSING:
            if value is not None:
                return True, value
            is_there = True
    return is_there, None


def value_at(booking: JsonObject, path: str) -> Any:
    """Return a path's value, None where there is none or the account may not read it."""
    value = find(booking, path)[1]
    return None if value == HIDDEN else value


def stands_at(booking: JsonObject, place: Place) -> bool:
    """Return whether a booking has a place's last key, be its value null."""
    return _at(booking, place) is not _MISSING


def _at(booking: JsonObject, place: Place) -> Any:
    """Return what stands at one place of a booking, a mark of its own where nothing does."""
    value: Any = booking
    for key in place.whole:
        if not isinstance(value, dict):
            return _MISSING
        value = value.get(key, _MISSING)
    return value


def booking_id(value: object) -> int | None:
    """Return a usable id, a whole number from 1 to 2^53-1, else None; a bool, a float or a text is none."""
    return value if type(value) is int and 0 < value <= MAX_ID else None
