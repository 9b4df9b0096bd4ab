"""Times in doubt: the hour that comes twice, the hour that never comes, and clocks that disagree (T012)."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from pipeline.audit.tally import ID_LIST, IDS, ROWS, Frames, Schema, add_up, share
from pipeline.audit.zone_data import (
    FIRST_YEAR,
    LAST_YEAR,
    PYTZ,
    ZoneLibrary,
    other_libraries,
    pytz_version,
)

CHECKS = {
    "unreadable": "no start or end could be read; the booking is rejected",
    "reversed": "the booking ends before it starts",
    "ambiguous": "a clock time that comes twice when clocks go back; the later of the two was taken",
    "non_existent": "a clock time that is skipped when clocks go forward; it was read on the winter clock",
    "multi_day": "the booking ends on another day than it starts",
    "zone_data": "polars or the system would have put the booking at another instant",
}

_IN_DOUBT = [check for check in CHECKS if check not in ("zone_data", "multi_day")]
"""Neither a night on the scanner nor other libraries' zone data put a booking in doubt."""

_LISTED = [check for check in _IN_DOUBT if check != "unreadable"]
"""Bookings without a readable time have nothing to list; they stand among the rejected ones."""

_PER_CHECK = ROWS // len(CHECKS)

_WEEKS: Schema = {
    "week": pl.Date,
    "bookings": pl.Int64,
    "rejected": pl.Int64,
    "unmatched": pl.Int64,
    "in_doubt": pl.Int64,
}
_COUNTS: Schema = {"check": pl.String, "bookings": pl.Int64, "booking_ids": ID_LIST}
_DOUBTFUL: Schema = {
    "booking_id": pl.Int64,
    "check": pl.String,
    "wall_start": pl.Datetime("us"),
    "wall_end": pl.Datetime("us"),
    "start_utc": pl.Datetime("us"),
}
_ZONE: Schema = {
    "library": pl.String,
    "bookings": pl.Int64,
    "hours": pl.Float64,
    "first_wall": pl.Datetime("us"),
    "booking_ids": ID_LIST,
}


def collect(wide: pl.DataFrame, zone: str) -> Frames:
    """Check one chunk of readable bookings, judged: ``times``, ``doubtful``, ``zone_data``, ``weeks``, ``in_doubt``."""
    libraries = other_libraries(zone)
    checked = _with_flags(wide, libraries)
    weeks = _weeks(checked)
    some = checked.filter(pl.any_horizontal(*CHECKS))
    return {
        "in_doubt": checked.select(pl.col("in_doubt").sum().cast(pl.Int64)),
        "weeks": weeks,
        "times": pl.concat([_counted(some.filter(check), check) for check in CHECKS]),
        "doubtful": pl.concat([_listed(some.filter(check), check) for check in _LISTED]),
        "zone_data": pl.concat([_apart(some, library.name) for library in libraries]),
    }


def total(parts: Sequence[pl.DataFrame], bookings: int) -> pl.DataFrame:
    """One row a check, in the order of ``CHECKS``, also where nothing was found."""
    counted = add_up(parts, _COUNTS, keys=("check",))
    every = pl.DataFrame({"check": list(CHECKS), "meaning": list(CHECKS.values())})
    return (
        every.join(counted, on="check", how="left", maintain_order="left")
        .with_columns(pl.col("bookings").fill_null(0), pl.col("booking_ids").fill_null([]))
        .with_columns(share=share(pl.col("bookings"), pl.lit(bookings)))
        .select("check", "meaning", "bookings", "share", "booking_ids")
    )


