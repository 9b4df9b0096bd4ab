"""An entry as text and back: the form in which the ledger keeps what it last sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
    return orjson.dumps(dict(entry)).decode()


def from_text(text: str) -> dict[str, Any]:
    """Read an entry back, with its ``datetime.date`` and ``datetime.time``."""
    entry: dict[str, Any] = orjson.loads(text)
    if isinstance(entry.get(DATE_KEY), str):
        entry[DATE_KEY] = date.fromisoformat(entry[DATE_KEY])
    if isinstance(entry.get(TIME_KEY), str):
        entry[TIME_KEY] = time.fromisoformat(entry[TIME_KEY])
    return entry


def to_texts(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Write many entries."""
    return [to_text(entry) for entry in entries]
