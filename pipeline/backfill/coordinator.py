"""A backfill from its arguments to its summary: convert, resolve, merge, publish. This process only schedules.

It loads no polars: what touches bookings runs in workers, so that its own memory stays small however many there are.
Each stage can be done again after a kill: what is committed is found and skipped.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.archives import segment_count
from pipeline.backfill.layout import RECORD, Layout, only_one, read_json, write_json
from pipeline.backfill.plan import (
    SEGMENT_BYTES,
    Plan,
    ServerRange,
    changed_sources,
    find_sources,
    joined,
    look_again,
    make_plan,
    refuse_reserved_targets,
)
from pipeline.backfill.records import SegmentRecord, add_counts, segment_name
from pipeline.backfill.summary import BackfillSummary, Progress, ProgressCallback, Stage
from pipeline.backfill.workers import Workers, convert, hired, make
from pipeline.errors import PluginConfigError, PluginStateError

if TYPE_CHECKING:
    from pipeline.config import AnyConfig, PipelineConfig
    from pipeline.config.credentials import Credentials

BUCKET_ROWS = 1_000_000
"""So many bookings are looked through at once for ids that come twice."""
GROUP_BYTES = 36 << 20
"""So much of the segments' rows, as they lie in memory, one group of the merge writes: a file for each month in it."""


@dataclass(frozen=True)
class Manifest:
    """What the manifest holds."""

    plan: Plan
    summary: BackfillSummary


def backfill(
    sources: str | Path | Sequence[str | Path] | ServerRange,
    output: str | Path,
    config: AnyConfig,
    *,
    credentials: Credentials | None = None,
    cluster: str | None = None,
    workers: int | None = None,
    restart: bool = False,
    progress: ProgressCallback | None = None,
    segment_bytes: int = SEGMENT_BYTES,
) -> BackfillSummary:
    """Convert archives of bookings, or a server's bookings of some days, to Parquet below ``output``.

    A backfill that was killed goes on when it is started again with the same arguments; one that is complete is not
    done again. The ledger is not touched.

    Args:
        sources: one or several files, directories and globs of files of bookings, or a ``ServerRange``.
        output: gets ``entries/month=YYYY-MM/*.parquet`` (by ``scheduled_start_date``, which is in the output zone),
            ``rejected/``, ``replaced/`` and ``manifest.json``, readable by the owner only. Ids are unique over all of
            ``entries``.
        config: a ``PipelineConfig``, a source's config as a dict, or the path of a configuration file.
        credentials: what a ``ServerRange`` is fetched with.
        cluster: the address of a Dask cluster that does the work, with the same output.
        workers: how many processes do the work; one per core if left out.
        restart: throw away what an earlier backfill left in ``output``.
        progress: called now and then with how far each stage is.
        segment_bytes: how much of a source is converted at once.

    Raises:
        PluginConfigError: the sources or arguments are wrong, or a source is damaged or changed meanwhile.
        PluginStateError: the output belongs to another backfill or is in use, or a worker was killed.
        PluginFetchError: the server did not answer, or not with every booking.
        PluginSchemaError: the law of conservation does not hold; nothing is published then.
    """
    from pipeline.config import PipelineConfig

    config = PipelineConfig.of(config)
    refuse_reserved_targets(config)
    server = sources if isinstance(sources, ServerRange) else None
    if server is not None:
        server.check(config, credentials)
    found = () if isinstance(sources, ServerRange) else find_sources(sources)
    layout = Layout(Path(output).resolve())
    with only_one(layout.output):
        if restart:
            _throw_away(layout)
        plan = make_plan(config, found, server, segment_bytes)
        manifest = read_json(layout.manifest, Manifest)
        if manifest is not None:
            joined(manifest.plan, plan, finished=True)
            shutil.rmtree(layout.work, ignore_errors=True)
            return replace(manifest.summary, was_complete=True)
        earlier = read_json(layout.plan, Plan)
        if earlier is None:
            _refuse_foreign_output(layout)
            write_json(layout.plan, plan.to_json())
        else:
            plan = joined(earlier, plan, finished=False)
            layout.sweep()
        run = _Run(layout, plan, config, progress or (lambda _: None), resumed=earlier is not None)
        if server is not None and credentials is not None:
            run.fetch(server, credentials)
        try:
            with hired(cluster, workers, layout.output, run.plan.sources) as run.workers:
                summary = run.summary()
        except PluginConfigError:
            # An archive is damaged. Put right it is another one, for which work that has just begun is of no use.
            if server is None and earlier is None and not any(layout.segments.glob("*")):
                shutil.rmtree(layout.work, ignore_errors=True)
            raise
        layout.publish()
        write_json(layout.manifest, {"plan": plan.to_json(), "summary": summary.to_dict()})
        shutil.rmtree(layout.work, ignore_errors=True)
        return summary


