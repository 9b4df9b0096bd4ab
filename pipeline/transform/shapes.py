"""The shape of a text: what may be shown of a title without showing a patient (design decision 6).

``SUB001_John_Doe`` -> ``AAA999_Aaaa_Aaa``: upper case letters become ``A``, other letters and marks ``a``, digits ``9``;
ASCII punctuation and blanks stay, anything else becomes ``?``. A shape is cut after 80 characters.
"""

from __future__ import annotations

import unicodedata
from typing import Final

import polars as pl

MAX_LENGTH: Final = 80
_CUT: Final = "…"
_KEPT: Final = frozenset(map(chr, range(0x20, 0x7F)))


def shape(text: str) -> str:
    """Return the shape of one text."""
    drawn = "".join(map(_drawn, text))
    return drawn if len(drawn) <= MAX_LENGTH else drawn[:MAX_LENGTH] + _CUT


def shape_expr(text: pl.Expr) -> pl.Expr:
    """Return the shape of a text column; null stays null."""
    drawn = (
        text.str.replace_all(r"[^\p{L}\p{M}\p{N}\x20-\x7e]", "?")
        .str.replace_all(r"\p{N}", "9")
        .str.replace_all(r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]", "a")
        .str.replace_all(r"[\p{Lu}\p{Lt}]", "A")
    )
    return (
        pl.when(drawn.str.len_chars() > MAX_LENGTH).then(drawn.str.head(MAX_LENGTH) + _CUT).otherwise(drawn)
    )


def _drawn(character: str) -> str:
    category = unicodedata.category(character)
    if category in ("Lu", "Lt"):
        return "A"
    if category[0] in "LM":
        return "a"
    if category[0] == "N":
        return "9"
    return character if character in _KEPT else "?"
