"""A window -> its bookings, in one of three ways that bring the same (T007-T010).

``details``  the list, then each booking's details in parallel
``bulk``     one list that brings all fields; a row that lacks a field of the hash is looked up
``changed``  a list with modification times, and details only of what is new or modified

Every booking of the list, and every booking that is asked for besides, ends in exactly one place: fetched, outside
the window, gone, or failed.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from pipeline.calpendo.client import BOOKING, MRI_SCAN, CalpendoClient, FetchStats, RequestQueue, SourceLogger
from pipeline.calpendo.operators import Operators
from pipeline.calpendo.query import query_variants
from pipeline.calpendo.responses import (
    UNREADABLE,
    AnswerFault,
    AuthenticationFault,
    CalpendoFault,
    NothingFetchedError,
    NotReachedFault,
    RefusedFault,
    ServerFault,
    is_ambiguous,
    is_readable,
    spans,
    surely_outside,
)
from pipeline.fields import BOOKING as BOOKING_FIELDS
from pipeline.transform.json_values import UNDER, JsonObject, booking_id, find, value_at
from pipeline.transform.times import names_offset
from pipeline.wording import first_of

if TYPE_CHECKING:
    from pipeline.calpendo.window import Window
    from pipeline.config import PipelineConfig

NOT_REACHED = "not_reached"
"""Why a booking failed that the deadline left unasked: no fault of the server; its turn comes in the next cycle."""

_REFUSED_QUERY = frozenset({400, 404})
_REFUSING_STATUSES = frozenset({500, 501})
_FAR = datetime.max.replace(tzinfo=UTC)
# Of five turns, one is for what is over.
_TURNS = 5


@dataclass(frozen=True)
class FetchedBookings:
    """The bookings of a window or of a list of ids, and what became of those that are not among them.

    ``listed``   distinct ids, in the server's order
    ``payloads`` one dict per booking, in the list's order, the operator of an MRI scan under ``operator``; a payload
                 whose text could not be read is ``{"id": ..., "_unreadable": text}``
    ``cut``      outside the window by the list alone: no detail was fetched, they count as filtered
    ``gone``     the detail answered 404
    ``failed``   booking id -> why its detail could not be fetched; ``NOT_REACHED`` where there was no time to ask
    ``invalid``  list rows without an integer id, as they came
    ``warnings`` texts without patient data
    ``operator_unknown`` scans of whose operators the server said nothing, as against that there is none
    ``mode``     how it was fetched in the end: details, bulk or changed
    ``failed_rows`` what the list itself says of those that failed
    ``ends``     when those that failed end, in UTC, as far as is known

    Law: ``listed`` is made up of the ids of ``payloads``, ``cut``, ``gone`` and ``failed``, each in one of them. The
    text form holds no payload.
    """

    listed: tuple[int, ...] = ()
    payloads: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    cut: tuple[int, ...] = ()
    gone: tuple[int, ...] = ()
    failed: Mapping[int, str] = field(default_factory=dict)
    invalid: tuple[object, ...] = field(default=(), repr=False)
    warnings: tuple[str, ...] = ()
    operator_unknown: frozenset[int] = frozenset()
    stats: FetchStats = field(default_factory=FetchStats)
    mode: str = "details"
    failed_rows: Mapping[int, dict[str, Any]] = field(default_factory=dict, repr=False)
    ends: Mapping[int, datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the law of conservation."""
        accounted = len(self.payloads) + len(self.cut) + len(self.gone) + len(self.failed)
        if len(self.listed) != accounted:
            raise AssertionError(f"{len(self.listed)} bookings were listed, {accounted} are accounted for")
        elsewhere = {*self.cut, *self.gone, *self.failed}
        if len(elsewhere) != accounted - len(self.payloads) or not elsewhere.issubset(self.listed):
            raise AssertionError("a booking stands in two places, or was not listed")

    def only(self, ids: Collection[int]) -> FetchedBookings:
        """Return what became of these bookings, as if no other had been asked for by number."""
        if len(ids) == len(self.listed):
            return self
        elsewhere = {*self.cut, *self.gone, *self.failed}
        came = zip((number for number in self.listed if number not in elsewhere), self.payloads, strict=True)
        return replace(
            self,
            listed=tuple(number for number in self.listed if number in ids),
            payloads=tuple(payload for number, payload in came if number in ids),
            cut=tuple(number for number in self.cut if number in ids),
            gone=tuple(number for number in self.gone if number in ids),
            failed={number: reason for number, reason in self.failed.items() if number in ids},
            failed_rows={number: row for number, row in self.failed_rows.items() if number in ids},
            ends={number: end for number, end in self.ends.items() if number in ids},
        )


