"""A day of invented MRI bookings on a simulated server, and fetches from it with short limits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.calpendo.client import CalpendoClient
from pipeline.calpendo.fetch import FetchedBookings, KnownBookings, fetch_window
from pipeline.calpendo.window import Window, window_for
from pipeline.config import PipelineConfig
from pipeline.config.credentials import Credentials
from pipeline.simulator import CalpendoSimulator

RESOURCE = "3T Diagnostic"
NOW = datetime(2026, 6, 10, 14, 0, tzinfo=UTC)  # eight o'clock in Edmonton
FIRST = datetime(2026, 6, 10, 9, 0)  # noqa: DTZ001  the site's wall clock, as Calpendo writes it


def scan(number: int, start: datetime | None = None, minutes: int = 10, **properties: Any) -> dict[str, Any]:
    """Return an MRI booking of generation A; number n begins 10 n minutes after nine."""
    begins = start or FIRST + timedelta(minutes=10 * (number % 100))
    ends = begins + timedelta(minutes=minutes)
    return {
        "id": number,
        "title": f"SUB{number:03d}_Testa_Anna",
        "status": "Approved",
        "biskitType": "MRIScan",
        "formattedName": f"[{begins}.0, {ends}.0]",
        "properties": {
            "resource": {"id": 1, "formattedName": RESOURCE},
            "project": {"id": 11, "formattedName": "Sleep Study"},
            "cancelled": False,
            "created": "2026-05-01 08:00:00.0",
            "modified": "2026-06-01 08:00:00.0",
            "Operator": {"name": f"Testop {number}"},
            **properties,
        },
    }


def settings(url: str, **options: Any) -> PipelineConfig:
    """Return a configuration with limits that a test can wait for."""
    block = {
        "base_url": url,
        "resources": [RESOURCE],
        "field_mapping": {},
        "max_retries": 1,
        "list_timeout": 2,
        "detail_timeout": 1,
        "body_deadline": 2,
        "batch_deadline": 8,
        **options,
    }
    return PipelineConfig.from_dict(block, environ={})


@contextmanager
def client_of(config: PipelineConfig) -> Iterator[CalpendoClient]:
    """Connect to the simulator."""
    with CalpendoClient(config, Credentials("demo", "demo")) as client:
        yield client


def window_of(config: PipelineConfig, now: datetime = NOW) -> Window:
    """Return the window of a minute's cycle."""
    return window_for(config, now, 60)


def fetch(
    simulator: CalpendoSimulator, *, known: KnownBookings | None = None, **options: Any
) -> FetchedBookings:
    """Fetch once, with a client of its own."""
    config = settings(simulator.url, **options)
    with client_of(config) as client:
        return fetch_window(client, config, window_of(config), known=known)


def paths(simulator: CalpendoSimulator, part: str) -> list[str]:
    """Return the recorded request paths that hold a text."""
    return [request.path for request in simulator.requests if part in request.path]
