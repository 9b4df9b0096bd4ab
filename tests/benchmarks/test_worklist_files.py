"""Ten thousand worklist files against pydicom's own time for the same datasets: ``pytest -m benchmark -s`` this file."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from pipeline.config import PipelineConfig
from pipeline.config.credentials import Credentials
from pipeline.delivery.ledger import Changes, Line, microseconds
from pipeline.simulator.sample import sample_config
from pipeline.simulator.synthetic import synthetic_bookings
from pipeline.worklist_files.plugin import Kept, WorklistPlugin

COUNT = 10_000
NOW = datetime(2026, 11, 26, 9, tzinfo=UTC)


def lines_of(config: PipelineConfig) -> list[Line]:
    """Return the ledger's lines of so many synthetic bookings, all of them on today's list."""
    from pipeline.batch import process_batch
    from pipeline.delivery.decide import digests
    from pipeline.delivery.ledger import to_text

    batch = process_batch(list(synthetic_bookings(COUNT * 2)), config)
    start = microseconds(NOW + timedelta(hours=1))
    lines = []
    for entry, digest in zip(batch.to_dicts(), digests(batch.entries).to_list(), strict=True):
        entry["performed_procedure_step_status"] = "SCHEDULED"
        number = int(entry["source_record_id"])
        lines.append(Line(number, digest, "SCHEDULED", start, start + 3_600_000_000, "", to_text(entry)))
    return lines[:COUNT]


def timed(task: Callable[[], Kept | None]) -> tuple[float, float, Kept | None]:
    """Return the seconds of a task, those of the processor in it, and what it returned."""
    begun, worked = time.perf_counter(), time.process_time()
    result = task()
    return time.perf_counter() - begun, time.process_time() - worked, result


def by_pydicom(datasets: list[Dataset], folder: Path) -> None:
    """Make each dataset anew from its values, and write it: what a script of ten lines does."""
    for place, given in enumerate(datasets):
        made = copied(given)
        made.file_meta = given.file_meta
        made.save_as(folder / f"{place}.wl", enforce_file_format=True)


def copied(given: Dataset) -> Dataset:
    """Return a dataset with the same attributes, set by their keywords."""
    made = Dataset()
    for element in given:
        if element.tag.is_private:
            continue
        value = [copied(item) for item in element.value] if element.VR == "SQ" else element.value
        setattr(made, element.keyword, value)
    return made


@pytest.mark.benchmark
@pytest.mark.timeout(900)
def test_ten_thousand_files(tmp_path: Path) -> None:
    """Issue: writing takes at most twice pydicom's own time, and a cycle in which nothing changed a tenth of that."""
    directory = tmp_path / "worklists"
    directory.mkdir()
    source = {
        **sample_config(),
        "base_url": "https://site.calpendo.com",
        "state_path": str(tmp_path / "s" / "l.sqlite"),
    }
    source |= {"resource_ae_title": {"3T": "PRISMA"}}
    plugin = WorklistPlugin("site", source, directory, credentials=Credentials("a", "b"), clock=lambda: NOW)
    with plugin:
        plugin.validate_config()
        ledger = plugin._ready()[1]
        lines = lines_of(plugin.settings)
        with ledger.transaction():
            ledger.record(Changes(emitted=lines), NOW)
        writing, writing_work, kept = timed(plugin.keep_files)
        assert kept is not None
        assert (kept.files, kept.written, kept.held_back) == (COUNT, COUNT, {})
        unchanged, unchanged_work, kept = timed(plugin.keep_files)
        assert kept is not None
        assert kept.written == 0
    datasets = [pydicom.dcmread(path) for path in directory.iterdir()]
    for dataset in datasets:
        dataset.walk(lambda _dataset, element: element.value)
    own_folder = tmp_path / "own"
    own_folder.mkdir()
    own, own_work, _ = timed(lambda: by_pydicom(datasets, own_folder))
    print(
        f"\n{COUNT} files: {writing:.2f} s ({writing_work:.2f} s of the processor), pydicom's own {own:.2f} s ({own_work:.2f} s):"
        f" {writing / own:.2f} times ({writing_work / own_work:.2f} times); nothing changed: {unchanged:.2f} s"
        f" ({unchanged_work:.2f} s), {unchanged / writing:.3f} of it"
    )
    assert writing <= 2 * own
    assert unchanged <= writing / 10
