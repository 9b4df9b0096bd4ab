"""T012: times of both payload generations, through the changes of the clocks, in and out of any zone."""

from __future__ import annotations

from datetime import date, datetime, time
from typing import Any

import pytest
import pytz

from tests.support.batches import batch_of, booking, entry_of, reasons_of

# ruff: noqa: DTZ001  wall clock and naive UTC throughout


def times_of(name: str, **options: Any) -> tuple[datetime, datetime]:
    """Return start and end in UTC for a formattedName."""
    row = batch_of(booking(formattedName=name), **options).accepted
    return row["start_utc"][0], row["end_utc"][0]


def test_t012_parses_formatted_name() -> None:
    """T012: start and end are read in site time, kept as such, and are right in UTC."""
    row = batch_of(booking()).accepted.row(0, named=True)
    assert (row["wall_start"], row["wall_end"]) == (datetime(2026, 1, 27, 14), datetime(2026, 1, 27, 15, 30))
    assert (row["start_utc"], row["end_utc"]) == (datetime(2026, 1, 27, 21), datetime(2026, 1, 27, 22, 30))


@pytest.mark.parametrize(
    ("name", "micros"),
    [("14:00:00", 0), ("14:00:00.5", 500_000), ("14:00:00.123456", 123_456), ("14:00:00.123456789", 123_456)],
)
def test_t012_fraction_of_seconds(name: str, micros: int) -> None:
    """T012: the fraction is optional; digits beyond microseconds are cut off."""
    start, _ = times_of(f"[2026-01-27 {name}, 2026-01-27 15:30:00.0]")
    assert start == datetime(2026, 1, 27, 21, 0, 0, micros)


@pytest.mark.parametrize(
    "name",
    [
        "2026-01-27 14:00:00.0, 2026-01-27 15:30:00.0",
        "[2026-01-27 14:00:00.0; 2026-01-27 15:30:00.0]",
        "[2026-01-27T14:00:00.0, 2026-01-27T15:30:00.0]",
        "[2026-02-30 14:00:00.0, 2026-02-30 15:30:00.0]",
        "[2026-01-27 14:00:60.0, 2026-01-27 15:30:00.0]",
        "[2026-01-27 24:00:00.0, 2026-01-27 24:30:00.0]",
        "[0000-01-27 14:00:00.0, 2026-01-27 15:30:00.0]",
        "[٢٠٢٦-01-27 14:00:00.0, 2026-01-27 15:30:00.0]",
        " [2026-01-27 14:00:00.0, 2026-01-27 15:30:00.0]",
        "Brain scan",
    ],
)
def test_t012_invalid_formats_are_rejected(name: str) -> None:
    """T012: what is no valid format is rejected with its reason, never guessed at."""
    assert reasons_of(booking(formattedName=name)) == ["times_unreadable"]


def test_t012_text_behind_the_bracket_is_allowed() -> None:
    """T012: ``re.match`` looks at the beginning only."""
    assert times_of("[2026-01-27 14:00:00.0, 2026-01-27 15:30:00.0] 3T")[0] == datetime(2026, 1, 27, 21)


@pytest.mark.parametrize(
    ("wall", "utc", "flag"),
    [
        ("2026-03-08 01:59:59.0", "2026-03-08 08:59:59", None),
        ("2026-03-08 02:30:00.0", "2026-03-08 09:30:00", "dst_nonexistent"),
        ("2026-03-08 03:00:00.0", "2026-03-08 09:00:00", None),
        ("2025-11-02 00:59:59.0", "2025-11-02 06:59:59", None),
        ("2025-11-02 01:30:00.0", "2025-11-02 08:30:00", "dst_ambiguous"),
        ("2025-11-02 02:00:00.0", "2025-11-02 09:00:00", None),
        ("2026-11-01 01:30:00.0", "2026-11-01 07:30:00", None),
    ],
)
def test_t012_changes_of_the_clocks(wall: str, utc: str, flag: str | None) -> None:
    """T012: through March and November as pytz has it, standard time in doubt, and the doubt is flagged."""
    batch = batch_of(booking(formattedName=f"[{wall}, 2026-12-31 00:00:00.0]"))
    clock = pytz.timezone("America/Edmonton")
    expected = clock.localize(datetime.fromisoformat(wall[:19])).astimezone(pytz.utc).replace(tzinfo=None)
    assert batch.accepted["start_utc"].to_list() == [expected] == [datetime.fromisoformat(utc)]
    flagged = {name for name in ("dst_ambiguous", "dst_nonexistent") if getattr(batch.flags, name)}
    assert flagged == ({flag} if flag else set())


def test_t012_summer_and_winter_differ_by_an_hour() -> None:
    """T012: the same wall-clock time is UTC-7 in winter and UTC-6 in summer."""
    winter = entry_of(booking(formattedName="[2026-01-27 14:00:00.0, 2026-01-27 15:00:00.0]"))
    summer = entry_of(booking(formattedName="[2026-07-27 14:00:00.0, 2026-07-27 15:00:00.0]"))
    assert (winter["scheduled_start_time"], summer["scheduled_start_time"]) == (time(21), time(20))


@pytest.mark.parametrize(
    ("start", "utc"),
    [
        ("2026-01-27T14:00:00-07:00", datetime(2026, 1, 27, 21)),
        ("2026-01-27T14:00:00-0700", datetime(2026, 1, 27, 21)),
        ("2026-01-27T14:00:00-07", datetime(2026, 1, 27, 21)),
        ("2026-01-27T21:00:00Z", datetime(2026, 1, 27, 21)),
        ("2026-01-27 14:00", datetime(2026, 1, 27, 21)),
        ("2026-01-27T14:00:00.250", datetime(2026, 1, 27, 21, 0, 0, 250_000)),
    ],
)
@pytest.mark.parametrize("end_key", ["finish", "end"])
def test_t012_date_range_of_newer_servers(start: str, utc: datetime, end_key: str) -> None:
    """T012 on generation B: ISO 8601 with Z, an offset, or naive site time."""
    payload = {
        "id": 1,
        "properties": {"title": "S_J", "dateRange": {"start": start, end_key: "2026-01-28T00:00:00Z"}},
    }
    row = batch_of(payload).accepted
    assert row["start_utc"].to_list() == [utc]
    assert row["wall_start"].to_list() == [utc.replace(hour=14)]


@pytest.mark.parametrize(
    "start", ["2026-01-27", "2026-01-27T14:00:00+25:00", "27.01.2026 14:00", "2026-W05-2T14:00", 1769547600]
)
def test_t012_other_forms_of_date_range_are_rejected(start: Any) -> None:
    """T012 on generation B: a date without a time, or any other form, is rejected."""
    payload = {
        "id": 1,
        "properties": {"title": "S_J", "dateRange": {"start": start, "finish": "2026-01-28T00:00:00Z"}},
    }
    assert reasons_of(payload) == ["times_unreadable"]


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ("UTC", (date(2026, 1, 28), time(5, 30))),
        ("site", (date(2026, 1, 27), time(22, 30))),
        ("Asia/Kathmandu", (date(2026, 1, 28), time(11, 15))),
    ],
)
def test_design_1_output_zone(zone: str, expected: tuple[date, time]) -> None:
    """Design decision 1: dates and times leave in UTC, in site time, or in any zone."""
    entry = entry_of(
        booking(formattedName="[2026-01-27 22:30:00.0, 2026-01-27 23:00:00.0]"), output_timezone=zone
    )
    assert (entry["scheduled_start_date"], entry["scheduled_start_time"]) == expected
