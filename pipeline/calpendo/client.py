"""Conversations with Calpendo: login, retries, deadlines, and only answers that can be trusted (T007-T010).

``CalpendoClient`` asks one question, ``RequestQueue`` many of them in one budget of time.
``RETRIED`` says which statuses are retried; how often and after which pause is urllib3's ``Retry``. urllib3's own loop stops
once the headers arrive. Here a broken, empty or foreign body is retried as well, so this module has its own loop around the
whole answer.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar
from urllib.parse import quote, urlsplit

from urllib3.exceptions import HTTPError, MaxRetryError
from urllib3.util.retry import RequestHistory, Retry

from pipeline.calpendo import responses
from pipeline.calpendo.responses import (
    Answer,
    AnswerFault,
    AuthenticationFault,
    CalpendoFault,
    DeadlineFault,
    NotReachedFault,
    RefusedFault,
    ServerFault,
    has_too_many_rows,
    has_too_many_values,
    named,
    redirected,
)
from pipeline.calpendo.transport import GRACE, Deadline, Transport
from pipeline.transform.json_values import booking_id as usable_id
from pipeline.version import __version__

if TYPE_CHECKING:
    from types import TracebackType

    from pipeline.config import PipelineConfig
    from pipeline.config.credentials import Credentials

    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter

T = TypeVar("T")
P = ParamSpec("P")

BOOKING = "Calpendo.Booking"
RESOURCE = "Calpendo.Resource"
MRI_SCAN = "MRIScan"

RETRIED = frozenset({429, 500, 502, 503, 504})
"""HTTP statuses after which the same request is sent again; ``max_retries`` says how often."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_GONE = frozenset({404, 410})
_BACKOFF, _BACKOFF_JITTER, _BACKOFF_MAX = 0.25, 0.5, 10.0
_KEPT_OF_A_FLOOD = 65_536
# How long a wait may go unlooked at: for stragglers, for the end of the time, for a client that was closed.
_TICK = 0.1
STRAGGLER_PATIENCE = 30.0
"""Seconds after the last other answer at which a request that is still under way is cut."""
_CLOSED = "the client was closed while it was asking"


