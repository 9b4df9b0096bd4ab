"""The open ledger file: one process a file, one connection a process, and nothing written but in transactions."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Self

from pipeline.delivery.state_file import (
    MEMORY,
    StateFile,
    copied,
    open_copy,
    open_exclusive,
    open_memory,
    open_shared,
)
from pipeline.errors import PluginStateError


class LedgerFile:
    """An open ledger: shared within the process, written in transactions. ``Ledger`` says what stands in it.

    Make one with ``open``, ``memory``, ``copy`` or ``beside``. All methods may be called from any thread. Raises
    ``PluginStateError`` on any trouble with the file.
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

    def __enter__(self) -> Self:
        """Return the ledger."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Give the ledger back."""
        self.release()

    def __repr__(self) -> str:
        """Name the file."""
        return f"{type(self).__name__}({str(self.path or MEMORY)!r})"

    @classmethod
    def open(cls, path: Path | str, *, source_name: str, lock_timeout: float = 0.0) -> Self:
        """Open the ledger of a source for writing, or share the one this process has open.

        Raises ``PluginStateError`` when another process holds it or it belongs to another source.
        """
        if str(path) == MEMORY:
            return cls(open_memory())
        place = _place(path)
        key = (os.getpid(), place)
        with cls._shared_lock:
            gate = cls._gates.setdefault(key, threading.RLock())
        # Who waits for another process keeps waiting those who want the same file, and nobody else.
        with gate:
            ledger = cls._joined(key, source_name)
            if ledger is None:
                ledger = cls(open_exclusive(place, lock_timeout=lock_timeout), place)
                try:
                    ledger._claim(source_name)
                    ledger._after_opening()
                except BaseException:
                    ledger.abandon()
                    raise
                with cls._shared_lock:
                    cls._shared[key] = ledger
            return ledger

    @classmethod
    def _joined(cls, key: tuple[int, Path], source_name: str) -> Self | None:
        """Share the ledger that this process has open, if it has, and if its file is still in its place."""
        with cls._shared_lock:
            ledger: Self | None = cls._shared.get(key)
            if ledger is not None and not ledger.is_in_place():
                ledger.abandon()
                ledger = None
            if ledger is not None:
                ledger._users += 1
                try:
                    ledger._claim(source_name)
                except BaseException:
                    ledger._users -= 1
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
            ledger._after_copying()
        except BaseException:
            ledger.abandon()
            raise
        return ledger

    @classmethod
    def beside(cls, path: Path | str) -> Self:
        """Open a ledger for one short write from the command line, beside a running process too."""
        place = _place(path)
        return cls(open_shared(place), place)

    def snapshot(self) -> Self:
        """Copy this ledger to memory, as the next cycle would find it; what is done to the copy leaves no trace."""
        with self._guard, self._explained():
            return type(self)(StateFile(copied(self.connection)), self.path)

    def is_in_place(self) -> bool:
        """Tell whether the open file is still the one that its path names: somebody may have removed it."""
        return self._inode == _inode(self.path)

    @contextlib.contextmanager
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
        """Give the ledger back; the last user closes the file. In a forked child nothing happens: it is the parent's."""
        if os.getpid() != self._process:
            return
        with self._shared_lock, self._guard:
            if self._users == 0:
                return
            self._users -= 1
            if self._users == 0:
                try:
                    self._before_closing()
                finally:
                    self._forget()
                    self._file.close()

    def _after_opening(self) -> None:
        """Tidy up what a process that died has left: the lock is held, so nobody else can be at work."""

    def _after_copying(self) -> None:
        """Bring a copy of the file to the state in which the process that holds it sees it."""

    def _before_closing(self) -> None:
        """Write what is still to be written."""

    def abandon(self) -> None:
        """Close as a killed process does: nothing more is written, an open transaction is lost."""
        with self._shared_lock:
            self._users = 0
            self._forget()
            self._file.close()

    def _forget(self) -> None:
        for key in [key for key, ledger in self._shared.items() if ledger is self]:
            del self._shared[key]

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write all of a block or nothing of it; on the disk when the block ends."""
        with self._guard, self._explained():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self.connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise PluginStateError(f"the ledger {self.path or MEMORY} cannot be used: {error}") from error

    def rows(self, query: str, *values: object) -> list[Any]:
        """Read the rows of a query."""
        with self._guard, self._explained():
            return self.connection.execute(query, values).fetchall()

    def _claim(self, source_name: str) -> None:
        """Write down whose ledger it is and which process holds it; refuse another source's file."""
        owner = self.meta("source")
        if owner is not None and owner != source_name:
            raise PluginStateError(
                f"the ledger {self.path} belongs to the source {owner!r}, not {source_name!r}: give each source its own"
                " 'state_path'"
            )
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with self.transaction():
            self.set_meta("source", source_name)
            self.set_meta("holder", f"process {os.getpid()} on {socket.gethostname()} since {now}")

    def meta(self, key: str) -> str | None:
        """Read one of the ledger's own notes."""
        rows = self.rows("SELECT value FROM meta WHERE key = ?", key)
        return str(rows[0][0]) if rows else None

    def set_meta(self, key: str, value: str) -> None:
        """Write one of the ledger's own notes, inside a transaction."""
        self.connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))

    def forget_meta(self, key: str) -> None:
        """Forget one of the ledger's own notes, inside a transaction."""
        self.connection.execute("DELETE FROM meta WHERE key = ?", (key,))


def _place(path: Path | str) -> Path:
    """Give the one name of a ledger: through a link or another spelling it is the same file, with the same lock."""
    return Path(path).expanduser().resolve()


def _inode(path: Path | None) -> int | None:
    with contextlib.suppress(OSError):
        return path.stat().st_ino if path else None
    return None
