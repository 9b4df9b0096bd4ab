"""Values of any JSON type -> text, ids and flags; never raises on content (T014).

Scalars become text as Python's ``str()`` writes them; null, missing keys, objects and lists become null, and so does
``<Hidden>``, which Calpendo writes where the account may not read a field.
"""

from __future__ import annotations

from typing import Any, Final

import polars as pl

HIDDEN: Final = "<Hidden>"
MAX_ID: Final = 2**63 - 1

_TEXT_KINDS: set[type] = {str, type(None)}
_FLAG_KINDS: set[type] = {bool, type(None)}
_FLAG_WORDS = {"true": True, "false": False}


def as_texts(values: list[Any], kinds: set[type]) -> list[str | None]:
    """Return the values as text; ``kinds`` are their types, so that the usual cases need no look at each value."""
    if kinds <= _TEXT_KINDS:
        return values if HIDDEN not in values else [None if value == HIDDEN else value for value in values]
    if kinds == {int}:
        try:
            return list(map(str, values))
        except ValueError:  # more digits than Python writes out
            pass
    return [as_text(value) for value in values]


def as_text(value: Any) -> str | None:
    """Return one value as text, see the module's docstring."""
    if isinstance(value, str):
        return None if value == HIDDEN else str.__str__(value)
    if isinstance(value, (bool, int, float)):
        try:
            return str(value)
        except ValueError:
            return None
    return None


def as_ids(values: list[Any], kinds: set[type]) -> list[int | None]:
    """Return booking ids, None where a value is no whole number from 1 to 2^63-1 (``true`` is none)."""
    if kinds == {int} and min(values) > 0 and max(values) <= MAX_ID:
        return values
    return [value if type(value) is int and 0 < value <= MAX_ID else None for value in values]


def as_flags(values: list[Any], kinds: set[type]) -> list[bool | None]:
    """Return truth values; the words true and false count in any case, anything else is None."""
    return values if kinds <= _FLAG_KINDS else [_as_flag(value) for value in values]


def _as_flag(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    return _FLAG_WORDS.get(value.strip().lower()) if isinstance(value, str) else None


def text_column(texts: list[str | None]) -> tuple[pl.Series, set[int]]:
    """Return the texts as a column, and the rows that hold half of a surrogate pair, which UTF-8 cannot carry.

    Those rows are null in the column.
    """
    try:
        return pl.Series(texts, dtype=pl.String), set()
    except UnicodeEncodeError:
        torn = {row for row, text in enumerate(texts) if text is not None and _is_torn(text)}
        whole = [None if row in torn else text for row, text in enumerate(texts)]
        return pl.Series(whole, dtype=pl.String), torn


def _is_torn(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