@dataclass(frozen=True)
class LookUp:
    """What a cycle wants to know besides the list.

    ``spans`` are the bookings to ask for by number, with start and end (aware) as far as they are known. ``passed_over``
    are those, listed or not, that there was no time for in so many cycles in a row.
    """

    spans: Mapping[int, tuple[datetime | None, datetime | None]] = field(default_factory=dict)
    passed_over: Mapping[int, int] = field(default_factory=dict)


def merged(several: Sequence[LookUp]) -> LookUp:
    """Join what several hosts of one source want to know: each booking is asked for once, as soon as the first needs it."""
    if len(several) == 1:
        return several[0]
    spans: dict[int, tuple[datetime | None, datetime | None]] = {}
    passed_over: dict[int, int] = {}
    for wanted in several:
        for number, span in wanted.spans.items():
            if spans.get(number, (None, None)) == (None, None):
                spans[number] = span
        for number, cycles in wanted.passed_over.items():
            passed_over[number] = max(cycles, passed_over.get(number, 0))
    return LookUp(spans, passed_over)


Follow = Callable[[Sequence[int], Sequence[int]], LookUp]
"""Called once with what the list brought (ids listed, ids cut by the list alone)."""


@dataclass
class KnownBookings:
    """What earlier cycles brought home, so that ``fetch_mode`` changed asks only for what is new or modified.

    Booking id -> the stamp its list row had and the payload it led to; kept in memory only.
    Payloads hold patients' names, so nothing of this is written anywhere, and the text form shows only the number.
    One object belongs to one source; it is not for several threads at a time. ``cycles`` counts the fetches since
    the last one that fetched every detail.
    """

    cycles: int = 0
    _kept: dict[int, tuple[str, dict[str, Any]]] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Tell how many bookings are kept."""
        return f"KnownBookings({len(self._kept)} bookings, {self.cycles} cycles since all were fetched)"

    def __len__(self) -> int:
        """Return how many bookings are kept."""
        return len(self._kept)

    def full_due(self, every: int) -> bool:
        """Return whether this cycle is to fetch every detail: the first one, and then each ``every``-th."""
        return not self._kept or self.cycles + 1 >= every

    def payload(self, number: int, stamp: str) -> dict[str, Any] | None:
        """Return the payload kept for a booking, None where its stamp is another than when it was fetched."""
        kept = self._kept.get(number)
        return kept[1] if kept is not None and kept[0] == stamp else None

    def replace(self, fresh: Iterable[tuple[int, str, dict[str, Any]]], *, full: bool) -> None:
        """Keep exactly these bookings: id, stamp, payload without its operator."""
        self._kept = {number: (stamp, payload) for number, stamp, payload in fresh}
        self.cycles = 0 if full else self.cycles + 1


def fetch_window(
    client: CalpendoClient, config: PipelineConfig, window: Window, *, known: KnownBookings | None = None
) -> FetchedBookings:
    """Return every booking of the window, in the list's order, as ``fetch_mode`` says.

    Args:
        client: The server to ask.
        config: ``fetch_mode``, filters and limits.
        window: Which bookings are wanted.
        known: What the cycles before fetched, for ``changed``, which asks for the rest; brought up to date unless the
            fetch raises.

    Returns:
        The bookings; a failed detail is reported in ``failed`` and the rest goes on. Where the server has no list
        with chosen fields, details are fetched, and a warning says so once.

    Raises:
        PluginFetchError: The list cannot be fetched or trusted, the login is refused, or every detail fails.
    """
    return fetch_cycle(client, config, window, known=known)[0]


def fetch_cycle(
    client: CalpendoClient,
    config: PipelineConfig,
    window: Window,
    *,
    known: KnownBookings | None = None,
    follow: Follow | None = None,
    now: datetime | None = None,
) -> tuple[FetchedBookings, FetchedBookings]:
    """Fetch a window as ``fetch_window`` does and, in the same queue and time, what ``follow`` asks for besides.

    Args:
        client: The server to ask.
        config: ``fetch_mode``, filters and limits; ``batch_deadline`` holds for everything together.
        window: Which bookings are wanted.
        known: See ``fetch_window``.
        follow: Names the bookings to look up by number, and what is owed, once the list is there.
        now: The aware present; what ended before comes last.

    Returns:
        The window's bookings, and those looked up.

    Raises:
        PluginFetchError: As ``fetch_window``; a look-up that fails, also by a refused login, is in ``failed`` only.
    """
    with _Fetch(client, config, now) as fetch:
        if client.learned.scans or config.fetch_mode == "bulk":
            fetch.begin_operators_early(window)
        mode = fetch.list_window(window, known)
        if follow is not None:
            fetch.look_up(follow(fetch.listed, fetch.cut))
        fetch.begin_operators(window)
        fetch.fetch_details()
        fetch.raise_if_all_failed()
        if mode == "changed" and known is not None:
            fetch.remember(known)
        return fetch.result(mode), fetch.looked_up()


def fetch_bookings(client: CalpendoClient, config: PipelineConfig, ids: Iterable[int]) -> FetchedBookings:
    """Return bookings by their ids, wherever they lie in time; ``listed`` are the ids asked for.

    Raises PluginFetchError only where the login is refused: even all of them may fail and be asked for again.
    """
    with _Fetch(client, config) as fetch:
        fetch.take_ids(ids)
        fetch.fetch_details()
        return fetch.result("details")


class Turn(NamedTuple):
    """What decides when a booking is asked for; ``passed_over``: for how many cycles it has had no turn."""

    number: int
    start: datetime | None = None
    end: datetime | None = None
    passed_over: int = 0


def in_turn(turns: Iterable[Turn], now: datetime | None) -> list[int]:
    """Return the ids in the order in which they are asked for: what waits longest, then what starts soonest.

    What is over by ``now`` gets each fifth turn, beginning with the first: bookings of a bad night must not keep today's
    off. What failed when it was asked for has had its turn, and waits like all others.
    """
    first: list[Turn] = []
    over: list[Turn] = []
    for turn in turns:
        (over if now is not None and turn.end is not None and turn.end <= now else first).append(turn)

    def rank(turn: Turn) -> tuple[int, datetime]:
        return -turn.passed_over, turn.start or turn.end or _FAR

    first.sort(key=rank)
    over.sort(key=rank)
    order: list[int] = []
    for place, turn in enumerate(over):
        order.append(turn.number)
        order += (other.number for other in first[place * (_TURNS - 1) : (place + 1) * (_TURNS - 1)])
    return order + [turn.number for turn in first[len(over) * (_TURNS - 1) :]]


class _Fetch:
    """One fetch on its way home: what was listed, what came, what was cut, gone or failed.

    A context manager, at whose end nothing is under way any more.
    """

    def __init__(self, client: CalpendoClient, config: PipelineConfig, now: datetime | None = None) -> None:
        self._client = client
        self._config = config
        self._now = now
        self._log = SourceLogger(__name__, config.source_name)
        self._began = time.monotonic()
        self._before = client.stats
        self._requests = RequestQueue(client, config)
        self._operators = Operators(client, config, self._requests, self.warn)
        self._rows: dict[int, dict[str, Any]] | None = None
        self._spans: dict[int, tuple[datetime | None, datetime | None]] = {}
        self._kept: list[int] = []
        self._stamps: dict[int, str | None] = {}
        self._full = True
        self._look_up = LookUp()
        self._gone: set[int] = set()
        self._failed: dict[int, str] = {}
        self._payloads: dict[int, dict[str, Any]] = {}
        self._warnings: list[str] = []
        self._invalid: list[object] = []
        self.listed: list[int] = []
        self.cut: list[int] = []

    def __enter__(self) -> Self:
        """Return the fetch."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancel what still waits and cut what is still asked, whatever ended the batch."""
        self._requests.close()

    def warn(self, text: str) -> None:
        """Keep a warning for the report and log it."""
        self._warnings.append(text)
        self._log.warning("%s", text)

    def _warn_once(self, text: str) -> None:
        """Warn, unless this client's batches have said the same before."""
        if text not in self._client.learned.said:
            self._client.learned.said.add(text)
            self.warn(text)

    def take_ids(self, ids: Iterable[int]) -> None:
        """Ask for bookings by number, and for no list."""
        asked = list(dict.fromkeys(ids))
        self.listed = self._kept = [number for number in asked if booking_id(number) is not None]
        self._invalid = [number for number in asked if booking_id(number) is None]

    def list_window(self, window: Window, known: KnownBookings | None) -> str:
        """Ask for the window's list as ``fetch_mode`` says, for the plain one where the server has no such list."""
        mode = self._config.fetch_mode
        if mode != "details" and not self._client.learned.paths_refused:
            usable = (
                self._list_all_fields(window) if mode == "bulk" else self._list_what_changed(window, known)
            )
            if usable:
                return mode
        if self._rows is None:
            self._list(window)
        return "details"

    def _list(self, window: Window, paths: Sequence[str] = ()) -> dict[int, dict[str, Any]]:
        """Ask for the window's list; return the rows that are not surely outside it, in the server's order.

        ``paths`` are the fields that the rows shall bring, the server's own choice where there are none. Of rows with
        one id the first that is not surely outside counts: only where all are outside may a booking be left out.
        """
        given: list[tuple[int, JsonObject]] = []
        self._invalid = []
        for row in self._query(window, paths):
            number = booking_id(find(row, "id")[1]) if isinstance(row, dict) else None
            if number is None:
                self._invalid.append(row)
            else:
                given.append((number, row))
        away: set[int] = set()
        rows: dict[int, JsonObject] = {}
        all_rows = [row for _, row in given]
        outside, times = surely_outside(all_rows, window, self._config), spans(all_rows, self._config)
        for (number, row), is_outside, span in zip(given, outside, times, strict=True):
            if number not in rows or number in away:
                rows[number] = row
                self._spans[number] = span
                if is_outside:
                    away.add(number)
                else:
                    away.discard(number)
        self._rows = rows
        self.listed = list(rows)
        self.cut = [number for number in rows if number in away]
        self._kept = [number for number in rows if number not in away]
        return {number: rows[number] for number in self._kept}

    def _query(self, window: Window, paths: Sequence[str]) -> list[Any]:
        """Send the query, in a wider form where the server refuses an encoded slash; the batch filters again."""
        learned = self._client.learned
        variants = list(query_variants(self._config, window))
        first: RefusedFault | None = None
        for at in range(min(learned.variant, len(variants) - 1), len(variants)):
            try:
                rows = self._requests.result(
                    self._requests.submit(self._client.query, BOOKING, variants[at], paths)
                )
            except RefusedFault as fault:
                first = first or fault
                if fault.status not in _REFUSED_QUERY or at + 1 == len(variants):
                    raise first from None
                continue
            learned.listed = True
            if first is not None:
                learned.variant = at
                self._warn_once(
                    "the server refuses a name with a slash in a query, so more bookings are asked for and the rest "
                    "is filtered here"
                )
            return rows
        raise AssertionError("a window has at least one query")

    def _list_all_fields(self, window: Window) -> bool:
        """Take the window's bookings from one list; return False where this server's list cannot be used that way.

        A row that lacks what enters the hash is looked up, because a list does not tell null from missing. The first
        list of a client is held against the details of one booking before it is believed.
        """
        paths = bulk_paths(self._config)
        not_possible = "fetch_mode bulk is not possible here, details are fetched instead"
        rows = self._list_with(window, plain_paths(paths), not_possible)
        if rows is None:
            return False
        incomplete = _incomplete(rows, self._config)
        reason = _lacking(list(rows.values()), paths) or self._probe(rows, incomplete, paths)
        if reason:
            self._client.learned.paths_refused = True
            self._warn_once(f"{not_possible}: {reason}")
            return False
        named = self._client.learned.named_details
        for number, row in rows.items():
            if number not in incomplete:
                self._payloads[number] = as_payload(row, paths, named=named)
        return True

    def _list_with(
        self, window: Window, paths: Sequence[str], not_possible: str
    ) -> dict[int, dict[str, Any]] | None:
        """Return a list with chosen fields, None where the server will not answer one."""
        try:
            return self._list(window, paths)
        except CalpendoFault as fault:
            if not _refuses_paths(fault):
                raise
            self._client.learned.paths_refused = isinstance(fault, RefusedFault)
            self._warn_once(f"{not_possible}: {fault}")
            return None

    def _probe(
        self, rows: Mapping[int, JsonObject], incomplete: Collection[int], paths: Sequence[str]
    ) -> str | None:
        """Hold the first list against one booking's details; return what the list keeps back, if anything.

        An answer with a null for each field it does not know would otherwise look like bookings without those fields.
        """
        learned = self._client.learned
        number = next((number for number in rows if number not in incomplete), None)
        if learned.bulk_checked or number is None:
            return None
        for _, answer in self._requests.bookings([number]):
            detail = answer
        if isinstance(detail, AuthenticationFault):
            raise detail
        if not isinstance(detail, dict) or UNREADABLE in detail:
            return None
        row = rows[number]
        kept_back = [
            path for path in paths if value_at(row, path) is None and value_at(detail, path) is not None
        ]
        learned.named_details = find(detail, "formattedName")[1] is not None
        learned.bulk_checked = not kept_back
        if not kept_back:
            return None
        self._payloads[number] = detail
        return f"the list leaves {', '.join(plain_paths(tuple(kept_back)))} empty where a booking's details have it"

    def _list_what_changed(self, window: Window, known: KnownBookings | None) -> bool:
        """Take what did not change from ``known``; return False where the list shows no modification times.

        Every detail is fetched in the first cycle and in each ``full_refresh``-th, for what no modification time tells.
        """
        not_possible = "fetch_mode changed is not possible here, all details are fetched"
        rows = self._list_with(window, CHANGED_PATHS, not_possible)
        if rows is None:
            return False
        self._stamps = {number: stamp(row) for number, row in rows.items()}
        if rows and not any(self._stamps.values()):
            self._client.learned.paths_refused = True
            self._warn_once(f"{not_possible}: no row of the list has {MODIFIED.removeprefix(UNDER)}")
            return False
        self._full = known is None or known.full_due(self._config.full_refresh)
        if known is not None and not self._full:
            for number, text in self._stamps.items():
                payload = known.payload(number, text) if text else None
                if payload is not None:
                    self._payloads[number] = payload
        return True

    def remember(self, known: KnownBookings) -> None:
        """Bring ``known`` up to date.

        What could not be read is asked for again in the next cycle, though its row stays the same: it may be readable
        then.
        """
        fresh = (
            (number, self._stamps[number] or "", self._payloads[number])
            for number in self._kept
            if number in self._payloads and is_readable(self._payloads[number])
        )
        known.replace(list(fresh), full=self._full)

    def look_up(self, wanted: LookUp) -> None:
        """Ask for these besides the list."""
        self._look_up = wanted

    def begin_operators_early(self, window: Window) -> None:
        """Ask for the operators beside the list, where it is known which form of the query the server takes."""
        variants = list(query_variants(self._config, window))
        if self._client.learned.listed or len(variants) == 1:
            self._begin_operators(variants)

    def begin_operators(self, window: Window) -> None:
        """Ask for the operators beside the details, if any listed booking is a scan, and not asked already."""
        rows = self._rows or {}
        self._client.learned.scans = any(_may_be_scan(rows[number]) for number in self._kept)
        if self._client.learned.scans:
            self._begin_operators(list(query_variants(self._config, window)))

    def _begin_operators(self, variants: list[str]) -> None:
        self._operators.begin(variants[min(self._client.learned.variant, len(variants) - 1)])

    def fetch_details(self) -> None:
        """Fetch by number whatever is wanted and not here yet (T009); a refused login ends the batch at once."""
        passed_over = self._look_up.passed_over
        missing = [number for number in self._kept if number not in self._payloads]
        if self._rows is None:
            asked = missing
        else:
            turns = [Turn(number, *self._spans[number], passed_over.get(number, 0)) for number in missing]
            turns += [
                Turn(number, *times, passed_over.get(number, 0))
                for number, times in self._look_up.spans.items()
            ]
            asked = in_turn(turns, self._now)
        for number, answer in self._requests.bookings(asked):
            self._take(number, answer)
        missed = sum(reason == NOT_REACHED for reason in self._failed.values())
        if missed:
            self.warn(
                f"{missed} bookings were not reached within the time for a cycle (batch_deadline,"
                f" {self._config.batch_deadline:g} s): they are asked for first in the next one"
            )

    def _take(self, number: int, answer: dict[str, Any] | CalpendoFault | None) -> None:
        if isinstance(answer, AuthenticationFault) and number not in self._look_up.spans:
            raise answer
        if isinstance(answer, NotReachedFault):
            self._failed[number] = NOT_REACHED
        elif isinstance(answer, CalpendoFault):
            self._failed[number] = str(answer)
            self._log.debug("booking %d could not be fetched: %s", number, answer)
        elif answer is None:
            self._gone.add(number)
            self._log.warning("booking %d is gone: its details answered 404", number)
        else:
            self._payloads[number] = answer

    def _tell_failed(self) -> None:
        """Name in one line all bookings that could not be fetched, and why the first could not."""
        failed = {number: reason for number, reason in self._failed.items() if reason != NOT_REACHED}
        if failed:
            self._log.warning(
                "%d bookings could not be fetched: %s; %s",
                len(failed),
                first_of(sorted(failed)),
                next(iter(failed.values())),
            )

    def raise_if_all_failed(self) -> None:
        """Raise PluginFetchError when there were bookings to fetch and not one of them was answered for."""
        if self._payloads or self._gone or not self._failed.keys() & set(self._kept):
            return
        failed = {number: reason for number, reason in self._failed.items() if reason != NOT_REACHED}
        reasons = Counter(
            reason.partition("; GET ")[0].partition(": ")[2] or reason for reason in failed.values()
        )
        shown = "; ".join(f"{count} times: {reason}" for reason, count in reasons.most_common(3))
        if not failed:
            shown = f"the list took all the time there is for a cycle (batch_deadline, {self._config.batch_deadline:g} s)"
        raise NothingFetchedError(
            f"Calpendo: not one of {len(self._failed)} bookings could be fetched. {shown}",
            self._failed,
            self._ends(self._failed),
        )

    def result(self, mode: str) -> FetchedBookings:
        """Return what was gathered of the list, operators merged in, in the list's order."""
        self._merge_operators()
        rows = self._rows or {}
        cut = set(self.cut)
        payloads = [
            self._payloads[number] for number in self.listed if number in self._payloads and number not in cut
        ]
        gone = [number for number in self.listed if number in self._gone and number not in cut]
        failed = {
            number: self._failed[number]
            for number in self.listed
            if number in self._failed and number not in cut
        }
        self._tell_failed()
        if gone and len(gone) == len(self.listed) > 1:
            self.warn(f"all {len(gone)} listed bookings answered 404: is api_path right?")
        self._log.info(
            "%d bookings listed: %d fetched (%s), %d outside the window, %d gone, %d failed, %d without an id",
            len(self.listed) + len(self._invalid),
            len(payloads),
            mode,
            len(self.cut),
            len(gone),
            len(failed),
            len(self._invalid),
        )
        return FetchedBookings(
            listed=tuple(self.listed),
            payloads=tuple(payloads),
            cut=tuple(self.cut),
            gone=tuple(gone),
            failed=failed,
            invalid=tuple(self._invalid),
            warnings=tuple(self._warnings),
            operator_unknown=frozenset(self._operators.unknown),
            stats=self._client.stats.since(self._before, time.monotonic() - self._began),
            mode=mode,
            failed_rows={number: rows[number] for number in failed if number in rows},
            ends=self._ends(failed),
        )

    def looked_up(self) -> FetchedBookings:
        """Return what was gathered besides the list; its operators and requests are counted with the list's."""
        asked = list(self._look_up.spans)
        failed = {number: self._failed[number] for number in asked if number in self._failed}
        return FetchedBookings(
            listed=tuple(asked),
            payloads=tuple(self._payloads[number] for number in asked if number in self._payloads),
            gone=tuple(number for number in asked if number in self._gone),
            failed=failed,
            ends=self._ends(failed),
        )

    def _ends(self, numbers: Iterable[int]) -> dict[int, datetime]:
        known = {**self._spans, **self._look_up.spans}
        return {number: end for number in numbers if (end := known.get(number, (None, None))[1]) is not None}

    def _merge_operators(self) -> None:
        scans = [
            number
            for number, payload in self._payloads.items()
            if value_at(payload, "biskitType") == MRI_SCAN
        ]
        in_window = set(self._kept) if self._rows is not None else set()
        names = self._operators.of_window([number for number in scans if number in in_window])
        names |= self._operators.of_ids([number for number in scans if number not in in_window])
        for number, name in names.items():
            if number in self._payloads:
                self._payloads[number] = {**self._payloads[number], "operator": name}


