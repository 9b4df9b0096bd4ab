"""The bookings of the simulated server: stored as given, rendered once, safe to change while they are read."""

from __future__ import annotations

import copy
import itertools
import threading
from collections.abc import Hashable
from datetime import datetime, timedelta
from typing import Any

import pytz

from pipeline.calpendo.simulator_records import Record, is_generation_b, raw_value, wall_clock
from pipeline.calpendo.simulator_render import Generation, as_generation, java_time


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
