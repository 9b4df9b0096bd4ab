"""A backfill from its arguments to its summary: convert, resolve, merge, publish. This process only schedules.

It loads no polars: what touches bookings runs in workers, so that its own memory stays small however many there are.
Each stage can be done again after a kill: what is committed is found and skipped.
"""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.archives import Archive
from pipeline.backfill.files import (
    TEMPORARY,
    Layout,
    damaged,
    only_one,
    read_json,
    segment_name,
    sweep,
    write_json,
)
from pipeline.backfill.plan import (
    SEGMENT_BYTES,
    Plan,
    ServerRange,
    Source,
    agree_with_earlier,
    changed_sources,
    find_sources,
    keep,
    look_again,
    make_plan,
    refuse_reserved_targets,
)
from pipeline.backfill.records import Piece, SegmentPieces, SegmentRecord, add_counts
from pipeline.backfill.summary import BackfillSummary, Progress, ProgressCallback, Stage
from pipeline.backfill.workers import Done, Inline, Job, LocalProcesses, Workers, available_cores
from pipeline.errors import PluginConfigError, PluginStateError

if TYPE_CHECKING:
    from pipeline.backfill.server import Brought
    from pipeline.config import AnyConfig, PipelineConfig
    from pipeline.config.credentials import Credentials


REMARKED_VALUES = 500
BUCKET_BYTES = 512 << 20
"""About how much NDJSON one bucket of ids stands for: some 700,000 bookings, which fit in memory."""
EXPANSION = {"gzip": 10, "zstd": 12, "": 1}
TABLE_EXPANSION = 12
GATHERED_SEGMENTS = 16
LATE_SECONDS = 90
"""So long a shared file system may take to show a file that another machine has written."""


