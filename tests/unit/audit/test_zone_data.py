"""Zone data compared: three libraries that agree where the law is old, and differ where it is new (T012)."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl
import pytest
import pytz

from pipeline.audit import clock_changes, compare_zone_data
from pipeline.audit.times_in_doubt import other_libraries, pytz_version

YEAR = pl.datetime_range(datetime(2024, 1, 1), datetime(2024, 12, 31), "30m", eager=True)  # noqa: DTZ001


@pytest.mark.parametrize("zone", ["America/Edmonton", "Europe/Berlin", "Australia/Lord_Howe", "UTC"])
def test_they_agree_about_an_old_year(zone: str) -> None:
    """T012: ambiguous and skipped times are read alike, so that only zone data can make a difference."""
    found = compare_zone_data(YEAR, zone)
    assert found["pytz"].equals(found["system"])
    known = found.filter(pl.col("polars").is_not_null())
    assert known["polars"].equals(known["pytz"])
    assert len(found) - len(known) <= 2


@pytest.mark.parametrize("zone", ["America/Edmonton", "Europe/Berlin", "Australia/Lord_Howe"])
def test_the_way_back_is_the_way_there(zone: str) -> None:
    """T012: each library puts the instants of an old year back on the same wall clock as pytz."""
    instants = YEAR.cast(pl.Datetime("us"))
    clock = pytz.timezone(zone)
    expected = [pytz.utc.localize(each).astimezone(clock).replace(tzinfo=None) for each in instants]
    for library in other_libraries(zone):
        assert library.to_wall(instants).to_list() == expected, library.name


def test_the_rule_of_2026() -> None:
    """T012: by pytz Alberta's clocks change for the last time in March 2026."""
    changes = clock_changes("America/Edmonton", 2025, 2028)
    ours = changes.filter(pl.col("library") == "pytz")
    assert ours["wall_before"].to_list() == [
        datetime(2025, 3, 9, 2),  # noqa: DTZ001
        datetime(2025, 11, 2, 2),  # noqa: DTZ001
        datetime(2026, 3, 8, 2),  # noqa: DTZ001
    ]
    assert ours["wall_after"][-1] - ours["wall_before"][-1] == timedelta(hours=1)
    assert ours["offset_after"].to_list() == [-6, -7, -6]


def test_a_zone_that_a_library_does_not_know() -> None:
    """Audit: a library without the zone has nothing to say, and breaks nothing."""
    for library in other_libraries("Mars/Olympus"):
        assert library.to_wall(YEAR.cast(pl.Datetime("us")).head(3)).to_list() == [None] * 3


def test_releases_are_named() -> None:
    """Audit: whoever reads that zone data are old wants to know which."""
    assert pytz.OLSON_VERSION in pytz_version()
    for library in other_libraries("America/Edmonton"):
        assert library.version
