"""This package's own processes, the command and its workers: what they load, and how workers are started.

Workers are fresh ones (``spawn``), because polars does not survive a fork.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

_hiding = threading.Lock()


def available_cores() -> int:
    """Return how many cores this process may use."""
    with suppress(AttributeError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load_pandera_alone() -> None:
    """Keep pandera in this process from loading pandas beside its polars half; everybody else gets pandas as ever.

    Where pandas is installed (Pylantir requires it), pandera imports it, and hypothesis where that is installed too, though
    frames of polars need neither: 50 MB of a service that takes 160 and half of the processor time of its start. Only for
    processes that are this package's own: in a program that checks frames of pandas, pandera needs it.
    """
    if not any(isinstance(finder, _NotForPandera) for finder in sys.meta_path):
        sys.meta_path.insert(0, _NotForPandera())


class _NotForPandera(MetaPathFinder):
    """Finds nothing, and says so when pandera asks for a library that only its other halves need."""

    names = frozenset({"hypothesis", "numpy", "pandas"})

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        """Refuse the libraries to pandera; leave everything else to the finders behind."""
        del path, target
        if fullname in self.names and _importer().partition(".")[0] == "pandera":
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def _importer() -> str:
    """Return the name of the module whose import is being looked up."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("importlib"):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", ""))


def fresh_processes(count: int, initializer: Callable[[], None] | None = None) -> ProcessPoolExecutor:
    """Return a pool of ``count`` processes that are starting already.

    They know nothing of the script that asks for them: it needs no ``if __name__ == "__main__":``, and what it imports is
    not imported again in each of them. So what is handed to them must not be defined in the script either.
    """
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    pool = ProcessPoolExecutor(
        count, mp_context=multiprocessing.get_context("spawn"), initializer=partial(_begin, initializer)
    )
    with _script_hidden():
        for _ in range(count):  # A process is only started for a job.
            pool.submit(int)
    return pool


def _begin(initializer: Callable[[], None] | None) -> None:
    load_pandera_alone()
    if initializer is not None:
        initializer()


@contextmanager
def _script_hidden() -> Iterator[None]:
    """Let ``multiprocessing`` find no script that a process starting now would have to run first.

    It looks for the script in ``sys.modules`` and nowhere else. Without this a script that calls the backfill, and has no
    ``if __name__ == "__main__":``, ends with a RuntimeError of ``multiprocessing``; docs/backfill.md promises that it runs.
    """
    # Else one of two threads would take the other's empty module for the script, and leave it there.
    with _hiding:
        script = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = script
