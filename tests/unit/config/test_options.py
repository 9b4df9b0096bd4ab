"""The documentation explains every option, in words that come from the options themselves (T002, T024)."""

from __future__ import annotations

from pathlib import Path

from pipeline.config import OPTIONS
from pipeline.config.options import option_rows, option_table

PAGE = Path(__file__).parents[3] / "docs/configuration.md"


def test_every_option_has_a_line() -> None:
    """T002: name, type, default and meaning of every option are known."""
    rows = option_rows()
    assert [row[0] for row in rows if row[0] != "field_mapping"] == list(OPTIONS)
    assert all(all(cell.strip() for cell in row) for row in rows)
    assert all(len(line.replace("\\|", "").split("|")) == 6 for line in option_table().splitlines())


def test_the_pages_table_is_the_options_table() -> None:
    """T024: the page's table cannot drift; `pipeline.config.options.option_table` returns the one to paste."""
    page = PAGE.read_text(encoding="utf-8")
    missing = [line for line in option_table().splitlines() if line not in page]
    assert not missing, "paste what pipeline.config.options.option_table() returns into docs/configuration.md"
