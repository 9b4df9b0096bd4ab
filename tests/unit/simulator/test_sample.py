"""The sample moved to any day, from a checkout and from an installed wheel."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytz
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import PipelineConfig
from pipeline.simulator.sample import MAIN_DAY, sample_bookings, sample_config, sample_path
from pipeline.simulator.store import booking_range, raw_value, wall_clock

ROOT = Path(__file__).parents[3]
SITE = pytz.timezone("America/Edmonton")
DAYS = st.dates(date(2024, 1, 1), date(2032, 12, 31))


def _by_id(bookings: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    return {booking["id"]: booking for booking in bookings if isinstance(booking.get("id"), int)}


def _range(booking: dict[str, Any]) -> tuple[datetime | None, datetime | None]:
    return booking_range(booking, SITE)


def test_without_a_day_the_sample_is_as_in_the_file() -> None:
    """Contract: None gives the bookings as in the file, without the lines that are no object."""
    lines = (ROOT / "data" / "bookings.ndjson").read_text(encoding="utf-8").split("\n")
    objects = []
    for line in lines:
        try:
            objects.append(json.loads(line))
        except ValueError:
            continue

    assert json.dumps(sample_bookings()) == json.dumps([item for item in objects if isinstance(item, dict)])


@settings(max_examples=40, deadline=None)
@given(DAYS)
def test_the_main_days_bookings_move_in_site_time(day: date) -> None:
    """The wall clock moves by whole days; every booking keeps its hour, whichever way it is written."""
    before, after = _by_id(sample_bookings()), _by_id(sample_bookings(day))
    distance = timedelta(days=(day - MAIN_DAY).days)
    moved = [number for number in before if 40000 < number < 44000 or 61000 < number < 62000]

    assert before.keys() == after.keys()
    for number in moved:
        for old, new in zip(_range(before[number]), _range(after[number]), strict=True):
            assert old is not None
            assert new in {old + distance, _existing(old + distance)}, number
        stamps = [raw_value(payload, "created") for payload in (before[number], after[number])]
        first, second = (wall_clock(stamp, SITE) for stamp in stamps)
        assert first is not None
        assert second == first + distance
    for number in before.keys() - set(moved):
        assert json.dumps(before[number]) == json.dumps(after[number]), number


def _existing(wall: datetime) -> datetime:
    """A wall clock that does not exist shows as the one it resolves to once it has been written as an instant."""
    return SITE.localize(wall, is_dst=False).astimezone(pytz.utc).astimezone(SITE).replace(tzinfo=None)


def test_each_way_of_writing_stays() -> None:
    """Z stays Z, an offset stays an offset (of the new day), a fraction keeps its digits."""
    moved = _by_id(sample_bookings(date(2025, 1, 15)))

    assert moved[41003]["formattedName"] == "[2025-01-15 07:00:00.0, 2025-01-15 08:00:00.0]"
    assert moved[41004]["formattedName"] == "[2025-01-15 08:00:00, 2025-01-15 09:00:00]"
    assert moved[41014]["formattedName"] == "[2025-01-15 14:30:00.000, 2025-01-15 15:30:00.000]"
    assert moved[41005]["properties"]["dateRange"] == {
        "start": "2025-01-15T15:00:00Z",
        "finish": "2025-01-15T16:30:00Z",
    }
    assert moved[41007]["properties"]["dateRange"]["start"] == "2025-01-15T10:00:00-07:00"
    assert moved[41022]["properties"]["dateRange"] == {
        "start": "2025-01-15T20:00:00",
        "end": "2025-01-15T21:30:00",
    }


def test_moving_is_repeatable_and_leaves_the_original() -> None:
    """The same day gives the same bookings; moving to the main day changes nothing."""
    original = json.dumps(sample_bookings())

    assert json.dumps(sample_bookings(date(2030, 5, 5))) == json.dumps(sample_bookings(date(2030, 5, 5)))
    assert json.dumps(sample_bookings(MAIN_DAY)) == original


@pytest.mark.parametrize("hour", range(24))
def test_the_demo_has_a_scanner_day_at_any_hour(hour: int) -> None:
    """Demo: 15 to 35 bookings of the configured resources in its window, a few of them wrong on purpose."""
    today = date(2026, 12, 5)
    now = datetime.combine(today, datetime.min.time()) + timedelta(hours=hour, minutes=30)
    resources = sample_config()["resources"]
    shown = []
    for number, booking in _by_id(sample_bookings(today)).items():
        start, finish = _range(booking)
        running = start and finish and finish > now - timedelta(hours=2) and start < now + timedelta(hours=24)
        if running and raw_value(booking, "resource.formattedName") in resources:
            shown.append(number)

    assert 15 <= len(shown) <= 35
    assert 2 <= sum(61000 < number < 62000 for number in shown) <= 6


def test_the_configuration_is_a_valid_one() -> None:
    """T021: the first source of the example, which the labels stand for."""
    config = PipelineConfig.from_dict(sample_config(), environ={})

    assert config.timezone == "America/Edmonton"
    assert {"patient_id", "patient_name"} <= {rule.target for rule in config.rules}


def test_an_unknown_file_is_looked_for_in_the_checkout() -> None:
    """A checkout reads ../data."""
    assert str(sample_path("bookings.ndjson")) == str(ROOT / "data" / "bookings.ndjson")


def test_the_sample_works_from_a_wheel(tmp_path: Path) -> None:
    """Demo: it works from an installed wheel, outside the checkout, which carries the files under pipeline/_data."""
    wheel = tmp_path / "wheel.zip"
    with zipfile.ZipFile(wheel, "w") as archive:
        for source in (ROOT / "pipeline").rglob("*.py"):
            archive.write(source, source.relative_to(ROOT))
        for name in ("bookings.ndjson", "calpendo_config_example.json"):
            archive.write(ROOT / "data" / name, f"pipeline/_data/{name}")
    installed = tmp_path / "site-packages"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    code = "from pipeline.simulator.sample import *; import pipeline; print(len(sample_bookings()), sample_config()['timezone'], pipeline.__file__)"

    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"},
    )

    number, zone, where = done.stdout.split()
    assert (int(number), zone) == (len(sample_bookings()), "America/Edmonton")
    assert where.startswith(str(installed))
