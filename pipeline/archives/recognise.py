"""What a file is, by its first bytes, for every command that reads one; what cannot be read is refused.

Read are JSON (a value per line, an array, a server's answer with ``biskits``, pretty-printed or not), CSV and
Parquet, JSON and CSV also packed by gzip or zstd. All else is refused in one sentence that names the cause and the
command that fixes it; no message quotes the file.

Loads no polars for what is no Parquet file: a backfill's coordinator stays small.
"""

from __future__ import annotations

import codecs
import errno
import gzip
import os
import re
import shlex
import stat
import sys
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Literal

from pipeline import fields
from pipeline.archives.text_rows import (
    BYTE_ORDER_MARK,
    PAYLOAD,
    DocumentRows,
    Packing,
    Readable,
    csv_rows,
    header,
)
from pipeline.errors import PluginConfigError
from pipeline.transform.json_values import parsed

Kind = Literal["lines", "json", "csv", "parquet"]
Holds = Literal["bookings", "entries", "labels", "others", "unknown"]

HEAD_BYTES = 1 << 20
SAMPLE_ROWS = 500
ENTRY_KEYS = frozenset(fields.names(required=True)) - {"patient_id"}
"""The keys that every entry has besides its mapped fields."""

_BOOKING_KEYS = frozenset({"properties", "formattedName", "biskitType", "title", "dateRange"})
_CONFIG_KEYS = frozenset({"field_mapping", "base_url", "resource_modality_mapping", "api_path", "resources"})
_COLUMNS = _BOOKING_KEYS | {*fields.by_name(), "id", "booking_id", "expected", "rejected", PAYLOAD}

_PACKINGS: Mapping[bytes, Packing] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_EXCEL = ("is an Excel workbook", 'save it in Excel as "CSV UTF-8" and name that file')
_FOREIGN = (
    (rb".{257}ustar", "is a tar archive", "unpack it first: tar -xf {file}"),
    (rb"PK\x03\x04(?=.*(?:xl/|\[Content_Types\]\.xml))", *_EXCEL),
    (rb"PK\x03\x04", "is a zip archive", "unpack it first: unzip {file}"),
    (rb"BZh", "is packed by bzip2", "unpack it first: bunzip2 -k {file}"),
    (rb"\xfd7zXZ\x00", "is packed by xz", "unpack it first: xz -dk {file}"),
    (rb"%PDF", "is a PDF document", "export the bookings as JSON"),
    (rb"SQLite format 3\x00", "is an SQLite database", "name a file of bookings"),
    (rb"\xd0\xcf\x11\xe0", *_EXCEL),
)
"""How other files begin, what they are and what to do."""
_NOT_BOOKINGS = {
    "entries": "worklist entries, not bookings; look at them with: calpendo-pipeline check {file}",
    "labels": "labels, not bookings; use them with: calpendo-pipeline audit BOOKINGS --expected {file}",
    "others": "no bookings: none of its first rows is a JSON object with an id; name a file of bookings",
}
_WIDE = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_NULS: Mapping[tuple[bool, ...], str] = {
    (False, True, True, True): "UTF-32LE",
    (True, True, True, False): "UTF-32BE",
}
"""Which of four bytes are mostly NUL."""
# What Excel makes of 2026-11-23 and 09:00:00 in one country or another, with a time behind a day, or as a number of days.
_EXCEL_DATE = re.compile(
    r"(\d{1,2}[./-]\d{1,2}[./-]\d{2,4}|\d{4}[./]\d{1,2}[./]\d{1,2}|\d{1,2}\.?[ -][^\W\d]{3,9}\.?[ -]\d{2,4})( +\d{1,2}:.*)?\Z"
    r"|\d{4}-\d\d-\d\d +\d{1,2}:\d\d(:\d\d)?\Z|\d{5}([.,]\d+)?\Z"
)
_EXCEL_TIME = re.compile(r"\d:\d\d(:\d\d)?\Z|\d{1,2}:\d\d(:\d\d)? ?[AaPp]\.?[Mm]\.?\Z|0[.,]\d+\Z")
# What they were; a time from ten o'clock on proves nothing, because it may have stayed as it was.
_OUR_DATE = re.compile(r"\d{4}-\d\d-\d\d\Z")
_OUR_EARLY_TIME = re.compile(r"0\d:\d\d(:\d\d)?(\.\d+)?\Z")