class SourceLogger(_Adapter):
    """The logger of one source, whose lines begin with ``[calpendo:SOURCE]`` (T001, T005).

    The message's own ``%s`` arguments stay as they are.
    """

    def __init__(self, name: str, source_name: str) -> None:
        super().__init__(logging.getLogger(name), {})
        # The prefix becomes part of the format, where a per cent sign of the name would ask for an argument.
        self._prefix = f"[calpendo:{source_name}] ".replace("%", "%%")

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Return the message with the prefix; called by every logging method."""
        return f"{self._prefix}{msg}", kwargs


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


@dataclass
class Learned:
    """What earlier batches found out about this server, so that nobody asks or warns twice.

    ``variant`` is the form of the query that it takes, known for sure once it was ``listed``; ``scans`` says that the
    last window had MRI scans; ``paths_refused``
    says that it gives no list with chosen fields that could be used; ``bulk_checked`` that one such list agreed with
    a detail, and ``named_details`` that its details hold a ``formattedName``. ``nameless_operators``: its operator
    query names no booking. ``said`` holds the warnings given.
    """

    variant: int = 0
    listed: bool = False
    scans: bool = False
    paths_refused: bool = False
    bulk_checked: bool = False
    named_details: bool = True
    nameless_operators: bool = False
    said: set[str] = field(default_factory=set)


class CalpendoClient:
    """Asks one Calpendo server, from as many threads as ``max_workers`` says; a context manager.

    Each thread has one session with one kept-alive connection. Faults raise ``PluginFetchError`` (the tree of faults stands in ``responses.py``).
    """

    def __init__(self, config: PipelineConfig, credentials: Credentials) -> None:
        self._config = config
        self._credentials = credentials
        parts = urlsplit(config.base_url)
        # A login in the address would end in every log line; the credentials come from the environment alone.
        self._base = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
        self._root = f"{self._base}/{config.api_path.strip('/')}".rstrip("/")
        self._retry = Retry(
            total=config.max_retries,
            backoff_factor=_BACKOFF,
            backoff_jitter=_BACKOFF_JITTER,
            backoff_max=_BACKOFF_MAX,
        )
        self._log = SourceLogger(__name__, config.source_name)
        self._stats = FetchStats()
        self._local = threading.local()
        self._lock = threading.Lock()
        self._transports: list[Transport] = []
        self._pool = ThreadPoolExecutor(max_workers=config.max_workers, thread_name_prefix="calpendo")
        self._closed = False
        self._batches: weakref.WeakSet[Deadline] = weakref.WeakSet()
        self._running: set[Future[Any]] = set()
        self.learned = Learned()

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        """Name the server, never the login."""
        return f"CalpendoClient({self._root!r})"

    def close(self) -> None:
        """Cut every request under way, end the worker threads and close every connection.

        A fetch that runs in another thread ends at once with a PluginFetchError. A worker that cannot be cut, because
        a name service or a connection in the making holds it, is left to its own timeout after a moment.
        """
        with self._lock:
            self._closed = True
            batches, running = tuple(self._batches), tuple(self._running)
        for batch in batches:
            batch.stop(_CLOSED)
        # Each by itself: what the pool cancels while it shuts down is never told to those who wait for it.
        wait([future for future in running if not future.cancel()], timeout=GRACE)
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            transports, self._transports = self._transports, []
            self._local = threading.local()
        for transport in transports:
            transport.close()

    def hang_up(self) -> None:
        """Close every connection; the next request opens a new one. For a host that asks rarely."""
        with self._lock:
            for transport in self._transports:
                transport.close()

    @property
    def stats(self) -> FetchStats:
        """Requests, retries and bytes since the client was made; ``seconds`` is the sum over all threads."""
        return self._stats

    def _count(self, *, requests: int = 0, retries: int = 0, seconds: float = 0.0, received: int = 0) -> None:
        with self._lock:
            now = self._stats
            self._stats = replace(
                now,
                requests=now.requests + requests,
                retries=now.retries + retries,
                seconds=now.seconds + seconds,
                received=now.received + received,
            )

    def batch(self) -> Deadline:
        """Start the clock of one batch (``batch_deadline``); the batch of a closed client is stopped already."""
        deadline = Deadline(self._config.batch_deadline)
        with self._lock:
            self._batches.add(deadline)
            closed = self._closed
        if closed:
            deadline.stop(_CLOSED)
        return deadline

    def submit(self, task: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a task on one of the ``max_workers`` threads (T009); raises DeadlineFault once the client is closed."""
        with self._lock:
            if self._closed:
                raise DeadlineFault(_CLOSED)
            future = self._pool.submit(task, *args, **kwargs)
            self._running.add(future)
        future.add_done_callback(self._running.discard)
        return future

    def query(
        self,
        biskit_type: str,
        query: str,
        paths: Sequence[str] = (),
        *,
        deadline: Deadline | None = None,
        timeout: float | None = None,
    ) -> list[Any]:
        """Return the rows of a list query, as they came: dicts, unless the server sent something else.

        ``query`` is a quoted path of the grammar, ``paths`` the fields wanted; ``timeout`` is ``list_timeout`` unless
        given. Raises PluginFetchError for everything that is not JSON with a ``biskits`` list, and for a list of more
        than ``max_rows``.
        """
        url = f"{self._root}/q/{quote(biskit_type, safe='')}/{query}"
        if paths:
            url += f"?paths={','.join(quote(path, safe='') for path in paths)}"
        return self._ask(
            url,
            f"{biskit_type} query",
            lambda answer: self._rows(answer, responses.biskits),
            timeout or self._config.list_timeout,
            deadline,
        )

    def booking(self, booking_id: int, *, deadline: Deadline | None = None) -> dict[str, Any] | None:
        """Return one booking's payload, None where the server knows it no more (404, T008).

        Raises ValueError for an id that is no whole number from 1 to 2^53-1: nothing else enters a URL.
        """
        if usable_id(booking_id) is None:
            raise ValueError("a booking id is a whole number from 1 to 2^53-1")
        url = f"{self._root}/b/{BOOKING}/{booking_id:d}"
        try:
            return self._ask(
                url,
                f"booking {booking_id}",
                lambda answer: _booking(answer, booking_id),
                self._config.detail_timeout,
                deadline,
            )
        except RefusedFault as fault:
            if fault.status in _GONE:
                return None
            raise

    def resources(self) -> list[Any]:
        """Return the server's resources as they came: dicts with ``name`` or ``formattedName``."""
        url = f"{self._root}/b/{RESOURCE}"
        return self._ask(
            url,
            "resource list",
            lambda answer: self._rows(answer, responses.biskits_or_list),
            self._config.list_timeout,
            None,
        )

    def _rows(self, answer: Answer, read: Callable[[Answer], list[Any]]) -> list[Any]:
        """Read a list, unless it is longer than ``max_rows``: that is told by its bytes, before an object is made."""
        limit = self._config.max_rows
        if not has_too_many_rows(answer.body, limit):
            rows = read(answer)
            if len(rows) <= limit:
                return rows
        raise AnswerFault(
            f"the list is longer than max_rows ({limit}) allows ({answer})", status=answer.status
        )

    def _ask(
        self,
        url: str,
        what: str,
        interpret: Callable[[Answer], T],
        timeout: float,
        deadline: Deadline | None,
    ) -> T:
        """Send one request until it is answered, refused for good, or out of attempts or time."""
        deadline = deadline or self.batch()
        retry = self._retry
        address, redirects, attempts = url, 0, 0
        while True:
            attempts += 1
            answer = None
            try:
                answer = self._once(address, timeout, deadline)
                if answer.status in _REDIRECTS:
                    redirects += 1
                    address = redirected(answer, address, redirects)
                    continue
                _check_status(answer)
                return interpret(answer)
            except NotReachedFault as fault:
                if attempts == 1:
                    raise
                raise named(DeadlineFault(str(fault)), what, url, attempts, self._config.api_path) from None
            except CalpendoFault as fault:
                again = self._next_try(retry, fault, answer, deadline)
                if again is None:
                    raise named(fault, what, url, attempts, self._config.api_path) from None
                retry = again
                self._log.debug("%s: %s; trying again", what, fault)

    def _next_try(
        self, retry: Retry, fault: CalpendoFault, answer: Answer | None, deadline: Deadline
    ) -> Retry | None:
        """Wait as long as the policy asks; None where there is no further try."""
        if not fault.retryable:
            return None
        if isinstance(fault, ServerFault) and not retry.history:
            # urllib3 tries again at once after a first failure: right for a stale connection, not for a server that
            # has just said that it has trouble.
            retry = retry.new(history=(RequestHistory("GET", None, fault, fault.status, None),))
        try:
            retry = retry.increment("GET", error=fault)
        except MaxRetryError:
            return None
        asked = self._retry_after(answer.retry_after) if answer else 0.0
        if not deadline.pause(max(retry.get_backoff_time(), asked)):
            return None
        self._count(retries=1)
        return retry

    def _once(self, url: str, timeout: float, deadline: Deadline) -> Answer:
        self._log.debug("GET %s", url)
        began = time.monotonic()
        received = 0
        try:
            answer = self._transport().get(
                url, timeout=timeout, body_deadline=self._config.body_deadline, deadline=deadline
            )
            received = len(answer.body)
        finally:
            self._count(requests=1, seconds=time.monotonic() - began, received=received)
        self._log.debug("%s for %s", answer, url)
        return answer

    def _retry_after(self, header: str | None) -> float:
        """Return the seconds the server asks for, capped; 0 for a header that says nothing readable."""
        try:
            return min(self._retry.parse_retry_after(header), self._config.retry_after_cap) if header else 0.0
        except (HTTPError, ValueError, OverflowError):
            return 0.0

    def _transport(self) -> Transport:
        transport: Transport | None = getattr(self._local, "transport", None)
        if transport is None:
            transport = Transport(
                self._base,
                self._credentials,
                agent=f"calpendo-pipeline/{__version__}",
                max_bytes=self._config.max_body_bytes,
            )
            self._local.transport = transport
            with self._lock:
                self._transports.append(transport)
        return transport


