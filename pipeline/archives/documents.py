"""JSON that is not one value per line (arrays, ``{"biskits": [...]}``, pretty-printed values) as a stream of lines.

The text is scanned, never parsed as a whole, so that memory stays flat however long an array is: what stands between
the brackets of a row goes on as it came, with blanks for its line breaks, and whoever reads the row says what is wrong
with it. Only where the brackets themselves do not close is there no row to blame: then the file is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pipeline.archives.lines import BYTE_ORDER_MARK, LINE_BYTES, Readable
from pipeline.errors import PluginConfigError

PIECE_BYTES = 1 << 20

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
        data = self._stream.read(PIECE_BYTES).removeprefix(BYTE_ORDER_MARK)
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
                more = self._stream.read(max(PIECE_BYTES, len(data) - start))
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
