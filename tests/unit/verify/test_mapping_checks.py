"""verify tries the mapping on rows of a list: what fails, what is a warning, and what a row cannot tell."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from pipeline.calpendo.window import Window
from pipeline.config import PipelineConfig
from pipeline.verify.mapping_checks import Rows, asked_span, tried
from pipeline.verify.setup_checks import Check, State

NOW = datetime(2026, 11, 23, 18, 0, tzinfo=UTC)
WINDOW = Window(NOW - timedelta(hours=1), NOW + timedelta(hours=24), NOW - timedelta(hours=13))
ID = {"source_field": "title", "_extract": {"pattern": r"(P\d+)-V\d", "group": 1, "on_no_match": "reject"}}
TITLES = [f"P0{number}-V1 MRI / Smith" for number in range(8)]


def row(number: int, title: str | None, days_ago: float = 3, **changes: Any) -> dict[str, Any]:
    """A row of a list with flat keys, as one of the shapes that servers answer in."""
    start = NOW - timedelta(days=days_ago)
    return {
        "id": number,
        "title": title,
        "status": "Approved",
        "formattedName": f"[{start:%Y-%m-%d %H:%M:%S}, {start + timedelta(hours=1):%Y-%m-%d %H:%M:%S}]",
        "resource.formattedName": "3T",
        **changes,
    }


def lines(
    rows: list[Any], *, chosen: bool = True, hosted: bool = False, at_least: float = 80, **options: Any
) -> list[Check]:
    """All lines for these rows."""
    given = {"field_mapping": {"patient_id": ID}, "resources": ["3T"], "timezone": "UTC", **options}
    config = PipelineConfig.from_dict(given, environ={}, offline=True)
    today = date(2026, 11, 23)
    return [*tried(Rows(rows, chosen), config, WINDOW, today, at_least=at_least, under_pylantir=hosted)]


def of(found: list[Check], name: str, state: State) -> list[str]:
    """The texts of the lines of one name and state."""
    return [check.found for check in found if (check.name, check.state) == (name, state)]


def titled(titles: list[str], **changes: Any) -> list[dict[str, Any]]:
    """A row per title."""
    return [row(number, title, **changes) for number, title in enumerate(titles, start=1)]


def test_what_matches_is_told_with_examples() -> None:
    """Issue: how many a rule matched, of those asked for and not ignored, with examples as shapes and no name."""
    others = [row(20, "Phantom"), row(21, "P99 other scanner", **{"resource.formattedName": "EEG"})]
    found = lines([*titled(TITLES), row(9, "[X] 12"), *others], ignore_titles=["phantom"])
    assert of(found, "mapping", State.OK) == [
        "patient_id: 8 of 9 bookings matched (88 %); A99-A9 AAA / Aaaaa → A99"
    ]
    assert of(found, "ignored titles", State.OK) == [
        "ignore_titles leaves out 1 of 10 different titles, such as Aaaaaaa"
    ]
    assert of(found, "rejections", State.WARNING) == [
        "1 of 9 bookings would be rejected: patient_id_no_match 1"
    ]
    assert {check.state for check in found} <= {State.OK, State.WARNING}
    assert not any("Smith" in check.found + check.advice for check in found)


@pytest.mark.parametrize(
    ("matching", "at_least", "state"),
    [
        (0, 80, State.FAILED),
        (0, 0, State.FAILED),
        (7, 80, State.FAILED),
        (8, 80, State.OK),
        (7, 70, State.OK),
    ],
)
def test_too_few_matches_fail(matching: int, at_least: float, state: State) -> None:
    """Issue: a pattern that matches none, or fewer than --at-least percent, fails."""
    titles = [f"P{number}-V1" for number in range(matching)] + [
        f"[X] {number}" for number in range(10 - matching)
    ]
    found = lines(titled(titles), at_least=at_least)
    (line,) = [check for check in found if check.name == "mapping" and check.found.startswith("patient_id: ")]
    assert line.state is state
    if state is State.FAILED:
        assert f"'[A] 9' ({10 - matching} bookings)" in line.advice


def test_a_share_is_never_said_to_be_more_than_it_is() -> None:
    """Issue: what fails for less than 80 percent is not said to be 80, nor what misses a booking all of them."""
    titles = [f"P{number}-V1" for number in range(799)] + [f"[X] {number}" for number in range(201)]
    assert any("799 of 1000 bookings matched (79 %)" in check.found for check in lines(titled(titles)))
    assert any("799 of 800 bookings matched (99 %)" in check.found for check in lines(titled(titles[:800])))


def test_a_list_says_which_rule_matched() -> None:
    """Issue: per rule of a list; one that matches first of no booking is a warning."""
    by_list = [{"pattern": "(P0[0-3])", "group": 1}, {"pattern": "P00"}, {"pattern": r"\w+"}]
    found = lines(
        titled(TITLES), field_mapping={"patient_id": {"source_field": "title", "_extract": by_list}}
    )
    assert of(found, "mapping", State.OK)[0].startswith(
        "patient_id: 8 of 8 bookings matched (100 %), by rule 1: 4, 2: 0, 3: 4;"
    )
    assert of(found, "mapping", State.WARNING) == [
        "patient_id: rule 2 of 3 is the first to match of no booking"
    ]


@pytest.mark.parametrize(("titles", "state"), [(4, None), (5, State.FAILED)])
def test_one_id_for_all_fails(titles: int, state: State | None) -> None:
    """Issue: one patient_id for five or more different titles and more than half of them; a name is a warning."""
    rule = {"source_field": "title", "_extract": {"pattern": "(P)", "group": 1}}
    found = lines(titled(TITLES[:titles] * 3), field_mapping={"patient_id": rule, "patient_name": rule})
    told = [(check.state, check.found) for check in found if "the same value" in check.found]
    assert told == (
        [
            (State.FAILED, "patient_id: 5 of 5 different titles get the same value (A)"),
            (State.WARNING, "patient_name: 5 of 5 different titles get the same value (A)"),
        ]
        if state
        else []
    )


def test_ids_that_differ_are_no_failure() -> None:
    """One subject with many visits, among others, is no pattern that takes the same of all."""
    visits = [f"P07-V{number}" for number in range(6)]
    found = lines(titled([*visits, *(f"P1{number}-V1" for number in range(6))]))
    assert not [check for check in found if check.state is State.FAILED]


@pytest.mark.parametrize(("pattern", "state"), [("^P0[0-3]", State.OK), ("^P0[0-4]", State.FAILED)])
def test_to_ignore_more_than_half_fails(pattern: str, state: State) -> None:
    """Issue: more than half of the titles ignored."""
    assert len(of(lines(titled(TITLES), ignore_titles=pattern), "ignored titles", state)) == 1


@pytest.mark.parametrize(
    ("unknown", "days_ago", "state"),
    [(1, 3, State.WARNING), (2, 3, State.FAILED), (1, 0, State.FAILED), (1, -0.5, State.FAILED)],
)
def test_unknown_statuses(unknown: int, days_ago: float, state: State) -> None:
    """Issue: in the window, or on 5 % of thirty days' bookings, a failure; else a warning; with the line to write."""
    rows = titled([f"P{number}-V1" for number in range(30)])
    rows += [row(40 + number, "P1-V1", days_ago, status="Bestätigt") for number in range(unknown)]
    found = lines(rows, status_mapping={"Abgesagt": "DISCONTINUED"})
    (line,) = [check for check in found if check.name == "statuses"]
    assert line.state is state
    assert f"'Bestätigt' {unknown}" in line.found
    assert line.advice == 'write "status_mapping": {"Abgesagt": "DISCONTINUED", "Bestätigt": "SCHEDULED"}'


