"""Archives as blocks of payloads, forwards and in bounded memory.

An archive is cut into segments of its uncompressed bytes: segment ``k`` holds the lines whose first byte lies in
``[k * size, (k + 1) * size)``, so that the same lines form the same segment whether the file is plain, gzip or zstd,
and whoever reads it. In a Parquet file a segment is a range of rows. Segments are the unit of work, of resuming and
of giving work to another machine.

A Parquet archive holds payload texts, or bookings as columns. With a column ``payload`` (text or binary) each row is one
booking's JSON; the rejected rows of an earlier backfill have this form, so that they can be read again. Otherwise the
columns are a booking's own keys (``id``, ``title``, ``properties`` as a struct, ...). Parquet cannot tell an absent key
from a null one: null is read as absent. Dates and times that are not text become ISO 8601 text.
"""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast

import polars as pl

from pipeline.backfill.lines import LineReader
from pipeline.backfill.sources import Source
from pipeline.errors import PluginConfigError

BLOCK_ROWS = 100_000
BLOCK_BYTES = 24 << 20
"""A block's size: each costs some 50 ms besides its rows, and two to three times its size of memory.

Usually a block is a segment: then nothing of one is held while the next is read.
"""
PARQUET_ROWS = 50_000
PAYLOAD = "payload"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Block:
    """Some payloads in the archive's order, and for each the number of its line (or row), from 0, in its segment."""

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


def segment_count(source: Source, size: int) -> int | None:
    """Return how many segments a source has; None for a compressed one, where only reading to its end can tell."""
    match source.kind:
        case "ndjson":
            return max(1, -(-source.size // size))
        case "parquet":
            return max(1, -(-_row_count(source) // PARQUET_ROWS))
        case _:
            return None


def read_segments(source: Source, size: int, wanted: Callable[[int], bool]) -> Iterator[Segment]:
    """Yield the wanted segments of ``source`` in order; the others are passed over without being parsed.

    A segment's blocks must be used up before the next segment is asked for. Of a compressed file every segment is
    yielded, those not wanted without blocks: how many there are is only known at the end. Raises
    ``PluginConfigError`` for a damaged file.
    """
    match source.kind:
        case "parquet":
            yield from _parquet_segments(source, wanted)
        case "ndjson":
            yield from _plain_segments(source, size, wanted)
        case _:
            yield from _stream_segments(source, size, wanted)


def _plain_segments(source: Source, size: int, wanted: Callable[[int], bool]) -> Iterator[Segment]:
    count = segment_count(source, size) or 0
    with Path(source.path).open("rb") as file:
        for number in filter(wanted, range(count)):
            reader = _reader_at(file, number * size)
            segment = Segment(number, stored_bytes=min(size, source.size - number * size))
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


def _stream_segments(source: Source, size: int, wanted: Callable[[int], bool]) -> Iterator[Segment]:
    with Path(source.path).open("rb") as file:
        reader = LineReader(_Decompressed(source, file))
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


class _Decompressed:
    """The bytes of a compressed file; what is damaged or cut off becomes ``PluginConfigError``."""

    def __init__(self, source: Source, file: BinaryIO) -> None:
        self._source = source
        self._stream: BinaryIO
        if source.kind == "gzip":
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
        except self._faults as error:
            source = self._source
            raise PluginConfigError(
                f"{source.name}: the {source.kind} data is damaged or cut off; mend or leave out the file"
            ) from error


def _stored_blocks(
    segment: Segment, reader: LineReader, end: int, file: BinaryIO, before: int
) -> Iterator[Block]:
    yield from _blocks(segment, reader, end)
    segment.stored_bytes = file.tell() - before


def _blocks(segment: Segment, reader: LineReader, end: int) -> Iterator[Block]:
    """Gather a segment's lines to blocks; blank ones are counted, not yielded."""
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
        while len(block.payloads) >= BLOCK_ROWS:
            yield Block(block.payloads[:BLOCK_ROWS], block.lines[:BLOCK_ROWS])
            block, size = Block(block.payloads[BLOCK_ROWS:], block.lines[BLOCK_ROWS:]), 0
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


def _row_count(source: Source) -> int:
    """Return the number of rows from the file's own footer."""
    return int(_scan(source).select(pl.len()).collect().item())


def _parquet_segments(source: Source, wanted: Callable[[int], bool]) -> Iterator[Segment]:
    total = _row_count(source)
    for number in filter(wanted, range(max(1, -(-total // PARQUET_ROWS)))):
        count = min(PARQUET_ROWS, total - number * PARQUET_ROWS)
        segment = Segment(number, lines=count, stored_bytes=source.size * count // max(total, 1))
        if count:
            segment.blocks = _parquet_blocks(source, number * PARQUET_ROWS, count)
        yield segment


def _parquet_blocks(source: Source, start: int, count: int) -> Iterator[Block]:
    frame = _scan(source).slice(start, count).collect()
    if PAYLOAD in frame.columns:
        payloads: list[Any] = ["null" if text is None else text for text in frame[PAYLOAD]]
    else:
        payloads = [_as_json(row) for row in frame.iter_rows(named=True)]
    yield Block(payloads, list(range(count)))


def _scan(source: Source) -> pl.LazyFrame:
    try:
        frame = pl.scan_parquet(source.path, hive_partitioning=False, glob=False)
        schema = frame.collect_schema()
    except pl.exceptions.PolarsError as error:
        raise PluginConfigError(
            f"{source.name}: cannot be read as Parquet ({type(error).__name__})"
        ) from error
    if PAYLOAD in schema:
        if schema[PAYLOAD] not in (pl.String, pl.Binary):
            raise PluginConfigError(
                f"{source.name}: column 'payload' is {schema[PAYLOAD]}; it must be text or binary"
            )
        return frame.select(PAYLOAD)
    if "id" not in schema:
        shown = ", ".join(schema.names()[:8])
        raise PluginConfigError(
            f"{source.name}: holds no bookings: it has neither a column 'payload' with their JSON nor a column 'id' "
            f"(columns: {shown})"
        )
    return frame


def _as_json(value: Any) -> Any:
    match value:
        case dict():
            return {key: _as_json(item) for key, item in value.items() if item is not None}
        case list():
            return [_as_json(item) for item in value]
        case datetime() | date() | time():
            return value.isoformat()
        case _:
            return value
