"""The side-by-side table: this plugin and Pylantir's own at the same simulated Calpendo, in one run.

    python -m tests.benchmarks.compare_with_pylantir

Prints Markdown. Every cell is what was seen: requests and connections as the server counted them, lines as a C-FIND
brought them through Pylantir's real upsert, query, filters and encoding. Takes about two minutes.
"""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from tests.benchmarks.pylantir_faults import FAULTS
from tests.benchmarks.pylantir_site import a_site, two
from tests.support.bookings_by_hour import booking
from tests.support.pylantir_process import OURS, UPSTREAM
from tests.support.worklist_host import load_pylantir


def costs(kind: str, **options: Any) -> tuple[str, str]:
    """Fifty MRI bookings at the contract's latencies: the first cycle and the second, nothing changed in between."""
    seen = []
    with a_site(kind, query_latency=0.5, detail_latency=0.2, **options) as here:
        for number in range(1, 51):
            here.sim.put(booking(number, f"SUB{number}_Doe", hours=number / 4, biskitType="MRIScan"))
        for _ in range(2):
            here.sim.reset_counters()
            began = time.perf_counter()
            records = here.sync()
            seconds = time.perf_counter() - began
            seen.append(
                f"{len(here.sim.requests)} requests, {here.sim.connections} connections, {seconds:.1f} s,"
                f" {records} rows written"
            )
    return seen[0], seen[1]


def main() -> None:
    """Run everything with both plugins and print the table."""
    warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())
    load_pylantir(Path(tempfile.mkdtemp()))
    # What is imported at the first call is imported once a process, not once a cycle.
    for kind in (OURS, UPSTREAM):
        with a_site(kind) as here:
            two(here)
    ours, theirs, changed = costs(OURS), costs(UPSTREAM), costs(OURS, fetch_mode="changed")
    rows = [
        ("50 MRI bookings, first cycle", ours[0], theirs[0]),
        ("the same, second cycle, nothing changed", ours[1], theirs[1]),
        ("the same with `fetch_mode: changed`", changed[1], "no such mode"),
    ]
    rows += [(title, run(OURS), run(UPSTREAM)) for title, run in FAULTS]
    print("| | calpendo-pipeline | Pylantir's own plugin (0.4.6) |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
