"""One reader of booking files: what a file is, what is refused with which remedy, and its rows, however it is written."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from backports import zstd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from pipeline.archives import BookingFile, bookings_only, recognise, text_rows
from pipeline.archives.text_rows import DocumentRows
from pipeline.check import check_file
from pipeline.cli import app
from pipeline.errors import PluginConfigError
from tests.acceptance.test_check import booking, entry

NAME = "Zyxwvüt"
BOOKINGS = [
    booking(
        number,
        title=f"SUB00{number}_{NAME}",
        formattedName=f"[2026-11-2{number} 09:00:00.0, 2026-11-2{number} 10:00:00.0]",
    )
    for number in (1, 2, 3)
]
TEXT = "\n".join(json.dumps(item, ensure_ascii=False) for item in BOOKINGS) + "\n"
ANSWER = {
    "biskitType": "Answer",
    "about": {"pages": [1]},
    "biskits": BOOKINGS,
    "total": 3,
    "more": [{"id": 9}],
}


def rows(path: Path) -> list[Any]:
    """Return a file's rows as JSON values."""
    read = BookingFile(recognise(path))
    return [json.loads(row) if isinstance(row, (bytes, str)) else row for row in read]


def packed(path: Path, data: bytes, packing: str) -> Path:
    """Write ``data``, packed or not."""
    path.write_bytes({"": lambda it: it, "gzip": gzip.compress, "zstd": zstd.compress}[packing](data))
    return path


FORMS: dict[str, Callable[[], bytes]] = {
    "lines": lambda: TEXT.encode(),
    "lines_crlf_bom": lambda: TEXT.replace("\n", "\r\n").encode("utf-8-sig"),
    "array": lambda: json.dumps(BOOKINGS).encode(),
    "array_pretty_bom": lambda: json.dumps(BOOKINGS, indent=4, ensure_ascii=False).encode("utf-8-sig"),
    "answer": lambda: json.dumps(ANSWER).encode(),
    "answer_pretty_crlf": lambda: (
        json.dumps(ANSWER, indent=2, ensure_ascii=False).replace("\n", "\r\n").encode()
    ),
    "answers_one_per_line": lambda: "\n".join(json.dumps({"biskits": [item]}) for item in BOOKINGS).encode(),
    "objects_pretty": lambda: "\n".join(json.dumps(item, indent=1) for item in BOOKINGS).encode(),
}


