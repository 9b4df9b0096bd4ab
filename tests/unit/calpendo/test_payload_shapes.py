"""The shapes in which Calpendo writes operators, fields and times in the rows of a list."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.calpendo.operators import names_by_id, operator_name
from pipeline.calpendo.responses import has_too_many_rows, has_too_many_values, is_ambiguous
from pipeline.transform.json_values import booking_id, find


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


TEXTS = st.text(st.sampled_from('ab"\\{}[],: é'), max_size=6)
VALUES = st.recursive(
    st.none() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=15,
)


def longest(value: Any) -> int:
    """Return the length of the longest list or object inside of a value."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return max([len(inner), *map(longest, inner)])


@settings(max_examples=50)
@given(st.lists(VALUES, max_size=8), st.integers(1, 8), st.booleans(), st.sampled_from([None, 1]))
def test_rows_are_counted_before_they_are_made(
    rows: list[Any], limit: int, escaped: bool, indent: int | None
) -> None:
    """Rule, bounds: the bytes tell whether a list is too long, whatever brackets and quotes its texts hold."""
    document = {"biskits": rows}
    body = json.dumps(document, ensure_ascii=escaped, indent=indent).encode()
    found = has_too_many_rows(body, limit)
    assert found or len(rows) <= limit
    assert not found or longest(document) > limit
    assert has_too_many_values(body, 0)
    assert not has_too_many_values(body, len(body))


@pytest.mark.parametrize(
    "body",
    [
        b'{"biskits": [' + b"{}," * 60_000 + b"{}]}",
        b"[" + b"0," * 60_000 + b"0]",
        b'{"biskits": [' + b'"a",' * 60_000 + b'"b"]}',
        b'{"biskits": [{"a": [' + b"[]," * 2_000_000 + b"[]]}]}",
        b'{"biskits": [' + b'{"id": 1, "x": {"y": [1, 2]}}, ' * 60_000 + b"{}]}",
    ],
)
def test_lists_too_long_in_any_form(body: bytes) -> None:
    """Rule, bounds: rows of any kind, and values without end in one row."""
    assert has_too_many_rows(body, 50_000)


def test_a_long_list_of_ordinary_rows_is_read() -> None:
    """Rule, bounds: exactly max_rows is no row too many."""
    row = b'{"id": 1, "title": "A, \\"B\\" [x]", "properties": {"tags": [1, 2, 3], "resource": {"id": 1}}}'
    body = b'{"biskits": [' + b",".join([row] * 20_000) + b"]}"
    assert not has_too_many_rows(body, 20_000)
    assert has_too_many_rows(body, 19_999)
