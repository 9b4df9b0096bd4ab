"""What the commands print, on terminals and in pipes of any width."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.text import Text

from pipeline.commands.exits import say
from pipeline.commands.render import NO_TERMINAL_COLUMNS, Records, Terminal, terminal

VALUES = st.text(
    st.characters(codec="utf-8", categories=("L", "N", "P", "S"), include_characters=" \u202e\x1b"),
    max_size=40,
)
HEADINGS = {"id": "booking", "status": "status", "reasons": "reasons", "remedy": "what to do"}


def _printed(renderable: object, width: int) -> str:
    console = Terminal(file=io.StringIO(), width=width, highlight=False, markup=False, emoji=False)
    console.print(renderable)
    return console.file.getvalue()


@st.composite
def records(draw: st.DrawFn) -> list[dict[str, object]]:
    """Records with ids, statuses and reasons of usual lengths, and remedies of any text."""
    identifier = st.from_regex(r"[A-Z0-9_-]{1,24}", fullmatch=True)
    reason = st.from_regex(r"[a-z]{3,12}(_[a-z]{2,9}){0,3}", fullmatch=True)
    row = st.fixed_dictionaries(
        {
            "id": st.one_of(identifier, st.integers(1, 2**53 - 1).map(str)),
            "status": st.sampled_from(["SCHEDULED", "IN_PROGRESS", "DISCONTINUED"]).map(Text),
            "reasons": st.lists(reason, min_size=1, max_size=5).map(tuple),
            "remedy": st.one_of(st.none(), VALUES),
        }
    )
    return draw(st.lists(row, min_size=1, max_size=4))


@settings(max_examples=15)
@given(rows=records(), width=st.integers(40, 220))
def test_no_id_status_or_reason_is_broken(rows: list[dict[str, object]], width: int) -> None:
    """Terminal promise: at 40 columns or more each id, status and reason stands unbroken, in a table or in a block."""
    printed = _printed(Records(HEADINGS, rows, title="Rejected bookings", prose=["remedy"]), width)
    for row in rows:
        for value in (row["id"], str(row["status"]), *row["reasons"]):
            assert value in printed
    lines = printed.splitlines()
    if Records(HEADINGS, rows, prose=["remedy"]).fits(width):
        assert len(lines) > 1 + len(rows)
        assert all(cell_len(line) <= width for line in lines)


@settings(max_examples=15)
@given(
    words=st.lists(st.from_regex(r"[a-z0-9/_.]{1,70}", fullmatch=True), max_size=12),
    width=st.integers(20, 90),
)
def test_a_sentence_breaks_between_words_only(words: list[str], width: int) -> None:
    """Terminal promise: a sentence goes on in the next line at a blank, and no word is broken or lost."""
    printed = _printed(" ".join(words), width)
    assert printed.split() == words
    assert all(len(line) <= width or " " not in line.strip() for line in printed.splitlines())


def test_the_same_records_are_a_table_or_blocks() -> None:
    """Terminal promise: records that fit are a table, at last one without lines; else each is a block of `key: value` lines."""
    rows = [{"id": "7", "status": "SCHEDULED", "reasons": ["patient_id_missing"], "remedy": None}]
    assert "│ 7       │ SCHEDULED │ patient_id_missing │ —" in _printed(Records(HEADINGS, rows), 80)
    light = "booking  status     reasons             what to do\n"
    light += "7        SCHEDULED  patient_id_missing  —"
    assert [
        line.rstrip() for line in _printed(Records(HEADINGS, rows), 50).splitlines()
    ] == light.splitlines()
    block = "booking: 7\nstatus: SCHEDULED\nreasons: patient_id_missing\n"
    assert _printed(Records(HEADINGS, rows), 42) == block


@pytest.mark.parametrize(
    ("asked", "width", "wraps"),
    [
        (None, NO_TERMINAL_COLUMNS, False),
        ("60", 60, True),
        ("200", 200, True),
        ("5", 20, True),
        ("0", NO_TERMINAL_COLUMNS, False),
        ("wide", NO_TERMINAL_COLUMNS, False),
    ],
)
def test_columns_count_in_a_pipe(monkeypatch, capsys, asked: str | None, width: int, wraps: bool) -> None:
    """Terminal promise: in a pipe COLUMNS is the width where it is a number; else there is room for a table."""
    monkeypatch.delenv("COLUMNS", raising=False)
    if asked is not None:
        monkeypatch.setenv("COLUMNS", asked)
    console = terminal()
    assert (console.width, console.wraps) == (width, wraps)
    console.print("word " * 100)
    assert (capsys.readouterr().out.count("\n") > 1) is wraps


def test_messages_break_between_words(monkeypatch, capsys) -> None:
    """Terminal promise: a message on standard error is broken between words; standard output may be JSON and is not."""
    text = "Note: the file data/calpendo_config_example.json is used\n  - patient_id: one"
    monkeypatch.setenv("COLUMNS", "40")
    say(text, err=True)
    say(text)
    wrapped = "Note: the file\n  data/calpendo_config_example.json is\n  used\n  - patient_id: one\n"
    assert capsys.readouterr() == (text + "\n", wrapped)
    monkeypatch.delenv("COLUMNS")
    say(text, err=True)
    assert capsys.readouterr().err == text + "\n"