class RequestQueue:
    """The requests of one fetch, on all worker threads, within one budget (``batch_deadline``).

    Bookings are asked for in the order in which they are given. One request that stays behind costs only itself: half
    a minute after the last other answer it is cut (``STRAGGLER_PATIENCE``).
    """

    def __init__(self, client: CalpendoClient, config: PipelineConfig) -> None:
        self._client = client
        self._config = config
        self._lock = threading.Lock()
        self._under_way: dict[Deadline, tuple[float, float]] = {}
        self._last_answer = time.monotonic()
        self._answers = 0
        self._slowness = 1
        self._futures: list[Future[Any]] = []
        self.deadline = client.batch()

    def close(self) -> None:
        """Cancel what still waits and cut what is under way."""
        for future in self._futures:
            future.cancel()
        self.deadline.stop()

    def submit(
        self, task: Callable[..., T], /, *args: Any, timeout: float | None = None, **kwargs: Any
    ) -> Future[T]:
        """Send one request, such as ``client.query``, from the next free worker.

        ``timeout`` is the longest silence that it may need, for the patience with it.
        """
        future = self._client.submit(self._ask, timeout or self._config.list_timeout, task, *args, **kwargs)
        self._futures.append(future)
        return future

    def result(self, future: Future[T], *, cut_stragglers: bool = False) -> T:
        """Wait for one request, no longer than the budget lasts.

        A worker keeps the deadline by itself, unless a name service holds it. Raises DeadlineFault.
        """
        while True:
            try:
                return future.result(timeout=_TICK)
            except CancelledError:
                raise self.deadline.fault() from None
            except TimeoutError:
                if future.done():
                    return future.result()
                if self._is_past():
                    raise self.deadline.fault() from None
                if cut_stragglers:
                    self._cut_stragglers()

    def bookings(self, numbers: Sequence[int]) -> Iterator[tuple[int, dict[str, Any] | CalpendoFault | None]]:
        """Ask for bookings; yield each number exactly once, with its payload, None where it is gone, or the fault.

        What the budget leaves unasked, or has hardly time for, comes with a NotReachedFault; an answer that is there is
        handed on, however late it is taken. Raises DeadlineFault where the batch is stopped.
        """
        fair = min(self._config.detail_timeout, self.deadline.seconds / 2)
        waiting = deque(numbers)
        answered: SimpleQueue[tuple[int, Any]] = SimpleQueue()
        with self._lock:
            self._last_answer = time.monotonic()
            self._answers = 0

        def work() -> None:
            while not self.deadline.over:
                try:
                    number = waiting.popleft()
                except IndexError:
                    return
                began = time.monotonic()
                outcome: object
                try:
                    outcome = self._ask(self._config.detail_timeout, self._client.booking, number)
                except BaseException as error:
                    # Asked for so late that it had no fair chance: it keeps its place for the next cycle. Else the same
                    # booking could be the last one in each cycle, and never get an answer.
                    is_late = isinstance(error, DeadlineFault) and self.deadline.remaining() <= 0
                    if is_late and self.deadline.end - began < fair:
                        outcome = NotReachedFault(str(error))
                    else:
                        outcome = error
                answered.put((number, outcome))

        for _ in range(min(len(numbers), self._config.max_workers)):
            self._futures.append(self._client.submit(work))
        missing = set(numbers)
        while missing:
            if self.deadline.stopped:
                raise self.deadline.fault()
            try:
                number, answer = answered.get(timeout=_TICK)
            except Empty:
                self._cut_stragglers()
                if self.deadline.over:
                    # What a worker took before has its answer under way; the rest was never asked for.
                    while waiting:
                        with suppress(IndexError):
                            number = waiting.popleft()
                            missing.discard(number)
                            yield number, NotReachedFault(str(self.deadline.fault()))
                    if self._is_past():
                        break
                continue
            missing.discard(number)
            if not isinstance(answer, CalpendoFault) and isinstance(answer, BaseException):
                raise answer
            yield number, answer
        for number in missing:
            yield number, self.deadline.fault()

    def _ask(self, timeout: float, task: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        with self.deadline.part() as part:
            with self._lock:
                self._under_way[part] = (time.monotonic(), max(timeout, STRAGGLER_PATIENCE))
            try:
                answer = task(*args, deadline=part, **kwargs)
            except CalpendoFault as fault:
                self._ended(part, answered=fault.status is not None)
                raise
            except BaseException:
                self._ended(part, answered=False)
                raise
            self._ended(part, answered=True)
            return answer

    def _ended(self, part: Deadline, *, answered: bool) -> None:
        with self._lock:
            del self._under_way[part]
            if answered:
                self._last_answer = time.monotonic()
                self._answers += 1

    def _cut_stragglers(self) -> None:
        """Cut what has been under way for longer than one's patience since the last other answer.

        As long as nothing has been answered at all, patience doubles with each cut: then it is the server that is slow.
        """
        now = time.monotonic()
        with self._lock:
            late = {
                part: patience * self._slowness
                for part, (began, patience) in self._under_way.items()
                if now - max(began, self._last_answer) >= patience * self._slowness
            }
            if late and not self._answers:
                self._slowness *= 2
        for part, patience in late.items():
            part.stop(f"cut, because no answer came within {patience:g} s after the last other one")

    def _is_past(self) -> bool:
        """Return whether the batch was stopped, or its time has been over for so long that no worker may answer."""
        return self.deadline.stopped or time.monotonic() > self.deadline.end + GRACE


def _booking(answer: Answer, number: int) -> dict[str, Any]:
    """Read one booking; a body with more values than any booking has is its own fault, and kept as unread text."""
    if has_too_many_values(answer.body):
        text = answer.body[:_KEPT_OF_A_FLOOD].decode("utf-8", "replace")
        return {"id": number, responses.UNREADABLE: text}
    return responses.booking(answer, number)


def _check_status(answer: Answer) -> None:
    """Raise the fault that a status stands for; 2xx is none."""
    if 200 <= answer.status < 300:
        return
    if answer.status in {401, 403}:
        raise AuthenticationFault(
            f"authentication failed ({answer}): check CALPENDO_USERNAME and CALPENDO_PASSWORD, "
            "and that this user may read bookings",
            status=answer.status,
        )
    if answer.status == 429 or answer.status >= 500:
        kind = "too many requests" if answer.status == 429 else "server error"
        raise ServerFault(f"{kind} ({answer})", status=answer.status, retryable=answer.status in RETRIED)
    raise RefusedFault(f"refused ({answer})", status=answer.status)
