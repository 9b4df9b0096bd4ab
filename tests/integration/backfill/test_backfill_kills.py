"""Real kills: a backfill that dies at any moment goes on when it is started again, and its output is the same."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import psutil
import pytest

from pipeline.simulator.sample import sample_config
from pipeline.simulator.synthetic import synthetic_bookings

BOOKINGS = 6000
KILLS = 20

CHILD = """
import json, sys
from pipeline.backfill import backfill
from pipeline.config import PipelineConfig

config = PipelineConfig.from_dict(json.loads(sys.argv[1]), offline=True)
print(backfill(sys.argv[3:], sys.argv[2], config, workers=2, segment_bytes=200_000).to_json())
"""


def _archives(folder: Path) -> list[str]:
    """Write a plain and a gzip archive that overlap, so that some bookings are replaced across files."""
    import gzip

    lines = [json.dumps(booking).encode() + b"\n" for booking in synthetic_bookings(BOOKINGS, seed=5)]
    (folder / "a.ndjson").write_bytes(b"".join(lines[: BOOKINGS * 2 // 3]))
    (folder / "b.ndjson.gz").write_bytes(gzip.compress(b"".join(lines[BOOKINGS // 2 :])))
    return [str(folder / "a.ndjson"), str(folder / "b.ndjson.gz")]


def _start(script: Path, output: Path, archives: list[str]) -> subprocess.Popen[str]:
    call = [sys.executable, str(script), json.dumps(sample_config()), str(output), *archives]
    return subprocess.Popen(
        call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=script.parent
    )


def _contents(output: Path) -> dict[str, pl.DataFrame]:
    return {
        str(file.relative_to(output)): pl.read_parquet(file) for file in sorted(output.rglob("*.parquet"))
    }


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_random_moments_the_result_is_the_same(tmp_path: Path) -> None:
    """Backfill: killed with SIGKILL again and again, it still ends with the output of one that was left alone."""
    archives = _archives(tmp_path)
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    began = time.monotonic()
    whole, errors = _start(script, tmp_path / "whole", archives).communicate()
    assert whole, errors
    seconds = time.monotonic() - began
    chance = random.Random(20261123)
    kills = finished = 0
    while kills < KILLS:
        output = tmp_path / f"out-{finished}"
        child = _start(script, output, archives)
        try:
            _, errors = child.communicate(timeout=chance.uniform(0.3, 1.1) * seconds)
        except subprocess.TimeoutExpired:
            workers = psutil.Process(child.pid).children(recursive=True)
            os.kill(child.pid, signal.SIGKILL)
            child.communicate()
            _, alive = psutil.wait_procs(workers, timeout=30)
            assert not alive, "workers end with the process that was killed"
            kills += 1
            continue
        assert child.returncode == 0, errors
        _assert_same(output, tmp_path / "whole", whole)
        finished += 1
    last = tmp_path / f"out-{finished}"
    text, errors = _start(script, last, archives).communicate()
    assert text, errors
    _assert_same(last, tmp_path / "whole", whole)


def _assert_same(output: Path, whole: Path, summary: str) -> None:
    found, expected = _contents(output), _contents(whole)
    assert found.keys() == expected.keys()
    assert all(found[name].equals(expected[name]) for name in expected)
    counts, unbroken = json.loads((output / "manifest.json").read_text())["summary"], json.loads(summary)
    for name in ("seconds", "resumed"):
        counts.pop(name), unbroken.pop(name)
    assert counts == unbroken
    assert not (output / ".backfill").exists()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_killed_worker_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    """Backfill: when a worker is killed (out of memory), the error says to start again, and that works."""
    archives = _archives(tmp_path)
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    child = _start(script, tmp_path / "out", archives)
    segments = tmp_path / "out/.backfill/segments"
    deadline = time.monotonic() + 60
    while not (segments.is_dir() and any(segments.glob("[0-9]*"))):
        assert time.monotonic() < deadline
        assert child.poll() is None, child.communicate()
        time.sleep(0.02)
    workers = [p for p in psutil.Process(child.pid).children() if "spawn_main" in " ".join(p.cmdline())]
    workers[0].kill()
    _, errors = child.communicate()
    assert child.returncode != 0
    assert "a worker process of the backfill was killed" in errors
    text, errors = _start(script, tmp_path / "out", archives).communicate()
    assert text, errors
    assert json.loads(text)["resumed"]
