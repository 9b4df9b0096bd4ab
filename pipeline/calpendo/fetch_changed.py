"""A light list each cycle, details only of what is new or modified, and of all from time to time."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pipeline.calpendo.answers import is_whole
from pipeline.calpendo.faults import CalpendoFault, RefusedFault
from pipeline.calpendo.fetch_bulk import refuses_paths
from pipeline.transform.paths import value_at

if TYPE_CHECKING:
    from pipeline.calpendo.client import CalpendoClient
    from pipeline.calpendo.fetched import FetchedBookings
    from pipeline.calpendo.gathering import Gathering
    from pipeline.calpendo.known import KnownBookings
    from pipeline.calpendo.window import Window
    from pipeline.config import PipelineConfig

MODIFIED = "modified"
# More than the modification time, because a server may print it in whole seconds, or not set it for a new name of a
# project or resource: a row that differs in anything from the cycle before is fetched again.
PATHS = (
    "id",
    "biskitType",
    "title",
    "status",
    "formattedName",
    "dateRange.start",
    "dateRange.finish",
    "resource.formattedName",
    "project.formattedName",
    "cancelled",
    MODIFIED,
)


def fetch_changed(
    gathering: Gathering,
    client: CalpendoClient,
    config: PipelineConfig,
    window: Window,
    known: KnownBookings | None,
) -> FetchedBookings | None:
    """Return the window's bookings, most of them from ``known``; None where the list tells no modification times.

    Every detail is fetched in the first cycle and in each ``full_refresh``-th, for what no modification time tells.
    Operators are asked for in every cycle. ``known`` is brought up to date, unless the fetch raises.
    """
    try:
        kept = gathering.list_bookings(window, PATHS)
    except CalpendoFault as fault:
        if not refuses_paths(fault):
            raise
        client.learned.paths_refused = isinstance(fault, RefusedFault)
        gathering.warn_once(f"fetch_mode changed is not possible here, all details are fetched: {fault}")
        return None
    stamps = {number: stamp(gathering.rows[number]) for number in kept}
    if kept and not any(stamps.values()):
        client.learned.paths_refused = True
        gathering.warn_once(
            f"fetch_mode changed is not possible here, all details are fetched: no row of the list has {MODIFIED}"
        )
        return None
    gathering.begin_operators(window)
    full = known is None or known.full_due(config.full_refresh)
    if known is not None and not full:
        for number, text in stamps.items():
            payload = known.payload(number, text) if text else None
            if payload is not None:
                gathering.payloads[number] = payload
    gathering.fetch_details(number for number in kept if not gathering.has(number))
    gathering.raise_if_all_failed()
    # What could not be read is asked for again in the next cycle, though its row stays the same: it may be readable then.
    fresh = [
        (number, stamps[number] or "", gathering.payloads[number])
        for number in kept
        if gathering.has(number) and is_whole(gathering.payloads[number])
    ]
    fetched = gathering.result("changed")
    if known is not None:
        known.replace(fresh, full=full)
    return fetched


def stamp(row: dict[str, Any]) -> str | None:
    """Return a text that differs whenever anything in the row does; None for a row without a modification time."""
    if value_at(row, f"properties.{MODIFIED}") is None:
        return None
    return json.dumps(row, sort_keys=True)
