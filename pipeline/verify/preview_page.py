"""The preview as one page: for the control room, and for those who have to correct a title."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from pipeline.page import render, table
from pipeline.verify.preview import Preview, by_day, day_and_time, list_row, said

_ON = {
    "time": "time",
    "patient_id": "id",
    "patient_name": "name",
    "study": "study",
    "modality": "modality",
    "status": "status",
    "change": "next cycle",
    "booking_id": "booking",
}
_OFF = {
    "booking_id": "booking",
    "when": "when",
    "scanner": "scanner",
    "title": "title",
    "reason": "reason",
    "why": "why",
    "what_to_do": "what to do",
}
_FIX = {
    "booking_id": "booking",
    "when": "when",
    "title": "title",
    "booker": "booked by",
    "mail": "mail",
    "place": "on the list",
    "why": "what is wrong",
    "what_to_do": "what to change",
}
_CHANGES = {"booking_id": "booking", "change": "change", "field": "field", "old": "now", "new": "then"}


def render_preview(found: Preview) -> str:
    """Write the page: self-contained HTML, UTF-8, that loads nothing (``pipeline.page``)."""
    counts = found.counts
    off, fix = found.off_list, found.to_fix
    changes = [*_changes(found.frame)]
    return render(
        "pipeline.verify",
        "preview.html",
        found=found,
        is_revealed=found.is_revealed,
        sentences=said(found),
        counts=counts,
        changing=sum(counts[change] for change in ("new", "changed", "withdrawn")),
        level="look" if len(fix) or found.warnings else "good",
        days=[table(_ON, map(list_row, rows), caption=heading) for heading, rows in by_day(found)],
        fix=table(_FIX, _told(fix), caption="Bookings to be corrected", code=_CODE) if len(fix) else None,
        off=table(_OFF, _told(off), caption="Bookings that are not on the list", code=_CODE)
        if len(off)
        else None,
        changes=table(_CHANGES, changes, caption="Changes, field by field") if changes else None,
        new=found.frame.filter(change="new")["booking_id"].to_list(),
    )


_CODE = ("title", "reason")


def _told(frame: pl.DataFrame) -> Iterator[dict[str, object]]:
    for row in frame.iter_rows(named=True):
        yield {
            **row,
            "booking_id": row["booking_id"] or "no number",
            "when": day_and_time(row),
            "reason": ", ".join(row["reasons"]),
            "place": "yes" if row["on_list"] else "no",
        }


def _changes(frame: pl.DataFrame) -> Iterator[Mapping[str, Any]]:
    for row in frame.iter_rows(named=True):
        named = {"booking_id": row["booking_id"], "change": row["change"]}
        if row["differences"] and row["change"] == "changed":
            yield from ({**named, **difference} for difference in row["differences"])
        elif row["change"] in ("withdrawn", "held"):
            yield {**named, "old": f"{day_and_time(row)} {row['patient_id'] or ''}".strip()}
