"""Text files as rows of JSON, one per line, in bounded memory: lines, JSON documents, CSV; plain or packed.

``LineReader`` takes whole lines from a stream, ``Unpacked`` is the stream of a packed file.

``DocumentRows`` reads JSON that is not one value per line (arrays, ``{"biskits": [...]}``, pretty-printed values). The
text is scanned, never parsed as a whole, so that memory stays flat however long an array is: what stands between the
brackets of a row is passed on as it came, with blanks for its line breaks, and whoever reads the row says what is wrong
with it. Only where the brackets themselves do not close is there no row to blame: then the file is refused.

``csv_rows`` reads CSV with commas, semicolons or tabs, as the pipeline or a spreadsheet writes it.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Literal, Protocol

from pipeline.display import unguarded
from pipeline.errors import PluginConfigError
from pipeline.transform.json_values import UNDER, JsonObject, parsed

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
        self._buffer = bytearray()
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
        taken = bytes(self._buffer[:cut])
        del self._buffer[:cut]
        self.offset += cut + self._left_out
        self._left_out = 0
        return taken

    def _fill(self, size: int) -> int:
        """Read until the buffer holds ``size`` bytes or the stream ends; return how many it holds."""
        while len(self._buffer) < size and (part := self._stream.read(size - len(self._buffer))):
            self._buffer += part
        return len(self._buffer)

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
        kept = begin + KEPT_OF_A_GIANT
        self._left_out += start - kept - 1
        self._buffer[kept:start] = b"\0"
        return kept + 1


class RowLines:
    """Rows of JSON, one line each, read like a file."""

    def __init__(self, rows: Iterable[bytes]) -> None:
        self._rows = iter(rows)
        self._ready = bytearray()

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes; none at the end."""
        while len(self._ready) < size and (row := next(self._rows, None)) is not None:
            self._ready += row + b"\n"
        taken = bytes(self._ready[:size])
        del self._ready[:size]
        return taken


SCANNED_BYTES = 1 << 20

_TO_BRACKET = re.compile(rb'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+([{}\[\]])', re.DOTALL)
_BISKITS = re.compile(rb'"biskits"\s*:\s*\Z')
_SCALAR = re.compile(rb'"(?:[^"\\]|\\.)*"?|[^\s,"]+', re.DOTALL)
_OPENING = b"{["
_BETWEEN = b" \t\r\n,"
_ALIKE = 16


class DocumentRows:
    """The rows of JSON documents, each without line breaks; iterate once.

    Rows are the items of an array at the top, those of ``biskits`` in an object at the top, else the values at the
    top themselves, of which several may follow one another. ``wrapped`` tells whether an array or ``biskits`` was met.

    Args:
        stream: the text, UTF-8 or nearly so.
        name: the file's name for messages.

    Raises:
        PluginConfigError: while iterating, where a bracket is never closed, or closed without having been opened.
    """

    def __init__(self, stream: Readable, name: str) -> None:
        self._stream = stream
        self._name = name
        self._passed = 0
        self.wrapped = False

    def __iter__(self) -> Iterator[bytes]:
        """Scan the stream."""
        for row in self._rows():
            self._passed += 1
            yield row.replace(b"\n", b" ").replace(b"\r", b" ") if b"\n" in row or b"\r" in row else row

    def _rows(self) -> Iterator[bytes]:
        data = self._stream.read(SCANNED_BYTES).removeprefix(BYTE_ORDER_MARK)
        at = start = 0
        depth = level = (
            0  # how many brackets are open, and how many around a row; -1 behind the rows of an answer
        )
        bulk = _Bulk()
        while True:
            if depth == level > 0 and (found := bulk.take(data, start)):
                yield from found
                at = start = bulk.end
            bracket = _TO_BRACKET.match(data, at)
            if bracket is None:
                more = self._stream.read(max(SCANNED_BYTES, len(data) - start))
                if not more:
                    break
                if len(data) - start > LINE_BYTES:
                    raise self._fault("is longer than 16 MiB, or a quote or a bracket in it is missing")
                data, at, start = data[start:] + more, at - start, 0
                bulk.tried = False
                continue
            at = bracket.end()
            if data[at - 1] in _OPENING:
                if depth == level:
                    yield from _SCALAR.findall(data, start, at - 1)
                    bulk.learn(data, start, at - 1)
                    start = at - 1
                    if level == 0 and data[at - 1 : at] == b"[":
                        self.wrapped, level, start = True, 1, at
                elif depth == 1 and level == 0 and _BISKITS.search(data, start, at - 1):
                    self.wrapped, level, start = True, 2, at
                depth += 1
                continue
            depth -= 1
            if depth < 0:
                raise self._fault("is closed by a bracket that was never opened")
            if depth == level:
                yield data[start:at]
                start = at
            elif depth < level:  # The array is closed; what follows ``biskits`` in its object is no row.
                yield from _SCALAR.findall(data, start, at - 1)
                level = depth and -1
                start = at
            elif level < 0:
                level = depth and -1
                start = at
        if depth:
            raise self._fault("is where the file ends: it is cut off, or a quote or a bracket is missing")
        yield from _SCALAR.findall(data, start)

    def _fault(self, what: str) -> PluginConfigError:
        return PluginConfigError(
            f"{self._name}: is not valid JSON: row {self._passed + 1} {what}; write the file again, "
            "or see where with: python3 -m json.tool FILE"
        )


