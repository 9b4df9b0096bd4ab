"""DICOM's limits on an entry, and the forms of a patient's name (design decision 9)."""

from __future__ import annotations

import pytest

from tests.support.batches import batch_of, booking, entry_of


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
    ("value", "reason"), [("x" * 65, "too_long"), ("a\\b", "bad_character"), ("a\\b" * 30, "too_long")]
)
def test_only_an_identifier_rejects(value: str, reason: str) -> None:
    """An id is never cut or cleaned: what DICOM cannot hold rejects the booking with the rule's name, and no other."""
    batch = batch_of(booking(id=1, value="1"), booking(id=2, value=value), mapping={"patient_id": "value"})
    assert batch.accepted["booking_id"].to_list() == [1]
    assert batch.rejected["booking_id"].to_list() == [2]
    assert f"patient_id_{reason}" in batch.rejected["reasons"].to_list()[0]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("patient_id", "x" * 64),
        ("patient_name", "x" * 64 + "=" + "y" * 64 + "=" + "é" * 64),
        ("patient_name", "a^b^c^d^e=a^b^c^d^e"),
        ("study_instance_uid", "1.2.840.0.1"),
        ("patient_birth_date", "19800229"),
        ("patient_birth_date", "18800101"),
        ("patient_weight_lb", "154.5"),
        ("patient_weight_lb", "2"),
        ("patient_weight_lb", "350.0"),
        ("station_name", "x" * 16),
        ("comment", "a\\b"),
    ],
)
def test_design_9_just_within_the_limits(field: str, value: str) -> None:
    """Design decision 9: the limits are DICOM's, no tighter, and what keeps them is left as it is."""
    batch = batch_of(booking(value=value), mapping={"patient_id": "id"} | {field: "value"})
    assert batch.entries[field].to_list() == [value]
    assert batch.flags.repaired == {}
