"""The backfill against one call of ``process_batch`` over everything: files, segments and blocks must not show."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.archives import segments
from pipeline.backfill import backfill, coordinator
from pipeline.batch import process_batch
from pipeline.config import PipelineConfig
from pipeline.transform.reasons import DUPLICATE_BOOKING_ID

CONFIG = PipelineConfig.from_dict(
    {
        "output_timezone": "site",
        "resource_modality_mapping": {"3T": "MR"},
        "field_mapping": {
            "patient_id": {"source_field": "title", "_extract": {"pattern": r"^(\w+?)_", "group": 1}},
            "patient_name": {"source_field": "title", "_extract": {"pattern": r"^\w+?_(.+)", "group": 1}},
            "accession_number": "id",
        },
    },
    offline=True,
)

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
MODIFIED = st.sampled_from(
    ["2026-01-02 10:00:00.0", "2026-01-02T10:00:00Z", "2026-01-03 09:00:00.0", "2025-12-31", "soon", None]
)
STARTS = st.sampled_from(
    ["2026-01-31 23:30:00", "2026-02-01 00:10:00.0", "2026-11-01 01:30:00.0", "2026-13-01 99:00:00"]
)
TITLES = st.sampled_from(
    ["SUB1_Ada_Lovelace", "SUB2_Émile_Noor", "SUB3_Li", "odd", "", "<Hidden>", "a\\b_c", "S_\ud800"]
)


@st.composite
def _booking(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a version of one of five bookings; every fourth one has a key of any JSON at all."""
    booking: dict[str, Any] = {
        "id": draw(st.integers(1, 5)),
        "title": draw(TITLES),
        "status": draw(st.sampled_from(["Approved", "odd status", None])),
        "properties": {
            "resource": {"formattedName": draw(st.sampled_from(["3T East", "EEG Lab"]))},
            "modified": draw(MODIFIED),
            "cancelled": draw(st.sampled_from([True, False, None])),
        },
    }
    start = draw(STARTS)
    if draw(st.booleans()):
        booking["formattedName"] = f"[{start}, {start.replace('30:', '59:')}]"
    else:
        booking["properties"]["dateRange"] = {
            "start": start.replace(" ", "T"),
            "finish": "2026-12-31T00:00:00",
        }
    if draw(st.integers(0, 3)) == 0:
        booking[draw(st.sampled_from(["id", "title", "properties", "formattedName"]))] = draw(JUNK)
    return booking


def _line(booking: object) -> bytes:
    return json.dumps(booking).encode()


BROKEN = st.sampled_from(
    [b"{", b"null", b'"text"', b"[1]", b'{"id": 1', b'{"id":1,"title":"\xff_x"}', b"NaN"]
)
NO_ID = b'{"id": null}'
"""Begins each file: a file in which no row has an id at all holds no bookings, and is refused."""
BOOKINGS = _booking().map(_line)
LINES = st.lists(st.one_of(BOOKINGS, BOOKINGS, BOOKINGS, BROKEN), min_size=12, max_size=40)


@settings(
    max_examples=4,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    lines=LINES,
    cuts=st.lists(st.integers(0, 40), max_size=3),
    size=st.sampled_from([500, 2000, 10_000]),
    rows=st.integers(2, 12),
    buckets=st.integers(1, 4),
    group=st.sampled_from([1, 6_000, 1 << 20]),
)
def test_files_segments_and_blocks_do_not_show(
    tmp_path_factory: pytest.TempPathFactory,
    lines: list[bytes],
    cuts: list[int],
    size: int,
    rows: int,
    buckets: int,
    group: int,
) -> None:
    """Backfill: on any JSON, cut into any files, segments, blocks, buckets of ids and groups, the output is that of one batch over all."""
    folder = tmp_path_factory.mktemp("hostile")
    files = []
    edges = [0, *sorted(min(cut, len(lines)) for cut in cuts), len(lines)]
    for number, (begin, end) in enumerate(pairwise(edges)):
        files.append(folder / f"{number}.ndjson")
        text = NO_ID + b"\n" + b"".join(line + b"\n" for line in lines[begin:end])
        files[-1].write_bytes(gzip.compress(text) if number % 2 else text)
    payloads = [line for begin, end in pairwise(edges) for line in (NO_ID, *lines[begin:end])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "BLOCK_ROWS", rows)
        patch.setattr(coordinator, "BUCKET_ROWS", len(payloads) // buckets)
        patch.setattr(coordinator, "GROUP_BYTES", group)
        summary = backfill(files, folder / "out", CONFIG, segment_bytes=size)
    batch = process_batch(payloads, CONFIG)
    older = batch.rejected["reasons"].list.contains(DUPLICATE_BOOKING_ID)

    assert summary.read == len(payloads)
    assert summary.entries == batch.entries.height
    assert summary.replaced == older.sum()
    month = pl.col("scheduled_start_date").dt.strftime("%Y-%m")
    expected = batch.entries.with_columns(month=month)
    assert read(folder / "out/entries", expected).equals(expected.sort("month", maintain_order=True))

    rejected = batch.rejected.filter(~older)
    found = read(folder / "out/rejected", rejected)
    assert found.select(rejected.drop("row").columns).equals(rejected.drop("row"))
    replaced = read(folder / "out/replaced", batch.rejected)
    assert replaced["booking_id"].to_list() == batch.rejected.filter(older)["booking_id"].to_list()


def read(folder: Path, empty: pl.DataFrame) -> pl.DataFrame:
    """Read what a backfill wrote, file by file in the order of their names; ``empty``'s columns where there is none."""
    frames = [pl.read_parquet(file, hive_partitioning=True) for file in sorted(folder.rglob("*.parquet"))]
    return pl.concat(frames) if frames else empty.clear()
