"""Python functions over a column's distinct values, put back in their rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl


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
