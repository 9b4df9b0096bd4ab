"""When a booking may be taken off the scanner's list: asked for by its number first, and never many on one answer.

Pure decisions over the ledger's lines; the ledger and the network are the caller's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import polars as pl

from pipeline.delivery.entry_text import DISCONTINUED, STATUS_KEY
from pipeline.delivery.ledger import microseconds

# The guard's default: withdrawals go at once up to this number, or up to half of those in the window.
ALWAYS_ALLOWED = 5


@dataclass(frozen=True)
class Verdict:
    """Which withdrawals go now, which wait, and what keeps them: a failed fetch, or their number."""

    withdrawn: tuple[int, ...] = ()
    held: frozenset[int] = frozenset()
    kept_by: Literal["failed_fetch", "guard"] | None = None
    limit: float = 0.0


def live_in_window(start: datetime, end: datetime) -> pl.Expr:
    """Select ledger lines that a host shows as wanted and that start in ``[start, end)``."""
    return (
        (pl.col("status") != DISCONTINUED)
        & (pl.col("start_utc") >= microseconds(start))
        & (pl.col("start_utc") < microseconds(end))
    )


def shown_in(
    lines: pl.DataFrame, start: datetime, end: datetime, running_since: datetime | None
) -> list[int]:
    """Name the bookings that the host shows in the window, in the order of their starts.

    ``running_since`` (how far the query reached back) adds those that began before the window and still run at its
    start.
    """
    wanted = live_in_window(start, end)
    if running_since is not None:
        wanted |= live_in_window(running_since, start) & (pl.col("end_utc") > microseconds(start))
    return lines.filter(wanted).sort("start_utc", "booking_id")["booking_id"].to_list()


def judge(
    candidates: Sequence[int],
    *,
    held: Collection[int],
    in_window: int,
    max_withdrawn: int | None,
    fetch_failed: bool,
) -> Verdict:
    """Decide over the bookings that would be withdrawn now.

    ``held`` are those that an earlier cycle held back; ``in_window`` counts the bookings that the host shows in the
    window. Nothing goes in a cycle with a failed fetch, and what waited waits on. Up to the limit (``max_withdrawn``,
    else 5 or half of those in the window, whichever is more) all go at once. Above it nothing goes, unless what is
    above it had the same answer in the cycle before.
    """
    limit: float = max(ALWAYS_ALLOWED, in_window / 2) if max_withdrawn is None else max_withdrawn
    if fetch_failed:
        return Verdict(held=frozenset(held), kept_by="failed_fetch" if candidates else None, limit=limit)
    unconfirmed = [booking_id for booking_id in candidates if booking_id not in held]
    if len(candidates) > limit and len(unconfirmed) > limit:
        return Verdict(held=frozenset(candidates), kept_by="guard", limit=limit)
    return Verdict(withdrawn=tuple(candidates), limit=limit)


def discontinued(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Give the entry that takes a row off the list: the last one, whole, with status DISCONTINUED."""
    return {**entry, STATUS_KEY: DISCONTINUED}
