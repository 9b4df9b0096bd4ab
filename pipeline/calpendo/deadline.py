"""Time limits that hold whatever the server does: also for one byte every two seconds, also over retries.

A socket's own timeout starts again with every byte. So each request has a timer that shuts the socket down, which
ends a blocked read in headers, in a chunk's length or in a body alike; and every pause asks the batch's clock first.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Protocol, TypeVar

from pipeline.calpendo.faults import DeadlineFault

T = TypeVar("T")

GRACE = 2.0
"""Seconds beyond the batch's deadline after which a worker that does not answer is left alone."""


class _Shuttable(Protocol):
    def shutdown(self, how: int, /) -> None: ...


class SocketGuard:
    """Holds the sockets of one session's connection, so that another thread can end a blocked read."""

    def __init__(self) -> None:
        self._sockets: list[_Shuttable] = []

    def renew(self) -> None:
        """Forget the sockets of the connection before: a new one is about to be opened."""
        self._sockets = []

    def hold(self, opened: _Shuttable) -> None:
        """Remember an opened socket (the plain one, then the one with TLS around it)."""
        self._sockets.append(opened)

    def cut(self) -> None:
        """Shut the connection down; whoever reads from it sees its end at once."""
        for opened in self._sockets:
            # A socket that is closed already, or not connected yet, has nothing to end.
            with suppress(OSError, ValueError):
                opened.shutdown(socket.SHUT_RDWR)


class Deadline:
    """The time that a batch of requests may take in all; it can be cut short from any thread."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._guards: set[SocketGuard] = set()

    def __str__(self) -> str:
        """Name the option and its value."""
        return f"batch_deadline, {self.seconds:g} s"

    @property
    def stopped(self) -> bool:
        """Whether the batch was stopped before its time."""
        return self._stopped.is_set()

    @property
    def over(self) -> bool:
        """Whether nothing may be asked any more."""
        return self.stopped or self.remaining() <= 0

    def remaining(self) -> float:
        """Return the seconds left, 0 when none are."""
        return 0.0 if self.stopped else max(0.0, self._end - time.monotonic())

    def pause(self, seconds: float) -> bool:
        """Wait; return at once and False where the time left is shorter, or the batch is stopped meanwhile."""
        return seconds < self.remaining() and not self._stopped.wait(seconds)

    def stop(self) -> None:
        """End the batch: requests under way are cut, pauses end, none is sent any more."""
        self._stopped.set()
        with self._lock:
            guards = tuple(self._guards)
        for guard in guards:
            guard.cut()

    def result(self, future: Future[T]) -> T:
        """Wait for a worker's result, no longer than the batch lasts.

        A worker keeps the deadline by itself, unless a name service holds it. Raises DeadlineFault.
        """
        try:
            return future.result(timeout=self.remaining() + GRACE)
        except TimeoutError:
            raise DeadlineFault(f"no answer within the time for the whole batch ({self})") from None

    @contextmanager
    def watch(self, guard: SocketGuard, seconds: float) -> Iterator[None]:
        """Cut the guarded connection when this request takes longer than ``seconds``, or the batch ends."""
        timer = threading.Timer(min(seconds, self.remaining()), guard.cut)
        timer.daemon = True
        with self._lock:
            self._guards.add(guard)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            with self._lock:
                self._guards.discard(guard)
