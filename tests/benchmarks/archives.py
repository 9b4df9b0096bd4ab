"""Archives of invented bookings for the benchmarks: of any size, in bounded memory, the same for the same arguments.

The busy site of ``pipeline.simulator.synthetic``, three years at a time, so that every segment of an archive holds
bookings of all 36 months: the hardest case for partitioning. One booking in a thousand comes again as an older
version, one in two thousand is cut off in the middle, so that no shortcut for clean input is measured.
"""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import BinaryIO, cast

import orjson

from pipeline.simulator.synthetic import FIRST_ID, synthetic_bookings

BLOCK = 54_800
FIRST_DAY = date(2023, 1, 1)

SOURCE = {
    "timezone": "America/Edmonton",
    "resource_modality_mapping": {"3T": "MR", "EEG": "EEG", "MEG": "MEG"},
    "field_mapping": {
        "patient_id": {"source_field": "title", "_extract": {"pattern": r"^([A-Z]+\d+)_", "group": 1}},
        "patient_name": {"source_field": "title", "_extract": {"pattern": r"^[A-Z]+\d+_(.+)$", "group": 1}},
        "study_description": "properties.project.formattedName",
        "accession_number": "id",
    },
}
"""The mapping the benchmarks run with: two extractions, a nested field, an id; in the form both ways read."""


def booking_texts(count: int, *, only_a: bool = False) -> Iterator[bytes]:
    """Yield ``count`` payloads as JSON texts, no line ends in them.

    With ``only_a`` all are of generation A, the only one the task list's templates know; else two in five are B.
    """
    made = 0
    for seed in range(count):
        for booking in synthetic_bookings(BLOCK, seed=seed, start=FIRST_DAY):
            if only_a and "dateRange" in booking["properties"]:
                continue
            booking["id"] = FIRST_ID + made
            if made % 1000 == 999:
                booking["id"] -= 777
                booking["properties"]["modified"] = "2020-01-01 00:00:00.0"
            text = orjson.dumps(booking)
            yield text[: len(text) // 2] if made % 2000 == 1500 else text
            made += 1
            if made == count:
                return


def write_archive(path: Path, count: int, *, only_a: bool = False) -> Path:
    """Write ``count`` bookings as NDJSON where the file is not there yet; .gz and .zst are compressed."""
    if not path.exists():
        unfinished = path.with_name(f"unfinished-{path.name}")
        with _opened(unfinished) as file:
            for text in booking_texts(count, only_a=only_a):
                file.write(text)
                file.write(b"\n")
        unfinished.replace(path)
    return path


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    if path.suffix == ".gz":
        with gzip.open(path, "wb", compresslevel=1) as packed:
            yield cast("BinaryIO", packed)
    elif path.suffix == ".zst":
        from backports import zstd

        with zstd.open(path, "wb") as packed:
            yield cast("BinaryIO", packed)
    else:
        with path.open("wb", buffering=1 << 20) as file:
            yield file
