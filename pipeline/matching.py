"""A user's pattern with a bound on its time: what ``re.match`` says, or that it took too long to say (T011).

``re`` backtracks, holds the interpreter's lock meanwhile and cannot be stopped from another thread: one title of 48
characters can freeze a process for years. Where a value of its length can cost only few steps (``pattern_cost.py``), ``re``
runs here; all else is sent, in bulk, to a process where a timer can stop it (``matching_worker.py``). Which way a value
takes never changes what is found.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import compress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pipeline.errors import PluginError
from pipeline.matching_worker import Work, receive, send
from pipeline.transform.extraction import TIMED_OUT, Found, match_unbounded
from pipeline.transform.pattern_cost import most_steps

BATCH_SECONDS: Final = 5.0
"""What all values of a batch may take together, a pattern."""
ROUNDS: Final = (0.01, 0.09, 0.9)
"""What a value may take in each round, a second in all: the slow ones wait until the quick ones have had their turn."""
VALUE_STEPS: Final = 1_000_000
"""Steps that a value may cost at most to be matched in this process: a few hundredths of a second."""
BATCH_STEPS: Final = 100_000_000
"""The same for all values of a batch together."""

_WORKER = Path(__file__).with_name("matching_worker.py")
_SHORTEST = 0.0001
"""Seconds between two looks of ``re`` for a signal."""
_GRACE = 5.0
"""Seconds beyond all limits after which a worker that does not answer is killed."""


class BoundedMatcher:
    """Matches many values with one pattern, within a second a value and five seconds in all.

    As a context manager it keeps the process it may have started for the next call; otherwise each call ends its own.
    Threads may share it, and wait for each other. ``timer`` False: without signals, as on Windows, where a value that
    takes too long costs a new process. ``rounds`` and ``budget``: other seconds for a value and for all of them.
    """

    def __init__(
        self,
        *,
        rounds: Sequence[float] | None = None,
        budget: float | None = None,
        timer: bool = hasattr(signal, "setitimer"),
    ) -> None:
        self._rounds = ROUNDS if rounds is None else rounds
        self._budget = BATCH_SECONDS if budget is None else budget
        self._how = "timer" if timer else "end"
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_kept = False

    def __enter__(self) -> Self:
        """Return the matcher, which keeps its process from now on."""
        self._is_kept = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self._is_kept = False
        self.close()

    def close(self) -> None:
        """End the process, if there is one; the matcher may be used again."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    def __call__(self, pattern: str, group: int | tuple[int, ...], values: Sequence[str]) -> list[Found]:
        """Return what was found in each value: see ``transform.extraction.Found``.

        Raises PluginError where a process is needed and none can be started.
        """
        allowed = min(VALUE_STEPS, BATCH_STEPS // max(1, len(values)))
        longest, is_ascii = max(map(len, values), default=0), all(map(str.isascii, values))
        if most_steps(pattern, longest, is_ascii=is_ascii) <= allowed:
            return match_unbounded(pattern, group, values)
        is_cheap = [most_steps(pattern, len(value), is_ascii=value.isascii()) <= allowed for value in values]
        found = iter(match_unbounded(pattern, group, list(compress(values, is_cheap))))
        answers = [next(found) if cheap else TIMED_OUT for cheap in is_cheap]
        elsewhere = [place for place, cheap in enumerate(is_cheap) if not cheap]
        if elsewhere:
            self._bounded(pattern, group, values, elsewhere, answers)
        return answers

    def _bounded(
        self,
        pattern: str,
        group: int | tuple[int, ...],
        values: Sequence[str],
        places: list[int],
        answers: list[Found],
    ) -> None:
        """Fill in the answers of some places, as far as the time goes."""
        spent = 0.0
        rounds = [*self._rounds]
        # However many are slow, each of the others has its turn before the time is up, also on a machine with little
        # of its time to spare. Not without signals, where a value that is over costs a new process.
        share = max(_SHORTEST, self._budget / 20 / len(places))
        if self._how == "timer" and rounds and share < rounds[0]:
            rounds.insert(0, share)
        with self._lock:
            try:
                for seconds in rounds:
                    rest = [values[place] for place in places]
                    found, took = self._round(pattern, group, rest, seconds, self._budget - spent)
                    for place, answer in zip(places, found, strict=True):
                        answers[place] = answer
                    spent += took
                    places = [place for place in places if answers[place] is TIMED_OUT]
                    if not places or spent >= self._budget:
                        return
            except BaseException:
                self.close()  # It may be in the middle of an answer.
                raise
            finally:
                if not self._is_kept:
                    self.close()

    def _round(
        self, pattern: str, group: int | tuple[int, ...], values: list[str], seconds: float, budget: float
    ) -> tuple[list[Found], float]:
        """Return an answer for each value, and the seconds it took."""
        answers: list[Found] = []
        spent = 0.0
        while len(answers) < len(values) and spent < budget:
            begun = time.monotonic()
            process = self._started()
            work = (pattern, group, values[len(answers) :], seconds, budget - spent)
            if not _ask(process, work, answers, len(values)):
                self.close()
                answers.append(TIMED_OUT)  # What it worked on when it ended.
            spent += time.monotonic() - begun
        return answers + [TIMED_OUT] * (len(values) - len(answers)), spent

    def _started(self) -> subprocess.Popen[bytes]:
        """Return the process; raises PluginError where there can be none."""
        if self._process is not None:
            return self._process
        try:
            self._process = subprocess.Popen(  # noqa: S603  Python itself, with a script of this package
                [sys.executable, "-I", "-S", str(_WORKER), self._how],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
            assert self._process.stdout is not None  # noqa: S101  it is a pipe, for the type checker
            receive(self._process.stdout)
        except (OSError, ValueError, EOFError) as error:
            self.close()
            reason = type(error).__name__
        else:
            return self._process
        raise PluginError(
            f"a pattern that may run for ever needs a process of its own, and none can be started ({reason}); raise the "
            "limit of processes or of memory, or write the pattern so that it needs none (calpendo-pipeline verify "
            "names it)"
        )


def _ask(process: subprocess.Popen[bytes], work: Work, answers: list[Found], wanted: int) -> bool:
    """Send work and add the answers to it; say whether they all came before the process ended."""
    assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018  both are pipes
    guard = threading.Timer(work[-1] + _GRACE, process.kill)
    guard.daemon = True
    guard.start()
    try:
        send(process.stdin, work)
        while len(answers) < wanted:
            answers += receive(process.stdout)
    except (OSError, EOFError):
        return False
    finally:
        guard.cancel()
    return True
