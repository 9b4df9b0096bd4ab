"""The bookings of the simulated server: stored as given, written in either generation, safe to change while they are read.

A record knows its payload, its place in time, and its fields by path; it is rendered once: details, list rows, and
``?paths=`` rows.
"""

from __future__ import annotations

import copy
import itertools
import re
import threading
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Any, Literal

import pytz

SUBTYPE_FIELDS = frozenset({"Operator", "operator"})
_MISSING = object()
_RANGE = re.compile(r"\[\s*([^,\]]+?)\s*,\s*([^,\]]+?)\s*\]")
_MOMENT = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})[T ](\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?\s*(Z|[+-]\d{2}:?\d{2})?",
    re.ASCII,
)


@dataclass(frozen=True)
class Record:
    """A stored booking; ``start`` and ``finish`` are the site's naive wall clock, None where unreadable."""

    payload: dict[str, Any]
    start: datetime | None
    finish: datetime | None
    zone: tzinfo

    @classmethod
    def of(cls, payload: dict[str, Any], zone: tzinfo) -> Record:
        """Read the booking's range, from either generation, whatever the payload holds."""
        start, finish = booking_range(payload, zone)
        return cls(payload, start, finish, zone)

    @property
    def biskit_type(self) -> str | None:
        """The booking's own type (``MRIScan``, ``Calpendo.Booking``, …)."""
        value = self.payload.get("biskitType")
        return value if isinstance(value, str) else None

    def field(self, path: str) -> object:
        """Give the value a query compares: datetimes for times, the operator's name, else the stored value."""
        if path == "dateRange.start":
            return self.start
        if path in {"dateRange.finish", "dateRange.end"}:
            return self.finish
        value = raw_value(self.payload, path)
        if path in {"created", "modified"} and isinstance(value, str):
            return wall_clock(value, self.zone) or value
        if path.split(".")[0] in SUBTYPE_FIELDS:
            return _plain_name(value)
        return value


def raw_value(payload: dict[str, Any], path: str) -> Any:
    """Walk a dotted path at the top level, then under ``properties``; None where nothing stands there.

    ``name`` and ``formattedName`` of an object stand for each other, as the list of a site shows only one.
    """
    path = path.removeprefix("properties.")
    if path.split(".")[0] in SUBTYPE_FIELDS:
        return _operator(payload)
    properties = payload.get("properties")
    for root in (payload, properties):
        value = _walk(root, path.split("."))
        if value is not _MISSING:
            return value
    return None


def wall_clock(text: object, zone: tzinfo) -> datetime | None:
    """Read a Java or ISO 8601 timestamp as the site's naive wall clock; None where it is not one."""
    if not isinstance(text, str):
        return None
    found = _MOMENT.fullmatch(text.strip())
    if not found:
        return None
    year, month, day, hour, minute, second, fraction, offset = found.groups()
    micro = int((fraction or "0")[:6].ljust(6, "0"))
    try:
        moment = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second or 0), micro)  # noqa: DTZ001
        if offset is None:
            return moment
        if offset == "Z":
            aware = pytz.utc.localize(moment)
        else:
            aware = datetime.fromisoformat(f"{moment.isoformat()}{offset}")
        return aware.astimezone(zone).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None


def range_texts(payload: dict[str, Any]) -> tuple[Any, Any]:
    """Give start and finish as the payload writes them: from ``formattedName``, else from ``dateRange``."""
    name = payload.get("formattedName")
    found = _RANGE.fullmatch(name.strip()) if isinstance(name, str) else None
    if found:
        return found.group(1), found.group(2)
    date_range = raw_value(payload, "dateRange")
    if not isinstance(date_range, dict):
        return None, None
    finish = date_range.get("finish")
    return date_range.get("start"), date_range.get("end") if finish is None else finish


def booking_range(payload: dict[str, Any], zone: tzinfo) -> tuple[datetime | None, datetime | None]:
    """Give start and finish as naive wall clock of ``zone``."""
    start, finish = range_texts(payload)
    return wall_clock(start, zone), wall_clock(finish, zone)


def is_generation_b(payload: dict[str, Any]) -> bool:
    """Tell whether the payload is of the newer generation: a ``dateRange`` under properties, no formattedName."""
    properties = payload.get("properties")
    return isinstance(properties, dict) and "dateRange" in properties and "formattedName" not in payload


def _walk(value: Any, steps: list[str]) -> Any:
    for depth, step in enumerate(steps):
        if not isinstance(value, dict):
            return _MISSING
        if step in value:
            value = value[step]
        elif depth and step == "name" and "formattedName" in value:
            value = value["formattedName"]
        elif depth and step == "formattedName" and "name" in value:
            value = value["name"]
        else:
            return _MISSING
    return value


