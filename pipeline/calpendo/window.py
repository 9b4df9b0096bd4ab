"""Which bookings are on the list: the window, in site time, right across daylight-saving changes (T003).

Lengths are added to instants, never to wall-clock times: a window of 24 hours is 24 hours also in the night of a
change. Clock times of a day (``today``, ``daily_window``) are wall-clock times, and become instants here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

import pytz

from pipeline.errors import PluginConfigError

if TYPE_CHECKING:
    from pytz import _UTCclass
    from pytz.tzinfo import DstTzInfo, StaticTzInfo

    from pipeline.config import PipelineConfig

    Zone = _UTCclass | StaticTzInfo | DstTzInfo

_SECOND = timedelta(seconds=1)
_OLDEST = datetime(1970, 1, 1, tzinfo=UTC)
MOST_DAYS = 366
"""How many days a person may look ahead."""


@dataclass(frozen=True)
class Window:
    """A half-open span of time, ``start <= t < end``; aware datetimes in the site's zone.

    ``query_start`` is how far back the server is asked, so that a booking which began before ``start`` and still
    runs is on the answer; it equals ``start`` where running bookings are not wanted.
    """

    start: datetime
    end: datetime
    query_start: datetime


def window_for(config: PipelineConfig, now: datetime, sync_interval: float) -> Window:
    """Return the window that a cycle at ``now`` (aware, any zone) asks for.

    Rolling: ``now - sync_interval * lookback_multiplier`` to ``now + lookahead_hours``; ``sync_interval`` in seconds.
    Today: from the site's midnight to the next one. A daily window: between its two clock times of today; one that
    crosses midnight is, before its end in the morning, the one that began yesterday.

    Raises PluginConfigError when ``sync_interval`` is not a number of seconds that a calendar can hold.
    """
    if now.tzinfo is None:
        raise ValueError("now must be an aware datetime")
    zone = pytz.timezone(config.timezone)
    if config.daily_window is not None:
        start, end = _daily(zone, now, config.daily_window.start_time, config.daily_window.end_time)
    elif config.window_mode == "today":
        start, end = _daily(zone, now, time.min, time.min)
    else:
        start, end = _rolling(config, now, sync_interval)
    back = timedelta(hours=config.max_booking_hours) if config.include_running else timedelta(0)
    return Window(
        start=start.astimezone(zone),
        end=end.astimezone(zone),
        query_start=(start - back).astimezone(zone),
    )


def window_of_days(config: PipelineConfig, now: datetime, days: int) -> Window:
    """Return the site's next ``days`` days, today included: from this midnight to the one after the last of them.

    Raises PluginConfigError when there is no such number of days.
    """
    if isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= MOST_DAYS:
        raise PluginConfigError(f"days must be a whole number from 1 to {MOST_DAYS}, not {days!r}")
    zone = pytz.timezone(config.timezone)
    today = now.astimezone(zone).date()
    start = _instant(zone, today, time.min, earliest=True)
    end = _instant(zone, today + timedelta(days=days), time.min, earliest=True)
    back = timedelta(hours=config.max_booking_hours) if config.include_running else timedelta(0)
    return Window(start.astimezone(zone), end.astimezone(zone), (start - back).astimezone(zone))


def is_inside(window: Window, start: datetime, end: datetime | None, config: PipelineConfig) -> bool:
    """Return whether a booking with these aware times lies in a window, or runs into it where that is wanted."""
    is_running = config.include_running and end is not None and end > window.start
    return start < window.end and (start >= window.start or is_running)


def appears(config: PipelineConfig, sync_interval: float, now: datetime, start: datetime) -> datetime | None:
    """Return from when on the window holds a booking that begins at ``start``; None where it never will.

    Args:
        config: the window's options.
        sync_interval: seconds between two cycles.
        now: the aware present.
        start: the booking's start, aware.

    Returns:
        The first moment from ``now`` on, in the site's zone.
    """
    zone = pytz.timezone(config.timezone)
    if config.window_mode == "rolling" and config.daily_window is None:
        moments = [start - timedelta(hours=config.lookahead_hours) + timedelta(microseconds=1)]
    else:
        # A day's window is in force from the midnight before it, or from the end of the night's window before it.
        day = start.astimezone(zone).date()
        midnights = [_instant(zone, day - timedelta(days=back), time.min, earliest=True) for back in (1, 0)]
        moments = [at for midnight in midnights for at in (midnight, window_for(config, midnight, 0.0).end)]
    for first in sorted(moments):
        at = max(first, now)
        if is_inside(window_for(config, at, sync_interval), start, None, config):
            return at.astimezone(zone)
    return None


def _rolling(config: PipelineConfig, now: datetime, sync_interval: float) -> tuple[datetime, datetime]:
    instant = now.astimezone(UTC)
    lookback = sync_interval * config.lookback_multiplier
    if not math.isfinite(lookback) or lookback < 0:
        raise PluginConfigError(
            f"sync_interval must be a number of seconds, 0 or more, not {sync_interval!r}"
        )
    if lookback > (instant - _OLDEST).total_seconds():
        raise PluginConfigError(
            f"sync_interval {sync_interval!r} times lookback_multiplier {config.lookback_multiplier!r} "
            "reaches back beyond 1970: give seconds"
        )
    return instant - timedelta(seconds=lookback), instant + timedelta(hours=config.lookahead_hours)


def _daily(zone: Zone, now: datetime, start_clock: time, end_clock: time) -> tuple[datetime, datetime]:
    wall = now.astimezone(zone)
    first = wall.date()
    overnight = end_clock <= start_clock
    if overnight and end_clock > time.min and wall.time() < end_clock:
        first -= timedelta(days=1)
    last = first + timedelta(days=1) if overnight else first
    # Midnight is where the date changes: the first one, where a zone has it twice (Havana).
    midnight = end_clock == time.min
    return _instant(zone, first, start_clock, earliest=True), _instant(
        zone, last, end_clock, earliest=midnight
    )


def _instant(zone: Zone, day: date, clock: time, *, earliest: bool) -> datetime:
    """Return the UTC instant at which the site's clock shows ``clock``.

    A clock time that comes twice is the first one at a window's start and the second one at its end, so that no
    booking of the repeated hour is lost. One that is skipped is the moment of the change itself.
    """
    naive = datetime.combine(day, clock)
    early, late = sorted(zone.localize(naive, is_dst=dst).astimezone(UTC) for dst in (True, False))
    if late.astimezone(zone).replace(tzinfo=None) == naive:
        return early if earliest else late
    # In the gap the two readings enclose the change: halve until the second in which the offset jumps is found.
    before = early.astimezone(zone).utcoffset()
    while late - early > _SECOND:
        middle = early + (late - early) / 2
        if middle.astimezone(zone).utcoffset() == before:
            early = middle
        else:
            late = middle
    return late.replace(microsecond=0)
