"""Whole lines from a stream of bytes, in pieces of bounded size; the streams of packed files."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Iterable
from typing import BinaryIO, Literal, Protocol, cast

from pipeline.errors import PluginConfigError

Packing = Literal["", "gzip", "zstd"]

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
PAYLOAD = "payload"
"""The column of a table that holds each row's JSON."""
PIECE_BYTES = 256 << 10
"""About so much is taken at once: it is looked at several times, and stays in the processor's cache meanwhile."""
LINE_BYTES = 16 << 20
STEP_BYTES = 1 << 20
KEPT_OF_A_GIANT = 64


class Readable(Protocol):
    """What a reader needs of a stream."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes; none at the end."""


class LineReader:
    """Whole lines from a forward-only stream; ``offset`` is where, in the stream, the next line begins.

    A line longer than ``LINE_BYTES`` is not kept in memory: its beginning and a NUL stand for it. A NUL is valid
    nowhere in JSON, so that such a line is rejected like any other broken one.
    """

    def __init__(self, stream: Readable, offset: int = 0) -> None:
        self._stream = stream
        self._buffer = b""
        self._ended = False
        self._left_out = 0
        self.offset = offset

    @property
    def ended(self) -> bool:
        """Tell whether the last line has been taken."""
        return not self._buffer and not self._fill(1)

    def take(self, end: int) -> bytes:
        """Return the next lines that begin before ``end``, about ``PIECE_BYTES`` at most; ``b""`` when none is left."""
        goal = min(PIECE_BYTES, end - self.offset)
        if goal <= 0 or not self._fill(goal):
            return b""
        reaches_end = self.offset + goal == end
        cut = 0 if reaches_end else self._buffer.rfind(b"\n", 0, goal) + 1
        if not cut:
            cut = self._line_end(goal - 1)
        taken, self._buffer = self._buffer[:cut], self._buffer[cut:]
        self.offset += cut + self._left_out
        self._left_out = 0
        return taken

    def _fill(self, size: int) -> int:
        """Read until the buffer holds ``size`` bytes or the stream ends; return how many it holds."""
        parts, have = [self._buffer], len(self._buffer)
        while have < size and not self._ended:
            part = self._stream.read(size - have)
            self._ended = not part
            parts.append(part)
            have += len(part)
        if len(parts) > 1:
            self._buffer = b"".join(parts)
        return have

    def _line_end(self, start: int) -> int:
        """Return the index behind the first newline at or after ``start``, or behind the stream's last byte."""
        while (found := self._buffer.find(b"\n", start)) < 0:
            start = max(start, len(self._buffer))
            if self._fill(len(self._buffer) + STEP_BYTES) <= start:
                return len(self._buffer)
            if start > LINE_BYTES:
                start = self._shorten(start)
        return found + 1

    def _shorten(self, start: int) -> int:
        """Leave out the middle of a giant last line; return where the search for its end goes on."""
        begin = self._buffer.rfind(b"\n", 0, start) + 1
        if start - begin <= LINE_BYTES:
            return start
        kept = self._buffer[: begin + KEPT_OF_A_GIANT] + b"\0"
        self._left_out += start - len(kept)
        self._buffer = kept + self._buffer[start:]
        return len(kept)


class Unpacked:
    """The bytes of a gzip or zstd file; what is damaged or cut off becomes ``PluginConfigError``."""

    def __init__(self, file: BinaryIO, packing: Packing, name: str) -> None:
        self._packing = packing
        self._name = name
        self._stream: BinaryIO
        if packing == "gzip":
            self._stream = cast("BinaryIO", gzip.GzipFile(fileobj=file, mode="rb"))
            self._faults: tuple[type[Exception], ...] = (EOFError, gzip.BadGzipFile, zlib.error)
        else:
            if sys.version_info >= (3, 14):
                from compression import zstd
            else:
                from backports import zstd
            self._stream = cast("BinaryIO", zstd.ZstdFile(file, mode="rb"))
            self._faults = (EOFError, zstd.ZstdError)

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes; none at the end."""
        try:
            return self._stream.read(size)
        except self._faults:
            pass
        raise PluginConfigError(
            f"{self._name}: the {self._packing} data is damaged or cut off; write it again or leave the file out"
        )


class RowLines:
    """Rows of JSON, one line each, read like a file."""

    def __init__(self, rows: Iterable[bytes]) -> None:
        self._rows = iter(rows)
        self._ready = b""

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes; none at the end."""
        if not self._ready:
            rows: list[bytes] = []
            length = 0
            for row in self._rows:
                rows.append(row + b"\n")
                length += len(row)
                if length >= size:
                    break
            self._ready = b"".join(rows)
        taken, self._ready = self._ready[:size], self._ready[size:]
        return taken
