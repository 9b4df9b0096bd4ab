"""Frames set aside on the disk between two steps: many small ones in one file, each found again by its place.

Arrow IPC streams, one behind the other. A segment's rows fall into as many months as they like; a Parquet file for
each of them would cost more than the transform.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import polars as pl

from pipeline.backfill.files import damaged
from pipeline.backfill.records import Piece


class SpillWriter:
    """Appends frames to one file; use as a context manager."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Close the file."""
        self._file.close()

    def add(self, frame: pl.DataFrame) -> Piece:
        """Write ``frame`` behind the others and return where it lies."""
        offset = self._file.tell()
        frame.write_ipc_stream(self._file, compression="lz4")
        return Piece(offset, self._file.tell() - offset, frame.height)


def read_piece(path: Path, piece: Piece) -> pl.DataFrame:
    """Return the frame that lies there."""
    with intact(path), path.open("rb") as file:
        file.seek(piece.offset)
        return pl.read_ipc_stream(io.BytesIO(file.read(piece.length)))


def read_whole(path: Path) -> pl.DataFrame:
    """Return the one frame of a file. (From memory: polars is ten times as slow with a path, for a few rows.)"""
    with intact(path):
        return pl.read_ipc_stream(io.BytesIO(path.read_bytes()))


@contextmanager
def intact(path: Path) -> Iterator[None]:
    """Turn what polars says of a damaged file into ``PluginStateError``; its own messages may quote rows."""
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
        raise damaged(path) from None
