"""The ledger: what one host was given of each booking, and whether it has it; and an entry as text, as the ledger keeps it.

One SQLite file for each source and host, one process for each file. Within a process all plugins on one file share one
``Ledger``. Nothing here opens a transaction while the network is waited for: a cycle reads, then works, then writes once.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import orjson
import polars as pl

from pipeline.delivery.ledger_file import (
    CALLER,
    CURRENT,
    MEMORY,
    SEALED_ENTRY,
    SEALED_NOTE,
    SQLITE_ERRORS,
    StateFile,
    copied,
    explained,
    is_held,
    open_copy,
    open_exclusive,
    open_memory,
    open_shared,
    purge_aside,
)
from pipeline.errors import PluginStateError
from pipeline.wording import first_of

DATE_KEY = "scheduled_start_date"
TIME_KEY = "scheduled_start_time"
DURATION_KEY = "scheduled_procedure_step_duration"
STATUS_KEY = "performed_procedure_step_status"
SCHEDULED, IN_PROGRESS, COMPLETED, DISCONTINUED = "SCHEDULED", "IN_PROGRESS", "COMPLETED", "DISCONTINUED"


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
    """Return an aware moment as microseconds since 1970 in UTC."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def moment(stored: int) -> datetime:
    """Return the aware UTC moment of stored microseconds."""
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


class Owed(NamedTuple):
    """A booking whose details could not be fetched.

    ``since`` when; ``attempts`` counts the cycles that asked for it, ``passed_over`` those in a row that had no time to;
    ``end`` is when it ends, where that is known.
    """

    since: datetime
    attempts: int
    passed_over: int = 0
    end: datetime | None = None

    def is_over(self, now: datetime) -> bool:
        """Return whether it has ended; in doubt it has not."""
        return self.end is not None and self.end <= now


@dataclass(frozen=True)
class Changes:
    """What one cycle writes: emitted lines (pending), ids seen, owed, settled, and withdrawals held back.

    ``unasked`` are those of the owed that there was no time to ask for, ``ends`` says when the owed end.
    """

    emitted: Sequence[Line] = field(default=(), repr=False)
    seen: Collection[int] = ()
    owed: Collection[int] = ()
    unasked: Collection[int] = ()
    ends: Mapping[int, datetime] = field(default_factory=dict)
    settled: Collection[int] = ()
    held: Collection[int] = ()


_PAST = (
    "SELECT booking_id FROM entries WHERE start_utc < ? AND NOT (state = 'pending' AND EXISTS"
    " (SELECT 1 FROM sightings AS seen WHERE seen.booking_id = entries.booking_id AND seen.last_seen >= ?))"
)
_FORGET = "DELETE FROM {} WHERE booking_id IN (SELECT value FROM json_each(?))"


