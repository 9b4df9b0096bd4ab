"""Who set the status of a worklist row: Calpendo, through this plugin, or the scanner, by MPPS.

Pylantir keeps one status a row. A sync that writes Calpendo's word over it sets a running scan back to SCHEDULED; one
that never does cannot bring a cancelled booking back that was approved again. So what this plugin left in a row is
remembered, and what differs from it is the scanner's.
"""

from __future__ import annotations

from dataclasses import dataclass

SCHEDULED = "SCHEDULED"
IN_PROGRESS = "IN_PROGRESS"
COMPLETED = "COMPLETED"
DISCONTINUED = "DISCONTINUED"


@dataclass(frozen=True)
class Step:
    """What is known of a row: the status as this plugin last left it, and whether the scanner had set that."""

    status: str
    by_scanner: bool = False


def settle(
    wanted: str,
    stored: str | None,
    known: Step | None,
    *,
    underway: str | None = None,
    rescheduled: bool = False,
) -> Step:
    """Decide the status of a row that is about to be written.

    ``wanted`` is Calpendo's word, ``stored`` the row's status (None: no row yet), ``known`` what this plugin last left
    there, ``underway`` a status it may have written without learning whether the host kept it. ``rescheduled``:
    the booking has a new start, and that lies ahead.

    A row that this plugin left as it is takes Calpendo's word. What the scanner set stays, with three exceptions: a
    booking that Calpendo calls completed is completed; a step that was broken off and has a new time is a new
    appointment; and a row that was off the list (cancelled, or completed before) cannot have been begun from it: what
    MPPS did to it was meant for another row of the same subject, and Pylantir takes the first.
    """
    if stored is None or stored in ("", SCHEDULED):
        return Step(wanted)
    if known == Step(COMPLETED, by_scanner=True) and stored == IN_PROGRESS:
        return Step(COMPLETED, by_scanner=True)
    if known is None or not known.by_scanner:
        left = known.status if known else None
        if stored in (left, underway):
            return Step(wanted)
        if wanted == DISCONTINUED == left:
            return Step(DISCONTINUED)
    if stored == DISCONTINUED and wanted in (SCHEDULED, IN_PROGRESS) and rescheduled:
        return Step(wanted)
    if wanted == COMPLETED:
        return Step(COMPLETED, by_scanner=True)
    return Step(stored, by_scanner=True)
