"""One batch on its way home: what was listed, what came, what was cut, gone or failed, and the clock over it all."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, as_completed
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pipeline.calpendo.client import BOOKING, MRI_SCAN
from pipeline.calpendo.deadline import GRACE
from pipeline.calpendo.faults import AuthenticationFault, CalpendoFault, NothingFetchedError, RefusedFault
from pipeline.calpendo.fetched import FetchedBookings
from pipeline.calpendo.log import SourceLogger
from pipeline.calpendo.operators import Operators
from pipeline.calpendo.query import query_variants
from pipeline.calpendo.rows import surely_outside
from pipeline.transform.paths import booking_id, find, value_at

if TYPE_CHECKING:
    from pipeline.calpendo.client import CalpendoClient
    from pipeline.calpendo.window import Window
    from pipeline.config import PipelineConfig

_REFUSED_QUERY = frozenset({400, 404})


class Gathering:
    """Collects one fetch; a context manager, at whose end nothing is under way any more."""

    def __init__(self, client: CalpendoClient, config: PipelineConfig) -> None:
        self._client = client
        self._config = config
        self._log = SourceLogger(__name__, config.source_name)
        self._began = time.monotonic()
        self._before = client.stats
        self._deadline = client.batch()
        self._futures: list[Future[Any]] = []
        self._operators = Operators(client, config, self._deadline, self.warn)
        self.was_listed = False
        self.kept: list[int] = []
        self.rows: dict[int, dict[str, Any]] = {}
        self.listed: list[int] = []
        self.invalid: list[object] = []
        self.cut: list[int] = []
        self.gone: list[int] = []
        self.failed: dict[int, str] = {}
        self.payloads: dict[int, dict[str, Any]] = {}
        self.warnings: list[str] = []

    def __enter__(self) -> Self:
        """Return the gathering."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancel what still waits and cut what is still asked, whatever ended the batch."""
        for future in self._futures:
            future.cancel()
        self._deadline.stop()

    def warn(self, text: str) -> None:
        """Keep a warning for the report and log it."""
        self.warnings.append(text)
        self._log.warning("%s", text)

    def warn_once(self, text: str) -> None:
        """Warn, unless this client's batches have said the same before."""
        if text not in self._client.learned.said:
            self._client.learned.said.add(text)
            self.warn(text)

    def list_bookings(self, window: Window, paths: Sequence[str] = ()) -> list[int]:
        """Ask for the window's list; return the ids that are not surely outside it, in the server's order.

        ``paths`` are the fields that the rows shall bring, the server's own choice where there are none. Of rows with
        one id the first that is not surely outside counts: only where all are outside may a booking be left out.
        """
        rows: list[tuple[int, dict[str, Any]]] = []
        for row in self._query(window, paths):
            number = booking_id(find(row, "id")[1]) if isinstance(row, dict) else None
            if number is None:
                self.invalid.append(row)
            else:
                rows.append((number, row))
        away: set[int] = set()
        outside = surely_outside([row for _, row in rows], window, self._config)
        for (number, row), is_outside in zip(rows, outside, strict=True):
            if number not in self.rows or number in away:
                self.rows[number] = row
                if is_outside:
                    away.add(number)
                else:
                    away.discard(number)
        self.listed = list(self.rows)
        self.cut = [number for number in self.listed if number in away]
        self.kept = [number for number in self.listed if number not in away]
        self.was_listed = True
        return self.kept

    def has(self, number: int) -> bool:
        """Return whether a booking's payload is here."""
        return number in self.payloads

    def forget(self, number: int) -> None:
        """Take back what became of one booking."""
        self.payloads.pop(number, None)
        self.failed.pop(number, None)
        self.gone = [other for other in self.gone if other != number]

    def begin_operators_early(self, window: Window) -> None:
        """Ask for the operators beside the list, where it is known which form of the query the server takes."""
        if self._client.learned.listed or len(self._variants(window)) == 1:
            self._begin_operators(window)

    def begin_operators(self, window: Window) -> None:
        """Ask for the operators beside the details, if any listed booking is a scan, and not asked already."""
        self._client.learned.scans = any(self._may_be_scan(number) for number in self.kept)
        if self._client.learned.scans:
            self._begin_operators(window)

    def _begin_operators(self, window: Window) -> None:
        variants = self._variants(window)
        self._operators.begin(variants[min(self._client.learned.variant, len(variants) - 1)])

    def _variants(self, window: Window) -> list[str]:
        return list(query_variants(self._config, window))

    def _may_be_scan(self, number: int) -> bool:
        told, value = find(self.rows[number], "biskitType")
        return value == MRI_SCAN or not told or not isinstance(value, str)

    def fetch_details(self, ids: Iterable[int]) -> None:
        """Fetch details on all worker threads (T009); a refused login ends the batch at once."""
        numbers = {
            self._client.submit(self._client.booking, number, deadline=self._deadline): number
            for number in ids
        }
        self._futures += numbers
        try:
            for future in as_completed(numbers, timeout=self._deadline.remaining() + GRACE):
                self._take(numbers[future], future)
        except TimeoutError:
            for future, number in numbers.items():
                if not future.done():
                    self.failed[number] = f"no answer within the time for the whole batch ({self._deadline})"

    def raise_if_all_failed(self) -> None:
        """Raise PluginFetchError when there were bookings to fetch and not one of them could be had."""
        if not self.failed or self.payloads or self.gone:
            return
        reasons = Counter(reason.partition("; GET ")[0].partition(": ")[2] for reason in self.failed.values())
        shown = "; ".join(f"{count} times: {reason}" for reason, count in reasons.most_common(3))
        raise NothingFetchedError(
            f"Calpendo: not one of {len(self.failed)} bookings could be fetched. {shown}", self.failed
        )

    def result(self, mode: str) -> FetchedBookings:
        """Return what was gathered, operators merged in, in the list's order."""
        self._merge_operators()
        if self.gone and len(self.gone) == len(self.listed) > 1:
            self.warn(f"all {len(self.gone)} listed bookings answered 404: is api_path right?")
        self._log.info(
            "%d bookings listed: %d fetched (%s), %d outside the window, %d gone, %d failed, %d without an id",
            len(self.listed) + len(self.invalid),
            len(self.payloads),
            mode,
            len(self.cut),
            len(self.gone),
            len(self.failed),
            len(self.invalid),
        )
        gone = set(self.gone)
        return FetchedBookings(
            listed=tuple(self.listed),
            payloads=tuple(self.payloads[number] for number in self.listed if number in self.payloads),
            cut=tuple(self.cut),
            gone=tuple(number for number in self.listed if number in gone),
            failed={number: self.failed[number] for number in self.listed if number in self.failed},
            invalid=tuple(self.invalid),
            warnings=tuple(self.warnings),
            operator_unknown=frozenset(self._operators.unknown),
            stats=self._client.stats.since(self._before, time.monotonic() - self._began),
            mode=mode,
        )

    def _query(self, window: Window, paths: Sequence[str]) -> list[Any]:
        """Send the query, in a wider form where the server refuses an encoded slash; the batch filters again."""
        learned = self._client.learned
        variants = self._variants(window)
        first: RefusedFault | None = None
        for at in range(min(learned.variant, len(variants) - 1), len(variants)):
            future = self._client.submit(
                self._client.query, BOOKING, variants[at], paths, deadline=self._deadline
            )
            self._futures.append(future)
            try:
                rows = self._deadline.result(future)
            except RefusedFault as fault:
                first = first or fault
                if fault.status not in _REFUSED_QUERY or at + 1 == len(variants):
                    raise first from None
                continue
            learned.listed = True
            if first is not None:
                learned.variant = at
                self.warn_once(
                    "the server refuses a name with a slash in a query, so more bookings are asked for and the rest "
                    "is filtered here"
                )
            return rows
        raise AssertionError("a window has at least one query")

    def _take(self, number: int, future: Future[dict[str, Any] | None]) -> None:
        try:
            payload = future.result()
        except AuthenticationFault:
            raise
        except CalpendoFault as fault:
            self.failed[number] = str(fault)
            self._log.warning("booking %d could not be fetched: %s", number, fault)
            return
        if payload is None:
            self.gone.append(number)
            self._log.warning("booking %d is gone: its details answered 404", number)
        else:
            self.payloads[number] = payload

    def _merge_operators(self) -> None:
        scans = [
            number for number, payload in self.payloads.items() if value_at(payload, "biskitType") == MRI_SCAN
        ]
        for number, name in self._operators.names(scans).items():
            if number in self.payloads:
                self.payloads[number] = {**self.payloads[number], "operator": name}
