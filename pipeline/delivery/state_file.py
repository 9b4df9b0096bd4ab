"""The ledger's file: where it lies, who may open it, which version it has, and what happens to a damaged one."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.delivery.versions import APPLICATION_ID, CURRENT, MIGRATIONS
from pipeline.errors import PluginStateError

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig

MEMORY = ":memory:"
# How long a statement waits for another connection's short write (a purge from the command line).
BUSY_SECONDS = 5.0
# How long the lock is tried for at least: a look at whether it is held (``is_held``) takes it for a moment.
_LOOK_SECONDS = 0.1


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


def state_directory() -> Path:
    """Give the directory of this user's ledgers."""
    from platformdirs import user_state_path

    return user_state_path("calpendo-pipeline", appauthor=False)


def default_path(source_name: str, base_url: str) -> Path:
    """Give the ledger's place without ``state_path``: one file for each source and server."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", source_name).strip(".-") or "source"
    digest = blake2b(f"{source_name}\n{base_url}".encode(), digest_size=4).hexdigest()
    return state_directory() / f"{name}-{digest}.sqlite"


def ledger_path(config: PipelineConfig) -> Path | None:
    """Give a source's ledger: ``state_path``, else the default; None for ``:memory:``."""
    if config.state_path == MEMORY:
        return None
    if config.state_path:
        return Path(config.state_path).expanduser().absolute()
    return default_path(config.source_name, config.base_url)


def open_memory() -> StateFile:
    """Open a ledger that lives as long as the object."""
    with _closed_on_error(_connect(MEMORY)) as connection:
        _migrate(connection, 0)
    return StateFile(connection)


def open_exclusive(path: Path, *, lock_timeout: float = 0.0) -> StateFile:
    """Open the ledger for the one process that may write it; make, migrate or set aside what is there.

    Waits up to ``lock_timeout`` seconds for another process. The lock is the operating system's and ends with the
    process, however that dies. Raises ``PluginStateError`` when the lock is held, when a newer version wrote the
    file, or when the file is another program's database. A damaged file is renamed and named in ``warnings``.
    """
    with _explained(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    warnings: list[str] = []
    with _closed_on_error(_lock(path, lock_timeout)) as lock, _explained(path):
        if _is_damaged(path):
            warnings.append(_set_aside(path))
        _create_private(path)
        with _closed_on_error(_connect(path)) as connection:
            version = _version(connection, path)
            if version == 0:
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")
            _migrate(connection, version)
    return StateFile(connection, lock, warnings)


def open_shared(path: Path) -> StateFile:
    """Open an existing ledger of today's version for one short write beside a running process."""
    _require(path)
    with _explained(path), _closed_on_error(_connect(path)) as connection:
        _require_current(_version(connection, path), path)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
    return StateFile(connection)


def open_copy(path: Path) -> StateFile:
    """Copy a ledger of any version to memory and bring the copy up to date; the file stays as it is.

    This is how reading commands and dry runs work, also beside a running process.
    """
    _require(path)
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with (
        _explained(path),
        contextlib.closing(sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS)) as source,
    ):
        version = _version(source, path)
        with _closed_on_error(copied(source)) as copy:
            _migrate(copy, version)
    return StateFile(copy)


def copied(source: sqlite3.Connection) -> sqlite3.Connection:
    """Copy a whole database to memory, as it was committed last."""
    with _closed_on_error(_connect(MEMORY)) as copy:
        source.backup(copy)
    return copy


def _connect(path: Path | str) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS)


