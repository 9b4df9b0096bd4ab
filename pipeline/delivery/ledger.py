"""The ledger: what one host was given of each booking, and whether it has it; and the files in which ledgers lie.

One SQLite file for each source and host, one process for each file. Within a process all plugins on one file share one
``Ledger``. Nothing here opens a transaction while the network is waited for: a cycle reads, then works, then writes once.

The caller's file (``run``, ``CalendoPlugin``) is the one that ``state_path`` names; the other hosts' files stand beside it:

    calpendo.sqlite                  a caller
    calpendo@pylantir.sqlite         Pylantir
    calpendo@output-1a2b3c4d.sqlite  one file of ``run --output``
    calpendo@worklist-1a2b3c4d.sqlite  one directory of worklist files

Until 0.1.0 all hosts shared one file; ``hand_over`` gives it to the host that it belongs to. In this file, from the top:
where the files lie, the ledger, an entry as text, the tables in every version, who may open a file, damaged files.
"""

from __future__ import annotations

import os
import re
import socket
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import orjson
import polars as pl

from pipeline.errors import PluginConfigError, PluginStateError
from pipeline.files import sync, whole_file
from pipeline.wording import first_of

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig


MEMORY = ":memory:"
CALLER = "caller"
PYLANTIR = "pylantir"
OUTPUT = "output"
WORKLIST = "worklist"
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


def state_directory() -> Path:
    """Return the directory of this user's ledgers."""
    from platformdirs import user_state_path

    return user_state_path("calpendo-pipeline", appauthor=False)


def output_host(output: Path) -> str:
    """Return the host that one file of ``run --output`` is."""
    return f"{OUTPUT}:{output.expanduser().resolve()}"


def worklist_host(directory: Path) -> str:
    """Return the host that one directory of worklist files is."""
    return f"{WORKLIST}:{directory.expanduser().resolve()}"


def ledger_path(config: PipelineConfig, host: str = CALLER, *, source_name: str | None = None) -> Path | None:
    """Return the ledger of a source and host: at ``state_path``, else in the user's state directory.

    ``source_name``: where the configuration does not know it. Returns None for ``:memory:``.
    """
    if config.state_path == MEMORY:
        return None
    if config.state_path:
        return for_host(Path(config.state_path).expanduser().absolute(), host)
    source = source_name or config.source_name
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", source).strip(".-") or "source"
    digest = blake2b(f"{source}\n{config.base_url}".encode(), digest_size=4).hexdigest()
    return for_host(state_directory() / f"{name}-{digest}.sqlite", host)


def for_host(base: Path, host: str) -> Path:
    """Return a host's ledger beside the caller's, which is ``base`` itself."""
    kind, _, place = host.partition(":")
    if kind == CALLER:
        return base
    label = f"{kind}-{blake2b(os.fsencode(place), digest_size=4).hexdigest()}" if place else kind
    return base.with_name(f"{base.stem}@{label}{base.suffix}")


def base_of(path: Path) -> Path:
    """Return the caller's ledger beside any host's."""
    stem = re.sub(rf"@({PYLANTIR}|({OUTPUT}|{WORKLIST})-[0-9a-f]{{8}})\Z", "", path.stem)
    return path.with_name(stem + path.suffix)


def ledgers_beside(base: Path) -> list[Path]:
    """Return the ledgers of a source that there are, whoever the host is, the caller's first."""
    found = [path for path in base.parent.glob(f"*{base.suffix}") if base_of(path) == base]
    return sorted(found, key=lambda path: (path != base, path.name))


def to_read(config: PipelineConfig, host: str, *, source_name: str | None = None) -> Path | None:
    """Return the file that holds what a host was given until now; None where that is nothing yet.

    That is its own, or the shared one of 0.1.0 as long as this has not been handed over. ``source_name`` as for
    ``ledger_path``.
    """
    base = ledger_path(config, source_name=source_name)
    if base is None:
        return None
    path = for_host(base, host)
    if not path.exists():
        return base if host == PYLANTIR and _is_pylantirs_shared(base) else None
    return None if host == CALLER and _is_pylantirs_shared(base) else path


