"""Times in doubt: the hour that comes twice, the hour that never comes, and clocks that disagree (T012).

The pipeline takes its offsets from pytz. polars carries zone data of its own, and ``zoneinfo`` reads the system's; both may
be older than the law of the place, and would put bookings elsewhere. Alberta's clocks, for one, stay put from November 2026
on, and data from before that decision are an hour off all winter.
"""

from __future__ import annotations

import zoneinfo
from bisect import bisect_left
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytz

from pipeline.audit.findings import FRAMES, IDS, ROWS, Frames, add_up, first_ids, joined, schema, share
from pipeline.transform import times

CHECKS = {
    "unreadable": "no start or end could be read; the booking is rejected",
    "reversed": "the booking ends before it starts",
    "ambiguous": "a clock time that comes twice when clocks go back; the later of the two was taken",
    "non_existent": "a clock time that is skipped when clocks go forward; it was read on the winter clock",
    "multi_day": "the booking ends on another day than it starts",
    "zone_data": "polars or the system would have put the booking at another instant",
}

FIRST_YEAR, LAST_YEAR = 1990, 2100
"""Bookings outside these years are not compared: no library claims to know their clocks."""

POLARS, SYSTEM, PYTZ = "polars", "system", "pytz"

_IN_DOUBT = [check for check in CHECKS if check not in ("zone_data", "multi_day")]
"""Neither a night on the scanner nor other libraries' zone data put a booking in doubt."""

_LISTED = [check for check in _IN_DOUBT if check != "unreadable"]
"""Bookings without a readable time have nothing to list; they stand among the rejected ones."""

_PER_CHECK = ROWS // len(CHECKS)
_APART = schema("library bookings hours first_wall booking_ids")
_COUNTS = schema("check bookings booking_ids")
_DAY = 24 * 60 * 60


class ZoneLibrary(NamedTuple):
    """A source of zone rules: ``to_wall`` turns naive UTC into naive wall clock, null where it does not know."""

    name: str
    version: str
    to_wall: Callable[[pl.Series], pl.Series]


def other_libraries(zone: str) -> tuple[ZoneLibrary, ...]:
    """Return the libraries beside pytz, for one zone."""
    return (
        ZoneLibrary(POLARS, f"built into polars {pl.__version__}", lambda utc: _polars_wall(utc, zone)),
        ZoneLibrary(SYSTEM, _system_version(zone), lambda utc: _system_wall(utc, zone)),
    )


def pytz_version() -> str:
    """Return the release of the zone data that decides."""
    return f"{metadata.version('pytz')} (IANA {getattr(pytz, 'OLSON_VERSION', 'release unknown')})"


def compare_zone_data(walls: pl.Series, zone: str) -> pl.DataFrame:
    """Return wall-clock times in UTC as each library has it: wall_start, then pytz, polars and system, all naive.

    An ambiguous time is the later of its two instants everywhere, as ``pytz.localize(is_dst=False)`` has it. A time
    that a clock skips is null for polars, and read on the winter clock by pytz and the system.

    Args:
        walls: times on the site's clock.
        zone: the site's zone, an IANA name.
    """
    wall = walls.cast(pl.Datetime("us")).alias("wall_start")
    clock = zoneinfo.ZoneInfo(zone)
    by_system = [None if each is None else _by_system(each, clock) for each in wall.to_list()]
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
    """Return when the clock is put forward or back, as each library has it.

    Returns:
        A row per library and change, pytz first: library String; change_utc, wall_before, wall_after Datetime (naive);
        offset_before, offset_after Float64 (hours ahead of UTC).
    """
    start, end = datetime(first_year, 1, 1), datetime(last_year + 1, 1, 1)  # noqa: DTZ001  naive UTC, as all here
    moments = pl.datetime_range(start, end, "15m", time_unit="us", eager=True).alias("utc")
    walls = {PYTZ: times.to_wall(moments, zone)}
    walls |= {library.name: library.to_wall(moments) for library in other_libraries(zone)}
    offset = pl.col("wall") - pl.col("utc")
    return pl.concat(
        pl.DataFrame({"utc": moments, "wall": wall})
        .with_columns(offset=offset, before=offset.shift(1))
        .filter(pl.col("offset") != pl.col("before"))
        .select(
            pl.lit(name).alias("library"),
            change_utc="utc",
            wall_before=pl.col("utc") + pl.col("before"),
            wall_after="wall",
            offset_before=pl.col("before").dt.total_minutes() / 60,
            offset_after=pl.col("offset").dt.total_minutes() / 60,
        )
        for name, wall in walls.items()
    )