@pytest.mark.parametrize("packing", ["", "gzip", "zstd"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_json_is_read(tmp_path: Path, form: str, packing: str) -> None:
    """Files: lines, an array or the server's answer, compact or pretty-printed, packed or not, are the same bookings."""
    path = packed(tmp_path / "file", FORMS[form](), packing)
    assert bookings_only(recognise(path)).holds == "bookings"
    assert rows(path) == BOOKINGS


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=6)
    | st.sampled_from(['"biskits": [', "}],[{", "\\"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    items=st.lists(
        st.dictionaries(st.text(max_size=4).filter(lambda key: key != "biskits"), values, max_size=4)
    ),
    indent=st.sampled_from([None, 0, 1, 3, "\t"]),
    ascii_only=st.booleans(),
    wrapped=st.sampled_from(["array", "biskits", "beside", "values"]),
    piece=st.integers(1, 60),
)
def test_rows_are_found_wherever_the_pieces_are_cut(
    monkeypatch: pytest.MonkeyPatch, items: list[Any], indent: Any, ascii_only: bool, wrapped: str, piece: int
) -> None:
    """Files: any values, however they are laid out, come out of the stream as json.loads reads them, one per line."""
    monkeypatch.setattr(text_rows, "SCANNED_BYTES", piece)

    def dumped(value: object) -> str:
        return json.dumps(value, indent=indent, ensure_ascii=ascii_only)

    text = {
        "array": lambda: dumped(items),
        "biskits": lambda: dumped({"biskits": items}),
        "beside": lambda: dumped(
            {"a": {"biskits": 1}, "b": ["x"], "biskits": items, "c": [[{}]], "biskit": []}
        ),
        "values": lambda: "\n".join(map(dumped, items)),
    }[wrapped]()
    found = list(DocumentRows(io.BytesIO(text.encode("utf-8", "surrogatepass")), "file"))
    assert not any(b"\n" in row for row in found)
    assert [json.loads(row) for row in found] == items


def test_an_array_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files: a long pretty-printed array is never held as a whole, and most of it is cut by whole pieces."""
    monkeypatch.setattr(text_rows, "SCANNED_BYTES", 1 << 16)
    one = json.dumps(BOOKINGS[0], indent=2).encode() + b",\n"
    taken = {"bytes": 0, "bulk": 0}

    class Endless:
        def read(self, size: int) -> bytes:
            part = b"[" if not taken["bytes"] else b""
            while len(part) < size:
                part += one
            taken["bytes"] += len(part)
            return part

    take = text_rows._Bulk.take

    def counted(self: Any, *given: Any) -> list[bytes]:
        found = take(self, *given)
        taken["bulk"] += len(found)
        return found

    monkeypatch.setattr(text_rows._Bulk, "take", counted)
    some = DocumentRows(Endless(), "file")
    count = 4 * text_rows.SCANNED_BYTES // len(one)
    for number, row in enumerate(some, start=1):
        assert number > 1 or json.loads(row) == BOOKINGS[0]
        if number == count:
            break
    assert taken["bytes"] < 7 * text_rows.SCANNED_BYTES
    assert taken["bulk"] > count * 0.9


def test_a_broken_row_costs_no_other(tmp_path: Path) -> None:
    """Files: what is no JSON inside the brackets of an array is that row's fault, and what is no object is a row too."""
    path = tmp_path / "array.json"
    path.write_text('[1, {"id": 1, "title": tru}, "a,b", {"id": 2, "title": "x"}, [{}], null]')
    assert list(BookingFile(recognise(path))) == [
        b"1", b'{"id": 1, "title": tru}', b'"a,b"', b'{"id": 2, "title": "x"}', b"[{}]", b"null",
    ]  # fmt: skip


REFUSED: dict[str, tuple[bytes, str, str]] = {
    "utf16.ndjson": (TEXT.encode("utf-16"), "is UTF-16, not UTF-8", "iconv -f UTF-16 -t UTF-8 {path} > "),
    "utf16le.csv": (TEXT.encode("utf-16-le"), "is UTF-16LE", "iconv -f UTF-16LE -t UTF-8 {path} > "),
    "utf16be": (TEXT.encode("utf-16-be"), "is UTF-16BE", "iconv -f UTF-16BE"),
    "utf32": (TEXT.encode("utf-32"), "is UTF-32", "iconv -f UTF-32"),
    "utf32le": (TEXT.encode("utf-32-le"), "is UTF-32LE", "iconv -f UTF-32LE"),
    "utf32be": (TEXT.encode("utf-32-be"), "is UTF-32BE", "iconv -f UTF-32BE"),
    "cp1252.ndjson": (TEXT.encode("cp1252"), "cp1252", "iconv -f CP1252 -t UTF-8 {path} > "),
    "cp1252.json": (json.dumps(ANSWER, ensure_ascii=False).encode("cp1252"), "cp1252", "iconv -f CP1252"),
    "page.html": (b"\n<!DOCTYPE html><html><body>Login</body></html>", "is a web page", "calpendo-pipeline backfill --config"),
    "answer.xml": (b'<?xml version="1.0"?><biskits/>', "is XML", "calpendo-pipeline backfill --config"),
    "mwl_config.json": (
        json.dumps({"db_path": "x", "data_sources": [{"name": "a"}]}, indent=1).encode(), "is a configuration", "--config {path}",
    ),
    "source.json": (b'{"base_url": "https://x", "resources": ["3T"]}', "is a configuration", "--config {path}"),
    "book.xlsx": (b"PK\x03\x04\x14\x00\x06\x00[Content_Types].xml", "is an Excel workbook", "CSV UTF-8"),
    "all.zip": (b"PK\x03\x04\x14\x00\x06\x00bookings.json", "is a zip archive", "unzip {path}"),
    "all.tar": (b"\0" * 257 + b"ustar\0" + b"\0" * 300, "is a tar archive", "tar -xf {path}"),
    "twice.gz": (gzip.compress(gzip.compress(TEXT.encode())), "once too often", "gunzip -k {path}"),
    "cut.json.gz": (gzip.compress(TEXT.encode() * 50)[:-12], "damaged or cut off", "write it again"),
    "cut.json": (json.dumps(BOOKINGS)[:-20].encode(), "row 3 is where the file ends", "python3 -m json.tool"),
    "text.txt": (b"no bookings here\n", "holds neither bookings", "name a file of these"),
    "picture.png": (b"\x89PNG\r\n\0\0\0", "is neither JSON, CSV nor Parquet", "name a file"),
    "half.parquet": (b"PAR1" + b"\0" * 40, "cannot be read as Parquet", "write it again"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_refused_with_its_remedy(tmp_path: Path, name: str) -> None:
    """Files: one sentence names the cause and the command that fixes it, and quotes nothing of the file."""
    content, cause, remedy = REFUSED[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(PluginConfigError) as refused:
        rows(path)
    told = str(refused.value)
    assert cause in told
    assert remedy.format(path=path) in told
    assert "\n" not in told
    assert NAME not in told
    assert "SUB00" not in told


@pytest.mark.parametrize("name", ["", "none.ndjson", "pipe", "locked.ndjson", "nul\0.ndjson"])
def test_what_cannot_be_opened_is_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files: a directory, a missing file, a pipe and one without permission are one sentence each, and none waits."""
    import os

    if name == "pipe":
        os.mkfifo(tmp_path / name)
    if name == "locked.ndjson":
        (tmp_path / name).touch()
        monkeypatch.setattr(
            Path, "open", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
        )
    with pytest.raises(
        PluginConfigError, match=r"cannot be read \((Is a|No such|no regular|no file|Permission denied)"
    ):
        recognise(tmp_path / name)


@pytest.mark.parametrize("form", ["lines", "array"])
def test_a_broken_byte_costs_its_own_row(tmp_path: Path, form: str) -> None:
    """Files: UTF-8 with a broken byte in a title is no Windows-1252; the other names stay as they are."""
    broken = [json.dumps(item, ensure_ascii=False).encode() for item in BOOKINGS]
    for byte in (b"\xff", b"\xc3", b"\xe9"):
        broken[1] = broken[1].replace("ü".encode(), byte)
        path = tmp_path / "file"
        path.write_bytes(b"\n".join(broken) if form == "lines" else b"[" + b",\n".join(broken) + b"]")
        assert list(BookingFile(recognise(path))) == broken
    # All others in ASCII: still one row's fault, where it is one row.
    plain = [json.dumps(item).encode() for item in BOOKINGS]
    plain[0] = plain[0].replace(b"\\u00fc", b"\xe9")
    path.write_bytes(b"\n".join(plain))
    assert list(BookingFile(recognise(path))) == plain


def table(delimiter: str, *entries: dict[str, Any], first: str = "") -> str:
    """Write entries as CSV with that delimiter, as a spreadsheet does."""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(entries[0]), delimiter=delimiter, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(entries)
    return first + file.getvalue()


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_csv_of_entries_is_read(tmp_path: Path, delimiter: str, encoding: str) -> None:
    """Files: entries with commas, semicolons or tabs, with or without byte order mark, with blank rows at the end."""
    one, two = (
        entry(patient_name=f'"{NAME}";,\t\nJr'),
        entry(source_record_id="2", patient_id=None, patient_name="=1"),
    )
    path = tmp_path / "entries.csv"
    text = (
        table(delimiter, one, {**two, "patient_id": ""}, first=f"sep={delimiter}\r\n")
        + delimiter * 9
        + "\r\n"
    )
    path.write_bytes(text.encode(encoding))
    found = check_file(path)
    assert (found.kind, found.rows, found.counted) == ("entries", 2, "row")
    assert [(failure.line, failure.booking_id, failure.rules) for failure in found.failures] == [
        (1, "41001", ("patient_name_bad_character",)),
        (2, "2", ("patient_id_missing",)),
    ]
    assert rows(path)[0]["patient_name"] == one["patient_name"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"scheduled_start_date": "23.11.2026"}, "dates as Excel rewrites them"),
        ({"scheduled_start_date": "11/23/2026"}, "dates as Excel rewrites them"),
        ({"scheduled_start_date": "46349"}, "dates as Excel rewrites them"),
        ({"scheduled_start_date": "46349,0"}, "dates as Excel rewrites them"),
        ({"scheduled_start_date": "2026-11-23 0:00"}, "dates as Excel rewrites them"),
        ({"scheduled_start_date": "23.11.2026 00:00:00"}, "dates as Excel rewrites them"),
        ({"scheduled_start_date": "11/23/2026 12:00:00 AM"}, "dates as Excel rewrites them"),
        ({"scheduled_start_date": "23-Nov-26"}, "dates as Excel rewrites them"),
        ({"scheduled_start_date": "23. März 2026"}, "dates as Excel rewrites them"),
        ({"scheduled_start_time": "9:00:00"}, "times as Excel rewrites them"),
        ({"scheduled_start_time": "3:00:00 PM"}, "times as Excel rewrites them"),
    ],
)
def test_what_excel_rewrote_is_said(tmp_path: Path, change: dict[str, str], told: str) -> None:
    """Files: dates or times that a spreadsheet turned round are the file's fault, said once with the way out."""
    path = tmp_path / "entries.csv"
    # What came before ten o'clock is told by its times, however many stayed as they were.
    late = [entry(source_record_id=str(n), scheduled_start_time="15:00:00") for n in range(3, 6)]
    unchanged = late if "scheduled_start_time" in change else []
    path.write_text(table(";", entry(**change), entry(source_record_id="2", **change), *unchanged))
    with pytest.raises(PluginConfigError, match=told) as refused:
        check_file(path)
    assert "calpendo-pipeline run --config FILE --output NEW.csv" in str(refused.value)


def test_csv_saved_as_windows_1252_is_said(tmp_path: Path) -> None:
    """Files: Excel's plain "CSV" is named for what it is, by a single name with an umlaut in it."""
    path = tmp_path / "entries.csv"
    path.write_bytes(
        table(
            ";",
            entry(patient_name="Muster_A"),
            entry(patient_name="Müller_B"),
            *[entry(patient_name="Muster – A") for _ in range(3)],
        ).encode("cp1252")
    )
    with pytest.raises(PluginConfigError, match=r"cp1252.*iconv -f CP1252 -t UTF-8"):
        check_file(path)


@pytest.mark.parametrize(
    "text", ["id,title\n1,2,3\n", 'id,title\n1,"2\n', f"id,title\n1,{'x' * 140_000}\n", 'id,title\n"1"2,3\n']
)
def test_a_table_that_does_not_add_up_is_refused(tmp_path: Path, text: str) -> None:
    """Files: too many cells, a quote that never ends and a cell without end name their row."""
    path = tmp_path / "bookings.csv"
    path.write_text(text)
    with pytest.raises(PluginConfigError, match=r"cannot be read as CSV: .*row 1"):
        check_file(path)


def test_parquet_of_bookings(tmp_path: Path) -> None:
    """Files: a column of payloads, or a booking's own columns; null is an absent key."""
    texts, columns = tmp_path / "a", tmp_path / "b"
    pl.DataFrame({"payload": [json.dumps(item) for item in BOOKINGS], "line": [1, 2, 3]}).write_parquet(texts)
    pl.DataFrame([*BOOKINGS, {"id": 4}]).write_parquet(columns)
    assert rows(texts) == BOOKINGS
    assert rows(columns) == [*BOOKINGS, {"id": 4}]


def call(command: str, *arguments: object) -> Result:
    """Call a command of the whole program."""
    return CliRunner().invoke(app, [command, *map(str, arguments)])


def counted(path: Path, output: Path) -> dict[str, tuple[int, int]]:
    """Return bookings read and bookings rejected by each command that reads files."""
    audit = json.loads(call("audit", path, "--json").stdout)["overview"]
    filled = json.loads(call("backfill", path, "--output", output, "--json").stdout)
    checked = check_file(path)
    return {
        "audit": (audit["bookings"], audit["rejected"]),
        "backfill": (filled["read"], filled["rejected"]),
        "check": (checked.rows, len(checked.failures)),
    }


@pytest.mark.parametrize("form", ["lines", "answer_pretty_crlf"])
def test_three_commands_read_one_file_alike(tmp_path: Path, form: str) -> None:
    """Files: audit, backfill and check count the same bookings, and blank lines are none."""
    path = tmp_path / "file"
    path.write_bytes(FORMS[form]() + b"\n \n")
    assert counted(path, tmp_path / "out") == dict.fromkeys(("audit", "backfill", "check"), (3, 0))


@pytest.mark.parametrize("command", ["audit", "backfill", "check"])
def test_no_command_takes_a_file_for_something_else(tmp_path: Path, command: str) -> None:
    """Files: exit code 2, the remedy on standard error, and nothing written."""
    path, output = tmp_path / "wide.ndjson", tmp_path / "out"
    path.write_bytes(TEXT.encode("utf-16"))
    given = [path, "--output", output] if command == "backfill" else [path]
    result = call(command, *given)
    assert result.exit_code == 2
    assert "iconv -f UTF-16 -t UTF-8" in result.stderr
    assert not output.exists()


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (entry(), "holds worklist entries, not bookings"),
        ({"booking_id": 1, "rejected": "times_missing"}, "--expected"),
        ({"a": 1}, "holds no bookings"),
        ("SUB001", "holds neither bookings"),
    ],
)
@pytest.mark.parametrize("command", ["audit", "backfill"])
def test_entries_and_labels_are_no_bookings(tmp_path: Path, command: str, row: Any, told: str) -> None:
    """Files: who names the wrong file is told what it is, instead of a list of rejected rows."""
    path = tmp_path / "file.ndjson"
    path.write_text(json.dumps(row) + "\n" + json.dumps(row) + "\n")
    given = [path, "--output", tmp_path / "out"] if command == "backfill" else [path]
    result = call(command, *given)
    assert result.exit_code == 2
    assert told in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "content",
    [
        "[[1, 2]]",
        "[1, null]",
        '{"id": 1,\n{"id": 2,\n',
        '{"id": 1},\n{"id": 2},\n',
        '{"biskits": [[{"id": 1}]]}',
    ],
)
def test_what_holds_no_object_at_all_is_refused_by_all_three(tmp_path: Path, content: str) -> None:
    """Files: arrays of arrays and lines that end in commas are no list of rejected bookings for one command only."""
    path = tmp_path / "file"
    path.write_text(content)
    for command, *options in (["audit"], ["check"], ["backfill", "--output", tmp_path / "out"]):
        assert call(command, path, *options).exit_code == 2
    assert not (tmp_path / "out").exists()


def test_one_booking_with_a_broken_byte_is_a_booking(tmp_path: Path) -> None:
    """Files: a byte that cannot be decoded does not hide what the rest of its row is."""
    path = tmp_path / "file"
    path.write_bytes(json.dumps(BOOKINGS[0], ensure_ascii=False).encode().replace("ü".encode(), b"\xff"))
    assert recognise(path).holds == "bookings"


def test_a_refused_backfill_leaves_nothing_that_stands_in_the_way(tmp_path: Path) -> None:
    """Files: damage that is found while reading is mended and the same command called again, without --restart."""
    path, output = tmp_path / "file.gz", tmp_path / "out"
    packed = gzip.compress(TEXT.encode() * 5_000)
    path.write_bytes(packed[:-8])
    assert call("backfill", path, "--output", output, "--workers", "1").exit_code == 2
    assert [found.name for found in output.rglob("*")] == [".lock"]
    path.write_bytes(gzip.compress(TEXT.encode()))
    assert call("backfill", path, "--output", output, "--workers", "1").exit_code == 0


def test_without_a_configuration_the_example_s_mapping_is_used_and_named(tmp_path: Path) -> None:
    """Files: audit and backfill without --config read with the same mapping, and say which."""
    path = tmp_path / "file.ndjson"
    path.write_text(TEXT)
    told = [call("audit", path, "--json"), call("backfill", path, "--output", tmp_path / "out")]
    for result in told:
        assert result.exit_code == 0
        assert "calpendo_config_example.json" in result.stderr
    entries = pl.read_parquet(tmp_path / "out" / "entries")
    assert sorted(entries["patient_id"]) == ["SUB001", "SUB002", "SUB003"]


DEEP, DIGITS = "[" * 100_000 + "]" * 100_000, "9" * 6_000
GOOD = json.dumps(booking(1))
ODD = {
    "deep": GOOD.replace('"Approved"', DEEP),
    "deep_objects": GOOD.replace('"Approved"', '{"a":' * 50_000 + "1" + "}" * 50_000),
    "digits": GOOD.replace(": 1,", f": {DIGITS},"),
    "digits_in_a_text": GOOD.replace('"Approved"', DIGITS),
    "fraction": GOOD.replace('"Approved"', f"-1.{DIGITS}e-999999"),
    "not_a_number": GOOD.replace('"Approved"', "NaN"),
    "surrogate": GOOD.replace("SUB001", "SUB001\\ud800"),
    "surrogate_key": GOOD[:-1] + ', "\\udfff": 1}',
    "nul": GOOD.replace("SUB001", "SUB\0001"),
    "nul_escaped": GOOD.replace("SUB001", "SUB\\u0000001"),
    "keys_twice": GOOD[:-1] + ', "id": 2, "title": "A1_x", "id": 3}',
    "one_key_often": "{" + ",".join(['"id": 1'] * 20_000) + "}",
    "year_0": GOOD.replace("2026", "0000"),
    "year_9999": GOOD.replace("2026", "9999"),
    "no_object": "[1, 2]",
}


@pytest.mark.parametrize("command", ["audit", "backfill", "check"])
def test_an_odd_row_is_a_row_s_fault(tmp_path: Path, command: str) -> None:
    """Files: any depth, any number, any surrogate, NUL and keys that come twice cost their own row at most."""
    for name, text in (
        ("lines", "\n".join([json.dumps(booking(77)), *ODD.values()])),
        ("array", f"[{', '.join([json.dumps(booking(77)), *ODD.values()])}]"),
    ):
        path = tmp_path / name
        path.write_text(text)
        more = ["--output", tmp_path / f"{name}.out"] if command == "backfill" else []
        result = call(command, path, *more)
        assert isinstance(result.exception, SystemExit | None), name
        assert result.exit_code == (1 if command == "check" else 0), name
        if command == "check":
            assert f"{len(ODD) + 1} bookings" in result.output


@pytest.mark.parametrize(
    ("label", "told"),
    [
        (f'{{"booking_id": 1, "expected": {DEEP}}}', "is not JSON"),
        ('{"booking_id": 1, "expected": {"patient_id": "\\ud800"}}', "half a surrogate pair"),
        ('{"booking_id": 1, "expected": {"\\udc00": 1}}', "half a surrogate pair"),
        ('{"booking_id": 1, "rejected": "x\\ud800"}', "half a surrogate pair"),
        (f'{{"booking_id": {DIGITS}, "rejected": "x"}}', "not JSON|no whole number|names no booking"),
        ('{"booking_id": 99999999999999999999, "rejected": "x"}', "no whole number"),
        ('{"line": 0, "rejected": "x"}', "no whole number"),
        (f'{{"source_record_id": "{DIGITS}", "patient_id": "x"}}', "no source_record_id"),
        ('{"booking_id": 1, "rejected": "x", "flags": 7}', "flags that are no list"),
        ('{"booking_id": 1, "rejected": "x", "flags": [[]]}', "flags that are no list"),
        ("[1]", "is no JSON object"),
        ("{", "is not JSON"),
    ],
)
def test_an_odd_label_is_named(tmp_path: Path, label: str, told: str) -> None:
    """Files: a label that cannot be one ends the audit with its line, exit code 2, and no value of it."""
    bookings, labels = tmp_path / "bookings.ndjson", tmp_path / "labels.ndjson"
    bookings.write_text(TEXT)
    labels.write_text('{"booking_id": 3, "expected": {"patient_id": "SUB003"}}\n' + label + "\n")
    result = call("audit", bookings, "--expected", labels)
    assert result.exit_code == 2
    assert re.search(rf"--expected: label 2 .*({told})", result.stderr), result.stderr


@pytest.mark.parametrize(
    "dtype", [pl.Date(), pl.Datetime("us"), pl.Datetime("ns"), pl.Duration("us"), pl.Int64()]
)
def test_columns_of_any_type_are_rows(tmp_path: Path, dtype: pl.DataType) -> None:
    """Files: a date that no calendar has, or a column of another type, is absent or a row's fault in Parquet."""
    path = tmp_path / "bookings.parquet"
    far = pl.Series("title", [2**31 - 1 if dtype == pl.Date else 2**62]).cast(dtype)
    pl.DataFrame([booking(1)]).with_columns(far, odd=pl.Series([b"\xff"])).write_parquet(path)
    assert check_file(path).rows == 1
    assert json.loads(call("audit", path, "--json").stdout)["overview"]["bookings"] == 1