def hand_over(base: Path, *, lock_timeout: float = 0.0, now: datetime | None = None) -> None:
    """Move a file that all hosts shared until 0.1.0 to Pylantir's place, where it holds a note of that host.

    Without such a note it is the caller's, and stays. Every other host begins empty. Raises ``PluginStateError`` when a
    process of either version works with one of the two.
    """
    if not _is_pylantirs_shared(base):
        return
    target = for_host(base, PYLANTIR)
    # Always in this order, so that two processes that begin at once wait for each other and not for ever.
    with closing(_lock(base, lock_timeout)), closing(_lock(target, lock_timeout)):
        if not _is_pylantirs_shared(base):
            return
        with explained(base):
            # Its write-ahead log would move along; but one file moves at once, three do not.
            with suppress(*SQLITE_ERRORS), closing(connect(base)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            # Both are there when 0.1.0 was started once more in between: its word is the newer one.
            if target.exists():
                _rename(target, _aside(target, f"v{CURRENT}", now))
            _rename(base, target)


def _is_pylantirs_shared(path: Path) -> bool:
    """Return whether a file is of a version that all hosts shared, and Pylantir was one of them."""
    with suppress(*SQLITE_ERRORS, OSError):
        if not path.exists() or foreign(path):
            return False
        with closing(_read_only(path)) as connection:
            if connection.execute("PRAGMA user_version").fetchone()[0] not in range(1, _SHARED + 1):
                return False
            found = connection.execute("SELECT 1 FROM meta WHERE key LIKE 'pylantir %'").fetchone()
            return found is not None
    return False


# Version 3 seals rows, so that a damaged one is known; the digest is computed by the function of this name.
SEALED_ENTRY = (
    "CAST(booking_id || char(10) || digest || char(10) || status || char(10) || start_utc || char(10)"
    " || ifnull(end_utc, '') || char(10) || booking_hash || char(10) || entry AS BLOB)"
)
SEALED_STEP = (
    "CAST(booking_id || char(10) || status || char(10) || by_scanner || char(10) || ifnull(clock, '') || char(10)"
    " || ifnull(start_utc, '') AS BLOB)"
)
SEALED_NOTE = "CAST(key || char(10) || value AS BLOB)"
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


def microseconds(moment: datetime) -> int:
    """Return an aware moment as microseconds since 1970 in UTC."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def moment(stored: int) -> datetime:
    """Return the aware UTC moment of stored microseconds."""
    return EPOCH + timedelta(microseconds=stored)


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


_VERSION_1 = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE entries (
        booking_id INTEGER PRIMARY KEY,
        digest TEXT NOT NULL,
        booking_hash TEXT NOT NULL,
        start_utc INTEGER NOT NULL,
        status TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('pending', 'delivered')),
        first_seen INTEGER NOT NULL,
        last_seen INTEGER NOT NULL,
        entry TEXT NOT NULL)""",
    "CREATE INDEX entries_start ON entries (start_utc)",
    "CREATE TABLE owed (booking_id INTEGER PRIMARY KEY, since INTEGER NOT NULL)",
    """CREATE TABLE quarantine (
        item INTEGER PRIMARY KEY,
        subject TEXT NOT NULL UNIQUE,
        booking_id INTEGER,
        reasons TEXT NOT NULL,
        payload TEXT NOT NULL,
        run INTEGER NOT NULL,
        schema_version INTEGER NOT NULL,
        first_seen INTEGER NOT NULL,
        last_seen INTEGER NOT NULL)""",
    """CREATE TABLE runs (
        run INTEGER PRIMARY KEY,
        started INTEGER NOT NULL,
        finished INTEGER NOT NULL,
        outcome TEXT NOT NULL,
        report TEXT NOT NULL)""",
    "CREATE INDEX runs_started ON runs (started)",
)