def collect(wide: pl.DataFrame, zone: str) -> Frames:
    """Check one chunk of readable bookings, judged: ``times``, ``doubtful``, ``zone_data``, ``weeks``, ``in_doubt``."""
    libraries = other_libraries(zone)
    checked = _with_flags(wide, libraries)
    some = checked.filter(pl.any_horizontal(*CHECKS))
    return {
        "in_doubt": checked.select(pl.col("in_doubt").sum().cast(pl.Int64)),
        "weeks": _weeks(checked),
        "times": pl.concat(
            some.filter(check).select(
                pl.lit(check).alias("check"),
                pl.len().cast(pl.Int64).alias("bookings"),
                first_ids(pl.col("booking_id")).implode(),
            )
            for check in CHECKS
        ),
        "doubtful": pl.concat(
            some.filter(check).head(_PER_CHECK).with_columns(pl.lit(check).alias("check"))
            for check in _LISTED
        ).select(list(FRAMES["doubtful"])),
        "zone_data": pl.concat(_apart(some, library.name) for library in libraries),
    }


def total(parts: Sequence[pl.DataFrame], bookings: int) -> pl.DataFrame:
    """Add up ``times``: a row per check, in the order of ``CHECKS``, also where nothing was found."""
    every = pl.DataFrame({"check": list(CHECKS), "meaning": list(CHECKS.values())})
    return _with_shares(every, add_up(parts, _COUNTS, "check"), bookings, "times")


