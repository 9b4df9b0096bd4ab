"""What one cycle takes, and what the service holds: files passed, processor time, memory.

    python -m tests.benchmarks.cycle

Takes about a minute. ``test_cycle.py`` holds the limits.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pipeline
from pipeline.config.credentials import Credentials
from pipeline.plugin import CalendoPlugin
from pipeline.simulator import CalpendoSimulator
from tests.benchmarks.servers import NOW, RESOURCE, scan, server

PACKAGE = Path(pipeline.__file__).parent
BOOKINGS = 50
CYCLES = 20
"""Over how many cycles a mean is taken."""
LOGIN = Credentials("demo", "demo")


def files_passed() -> list[str]:
    """Return the package's files in which something is called for one edited booking, in the second cycle.

    The booking is fetched by its number, found changed, and returned. The simulated server is left out.
    """
    called: set[str] = set()

    def note(frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call":
            called.add(frame.f_code.co_filename)

    # Before the client's threads begin, so that they are looked at, too.
    threading.setprofile(note)
    try:
        with CalpendoSimulator([scan(0)]) as simulator, _plugin(simulator.url) as plugin:
            assert len(plugin.fetch_entries(60)) == 1
            simulator.edit(1, title="SUB9999999_Testa_Berta")
            called.clear()
            sys.setprofile(note)
            try:
                returned = plugin.fetch_entries(60)
            finally:
                sys.setprofile(None)
            passed = {Path(name) for name in called}
    finally:
        threading.setprofile(None)  # type: ignore[arg-type]
    assert [entry["patient_id"] for entry in returned] == ["SUB9999999"]
    names = [str(path.relative_to(PACKAGE)) for path in passed if path.is_relative_to(PACKAGE)]
    return sorted(name for name in names if "simulator" not in name)


def quiet_cycle(cycles: int = CYCLES, **options: Any) -> float:
    """Return the milliseconds of processor time, of all threads, of a cycle over 50 bookings in which nothing changed."""
    with server(BOOKINGS) as here, _plugin(here.url, **options) as plugin:
        assert len(plugin.fetch_entries(60)) == BOOKINGS
        for _ in range(3):
            assert plugin.fetch_entries(60) == []
        began = time.process_time()
        for _ in range(cycles):
            plugin.fetch_entries(60)
        return 1000 * (time.process_time() - began) / cycles


@contextmanager
def _plugin(url: str, **options: Any) -> Iterator[CalendoPlugin]:
    with tempfile.TemporaryDirectory() as folder:
        config = {
            "base_url": url,
            "resources": [RESOURCE],
            "timezone": "America/Edmonton",
            "resource_modality_mapping": {"3T": "MR"},
            "state_path": f"{folder}/ledger.sqlite",
            "field_mapping": {
                "patient_id": {"source_field": "title", "_extract": {"pattern": "^([^_]+)_", "group": 1}},
                "patient_name": {
                    "source_field": "title",
                    "_extract": {"pattern": "^[^_]+_(.+)$", "group": 1},
                },
                "study_description": "properties.project.formattedName",
                "accession_number": "id",
            },
            **options,
        }
        with CalendoPlugin("mri", config, credentials=LOGIN, clock=lambda: NOW) as plugin:
            yield plugin


class Service(NamedTuple):
    """What Pylantir with this plugin holds of memory, in MB (1024 kB), and the seconds of processor time of its start."""

    resident: float
    peak: float
    start: float


def service() -> Service:
    """Run Pylantir with this plugin in it, with 50 bookings, until it has done some quiet cycles."""
    from tests.integration.pylantir.test_scanners_day import Day
    from tests.support.bookings_by_hour import booking

    bookings = [booking(number, f"SUB{number}_Doe", hours=number / 10) for number in range(1, BOOKINGS + 1)]
    with tempfile.TemporaryDirectory() as folder:
        day = Day(Path(folder), bookings)
        try:
            day.until(lambda: len(day.pylantir.rows()) == BOOKINGS, "the list was not filled")
            day.cycles(1)
            times = day.pylantir.process.cpu_times()
            day.cycles(5)
            status = Path(f"/proc/{day.pylantir.process.pid}/status").read_text()
        finally:
            day.close()
    held = {line.partition(":")[0]: line.split()[1] for line in status.splitlines() if line.endswith(" kB")}
    return Service(int(held["VmRSS"]) / 1024, int(held["VmHWM"]) / 1024, times.user + times.system)


def main() -> None:
    """Measure and print."""
    os.environ |= {"CALPENDO_USERNAME": LOGIN.username, "CALPENDO_PASSWORD": LOGIN.password}
    files = files_passed()
    print(f"files passed by an edited booking: {len(files)}")
    print("  " + "\n  ".join(files))
    for mode in ("details", "bulk", "changed"):
        print(
            f"a quiet cycle of {BOOKINGS} bookings, {mode}: {quiet_cycle(fetch_mode=mode):.1f} ms of processor time"
        )
    held = service()
    print(
        f"Pylantir with the plugin: {held.resident:.0f} MB resident, {held.peak:.0f} MB at most,"
        f" {held.start:.1f} s of processor time to start"
    )


if __name__ == "__main__":
    main()
