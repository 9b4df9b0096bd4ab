"""One HTTP conversation with Calpendo: login, retries, deadlines, and only answers that can be trusted (T007-T010).

What is tried again, how often and after which pause is urllib3's ``Retry``. Its own loop ends where an answer's
headers begin; here a broken, empty or foreign body is tried again too, so the loop stands around the whole answer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar
from urllib.parse import quote, urlsplit

from urllib3.exceptions import HTTPError, MaxRetryError
from urllib3.util.retry import RequestHistory, Retry

from pipeline.calpendo import answers
from pipeline.calpendo.deadline import Deadline
from pipeline.calpendo.faults import CalpendoFault, RefusedFault, ServerFault
from pipeline.calpendo.log import SourceLogger
from pipeline.calpendo.stats import Counter, FetchStats
from pipeline.calpendo.transport import Answer, Transport
from pipeline.calpendo.verdicts import check_status, named, redirected
from pipeline.transform.paths import booking_id as usable_id
from pipeline.version import __version__

if TYPE_CHECKING:
    from types import TracebackType

    from pipeline.config import PipelineConfig
    from pipeline.credentials import Credentials

T = TypeVar("T")
P = ParamSpec("P")

BOOKING = "Calpendo.Booking"
RESOURCE = "Calpendo.Resource"
MRI_SCAN = "MRIScan"

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_GONE = frozenset({404, 410})
_BACKOFF, _BACKOFF_JITTER, _BACKOFF_MAX = 0.25, 0.5, 10.0


@dataclass
class Learned:
    """What earlier batches found out about this server, so that nobody asks or warns twice.

    ``variant`` is the form of the query that it takes, known for sure once it was ``listed``; ``scans`` says that the
    last window had MRI scans; ``paths_refused``
    says that it gives no list with chosen fields that could be used; ``bulk_checked`` that one such list agreed with
    a detail, and ``named_details`` that its details hold a ``formattedName``. ``said`` holds the warnings given.
    """

    variant: int = 0
    listed: bool = False
    scans: bool = False
    paths_refused: bool = False
    bulk_checked: bool = False
    named_details: bool = True
    said: set[str] = field(default_factory=set)


class CalpendoClient:
    """Asks one Calpendo server, from as many threads as ``max_workers`` says; a context manager.

    Each thread has one session with one kept-alive connection. Faults raise ``PluginFetchError`` (see ``faults``).
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
        self._counter = Counter()
        self._local = threading.local()
        self._lock = threading.Lock()
        self._transports: list[Transport] = []
        self._pool = ThreadPoolExecutor(max_workers=config.max_workers, thread_name_prefix="calpendo")
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
        """Wait for the worker threads and close every connection."""
        self._pool.shutdown(wait=True, cancel_futures=True)
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
        return self._counter.read()

    def batch(self) -> Deadline:
        """Start the clock of one batch (``batch_deadline``)."""
        return Deadline(self._config.batch_deadline)

    def submit(self, task: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a task on one of the ``max_workers`` threads (T009)."""
        return self._pool.submit(task, *args, **kwargs)

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
        given. Raises PluginFetchError for
        everything that is not JSON with a ``biskits`` list.
        """
        url = f"{self._root}/q/{quote(biskit_type, safe='')}/{query}"
        if paths:
            url += f"?paths={','.join(quote(path, safe='') for path in paths)}"
        return self._ask(
            url, f"{biskit_type} query", answers.biskits, timeout or self._config.list_timeout, deadline
        )

    def booking(self, booking_id: int, *, deadline: Deadline | None = None) -> dict[str, Any] | None:
        """Return one booking's payload, None where the server knows it no more (404, T008).

        Raises ValueError for an id that is no integer from 0 to 2^53-1: nothing else enters a URL.
        """
        if usable_id(booking_id) is None:
            raise ValueError("a booking id is a whole number from 1 to 2^53-1")
        url = f"{self._root}/b/{BOOKING}/{booking_id:d}"
        try:
            return self._ask(
                url,
                f"booking {booking_id}",
                lambda answer: answers.booking(answer, booking_id),
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
        return self._ask(url, "resource list", answers.biskits_or_list, self._config.list_timeout, None)

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
                check_status(answer)
                return interpret(answer)
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
        self._counter.add(retries=1)
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
            self._counter.add(requests=1, seconds=time.monotonic() - began, received=received)
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
