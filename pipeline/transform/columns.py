"""What polars leaves to Python: functions of distinct values, names of true flags, frames as dictionaries of plain values."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, partial, reduce
from itertools import islice
from typing import Any, Final, TypeVar

import msgspec
import polars as pl

Item = TypeVar("Item")
Row = dict[str, Any]

_FEW_VALUES = (pl.Date, pl.Time)
"""Types whose Python objects are dear to make and few: each distinct value is made once."""
_AT_ONCE = 500
_pause_lock = threading.Lock()
_pauses = 0
_resume = False
_NAMES: Final = pl.List(pl.String)
_BITS: Final = 60
"""Flags packed into one whole number; more names take more numbers."""


def map_distinct(
    values: pl.Series, function: Callable[[Any], object], dtype: pl.DataType | type[pl.DataType]
) -> pl.Series:
    """Return ``function`` of each value, called once a distinct value (null too); ``dtype`` is the result's type."""
    distinct = values.unique()
    answers = pl.Series([function(value) for value in distinct.to_list()], dtype=dtype)
    return answers.gather(places(values, distinct)).alias(values.name)


def places(values: pl.Series, distinct: pl.Series) -> pl.Series:
    """Return where each value stands among the distinct ones, null where it does not."""
    if values.is_empty() or distinct.is_empty():
        return pl.Series([None], dtype=pl.UInt32).new_from_index(0, len(values))
    indexes = pl.Series(range(len(distinct)), dtype=pl.UInt32)
    return values.replace_strict(distinct, indexes, default=None, return_dtype=pl.UInt32)


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


@contextmanager
def paused_collector() -> Iterator[None]:
    """Keep Python's cycle collector still while hundreds of thousands of objects are made.

    None of them is part of a cycle, yet each new ten thousand would make the collector walk over all of them: more
    than half of the time of reading a large batch. Threads may overlap; the last one out switches it on again, if it
    was on before.
    """
    global _pauses, _resume
    with _pause_lock:
        if _pauses == 0:
            _resume = gc.isenabled()
            gc.disable()
        _pauses += 1
    try:
        yield
    finally:
        with _pause_lock:
            _pauses -= 1
            if _pauses == 0 and _resume:
                gc.enable()


def in_parts(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield the items some hundreds at a time.

    Read column by column, their objects then stay within the processor's cache, which is two to three times as fast as
    one pass over all.
    """
    remaining = iter(items)
    while some := list(islice(remaining, _AT_ONCE)):
        yield some


def to_rows(frame: pl.DataFrame) -> list[Row]:
    """Return one dictionary per row, columns in order; as ``frame.to_dicts()``, in less than half of the time."""
    if not all(name.isidentifier() and not name.startswith("__") for name in frame.columns):
        return frame.to_dicts()  # a record has no such attribute
    with paused_collector():
        columns = [_values(series) for series in frame.get_columns()]
        return list(map(msgspec.structs.asdict, map(_record(tuple(frame.columns)), *columns)))


def _values(series: pl.Series) -> list[Any]:
    if series.dtype in _FEW_VALUES:
        distinct = series.unique()
        made = distinct.to_list()
        return [made[place] for place in places(series, distinct).to_list()]
    first = series.first() if series.dtype == pl.String else None
    if first is not None and (series == first).all(ignore_nulls=False):
        return [first] * len(series)
    return series.to_list()


@lru_cache(maxsize=32)
def _record(names: tuple[str, ...]) -> type[msgspec.Struct]:
    """Return a record with these keys: its dictionary is made at its full size at once, unlike ``dict(zip(...))``."""
    return msgspec.defstruct("Row", [(name, Any) for name in names], frozen=True, eq=False, gc=False)
