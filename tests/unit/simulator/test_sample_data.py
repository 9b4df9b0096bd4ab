"""The data files themselves: bookings and the labels that were derived by hand from the rules."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from datetime import date, datetime, time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import pytz

from pipeline.batch import process_batch
from pipeline.config import PipelineConfig
from pipeline.simulator.sample import sample_config
from pipeline.transform.reasons import explain
from tests.reference.reference import normal

DATA = Path(__file__).parents[3] / "data"
ENTRY_FIELDS = {
    "patient_id",
    "patient_name",
    "study_description",
    "accession_number",
    "scheduled_start_date",
    "scheduled_start_time",
    "scheduled_procedure_step_duration",
    "modality",
    "performed_procedure_step_status",
    "source_record_id",
    "notes",
}


def _lines(name: str) -> list[str]:
    text = (DATA / name).read_text(encoding="utf-8")
    assert text.endswith("\n")
    assert "\r" not in text
    return text.removesuffix("\n").split("\n")


@cache
def _bookings() -> list[Any]:
    found = []
    for line in _lines("bookings.ndjson"):
        try:
            found.append(json.loads(line))
        except ValueError:
            found.append(None)
    return found


@cache
def _labels() -> list[dict[str, Any]]:
    return [json.loads(line) for line in _lines("expected_entries.ndjson")]


def _usable_id(booking: Any) -> int | None:
    number = booking.get("id") if isinstance(booking, dict) else None
    return number if isinstance(number, int) and not isinstance(number, bool) else None


def _labelled() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Pair every label that expects an entry with its booking."""
    by_id = {_usable_id(booking): booking for booking in _bookings()}
    return [(by_id[label["booking_id"]], label) for label in _labels() if "expected" in label]


def test_there_are_enough_bookings_of_both_generations() -> None:
    """Issue: at least 200 varied sample bookings of both generations."""
    objects = [booking for booking in _bookings() if isinstance(booking, dict)]
    newer = [b for b in objects if isinstance(b.get("properties"), dict) and "dateRange" in b["properties"]]

    assert len(_bookings()) >= 200
    assert len(newer) >= 60
    assert sum("formattedName" in booking for booking in objects) >= 120


def test_booking_ids_are_unique() -> None:
    """A label names its booking by the id."""
    counts = Counter(_usable_id(booking) for booking in _bookings())
    del counts[None]

    assert set(counts.values()) == {1}
    assert max(counts) > 2**53 - 2


def test_labels_are_complete_and_name_existing_bookings() -> None:
    """Issue: at least 120 labels, each with its derivation; lines stand in for ids that are none."""
    known = {_usable_id(booking) for booking in _bookings()} - {None}
    names = [(label["booking_id"], label.get("line")) for label in _labels()]

    assert len(_labels()) >= 120
    assert len(set(names)) == len(names)
    for label in _labels():
        assert label["why"]
        assert ("expected" in label) != ("rejected" in label)
        if label["booking_id"] is None:
            assert _usable_id(_bookings()[label["line"] - 1]) is None
        else:
            assert label["booking_id"] in known


def test_expected_fields_have_the_forms_of_an_entry() -> None:
    """Design: dates, times, minutes and texts; values as they can stand in JSON."""
    for _, label in _labelled():
        expected = label["expected"]
        assert set(expected) <= ENTRY_FIELDS
        date.fromisoformat(expected["scheduled_start_date"])
        assert time.fromisoformat(expected["scheduled_start_time"]).tzinfo is None
        assert isinstance(expected["scheduled_procedure_step_duration"], int)
        assert expected["accession_number"] == expected["source_record_id"] == str(label["booking_id"])
        assert set(label["flags"]) <= {"dst_ambiguous", "dst_nonexistent", "multi_day"}


def test_rejections_carry_known_reason_codes() -> None:
    """Every reason that a label names is one that the reports can explain."""
    for label in _labels():
        for code in label.get("rejected", "").split("; "):
            assert not code or "does not know" not in explain(code).meaning, label["booking_id"]


