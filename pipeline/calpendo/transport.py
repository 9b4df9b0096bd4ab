"""One request, one bounded answer: session, login header, timeouts, size cap. No retries and no meaning here."""

from __future__ import annotations

import os
import re
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth
from requests.utils import get_environ_proxies
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from pipeline.calpendo.deadline import Deadline, SocketGuard
from pipeline.calpendo.faults import AnswerFault, DeadlineFault, UnreachableFault

if TYPE_CHECKING:
    import socket

    from pipeline.credentials import Credentials

_PIECE = 64 * 1024
_MAX_CAUSES = 6
_ENCODINGS = frozenset({"", "identity", "gzip", "x-gzip", "deflate"})
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:-]{1,40})", re.ASCII | re.IGNORECASE)
_MEDIA_TYPE = re.compile(r"[\w.+-]{1,40}/[\w.+-]{1,40}", re.ASCII)


@dataclass(frozen=True, repr=False)
class Answer:
    """A complete answer; ``body`` is decompressed. Its text form tells nothing of the body but the length."""

    status: int
    media_type: str
    charset: str | None
    location: str | None
    retry_after: str | None
    body: bytes

    def __str__(self) -> str:
        """Return status, content type and length."""
        return f"HTTP {self.status}, {self.media_type or 'no content type'}, {len(self.body)} bytes"

    __repr__ = __str__


class _GuardedHTTP(HTTPConnection):
    guard: SocketGuard

    def _new_conn(self) -> socket.socket:
        self.guard.renew()
        opened = super()._new_conn()
        self.guard.hold(opened)
        return opened


class _GuardedHTTPS(HTTPSConnection):
    guard: SocketGuard

    def _new_conn(self) -> socket.socket:
        self.guard.renew()
        opened = super()._new_conn()
        self.guard.hold(opened)
        return opened

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
    """One thread's session: keep-alive, Basic login, nothing taken from ``~/.netrc``.

    A proxy of the environment is used for https only, where it sees no header; a private certificate authority is
    found through REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE, as everywhere with requests.
    """

    def __init__(self, base_url: str, credentials: Credentials, *, agent: str, max_bytes: int) -> None:
        self._guard = SocketGuard()
        self._max_bytes = max_bytes
        self._session = _Session()
        self._session.trust_env = False
        # As bytes, because requests would write text in Latin-1, and a name may hold more.
        self._session.auth = HTTPBasicAuth(credentials.username.encode(), credentials.password.encode())
        self._session.headers.update(
            {"Accept": "application/json", "Accept-Encoding": "gzip, deflate", "User-Agent": agent}
        )
        self._session.verify = (
            os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
        )
        if urlsplit(base_url).scheme == "https":
            self._session.proxies.update(get_environ_proxies(base_url, no_proxy=None))
        adapter = _Adapter(self._guard)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)

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
            raise _ended(deadline)
        began = time.monotonic()
        silence = min(timeout, limit)
        try:
            with deadline.watch(self._guard, limit):
                response = self._session.get(url, timeout=silence, stream=True, allow_redirects=False)
                return self._read(response, began + limit, deadline)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            if deadline.over:
                raise _ended(deadline) from None
            if time.monotonic() - began >= limit:
                raise _too_slow(limit) from None
            raise _broken(error) from None

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


def _ended(deadline: Deadline) -> DeadlineFault:
    if deadline.stopped:
        return DeadlineFault("stopped with the rest of the batch")
    return DeadlineFault(f"the time for the whole batch is used up ({deadline})")


def _too_slow(seconds: float) -> UnreachableFault:
    return UnreachableFault(
        f"the answer was not complete after {seconds:.3g} s (body_deadline)", retryable=True
    )


def _broken(error: BaseException) -> UnreachableFault:
    """Return the fault for a connection that did not bring a complete answer.

    A cause's own text may quote what a broken server sent, so only its kind is told, and the system's words.
    """
    names: list[str] = []
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return UnreachableFault(
                f"the server's certificate is not trusted ({cause.verify_message}); write the path of its authority's "
                "certificate into REQUESTS_CA_BUNDLE"
            )
        name = type(cause).__name__
        if isinstance(cause, OSError) and not isinstance(cause, (requests.RequestException, ssl.SSLError)):
            name += f": {os.strerror(cause.errno)}" if cause.errno and cause.errno > 0 else ""
        names.append(name)
    return UnreachableFault(f"no complete answer ({', '.join(dict.fromkeys(names))})", retryable=True)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what lies behind it, as requests and urllib3 wrap them."""
    at: BaseException | None = error
    for _ in range(_MAX_CAUSES):
        if at is None:
            return
        yield at
        wrapped = (getattr(at, "reason", None), *at.args)
        at = next((part for part in wrapped if isinstance(part, BaseException)), at.__cause__)
