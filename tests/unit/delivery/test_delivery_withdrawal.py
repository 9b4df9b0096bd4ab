"""The guard: which withdrawals go, and which wait."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.delivery.ledger import LINES_SCHEMA, microseconds
from pipeline.delivery.withdrawal import discontinued, judge, shown_in

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


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 30), unique=True),
    st.sets(st.integers(1, 30)),
    st.integers(0, 30),
    st.none() | st.integers(0, 10),
    st.booleans(),
)
def test_nothing_goes_in_doubt(
    candidates: list[int], held: set[int], in_window: int, max_withdrawn: int | None, fetch_failed: bool
) -> None:
    """Issue: never in a cycle with a failed fetch; never more than the limit on one cycle's word alone."""
    verdict = judge(
        candidates, held=held, in_window=in_window, max_withdrawn=max_withdrawn, fetch_failed=fetch_failed
    )
    assert set(verdict.withdrawn) <= set(candidates)
    assert not set(verdict.withdrawn) & verdict.held
    if fetch_failed:
        assert verdict.withdrawn == ()
        assert verdict.held == held
    unconfirmed = set(verdict.withdrawn) - held
    assert len(verdict.withdrawn) <= verdict.limit or len(unconfirmed) <= verdict.limit
    assert set(verdict.withdrawn) | (verdict.held if not fetch_failed else set(candidates)) >= set(candidates)


def test_a_withdrawal_is_a_full_entry() -> None:
    """Issue: a full entry with status DISCONTINUED; the kept one stays as it is."""
    entry = {"patient_id": "SUB001", "performed_procedure_step_status": "SCHEDULED"}
    assert discontinued(entry) == {"patient_id": "SUB001", "performed_procedure_step_status": "DISCONTINUED"}
    assert entry["performed_procedure_step_status"] == "SCHEDULED"
