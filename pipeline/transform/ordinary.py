"""The bookings frame of ordinary payloads: the columns of ``typed``, by the rules that ``anything`` has row by row."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import polars as pl

from pipeline.transform import booking_hash
from pipeline.transform.booking_fields import (
    CANCELLED,
    FALLBACKS,
    HASHED,
    ID,
    RANGES,
    TEXTS,
    no_texts,
    source_columns,
    without_rows,
)
from pipeline.transform.cells import HIDDEN

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig


def ordinary_bookings(values: pl.DataFrame, config: PipelineConfig) -> pl.DataFrame:
    """Return the bookings frame without ``row``; ``values`` has one column a path, see ``TypedColumns``."""
    texts = _texts(values)
    columns = {name: texts[path] for name, path in (TEXTS | source_columns(config)).items()}
    literals = {
        booking_hash.literal_column(name): _literals(values[path], columns[name])
        for name, path in HASHED.items()
    }
    for name, paths in FALLBACKS.items():
        columns[name] = _first((columns[name], *(texts[path] for path in paths)))
    ranges = {name: _first(texts[path] for path in paths) for name, paths in RANGES.items()}
    if any(series.null_count() < len(series) for series in ranges.values()):
        holds_times = columns["formatted_name"].str.starts_with("[").fill_null(value=False)
        ranges = {name: series.set(holds_times, None) for name, series in ranges.items()}
    columns |= ranges | literals
    columns["fault"] = no_texts(len(values))
    columns["booking_id"] = values[ID]
    columns["cancelled"] = values[CANCELLED]
    return without_rows(columns, config)


def _texts(values: pl.DataFrame) -> pl.DataFrame:
    """Return the values as ``cells.as_text`` would."""
    texts = values.cast(pl.String)
    hidden = texts.select((pl.all() == HIDDEN).any()).row(0, named=True)
    # Looked at together, mended one by one: hardly any site hides a field.
    return texts.with_columns(
        texts[path].set(texts[path] == HIDDEN, None) for path in texts.columns if hidden[path]
    )


def _literals(values: pl.Series, texts: pl.Series) -> pl.Series:
    """Return the JSON of what is no plain text: a missing value, or a hidden one. (None of them is null.)"""
    if texts.null_count() == 0:
        return no_texts(len(texts))
    written = [None, booking_hash.literal(None, is_null=False), booking_hash.literal(HIDDEN, is_null=False)]
    which = texts.is_null().cast(pl.UInt32) + (texts.is_null() & values.is_not_null()).cast(pl.UInt32)
    return pl.Series(written, dtype=pl.String).gather(which)


def _first(columns: Iterable[pl.Series]) -> pl.Series:
    """Return, row by row, the first text there is."""
    first, *others = columns
    for other in others:
        if first.null_count() and other.null_count() < len(other):
            first = first.zip_with(first.is_not_null(), other)
    return first
