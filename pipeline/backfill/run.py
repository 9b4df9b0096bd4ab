"""A backfill from its arguments to its summary: what is asked for, whether it can go on, who works on it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.backfill.files import only_one, read_json, write_json
from pipeline.backfill.layout import Layout
from pipeline.backfill.local import Inline, LocalProcesses, Workers, available_cores
from pipeline.backfill.plan import (
    SEGMENT_BYTES,
    ServerRange,
    agree_with_earlier,
    keep,
    make_plan,
    refuse_reserved_targets,
)
from pipeline.backfill.progress import Progress, ProgressCallback
from pipeline.backfill.sources import Source, find_sources
from pipeline.backfill.stages import Stages
from pipeline.backfill.summary import BackfillSummary
from pipeline.errors import PluginConfigError, PluginStateError

if TYPE_CHECKING:
    from pipeline.backfill.server import Brought
    from pipeline.config import AnyConfig, PipelineConfig
    from pipeline.credentials import Credentials

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
