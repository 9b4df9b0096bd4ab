"""Category 3 of the task list, data transformation (T011, T013, T014), and its tests (T018): each criterion a test."""

from __future__ import annotations

import json
from datetime import date, time
from typing import Any

import pytest

from pipeline.errors import PluginConfigError
from tests.reference.row_by_row import RowByRow
from tests.support.batches import MAPPING, batch_of, booking, config_of, entry_of, reasons_of


def extracted(title: Any, pattern: str, group: int | str | None = None, **more: Any) -> Any:
    """Return what a pattern cuts out of a title, as the entry's comment."""
    extract = {"pattern": pattern, **({} if group is None else {"group": group}), **more}
    mapping = {"patient_id": "id", "comment": {"source_field": "title", "_extract": extract}}
    return entry_of(booking(title=title), mapping=mapping)["comment"]


@pytest.mark.parametrize(
    ("pattern", "group", "expected"),
    [
        (r"(\w+)_.*", 1, "SUB001_John"),
        (r"(\w+?)_.*", 1, "SUB001"),
        (r"\w+?_(.+)", 1, "John_Doe"),
        (r"\w+_(.+)", 1, "Doe"),
    ],
)
def test_t011_extracts_the_given_group(pattern: str, group: int, expected: str) -> None:
    """T011: subject and name come out of SUB001_John_Doe, greedy and lazy as Python means it."""
    assert extracted("SUB001_John_Doe", pattern, group) == expected


def test_t011_group_zero_is_the_whole_match_and_the_default() -> None:
    """T011: group 0, given or left out, is the full match, anchored at the start only."""
    assert extracted("SUB001_John_Doe", r"[A-Z]+\d+", 0) == "SUB001"
    assert extracted("SUB001_John_Doe", r"[A-Z]+\d+") == "SUB001"


def test_t011_named_groups() -> None:
    """T011, design decision 2: a group may be given by name."""
    assert extracted("SUB001_John_Doe", r"(?P<id>[^_]+)", "id") == "SUB001"


def test_t011_no_match_gives_the_original_and_is_reported() -> None:
    """T011: without a match the value stays; the batch says for which bookings, and shows shapes, not values."""
    batch = batch_of(booking(title="Phantom QA"))
    assert batch.to_dicts()[0]["patient_id"] == "Phantom QA"
    assert batch.flags.unmatched == {"patient_id": {"Aaaaaaa AA": 1}, "patient_name": {"Aaaaaaa AA": 1}}
    assert batch.flags.unmatched_ids == {"patient_id": (4711,), "patient_name": (4711,)}
    assert batch.accepted["unmatched"].to_list() == [["patient_id", "patient_name"]]


def test_t011_no_match_may_be_nothing_or_a_rejection() -> None:
    """Design decision 2: on_no_match is original, null or reject, for all rules or one."""
    assert extracted("Phantom", r"(\d+)", 1, on_no_match="null") is None
    assert reasons_of(booking(title="Phantom"), on_no_match="reject") == [
        "patient_id_no_match",
        "patient_name_no_match",
    ]


@pytest.mark.parametrize("title", [None, ""])
def test_t011_empty_source_is_empty(title: str | None) -> None:
    """T011: a null or empty source value is the empty string, whatever the pattern."""
    assert extracted(title, r"(.+)_", 1) == ""


def test_t011_a_group_that_took_no_part_is_nothing() -> None:
    """T011: ``match.group`` of an optional group that took no part is None, and stays so."""
    assert extracted("b", r"(a)?b", 1) is None


def test_t011_invalid_pattern_is_a_configuration_error() -> None:
    """T011: a pattern that does not compile raises PluginConfigError before any booking is read."""
    with pytest.raises(PluginConfigError, match="patient_id"):
        config_of({"patient_id": {"source_field": "title", "_extract": {"pattern": "(", "group": 1}}})


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"^([A-Za-z]+[0-9]+)[_ -].*", "SUB001"),
        (r"^[A-Za-z]+[0-9]+[_ -]+(.+)$", "John_Doe"),
        (r"^(?P<id>[A-Za-z]+[0-9]+)", "SUB001"),
    ],
)
def test_t018_patterns_of_the_examples(pattern: str, expected: str) -> None:
    """T018: the extraction patterns of the example configuration do what they are there for."""
    assert extracted("SUB001_John_Doe", pattern, 1) == expected


