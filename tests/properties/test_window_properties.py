"""Windows and their queries across daylight-saving changes, for zones whose rules differ in every way they can."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pytest
import pytz
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.calpendo.query import wall_bounds
from pipeline.calpendo.responses import surely_outside
from pipeline.calpendo.window import Window, appears, is_inside, window_for
from pipeline.config import DailyWindow, PipelineConfig
from pipeline.errors import PluginConfigError

ZONES = [
    "America/Edmonton",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Africa/Casablanca",
    "America/Havana",
    "Antarctica/Troll",
    "Asia/Kathmandu",
    "UTC",
]
BASE = PipelineConfig.from_dict(
    {"base_url": "https://calpendo.test", "resources": ["x"], "field_mapping": {}}, environ={}
)
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2030, 12, 31)).map(  # noqa: DTZ001  made aware at once
    lambda moment: moment.replace(tzinfo=UTC)
)
CLOCKS = st.times().map(lambda clock: clock.replace(second=0, microsecond=0))
FALL_BACK = datetime(2025, 11, 2, 8, 0, tzinfo=UTC)  # 02:00 MDT becomes 01:00 MST
SPRING_FORWARD = datetime(2026, 3, 8, 9, 0, tzinfo=UTC)  # 02:00 MST becomes 03:00 MDT


def changes(zone: str) -> list[datetime]:
    """Return the UTC hours of 2020-2030 within which the zone's offset changes."""
    rules = pytz.timezone(zone)

    def moved(step: timedelta, moments: list[datetime]) -> list[datetime]:
        return [
            moment
            for moment in moments
            if moment.astimezone(rules).utcoffset() != (moment + step).astimezone(rules).utcoffset()
        ]

    days = moved(
        timedelta(days=1), [datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=day) for day in range(4017)]
    )
    hour = timedelta(hours=1)
    return [at + hour for at in moved(hour, [day + hour * step for day in days for step in range(24)])]


CHANGES = {zone: changes(zone) for zone in ("America/Edmonton", "Australia/Lord_Howe", "Antarctica/Troll")}
NEAR_CHANGES = st.sampled_from(sorted(CHANGES)).flatmap(
    lambda zone: st.tuples(
        st.just(zone),
        st.sampled_from(CHANGES[zone]),
        st.integers(-5 * 60, 5 * 60).map(lambda m: timedelta(minutes=m)),
    ).map(lambda drawn: (drawn[0], drawn[1] + drawn[2]))
)


@given(
    zone=st.sampled_from(ZONES),
    now=MOMENTS,
    interval=st.floats(0, 10**6),
    multiplier=st.floats(0.1, 10),
    ahead=st.floats(0.5, 72),
)
def test_a_rolling_window_is_measured_in_instants(
    zone: str, now: datetime, interval: float, multiplier: float, ahead: float
) -> None:
    """T003: now - sync_interval * lookback_multiplier to now + lookahead, to the microsecond, in any zone."""
    config = BASE.model_copy(
        update={"timezone": zone, "lookback_multiplier": multiplier, "lookahead_hours": ahead}
    )
    window = window_for(config, now, interval)
    assert window.start == now - timedelta(seconds=interval * multiplier)
    assert window.end == now + timedelta(hours=ahead)
    assert window.query_start == window.start - timedelta(hours=12)
    assert {moment.tzinfo.zone for moment in (window.start, window.end)} == {zone}  # type: ignore[union-attr]


@given(zone=st.sampled_from(ZONES), now=MOMENTS)
@example("America/Edmonton", FALL_BACK)
@example("America/Edmonton", SPRING_FORWARD)
@example("America/Havana", datetime(2026, 3, 8, 12, tzinfo=UTC))
@example("America/Havana", datetime(2021, 11, 6, 12, tzinfo=UTC))
@example("America/Havana", datetime(2021, 11, 7, 12, tzinfo=UTC))
def test_today_is_the_sites_day(zone: str, now: datetime) -> None:
    """T003: today holds exactly the instants whose site date is today, be the day 23, 24 or 25 hours long."""
    window = window_for(BASE.model_copy(update={"timezone": zone, "window_mode": "today"}), now, 60)
    rules = pytz.timezone(zone)
    today = now.astimezone(rules).date()
    tick = timedelta(seconds=1)
    assert window.start <= now < window.end
    assert window.start.astimezone(rules).date() == today == (window.end - tick).astimezone(rules).date()
    assert window.end.astimezone(rules).date() == today + timedelta(days=1)
    assert (window.start - tick).astimezone(rules).date() < today


