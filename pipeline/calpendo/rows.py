"""What the rows of a list answer tell of their times: which are surely outside the window, which are in doubt.

Fields and times are read as the columns read them (``transform.paths`` and ``transform.times``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from pipeline.transform.paths import JsonObject, find
from pipeline.transform.read_objects import as_text
from pipeline.transform.times import Readings, iso_readings, pair_readings

if TYPE_CHECKING:
    from pipeline.calpendo.window import Window
    from pipeline.config import PipelineConfig

NAME = "formattedName"
RANGE_START = "properties.dateRange.start"
RANGE_FINISH = ("properties.dateRange.finish", "properties.dateRange.end")


def surely_outside(rows: Sequence[JsonObject], window: Window, config: PipelineConfig) -> list[bool]:
    """Return for each row whether it alone proves that its booking is not wanted; in doubt it is.

    Both forms of writing times count where a row has both, and a wall-clock time that comes twice is read both ways.
    What starts before the window is wanted while it runs, unless ``include_running`` is off.
    """
    zone = config.timezone
    starts, ends = pair_readings(_texts(rows, NAME), zone)
    range_starts = iso_readings(_texts(rows, RANGE_START), zone)
    range_ends = iso_readings(_texts(rows, *RANGE_FINISH), zone)
    first_start, last_start = _span(starts, range_starts)
    _, last_end = _span(ends, range_ends)
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
    zone = config.timezone
    starts, ends = pair_readings(_texts(rows, NAME), zone)
    first, _ = _span(starts, iso_readings(_texts(rows, RANGE_START), zone))
    _, last = _span(ends, iso_readings(_texts(rows, *RANGE_FINISH), zone))
    aware = pl.select(
        first.dt.replace_time_zone("UTC").alias("start"), last.dt.replace_time_zone("UTC").alias("end")
    )
    return aware.rows()


def is_ambiguous(values: Sequence[Any], timezone: str) -> list[bool]:
    """Return for each written time whether it names two instants: the site's clock shows it twice or never."""
    earliest, latest = iso_readings(list(map(as_text, values)), timezone)
    return (earliest != latest).fill_null(value=False).to_list()


def _texts(rows: Sequence[JsonObject], *paths: str) -> list[str | None]:
    """Return, for each row, the text of the first path that has any."""
    texts = ((as_text(find(row, path)[1]) for path in paths) for row in rows)
    return [next((text for text in found if text is not None), None) for found in texts]


def _span(one: Readings, other: Readings) -> tuple[pl.Expr, pl.Expr]:
    """Return the earliest and the latest of all readings, of those that there are."""
    first, last = (one.earliest, other.earliest), (one.latest, other.latest)
    return pl.min_horizontal(*map(pl.lit, first)), pl.max_horizontal(*map(pl.lit, last))


def _naive_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)
