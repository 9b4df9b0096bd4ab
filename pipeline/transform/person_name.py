"""Patients' names in DICOM's form (PS3.5 6.2.1, VR PN).

A PN holds up to three component groups (alphabetic, ideographic, phonetic) split by ``=``, each of up to five components
(family, given, middle, prefix, suffix) split by ``^`` and at most 64 characters.
"""

from __future__ import annotations

from typing import Final, Literal

import polars as pl

NameForm = Literal["as_extracted", "given", "family_given"]

MAX_GROUPS: Final = 3
MAX_COMPONENTS: Final = 5

_GAP = "[ _]"
_COMMA = rf"(?s)\A([^,]*?){_GAP}*,{_GAP}*(.*)\z"
_LAST_WORD = rf"(?s)\A(.*?){_GAP}+([^ _]+)\z"


def in_form(name: pl.Expr, form: NameForm) -> pl.Expr:
    """Return names in the configured form; null stays null, empty stays empty, a name with ``^`` or ``=`` as it is.

    ``as_extracted``: as it is (the task list). ``given``: ``^`` before it, so that the whole counts as a given name (as
    Pylantir's own plugin). ``family_given``: ``Doe, John`` and ``John_Doe`` become ``Doe^John``: before the comma, or
    else the last word (words end at blanks and underscores), is the family name; a single word is the family name.
    """
    if form == "as_extracted":
        return name
    if form == "given":
        # Upstream looks for "^" alone; "=" starts a second writing of the name and may follow the given name.
        return (
            pl.when(name.str.contains("^", literal=True) | (name == ""))
            .then(name)
            .otherwise(pl.lit("^") + name)
        )
    words = name.str.strip_chars(" _")
    by_comma = words.str.replace(_COMMA, "${1}^${2}")
    by_word = words.str.replace(_LAST_WORD, "${2}^${1}")
    rearranged = pl.when(name.str.contains(",", literal=True)).then(by_comma).otherwise(by_word)
    return (
        pl.when(name.str.contains("[=^]"))
        .then(name)
        .otherwise(rearranged.str.replace_all("_", " ", literal=True))
    )


def too_many_groups(name: pl.Expr) -> pl.Expr:
    """Tell whether a name has more than three component groups."""
    return name.str.count_matches("=", literal=True) >= MAX_GROUPS


def too_many_components(name: pl.Expr) -> pl.Expr:
    """Tell whether one of a name's groups has more than five components."""
    return name.str.contains(rf"(?:\^[^=^]*){{{MAX_COMPONENTS}}}")


def too_long(name: pl.Expr, limit: int) -> pl.Expr:
    """Tell whether one of a name's groups is longer than the limit."""
    return (name.str.len_chars() > limit) & name.str.contains(rf"(?s)[^=]{{{limit + 1}}}")
