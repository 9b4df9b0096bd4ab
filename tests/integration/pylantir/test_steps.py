"""The status of a row between Calpendo and the scanner: who set it, who may change it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.delivery.ledger import COMPLETED, DISCONTINUED, IN_PROGRESS, SCHEDULED
from pipeline.pylantir.host_rows import Step, settle
from tests.support.bookings_by_hour import booking, site_now, span
from tests.support.both_plugins import fails_upstream

STATUSES = (SCHEDULED, IN_PROGRESS, COMPLETED, DISCONTINUED)
OURS, SCANNERS = False, True


@pytest.mark.parametrize(
    ("wanted", "stored", "known", "expected"),
    [
        # A new row, and one that nobody touched, take Calpendo's word.
        (SCHEDULED, None, None, Step(SCHEDULED)),
        (DISCONTINUED, SCHEDULED, Step(SCHEDULED), Step(DISCONTINUED)),
        (COMPLETED, SCHEDULED, None, Step(COMPLETED)),
        # Cancelled, then approved again.
        (SCHEDULED, DISCONTINUED, Step(DISCONTINUED), Step(SCHEDULED)),
        # Called completed in Calpendo by mistake.
        (SCHEDULED, COMPLETED, Step(COMPLETED), Step(SCHEDULED)),
        # The scanner's word stays while Calpendo still says approved.
        (SCHEDULED, IN_PROGRESS, Step(SCHEDULED), Step(IN_PROGRESS, SCANNERS)),
        (SCHEDULED, COMPLETED, Step(SCHEDULED), Step(COMPLETED, SCANNERS)),
        (SCHEDULED, DISCONTINUED, Step(SCHEDULED), Step(DISCONTINUED, SCANNERS)),
        (SCHEDULED, DISCONTINUED, Step(DISCONTINUED, SCANNERS), Step(DISCONTINUED, SCANNERS)),
        # Cancelled in the office while the scan runs.
        (DISCONTINUED, IN_PROGRESS, Step(SCHEDULED), Step(IN_PROGRESS, SCANNERS)),
        (DISCONTINUED, COMPLETED, Step(COMPLETED, SCANNERS), Step(COMPLETED, SCANNERS)),
        # A scanner that never says the end.
        (COMPLETED, IN_PROGRESS, Step(IN_PROGRESS, SCANNERS), Step(COMPLETED, SCANNERS)),
        # MPPS hit a row that was off the list, and meant another of the subject.
        (DISCONTINUED, IN_PROGRESS, Step(DISCONTINUED), Step(DISCONTINUED)),
        (SCHEDULED, IN_PROGRESS, Step(COMPLETED, SCANNERS), Step(COMPLETED, SCANNERS)),
        # A row whose history is unknown: what stands there may be the scanner's.
        (SCHEDULED, COMPLETED, None, Step(COMPLETED, SCANNERS)),
        (SCHEDULED, DISCONTINUED, None, Step(DISCONTINUED, SCANNERS)),
    ],
)
def test_the_table_of_statuses(wanted: str, stored: str | None, known: Step | None, expected: Step) -> None:
    """Calpendo's word, the row's status and what is known of it give the status to write."""
    assert settle(wanted, stored, known) == expected


def test_a_step_broken_off_and_given_a_new_time_is_a_new_appointment() -> None:
    """DISCONTINUED by the scanner, then moved ahead in Calpendo: it comes back; without a new time it does not."""
    known = Step(DISCONTINUED, SCANNERS)
    assert settle(SCHEDULED, DISCONTINUED, known, rescheduled=True) == Step(SCHEDULED)
    assert settle(SCHEDULED, COMPLETED, Step(COMPLETED, SCANNERS), rescheduled=True).status == COMPLETED


def test_a_status_that_may_have_been_written_is_ours() -> None:
    """Killed between the host's commit and the look: DISCONTINUED in the row is what was under way."""
    assert settle(SCHEDULED, DISCONTINUED, Step(SCHEDULED), underway=DISCONTINUED) == Step(SCHEDULED)
    assert settle(DISCONTINUED, DISCONTINUED, None, underway=DISCONTINUED) == Step(DISCONTINUED)
    scanners = Step(DISCONTINUED, SCANNERS)
    assert settle(SCHEDULED, DISCONTINUED, scanners, underway=DISCONTINUED) == scanners