@dataclass(frozen=True)
class Archive:
    """One recognised file. ``name`` is how it was given, ``path`` where it lies, ``size`` its bytes on the disk.

    ``holds`` is what most of its first rows look like: ``others`` where none of them is an object with an id,
    ``unknown`` where there is no telling, as in an empty file; ``columns`` are those of a CSV or Parquet file, ``delimiter``
    is that of CSV.
    """

    name: str
    path: str
    size: int
    kind: Kind = "lines"
    packing: Packing = ""
    holds: Holds = "unknown"
    columns: tuple[str, ...] = ()
    delimiter: str = ""

    @property
    def seekable(self) -> bool:
        """Tell whether a line can be read without those before it."""
        return self.kind == "lines" and not self.packing

    @property
    def counted(self) -> Literal["line", "row"]:
        """What a row's number counts: lines as an editor shows them, or rows."""
        return "line" if self.kind == "lines" else "row"


def recognise(path: str | Path, name: str | None = None) -> Archive:
    """Look at a file's first bytes.

    Args:
        path: the file.
        name: what messages call it; the path if left out.

    Raises:
        PluginConfigError: it cannot be read, or is nothing that any command reads.
    """
    name = name or str(path)
    with reading(name):
        size = _size(Path(path), name)
        with Path(path).open("rb") as file:
            head = file.read(HEAD_BYTES)
            packing: Packing = next((kind for mark, kind in _PACKINGS.items() if head.startswith(mark)), "")
            whole = size <= len(head)
            if packing:
                file.seek(0)
                head = Unpacked(file, packing, name).read(HEAD_BYTES)
                whole = len(head) < HEAD_BYTES
    if head.startswith(b"PAR1") and not packing:
        from pipeline.archives.tables import parquet_columns

        columns = parquet_columns(str(path), name)
        return Archive(name, str(path), size, "parquet", "", held([dict.fromkeys(columns)]), columns)
    found = _Head(name, head, whole, packing)
    kind, columns, delimiter = found.kind()
    rows = found.rows(kind, columns, delimiter)
    found.refuse_other_encodings(rows if kind != "csv" else head.split(b"\n"), one_is_enough=kind == "csv")
    records = [record for row in rows if isinstance(record := _record(row), dict)]
    found.refuse_configuration(records)
    if kind == "csv":
        found.refuse_excel(records)
    holds = held(records or [dict.fromkeys(columns)])
    if holds == "unknown" and rows and not any("id" in record for record in records):
        holds = "others"
    return Archive(name, str(path), size, kind, packing, holds, columns, delimiter)


def bookings_only(archive: Archive) -> Archive:
    """Return the archive; raise ``PluginConfigError`` where it holds entries or labels instead of bookings."""
    if found := _NOT_BOOKINGS.get(archive.holds):
        raise PluginConfigError(f"{archive.name}: holds {found.format(file=shlex.quote(archive.name))}")
    if archive.kind == "parquet" and not {PAYLOAD, "id"} & set(archive.columns):
        raise PluginConfigError(
            f"{archive.name}: holds no bookings: it has neither a column 'payload' with their JSON nor a column 'id' "
            f"(columns: {', '.join(archive.columns[:8])})"
        )
    return archive


def held(records: Sequence[Mapping[str, Any]]) -> Holds:
    """Tell what most of some rows look like."""
    votes = Counter(found for record in records if (found := _looks_like(record)) != "unknown")
    return votes.most_common(1)[0][0] if votes else "unknown"


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn the system's refusal to read a file into ``PluginConfigError``."""
    try:
        yield
    except OSError as error:
        hint = "; name a file in it" if isinstance(error, IsADirectoryError) else ""
        raise PluginConfigError(f"{name}: cannot be read ({error.strerror}){hint}") from None