class _Bulk:
    """Many rows at once, eight times as fast as bracket by bracket, where msgspec agrees that they are rows."""

    def __init__(self) -> None:
        self._between = b""
        self.tried = False
        self.end = 0

    def learn(self, data: bytes, start: int, opening: int) -> None:
        """Remember how one row ends and the next begins."""
        if start and data[start - 1 : start] == b"}":
            self._between = data[start - 1 : opening + _ALIKE]

    def take(self, data: bytes, start: int) -> list[bytes]:
        """Return the rows from ``start`` to ``end``; none where there is no telling."""
        if not self._between or self.tried:
            return []
        self.tried = True  # once for each piece
        last = data.rfind(self._between, start)
        if last < 0:
            return []
        import msgspec

        self.end = last + 1
        try:
            found = msgspec.json.decode(
                b"[" + data[start : self.end].lstrip(_BETWEEN) + b"]", type=list[msgspec.Raw]
            )
        except (msgspec.DecodeError, RecursionError):
            return []
        return [bytes(row) for row in found]


DELIMITERS = (",", ";", "\t")

_OBJECTS = frozenset({"properties", "dateRange", "resource", "project", "operator", "Operator"})
_NUMBERS = frozenset({"id", "booking_id", "line"})
_PROPERTIES = UNDER.removesuffix(".")
_LONGEST_ID = 25


def header(head: bytes, known: frozenset[str]) -> tuple[tuple[str, ...], str] | None:
    """Return the column names and the delimiter of a CSV file by its first bytes.

    Of the delimiters the one that yields most of the ``known`` names is taken; None where none yields any.
    """
    lines = head.removeprefix(BYTE_ORDER_MARK).decode("utf-8", "surrogateescape").lstrip("\r\n").split("\n")
    if lines[0].rstrip("\r").lower() in ("sep=,", "sep=;", "sep=\t"):  # Excel's own hint to itself
        lines = lines[1:]
    best: tuple[int, tuple[str, ...], str] = (0, (), "")
    for delimiter in DELIMITERS:
        try:
            names = next(csv.reader(lines[:1], delimiter=delimiter, strict=True), [])
        except csv.Error:
            continue
        score = len(known & set(names))
        if score > best[0]:
            best = (score, tuple(names), delimiter)
    return best[1:] if best[0] else None


def csv_rows(stream: Readable, name: str, names: tuple[str, ...], delimiter: str) -> Iterator[bytes]:
    """Yield the rows behind the header as JSON objects of text, ids as numbers; an empty cell is an absent key.

    A row without any value is an empty line. A byte that is not UTF-8 is half a surrogate pair in its cell, so that
    it costs that cell only.

    Raises:
        PluginConfigError: a row has more cells than the header, or a quote is never closed.
    """
    rows = csv.reader(_text_lines(stream), delimiter=delimiter, strict=True)
    number = -1
    try:
        for cells in rows:
            if number < 0:
                number += tuple(cells) == names
                continue
            number += 1
            if len(cells) > len(names):
                raise PluginConfigError(
                    f"{name}: cannot be read as CSV: row {number} has {len(cells)} cells, the header {len(names)}; "
                    "a value that holds the delimiter must stand in quotes"
                )
            record = table_row(
                (key, unguarded(cell)) for key, cell in zip(names, cells, strict=False) if cell
            )
            yield json.dumps(record, separators=(",", ":")).encode() if record else b""
    except csv.Error:
        raise PluginConfigError(
            f"{name}: cannot be read as CSV: in row {number + 1} a quote is missing, or a cell is too long"
        ) from None


def _text_lines(stream: Readable) -> Iterator[str]:
    reader = LineReader(stream)
    first = True
    while data := reader.take(sys.maxsize):
        text = (data.removeprefix(BYTE_ORDER_MARK) if first else data).decode("utf-8", "surrogateescape")
        first = False
        lines = text.split("\n")
        yield from (f"{line}\n" for line in lines[:-1])
        if lines[-1]:
            yield lines[-1]


def table_row(cells: Iterable[tuple[str, Any]]) -> JsonObject:
    """Return a table's row as the booking that it holds.

    Args:
        cells: a column's name and its value as JSON has it, none where there is no value. Text becomes what it must be:
            an id a number, an object what its JSON says. What stands in ``properties.…`` belongs below ``properties``,
            where a path without this beginning is looked up too.
    """
    row: JsonObject = {}
    below: JsonObject = {}
    for key, value in cells:
        name = key.removeprefix(UNDER)
        (row if name == key else below)[name] = _typed(name, value) if isinstance(value, str) else value
    if below:
        inner = row.get(_PROPERTIES)
        row[_PROPERTIES] = (inner if isinstance(inner, dict) else {}) | below
    return row


def _typed(key: str, cell: str) -> object:
    if key in _NUMBERS and len(cell) < _LONGEST_ID and cell.strip().lstrip("-").isdecimal():
        return int(cell)
    if key in _OBJECTS and cell.startswith("{"):
        try:
            return parsed(cell)
        except ValueError:
            return cell
    return cell
