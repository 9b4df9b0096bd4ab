"""Named Boolean columns -> the list of the names that are true, one list a row."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial, reduce
from typing import Final

import polars as pl

from pipeline.transform.distinct import map_distinct

_NAMES: Final = pl.List(pl.String)
_BITS: Final = 60
"""Flags packed into one whole number; more names take more numbers."""


def true_names(flags: Mapping[str, pl.Expr]) -> pl.Expr:
    """Return List(String): the names of the flags that are true, in order; null counts as false.

    The flags are packed into a bit set, and each distinct set is spelt out once: hardly any row has one.
    """
    items = list(flags.items())
    if not items:
        return pl.lit(pl.Series([[]], dtype=_NAMES)).first()
    lists = [_spelt(dict(items[start : start + _BITS])) for start in range(0, len(items), _BITS)]
    return reduce(lambda left, right: left.list.concat(right), lists)


def _spelt(flags: Mapping[str, pl.Expr]) -> pl.Expr:
    bits = pl.sum_horizontal(
        flag.fill_null(value=False).cast(pl.Int64) * (1 << place) for place, flag in enumerate(flags.values())
    )
    spell = partial(_spell, names=tuple(flags))

    def spelt(sets: pl.Series) -> pl.Series:
        if not (sets != 0).any():  # Nothing to spell, as nearly always.
            return pl.Series(sets.name, [[]], dtype=_NAMES).new_from_index(0, len(sets))
        return map_distinct(sets, spell, _NAMES)

    return bits.map_batches(spelt, return_dtype=_NAMES, is_elementwise=True)


def _spell(bits: int, names: tuple[str, ...]) -> list[str]:
    return [name for place, name in enumerate(names) if bits >> place & 1]
