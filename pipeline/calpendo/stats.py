"""How much was asked of the server."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class FetchStats:
    """Counts of HTTP requests (retries and redirects among them), of retries, seconds, and bytes received."""

    requests: int = 0
    retries: int = 0
    seconds: float = 0.0
    received: int = 0

    def since(self, earlier: FetchStats, seconds: float) -> FetchStats:
        """Return what was added since ``earlier``, in ``seconds`` of the wall clock."""
        return FetchStats(
            self.requests - earlier.requests,
            self.retries - earlier.retries,
            seconds,
            self.received - earlier.received,
        )


class Counter:
    """Adds up from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stats = FetchStats()

    def add(self, *, requests: int = 0, retries: int = 0, seconds: float = 0.0, received: int = 0) -> None:
        """Add to the counts."""
        with self._lock:
            now = self._stats
            self._stats = replace(
                now,
                requests=now.requests + requests,
                retries=now.retries + retries,
                seconds=now.seconds + seconds,
                received=now.received + received,
            )

    def read(self) -> FetchStats:
        """Return the counts so far."""
        with self._lock:
            return self._stats
