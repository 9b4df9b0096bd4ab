"""Files as the backfill writes them: where they lie, readable by their owner only, and whole or not there at all.

OUTPUT/
  entries/month=2026-01/part-0000.parquet   the worklist entries, by the month of scheduled_start_date
  rejected/part-0000.parquet                what was rejected: source, line, booking id, reasons, payload
  replaced/part-0000.parquet                older versions of bookings: source, line, booking id, modified
  manifest.json                             counts, sources, settings; written last
  .backfill/                                the work, which a killed backfill continues; gone at the end

Worklist entries are patient data, so every directory made here has mode 0700 and every file 0600, whatever the
umask. A directory that already exists keeps the mode its owner gave it.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from pipeline.errors import PluginConfigError, PluginStateError
from pipeline.files import PRIVATE, sync, whole_file

OUTPUTS = ("entries", "rejected", "replaced")
RECORD = "record.json"
"""What is known of a finished piece of work, in the directory that holds its files."""
HALF_WRITTEN = ".*.tmp"
"""How ``whole_file`` and ``whole_directory`` call what a killed process may leave behind."""

T = TypeVar("T")


class Layout:
    """The paths of one backfill below its output directory.

    ``manifest`` is the file whose presence says that the output is complete. Below ``work``: ``plan``, what the work
    is for; ``fetched``, bookings of a server, one NDJSON file per window; ``segments``, ``resolve`` and ``merge``, one
    directory per finished piece of each stage; ``ends``, how many segments a compressed source has, once it was read to
    its end; ``staged``, the output on its way to its place.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.manifest = output / "manifest.json"
        self.outputs = tuple(output / name for name in OUTPUTS)
        self.work = output / ".backfill"
        self.plan = self.work / "plan.json"
        self.fetched = self.work / "fetched"
        self.segments = self.work / "segments"
        self.ends = self.work / "ends"
        self.resolve = self.work / "resolve"
        self.merge = self.work / "merge"
        self.staged = self.work / "staged"

    def sweep(self) -> None:
        """Remove what a killed run left half-written."""
        for leftover in list(self.output.rglob(HALF_WRITTEN)):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)

    def publish(self) -> None:
        """Move the merged files to their places. Can be done again after it was cut short."""
        for file in sorted(self.merge.glob("[0-9]*/**/*.parquet")):
            staged = self.staged.joinpath(*file.relative_to(self.merge).parts[1:])
            private_directory(staged.parent)
            file.rename(staged)
        for name, place in zip(OUTPUTS, self.outputs, strict=True):
            if (self.staged / name).is_dir():
                (self.staged / name).rename(place)
            else:
                private_directory(place)
        sync(self.output)


def private_directory(path: Path) -> Path:
    """Make ``path`` and its missing parents with mode 0700; return it."""
    if not path.is_dir():
        private_directory(path.parent)
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
    return path


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary directory beside ``path``; on success its files are synced and it becomes ``path`` at once.

    Where ``path`` is there already, another process has done the same work: this one's result is dropped.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    private_directory(temporary)
    try:
        yield temporary
        for made in temporary.rglob("*"):
            made.chmod(0o700 if made.is_dir() else PRIVATE)
            sync(made)
        try:
            temporary.rename(path)
        except OSError:
            if not path.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def put_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON into a file that nobody looks at yet."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all."""
    private_directory(path.parent)
    with whole_file(path) as temporary:
        put_json(temporary, value)


def read_json(path: Path, kind: type[T]) -> T | None:
    """Return what ``write_json`` wrote, as ``kind``; None where there is no such file.

    Raises:
        PluginStateError: the file does not hold that.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, RecursionError):
        raise damaged(path) from None


def must_read(path: Path, kind: type[T]) -> T:
    """Return what lies in a file that must be there; see ``read_json``."""
    value = read_json(path, kind)
    if value is None:
        raise damaged(path)
    return value


def damaged(path: Path) -> PluginStateError:
    """Return the error for a file of the work that is not as it was written."""
    return PluginStateError(
        f"{path}: was written by another version or is damaged; use --restart to begin anew"
    )


@contextmanager
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
        handle = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT, PRIVATE)
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
