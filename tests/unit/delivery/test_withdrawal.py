"""The guard: which withdrawals go, and which wait."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.calpendo.fetch import NOT_REACHED, FetchedBookings
from pipeline.calpendo.window import Window
from pipeline.delivery.decide import Answers, discontinued, judge, shown_in
from pipeline.delivery.ledger import LINES_SCHEMA, microseconds

START = datetime(2026, 1, 6, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_what_the_host_shows_in_the_window() -> None:
    """Issue: withdrawal begins with the bookings whose start lies in the window, and with those that still run."""
    spans = {1: (-2, -1), 2: (-2, 1), 3: (0, 1), 4: (3, 4), 5: (4, 5), 6: (-9, 1)}
    rows = [
        (
            number,
            "",
            "SCHEDULED",
            "delivered",
            microseconds(START + begin * HOUR),
            microseconds(START + end * HOUR),
        )
        for number, (begin, end) in spans.items()
    ]
    rows.append((7, "", "DISCONTINUED", "delivered", *rows[2][4:]))
    rows.append((8, "", "SCHEDULED", "delivered", microseconds(START - HOUR), None))
    lines = pl.DataFrame(rows, schema=LINES_SCHEMA, orient="row")
    assert shown_in(lines, START, START + 4 * HOUR, None) == [3, 4]
    assert shown_in(lines, START, START + 4 * HOUR, START - 3 * HOUR) == [2, 3, 4]


def test_few_go_at_once_and_many_wait_for_a_second_answer() -> None:
    """Issue: more than 5 and half of those in the window: nothing is withdrawn; the same answer again confirms it."""
    for gone, in_window, waits in (
        (5, 5, False),
        (6, 11, True),
        (6, 12, False),
        (100, 200, False),
        (101, 200, True),
    ):
        candidates = list(range(gone))
        first = judge(candidates, held=(), in_window=in_window, max_withdrawn=None, fetch_failed=False)
        assert (first.kept_by == "guard") is waits, (gone, in_window)
        assert first.withdrawn == (() if waits else tuple(candidates))
        assert first.held == (frozenset(candidates) if waits else frozenset())
        again = judge(
            candidates, held=first.held, in_window=in_window, max_withdrawn=None, fetch_failed=False
        )
        assert again.withdrawn == tuple(candidates)
        assert again.held == frozenset()


def test_max_withdrawn_is_the_limit_where_it_is_given() -> None:
    """Issue: max_withdrawn; with 0 every withdrawal needs a second cycle."""
    verdict = judge([1], held=(), in_window=100, max_withdrawn=0, fetch_failed=False)
    assert verdict.withdrawn == ()
    assert judge([1], held=verdict.held, in_window=100, max_withdrawn=0, fetch_failed=False).withdrawn == (1,)
    assert judge([1, 2, 3], held=(), in_window=1, max_withdrawn=3, fetch_failed=False).withdrawn == (1, 2, 3)


def test_another_answer_confirms_nothing() -> None:
    """Issue: the same answer confirms; others than those seen before are held back in their turn."""
    first = judge(range(10), held=(), in_window=20, max_withdrawn=3, fetch_failed=False)
    other = judge(range(10, 20), held=first.held, in_window=20, max_withdrawn=3, fetch_failed=False)
    assert other.withdrawn == ()
    assert other.held == frozenset(range(10, 20))
    few_more = judge(range(12), held=first.held, in_window=20, max_withdrawn=3, fetch_failed=False)
    assert few_more.withdrawn == tuple(range(12))
    many_more = judge(range(20), held=first.held, in_window=20, max_withdrawn=3, fetch_failed=False)
    assert many_more.withdrawn == tuple(range(10)), "what was said twice waits for nobody"
    assert many_more.held == frozenset(range(10, 20))


def test_another_bookings_failure_delays_by_one_cycle() -> None:
    """Rule, withdrawals: in a cycle with failures goes what the cycle before answered alike about that very booking."""
    failing: dict[str, Any] = {"in_window": 20, "max_withdrawn": None, "fetch_failed": True}
    first = judge([1, 2], held=(), **failing)
    assert (first.withdrawn, first.held, first.kept_by) == ((), {1, 2}, "failed_fetch")
    assert judge([1, 2, 3], held=first.held, **failing).withdrawn == (1, 2)
    # Booking 2 was not answered for in between: nothing was said against the first answer.
    between = judge([1], held=first.held, unanswered=[2, 9], **failing)
    assert (between.withdrawn, between.held) == ((1,), {2})
    assert judge([2], held=between.held, **failing).withdrawn == (2,)


def test_what_there_was_no_time_for_is_no_failed_request() -> None:
    """Rule, every booking in turn: not reached is no fault of the server, and keeps no withdrawal back."""
    window = Window(START, START + HOUR, START)
    lines = pl.DataFrame(schema=LINES_SCHEMA)

    def answers(**failed: str) -> Answers:
        followed = FetchedBookings(listed=(2,), failed={2: failed["second"]})
        listed = FetchedBookings(listed=(1,), failed={1: failed["first"]})
        return Answers(window, listed, followed, (), lines, frozenset(), frozenset())

    assert not answers(first=NOT_REACHED, second=NOT_REACHED).asked_in_vain
    assert answers(first=NOT_REACHED, second="HTTP 500").asked_in_vain
    assert answers(first="HTTP 500", second=NOT_REACHED).asked_in_vain


def test_what_the_list_itself_tells_goes_at_once() -> None:
    """Rule, withdrawals: another status or resource in the list needs no second answer, but keeps to the limit."""
    shown = judge([1, 2], held=(), told=[2], in_window=20, max_withdrawn=1, fetch_failed=True)
    assert (shown.withdrawn, shown.held) == ((), {1, 2}), "two at once, on one answer each"
    shown = judge([1, 2], held=(), told=[2], in_window=20, max_withdrawn=2, fetch_failed=True)
    assert (shown.withdrawn, shown.held) == ((2,), {1})


IDS = st.sets(st.integers(1, 30))


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 30), unique=True),
    IDS,
    IDS,
    IDS,
    st.integers(0, 30),
    st.none() | st.integers(0, 10),
    st.booleans(),
)
def test_nothing_goes_in_doubt(
    candidates: list[int],
    held: set[int],
    told: set[int],
    unanswered: set[int],
    in_window: int,
    max_withdrawn: int | None,
    fetch_failed: bool,
) -> None:
    """Rule, withdrawals: on two answers, or on one in a clean cycle or of the list itself; never many on one answer."""
    unanswered -= set(candidates)
    verdict = judge(
        candidates,
        held=held,
        told=told,
        unanswered=unanswered,
        in_window=in_window,
        max_withdrawn=max_withdrawn,
        fetch_failed=fetch_failed,
    )
    gone = set(verdict.withdrawn)
    assert gone | verdict.held == set(candidates) | (held & unanswered), "no candidate is forgotten"
    assert not gone & verdict.held
    assert len(gone - held) <= verdict.limit
    assert set(candidates) & held <= gone, "the same answer twice is enough"
    if fetch_failed:
        assert gone <= held | told
    if len(set(candidates) - held) <= verdict.limit and not fetch_failed:
        assert gone == set(candidates)


def test_a_withdrawal_is_a_full_entry() -> None:
    """Issue: a full entry with status DISCONTINUED; the kept one stays as it is."""
    entry = {"patient_id": "SUB001", "performed_procedure_step_status": "SCHEDULED"}
    assert discontinued(entry) == {"patient_id": "SUB001", "performed_procedure_step_status": "DISCONTINUED"}
    assert entry["performed_procedure_step_status"] == "SCHEDULED"