def _may_be_scan(row: dict[str, Any]) -> bool:
    told, value = find(row, "biskitType")
    return value == MRI_SCAN or not told or not isinstance(value, str)


_TIMES = tuple(field.paths[0] for field in BOOKING_FIELDS if field.is_range)
_NAME = "formattedName"
_HASHED = tuple(field.paths[0] for field in BOOKING_FIELDS if field.hashed and field.paths[0] != _NAME)
BASIC_PATHS = ("id", "biskitType", _NAME, *_HASHED, *_TIMES, "properties.cancelled")
# Fields of a subtype: a query over all bookings that names them is refused, so they come with the operator query.
_SUBTYPE_ROOTS = frozenset({"Operator", "operator"})

MODIFIED = "properties.modified"
# More than the modification time, because a server may print it in whole seconds, or not set it for a new name of a
# project or resource: a row that differs in anything from the cycle before is fetched again.
CHANGED_PATHS = tuple(path.removeprefix(UNDER) for path in (*BASIC_PATHS, MODIFIED))


def bulk_paths(config: PipelineConfig) -> tuple[str, ...]:
    """Return the paths that mapping, filters and hash look up."""
    sources = (rule.source for rule in config.rules)
    wanted = (
        source for source in sources if source.removeprefix(UNDER).partition(".")[0] not in _SUBTYPE_ROOTS
    )
    return tuple(dict.fromkeys((*BASIC_PATHS, *wanted)))


