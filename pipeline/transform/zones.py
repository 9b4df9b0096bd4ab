"""Wall clock <-> UTC by pytz's rules, in columns (T012).

A zone's rules become a small table of breakpoints made from pytz's own answers, once a zone; a column is then looked
up in it by binary search. polars' own zone data is not used: it lags behind pytz.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final, NamedTuple

import polars as pl
import pytz

EARLIEST: Final = datetime(1, 1, 3)  # noqa: DTZ001  wall clock, and so everywhere here
LATEST: Final = datetime(9999, 12, 29)  # noqa: DTZ001
"""Zone arithmetic around these still stays within the years 1 to 9999; times beyond are unreadable."""

_FIRST: Final = datetime(1, 1, 1)  # noqa: DTZ001
_DAY: Final = timedelta(days=1)
_MICROSECONDS = pl.Datetime("us")
_DURATION = pl.Duration("us")


class WallTable(NamedTuple):
    """From ``starts[i]`` (naive wall clock) on: subtract ``offsets[i]`` to get UTC; both flags say how sure that is."""

    starts: pl.Series
    offsets: pl.Series
    ambiguous: pl.Series
    nonexistent: pl.Series


class InstantTable(NamedTuple):
    """From ``starts[i]`` (naive UTC) on: add ``offsets[i]`` to get the wall clock."""

    starts: pl.Series
    offsets: pl.Series


@lru_cache(maxsize=32)
def wall_table(zone: str) -> WallTable:
    """Return the zone's rules by wall clock, as ``pytz.timezone(zone).localize(wall, is_dst=False)`` answers."""
    clock = pytz.timezone(zone)
    answers = [(start, _answer(clock, start)) for start in _wall_breakpoints(clock)]
    kept = [answers[0]] + [new for old, new in pairwise(answers) if new[1] != old[1]]
    return WallTable(
        pl.Series([start for start, _ in kept], dtype=_MICROSECONDS),
        pl.Series([answer[0] for _, answer in kept], dtype=_DURATION),
        pl.Series([answer[1] for _, answer in kept], dtype=pl.Boolean),
        pl.Series([answer[2] for _, answer in kept], dtype=pl.Boolean),
    )


@lru_cache(maxsize=32)
def instant_table(zone: str) -> InstantTable:
    """Return the zone's rules by instant, as ``instant.astimezone(pytz.timezone(zone))`` answers."""
    clock = pytz.timezone(zone)
    changes = [change for change in _changes(clock) if EARLIEST < change < LATEST]
    starts = [_FIRST, *changes]
    probes = [EARLIEST, *changes]
    offsets = [pytz.utc.localize(probe).astimezone(clock).utcoffset() for probe in probes]
    return InstantTable(pl.Series(starts, dtype=_MICROSECONDS), pl.Series(offsets, dtype=_DURATION))


def to_utc(walls: pl.Series, zone: str) -> pl.Series:
    """Return naive UTC for naive wall-clock times of the zone; null stays null."""
    table = wall_table(zone)
    return walls - table.offsets.gather(place(table.starts, walls))


def to_wall(instants: pl.Series, zone: str) -> pl.Series:
    """Return the zone's naive wall clock for naive UTC; null stays null."""
    table = instant_table(zone)
    return instants + table.offsets.gather(place(table.starts, instants))


def place(starts: pl.Series, times: pl.Series) -> pl.Series:
    """Return the index of the breakpoint at or before each time, null for null."""
    found = pl.Series(starts.search_sorted(times, side="right"), dtype=pl.Int64) - 1
    return found.set(times.is_null(), None)


def _changes(clock: Any) -> Iterable[datetime]:
    """Return the instants (naive UTC) at which the zone's offset changes, as pytz holds them; none if it never does."""
    return getattr(clock, "_utc_transition_times", ())


def _wall_breakpoints(clock: Any) -> list[datetime]:
    """Return every wall-clock time at which pytz's answer may change, in order.

    That is each change read with the offset before and after it, and the edges of the day around it: ``localize``
    looks at the rules one day before and one day after the time it is asked about.
    """
    breakpoints = set()
    offsets = [info[0] for info in getattr(clock, "_transition_info", ())]
    for index, change in enumerate(_changes(clock)):
        before, after = offsets[max(index - 1, 0)], offsets[index]
        if EARLIEST < change < LATEST:
            breakpoints |= {change + before, change + after, change + _DAY, change - _DAY}
    return [_FIRST, *sorted(breakpoints)]


def _answer(clock: Any, wall: datetime) -> tuple[timedelta, bool, bool]:
    probe = max(wall, EARLIEST)
    offset: timedelta = clock.localize(probe, is_dst=False).utcoffset()
    try:
        clock.localize(probe, is_dst=None)
    except pytz.AmbiguousTimeError:
        return offset, True, False
    except pytz.NonExistentTimeError:
        return offset, False, True
    return offset, False, False
