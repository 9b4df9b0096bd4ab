"""The ledger: what was emitted for each booking, and whether the host has it.

One SQLite file a source; one process a file. Within a process all plugins on one file share one ``Ledger``. Nothing
here opens a transaction while the network is waited for: a cycle reads, then works, then writes once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Self

import orjson
import polars as pl

from pipeline.delivery.entry_text import DISCONTINUED, from_text
from pipeline.delivery.ledger_file import LedgerFile
from pipeline.delivery.state_file import StateFile, is_held
from pipeline.errors import PluginStateError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LINES_SCHEMA = {
    "booking_id": pl.Int64,
    "digest": pl.String,
    "status": pl.String,
    "state": pl.String,
    "start_utc": pl.Int64,
    "end_utc": pl.Int64,
}
# The ledger's note of the ids that a plain fetch returned and that nothing has confirmed yet.
_RETURNED = "returned"


def microseconds(moment: datetime) -> int:
    """Give an aware moment as microseconds since 1970 in UTC."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def moment(stored: int) -> datetime:
    """Give the aware UTC moment of stored microseconds."""
    return EPOCH + timedelta(microseconds=stored)


class Line(NamedTuple):
    """One emitted entry as the ledger keeps it; times are microseconds since 1970 in UTC."""

    booking_id: int
    digest: str
    status: str
    start_utc: int
    end_utc: int | None
    booking_hash: str
    entry: str

    def __repr__(self) -> str:
        """Name the booking; the entry is a patient's."""
        return f"Line({self.booking_id}, {self.status})"


@dataclass(frozen=True)
class Changes:
    """What one cycle writes: emitted lines (pending), ids seen, owed, settled, and withdrawals held back."""

    emitted: Sequence[Line] = field(default=(), repr=False)
    seen: Collection[int] = ()
    owed: Collection[int] = ()
    settled: Collection[int] = ()
    held: Collection[int] = ()


_PAST = (
    "SELECT booking_id FROM entries WHERE start_utc < ? AND NOT (state = 'pending' AND EXISTS"
    " (SELECT 1 FROM sightings AS seen WHERE seen.booking_id = entries.booking_id AND seen.last_seen >= ?))"
)
_FORGET = (
    "DELETE FROM sightings WHERE booking_id IN (SELECT value FROM json_each(?))",
    "DELETE FROM entries WHERE booking_id IN (SELECT value FROM json_each(?))",
)


