"""Archives as blocks of payloads, forwards and in bounded memory.

An archive is cut into segments of its lines: segment ``k`` holds the lines whose first byte lies in
``[k * size, (k + 1) * size)``, so that the same lines form the same segment whether the file is plain, gzip or zstd,
and whoever reads it. Rows of other JSON are lines too (``text_rows``). In a Parquet file a segment is a range of rows.
Segments are the unit of work, of resuming and of giving work to another machine; ``BookingFile`` reads the whole
file as one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.archives.recognise import Archive, Unpacked, reading
from pipeline.archives.text_rows import (
    BYTE_ORDER_MARK,
    DocumentRows,
    LineReader,
    Readable,
    RowLines,
    csv_rows,
)

BLOCK_ROWS = 100_000
BLOCK_BYTES = 24 << 20
"""A block's size: each costs some 50 ms besides its rows, and two to three times its size of memory.

Usually a block is a segment: then nothing of one is held while the next is read.
"""
TABLE_ROWS = 50_000
"""Rows of Parquet and CSV that are read at once."""


@dataclass(frozen=True)
class Block:
    """Some payloads (JSON as bytes or text, or objects) in the archive's order; the number of each from 0 (line or row)."""

    payloads: list[Any]
    lines: list[int]


@dataclass
class Segment:
    """One segment while it is read: use up ``blocks``, after that ``lines`` and ``stored_bytes`` are known.

    ``lines`` counts physical lines (rows), blank ones too; ``stored_bytes`` is the segment's share of the file as it
    lies on the disk, for the progress bar.
    """

    number: int
    blocks: Iterator[Block] = field(default_factory=lambda: iter(()))
    wanted: bool = True
    lines: int = 0
    stored_bytes: int = 0


class BookingFile:
    """A file of bookings, or of other rows, read from its beginning to its end.

    Iterating yields the payloads; ``blocks`` yields them with their numbers, and ``position`` is how many of the
    file's bytes have been read so far.
    """

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.position = 0

    def __iter__(self) -> Iterator[Any]:
        """Read the payloads lazily; blank lines are none."""
        for block in self.blocks():
            yield from block.payloads

    def blocks(self, rows: int = TABLE_ROWS) -> Iterator[Block]:
        """Yield blocks of at most ``rows`` payloads; the numbers of their lines (rows) count from 0 in the file.

        Raises:
            PluginConfigError: the file is damaged, or cannot be read any more.
        """
        if self.archive.kind == "parquet":
            from pipeline.archives.tables import parquet_payloads, row_count

            total = row_count(self.archive.path, self.archive.name)
            for start in range(0, total, rows):
                payloads = parquet_payloads(self.archive.path, self.archive.name, start, rows)
                self.position = self.archive.size * (start + len(payloads)) // total
                yield Block(payloads, list(range(start, start + len(payloads))))
            return
        with _opened(self.archive) as file:
            reader = LineReader(_stream(self.archive, file))
            for block in _blocks(Segment(0), reader, sys.maxsize, rows):
                self.position = file.tell()
                yield block


