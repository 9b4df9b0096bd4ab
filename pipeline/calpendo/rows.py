"""What one row of a list answer tells: its id, a field by path, and whether it is surely outside the window."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytz

if TYPE_CHECKING:
    from pipeline.calpendo.window import Window, Zone
    from pipeline.config import PipelineConfig

HIDDEN = "<Hidden>"
"""What Calpendo shows in place of a field that this user may not see."""

_TIME = r"(\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}(?:\.\d+)?)"
_FORMATTED_NAME = re.compile(rf"\[{_TIME}, {_TIME}\]", re.ASCII)
_ISO_TIME = re.compile(
    r"(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)(Z|[+-]\d{2}:?\d{2})?", re.ASCII
)


def find(row: dict[str, Any], path: str) -> tuple[bool, Any]:
    """Return whether a row has a path's key, and the value: nested, flat, or either below ``properties``.

    A key whose value is null is there; ``properties.`` at the path's front may be left out in the row.
    """
    path = path.removeprefix("properties.")
    for root in (row, row.get("properties")):
        if not isinstance(root, dict):
            continue
        if path in root:
            return True, root[path]
        value: Any = root
        for step in path.split("."):
            if not isinstance(value, dict) or step not in value:
                break
            value = value[step]
        else:
            return True, value
    return False, None


def value_at(row: dict[str, Any], path: str) -> Any:
    """Return a path's value, None where there is none or this user may not see it."""
    value = find(row, path)[1]
    return None if value == HIDDEN else value


def surely_outside(row: dict[str, Any], window: Window, config: PipelineConfig) -> bool:
    """Return whether the row alone proves that its booking is not wanted; in doubt it is (issue: cut by the list).

    A wall-clock time that comes twice is read both ways. What starts before the window is wanted while it runs,
    unless ``include_running`` is off.
    """
    zone = pytz.timezone(config.timezone)
    starts: list[datetime] = []
    ends: list[datetime] = []
    for start, end in _spans(row):
        starts += _instants(start, zone)
        ends += _instants(end, zone)
    if not starts or (ends and max(ends) < min(starts)):
        return False
    if min(starts) >= window.end:
        return True
    if max(starts) >= window.start:
        return False
    return not config.include_running or (bool(ends) and max(ends) < window.start)


def is_ambiguous(value: Any, timezone: str) -> bool:
    """Return whether a written time names two instants, because the site's clock shows it twice or never."""
    return len(set(_instants(value, pytz.timezone(timezone)))) > 1


def _spans(row: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    name = value_at(row, "formattedName")
    found = _FORMATTED_NAME.match(name) if isinstance(name, str) else None
    if found:
        yield found.group(1), found.group(2)
    start = value_at(row, "dateRange.start")
    if start is not None:
        end = value_at(row, "dateRange.finish")
        yield start, value_at(row, "dateRange.end") if end is None else end


def _instants(value: Any, zone: Zone) -> list[datetime]:
    """Return every instant that a written time may mean; none where it cannot be read."""
    found = _ISO_TIME.fullmatch(value) if isinstance(value, str) else None
    if not found:
        return []
    day, clock, offset = found.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock[:15]}{offset or ''}")
        if moment.tzinfo is not None:
            return [moment.astimezone(UTC)]
        return [zone.localize(moment, is_dst=dst).astimezone(UTC) for dst in (True, False)]
    except (ValueError, OverflowError):
        return []