class Ledger:
    """What was emitted, pending or delivered; what is owed; what waits for a second look.

    Make one with ``open``, ``memory``, ``copy`` or ``beside``. It is shared within the process and written in transactions.
    All methods may be called from any thread. Raises ``PluginStateError`` on any trouble with the file.
    """

    _shared: ClassVar[dict[tuple[int, Path], Any]] = {}
    _gates: ClassVar[dict[tuple[int, Path], threading.RLock]] = {}
    # Re-entrant: a forgotten plugin's finalizer may run at any allocation, also inside `open`.
    _shared_lock = threading.RLock()

    def __init__(self, file: StateFile, path: Path | None = None) -> None:
        self.path = path
        self.warnings: tuple[str, ...] = tuple(file.warnings)
        self._file = file
        self._users = 1
        self._process = os.getpid()
        self._guard = threading.RLock()
        self._cycle = threading.Lock()
        self._inode = _inode(path)
        # Ids whose entries a plain fetch returned: delivered as soon as anything shows that the call came back.
        self._returned: set[int] = set()

    def __enter__(self) -> Self:
        """Return the ledger."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Return the ledger back."""
        self.release()

    def __repr__(self) -> str:
        """Name the file."""
        return f"{type(self).__name__}({str(self.path or MEMORY)!r})"

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        source_name: str,
        host: str = CALLER,
        lock_timeout: float = 0.0,
        now: datetime | None = None,
    ) -> Self:
        """Open the ledger of a source and host for writing, or share the one this process has open.

        Raises ``PluginStateError`` when another process holds it or it belongs to another source or host. ``now``
        (default: the present) is the time that the name of a file set aside tells.
        """
        if str(path) == MEMORY:
            return cls(open_memory())
        place = _place(path)
        key = (os.getpid(), place)
        with cls._shared_lock:
            gate = cls._gates.setdefault(key, threading.RLock())
        # Who waits for another process keeps waiting those who want the same file, and nobody else.
        with gate:
            with cls._shared_lock:
                shared: Self | None = cls._shared.get(key)
                if shared is not None and not shared.is_in_place():
                    shared.abandon()
                    shared = None
                if shared is not None:
                    shared._users += 1
            ledger = shared or cls(open_exclusive(place, lock_timeout=lock_timeout, now=now), place)
            try:
                ledger._claim(source_name, host)
                if shared is None:
                    ledger._forget_damaged()
                    # A process that died left it: nobody knows whether its host got them.
                    ledger._take_back_note()
                    with cls._shared_lock:
                        cls._shared[key] = ledger
            except BaseException:
                ledger.release()
                raise
            return ledger

    @classmethod
    def memory(cls) -> Self:
        """Make an empty ledger that lives as long as the object."""
        return cls(open_memory())

    @classmethod
    def copy(cls, path: Path | str) -> Self:
        """Copy a ledger to memory, beside a running process too; what is done to the copy leaves no trace."""
        place = _place(path)
        ledger = cls(open_copy(place), place)
        try:
            ledger._forget_damaged()
            noted = ledger.meta(_RETURNED)
            # A living process got them: it holds the lock, and would have kept no note of a failure.
            if noted is not None and is_held(place):
                ledger._returned.update(orjson.loads(noted))
                ledger.settle_returned()
        except BaseException:
            ledger.abandon()
            raise
        return ledger

    @classmethod
    def beside(cls, path: Path | str) -> Self:
        """Open a ledger for one short write from the command line, beside a running process too."""
        place = _place(path)
        return cls(open_shared(place), place)

    def narrow(self, ids: Collection[int]) -> None:
        """Forget, in a copy, all other bookings, so that a cycle on it is about these alone."""
        if self.connection.execute("PRAGMA database_list").fetchone()[2]:
            raise PluginStateError(f"{self!r} is no copy in memory, and is not narrowed")
        for table in ("entries", "owed", "held"):
            others = f"DELETE FROM {table} WHERE booking_id NOT IN (SELECT value FROM json_each(?))"  # noqa: S608
            self.rows(others, id_list(ids))

    def snapshot(self) -> Self:
        """Copy this ledger to memory, as the next cycle would find it; what is done to the copy leaves no trace."""
        with self._guard, explained(self.path or MEMORY):
            copy = type(self)(StateFile(copied(self.connection)), self.path)
        try:
            copy._returned = set(self._returned)
            copy.settle_returned()
        except BaseException:
            copy.abandon()
            raise
        return copy

    def is_in_place(self) -> bool:
        """Return whether the open file is still the one that its path names: somebody may have removed it."""
        return self._inode == _inode(self.path)

    @contextmanager
    def cycle(self, timeout: float = 0.0) -> Iterator[None]:
        """Let one cycle of this process run at a time; raises ``PluginStateError`` after ``timeout`` seconds."""
        if not self._cycle.acquire(timeout=max(timeout, 0.0)):
            raise PluginStateError(
                "another cycle of this source is running in this process; wait for it to end"
            )
        try:
            yield
        finally:
            self._cycle.release()

    @property
    def connection(self) -> sqlite3.Connection:
        """The open file, for the quarantine and the history that lie in it."""
        return self._file.connection

    def release(self) -> None:
        """Return the ledger back; the last user closes the file. In a forked child nothing happens: it is the parent's."""
        if os.getpid() != self._process:
            return
        with self._shared_lock, self._guard:
            if self._users == 0:
                return
            self._users -= 1
            if self._users == 0:
                try:
                    # An unusable file must not break the end of a program: what is not marked is sent again.
                    with suppress(PluginStateError):
                        self.settle_returned()
                finally:
                    self._forget()
                    self._file.close()

    def abandon(self) -> None:
        """Close as a killed process does: nothing more is written, an open transaction is lost."""
        with self._shared_lock:
            self._users = 0
            self._forget()
            self._file.close()

    def _forget(self) -> None:
        for key in [key for key, ledger in self._shared.items() if ledger is self]:
            del self._shared[key]

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write all of a block or nothing of it; on the disk when the block ends."""
        with self._guard, explained(self.path or MEMORY):
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                with suppress(*SQLITE_ERRORS):
                    self.connection.execute("ROLLBACK")
                raise

    def rows(self, query: str, *values: object) -> list[Any]:
        """Read the rows of a query."""
        with self._guard, explained(self.path or MEMORY):
            return self.connection.execute(query, values).fetchall()

    def _claim(self, source_name: str, host: str) -> None:
        """Write down whose ledger it is and which process holds it; refuse another source's or host's file."""
        for key, given in (("source", source_name), ("host", host)):
            known = self.meta(key)
            if known is not None and known != given:
                raise PluginStateError(
                    f"the ledger {self.path} belongs to the {key} {known!r}, not {given!r}: give each {key} its own"
                    " 'state_path'"
                )
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with self.transaction():
            self.set_meta("source", source_name)
            self.set_meta("host", host)
            self.set_meta("version", str(CURRENT))
            self.set_meta("holder", f"process {os.getpid()} on {socket.gethostname()} since {now}")

    def meta(self, key: str) -> str | None:
        """Read one of the ledger's own notes; None where there is none, or its seal is broken."""
        rows = self.rows(f"SELECT value FROM meta WHERE key = ? AND seal = seal({SEALED_NOTE})", key)  # noqa: S608
        return str(rows[0][0]) if rows else None

    def set_meta(self, key: str, value: str) -> None:
        """Write one of the ledger's own notes, inside a transaction."""
        self.connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))
        self.connection.execute(f"UPDATE meta SET seal = seal({SEALED_NOTE}) WHERE key = ?", (key,))  # noqa: S608

    def forget_meta(self, key: str) -> None:
        """Forget one of the ledger's own notes, inside a transaction."""
        self.connection.execute("DELETE FROM meta WHERE key = ?", (key,))

    def _forget_damaged(self, condition: str = "true", *values: object) -> None:
        """Forget the entries whose seal is broken: nobody knows what the host was given, so it is sent again."""
        which = (
            f"({condition}) AND (seal IS NOT seal({SEALED_ENTRY}) OR state NOT IN ('pending', 'delivered'))"
        )
        query = f"SELECT booking_id FROM entries WHERE {which}"  # noqa: S608 - all of it is ours
        damaged = [row[0] for row in self.rows(query, *values)]
        if not damaged:
            return
        with self.transaction() as connection:
            connection.execute(_FORGET.format("entries"), (id_list(damaged),))
        told = (
            f"{len(damaged)} damaged rows of the ledger {self.path or MEMORY} are forgotten, and sent again if they still"
            f" stand: bookings {first_of(damaged)}"
        )
        self.warnings += (told,)

    def lines(
        self, ids: Collection[int], start: datetime | None = None, end: datetime | None = None
    ) -> pl.DataFrame:
        """Return the lines that matter to a cycle, one per booking, as ``LINES_SCHEMA``.

        Those are: the bookings asked for, those that start in ``[start, end)``, and all that are pending, owed or
        held back, wherever they start.
        """
        span = (0, 0) if start is None or end is None else (microseconds(start), microseconds(end))
        within = "start_utc >= ? AND start_utc < ?"
        beyond = """booking_id IN (
                SELECT value FROM json_each(?)
                UNION SELECT booking_id FROM entries WHERE state = 'pending'
                UNION SELECT booking_id FROM owed
                UNION SELECT booking_id FROM held) AND NOT (start_utc >= ? AND start_utc < ?)"""
        self._forget_damaged(within, *span)
        inside = self._columns(within, *span)
        rest = id_list(set(ids).difference(inside["booking_id"].to_list()))
        self._forget_damaged(beyond, rest, *span)
        return pl.concat([inside, self._columns(beyond, rest, *span)])

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

    def lasting(
        self, statuses: Sequence[str], before: datetime, after: datetime, longest: timedelta
    ) -> pl.DataFrame:
        """Return the lines of these statuses that start before a moment and end after another, as ``LINES_SCHEMA``.

        Where no end is known, the booking lasts ``longest``.
        """
        condition = "status IN (SELECT value FROM json_each(?)) AND start_utc < ? AND coalesce(end_utc, start_utc + ?) > ?"
        values = (
            orjson.dumps(list(statuses)).decode(),
            microseconds(before),
            longest // timedelta(microseconds=1),
            microseconds(after),
        )
        self._forget_damaged(condition, *values)
        return self._columns(condition, *values)

    def known(self, ids: Collection[int]) -> set[int]:
        """Return those of these bookings that were ever emitted, or adopted."""
        query = "SELECT booking_id FROM entries WHERE booking_id IN (SELECT value FROM json_each(?))"
        return {row[0] for row in self.rows(query, id_list(ids))}

    def entries(self, ids: Collection[int]) -> dict[int, dict[str, Any]]:
        """Return the last entry of each booking asked for, as it was emitted; those never emitted are absent."""
        return {booking_id: from_text(line.entry) for booking_id, line in self.last_lines(ids).items()}

    def last_lines(self, ids: Collection[int]) -> dict[int, Line]:
        """Return the whole line of each booking asked for; those never emitted are absent."""
        among = "booking_id IN (SELECT value FROM json_each(?))"
        which = id_list(ids)
        self._forget_damaged(among, which)
        columns = ", ".join(Line._fields)
        rows = self.rows(f"SELECT {columns} FROM entries WHERE {among}", which)  # noqa: S608 - constants
        return {row[0]: Line(*row) for row in rows}

    def window_ids(self, start: datetime, end: datetime, *, live: bool = False) -> list[int]:
        """Return the bookings whose last entry starts in ``[start, end)``, in the order of their starts.

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
        """Return the bookings whose last entry the host has not acknowledged."""
        rows = self.rows("SELECT booking_id FROM entries WHERE state = 'pending' ORDER BY booking_id")
        return [row[0] for row in rows]

    def owed(self) -> dict[int, Owed]:
        """Return the bookings whose details could not be fetched."""
        rows = self.rows(
            "SELECT owed.booking_id, since, attempts, passed_over, coalesce(owed.end_utc, entries.end_utc)"
            " FROM owed LEFT JOIN entries ON entries.booking_id = owed.booking_id ORDER BY owed.booking_id"
        )
        return {
            booking_id: Owed(moment(since), attempts, passed_over, None if end is None else moment(end))
            for booking_id, since, attempts, passed_over, end in rows
        }

    def held(self) -> set[int]:
        """Return the bookings whose withdrawal waits for the same answer in a second cycle."""
        return {row[0] for row in self.rows("SELECT booking_id FROM held")}

    def sighting(self, booking_id: int) -> tuple[datetime, datetime] | None:
        """Return when a booking was first and last found in the state of its last entry or in a newer one."""
        rows = self.rows("SELECT first_seen, last_seen FROM sightings WHERE booking_id = ?", booking_id)
        return (moment(rows[0][0]), moment(rows[0][1])) if rows else None

    def record(self, changes: Changes, now: datetime) -> None:
        """Write a cycle's outcome, inside a transaction: emitted entries become pending."""
        stamp = microseconds(now)
        write = self.connection.executemany
        self._write_entries(changes.emitted, "pending")
        # One statement over a narrow table: 10,000 unchanged bookings cost about 40 pages and a few milliseconds.
        self.connection.execute(
            "INSERT INTO sightings SELECT value, ?, ? FROM json_each(?) WHERE true"
            " ON CONFLICT (booking_id) DO UPDATE SET last_seen = excluded.last_seen",
            (stamp, stamp, id_list(changes.seen)),
        )
        self.owe(changes, now)
        write("DELETE FROM owed WHERE booking_id = ?", [(booking_id,) for booking_id in changes.settled])
        self.connection.execute(
            "DELETE FROM held WHERE booking_id NOT IN (SELECT value FROM json_each(?))",
            (id_list(changes.held),),
        )
        write(
            "INSERT OR IGNORE INTO held (booking_id, since) VALUES (?, ?)",
            [(booking_id, stamp) for booking_id in changes.held],
        )

    def adopt(self, lines: Sequence[Line]) -> None:
        """Take over rows that the host holds and nobody has noted: as delivered, unless they are known after all."""
        with self.transaction():
            self._write_entries(lines, "delivered", "OR IGNORE")

    def _write_entries(self, lines: Sequence[Line], state: str, conflict: str = "OR REPLACE") -> None:
        columns = ", ".join(Line._fields)
        self.connection.executemany(
            f"INSERT {conflict} INTO entries ({columns}, state, seal)"  # noqa: S608 - constants
            f" SELECT {columns}, '{state}', seal({SEALED_ENTRY}) FROM (SELECT ? AS booking_id, ? AS digest, ? AS status,"
            " ? AS start_utc, ? AS end_utc, ? AS booking_hash, ? AS entry) WHERE true",
            lines,
        )

    def owe(self, changes: Changes, now: datetime) -> None:
        """Write down bookings whose details could not be fetched (``owed``), inside a transaction.

        What was not even asked for (``unasked``) counts no attempt, but one cycle more without its turn.
        """
        stamp = microseconds(now)
        rows = []
        for number in changes.owed:
            end, passed_over = changes.ends.get(number), number in changes.unasked
            end_utc = None if end is None else microseconds(end)
            rows.append((number, stamp, not passed_over, passed_over, end_utc))
        self.connection.executemany(
            "INSERT INTO owed (booking_id, since, attempts, passed_over, end_utc) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (booking_id) DO UPDATE SET attempts = attempts + excluded.attempts,"
            " passed_over = CASE excluded.passed_over WHEN 0 THEN 0 ELSE passed_over + 1 END,"
            " end_utc = coalesce(excluded.end_utc, end_utc)",
            rows,
        )

    def acknowledge(self, ids: Iterable[int]) -> int:
        """Mark the last entries of these bookings as delivered; unknown and delivered ones are passed over."""
        with self.transaction():
            return self._mark(ids, "delivered", "pending")

    def resend(self, ids: Iterable[int]) -> int:
        """Mark the last entries of these bookings as pending again, because the host has lost them."""
        lost = set(ids)
        with self.transaction():
            count = self._mark(lost, "pending", "delivered") + len(lost & self._returned)
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
                count = self._mark(self._returned, "delivered", "pending")
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
                    self._take_back_note()

    def _mark(self, ids: Iterable[int], state: str, before: str) -> int:
        query = (
            "UPDATE entries SET state = ? WHERE state = ? AND booking_id IN (SELECT value FROM json_each(?))"
        )
        return self.connection.execute(query, (state, before, id_list(ids))).rowcount

    def _take_back_note(self) -> None:
        if self.meta(_RETURNED) is not None:
            with self.transaction():
                self.forget_meta(_RETURNED)

    def purge(self, before: datetime) -> int:
        """Forget entries that started before a moment, and when they were seen; inside a transaction.

        A pending one stays while Calpendo has named it since then: a booking may have been moved far into the past just
        now, and the host still shows it where it was. What is owed stays until it answers or is gone.
        """
        stamp = microseconds(before)
        gone = [row[0] for row in self.connection.execute(_PAST, (stamp, stamp)).fetchall()]
        for table in ("sightings", "entries") if gone else ():
            self.connection.execute(_FORGET.format(table), (id_list(gone),))
        return len(gone)

    def purge_files(self, now: datetime) -> int:
        """Remove damaged and migrated files that were set aside beside this one more than thirty days ago.

        Only the process that holds the ledger does so: a copy leaves no trace.
        """
        return 0 if self.path is None or self._file.lock is None else purge_aside(self.path, now)

    def shrink(self) -> None:
        """Return freed pages back to the disk, and drop old values from the write-ahead log."""
        with self._guard, explained(self.path or MEMORY):
            self.connection.execute("PRAGMA incremental_vacuum").fetchall()
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def id_list(ids: Iterable[int]) -> str:
    """Return ids as JSON text, for SQLite's ``json_each``: one value, however many ids."""
    return orjson.dumps(sorted(ids)).decode()


