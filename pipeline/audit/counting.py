"""The audit itself: bookings go through the batch in chunks, each subject counts them, and the counts are added up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.archives import BookingFile, bookings_only, is_bookings_frame, payloads_of, recognise
from pipeline.audit import accuracy, coverage, double_bookings, rejections, times_in_doubt, title_census
from pipeline.audit.findings import FRAMES, Audit, Frames, Overview, joined, schema
from pipeline.batch import Batch, Payloads, judge_bookings
from pipeline.config import AnyConfig, PipelineConfig
from pipeline.errors import PluginError
from pipeline.processes import fresh_processes
from pipeline.transform.bookings import read_bookings
from pipeline.transform.entries import MODALITY, STATUS
from pipeline.transform.selection import Selection

Bookings = BookingFile | Payloads
Expected = Path | str | Iterable[Mapping[str, Any]]
Chunk = tuple[list[Any] | pl.DataFrame, Sequence[int]]
"""Payloads, or rows of a frame of ``read_bookings``, and the line of each, from 0."""

CHUNK = 50_000
"""Bookings held at once; a million Python objects alone would be over a gigabyte."""

_MERGED: dict[str, Callable[[Sequence[pl.DataFrame]], pl.DataFrame]] = {
    "census": title_census.merged,
    "field_values": coverage.merged_values,
}
"""Frames that grow with the bookings and shrink when chunks are merged; the others are small or must stay whole."""
_HELD = 8


@dataclass(frozen=True)
class Task:
    """What is asked of every chunk: the mapping, the labels, what was asked of the server, and whether values may be shown.

    It can be sent to another process.
    """

    config: PipelineConfig
    labels: accuracy.Labels
    reveal: bool = False
    selection: Selection | None = None


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

    Prints and draws nothing.

    Args:
        bookings: whatever ``read_bookings`` takes (a file and an iterable are read once and lazily), or the frame that it
            returned for this ``config``.
        config: a ``PipelineConfig``, one source's config as a dict, or the path of a configuration file.
        expected: hand-checked entries (see ``read_labels``), a file's path or objects.
        reveal: show text of bookings as it is; otherwise as shapes.
        selection: what was asked of the server; other bookings are counted as filtered, and no more is said of them.
        workers: processes to count with, where there are enough payloads to share.
        progress: called with the number of bookings done.

    Raises:
        PluginConfigError: the configuration or a label is wrong; never because of what a booking holds.
        PluginError: a process was killed.
    """
    task = Task(PipelineConfig.of(config), accuracy.read_labels(expected), reveal, selection)
    sums = _Sums(task)
    done = 0
    for size, frames in _counted(task, bookings, workers):
        sums.add(frames)
        done += size
        if progress is not None:
            progress(done)
    return sums.audit()


def read_payloads(path: Path | str) -> BookingFile:
    """Return the payloads of a file of bookings, read lazily while one iterates.

    Raises:
        PluginConfigError: it cannot be read, or holds something else; while iterating, where it is damaged.
    """
    return BookingFile(bookings_only(recognise(path)))


def _counted(task: Task, bookings: Bookings, workers: int) -> Iterator[tuple[int, Frames]]:
    """Yield the number of bookings and the counts of each chunk, in the chunks' order."""
    chunks = _chunks(bookings)
    first = list(islice(chunks, 2))
    every = chain(first, chunks)
    if workers > 1 < len(first) and isinstance(first[0][0], list):
        return _counted_by_processes(task, every, workers)
    return ((len(given), count_chunk(task, given, lines)) for given, lines in every)


def _chunks(bookings: Bookings) -> Iterator[Chunk]:
    if isinstance(bookings, pl.DataFrame | pl.LazyFrame) and is_bookings_frame(bookings):
        passed = 0
        for rows in bookings.lazy().collect().iter_slices(CHUNK):
            yield rows, range(passed, passed + len(rows))
            passed += len(rows)
        return
    payloads = payloads_of(bookings)
    if isinstance(payloads, BookingFile):
        yield from ((block.payloads, block.lines) for block in payloads.blocks(CHUNK))
        return
    source, passed = iter(payloads), 0
    while chunk := list(islice(source, CHUNK)):
        yield chunk, range(passed, passed + len(chunk))
        passed += len(chunk)


