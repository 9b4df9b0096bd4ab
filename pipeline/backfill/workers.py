"""Who does the work: processes of this machine, or this one where it is little; and the jobs they can be asked for."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from pipeline.errors import PluginStateError

STEPS = {
    "count": ("pipeline.archives", "segment_count"),
    "convert": ("pipeline.backfill.convert", "convert_source"),
    "find": ("pipeline.backfill.duplicates", "find_replaced"),
    "gather": ("pipeline.backfill.duplicates", "losers_by_segment"),
    "month": ("pipeline.backfill.merge", "merge_month"),
    "rejected": ("pipeline.backfill.merge", "merge_rejected"),
    "replaced": ("pipeline.backfill.merge", "merge_replaced"),
}


def perform(step: str, *arguments: Any) -> Any:
    """Do one job here; return what the step's function returns."""
    module, name = STEPS[step]
    return getattr(import_module(module), name)(*arguments)


POLL_SECONDS = 0.5

Job = tuple[Any, ...]
"""A step's name and its arguments."""
Done = tuple[Job, Any]
"""A job, and what its step returned."""


class Workers(Protocol):
    """Who does the jobs. ``count`` is how many jobs can be under way at once."""

    count: int

    def run(self, jobs: Iterable[Job], tick: Callable[[], None]) -> Iterator[Done]:
        """Yield each job with what ``perform(*job)`` returned, in any order; call ``tick`` now and then meanwhile."""

    def check(self, output: Path, paths: Iterable[str]) -> None:
        """Raise ``PluginConfigError`` where a worker cannot read the sources or write the output."""

    def close(self) -> None:
        """Let go of processes and connections; jobs that have not begun are dropped."""


class Inline:
    """Does each job here and now: for inputs so small that starting processes would take longer."""

    count = 1

    def run(self, jobs: Iterable[Job], tick: Callable[[], None]) -> Iterator[Done]:
        """See ``Workers.run``."""
        for job in jobs:
            yield job, perform(*job)
            tick()

    def check(self, output: Path, paths: Iterable[str]) -> None:
        """Do nothing: it is this process that found them."""

    def close(self) -> None:
        """Do nothing: nothing is held."""


class LocalProcesses:
    """``count`` fresh processes, each with one polars thread.

    They start at once, and end when this process does, however it ends.
    """

    def __init__(self, count: int) -> None:
        from pipeline.processes import fresh_processes

        self.count = count
        self._pool = fresh_processes(count, _begin_worker)

    def run(self, jobs: Iterable[Job], tick: Callable[[], None]) -> Iterator[Done]:
        """See ``Workers.run``. No more jobs are handed out than are soon begun, so that memory stays bounded.

        Raises ``PluginStateError`` where a worker process died: killed from outside, or out of memory.
        """
        waiting = iter(jobs)
        running: dict[Future[Any], Job] = {}
        try:
            while True:
                room = 2 * self.count - len(running)
                running.update((self._pool.submit(perform, *job), job) for job in islice(waiting, room))
                if not running:
                    return
                for future in wait(running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
                tick()
        except BrokenProcessPool as error:
            raise PluginStateError(
                "a worker process of the backfill was killed, perhaps for want of memory; "
                "start the same command again (with fewer --workers) and it goes on where it stopped"
            ) from error
        finally:
            for future in running:
                future.cancel()

    def check(self, output: Path, paths: Iterable[str]) -> None:
        """Do nothing: the processes are on this machine and this user's."""

    def close(self) -> None:
        """Wait for what is under way, drop the rest."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def available_cores() -> int:
    """Return how many cores this process may use."""
    with contextlib.suppress(AttributeError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _begin_worker() -> None:
    # One process a core is the parallelism; polars' own threads on top would only contend, and each costs memory.
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
