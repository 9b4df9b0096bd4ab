"""The steady state: a cycle over 10,000 unchanged bookings, and what its diff costs.

    pytest -m benchmark tests/benchmarks/test_delivery_steady_state.py

The server's part is left out: the fetched payloads are handed to the real cycle as they would come.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from pipeline.calpendo.fetch import FetchedBookings, Follow
from pipeline.calpendo.window import Window
from pipeline.config.credentials import Credentials
from pipeline.delivery import decide
from pipeline.delivery.decide import _keys
from pipeline.plugin import CalendoPlugin

COUNT = 10_000
NOW = datetime(2026, 6, 10, 14, 0, tzinfo=UTC)
LIMIT = 0.150


def booking(number: int) -> dict[str, Any]:
    """Return one of many bookings in the window."""
    begins = datetime(2026, 6, 10, 9) + timedelta(seconds=number)  # noqa: DTZ001  the site's wall clock
    return {
        "id": number,
        "title": f"SUB{number:05d}_Testa_Anna",
        "status": "Approved",
        "biskitType": "Calpendo.Booking",
        "formattedName": f"[{begins}.0, {begins + timedelta(minutes=30)}.0]",
        "properties": {
            "resource": {"id": 1, "formattedName": "3T Diagnostic"},
            "project": {"id": 11, "formattedName": "Sleep Study"},
        },
    }


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CalendoPlugin]:
    """Return a plugin on a ledger file, whose every fetch brings the same 10,000 bookings."""
    payloads = tuple(booking(number) for number in range(1, COUNT + 1))
    fetched = FetchedBookings(listed=tuple(range(1, COUNT + 1)), payloads=payloads)

    def answer(*_: object, follow: Follow, **__: object) -> tuple[FetchedBookings, FetchedBookings]:
        assert not follow(fetched.listed, ()).spans
        return fetched, FetchedBookings()

    monkeypatch.setattr("pipeline.calpendo.fetch.fetch_cycle", answer)
    config = {
        "base_url": "http://127.0.0.1:9",
        "resources": ["3T Diagnostic"],
        "state_path": str(tmp_path / "ledger.sqlite"),
        "field_mapping": {
            "patient_id": {"source_field": "title", "_extract": {"pattern": "^([A-Z0-9]+)_", "group": 1}},
            "patient_name": {
                "source_field": "title",
                "_extract": {"pattern": "^[A-Z0-9]+_(.+)$", "group": 1},
            },
            "study_description": "properties.project.formattedName",
            "accession_number": "id",
        },
    }
    with CalendoPlugin("steady", config, credentials=Credentials("u", "p"), clock=lambda: NOW) as made:
        yield made


def test_ten_thousand_unchanged_bookings_emit_nothing(plugin: CalendoPlugin) -> None:
    """Issue, done when: a second cycle over 10,000 unchanged bookings emits nothing."""
    assert len(plugin.fetch_entries(60)) == COUNT
    assert plugin.fetch_entries(60) == []
    assert plugin.last_report.unchanged == COUNT
    assert plugin.last_report.looked_up == 0


@pytest.mark.slow
def test_the_ledgers_part_of_a_cycle_stays_under_its_limit(plugin: CalendoPlugin) -> None:
    """Issue, done when: its diff (ledger read, digests, join, and the write) takes under 150 ms on two cores."""
    plugin.fetch_entries(60)
    plugin.fetch_entries(60)
    spent = []
    for _ in range(7):
        plugin.fetch_entries(60)
        seconds = plugin.last_report.seconds
        spent.append(seconds["lookup"] + seconds["diff"] + seconds["write"])
    assert min(spent) < LIMIT, spent


@pytest.mark.benchmark
def test_benchmark_diff(plugin: CalendoPlugin, benchmark: BenchmarkFixture) -> None:
    """The ledger diff of 10,000 unchanged bookings: read, digest, join."""
    from pipeline.batch import process_batch

    plugin.fetch_entries(60)
    config, ledger = plugin._ready()
    window = Window(NOW, NOW + timedelta(hours=24), NOW - timedelta(hours=12))
    batch = process_batch([booking(number) for number in range(1, COUNT + 1)], config)

    def diff() -> int:
        lines = ledger.lines(range(1, COUNT + 1), window.query_start, window.end)
        return int((decide.compare(_keys(batch), lines)["change"] != "resent").sum())

    ledger.settle_returned()
    assert benchmark(diff) == COUNT


@pytest.mark.benchmark
def test_benchmark_cycle(plugin: CalendoPlugin, benchmark: BenchmarkFixture) -> None:
    """A whole steady cycle without the server: transform, gate, diff and one transaction."""
    plugin.fetch_entries(60)
    assert benchmark(plugin.fetch_entries, 60) == []
