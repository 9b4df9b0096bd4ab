"""When a booking may be taken off the scanner's list: on its own booking's answer, and never many on one answer.

Pure decisions over the ledger's lines; the ledger and the network are the caller's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import polars as pl

from pipeline.delivery.changes import DISCONTINUED, STATUS_KEY
from pipeline.delivery.ledger import microseconds
from pipeline.transform.reasons import TOO_MANY_WITHDRAWALS, WITHDRAWAL_IN_DOUBT, WITHDRAWAL_UNANSWERED

# The guard's default: withdrawals go at once up to this number, or up to half of those in the window.
ALWAYS_ALLOWED = 5


@dataclass(frozen=True)
class Verdict:
    """Which withdrawals go now, which wait for the same answer again, and why: a failed fetch, or their number."""

    withdrawn: tuple[int, ...] = ()
    waiting: Mapping[int, str] = field(default_factory=dict)
    """Booking id -> the code of the reason for which its withdrawal waits."""
    kept_by: Literal["failed_fetch", "guard"] | None = None
    limit: float = 0.0

    @property
    def held(self) -> frozenset[int]:
        """The bookings whose withdrawal waits."""
        return frozenset(self.waiting)


def live_in_window(start: datetime, end: datetime) -> pl.Expr:
    """Select ledger lines that a host shows as wanted and that start in ``[start, end)``."""
    return (
        (pl.col("status") != DISCONTINUED)
        & (pl.col("start_utc") >= microseconds(start))
        & (pl.col("start_utc") < microseconds(end))
    )


def stands_in(start: datetime, end: datetime) -> pl.Expr:
    """Select ledger lines of any status that start in ``[start, end)``, or began before and still run at ``start``."""
    begins, ends = pl.col("start_utc"), pl.col("end_utc").fill_null(pl.col("start_utc"))
    first = microseconds(start)
    return (begins < microseconds(end)) & ((begins >= first) | (ends > first))


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
    told: Collection[int] = (),
    unanswered: Collection[int] = (),
) -> Verdict:
    """Decide over the bookings that would be withdrawn now.

    Args:
        candidates: The bookings that this cycle's answers take off the list, in order.
        held: Those of which an earlier cycle's answer said the same, and no answer since said otherwise.
        in_window: How many bookings the host shows in the window.
        max_withdrawn: The limit; None means 5 or half of those in the window, whichever is more.
        fetch_failed: Whether a request of this cycle failed, so that the server may be in trouble.
        told: Those of which the list itself says that they are not wanted: another status or resource.
        unanswered: Those that were asked for in vain: what is held of them waits on.

    Returns:
        What was said twice goes in any case. The rest goes at once up to the limit; where a fetch failed only as far as
        it was ``told``. What does not go is held until the same is said once more.
    """
    limit: float = max(ALWAYS_ALLOWED, in_window / 2) if max_withdrawn is None else max_withdrawn
    once = [booking_id for booking_id in candidates if booking_id not in held]
    doubtful = [booking_id for booking_id in once if booking_id not in told] if fetch_failed else []
    # The limit counts what rests on one answer: two answers of one kind are no accident of the moment.
    too_many = len(once) > limit
    why = TOO_MANY_WITHDRAWALS if too_many else WITHDRAWAL_IN_DOUBT
    waiting = dict.fromkeys(once if too_many else doubtful, why)
    return Verdict(
        withdrawn=tuple(booking_id for booking_id in candidates if booking_id not in waiting),
        waiting=dict.fromkeys(sorted(set(held) & set(unanswered)), WITHDRAWAL_UNANSWERED) | waiting,
        kept_by="guard" if too_many else "failed_fetch" if doubtful else None,
        limit=limit,
    )


def discontinued(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Give the entry that takes a row off the list: the last one, whole, with status DISCONTINUED."""
    return {**entry, STATUS_KEY: DISCONTINUED}
