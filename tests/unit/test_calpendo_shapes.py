"""The shapes in which Calpendo writes operators, fields and times in the rows of a list."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.calpendo.operators import names_by_id, operator_name
from pipeline.calpendo.rows import is_ambiguous
from pipeline.transform.paths import booking_id, find


@pytest.mark.parametrize(
    "shape",
    [
        "Testop",
        {"formattedName": "Testop"},
        {"name": "Testop"},
        {"Operator": {"name": "Testop"}},
        {"Operator": {"name": {"formattedName": "Testop"}}},
        {"Operator.name": "Testop"},
        [{"name": "Testop"}],
    ],
)
def test_an_operator_is_found_in_any_shape(shape: Any) -> None:
    """API notes: an operator comes as a text, with a formattedName, or nested."""
    assert operator_name(shape) == "Testop"
    rows = [
        {"id": 1, "Operator.name": shape},
        {"id": 2, "Operator": {"name": shape}},
        {"id": 3, "properties": {"Operator": {"name": shape}}},
        {"id": 4, "properties": {"Operator.name": shape}},
        {"id": 5, "Operator": shape},
    ]
    assert names_by_id(rows) == dict.fromkeys(range(1, 6), "Testop")


@pytest.mark.parametrize(
    "shape", [None, "", "  ", "<Hidden>", 7, [], {}, {"name": None}, {"name": {"x": 1}}, True]
)
def test_no_operator_is_made_up(shape: Any) -> None:
    """API notes: absent and hidden are the same: none."""
    assert operator_name(shape) is None
    assert names_by_id([{"id": 1, "Operator.name": shape}, "odd", {"id": "1"}, {}]) == {}


def test_endless_nesting_ends() -> None:
    """No answer, however deep, keeps the reader busy."""
    shape: Any = "Testop"
    for _ in range(50):
        shape = {"name": shape}
    assert operator_name(shape) is None


@pytest.mark.parametrize(
    "row",
    [
        {"resource.name": "3T"},
        {"resource": {"name": "3T"}},
        {"properties": {"resource.name": "3T"}},
        {"properties": {"resource": {"name": "3T"}}},
    ],
)
@pytest.mark.parametrize("path", ["resource.name", "properties.resource.name"])
def test_a_field_is_found_flat_nested_or_below_properties(row: dict[str, Any], path: str) -> None:
    """API notes: the answer's shape for chosen fields is open, all three are read."""
    assert find(row, path) == (True, "3T")
    assert find(row, "resource.id") == (False, None)
    assert find({"resource": None}, path) == (False, None)


def test_null_is_there_and_missing_is_not() -> None:
    """Issue: a key with null was answered, one that is missing was not."""
    assert find({"properties": {"cancelled": None}}, "cancelled") == (True, None)
    assert find({"properties": {}}, "cancelled") == (False, None)
    assert find({"properties": "<Hidden>"}, "cancelled") == (False, None)


@pytest.mark.parametrize(
    ("value", "usable"),
    [
        (0, False),
        (1, True),
        (2**53 - 1, True),
        (2**53, False),
        (-1, False),
        (True, False),
        ("1", False),
        (1.0, False),
    ],
)
def test_ids_are_integers(value: object, usable: bool) -> None:
    """API notes: ids are whole numbers from 1 to 2^53-1; a bool, a text or a float is none."""
    assert booking_id(value) == (value if usable else None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-01T01:30:00", False),  # Edmonton keeps summer time from 2026 on (tzdata 2026f)
        ("2025-11-02T01:30:00", True),
        ("2025-11-02T01:30:00-06:00", False),
        ("2025-11-02T07:30:00Z", False),
        ("2026-03-08 02:30:00.0", True),
        ("2026-06-10T01:30:00", False),
        ("soon", False),
        (None, False),
    ],
)
def test_a_time_that_may_be_two(text: str | None, expected: bool) -> None:
    """T012: a wall-clock time that the site's clock shows twice or never names no single instant."""
    assert is_ambiguous([None, text], "America/Edmonton") == [False, expected]
