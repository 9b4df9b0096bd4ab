"""The simulated server really evaluates the vendor's grammar (calpendo-api: query grammar)."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.simulator import CalpendoSimulator
from pipeline.simulator.query_language import QueryError, parse_query, split_query
from tests.support.simulator_calls import ask, booking, call, found

TITLES = ["SUB001_Ann", "SUB002/Bo", "pilot%2F7", "AND", "CLOSE", "Søren Ærø", None]
STATUSES = ["Approved", "approved", "Denied", None]
RESOURCES = ["3T Diagnostic", "EEG/Lab", "OR"]


def _day(number: int) -> str:
    return f"2026-11-{1 + number % 28:02d} {number % 24:02d}:30:00.0"


ROWS = [
    booking(
        100 + number,
        title=TITLES[number % 7],
        status=STATUSES[number % 4],
        formattedName=f"[{_day(number)}, {_day(number + 1)}]",
        properties={"resource": {"formattedName": RESOURCES[number % 3]}, "durationInMinutes": number * 5},
    )
    for number in range(42)
]


@pytest.fixture(scope="module")
def simulator() -> Iterator[CalpendoSimulator]:
    """Serve 42 rows that differ in every field that is compared."""
    with CalpendoSimulator(ROWS) as running:
        yield running
    assert running.errors == []


def _value(row: dict[str, Any], path: str) -> Any:
    """Read a field the plain way, independently of the simulator."""
    if path == "dateRange.start":
        return datetime.fromisoformat(row["formattedName"][1:20])
    if path == "resource.name":
        return row["properties"]["resource"]["formattedName"]
    if path == "durationInMinutes":
        return row["properties"][path]
    return row[path]


PLAIN = {
    "EQ": operator.eq,
    "NE": operator.ne,
    "LT": operator.lt,
    "LE": operator.le,
    "GT": operator.gt,
    "GE": operator.ge,
    "CONTAINS": operator.contains,
    "STARTS_WITH": str.startswith,
    "ENDS_WITH": str.endswith,
    "DOES_NOT_CONTAIN": lambda text, part: part not in text,
    "DOES_NOT_START_WITH": lambda text, part: not text.startswith(part),
    "DOES_NOT_END_WITH": lambda text, part: not text.endswith(part),
}
ORDERS = ["EQ", "NE", "LT", "LE", "GT", "GE"]

texts = st.sampled_from([*filter(None, TITLES), "A", "/", "ø", "", "OR", "__null__", "a"])
terms = st.one_of(
    st.tuples(st.sampled_from(["title", "status"]), st.sampled_from(list(PLAIN)), texts),
    st.tuples(
        st.just("resource.name"), st.sampled_from(list(PLAIN)), st.sampled_from([*RESOURCES, "E", "/"])
    ),
    st.tuples(st.just("durationInMinutes"), st.sampled_from(ORDERS), st.integers(0, 210)),
    st.tuples(st.just("id"), st.sampled_from(ORDERS), st.integers(95, 145)),
    st.tuples(
        st.just("dateRange.start"),
        st.sampled_from(ORDERS),
        st.integers(0, 28 * 48).map(
            lambda halves: datetime.fromisoformat("2026-11-01") + halves * timedelta(minutes=30)
        ),
    ),
    st.tuples(st.sampled_from(["title", "status"]), st.sampled_from(["EQ", "NE"]), st.none()),
)
trees = st.recursive(
    terms,
    lambda inner: st.tuples(
        st.sampled_from(["AND", "OR", "NAND", "NOR"]), st.lists(inner, min_size=1, max_size=3)
    ),
    max_leaves=8,
)


def _holds(tree: Any, row: dict[str, Any]) -> bool:
    if len(tree) == 2:
        results = [_holds(inner, row) for inner in tree[1]]
        return {
            "AND": all(results),
            "OR": any(results),
            "NAND": not all(results),
            "NOR": not any(results),
        }[tree[0]]
    path, relation, value = tree
    actual = _value(row, path)
    if value is None:
        return (actual is None) == (relation == "EQ")
    return actual is not None and bool(PLAIN[relation](actual, value))


def _segments(tree: Any, last: bool, draw: Any) -> list[str]:
    """Write a tree as path segments; only what stands last may leave its CLOSE out."""
    if len(tree) == 2:
        inner = [
            segment
            for number, child in enumerate(tree[1])
            for segment in _segments(child, last and number == len(tree[1]) - 1, draw)
        ]
        closed = not last or draw(st.booleans())
        # Once something inside has been left open, everything behind it would fall inside as well.
        if closed and last and _is_open(inner):
            closed = False
        return [tree[0], *inner, *(["CLOSE"] if closed else [])]
    path, relation, value = tree
    if isinstance(value, datetime):
        text = value.strftime(draw(st.sampled_from(["%Y%m%d-%H%M", "%Y%m%dT%H%M"])))
    else:
        text = "__NULL__" if value is None else str(value)
    return [path, relation if draw(st.booleans()) else relation.lower(), text]


def _is_open(segments: list[str]) -> bool:
    depth, position = 0, 0
    while position < len(segments):
        if segments[position] in {"AND", "OR", "NAND", "NOR"}:
            depth, position = depth + 1, position + 1
        elif segments[position] == "CLOSE":
            depth, position = depth - 1, position + 1
        else:
            position += 3
    return depth > 0


@settings(max_examples=150, deadline=None)
@given(tree=trees, data=st.data())
def test_every_query_finds_what_a_plain_evaluation_finds(
    simulator: CalpendoSimulator, tree: Any, data: st.DataObject
) -> None:
    """calpendo-api: prefix, n-ary, groups run on to CLOSE or the end; values are quoted whole."""
    expected = [row["id"] for row in ROWS if _holds(tree, row)]

    assert found(simulator, _segments(tree, True, data.draw)) == expected


def test_the_task_lists_own_query_returns_too_much() -> None:
    """T006: a term written after the OR group falls inside it, so the template's query asks for too much."""
    rows = [
        booking(1),
        booking(2, status="Denied"),
        booking(3, properties={"resource": {"formattedName": "EEG Lab"}}),
        booking(4, properties={"resource": {"formattedName": "Garage"}}),
    ]
    dates = ["dateRange.start", "GE", "20261123-0000", "dateRange.start", "LT", "20261124-0000"]
    resources = ["resource.name", "EQ", "3T Diagnostic", "resource.name", "EQ", "EEG Lab"]
    with CalpendoSimulator(rows) as running:
        template = found(running, ["AND", *dates, "OR", *resources, "AND", "status", "EQ", "Approved"])
        right = found(running, ["AND", *dates, "status", "EQ", "Approved", "OR", *resources])
        closed = found(running, ["AND", *dates, "OR", *resources, "CLOSE", "status", "EQ", "Approved"])

    assert template == [1, 2, 3, 4]
    assert right == closed == [1, 3]


