"""Which rows a C-FIND gets: the filter on an instance that was never validated, in every window and zone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytz
from pylantir.models import WorklistItem

from pipeline.pylantir import CalendoPylantirPlugin
from tests.support.bookings_by_hour import ZONE, booking, site_now, source, span
from tests.support.both_plugins import fails_upstream
from tests.support.worklist_host import WorklistHost

NOON = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)  # at the site, which is on UTC-6


def seen(
    host: WorklistHost,
    config: Any,
    rows: dict[str, tuple[datetime, str]],
    *,
    now: datetime = NOON,
    **how: Any,
):
    """Store rows (aware start, status) of a source "mri" in the configuration's zone; return those shown at ``now``."""
    zone = how.pop("zone", pytz.timezone(ZONE))
    with host.session() as session:
        for number, (subject, (start, status)) in enumerate(rows.items(), 1):
            local = start.astimezone(zone)
            session.add(
                WorklistItem(
                    patient_id=subject,
                    scheduled_start_date=f"{local:%Y%m%d}",
                    scheduled_start_time=f"{local:%H%M%S}",
                    performed_procedure_step_status=status,
                    data_source="mri",
                    source_record_id=str(number),
                )
            )
        session.commit()
        chosen = CalendoPylantirPlugin().get_mwl_query_filter("mri", config=config, **how)
        return sorted(row.patient_id for row in chosen(session.query(WorklistItem), now))


def at(hours: float) -> tuple[datetime, str]:
    """A SCHEDULED row that starts so many hours from noon."""
    return NOON + timedelta(hours=hours), "SCHEDULED"


SITE = {"timezone": ZONE, "output_timezone": "site"}


@pytest.mark.parametrize(
    "config", [None, {}, {"base_url": 7, "window_mode": "x", "keep_past_hours": "y"}, SITE]
)
def test_there_always_is_a_filter(host: WorklistHost, config: Any) -> None:
    """On an instance never validated, with any configuration: ended and cancelled rows are hidden."""
    rows = {
        "NOW": (NOON, "SCHEDULED"),
        "RUNS": (NOON, "IN_PROGRESS"),
        "DONE": (NOON, "COMPLETED"),
        "GONE": (NOON, "DISCONTINUED"),
        "OLD": at(-50),
        "FAR": at(30),
    }
    zone = pytz.timezone(ZONE) if config is SITE else UTC
    assert seen(host, config, rows, zone=zone) == ["NOW", "RUNS"]


@pytest.mark.parametrize("zone", ["site", "UTC", "Asia/Tokyo", "Pacific/Kiritimati"])
def test_rows_are_compared_in_the_zone_they_are_written_in(host: WorklistHost, zone: str) -> None:
    """The stored wall clock is read in output_timezone: the same rows are shown whatever zone that is."""
    config = {"timezone": ZONE, "output_timezone": zone}
    written = pytz.timezone(ZONE if zone == "site" else zone)
    rows = {"LONG_AGO": at(-12.1), "AGO": at(-11.9), "SOON": at(1), "LATER": at(23.9), "TOO_LATE": at(24.1)}
    assert seen(host, config, rows, zone=written) == ["AGO", "LATER", "SOON"]


@pytest.mark.parametrize("zone", ["site", "UTC"])
def test_today_is_the_sites_day(host: WorklistHost, zone: str) -> None:
    """window_mode "today": from midnight to midnight of the site, though UTC's day changes in the evening."""
    config = {"timezone": ZONE, "output_timezone": zone, "window_mode": "today"}
    rows = {"YESTERDAY": at(-12.1), "FIRST": at(-12), "LAST": at(11.9), "TOMORROW": at(12)}
    written = pytz.timezone(ZONE if zone == "site" else zone)
    assert seen(host, config, rows, zone=written) == ["FIRST", "LAST"]


def test_a_daily_window_is_kept(host: WorklistHost) -> None:
    """daily_window: from its first clock time to before its second."""
    config = SITE | {"daily_window": {"start_time": [10, 0], "end_time": [14, 30]}}
    rows = {"EARLY": at(-2.1), "FIRST": at(-2), "LAST": at(2.4), "LATE": at(2.5)}
    assert seen(host, config, rows) == ["FIRST", "LAST"]


def test_a_daily_window_over_midnight_is_kept(host: WorklistHost) -> None:
    """A window that crosses midnight is, in the small hours, the one that began yesterday."""
    config = SITE | {"daily_window": {"start_time": [22, 0], "end_time": [4, 0]}}
    rows = {"EVENING": at(10.5), "NIGHT": at(15.5), "MORNING": at(16.5)}
    assert seen(host, config, rows, now=NOON + timedelta(hours=14)) == ["EVENING", "NIGHT"]


