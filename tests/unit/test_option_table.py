"""The README explains every option, in words that come from the options themselves (T002, T024)."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import OPTIONS
from pipeline.config.options import option_rows, option_table

README = Path(__file__).parents[2] / "README.md"
HEAD = option_table().splitlines()[0]


def test_every_option_has_a_line() -> None:
    """T002: name, type, default and meaning of every option are known."""
    rows = option_rows()
    assert [row[0] for row in rows if row[0] != "field_mapping"] == list(OPTIONS)
    assert all(all(cell.strip() for cell in row) for row in rows)
    assert all(len(line.replace("\\|", "").split("|")) == 6 for line in option_table().splitlines())


def test_the_readmes_table_is_the_options_table() -> None:
    """T024: the README's table cannot drift; `pipeline.config.options.option_table` returns the one to paste."""
    readme = README.read_text(encoding="utf-8")
    if HEAD not in readme:
        pytest.skip("the README has no table of options yet")
    missing = [line for line in option_table().splitlines() if line not in readme]
    assert not missing, "paste what pipeline.config.options.option_table() returns into README.md"
