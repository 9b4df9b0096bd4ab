"""Files as the backfill writes them: where they lie, readable by their owner only, and whole or not there at all.

OUTPUT/
  entries/month=2026-01/part-0000.parquet   the worklist entries, by the month of scheduled_start_date
  rejected/part-0000.parquet                what was rejected: source, line, booking id, reasons, payload
  replaced/part-0000.parquet                older versions of bookings: source, line, booking id, modified
  manifest.json                             counts, sources, settings; written last
  .backfill/                                the work; gone when the backfill is done

Worklist entries are patient data, so every directory made here has mode 0700 and every file 0600, whatever the
umask. A directory that already exists keeps the mode its owner gave it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PluginConfigError, PluginStateError

TEMPORARY = ".tmp-"


def private_directory(path: Path) -> Path:
    """Make ``path`` and its missing parents with mode 0700; return it."""
    if not path.is_dir():
        private_directory(path.parent)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
    return path


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is synced and takes the place of ``path`` at once."""
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(6)}-{path.name}")
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        yield temporary
        sync(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary directory beside ``path``; on success its files are synced and it becomes ``path`` at once.

    Where ``path`` is there already, another process has done the same work: this one's result is dropped.
    """
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(6)}-{path.name}")
    temporary.mkdir(mode=0o700)
    try:
        yield temporary
        for file in temporary.iterdir():
            file.chmod(0o600)
            sync(file)
        try:
            temporary.rename(path)
        except OSError:
            if not path.is_dir():
                raise
            shutil.rmtree(temporary)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def sync(path: Path) -> None:
    """Make the contents of a file, or the names in a directory, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all."""
    with whole_file(path) as temporary:
        put_json(temporary, value)


def put_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON into a file that nobody looks at yet."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Return what ``write_json`` wrote, or None where there is no such file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        raise damaged(path) from None


def read_counts(path: Path, known: Collection[str] = ()) -> dict[str, int] | None:
    """Return counts by name that ``write_json`` wrote, or None where there are none; ``known`` are those there must be."""
    value = read_json(path)
    if value is None:
        return None
    if not isinstance(value, dict) or not all(type(count) is int for count in value.values()):
        raise damaged(path)
    if not set(known) <= value.keys():
        raise damaged(path)
    return value


def damaged(path: Path) -> PluginStateError:
    """Return the error for a file of the work that is not as it was written."""
    return PluginStateError(f"{path} is damaged; use --restart to begin the backfill anew")


def sweep(directory: Path, *, deep: bool = False) -> None:
    """Remove what a killed run left half-written in ``directory``, or anywhere below it."""
    pattern = f"{TEMPORARY}*"
    for leftover in list(directory.rglob(pattern) if deep else directory.glob(pattern)):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


@contextlib.contextmanager
def only_one(directory: Path) -> Iterator[None]:
    """Make ``directory`` and hold it for this process; ``PluginStateError`` where another backfill holds it.

    The system lets go of the lock when the process dies, so a kill leaves nothing to clean up. Where the system has
    no such locks (Windows), nothing is held.
    """
    try:
        import fcntl
    except ImportError:  # pragma: no cover - not on the systems the tests run on
        private_directory(directory)
        yield
        return
    try:
        private_directory(directory)
        handle = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise PluginConfigError(
            f"{directory}: nothing can be written there ({error.strerror}); name another directory"
        ) from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise PluginStateError(
                f"another backfill is writing to {directory}; wait for it or stop it"
            ) from error
        yield
    finally:
        os.close(handle)


@dataclass(frozen=True)
class Layout:
    """The paths of one backfill below its output directory."""

    output: Path

    @property
    def manifest(self) -> Path:
        """The file whose presence says that the output is complete."""
        return self.output / "manifest.json"

    @property
    def work(self) -> Path:
        """Everything that is not output."""
        return self.output / ".backfill"

    @property
    def plan(self) -> Path:
        """What the work is for."""
        return self.work / "plan.json"

    @property
    def fetched(self) -> Path:
        """Bookings brought from a server, one NDJSON file a window."""
        return self.work / "fetched"

    @property
    def segments(self) -> Path:
        """One directory a finished segment."""
        return self.work / "segments"

    def rows_of(self, segment: str) -> Path:
        """A finished segment's rows, see ``spill``."""
        return self.segments / segment / ROWS

    @property
    def ends(self) -> Path:
        """One small file a compressed source that was read to its end: how many segments it has."""
        return self.work / "ends"

    @property
    def found(self) -> Path:
        """Replaced rows as they are found, one file a bucket of ids."""
        return self.work / "found"

    @property
    def losers(self) -> Path:
        """The same rows, one file a segment."""
        return self.work / "losers"

    @property
    def merged(self) -> Path:
        """One small file a finished part of the output: its files and rows."""
        return self.work / "merged"

    @property
    def staged(self) -> Path:
        """The output while it is made; its directories are moved to their places at the end."""
        return self.work / "staged"

    def make(self) -> None:
        """Make the directories of the work."""
        for path in (
            self.fetched,
            self.segments,
            self.ends,
            self.found,
            self.losers,
            self.merged,
            self.staged,
        ):
            private_directory(path)

    def outputs(self) -> tuple[Path, ...]:
        """Return the directories that a reader of the output looks at."""
        return tuple(self.output / name for name in OUTPUTS)

    def publish(self) -> None:
        """Move the staged output to its place. Can be done again after it was cut short."""
        for name in OUTPUTS:
            staged = self.staged / name
            if staged.is_dir():
                staged.rename(self.output / name)
            else:
                private_directory(self.output / name)
        handle = os.open(self.output, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


OUTPUTS = ("entries", "rejected", "replaced")
ROWS = "rows"


def segment_name(source: int, number: int) -> str:
    """Name a segment so that the names sort in the order of the sources."""
    return f"{source:05d}-{number:07d}"
