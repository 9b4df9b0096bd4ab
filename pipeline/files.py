"""Files that are written whole or not at all: complete beside their place and on the disk before they are renamed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PRIVATE: Final = 0o600
"""The mode of a file that holds patients' data or a login: only its owner may read it."""


@contextmanager
def whole_file(path: Path, *, mode: int = PRIVATE) -> Iterator[Path]:
    """Yield an empty private file beside ``path``; it takes the place of ``path`` when the block ends without an error.

    Several files are written together or not at all by entering all of them in one ``contextlib.ExitStack``: none is
    in its place before each has been written.

    Args:
        path: where the file is to be; what is there already is replaced, and kept as it was after an error.
        mode: the permission bits that the file gets when it is complete.

    Yields:
        The temporary file, called ``.NAME.….tmp``; a process that is killed leaves it behind.

    Raises:
        OSError: the file cannot be made, written or renamed there; nothing is left lying about.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE))
    try:
        yield temporary
        if mode != PRIVATE:
            temporary.chmod(mode)
        sync(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Bring a file's content to the disk, or the names in a directory where the system knows how."""
    if os.name != "posix" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def usual_mode() -> int:
    """Return the permission bits that this process's umask gives to a new file."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