def stamp(row: dict[str, Any]) -> str | None:
    """Return a text that differs whenever anything in the row does; None for a row without a modification time."""
    if value_at(row, MODIFIED) is None:
        return None
    return json.dumps(row, sort_keys=True)


def as_payload(row: dict[str, Any], paths: tuple[str, ...], *, named: bool) -> dict[str, Any]:
    """Return a row in the form a detail has: the same keys in the same places, so that all else treats them alike.

    Where a row has times twice, ``formattedName`` stays the one that counts, as it does in a detail; only where the
    server's details have none (not ``named``) and the ``dateRange`` knows the offset, that is the truer one.
    """
    payload: JsonObject = {"properties": {}}
    # A field before those below it.
    for path in sorted(paths, key=lambda path: path.count(".")):
        value = find(row, path)[1]
        if value is not None:
            _plant(payload, path, value)
    if not named and all(_has_offset(find(row, path)[1]) for path in _TIMES):
        payload.pop("formattedName", None)
    return payload


def plain_paths(paths: tuple[str, ...]) -> tuple[str, ...]:
    """Return the paths as a query names them: without ``properties.`` at their front."""
    return tuple(dict.fromkeys(path.removeprefix(UNDER) for path in paths))


def _plant(payload: JsonObject, path: str, value: Any) -> None:
    """Put a value where its path is looked up first; beside it, as one flat key, where that is taken."""
    *parents, last = path.split(".")
    root = payload
    for parent in parents:
        below = root.get(parent)
        if below is not None and not isinstance(below, dict):
            payload[path] = value
            return
        root[parent] = dict(below or {})
        root = root[parent]
    root[last] = value


