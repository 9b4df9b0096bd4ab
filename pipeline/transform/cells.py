"""Values of any JSON type -> typed columns; never raises on content (T014).

Scalars become text as Python's ``str()`` writes them; null, missing keys, objects and lists become null, and so does
``<Hidden>``, which Calpendo writes where the account may not read a field.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import polars as pl

HIDDEN: Final = "<Hidden>"
MAX_ID: Final = 2**63 - 1

_TEXT_KINDS = {str, type(None)}
_FLAG_KINDS = {bool, type(None)}
_FLAG_WORDS = {"true": True, "false": False}


def text_column(name: str, values: Sequence[Any], broken: set[int]) -> pl.Series:
    """Return the values as text; rows whose text holds a lone surrogate become null and are added to ``broken``."""
    if not set(map(type, values)) <= _TEXT_KINDS:
        values = [_as_text(value) for value in values]
    try:
        series = pl.Series(name, values, dtype=pl.String)
    except UnicodeEncodeError:
        torn = {index for index, value in enumerate(values) if value is not None and is_torn(value)}
        broken |= torn
        whole = [None if index in torn else value for index, value in enumerate(values)]
        series = pl.Series(name, whole, dtype=pl.String)
    hidden = series == HIDDEN
    return series.set(hidden, None) if hidden.any() else series


def id_column(name: str, values: Sequence[Any]) -> pl.Series:
    """Return booking ids as Int64, null where a value is no whole number from 1 to 2^63-1 (``true`` is none)."""
    usable = [value if type(value) is int and 0 < value <= MAX_ID else None for value in values]
    return pl.Series(name, usable, dtype=pl.Int64)


def flag_column(name: str, values: Sequence[Any]) -> pl.Series:
    """Return Booleans; the words true and false count in any case, anything else is null."""
    if not set(map(type, values)) <= _FLAG_KINDS:
        values = [_as_flag(value) for value in values]
    return pl.Series(name, values, dtype=pl.Boolean)


def is_torn(text: str) -> bool:
    """Tell whether the text holds half of a surrogate pair, which UTF-8 cannot carry."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _as_text(value: Any) -> str | None:
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, (bool, int, float)):
        try:
            return str(value)
        except ValueError:  # more digits than Python writes out
            return None
    return None


def _as_flag(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    return _FLAG_WORDS.get(value.strip().lower()) if isinstance(value, str) else None
