"""Whose zone data is old: pytz, which the pipeline follows, against polars' built-in rules and the system's.

Alberta's clocks stay on UTC-6 from 2026-11-01 on (tzdata 2026f); who does not know that is an hour off all winter.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import polars as pl
import pytz

_IANA_RELEASE: str = vars(pytz)["OLSON_VERSION"]

Walls = Sequence[datetime | None]


@dataclass(frozen=True, slots=True)
class ZoneDifference:
    """A library that disagrees with pytz: since which instant, and by how many minutes its clock is ahead."""

    library: str
    zone: str
    since: datetime
    minutes: int


def compare_zone(zone: str, now: datetime, days: int = 366) -> tuple[list[str], list[ZoneDifference]]:
    """Compare every hour from ``now`` on; returns the libraries that were compared, and those that differ.

    A library that does not know the zone at all is left out of both: it cannot mislead.
    """
    first = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    instants = [first + timedelta(hours=hour) for hour in range(24 * days)]
    ours = _walls_by(pytz.timezone(zone), instants)
    compared: list[str] = []
    differences: list[ZoneDifference] = []
    for library, theirs in ((f"polars {pl.__version__}", _polars(zone, instants)), _system(zone, instants)):
        if theirs is None:
            continue
        compared.append(library)
        for instant, our, their in zip(instants, ours, theirs, strict=True):
            if our != their and our is not None and their is not None:
                minutes = round((their - our).total_seconds() / 60)
                differences.append(ZoneDifference(library, zone, instant, minutes))
                break
    return compared, differences


def pytz_release() -> str:
    """Return pytz's version with the release of its zone data."""
    return f"pytz {version('pytz')} (IANA {_IANA_RELEASE})"


def pytz_is_old(now: datetime) -> bool:
    """Tell whether pytz's zone data is from before last year: governments change clocks on short notice."""
    return int(_IANA_RELEASE[:4]) < now.year - 1


def _walls_by(zone: zoneinfo.ZoneInfo | pytz.BaseTzInfo, instants: Sequence[datetime]) -> list[datetime]:
    return [instant.astimezone(zone).replace(tzinfo=None) for instant in instants]


def _polars(zone: str, instants: Sequence[datetime]) -> Walls | None:
    naive = pl.Series([instant.replace(tzinfo=None) for instant in instants], dtype=pl.Datetime("us"))
    try:
        # The zone is taken off again inside polars: a zoned value handed to Python can change its instant.
        walls = naive.dt.replace_time_zone("UTC").dt.convert_time_zone(zone).dt.replace_time_zone(None)
    except pl.exceptions.PolarsError:
        return None
    return walls.to_list()


def _system(zone: str, instants: Sequence[datetime]) -> tuple[str, Walls | None]:
    try:
        clock = zoneinfo.ZoneInfo.no_cache(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return "the system's zone data", None
    return _system_name(zone), _walls_by(clock, instants)


def _system_name(zone: str) -> str:
    """Say where ``zoneinfo`` has its data from, with the release where a file tells it."""
    for folder in map(Path, zoneinfo.TZPATH):
        if (folder / zone).is_file():
            release = folder / "tzdata.zi"
            if not release.is_file():
                return f"the system's zone data ({folder})"
            with release.open(encoding="ascii", errors="replace") as file:
                text = file.readline().removeprefix("# version").strip()
            return f"the system's zone data ({text[:20]})"
    return "the tzdata package"