# Sightings leave the wide rows: marking 10,000 unchanged bookings as seen then writes about forty pages, not
# two thousand. The end of a booking tells which ones still run; withdrawals that wait for a second look survive a
# restart; a rejected booking that passes later is marked, not forgotten.
_VERSION_2 = (
    "CREATE TABLE sightings (booking_id INTEGER PRIMARY KEY, first_seen INTEGER NOT NULL, last_seen INTEGER NOT NULL)",
    "INSERT INTO sightings SELECT booking_id, first_seen, last_seen FROM entries",
    """CREATE TABLE entries_2 (
        booking_id INTEGER PRIMARY KEY,
        digest TEXT NOT NULL,
        status TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('pending', 'delivered')),
        start_utc INTEGER NOT NULL,
        end_utc INTEGER,
        booking_hash TEXT NOT NULL,
        entry TEXT NOT NULL)""",
    """INSERT INTO entries_2
        SELECT booking_id, digest, status, state, start_utc, NULL, booking_hash, entry FROM entries""",
    "DROP TABLE entries",
    "ALTER TABLE entries_2 RENAME TO entries",
    "CREATE INDEX entries_start ON entries (start_utc)",
    "CREATE INDEX entries_pending ON entries (booking_id) WHERE state = 'pending'",
    "ALTER TABLE owed ADD COLUMN attempts INTEGER NOT NULL DEFAULT 1",
    "ALTER TABLE quarantine ADD COLUMN resolved INTEGER",
    "CREATE TABLE held (booking_id INTEGER PRIMARY KEY, since INTEGER NOT NULL)",
)

# A seal on entries, steps and notes: a flipped bit is noticed before it is believed. What contradicts itself already is not
# sealed. A constraint on ``state`` would be
# one more text that can break. The steps of Pylantir's rows leave their one note for a row each, with the clock time that
# the row shows and the instant that this meant when it was written: another ``output_timezone`` changes the one and
# not the other.
_VERSION_3 = (
    """CREATE TABLE entries_3 (
        booking_id INTEGER PRIMARY KEY,
        digest TEXT NOT NULL,
        status TEXT NOT NULL,
        state TEXT NOT NULL,
        start_utc INTEGER NOT NULL,
        end_utc INTEGER,
        booking_hash TEXT NOT NULL,
        entry TEXT NOT NULL,
        seal TEXT NOT NULL)""",
    f"""INSERT INTO entries_3
        SELECT booking_id, digest, status, state, start_utc, end_utc, booking_hash, entry, seal({SEALED_ENTRY})
        FROM entries WHERE CASE WHEN json_valid(entry) THEN
            json_extract(entry, '$.performed_procedure_step_status') = status
            AND json_extract(entry, '$.source_record_id') = CAST(booking_id AS TEXT)
            AND json_extract(entry, '$.scheduled_start_date') GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]'
            AND date(json_extract(entry, '$.scheduled_start_date')) IS NOT NULL
            AND json_extract(entry, '$.scheduled_start_time') GLOB '[0-9][0-9]:[0-9][0-9]:[0-9][0-9]*'
            AND time(json_extract(entry, '$.scheduled_start_time')) IS NOT NULL END""",  # noqa: S608 - constants
    "DROP TABLE entries",
    "ALTER TABLE entries_3 RENAME TO entries",
    "CREATE INDEX entries_start ON entries (start_utc)",
    "CREATE INDEX entries_pending ON entries (booking_id) WHERE state = 'pending'",
    """CREATE TABLE steps (
        booking_id INTEGER PRIMARY KEY,
        status TEXT NOT NULL,
        by_scanner INTEGER NOT NULL,
        clock TEXT,
        start_utc INTEGER,
        seal TEXT NOT NULL DEFAULT '')""",
    """INSERT INTO steps (booking_id, status, by_scanner, clock, start_utc)
        SELECT CAST(step.key AS INTEGER), json_extract(step.value, '$[0]'), json_extract(step.value, '$[1]'),
            replace(json_extract(entry, '$.scheduled_start_date'), '-', '')
                || substr(replace(json_extract(entry, '$.scheduled_start_time'), ':', ''), 1, 6),
            start_utc
        FROM json_each((SELECT value FROM meta WHERE key = 'pylantir steps')) AS step
        LEFT JOIN entries ON booking_id = CAST(step.key AS INTEGER)""",
    f"UPDATE steps SET seal = seal({SEALED_STEP})",  # noqa: S608 - constants
    # A file with notes is one that a host has used; whose it is now, 0.1.0 did not write down.
    """INSERT INTO meta (key, value)
        SELECT 'host', CASE WHEN EXISTS (SELECT 1 FROM meta WHERE key LIKE 'pylantir %') THEN 'pylantir' ELSE 'caller' END
        WHERE EXISTS (SELECT 1 FROM meta)""",
    "DELETE FROM meta WHERE key = 'pylantir steps'",
    "ALTER TABLE meta ADD COLUMN seal TEXT NOT NULL DEFAULT ''",
    f"UPDATE meta SET seal = seal({SEALED_NOTE})",  # noqa: S608 - constants
    # What there was no time for comes first in the next cycle; when an owed booking ends says whether it still matters.
    "ALTER TABLE owed ADD COLUMN passed_over INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE owed ADD COLUMN end_utc INTEGER",
)
MIGRATIONS: tuple[tuple[str, ...], ...] = (_VERSION_1, _VERSION_2, _VERSION_3)
"""``MIGRATIONS[n]`` leads from version ``n`` to ``n + 1``; version 0 is an empty file.

A new file walks through all of them, so every migration runs each time a ledger is made. A step never changes after it was
released; a change of the tables is a new step at the end, with a fixture of its version under ``tests/fixtures/ledgers``.
Times are integers: microseconds since 1970 in UTC. Only SQL that SQLite 3.24 knows is used, because Python takes the
system's library.
"""
CURRENT = len(MIGRATIONS)
"""The version that this program reads and writes."""
_SHARED = 2
"""The last version of which all hosts of a source shared one file."""
_MAGIC = b"SQLite format 3\x00"
_ID = "BETWEEN -9007199254740991 AND 9007199254740991"
_TIME = "BETWEEN 0 AND 253402300799999999"

