"""What a scanner sees, row by row of the list of faults of Pylantir's own plugin: each must fail there."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pydicom.uid import UID

from tests.support.bookings_by_hour import MAPPING, RESOURCE, booking, site_now, span
from tests.support.both_plugins import fails_upstream

DA = re.compile(r"\d{8}\Z")
TM = re.compile(r"\d{6}\Z")


@fails_upstream("2026-11-22 and 16:21 stand on the wire")
def test_dates_and_times_are_dicom(site: Callable, kind: str) -> None:
    """PS3.5 6.2: the wire carries DA and TM, and they are the booking's start at the site."""
    begin = site_now() + timedelta(hours=2)
    here = site(kind)
    here.sim.put(booking(1, "SUB1_Doe", hours=2))
    here.sync()
    (line,) = here.host.find()
    assert DA.match(line.date)
    assert TM.match(line.time)
    assert (line.date, line.time) == (f"{begin:%Y%m%d}", f"{begin:%H%M}00")


@fails_upstream("stays SCHEDULED on the scanner for ever")
def test_a_deleted_booking_leaves_the_list(site: Callable, kind: str) -> None:
    """A booking deleted in Calpendo is off the scanner's list after the next cycle, and the others stay."""
    here = site(kind)
    here.sim.put(booking(1, "SUB1_Doe"))
    here.sim.put(booking(2, "SUB2_Roe", hours=2))
    here.sync()
    assert here.shown == ["SUB1", "SUB2"]
    here.sim.delete(1)
    here.sync()
    assert here.shown == ["SUB2"]


@fails_upstream("stays at its old time on the scanner for ever")
def test_a_booking_moved_out_of_the_window_leaves_the_list_and_comes_back(site: Callable, kind: str) -> None:
    """A booking moved to next week is off the list, is still there in the database, and comes back moved back."""
    here = site(kind)
    here.sim.put(booking(1, "SUB1_Doe"))
    here.sync()
    start = site_now()
    here.sim.edit(1, formattedName=span(start + timedelta(days=6), 60))
    here.sync()
    assert here.shown == []
    here.sim.edit(1, formattedName=span(start + timedelta(hours=3), 60))
    here.sync()
    assert here.shown == ["SUB1"]
    assert here.host.find()[0].time == f"{start + timedelta(hours=3):%H%M}00"


@fails_upstream("C-FIND returns DISCONTINUED rows")
@pytest.mark.parametrize("how", ["status", "flag"])
def test_a_cancelled_booking_leaves_the_list(site: Callable, kind: str, how: str) -> None:
    """A booking cancelled by its status or by its flag is off the list."""
    here = site(kind)
    here.sim.put(booking(1, "SUB1_Doe"))
    here.sync()
    assert here.shown == ["SUB1"]
    here.sim.edit(1, **({"status": "Cancelled"} if how == "status" else {"cancelled": True}))
    here.sync()
    assert here.shown == []


@fails_upstream("a booking given to another scanner stays on this one's list")
def test_a_booking_given_to_another_scanner_leaves_the_list(site: Callable, kind: str) -> None:
    """A booking moved to a resource that is not configured is off this scanner's list."""
    here = site(kind)
    here.sim.put(booking(1, "SUB1_Doe"))
    here.sync()
    here.sim.edit(1, resource="7T Research")
    here.sync()
    assert here.shown == []


@fails_upstream("one row with one StudyInstanceUID")
def test_two_bookings_of_one_subject_are_two_rows(site: Callable, kind: str) -> None:
    """Two visits are two lines with two valid study UIDs, which stay the same over cycles."""
    here = site(kind)
    here.sim.put(booking(1, "SUB1_Doe", hours=1))
    here.sim.put(booking(2, "SUB1_Doe", hours=5))
    here.sync()
    first = {line.time: line.study_uid for line in here.host.find()}
    assert len(first) == len(set(first.values())) == 2
    assert all(UID(uid).is_valid and len(uid) <= 64 for uid in first.values())
    here.sim.edit(1, title="SUB1_Doe-Smith")
    here.sync()
    assert {line.time: line.study_uid for line in here.host.find()} == first


@fails_upstream("set back to SCHEDULED")
@pytest.mark.parametrize("status", ["IN_PROGRESS", "DISCONTINUED"])
def test_a_sync_does_not_set_the_scanners_status_back(site: Callable, kind: str, status: str) -> None:
    """MPPS: what the scanner set stays, also when the booking is edited in Calpendo meanwhile."""
    here = site(kind)
    here.sim.put(booking(1, "SUB1_Doe"))
    here.sync()
    here.host.mpps("SUB1", status)
    here.sync()
    assert here.host.row(1)["performed_procedure_step_status"] == status
    here.sim.edit(1, project="Heart Study")
    here.sync()
    assert here.host.row(1)["performed_procedure_step_status"] == status
    assert here.host.row(1)["study_description"] == "Heart Study"


