"""Three libraries, one clock: where the zone data of polars or of the system would put a booking elsewhere.

The pipeline takes its offsets from pytz (T012). polars carries zone data of its own, and ``zoneinfo`` reads the
system's; both may be older than the law of the place. Alberta's clocks, for one, stay put from November 2026 on, and
data from before that decision are an hour off all winter.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import polars as pl
import pytz

from pipeline.transform import times

FIRST_YEAR, LAST_YEAR = 1990, 2100
"""Bookings outside these years are not compared: no library claims to know their clocks."""

POLARS, SYSTEM, PYTZ = "polars", "system", "pytz"

ToWall = Callable[[pl.Series], pl.Series]


@dataclass(frozen=True)
class ZoneLibrary:
    """A source of zone rules: ``to_wall`` turns naive UTC into naive wall clock, null where it does not know."""

    name: str
    version: str
    to_wall: ToWall


def other_libraries(zone: str) -> tuple[ZoneLibrary, ...]:
    """The libraries beside pytz, for one zone."""
    return (
        ZoneLibrary(POLARS, f"built into polars {pl.__version__}", lambda utc: _polars_wall(utc, zone)),
        ZoneLibrary(SYSTEM, _system_version(zone), lambda utc: _table_wall(utc, zone)),
    )


def pytz_version() -> str:
    """The release of the zone data that decides."""
    return f"{metadata.version('pytz')} (IANA {getattr(pytz, 'OLSON_VERSION', 'release unknown')})"


def compare(walls: pl.Series, zone: str) -> pl.DataFrame:
    """Wall-clock times in UTC as each library has it: wall_start, then pytz, polars and system, all naive.

    An ambiguous time is the later of its two instants everywhere, as ``pytz.localize(is_dst=False)`` has it. A time
    that a clock skips is null for polars, and read on the winter clock by pytz and the system.
    """
    wall = walls.cast(pl.Datetime("us")).alias("wall_start")
    clock = zoneinfo.ZoneInfo(zone)
    naive = wall.to_list()
    by_system = [None if each is None else _by_system(each, clock) for each in naive]
    return pl.DataFrame(
        {
            "wall_start": wall,
            PYTZ: times.to_utc(wall, zone),
            POLARS: wall.dt.replace_time_zone(zone, ambiguous="latest", non_existent="null")
            .dt.convert_time_zone("UTC")
            .dt.replace_time_zone(None),
            SYSTEM: pl.Series(by_system, dtype=pl.Datetime("us")),
        }
    )


def clock_changes(zone: str, first_year: int, last_year: int) -> pl.DataFrame:
    """When the clock is put forward or back, as each library has it.

    Columns: library String, change_utc, wall_before, wall_after Datetime (naive), offset_before, offset_after Float64
    (hours ahead of UTC); one row a library and change, pytz first.
    """
    start, end = datetime(first_year, 1, 1), datetime(last_year + 1, 1, 1)  # noqa: DTZ001  naive UTC, as all here
    hours = pl.datetime_range(start, end, "15m", eager=True).alias("utc").cast(pl.Datetime("us"))
    walls = {PYTZ: times.to_wall(hours, zone)}
    walls |= {library.name: library.to_wall(hours) for library in other_libraries(zone)}
    return pl.concat([_changes(name, hours, wall) for name, wall in walls.items()])


def _changes(library: str, utc: pl.Series, wall: pl.Series) -> pl.DataFrame:
    offset = pl.col("wall") - pl.col("utc")
    return (
        pl.DataFrame({"utc": utc, "wall": wall})
        .with_columns(offset=offset, before=offset.shift(1))
        .filter(pl.col("offset") != pl.col("before"))
        .select(
            pl.lit(library).alias("library"),
            pl.col("utc").alias("change_utc"),
            (pl.col("utc") + pl.col("before")).alias("wall_before"),
            pl.col("wall").alias("wall_after"),
            (pl.col("before").dt.total_minutes() / 60).alias("offset_before"),
            (pl.col("offset").dt.total_minutes() / 60).alias("offset_after"),
        )
    )


def _by_system(wall: datetime, clock: tzinfo) -> datetime:
    readings = (wall.replace(tzinfo=clock, fold=fold).astimezone(UTC) for fold in (0, 1))
    return max(readings).replace(tzinfo=None)


def _polars_wall(utc: pl.Series, zone: str) -> pl.Series:
    try:
        return utc.dt.replace_time_zone("UTC").dt.convert_time_zone(zone).dt.replace_time_zone(None)
    except pl.exceptions.PolarsError:
        return pl.Series(utc.name, [None] * len(utc), dtype=utc.dtype)


def _table_wall(utc: pl.Series, zone: str) -> pl.Series:
    changes, offsets = _system_offsets(zone)
    if not len(changes):
        return pl.Series(utc.name, [None] * len(utc), dtype=utc.dtype)
    place = (changes.search_sorted(utc, side="right").cast(pl.Int64) - 1).clip(lower_bound=0)
    return utc + offsets.gather(place)


@lru_cache(maxsize=8)
def _system_offsets(zone: str) -> tuple[pl.Series, pl.Series]:
    try:
        clock: tzinfo = zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        return pl.Series(dtype=pl.Datetime("us")), pl.Series(dtype=pl.Duration("us"))
    day = timedelta(days=1)
    moment = datetime(FIRST_YEAR - 1, 12, 31, tzinfo=UTC)
    end = datetime(LAST_YEAR + 1, 1, 2, tzinfo=UTC)
    found = [(moment, _offset(clock, moment))]
    while moment < end:
        following = moment + day
        offset = _offset(clock, following)
        if offset != found[-1][1]:
            found.append((_change_between(clock, moment, following), offset))
        moment = following
    return (
        pl.Series([instant.replace(tzinfo=None) for instant, _ in found], dtype=pl.Datetime("us")),
        pl.Series([offset for _, offset in found], dtype=pl.Duration("us")),
    )


def _change_between(clock: tzinfo, low: datetime, high: datetime) -> datetime:
    before = _offset(clock, low)
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=(high - low).total_seconds() // 2)
        if _offset(clock, middle) == before:
            low = middle
        else:
            high = middle
    return high


def _offset(clock: tzinfo, moment: datetime) -> timedelta:
    return moment.astimezone(clock).utcoffset() or timedelta(0)


def _system_version(zone: str) -> str:
    for folder in zoneinfo.TZPATH:
        if (Path(folder) / zone).is_file():
            return f"{folder}, {_release_in(Path(folder))}"
    try:
        return f"tzdata package {metadata.version('tzdata')}"
    except metadata.PackageNotFoundError:
        return "no zone data"


def _release_in(folder: Path) -> str:
    for name in ("tzdata.zi", "+VERSION", "version"):
        path = folder / name
        if path.is_file():
            with path.open(encoding="ascii", errors="replace") as file:
                return file.readline().removeprefix("# version").strip()[:20] or "release unknown"
    return "release unknown"
