"""The wire of the simulated server: real sockets on 127.0.0.1, HTTP/1.1 with keep-alive, and a quick close."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import struct
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from pipeline.simulator.faults import Answer, Faults, play


class RecordedRequest(NamedTuple):
    """One request as it came in, and the status it was answered with (0: none was sent)."""

    method: str
    path: str
    status: int


class SimulatorServer(ThreadingHTTPServer):
    """Accepts connections, counts them, and can end them all at once.

    ``respond(path, authorization)`` gives the healthy answer, or None where the simulator is closing.
    """

    request_queue_size = 128

    def __init__(
        self, port: int, respond: Callable[[str, str | None], Answer | None], faults: Faults
    ) -> None:
        self.respond = respond
        self.faults = faults
        self.closing = threading.Event()
        self.errors: list[BaseException] = []
        self.requests: list[RecordedRequest] = []
        self.connections = 0
        self._in_flight = 0
        self.peak_in_flight = 0
        self.lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._serving: set[threading.Thread] = set()
        self._reset: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)
        # Daemons: a simulator that somebody forgot to close must not keep the program from ending.
        self._loop = threading.Thread(
            target=self.serve_forever, args=(0.05,), name="calpendo-simulator", daemon=True
        )
        self._loop.start()

    def server_bind(self) -> None:
        """Bind without asking the name service for this machine's name, which can take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection in a thread of its own that ``close`` can wait for."""
        thread = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name="calpendo-simulator-connection",
            daemon=True,
        )
        with self.lock:
            self.connections += 1
            self._open.add(request)
            self._serving = {running for running in self._serving if running.is_alive()} | {thread}
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        """Close one connection; one marked for a reset must not send its FIN first."""
        with self.lock:
            self._open.discard(request)
            reset = request in self._reset
            self._reset.discard(request)
        if reset:
            request.close()
        else:
            super().shutdown_request(request)

    def mark_reset(self, request: socket.socket) -> None:
        """Let the close of this connection send RST and drop what is unsent."""
        request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with self.lock:
            self._reset.add(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the base class's signature
        """Keep a fault of the simulator itself for the tests; a client that went away is none."""
        error = sys.exception()
        if error is not None and not isinstance(error, (ConnectionError, TimeoutError)):
            self.errors.append(error)

    def begin(self) -> None:
        """Count one request as in flight."""
        with self.lock:
            self._in_flight += 1
            self.peak_in_flight = max(self.peak_in_flight, self._in_flight)

    def record(self, request: RecordedRequest) -> None:
        """Write down one request; just before its answer goes out, so that a client's next one is not beside it."""
        with self.lock:
            self._in_flight -= 1
            self.requests.append(request)

    def reset_counters(self) -> None:
        """Forget the recorded requests and the counts."""
        with self.lock:
            self.requests.clear()
            self.connections = 0
            self.peak_in_flight = self._in_flight

    def close(self) -> None:
        """Stop listening, end every open connection, and wait until no thread is left."""
        self.closing.set()
        self.shutdown()
        self._loop.join()
        self.server_close()
        with self.lock:
            connections, threads = list(self._open), list(self._serving)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(timeout=5)


class _Handler(BaseHTTPRequestHandler):
    """One connection: reads requests, asks for the answer, sends it whole or lets a fault spoil it."""

    server: SimulatorServer
    protocol_version = "HTTP/1.1"
    server_version = "CalpendoSimulator"
    sys_version = ""
    disable_nagle_algorithm = True
    wbufsize = -1
    timeout = None

    def do_GET(self) -> None:
        """Answer one read request."""
        self._recorded = False
        self.server.begin()
        try:
            fault = self.server.faults.pick(self.path)
            if fault is None:
                answer = self._healthy()
                if answer is None:
                    self.hang_up(reset=False)
                else:
                    self.send(answer)
            else:
                play(fault, self, self._healthy)
        finally:
            self._record(0)

    def send(self, answer: Answer) -> None:
        """Send a whole, correct answer."""
        length = ("Content-Length", str(len(answer.body)))
        self.head(answer.status, [("Content-Type", answer.content_type), length, *answer.headers])
        self.write(answer.body)

    def head(self, status: int, headers: list[tuple[str, str]]) -> None:
        """Send the status line and the headers alone."""
        self._record(status)
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()

    def write(self, data: bytes) -> None:
        """Send bytes of the body at once."""
        self.wfile.write(data)
        self.wfile.flush()

    def hang_up(self, *, reset: bool) -> None:
        """End the connection after this request: in order, or with a TCP reset."""
        self._record(0)
        self.close_connection = True
        if reset:
            self.server.mark_reset(self.connection)

    def wait(self, seconds: float) -> bool:
        """Wait, and tell whether the simulator is closing."""
        return self.server.closing.wait(seconds)

    def foreign_url(self) -> str:
        """Give this request's URL under the machine's other name: another origin that is heard here too."""
        return f"http://localhost:{self.server.server_port}{self.path}"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's signature
        """Say nothing: requests are recorded, not printed."""

    def _healthy(self) -> Answer | None:
        return self.server.respond(self.path, self.headers.get("Authorization"))

    def _record(self, status: int) -> None:
        if not self._recorded:
            self._recorded = True
            self.server.record(RecordedRequest(self.command, self.path, status))
