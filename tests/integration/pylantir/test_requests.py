"""What a cycle costs the server and the host: requests, connections, deadlines, memory; and what the log shows."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillRunning
from pathlib import Path

import pytest

from tests.support.bookings_by_hour import RESOURCE, booking
from tests.support.both_plugins import fails_upstream
from tests.support.pylantir_process import OURS

ROOT = Path(__file__).parents[3]


@fails_upstream("101 requests, 101 TCP connections")
def test_fifty_mri_bookings_cost_52_requests_and_6_connections(site: Callable, kind: str) -> None:
    """One list, fifty details, one question for all operators; five kept connections and one."""
    here = site(kind)
    for number in range(1, 51):
        here.sim.put(booking(number, f"SUB{number}_Doe", hours=number / 4, biskitType="MRIScan"))
    here.sim.reset_counters()
    assert here.sync() == 50
    assert len(here.sim.requests) <= 52
    assert here.sim.connections <= 6


@fails_upstream("no total deadline: one byte every two seconds holds the sync for ever")
def test_a_slow_body_has_a_deadline(site: Callable, kind: str) -> None:
    """An answer that trickles is given up after body_deadline; the other bookings come."""
    here = site(kind, body_deadline=1.0, max_retries=0)
    here.sim.put(booking(1, "SUB1_Doe"))
    here.sim.put(booking(2, "SUB2_Roe"))
    here.sim.faults.add("slow_body", match=r"/b/Calpendo\.Booking/1$")
    pool = ThreadPoolExecutor(1)
    try:
        call = pool.submit(here.plugin.fetch_entries, {}, 360)
        try:
            entries = call.result(4)
        except StillRunning:
            raise AssertionError("still waiting") from None
        assert [entry["source_record_id"] for entry in entries] == ["2"]
    finally:
        here.sim.close()
        pool.shutdown()
    here.plugin.cleanup()


BOMB = """
import resource, sys
from tests.integration.pylantir.conftest import new_plugin
from tests.support.bookings_by_hour import source
from tests.support.peak_memory import own_peak
limit = 1_500_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
plugin = new_plugin(sys.argv[1])
assert plugin.validate_config(source(sys.argv[2], max_retries=0)["config"]) == (True, "")
try:
    plugin.fetch_entries({}, 360)
except Exception as error:
    print(type(error).__name__, "MemoryError" if "MemoryError" in repr(error) + repr(error.__cause__) else "")
print(own_peak())
"""


@pytest.mark.slow
@fails_upstream("4.2 GB of memory for one answer of 1 GiB")
def test_a_compression_bomb_costs_no_memory(site: Callable, kind: str) -> None:
    """An answer that grows to hundreds of megabytes is refused at 32; the process stays under 400."""
    here = site(OURS)
    here.sim.put(booking(1, "SUB1_Doe"))
    here.sim.faults.add("gzip_bomb", match="/q/Calpendo.Booking/", size=1 << 29)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BOMB, kind, here.sim.url],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "POLARS_MAX_THREADS": "1"},
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert int(done.stdout.split()[-1]) < 400


@fails_upstream("names and titles in 13 of 104 lines at the default level")
def test_no_name_is_in_the_log(site: Callable, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """At INFO and above nothing of a title is in this plugin's lines, with faults in the data either."""
    caplog.set_level(logging.INFO)
    here = site(kind, resources=[RESOURCE, "磁気"])
    here.sim.put(booking(1, "Fräulein Montgomery"))
    here.sim.put(booking(2, "SUB2_Montgomery\\x"))
    here.sim.put(booking(3, "SUB3_Montgomery\x00"))
    here.sim.put(booking(4, "SUB4_Montgomery", resource="磁気"))
    here.sim.put(booking(5, "SUB5_Montgomery") | {"formattedName": "[Montgomery]"})
    here.sim.put(booking(6, "SUB6_Montgomery\ue000"))
    here.sim.put(booking(7, "SUB7_" + "Montgomery 庄" * 5))
    here.sync()
    lines = [
        record.getMessage()
        for record in caplog.records
        if record.name.split(".")[0] in ("pipeline", "pylantir")
    ]
    assert lines
    assert not [line for line in lines if "Montgomery" in line]
