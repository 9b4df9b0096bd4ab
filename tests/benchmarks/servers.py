"""The ways over HTTP: fetch modes and whole cycles against a simulated Calpendo in another process.

At the contract's latencies (0.5 s a query, 0.2 s a detail) the latencies are what is measured; without them it is the
work on this side, and the simulator's. One request a booking is asked for at most ``ONE_BY_ONE`` bookings.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from tests.benchmarks.done import Call, Done, Way

RESOURCE = "3T Diagnostic"
NOW = datetime(2026, 6, 10, 14, 0, tzinfo=UTC)
FIRST = datetime(2026, 6, 10, 9, 0)  # noqa: DTZ001  the site's wall clock, as Calpendo writes it
CONTRACT = (0.5, 0.2)
MODES = ("details", "bulk", "changed")
UNBOUND = {
    "max_body_bytes": 2**32,
    "max_rows": 1_000_000,
    "list_timeout": 3600,
    "body_deadline": 3600,
    "batch_deadline": 3600,
}


def scan(number: int) -> dict[str, Any]:
    """Return one of many MRI bookings of a morning, of generation A."""
    begins = FIRST + timedelta(seconds=number % 10_000)
    return {
        "id": number + 1,
        "title": f"SUB{number:07d}_Testa_Anna",
        "status": "Approved",
        "biskitType": "MRIScan",
        "formattedName": f"[{begins}.0, {begins + timedelta(minutes=30)}.0]",
        "properties": {
            "resource": {"id": 1, "formattedName": RESOURCE},
            "project": {"id": 11, "formattedName": "Sleep Study"},
            "cancelled": False,
            "created": "2026-05-01 08:00:00.0",
            "modified": "2026-06-01 08:00:00.0",
            "Operator": {"name": "Testop"},
        },
    }


class Server(NamedTuple):
    """Where the simulator answers, and a line to its process."""

    url: str
    line: Connection

    def begin(self, latencies: tuple[float, float]) -> None:
        """Switch the latencies on and count requests from here."""
        self.line.send(latencies)
        self.line.recv()

    def requests(self) -> int:
        """Count the requests since ``begin``."""
        self.line.send("count")
        return int(self.line.recv())


@contextmanager
def server(count: int) -> Iterator[Server]:
    """Serve ``count`` bookings from a process of its own."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(count, theirs), daemon=True)
    process.start()
    os.environ["BENCHMARK_SERVER"] = str(process.pid)
    try:
        yield Server(ours.recv(), ours)
    finally:
        ours.send("stop")
        process.join()


def _serve(count: int, line: Connection) -> None:
    from pipeline.simulator import CalpendoSimulator

    with CalpendoSimulator([scan(number) for number in range(count)]) as simulator:
        line.send(simulator.url)
        while (asked := line.recv()) != "stop":
            if asked == "count":
                line.send(len(simulator.requests))
            else:
                simulator.query_latency, simulator.detail_latency = asked
                simulator.reset_counters()
                line.send("begun")


def _block(url: str, **options: Any) -> dict[str, Any]:
    from tests.benchmarks.archives import SOURCE

    return {**SOURCE, "base_url": url, "resources": [RESOURCE], **UNBOUND, **options}


def fetching(mode: str, latencies: tuple[float, float]) -> Way:
    """Measure one fetch of the window; of ``changed`` the second one, with nothing changed."""

    @contextmanager
    def way(count: int, folder: Path) -> Iterator[Call]:
        from pipeline.calpendo.client import CalpendoClient
        from pipeline.calpendo.fetch import KnownBookings, fetch_window
        from pipeline.calpendo.window import window_for
        from pipeline.config import PipelineConfig
        from pipeline.config.credentials import Credentials

        with server(count) as here:
            config = PipelineConfig.from_dict(_block(here.url, fetch_mode=mode), environ={})
            window = window_for(config, NOW, 60)
            known = KnownBookings() if mode == "changed" else None
            with CalpendoClient(config, Credentials("demo", "demo")) as lasting:
                if mode == "changed":
                    fetch_window(lasting, config, window, known=known)

                def call() -> Done:
                    here.begin(latencies)
                    if mode == "changed":
                        found = fetch_window(lasting, config, window, known=known)
                    else:
                        with CalpendoClient(config, Credentials("demo", "demo")) as client:
                            found = fetch_window(client, config, window)
                    assert len(found.payloads) == count
                    return Done(count, f"{here.requests()} requests")

                yield call

    return way


def pylantir_fetching(latencies: tuple[float, float]) -> Way:
    """Measure the list and the details of Pylantir's own plugin."""

    @contextmanager
    def way(count: int, folder: Path) -> Iterator[Call]:
        with server(count) as here, pylantirs_plugin(here.url) as (own, window):

            def call() -> Done:
                here.begin(latencies)
                found = own._fetch_booking_details_parallel(own._fetch_bookings_in_window(*window))
                assert len(found) == count
                return Done(count, f"{here.requests()} requests")

            yield call

    return way


def cycling(mode: str, latencies: tuple[float, float]) -> Way:
    """Measure a whole first cycle with a ledger in memory: fetch, batch, deliver."""

    @contextmanager
    def way(count: int, folder: Path) -> Iterator[Call]:
        from pipeline.config.credentials import Credentials
        from pipeline.plugin import CalendoPlugin

        with server(count) as here:

            def call() -> Done:
                here.begin(latencies)
                block = _block(here.url, fetch_mode=mode, state_path=":memory:")
                login = Credentials("demo", "demo")
                with CalendoPlugin("bench", block, credentials=login, clock=lambda: NOW) as plugin:
                    entries = plugin.fetch_entries(60)
                assert len(entries) == count
                return Done(count, f"{here.requests()} requests")

            yield call

    return way


def pylantir_cycling(latencies: tuple[float, float]) -> Way:
    """Measure ``fetch_entries`` of Pylantir's own plugin."""

    @contextmanager
    def way(count: int, folder: Path) -> Iterator[Call]:
        from tests.benchmarks.archives import SOURCE

        with server(count) as here, pylantirs_plugin(here.url) as (own, _):

            def call() -> Done:
                here.begin(latencies)
                assert len(own.fetch_entries(SOURCE["field_mapping"], 60)) == count
                return Done(count, f"{here.requests()} requests")

            yield call

    return way


@contextmanager
def pylantirs_plugin(url: str) -> Iterator[tuple[Any, tuple[datetime, datetime]]]:
    """Make the host's own plugin, its window the same as ours."""
    from pipeline.calpendo.window import window_for
    from pipeline.config import PipelineConfig

    os.environ |= {"CALPENDO_USERNAME": "demo", "CALPENDO_PASSWORD": "demo"}
    from pylantir.data_sources.calpendo_plugin import CalendoPlugin as PylantirsPlugin

    own = PylantirsPlugin()
    block = {"api_path": "/webdav", **_block(url)}
    accepted, message = own.validate_config(block)
    assert accepted, message
    window = window_for(PipelineConfig.from_dict(_block(url), environ={}), NOW, 60)
    span = (window.query_start, window.end)
    own._calculate_fetch_window = lambda now, interval: span
    yield own, span
