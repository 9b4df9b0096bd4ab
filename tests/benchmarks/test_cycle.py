"""What a cycle and the service may take. The numbers themselves: ``python -m tests.benchmarks.cycle``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

import pipeline
from pipeline.config.credentials import Credentials
from pipeline.simulator import CalpendoSimulator
from tests.benchmarks.cycle import files_passed, service
from tests.support.delivery_site import Site, booking


def test_a_booking_passes_few_files() -> None:
    """Promise: who follows one booking through a cycle has to open 32 files at most."""
    files = files_passed()
    assert len(files) <= 32, "\n".join(files)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the memory of another process is read from /proc")
def test_the_service_is_small(credentials: tuple[str, str]) -> None:
    """Promise: Pylantir with this plugin holds at most 170 MB."""
    assert service().resident <= 170


@pytest.mark.slow
def test_why_of_a_day_costs_little_beside_the_network(tmp_path: Path) -> None:
    """Issue: `why` of 50 bookings takes less than two seconds of the processor, the first call's imports included."""
    with CalpendoSimulator([booking(number) for number in range(1, 51)]) as simulator:
        site = Site(simulator, tmp_path / "ledger.sqlite")
        site.fetch()
        began = time.process_time()
        told = pipeline.why(None, site.config, credentials=Credentials("demo", "demo"), now=site.now)
        spent = time.process_time() - began
        site.close()
    assert len(told.verdicts) == 50
    assert spent < 2


@pytest.mark.slow
@pytest.mark.parametrize("host", ["caller", "pylantir"])
def test_a_preview_of_a_day_costs_little_beside_the_network(tmp_path: Path, host: str) -> None:
    """Issue: `preview` of 50 bookings takes less than two seconds of the processor, what only it loads included."""
    config = {"state_path": str(tmp_path / "ledger.sqlite"), "api_path": "/webdav"}
    with CalpendoSimulator([booking(number) for number in range(1, 51)]) as simulator:
        site = Site(simulator, tmp_path / "ledger.sqlite")
        source = {"name": "mri", "type": "calpendo", "config": site.config | config}
        file = {"db_path": str(tmp_path / "worklist.db"), "data_sources": [source]}
        login = Credentials("demo", "demo")
        site.fetch()
        site.close()
        began = time.process_time()
        found = pipeline.preview(file, host=host, credentials=login, clock=lambda: site.now)
        spent = time.process_time() - began
    assert found.counts["on_list"] == 50
    assert spent < 2
