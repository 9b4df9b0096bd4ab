"""The rows of Pylantir's database: what stands in them, read-only, and who set the status of each.

The status is set by Calpendo, through this plugin, or by the scanner, through MPPS; Pylantir keeps one status per row. A sync
that writes Calpendo's word over it sets a running scan back to SCHEDULED; one that never does cannot bring back a cancelled
booking that was approved again. So what this plugin left in a row is remembered, and what differs from it is the scanner's.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import fields
from pipeline.delivery.ledger import (
    COMPLETED,
    DATE_KEY,
    DISCONTINUED,
    IN_PROGRESS,
    SCHEDULED,
    SEALED_STEP,
    STATUS_KEY,
    TIME_KEY,
    Ledger,
)
from pipeline.pylantir.wire import dicom_date, dicom_time

STUDY_UID = "study_instance_uid"
# Empty, Pylantir fills them: the protocol from its configuration, the weight with 100.
_FILLED_BY_HOST = ("protocol_name", "patient_weight_lb")
# Pylantir waits 5 seconds for its own locks; a look must not wait longer than that.
_BUSY_SECONDS = 5.0


def stored_columns() -> tuple[str, ...]:
    """Return the columns that a record of this plugin may fill, beside status and study UID."""
    return tuple(
        field.name
        for field in fields.WORKLIST
        if field.host != "no" and field.name not in (STATUS_KEY, STUDY_UID)
    )


def database_path() -> Path | None:
    """Find the database that Pylantir writes: it names it in ``DB_PATH`` before it opens it; None outside Pylantir."""
    path = os.environ.get("DB_PATH")
    if not path:
        # Nothing of Pylantir's database is imported here: that would bind the path before it is known.
        path = getattr(sys.modules.get("pylantir.db_setup"), "DB_PATH", None)
    return Path(path).expanduser().absolute() if path else None


def read_rows(path: Path, source_name: str, ids: Collection[int]) -> dict[int, dict[str, Any]]:
    """Return a source's rows by booking id, of the bookings asked for. A database not yet made has none.

    Raises ``sqlite3.Error`` when the file cannot be read.
    """
    rows = _select(
        path,
        "data_source = ? AND source_record_id IN (SELECT value FROM json_each(?))",
        (source_name, json.dumps([str(booking_id) for booking_id in ids])),
    )
    return {int(row["source_record_id"]): row for row in rows}


def read_shown(path: Path, source_name: str, since: date) -> dict[int, dict[str, Any]]:
    """Return the rows of a source that may be on a list: not ended, since a day, and written by this plugin.

    Raises ``sqlite3.Error`` when the file cannot be read.
    """
    found: dict[int, dict[str, Any]] = {}
    for row in _select(
        path,
        f"data_source = ? AND {STATUS_KEY} IN (?, ?) AND scheduled_start_date >= ?"
        " AND scheduled_start_date NOT LIKE '%-%'",
        (source_name, SCHEDULED, IN_PROGRESS, f"{since:%Y%m%d}"),
    ):
        with contextlib.suppress(TypeError, ValueError):
            found[int(row["source_record_id"])] = row
    return found


def _select(path: Path, condition: str, values: tuple[str, ...]) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    uri = f"{path.as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS)) as connection:
        connection.row_factory = sqlite3.Row
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'worklist_items'").fetchone():
            return []
        query = f"SELECT * FROM worklist_items WHERE {condition}"  # noqa: S608 - constants of this file
        return [dict(row) for row in connection.execute(query, values)]


def shown_by(record: Any) -> dict[str, Any]:
    """Return the columns of one of Pylantir's own row objects; without a status it is SCHEDULED."""
    row = {name: getattr(record, name, None) for name in (*stored_columns(), STATUS_KEY, STUDY_UID)}
    return row | {STATUS_KEY: row[STATUS_KEY] or SCHEDULED}


def clock_of(row: Mapping[str, Any]) -> str:
    """Return the date and time that a row shows, as one text: ``YYYYMMDDHHMMSS`` where this plugin wrote it."""
    return f"{row[DATE_KEY] or ''}{row[TIME_KEY] or ''}"


def moment_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Read a stored date and time back; None for what this plugin did not write."""
    texts = (str(row[DATE_KEY] or ""), str(row[TIME_KEY] or ""))
    try:
        start = datetime.strptime("".join(texts), "%Y%m%d%H%M%S")  # noqa: DTZ007 - the row's own wall clock
    except ValueError:
        return {DATE_KEY: None, TIME_KEY: None}
    return {DATE_KEY: start.date(), TIME_KEY: start.time()}


def stored_form(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a record as Pylantir stores them, those left out that it fills by itself."""
    columns = {name: record[name] for name in stored_columns() if name in record}
    for name, dicom in ((DATE_KEY, dicom_date), (TIME_KEY, dicom_time)):
        value = dicom(columns.get(name))
        columns[name] = value.strftime("") if hasattr(value, "strftime") else value
    columns["modality"] = columns.get("modality") or "MR"
    for name in _FILLED_BY_HOST:
        if not columns.get(name):
            columns.pop(name, None)
    return columns


def holds(row: Mapping[str, Any], columns: Mapping[str, Any]) -> bool:
    """Return whether a row holds these columns; the status is another matter."""
    return all(row.get(name) == value for name, value in columns.items())


