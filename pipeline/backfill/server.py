"""A range of days fetched from a running server, window by window, each kept as an NDJSON file until all is done.

Only this process asks the server, with the client's own limit on requests in flight; the files are then archives like
any other. A window that was fetched whole is not asked for again when a killed backfill continues.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

import pytz

from pipeline.archives import Archive
from pipeline.backfill.layout import Layout, private_directory, read_json, write_json
from pipeline.backfill.plan import ServerRange, Source, describe
from pipeline.errors import PluginFetchError
from pipeline.files import whole_file
from pipeline.transform.json_values import payload_text

if TYPE_CHECKING:
    from pipeline.calpendo.client import CalpendoClient
    from pipeline.calpendo.fetch import FetchedBookings
    from pipeline.calpendo.window import Window
    from pipeline.config import PipelineConfig
    from pipeline.config.credentials import Credentials
    from pipeline.transform.selection import Selection

ROUNDS = 3
"""How often details that could not be fetched are asked for, each time with the client's own retries."""


def days_of(server: ServerRange) -> list[tuple[date, date]]:
    """Cut the range into windows of at most ``days`` days: (first day, day after the last one)."""
    first, beyond = date.fromisoformat(server.first), date.fromisoformat(server.last) + timedelta(days=1)
    starts = [first + timedelta(days=ahead) for ahead in range(0, (beyond - first).days, server.days)]
    return list(zip(starts, [*starts[1:], beyond], strict=True))


def fetch_days(
    layout: Layout,
    server: ServerRange,
    config: PipelineConfig,
    credentials: Credentials,
    tick: Callable[[int, int], None],
) -> tuple[tuple[Source, ...], int, int]:
    """Fetch every window that is not there yet; ``tick(windows done, windows)`` is called after each.

    Returns the windows' files, and how many bookings the lists named besides: those gone (404), and those cut off because
    they lie outside the window.

    Raises ``PluginFetchError`` where a list cannot be fetched, or a booking's details not after several rounds; what
    was fetched before is kept.
    """
    from pipeline.calpendo.client import CalpendoClient

    windows = days_of(server)
    sources: list[Source] = []
    gone = cut = 0
    with CalpendoClient(config, credentials) as client:
        for place, (first, beyond) in enumerate(windows):
            file = layout.fetched / f"{place:05d}.ndjson"
            done = file.with_suffix(".json")
            counts = read_json(done, dict[str, int])
            if counts is None:
                fetched = _fetch_all(client, config, window_of(config, first, beyond))
                private_directory(layout.fetched)
                with whole_file(file) as temporary, temporary.open("wb") as handle:
                    for payload in (*fetched.payloads, *fetched.invalid):
                        handle.write(payload_text(payload).encode() + b"\n")
                counts = {"gone": len(fetched.gone), "cut": len(fetched.cut)}
                write_json(done, counts)
            gone += counts["gone"]
            cut += counts["cut"]
            last = beyond - timedelta(days=1)
            name = f"{config.base_url} {first} to {last}"
            sources.append(describe(place, Archive(name, str(file), file.stat().st_size)))
            tick(place + 1, len(windows))
    return tuple(sources), gone, cut


def window_of(config: PipelineConfig, first: date, beyond: date) -> Window:
    """Return the window from the site's midnight of ``first`` to that of ``beyond``, with no look back.

    Running bookings belong to the window in which they start. A midnight that the clock shows twice is the first
    one; one that it skips is the moment of the change.
    """
    from pipeline.calpendo.window import Window

    start, end = site_midnight(config, first), site_midnight(config, beyond)
    return Window(start=start, end=end, query_start=start)


def server_selection(config: PipelineConfig, server: ServerRange) -> Selection:
    """Return what was asked of the server, to be asked again on this side."""
    from pipeline.transform.selection import Selection

    days = days_of(server)
    window = window_of(config, days[0][0], days[-1][1])
    asked = Selection.of(config, window.start.astimezone(UTC), window.end.astimezone(UTC))
    return replace(asked, include_running=False)


def site_midnight(config: PipelineConfig, day: date) -> datetime:
    """Return the instant at which ``day`` begins at the site, as an aware datetime in the site's zone."""
    zone = pytz.timezone(config.timezone)
    naive = datetime.combine(day, time.min)
    return min(zone.normalize(zone.localize(naive, is_dst=dst)) for dst in (True, False))


def _fetch_all(client: CalpendoClient, config: PipelineConfig, window: Window) -> FetchedBookings:
    """Fetch a window and, again, the details that failed; every booking of the list is accounted for."""
    from pipeline.calpendo.fetch import fetch_bookings, fetch_window

    fetched = fetch_window(client, config, window)
    for _ in range(ROUNDS):
        if not fetched.failed:
            return fetched
        again = fetch_bookings(client, config, fetched.failed)
        fetched = replace(
            fetched,
            payloads=(*fetched.payloads, *again.payloads),
            gone=(*fetched.gone, *again.gone),
            cut=(*fetched.cut, *again.cut),
            failed=again.failed,
        )
    shown = ", ".join(str(number) for number in list(fetched.failed)[:5])
    raise PluginFetchError(
        f"{len(fetched.failed)} bookings of the window from {window.start:%Y-%m-%d} could not be fetched "
        f"(ids {shown}{', …' if len(fetched.failed) > 5 else ''}); what was fetched is kept; start the same command again to continue"
    )
