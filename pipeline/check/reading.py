"""A file of entries or bookings, row by row: NDJSON, Parquet or CSV, told by its content."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, Literal

import orjson
import polars as pl

from pipeline.errors import PluginConfigError

Format = Literal["ndjson", "parquet", "csv"]

CHUNK = 50_000
PAYLOAD = "payload"
_OBJECTS = frozenset({"properties", "dateRange", "resource", "project", "operator", "Operator"})


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its number from 1, what was read, and the JSON text where the file holds such (else None)."""

    number: int
    content: object
    text: bytes | None = None


def file_format(path: Path) -> Format:
    """Tell the format by the file's first bytes: Parquet says so, JSON begins with a brace."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise PluginConfigError(f"{path}: cannot be read ({error.strerror})") from None
    if head.startswith(b"PAR1"):
        return "parquet"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"{") or not text:
        return "ndjson"
    if text.startswith(b"["):
        raise PluginConfigError(f"{path}: is one JSON list; write one JSON object a line (NDJSON)")
    if path.suffix.lower() in (".ndjson", ".jsonl", ".json"):
        return "ndjson"
    if b"\0" in head:
        raise PluginConfigError(f"{path}: is neither NDJSON, Parquet nor CSV")
    return "csv"


def read_chunks(path: Path, kind: Format) -> Iterator[list[Row]]:
    """Yield the rows in order, at most ``CHUNK`` at once; blank lines of NDJSON are passed over."""
    try:
        match kind:
            case "ndjson":
                yield from _lines(path)
            case "parquet":
                total = pl.scan_parquet(path, glob=False).select(pl.len()).collect().item()
                for start in range(0, total, CHUNK):
                    frame = pl.scan_parquet(path, glob=False).slice(start, CHUNK).collect()
                    yield _frame_rows(frame, start)
            case "csv":
                # All columns as text: what a value means is decided below, where a fault can be told by its row.
                frame = pl.read_csv(path, infer_schema=False, encoding="utf8")
                for start in range(0, frame.height, CHUNK):
                    yield _frame_rows(frame.slice(start, CHUNK), start, parse=True)
    except pl.exceptions.PolarsError as error:
        # polars' messages quote the file's content.
        raise PluginConfigError(f"{path}: cannot be read as {kind} ({type(error).__name__})") from None
    except OSError as error:
        raise PluginConfigError(f"{path}: cannot be read ({error.strerror})") from None


def columns(path: Path, kind: Format) -> tuple[str, ...]:
    """Return the column names of a Parquet or CSV file, which it has also without rows; none for NDJSON."""
    try:
        if kind == "parquet":
            return tuple(pl.scan_parquet(path, glob=False).collect_schema())
        if kind == "csv":
            return tuple(pl.read_csv(path, infer_schema=False, n_rows=0).columns)
    except pl.exceptions.PolarsError as error:
        raise PluginConfigError(f"{path}: cannot be read as {kind} ({type(error).__name__})") from None
    return ()


def parsed(text: bytes) -> object:
    """Return the JSON value of a line; raises ValueError where it is none."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            return json.loads(text)
        except RecursionError as error:
            raise ValueError("nested too deep") from error


def _lines(path: Path) -> Iterator[list[Row]]:
    rows: list[Row] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            text = (line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).strip()
            if not text:
                continue
            rows.append(Row(number, None, text))
            if len(rows) == CHUNK:
                yield rows
                rows = []
    if rows:
        yield rows


def _frame_rows(frame: pl.DataFrame, start: int, *, parse: bool = False) -> list[Row]:
    """Return a frame's rows; a ``payload`` column holds the rows' JSON."""
    if PAYLOAD in frame.columns and frame.schema[PAYLOAD] in (pl.String, pl.Binary):
        texts = frame[PAYLOAD].cast(pl.Binary)
        return [Row(start + place, None, text or b"null") for place, text in enumerate(texts, start=1)]
    make = _typed if parse else _plain
    return [
        Row(start + place, {key: make(key, value) for key, value in record.items() if value is not None})
        for place, record in enumerate(frame.iter_rows(named=True), start=1)
    ]


def _plain(_: str, value: Any) -> Any:
    """Return a Parquet value as JSON would hold it: absent keys for nulls, ISO 8601 for dates and times."""
    match value:
        case dict():
            return {key: _plain(key, item) for key, item in value.items() if item is not None}
        case list():
            return [_plain("", item) for item in value]
        case datetime() | date() | time():
            return value.isoformat()
        case _:
            return value


def _typed(key: str, value: str) -> Any:
    """Return a CSV cell as what it must be: an id as a number, an object from its JSON, else text."""
    if key == "id" and value.strip().lstrip("-").isdecimal() and len(value) < 25:
        return int(value)
    if key in _OBJECTS and value.startswith("{"):
        try:
            return parsed(value.encode())
        except ValueError:
            return value
    return value
