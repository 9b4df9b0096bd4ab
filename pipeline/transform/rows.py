"""Python objects by the hundred thousand: a frame -> dictionaries of plain values, and what keeps both ends fast."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date, time
from functools import lru_cache
from itertools import islice
from typing import Any, TypeVar, cast

import msgspec
import polars as pl

from pipeline.transform.distinct import places

Item = TypeVar("Item")
Row = dict[str, Any]

_FEW_VALUES = (pl.Date, pl.Time)
"""Types whose Python objects are dear to make and few: each distinct value is made once."""
_AT_ONCE = 500
_pause_lock = threading.Lock()
_pauses = 0
_resume = False


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
    with paused_collector():
        columns = [_values(series) for series in frame.get_columns()]
        records = list(map(_record(tuple(frame.columns)), *columns))
        return cast("list[Row]", msgspec.to_builtins(records, builtin_types=(date, time)))


def _values(series: pl.Series) -> list[Any]:
    if series.dtype not in _FEW_VALUES:
        return series.to_list()
    distinct = series.unique()
    made = distinct.to_list()
    return [made[place] for place in places(series, distinct).to_list()]


@lru_cache(maxsize=32)
def _record(names: tuple[str, ...]) -> type[msgspec.Struct]:
    """Return a record with these keys: its dictionary is made at its full size at once, unlike ``dict(zip(...))``."""
    fields = [(f"f{number}", Any) for number in range(len(names))]
    rename = {f"f{number}": name for number, name in enumerate(names)}
    return msgspec.defstruct("Row", fields, rename=rename, frozen=True, eq=False, gc=False)