class Stages:
    """One run over a plan's sources; what earlier runs committed counts as done."""

    def __init__(
        self,
        layout: Layout,
        plan: Plan,
        config: PipelineConfig,
        workers: Workers,
        progress: ProgressCallback | None,
    ) -> None:
        self._layout = layout
        self._plan = plan
        self._config = config
        self._workers = workers
        self._progress = progress or (lambda _: None)
        self._records: dict[str, SegmentRecord] = {}
        self._seconds: dict[str, float] = {}
        self._stored = sum(source.size for source in plan.sources)
        expanded = sum(source.size * _expansion(source.file) for source in plan.sources)
        self._buckets = max(2, -(-expanded // BUCKET_BYTES))

    def run(self, listing: Brought | None, *, resumed: bool) -> BackfillSummary:
        """Do what is left of each stage, publish the output and return the summary.

        Raises ``PluginConfigError`` where a source changed meanwhile, ``PluginSchemaError`` where the law of
        conservation does not hold: then nothing is published.
        """
        for directory in (
            self._layout.segments,
            self._layout.fetched,
            self._layout.found,
            self._layout.losers,
            self._layout.output,
        ):
            sweep(directory)
        with self._timed("convert"):
            self._convert()
            self._refuse_changed_sources()
        with self._timed("resolve"):
            lost, losing = self._resolve()
        with self._timed("merge"):
            months, rejected, replaced = self._merge(losing)
        records = self._records.values()
        remarks: dict[str, dict[str, int]] = {}
        for record in records:
            add_counts(remarks, record.remarks, REMARKED_VALUES)
        cut = listing.cut if listing else 0
        summary = BackfillSummary(
            read=sum(record.payloads for record in records) + cut,
            entries=sum(months.values()),
            rejected=rejected["rows"],
            replaced=replaced["rows"],
            filtered=sum(record.filtered for record in records) - lost["filtered"] + cut,
            gone=listing.gone if listing else 0,
            months=months,
            reasons={
                name.removeprefix("reasons:"): count
                for name, count in sorted(rejected.items())
                if name.startswith("reasons:")
            },
            remarks=remarks,
            seconds=self._seconds,
            resumed=resumed,
        )
        # A worker that was killed, in an earlier run or in this one, may have left half a file where it was writing.
        sweep(self._layout.staged, deep=True)
        self._layout.publish()
        return summary

    def _convert(self) -> None:
        """Convert every segment of every source that is not committed yet."""
        self._collect()
        counts = self._segment_counts()
        streamed = [source for source in self._plan.sources if counts[source.index] is None]
        strides = max(1, -(-self._workers.count // max(len(streamed), 1)))
        left = {source.index: strides for source in streamed}

        def jobs() -> Iterator[Job]:
            for source in streamed:
                for first in range(strides):
                    yield self._conversion(source, first, strides)
            for source in self._plan.sources:
                for number in range(counts[source.index] or 0):
                    if segment_name(source.index, number) not in self._records:
                        yield self._conversion(source, number, 0)

        for job, passed in self._workers.run(jobs(), self._tick):
            index = job[2].index
            if index in left:
                left[index] -= 1
                if not left[index]:
                    counts[index] = passed
                    write_json(self._layout.ends / f"{index:05d}.json", passed)
        self._await(
            {segment_name(index, number) for index, count in counts.items() for number in range(count or 0)}
        )

    def _conversion(self, source: Source, first: int, step: int) -> Job:
        plan = self._plan
        return (
            "convert", self._layout.output, source, plan.segment_bytes, self._buckets, first, step, self._config,
            plan.server,
        )  # fmt: skip

    def _segment_counts(self) -> dict[int, int | None]:
        """Count each source's segments; None for one that only its end tells and that was not read so far yet."""
        counts: dict[int, int | None] = {}
        tables: list[Job] = []
        for source in self._plan.sources:
            if source.file.kind == "parquet":
                tables.append(("count", source.file, self._plan.segment_bytes))
            elif source.file.seekable:
                counts[source.index] = max(1, -(-source.size // self._plan.segment_bytes))
            else:
                end = self._layout.ends / f"{source.index:05d}.json"
                counts[source.index] = read_json(end)
                if type(counts[source.index]) not in (int, type(None)):
                    raise damaged(end)
        indexes = {source.file: source.index for source in self._plan.sources}
        for job, count in self._workers.run(tables, lambda: None):
            counts[indexes[job[1]]] = count
        return counts

    def _collect(self) -> None:
        """Read the records of segments that were committed since the last look, by whomever."""
        for directory in self._layout.segments.iterdir():
            name = directory.name
            if name in self._records or name.startswith(TEMPORARY):
                continue
            value = read_json(directory / "record.json")
            if value is not None:
                try:
                    self._records[name] = SegmentRecord.from_json(value)
                except (AttributeError, KeyError, TypeError, ValueError):
                    raise damaged(directory / "record.json") from None

    def _tick(self) -> None:
        self._collect()
        self._tell("convert", sum(record.stored_bytes for record in self._records.values()), self._stored)

    def _await(self, expected: set[str]) -> None:
        """Wait until all expected segments are seen; a network file system may show them late."""
        deadline = time.monotonic() + LATE_SECONDS
        while True:
            self._tick()
            missing = expected - self._records.keys()
            if not missing:
                return
            if time.monotonic() > deadline:
                raise PluginStateError(
                    f"{len(missing)} finished parts are not to be seen in {self._layout.segments}; does every worker "
                    "write to the same directory? Start again and the backfill goes on where it stopped"
                )
            time.sleep(1)

    def _refuse_changed_sources(self) -> None:
        faults = changed_sources(self._plan.sources, [look_again(source) for source in self._plan.sources])
        if faults:
            raise PluginConfigError(
                f"the sources changed while they were read: {'; '.join(faults)}; use --restart once they stay as they "
                "are",
                faults,
            )

    def _resolve(self) -> tuple[dict[str, int], frozenset[str]]:
        """Find the rows that newer ones in other segments replace; return counts by state, and whose they are."""
        order = sorted(self._records)
        indexed: dict[int, list[tuple[int, str, tuple[Piece, ...]]]] = defaultdict(list)
        for place, name in enumerate(order):
            for bucket, pieces in self._records[name].index.items():
                indexed[bucket].append((place, name, pieces))
        lost = {"accepted": 0, "rejected": 0, "filtered": 0}
        jobs = [
            ("find", self._layout.output, bucket, segments) for bucket, segments in sorted(indexed.items())
        ]
        for _, counts in self._each("resolve", jobs):
            for state, count in counts.items():
                lost[state] += count
        if not sum(lost.values()):
            return lost, frozenset()
        numbered = list(enumerate(order))
        groups = [
            numbered[start : start + GATHERED_SEGMENTS] for start in range(0, len(order), GATHERED_SEGMENTS)
        ]
        losing: set[str] = set()
        for _, names in self._each("resolve", [("gather", self._layout.output, group) for group in groups]):
            losing.update(names)
        return lost, frozenset(losing)

    def _merge(self, losing: frozenset[str]) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
        """Write the output's files; return entries by month, and the counts of rejected and replaced rows."""
        months: dict[str, list[SegmentPieces]] = defaultdict(list)
        rejected: list[SegmentPieces] = []
        replaced: list[SegmentPieces] = []
        names = {source.index: source.name for source in self._plan.sources}
        lines: dict[int, int] = defaultdict(int)
        for name in sorted(self._records):
            record = self._records[name]

            def pieces(found: tuple[Piece, ...], record: SegmentRecord = record) -> SegmentPieces:
                before = lines[record.source]
                return SegmentPieces(record.name, found, names[record.source], before, record.name in losing)

            for month, found in record.months.items():
                months[month].append(pieces(found))
            if record.rejected_pieces:
                rejected.append(pieces(record.rejected_pieces))
            if record.replaced_pieces or name in losing:
                replaced.append(pieces(record.replaced_pieces))
            lines[record.source] += record.lines
        output = self._layout.output
        jobs: list[Job] = [("rejected", output, rejected), ("replaced", output, replaced)]
        jobs += [("month", output, month, segments) for month, segments in sorted(months.items())]
        done = {job[2] if job[0] == "month" else job[0]: counts for job, counts in self._each("merge", jobs)}
        rows = {month: done[month]["rows"] for month in sorted(months) if done[month]["rows"]}
        return rows, done["rejected"], done["replaced"]

    def _each(self, stage: Stage, jobs: list[Job]) -> Iterator[Done]:
        for number, done in enumerate(self._workers.run(jobs, lambda: None), start=1):
            self._tell(stage, number, len(jobs))
            yield done

    def _tell(self, stage: Stage, done: int, total: int) -> None:
        self._progress(
            Progress(stage, done, total, sum(record.payloads for record in self._records.values()))
        )

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._seconds[stage] = round(time.perf_counter() - start, 3)


def _expansion(archive: Archive) -> int:
    """About how many times its size a file is as NDJSON."""
    return TABLE_EXPANSION if archive.kind == "parquet" else EXPANSION[archive.packing]


SMALL_BYTES = 8 << 20
"""Less than this is converted sooner than worker processes have started."""


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

    ``sources``: one or several files, directories and globs of NDJSON (plain, gzip, zstd) or Parquet, or a ``ServerRange``, which
    needs ``credentials``. ``config``: a ``PipelineConfig``, a source's config as a dict, or the path of a configuration file. ``output`` gets ``entries/month=YYYY-MM/*.parquet`` (by ``scheduled_start_date``, which is
    in the output zone), ``rejected/``, ``replaced/`` and ``manifest.json``, readable by the owner only. Ids are unique
    over all of ``entries``. ``workers`` processes (default: one a core) do the work, or the Dask cluster at
    ``cluster``, with the same output. A backfill that was killed goes on when it is started again with the same
    arguments; one that is complete is not done again; ``restart`` throws away what is there. The ledger is not touched.

    Raises ``PluginConfigError`` (sources, arguments), ``PluginStateError`` (the output belongs to another backfill, is
    in use, or a worker was killed), ``PluginFetchError`` (server), ``PluginSchemaError`` (the law did not hold).
    """
    from pipeline.config import PipelineConfig

    config = PipelineConfig.of(config)
    refuse_reserved_targets(config)
    server: ServerRange | None = None
    found: tuple[Source, ...] = ()
    if isinstance(sources, ServerRange):
        server = sources
        _check_server(server, config, credentials)
    else:
        found = find_sources(sources)
    layout = Layout(Path(output).resolve())
    with only_one(layout.output):
        if restart:
            _throw_away(layout)
        asked = make_plan(config, found, server, segment_bytes)
        if agree_with_earlier(layout.manifest, asked, finished=True):
            shutil.rmtree(layout.work, ignore_errors=True)
            return replace(_earlier_summary(layout), was_complete=True)
        earlier = agree_with_earlier(layout.plan, asked, finished=False)
        plan = earlier or asked
        if earlier is None:
            _refuse_foreign_output(layout)
        with ExitStack() as held:
            # Archives are known already: the processes start while the plan is made durable.
            who = None if server else held.enter_context(closing(_workers(plan.sources, cluster, workers)))
            if earlier is None:
                layout.make()
                keep(layout.plan, plan)
            listing = None
            sources_now = plan.sources
            if server is not None and credentials is not None:
                listing = _bring(layout, server, config, credentials, progress)
                sources_now = listing.sources
            if who is None:
                who = held.enter_context(closing(_workers(sources_now, cluster, workers)))
            who.check(layout.output, [source.path for source in sources_now])
            stages = Stages(layout, replace(plan, sources=sources_now), config, who, progress)
            try:
                summary = stages.run(listing, resumed=earlier is not None)
            except PluginConfigError:
                # An archive is damaged. Put right it is another one, for which work that has just begun is of no use.
                if server is None and earlier is None and not any(layout.segments.iterdir()):
                    shutil.rmtree(layout.work, ignore_errors=True)
                raise
        write_json(layout.manifest, {"plan": plan.to_json(), "summary": summary.to_dict()})
        shutil.rmtree(layout.work, ignore_errors=True)
        return summary


def _earlier_summary(layout: Layout) -> BackfillSummary:
    try:
        return BackfillSummary.from_dict(read_json(layout.manifest)["summary"])
    except (KeyError, TypeError):
        raise PluginStateError(
            f"{layout.manifest}: was written by another version or is damaged; use --restart to begin anew"
        ) from None


def _check_server(server: ServerRange, config: PipelineConfig, credentials: Credentials | None) -> None:
    server.check()
    if credentials is None:
        raise PluginConfigError("a range of days is fetched from a server and needs credentials")
    if not config.base_url or not config.resources:
        raise PluginConfigError(
            "a range of days is fetched from a server: base_url and resources must be configured"
        )


def _bring(
    layout: Layout,
    server: ServerRange,
    config: PipelineConfig,
    credentials: Credentials,
    progress: ProgressCallback | None,
) -> Brought:
    from pipeline.backfill.server import bring

    def tick(done: int, total: int) -> None:
        if progress:
            progress(Progress("fetch", done, total, 0))

    return bring(layout, server, config, credentials, tick)


def _workers(sources: Sequence[Source], cluster: str | None, workers: int | None) -> Workers:
    if cluster is not None:
        from pipeline.backfill.cluster import Cluster

        return Cluster(cluster)
    count = workers if workers is not None else available_cores()
    if count < 1:
        raise PluginConfigError(f"--workers: write 1 or more, not {count}")
    little = sum(source.size for source in sources) <= SMALL_BYTES
    return Inline() if count == 1 or (workers is None and little) else LocalProcesses(count)


def _throw_away(layout: Layout) -> None:
    """Remove an earlier backfill, the manifest first; what no backfill wrote is left alone."""
    if layout.manifest.exists() or layout.plan.exists():
        layout.manifest.unlink(missing_ok=True)
        for path in (*layout.outputs(), layout.work):
            shutil.rmtree(path, ignore_errors=True)


def _refuse_foreign_output(layout: Layout) -> None:
    """Raise ``PluginStateError`` where the output's places are taken by something that no backfill wrote."""
    taken = [path.name for path in layout.outputs() if path.exists()]
    if taken:
        raise PluginStateError(
            f"{layout.output} already holds {', '.join(taken)}, but no manifest of a backfill; name another directory"
        )
