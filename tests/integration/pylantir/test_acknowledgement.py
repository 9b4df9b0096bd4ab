"""An entry counts as delivered when Pylantir's database holds it: commits that fail, rows that vanish, kills."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable

import pytest
from pylantir.data_sources.base import PluginFetchError

from tests.support.bookings_by_hour import booking, site_now, span
from tests.support.both_plugins import fails_upstream


def test_a_rolled_back_transaction_is_sent_again(site: Callable) -> None:
    """A commit that fails leaves every entry of its cycle pending; the next cycle brings them all."""
    here = site()
    here.sim.put(booking(1, "SUB1_Doe"))
    here.sim.put(booking(2, "SUB2_Roe"))
    here.host.fail_commits = 1
    assert here.sync() == 2
    assert here.host.database_errors
    assert here.shown == []
    assert here.sync() == 2
    assert here.shown == ["SUB1", "SUB2"]
    assert here.sync() == 0


def test_a_rolled_back_cancellation_is_sent_again(site: Callable) -> None:
    """A cancellation whose commit failed takes the row off the list in the next cycle."""
    here = site()
    here.sim.put(booking(1, "SUB1_Doe"))
    here.sync()
    here.sim.delete(1)
    here.host.fail_commits = 1
    here.sync()
    assert here.shown == ["SUB1"]
    here.sync()
    assert here.shown == []


def test_delivery_outlives_a_restart(site: Callable) -> None:
    """After a restart nothing is sent again that the database holds."""
    here = site()
    here.sim.put(booking(1, "SUB1_Doe"))
    here.sync()
    here.restart()
    assert here.sync() == 0
    assert here.shown == ["SUB1"]


def test_a_kill_before_the_look_sends_once_more_and_changes_nothing(site: Callable) -> None:
    """Killed between commit and acknowledgement, the entry comes again and the row stays what it is."""
    here = site()
    here.sim.put(booking(1, "SUB1_Doe"))
    here.plugin.cleanup = lambda: None
    here.sync()
    before = here.host.rows()
    here.plugin._prepared = {}
    here.restart()
    assert here.sync() == 1
    assert here.host.rows() == before
    assert here.sync() == 0


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM worklist_items",
        "UPDATE worklist_items SET patient_id = 'ANOTHER'",
        "UPDATE worklist_items SET scheduled_start_time = '0900'",
    ],
)
def test_a_row_lost_or_changed_by_another_hand_is_written_again(site: Callable, damage: str) -> None:
    """A database that was restored, emptied or edited shows what Calpendo says after the next cycle."""
    here = site()
    here.sim.put(booking(1, "SUB1_Doe"))
    here.sync()
    before = here.host.find()
    with contextlib.closing(sqlite3.connect(here.host.database)) as connection, connection:
        connection.execute(damage)
    assert here.sync() == 1
    assert here.host.find() == before
    assert here.sync() == 0


def test_a_new_database_gets_every_row_with_the_same_study_uids(site: Callable) -> None:
    """An emptied database is filled again, and every booking has the study UID that it had."""
    here = site()
    for number in (1, 2, 3):
        here.sim.put(booking(number, f"SUB{number}_Doe"))
    here.sync()
    before = {line.patient_id: line.study_uid for line in here.host.find()}
    with contextlib.closing(sqlite3.connect(here.host.database)) as connection, connection:
        connection.execute("DELETE FROM worklist_items")
    here.sync()
    assert {line.patient_id: line.study_uid for line in here.host.find()} == before


def test_a_row_that_was_withdrawn_does_not_come_back_by_the_loss_of_the_database(site: Callable) -> None:
    """A cancelled booking's missing row is not missed."""
    here = site()
    here.sim.put(booking(1, "SUB1_Doe"))
    here.sync()
    here.sim.edit(1, status="Cancelled")
    here.sync()
    with contextlib.closing(sqlite3.connect(here.host.database)) as connection, connection:
        connection.execute("DELETE FROM worklist_items")
    assert here.sync() == 0


def test_outside_pylantir_nothing_is_acknowledged(site: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a database to look into, every cycle brings what nobody confirmed."""
    monkeypatch.setattr("pipeline.pylantir.host_rows.database_path", lambda: None)
    here = site()
    here.sim.put(booking(1, "SUB1_Doe"))
    assert here.sync() == 1
    assert here.sync() == 1
    assert len(here.host.rows()) == 1


@fails_upstream("one 503 among the details fails the whole batch")
def test_a_failing_detail_costs_no_other_and_comes_later(site: Callable, kind: str) -> None:
    """T008: a detail that cannot be had is owed; the others go out at once, and it follows."""
    here = site(kind, max_retries=0)
    here.sim.put(booking(1, "SUB1_Doe"))
    here.sim.put(booking(2, "SUB2_Roe"))
    here.sim.faults.add("status", match=r"/b/Calpendo\.Booking/1$", code=503, times=1)
    try:
        here.sync()
    except Exception as error:
        raise AssertionError("the batch failed") from error
    assert here.shown == ["SUB2"]
    here.sync()
    assert here.shown == ["SUB1", "SUB2"]


@fails_upstream("silently dropped")
@pytest.mark.parametrize("fault", ["reset", "truncate", "html", "empty"])
def test_a_spoilt_detail_is_asked_for_again(site: Callable, kind: str, fault: str) -> None:
    """A detail that is reset, cut off, HTML or empty is tried again; no booking is dropped in silence."""
    here = site(kind)
    here.sim.put(booking(1, "SUB1_Doe"))
    here.sim.put(booking(2, "SUB2_Roe"))
    here.sim.faults.add(fault, match=r"/b/Calpendo\.Booking/1$", times=1)
    here.sync()
    assert here.shown == ["SUB1", "SUB2"]


@fails_upstream("[] is returned as a success", raises=pytest.fail.Exception)
def test_all_details_failing_is_an_error(site: Callable, kind: str) -> None:
    """When no detail can be had the cycle fails, and the list stays as it was."""
    here = site(kind, max_retries=0)
    for number in (1, 2, 3):
        here.sim.put(booking(number, f"SUB{number}_Doe"))
    here.sim.faults.add("html", match=r"/b/Calpendo\.Booking/")
    with pytest.raises(PluginFetchError):
        here.sync()


def test_an_outage_takes_nothing_off_the_list(site: Callable) -> None:
    """While Calpendo answers nothing usable, the list stays; afterwards it is what Calpendo holds."""
    here = site(max_retries=0)
    here.sim.put(booking(1, "SUB1_Doe"))
    here.sim.put(booking(2, "SUB2_Roe"))
    here.sync()
    for fault in ("html", "empty", "login_page", "not_biskits"):
        here.sim.faults.add(fault)
        with pytest.raises(PluginFetchError):
            here.sync()
        here.sim.faults.clear()
        assert here.shown == ["SUB1", "SUB2"]
    here.sim.edit(1, formattedName=span(site_now(), 30))
    here.sim.delete(2)
    here.sync()
    assert here.shown == ["SUB1"]
