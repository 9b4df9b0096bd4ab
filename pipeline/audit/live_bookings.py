"""Bookings of the last days, fetched day by day from a running Calpendo."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipeline.calpendo.window import Window, window_for
from pipeline.config import AnyConfig, PipelineConfig

if TYPE_CHECKING:
    from pipeline.calpendo.client import CalpendoClient

_NOON = 12


class LiveBookings:
    """The payloads of the last days and of today, fetched while one iterates, one window per day.

    Iterating raises ``PluginFetchError`` where the list of a day cannot be fetched.

    Args:
        client: asks the server.
        config: what is asked, and the site's zone.
        days: how many days before today.
        now: the moment that today is told from; the clock's if left out.
        on_day: called with each finished day's date.

    Attributes:
        failed: bookings that were listed and could not be fetched; grows while one iterates.
        warnings: what the fetches said; grows, too.
    """

    def __init__(
        self,
        client: CalpendoClient,
        config: AnyConfig,
        days: int,
        *,
        now: datetime | None = None,
        on_day: Callable[[str], None] | None = None,
    ) -> None:
        self._client = client
        self._config = PipelineConfig.of(config)
        self._windows = day_windows(self._config, days, now or datetime.now(UTC))
        self._on_day = on_day
        self.failed = 0
        self.warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of days."""
        return len(self._windows)

    def __iter__(self) -> Iterator[Any]:
        """Fetch the payloads and yield them."""
        from pipeline.calpendo.fetch import fetch_window

        for window in self._windows:
            fetched = fetch_window(self._client, self._config, window)
            self.failed += len(fetched.failed)
            self.warnings = tuple(dict.fromkeys((*self.warnings, *fetched.warnings)))
            for payload in fetched.payloads:
                yield payload.get("_unreadable", payload)
            yield from fetched.invalid
            if self._on_day is not None:
                self._on_day(f"{window.start:%Y-%m-%d}")


def day_windows(config: PipelineConfig, days: int, now: datetime) -> list[Window]:
    """Return the site's last ``days`` days and today, each from midnight to midnight; a booking belongs to its first day."""
    daily = config.model_copy(update={"window_mode": "today", "daily_window": None, "include_running": False})
    probe = window_for(daily, now, 0).start.replace(tzinfo=None) + timedelta(hours=_NOON)
    return [
        window_for(daily, _aware(config, probe - timedelta(days=back)), 0) for back in range(days, -1, -1)
    ]


def _aware(config: PipelineConfig, wall: datetime) -> datetime:
    import pytz

    return pytz.timezone(config.timezone).localize(wall)