@dataclass(frozen=True)
class Step:
    """What is known of a row: the status as this plugin last left it, and whether the scanner had set that."""

    status: str
    by_scanner: bool = False


def settle(
    wanted: str,
    stored: str | None,
    known: Step | None,
    *,
    underway: str | None = None,
    rescheduled: bool = False,
) -> Step:
    """Decide the status of a row that is about to be written.

    ``wanted`` is Calpendo's word, ``stored`` the row's status (None: no row yet), ``known`` what this plugin last left
    there, ``underway`` a status it may have written without learning whether the host kept it. ``rescheduled``:
    the booking has a new start, and that lies ahead.

    A row that this plugin left as it is takes Calpendo's word. What the scanner set stays, with three exceptions: a
    booking that Calpendo calls completed is completed; a step that was broken off and has a new time is a new
    appointment; and a row that was off the list (cancelled, or completed before) cannot have been begun from it: what
    MPPS did to it was meant for another row of the same subject, and Pylantir takes the first.
    """
    if stored is None or stored in ("", SCHEDULED):
        return Step(wanted)
    if known == Step(COMPLETED, by_scanner=True) and stored == IN_PROGRESS:
        return Step(COMPLETED, by_scanner=True)
    if known is None or not known.by_scanner:
        left = known.status if known else None
        if stored in (left, underway):
            return Step(wanted)
        if wanted == DISCONTINUED == left:
            return Step(DISCONTINUED)
    if stored == DISCONTINUED and wanted in (SCHEDULED, IN_PROGRESS) and rescheduled:
        return Step(wanted)
    if wanted == COMPLETED:
        return Step(COMPLETED, by_scanner=True)
    return Step(stored, by_scanner=True)


def running_identity(step: Step, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the subject under whom a scan runs, as its row has it; empty while none runs.

    Pylantir finds the row that an N-SET ends by the subject's id and name as the scanner took them from the list. A
    correction in Calpendo must wait for the end of the scan, or the scan never ends.
    """
    if step != Step(IN_PROGRESS, by_scanner=True):
        return {}
    return {name: row[name] for name in ("patient_id", "patient_name")}


HOST_NAME_NOTE = "pylantir source"
SYNCED_NOTE = "pylantir synced"
"""The ledger's note that a cycle has gone through: rows in the form of Pylantir's own plugin are outdated since."""
# A booking that comes back after a longer time has a new start, and then the book is not needed (see ``settle``).
_KEPT = timedelta(days=7)
_FOREVER = datetime.max.replace(tzinfo=UTC)


class Left(NamedTuple):
    """A row as it was left: its step, and the date and time it shows with the instant that these meant when written.

    ``clock`` is ``YYYYMMDDHHMMSS`` in the zone of that day's configuration, ``start_utc`` in microseconds since 1970.
    """

    step: Step
    clock: str | None = None
    start_utc: int | None = None


class StepBook:
    """The rows by booking id, kept in the ledger, because it must outlive a restart; written when something changed."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        # A row whose seal is broken is not known: what the scanner did then stays, as with any row of unknown author.
        query = f"SELECT booking_id, status, by_scanner, clock, start_utc FROM steps WHERE seal = seal({SEALED_STEP})"  # noqa: S608
        self._rows = {
            number: Left(Step(status, bool(by)), clock, start)
            for number, status, by, clock, start in ledger.rows(query)
        }
        self.host_name = ledger.meta(HOST_NAME_NOTE)
        """The name under which Pylantir writes this source's rows; None before its first record."""

    def get(self, booking_id: int) -> Step | None:
        """Return the step of a booking's row; None for an unknown one."""
        return self._rows[booking_id].step if booking_id in self._rows else None

    def start_of(self, booking_id: int, clock: str) -> int | None:
        """Return the instant that a row's date and time meant when they were written; None where another hand wrote."""
        left = self._rows.get(booking_id)
        return left.start_utc if left is not None and left.clock == clock else None

    def write(self, rows: Mapping[int, Left], *, host_name: str | None = None, synced: bool = False) -> None:
        """Take over what was learned of some rows, and put it on the disk where it is news."""
        news = {number: left for number, left in rows.items() if self._rows.get(number) != left}
        notes: dict[str, str] = {}
        if host_name is not None and host_name != self.host_name:
            notes[HOST_NAME_NOTE] = self.host_name = host_name
        if synced and self._ledger.meta(SYNCED_NOTE) is None:
            notes[SYNCED_NOTE] = datetime.now(UTC).isoformat(timespec="seconds")
        if not news and not notes:
            return
        self._rows |= news
        living = (
            set(self._ledger.window_ids(datetime.now(UTC) - _KEPT, _FOREVER)) if news else set(self._rows)
        )
        dead = [number for number in self._rows if number not in living]
        for number in dead:
            del self._rows[number]
        with self._ledger.transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO steps (booking_id, status, by_scanner, clock, start_utc) VALUES (?, ?, ?, ?, ?)",
                [
                    (number, left.step.status, int(left.step.by_scanner), left.clock, left.start_utc)
                    for number, left in news.items()
                    if number in living
                ],
            )
            connection.execute(f"UPDATE steps SET seal = seal({SEALED_STEP}) WHERE seal = ''")  # noqa: S608
            connection.executemany("DELETE FROM steps WHERE booking_id = ?", [(number,) for number in dead])
            for key, value in notes.items():
                self._ledger.set_meta(key, value)
