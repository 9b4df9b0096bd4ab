"""Shapes of titles: what may be shown of them without showing a patient (design decision 6)."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.transform.shapes import shape, shape_expr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SUB001_John_Doe", "AAA999_Aaaa_Aaa"),
        ("SUB001 - Zoë Ünal", "AAA999 - Aaa Aaaa"),
        ("山田太郎 ٣", "aaaa 9"),
        ("a\tb\u2028c\U0001f600", "a?a?a?"),
        ("", ""),
        ("x" * 81, "a" * 80 + "…"),
    ],
)
def test_shapes(text: str, expected: str) -> None:
    """Letters, digits and scripts lose their identity; ASCII punctuation stays."""
    assert shape(text) == expected


# Up to Unicode 13, which both Python 3.11 and the Rust engine know: the newest letters may differ between the two.
@settings(deadline=None)
@given(
    st.lists(
        st.one_of(st.none(), st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs", "Cn"]))),
        max_size=5,
    )
)
def test_the_expression_equals_the_function(texts: list[str | None]) -> None:
    """One shape, whether of a text or of a column."""
    column = pl.Series("text", texts, dtype=pl.String)
    found = pl.select(shape_expr(pl.lit(column))).to_series().to_list()
    assert found == [None if text is None else shape(text) for text in texts]