@given(zone=st.sampled_from(ZONES), now=MOMENTS, start=CLOCKS, end=CLOCKS)
@example("America/Edmonton", SPRING_FORWARD, time(2, 30), time(18))
@example("America/Edmonton", SPRING_FORWARD, time(0, 15), time(2, 45))
@example("America/Edmonton", FALL_BACK, time(1, 30), time(1, 45))
def test_a_daily_window_stands_between_its_clock_times(
    zone: str, now: datetime, start: time, end: time
) -> None:
    """T003: a daily window begins and ends when the site's clock says so, also over midnight."""
    config = BASE.model_copy(update={"timezone": zone, "daily_window": DailyWindow(start, end)})
    window = window_for(config, now, 60)
    rules = pytz.timezone(zone)
    for moment, clock in ((window.start, start), (window.end, end)):
        wall = moment.astimezone(rules)
        # A clock time that is skipped that day is the moment of the change.
        assert (
            wall.time() == clock
            or (moment - timedelta(seconds=1)).astimezone(rules).time() < clock < wall.time()
        )
    assert window.start < window.end or window.end - window.start == timedelta(0)
    assert window.end - window.start <= timedelta(hours=26)
    today = now.astimezone(rules).date()
    assert today in (window.start.date(), window.end.date(), (window.end - timedelta(seconds=1)).date())


def test_a_night_window_after_midnight_is_the_one_that_runs() -> None:
    """T003: at two in the morning a window from 20:00 to 06:00 is the one that began last evening."""
    config = BASE.model_copy(update={"daily_window": DailyWindow(time(20), time(6))})
    night = datetime(2026, 6, 10, 8, tzinfo=UTC)
    assert window_for(config, night, 60).start <= night < window_for(config, night, 60).end
    evening = window_for(config, datetime(2026, 6, 10, 14, tzinfo=UTC), 60)
    assert (evening.start.hour, evening.start.day, evening.end.hour, evening.end.day) == (20, 10, 6, 11)


@given(
    place=NEAR_CHANGES,
    length=st.integers(1, 30 * 60).map(lambda m: timedelta(minutes=m)),
    into=st.integers(0, 30 * 60).map(lambda m: timedelta(minutes=m)),
)
def test_no_reading_of_a_repeated_hour_loses_a_booking(
    place: tuple[str, datetime], length: timedelta, into: timedelta
) -> None:
    """T003: whether a server compares wall-clock texts or instants, and whichever of two like times it means, the
    query's two times enclose every booking of the window."""
    zone, start = place
    config = BASE.model_copy(update={"timezone": zone})
    booking = start + into
    if not start <= booking < start + length:
        return
    rules = pytz.timezone(zone)
    first, last = wall_bounds(config, Window(start, start + length, start))
    assert first <= booking.astimezone(rules).replace(tzinfo=None) < last
    for dst in (True, False):
        assert rules.localize(first, is_dst=dst) <= booking < rules.localize(last, is_dst=dst)


@given(zone=st.sampled_from(ZONES), start=MOMENTS)
def test_away_from_a_change_the_query_is_exact(zone: str, start: datetime) -> None:
    """T006: where no clock changes within three hours, the query's times are the window's, rounded to minutes."""
    rules = pytz.timezone(zone)
    near = {(start + timedelta(hours=step)).astimezone(rules).utcoffset() for step in range(-4, 5)}
    if len(near) > 1:
        return
    first, last = wall_bounds(BASE.model_copy(update={"timezone": zone}), Window(start, start, start))
    wall = start.astimezone(rules).replace(tzinfo=None)
    assert first == wall.replace(second=0, microsecond=0)
    assert timedelta(0) <= last - wall < timedelta(minutes=1)


