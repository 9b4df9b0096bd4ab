"""How a cycle runs: fetch, batch and deliver, each against the server, the columns and the ledger.

``plugin._stages`` calls the three steps in this order; what a step decides is in ``decide.py``. What a cycle decides is
written in one transaction at its end: a process that dies before leaves the ledger as it was, one that dies after has
recorded as pending what it meant to return. Before it, what the last call returned is marked as delivered; after it, only
notes about the return are written.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
import pytz

from pipeline import report as history
from pipeline.calpendo.fetch import NOT_REACHED, LookUp, merged
from pipeline.calpendo.responses import NothingFetchedError
from pipeline.delivery import quarantine
from pipeline.delivery.decide import (
    Answers,
    Checked,
    Delivery,
    decide,
    moved_away,
    not_wanted,
    of_interest,
    to_ask_for,
    with_last_operators,
)
from pipeline.delivery.ledger import DISCONTINUED, STATUS_KEY, Changes, Ledger, Owed, moment
from pipeline.errors import PluginStateError
from pipeline.report import HELD_BACK, RunReport, merged_flags, waiting_withdrawals
from pipeline.wording import first_of

if TYPE_CHECKING:
    from pipeline.batch import Batch, Kept
    from pipeline.calpendo.client import CalpendoClient, SourceLogger
    from pipeline.calpendo.fetch import FetchedBookings, KnownBookings
    from pipeline.calpendo.window import Window
    from pipeline.config import PipelineConfig
    from pipeline.transform.selection import Selection


@dataclass(eq=False, repr=False)
class Cycle:
    """One cycle of one source.

    Attributes:
        now: the aware present.
        on_step: hears the name of each stage as it ends.
        known: what the cycle before learned of the server's bookings; a plugin hands the same to each of its cycles.
        kept: the batches of the cycle before, likewise.
        seconds: how long each stage took.
        judged: the batch of the listed bookings, reused by the cycles of other hosts on the same answers.
    """

    ledger: Ledger
    client: CalpendoClient
    config: PipelineConfig
    _: KW_ONLY
    now: datetime
    log: SourceLogger
    on_step: Callable[[str], None]
    known: KnownBookings | None = None
    kept: dict[str, Kept] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    judged: Batch | None = None
    _lines: pl.DataFrame = field(init=False)
    _interest: list[int] = field(init=False)
    _owed: dict[int, Owed] = field(init=False)
    _held: set[int] = field(init=False)
    _mark: float = field(init=False, default_factory=time.perf_counter)

    def end(self, stage: str) -> None:
        """Note how long a stage took, and tell that it has ended."""
        moment = time.perf_counter()
        self.seconds[stage] = moment - self._mark
        self._mark = moment
        self.on_step(stage)

    def fetch(self, sync_interval: float, days: int | None = None) -> Answers:
        """Ask for the window's bookings, and by number for bookings that the ledger knows and the list did not bring (``fetch_from_server``)."""
        return fetch_from_server([self], sync_interval, days)[0]

    def look_up(self, window: Window, listed: Sequence[int], cut: Sequence[int]) -> LookUp:
        """Name the bookings whose fate the list does not tell, with their times as the host was given them."""
        self.end("list")
        self._lines = self.ledger.lines(listed, window.query_start, window.end)
        self._owed, self._held = self.ledger.owed(), self.ledger.held()
        self._interest = of_interest(self._lines, window, self._owed, self._held, self.config)
        asked = to_ask_for(self._interest, listed, cut)
        spans: dict[int, tuple[datetime | None, datetime | None]] = {
            booking_id: (None, self._owed[booking_id].end if booking_id in self._owed else None)
            for booking_id in asked
        }
        rows = self._lines.filter(pl.col("booking_id").is_in(asked))
        for booking_id, start, end in rows.select("booking_id", "start_utc", "end_utc").iter_rows():
            spans[booking_id] = moment(start), None if end is None else moment(end)
        return LookUp(spans, {booking_id: owed.passed_over for booking_id, owed in self._owed.items()})

    def answers(self, window: Window, listed: FetchedBookings, followed: FetchedBookings) -> Answers:
        """Return what the server said, with what this host's ledger knew before."""
        self.end("lookup")
        owed, held = frozenset(self._owed), frozenset(self._held)
        return Answers(window, listed, followed, tuple(self._interest), self._lines, owed, held)

    def batch(self, answers: Answers, like: Batch | None = None) -> Checked:
        """Send both kinds of bookings through the columns and the schema gate.

        ``like`` is the listed bookings' batch of another host's cycle on the same answers (``judged``).
        """
        config, window = self.config, answers.window
        if like is None:
            like = self._process("listed", answers.listed.payloads, wanted(config, window))
        listed = self.judged = like
        moved = moved_away(answers.interest, answers.listed, listed)
        followed = None
        if answers.followed.payloads or moved:
            followed = self._process("followed", [*answers.followed.payloads, *moved], wanted(config))
        unknown = answers.listed.operator_unknown
        listed = with_last_operators(listed, unknown, self.ledger, config)
        if followed is not None:
            followed = with_last_operators(followed, unknown, self.ledger, config)
        told: frozenset[int] = frozenset()
        if rows := answers.failed_rows():
            from pipeline.batch import process_batch

            told = not_wanted(
                process_batch(rows, config, selection=replace(wanted(config), allowed_studies=None))
            )
        self.end("batch")
        return Checked(listed, followed, len(moved), told)

    def _process(self, kind: str, payloads: Sequence[Any], selection: Selection) -> Batch:
        from pipeline.batch import process_changed

        today = self.now.astimezone(pytz.timezone(self.config.timezone)).date()
        self.kept[kind] = process_changed(
            self.kept.get(kind), payloads, self.config, selection=selection, today=today
        )
        return self.kept[kind].batch

    def deliver(self, answers: Answers, checked: Checked) -> tuple[Delivery, RunReport]:
        """Decide what goes out and write it down as pending, with everything else, in one transaction."""
        delivery = decide(answers, checked, self.ledger, self.config)
        self.end("diff")
        # What the window can still bring is never forgotten, however short the retention: it would be sent anew.
        keep_after = min(self.now - timedelta(days=self.config.retention_days), answers.window.query_start)
        with self.ledger.transaction() as connection:
            run = history.next_run(connection)
            self.ledger.record(delivery, self.now)
            quarantine.resolve(connection, delivery.seen, self.now)
            quarantine.keep(connection, delivery.rejected, run, self.now)
            purged = 0
            trusted = history.clock_is_steady(connection, self.now)
            if trusted:
                purged = self.ledger.purge(keep_after)
                purged += quarantine.purge(connection, keep_after)
                purged += history.purge_runs(connection, keep_after)
            self.on_step("writing")
            left = history.left_behind(self.ledger.owed(), self.now)
            report = self._report(delivery, left)
            history.add_run(connection, run, report, self.now)
        if purged:
            self.ledger.shrink()
        if trusted:
            self.ledger.purge_files(self.now)
        self.end("write")
        return delivery, replace(report, seconds=self._rounded())

    def _report(self, delivery: Delivery, left_behind: list[int]) -> RunReport:
        answers = delivery.answers
        pending = len(self.ledger.pending_ids())
        if self.config.acknowledge == "on_return":
            pending -= len(delivery.emitted)
        stats = [answers.listed.stats, answers.followed.stats]
        return RunReport(
            source=self.config.source_name,
            started=self.now,
            window_start=answers.window.start,
            window_end=answers.window.end,
            pending=pending,
            owed=len(self.ledger.owed()),
            held=len(delivery.held),
            left_behind=len(left_behind),
            reasons=Counter(reason for item in delivery.rejected for reason in item.reasons),
            filters=delivery.filters,
            changed_fields=delivery.changed_fields,
            seconds=self._rounded(),
            requests={
                "sent": sum(part.requests for part in stats),
                "retried": sum(part.retries for part in stats),
            },
            flags=_flags(delivery),
            warnings=(
                *self.config.warnings,
                *self.ledger.warnings,
                *answers.listed.warnings,
                *answers.followed.warnings,
                *waiting_withdrawals(delivery),
                *_left(left_behind),
            ),
            **delivery.counts,
        )

    def _rounded(self) -> dict[str, float]:
        return {stage: round(spent, 4) for stage, spent in self.seconds.items()}

    def failed(self, error: Exception, text: str) -> RunReport:
        """Write down that the cycle failed, and what it owes now; return the report that says so."""
        self.end("failed")
        report = RunReport(
            source=self.config.source_name,
            started=self.now,
            outcome="failed",
            error=text,
            seconds=self._rounded(),
            warnings=(*self.config.warnings, *self.ledger.warnings),
        )
        failed, ends = (error.failed, error.ends) if isinstance(error, NothingFetchedError) else ({}, {})
        unasked = {booking_id for booking_id, reason in failed.items() if reason == NOT_REACHED}
        try:
            with self.ledger.transaction() as connection:
                self.ledger.owe(Changes(owed=failed, unasked=unasked, ends=ends), self.now)
                report = replace(report, owed=len(self.ledger.owed()), held=len(self.ledger.held()))
                history.add_run(connection, history.next_run(connection), report, self.now)
        except PluginStateError as trouble:
            self.log.error("the failed cycle could not be written down: %s", trouble)  # noqa: TRY400  it says all
        return report