def segment_count(archive: Archive, size: int) -> int | None:
    """Return how many segments a source has; None where that is only known at its end."""
    if archive.kind == "parquet":
        from pipeline.archives.tables import row_count

        return max(1, -(-row_count(archive.path, archive.name) // TABLE_ROWS))
    return max(1, -(-archive.size // size)) if archive.seekable else None


def read_segments(archive: Archive, size: int, wanted: Callable[[int], bool]) -> Iterator[Segment]:
    """Yield the wanted segments of ``archive`` in order; the others are passed over without being parsed.

    A segment's blocks must be used up before the next segment is asked for. Where the number of segments is
    only known at the file's end, every segment is yielded, those not wanted without blocks.

    Raises:
        PluginConfigError: the file is damaged, or cannot be read any more.
    """
    if archive.kind == "parquet":
        yield from _table_segments(archive, wanted)
    elif archive.seekable:
        yield from _plain_segments(archive, size, wanted)
    else:
        yield from _stream_segments(archive, size, wanted)


def _table_segments(archive: Archive, wanted: Callable[[int], bool]) -> Iterator[Segment]:
    from pipeline.archives.tables import parquet_payloads, row_count

    total = row_count(archive.path, archive.name)
    for number in filter(wanted, range(max(1, -(-total // TABLE_ROWS)))):
        start = number * TABLE_ROWS
        count = min(TABLE_ROWS, total - start)
        segment = Segment(number, lines=count, stored_bytes=archive.size * count // max(total, 1))
        if count:
            segment.blocks = (
                Block(parquet_payloads(archive.path, archive.name, start, count), list(range(count)))
                for _ in range(1)
            )
        yield segment


def _plain_segments(archive: Archive, size: int, wanted: Callable[[int], bool]) -> Iterator[Segment]:
    count = segment_count(archive, size) or 0
    with _opened(archive) as file:
        for number in filter(wanted, range(count)):
            reader = _reader_at(file, number * size)
            segment = Segment(number, stored_bytes=min(size, archive.size - number * size))
            segment.blocks = _blocks(segment, reader, (number + 1) * size)
            yield segment


def _reader_at(file: BinaryIO, offset: int) -> LineReader:
    """Return a reader of the lines that begin at or after ``offset``."""
    if offset == 0:
        file.seek(0)
        return LineReader(file)
    file.seek(offset - 1)
    before = LineReader(file, offset - 1)
    before.take(offset)
    return before


def _stream_segments(archive: Archive, size: int, wanted: Callable[[int], bool]) -> Iterator[Segment]:
    with _opened(archive) as file:
        reader = LineReader(_stream(archive, file))
        number = passed = 0
        while not reader.ended:
            end = (number + 1) * size
            segment = Segment(number, wanted=wanted(number))
            if segment.wanted:
                segment.blocks = _stored_blocks(segment, reader, end, file, passed)
            else:
                while reader.take(end):
                    pass
            yield segment
            passed = file.tell()
            number += 1


@contextmanager
def _opened(archive: Archive) -> Iterator[BinaryIO]:
    with reading(archive.name), Path(archive.path).open("rb") as file:
        yield file


def _stream(archive: Archive, file: BinaryIO) -> Readable:
    """Return the file's rows as lines of JSON, whatever it is packed in and however it is written."""
    plain: Readable = Unpacked(file, archive.packing, archive.name) if archive.packing else file
    match archive.kind:
        case "json":
            return RowLines(DocumentRows(plain, archive.name))
        case "csv":
            return RowLines(csv_rows(plain, archive.name, archive.columns, archive.delimiter))
        case _:
            return plain


def _stored_blocks(
    segment: Segment, reader: LineReader, end: int, file: BinaryIO, before: int
) -> Iterator[Block]:
    yield from _blocks(segment, reader, end)
    segment.stored_bytes = file.tell() - before


def _blocks(segment: Segment, reader: LineReader, end: int, rows: int = 0) -> Iterator[Block]:
    """Gather a segment's lines to blocks; blank ones are counted, not yielded."""
    rows = rows or BLOCK_ROWS
    block, size = Block([], []), 0
    first = reader.offset == 0
    while data := reader.take(end):
        lines = _lines(data.removeprefix(BYTE_ORDER_MARK) if first else data)
        first = False
        numbers: Sequence[int] = range(segment.lines, segment.lines + len(lines))
        segment.lines += len(lines)
        if any(map(bytes.isspace, lines)) or not all(lines):
            filled = [place for place, line in enumerate(lines) if line and not line.isspace()]
            lines, numbers = [lines[place] for place in filled], [numbers[place] for place in filled]
        block.payloads.extend(lines)
        block.lines.extend(numbers)
        size += len(data)
        while len(block.payloads) >= rows:
            yield Block(block.payloads[:rows], block.lines[:rows])
            block, size = Block(block.payloads[rows:], block.lines[rows:]), 0
        if size >= BLOCK_BYTES:
            yield block
            block, size = Block([], []), 0
    if block.payloads:
        yield block


def _lines(data: bytes) -> list[bytes]:
    """Return the lines without their ends. (As ``split`` would, which looks at one byte after the other.)"""
    lines = [line[:-1] for line in BytesIO(data)]
    if lines and not data.endswith(b"\n"):
        lines[-1] = data[data.rfind(b"\n") + 1 :]
    return lines
