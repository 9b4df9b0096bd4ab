"""A window -> its bookings, in one of three ways that bring the same (T007-T010)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pipeline.calpendo.fetch_bulk import fetch_bulk
from pipeline.calpendo.fetch_changed import fetch_changed
from pipeline.calpendo.fetched import FetchedBookings
from pipeline.calpendo.gathering import Gathering
from pipeline.calpendo.known import KnownBookings
from pipeline.transform.paths import booking_id

if TYPE_CHECKING:
    from pipeline.calpendo.client import CalpendoClient
    from pipeline.calpendo.window import Window
    from pipeline.config import PipelineConfig

__all__ = ["FetchedBookings", "KnownBookings", "fetch_bookings", "fetch_window"]


def fetch_window(
    client: CalpendoClient, config: PipelineConfig, window: Window, *, known: KnownBookings | None = None
) -> FetchedBookings:
    """Return every booking of the window, in the list's order, as ``fetch_mode`` says.

    ``details``: the list, then each booking's details in parallel. ``bulk``: one list that brings all fields.
    ``changed``: a list with modification times, and details only of what ``known`` does not hold as it is now;
    without ``known`` of all. Where the server does not give such a list, details are fetched, and it is said once.

    One failed detail is reported in ``failed`` and the rest goes on. Raises PluginFetchError when the list cannot
    be had or trusted, when the login is refused, or when every detail fails.
    """
    with Gathering(client, config) as gathering:
        if client.learned.scans or config.fetch_mode == "bulk":
            gathering.begin_operators_early(window)
        fetched = None
        if config.fetch_mode != "details" and not client.learned.paths_refused:
            fetched = (
                fetch_bulk(gathering, client, config, window)
                if config.fetch_mode == "bulk"
                else fetch_changed(gathering, client, config, window, known)
            )
        return fetched or _details(gathering, window)


def fetch_bookings(client: CalpendoClient, config: PipelineConfig, ids: Iterable[int]) -> FetchedBookings:
    """Return bookings by their ids, wherever they lie in time; ``listed`` are the ids asked for.

    Raises PluginFetchError only where the login is refused: even all of them may fail and be asked for again.
    """
    asked = list(dict.fromkeys(ids))
    usable = [number for number in asked if booking_id(number) is not None]
    with Gathering(client, config) as gathering:
        gathering.listed = usable
        gathering.invalid = [number for number in asked if booking_id(number) is None]
        gathering.fetch_details(usable)
        return gathering.result("details")


def _details(gathering: Gathering, window: Window) -> FetchedBookings:
    kept = gathering.kept if gathering.was_listed else gathering.list_bookings(window)
    gathering.begin_operators(window)
    gathering.fetch_details(number for number in kept if not gathering.has(number))
    gathering.raise_if_all_failed()
    return gathering.result("details")
