"""The transformation beside the task list's row-by-row code and beside its floor, measured in one run.

    pytest -m benchmark -s tests/benchmarks/test_transform_speed.py

The bookings are the busy site of ``pipeline.simulator.synthetic``, of generation A and readable by the templates of the
task list, which know no other. The ways are timed in turns, and the best of each counts, so that another process on the
machine does not decide. The floor is what no transformation can go under: the same payloads to columns and the same
frame to dictionaries, with nothing between.
"""

from __future__ import annotations

import itertools
import json
import logging
import platform
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import orjson
import polars as pl
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from pipeline.batch import process_batch, transform_bookings
from pipeline.config import PipelineConfig
from pipeline.schema import split
from pipeline.simulator.synthetic import synthetic_bookings
from pipeline.transform import entries as stages
from pipeline.transform.bookings import read_bookings
from pipeline.transform.columns import paused_collector, to_rows
from pipeline.transform.entries import entry_columns
from pipeline.transform.times import add_times
from tests.reference.row_by_row import RowByRow

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

COUNT = 200_000
ROUNDS = 5
SHARE = 10
"""The row-by-row way is timed over one booking in ten: it takes the same time for each."""

SOURCE: dict[str, Any] = {
    "resource_modality_mapping": {"3T": "MR", "EEG": "EEG", "MEG": "OT"},
    "field_mapping": {
        "patient_id": {
            "source_field": "title",
            "_extract": {"pattern": r"^([A-Za-z]+[0-9]+)[_ -].*", "group": 1},
        },
        "patient_name": {
            "source_field": "title",
            "_extract": {"pattern": r"^[A-Za-z]+[0-9]+[_ -]+(.+)$", "group": 1},
        },
        "study_description": "properties.project.formattedName",
        "accession_number": "id",
    },
}


@pytest.fixture(scope="module")
def config() -> PipelineConfig:
    """Return the configuration of all measurements."""
    return PipelineConfig.from_dict(SOURCE, environ={}, offline=True)


@pytest.fixture(scope="module")
def row_by_row() -> RowByRow:
    """Return the task list's code, silent: writing its warnings out would only cost it time."""
    reference = RowByRow("calpendo", SOURCE)
    reference.lgr.setLevel(logging.CRITICAL)
    return reference


@pytest.fixture(scope="module")
def texts(row_by_row: RowByRow) -> list[str]:
    """Return the payloads as JSON texts."""
    return list(itertools.islice(readable(row_by_row), COUNT))


def readable(row_by_row: RowByRow) -> Iterator[str]:
    """Yield bookings that the templates can read at all."""
    for booking in synthetic_bookings(2 * COUNT):
        text = json.dumps(booking, ensure_ascii=False)
        if "formattedName" in booking:
            try:
                row_by_row.entries([text])
            except Exception:  # whatever the templates fail on is left out
                continue
            yield text


class Best(NamedTuple):
    """The best time of a way over all rounds, in microseconds a booking."""

    wall: float
    processor: float
    """Over all threads. On a busy machine it says more than the wall clock, but nothing of what ran side by side."""


def in_turns(ways: dict[str, tuple[Callable[[], object], int]]) -> dict[str, Best]:
    """Time each way, (function, bookings), once a round; print and return the best of each."""
    best = dict.fromkeys(ways, Best(float("inf"), float("inf")))
    for _, (name, (way, count)) in itertools.product(range(ROUNDS), ways.items()):
        wall, processor = time.perf_counter(), time.process_time()
        result = way()
        taken = time.perf_counter() - wall, time.process_time() - processor
        best[name] = Best(*(min(old, new / count * 1e6) for old, new in zip(best[name], taken, strict=True)))
        del result
    print(f"\n{COUNT:,} bookings, Python {platform.python_version()}, polars {pl.__version__}")
    print(f"{'microseconds a booking':36s}{'wall':>8s}{'processor':>11s}")
    for name, found in best.items():
        print(f"{name:36s}{found.wall:8.2f}{found.processor:11.2f}")
    return best


def test_two_hundred_thousand_bookings(
    texts: list[str], config: PipelineConfig, row_by_row: RowByRow
) -> None:
    """Issue: at least 10 times the templates' rows a second, at most 1.6 times the floor, 20 times frame to frame."""
    bookings = read_bookings(texts, config)
    entries = process_batch(texts, config).entries
    assert len(entries) > 0.99 * COUNT

    def frame_to_frame() -> pl.DataFrame:
        wide = transform_bookings(bookings, config).collect(engine="in-memory")
        found = wide.filter(pl.col("reject_reasons").list.len() == 0).select(entry_columns(config))
        return found.filter(split(found).accepted)

    found = in_turns(
        {
            "row by row": (lambda: row_by_row.entries(texts[::SHARE]), len(texts[::SHARE])),
            "text to dicts": (lambda: process_batch(texts, config).to_dicts(), COUNT),
            "floor: payloads to columns": (lambda: read_bookings(texts, config), COUNT),
            "floor: frame to dicts": (lambda: to_rows(entries), COUNT),
            "bookings frame to entries frame": (frame_to_frame, COUNT),
        }
    )
    for clock in ("processor", "wall"):
        taken = {name: getattr(best, clock) for name, best in found.items()}
        speed = taken["row by row"] / taken["text to dicts"]
        floor = taken["floor: payloads to columns"] + taken["floor: frame to dicts"]
        frames = taken["row by row"] / taken["bookings frame to entries frame"]
        print(
            f"by {clock}: text to dicts {speed:.1f} times the templates' speed and "
            f"{taken['text to dicts'] / floor:.2f} times the floor; frame to frame {frames:.1f} times"
        )
    assert speed >= 10
    assert taken["text to dicts"] <= 1.6 * floor
    assert frames >= 20


def test_fifty_bookings(benchmark: BenchmarkFixture, texts: list[str], config: PipelineConfig) -> None:
    """Issue: 50 bookings, JSON text to dictionaries, in under 40 ms once everything is imported."""
    found = benchmark.pedantic(
        lambda: process_batch(texts[:50], config).to_dicts(), rounds=30, warmup_rounds=2
    )
    assert len(found) >= 48
    assert benchmark.stats.stats.median < 0.040


def test_where_the_time_goes(texts: list[str], config: PipelineConfig) -> None:
    """The stages of the whole way, each alone, for the table of docs/transformation.md; nothing is asserted."""

    def parse_alone() -> None:
        with paused_collector():
            for text in texts:
                orjson.loads(text)

    frames = [read_bookings(texts, config)]
    ways: dict[str, tuple[Callable[[], object], int]] = {
        "orjson.loads alone": (parse_alone, COUNT),
        "payloads to columns, orjson within": (lambda: read_bookings(texts, config), COUNT),
    }
    chain = [
        ("times", add_times),
        ("date, time, duration", stages.add_schedule),
        ("vocabularies", stages.add_vocabularies),
        ("extraction", stages.add_mapped_fields),
        ("hash", stages.add_origin),
        ("reasons", stages.add_reject_reasons),
    ]
    for name, stage in chain:
        frame = frames[-1]
        ways[name] = (
            lambda stage=stage, frame=frame: stage(frame.lazy(), config).collect(engine="in-memory"),
            COUNT,
        )
        frames.append(stage(frame.lazy(), config).collect(engine="in-memory"))
    entries = frames[-1].filter(pl.col("reject_reasons").list.len() == 0).select(entry_columns(config))
    ways["gate (pandera)"] = (lambda: split(entries), COUNT)
    ways["frame to dicts"] = (lambda: to_rows(entries), COUNT)
    in_turns(ways)
