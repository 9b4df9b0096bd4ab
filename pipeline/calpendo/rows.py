"""What the rows of a list answer tell of their times: which are surely outside the window, which are in doubt.

Fields and times are read as the columns read them (``transform.paths`` and ``transform.times``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import polars as pl

from pipeline.transform.paths import JsonObject, find
from pipeline.transform.read_objects import as_text, is_whole
from pipeline.transform.times import Readings, iso_readings, pair_readings

if TYPE_CHECKING:
    from pipeline.calpendo.window import Window
    from pipeline.config import PipelineConfig

NAME = "formattedName"
RANGE_START = "properties.dateRange.start"
RANGE_FINISH = ("properties.dateRange.finish", "properties.dateRange.end")

Texts = tuple[str | None, ...]

_KEPT_AT_MOST = 1_000
"""Rows whose times are kept for the next time that they are asked for; of a longer list nothing is held."""


def surely_outside(rows: Sequence[JsonObject], window: Window, config: PipelineConfig) -> list[bool]:
    """Return for each row whether it alone proves that its booking is not wanted; in doubt it is.

    Both forms of writing times count where a row has both, and a wall-clock time that comes twice is read both ways.
    What starts before the window is wanted while it runs, unless ``include_running`` is off.
    """
    if not rows:
        return []
    first_start, last_start, last_end = map(pl.lit, _times(rows, config.timezone))
    opens, closes = _naive_utc(window.start), _naive_utc(window.end)
    has_ended = (last_end < opens).fill_null(value=False) if config.include_running else pl.lit(value=True)
    outside = (
        pl.when(first_start.is_null() | (last_end < first_start))
        .then(pl.lit(value=False))
        .when(first_start >= closes)
        .then(pl.lit(value=True))
        .otherwise((last_start < opens) & has_ended)
    )
    return pl.select(outside.alias("outside")).to_series().to_list()


def spans(
    rows: Sequence[JsonObject], config: PipelineConfig
) -> list[tuple[datetime | None, datetime | None]]:
    """Return for each row the earliest start and the latest end that it may mean, in UTC; None where it shows none."""
    if not rows:
        return []
    first, _, last = _times(rows, config.timezone)
    aware = pl.select(
        first.dt.replace_time_zone("UTC").alias("start"), last.dt.replace_time_zone("UTC").alias("end")
    )
    return aware.rows()


def is_ambiguous(values: Sequence[Any], timezone: str) -> list[bool]:
    """Return for each written time whether it names two instants: the site's clock shows it twice or never."""
    earliest, latest = iso_readings(list(map(_text, values)), timezone)
    return (earliest != latest).fill_null(value=False).to_list()


def _times(rows: Sequence[JsonObject], timezone: str) -> tuple[pl.Series, pl.Series, pl.Series]:
    """Return the earliest and the latest start and the latest end that each row may mean, in UTC."""
    read = _read if len(rows) <= _KEPT_AT_MOST else _read.__wrapped__
    return read(_texts(rows, NAME), _texts(rows, RANGE_START), _texts(rows, *RANGE_FINISH), timezone)


# One cycle asks twice, and a quiet one asks for what the cycle before asked.
@lru_cache(maxsize=4)
def _read(
    pairs: Texts, range_starts: Texts, range_ends: Texts, timezone: str
) -> tuple[pl.Series, pl.Series, pl.Series]:
    starts, ends = pair_readings(pairs, timezone)
    first, last = _span(starts, iso_readings(range_starts, timezone) if any(range_starts) else None)
    _, end = _span(ends, iso_readings(range_ends, timezone) if any(range_ends) else None)
    times = pl.select(first.alias("first"), last.alias("last"), end.alias("end"))
    return times["first"], times["last"], times["end"]


def _texts(rows: Sequence[JsonObject], *paths: str) -> Texts:
    """Return, for each row, the text of the first path that has any."""
    texts = ((_text(find(row, path)[1]) for path in paths) for row in rows)
    return tuple(next((text for text in found if text is not None), None) for found in texts)


def _text(value: Any) -> str | None:
    """Return a value as text; one that could not be decoded tells nothing."""
    text = as_text(value)
    return text if text is None or is_whole(text) else None


def _span(one: Readings, other: Readings | None) -> tuple[pl.Expr, pl.Expr]:
    """Return the earliest and the latest of all readings, of those that there are."""
    if other is None:
        return pl.lit(one.earliest), pl.lit(one.latest)
    first, last = (one.earliest, other.earliest), (one.latest, other.latest)
    return pl.min_horizontal(*map(pl.lit, first)), pl.max_horizontal(*map(pl.lit, last))


def _naive_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)