def test_a_quoted_slash_stays_inside_its_value(simulator: CalpendoSimulator) -> None:
    """calpendo-api: the path is split first and each segment is decoded by itself."""
    rows = ask(simulator, "q/Calpendo.Booking/resource.name/EQ/EEG%2FLab")["biskits"]
    twice = ask(simulator, "q/Calpendo.Booking/title/EQ/pilot%252F7")["biskits"]

    assert {row["id"] for row in rows} == {row["id"] for row in ROWS[1::3]}
    assert {row["title"] for row in twice} == {"pilot%2F7"}


@pytest.mark.parametrize("start", ["20261123-1000", "20261123T1000"])
def test_both_date_formats_are_the_sites_wall_clock(start: str) -> None:
    """calpendo-api: dates are wall-clock time of the site, whichever way the booking writes its own."""
    newer = {
        "id": 2,
        "biskitType": "MRIScan",
        "properties": {"dateRange": {"start": "2026-11-23T16:00:00Z", "finish": "2026-11-23T11:00:00-06:00"}},
    }
    with CalpendoSimulator([booking(1), newer]) as running:
        assert found(running, ["dateRange.start", "EQ", start]) == [1, 2]
        assert found(running, ["dateRange.finish", "EQ", "20261123-1100"]) == [1, 2]
        assert found(running, ["dateRange.start", "GT", start]) == []


def test_text_is_compared_without_case_only_where_asked() -> None:
    """calpendo-api: a server's case rules are outside our control, so both are served."""
    for ignore_case, expected in ((False, [1]), (True, [1, 2])):
        with CalpendoSimulator(
            [booking(1), booking(2, status="APPROVED")], ignore_case=ignore_case
        ) as running:
            assert found(running, ["status", "EQ", "Approved"]) == expected


@pytest.mark.parametrize(
    "segments",
    [
        ["AND"],
        ["CLOSE"],
        ["OR", "CLOSE"],
        ["id", "EQ"],
        ["id", "IS", "5"],
        ["id", "EQ", "5", "id", "EQ", "6"],
        ["AND", "id", "EQ", "5", "CLOSE", "CLOSE"],
        ["AND", "id", "EQ", "5", "CLOSE", "id", "EQ", "6"],
        ["dateRange.start", "GE", "2026-11-23"],
        ["dateRange.start", "GE", "20261332-9900"],
        ["Operator.name", "EQ", "Olsen, Oda"],
        ["AND"] * 200,
    ],
)
def test_what_is_no_query_answers_400(simulator: CalpendoSimulator, segments: list[str]) -> None:
    """calpendo-api: one whole expression, known relations, dates in one of two forms."""
    path = "/".join(quote(segment, safe="") for segment in segments)

    assert call(simulator, f"/webdav/q/Calpendo.Booking/{path}")[0] == 400


def test_a_subtypes_field_needs_the_subtype_in_the_url(simulator: CalpendoSimulator) -> None:
    """calpendo-api: Operator belongs to MRIScan."""
    assert call(simulator, "/webdav/q/Calpendo.Booking/id/EQ/101?paths=Operator.name")[0] == 400
    assert ask(simulator, "q/MRIScan/id/eq/101?paths=Operator.name") == {
        "biskits": [{"id": 101, "Operator.name": "Olsen, Oda"}]
    }
    assert found(simulator, ["AND", "id", "EQ", "101", "Operator.name", "EQ", "Olsen, Oda"], "MRIScan") == [
        101
    ]


@given(st.lists(st.sampled_from(["AND", "NOR", "CLOSE", "id", "EQ", "5", "", "title"]), max_size=12))
def test_any_path_is_an_expression_or_a_query_error(segments: list[str]) -> None:
    """The parser raises nothing but QueryError."""
    with contextlib.suppress(QueryError):
        parse_query(segments)


def test_segments_are_decoded_once() -> None:
    """calpendo-api: %252F is a quoted %2F."""
    assert split_query("title/EQ/a%252Fb%2Fc+d") == ["title", "EQ", "a%2Fb/c+d"]
