"""Worker processes: what a script that asks for them must not have to know."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.audit.counting import CHUNK
from pipeline.processes import _script_hidden
from pipeline.simulator.sample import sample_config
from pipeline.simulator.synthetic import synthetic_bookings

BOOKINGS = CHUNK + 1
"""Enough to be shared by an audit's processes."""
SCRIPT = """
import json, sys
from pipeline.audit import audit, read_payloads
from pipeline.backfill import backfill
from pipeline.config import PipelineConfig

print("begun")
config = PipelineConfig.from_dict(json.loads(sys.argv[1]), offline=True)
print(backfill([sys.argv[2]], sys.argv[3], config, workers=2, segment_bytes=4_000_000).read)
print(audit(read_payloads(sys.argv[2]), config, workers=2).overview.bookings)
"""


@pytest.mark.slow
def test_a_plain_script_may_ask_for_workers(tmp_path: Path) -> None:
    """Backfill and audit run with two workers from a script without a main guard, and the script runs once."""
    script, archive = tmp_path / "script.py", tmp_path / "bookings.ndjson"
    script.write_text(SCRIPT)
    archive.write_text(
        "".join(json.dumps(booking) + "\n" for booking in synthetic_bookings(BOOKINGS, seed=3))
    )

    call = [sys.executable, str(script), json.dumps(sample_config()), str(archive), str(tmp_path / "out")]
    done = subprocess.run(call, capture_output=True, text=True, timeout=120, check=False)

    assert done.stderr == ""
    assert done.stdout.split() == ["begun", str(BOOKINGS), str(BOOKINGS)]


def test_two_threads_leave_the_script_in_place() -> None:
    """Promise: where a second thread starts workers while a first one does, the script is itself again afterwards."""
    script = sys.modules["__main__"]
    first_is_in, second_is_in, first_is_out = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        with _script_hidden():
            first_is_in.set()
            second_is_in.wait(0.3)  # It must not come in meanwhile.
        first_is_out.set()

    def second() -> None:
        first_is_in.wait(5)
        with _script_hidden():
            second_is_in.set()
            first_is_out.wait(5)

    try:
        with ThreadPoolExecutor(2) as threads:
            for done in [threads.submit(first), threads.submit(second)]:
                done.result()
        assert sys.modules["__main__"] is script
    finally:
        sys.modules["__main__"] = script
