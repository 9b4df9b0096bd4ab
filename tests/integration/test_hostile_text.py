"""What is shown does nothing: a hostile title, status and resource through the output of every command."""

from __future__ import annotations

import csv
import json
import re
import unicodedata
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import pytz
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from pipeline.archives import BookingFile, recognise
from pipeline.check import check_file
from pipeline.cli import app
from pipeline.display import unguarded, visible
from pipeline.output import write_entries
from pipeline.simulator import CalpendoSimulator
from pipeline.simulator.sample import sample_config
from tests.acceptance.test_check import entry

pytestmark = pytest.mark.usefixtures("credentials")

# Terminal escapes of one byte and of two, a title bar, overrides, isolates, marks, tags, markup, a tag of HTML.
HOSTILE = (
    "\x1b[2J\x1b]0;owned\x07\x9b31m\x7f\u202egnp.exe\u202c\u2066\u200b\u2060\ufeff\u00ad\u061c\U000e0041"
    "[bold red]m[/] [link=file:///etc]l[/link] :skull: <script>alert(1)</script> \r\n"
)
ACTING = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0041]"
)


def hostile_booking(number: int, resource: str = f"3T{HOSTILE}", **changes: Any) -> dict[str, Any]:
    """Return a booking of today that is hostile wherever people write."""
    day = f"{datetime.now(pytz.timezone('America/Edmonton')):%Y-%m-%d}"
    return {
        "id": 99_000 + number,
        "title": f"SUB{number:03d}_{HOSTILE}",
        "status": f"Approved{HOSTILE}",
        "biskitType": "Calpendo.Booking",
        "formattedName": f"[{day} 0{number}:00:00.0, {day} 0{number}:30:00.0]",
        "properties": {
            "resource": {"formattedName": resource},
            "project": {"formattedName": f"=cmd|' /C calc'!A0{HOSTILE}"},
            "description": HOSTILE,
        },
        **changes,
    }


def harmless(result: Result) -> str:
    """Return what a command printed, held to the promise."""
    told = result.output + (result.stderr or "")
    assert not isinstance(result.exception, Exception), result.exception
    assert not ACTING.search(told), ascii(ACTING.search(told))
    return told


def call(*arguments: object) -> Result:
    """Call a command of the whole program."""
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_no_text_acts_in_any_command(tmp_path: Path) -> None:
    """Every command that shows a value shows it as it is written, whatever terminal, log or browser reads it."""
    site = "3T Diagnostic"
    plain = {"title": "SUB002_=1+1", "properties": {"resource": {"formattedName": site}}}
    bookings = [
        hostile_booking(1, site),
        hostile_booking(2, **plain),
        hostile_booking(3, site, title=f"{HOSTILE}{'x' * 99}"),
    ]
    with CalpendoSimulator(bookings) as server:
        state = {"state_path": str(tmp_path / "ledger.sqlite"), "window_mode": "today"}
        config = {**sample_config(), **state, "base_url": server.url, "resources": [site]}
        config.pop("daily_window", None)
        settings = tmp_path / "mwl_config.json"
        settings.write_text(
            json.dumps({"data_sources": [{"name": "site", "type": "calpendo", "config": config}]})
        )
        given_config = ("--config", settings)
        planned = harmless(call("run", *given_config, "--dry-run", "--verbose"))
        assert "SUB002" in planned
        document = json.loads(call("run", *given_config, "--dry-run", "--json").stdout)
        assert document["changes"]
        table = tmp_path / "list.csv"
        harmless(call("run", *given_config, "--output", table))
        harmless(call("run", *given_config))
        for command in (("status",), ("quarantine", "list"), ("quarantine", "replay"), ("verify",)):
            harmless(call(*command, *given_config))
        shown = harmless(call("quarantine", "show", 99_003, "--reveal", *given_config))
        assert "\\u001b[2J" in shown
        assert "[bold red]m[/]" in shown
        assert ":skull:" in shown
    with table.open(encoding="utf-8", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert len(cells) > 10
    assert not [cell for cell in cells if cell[:1] in tuple("=+-@\t\r")]
    assert check_file(table).passed


def test_no_text_acts_in_a_command_on_files(tmp_path: Path) -> None:
    """Audit, backfill and check show hostile text as it is written."""
    path = tmp_path / "bookings.ndjson"
    bookings = [hostile_booking(1), hostile_booking(2, title="SUB002_x", properties={}), hostile_booking(3)]
    path.write_text("".join(json.dumps(item) + "\n" for item in bookings))
    revealed = harmless(call("audit", path, "--reveal"))
    assert "[bold red]m[/]" in revealed
    raw = call("audit", path, "--reveal", "--json")
    harmless(raw)
    assert any("[bold red]m[/]" in str(row["value"]) for row in json.loads(raw.stdout)["statuses"])
    told = harmless(call("backfill", path, "--output", tmp_path / "out"))
    assert "with a status this version does not know" in told
    harmless(call("check", path))
    named = tmp_path / f"none{HOSTILE[:12]}.ndjson"
    for command in ("audit", "check"):
        assert "\\u001b[2J" in harmless(call(command, named))


@given(st.text())
def test_what_acts_is_written_out_and_json_keeps_its_values(text: str) -> None:
    """No control character, no format character of Unicode's, no half of a pair stays; JSON means the same."""
    shown = visible(text)
    allowed = (
        "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u0890\u0891\u08e2\U000110bd\U000110cd"  # signs one sees
    )
    left = {
        character for character in shown if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    }
    hieroglyphs = {character for character in left if "\U00013430" <= character <= "\U0001343f"}
    assert left - hieroglyphs <= set(allowed)
    assert visible(shown) == shown
    assert json.loads(visible(json.dumps([text], ensure_ascii=False, indent=1), keep="\n")) == [text]


cells = st.text(alphabet="=+-@\t\r\n'\"1.,;aé\uff1d", max_size=6)


@given(names=st.lists(cells, min_size=1, max_size=4))
def test_a_spreadsheet_computes_nothing_and_check_reads_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    """CSV marks what would be a formula, leaves numbers and dates as they are, and is read back as it was."""
    path = tmp_path_factory.mktemp("csv") / "list.csv"
    rows = [
        entry(patient_name=name, source_record_id=str(number)) for number, name in enumerate(names, start=1)
    ]
    write_entries(rows, path, dict(pl.DataFrame(rows).schema))
    with path.open(encoding="utf-8", newline="") as file:
        written = [row["patient_name"] for row in csv.DictReader(file)]
    for name, cell in zip(names, written, strict=True):
        number = re.fullmatch(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?", name)
        assert cell[:1] not in tuple("=+-@\t\r\n\uff1d") or number
        assert unguarded(cell) == name
        assert not number or cell == name
    read = [json.loads(row) for row in BookingFile(recognise(path))]
    assert [row.get("patient_name", "") for row in read] == names
    assert {row["scheduled_start_date"] for row in read} == {"2026-11-23"}
