"""The window and the filters as Calpendo's query grammar: a quoted URL path, pure (T006, the vendor's API pages).

    EXPR := BOOLOP/EXPR/.../EXPR[/CLOSE] | PATH/RELATION/VALUE

The grammar is prefix and a group runs on to ``CLOSE`` or to the end, so a term that follows an OR group falls inside
it. Every AND term therefore stands first and the OR group last. The task list's template has them the other way round,
which asks for "A or B or approved".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytz

if TYPE_CHECKING:
    from pipeline.calpendo.window import Window, Zone
    from pipeline.config import PipelineConfig

_FORMATS = {"YYYYMMDD-HHMM": "%Y%m%d-%H%M", "YYYYMMDDTHHMM": "%Y%m%dT%H%M"}
# No zone repeats more than two hours (Antarctica/Troll); a quarter of an hour is the finest step of any change.
_REPEAT = timedelta(hours=3)
_STEP = timedelta(minutes=15)
# Several Java servers refuse an encoded slash or backslash anywhere in a path, and any client takes . and .. away.
_REFUSED_CHARACTERS = "/\\"
_DOT_SEGMENTS = (".", "..")


def booking_query(config: PipelineConfig, window: Window) -> str:
    """Return the path below ``/q/Calpendo.Booking/``: the window, the status, then any one of the resources."""
    return next(query_variants(config, window))


def query_variants(config: PipelineConfig, window: Window) -> Iterator[str]:
    """Yield the query, then wider ones for a server that refuses an encoded slash in a value.

    The wider ones ask for the resource by what stands before the slash, then for no resource at all; a status with
    a slash is left out of both. What they bring too much is filtered on this side. All are distinct.
    """
    start, end = wall_bounds(config, window)
    form = _FORMATS[config.query_date_format]
    dates = [
        f"dateRange.start/GE/{_value(start.strftime(form))}",
        f"dateRange.start/LT/{_value(end.strftime(form))}",
    ]
    status = [f"status/EQ/{_value(config.status_filter)}"] if config.status_filter else []
    exact = [f"resource.name/EQ/{_value(name)}" for name in config.resources]
    seen: set[str] = set()
    for terms in (
        [*dates, *status, *_any_of(exact)],
        [*dates, *_sendable_status(config, status), *_any_of(_resource_prefixes(config.resources))],
        [*dates, *_sendable_status(config, status)],
    ):
        path = "/".join(["AND", *terms])
        if path not in seen:
            seen.add(path)
            yield path
        if not _needs_variants(config):
            return


def ids_query(ids: Iterable[int]) -> str:
    """Return the path that finds records by their ids."""
    terms = [f"id/EQ/{number:d}" for number in ids]
    return "/".join(terms if len(terms) == 1 else _any_of(terms))


def wall_bounds(config: PipelineConfig, window: Window) -> tuple[datetime, datetime]:
    """Return the query's two naive site times, whole minutes, wide enough for any reading of a repeated hour.

    A server may compare wall-clock texts or instants, and may take either of two like times. The start is therefore
    written with the least offset that comes into force just after it, and the end with the greatest just before it:
    in the autumn's repeated hour the query reaches an hour further, at all other times it is exact.
    """
    zone = pytz.timezone(config.timezone)
    start, end = window.query_start.astimezone(UTC), window.end.astimezone(UTC)
    steps = range(int(_REPEAT / _STEP) + 1)
    least = min(_offset(zone, start + _STEP * step) for step in steps)
    greatest = max(_offset(zone, end - _STEP * step) for step in steps)
    first = (start + least).replace(second=0, microsecond=0, tzinfo=None)
    last = (end + greatest).replace(tzinfo=None)
    if last.second or last.microsecond:
        last = last.replace(second=0, microsecond=0) + timedelta(minutes=1)
    return first, last


def _offset(zone: Zone, instant: datetime) -> timedelta:
    return instant.astimezone(zone).utcoffset() or timedelta(0)


def _value(text: str) -> str:
    return quote(text, safe="")


def _any_of(terms: list[str]) -> list[str]:
    return ["OR", *terms] if terms else []


def _needs_variants(config: PipelineConfig) -> bool:
    values = [*config.resources, *([config.status_filter] if config.status_filter else [])]
    return not all(_sendable(value) for value in values)


def _sendable(value: str) -> bool:
    return value not in _DOT_SEGMENTS and not any(character in value for character in _REFUSED_CHARACTERS)


def _sendable_status(config: PipelineConfig, status: list[str]) -> list[str]:
    return status if config.status_filter and _sendable(config.status_filter) else []


def _resource_prefixes(resources: Iterable[str]) -> list[str]:
    """Return terms without a refused character, or none where one resource leaves nothing to ask for."""
    terms: list[str] = []
    for name in resources:
        if _sendable(name):
            terms.append(f"resource.name/EQ/{_value(name)}")
            continue
        cut = min(
            (name.index(character) for character in _REFUSED_CHARACTERS if character in name), default=0
        )
        if not cut or name[:cut] in _DOT_SEGMENTS:
            return []
        terms.append(f"resource.name/STARTS_WITH/{_value(name[:cut])}")
    return terms