def doubtful(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The bookings in doubt, the first ones of each check."""
    if not parts:
        return pl.DataFrame(schema=_DOUBTFUL)
    return (
        pl.concat(parts)
        .group_by("check", maintain_order=True)
        .head(_PER_CHECK)
        .sort(pl.col("check").cast(pl.Enum(list(CHECKS))), "wall_start", maintain_order=True)
        .select(list(_DOUBTFUL))
    )


def zone_data(parts: Sequence[pl.DataFrame], zone: str, bookings: int) -> pl.DataFrame:
    """One row a library: how many bookings it would have put elsewhere, by how many hours at most."""
    libraries = other_libraries(zone)
    names = [PYTZ, *(library.name for library in libraries)]
    versions = [pytz_version(), *(library.version for library in libraries)]
    counted = pl.concat(parts) if parts else pl.DataFrame(schema=_ZONE)
    counted = counted.group_by("library", maintain_order=True).agg(
        pl.col("bookings").sum(),
        pl.col("hours").drop_nulls().sort_by(pl.col("hours").drop_nulls().abs()).last(),
        pl.col("first_wall").min(),
        pl.col("booking_ids").explode().drop_nulls().head(IDS),
    )
    return (
        pl.DataFrame({"library": names, "version": versions})
        .join(counted, on="library", how="left", maintain_order="left")
        .with_columns(pl.col("bookings").fill_null(0), pl.col("booking_ids").fill_null([]))
        .with_columns(share=share(pl.col("bookings"), pl.lit(bookings)))
        .select("library", "version", "bookings", "share", "hours", "first_wall", "booking_ids")
    )


def weeks(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One row a week (its Monday, on the site's clock) that has bookings."""
    return add_up(parts, _WEEKS, keys=("week",)).sort("week")


def _with_flags(wide: pl.DataFrame, libraries: Sequence[ZoneLibrary]) -> pl.DataFrame:
    """A Boolean column for each check, ``in_doubt``, and for each library its distance from pytz."""
    flagged = wide.select(
        *("booking_id", "wall_start", "wall_end", "start_utc", "rejected", "any_unmatched"),
        unreadable=pl.col("start_utc").is_null() | pl.col("end_utc").is_null(),
        reversed=(pl.col("end_utc") < pl.col("start_utc")).fill_null(value=False),
        ambiguous=pl.col("dst_ambiguous").fill_null(value=False),
        non_existent=pl.col("dst_nonexistent").fill_null(value=False),
        multi_day=pl.col("multi_day").fill_null(value=False),
    )
    start = flagged["start_utc"]
    comparable = ~pl.col("non_existent") & pl.col("wall_start").dt.year().is_between(FIRST_YEAR, LAST_YEAR)
    names = [library.name for library in libraries]
    return (
        flagged.with_columns(library.to_wall(start).alias(library.name) for library in libraries)
        .with_columns(
            pl.when(comparable).then(pl.col(name) - pl.col("wall_start")).alias(name) for name in names
        )
        .with_columns(
            zone_data=pl.any_horizontal(_is_apart(name) for name in names),
            in_doubt=pl.any_horizontal(*_IN_DOUBT),
        )
    )


def _is_apart(library: str) -> pl.Expr:
    return (pl.col(library) != pl.duration()).fill_null(value=False)


def _counted(found: pl.DataFrame, check: str) -> pl.DataFrame:
    ids = found["booking_id"].drop_nulls().head(IDS)
    return pl.DataFrame({"check": [check], "bookings": [len(found)], "booking_ids": [ids]}, schema=_COUNTS)


def _listed(found: pl.DataFrame, check: str) -> pl.DataFrame:
    return found.head(_PER_CHECK).with_columns(pl.lit(check).alias("check")).select(list(_DOUBTFUL))


def _weeks(doubt: pl.DataFrame) -> pl.DataFrame:
    return (
        doubt.filter(pl.col("wall_start").is_not_null())
        .group_by(pl.col("wall_start").dt.date().dt.truncate("1w").alias("week"))
        .agg(
            pl.len().cast(pl.Int64).alias("bookings"),
            pl.col("rejected").sum().cast(pl.Int64),
            pl.col("any_unmatched").sum().cast(pl.Int64).alias("unmatched"),
            pl.col("in_doubt").sum().cast(pl.Int64),
        )
    )


def _apart(some: pl.DataFrame, library: str) -> pl.DataFrame:
    found = some.filter(_is_apart(library))
    hours = found[library].dt.total_minutes() / 60
    farthest = hours.abs().arg_max()
    return pl.DataFrame(
        {
            "library": [library],
            "bookings": [len(found)],
            "hours": [None if farthest is None else hours[farthest]],
            "first_wall": [found["wall_start"].min()],
            "booking_ids": [found["booking_id"].drop_nulls().head(IDS)],
        },
        schema=_ZONE,
    )
