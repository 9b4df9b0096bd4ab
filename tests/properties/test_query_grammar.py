"""A built query, read back by an independent little reader of the vendor's grammar, is the filter that was meant."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import requests
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.calpendo.query import booking_query, ids_query, query_variants, wall_bounds
from pipeline.calpendo.window import Window, window_for
from pipeline.config import PipelineConfig

OPERATORS = {"AND", "OR", "NAND", "NOR"}
BASE = PipelineConfig.from_dict(
    {"base_url": "https://calpendo.test", "resources": ["x"], "field_mapping": {}}, environ={}
)
# Any text a resource may be called: letters of all scripts, the grammar's own words, slashes, per cent signs.
NAMES = st.one_of(
    st.sampled_from(
        ["OR", "CLOSE", "AND", "resource.name", "EQ", "3T/7T", "a%2Fb", "50% ?#&=+", "ü", "..", ".", "\\"]
    ),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12),
)
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2030, 12, 31)).map(  # noqa: DTZ001  made aware at once
    lambda moment: moment.replace(tzinfo=UTC)
)


@dataclass
class Term:
    """One comparison."""

    path: str
    relation: str
    value: str


@dataclass
class Group:
    """A Boolean operator over expressions."""

    operator: str
    members: list[Any]


def read(segments: list[str]) -> tuple[Term | Group, list[str]]:
    """Read one expression; a group takes all that follows, up to its CLOSE."""
    head = segments[0]
    if head not in OPERATORS:
        path, relation, value, *rest = segments
        return Term(path, relation, unquote(value)), rest
    members: list[Any] = []
    rest = segments[1:]
    while rest and rest[0] != "CLOSE":
        member, rest = read(rest)
        members.append(member)
    return Group(head, members), rest[1:]


def read_path(path: str) -> Group:
    """Read a whole path; nothing may be left over."""
    expression, rest = read(path.split("/"))
    assert rest == []
    assert isinstance(expression, Group)
    return expression


def holds(expression: Term | Group, booking: dict[str, str]) -> bool:
    """Evaluate an expression on a flat booking; order of texts is order of times in this format."""
    if isinstance(expression, Group):
        results = [holds(member, booking) for member in expression.members]
        return {"AND": all(results), "OR": any(results)}[expression.operator]
    own = booking[expression.path]
    return {
        "EQ": own == expression.value,
        "GE": own >= expression.value,
        "LT": own < expression.value,
        "STARTS_WITH": own.startswith(expression.value),
    }[expression.relation]


def as_sent(path: str) -> str:
    """Return the path as the HTTP library really sends it."""
    sent = (
        requests.Request("GET", f"https://calpendo.test/webdav/q/Calpendo.Booking/{path}").prepare().path_url
    )
    return sent.removeprefix("/webdav/q/Calpendo.Booking/")


@given(
    resources=st.lists(NAMES, min_size=1, max_size=4, unique=True),
    status=st.none() | NAMES,
    own_resource=NAMES,
    own_status=NAMES,
    now=MOMENTS,
    offset=st.integers(-60 * 48, 60 * 48),
)
def test_a_query_means_the_intended_filter(
    resources: list[str], status: str | None, own_resource: str, own_status: str, now: datetime, offset: int
) -> None:
    """T006: the URL as sent asks for (window and status and (one of the resources)), whatever the names hold."""
    assume(not {".", ".."} & {*resources, status})
    config = BASE.model_copy(update={"resources": tuple(resources), "status_filter": status})
    window = window_for(config, now, 60)
    first, last = wall_bounds(config, window)
    start = first + timedelta(minutes=offset)
    for resource in {own_resource, resources[0]}:
        for text in {own_status, status or own_status}:
            booking = {"dateRange.start": f"{start:%Y%m%d-%H%M}", "status": text, "resource.name": resource}
            wanted = first <= start < last and resource in resources and (status is None or text == status)
            assert holds(read_path(as_sent(booking_query(config, window))), booking) == wanted


@given(resources=st.lists(NAMES, max_size=4, unique=True), status=st.none() | NAMES, now=MOMENTS)
def test_and_terms_stand_before_the_one_or_group(
    resources: list[str], status: str | None, now: datetime
) -> None:
    """T006: one AND with its terms, and at its very end one OR group of resources and nothing else."""
    config = BASE.model_copy(update={"resources": tuple(resources), "status_filter": status})
    whole = read_path(booking_query(config, window_for(config, now, 60)))
    assert whole.operator == "AND"
    *terms, last = whole.members if resources else [*whole.members, Group("OR", [])]
    assert all(isinstance(term, Term) for term in terms)
    assert [term.path for term in terms[:2]] == ["dateRange.start", "dateRange.start"]
    assert [(term.path, term.value) for term in terms[2:]] == ([("status", status)] if status else [])
    assert isinstance(last, Group)
    assert last.operator == "OR"
    assert [member.value for member in last.members] == resources


@settings(max_examples=50)
@given(
    resources=st.lists(NAMES, min_size=1, max_size=3, unique=True),
    status=st.none() | NAMES,
    start=MOMENTS,
    picked=st.integers(0, 2),
)
def test_wider_queries_lose_no_booking(
    resources: list[str], status: str | None, start: datetime, picked: int
) -> None:
    """T006: each wider form, for servers that refuse an encoded slash, still asks for every booking wanted."""
    config = BASE.model_copy(update={"resources": tuple(resources), "status_filter": status})
    window = Window(start, start + timedelta(days=1), start)
    variants = list(query_variants(config, window))
    assert len(set(variants)) == len(variants)
    first, _ = wall_bounds(config, window)
    booking = {
        "dateRange.start": f"{first:%Y%m%d-%H%M}",
        "status": status or "any",
        "resource.name": resources[picked % len(resources)],
    }
    assert all(holds(read_path(variant), booking) for variant in variants)
    for variant in variants[1:]:
        assert "%2F" not in variant
        assert "%5C" not in variant
        assert read_path(as_sent(variant)) == read_path(variant)


@given(st.lists(st.integers(0, 2**53 - 1), min_size=1, max_size=5, unique=True))
def test_ids_are_found_by_any_of_them(ids: list[int]) -> None:
    """T010: scans are looked up by the ids themselves, one by one or together."""
    expression, rest = read(ids_query(ids).split("/"))
    assert rest == []
    assert all(holds(expression, {"id": str(number)}) for number in ids)
    assert not holds(expression, {"id": "-1"})
