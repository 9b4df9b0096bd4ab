"""One booking as the simulated server stores it: its payload, its place in time, and its fields by path."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any

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
