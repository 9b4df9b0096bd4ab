"""What a cycle would do, before it does it: the plan that ``run --dry-run`` shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl

from pipeline.delivery.changes import DISCONTINUED, STATUS_KEY

if TYPE_CHECKING:
    from pipeline.delivery.cycle import Delivery
    from pipeline.report import RunReport

PLAN_SCHEMA = {
    "change": pl.String,
    "booking_id": pl.Int64,
    "field": pl.String,
    "old": pl.String,
    "new": pl.String,
}
CHANGES = ("new", "changed", "resent", "withdrawn", "held", "rejected")


@dataclass(frozen=True)
class Plan:
    """What a cycle would do now: ``changes`` for people, ``entries`` as they would be returned, and the report.

    ``changes`` has ``PLAN_SCHEMA``, in the order of ``CHANGES``. One row each for a booking that is ``new`` (field
    null), ``resent`` (unchanged, but not acknowledged), ``withdrawn``, ``held`` (a withdrawal that waits for a second
    cycle or for a cycle without a failed fetch) and ``rejected`` (``new`` holds the reasons); a ``changed`` booking
    has one row for each field, with its old and new value. Values are patients' data: for the eyes of who asks.
    """

    changes: pl.DataFrame = field(repr=False)
    entries: list[dict[str, Any]] = field(repr=False)
    report: RunReport


def plan_of(delivery: Delivery, report: RunReport) -> Plan:
    """Lay out what a cycle decided."""
    order = {change: place for place, change in enumerate(CHANGES)}
    rows: list[tuple[str, int | None, str | None, str | None, str | None]] = [
        (change, booking_id, None, None, None)
        for booking_id, change in delivery.kinds.items()
        if change in ("new", "resent")
    ]
    rows += [("changed", *row) for row in delivery.differences.iter_rows()]
    taken_off = [
        ("withdrawn", booking_id) for booking_id, change in delivery.kinds.items() if change == "withdrawn"
    ]
    held = [("held", booking_id) for booking_id in sorted(delivery.verdict.held)]
    rows += [
        (change, booking_id, STATUS_KEY, delivery.stood_as.get(booking_id), DISCONTINUED)
        for change, booking_id in taken_off + held
    ]
    rows += [("rejected", item.booking_id, None, None, "; ".join(item.reasons)) for item in delivery.rejected]
    rows.sort(key=lambda row: order[row[0]])
    return Plan(pl.DataFrame(rows, schema=PLAN_SCHEMA, orient="row"), delivery.entries, report)