def test_labelled_starts_are_what_the_task_lists_template_says() -> None:
    """T012: the template's strptime and localize agree with every hand-derived start of generation A."""
    pattern = r"\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+), (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+)\]"
    zone = pytz.timezone("America/Edmonton")
    seen = 0
    for booking, label in _labelled():
        matched = re.match(pattern, booking.get("formattedName") or "")
        if matched:
            seen += 1
            start, finish = (
                zone.localize(datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f")).astimezone(pytz.UTC)  # noqa: DTZ007
                for text in matched.groups()
            )
            expected = label["expected"]
            stated = f"{expected['scheduled_start_date']} {expected['scheduled_start_time']}"
            assert f"{start:%Y-%m-%d %H:%M:%S}" == stated, label["booking_id"]
            minutes = expected["scheduled_procedure_step_duration"]
            assert (finish - start).total_seconds() / 60 == minutes, label["booking_id"]
    assert seen > 100


def test_labelled_names_are_what_the_task_lists_template_says() -> None:
    """T011: re.match with the example's patterns, on normalised titles, agrees with every hand-derived id and name."""
    mapping = sample_config()["field_mapping"]
    for booking, label in _labelled():
        holder = booking if "title" in booking else booking["properties"]
        for field in ("patient_id", "patient_name"):
            title, _ = normal(str(holder["title"]))
            matched = re.match(mapping[field]["_extract"]["pattern"], title)
            value = matched.group(mapping[field]["_extract"]["group"]) if matched else title
            if field == "patient_name":
                # What a name cannot hold is a blank, and what is too long has no blank to be cut at.
                value = value.replace("\\", " ")[:64]
            assert value == label["expected"][field], label["booking_id"]


def test_labelled_hashes_are_the_task_lists_formula() -> None:
    """T015: json.dumps with sorted keys, SHA-256, over the five critical fields."""
    noted = [
        (booking, label["expected"]["notes"])
        for booking, label in _labelled()
        if "notes" in label["expected"]
    ]
    for booking, notes in noted:
        critical_fields = {
            "title": booking.get("title", ""),
            "status": booking.get("status", ""),
            "formattedName": booking.get("formattedName", ""),
            "project": booking.get("properties", {}).get("project", {}).get("formattedName", ""),
            "resource": booking.get("properties", {}).get("resource", {}).get("formattedName", ""),
        }
        digest = hashlib.sha256(json.dumps(critical_fields, sort_keys=True).encode()).hexdigest()
        assert notes == json.dumps({"booking_hash": digest})
    assert len(noted) == 8


@pytest.mark.parametrize(
    ("wall", "offset"),
    [
        ("2026-03-08 01:59", -7),
        ("2026-03-08 02:30", -7),
        ("2026-03-08 03:00", -6),
        ("2025-11-02 00:59", -6),
        ("2025-11-02 01:30", -7),
        ("2026-10-31 12:00", -6),
        ("2026-11-01 01:30", -6),
        ("2026-11-23 12:00", -6),
        ("2027-01-15 12:00", -6),
    ],
)
def test_pytz_knows_the_offsets_that_the_labels_were_derived_with(wall: str, offset: int) -> None:
    """tz database 2026f: Alberta stays on UTC-6 from 1 November 2026 on."""
    local = pytz.timezone("America/Edmonton").localize(datetime.fromisoformat(wall), is_dst=False)

    assert local.utcoffset().total_seconds() == offset * 3600  # type: ignore[union-attr]


def test_the_readme_says_that_all_is_invented() -> None:
    """Privacy: no real subject; whoever opens the folder is told so first."""
    text = (DATA / "README.md").read_text(encoding="utf-8")

    assert "**Every person, project and booking here is invented.**" in text
    assert f"{len(_bookings())} lines" in text
    assert f"{len(_labels())} labels" in text


def test_the_pipeline_makes_of_every_labelled_booking_what_its_label_says() -> None:
    """SC-002: every field, every rejection with all its reasons, every flag; as text and as parsed objects."""
    config = PipelineConfig.from_dict(sample_config(), environ={})
    lines = _lines("bookings.ndjson")
    row_of = {_usable_id(booking): row for row, booking in enumerate(_bookings())}
    whole = [
        booking if isinstance(booking, dict) else line
        for booking, line in zip(_bookings(), lines, strict=True)
    ]
    for payloads in (lines, whole):
        batch = process_batch(payloads, config)
        entries = {entry["source_record_id"]: entry for entry in batch.to_dicts()}
        rejected = {row["row"]: set(row["reasons"]) for row in batch.rejected.to_dicts()}
        assert len(entries) + len(rejected) == len(lines)
        for label in _labels():
            number = label["booking_id"]
            row = label["line"] - 1 if number is None else row_of[number]
            assert rejected.get(row, set()) == set(filter(None, label.get("rejected", "").split("; "))), label
            for field, value in label.get("expected", {}).items():
                got = entries[str(number)][field]
                assert (got if isinstance(got, (int, str, type(None))) else str(got)) == value, (
                    number,
                    field,
                )
        for flag in ("dst_ambiguous", "dst_nonexistent", "multi_day"):
            flagged = [label["booking_id"] for label in _labels() if flag in label.get("flags", ())]
            assert sorted(getattr(batch.flags, flag)) == sorted(flagged)
