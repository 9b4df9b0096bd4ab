"""One request, one bounded answer: session, login, size cap, and time limits that hold whatever the server does.

A socket's own timeout starts again with every byte. So each request has a timer that shuts the socket down, which
ends a blocked read in headers, in a chunk's length or in a body alike; and every pause asks the batch's clock first.
Why no complete answer came is said in words that say what to do: TLS, certificates, proxy, name, network, silence. A
foreign library's text may quote what a broken server sent: only its kind is looked at, and never passed on.
No retries and no meaning here: those are ``client`` and ``responses``.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import copy
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth
from requests.utils import get_environ_proxies
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from pipeline.calpendo.responses import Answer, AnswerFault, DeadlineFault, NotReachedFault, UnreachableFault

if TYPE_CHECKING:
    from pipeline.config.credentials import Credentials


_MAX_CAUSES = 6
_NOT_YET_VALID, _EXPIRED = 9, 10
_SELF_SIGNED = 18
_OTHER_NAME = frozenset({62, 63, 64})
_UNKNOWN_AUTHORITY = frozenset({2, 18, 19, 20, 21})
"""OpenSSL's codes of a failed verification (``X509_V_ERR_*``)."""
_NO_TLS = re.compile("WRONG_VERSION_NUMBER|HTTP_REQUEST|UNKNOWN_PROTOCOL|RECORD_LAYER_FAILURE|PACKET_LENGTH")
_NO_AGREEMENT = re.compile(
    "PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL|HANDSHAKE_FAILURE|TOO_SMALL|LEGACY|NO_SHARED|NO_PROTOCOLS"
)
_CLIENT_CERTIFICATE = re.compile("CERTIFICATE_REQUIRED|ALERT_BAD_CERTIFICATE|ALERT_NO_CERTIFICATE")
_NO_WAY = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL}
)
_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+\Z")


class Bundle(NamedTuple):
    """Where the certificates of trusted authorities are read from: the variable that says so, and the path in it."""

    variable: str
    path: str

    @classmethod
    def of_environment(cls) -> Bundle | None:
        """Return what requests would take from the environment; None: the certificates that come with it."""
        for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            if path := os.environ.get(variable):
                return cls(variable, path)
        return None

    def trouble(self) -> str | None:
        """Say why nothing can be verified with it and what to do, or None."""
        place, write = (
            Path(self.path),
            f"write the path of a PEM file with the authority's certificates into {self.variable}",
        )
        try:
            if place.is_dir():
                if any(_HASHED.match(entry.name) for entry in place.iterdir()):
                    return None
                problem = "is a directory without certificates under their hashed names"
            else:
                with place.open("rb"):
                    ssl.create_default_context(cafile=self.path)
                return None
        except FileNotFoundError:
            problem = "does not exist"
        except ssl.SSLError:
            problem = "holds no certificate in PEM form"
        except (OSError, ValueError):
            problem = "cannot be read"
        return f"{self.path} (from {self.variable}) {problem}; {write}"


def broken(
    error: BaseException, *, bundle: Bundle | None, is_https: bool, silence: float
) -> UnreachableFault:
    """Return the fault for a connection that did not bring a complete answer.

    Args:
        error: what requests, urllib3 or the system raised.
        bundle: where trusted authorities are read from.
        is_https: whether TLS was spoken.
        silence: seconds without an answer after which the request was given up.
    """
    causes = tuple(_causes(error))
    text = _proxy(causes) or (_tls(causes, bundle) if is_https else None)
    may_pass = text is None or _may_pass(causes)
    found, _, advice = (text or _network(causes, silence, is_https=is_https)).partition("; ")
    return UnreachableFault(found, advice=advice, retryable=may_pass)


def _may_pass(causes: tuple[BaseException, ...]) -> bool:
    """Tell whether trying again may help: a proxy's or a connection's end passes, a certificate's fault does not."""
    return any(isinstance(cause, (requests.exceptions.ProxyError, ssl.SSLEOFError)) for cause in causes)


def _proxy(causes: tuple[BaseException, ...]) -> str | None:
    if not any(isinstance(cause, requests.exceptions.ProxyError) for cause in causes):
        return None
    return "the proxy does not let the connection through, or cannot be reached; check HTTPS_PROXY, or name the server in NO_PROXY"