# What this program never writes: in tables whose rows carry no seal, and in notes, of which each one counts. SQLite takes
# any type in any column, and orders text behind numbers: so the type is asked for as well.
_INVALID = {
    "owed": f"NOT (booking_id {_ID} AND since {_TIME} AND attempts {_ID} AND passed_over {_ID}"
    " AND typeof(since) = 'integer' AND typeof(attempts) = 'integer' AND typeof(passed_over) = 'integer'"
    f" AND typeof(ifnull(end_utc, 0)) = 'integer' AND ifnull(end_utc, 0) {_TIME})",
    "held": f"NOT (booking_id {_ID} AND since {_TIME} AND typeof(since) = 'integer')",
    "sightings": f"NOT (first_seen {_TIME} AND last_seen {_TIME}"
    " AND typeof(first_seen) = 'integer' AND typeof(last_seen) = 'integer')",
    "runs": f"NOT (run {_ID} AND started {_TIME} AND finished {_TIME} AND typeof(started) = 'integer'"
    " AND typeof(finished) = 'integer' AND outcome IN ('ok', 'failed'))",
    "quarantine": f"NOT (item {_ID} AND first_seen {_TIME} AND last_seen {_TIME} AND typeof(first_seen) = 'integer'"
    " AND typeof(last_seen) = 'integer' AND typeof(run) = 'integer' AND typeof(schema_version) = 'integer'"
    " AND typeof(ifnull(booking_id, 0)) = 'integer' AND typeof(ifnull(resolved, 0)) = 'integer'"
    f" AND ifnull(resolved, 0) {_TIME})",
    "meta": f"seal IS NOT seal({SEALED_NOTE})",
}

# How long a statement waits for another connection's short write (a purge from the command line).
BUSY_SECONDS = 5.0

