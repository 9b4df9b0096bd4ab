"""The backfill on a Dask cluster of two worker processes: the same output, also when a worker dies on the way."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from pipeline.backfill import BackfillSummary, Progress, backfill
from pipeline.config import PipelineConfig
from pipeline.errors import PluginConfigError
from pipeline.simulator.sample import sample_config
from pipeline.simulator.synthetic import synthetic_bookings

distributed = pytest.importorskip("distributed")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.filterwarnings("default")]

CONFIG = PipelineConfig.from_dict(sample_config(), offline=True)
SEGMENT = 150_000


@pytest.fixture
def cluster() -> Iterator[object]:
    """Start a scheduler and two worker processes under nannies, on the loopback interface only."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
    ) as running:
        yield running


@pytest.fixture
def archives(tmp_path: Path) -> list[Path]:
    """Write two archives that share a third of their bookings, one of them compressed."""
    from backports import zstd

    lines = [json.dumps(booking).encode() + b"\n" for booking in synthetic_bookings(5000, seed=9)]
    (tmp_path / "a.ndjson").write_bytes(b"".join(lines[:3500]))
    (tmp_path / "b.ndjson.zst").write_bytes(zstd.compress(b"".join(lines[2000:])))
    return [tmp_path / "a.ndjson", tmp_path / "b.ndjson.zst"]


def _same(one: Path, other: Path) -> bool:
    files = [sorted(path.relative_to(root) for path in root.rglob("*.parquet")) for root in (one, other)]
    return files[0] == files[1] and all(
        pl.read_parquet(one / name).equals(pl.read_parquet(other / name)) for name in files[0]
    )


def _counts(summary: BackfillSummary) -> dict[str, object]:
    return {name: value for name, value in summary.to_dict().items() if name not in {"seconds", "resumed"}}


def test_a_worker_killed_on_the_way_costs_nothing(cluster, archives: list[Path], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """More than one machine: two worker processes, one killed on the way, write what one machine writes."""
    local = backfill(archives, tmp_path / "local", CONFIG, workers=1, segment_bytes=SEGMENT)
    killed = threading.Event()

    def kill_one(progress: Progress) -> None:
        if progress.stage == "convert" and 0 < progress.done < progress.total and not killed.is_set():
            worker = next(iter(cluster.workers.values()))
            os.kill(worker.process.pid, signal.SIGKILL)
            killed.set()

    far = backfill(
        archives,
        tmp_path / "far",
        CONFIG,
        cluster=cluster.scheduler_address,
        segment_bytes=SEGMENT,
        progress=kill_one,
    )
    assert killed.is_set()
    assert _counts(far) == _counts(local)
    assert _same(tmp_path / "far", tmp_path / "local")


def test_what_a_worker_cannot_see_is_said_first(cluster, archives: list[Path], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """More than one machine: no scheduler at the address, and a bad address, are configuration errors."""
    with pytest.raises(PluginConfigError, match="write it as tcp://"):
        backfill(archives, tmp_path / "out", CONFIG, cluster="localhost:8786")
    with pytest.raises(PluginConfigError, match="no Dask scheduler answers"):
        backfill(archives, tmp_path / "out", CONFIG, cluster="tcp://127.0.0.1:1")