class _Head:
    """A file's first bytes, unpacked; ``whole`` says that they are all of it."""

    def __init__(self, name: str, head: bytes, whole: bool, packing: Packing) -> None:
        self._name = name
        self._head = head
        self._text = head.removeprefix(BYTE_ORDER_MARK).lstrip()
        self._whole = whole
        self._packing = packing

    def kind(self) -> tuple[Kind, tuple[str, ...], str]:
        """Tell how the file is written, with the columns and the delimiter of CSV; refuse what is none of it."""
        text = self._text
        self._refuse_foreign()
        self._refuse_wide()
        if text.startswith(b"<"):
            web = b"<html" in text[:4096].lower() or b"<!doctype html" in text[:4096].lower()
            what = "a web page, as a server answers who is not logged in" if web else "XML"
            raise self._refused(
                f"is {what}, not JSON",
                "let this program fetch: calpendo-pipeline backfill --config FILE --from DAY --to DAY --output DIR",
            )
        if text.startswith(b"[") or self._is_document():
            return "json", (), ""
        if not text or text.startswith(b"{"):
            return "lines", (), ""
        if b"\0" not in self._head and (found := header(self._head, _COLUMNS)):
            return "csv", *found
        some = text.split(b"\n", SAMPLE_ROWS)[:SAMPLE_ROWS]
        if any(line.lstrip().startswith(b"{") for line in some):
            return "lines", (), ""
        if b"\0" in self._head:
            raise self._refused("is neither JSON, CSV nor Parquet", "name a file of bookings or entries")
        raise self._refused(
            "holds neither bookings (id with formattedName, title or properties) nor entries (scheduled_start_date, "
            "source_record_id, ...) nor labels (booking_id with expected or rejected)",
            "name a file of these",
        )

    def rows(self, kind: Kind, columns: tuple[str, ...], delimiter: str) -> list[bytes]:
        """Return the first whole rows as JSON."""
        if kind == "lines":
            lines = self._head.removeprefix(BYTE_ORDER_MARK).split(b"\n", SAMPLE_ROWS + 1)
            kept = lines if self._whole and len(lines) <= SAMPLE_ROWS else lines[:-1]
            return [line for line in kept or lines if line.strip()]
        stream = BytesIO(self._head)
        found: list[bytes] = []
        rows = (
            DocumentRows(stream, self._name)
            if kind == "json"
            else csv_rows(stream, self._name, columns, delimiter)
        )
        try:
            found.extend(islice(rows, SAMPLE_ROWS))
        except PluginConfigError:
            if self._whole:
                raise
        return [row for row in found if row]

    def refuse_other_encodings(self, rows: Sequence[bytes], *, one_is_enough: bool) -> None:
        """Refuse a file in which the rows that are no UTF-8 are the rule among those that are no ASCII.

        A broken byte here and there costs its own row only. ``one_is_enough`` where the file was not written by a
        program that writes UTF-8.
        """
        broken = [row for row in rows if row.decode(errors="ignore").encode() != row]
        if not broken:
            return
        others = sum(not row.isascii() for row in rows) - len(broken)
        letters = sum(bool(_CP1252_TEXT.search(row)) for row in broken)
        enough = one_is_enough or len(broken) > 1 or len(rows) == 1
        if enough and others * 2 < len(broken) <= letters * 2 and len(broken) * 100 >= len(rows):
            raise self._refused("is not UTF-8 but probably Windows-1252 (cp1252)", self._converted("CP1252"))

    def refuse_configuration(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Refuse a configuration file that was named in the place of bookings."""
        if not records or "id" in records[0]:
            return
        if "data_sources" in records[0] or len(_CONFIG_KEYS & records[0].keys()) > 1:
            raise self._refused(
                "is a configuration, not bookings",
                f"name the bookings, and this file behind --config: calpendo-pipeline audit BOOKINGS --config {self._quoted}",
            )

    def refuse_excel(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Refuse entries whose dates or times a spreadsheet has rewritten."""
        for key, rewritten, as_written, what in (
            ("scheduled_start_date", _EXCEL_DATE, _OUR_DATE, "dates"),
            ("scheduled_start_time", _EXCEL_TIME, _OUR_EARLY_TIME, "times"),
        ):
            values = [value for record in records if isinstance(value := record.get(key), str)]
            if sum(map(bool, map(rewritten.match, values))) > sum(map(bool, map(as_written.match, values))):
                raise self._refused(
                    f"has {what} as Excel rewrites them, not 2026-11-23 and 09:00:00",
                    "write the entries again and leave Excel out: "
                    "calpendo-pipeline run --config FILE --output NEW.csv",
                )

    def _is_document(self) -> bool:
        """Tell whether a text that begins with a brace is an answer with ``biskits``, or spread over several lines."""
        if not self._text.startswith(b"{"):
            return False
        line = self._text.split(b"\n", 1)[0]
        record = _record(line)
        if isinstance(record, dict):
            return isinstance(record.get("biskits"), list)
        rows = DocumentRows(BytesIO(self._text), self._name)
        first = b""
        with suppress(PluginConfigError):
            first = next(iter(rows), b"")
        return rows.wrapped or (len(first) > len(line) and isinstance(_record(first), dict))

    def _refuse_foreign(self) -> None:
        head = self._head
        if self._packing and head.startswith((b"PAR1", b"\x1f\x8b", b"\x28\xb5\x2f\xfd")):
            tool = "gunzip -k" if self._packing == "gzip" else "zstd -dk"
            raise self._refused(
                f"is packed by {self._packing} once too often", f"unpack it: {tool} {self._quoted}"
            )
        for beginning, what, fix in _FOREIGN:
            if re.match(beginning, head, re.DOTALL):
                raise self._refused(what, fix.format(file=self._quoted))

    def _refuse_wide(self) -> None:
        """Refuse UTF-16 and UTF-32, with a byte order mark or known by its NULs."""
        some = self._head[:4096]
        nuls = tuple(some[place::4].count(0) * 16 > len(some) * 3 for place in range(4))
        even, odd = some[::2].count(0), some[1::2].count(0)
        encoding = next((name for mark, name in _WIDE.items() if self._head.startswith(mark)), None)
        encoding = encoding or _NULS.get(nuls)
        if encoding is None and max(even, odd) * 3 > len(some):
            encoding = "UTF-16LE" if odd > even else "UTF-16BE"
        if encoding:
            raise self._refused(f"is {encoding}, not UTF-8", self._converted(encoding))

    def _converted(self, encoding: str) -> str:
        base = Path(self._name.removesuffix(".gz").removesuffix(".zst"))
        target = shlex.quote(str(base.with_name(f"{base.stem}.utf8{base.suffix}")))
        if not self._packing:
            return f"convert it: iconv -f {encoding} -t UTF-8 {self._quoted} > {target}"
        tool = "gzip -dc" if self._packing == "gzip" else "zstd -dc"
        return f"convert it: {tool} {self._quoted} | iconv -f {encoding} -t UTF-8 > {target}"

    @property
    def _quoted(self) -> str:
        return shlex.quote(self._name)

    def _refused(self, what: str, fix: str) -> PluginConfigError:
        return PluginConfigError(f"{self._name}: {what}; {fix}")


# A byte that Windows-1252 writes for a letter, beside a letter of ASCII, or for a dash, a quote or an ellipsis, between
# characters of ASCII; without those that begin most of UTF-8's two-byte letters, half of which is a common fault of
# UTF-8 that was cut.
_CP1252_TEXT = re.compile(
    rb"[A-Za-z][\xc0\xc1\xc4-\xd6\xd8-\xf6\xf8-\xfe\x8a\x8c\x8e\x9a\x9c\x9e]"
    rb"|[\xc0\xc1\xc4-\xd6\xd8-\xf6\xf8-\xfe\x8a\x8c\x8e\x9a\x9c\x9e][A-Za-z]"
    rb"|(?<![\x80-\xff])[\x85\x91-\x97](?![\x80-\xff])"
)


def _looks_like(record: Mapping[str, Any]) -> Holds:
    if "booking_id" in record and ("expected" in record or "rejected" in record):
        return "labels"
    if record.keys() & ENTRY_KEYS and "id" not in record:
        return "entries"
    flat = any(isinstance(key, str) and key.startswith(("properties.", "dateRange.")) for key in record)
    if PAYLOAD in record or ("id" in record and (flat or record.keys() & _BOOKING_KEYS)):
        return "bookings"
    return "entries" if record.keys() & ENTRY_KEYS else "unknown"


def _size(path: Path, name: str) -> int:
    """Return a file's size; a pipe or a device is refused before it is opened, which might wait for ever."""
    if "\0" in str(path):
        raise PluginConfigError(f"{name!r}: cannot be read (no file can be called so)")
    facts = path.stat()
    if stat.S_ISDIR(facts.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(facts.st_mode):
        raise PluginConfigError(f"{name}: cannot be read (no regular file); write its content to one first")
    return facts.st_size


def _record(row: bytes) -> object:
    """Return a row's JSON value, whatever its bytes stand for; None where it is none."""
    try:
        return parsed(row)
    except ValueError:
        return None


class Unpacked:
    """The bytes of a gzip or zstd file; what is damaged or cut off becomes ``PluginConfigError``."""

    def __init__(self, file: BinaryIO, packing: Packing, name: str) -> None:
        self._damaged = (
            f"{name}: the {packing} data is damaged or cut off; write it again or leave the file out"
        )
        self._stream: Readable
        self._faults: tuple[type[Exception], ...]
        if packing == "gzip":
            self._stream = gzip.GzipFile(fileobj=file, mode="rb")
            self._faults = (EOFError, gzip.BadGzipFile, zlib.error)
        else:
            zstd = import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
            self._stream = zstd.ZstdFile(file, mode="rb")
            self._faults = (EOFError, zstd.ZstdError)

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes; none at the end."""
        try:
            return self._stream.read(size)
        except self._faults:
            raise PluginConfigError(self._damaged) from None