@given(
    place=NEAR_CHANGES,
    begin=st.integers(-20 * 60, 20 * 60).map(lambda m: timedelta(minutes=m)),
    length=st.integers(0, 600).map(lambda m: timedelta(minutes=m)),
    include_running=st.booleans(),
    dst=st.booleans(),
)
def test_nothing_wanted_is_cut_by_the_list(
    place: tuple[str, datetime], begin: timedelta, length: timedelta, include_running: bool, dst: bool
) -> None:
    """Issue: rows cut by the list alone are never ones that the selection by pytz's rules would keep."""
    zone, start = place
    rules = pytz.timezone(zone)
    config = BASE.model_copy(update={"timezone": zone, "include_running": include_running})
    window = Window(start, start + timedelta(hours=4), start)
    texts = [(start + shift).astimezone(rules).replace(tzinfo=None) for shift in (begin, begin + length)]
    row = {"id": 1, "formattedName": f"[{texts[0]}.0, {texts[1]}.0]"}
    first, last = (rules.localize(text, is_dst=dst) for text in texts)
    inside = window.start <= first < window.end or (include_running and first < window.start < last)
    assert not (inside and surely_outside([row], window, config)[0])
    exact = {
        "dateRange.start": (start + begin).isoformat(),
        "dateRange.finish": (start + begin + length).isoformat(),
    }
    begins_inside = timedelta(0) <= begin < timedelta(hours=4)
    runs = include_running and begin < timedelta(0) <= begin + length
    assert surely_outside([row, exact], window, config)[1] == (not begins_inside and not runs)


@pytest.mark.parametrize("interval", [-1.0, float("nan"), float("inf"), 1e12])
def test_an_impossible_interval_is_a_configuration_error(interval: float) -> None:
    """T003: an interval that no calendar can hold is refused in words."""
    with pytest.raises(PluginConfigError, match="sync_interval"):
        window_for(BASE, FALL_BACK, interval)


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"formattedName": None},
        {"formattedName": "<Hidden>"},
        {"formattedName": "[yesterday, today]"},
        {"formattedName": "[2020-02-30 10:00:00.0, 2020-02-30 11:00:00.0]"},
        {"formattedName": "[2020-02-20 10:00:00.0, 2020-02-19 11:00:00.0]"},
        {"dateRange": {"start": "2020-01-01T00:00:00Z"}},
        {"properties": {"dateRange": "2020"}},
    ],
)
def test_a_row_in_doubt_is_kept(row: dict[str, object]) -> None:
    """Issue: a row that does not tell its times, or tells impossible ones, is left to the checks."""
    now = datetime(2026, 6, 10, 8, tzinfo=UTC)
    assert surely_outside([row], window_for(BASE, now, 60), BASE) == [False]


WINDOWS = st.one_of(
    st.builds(dict, lookahead_hours=st.floats(0.5, 400)),
    st.just({"window_mode": "today"}),
    st.builds(
        lambda start, end: {"daily_window": DailyWindow(start_time=start, end_time=end)}, CLOCKS, CLOCKS
    ),
)


@given(
    options=WINDOWS,
    zone=st.sampled_from(ZONES),
    now=MOMENTS,
    ahead=st.timedeltas(timedelta(0), timedelta(days=20)),
)
@example(
    options={"window_mode": "today"},
    zone="America/Havana",
    now=datetime(2025, 11, 1, 12, tzinfo=UTC),
    ahead=timedelta(1),
)
def test_a_booking_appears_when_it_is_said_to(
    options: dict[str, object], zone: str, now: datetime, ahead: timedelta
) -> None:
    """Issue: at the moment that is told the window holds the booking, and at no hour before; where none is told, never."""
    config = BASE.model_copy(update={"timezone": zone, "include_running": False, **options})
    start = now + ahead
    found = appears(config, 60, now, start)
    until = start if found is None else found
    earlier = [until - timedelta(minutes=47 * step) for step in range(1, 40)]
    assert not any(is_inside(window_for(config, at, 60), start, None, config) for at in earlier if at >= now)
    if found is not None:
        assert found >= now
        assert is_inside(window_for(config, found, 60), start, None, config)