def test_what_a_status_means_is_asked_where_it_is_not_known() -> None:
    """Issue: the line to write, with what a word surely means, and a question for any other."""
    found = lines([*titled(TITLES), row(30, "P1-V1", status="Storniert"), row(31, "P2-V1", status="Zeta")])
    (line,) = [check for check in found if check.name == "statuses"]
    assert '"Storniert": "DISCONTINUED", "Zeta": "SCHEDULED"}, and for \'Zeta\' what it means' in line.advice


def test_a_cancelled_booking_needs_no_status() -> None:
    """What is marked as cancelled is DISCONTINUED whatever its status says."""
    found = lines([*titled(TITLES), row(30, "P9-V1", status="Weg", cancelled=True)])
    assert of(found, "statuses", State.OK)


def test_what_a_row_lacks_is_not_counted() -> None:
    """Issue: what cannot be judged from a list row is said as such, never counted as wrong."""
    rows = [{"id": number, "title": title} for number, title in enumerate(TITLES, start=1)]
    mapping = {"patient_id": "properties.mrn", "performing_physician": "operator", "patient_name": ID}
    found = lines(rows, chosen=False, field_mapping=mapping, status_filter="Approved", allowed_studies=["X"])
    assert not [check for check in found if check.state in (State.FAILED, State.WARNING)]
    assert len(of(found, "mapping", State.SKIPPED)) == 2
    assert of(found, "statuses", State.SKIPPED)
    assert of(found, "rejections", State.SKIPPED)


