"""An embedded Calpendo on 127.0.0.1, for the demo, the tests, and trying Pylantir without a server."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from pipeline.simulator.answers import answer_question, read_question
from pipeline.simulator.faults import Answer, Faults
from pipeline.simulator.sockets import RecordedRequest, SimulatorServer
from pipeline.simulator.store import BookingStore, Generation, PathsShape


class CalpendoSimulator:
    """Serves bookings over real HTTP and evaluates the vendor's query grammar; a context manager.

    ``bookings`` are payloads of either generation, odd ones included; None serves the invented sample moved to
    the site's today. ``generation`` renders all of them as A or B. Latencies are seconds and may be changed while
    it runs; a query for a single id costs ``detail_latency``, as the figures of the API contract have it.
    ``ignore_case`` lets EQ and its kin compare text as a server with such a collation does; ``seed`` makes
    faults of a given probability repeatable.
    """

    def __init__(
        self,
        bookings: Iterable[dict[str, Any]] | None = None,
        *,
        username: str = "demo",
        password: str = "demo",  # noqa: S107 - the demonstration's own password
        timezone: str = "America/Edmonton",
        generation: Generation | None = None,
        query_latency: float = 0.0,
        detail_latency: float = 0.0,
        port: int = 0,
        paths_shape: PathsShape = "flat",
        ignore_case: bool = False,
        seed: int = 0,
    ) -> None:
        self.username = username
        self.password = password
        self.query_latency = query_latency
        self.detail_latency = detail_latency
        self.paths_shape: PathsShape = paths_shape
        self.ignore_case = ignore_case
        self.faults = Faults(seed)
        self._store = BookingStore(timezone, generation)
        if bookings is None:
            from pipeline.simulator.sample import sample_bookings

            bookings = sample_bookings(datetime.now(self._store.zone).date())
        for payload in bookings:
            self._store.put(payload)
        self._server = SimulatorServer(port, self._respond, self.faults)

    def __enter__(self) -> Self:
        """Give the simulator, which already serves."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop serving."""
        self.close()

    def __repr__(self) -> str:
        """Name the address and the number of bookings, never their content."""
        return f"CalpendoSimulator(url={self.url!r}, bookings={len(self._store)})"

    def close(self) -> None:
        """Stop serving and end every connection; may be called twice."""
        if not self._server.closing.is_set():
            self._server.close()

    @property
    def url(self) -> str:
        """The server's root, without a trailing slash: both ``/webdav`` and ``/api`` hang below it."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def requests(self) -> list[RecordedRequest]:
        """Every request since the last reset, in the order of the answers."""
        with self._server.lock:
            return list(self._server.requests)

    @property
    def connections(self) -> int:
        """How many TCP connections were opened since the last reset."""
        return self._server.connections

    @property
    def peak_in_flight(self) -> int:
        """The largest number of requests that were being answered at one time."""
        return self._server.peak_in_flight

    @property
    def errors(self) -> list[BaseException]:
        """Faults of the simulator itself; empty unless it has a bug."""
        return list(self._server.errors)

    def reset_counters(self) -> None:
        """Forget the recorded requests and the counts."""
        self._server.reset_counters()

    def put(self, payload: dict[str, Any]) -> None:
        """Store a booking, in place of the one with its id; one without a usable id is stored beside the others."""
        self._store.put(payload)

    def edit(self, booking_id: int, **changes: Any) -> None:
        """Change fields of a booking and, unless it is among them, its modification time.

        ``title``, ``status`` and ``formattedName`` go where the booking's generation holds them; ``start`` and
        ``finish`` (naive wall-clock datetimes) rewrite its range; ``resource`` and ``project`` may be a name;
        everything else is a property. Raises KeyError on an unknown id.
        """
        self._store.edit(booking_id, changes)

    def delete(self, booking_id: int) -> None:
        """Take a booking away; its details answer 404 from now on. Raises KeyError on an unknown id."""
        self._store.delete(booking_id)

    def get(self, booking_id: int) -> dict[str, Any]:
        """Give a copy of a booking as stored. Raises KeyError on an unknown id."""
        return self._store.get(booking_id)

    def ids(self) -> list[int]:
        """Give the ids of all bookings that have one, in the order in which they are served."""
        return self._store.ids()

    def _respond(self, path: str, authorization: str | None) -> Answer | None:
        pair = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        if authorization is None or authorization.split() != ["Basic", pair]:
            body = json.dumps({"error": "log in with a local Calpendo user"}).encode()
            return Answer(401, body, headers=(("WWW-Authenticate", 'Basic realm="Calpendo"'),))
        question = read_question(path)
        if question is None:
            return Answer(404, b'{"error": "no such address"}')
        latency = self.query_latency if question.is_list else self.detail_latency
        if latency > 0 and self._server.closing.wait(latency):
            return None
        return answer_question(question, self._store, self.paths_shape, ignore_case=self.ignore_case)
