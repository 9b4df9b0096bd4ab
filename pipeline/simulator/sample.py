"""The invented sample: bookings for the demo, moved to any day, and the configuration they are read with."""

from __future__ import annotations

import copy
import json
import re
from datetime import date, datetime, timedelta
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import pytz

from pipeline.config import PipelineConfig

MAIN_DAY = date(2026, 11, 23)
MOVED_DAYS = 7
SITE_ZONE = "America/Edmonton"

WITHOUT_CONFIG = (
    "without --config, bookings are read with the example's mapping (data/calpendo_config_example.json); "
    "name yours with --config"
)

_BOOKINGS = "bookings.ndjson"
_CONFIG = "calpendo_config_example.json"
_MOMENT = re.compile(
    r"(?<!\d)(\d{4}-\d{2}-\d{2})([T ])(\d{2}:\d{2}(?::\d{2})?)((?:\.\d+)?)(Z|[+-]\d{2}:\d{2})?(?!\d)",
    re.ASCII,
)
_TIME_KEYS = ("created", "modified")


def sample_bookings(day: date | None = None) -> list[dict[str, Any]]:
    """Give the sample's bookings, invented all of them, as parsed JSON objects.

    Without ``day`` they are as in ``data/bookings.ndjson``. With it, every booking that lies within a week of
    the sample's main day (and its creation and modification) moves by whole days of the site's wall clock, so
    that the main day becomes ``day``; the others (daylight-saving edges, unreadable times) stay where they are.
    Lines that are no JSON object are left out: they can only come from a file.
    """
    bookings = []
    # Not splitlines(): titles of the sample hold U+0085 and U+2028, which it takes for line ends.
    for line in sample_path(_BOOKINGS).read_text(encoding="utf-8").split("\n"):
        try:
            payload = json.loads(line)
        except ValueError:
            continue
        if isinstance(payload, dict):
            bookings.append(payload)
    return bookings if day is None else [_moved(payload, day - MAIN_DAY) for payload in bookings]


def sample_config() -> dict[str, Any]:
    """Give the first source's ``config`` of ``data/calpendo_config_example.json``, the one the labels stand for."""
    document = json.loads(sample_path(_CONFIG).read_text(encoding="utf-8"))
    source = document["data_sources"][0]
    beside = {key: source[key] for key in ("field_mapping", "window_mode", "daily_window") if key in source}
    config: dict[str, Any] = source["config"] | beside
    return config


def file_config(path: Path | None, source: str | None = None) -> PipelineConfig:
    """Return the mapping that files of bookings are read with: a configured source's, else the example's.

    Raises PluginConfigError as ``PipelineConfig.of`` does.
    """
    return PipelineConfig.of(sample_config()) if path is None else PipelineConfig.of(path, source=source)


def sample_path(name: str) -> Traversable:
    """Find a file of the sample: inside the installed wheel, else in the checkout's ``data`` directory."""
    packaged = files("pipeline") / "_data" / name
    if packaged.is_file():
        return packaged
    return Path(__file__).resolve().parents[2] / "data" / name


def _moved(payload: dict[str, Any], distance: timedelta) -> dict[str, Any]:
    properties = payload.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    times = [text for text in (payload.get("formattedName"), properties.get("dateRange")) if text is not None]
    if not any(_near(found) for found in _MOMENT.findall(json.dumps(times))):
        return payload
    moved = copy.deepcopy(payload)
    if isinstance(moved.get("formattedName"), str):
        moved["formattedName"] = _shift(moved["formattedName"], distance)
    inner = moved.get("properties")
    if isinstance(inner, dict):
        for key in _TIME_KEYS:
            if isinstance(inner.get(key), str):
                inner[key] = _shift(inner[key], distance)
        span = inner.get("dateRange")
        if isinstance(span, str):
            inner["dateRange"] = _shift(span, distance)
        elif isinstance(span, dict):
            inner["dateRange"] = {
                key: _shift(value, distance) if isinstance(value, str) else value
                for key, value in span.items()
            }
    return moved


def _near(found: tuple[str, ...]) -> bool:
    try:
        return abs(date.fromisoformat(found[0]) - MAIN_DAY).days <= MOVED_DAYS
    except ValueError:
        return False


def _shift(text: str, distance: timedelta) -> str:
    """Move every timestamp in a text by whole days of site time, keeping the way it is written."""
    return _MOMENT.sub(lambda found: _shift_one(found, distance), text)


def _shift_one(found: re.Match[str], distance: timedelta) -> str:
    day, separator, clock, fraction, offset = found.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{(offset or '').replace('Z', '+00:00')}")
    except ValueError:
        return found.group()
    if offset is None:
        moved = moment + distance
        return f"{moved:%Y-%m-%d}{separator}{clock}{fraction}"
    site = pytz.timezone(SITE_ZONE)
    wall = moment.astimezone(site).replace(tzinfo=None) + distance
    there = site.localize(wall, is_dst=False)
    if offset == "Z":
        return f"{there.astimezone(pytz.utc):%Y-%m-%d}{separator}{there.astimezone(pytz.utc):%H:%M:%S}{fraction}Z"
    written = there.isoformat()
    return f"{written[:10]}{separator}{written[11:19]}{fraction}{written[19:]}"
