"""Who set the status of a worklist row: Calpendo, through this plugin, or the scanner, by MPPS.

Pylantir keeps one status a row. A sync that writes Calpendo's word over it sets a running scan back to SCHEDULED; one
that never does cannot bring a cancelled booking back that was approved again. So what this plugin left in a row is
remembered, and what differs from it is the scanner's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from pipeline.delivery.ledger_file import SEALED_STEP

if TYPE_CHECKING:
    from pipeline.delivery.ledger import Ledger

SCHEDULED = "SCHEDULED"
IN_PROGRESS = "IN_PROGRESS"
COMPLETED = "COMPLETED"
DISCONTINUED = "DISCONTINUED"

HOST_NAME_NOTE = "pylantir source"
SYNCED_NOTE = "pylantir synced"
"""The ledger's note that a cycle has gone through: rows in the form of Pylantir's own plugin are outdated since."""

# A booking that comes back after a longer time has a new start, and then the book is not needed (see ``settle``).
_KEPT = timedelta(days=7)
_FOREVER = datetime.max.replace(tzinfo=UTC)


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