@given(
    wanted=st.sampled_from(STATUSES),
    stored=st.sampled_from(STATUSES),
    known=st.builds(Step, st.sampled_from(STATUSES), st.booleans()),
)
def test_deciding_twice_decides_the_same(wanted: str, stored: str, known: Step) -> None:
    """What was written is stable: with the new status stored and known, the decision stays."""
    first = settle(wanted, stored, known)
    assert settle(wanted, first.status, first) == first


@given(
    stored=st.sampled_from((IN_PROGRESS, COMPLETED)),
    known=st.sampled_from((Step(SCHEDULED), Step(IN_PROGRESS, True), Step(COMPLETED, True), None)),
    rescheduled=st.booleans(),
)
def test_nothing_sets_a_scanners_step_back(stored: str, known: Step | None, rescheduled: bool) -> None:
    """IN_PROGRESS and COMPLETED by the scanner never become SCHEDULED."""
    assert settle(SCHEDULED, stored, known, rescheduled=rescheduled).status != SCHEDULED


def status(here: object, number: int) -> str:
    """The stored status of a booking's row."""
    return here.host.row(number)["performed_procedure_step_status"]  # type: ignore[attr-defined]


def test_cancelled_and_approved_again_comes_back(site: Callable) -> None:
    """A booking that was cancelled and is approved again is on the list again, in its old row."""
    here = site()
    here.sim.put(booking(1, "SUB1_Doe"))
    here.sync()
    uid = here.host.find()[0].study_uid
    for _ in range(2):
        here.sim.edit(1, status="Cancelled")
        here.sync()
        assert here.shown == []
        here.restart()
        here.sim.edit(1, status="Approved")
        here.sync()
        assert here.shown == ["SUB1"]
    assert here.host.find()[0].study_uid == uid


def test_approved_again_comes_back_after_a_failed_commit_and_a_kill(site: Callable) -> None:
    """The same with the commit lost and the process killed before it was noticed."""
    here = site()
    here.sim.put(booking(1, "SUB1_Doe"))
    here.sync()
    here.sim.edit(1, status="Cancelled")
    here.sync()
    here.sim.edit(1, status="Approved")
    here.host.fail_commits = 1
    here.sync()
    here.restart()
    here.sync()
    assert here.shown == ["SUB1"]


def test_cancelled_by_a_cycle_that_was_killed_comes_back(site: Callable) -> None:
    """A row written as DISCONTINUED and never looked at is this plugin's own: approved, it is on the list."""
    here = site()
    here.sim.put(booking(1, "SUB1_Doe", status="Cancelled"))
    here.plugin.cleanup = lambda: None
    here.sync()
    here.plugin._prepared.clear()
    here.restart()
    here.sync()
    here.sim.edit(1, status="Approved")
    here.sync()
    assert here.shown == ["SUB1"]


def test_a_completed_scan_stays_off_the_list_for_good(site: Callable) -> None:
    """COMPLETED by the scanner outlives edits, cancelling, approving again and a restart."""
    here = site()
    here.sim.put(booking(1, "SUB1_Doe"))
    here.sync()
    here.host.mpps("SUB1", "COMPLETED")
    for change in (
        {"title": "SUB1_Doe-Smith"},
        {"status": "Cancelled"},
        {"status": "Approved"},
        {"formattedName": span(site_now() + timedelta(hours=2), 30)},
    ):
        here.sim.edit(1, **change)
        here.sync()
        here.restart()
        assert status(here, 1) == "COMPLETED"
        assert here.shown == []


def test_a_scan_broken_off_comes_back_with_a_new_time(site: Callable) -> None:
    """DISCONTINUED by the scanner stays so, until Calpendo gives the booking a new time ahead."""
    here = site()
    here.sim.put(booking(1, "SUB1_Doe"))
    here.sync()
    here.host.mpps("SUB1", "DISCONTINUED")
    here.sync()
    here.sim.edit(1, project="Heart Study")
    here.sync()
    assert here.shown == []
    here.sim.edit(1, formattedName=span(site_now() + timedelta(hours=4), 60))
    here.sync()
    assert here.shown == ["SUB1"]


