"""Booking times in both forms -> naive site time and UTC (T012).

- Generation A, ``formattedName``: ``[YYYY-MM-DD HH:MM:SS.f, YYYY-MM-DD HH:MM:SS.f]`` in the site's wall-clock time.
  As with ``re.match`` text after the bracket is allowed; the seconds' fraction may be missing.
- Generation B, ``dateRange``: ISO 8601 date and time, ``T`` or a blank between, seconds optional, then ``Z``,
  ``+hh``, ``+hhmm``, ``+hh:mm`` or nothing (site time). A date without a time is unreadable.

Fractions of any length are read; digits beyond microseconds are cut off (Java prints up to nine). Ambiguous and
non-existent wall-clock times resolve as pytz's ``localize(is_dst=False)`` does and are flagged. Times of the first and
the last two days that a calendar of four-digit years holds are unreadable: zone arithmetic would leave it.

A zone's rules become a small table of breakpoints made from pytz's own answers, once per zone; a column is then looked up
in it by binary search. polars' own zone data is not used: it lags behind pytz.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import polars as pl
import pytz

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig


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


_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_STAMP = rf"{_DATE} {_CLOCK}:[0-5][0-9]"
_FRACTION = r"(?:\.[0-9]+)?"
_PAIR: Final = rf"\A\[({_STAMP})({_FRACTION}), ({_STAMP})({_FRACTION})\]"
_USUAL_PAIR: Final = rf"\A\[{_STAMP}\.0, {_STAMP}\.0\]"
"""What the server writes: only here start and end stand at fixed places."""
_OFFSET = r"Z|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?"
_ISO: Final = rf"\A({_DATE})[T ]({_CLOCK})(:[0-5][0-9])?({_FRACTION})({_OFFSET})?\z"

_NAIVE = pl.Datetime("us")
_TIMES: Final = pl.Struct(
    {
        "wall_start": _NAIVE,
        "wall_end": _NAIVE,
        "start_utc": _NAIVE,
        "end_utc": _NAIVE,
        "dst_ambiguous": pl.Boolean,
        "dst_nonexistent": pl.Boolean,
    }
)


class GivenTimes(NamedTuple):
    """Wall-clock times as a booking gives them, and their offset from UTC where it gives one (else null)."""

    walls: pl.Series
    offsets: pl.Series | None


class SiteTimes(NamedTuple):
    """The same as naive site time and naive UTC, with the flags of the zone's clock changes."""

    walls: pl.Series
    instants: pl.Series
    ambiguous: pl.Series
    nonexistent: pl.Series


def add_times(bookings: pl.LazyFrame, config: PipelineConfig) -> pl.LazyFrame:
    """Add a booking's times; they are null where missing or unreadable.

    Reads ``formatted_name`` (where ``generation`` is A), ``range_start`` and ``range_finish`` (B). Adds ``wall_start``,
    ``wall_end`` (naive site time), ``start_utc``, ``end_utc`` (naive UTC), all Datetime(us), and the Booleans
    ``dst_ambiguous``, ``dst_nonexistent`` (true where start or end was given as such a wall-clock time) and
    ``multi_day`` (the booking reaches into another day of the site than its first; midnight as its end does not).
    """
    zone = config.timezone
    # Not in one expression each: which rows need the slow ways is known only from the data.
    times = pl.struct("formatted_name", "range_start", "range_finish").map_batches(
        lambda given: _read(given, zone), return_dtype=_TIMES, is_elementwise=True
    )
    last_day = (pl.col("wall_end") - pl.duration(microseconds=1)).dt.date()
    reaches_over = (last_day > pl.col("wall_start").dt.date()).fill_null(value=False)
    return (
        bookings.with_columns(times.alias("_times"))
        .unnest("_times")
        .with_columns(reaches_over.alias("multi_day"))
    )


def in_zone(instants: pl.Expr, zone: str) -> pl.Expr:
    """Return naive UTC as the zone's naive wall clock."""
    if zone == "UTC":
        return instants
    return instants.map_batches(lambda utc: to_wall(utc, zone), return_dtype=_NAIVE, is_elementwise=True)


def formatted(walls: pl.Expr) -> pl.Expr:
    """Write a naive time as generation A does: ``2026-01-27 14:00:00.0``, at least one digit of fraction."""
    fraction = walls.dt.microsecond().cast(pl.String).str.pad_start(6, "0").str.strip_chars_end("0")
    return pl.concat_str(
        walls.dt.to_string("%Y-%m-%d %H:%M:%S."),
        pl.when(fraction == "").then(pl.lit("0")).otherwise(fraction),
    )


def _read(given: pl.Series, zone: str) -> pl.Series:
    """Read all starts and, behind them, all ends: each step's own cost is paid once."""
    columns = given.struct.unnest()
    is_range = columns["range_start"].is_not_null() | columns["range_finish"].is_not_null()
    times = _read_pairs(columns["formatted_name"])
    if is_range.any():
        ranges = pl.concat([columns["range_start"], columns["range_finish"]])
        times = _with_ranges(times.walls, pl.concat([is_range, is_range]).arg_true(), ranges)
    site = _at_site(times, zone)
    size = len(columns)
    return pl.DataFrame(
        {
            "wall_start": site.walls.head(size),
            "wall_end": site.walls.tail(size),
            "start_utc": site.instants.head(size),
            "end_utc": site.instants.tail(size),
            "dst_ambiguous": site.ambiguous.head(size) | site.ambiguous.tail(size),
            "dst_nonexistent": site.nonexistent.head(size) | site.nonexistent.tail(size),
        }
    ).to_struct("times")


