"""Times are pytz's: several zones over 2020-2030, both ways, and through both payload generations."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl
import pytest
import pytz
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import PipelineConfig
from pipeline.transform import times as zones
from pipeline.transform.bookings import read_bookings
from pipeline.transform.times import add_times

# ruff: noqa: DTZ001  wall clock and naive UTC throughout

ZONES = [
    "America/Edmonton",
    "Australia/Lord_Howe",
    "America/St_Johns",
    "Europe/London",
    "Europe/Dublin",
    "UTC",
    "Asia/Kathmandu",
    "Africa/Casablanca",
    "Etc/GMT+5",
]
PROPERTY = settings(deadline=None, max_examples=100)
ELEVEN_YEARS = st.datetimes(datetime(2020, 1, 1), datetime(2030, 12, 31))
ANY_TIME = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 28))


def utc(zone: str, wall: datetime) -> datetime:
    """T012: ``localize``, then ``astimezone(UTC)``."""
    return pytz.timezone(zone).localize(wall, is_dst=False).astimezone(pytz.utc).replace(tzinfo=None)


def doubt(zone: str, wall: datetime) -> tuple[bool, bool]:
    """Whether pytz itself calls the time ambiguous or non-existent."""
    try:
        pytz.timezone(zone).localize(wall, is_dst=None)
    except pytz.AmbiguousTimeError:
        return True, False
    except pytz.NonExistentTimeError:
        return False, True
    return False, False


def column(times: list[datetime]) -> pl.Series:
    """Return naive times as the frames hold them."""
    return pl.Series(times, dtype=pl.Datetime("us"))


@pytest.mark.parametrize("zone", ZONES)
def test_every_quarter_of_an_hour_from_2020_to_2030(zone: str) -> None:
    """T012: wall clock to UTC, its doubts, and back, as pytz says for every change of the clocks and a sample between."""
    changes = getattr(pytz.timezone(zone), "_utc_transition_times", [])
    near = [
        change + timedelta(minutes=15 * step)
        for change in changes
        if 2020 <= change.year <= 2030
        for step in range(-100, 101)
    ]
    walls = near + [datetime(2020, 1, 1) + timedelta(hours=7 * step) for step in range(11 * 365 * 24 // 7)]
    found = zones.to_utc(column(walls), zone)
    assert found.to_list() == [utc(zone, wall) for wall in walls]
    table = zones.wall_table(zone)
    place = zones.place(table.starts, column(near or walls[:10]))
    flags = list(zip(table.ambiguous.gather(place), table.nonexistent.gather(place), strict=True))
    assert flags == [doubt(zone, wall) for wall in near or walls[:10]]
    clock = pytz.timezone(zone)
    back = [pytz.utc.localize(instant).astimezone(clock).replace(tzinfo=None) for instant in found]
    assert zones.to_wall(found, zone).to_list() == back


@PROPERTY
@given(st.lists(ANY_TIME, min_size=1, max_size=20), st.sampled_from(ZONES))
def test_any_year(walls: list[datetime], zone: str) -> None:
    """T012: the years 1 to 9999 as pytz has them."""
    assert zones.to_utc(column(walls), zone).to_list() == [utc(zone, wall) for wall in walls]


@PROPERTY
@given(st.lists(st.one_of(st.none(), ELEVEN_YEARS), max_size=5), st.sampled_from(ZONES))
def test_null_stays_null(walls: list[datetime | None], zone: str) -> None:
    """A missing time has no UTC, wherever it stands in the column."""
    found = zones.to_utc(column(walls), zone).to_list()  # type: ignore[arg-type]
    assert found == [None if wall is None else utc(zone, wall) for wall in walls]


@PROPERTY
@given(ELEVEN_YEARS, st.integers(0, 5000), st.sampled_from(ZONES))
def test_both_generations_read_the_same_times(start: datetime, minutes: int, zone: str) -> None:
    """T012: a server that moves from formattedName to dateRange moves no booking."""
    end = start + timedelta(minutes=minutes)
    config = PipelineConfig.from_dict({"timezone": zone, "field_mapping": {}}, environ={}, offline=True)
    stamps = [f"{moment:%Y-%m-%d %H:%M:%S.%f}" for moment in (start, end)]
    exact = [f"{utc(zone, moment).isoformat()}Z" for moment in (start, end)]
    payloads = [
        {"id": 1, "formattedName": f"[{stamps[0]}, {stamps[1]}]"},
        {"id": 2, "properties": {"dateRange": {"start": start.isoformat(), "finish": end.isoformat()}}},
        {"id": 3, "properties": {"dateRange": {"start": exact[0], "finish": exact[1]}}},
    ]
    times = add_times(read_bookings(payloads, config).lazy(), config).collect()
    assert times["start_utc"].to_list() == [utc(zone, start)] * 3
    assert times["end_utc"].to_list() == [utc(zone, end)] * 3
    assert times["wall_start"].to_list()[:2] == [start, start]


def test_edmonton_keeps_summer_time_after_2026() -> None:
    """T012: from 1 November 2026 Alberta stays on UTC-6; polars' own zone data does not know."""
    walls = column([datetime(2025, 12, 1, 9), datetime(2026, 11, 22, 9), datetime(2027, 1, 15, 9)])
    assert zones.to_utc(walls, "America/Edmonton").dt.hour().to_list() == [16, 15, 15]
