"""A directory of worklist files: each one whole or not there, and nobody else's touched.

A file is called ``cp-<source>-<booking>.wl`` and ends with a private block (PS3.5 7.8) that says whose it is, what it was made
of, when its booking starts and ends, and a digest of all before it. Nothing else says so: a directory that was emptied,
restored or copied is understood as it is found.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Self

from pipeline.errors import PluginConfigError, PluginError
from pipeline.files import sync
from pipeline.hosts import server_place

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig

_CREATOR: Final = b"CALPENDO PIPELINE "
_GROUP: Final = 0x4343
_LARGEST: Final = 1 << 16
_MANY: Final = 200
_NOTES: Final = 42
_DIGEST: Final = 32
# What is newer than Python's os on a platform is left out there: links are not followed where that can be asked for.
_READ: Final = (
    os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
)
_MAKE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


def _private(element: int, value: bytes) -> bytes:
    """Encode a private LO element, explicit VR little endian (PS3.5 7.1.2)."""
    head = (
        _GROUP.to_bytes(2, "little")
        + element.to_bytes(2, "little")
        + b"LO"
        + len(value).to_bytes(2, "little")
    )
    return head + value


_MARK: Final = _private(0x0010, _CREATOR)
_TAIL: Final = len(_MARK) + 3 * 8 + _DIGEST + _NOTES + _DIGEST


@dataclass(frozen=True)
class Stored:
    """A file of ours as it lies there: what it was made of, and when its booking starts and ends (microseconds, UTC).

    ``made_of`` None: it carries our mark but is not as it was written.
    """

    made_of: str | None = None
    start_utc: int | None = None
    end_utc: int | None = None


@dataclass(frozen=True)
class Found:
    """What lies in the directory under names of one source: our files by booking, and those that are not ours."""

    ours: Mapping[int, Stored]
    foreign: frozenset[int]


def source_digest(source_name: str, base_url: str) -> str:
    """Return what tells one source's files from another's; a server that moves to https keeps it."""
    return blake2b(f"{source_name}\n{server_place(base_url)}".encode(), digest_size=4).hexdigest()


def sealed(content: bytes, made_of: str, start_utc: int, end_utc: int | None) -> bytes:
    """Close a file's content with our private block.

    Args:
        content: a DICOM file in explicit VR little endian whose last tag is below our group.
        made_of: a digest of 32 hex digits of all that the content depends on.
        start_utc: the booking's start, microseconds since 1970.
        end_utc: its end, where it is known.
    """
    notes = f"{start_utc:020d} {'' if end_utc is None else end_utc:>21}".encode()
    whole = content + _MARK + _private(0x1001, made_of.encode()) + _private(0x1002, notes)
    return whole + _private(0x1003, _seal(whole))


def _seal(content: bytes) -> bytes:
    return blake2b(content, digest_size=_DIGEST // 2).hexdigest().encode()


def read_seal(content: bytes) -> Stored | None:
    """Return what a file says of itself; None for one that is not ours."""
    if _MARK not in content:
        return None
    tail = content[-_TAIL:]
    seal = tail[-_DIGEST:]
    whole = content[: -_DIGEST - 8]
    if not tail.startswith(_MARK) or _seal(whole) != seal or whole + _private(0x1003, seal) != content:
        return Stored()
    at = len(_MARK) + 8
    notes = tail[at + _DIGEST + 8 : at + _DIGEST + 8 + _NOTES].split()
    end = int(notes[1]) if len(notes) > 1 else None
    return Stored(tail[at : at + _DIGEST].decode(), int(notes[0]), end)


class WorklistDirectory:
    """The files of one source in a worklist server's directory.

    Args:
        path: the directory.
        source: ``source_digest`` of the source.
        mode: the files' permission bits.
    """

    def __init__(self, path: Path, source: str, mode: int) -> None:
        self.path = path
        self._mode = mode
        self._source = source
        self._name = re.compile(rf"cp-{source}-([1-9][0-9]{{0,15}})\.wl\Z")
        self._half = re.compile(rf"\.cp-{source}-[0-9a-f]{{16}}\.tmp\Z")

    @classmethod
    def of(cls, config: PipelineConfig, path: Path) -> Self:
        """Return the directory at ``path`` as a source's configuration has it."""
        digest = source_digest(config.source_name, config.base_url)
        return cls(path, digest, int(config.worklist_file_mode, 8))

    def file(self, number: int) -> Path:
        """Return the path of a booking's file."""
        return self.path / f"cp-{self._source}-{number}.wl"

    def state_of(self, number: int) -> Literal["whole", "damaged", "foreign", "absent"]:
        """Return what lies under the name of a booking's file."""
        path = self.file(number)
        if not path.is_symlink() and not path.exists():
            return "absent"
        if path.is_symlink() or not path.is_file() or path.stat().st_size > _LARGEST:
            return "foreign"
        stored = read_seal(path.read_bytes())
        return "foreign" if stored is None else "damaged" if stored.made_of is None else "whole"

    def refuse_unusable(self, ledger: Path | None) -> None:
        """Raise ``PluginConfigError``, in one sentence, unless files can be kept here.

        Args:
            ledger: the ledger that goes with the directory; it holds what no worklist server is to read.
        """
        try:
            fault = self._fault(ledger)
        except OSError as error:
            fault = f"cannot be looked at ({error.strerror}); give this user the right to"
        if fault:
            raise PluginConfigError(f"worklist_dir: {str(self.path)!r} {fault}")

    def _fault(self, ledger: Path | None) -> str | None:
        if not self.path.exists():
            return "does not exist; make it, with a group that the worklist server's user is in"
        if not self.path.is_dir():
            return "is no directory; name the directory that the worklist server reads"
        real = self.path.resolve()
        if Path(os.path.normpath(self.path)) != real:
            return f"is reached through a link; write the directory itself, {str(real)!r}"
        if ledger is not None and ledger.resolve().parent == real:
            return "holds the ledger, which no worklist server may read; name another directory or another 'state_path'"
        probe = self._temporary()
        try:
            self._write(probe, b"")
        except OSError as error:
            group = " or given its group" if isinstance(error, PermissionError) else ""
            return f"cannot be written{group} by this user ({error.strerror}); let the user of this command own it"
        finally:
            with suppress(OSError):
                probe.unlink()
        return None

    def found(self) -> Found:
        """Read every file of ours; raises ``PluginError`` where the directory cannot be read."""
        ours: dict[int, Stored] = {}
        foreign: set[int] = set()
        with self._explained(), os.scandir(self.path) as entries:
            for entry in entries:
                name = self._name.match(entry.name)
                if name is None:
                    continue
                stored = self._stored(entry)
                if stored is None:
                    foreign.add(int(name[1]))
                else:
                    ours[int(name[1])] = stored
        return Found(ours, frozenset(foreign))

    def _stored(self, entry: os.DirEntry[str]) -> Stored | None:
        try:
            if not entry.is_file(follow_symlinks=False):
                return None
            descriptor = os.open(entry.path, _READ)
        except OSError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode) or about.st_size > _LARGEST:
                return None
            stored = read_seal(file.read())
        if stored is not None and os.name == "posix" and stat.S_IMODE(about.st_mode) != self._mode:
            # Its server may be unable to read it, or others able to: written anew.
            return Stored(None, stored.start_utc, stored.end_utc)
        return stored

    def update(self, files: Mapping[int, bytes], removed: Collection[int]) -> None:
        """Replace files and remove others; what fails leaves each file as it was or as it is to be.

        Everything new lies on the disk before the first name points to it, and the names too before this returns.

        Args:
            files: sealed contents by booking; none of these names may be another's file.
            removed: bookings whose files of ours are to go.

        Raises:
            PluginError: the disk refuses.
        """
        written: dict[int, Path] = {}
        with self._explained():
            self._remove_half_written()
            try:
                for number, content in files.items():
                    written[number] = self._temporary()
                    self._write(written[number], content)
                _flush(written.values())
                for number in removed:
                    self.file(number).unlink(missing_ok=True)
                for number in list(written):
                    written[number].replace(self.file(number))
                    del written[number]
                if files or removed:
                    sync(self.path)
            finally:
                for path in written.values():
                    with suppress(OSError):
                        path.unlink(missing_ok=True)

    def _temporary(self) -> Path:
        return self.path / f".cp-{self._source}-{secrets.token_hex(8)}.tmp"

    def _write(self, path: Path, content: bytes) -> None:
        """Write a file with its mode and the directory's group, not yet to the disk."""
        descriptor = os.open(path, _MAKE, 0o600)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            if os.name == "posix":
                group = self.path.stat().st_gid
                if os.fstat(descriptor).st_gid != group:
                    os.fchown(descriptor, -1, group)
                os.fchmod(descriptor, self._mode)
            if file.write(content) != len(content):
                raise OSError(28, "No space left on device")

    def _remove_half_written(self) -> None:
        """Remove what a killed process was writing: nothing yet, or a whole file that never got its name."""
        for path in self.path.iterdir():
            if self._half.match(path.name) and not path.is_symlink() and path.is_file():
                content = path.read_bytes() if path.stat().st_size <= _LARGEST else b"?"
                if not content or read_seal(content) is not None:
                    path.unlink(missing_ok=True)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise PluginError(
                f"the worklist directory {self.path} cannot be used ({error.strerror}); what is missing is written in the"
                " next cycle"
            ) from None


def _flush(paths: Collection[Path]) -> None:
    """Bring files to the disk: each by itself, or many at once, which Linux waits for; one by one they take minutes."""
    if len(paths) > _MANY and sys.platform == "linux":
        os.sync()
        return
    for path in paths:
        sync(path)