def _tls(causes: tuple[BaseException, ...], bundle: Bundle | None) -> str | None:
    """Say what is wrong with TLS, or None."""
    failure = next((cause for cause in causes if isinstance(cause, ssl.SSLError)), None)
    # A bundle's fault comes as an OSError of no kind, before any connection.
    if failure is None and not (len(causes) == 1 and isinstance(causes[0], OSError)):
        return None
    if bundle is not None and (trouble := bundle.trouble()):
        return trouble
    if failure is None:
        return None
    if isinstance(failure, ssl.SSLCertVerificationError):
        return _certificate(failure.verify_code, bundle)
    reason = failure.reason or ""
    if _NO_TLS.search(reason):
        return (
            "what answers there speaks no TLS, probably plain http; check the port in base_url, or write http:// "
            "(with allow_insecure_http where the network itself is protected)"
        )
    if _NO_AGREEMENT.search(reason):
        return (
            "the server and this machine agree on no version or cipher of TLS; the server's administrators have to allow "
            "TLS 1.2 or newer"
        )
    if _CLIENT_CERTIFICATE.search(reason):
        return "the server asks for a certificate of this machine; its administrators have to allow a login without"
    if isinstance(failure, ssl.SSLEOFError):
        if not any(isinstance(cause, requests.exceptions.SSLError) for cause in causes):
            return None  # In the middle of a body.
        return (
            "the connection was broken off while TLS was agreed on; check the port in base_url, and whether the server or a "
            "firewall before it refuses this machine"
        )
    return "TLS failed; check the port in base_url, and ask the server's administrators"


def _certificate(code: int, bundle: Bundle | None) -> str:
    if code == _EXPIRED:
        return "the server's certificate has expired; its administrators have to renew it (check this machine's clock first)"
    if code == _NOT_YET_VALID:
        return "the server's certificate is not valid yet; check this machine's clock"
    if code in _OTHER_NAME:
        return "the server's certificate is made out to another name; write that name into base_url"
    if code not in _UNKNOWN_AUTHORITY:
        return f"the server's certificate is not accepted (OpenSSL's code {code}); ask the server's administrators"
    by = (
        f"by the authorities in {bundle.path} (from {bundle.variable})"
        if bundle
        else "by an authority known here"
    )
    if code == _SELF_SIGNED:
        return (
            f"the server's certificate is not trusted: it is signed by itself, not {by}; write the path of a PEM file with it "
            "into REQUESTS_CA_BUNDLE"
        )
    return (
        f"the server's certificate is not trusted: it is not signed {by}, or the server does not send the intermediate "
        "certificate between; write the path of a PEM file with the authority's certificates, intermediate ones too, into "
        "REQUESTS_CA_BUNDLE"
    )


def _network(causes: tuple[BaseException, ...], silence: float, *, is_https: bool) -> str:
    """Say where on the way to the server the answer was lost."""
    system = next((cause for cause in causes if isinstance(cause, OSError) and _is_system_s(cause)), None)
    if isinstance(system, socket.gaierror):
        return "the server's name is not known here; check its spelling in base_url, the network and the VPN"
    if isinstance(system, ConnectionRefusedError):
        return "nothing listens there (connection refused); check the port in base_url, and whether the server runs"
    if system is not None and system.errno in _NO_WAY:
        return "the network does not lead to the server; check the network, the VPN and base_url"
    if any(
        isinstance(cause, (requests.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError))
        for cause in causes
    ):
        return f"no connection within {silence:.3g} s; check base_url, the network, the firewall and the VPN"
    if any(isinstance(cause, (TimeoutError, urllib3.exceptions.TimeoutError)) for cause in causes):
        return (
            f"no complete answer: nothing came for {silence:.3g} s; wait, or raise list_timeout and detail_timeout where the "
            "server is slow"
        )
    if any(isinstance(cause, urllib3.exceptions.DecodeError) for cause in causes):
        return "no complete answer: its compression is broken; ask the server's administrators"
    if not isinstance(causes[0], requests.RequestException):
        return (
            "no complete answer: the connection was broken off in the middle; check whether the server, or a proxy before it, "
            "was restarted or is overloaded"
        )
    speech = "" if is_https else ", and that the server speaks http and not https"
    return f"no complete answer: the connection was broken off; check the port in base_url{speech}, and whether the server runs"


def _is_system_s(cause: OSError) -> bool:
    """Tell whether an error is the system's own: requests' are OSErrors, too."""
    return not isinstance(cause, (requests.RequestException, ssl.SSLError))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what lies behind it, as requests and urllib3 wrap them."""
    at: BaseException | None = error
    for _ in range(_MAX_CAUSES):
        if at is None:
            return
        yield at
        wrapped = (getattr(at, "reason", None), *at.args)
        at = next((part for part in wrapped if isinstance(part, BaseException)), at.__cause__)


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