def fetch_from_server(
    cycles: Sequence[Cycle], sync_interval: float, days: int | None = None
) -> list[Answers]:
    """Ask the server once for the cycles of several hosts of one source; return the answers of each.

    Args:
        cycles: of one source and one moment; the first one's connections are used.
        sync_interval: seconds since the last cycle, for the rolling window.
        days: the site's next days in place of the window (``window_of_days``).

    Raises:
        PluginFetchError: the window's list could not be fetched. A look-up by number that fails delays that
            booking, and the withdrawal of others, by one cycle.
    """
    from pipeline.calpendo.fetch import fetch_cycle
    from pipeline.calpendo.window import window_for, window_of_days

    first = cycles[0]
    config, now = first.config, first.now
    if "pipeline.batch" not in sys.modules:
        threading.Thread(target=_warm_up, args=(config,), name="calpendo-warm-up").start()
    for cycle in cycles:
        # That there is another cycle shows that what the last one returned came back.
        cycle.ledger.settle_returned()
        cycle.end("settle")
    window = window_for(config, now, sync_interval) if days is None else window_of_days(config, now, days)
    asked: list[LookUp] = []

    def follow(listed: Sequence[int], cut: Sequence[int]) -> LookUp:
        asked.extend(cycle.look_up(window, listed, cut) for cycle in cycles)
        return merged(asked)

    listed, followed = fetch_cycle(first.client, config, window, known=first.known, follow=follow, now=now)
    return [
        cycle.answers(window, listed, followed.only(own.spans))
        for cycle, own in zip(cycles, asked, strict=True)
    ]