STATUSES = {
    "Approved": "SCHEDULED",
    "Pending": "SCHEDULED",
    "Requested": "SCHEDULED",
    "Tentative": "SCHEDULED",
    "In Progress": "IN_PROGRESS",
    "Completed": "COMPLETED",
    "Cancelled": "DISCONTINUED",
    "Denied": "DISCONTINUED",
}


@pytest.mark.parametrize(("status", "expected"), STATUSES.items())
@pytest.mark.parametrize("case", [str, str.upper, str.lower])
def test_t013_statuses(status: str, expected: str, case: Any) -> None:
    """T013: every known status, in any case, is its DICOM status."""
    batch = batch_of(booking(status=case(status)))
    assert batch.to_dicts()[0]["performed_procedure_step_status"] == expected
    assert batch.flags.unknown_statuses == {}


def test_t013_unknown_statuses_are_scheduled_and_listed_once() -> None:
    """T013: an unknown or missing status is SCHEDULED; the batch counts the values."""
    batch = batch_of(
        *(
            booking(id=number, status=status)
            for number, status in enumerate(["No Show", "No Show", 7, None], 1)
        )
    )
    assert {entry["performed_procedure_step_status"] for entry in batch.to_dicts()} == {"SCHEDULED"}
    assert batch.flags.unknown_statuses == {"No Show": 2, "": 1, "7": 1}


def test_t013_status_mapping_overrides() -> None:
    """T013: the configuration adds to the table and overrides it, without case."""
    options = {"status_mapping": {"no show": "DISCONTINUED", "Pending": "IN_PROGRESS"}}
    assert entry_of(booking(status="No Show"), **options)["performed_procedure_step_status"] == "DISCONTINUED"
    assert entry_of(booking(status="PENDING"), **options)["performed_procedure_step_status"] == "IN_PROGRESS"


def test_design_4_cancelled_bookings_are_discontinued() -> None:
    """Design decision 4: ``cancelled: true`` counts whatever the status says."""
    entry = entry_of(booking(properties={"cancelled": True}))
    assert entry["performed_procedure_step_status"] == "DISCONTINUED"


@pytest.mark.parametrize(
    ("resource", "modality", "known"),
    [
        ("3T", "MR", True),
        ("3T Diagnostic", "MR", True),
        ("3t diagnostic", "MR", True),
        ("3T Special", "US", True),
        ("3T SPECIAL two", "US", True),
        ("EEG", "EEG", False),
        ("PET/CT", "OT", False),
        ("Küche", "OT", False),
        ("A NAME OF SEVENTEEN", "OT", False),
        ("", "OT", False),
        (None, "OT", False),
    ],
)
def test_t013_modalities(resource: str | None, modality: str, known: bool) -> None:
    """T013, design decision 4: exact, then longest beginning, then the name if it is a code, else OT."""
    mapping = {"3T": "MR", "3T Special": "US"}
    batch = batch_of(
        booking(properties={"resource": {"formattedName": resource}}), resource_modality_mapping=mapping
    )
    assert batch.to_dicts()[0]["modality"] == modality
    assert batch.flags.unknown_resources == ({} if known else {resource or "": 1})


def test_t013_a_rule_says_where_a_vocabulary_stands() -> None:
    """T013: a rule for modality or status names the source, and the table still decides."""
    mapping = {"patient_id": "id", "properties.kind": "modality", "performed_procedure_step_status": "state"}
    entry = entry_of(booking(state="completed", properties={"kind": "3T x"}), mapping=mapping)
    assert (entry["modality"], entry["performed_procedure_step_status"]) == ("MR", "COMPLETED")


def test_t014_complete_booking() -> None:
    """T014, T018: a complete booking becomes a complete entry of plain Python values."""
    payload = booking()
    digest = RowByRow("calpendo", {})._compute_booking_hash(payload)
    assert entry_of(payload) == {
        "patient_id": "SUB001",
        "patient_name": "John_Doe",
        "study_description": "Brain Study",
        "accession_number": "4711",
        "scheduled_start_date": date(2026, 1, 27),
        "scheduled_start_time": time(21, 0),
        "scheduled_procedure_step_duration": 90,
        "modality": "MR",
        "performed_procedure_step_status": "SCHEDULED",
        "data_source": "calpendo",
        "source_record_id": "4711",
        "notes": json.dumps({"booking_hash": digest}),
    }


