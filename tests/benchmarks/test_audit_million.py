"""One million bookings through the command, as an operator calls it: time, processor time and memory of all its processes.

    pytest -m benchmark -n 0 -s tests/benchmarks/test_audit_million.py

Done when: under 15 s and under 2 GB on two cores. On a machine that does other work meanwhile the clock says nothing;
processor time, which is printed beside it, still does.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.benchmarks.archives import write_archive

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(900)]

BOOKINGS = 1_000_000
SECONDS = 15
MEMORY = 2_000_000_000


def descendants(parent: int) -> set[int]:
    """A process and all processes it has started, those that are gone left out."""
    found, waiting = set(), [parent]
    while waiting:
        process = waiting.pop()
        found.add(process)
        for task in Path(f"/proc/{process}/task").glob("*/children"):
            try:
                waiting += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return found


def memory_of(processes: set[int]) -> int:
    """Bytes that the processes hold together, pages they share counted once."""
    total = 0
    for process in processes:
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def watch(process: subprocess.Popen[bytes], peaks: list[int]) -> None:
    """Note the most memory that the process and its children held together."""
    while process.poll() is None:
        peaks.append(memory_of(descendants(process.pid)))
        time.sleep(0.2)


def test_a_million_bookings(tmp_path: Path) -> None:
    """Done when: one million bookings audited in under 15 s and under 2 GB on two cores."""
    if not Path("/proc/self/smaps_rollup").exists():
        pytest.skip("the memory of several processes is read from /proc")
    archive = write_archive(tmp_path / "million.ndjson", BOOKINGS)
    command = [
        str(Path(sys.executable).with_name("calpendo-pipeline")),
        "audit",
        str(archive),
        "--json",
        "--workers",
        "2",
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    peaks: list[int] = []
    with (tmp_path / "audit.json").open("wb") as output:
        process = subprocess.Popen(command, stdout=output)
        watcher = threading.Thread(target=watch, args=(process, peaks))
        watcher.start()
        assert process.wait() == 0
        seconds = time.perf_counter() - start
        watcher.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    load = os.getloadavg()[0]
    print(
        f"\n{BOOKINGS:,} bookings, {archive.stat().st_size / 1e6:.0f} MB: {seconds:.1f} s, "
        f"{processor:.1f} s of processor time, {max(peaks) / 1e6:.0f} MB; load {load:.1f}"
    )
    assert seconds < SECONDS
    assert max(peaks) < MEMORY