def doubtful(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return the bookings in doubt, the first ones of each check."""
    return (
        joined(parts, FRAMES["doubtful"])
        .group_by("check", maintain_order=True)
        .head(_PER_CHECK)
        .sort(pl.col("check").cast(pl.Enum(list(CHECKS))), "wall_start", maintain_order=True)
        .select(list(FRAMES["doubtful"]))
    )


def zone_data(parts: Sequence[pl.DataFrame], zone: str, bookings: int) -> pl.DataFrame:
    """Add up ``zone_data``: a row per library, how many bookings it would have put elsewhere, by how many hours at most."""
    libraries = {PYTZ: pytz_version()} | {library.name: library.version for library in other_libraries(zone)}
    every = pl.DataFrame({"library": list(libraries), "version": list(libraries.values())})
    hours = pl.col("hours").drop_nulls()
    counted = (
        joined(parts, _APART)
        .group_by("library", maintain_order=True)
        .agg(
            pl.col("bookings").sum(),
            hours.sort_by(hours.abs()).last(),
            pl.col("first_wall").min(),
            pl.col("booking_ids").explode().drop_nulls().head(IDS),
        )
    )
    return _with_shares(every, counted, bookings, "zone_data")


def weeks(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Add up ``weeks``: a row per week (its Monday, on the site's clock) that has bookings."""
    return add_up(parts, FRAMES["weeks"], "week").sort("week")


def _with_shares(every: pl.DataFrame, counted: pl.DataFrame, bookings: int, frame: str) -> pl.DataFrame:
    key = every.columns[0]
    return (
        every.join(counted, on=key, how="left", maintain_order="left")
        .with_columns(pl.col("bookings").fill_null(0), pl.col("booking_ids").fill_null([]))
        .with_columns(share=share(pl.col("bookings"), pl.lit(bookings)))
        .select(list(FRAMES[frame]))
    )


def _with_flags(wide: pl.DataFrame, libraries: Sequence[ZoneLibrary]) -> pl.DataFrame:
    """Add a Boolean column for each check, ``in_doubt``, and for each library its distance from pytz."""
    flagged = wide.select(
        *("booking_id", "wall_start", "wall_end", "start_utc", "rejected", "any_unmatched"),
        unreadable=pl.col("start_utc").is_null() | pl.col("end_utc").is_null(),
        reversed=(pl.col("end_utc") < pl.col("start_utc")).fill_null(value=False),
        ambiguous=pl.col("dst_ambiguous").fill_null(value=False),
        non_existent=pl.col("dst_nonexistent").fill_null(value=False),
        multi_day=pl.col("multi_day").fill_null(value=False),
    )
    comparable = ~pl.col("non_existent") & pl.col("wall_start").dt.year().is_between(FIRST_YEAR, LAST_YEAR)
    return flagged.with_columns(
        pl.when(comparable)
        .then(library.to_wall(flagged["start_utc"]) - pl.col("wall_start"))
        .alias(library.name)
        for library in libraries
    ).with_columns(
        zone_data=pl.any_horizontal(_is_apart(library.name) for library in libraries),
        in_doubt=pl.any_horizontal(*_IN_DOUBT),
    )


def _is_apart(library: str) -> pl.Expr:
    return (pl.col(library) != pl.duration()).fill_null(value=False)


def _apart(some: pl.DataFrame, library: str) -> pl.DataFrame:
    hours = pl.col(library).dt.total_minutes() / 60
    return some.filter(_is_apart(library)).select(
        pl.lit(library).alias("library"),
        pl.len().cast(pl.Int64).alias("bookings"),
        hours.get(hours.abs().arg_max(), null_on_oob=True).alias("hours"),
        pl.col("wall_start").min().alias("first_wall"),
        first_ids(pl.col("booking_id")).implode(),
    )


def _weeks(checked: pl.DataFrame) -> pl.DataFrame:
    return (
        checked.filter(pl.col("wall_start").is_not_null())
        .group_by(pl.col("wall_start").dt.date().dt.truncate("1w").alias("week"))
        .agg(
            pl.len().cast(pl.Int64).alias("bookings"),
            pl.col("rejected").sum().cast(pl.Int64),
            pl.col("any_unmatched").sum().cast(pl.Int64).alias("unmatched"),
            pl.col("in_doubt").sum().cast(pl.Int64),
        )
    )


def _by_system(wall: datetime, clock: tzinfo) -> datetime:
    readings = (wall.replace(tzinfo=clock, fold=fold).astimezone(UTC) for fold in (0, 1))
    return max(readings).replace(tzinfo=None)


def _polars_wall(utc: pl.Series, zone: str) -> pl.Series:
    try:
        return utc.dt.replace_time_zone("UTC").dt.convert_time_zone(zone).dt.replace_time_zone(None)
    except pl.exceptions.PolarsError:
        return _unknown(utc)


def _system_wall(utc: pl.Series, zone: str) -> pl.Series:
    try:
        changes, offsets = _system_offsets(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        return _unknown(utc)
    return utc + offsets.gather(times.place(changes, utc).clip(lower_bound=0))


def _unknown(utc: pl.Series) -> pl.Series:
    return pl.Series(utc.name, [None] * len(utc), dtype=utc.dtype)


@lru_cache(maxsize=8)
def _system_offsets(zone: str) -> tuple[pl.Series, pl.Series]:
    """Return the instants (naive UTC) at which the system's clock changes, and its offset from each on."""
    clock = zoneinfo.ZoneInfo(zone)

    def offset(moment: datetime) -> timedelta:
        return moment.astimezone(clock).utcoffset() or timedelta(0)

    def change_after(day: datetime, before: timedelta) -> datetime:
        changed = bisect_left(
            range(_DAY), x=True, key=lambda second: offset(day + timedelta(seconds=second)) != before
        )
        return day + timedelta(seconds=changed)

    moment, end = datetime(FIRST_YEAR - 1, 12, 31, tzinfo=UTC), datetime(LAST_YEAR + 1, 1, 2, tzinfo=UTC)
    found = {moment: offset(moment)}
    while moment < end:
        day, before = moment, offset(moment)
        moment = day + timedelta(seconds=_DAY)
        if offset(moment) != before:
            found[change_after(day, before)] = offset(moment)
    return (
        pl.Series([instant.replace(tzinfo=None) for instant in found], dtype=pl.Datetime("us")),
        pl.Series(list(found.values()), dtype=pl.Duration("us")),
    )


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