def _counted_by_processes(task: Task, chunks: Iterable[Chunk], workers: int) -> Iterator[tuple[int, Frames]]:
    """Count in several processes: reading JSON holds Python's lock, so threads would wait for each other.

    At most two chunks per worker are held.
    """
    waiting: deque[tuple[int, Future[Frames]]] = deque()
    pool = fresh_processes(workers)
    try:
        for given, lines in chunks:
            if len(waiting) > workers:
                size, future = waiting.popleft()
                yield size, future.result()
            waiting.append((len(given), pool.submit(count_chunk, task, given, lines)))
        for size, future in waiting:
            yield size, future.result()
    except BrokenProcessPool as error:
        raise PluginError(
            "a process of the audit was killed, perhaps for want of memory; try one worker"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def count_chunk(task: Task, given: list[Any] | pl.DataFrame, lines: Sequence[int]) -> Frames:
    """Judge a chunk of bookings and let every subject count it.

    Copies of one booking are not found here but over all chunks (``rejections``). The booking hash is only computed where
    a label names ``notes``.

    Args:
        task: what is asked of the chunk.
        given: payloads, or rows of a frame of ``read_bookings``.
        lines: where they stand in their file, from 0.
    """
    bookings = given if isinstance(given, pl.DataFrame) else read_bookings(given, task.config)
    batch = judge_bookings(
        bookings.with_columns(row=pl.int_range(len(bookings), dtype=pl.UInt32, eager=True)),
        task.config,
        selection=task.selection,
        hashed=task.labels.name("notes"),
    )
    wide = _looked_at(batch, lines)
    readable = wide.filter(pl.col("fault").is_null())
    found = {
        "chunks": _size(batch, readable),
        **coverage.collect(readable, task.config, reveal=task.reveal),
        **times_in_doubt.collect(readable, task.config.timezone),
        "census": title_census.collect(readable, task.config),
        "statuses": coverage.collect_vocabulary(readable, coverage.STATUS),
        "resources": coverage.collect_vocabulary(readable, coverage.RESOURCE),
        "rejections": rejections.collect(batch.rejected),
        "co_occurrence": rejections.collect_pairs(batch.rejected),
        "repairs": rejections.collect_repairs(batch.accepted),
        "duplicates": double_bookings.collect(wide.filter(~pl.col("rejected"))),
        "copies": rejections.collect_copies(wide),
    }
    if len(task.labels):
        found["labelled"] = accuracy.collect(wide, task.labels)
    return found


def _looked_at(batch: Batch, lines: Sequence[int]) -> pl.DataFrame:
    """Return the bookings asked for, with the columns that the subjects need besides.

    Added: ``reasons`` List(String), why the batch rejects the row; ``rejected`` and ``any_unmatched`` Boolean;
    ``line`` Int64, from 1.
    """
    why = batch.rejected.select("row", "reasons")
    return batch.asked_for.join(why, on="row", how="left", maintain_order="left").with_columns(
        pl.col("reasons").fill_null([]),
        rejected=pl.col("reasons").is_not_null(),
        any_unmatched=pl.col("unmatched").list.len() > 0,
        line=pl.Series(lines, dtype=pl.Int64).gather(batch.asked_for["row"]) + 1,
    )


def _size(batch: Batch, readable: pl.DataFrame) -> pl.DataFrame:
    days = readable["wall_start"].dt.date()
    asked_for, filtered = len(batch.asked_for), len(batch.filtered)
    return pl.DataFrame(
        {
            "bookings": [asked_for + filtered],
            "filtered": [filtered],
            "unreadable": [asked_for - len(readable)],
            "rejected": [len(batch.rejected)],
            "first_day": pl.Series([days.min()], dtype=pl.Date),
            "last_day": pl.Series([days.max()], dtype=pl.Date),
        }
    )


@dataclass
class _Sums:
    """The frames of all chunks so far, in the chunks' order."""

    task: Task
    _frames: dict[str, list[pl.DataFrame]] = field(default_factory=dict)

    def add(self, frames: Frames) -> None:
        for name, frame in frames.items():
            held = self._frames.setdefault(name, [])
            held.append(frame)
            if name in _MERGED and len(held) > _HELD:
                self._frames[name] = [_MERGED[name](held)]

    def audit(self) -> Audit:
        config, reveal = self.task.config, self.task.reveal
        gone = rejections.superseded_lines(self._of("copies"))
        compared = accuracy.compare(
            self._of("labelled"),
            self.task.labels,
            gone["line"].to_list(),
            reveal=reveal,
            masked=[name for name in (STATUS, MODALITY) if self._masked(name)],
        )
        counted = title_census.by_source(self._of("census"), config)
        suggestions, proposals = title_census.suggestions_and_proposals(counted, reveal=reveal)
        overview = self._overview(gone, compared)
        readable = overview.bookings - overview.filtered - overview.unreadable
        of_fields = coverage.total(
            config, self._of("fields"), self._of("field_values"), self._of("field_examples")
        )
        return Audit(
            overview=overview,
            fields=of_fields,
            accuracy=compared.accuracy,
            disagreements=compared.disagreements,
            statuses=coverage.total_vocabulary(self._of("statuses"), masked=self._masked(STATUS)),
            resources=coverage.total_vocabulary(self._of("resources"), masked=self._masked(MODALITY)),
            times=times_in_doubt.total(self._of("times"), readable),
            doubtful=times_in_doubt.doubtful(self._of("doubtful")),
            zone_data=times_in_doubt.zone_data(self._of("zone_data"), config.timezone, readable),
            rejections=rejections.total([*self._of("rejections"), rejections.as_rejections(gone)]),
            co_occurrence=rejections.total_pairs([*self._of("co_occurrence"), rejections.as_pairs(gone)]),
            repairs=rejections.total_repairs(self._of("repairs")),
            duplicates=double_bookings.total(self._of("duplicates"), reveal=reveal),
            census=title_census.census(counted, reveal=reveal),
            conventions=title_census.conventions(counted),
            suggestions=suggestions,
            proposals=proposals,
            weeks=times_in_doubt.weeks(self._of("weeks")),
            judged=_under_judgement(overview, of_fields, compared.accuracy),
            warnings=config.warnings,
        )

    def _of(self, name: str) -> list[pl.DataFrame]:
        return self._frames.get(name, [])

    def _overview(self, gone: pl.DataFrame, compared: accuracy.Comparison) -> Overview:
        config = self.task.config
        chunks = joined(
            self._of("chunks"), schema("bookings filtered unreadable rejected first_day last_day")
        )
        bookings, filtered, unreadable, rejected = chunks.select(pl.col(pl.Int64).sum()).row(0)
        rejected += len(gone.filter(pl.col("reasons").list.len() == 0))
        zone = config.output_timezone
        return Overview(
            bookings=bookings,
            entries=bookings - filtered - rejected,
            rejected=rejected,
            filtered=filtered,
            unreadable=unreadable,
            labelled=compared.labelled,
            labels_unused=compared.unused,
            in_doubt=sum(part.item() for part in self._of("in_doubt")),
            first_day=chunks["first_day"].min(),  # type: ignore[arg-type]
            last_day=chunks["last_day"].max(),  # type: ignore[arg-type]
            timezone=config.timezone,
            output_timezone=config.timezone if zone == "site" else zone,
            revealed=self.task.reveal,
        )

    def _masked(self, target: str) -> bool:
        return not self.task.reveal and coverage.taken_from_elsewhere(self.task.config, target)


def _under_judgement(overview: Overview, of_fields: pl.DataFrame, of_labels: pl.DataFrame) -> pl.DataFrame:
    """Return what ``--fail-under`` looks at: accuracy per field where bookings are labelled, else coverage per field and of entries."""
    if overview.labelled:
        kept = of_labels.select(
            pl.lit("accuracy").alias("measure"), "field", pl.col("accuracy") * 100, "labelled"
        )
    elif asked_for := overview.bookings - overview.filtered:
        kept = of_fields.filter(pl.col("coverage").is_not_null()).select(
            pl.lit("coverage").alias("measure"), "target", pl.col("coverage") * 100, "bookings"
        )
        entries = ("coverage", "worklist entries", 100 * overview.entries / asked_for, asked_for)
        kept = pl.concat([kept, pl.DataFrame([entries], schema=kept.schema, orient="row")])
    else:
        return pl.DataFrame(schema=FRAMES["judged"])
    return kept.rename(dict(zip(kept.columns, FRAMES["judged"], strict=True)))