def test_a_path_that_no_booking_has_is_a_warning() -> None:
    """What else is told wrong: a misspelt path, a resource that nobody books, an id that is the whole title."""
    mapping = {
        "patient_id": {"source_field": "title", "_extract": {"pattern": "P0[0-6]"}},
        "patient_sex": "properties.sxe",
        "performing_physician": "operator",
    }
    found = lines(titled(TITLES), field_mapping=mapping, resources=["3T", "7T"])
    assert of(found, "mapping", State.WARNING) == [
        "patient_sex: no booking of the list has a value at 'properties.sxe'",
        "patient_id: 1 bookings that no pattern matches go out with all of 'title' as their id",
    ]
    assert len(of(found, "mapping", State.SKIPPED)) == 1
    assert of(found, "quiet resources", State.WARNING) == ["no booking in 30 days: '7T'"]


def test_what_pylantir_sends_is_looked_at() -> None:
    """Issue: for a configuration of Pylantir, what Pylantir would send."""
    pytest.importorskip("pylantir")
    mapping = {
        "patient_id": ID,
        "patient_name": {"source_field": "title", "_extract": {"pattern": ".*/ (.*)", "group": 1}},
    }
    rows = titled([*TITLES, "P1\u0661-V1 / Müller"])
    found = lines(rows, hosted=True, field_mapping=mapping, patient_name_form="given")
    assert any("→ ^Aaaaa" in told for told in of(found, "mapping", State.OK))
    (held,) = of(found, "held back", State.WARNING)
    assert held.startswith("1 of 9 bookings cannot be sent by Pylantir: patient_id")


@pytest.mark.parametrize("rows", [[], [3, None, {"id": "x"}], titled(["Phantom"])])
def test_nothing_to_try_it_on(rows: list[Any]) -> None:
    """No booking, or none that is asked for: said as such."""
    assert of(lines(rows, ignore_titles="phantom|x"), "mapping", State.SKIPPED)


def test_the_span_is_thirty_days_and_the_window() -> None:
    """Issue: the window's bookings and those of the last thirty days, also where the window is past or far ahead."""
    assert asked_span(WINDOW, NOW) == Window(NOW - timedelta(days=30), WINDOW.end, NOW - timedelta(days=30))
    morning = Window(NOW - timedelta(hours=9), NOW - timedelta(hours=2), NOW - timedelta(hours=21))
    assert asked_span(morning, NOW).end == NOW