def test_t014_entries_equal_the_templates() -> None:
    """T014: for regular bookings of generation A the entries are those of the task list's own code."""
    raw = {
        "field_mapping": MAPPING | {"accession_number": "title"},
        "resource_modality_mapping": {"3T": "MR"},
    }
    payloads = [
        json.dumps(booking(id=number, title=f"SUB{number:03d}_Jane_Doe", status=status))
        for number, status in enumerate([*STATUSES] * 3, 1)
        if status != "Denied"
    ]
    expected = RowByRow("calpendo", raw).entries(payloads)
    found = batch_of(*payloads, mapping=raw["field_mapping"]).to_dicts()
    assert sorted(found[0]) == sorted(expected[0])
    assert found == expected


@pytest.mark.parametrize(
    ("path", "payload"),
    [
        ("project.formattedName", {"properties": {"project": {"formattedName": "X"}}}),
        ("properties.project.formattedName", {"properties": {"project": {"formattedName": "X"}}}),
        ("properties.project.formattedName", {"project": {"formattedName": "X"}}),
        ("properties.project.formattedName", {"project.formattedName": "X"}),
        ("properties.project.formattedName", {"properties.project.formattedName": "X"}),
        ("properties.project.formattedName", {"properties": {"project.formattedName": "X"}}),
        ("project.formattedName", {"project.formattedName": "X"}),
        ("comment", {"properties": {"comment": "X"}}),
        ("comment", {"comment": None, "properties": {"comment": "X"}}),
    ],
)
def test_t014_nested_source_keys(path: str, payload: dict[str, Any]) -> None:
    """T014: a dotted path is found nested or flat, at the top or under properties."""
    complete = {**booking(properties={}), **payload}
    assert (
        entry_of(complete, mapping={"patient_id": "id", "procedure_description": path})[
            "procedure_description"
        ]
        == "X"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12, "12"),
        (1.5, "1.5"),
        (True, "True"),
        (2**80, str(2**80)),
        (None, None),
        ([1], None),
        ({"a": 1}, None),
        ("<Hidden>", None),
    ],
)
def test_t014_values_of_any_type(value: Any, text: str | None) -> None:
    """T014: scalars become text as ``str()`` has it; null, lists, objects and hidden values become nothing."""
    mapping = {"patient_id": "id", "comment": "note"}
    assert entry_of(booking(note=value), mapping=mapping)["comment"] == text
    assert entry_of(json.dumps(booking(note=value)), mapping=mapping)["comment"] == text


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"title": None}, "patient_id_missing"),
        ({"title": ""}, "patient_id_missing"),
        ({"title": "   "}, "patient_id_missing"),
        ({"title": "\u00a0\u2028"}, "patient_id_missing"),
        ({"title": "<Hidden>"}, "patient_id_missing"),
        ({"formattedName": None}, "times_missing"),
        ({"formattedName": ["x"]}, "times_missing"),
        ({"formattedName": "[2026-01-27 15:00:00.0, 2026-01-27 14:59:59.0]"}, "end_before_start"),
        ({"id": None}, "booking_id_invalid"),
        ({"id": True}, "booking_id_invalid"),
        ({"id": 0}, "booking_id_invalid"),
        ({"id": 2**53}, "booking_id_invalid"),
    ],
)
def test_t014_missing_required_fields_reject(changes: dict[str, Any], reason: str) -> None:
    """T014, T018: where the templates return None, the booking is rejected with the reason and nothing is lost."""
    assert reasons_of(booking(**changes)) == [reason]


def test_t014_missing_optional_fields_are_nothing() -> None:
    """T018: without project and resource there is still an entry."""
    entry = entry_of(booking(properties=None))
    assert (entry["study_description"], entry["modality"]) == (None, "OT")


def test_t014_zero_length_and_multi_day_bookings_are_kept() -> None:
    """Issue: zero minutes are allowed; a booking over midnight is kept and flagged, one that ends at midnight is not."""
    names = [
        "[2026-01-27 14:00:00, 2026-01-27 14:00:00]",
        "[2026-01-27 23:00:00, 2026-01-28 00:00:00]",
        "[2026-01-27 23:00:00, 2026-01-28 01:00:00]",
    ]
    batch = batch_of(*(booking(id=number, formattedName=name) for number, name in enumerate(names, 1)))
    assert [entry["scheduled_procedure_step_duration"] for entry in batch.to_dicts()] == [0, 60, 120]
    assert batch.flags.multi_day == (3,)


def test_t014_duration_is_between_instants() -> None:
    """T014: over the change of the clocks the duration is real time, cut to whole minutes."""
    entry = entry_of(booking(formattedName="[2026-03-08 01:00:00.0, 2026-03-08 04:00:59.0]"))
    assert entry["scheduled_procedure_step_duration"] == 120
