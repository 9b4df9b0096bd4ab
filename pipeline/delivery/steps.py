"""The three steps of a cycle, run against a ledger: fetch, batch, deliver.

What a step decides is in ``cycle.py``, ``changes.py`` and ``withdrawal.py``; here it meets the server and the file.
Everything that a cycle writes, it writes in one transaction at its end: a process that dies before leaves the ledger
as it was, one that dies after has recorded as pending what it meant to return.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytz

from pipeline.calpendo.fetched import FetchedBookings
from pipeline.delivery import history, quarantine
from pipeline.delivery.cycle import Answers, Checked, Delivery, decide, moved_away, of_interest, to_ask_for
from pipeline.delivery.flags import merged_flags
from pipeline.delivery.ledger import Changes, Ledger
from pipeline.errors import PluginFetchError, PluginStateError
from pipeline.report import RunReport

if TYPE_CHECKING:
    from pipeline.batch import Batch, Kept
    from pipeline.calpendo.client import CalpendoClient
    from pipeline.calpendo.known import KnownBookings
    from pipeline.calpendo.log import SourceLogger
    from pipeline.config import PipelineConfig
    from pipeline.transform.selection import Selection


class Cycle:
    """One cycle of one source; ``now`` is aware. ``on_step`` hears the name of each stage as it ends.

    ``known`` and ``kept`` hold what the cycle before learned: a plugin hands the same ones to each of its cycles.
    """

    def __init__(
        self,
        ledger: Ledger,
        client: CalpendoClient,
        config: PipelineConfig,
        *,
        known: KnownBookings | None = None,
        kept: dict[str, Kept] | None = None,
        now: datetime,
        log: SourceLogger,
        on_step: Callable[[str], None],
    ) -> None:
        self.ledger = ledger
        self.now = now
        self.seconds: dict[str, float] = {}
        self._client = client
        self._known = known
        self._kept = {} if kept is None else kept
        self._config = config
        self._log = log
        self._on_step = on_step
        self._mark = time.perf_counter()

    def _end(self, stage: str) -> None:
        moment = time.perf_counter()
        self.seconds[stage] = moment - self._mark
        self._mark = moment
        self._on_step(stage)

    def fetch(self, sync_interval: float) -> Answers:
        """Ask for the window's bookings, and by number for those whose fate the list does not tell.

        Raises ``PluginFetchError`` when the window cannot be had. A lookup by number that fails costs nothing but a
        cycle's delay, and keeps withdrawals back.
        """
        from pipeline.calpendo.fetch import fetch_window
        from pipeline.calpendo.window import window_for

        if "pipeline.batch" not in sys.modules:
            threading.Thread(target=_warm_up, args=(self._config,), name="calpendo-warm-up").start()
        # That there is another cycle shows that what the last one returned came back.
        self.ledger.settle_returned()
        self._end("settle")
        window = window_for(self._config, self.now, sync_interval)
        listed = fetch_window(self._client, self._config, window, known=self._known)
        self._end("list")
        lines = self.ledger.lines(listed.listed, window.query_start, window.end)
        owed, held = frozenset(self.ledger.owed()), frozenset(self.ledger.held())
        interest = of_interest(lines, window, owed, held, self._config)
        followed = self._look_up(to_ask_for(interest, listed))
        self._end("lookup")
        return Answers(window, listed, followed, tuple(interest), lines, owed, held)

    def _look_up(self, ids: list[int]) -> FetchedBookings:
        from pipeline.calpendo.fetch import fetch_bookings

        if not ids:
            return FetchedBookings()
        try:
            return fetch_bookings(self._client, self._config, ids)
        except PluginFetchError as error:
            # The list came in this very cycle: one hidden record must not stop the others for ever.
            self._log.warning("%d bookings could not be looked up by number: %s", len(ids), error)
            reason = f"{type(error).__name__}: {error}"
            return FetchedBookings(listed=tuple(ids), failed=dict.fromkeys(ids, reason))

    def batch(self, answers: Answers) -> Checked:
        """Send both kinds of bookings through the columns and the schema gate."""
        from pipeline.delivery.last_operators import with_last_operators
        from pipeline.transform.selection import Selection

        config, window = self._config, answers.window
        listed = self._process(
            "listed",
            answers.listed.payloads,
            Selection(
                resources=config.resources,
                status=config.status_filter,
                start=window.start,
                end=window.end,
                include_running=config.include_running,
                allowed_studies=config.allowed_studies,
            ),
        )
        moved = moved_away(answers.interest, answers.listed, listed)
        followed = None
        if answers.followed.payloads or moved:
            followed = self._process(
                "followed",
                [*answers.followed.payloads, *moved],
                Selection(
                    resources=config.resources,
                    status=config.status_filter,
                    allowed_studies=config.allowed_studies,
                ),
            )
        unknown = answers.listed.operator_unknown | answers.followed.operator_unknown
        listed = with_last_operators(listed, unknown, self.ledger, config)
        if followed is not None:
            followed = with_last_operators(followed, unknown, self.ledger, config)
        self._end("batch")
        return Checked(listed, followed, len(moved))

    def _process(self, kind: str, payloads: Sequence[Any], selection: Selection) -> Batch:
        from pipeline.batch import process_changed

        today = self.now.astimezone(pytz.timezone(self._config.timezone)).date()
        self._kept[kind] = process_changed(
            self._kept.get(kind), payloads, self._config, selection=selection, today=today
        )
        return self._kept[kind].batch

    def deliver(self, answers: Answers, checked: Checked) -> tuple[Delivery, RunReport]:
        """Decide what goes out and write it down as pending, with everything else, in one transaction."""
        delivery = decide(answers, checked, self.ledger, self._config)
        self._end("diff")
        # What the window can still bring is never forgotten, however short the retention: it would be sent anew.
        keep_after = min(self.now - timedelta(days=self._config.retention_days), answers.window.query_start)
        with self.ledger.transaction() as connection:
            run = history.next_run(connection)
            self.ledger.record(
                Changes(
                    emitted=delivery.emitted,
                    seen=delivery.seen,
                    owed=delivery.owed,
                    settled=delivery.settled,
                    held=delivery.verdict.held,
                ),
                self.now,
            )
            quarantine.resolve(connection, delivery.seen, self.now)
            quarantine.keep(connection, delivery.rejected, run, self.now)
            purged = 0
            trusted = history.clock_is_steady(connection, self.now)
            if trusted:
                purged = self.ledger.purge(keep_after)
                purged += quarantine.purge(connection, keep_after)
                purged += history.purge_runs(connection, keep_after)
            self._on_step("writing")
            report = self._report(answers, checked, delivery)
            history.add_run(connection, run, report, self.now)
        if purged:
            self.ledger.shrink()
        if trusted:
            self.ledger.purge_files(self.now)
        self._end("write")
        return delivery, replace(report, seconds=self._rounded())

    def _report(self, answers: Answers, checked: Checked, delivery: Delivery) -> RunReport:
        pending = len(self.ledger.pending_ids())
        if self._config.acknowledge == "on_return":
            pending -= len(delivery.emitted)
        stats = [answers.listed.stats, answers.followed.stats]
        return RunReport(
            source=self._config.source_name,
            started=self.now,
            window_start=answers.window.start,
            window_end=answers.window.end,
            pending=pending,
            owed=len(self.ledger.owed()),
            held=len(delivery.verdict.held),
            reasons=delivery.reasons,
            filters=delivery.filters,
            changed_fields=delivery.changed_fields,
            seconds=self._rounded(),
            requests={
                "sent": sum(part.requests for part in stats),
                "retried": sum(part.retries for part in stats),
            },
            flags=merged_flags(checked.batches),
            warnings=(
                *self._config.warnings,
                *self.ledger.warnings,
                *answers.listed.warnings,
                *answers.followed.warnings,
                *_held_back(delivery),
            ),
            **delivery.counts,
        )

    def _rounded(self) -> dict[str, float]:
        return {stage: round(spent, 4) for stage, spent in self.seconds.items()}

    def failed(self, error: Exception, text: str) -> RunReport:
        """Write down that the cycle failed, and what it came to owe; gives the report that says so."""
        self._end("failed")
        report = RunReport(
            source=self._config.source_name,
            started=self.now,
            outcome="failed",
            error=text,
            seconds=self._rounded(),
            warnings=(*self._config.warnings, *self.ledger.warnings),
        )
        try:
            with self.ledger.transaction() as connection:
                self.ledger.owe(getattr(error, "failed", ()), self.now)
                report = replace(report, owed=len(self.ledger.owed()), held=len(self.ledger.held()))
                history.add_run(connection, history.next_run(connection), report, self.now)
        except PluginStateError as trouble:
            self._log.error("the failed cycle could not be written down: %s", trouble)
        return report


def _held_back(delivery: Delivery) -> list[str]:
    """Say why withdrawals wait."""
    verdict = delivery.verdict
    if verdict.kept_by == "failed_fetch":
        text = (
            "some bookings no longer stand in Calpendo, but details of others could not be fetched: nothing is"
            " withdrawn in such a cycle"
        )
        return [text]
    if verdict.kept_by == "guard":
        text = (
            f"{len(verdict.held)} bookings would be withdrawn at once, more than the limit of {verdict.limit:g}: none"
            " was; the same answer in the next cycle confirms it"
        )
        return [text]
    return []


def _warm_up(config: PipelineConfig) -> None:
    """Load polars and pandera, and build the gate, while the network keeps the first cycle waiting."""
    from pipeline.batch import process_batch

    process_batch([], config)
