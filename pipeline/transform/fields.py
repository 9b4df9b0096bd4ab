"""Where a dotted path stands in a booking: both payload generations, nested or flat.

A path is looked up at the top level, nested and as one flat key, then the same under ``properties``. A leading
``properties.`` is looked up there first, and then at the top level, so that it also finds flat answers. The first
value that is not null counts.
"""

from __future__ import annotations

from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from pipeline.transform.payloads import JsonObject, Payloads

UNDER = "properties."


class Place(NamedTuple):
    """One place a path may stand: below ``properties`` or at the top, and the keys from there."""

    in_properties: bool
    keys: tuple[str, ...]


@lru_cache(maxsize=256)
def places(path: str) -> tuple[Place, ...]:
    """Return the places of a path in the order they are looked at."""
    plain = path.removeprefix(UNDER)
    top = (Place(False, tuple(plain.split("."))), Place(False, (plain,)))
    below = (Place(True, tuple(plain.split("."))), Place(True, (plain,)))
    if plain == path:
        return tuple(dict.fromkeys(top + below))
    return tuple(dict.fromkeys((below[0], Place(False, (path,)), *top, below[1])))


def column(payloads: Payloads, path: str) -> list[Any]:
    """Return the path's value in each payload, None where it is null or missing everywhere."""
    values: list[Any] | None = None
    for place in places(path):
        if place.keys[0] not in (payloads.property_keys if place.in_properties else payloads.keys):
            continue
        if values is None:
            values = _values(payloads, place)
            continue
        roots = payloads.properties if place.in_properties else payloads.objects
        for index, value in enumerate(values):
            if value is None:
                values[index] = value_at(roots[index], place.keys)
    return [None] * len(payloads) if values is None else values


def _values(payloads: Payloads, place: Place) -> list[Any]:
    """Walk one place down for all payloads together: one pass a key, far faster than one walk a payload."""
    head, *rest = place.keys
    values = _at(payloads.properties if place.in_properties else payloads.objects, head)
    for key in rest:
        if set(map(type, values)) == {dict}:
            values = _at(values, key)
        else:
            values = [value.get(key) if isinstance(value, dict) else None for value in values]
    return values


def _at(objects: list[JsonObject], key: str) -> list[Any]:
    try:
        return list(map(itemgetter(key), objects))
    except KeyError:
        return [item.get(key) for item in objects]


def value_at(root: JsonObject, keys: tuple[str, ...]) -> Any:
    """Return the value below ``root``, None where a key is missing or something on the way is no object."""
    value: Any = root
    for key in keys:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def stands_at(payloads: Payloads, index: int, place: Place) -> bool:
    """Tell whether the last key of the place is there at all, be its value null."""
    root = (payloads.properties if place.in_properties else payloads.objects)[index]
    parent = value_at(root, place.keys[:-1])
    return isinstance(parent, dict) and place.keys[-1] in parent
