"""The audit itself: bookings in chunks through the batch's own steps, counts added up, small frames out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.archives import (
    Block,
    BookingFile,
    bookings_only,
    is_bookings_frame,
    payloads_of,
    recognise,
)
from pipeline.audit.labels import read_labels
from pipeline.audit.model import Audit
from pipeline.audit.parallel import counted_by_processes
from pipeline.audit.tally import Frames
from pipeline.audit.task import Payload, Task
from pipeline.audit.whole import Whole
from pipeline.batch import Payloads
from pipeline.config import AnyConfig, PipelineConfig
from pipeline.transform.selection import Selection

Bookings = BookingFile | Payloads
Expected = Path | str | Iterable[Mapping[str, Any]]

CHUNK = 50_000
"""Bookings held at once; a million Python objects alone would be over a gigabyte."""


def audit(
    bookings: Bookings,
    config: AnyConfig,
    expected: Expected | None = None,
    *,
    reveal: bool = False,
    selection: Selection | None = None,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Audit:
    """Audit a mapping on bookings: what each field got, what was rejected, which titles and times stand out.

    ``bookings``: whatever ``read_bookings`` takes (a file and an iterable are read once and lazily), or the frame that it
    returned for this ``config``. ``config``: a ``PipelineConfig``, one source's config as a dict, or the path of a
    configuration file. ``expected``: hand-checked entries (``labels.py``), a file's
    path or objects. ``selection``: what was asked of the server; other bookings are counted as filtered, and no more is
    said of them. ``workers``: processes to count with, where there are payloads enough to share. ``progress`` is
    called with the number of bookings done. Text of bookings is shown as shapes unless ``reveal``. Prints and draws
    nothing. Raises ``PluginConfigError`` for a wrong configuration or a wrong label, and nothing for what a booking
    holds.
    """
    task = Task(PipelineConfig.of(config), read_labels(expected), reveal, selection)
    whole = Whole(task)
    done = 0
    for size, frames in _counted(task, bookings, workers):
        whole.add(frames)
        done += size
        if progress is not None:
            progress(done)
    return whole.audit()


def read_payloads(path: Path | str) -> BookingFile:
    """Return the payloads of a file of bookings, read lazily while one iterates.

    Raises:
        PluginConfigError: it cannot be read, or holds something else; while iterating, where it is damaged.
    """
    return BookingFile(bookings_only(recognise(path)))


def _counted(task: Task, bookings: Bookings, workers: int) -> Iterator[tuple[int, Frames]]:
    if isinstance(bookings, pl.DataFrame | pl.LazyFrame) and is_bookings_frame(bookings):
        return _of_frame(task, bookings.lazy().collect())
    payloads = payloads_of(bookings)
    chunks = payloads.blocks(CHUNK) if isinstance(payloads, BookingFile) else _chunks(payloads)
    first = list(islice(chunks, 2))
    every = chain(first, chunks)
    return (
        counted_by_processes(task, every, workers) if workers > 1 < len(first) else _of_payloads(task, every)
    )


def _chunks(payloads: Iterable[Payload]) -> Iterator[Block]:
    source = iter(payloads)
    passed = 0
    while chunk := list(islice(source, CHUNK)):
        yield Block(chunk, list(range(passed, passed + len(chunk))))
        passed += len(chunk)


def _of_payloads(task: Task, chunks: Iterable[Block]) -> Iterator[tuple[int, Frames]]:
    from pipeline.audit.chunk import count_block

    for block in chunks:
        yield len(block.payloads), count_block(task, block)


def _of_frame(task: Task, bookings: pl.DataFrame) -> Iterator[tuple[int, Frames]]:
    from pipeline.audit.chunk import count_chunk

    passed = 0
    for part in bookings.iter_slices(CHUNK):
        yield len(part), count_chunk(task, part, range(passed, passed + len(part)))
        passed += len(part)
