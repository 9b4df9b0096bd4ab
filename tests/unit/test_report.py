"""The report of a run: laws, forms, history, health."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import report as history
from pipeline.delivery.ledger import Ledger
from pipeline.errors import PluginSchemaError
from pipeline.report import RunReport

NOW = datetime(2026, 1, 6, 12, tzinfo=UTC)
COUNTS = st.integers(0, 50)


def report(**counts: Any) -> RunReport:
    """Make a report."""
    return RunReport(**{"source": "calpendo", "started": NOW, **counts})


@settings(deadline=None)
@given(st.lists(COUNTS, min_size=6, max_size=6), COUNTS)
def test_the_law_of_conservation_is_checked_in_code(parts: list[int], listed: int) -> None:
    """Design: listed = emitted + unchanged + filtered + rejected + fetch_failed + gone, or there is no report."""
    names = ("emitted", "unchanged", "filtered", "rejected", "fetch_failed", "gone")
    counts = dict(zip(names, parts, strict=True)) | {"new": parts[0], "returned": parts[0]}
    assert report(listed=sum(parts), **counts).listed == sum(parts)
    if listed != sum(parts):
        with pytest.raises(PluginSchemaError, match="law of conservation"):
            report(listed=listed, **counts)


@pytest.mark.parametrize(
    "counts",
    [
        {"looked_up": 1},
        {"new": 1},
        {"returned": 1},
        {"withdrawn": 1},
        {"emitted": 1, "listed": 1, "returned": 1},
    ],
)
def test_the_other_laws_are_checked_too(counts: dict[str, int]) -> None:
    """Promise: bookings looked up beyond the list, and the returned entries, add up as well."""
    with pytest.raises(PluginSchemaError, match="law of conservation"):
        report(**counts)


FULL = report(
    window_start=NOW,
    window_end=NOW + timedelta(hours=24),
    listed=7,
    emitted=2,
    unchanged=1,
    filtered=1,
    rejected=2,
    fetch_failed=1,
    looked_up=3,
    looked_up_emitted=1,
    looked_up_gone=2,
    new=1,
    changed=1,
    resent=1,
    withdrawn=2,
    returned=5,
    owed=1,
    reasons={"patient_id_missing": 2},
    changed_fields={"patient_name": 1},
    seconds={"list": 0.25, "write": 0.5},
    flags={
        "multi_day": [1, 2],
        "unknown_statuses": {"Odd": 2},
        "unmatched": {"patient_id": {"AAA": 2}},
        "unmatched_ids": {"patient_id": [4, 5]},
        "pattern_timeouts": {"patient_id": [5]},
    },
    warnings=("mind this",),
)


def test_text() -> None:
    """Issue: the report renders as text: the law with its numbers, then what stands out."""
    assert FULL.to_text().splitlines() == [
        "calpendo: 5 entries returned (1 new, 1 changed, 1 sent again, 2 withdrawn) in 0.75 s",
        "window: 2026-01-06 12:00 UTC to 2026-01-07 12:00 UTC",
        "listed 7 = emitted 2 + unchanged 1 + filtered 1 + rejected 2 + fetch failed 1 + gone 0",
        "looked up 3 = emitted 1 + unchanged 0 + filtered 0 + rejected 0 + failed 0 + gone 2",
        "rejected because: patient_id_missing 2",
        "fields changed: patient_name 1",
        "waiting: owed 1",
        "no match for patient_id: 'AAA' 2 (bookings 4, 5)",
        "pattern for patient_id stopped: bookings 5",
        "multi day: 1, 2",
        "unknown statuses: 'Odd' 2",
        "seconds: list 0.250, write 0.500",
        "warning: mind this",
    ]
    failed = report(outcome="failed", error="PluginFetchError: no answer", seconds={"list": 1.0})
    assert failed.to_text() == "calpendo: the cycle failed after 1.00 s: PluginFetchError: no answer"


def test_json() -> None:
    """Issue: the report renders as JSON, and comes back from it; later versions' keys are passed over."""
    assert RunReport.from_json(FULL.to_json()) == FULL
    document = json.loads(FULL.to_json())
    assert document["gone"] == 0
    assert "held" not in document
    assert RunReport.from_json(json.dumps(document | {"from_the_future": 1})) == FULL


def test_the_history_keeps_a_report_short() -> None:
    """Promise: 90 days of a run a minute fit into the ledger, also when a pattern misses thousands of titles."""
    assert RunReport.from_json(FULL.to_history()) == FULL
    quiet = report(listed=40, unchanged=40, seconds={"list": 0.5, "batch": 0.02})
    assert len(quiet.to_history()) < 200
    ids = list(range(10_000))
    loud = report(
        flags={
            "unmatched_ids": {"patient_id": ids},
            "unmatched": {"patient_id": dict.fromkeys(map(str, ids), 1)},
        }
    )
    assert len(loud.to_history()) < 1000
    assert RunReport.from_json(loud.to_history()).flags["unmatched_ids"] == {
        "patient_id": [*ids[:20], "9980 more"]
    }


def test_a_run_by_other_laws_is_passed_over() -> None:
    """Promise: a history that another version wrote never breaks `status`."""
    with Ledger.memory() as ledger:
        with ledger.transaction() as connection:
            history.add_run(connection, 1, report(), NOW)
            connection.execute(
                'UPDATE runs SET report = replace(report, \'"source"\', \'"listed": 9, "source"\')'
            )
            history.add_run(connection, 2, report(), NOW)
        assert len(history.last_runs(ledger, 9)) == 1


def test_history_and_health() -> None:
    """Issue: each run's report is kept; the time since the last success is known; old runs are forgotten."""
    with Ledger.memory() as ledger:
        assert history.health(ledger, NOW).age is None
        assert history.health(ledger, NOW).is_older_than(timedelta(days=999))
        runs = [
            report(),
            report(outcome="failed", error="PluginFetchError: down", started=NOW + timedelta(hours=1)),
        ]
        with ledger.transaction() as connection:
            for run in runs:
                history.add_run(connection, history.next_run(connection), run, run.started)
        later = NOW + timedelta(hours=2)
        found = history.health(ledger, later, runs=5)
        assert [run.outcome for run in found.runs] == ["failed", "ok"]
        assert found.age == timedelta(hours=2)
        assert not found.is_older_than(timedelta(hours=2))
        assert found.is_older_than(timedelta(minutes=119))
        assert json.loads(json.dumps(found.to_dict()))["age"] == 7200
        with ledger.transaction() as connection:
            assert history.purge_runs(connection, later) == 1
        assert history.health(ledger, later).age == timedelta(hours=2), "the last success is never forgotten"


def test_repairs_are_told_by_field_and_kind() -> None:
    """Promise: the report says which fields were repaired, how often and where, also as the history cut it short."""
    kinds = {"cut": {"count": 21, "bookings": [5, 6]}, "cleaned": {"count": 1, "bookings": [7]}}
    flags = {"repaired": {"study_description": kinds, "…": 3}}
    report = RunReport(source="site", started=datetime(2026, 6, 10, tzinfo=UTC), flags=flags)
    assert "repaired: study_description cut 21 (5, 6); study_description cleaned 1 (7)\n" in report.to_text()