def test_cancelled_while_it_runs_stays_until_the_scanner_ends_it(site: Callable) -> None:
    """A running scan is not taken off by the office; its end is the scanner's."""
    here = site()
    here.sim.put(booking(1, "SUB1_Doe"))
    here.sync()
    here.host.mpps("SUB1", "IN_PROGRESS")
    here.sim.edit(1, status="Cancelled")
    here.sync()
    assert [line.status for line in here.host.find()] == ["IN_PROGRESS"]
    here.host.mpps("SUB1", "DISCONTINUED")
    here.sync()
    assert here.shown == []


@fails_upstream("the name changes under the running scan, and its N-SET finds no row")
def test_a_correction_of_the_name_waits_for_the_end_of_the_scan(site: Callable, kind: str) -> None:
    """Pylantir finds the row of an N-SET by id and name: a running scan keeps both, and gets the new name after."""
    here = site(kind)
    here.sim.put(booking(1, "SUB1_Doe"))
    here.sync()
    name = here.host.find()[0].patient_name
    here.host.mpps("SUB1", "IN_PROGRESS")
    here.sim.edit(1, title="SUB1_Doe-Smith")
    here.sync()
    assert here.host.row(1)["patient_name"] == name
    assert here.sync() == 0
    here.host.mpps("SUB1", "COMPLETED")
    here.sync()
    assert here.host.row(1)["patient_name"] == "^Doe-Smith"
    assert here.sync() == 0


def test_mpps_of_a_second_visit_does_not_bring_a_first_one_back(site: Callable) -> None:
    """Pylantir takes the first row of a subject: a completed or cancelled visit is put back to what it was."""
    here = site()
    here.sim.put(booking(1, "SUB1_Doe", hours=1))
    here.sim.put(booking(2, "SUB1_Doe", hours=4))
    here.sync()
    here.host.mpps("SUB1", "COMPLETED")
    here.sync()
    here.host.mpps("SUB1", "IN_PROGRESS")
    here.sync()
    assert (status(here, 1), status(here, 2)) == ("COMPLETED", "SCHEDULED")
    here.sim.put(booking(3, "SUB3_Roe", hours=1))
    here.sync()
    here.sim.edit(3, status="Cancelled")
    here.sync()
    here.host.mpps("SUB3", "IN_PROGRESS")
    here.sync()
    assert status(here, 3) == "DISCONTINUED"


def test_rows_of_pylantirs_own_plugin_are_taken_over(site: Callable) -> None:
    """A row of the same source and booking is found, keeps its study UID, and gets DICOM's date and time."""
    from tests.support.pylantir_process import UPSTREAM

    before = site(UPSTREAM)
    for number in (1, 2, 3):
        before.sim.put(booking(number, f"SUB{number}_Doe", hours=number))
    before.sync()
    old = {row["source_record_id"]: row["study_instance_uid"] for row in before.host.rows()}
    before.host.mpps("SUB3", "COMPLETED")
    before.host.filters.clear()
    before.sim.delete(2)
    here = site()
    # Until a first cycle has gone through, the old rows are all there is.
    assert here.shown == ["SUB1", "SUB2"]
    here.sync()
    assert here.shown == ["SUB1"]
    assert status(here, 3) == "COMPLETED"
    assert {row["source_record_id"]: row["study_instance_uid"] for row in here.host.rows()} == old
    assert "-" not in here.host.find()[0].date


def test_a_bare_study_uid_of_pylantirs_own_plugin_is_replaced(site: Callable) -> None:
    """A SCHEDULED row whose UID is a bare number gets a real one: no scanner can have used it."""
    here = site()
    here.sim.put(booking(1, "SUB1_Doe"))
    here.sync()
    import contextlib
    import sqlite3

    with contextlib.closing(sqlite3.connect(here.host.database)) as connection, connection:
        connection.execute("UPDATE worklist_items SET study_instance_uid = '1'")
    here.sim.edit(1, project="Heart Study")
    here.sync()
    assert here.host.find()[0].study_uid.startswith("2.25.")
