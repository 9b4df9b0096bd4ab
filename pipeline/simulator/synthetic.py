"""A busy imaging site of any size, for benchmarks and for trying a backfill: invented bookings, one by one."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from typing import Any, Final

import pytz

SITE_ZONE: Final = "America/Edmonton"
FIRST_ID: Final = 1_000_001
ODD_SHARE: Final = 0.02

_RESOURCES: Final = ("3T Diagnostic", "3T Research", "EEG Lab", "MEG Suite", "Mock Scanner")
_PROJECTS: Final = tuple(f"Study {number:03d} (PRJ-{number:03d})" for number in range(1, 201))
_STATUSES: Final = (
    ("Approved", 70),
    ("Completed", 10),
    ("Requested", 6),
    ("Cancelled", 5),
    ("Tentative", 4),
    ("APPROVED", 2),
    ("Denied", 2),
    ("In Progress", 1),
)
_GIVEN: Final = [
    "Ann",
    "Bo",
    "Cam",
    "Dee",
    "Eli",
    "Fay",
    "Gil",
    "Hal",
    "Ida",
    "Jon",
    "Kim",
    "Lou",
    "Max",
    "Nan",
    "Ola",
    "Pat",
    "Quin",
    "Ray",
    "Sam",
    "Tove",
    "Søren",
    "Zoë",
    "Éva",
    "Łucja",
    "Jón",
    "Ελένη",
    "Олег",
    "花子",
    "小明",
    "ليلى",
]
_FAMILY: Final = [
    "Example",
    "Sample",
    "Muster",
    "Beispiel",
    "Exempel",
    "Eksempel",
    "Esempio",
    "Ejemplo",
    "Exemplo",
    "Voorbeeld",
    "Příklad",
    "Przykład",
    "Példa",
    "Örnek",
    "Dæmi",
    "Δείγμα",
    "Образец",
    "例",
    "예시",
    "مثال",
    "O'Test",
    "Test-Case",
    "van_der_Test",
]
_STAFF: Final = ("Olsen, Oda", "Petrov, Pavla", "Quist, Quentin", "Rahman, Rania", "Sato, Sora")
# Start and finish within a day and minutes: what one resource's day looks like; the last runs over midnight.
_DAY: Final = (
    ("07:00", "08:00", 60),
    ("08:00", "09:00", 60),
    ("09:00", "10:30", 90),
    ("10:30", "11:15", 45),
    ("11:15", "12:00", 45),
    ("13:00", "14:00", 60),
    ("14:00", "15:30", 90),
    ("15:30", "16:00", 30),
    ("16:00", "18:00", 120),
    ("23:15", "01:00", 105),
)

Payload = dict[str, Any]


def synthetic_bookings(n: int, seed: int = 0, start: date = date(2024, 1, 1)) -> Iterator[Payload]:
    """Make ``n`` bookings from ``start`` on, fifty a day, in order of their days; the same call gives the same ones.

    Ids are whole, unique and rise from ``FIRST_ID``. Six of ten payloads are of generation A, the others of B, with
    naive, ``Z`` and offset times in turn. About two in a hundred (``ODD_SHARE``) are odd: a field missing, of the
    wrong type, reversed, unreadable, or with characters that DICOM refuses. Each payload is a new object.
    """
    rng = random.Random(seed)  # noqa: S311 - repeatable on purpose
    names, weights = zip(*_STATUSES, strict=True)
    zone = pytz.timezone(SITE_ZONE)
    number = 0
    day = start
    while number < n:
        clock = _Day(day, zone)
        for resource_number, resource in enumerate(_RESOURCES):
            statuses = rng.choices(names, weights, k=len(_DAY))
            for slot, status in zip(_DAY, statuses, strict=True):
                if number >= n:
                    return
                dice = rng.random()
                payload = _booking(
                    FIRST_ID + number, clock, slot, resource_number, resource, status, int(dice * 1e9)
                )
                if dice < ODD_SHARE:
                    _ODDITIES[int(dice * 1e9) % len(_ODDITIES)](payload)
                yield payload
                number += 1
        day += timedelta(days=1)


class _Day:
    """One day's texts, made once for its fifty bookings; times with an offset only where the offset is in no doubt."""

    def __init__(self, day: date, zone: pytz.BaseTzInfo) -> None:
        self.texts = (day.isoformat(), (day + timedelta(days=1)).isoformat())
        ends = [
            zone.localize(datetime.combine(day, datetime.min.time()) + timedelta(days=days))
            for days in (0, 2)
        ]
        offset = ends[0].utcoffset()
        self.steady = offset == ends[1].utcoffset()
        self.hours = int((offset or timedelta()).total_seconds() // 3600)
        self.offset = f"{self.hours:+03d}:00"
        before = day - timedelta(days=9)
        self.created, self.modified = f"{before.isoformat()} 09:30:00.0", f"{before.isoformat()} 14:05:00.0"
        self._following = (*self.texts, (day + timedelta(days=2)).isoformat())

    def utc(self, days: int, clock: str) -> str:
        """Write a clock time of this day (0) or the next (1) in UTC, west of Greenwich."""
        hour = int(clock[:2]) - self.hours
        return f"{self._following[days + hour // 24]}T{hour % 24:02d}{clock[2:]}:00Z"


def _booking(
    number: int,
    day: _Day,
    slot: tuple[str, str, int],
    resource_number: int,
    resource: str,
    status: str,
    dice: int,
) -> Payload:
    begins, ends, minutes = slot
    days = int(ends < begins)
    title = _title(dice)
    properties: Payload = {
        "resource": {"id": resource_number + 1, "biskitType": "Calpendo.Resource", "formattedName": resource},
        "project": {
            "id": dice % 200 + 1,
            "biskitType": "Calpendo.Project",
            "formattedName": _PROJECTS[dice % 200],
        },
        "booker": {"id": 301, "formattedName": _STAFF[number % 5]},
        "owner": {"id": 302, "formattedName": _STAFF[dice % 5]},
        "durationInMinutes": minutes,
        "created": day.created,
        "modified": day.modified,
        "description": "",
        "cancelled": status == "Cancelled",
        "cancellationReason": None,
    }
    scan = resource_number < 2
    payload: Payload = {"id": number, "biskitType": "MRIScan" if scan else "Calpendo.Booking"}
    if scan:
        payload["operator"] = _STAFF[dice % 5]
    if number % 5 < 3:
        payload |= {
            "formattedName": f"[{day.texts[0]} {begins}:00.0, {day.texts[days]} {ends}:00.0]",
            "title": title,
            "status": status,
            "properties": properties,
        }
        return payload
    if not day.steady or number % 3 == 0:
        times = (f"{day.texts[0]}T{begins}:00", f"{day.texts[days]}T{ends}:00")
    elif number % 3 == 1:
        times = (day.utc(0, begins), day.utc(days, ends))
    else:
        times = (f"{day.texts[0]}T{begins}:00{day.offset}", f"{day.texts[days]}T{ends}:00{day.offset}")
    last = "finish" if number % 2 else "end"
    payload["properties"] = {
        "title": title,
        "status": status,
        "dateRange": {"start": times[0], last: times[1]},
    }
    payload["properties"] |= properties
    return payload


def _title(dice: int) -> str:
    given, family = _GIVEN[dice % len(_GIVEN)], _FAMILY[dice // 31 % len(_FAMILY)]
    subject = dice // 7 % 900 + 100
    kind = dice // 11 % 50
    if kind == 0:
        return f"PILOT_{given}_{family}"
    if kind == 1:
        return "PHANTOM_QA_Daily"
    if kind < 6:
        return f"SUB{subject} - {given} {family}"
    return f"SUB{subject}_{given}_{family}"


def _set_text(key: str, value: object) -> Callable[[Payload], None]:
    def change(payload: Payload) -> None:
        holder = payload if key in payload else payload["properties"]
        holder[key] = copy.copy(value)

    return change


def _drop(key: str) -> Callable[[Payload], None]:
    def change(payload: Payload) -> None:
        payload.pop(key, None)
        payload["properties"].pop(key, None)

    return change


def _property(key: str, value: object) -> Callable[[Payload], None]:
    def change(payload: Payload) -> None:
        payload["properties"][key] = copy.copy(value)

    return change


def _times(name: str, start: object, finish: object) -> Callable[[Payload], None]:
    def change(payload: Payload) -> None:
        if "formattedName" in payload:
            payload["formattedName"] = name
        else:
            payload["properties"]["dateRange"] = {"start": start, "finish": finish}

    return change


def _reverse(payload: Payload) -> None:
    if "formattedName" in payload:
        start, finish = payload["formattedName"][1:-1].split(", ")
        payload["formattedName"] = f"[{finish}, {start}]"
    else:
        times = payload["properties"]["dateRange"]
        keys = list(times)
        times[keys[0]], times[keys[1]] = times[keys[1]], times[keys[0]]


_ODDITIES: Final = (
    _reverse,
    _drop("title"),
    _drop("status"),
    _drop("resource"),
    _set_text("title", ""),
    _set_text("title", None),
    _set_text("title", ["SUB100_In_A_List"]),
    _set_text("title", 12345),
    _set_text("title", "SUB100_Back\\slash"),
    _set_text("title", "SUB100_Tab\tStop"),
    _set_text("title", "SUB100_" + "x" * 80),
    _set_text("title", "<Hidden>"),
    _set_text("status", "Zugesagt"),
    _set_text("status", {"name": "Approved"}),
    _property("resource", {"id": 99, "formattedName": "Testraum Küche"}),
    _property("project", None),
    _property("cancelled", "no"),
    _times("[2024-02-30 10:00:00.0, 2024-02-30 11:00:00.0]", "2024-02-30T10:00:00", "2024-02-30T11:00:00"),
    _times("tomorrow morning", "tomorrow", "morning"),
    _times("", None, None),
)
