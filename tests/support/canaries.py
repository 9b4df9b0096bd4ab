"""Canaries: texts that nobody else writes, planted where patients' data and logins stand, and an ear for them."""

from __future__ import annotations

import base64
import logging
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

TITLE, NAME, DESCRIPTION, PROJECT = "Kanarientitel", "Wellensittich", "Zeisigfink", "Gimpelprojekt"
OPERATOR, KEY, NUMBER = "Stieglitzop", "Buchfink Feld, Anna", 77_123_456_789_012
USERNAME, PASSWORD = "nachtigalluser", "Rotkehlchen9!%"
PATIENT = (TITLE, NAME, DESCRIPTION, PROJECT, OPERATOR, KEY, str(NUMBER))
LOGIN = (USERNAME, PASSWORD, quote(PASSWORD), base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode())
RESOURCE = "3T Diagnostic"


def heard(text: object, canaries: Iterable[str] = (*PATIENT, *LOGIN)) -> list[str]:
    """Name the canaries that a text holds, in whatever case."""
    folded = str(text).casefold()
    return [canary for canary in canaries if canary.casefold() in folded]


class Ear(logging.Handler):
    """Hears every record of every logger as a file would hold it, with tracebacks and arguments."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line."""
        line = logging.Formatter("%(name)s %(levelname)s %(message)s").format(record)
        self.lines.append((record.levelno, f"{line} {record.args!r}"))

    def text(self, level: int = logging.DEBUG) -> str:
        """Give all lines of a level or above."""
        return "\n".join(line for number, line in self.lines if number >= level)


@contextmanager
def listening() -> Iterator[Ear]:
    """Hear all loggers at DEBUG, urllib3's and requests' too."""
    ear, root = Ear(), logging.getLogger()
    before = root.level
    root.addHandler(ear)
    root.setLevel(logging.DEBUG)
    try:
        yield ear
    finally:
        root.setLevel(before)
        root.removeHandler(ear)


def everything_of(error: BaseException) -> str:
    """Give all that a host may log of an error: its rendering, and text and repr of all that lies behind it."""
    texts = ["".join(traceback.format_exception(error))]
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        at = waiting.pop()
        if at is None or id(at) in seen:
            continue
        seen.add(id(at))
        texts += [
            str(at),
            repr(at),
            repr(at.args),
            *getattr(at, "__notes__", ()),
            *map(str, getattr(at, "faults", ())),
        ]
        waiting += [at.__cause__, at.__context__]
    return "\n".join(texts)


def sound(number: int, generation: str, day: datetime) -> dict[str, Any]:
    """Return a booking that passes every rule, with a canary in every field of a person."""
    begins = day + timedelta(minutes=5 * (number % 100))
    ends = begins + timedelta(minutes=30)
    properties: dict[str, Any] = {
        "resource": {"id": 1, "formattedName": RESOURCE},
        "project": {"id": 11, "formattedName": PROJECT},
        "booker": {"id": 5, "formattedName": NAME},
        "owner": {"id": 6, "formattedName": NAME},
        "description": DESCRIPTION,
        "cancellationReason": DESCRIPTION,
        "cancelled": False,
        "created": "2026-05-01 08:00:00.0",
        "modified": "2026-06-01 08:00:00.0",
        "Operator": {"name": OPERATOR},
        "weight": NUMBER,
    }
    payload: dict[str, Any] = {"id": number, "biskitType": "MRIScan", KEY: KEY}
    title = {"title": f"{TITLE}_{NAME}", "status": "Approved"}
    if generation == "B":
        span = {"start": f"{begins.isoformat()}", "finish": f"{ends.isoformat()}"}
        return payload | {"properties": properties | title | {"dateRange": span}}
    return payload | title | {"formattedName": f"[{begins}.0, {ends}.0]", "properties": properties}


ODD_VALUES: tuple[Any, ...] = (
    TITLE,
    f"{TITLE}\\{NAME}",
    f"{TITLE} " * 40,
    f"{TITLE}\ud800",
    f"{TITLE}\x1b[31m\x00",
    NUMBER,
    float(NUMBER),
    10**40 + NUMBER,
    [TITLE, {KEY: NAME}],
    {KEY: NAME, "formattedName": NAME, "name": OPERATOR},
    {"formattedName": {"formattedName": [NAME]}},
    True,
    None,
    "",
)
FIELDS = ("title", "biskitType", "formattedName", "dateRange", "resource", "project", "operator", "Operator")
MORE_FIELDS = ("created", "modified", "cancelled", "description", "durationInMinutes", "properties")


def odd_bookings(generation: str, day: datetime) -> list[dict[str, Any]]:
    """Return sound bookings of which one field each has an odd value: every field, every kind of value."""
    found: list[dict[str, Any]] = []
    number = 1000 if generation == "A" else 2000
    for field in (*FIELDS, *MORE_FIELDS):
        for value in ODD_VALUES:
            number += 1
            payload = sound(number, generation, day)
            if field in payload:
                payload[field] = value
            else:
                payload["properties"] = {**payload["properties"], field: value}
            found.append(payload)
    return found


class TroubledServer:
    """A server that answers everything in one way, with canaries wherever a server can write; a context manager."""

    def __init__(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None, reason: str = "OK"
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.send_response(status, reason)
                for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> TroubledServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
