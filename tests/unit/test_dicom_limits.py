"""DICOM's limits on an entry, and the forms of a patient's name (design decision 9)."""

from __future__ import annotations

import pytest

from tests.acceptance.transformation import batch_of, booking, entry_of


@pytest.mark.parametrize(
    ("form", "name", "expected"),
    [
        ("as_extracted", "John_Doe", "John_Doe"),
        ("given", "John_Doe", "^John_Doe"),
        ("given", "Doe^John", "Doe^John"),
        ("family_given", "John_Doe", "Doe^John"),
        ("family_given", "John Quincy Doe", "Doe^John Quincy"),
        ("family_given", "Doe, John", "Doe^John"),
        ("family_given", "Doe^John", "Doe^John"),
        ("family_given", "Doe", "Doe"),
        ("family_given", " John__Doe_", "Doe^John"),
    ],
)
def test_person_name_forms(form: str, name: str, expected: str) -> None:
    """DICOM PS3.5 6.2.1: the configured form of a patient's name."""
    entry = entry_of(booking(title=f"S_{name}"), patient_name_form=form)
    assert entry["patient_name"] == expected


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("patient_id", "x" * 65, "too_long"),
        ("patient_id", "a\\b", "bad_character"),
        ("patient_id", "a\x07", "bad_character"),
        ("patient_id", "a\x85", "bad_character"),
        ("patient_name", "x" * 65, "too_long"),
        ("patient_name", "a^b^c^d^e^f", "too_many_components"),
        ("patient_name", "a=b=c=d", "too_many_groups"),
        ("accession_number", "1" * 17, "too_long"),
        ("study_description", "x" * 65, "too_long"),
        ("study_instance_uid", "1.02", "malformed"),
        ("study_instance_uid", "1." + "2" * 63, "too_long"),
        ("patient_birth_date", "2026-01-27", "malformed"),
        ("patient_birth_date", "20260230", "malformed"),
        ("patient_sex", "male", "malformed"),
        ("patient_weight_lb", "heavy", "malformed"),
        ("comment", "a\nb", "bad_character"),
    ],
)
def test_design_9_dicom_limits_reject(field: str, value: str, reason: str) -> None:
    """Design decision 9: what would break a scanner's list is rejected with the rule's name, and costs no other."""
    mapping = {"patient_id": "id", "patient_name": "id"} | {field: "value"}
    fine = "1" if field == "patient_id" else None
    batch = batch_of(booking(id=1, value=fine), booking(id=2, value=value), mapping=mapping)
    assert batch.accepted["booking_id"].to_list() == [1]
    assert batch.rejected.select("booking_id", "reasons").rows() == [(2, [f"{field}_{reason}"])]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("patient_id", "x" * 64),
        ("patient_name", "x" * 64 + "=" + "y" * 64 + "=" + "é" * 64),
        ("patient_name", "a^b^c^d^e=a^b^c^d^e"),
        ("study_instance_uid", "1.2.840.0.1"),
        ("patient_birth_date", "19800229"),
        ("patient_weight_lb", "154.5"),
        ("comment", "a\\b"),
    ],
)
def test_design_9_just_within_the_limits(field: str, value: str) -> None:
    """Design decision 9: the limits are DICOM's, no tighter."""
    assert entry_of(booking(value=value), mapping={"patient_id": "id"} | {field: "value"})[field] == value
