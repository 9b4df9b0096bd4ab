"""Fifty MRI bookings at the API contract's latencies: seconds, requests and connections of each way to fetch them.

    pytest -m benchmark tests/benchmarks/test_fetch_latency.py

Pylantir's own plugin runs against the same simulator in the same run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pipeline.calpendo.client import CalpendoClient
from pipeline.calpendo.fetch import KnownBookings, fetch_window
from pipeline.simulator import CalpendoSimulator
from tests.support.calpendo_site import RESOURCE, client_of, scan, settings, window_of

pytestmark = pytest.mark.benchmark
QUERY, DETAIL = 0.5, 0.2
Cycle = Callable[[], int]


@pytest.fixture
def simulator() -> Iterator[CalpendoSimulator]:
    """Serve fifty scans, at first without any latency."""
    with CalpendoSimulator([scan(number) for number in range(50)]) as server:
        yield server


def slow(simulator: CalpendoSimulator) -> None:
    """Switch the contract's latencies on."""
    simulator.query_latency, simulator.detail_latency = QUERY, DETAIL
    simulator.reset_counters()


def measure(benchmark: Any, simulator: CalpendoSimulator, cycle: Cycle, rounds: int = 3) -> dict[str, float]:
    """Run a cycle a few times; return its requests, connections and worst seconds."""
    assert benchmark.pedantic(cycle, setup=lambda: slow(simulator), rounds=rounds) == 50
    measured = {
        "requests": len(simulator.requests),
        "connections": simulator.connections,
        "seconds": benchmark.stats.stats.max,
    }
    benchmark.extra_info.update(measured)
    return measured


def cycle_of(client: CalpendoClient, url: str, known: KnownBookings | None = None, **options: Any) -> Cycle:
    """Return one fetch of the window, as the plugin does it."""
    config = settings(
        url, list_timeout=30, detail_timeout=10, body_deadline=60, batch_deadline=300, **options
    )
    return lambda: len(fetch_window(client, config, window_of(config), known=known).payloads)


def test_details(benchmark: Any, simulator: CalpendoSimulator) -> None:
    """Issue: details at most 52 requests, 6 connections, 3.2 s."""

    def first_cycle() -> int:
        with client_of(settings(simulator.url)) as client:
            return cycle_of(client, simulator.url)()

    measured = measure(benchmark, simulator, first_cycle)
    assert measured["requests"] == 52
    assert measured["connections"] <= 6
    assert measured["seconds"] <= 3.2


def test_details_later(benchmark: Any, simulator: CalpendoSimulator) -> None:
    """Measured beside: later cycles ask for the operators beside the list, on the connections that are there."""
    with client_of(settings(simulator.url)) as client:
        cycle = cycle_of(client, simulator.url)
        cycle()
        measured = measure(benchmark, simulator, cycle)
    assert measured["requests"] == 52
    assert measured["connections"] == 0


def test_bulk(benchmark: Any, simulator: CalpendoSimulator) -> None:
    """Issue: bulk at most 3 requests and 1.2 s, the first cycle of a client among them."""

    def first_cycle() -> int:
        with client_of(settings(simulator.url)) as client:
            return cycle_of(client, simulator.url, fetch_mode="bulk")()

    measured = measure(benchmark, simulator, first_cycle)
    assert measured["requests"] <= 3
    assert measured["seconds"] <= 1.2


def test_bulk_later(benchmark: Any, simulator: CalpendoSimulator) -> None:
    """Issue: the later cycles of bulk are two requests at the same time."""
    with client_of(settings(simulator.url)) as client:
        cycle = cycle_of(client, simulator.url, fetch_mode="bulk")
        cycle()
        measured = measure(benchmark, simulator, cycle)
    assert measured["requests"] == 2
    assert measured["seconds"] <= 1.2


def test_changed_with_nothing_changed(benchmark: Any, simulator: CalpendoSimulator) -> None:
    """Issue: the second cycle of changed is at most 3 requests with nothing changed."""
    with client_of(settings(simulator.url)) as client:
        cycle = cycle_of(client, simulator.url, KnownBookings(), fetch_mode="changed")
        cycle()
        measured = measure(benchmark, simulator, cycle)
    assert measured["requests"] <= 3


def test_pylantirs_own_plugin(
    benchmark: Any, simulator: CalpendoSimulator, credentials: tuple[str, str]
) -> None:
    """Measured beside: the host's own plugin on the same server, with its look-back made as long as ours."""
    from pylantir.data_sources.calpendo_plugin import CalendoPlugin

    own = CalendoPlugin()
    block = {"base_url": simulator.url, "api_path": "/webdav", "resources": [RESOURCE], "field_mapping": {}}
    assert own.validate_config(block) == (True, "")
    config = settings(simulator.url)
    window = window_of(config)
    own._calculate_fetch_window = lambda now, interval: (window.query_start, window.end)

    def cycle() -> int:
        found = own._fetch_bookings_in_window(window.query_start, window.end)
        return len(own._fetch_booking_details_parallel(found))

    measure(benchmark, simulator, cycle, rounds=1)
