"""One request, one bounded answer: session, login, size cap, and time limits that hold whatever the server does.

A socket's own timeout starts again with every byte. So each request has a timer that shuts the socket down, which
ends a blocked read in headers, in a chunk's length or in a body alike; and every pause asks the batch's clock first.
No retries and no meaning here: those are ``client`` and ``responses``.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import copy
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth
from requests.utils import get_environ_proxies
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from pipeline.calpendo.connection_faults import Bundle, broken
from pipeline.calpendo.responses import Answer, AnswerFault, DeadlineFault, NotReachedFault, UnreachableFault

if TYPE_CHECKING:
    from pipeline.credentials import Credentials

_PIECE = 64 * 1024
_ENCODINGS = frozenset({"", "identity", "gzip", "x-gzip", "deflate"})
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:-]{1,40})", re.ASCII | re.IGNORECASE)
_MEDIA_TYPE = re.compile(r"[\w.+-]{1,40}/[\w.+-]{1,40}", re.ASCII)

GRACE = 2.0
"""Seconds beyond the batch's deadline after which a worker that does not answer is left alone."""


class _Shuttable(Protocol):
    def shutdown(self, how: int, /) -> None: ...


class SocketGuard:
    """Holds the sockets of one session's connection, so that another thread can end a blocked read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: list[_Shuttable] = []
        self._is_cut = False

    def begin(self) -> None:
        """Begin a request: a cut that was meant for the one before does not hold for it."""
        with self._lock:
            self._is_cut = False

    def renew(self) -> None:
        """Forget the sockets of the connection before: a new one is about to be opened."""
        with self._lock:
            self._sockets = []

    def hold(self, opened: _Shuttable) -> None:
        """Remember an opened socket (the plain one, then the one with TLS around it)."""
        with self._lock:
            self._sockets.append(opened)
            if self._is_cut:
                _shut(opened)

    def cut(self) -> None:
        """Shut the connection down, also one that is only being opened; whoever reads from it sees its end at once."""
        with self._lock:
            self._is_cut = True
            for opened in self._sockets:
                _shut(opened)


def _shut(opened: _Shuttable) -> None:
    # A socket that is closed already, or not connected yet, has nothing to end.
    with suppress(OSError, ValueError):
        opened.shutdown(socket.SHUT_RDWR)


class Deadline:
    """The time that a batch of requests may take in all; it can be cut short from any thread.

    ``end`` is the monotonic clock's time at which it is used up; ``reason`` says why it was stopped before.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.end = time.monotonic() + seconds
        self.reason = "stopped with the rest of the batch"
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._guards: set[SocketGuard] = set()
        self._parts: set[Deadline] = set()

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
        return 0.0 if self.stopped else max(0.0, self.end - time.monotonic())

    def pause(self, seconds: float) -> bool:
        """Wait; return at once and False where the time left is shorter, or the batch is stopped meanwhile."""
        return seconds < self.remaining() and not self._stopped.wait(seconds)

    def stop(self, reason: str = "") -> None:
        """End the batch: requests under way are cut, pauses end, none is sent any more."""
        with self._lock:
            if not self.stopped and reason:
                self.reason = reason
            self._stopped.set()
            guards, parts = tuple(self._guards), tuple(self._parts)
        for guard in guards:
            guard.cut()
        for part in parts:
            part.stop(self.reason)

    @contextmanager
    def part(self) -> Iterator[Deadline]:
        """Hand out a deadline that ends with this one and can be stopped by itself, for one request of the batch."""
        part = Deadline(self.seconds)
        part.end = self.end
        with self._lock:
            self._parts.add(part)
            stopped = self.stopped
        if stopped:
            part.stop(self.reason)
        try:
            yield part
        finally:
            with self._lock:
                self._parts.discard(part)

    @contextmanager
    def watch(self, guard: SocketGuard, seconds: float) -> Iterator[None]:
        """Cut the guarded connection when this request takes longer than ``seconds``, or the batch ends."""
        guard.begin()
        with self._lock:
            self._guards.add(guard)
        timer = threading.Timer(min(seconds, self.remaining()), guard.cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            with self._lock:
                self._guards.discard(guard)

    def fault(self) -> DeadlineFault:
        """Return the fault of a request that this deadline ended."""
        if self.stopped:
            return DeadlineFault(self.reason)
        return DeadlineFault(f"no answer within the time for the whole batch ({self})")


class _GuardedHTTP(HTTPConnection):
    guard: SocketGuard

    def _new_conn(self) -> socket.socket:
        self.guard.renew()
        opened = super()._new_conn()
        self.guard.hold(opened)
        return opened


class _GuardedHTTPS(_GuardedHTTP, HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        if self.sock is not None:
            self.guard.hold(self.sock)


class _Adapter(HTTPAdapter):
    """An adapter of one thread: one connection, whose socket the guard knows."""

    def __init__(self, guard: SocketGuard) -> None:
        self._guard = guard
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self._watch(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        self._watch(manager)
        return manager

    def _watch(self, manager: urllib3.PoolManager) -> None:
        own = {"guard": self._guard}
        plain: type[HTTPConnection] = type("GuardedHTTP", (_GuardedHTTP,), own)
        secure: type[HTTPSConnection] = type("GuardedHTTPS", (_GuardedHTTPS,), own)
        manager.pool_classes_by_scheme = {
            "http": type("GuardedHTTPPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
            "https": type("GuardedHTTPSPool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
        }


class _Session(requests.Session):
    """A session that leaves redirects alone: requests would read their bodies to the end, whatever their size."""

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002  the base class's signature
        return None


class Transport:
    """One thread's session: keep-alive, Basic login, nothing taken from ``~/.netrc``, no cookie kept.

    A proxy of the environment is used for https only, where it sees no header; a private certificate authority is
    found through REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE, as everywhere with requests.
    """

    def __init__(self, base_url: str, credentials: Credentials, *, agent: str, max_bytes: int) -> None:
        self._guard = SocketGuard()
        self._max_bytes = max_bytes
        self._session = _Session()
        self._session.trust_env = False
        # A cookie for each answer would make a header that grows until the server refuses it; the login is in each request.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        # As bytes, because requests would write text in Latin-1, and a name may hold more.
        self._session.auth = HTTPBasicAuth(credentials.username.encode(), credentials.password.encode())
        self._session.headers.update(
            {"Accept": "application/json", "Accept-Encoding": "gzip, deflate", "User-Agent": agent}
        )
        self._bundle = Bundle.of_environment()
        self._session.verify = self._bundle.path if self._bundle else True
        if urlsplit(base_url).scheme == "https":
            self._session.proxies.update(get_environ_proxies(base_url, no_proxy=None))
        adapter = _Adapter(self._guard)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)
        # All requests differ in their address alone: what requests makes of the rest takes a fifth of a request's time.
        self._request = self._session.prepare_request(requests.Request("GET", base_url))

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def get(self, url: str, *, timeout: float, body_deadline: float, deadline: Deadline) -> Answer:
        """Send one GET and return its complete answer, whatever its status; redirects are not followed.

        ``timeout`` is the longest silence in seconds, ``body_deadline`` the longest time for the whole answer.
        Raises UnreachableFault, AnswerFault (too large, unknown compression), DeadlineFault.
        """
        limit = min(body_deadline, deadline.remaining())
        if limit <= 0:
            raise NotReachedFault(str(deadline.fault()))
        began = time.monotonic()
        silence = min(timeout, limit)
        try:
            with deadline.watch(self._guard, limit):
                request = copy(self._request)
                request.prepare_url(url, None)
                response = self._session.send(request, timeout=silence, stream=True, allow_redirects=False)
                return self._read(response, began + limit, deadline)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            if deadline.over:
                raise deadline.fault() from None
            if time.monotonic() - began >= limit:
                raise _too_slow(limit) from None
            fault = broken(error, bundle=self._bundle, is_https=url.startswith("https:"), silence=silence)
            raise fault from None

    def _read(self, response: requests.Response, end: float, deadline: Deadline) -> Answer:
        try:
            body = self._body(response, end)
            # A connection that was cut looks like the end of a body that has no stated length.
            if time.monotonic() >= end or deadline.over:
                raise urllib3.exceptions.TimeoutError  # noqa: TRY301  the same way out as a socket's own
        except BaseException:
            response.close()
            raise
        response.raw.release_conn()
        content_type = response.headers.get("Content-Type", "")
        known = _MEDIA_TYPE.match(content_type)
        charset = _CHARSET.search(content_type)
        return Answer(
            status=response.status_code,
            media_type=known.group().lower() if known else "",
            charset=charset.group(1) if charset else None,
            location=response.headers.get("Location"),
            retry_after=response.headers.get("Retry-After"),
            body=body,
        )

    def _body(self, response: requests.Response, end: float) -> bytes:
        encodings = response.headers.get("Content-Encoding", "").lower().split(",")
        if not {encoding.strip() for encoding in encodings} <= _ENCODINGS:
            raise AnswerFault("the answer is compressed in a way that was not asked for")
        body = bytearray()
        # read1 returns after every piece that arrives, so the clock is looked at however slowly they come, and it
        # unpacks no more than it was asked for, so a compression bomb costs no memory.
        while piece := response.raw.read1(_PIECE, decode_content=True):
            body += piece
            if len(body) > self._max_bytes:
                raise AnswerFault(f"the answer is larger than max_body_bytes ({self._max_bytes} bytes)")
            if time.monotonic() >= end:
                break
        return bytes(body)


def _too_slow(seconds: float) -> UnreachableFault:
    return UnreachableFault(
        f"the answer was not complete after {seconds:.3g} s (body_deadline)", retryable=True
    )
