"""Worker processes: fresh ones (``spawn``), because polars does not survive a fork."""

from __future__ import annotations

import multiprocessing
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from types import ModuleType

_hiding = threading.Lock()


def fresh_processes(count: int, initializer: Callable[[], None] | None = None) -> ProcessPoolExecutor:
    """Return a pool of ``count`` processes that are starting already.

    They know nothing of the script that asks for them: it needs no ``if __name__ == "__main__":``, and what it imports is
    not imported again in each of them. So what is handed to them must not be defined in the script either.
    """
    pool = ProcessPoolExecutor(
        count, mp_context=multiprocessing.get_context("spawn"), initializer=initializer
    )
    with _script_hidden():
        for _ in range(count):  # A process is only started for a job.
            pool.submit(int)
    return pool


@contextmanager
def _script_hidden() -> Iterator[None]:
    """Let ``multiprocessing`` find no script that a process starting now would have to run first."""
    # Else one of two threads would take the other's empty module for the script, and leave it there.
    with _hiding:
        script = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = script
