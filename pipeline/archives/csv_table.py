"""CSV as rows of JSON: comma, semicolon or tab, as the pipeline or a spreadsheet writes it."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from pipeline.archives.lines import BYTE_ORDER_MARK, LineReader, Readable
from pipeline.display import unguarded
from pipeline.errors import PluginConfigError
from pipeline.transform.json_text import parsed
from pipeline.transform.paths import UNDER, JsonObject

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
