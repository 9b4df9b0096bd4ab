"""A window -> its bookings: the list, the details in parallel, the operators (T007-T010)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pipeline.calpendo.answers import booking_id
from pipeline.calpendo.fetched import FetchedBookings
from pipeline.calpendo.gathering import Gathering

if TYPE_CHECKING:
    from pipeline.calpendo.client import CalpendoClient
    from pipeline.calpendo.known import KnownBookings
    from pipeline.calpendo.window import Window
    from pipeline.config import PipelineConfig

__all__ = ["FetchedBookings", "fetch_bookings", "fetch_window"]


def fetch_window(
    client: CalpendoClient,
    config: PipelineConfig,
    window: Window,
    *,
    known: KnownBookings | None = None,  # noqa: ARG001
) -> FetchedBookings:
    """Return every booking of the window, in the list's order, as ``fetch_mode`` says.

    One failed detail is reported in ``failed`` and the rest goes on. Raises PluginFetchError when the list cannot
    be had or trusted, when the login is refused, or when every detail fails.
    """
    with Gathering(client, config) as gathering:
        return _details(gathering, window)


def fetch_bookings(client: CalpendoClient, config: PipelineConfig, ids: Iterable[int]) -> FetchedBookings:
    """Return bookings by their ids, wherever they lie in time; ``listed`` are the ids asked for.

    Raises PluginFetchError only where the login is refused: also all of them may fail and be asked for again.
    """
    asked = list(dict.fromkeys(ids))
    usable = [number for number in asked if booking_id(number) is not None]
    with Gathering(client, config) as gathering:
        gathering.listed = usable
        gathering.invalid = [number for number in asked if booking_id(number) is None]
        gathering.fetch_details(usable)
        return gathering.result("details")


def _details(gathering: Gathering, window: Window) -> FetchedBookings:
    kept = gathering.list_bookings(window)
    if any(gathering.may_be_scan(number) for number in kept):
        gathering.begin_operators(window)
    gathering.fetch_details(kept)
    gathering.raise_if_all_failed()
    return gathering.result("details")