@contextlib.contextmanager
def _closed_on_error(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Hand on a connection that stays open, unless preparing it fails."""
    try:
        yield connection
    except BaseException:
        connection.close()
        raise


def _require_current(version: int, path: Path) -> None:
    if version < CURRENT:
        raise PluginStateError(
            f"the ledger {path} has version {version}; run one cycle first, which brings it to {CURRENT}"
        )


def _require(path: Path) -> None:
    if not path.exists():
        raise PluginStateError(f"there is no ledger at {path}: no cycle has run with this configuration yet")


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn the system's and SQLite's errors into one that says which file it is about."""
    try:
        yield
    except sqlite3.Error as error:
        raise PluginStateError(f"the ledger {path} cannot be used: {error}") from error
    except OSError as error:
        raise PluginStateError(
            f"the ledger {path} cannot be used: {error.strerror or error}; name a writable place with 'state_path'"
        ) from error


def _lock(path: Path, timeout: float) -> sqlite3.Connection:
    """Take the source's lock: an open exclusive transaction on an empty database beside the ledger.

    SQLite's file locks work on every platform, belong to the process and end with it, so no stale lock can stay.
    The ledger itself stays readable.
    """
    place = path.with_name(f"{path.name}.lock")
    with _explained(place):
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
                    f"the ledger {path} is in use by {_holder(path)}{waited}: one source has one host. Stop that process,"
                    " raise 'lock_timeout', or give this one its own 'state_path'"
                ) from None
    return lock


def is_held(path: Path) -> bool:
    """Tell whether a living process holds the source's lock; a dead one cannot, because the lock ends with it."""
    place = path.with_name(f"{path.name}.lock")
    if not place.exists():
        return False
    uri = f"{place.absolute().as_uri()}?mode=ro"
    with _explained(place), contextlib.closing(sqlite3.connect(uri, uri=True, timeout=0)) as lock:
        try:
            lock.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY":
                raise
            return True
    return False


def _holder(path: Path) -> str:
    with contextlib.suppress(sqlite3.Error):
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=0.2)) as connection:
            row = connection.execute("SELECT value FROM meta WHERE key = 'holder'").fetchone()
            if row:
                return str(row[0])
    return "another process"


def _create_private(path: Path) -> None:
    """Make sure the file is there and only its owner may read it; SQLite gives ``-wal`` and ``-shm`` the same mode."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        return
    if os.name == "posix" and path.stat().st_mode & 0o077:
        for file in (path, *_companions(path)):
            with contextlib.suppress(FileNotFoundError):
                file.chmod(0o600)


def _companions(path: Path) -> tuple[Path, Path]:
    return path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")


def _is_damaged(path: Path) -> bool:
    if not path.exists() or path.stat().st_size == 0:
        return False
    with contextlib.closing(_connect(path)) as connection:
        try:
            answer = connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.DatabaseError as error:
            if is_corruption(error):
                return True
            raise
    return answer is None or answer[0] != "ok"


def is_corruption(error: sqlite3.Error) -> bool:
    """Tell a damaged file from trouble that passes: a lock, a full disk, missing permission."""
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))


def _set_aside(path: Path) -> str:
    """Rename a damaged ledger and its companions, so that nothing is overwritten; give the text of the warning."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    aside = path.with_name(f"{path.name}.corrupt-{stamp}")
    # The companions first: a new file must never meet the old one's write-ahead log.
    for file in (*_companions(path), path):
        with contextlib.suppress(FileNotFoundError):
            file.rename(aside.with_name(aside.name + file.name.removeprefix(path.name)))
    return (
        f"the ledger {path} was damaged and set aside as {aside.name}; a new one was begun: every booking in the"
        " window is sent again, and bookings deleted in between cannot be withdrawn by themselves"
    )


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """Read the file's version; refuse a newer one and another program's database."""
    application: int = connection.execute("PRAGMA application_id").fetchone()[0]
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if application == APPLICATION_ID:
        if version > CURRENT:
            raise PluginStateError(
                f"the ledger {path} has version {version}, written by a newer calpendo-pipeline; this one knows up to"
                f" {CURRENT}. Install the newer version again, or name another 'state_path'"
            )
        return version
    tables: int = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application or version or tables:
        raise PluginStateError(f"{path} is a database of another program; name another 'state_path'")
    return 0


def _migrate(connection: sqlite3.Connection, version: int) -> None:
    """Walk from ``version`` to today's in one transaction: a kill on the way leaves the old file."""
    if version == CURRENT:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {CURRENT}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