def _flags(delivery: Delivery) -> dict[str, Any]:
    """Return what stands out in the batches, and which withdrawals wait, and why."""
    flags = merged_flags(batch.flags for batch in delivery.checked.batches)
    if delivery.verdict.waiting:
        flags[HELD_BACK] = {str(number): why for number, why in delivery.verdict.waiting.items()}
    return flags


def wanted(config: PipelineConfig, window: Window | None = None) -> Selection:
    """Return what a cycle asks for: of the listed bookings within the window, of those followed by number at any time."""
    from pipeline.transform.selection import Selection

    return Selection.of(config, window.start, window.end) if window else Selection.of(config)


def _left(ids: list[int]) -> list[str]:
    """Say which bookings a few cycles could not fetch."""
    if not ids:
        return []
    text = f"{len(ids)} bookings could not be fetched in more than {history.A_FEW_CYCLES} cycles and have not ended yet"
    return [f"{text}: {first_of(ids)}"]


def _warm_up(config: PipelineConfig) -> None:
    """Load polars and pandera, and build the gate, while the network keeps the first cycle waiting."""
    from pipeline.batch import process_batch

    process_batch([], config)


PLAN_SCHEMA = {
    "change": pl.String,
    "booking_id": pl.Int64,
    "field": pl.String,
    "old": pl.String,
    "new": pl.String,
}


CHANGES = ("new", "changed", "resent", "withdrawn", "held", "rejected")


@dataclass(frozen=True)
class Plan:
    """What a cycle would do now: ``changes`` for people, ``entries`` as they would be returned, and the report.

    ``changes`` has ``PLAN_SCHEMA``, in the order of ``CHANGES``. One row each for a booking that is ``new`` (field
    null), ``resent`` (unchanged, but not acknowledged), ``withdrawn``, ``held`` (a withdrawal that waits for a second
    cycle or for a cycle without a failed fetch) and ``rejected`` (``new`` holds the reasons); a ``changed`` booking
    has one row for each field, with its old and new value. Values are patients' data: for the eyes of who asks.
    ``delivery`` is what the cycle decided, with the server's answers and the batches that it was decided on.
    """

    changes: pl.DataFrame = field(repr=False)
    entries: list[dict[str, Any]] = field(repr=False)
    report: RunReport
    delivery: Delivery = field(repr=False)


def plan_of(delivery: Delivery, report: RunReport) -> Plan:
    """Lay out what a cycle decided."""
    order = {change: place for place, change in enumerate(CHANGES)}
    rows: list[tuple[str, int | None, str | None, str | None, str | None]] = [
        (change, booking_id, None, None, None)
        for booking_id, change in delivery.kinds.items()
        if change in ("new", "resent")
    ]
    rows += [("changed", *row) for row in delivery.differences.iter_rows()]
    off = [(booking_id, change) for booking_id, change in delivery.kinds.items() if change == "withdrawn"]
    off += [(booking_id, "held") for booking_id in sorted(delivery.held)]
    stood = {booking_id: line.status for booking_id, line in delivery.stood.items()}
    rows += [(change, number, STATUS_KEY, stood.get(number), DISCONTINUED) for number, change in off]
    rows += [("rejected", item.booking_id, None, None, "; ".join(item.reasons)) for item in delivery.rejected]
    rows.sort(key=lambda row: order[row[0]])
    return Plan(pl.DataFrame(rows, schema=PLAN_SCHEMA, orient="row"), delivery.entries, report, delivery)