def test_a_subject_without_a_name_is_found_by_mpps(site: Callable) -> None:
    """A console reports a scan under the id and name that it was sent, and Pylantir looks for a row that holds both."""
    unnamed = {"source_field": "title", "_extract": {"pattern": "^()SUB", "group": 1, "on_no_match": "null"}}
    here = site(field_mapping={**MAPPING, "patient_name": unnamed})
    here.sim.put(booking(1, "SUB1_x"))
    here.sync()
    (line,) = here.host.find()
    assert line.patient_name == here.host.row(1)["patient_name"] == "UNKNOWN"
    assert here.sync() == 0, "nothing is left to be written"


@fails_upstream("never appears")
def test_a_running_scan_is_on_the_list(site: Callable, kind: str) -> None:
    """A booking that began before the look-back and still runs is on the list."""
    here = site(kind)
    here.sim.put(booking(1, "SUB1_Doe", hours=-2, minutes=180))
    here.sync()
    assert here.shown == ["SUB1"]


def test_a_detail_that_dicom_cannot_hold_costs_no_subject(site: Callable) -> None:
    """Project, name, sex and birth date as people type them: the subject is on the console, and the report says what was done."""
    mapping = {"patient_sex": "sex", "patient_birth_date": "born", "referring_physician_name": "doctor"}
    here = site(field_mapping={**MAPPING, **mapping})
    long = "LONGMEM (Longitudinal imaging of memory and ageing in a population cohort, wave 3)"
    odd = {"sex": "Female", "born": "1980-05-03", "doctor": "Dr.\\Who"}
    here.sim.put(booking(1, "SUB1_Doe", project=long, **odd))
    here.sim.put(booking(2, "SUB2_" + "Wolfeschlegelstein " * 5, hours=2, project="é" * 70))
    here.sync()
    rows = {line.patient_id: here.host.row(int(line.patient_id[3:])) for line in here.host.find()}
    assert rows["SUB1"]["study_description"] == "LONGMEM (Longitudinal imaging of memory and ageing in a"
    assert (rows["SUB1"]["patient_sex"], rows["SUB1"]["patient_birth_date"]) == ("F", "19800503")
    assert rows["SUB1"]["referring_physician_name"] == "Dr. Who"
    assert rows["SUB2"]["patient_name"] == "^" + " ".join(["Wolfeschlegelstein"] * 3)
    assert rows["SUB2"]["study_description"] == "e" * 64
    flags = here.plugin.last_report.flags
    assert flags["repaired"]["study_description"]["cut"] == {"count": 2, "bookings": [1, 2]}
    assert flags["translated"] == {"patient_sex": 1, "patient_birth_date": 1}
    assert here.sync() == 0


@fails_upstream("the response breaks in the middle")
def test_an_unmapped_resource_never_breaks_a_response(site: Callable, kind: str) -> None:
    """A resource whose name is no modality, in any script, leaves every line of the answer readable."""
    resource = "磁気共鳴 ß"
    here = site(kind, resources=[RESOURCE, resource])
    here.sim.put(booking(1, "SUB1_Doe", hours=1, resource=resource))
    here.sim.put(booking(2, "SUB2_Roe", hours=2))
    here.sync()
    assert {line.patient_id: line.modality for line in here.host.find()} == {"SUB1": "OT", "SUB2": "MR"}


@fails_upstream("the answer shows ??_??")
def test_names_beyond_the_wires_characters_are_transliterated(site: Callable, kind: str) -> None:
    """A name in any script arrives as a readable one, its ^ in place, and the report says which bookings."""
    here = site(kind)
    here.sim.put(booking(1, "SUB1_Müller^Jürgen", hours=1))
    here.sim.put(booking(2, "SUB2_李^小龙", hours=2))
    here.sync()
    names = {line.patient_id: line.patient_name for line in here.host.find()}
    assert names == {"SUB1": "Muller^Jurgen", "SUB2": "Li^XiaoLong"}
    report = here.plugin.last_report
    assert report.flags["transliterated"] == [1, 2]
    # Whether 李 is read in Chinese, nobody but the site can tell.
    assert report.flags["repaired_for_host"] == {"patient_name": {"suspect": {"count": 1, "bookings": [2]}}}
    (kept,) = here.plugin._core.book._ledger.rows("SELECT report FROM runs")
    assert kept[0] == report.to_history()