# How long the lock is tried for at least: a look at whether it is held (``is_held``) takes it for a moment.
_LOOK_SECONDS = 0.1
KEPT_ASIDE = timedelta(days=30)
"""How long a file is kept that was damaged, or that a migration left behind."""
SQLITE_ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""What a damaged file raises: SQLite's own text about it may be no UTF-8, and then Python fails to read that."""
APPLICATION_ID = 0x43414C50
"""``CALP``: tells a ledger from any other SQLite file."""


class ForeignFileError(PluginConfigError, PluginStateError):
    """The file at ``state_path`` is not this program's; it stays as it is."""


class _DamagedError(Exception):
    """A ledger holds what this program never wrote; it is set aside."""


@dataclass
class StateFile:
    """An open ledger file: its connection, the lock that goes with it, and what was noticed on opening."""

    connection: sqlite3.Connection
    lock: sqlite3.Connection | None = None
    warnings: list[str] = field(default_factory=list)

    def close(self) -> None:
        """Close the file, then let the next process in; may be called twice."""
        self.connection.close()
        if self.lock is not None:
            self.lock.close()
            self.lock = None


def open_memory() -> StateFile:
    """Open a ledger that lives as long as the object."""
    with _closed_on_error(connect(MEMORY)) as connection:
        _migrate(connection, 0)
    return StateFile(connection)


def open_exclusive(path: Path, *, lock_timeout: float = 0.0, now: datetime | None = None) -> StateFile:
    """Open the ledger for the one process that may write it; make, migrate or set aside what is there.

    Waits up to ``lock_timeout`` seconds for another process. The lock is the operating system's and ends with the
    process, however that dies. Raises ``PluginStateError`` when the lock is held or a newer version wrote the file, and
    ``ForeignFileError`` when the file is none of ours. A damaged file is renamed and named in ``warnings``; an old one is
    kept beside the migrated one. ``now`` (default: the present) is the time that such a file's name tells.
    """
    with explained(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_foreign(path)
    warnings: list[str] = []
    with _closed_on_error(_lock(path, lock_timeout)) as lock, explained(path):
        connection = _opened(path, now)
        if connection is None:
            warnings.append(_set_aside(path, now))
            connection = _opened(path, now)
        if connection is None:
            raise PluginStateError(f"the ledger {path} is damaged as soon as it is made: look at the disk")
    return StateFile(connection, lock, warnings)


def _opened(path: Path, now: datetime | None) -> sqlite3.Connection | None:
    """Open a ledger, bring it up to date and check all of it; None where it is damaged."""
    head = _head(path)
    if head and not _header_holds(head):
        return None
    _create_private(path)
    try:
        with _closed_on_error(connect(path)) as connection:
            version = _version(connection, path)
            if version == 0:
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")
            if version:
                _check_structure(connection, version)
            if 0 < version < CURRENT:
                _copy_file(connection, _aside(path, f"v{version}", now))
            _migrate(connection, version)
            _check_content(connection)
    except (*SQLITE_ERRORS, _DamagedError) as error:
        if _is_damage(error):
            return None
        raise
    return connection


def open_shared(path: Path) -> StateFile:
    """Open an existing ledger of today's version for one short write beside a running process."""
    _require(path)
    with explained(path), _closed_on_error(connect(path)) as connection:
        version = _version(connection, path)
        if version < CURRENT:
            raise PluginStateError(
                f"the ledger {path} has version {version}; run one cycle first, which brings it to {CURRENT}"
            )
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
    return StateFile(connection)


def open_copy(path: Path) -> StateFile:
    """Copy a ledger of any version to memory and bring the copy up to date; the file stays as it is.

    This is how reading commands and dry runs work, also beside a running process. Raises ``PluginStateError`` where it
    is damaged: the next cycle sets it aside.
    """
    _require(path)
    with explained(path), closing(_read_only(path)) as source:
        version = _version(source, path)
        with _closed_on_error(copied(source)) as copy:
            if version:
                _check_structure(copy, version)
            _migrate(copy, version)
            _check_content(copy)
    return StateFile(copy)


def copied(source: sqlite3.Connection) -> sqlite3.Connection:
    """Copy a whole database to memory, as it was committed last."""
    with _closed_on_error(connect(MEMORY)) as copy:
        source.backup(copy)
    return copy


def connect(path: Path | str, *, uri: bool = False) -> sqlite3.Connection:
    """Open a database with what this program's statements need: the function that seals, texts that never raise."""
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS, uri=uri
    )
    connection.create_function("seal", 1, _seal, deterministic=True)
    # Python's own way quotes a text that is no UTF-8 in its error, and with it whatever a damaged row holds.
    connection.text_factory = _text
    return connection