def _place(path: Path | str) -> Path:
    """Return the one name of a ledger: through a link or another spelling it is the same file, with the same lock."""
    return Path(path).expanduser().resolve()


def _inode(path: Path | None) -> int | None:
    with suppress(OSError):
        return path.stat().st_ino if path else None
    return None


def to_text(entry: Mapping[str, Any]) -> str:
    """Write an entry as JSON; dates and times are ISO 8601."""
    # By Python's isoformat: orjson 3.13 writes the microsecond 10000 of a time as ".10000", a tenth of a second.
    return orjson.dumps(dict(entry), default=_iso, option=orjson.OPT_PASSTHROUGH_DATETIME).decode()


def from_text(text: str) -> dict[str, Any]:
    """Read an entry back, with its ``datetime.date`` and ``datetime.time``."""
    entry: dict[str, Any] = orjson.loads(text)
    if isinstance(entry.get(DATE_KEY), str):
        entry[DATE_KEY] = date.fromisoformat(entry[DATE_KEY])
    if isinstance(entry.get(TIME_KEY), str):
        entry[TIME_KEY] = time.fromisoformat(entry[TIME_KEY])
    return entry


def _iso(value: Any) -> str:
    if isinstance(value, (date, time)):
        return value.isoformat()
    raise TypeError(f"an entry holds no {type(value).__name__}")
