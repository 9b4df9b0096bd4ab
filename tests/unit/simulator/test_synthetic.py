"""The made-up site of any size: repeatable, varied, in order, and as fast as benchmarks need it."""

from __future__ import annotations

import json
from datetime import date, timedelta
from itertools import islice

import pytest
import pytz

from pipeline.simulator import CalpendoSimulator
from pipeline.simulator.store import booking_range, is_generation_b
from pipeline.simulator.synthetic import FIRST_ID, ODD_SHARE, synthetic_bookings
from tests.support.simulator_calls import found

SITE = pytz.timezone("America/Edmonton")
STARTS = ["07:00", "08:00", "09:00", "10:30", "11:15", "13:00", "14:00", "15:30", "16:00", "23:15"]


@pytest.mark.parametrize("n", [0, 1, 49, 50, 51, 1000])
def test_as_many_as_asked_for_with_rising_ids(n: int) -> None:
    """Ids are whole, unique and rise."""
    assert [booking["id"] for booking in synthetic_bookings(n)] == list(range(FIRST_ID, FIRST_ID + n))


def test_the_same_call_gives_the_same_bookings() -> None:
    """Benchmarks compare like with like; a shorter run is the beginning of a longer one."""
    first = [json.dumps(booking) for booking in synthetic_bookings(600, seed=4)]

    assert [json.dumps(booking) for booking in synthetic_bookings(600, seed=4)] == first
    assert [json.dumps(booking) for booking in synthetic_bookings(300, seed=4)] == first[:300]
    assert [json.dumps(booking) for booking in synthetic_bookings(600, seed=5)] != first


def test_it_is_varied() -> None:
    """Both generations, every status, several conventions, about two odd rows in a hundred."""
    bookings = list(synthetic_bookings(20_000))
    newer = sum(is_generation_b(booking) for booking in bookings)
    texts = [json.dumps(booking, ensure_ascii=False) for booking in bookings]
    regular = [index for index, booking in enumerate(bookings) if None not in booking_range(booking, SITE)]

    assert 0.35 < newer / len(bookings) < 0.45
    assert sum("PILOT_" in text for text in texts) > 100
    assert sum(" - " in text for text in texts) > 500
    unreadable = len(bookings) - len(regular)
    assert 0.1 < unreadable / (len(bookings) * ODD_SHARE) < 0.3
    statuses = {str(booking.get("status")) for booking in bookings}
    assert {"Approved", "Cancelled", "Denied", "Zugesagt"} <= statuses


def test_times_are_the_slots_of_the_day_in_every_way_of_writing() -> None:
    """Z, offsets and naive times name the same wall clock, also where the clocks change."""
    for start in (date(2025, 10, 31), date(2026, 3, 6), date(2026, 10, 30)):
        wrong = 0
        for number, booking in enumerate(synthetic_bookings(250, start=start)):
            begins, finish = booking_range(booking, SITE)
            if begins is None or finish is None or finish < begins:
                wrong += 1
                continue
            assert begins.date() == start + timedelta(days=number // 50)
            assert f"{begins:%H:%M}" in STARTS
            assert (finish - begins).total_seconds() / 60 == booking["properties"]["durationInMinutes"]
        assert wrong < 15


def test_it_is_made_one_by_one() -> None:
    """An archive larger than memory can be written from it."""
    assert len(list(islice(synthetic_bookings(10**9), 3))) == 3


def test_the_simulator_serves_it() -> None:
    """Backfill: a window of a site's years is asked for over HTTP."""
    with CalpendoSimulator(synthetic_bookings(500, start=date(2025, 6, 2))) as simulator:
        day = found(
            simulator,
            ["AND", "dateRange.start", "GE", "20250604-0000", "dateRange.start", "LT", "20250605-0000"],
        )
    assert 44 <= len(day) <= 50
    assert all(FIRST_ID + 100 <= number < FIRST_ID + 150 for number in day)