@dataclass
class _Run:
    """One run over a plan's sources; what earlier runs committed counts as done."""

    layout: Layout
    plan: Plan
    config: PipelineConfig
    progress: ProgressCallback
    resumed: bool
    workers: Workers = field(init=False)
    gone: int = 0
    cut: int = 0
    records: dict[str, SegmentRecord] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def fetch(self, server: ServerRange, credentials: Credentials) -> None:
        """Bring the days of a server; their files are the plan's sources from then on."""
        from pipeline.backfill.server import fetch_days

        sources, self.gone, self.cut = fetch_days(
            self.layout, server, self.config, credentials, lambda *how_far: self._tell("fetch", *how_far)
        )
        self.plan = replace(self.plan, sources=sources)

    def summary(self) -> BackfillSummary:
        """Do what is left of each stage and return the summary of what can be published.

        Raises ``PluginConfigError`` where a source changed meanwhile, ``PluginSchemaError`` where the law of
        conservation does not hold.
        """
        with self._timed("convert"):
            self._convert()
            self._refuse_changed_sources()
        records = self._segments()
        filled = [record for record in records if record.blocks]
        buckets = -(-sum(record.payloads for record in records) // BUCKET_ROWS)
        older = self._make("resolve", [(buckets, filled)] * buckets)
        written = self._make("merge", [(buckets, group) for group in _groups(filled)])
        remarks: dict[str, dict[str, int]] = {}
        for record in records:
            add_counts(remarks, record.remarks)
        months = _named(written, "month:")
        return BackfillSummary(
            read=sum(record.payloads for record in records) + self.cut,
            entries=sum(months.values()),
            rejected=written["rejected"],
            replaced=written["replaced"],
            filtered=sum(record.filtered for record in records) - older["filtered"] + self.cut,
            gone=self.gone,
            months=months,
            reasons=_named(written, "reason:"),
            remarks=remarks,
            seconds=self.seconds,
            resumed=self.resumed,
        )

    def _convert(self) -> None:
        """Convert every segment of every source that is not committed yet.

        How many segments a compressed source has is only known at its end: each worker takes every n-th of them.
        """
        self._tick()
        plan = self.plan
        counts = [segment_count(source.file, plan.segment_bytes) for source in plan.sources]
        strides = max(1, -(-self.workers.count // max(counts.count(None), 1)))
        # What is read to its end takes longest, and begins first.
        order = sorted(zip(plan.sources, counts, strict=True), key=lambda pair: pair[1] is not None)
        jobs = [
            (convert, self.layout.output, source, plan.segment_bytes, first, step, self.config, plan.server)
            for source, count in order
            for step in [count or strides]
            for first in range(step)
        ]
        for _, records in self.workers.run(jobs, self._tick):
            self.records |= {segment_name(record.source, record.number): record for record in records}
        self._tick()

    def _tick(self) -> None:
        """Read the records of segments that were committed since the last look, by whomever; tell of them."""
        for directory in self.layout.segments.glob("[0-9]*"):
            if directory.name not in self.records:
                record = read_json(directory / RECORD, SegmentRecord)
                if record is not None:
                    self.records[directory.name] = record
        stored = sum(record.stored_bytes for record in self.records.values())
        self._tell("convert", stored, sum(source.size for source in self.plan.sources))

    def _refuse_changed_sources(self) -> None:
        faults = changed_sources(self.plan.sources, [look_again(source) for source in self.plan.sources])
        if faults:
            raise PluginConfigError(
                f"the sources changed while they were read: {'; '.join(faults)}; use --restart once they stay as they "
                "are",
                faults,
            )

    def _segments(self) -> list[SegmentRecord]:
        """Return what is known of the segments, in the order of the sources, each with the lines before it."""
        lines = Counter[int]()
        segments = []
        for name in sorted(self.records):
            record = self.records[name]
            segments.append(replace(record, lines_before=lines[record.source]))
            lines[record.source] += record.lines
        return segments

    def _make(self, stage: Stage, calls: Sequence[tuple[Any, ...]]) -> Counter[str]:
        """Have one directory made for each of a stage's calls; return what they count together."""
        jobs = [
            (make, stage, self.layout.work / stage / f"{number:05d}", self.layout.output, number, *arguments)
            for number, arguments in enumerate(calls)
        ]
        total = Counter[str]()
        with self._timed(stage):
            for number, (_, counts) in enumerate(self.workers.run(jobs), start=1):
                total.update(counts)
                self._tell(stage, number, len(jobs))
        return total

    def _tell(self, stage: Stage, done: int, total: int) -> None:
        self.progress(Progress(stage, done, total, sum(record.payloads for record in self.records.values())))

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - start, 3)


def _groups(segments: Sequence[SegmentRecord]) -> list[list[SegmentRecord]]:
    """Join segments that follow one another to groups of about ``GROUP_BYTES``."""
    groups: list[list[SegmentRecord]] = []
    for segment in segments:
        if not groups or sum(other.size for other in groups[-1]) >= GROUP_BYTES:
            groups.append([])
        groups[-1].append(segment)
    return groups


def _named(counts: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): counts[name] for name in sorted(counts) if name.startswith(prefix)}


def _throw_away(layout: Layout) -> None:
    """Remove an earlier backfill, the manifest first; what no backfill wrote is left alone."""
    if layout.manifest.exists() or layout.plan.exists():
        layout.manifest.unlink(missing_ok=True)
        for path in (*layout.outputs, layout.work):
            shutil.rmtree(path, ignore_errors=True)


def _refuse_foreign_output(layout: Layout) -> None:
    """Raise ``PluginStateError`` where the output's places are taken by something that no backfill wrote."""
    taken = [path.name for path in layout.outputs if path.exists()]
    if taken:
        raise PluginStateError(
            f"{layout.output} already holds {', '.join(taken)}, but no manifest of a backfill; name another directory"
        )