def test_a_row_whose_new_id_cannot_be_sent_leaves_the_list_until_it_can(site: Callable) -> None:
    """An id is never rewritten: one that cannot go out does not leave the old row; the next readable one brings it back."""
    here = site()
    here.sim.put(booking(1, "SUB1_Doe"))
    here.sync()
    here.sim.edit(1, title="SÜB1_Doe")
    here.sync()
    assert here.shown == []
    here.sync()
    assert here.plugin.last_report.pending == 1
    assert list(here.plugin.last_report.flags["not_sendable"]) == ["1"]
    here.sim.edit(1, title="SUB1_Roe")
    here.sync()
    assert [(line.patient_id, line.patient_name) for line in here.host.find()] == [("SUB1", "^Roe")]
    assert here.sync() == 0


ODD_TITLES = ["SUB1_\ud800Doe", "SUB1_D\x00oe", "SUB1_" + "X" * 300, "SUB1_a\\b", "SUB1_a\nb"]


@fails_upstream("a database error and no row in every cycle, or text on the wire that no console can show")
@pytest.mark.parametrize("title", ODD_TITLES)
def test_one_bad_booking_costs_no_other(site: Callable, kind: str, title: str) -> None:
    """A title that no database or DICOM answer can hold is repaired or kept back; the others' rows are written and read."""
    _bad_and_good(site(kind), title)


@pytest.mark.parametrize("title", ["", " ", None, 7, ["SUB1_Doe"], {"a": 1}, True])
def test_a_title_of_any_type_costs_no_other(site: Callable, title: object) -> None:
    """A title that is no text is judged by the rules, and the others' rows are written and read."""
    _bad_and_good(site(), title)


def _bad_and_good(here: Any, title: object) -> None:
    here.sim.put(booking(1, "SUB1_Doe") | {"title": title})
    here.sim.put(booking(2, "SUB2_Roe", hours=2))
    here.sync()
    lines = here.host.find()
    assert not here.host.database_errors
    assert "SUB2" in [line.patient_id for line in lines]
    for line in lines:
        for value in (line.patient_id, line.patient_name):
            assert value
            assert len(value) <= 64
            assert value.isprintable()
            assert "\\" not in value


@fails_upstream("a row of last week is still on the list")
def test_past_rows_leave_the_list(site: Callable, kind: str) -> None:
    """A row leaves the list an hour after its booking's end; without a known end, when it cannot run any more."""
    here = site(kind)
    for number, hours in ((1, -0.5), (2, 1)):
        here.sim.put(booking(number, f"SUB{number}_Doe", hours=hours, minutes=60))
    here.sync()
    assert here.shown == ["SUB1", "SUB2"]
    from pylantir.models import WorklistItem

    with here.host.session() as session:
        old = session.query(WorklistItem).filter_by(source_record_id="1").one()
        begin = site_now() - timedelta(days=7)
        dashes = "-" in old.scheduled_start_date
        old.scheduled_start_date = f"{begin:%Y-%m-%d}" if dashes else f"{begin:%Y%m%d}"
        session.commit()
    assert here.shown == ["SUB2"]


@fails_upstream("113 rows for 29: the status stands inside the group of resources")
def test_the_status_filter_filters(site: Callable, kind: str) -> None:
    """Only bookings of the wanted status and resource come, whatever the server's grammar makes of the query."""
    here = site(kind, status_filter="Approved", resources=[RESOURCE, "EEG Lab"])
    here.sim.put(booking(1, "SUB1_Doe"))
    here.sim.put(booking(2, "SUB2_Roe", status="Requested"))
    here.sim.put(booking(3, "SUB3_Poe", resource="7T Research"))
    here.sync()
    assert here.shown == ["SUB1"]


@fails_upstream("the hash is computed and never used: every row is written again in every cycle")
def test_an_unchanged_booking_is_not_sent_again(site: Callable, kind: str) -> None:
    """T015: the second cycle with nothing changed brings nothing."""
    here = site(kind)
    here.sim.put(booking(1, "SUB1_Doe"))
    assert here.sync() == 1
    assert here.sync() == 0
    assert here.shown == ["SUB1"]


def test_number_and_accession_are_the_mappings(site: Callable) -> None:
    """Subject id and accession number are those of the mapping; data source and booking id identify the row."""
    here = site()
    here.sim.put(booking(41, "SUB1_Doe"))
    here.sync()
    row = here.host.row(41)
    assert (row["patient_id"], row["accession_number"], row["study_description"]) == (
        "SUB1",
        "41",
        "Brain Study",
    )
    assert (row["data_source"], row["source_record_id"]) == ("mri", "41")


@fails_upstream("the booking's bare number goes out as StudyInstanceUID")
def test_a_bare_number_never_is_a_study_uid(site: Callable, kind: str) -> None:
    """`"study_instance_uid": "id"`, as in Pylantir's own example, gives a real UID on the wire."""
    here = site(kind, field_mapping=MAPPING | {"study_instance_uid": "id"})
    here.sim.put(booking(41, "SUB1_Doe"))
    here.sync()
    uid = here.host.find()[0].study_uid
    assert UID(uid).is_valid
    assert "." in uid