def test_a_scan_that_overruns_is_shown_over_midnight(host: WorklistHost) -> None:
    """IN_PROGRESS is shown as long as a booking can last, whatever the window."""
    config = SITE | {"window_mode": "today"}
    rows = {
        "RUNS": (NOON + timedelta(hours=11), "IN_PROGRESS"),
        "SAT": (NOON - timedelta(hours=20), "IN_PROGRESS"),
    }
    assert seen(host, config, rows, now=NOON + timedelta(hours=13)) == ["RUNS"]


@fails_upstream("rows without a source vanish beside a Calpendo source in today mode")
def test_rows_of_other_sources_are_left_alone(host: WorklistHost, kind: str) -> None:
    """Only rows of the own source are filtered: others, and those without a source, stay whatever they are."""
    from tests.integration.pylantir.conftest import new_plugin

    with host.session() as session:
        for name in ("redcap", None):
            session.add(
                WorklistItem(
                    patient_id=str(name),
                    data_source=name,
                    scheduled_start_date="2019-01-01",
                    performed_procedure_step_status="DISCONTINUED",
                )
            )
        session.commit()
        chosen = new_plugin(kind).get_mwl_query_filter("mri", config=SITE | {"window_mode": "today"})
        assert sorted(row.patient_id for row in chosen(session.query(WorklistItem))) == ["None", "redcap"]
        if kind == "ours":
            scoped = CalendoPylantirPlugin().get_mwl_query_filter("mri", True, SITE)
            assert [row.patient_id for row in scoped(session.query(WorklistItem))] == ["redcap"]


def shown_at(here: Any, hours: float) -> list[str]:
    """The subjects shown so many hours from now, by the ledger of a site that has synced."""
    chosen = CalendoPylantirPlugin().get_mwl_query_filter("mri", config=here.settings["config"])
    with here.host.session() as session:
        return sorted(
            row.patient_id
            for row in chosen(session.query(WorklistItem), datetime.now(UTC) + timedelta(hours=hours))
        )


def test_a_row_leaves_the_list_an_hour_after_its_bookings_end(site: Callable) -> None:
    """The end is the booking's, from the ledger: a long one stays longer."""
    here = site()
    here.sim.put(booking(1, "SUB1_Doe", hours=1, minutes=30))
    here.sim.put(booking(2, "SUB2_Roe", hours=1, minutes=240))
    here.sync()
    assert shown_at(here, 2.4) == ["SUB1", "SUB2"]
    assert shown_at(here, 2.6) == ["SUB2"]
    assert shown_at(here, 6.1) == []


def test_keep_past_hours_is_an_option(site: Callable) -> None:
    """keep_past_hours: 0 takes a row off at its booking's end, 5 keeps it five hours."""
    for hours, expected in ((0, []), (5, ["SUB1"])):
        here = site(keep_past_hours=hours)
        if not here.sim.ids():
            here.sim.put(booking(1, "SUB1_Doe", hours=1, minutes=30))
        here.sync()
        assert shown_at(here, 1.6) == expected


def test_a_booking_longer_than_any_other_is_shown_while_it_lasts(site: Callable) -> None:
    """A booking over two days stays on the list until it ends."""
    here = site(max_booking_hours=48)
    here.sim.put(booking(1, "SUB1_Doe", hours=-20, minutes=30 * 60))
    here.sync()
    assert here.shown == ["SUB1"]
    here.settings["config"]["max_booking_hours"] = 12
    assert shown_at(here, 0) == ["SUB1"]
    assert shown_at(here, 11.5) == []


def test_a_database_with_two_sources(host: WorklistHost, sim: Any, start: Callable) -> None:
    """Two Calpendo sources share a database: each filters its own rows, and a withdrawal touches one source."""
    sim.put(booking(1, "SUB1_Doe"))
    sim.put(booking(2, "EEG2_Roe", resource="EEG Lab"))
    sources = [source(sim.url), source(sim.url, "eeg", resources=["EEG Lab"])]
    plugins = [start(settings) for settings in sources]
    for settings in sources:
        host.use_filter(CalendoPylantirPlugin(), settings)
    for plugin, settings in zip(plugins, sources, strict=True):
        host.cycle(plugin, settings)
    assert host.shown == ["EEG2", "SUB1"]
    sim.delete(1)
    for plugin, settings in zip(plugins, sources, strict=True):
        host.cycle(plugin, settings)
    assert host.shown == ["EEG2"]


def test_the_same_rows_from_a_server_in_utc(site: Callable) -> None:
    """output_timezone UTC: the wire carries UTC, and the filter shows and hides the same rows."""
    here = site(output_timezone="UTC")
    here.sim.put(booking(1, "SUB1_Doe", hours=1))
    here.sim.put(booking(2, "SUB2_Roe", hours=-3, minutes=60, status="Approved"))
    here.sync()
    start = pytz.timezone(ZONE).localize(site_now() + timedelta(hours=1)).astimezone(UTC)
    (line,) = here.host.find()
    assert (line.date, line.time) == (f"{start:%Y%m%d}", f"{start:%H%M}00")
    here.sim.edit(1, formattedName=span(site_now() + timedelta(days=3), 60))
    here.sync()
    assert here.shown == []
