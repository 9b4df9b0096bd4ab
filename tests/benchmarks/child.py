"""One way at one size in a process of its own: ``python -m tests.benchmarks.child SUBJECT WAY COUNT FOLDER``.

Says "ready" when everything is prepared, then prints one line of JSON for each call that was measured.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import sys
import time
import warnings
from pathlib import Path

from tests.benchmarks.subjects import SUBJECTS

SECONDS = 1.0
MOST = 7


def processor_seconds() -> float:
    """Return the processor time of this process and of its children that have ended."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def main(subject: str, way: str, count: int, folder: Path) -> None:
    """Prepare, warm up where it is cheap, and measure."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    chosen = SUBJECTS[subject]
    prepare, _ = chosen.ways[way]
    with prepare(count, folder) as call:
        if count <= chosen.warm:
            call()
        print(json.dumps({"ready": True, "server": os.environ.get("BENCHMARK_SERVER")}), flush=True)
        spent, calls = 0.0, 0
        while calls == 0 or (spent < SECONDS and calls < MOST):
            wall, processor = time.perf_counter(), processor_seconds()
            done = call()
            seconds = time.perf_counter() - wall
            measured = {"seconds": seconds, "processor": processor_seconds() - processor, **done._asdict()}
            print(json.dumps(measured), flush=True)
            spent += seconds
            calls += 1


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