def _refuses_paths(fault: CalpendoFault) -> bool:
    """Return whether a fault says that the server will not answer a list with chosen fields."""
    if isinstance(fault, ServerFault):
        return fault.status in _REFUSING_STATUSES
    return isinstance(fault, (RefusedFault, AnswerFault))


def _lacking(rows: list[dict[str, Any]], paths: tuple[str, ...]) -> str | None:
    """Return why the rows cannot be used: a field that was asked for and that no row has."""
    if not rows:
        return None
    absent = [path for path in paths if not any(find(row, path)[0] for row in rows)]
    timed = any(_has_times(row) for row in rows)
    lacking = [path for path in absent if path not in ("formattedName", *_TIMES)]
    if not timed:
        lacking.append("formattedName or dateRange")
    return f"no row of the list has {', '.join(plain_paths(tuple(lacking)))}" if lacking else None


def _has_times(row: dict[str, Any]) -> bool:
    name = find(row, "formattedName")[1]
    return name is not None or all(find(row, path)[1] is not None for path in _TIMES)


def _has_offset(value: Any) -> bool:
    return isinstance(value, str) and names_offset(value)


def _incomplete(rows: dict[int, JsonObject], config: PipelineConfig) -> set[int]:
    """Return the rows that leave open what their details tell: a field of the hash, or which of two like times."""
    times = [[find(row, path)[1] for path in _TIMES] for row in rows.values()]
    doubtful = is_ambiguous([time for pair in times for time in pair], config.timezone)
    return {
        number
        for place, (number, row) in enumerate(rows.items())
        if not _has_times(row)
        or any(find(row, path)[1] is None for path in _HASHED)
        or (any(map(_has_offset, times[place])) and any(doubtful[2 * place : 2 * place + 2]))
    }
