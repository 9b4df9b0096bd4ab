"""Who does the work: this process where it is little, processes of this machine, or a Dask cluster.

Paths and counts travel to the workers, bookings never do. Every worker of a cluster must see the archives and the output
directory under the same paths (a shared file system, as research clusters have) and have this package installed. A job
whose worker on a cluster dies is given to another one; jobs commit their files by one rename, so that work done twice is
kept once.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.backfill.layout import RECORD, put_json, read_json, whole_directory
from pipeline.backfill.plan import Source
from pipeline.backfill.records import SegmentRecord
from pipeline.errors import PluginConfigError, PluginStateError
from pipeline.processes import available_cores, fresh_processes
from pipeline.version import __version__
from pipeline.wording import install

POLL_SECONDS = 0.5
CONNECT_SECONDS = 20
SMALL_BYTES = 8 << 20
"""Less than this is converted sooner than worker processes have started."""

Job = tuple[Any, ...]
"""A function of this module and its arguments."""
Done = tuple[Job, Any]
"""A job, and what its function returned."""


def convert(*arguments: Any) -> list[SegmentRecord]:
    """Call ``convert_source`` here; whoever asks for it need not load what it needs."""
    from pipeline.backfill.convert import convert_source

    return convert_source(*arguments)


def make(stage: str, directory: Path, *arguments: Any) -> dict[str, int]:
    """Let the stage's function in ``merge`` fill a directory, unless that is done; return its counts, which lie there too."""
    counts = read_json(directory / RECORD, dict[str, int])
    if counts is None:
        with whole_directory(directory) as made:
            counts = getattr(import_module("pipeline.backfill.merge"), stage)(made, *arguments)
            put_json(made / RECORD, counts)
    return counts


@dataclass(frozen=True)
class Workers:
    """An executor that works on ``count`` jobs at once.

    ``ahead``: so many jobs are handed out at most, so that memory stays bounded. ``losses`` are the errors that say that
    workers are gone, ``lost`` is what to do then.
    """

    executor: Executor
    count: int
    ahead: int
    losses: tuple[type[Exception], ...] = ()
    lost: str = ""

    def run(self, jobs: Iterable[Job], tick: Callable[[], None] = lambda: None) -> Iterator[Done]:
        """Yield each job with its result, in any order; call ``tick`` now and then meanwhile.

        Raises:
            PluginStateError: workers are gone. Otherwise whatever a job raises.
        """
        waiting = iter(jobs)
        running: dict[Future[Any], Job] = {}
        try:
            while True:
                for job in islice(waiting, max(self.ahead - len(running), 0)):
                    running[self.executor.submit(*job)] = job
                if not running:
                    return
                for future in wait(running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
                tick()
        except self.losses as error:
            raise PluginStateError(self.lost) from error
        finally:
            for future in running:
                future.cancel()


@contextmanager
def hired(
    cluster: str | None, workers: int | None, output: Path, sources: Sequence[Source]
) -> Iterator[Workers]:
    """Yield the workers for these sources; processes and connections end with the block.

    Processes start at once, and end when this process does, however it ends.

    Raises:
        PluginConfigError: the number of workers or the cluster's address is wrong, no scheduler answers, or a worker
            cannot read the sources or write the output.
        PluginStateError: the cluster has no workers.
    """
    if cluster is not None:
        with _cluster(cluster, output, [source.path for source in sources]) as found:
            yield found
        return
    count = workers if workers is not None else available_cores()
    if count < 1:
        raise PluginConfigError(f"--workers: write 1 or more, not {count}")
    if count == 1 or (workers is None and sum(source.size for source in sources) <= SMALL_BYTES):
        yield Workers(_Here(), count=1, ahead=1)
        return

    pool = fresh_processes(count, _begin_worker)
    try:
        yield Workers(
            pool,
            count,
            ahead=2 * count,
            losses=(BrokenProcessPool,),
            lost="a worker process of the backfill was killed, perhaps for want of memory; "
            "start the same command again (with fewer --workers) and it continues where it stopped",
        )
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _Here(Executor):
    """Does each job here and now: for inputs so small that starting processes would take longer."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        """Call the function, and let pass what it raises."""
        future: Future[Any] = Future()
        future.set_result(function(*arguments, **options))
        return future


def _begin_worker() -> None:
    # One process per core is the parallelism; polars' own threads on top would only contend, and each costs memory.
    os.environ["POLARS_MAX_THREADS"] = "1"
    _end_with_parent()
    import gc

    import polars  # noqa: F401

    import pipeline.batch  # noqa: F401  - before the freeze, so that the collector never walks the libraries again

    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


def _end_with_parent() -> None:
    """End this process as soon as its parent is gone: a killed backfill must not leave workers that wait for ever."""
    import multiprocessing
    import threading
    from multiprocessing.connection import wait as wait_for

    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait_for([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


@contextmanager
def _cluster(address: str, output: Path, paths: Sequence[str]) -> Iterator[Workers]:
    """Yield the workers of a running Dask cluster at ``address`` (``tcp://host:port`` or ``tls://host:port``).

    Encryption and certificates are taken from Dask's own configuration. The cluster stays when the block ends.
    """
    if "://" not in address:
        raise PluginConfigError(f"--cluster: {address!r} is no address; write it as tcp://host:8786")
    try:
        distributed: Any = import_module("distributed")  # only partly typed
    except ImportError as error:
        raise PluginConfigError(
            f"--cluster needs the extra 'distributed'; write {install('distributed')}"
        ) from error
    try:
        client = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise PluginConfigError(
            f"--cluster: no Dask scheduler answers at {address} ({type(error).__name__}); is it running there?"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except TimeoutError as error:
            raise PluginStateError(f"--cluster: no worker has joined the scheduler at {address}") from error
        _refuse_blind_workers(client, output, paths)
        count = sum(client.nthreads().values())
        yield Workers(
            client.get_executor(pure=False, retries=1),
            count,
            ahead=4 * count,
            losses=(CancelledError, distributed.scheduler.KilledWorker),
            lost="the cluster lost its scheduler, or one part of the backfill ended several workers, perhaps for want "
            "of memory; start the same command again and it continues where it stopped",
        )


def _refuse_blind_workers(client: Any, output: Path, paths: Sequence[str]) -> None:
    """Ask every worker whether it sees the archives and the output, and has this version of the package."""
    token = output / f".{secrets.token_hex(4)}.tmp"
    token.touch(mode=0o600)
    try:
        answers: dict[str, str] = client.run(_what_is_missing, str(token), tuple(paths), __version__)
    finally:
        token.unlink(missing_ok=True)
    faults = [f"worker {name}: {missing}" for name, missing in sorted(answers.items()) if missing]
    if faults:
        raise PluginConfigError("--cluster: " + "; ".join(faults), faults)


def _what_is_missing(token: str, paths: tuple[str, ...], version: str) -> str:
    """Run on a worker: say what it lacks, or nothing."""
    from pipeline.version import __version__

    if version != __version__:
        return f"has calpendo-pipeline {__version__}, this is {version}"
    unseen = [path for path in (token, *paths) if not Path(path).exists()]
    if unseen:
        return f"does not see {Path(unseen[0]).parent}; archives and output must lie on a shared file system"
    return ""
