"""T015: the hash of the critical fields, byte for byte the formula of the task list."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.batch import transform_bookings
from pipeline.transform.bookings import read_bookings
from tests.reference.row_by_row import RowByRow
from tests.support.batches import booking, config_of, entry_of

CONFIG = config_of()


def hash_of(payload: Any) -> str:
    """Return the hash that an entry carries."""
    return json.loads(entry_of(payload)["notes"])["booking_hash"]


def test_t015_same_data_same_hash() -> None:
    """T015: the hash is the same for the same data, 64 hex digits, as valid JSON in ``notes``."""
    assert hash_of(booking()) == hash_of(json.dumps(booking()))
    assert set(json.loads(entry_of(booking())["notes"])) == {"booking_hash"}
    assert len(hash_of(booking())) == 64


@pytest.mark.parametrize(
    "changes",
    [
        {"title": "SUB002_John_Doe"},
        {"status": "Pending"},
        {"formattedName": "[2026-01-27 14:00:00.0, 2026-01-27 15:31:00.0]"},
        {"properties": {"resource": {"formattedName": "EEG"}, "project": {"formattedName": "Brain Study"}}},
        {
            "properties": {
                "resource": {"formattedName": "3T Diagnostic"},
                "project": {"formattedName": "Other"},
            }
        },
    ],
)
def test_t015_each_critical_field_changes_the_hash(changes: dict[str, Any]) -> None:
    """T015: title, status, dates, project and resource are in the hash."""
    assert hash_of(booking(**changes)) != hash_of(booking())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"title": 'SUB1_"quoted" \\ and \t'},
        {"title": "SUB1_Zoë 山田\u2028"},
        {"title": "SUB1_\x7f"},
        {"title": 12345678901234567890123},
        {"title": 1.10},
        {"status": None},
        {"status": ["a", {"b": 1}]},
        {"status": True},
        {"properties": {}},
        {"properties": {"project": {}, "resource": {"formattedName": None}}},
        {"properties": {"project": {"formattedName": {"b": 1, "a": 2}}, "resource": {"formattedName": 3}}},
    ],
)
def test_t015_byte_for_byte_the_formula(changes: dict[str, Any]) -> None:
    """T015: on generation A the hash is the template's, whatever types the fields have."""
    payload = booking(**changes)
    expected = RowByRow("calpendo", {})._compute_booking_hash(payload)
    config = config_of()
    bookings = read_bookings([payload, json.dumps(payload), json.dumps(payload, ensure_ascii=False)], config)
    assert transform_bookings(bookings, config).collect()["booking_hash"].to_list() == [expected] * 3


@settings(deadline=None, max_examples=30)
@given(
    st.lists(
        st.lists(st.sampled_from([*'a0u"é中😀\n\x7f\0\\', "\\u0000"])).map("".join), min_size=1, max_size=5
    )
)
@example(["a\0", "b"])
@example(["\\u0000", "b"])
@example(["", "é", ""])
def test_t015_titles_are_escaped_each_for_itself(titles: list[str]) -> None:
    """T015: many titles are escaped at once; whatever stands in one, its neighbours' hashes do not feel it."""
    payloads = [booking(id=number, title=title) for number, title in enumerate(titles, start=1)]
    reference = RowByRow("calpendo", {})
    bookings = read_bookings(payloads, CONFIG)
    hashes = transform_bookings(bookings, CONFIG).collect()["booking_hash"].to_list()
    assert hashes == [reference._compute_booking_hash(payload) for payload in payloads]


def test_t015_missing_fields_hash_as_empty() -> None:
    """T015: what is not there is the empty string in the formula."""
    payload = {"id": 1, "formattedName": "[2026-01-27 14:00:00.0, 2026-01-27 15:30:00.0]"}
    critical = dict.fromkeys(["title", "status", "project", "resource"], "") | {
        "formattedName": payload["formattedName"]
    }
    expected = hashlib.sha256(json.dumps(critical, sort_keys=True).encode()).hexdigest()
    assert json.loads(entry_of(payload, mapping={"patient_id": "id"})["notes"])["booking_hash"] == expected


@pytest.mark.parametrize("fraction", [".0", ".25", ".123456"])
def test_t015_a_new_server_changes_no_hash(fraction: str) -> None:
    """T015: the same booking on generation B has the hash it had on A."""
    old = booking(formattedName=f"[2026-01-27 14:00:00{fraction}, 2026-01-27 15:30:00.0]")
    inner = old["properties"] | {"title": old["title"], "status": old["status"]}
    for start, end in [
        (f"2026-01-27T14:00:00{fraction}", "2026-01-27T15:30:00"),
        (f"2026-01-27T21:00:00{fraction}Z", "2026-01-27T15:30:00-07:00"),
    ]:
        new = {
            "id": 4711,
            "biskitType": "MRIScan",
            "properties": inner | {"dateRange": {"start": start, "finish": end}},
        }
        assert hash_of(new) == hash_of(old)