class Ledger(LedgerFile):
    """What was emitted, pending or delivered; what is owed; what waits for a second look."""

    def __init__(self, file: StateFile, path: Path | None = None) -> None:
        super().__init__(file, path)
        # Ids whose entries a plain fetch returned: delivered as soon as anything shows that the call came back.
        self._returned: set[int] = set()

    def snapshot(self) -> Self:
        """Copy this ledger to memory, as the next cycle would find it; what is done to the copy leaves no trace."""
        copy = super().snapshot()
        try:
            copy._returned = set(self._returned)
            copy.settle_returned()
        except BaseException:
            copy.abandon()
            raise
        return copy

    def lines(
        self, ids: Collection[int], start: datetime | None = None, end: datetime | None = None
    ) -> pl.DataFrame:
        """Give the lines that matter to a cycle, one a booking, as ``LINES_SCHEMA``.

        Those are: the bookings asked for, those that start in ``[start, end)``, and all that are pending, owed or
        held back, wherever they start.
        """
        span = (0, 0) if start is None or end is None else (microseconds(start), microseconds(end))
        inside = self._columns("start_utc >= ? AND start_utc < ?", *span)
        rest = set(ids).difference(inside["booking_id"].to_list())
        outside = self._columns(
            """booking_id IN (
                SELECT value FROM json_each(?)
                UNION SELECT booking_id FROM entries WHERE state = 'pending'
                UNION SELECT booking_id FROM owed
                UNION SELECT booking_id FROM held) AND NOT (start_utc >= ? AND start_utc < ?)""",
            id_list(rest),
            *span,
        )
        return pl.concat([inside, outside])

    def _columns(self, condition: str, *values: object) -> pl.DataFrame:
        """Read lines column by column: SQLite writes each one as one JSON text, three times as fast as rows."""
        arrays = ", ".join(f"json_group_array({name})" for name in LINES_SCHEMA)
        query = f"SELECT {arrays} FROM entries WHERE {condition}"  # noqa: S608 - all of it is ours
        texts = self.rows(query, *values)[0]
        return pl.DataFrame(
            [
                pl.Series(name, orjson.loads(text), dtype=dtype)
                for (name, dtype), text in zip(LINES_SCHEMA.items(), texts, strict=True)
            ]
        )

    def entries(self, ids: Collection[int]) -> dict[int, dict[str, Any]]:
        """Give the last entry of each booking asked for, as it was emitted; those never emitted are absent."""
        return {booking_id: from_text(text) for booking_id, text in self.entry_texts(ids).items()}

    def entry_texts(self, ids: Collection[int]) -> dict[int, str]:
        """Give the last entry of each booking asked for as JSON text."""
        return {booking_id: line.entry for booking_id, line in self.last_lines(ids).items()}

    def last_lines(self, ids: Collection[int]) -> dict[int, Line]:
        """Give the whole line of each booking asked for; those never emitted are absent."""
        rows = self.rows(
            f"SELECT {', '.join(Line._fields)} FROM entries"  # noqa: S608 - the columns are a constant
            " WHERE booking_id IN (SELECT value FROM json_each(?))",
            id_list(ids),
        )
        return {row[0]: Line(*row) for row in rows}

    def window_ids(self, start: datetime, end: datetime, *, live: bool = False) -> list[int]:
        """Give the bookings whose last entry starts in ``[start, end)``, in the order of their starts.

        ``live`` leaves out those that were emitted as DISCONTINUED.
        """
        rows = self.rows(
            "SELECT booking_id FROM entries WHERE start_utc >= ? AND start_utc < ? AND (status != ? OR NOT ?)"
            " ORDER BY start_utc, booking_id",
            microseconds(start),
            microseconds(end),
            DISCONTINUED,
            live,
        )
        return [row[0] for row in rows]

    def pending_ids(self) -> list[int]:
        """Give the bookings whose last entry the host has not acknowledged."""
        rows = self.rows("SELECT booking_id FROM entries WHERE state = 'pending' ORDER BY booking_id")
        return [row[0] for row in rows]

    def owed(self) -> dict[int, tuple[datetime, int]]:
        """Give the bookings whose details could not be had: since when, and how many cycles tried."""
        rows = self.rows("SELECT booking_id, since, attempts FROM owed ORDER BY booking_id")
        return {booking_id: (moment(since), attempts) for booking_id, since, attempts in rows}

    def held(self) -> set[int]:
        """Give the bookings whose withdrawal waits for the same answer in a second cycle."""
        return {row[0] for row in self.rows("SELECT booking_id FROM held")}

    def sighting(self, booking_id: int) -> tuple[datetime, datetime] | None:
        """Tell when a booking was first and last found in the state of its last entry or in a newer one."""
        rows = self.rows("SELECT first_seen, last_seen FROM sightings WHERE booking_id = ?", booking_id)
        return (moment(rows[0][0]), moment(rows[0][1])) if rows else None

    def record(self, changes: Changes, now: datetime) -> None:
        """Write a cycle's outcome, inside a transaction: emitted entries become pending."""
        stamp = microseconds(now)
        write = self.connection.executemany
        write(
            "INSERT OR REPLACE INTO entries (booking_id, digest, status, start_utc, end_utc, booking_hash, entry, state)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, 'pending')",
            changes.emitted,
        )
        # One statement over a narrow table: 10,000 unchanged bookings cost about 40 pages and a few milliseconds.
        self.connection.execute(
            "INSERT INTO sightings SELECT value, ?, ? FROM json_each(?) WHERE true"
            " ON CONFLICT (booking_id) DO UPDATE SET last_seen = excluded.last_seen",
            (stamp, stamp, id_list(changes.seen)),
        )
        self.owe(changes.owed, now)
        write("DELETE FROM owed WHERE booking_id = ?", [(booking_id,) for booking_id in changes.settled])
        self.connection.execute(
            "DELETE FROM held WHERE booking_id NOT IN (SELECT value FROM json_each(?))",
            (id_list(changes.held),),
        )
        write(
            "INSERT OR IGNORE INTO held (booking_id, since) VALUES (?, ?)",
            [(booking_id, stamp) for booking_id in changes.held],
        )

    def owe(self, ids: Iterable[int], now: datetime) -> None:
        """Write down bookings whose details could not be had, inside a transaction."""
        self.connection.executemany(
            "INSERT INTO owed (booking_id, since, attempts) VALUES (?, ?, 1)"
            " ON CONFLICT (booking_id) DO UPDATE SET attempts = attempts + 1",
            [(booking_id, microseconds(now)) for booking_id in ids],
        )

    def acknowledge(self, ids: Iterable[int]) -> int:
        """Mark the last entries of these bookings as delivered; unknown and delivered ones are passed over."""
        with self.transaction():
            return self._deliver(ids)

    def resend(self, ids: Iterable[int]) -> int:
        """Mark the last entries of these bookings as pending again, because the host has lost them."""
        lost = set(ids)
        with self.transaction() as connection:
            cursor = connection.execute(
                "UPDATE entries SET state = 'pending'"
                " WHERE state = 'delivered' AND booking_id IN (SELECT value FROM json_each(?))",
                (id_list(lost),),
            )
            count = cursor.rowcount + len(lost & self._returned)
            if lost & self._returned:
                self._returned -= lost
                self.set_meta(_RETURNED, id_list(self._returned))
            return count

    def mark_returned(self, ids: Iterable[int]) -> None:
        """Remember what a plain fetch is about to return; the entries themselves stay pending.

        A note in the file tells those who look at it from outside: the process that holds the ledger has got them.
        """
        with self._guard:
            self._returned.update(ids)
            # The note is for lookers-on alone: where the disk refuses it, the host still gets its entries.
            if self._returned:
                with suppress(PluginStateError), self.transaction():
                    self.set_meta(_RETURNED, id_list(self._returned))

    def settle_returned(self) -> int:
        """Mark as delivered what earlier calls returned: that somebody calls again shows that they came back."""
        with self._guard:
            if not self._returned:
                return 0
            with self.transaction():
                count = self._deliver(self._returned)
                self.forget_meta(_RETURNED)
            self._returned.clear()
            return count

    def unsettle_returned(self) -> None:
        """Leave as pending what was returned since the last look: the host could not use it."""
        with self._guard:
            if self._returned:
                self._returned.clear()
                # The file may be gone or damaged by now; then there is no note to take back.
                with suppress(PluginStateError):
                    self._after_opening()

    def _deliver(self, ids: Iterable[int]) -> int:
        cursor = self.connection.execute(
            "UPDATE entries SET state = 'delivered'"
            " WHERE state = 'pending' AND booking_id IN (SELECT value FROM json_each(?))",
            (id_list(ids),),
        )
        return cursor.rowcount

    def _after_opening(self) -> None:
        """Take back the note of a process that died: whether its host got the entries nobody knows; they go again."""
        if self.meta(_RETURNED) is not None:
            with self.transaction():
                self.forget_meta(_RETURNED)

    def _after_copying(self) -> None:
        """Count as delivered what a living process got: it holds the lock, and would have kept no note of a failure."""
        noted = self.meta(_RETURNED)
        if noted is not None and self.path is not None and is_held(self.path):
            self._returned.update(orjson.loads(noted))
            self.settle_returned()

    def _before_closing(self) -> None:
        # An unusable file must not break the end of a program: what is not marked is sent again.
        with suppress(PluginStateError):
            self.settle_returned()

    def purge(self, before: datetime) -> int:
        """Forget entries that started before a moment, and when they were seen; inside a transaction.

        A pending one stays while Calpendo has named it since then: a booking may have been moved far into the past just
        now, and the host still shows it where it was. What is owed stays until it answers or is gone.
        """
        stamp = microseconds(before)
        gone = [row[0] for row in self.connection.execute(_PAST, (stamp, stamp)).fetchall()]
        if gone:
            which = (id_list(gone),)
            for forget in _FORGET:
                self.connection.execute(forget, which)
        return len(gone)

    def shrink(self) -> None:
        """Give freed pages back to the disk, and drop old values from the write-ahead log."""
        with self._guard, self._explained():
            self.connection.execute("PRAGMA incremental_vacuum").fetchall()
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def id_list(ids: Iterable[int]) -> str:
    """Give ids as JSON text, for SQLite's ``json_each``: one value, however many ids."""
    return orjson.dumps(sorted(ids)).decode()