def _at_site(given: GivenTimes, zone: str) -> SiteTimes:
    """Resolve wall-clock times by the zone's rules, those with an offset by their offset."""
    table = wall_table(zone)
    places = place(table.starts, given.walls)
    offsets = table.offsets.gather(places)
    ambiguous = table.ambiguous.gather(places).fill_null(value=False)
    nonexistent = table.nonexistent.gather(places).fill_null(value=False)
    if given.offsets is None or given.offsets.null_count() == len(given.offsets):
        return SiteTimes(given.walls, given.walls - offsets, ambiguous, nonexistent)
    by_clock = given.offsets.is_null()
    instants = given.walls - offsets.zip_with(by_clock, given.offsets)
    walls = given.walls.zip_with(by_clock, to_wall(instants, zone))
    return SiteTimes(walls, instants, ambiguous & by_clock, nonexistent & by_clock)


def _read_pairs(texts: pl.Series) -> GivenTimes:
    """Read generation A: all starts, then all ends."""
    times = _stamps(pl.concat([texts.str.slice(1, 19), texts.str.slice(24, 19)]))
    usual = texts.str.contains(_USUAL_PAIR)
    if not usual.all():
        rows = (~usual).arg_true()
        groups = texts.gather(rows).str.extract_groups(_PAIR).struct.unnest()
        stamps = _stamps(pl.concat([groups["1"], groups["3"]]), pl.concat([groups["2"], groups["4"]]))
        times = times.scatter(pl.concat([rows, rows + len(texts)]), stamps)
    return GivenTimes(times, None)


def _with_ranges(walls: pl.Series, rows: pl.Series, texts: pl.Series) -> GivenTimes:
    """Put the ISO times of generation B into their rows."""
    groups = texts.gather(rows).str.extract_groups(_ISO).struct.unnest()
    seconds = groups["3"].fill_null(":00")
    stamps = _stamps(groups["1"] + " " + groups["2"] + seconds, groups["4"])
    offsets = pl.Series([None], dtype=pl.Duration("us")).new_from_index(0, len(walls))
    return GivenTimes(walls.scatter(rows, stamps), offsets.scatter(rows, _iso_offsets(groups["5"])))


class Readings(NamedTuple):
    """The earliest and the latest instant (naive UTC) that each of some written times may mean; null: unreadable."""

    earliest: pl.Series
    latest: pl.Series


def pair_readings(texts: Sequence[str | None], zone: str) -> tuple[Readings, Readings]:
    """Read times of generation A as far as they can be told without doubt: the starts and the ends."""
    found = _readings(_read_pairs(pl.Series(texts, dtype=pl.String)), zone)
    size = len(texts)
    starts, ends = (
        Readings(*(part(series, size) for series in found)) for part in (pl.Series.head, pl.Series.tail)
    )
    return starts, ends


def names_offset(text: str) -> bool:
    """Return whether an ISO time says how far from UTC it is."""
    found = re.match(_ISO.replace(r"\z", r"\Z"), text)
    return found is not None and found[5] is not None


def iso_readings(texts: Sequence[str | None], zone: str) -> Readings:
    """Read times of generation B as far as they can be told without doubt."""
    return _readings(_read_isos(pl.Series(texts, dtype=pl.String)), zone)


def _readings(given: GivenTimes, zone: str) -> Readings:
    """Read both ways what the site's clock shows twice or never; elsewhere both instants are the same."""
    site = _at_site(given, zone)
    rows = (site.ambiguous | site.nonexistent).arg_true()
    clock = pytz.timezone(zone)
    others = [
        clock.localize(wall, is_dst=True).astimezone(pytz.utc).replace(tzinfo=None)
        for wall in given.walls.gather(rows)
    ]
    other = site.instants.clone().scatter(rows, pl.Series(others, dtype=_NAIVE))
    return Readings(
        other.zip_with(other < site.instants, site.instants),
        other.zip_with(other > site.instants, site.instants),
    )


def iso_instants(texts: pl.Series) -> pl.Series:
    """Read ISO times for ordering: naive UTC where an offset is given, else as written; unreadable -> null."""
    given = _read_isos(texts)
    offsets = pl.Series([], dtype=pl.Duration("us")) if given.offsets is None else given.offsets
    return (given.walls - offsets.fill_null(pl.duration())).alias(texts.name)


def _read_isos(texts: pl.Series) -> GivenTimes:
    """Read ISO times alone."""
    nothing = pl.Series(texts.name, [None], dtype=_NAIVE).new_from_index(0, len(texts))
    return _with_ranges(nothing, pl.int_range(len(texts), eager=True), texts)


def _iso_offsets(texts: pl.Series) -> pl.Series:
    """Read ``Z``, ``+hh``, ``+hhmm`` and ``+hh:mm``; null stays null."""
    digits = texts.replace("Z", "+0000").str.replace(":", "", literal=True).str.pad_end(5, "0")
    minutes = digits.str.slice(1, 2).cast(pl.Int64) * 60 + digits.str.slice(3, 2).cast(pl.Int64)
    signed = minutes.zip_with(~digits.str.starts_with("-"), -minutes)
    return (signed * 60_000_000).cast(pl.Duration("us"))


def _stamps(texts: pl.Series, fractions: pl.Series | None = None) -> pl.Series:
    """Read ``YYYY-MM-DD HH:MM:SS`` (already of that form) and its fraction; no such day or year -> null."""
    times = texts.str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", strict=False, cache=False)
    times = times.set((times < EARLIEST) | (times >= LATEST), None)
    if fractions is None:
        return times
    micros = fractions.str.slice(1, 6).str.pad_end(6, "0").cast(pl.Int64)
    return times + micros.cast(pl.Duration("us"))