def _operator(payload: dict[str, Any]) -> Any:
    properties = payload.get("properties")
    for root in (payload, properties):
        if isinstance(root, dict):
            for key in ("operator", "Operator"):
                if root.get(key) is not None:
                    value = root[key]
                    return value["name"] if isinstance(value, dict) and set(value) == {"name"} else value
    return None


def _plain_name(value: Any) -> Any:
    """Reduce the shapes an operator comes in to the name itself."""
    for _ in range(3):
        if not isinstance(value, dict):
            break
        value = next((value[key] for key in ("name", "formattedName", "Operator") if key in value), None)
    return value


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


class BookingStore:
    """Bookings by id, in the order in which they came; those without a usable id are kept beside the others."""

    def __init__(self, timezone: str, generation: Generation | None) -> None:
        self.zone = pytz.timezone(timezone)
        self._generation = generation
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._stored: dict[Hashable, tuple[dict[str, Any], Record]] = {}

    def __len__(self) -> int:
        """Count the stored bookings."""
        return len(self._stored)

    def put(self, payload: dict[str, Any]) -> None:
        """Store a booking, in place of the one with its id."""
        stored = copy.deepcopy(payload)
        number = stored.get("id")
        with self._lock:
            key = (
                number
                if isinstance(number, int) and not isinstance(number, bool)
                else f"row {next(self._numbers)}"
            )
            self._stored[key] = (stored, self._record(stored))

    def edit(self, booking_id: int, changes: dict[str, Any]) -> None:
        """Change fields of a booking and set its modification time; see ``CalpendoSimulator.edit``."""
        with self._lock:
            changed = copy.deepcopy(self._stored[booking_id][0])
            if "modified" not in changes:
                now = datetime.now(self.zone).replace(tzinfo=None)
                before = wall_clock(raw_value(changed, "modified"), self.zone) or datetime.min  # noqa: DTZ901
                changes = changes | {"modified": max(now, before + timedelta(milliseconds=1))}
            _apply(changed, copy.deepcopy(changes), self._record(changed))
            self._stored[booking_id] = (changed, self._record(changed))

    def delete(self, booking_id: int) -> None:
        """Take a booking away. Raises KeyError on an unknown id."""
        with self._lock:
            del self._stored[booking_id]

    def get(self, booking_id: int) -> dict[str, Any]:
        """Give a copy of a booking as stored. Raises KeyError on an unknown id."""
        with self._lock:
            return copy.deepcopy(self._stored[booking_id][0])

    def ids(self) -> list[int]:
        """Give the ids of all bookings that have one."""
        with self._lock:
            return [key for key in self._stored if isinstance(key, int)]

    def find(self, booking_id: int) -> Record | None:
        """Give one booking as it is rendered, or None."""
        with self._lock:
            entry = self._stored.get(booking_id)
        return None if entry is None else entry[1]

    def records(self) -> list[Record]:
        """Give all bookings as they are rendered; none of them changes any more."""
        with self._lock:
            return [record for _, record in self._stored.values()]

    def _record(self, stored: dict[str, Any]) -> Record:
        return Record.of(as_generation(stored, self._generation, self.zone), self.zone)


def _apply(payload: dict[str, Any], changes: dict[str, Any], record: Record) -> None:
    newer = is_generation_b(payload)
    properties = payload.get("properties")
    if not isinstance(properties, dict):
        properties = payload["properties"] = {}
    for key in {"start", "finish"} & set(changes):
        moment = changes.pop(key)
        record = Record(
            payload,
            moment if key == "start" else record.start,
            moment if key == "finish" else record.finish,
            record.zone,
        )
        if newer:
            date_range = properties["dateRange"] = dict(properties["dateRange"] or {})
            date_range["end" if key == "finish" and "end" in date_range else key] = moment.isoformat()
        else:
            texts = (java_time(side) if side else "null" for side in (record.start, record.finish))
            payload["formattedName"] = f"[{', '.join(texts)}]"
    for key, value in changes.items():
        if isinstance(value, datetime):
            properties[key] = value.isoformat() if newer else java_time(value)
        elif key in {"resource", "project", "booker", "owner"} and isinstance(value, str):
            old = properties.get(key)
            properties[key] = (old if isinstance(old, dict) else {}) | {"formattedName": value}
        elif key in {"formattedName", "biskitType", "operator", "properties"} or (
            key in {"title", "status"} and not newer
        ):
            payload[key] = value
        else:
            properties[key] = value