@contextmanager
def _closed_on_error(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Hand on a connection that stays open, unless preparing it fails."""
    try:
        yield connection
    except BaseException:
        connection.close()
        raise


def _read_only(path: Path, *, immutable: bool = False) -> sqlite3.Connection:
    return connect(f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' * immutable}", uri=True)


def _seal(value: object) -> str | None:
    return blake2b(value, digest_size=8).hexdigest() if isinstance(value, bytes) else None


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _require(path: Path) -> None:
    if not path.exists():
        raise PluginStateError(f"there is no ledger at {path}: no cycle has run with this configuration yet")
    with explained(path):
        _refuse_foreign(path)


@contextmanager
def explained(path: Path | str) -> Iterator[None]:
    """Turn the system's and SQLite's errors into one that says which file it is about, without their text."""
    try:
        yield
    except (*SQLITE_ERRORS, _DamagedError) as error:
        raise PluginStateError(f"the ledger {path} cannot be used: {_reason_of(error)}") from None
    except OSError as error:
        raise PluginStateError(
            f"the ledger {path} cannot be used: {error.strerror or type(error).__name__}; name a writable place with"
            " 'state_path'"
        ) from None


_REASONS = {
    "SQLITE_BUSY": "another process is writing to it",
    "SQLITE_LOCKED": "another process is writing to it",
    "SQLITE_CANTOPEN": "it cannot be opened",
    "SQLITE_FULL": "the disk is full",
    "SQLITE_IOERR": "the disk reports a fault",
    "SQLITE_NOMEM": "there is not enough memory",
    "SQLITE_PERM": "it may not be written",
    "SQLITE_PROTOCOL": "another process keeps it locked",
    "SQLITE_READONLY": "it may not be written",
}
"""What can pass by itself or by what an operator does; every other error of SQLite's comes from the file's content."""


def _reason_of(error: Exception) -> str:
    """Say in this program's words what SQLite complains about: its own quote what stands in the file."""
    if _is_damage(error):
        return "it is damaged; the next cycle sets it aside and begins a new one"
    code = getattr(error, "sqlite_errorname", "")
    known = (text for name, text in _REASONS.items() if code.startswith(name))
    return next(known, f"it is not open ({type(error).__name__})")


def _is_damage(error: Exception) -> bool:
    """Return whether a file is damaged; else the trouble may pass: a lock, a full disk, missing permission."""
    code = getattr(error, "sqlite_errorname", "")
    return isinstance(error, (UnicodeDecodeError, _DamagedError)) or (
        bool(code) and not code.startswith(tuple(_REASONS))
    )


def _lock(path: Path, timeout: float) -> sqlite3.Connection:
    """Take a ledger's lock: an open exclusive transaction on an empty database beside it.

    SQLite's file locks work on every platform, belong to the process and end with it, so no stale lock can stay.
    The ledger itself stays readable.
    """
    place = path.with_name(f"{path.name}.lock")
    with explained(place):
        _create_private(place)
        connection = sqlite3.connect(
            place, isolation_level=None, check_same_thread=False, timeout=max(timeout, _LOOK_SECONDS)
        )
        with _closed_on_error(connection) as lock:
            try:
                lock.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorname != "SQLITE_BUSY":
                    raise
                waited = f" after waiting {timeout:g} s" if timeout > 0 else ""
                raise PluginStateError(
                    f"the ledger {path} is in use by {_holder(path)}{waited}: a source has one process for each host. Stop"
                    " that process, raise 'lock_timeout', or give this one its own 'state_path'"
                ) from None
    return lock


def is_held(path: Path) -> bool:
    """Return whether a living process holds a ledger's lock; a dead one cannot, because the lock ends with it."""
    place = path.with_name(f"{path.name}.lock")
    if not place.exists():
        return False
    uri = f"{place.absolute().as_uri()}?mode=ro"
    with explained(place), closing(sqlite3.connect(uri, uri=True, timeout=0)) as lock:
        try:
            lock.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY":
                raise
            return True
    return False


def _holder(path: Path) -> str:
    with suppress(*SQLITE_ERRORS), closing(_read_only(path)) as connection:
        row = connection.execute("SELECT value FROM meta WHERE key = 'holder'").fetchone()
        if row:
            return str(row[0])
    return "another process"


def _create_private(path: Path) -> None:
    """Make sure the file is there and only its owner may read it; SQLite gives ``-wal`` and ``-shm`` the same mode."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        return
    if os.name == "posix" and path.stat().st_mode & 0o077:
        for file in (path, *_companions(path)):
            with suppress(FileNotFoundError):
                file.chmod(0o600)


def _companions(path: Path) -> tuple[Path, Path]:
    return path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")


def _head(path: Path) -> bytes:
    """Read the header of a database file; empty where there is no file, or nothing in it."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        return file.read(100)
    return b""


def _refuse_foreign(path: Path) -> None:
    """Raise ``ForeignFileError`` for a file that is not ours, before anything is made beside it."""
    why = foreign(path)
    if why:
        raise ForeignFileError(f"{path} is {why}, and was left as it is; name another file with 'state_path'")


def foreign(path: Path) -> str | None:
    """Say what a file is that is not ours; None for ours, damaged or not, and for none or an empty one.

    Ours is what begins with at least 12 of the 16 bytes that begin an SQLite file and carries our number, give or take a
    few bits; or what has a ``.lock`` or ``-wal`` beside it.
    """
    head = _head(path)
    if not head:
        return None
    if sum(have == want for have, want in zip(head, _MAGIC, strict=False)) >= 12:
        theirs = _is_another_program(int.from_bytes(head[68:72], "big"))
        return "a database of another program" if theirs and not _is_just_made(path) else None
    beside = (path.with_name(path.name + ending) for ending in (".lock", "-wal"))
    return None if any(file.exists() for file in beside) else "no ledger of this program"


def _is_another_program(application_id: int) -> bool:
    """Return whether a number is another program's, and not ours with a few flipped bits."""
    return (application_id ^ APPLICATION_ID).bit_count() > 4


def _is_just_made(path: Path) -> bool:
    """Return whether a database is still empty: a process may have died before it could write its tables."""
    with (
        suppress(*SQLITE_ERRORS),
        closing(_read_only(path, immutable=True)) as connection,
    ):
        tables: int = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        return tables == 0
    return False


def _header_holds(head: bytes) -> bool:
    """Check what SQLite itself takes as it is: the format, and whether the file may be written (18, 19)."""
    return len(head) == 100 and head[:16] == _MAGIC and head[18] in (1, 2) and head[19] in (1, 2)


def _check_structure(connection: sqlite3.Connection, version: int) -> None:
    """Raise where pages, indexes or tables are not those of a file of this version."""
    answer = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if answer is None or answer[0] != "ok":
        raise _DamagedError
    with closing(connect(MEMORY)) as fresh:
        _migrate(fresh, 0, version)
        if _shape(connection) != _shape(fresh):
            raise _DamagedError


def _shape(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
    """Describe tables and indexes by what their statements mean: how SQLite words these is its own affair."""
    return connection.execute(
        'SELECT m.type, m.name, m.tbl_name, c.name, c.type, c."notnull", c.pk FROM sqlite_master AS m'
        " LEFT JOIN pragma_table_info(m.name) AS c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'"
        " UNION ALL SELECT m.type, m.name, m.tbl_name, c.name, '', 0, c.seqno FROM sqlite_master AS m"
        " LEFT JOIN pragma_index_info(m.name) AS c WHERE m.type != 'table' AND m.name NOT LIKE 'sqlite_%'"
        " ORDER BY 1, 2, 7, 4"
    ).fetchall()


def _check_content(connection: sqlite3.Connection) -> None:
    """Raise where a row holds what this program never writes; entries carry a seal, and answer for themselves."""
    for table, invalid in _INVALID.items():
        query = f"SELECT 1 FROM {table} WHERE {invalid} LIMIT 1"  # noqa: S608 - constants of this file
        if connection.execute(query).fetchone():
            raise _DamagedError


def _set_aside(path: Path, now: datetime | None) -> str:
    """Rename a damaged ledger and its companions, so that nothing is overwritten; return the text of the warning."""
    aside = _aside(path, "corrupt", now)
    _rename(path, aside)
    return (
        f"the ledger {path} was damaged and set aside as {aside.name}; a new one was begun: every booking in the"
        " window is sent again"
    )


def _aside(path: Path, why: str, now: datetime | None) -> Path:
    stamp = (now or datetime.now(UTC)).astimezone(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    return path.with_name(f"{path.name}.{why}-{stamp}")


_ASIDE = re.compile(r"\.(?:corrupt|v\d+)-(\d{8}T\d{6}\.\d{6}Z)(?:-wal|-shm)?\Z", re.ASCII)


def purge_aside(path: Path, now: datetime) -> int:
    """Remove what was set aside or kept of a ledger more than thirty days ago; return how many files."""
    count = 0
    for file in path.parent.iterdir():
        found = (
            _ASIDE.fullmatch(file.name.removeprefix(path.name)) if file.name.startswith(path.name) else None
        )
        if found is None:
            continue
        made = datetime.strptime(found[1], "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)
        if now - made > KEPT_ASIDE:
            with suppress(OSError):
                file.unlink()
                count += 1
    return count


def _rename(path: Path, to: Path) -> None:
    """Rename a ledger with its companions; on the disk when it returns."""
    # The companions first: a new file must never meet the old one's write-ahead log.
    for file in (*_companions(path), path):
        with suppress(FileNotFoundError):
            file.rename(to.with_name(to.name + file.name.removeprefix(path.name)))
    sync(path.parent)


def _copy_file(connection: sqlite3.Connection, to: Path) -> None:
    """Keep a whole database as another file, which is there complete or not at all."""
    with whole_file(to) as unfinished, closing(sqlite3.connect(unfinished)) as copy:
        connection.backup(copy)


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """Read the file's version; refuse a newer one.

    A version far ahead that the file's own note does not confirm is a flipped bit.
    """
    application: int = connection.execute("PRAGMA application_id").fetchone()[0]
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION_ID:
        if application == version == 0 and not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            return 0
        if _is_another_program(application):
            raise ForeignFileError(
                f"{path} is a database of another program; name another file with 'state_path'"
            )
        raise _DamagedError
    if version > CURRENT:
        note = connection.execute("SELECT value FROM meta WHERE key = 'version'").fetchone()
        if version <= CURRENT + 2 or (note is not None and note[0] == str(version)):
            raise PluginStateError(
                f"the ledger {path} has version {version}, written by a newer calpendo-pipeline; this one knows up to"
                f" {CURRENT}. Install the newer version again, or name another 'state_path'"
            )
    if not 0 < version <= CURRENT:
        raise _DamagedError
    return version


def _migrate(connection: sqlite3.Connection, version: int, to: int = CURRENT) -> None:
    """Walk from ``version`` to ``to`` in one transaction: a kill on the way leaves the old file."""
    if version == to:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statements in MIGRATIONS[version:to]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {to}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
