"""How the simulated server writes a booking: details of either generation, list rows, and ``?paths=`` rows."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from datetime import datetime, tzinfo
from typing import Any, Literal

import pytz

from pipeline.calpendo.simulator_records import SUBTYPE_FIELDS, booking_range, is_generation_b, raw_value

Generation = Literal["A", "B"]
PathsShape = Literal["flat", "nested", "properties"]


def as_generation(payload: dict[str, Any], generation: Generation | None, zone: tzinfo) -> dict[str, Any]:
    """Rewrite a payload as generation A or B; None leaves it as it is stored.

    What cannot be moved (properties that are no object, an unreadable range) stays odd, in the place where the
    other generation would hold it, so that a malformed booking is still a malformed booking.
    """
    if generation is None or not isinstance(payload.get("properties"), dict):
        return payload
    if is_generation_b(payload) == (generation == "B"):
        return payload
    return _to_b(payload, zone) if generation == "B" else _to_a(payload, zone)


def detail(payload: dict[str, Any], biskit_type: str) -> dict[str, Any]:
    """Give one booking's answer; fields of a subtype show only where the URL names that subtype."""
    if biskit_type != "Calpendo.Booking":
        return payload
    shown = {key: value for key, value in payload.items() if key not in SUBTYPE_FIELDS}
    properties = shown.get("properties")
    if isinstance(properties, dict) and not SUBTYPE_FIELDS.isdisjoint(properties):
        shown["properties"] = {key: value for key, value in properties.items() if key not in SUBTYPE_FIELDS}
    return shown


def list_row(payload: dict[str, Any]) -> dict[str, Any]:
    """Give the few fields that a query without ``paths`` shows; absent ones stay absent."""
    row: dict[str, Any] = {"id": payload["id"]} if "id" in payload else {}
    for key in ("formattedName", "title", "status", "biskitType", "created"):
        properties = payload.get("properties")
        if key in payload:
            row[key] = payload[key]
        elif isinstance(properties, dict) and key in properties:
            row[key] = properties[key]
    return row


def path_row(
    payload: dict[str, Any],
    paths: Sequence[str],
    shape: PathsShape,
    start: datetime | None,
    finish: datetime | None,
) -> dict[str, Any]:
    """Give the id and the fields asked for, flat, nested, or nested under ``properties``."""
    row: dict[str, Any] = {"id": payload.get("id")}
    holder: dict[str, Any] = {}
    for path in paths:
        value = _path_value(payload, path, start, finish)
        if path == "id":
            continue
        if shape == "flat":
            row[path] = value
            continue
        level = holder
        *parents, last = path.removeprefix("properties.").split(".")
        for parent in parents:
            inner = level.setdefault(parent, {})
            if not isinstance(inner, dict):
                inner = level[parent] = {}
            level = inner
        level[last] = value
    if shape == "nested":
        row |= holder
    elif shape == "properties":
        row["properties"] = holder
    return row


def java_time(moment: datetime) -> str:
    """Write a wall-clock time as Java's Timestamp prints it: at least one digit of fraction."""
    fraction = f"{moment.microsecond:06d}".rstrip("0") or "0"
    return f"{moment:%Y-%m-%d %H:%M:%S}.{fraction}"


def _path_value(payload: dict[str, Any], path: str, start: datetime | None, finish: datetime | None) -> Any:
    value = raw_value(payload, path)
    if value is not None or not path.startswith("dateRange."):
        return value
    moment = start if path == "dateRange.start" else finish
    return None if moment is None else moment.isoformat()


def _to_a(payload: dict[str, Any], zone: tzinfo) -> dict[str, Any]:
    moved = copy.deepcopy(payload)
    properties = moved["properties"]
    start, finish = booking_range(moved, zone)
    for key in ("title", "status"):
        if key in properties:
            moved.setdefault(key, properties.pop(key))
    if start is None or finish is None:
        moved["formattedName"] = f"[{_odd(properties['dateRange'])}]"
    else:
        moved["formattedName"] = f"[{java_time(start)}, {java_time(finish)}]"
        del properties["dateRange"]
    return moved


def _to_b(payload: dict[str, Any], zone: tzinfo) -> dict[str, Any]:
    moved = copy.deepcopy(payload)
    properties = moved["properties"]
    for key in ("title", "status"):
        if key in moved:
            properties[key] = moved.pop(key)
    start, finish = booking_range(moved, zone)
    name = moved.pop("formattedName", None)
    number = moved.get("id")
    number = number if isinstance(number, int) else 0
    if start is None or finish is None:
        properties["dateRange"] = name
    else:
        last = "finish" if number % 2 else "end"
        properties["dateRange"] = {
            "start": _iso(start, number % 3, zone),
            last: _iso(finish, number % 3, zone),
        }
    return moved


def _iso(moment: datetime, variant: int, zone: tzinfo) -> str:
    """Write ISO 8601 with Z, with an offset, or naive; a wall-clock time that does not exist stays naive."""
    try:
        aware = zone.localize(moment, is_dst=False)  # type: ignore[attr-defined]
        if variant == 0 or aware.astimezone(pytz.utc).astimezone(zone).replace(tzinfo=None) != moment:
            return moment.isoformat()
        if variant == 1:
            return f"{aware.astimezone(pytz.utc).replace(tzinfo=None).isoformat()}Z"
        return str(aware.isoformat())
    except OverflowError:
        return moment.isoformat()


def _odd(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(str(value.get(key)) for key in value)
    return str(value)
