"""``CalendoPlugin`` as Pylantir runs it: what Pylantir's database holds decides what counts as delivered."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytz

from pipeline.config_file import DEFAULT_NAME
from pipeline.delivery.changes import from_text, to_text
from pipeline.delivery.ledger import Ledger, Line, microseconds, moment
from pipeline.errors import PluginError
from pipeline.plugin import CalendoPlugin
from pipeline.pylantir import host_rows
from pipeline.pylantir.host_rows import STATUS
from pipeline.pylantir.sources import UNNAMED
from pipeline.pylantir.steps import DISCONTINUED, SCHEDULED, Left, Step, StepBook, settle
from pipeline.pylantir.wire import to_wire
from pipeline.pylantir.worklist_filter import output_zone

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


def left_in(
    row: Mapping[str, Any], entry: Mapping[str, Any], known: Step | None, *, transliterating: bool
) -> Step | None:
    """Return the step of a row that holds a delivered entry; None where another hand has changed it since."""
    step = settle(entry[STATUS], row[STATUS] or SCHEDULED, known)
    record = to_wire(entry, transliterating=transliterating).record
    columns = host_rows.stored_form(record | host_rows.running_identity(step, row))
    return step if step.status == row[STATUS] and host_rows.holds(row, columns) else None


class HostedPlugin(CalendoPlugin):
    """A ``CalendoPlugin`` with explicit acknowledgement, and the book of the rows' steps beside its ledger."""

    _book: StepBook | None = None
    _book_ledger: Ledger | None = None

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

    @property
    def row_name(self) -> str:
        """The name under which Pylantir writes this source's rows, as far as is known."""
        return self.book.host_name or (UNNAMED if self.source_name == DEFAULT_NAME else self.source_name)

    @property
    def ledger(self) -> Ledger:
        """The ledger that is open now."""
        return self._ready()[1]

    def underway(self) -> dict[int, str]:
        """Give the statuses of entries that went to the host without it being known whether it kept them."""
        return {int(entry["source_record_id"]): entry[STATUS] for entry in self.pending()}

    def hang_up(self) -> None:
        """Close the connections to Calpendo; the next request opens new ones."""
        if self._client is not None:
            self._client.hang_up()

    def _tell_failure(self, text: str, error: PluginError) -> None:
        """Log it at DEBUG only: Pylantir writes the same error into its own line."""
        self.lgr.debug("%s", text, exc_info=error)

    def reconcile(self, database: Path | None) -> None:
        """Look which delivered rows Pylantir's database lost or holds otherwise, and have them sent again.

        A database that was restored, replaced or edited is brought back to what Calpendo says, and so is one whose ledger
        was lost. What the scanner did to a row is noted and left. One look a cycle, at the bookings that can still be on
        a list.
        """
        if database is None:
            return
        since = self.now - timedelta(hours=self.settings.max_booking_hours)
        self._adopt_unknown(database, since)
        name, ledger = self.book.host_name, self._ready()[1]
        if name is None:
            return
        lines = ledger.last_lines(ledger.window_ids(since, _FOREVER))
        for number in ledger.pending_ids():
            lines.pop(number, None)
        rows = self._rows(database, name, lines)
        if rows is None:
            return
        lost: list[int] = []
        left: dict[int, Left] = {}
        for number, line in lines.items():
            entry = from_text(line.entry)
            row = rows.get(number)
            if row is None:
                if entry[STATUS] != DISCONTINUED:
                    lost.append(number)
                continue
            step = left_in(row, entry, self.book.get(number), transliterating=self.settings.transliterate)
            if step is None:
                lost.append(number)
            else:
                left[number] = Left(step, host_rows.clock_of(row), line.start_utc)
        self.book.write(left)
        if lost:
            self.resend(lost)
            self.lgr.warning(
                "%d rows of Pylantir's database are missing or were changed by another hand; they are written again:"
                " bookings %s",
                len(lost),
                lost[:20],
            )

    def _adopt_unknown(self, database: Path, since: datetime) -> None:
        """Take rows that the ledger does not know for pending, so that each one's booking is asked for by its number.

        A ledger that was lost or damaged knows nothing of them; one whose booking was deleted since would stay on the list.
        """
        with self._reading():
            shown = host_rows.read_shown(database, self.row_name, (since - timedelta(days=1)).date())
            ledger, zone = self._ready()[1], output_zone(self.settings)
            known = ledger.last_lines(shown)
            found = []
            for number, row in shown.items():
                clock = host_rows.moment_of(row)
                if number in known or clock["scheduled_start_date"] is None:
                    continue
                start = datetime.combine(clock["scheduled_start_date"], clock["scheduled_start_time"])
                entry = {name: row[name] for name in host_rows.stored_columns()} | clock
                entry |= {STATUS: SCHEDULED, "data_source": self.source_name, "source_record_id": str(number)}
                start_utc = microseconds(zone.localize(start))
                found.append(Line(number, "", SCHEDULED, start_utc, None, "", to_text(entry)))
            if found:
                ledger.adopt(found)
                self.lgr.warning(
                    "%d rows of Pylantir's list are unknown to the ledger; their bookings are asked for: %s",
                    len(found),
                    [line.booking_id for line in found[:20]],
                )

    def is_rescheduled(self, number: int, existing: Any) -> bool:
        """Tell whether a booking has another start than its row, and that lies ahead.

        The row's start is the instant that its date and time meant when they were written: that ``output_timezone`` was
        changed since moves no booking. A row of Pylantir's own plugin (dates with dashes) is in another zone, perhaps: it
        tells nothing.
        """
        stored = {
            name: getattr(existing, name, None) for name in ("scheduled_start_date", "scheduled_start_time")
        }
        before = host_rows.clock_of(stored)
        if "-" in before:
            return False
        line = self._ready()[1].last_lines([number]).get(number)
        if line is None or line.start_utc <= microseconds(self.now):
            return False
        meant = self.book.start_of(number, before)
        if meant is not None:
            return line.start_utc != meant
        # The note was lost. No other zone than these was ever a default.
        zones = (output_zone(self.settings), pytz.utc, pytz.timezone(self.settings.timezone))
        start = moment(line.start_utc)
        return before not in {start.astimezone(zone).strftime("%Y%m%d%H%M%S") for zone in zones}

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
        lines = self._ready()[1].last_lines(prepared)
        stored = {}
        for number, row in prepared.items():
            if row.is_in(rows.get(number)):
                clock = host_rows.clock_of(rows[number])
                line = lines.get(number) if row.delivers else None
                start_utc = line.start_utc if line else self.book.start_of(number, clock)
                stored[number] = Left(row.left_as(rows[number]), clock, start_utc)
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
        with self._reading():
            return host_rows.read_rows(database, name, ids)
        return None

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Go on without a look where Pylantir's database cannot be read now."""
        try:
            yield
        except sqlite3.Error as error:
            self.lgr.warning("Pylantir's database cannot be read now: %s", type(error).__name__)
