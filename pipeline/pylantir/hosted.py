"""``CalendoPlugin`` as Pylantir runs it: what Pylantir's database holds decides what counts as delivered."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pipeline.delivery.history import amend_last_run
from pipeline.delivery.ledger import Ledger
from pipeline.plugin import CalendoPlugin
from pipeline.pylantir import host_rows
from pipeline.pylantir.host_rows import STATUS
from pipeline.pylantir.step_book import StepBook
from pipeline.pylantir.steps import DISCONTINUED, SCHEDULED, Step, settle
from pipeline.pylantir.wire import to_wire

_FOREVER = datetime.max.replace(tzinfo=UTC)


NOT_ACKNOWLEDGED = "calpendo_pipeline_not_acknowledged"
"""Marks a record that takes a row off the list in place of an entry that cannot be sent; Pylantir passes it over."""


def booking_number(record: Mapping[str, Any]) -> int | None:
    """Read the booking's id from a record; None for a foreign one."""
    try:
        return int(record["source_record_id"])
    except (KeyError, TypeError, ValueError):
        return None


@dataclass(frozen=True)
class Prepared:
    """A row as it was handed to Pylantir: its columns as stored, the status with its author, and the one before.

    ``delivers`` is False where it only stands in for an entry that could not be sent.
    """

    columns: Mapping[str, Any] = field(repr=False)
    step: Step
    before: str | None
    delivers: bool = True

    def is_in(self, row: Mapping[str, Any] | None) -> bool:
        """Tell whether a row is this one, stored; between commit and look the scanner may have moved it on."""
        if row is None or not host_rows.holds(row, self.columns):
            return False
        return row[STATUS] == self.step.status or row[STATUS] not in (self.before, None, SCHEDULED)

    def left_as(self, row: Mapping[str, Any]) -> Step:
        """Give the step of the stored row."""
        return self.step if row[STATUS] == self.step.status else Step(row[STATUS], by_scanner=True)


class HostedPlugin(CalendoPlugin):
    """A ``CalendoPlugin`` with explicit acknowledgement, and the book of the rows' steps beside its ledger."""

    _book: StepBook | None = None
    _book_ledger: Ledger | None = None

    @property
    def settings(self) -> Any:
        """The checked ``PipelineConfig``."""
        return self._checked()[0]

    @property
    def now(self) -> datetime:
        """The aware present."""
        return self._clock()

    @property
    def book(self) -> StepBook:
        """The book of the ledger that is open now."""
        ledger = self._ready()[1]
        if self._book is None or self._book_ledger is not ledger:
            self._book, self._book_ledger = StepBook(ledger), ledger
        return self._book

    def underway(self) -> dict[int, str]:
        """Give the statuses of entries that went to the host without it being known whether it kept them."""
        return {int(entry["source_record_id"]): entry[STATUS] for entry in self.pending()}

    def add_flags(self, flags: Mapping[str, Any]) -> None:
        """Put what stood out on the way to the wire into the last report, in the history too."""
        found = {name: value for name, value in flags.items() if value}
        if found:
            self.last_report = replace(self.last_report, flags={**self.last_report.flags, **found})
            ledger = self._ready()[1]
            with ledger.transaction() as connection:
                amend_last_run(connection, self.last_report)

    def hang_up(self) -> None:
        """Close the connections to Calpendo; the next request opens new ones."""
        if self._client is not None:
            self._client.hang_up()

    def reconcile(self, database: Path | None) -> None:
        """Look which delivered rows Pylantir's database lost or holds otherwise, and have them sent again.

        A database that was restored, replaced or edited is brought back to what Calpendo says. What the scanner
        did to a row is noted and left. One look a cycle, at the bookings that can still be on a list.
        """
        name = self.book.host_name
        if database is None or name is None:
            return
        since = self.now - timedelta(hours=self.settings.max_booking_hours)
        entries = {int(entry["source_record_id"]): entry for entry in self.last_entries(since, _FOREVER)}
        for number in self.underway():
            entries.pop(number, None)
        rows = self._rows(database, name, entries)
        if rows is None:
            return
        lost: list[int] = []
        steps: dict[int, Step] = {}
        for number, entry in entries.items():
            row = rows.get(number)
            if row is None:
                if entry[STATUS] != DISCONTINUED:
                    lost.append(number)
                continue
            step = settle(entry[STATUS], row[STATUS] or SCHEDULED, self.book.get(number))
            record = to_wire(entry, transliterating=self.settings.transliterate).record
            columns = host_rows.stored_form(record | host_rows.running_identity(step, row))
            if step.status != row[STATUS] or not host_rows.holds(row, columns):
                lost.append(number)
            else:
                steps[number] = step
        self.book.write(steps)
        if lost:
            self.resend(lost)
            self.lgr.warning(
                "%d rows of Pylantir's database are missing or were changed by another hand; they are written again:"
                " bookings %s",
                len(lost),
                lost[:20],
            )

    def rows_to_discontinue(self, numbers: list[int], database: Path | None) -> list[dict[str, Any]]:
        """Give records that take the rows of these bookings off the list, because what they show is out of date."""
        name = self.book.host_name
        if not numbers or database is None or name is None:
            return []
        return [
            {column: row[column] for column in host_rows.stored_columns()}
            | {STATUS: DISCONTINUED, "source_record_id": str(number), NOT_ACKNOWLEDGED: True}
            | host_rows.moment_of(row)
            for number, row in (self._rows(database, name, dict.fromkeys(numbers)) or {}).items()
            if row[STATUS] == SCHEDULED
        ]

    def acknowledge_stored(
        self, prepared: Mapping[int, Prepared], database: Path | None, name: str | None, *, synced: bool
    ) -> None:
        """Acknowledge the rows that Pylantir's database holds; what a failed commit took back stays pending."""
        if database is None or name is None:
            return
        rows = self._rows(database, name, prepared)
        if rows is None:
            return
        stored = {
            number: row.left_as(rows[number])
            for number, row in prepared.items()
            if row.is_in(rows.get(number))
        }
        self.book.write(stored, host_name=name, synced=synced)
        self.acknowledge(number for number in stored if prepared[number].delivers)
        missing = sorted(set(prepared) - set(stored))
        if missing:
            self.lgr.warning(
                "Pylantir's database does not hold %d of %d rows; they are sent again: bookings %s",
                len(missing),
                len(prepared),
                missing[:20],
            )

    def _rows(self, database: Path, name: str, ids: Mapping[int, Any]) -> dict[int, dict[str, Any]] | None:
        try:
            return host_rows.read_rows(database, name, ids)
        except sqlite3.Error as error:
            self.lgr.warning("Pylantir's database cannot be read now: %s", type(error).__name__)
            return None
