"""What a cycle says in the log (T005): counts at INFO, what needs a look at WARNING, values only where allowed.

Titles and names never appear: bookings are named by their ids, texts by their shapes. What was said at WARNING is said
again at DEBUG only, until a cycle comes without it: a pattern that misses one title must not fill a log every minute.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import polars as pl

from pipeline.transform.reasons import explain, field_reason

if TYPE_CHECKING:
    from pipeline.batch import Batch
    from pipeline.calpendo.log import SourceLogger
    from pipeline.config import PipelineConfig
    from pipeline.delivery.decide import Answers, Checked, Delivery
    from pipeline.report import RunReport

_SHOWN = 20
FEW_MATCHES = 0.8
"""A pattern that matches fewer of a window's bookings is an ERROR: it was hardly meant so."""
_ENOUGH = 5
"""Of fewer bookings, a share says nothing."""


class Notices:
    """The voice of one plugin; remembers from one cycle to the next what it has said."""

    def __init__(self, log: SourceLogger) -> None:
        self._log = log
        self._said: set[tuple[str, object]] = set()
        self._saying: set[tuple[str, object]] = set()

    def tell(
        self,
        answers: Answers,
        checked: Checked,
        delivery: Delivery,
        report: RunReport,
        config: PipelineConfig,
    ) -> None:
        """Say what a cycle did."""
        self._saying = set()
        self._rejected(delivery)
        for batch in checked.batches:
            self._unmatched(batch, config)
            self._repaired(batch)
            self._unknown(batch)
        self._withdrawals(delivery, report)
        self._log.info(
            "%d bookings in the window from %s to %s: %d emitted, %d unchanged, %d filtered, %d rejected,"
            " %d could not be fetched, %d gone",
            report.listed,
            answers.window.start.isoformat(timespec="minutes"),
            answers.window.end.isoformat(timespec="minutes"),
            report.emitted,
            report.unchanged,
            report.filtered,
            report.rejected,
            report.fetch_failed,
            report.gone,
        )
        if report.looked_up:
            self._log.info(
                "%d more looked up by number: %d emitted, %d unchanged, %d gone, %d could not be fetched",
                report.looked_up,
                report.looked_up_emitted,
                report.looked_up_unchanged,
                report.looked_up_gone,
                report.looked_up_failed,
            )
        self._log.info(
            "%d entries returned: %d new, %d changed, %d sent again, %d withdrawn",
            report.returned,
            report.new,
            report.changed,
            report.resent,
            report.withdrawn,
        )
        if report.changed_fields:
            self._log.info("fields changed: %s", _counts(report.changed_fields.items()))
        self._said = self._saying

    def _warn(
        self, topic: str, subject: object, message: str, *args: object, level: int = logging.WARNING
    ) -> None:
        """Say something at ``level`` the first time, at DEBUG as long as it stays."""
        key = (topic, subject)
        self._saying.add(key)
        self._log.log(logging.DEBUG if key in self._said else level, message, *args)

    def _rejected(self, delivery: Delivery) -> None:
        for item in delivery.rejected:
            name = "without an id" if item.booking_id is None else item.booking_id
            reasons = "; ".join(item.reasons)
            subject = (item.booking_id if item.booking_id is not None else hash(item.payload), reasons)
            self._warn("rejected", subject, "booking %s rejected, kept in quarantine: %s", name, reasons)

    def _unmatched(self, batch: Batch, config: PipelineConfig) -> None:
        for target, shapes in batch.flags.unmatched.items():
            for shape, count in shapes.items():
                self._warn(
                    "unmatched",
                    (target, shape),
                    "%s: the pattern did not match %d bookings of the shape %s",
                    target,
                    count,
                    shape,
                )
            asked_for, missed = batch.accepted.height + batch.rejected.height, sum(shapes.values())
            if asked_for >= _ENOUGH and asked_for - missed < FEW_MATCHES * asked_for:
                self._warn(
                    "few matches",
                    target,
                    "%s: the pattern matched only %d of %d bookings; calpendo-pipeline verify shows what it misses",
                    target,
                    asked_for - missed,
                    asked_for,
                    level=logging.ERROR,
                )
        for target, ids in batch.flags.unmatched_ids.items():
            self._log.debug("%s: bookings that the pattern did not match: %s", target, _some(ids))
        for target, ids in batch.flags.pattern_timeouts.items():
            self._warn(
                "pattern_timeouts",
                (target, ids),
                "%s: the pattern took too long and was stopped for bookings %s; calpendo-pipeline verify shows why",
                target,
                _some(ids),
            )
        if config.log_original_values:
            self._original_values(batch, config)

    def _original_values(self, batch: Batch, config: PipelineConfig) -> None:
        """Log the texts themselves, at DEBUG, because the configuration asks for it (T011, design decision 6)."""
        for rule in config.rules:
            column = f"source:{rule.source}"
            if column not in batch.accepted.columns:
                continue
            missed = batch.accepted.filter(pl.col("unmatched").list.contains(rule.target))
            for booking_id, value in missed.select("booking_id", column).iter_rows():
                self._log.debug(
                    "booking %s: %s: the pattern did not match %r", booking_id, rule.target, value
                )

    def _repaired(self, batch: Batch) -> None:
        for field, kinds in batch.flags.repaired.items():
            for kind, ids in kinds.items():
                why = explain(field_reason(field, kind))
                self._warn(
                    "repaired",
                    (field, kind, ids),
                    "%s %s %d bookings: %s",
                    why.meaning,
                    why.remedy,
                    len(ids),
                    _some(ids),
                )
        for field, count in batch.flags.translated.items():
            self._log.debug("%s: %d values were only written in DICOM's form", field, count)

    def _unknown(self, batch: Batch) -> None:
        for topic, counts, outcome in (
            ("statuses", batch.flags.unknown_statuses, "SCHEDULED was taken; add them to status_mapping"),
            ("resources", batch.flags.unknown_resources, "add them to resource_modality_mapping"),
        ):
            if counts:
                values = tuple(sorted(counts))
                # A wrong status is shown to a scanner; a resource without a modality is OT or its own name.
                level = logging.ERROR if topic == "statuses" else logging.WARNING
                self._warn(
                    topic, values, "unknown %s: %s; %s", topic, _counts(counts.items()), outcome, level=level
                )

    def _withdrawals(self, delivery: Delivery, report: RunReport) -> None:
        gone = [booking_id for booking_id, change in delivery.kinds.items() if change == "withdrawn"]
        if gone:
            self._log.warning("%d bookings withdrawn: %s", len(gone), _some(gone))
        verdict = delivery.verdict
        if verdict.kept_by == "guard":
            self._log.error(
                "%d bookings would be withdrawn at once, more than the limit of %g, so none was; the same answer in the"
                " next cycle confirms it: %s",
                len(verdict.held),
                verdict.limit,
                _some(sorted(verdict.held)),
            )
        elif verdict.kept_by == "failed_fetch":
            self._log.warning(
                "%d withdrawals wait for the same answer in the next cycle, because details of %d bookings could not be"
                " fetched",
                len(verdict.held),
                report.fetch_failed + report.looked_up_failed - report.not_reached,
            )


def _some(ids: Sequence[int]) -> str:
    shown = ", ".join(map(str, ids[:_SHOWN]))
    return shown + (f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else "")


def _counts(items: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{name!r} ({count})" for name, count in items)
