"""Faults that the simulated server plays on the wire: not mocked answers but real resets, drips and bombs."""

from __future__ import annotations

import random
import re
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

JSON = "application/json;charset=UTF-8"
HTML = "text/html;charset=UTF-8"
LOGIN_PAGE = (
    b"<!DOCTYPE html><html><head><title>Calpendo login</title></head><body><form method='post'>"
    b"<input name='username'><input name='password' type='password'></form></body></html>"
)
ERROR_PAGE = b"<!DOCTYPE html><html><body><h1>Something went wrong</h1></body></html>"

# Every kind with the details it takes and their defaults.
FAULT_KINDS: dict[str, dict[str, Any]] = {
    "status": {"code": 503, "retry_after": None},
    "html": {},
    "not_biskits": {"body": b'{"message": "no such query"}'},
    "truncate": {"keep": 0.5},
    "reset": {"after": 0},
    "slow_body": {"interval": 2.0},
    "gzip_bomb": {"size": 1 << 30},
    "empty": {},
    "redirect": {"code": 302, "location": None},
    "login_page": {},
    "delay": {"seconds": 1.0},
    "bad_json": {"body": b'{"biskits": [{"id": 1, "title": '},
    "rewrite": {"old": b"", "new": b"", "content_type": JSON},
}


@dataclass(frozen=True)
class Answer:
    """One complete HTTP answer."""

    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


class Wire(Protocol):
    """What a fault may do to the connection it is played on."""

    def send(self, answer: Answer) -> None:
        """Send a whole, correct answer."""

    def head(self, status: int, headers: list[tuple[str, str]]) -> None:
        """Send the status line and the headers alone."""

    def write(self, data: bytes) -> None:
        """Send bytes of the body at once."""

    def hang_up(self, *, reset: bool) -> None:
        """End the connection after this request: in order, or with a TCP reset."""

    def wait(self, seconds: float) -> bool:
        """Wait, and tell whether the simulator is closing."""

    def foreign_url(self) -> str:
        """Give this request's URL at another origin, which the simulator also hears."""


@dataclass
class Fault:
    """One fault that was asked for; ``hits`` counts how often it was played."""

    kind: str
    match: re.Pattern[str]
    times: int | None
    probability: float
    details: dict[str, Any] = field(default_factory=dict)
    hits: int = 0


class Faults:
    """The faults to play, first match first; safe to change while requests run."""

    def __init__(self, seed: int = 0) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose

    def add(
        self,
        kind: str,
        *,
        match: str = "",
        times: int | None = None,
        probability: float = 1.0,
        **details: Any,
    ) -> Fault:
        """Play ``kind`` on requests whose path (with its query string, undecoded) holds the regex ``match``.

        ``times`` ends it after so many, ``probability`` draws from a seeded generator. Details by kind:
        status ``code``, ``retry_after``; truncate ``keep`` (share of the body); reset ``after`` (bytes of the
        body sent first); slow_body ``interval`` (seconds a byte); gzip_bomb ``size`` (bytes unpacked); redirect
        ``code``, ``location`` (default: the same path under another host name); delay ``seconds``; not_biskits
        and bad_json ``body``; rewrite ``old`` (bytes of the body), ``new`` (instead of them), ``content_type``. Raises ValueError on an unknown kind or detail.
        """
        if kind not in FAULT_KINDS:
            raise ValueError(f"unknown fault {kind!r}; known: {', '.join(FAULT_KINDS)}")
        if unknown := set(details) - set(FAULT_KINDS[kind]):
            raise ValueError(f"fault {kind!r} takes no {', '.join(sorted(unknown))}")
        fault = Fault(kind, re.compile(match), times, probability, FAULT_KINDS[kind] | details)
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Play no fault any more; answers that are under way end as they began."""
        with self._lock:
            self._faults.clear()

    def pick(self, path: str) -> Fault | None:
        """Choose the fault for one request and count it."""
        with self._lock:
            for fault in self._faults:
                if fault.times is not None and fault.hits >= fault.times:
                    continue
                if fault.match.search(path) and self._random.random() < fault.probability:
                    fault.hits += 1
                    return fault
        return None


def play(fault: Fault, wire: Wire, answer: Callable[[], Answer | None]) -> None:
    """Answer one request faultily; ``answer`` gives what a healthy server would have said (None: closing)."""
    simple = _simple_answer(fault, wire)
    if simple is not None:
        wire.send(simple)
        return
    if fault.kind == "gzip_bomb":
        wire.head(
            200, [("Content-Type", JSON), ("Content-Encoding", "gzip"), ("Transfer-Encoding", "chunked")]
        )
        for piece in _bomb(fault.details["size"]):
            wire.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        wire.write(b"0\r\n\r\n")
        return
    if fault.kind == "reset" and not fault.details["after"]:
        wire.hang_up(reset=True)
        return
    if fault.kind == "delay" and wire.wait(fault.details["seconds"]):
        wire.hang_up(reset=False)
        return
    healthy = answer()
    if healthy is None:
        wire.hang_up(reset=False)
    elif fault.kind == "delay":
        wire.send(healthy)
    elif fault.kind == "rewrite":
        details = fault.details
        body = healthy.body.replace(details["old"], details["new"]) if details["old"] else healthy.body
        wire.send(replace(healthy, body=body, content_type=details["content_type"]))
    else:
        _broken_body(fault, wire, healthy)


def _simple_answer(fault: Fault, wire: Wire) -> Answer | None:
    details = fault.details
    if fault.kind == "status":
        retry_after = details["retry_after"]
        headers = (("Retry-After", str(retry_after)),) if retry_after is not None else ()
        return Answer(details["code"], ERROR_PAGE, HTML, headers)
    if fault.kind == "redirect":
        return Answer(details["code"], b"", HTML, (("Location", details["location"] or wire.foreign_url()),))
    whole = {
        "html": (ERROR_PAGE, HTML),
        "login_page": (LOGIN_PAGE, HTML),
        "empty": (b"", JSON),
        "not_biskits": (details.get("body", b""), JSON),
        "bad_json": (details.get("body", b""), JSON),
    }.get(fault.kind)
    return None if whole is None else Answer(200, *whole)


def _broken_body(fault: Fault, wire: Wire, healthy: Answer) -> None:
    body = healthy.body or b"{}"
    wire.head(healthy.status, [("Content-Type", healthy.content_type), ("Content-Length", str(len(body)))])
    if fault.kind == "slow_body":
        for position in range(len(body)):
            wire.write(body[position : position + 1])
            if wire.wait(fault.details["interval"]):
                wire.hang_up(reset=False)
                return
        return
    kept = fault.details["after"] if fault.kind == "reset" else int(len(body) * fault.details["keep"])
    wire.write(body[: max(0, min(kept, len(body) - 1))])
    wire.hang_up(reset=fault.kind == "reset")


def _bomb(size: int) -> Iterator[bytes]:
    """Pack ``size`` bytes of JSON (blanks, then an empty list) as gzip, piece by piece, in constant memory."""
    ending = b'{"biskits": []}'
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    blanks = b" " * (1 << 20)
    left = max(size - len(ending), 0)
    while left > 0:
        piece = packer.compress(blanks[: min(left, len(blanks))])
        left -= len(blanks)
        if piece:
            yield piece
    yield packer.compress(ending) + packer.flush()
