"""Which rows of a source a scanner gets to see.

Pylantir answers a C-FIND with every row that is SCHEDULED, IN_PROGRESS or DISCONTINUED, of any day. The filter is
asked at each C-FIND and leaves, of its own source's rows, those that one can scan now.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytz

from pipeline.calpendo.window import window_for
from pipeline.config import PipelineConfig
from pipeline.delivery.ledger import IN_PROGRESS, PYLANTIR, SCHEDULED, SQLITE_ERRORS, microseconds, to_read
from pipeline.errors import PluginConfigError
from pipeline.pylantir.configuration import ledger_names, with_host_defaults
from pipeline.pylantir.host_rows import SYNCED_NOTE

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Span:
    """Which starts are shown, as instants: ``first <= start < last``, and ``running_since <= start`` while a scan runs.

    A booking that began before ``first`` is shown while it lasts beyond ``lasting``; one that ended before ``ended``
    is not shown (None: the window alone decides).
    """

    first: datetime
    last: datetime
    running_since: datetime
    lasting: datetime | None
    ended: datetime | None


@dataclass(frozen=True)
class Known:
    """What the ledger tells beyond the rows, which have no end: ids as text, and whether a cycle went through."""

    ended: tuple[str, ...] = ()
    lasting: tuple[str, ...] = ()
    synced: bool = False


def make_filter(
    source_name: str,
    include_unscoped: bool,
    config: Mapping[str, Any],
    ledger: sqlite3.Connection | None = None,
) -> Callable[..., Any]:
    """Make the function that Pylantir passes each C-FIND's query through; it never raises on a configuration.

    ``ledger`` stands in for the source's ledger file, after a cycle that went through.
    """
    settings = _settings(config)
    names = ledger_names(source_name, config)
    zone = output_zone(settings)

    def filter_query(query: Any, now: datetime | None = None) -> Any:
        from pylantir.models import WorklistItem
        from sqlalchemy import and_, func, or_

        span = shown_span(settings, datetime.now(UTC) if now is None else now)
        known = (
            _ask_ledger(names, settings, span)
            if ledger is None
            else replace(_known(ledger, span), synced=True)
        )
        clock = func.replace(func.coalesce(WorklistItem.scheduled_start_time, ""), ":", "")
        start = func.replace(WorklistItem.scheduled_start_date, "-", "").concat(
            func.substr(clock.concat("000000"), 1, 6)
        )
        status = WorklistItem.performed_procedure_step_status
        number = WorklistItem.source_record_id

        def starts_from(first: datetime) -> Any:
            return and_(start >= _stamp(first, zone), start < _stamp(span.last, zone))

        in_time = or_(
            and_(starts_from(span.first), number.not_in(known.ended)),
            number.in_(known.lasting),
            and_(status == IN_PROGRESS, starts_from(span.running_since)),
        )
        shown = and_(status.in_((SCHEDULED, IN_PROGRESS)), in_time)
        if known.synced:
            # Written by Pylantir's own plugin and not met again since: gone from Calpendo, or out of the window.
            shown = and_(shown, number.is_not(None), WorklistItem.scheduled_start_date.not_like("%-%"))
        foreign = WorklistItem.data_source.is_distinct_from(source_name)
        if include_unscoped:
            foreign = and_(foreign, WorklistItem.data_source.is_not(None))
        return query.filter(or_(foreign, shown))

    return filter_query


def shown_span(settings: PipelineConfig, now: datetime) -> Span:
    """Return the span of starts that are shown at a moment (aware).

    Rolling: what has not ended ``keep_past_hours`` ago, up to the window's end; without a known end, what began at most
    ``max_booking_hours`` ago. Today and daily window: the site's window of the day, and what runs into it.
    """
    longest = timedelta(hours=settings.max_booking_hours)
    window = window_for(settings, now, 0.0)
    if settings.window_mode == "rolling" and settings.daily_window is None:
        ended = now - timedelta(hours=settings.keep_past_hours)
        return Span(now - longest, window.end, now - longest, lasting=ended, ended=ended)
    lasting = window.start if settings.include_running else None
    return Span(window.start, window.end, now - longest, lasting=lasting, ended=None)


def output_zone(settings: PipelineConfig) -> Any:
    """Return the zone in which the rows' dates and times are written."""
    return pytz.timezone(
        settings.timezone if settings.output_timezone == "site" else settings.output_timezone
    )


def _settings(config: Mapping[str, Any]) -> PipelineConfig:
    try:
        return PipelineConfig.from_dict(with_host_defaults(config), offline=True)
    except PluginConfigError as error:
        _log.warning("The worklist filter takes the default window: %s", error)
        return PipelineConfig.from_dict({}, offline=True, environ={})


def _stamp(moment: datetime, zone: Any) -> str:
    return moment.astimezone(zone).strftime("%Y%m%d%H%M%S")


def _ask_ledger(names: tuple[str, ...], settings: PipelineConfig, span: Span) -> Known:
    """Read the ends of bookings from the ledger, beside the sync that writes it; without one, nothing is known."""
    for name in names:
        path = to_read(settings, PYLANTIR, source_name=name)
        if path is not None:
            with contextlib.suppress(*SQLITE_ERRORS, OSError):
                uri = f"{path.as_uri()}?mode=ro"
                with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=1.0)) as connection:
                    return _known(connection, span)
    return Known()


def _known(connection: sqlite3.Connection, span: Span) -> Known:
    # No time is before or after one that is not given: then there are no such bookings.
    ended = _ids(connection, "start_utc >= ? AND end_utc <= ?", span.first - timedelta(hours=26), span.ended)
    lasting = _ids(connection, "start_utc < ? AND end_utc > ?", span.first, span.lasting)
    synced = connection.execute("SELECT 1 FROM meta WHERE key = ?", (SYNCED_NOTE,)).fetchone()
    return Known(ended, lasting, synced is not None)


def _ids(connection: sqlite3.Connection, condition: str, *moments: datetime | None) -> tuple[str, ...]:
    values = [None if moment is None else microseconds(moment) for moment in moments]
    query = f"SELECT booking_id FROM entries WHERE {condition}"  # noqa: S608 - constants
    return tuple(str(row[0]) for row in connection.execute(query, values))
