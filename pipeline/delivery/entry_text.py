"""An entry as text and back: the form in which the ledger keeps what it last sent."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, time
from typing import Any

import orjson

DATE_KEY = "scheduled_start_date"
TIME_KEY = "scheduled_start_time"
DURATION_KEY = "scheduled_procedure_step_duration"
STATUS_KEY = "performed_procedure_step_status"
DISCONTINUED = "DISCONTINUED"


def to_text(entry: Mapping[str, Any]) -> str:
    """Write an entry as JSON; dates and times are ISO 8601."""
    # By Python's isoformat: orjson 3.13 writes the microsecond 10000 of a time as ".10000", a tenth of a second.
    return orjson.dumps(dict(entry), default=_iso, option=orjson.OPT_PASSTHROUGH_DATETIME).decode()


def from_text(text: str) -> dict[str, Any]:
    """Read an entry back, with its ``datetime.date`` and ``datetime.time``."""
    entry: dict[str, Any] = orjson.loads(text)
    if isinstance(entry.get(DATE_KEY), str):
        entry[DATE_KEY] = date.fromisoformat(entry[DATE_KEY])
    if isinstance(entry.get(TIME_KEY), str):
        entry[TIME_KEY] = time.fromisoformat(entry[TIME_KEY])
    return entry


def _iso(value: Any) -> str:
    if isinstance(value, (date, time)):
        return value.isoformat()
    raise TypeError(f"an entry holds no {type(value).__name__}")
