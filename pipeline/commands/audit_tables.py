"""An audit in the terminal: sentences first, then one table per subject; what has nothing to say is left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import polars as pl
from rich.console import RenderableType
from rich.text import Text

from pipeline.audit.findings import SHARES, findings, headings, in_words, number, percent, verdict
from pipeline.commands.render import Cell, Records, plain
from pipeline.display import count

if TYPE_CHECKING:
    from pipeline.audit import Audit

_LINES = 15
_IDS = 6
_LEVELS = {"good": ("✓", "green"), "look": ("→", "yellow"), "bad": ("✗", "red")}
_PROSE = ("examples", "remedy", "shape", "meaning", "caught_by", "partly_by", "missed_by", "subject")
_SHORT = {
    "booking_ids": "ids",
    "distinct": "values",
    "examples": "look like",
    "labelled": "checked",
    "library": "library",
    "meaning": "meaning",
    "shape": "commonest shape",
    "value": "in Calpendo",
    "with_reason": "with",
}
"""Headings that are shorter here than on the page."""

_TABLES = {
    "accuracy": ("Against hand-checked entries", "field labelled correct accuracy"),
    "disagreements": ("Disagreements", "booking_id field expected got kind"),
    "fields": ("Fields", "target source matched fell_back emptied empty coverage distinct examples"),
    "rejections": ("Rejected bookings", "reason bookings alone remedy booking_ids"),
    "repairs": ("Repaired fields", "target kind bookings remedy booking_ids"),
    "co_occurrence": ("Reasons together", "reason with_reason bookings"),
    "conventions": ("Titles by form", "shape shapes bookings share caught_by partly_by missed_by"),
    "proposals": ("One pattern for more titles, as _extract of its field", ""),
    "suggestions": ("A pattern for each way of writing titles that is missed, as _extract of its field", ""),
    "times": ("Times", "check meaning bookings booking_ids"),
    "zone_data": ("Zone data", "library version bookings hours"),
    "statuses": ("Statuses", "value mapped cancelled bookings known"),
    "resources": ("Resources", "value mapped bookings known"),
    "duplicates": ("Booked twice", "subject start_utc bookings booking_ids"),
}
"""Each table's title and columns, by the frame's name, in order."""


def renderables(audit: Audit) -> Iterator[RenderableType]:
    """Yield everything to print, in order."""
    first = verdict(audit)
    yield Text(first.text, style=f"bold {_LEVELS[first.level][1]}")
    for finding in findings(audit):
        mark, style = _LEVELS[finding.level]
        yield Text.assemble((f"  {mark} ", style), plain(finding.text))
    for warning in audit.warnings:
        yield Text.assemble(("  ! ", "yellow"), plain(warning))
    for name, (title, columns) in _TABLES.items():
        frame = audit.frames()[name]
        if name in ("proposals", "suggestions"):
            yield from _rules(frame.filter(pl.col("pattern").is_not_null()), title)
        elif len(frame):
            yield ""
            yield _records(frame, title, headings(name, columns, _SHORT))


def _rules(frame: pl.DataFrame, title: str) -> Iterator[RenderableType]:
    """Yield suggested rules: what each is for, the JSON to paste on a line of its own, and what it takes."""
    if len(frame):
        yield ""
        yield Text(title, style="bold")
    for row in frame.head(_LINES).iter_rows(named=True):
        if "would_cover" in row:
            said = f"coverage {percent(row['coverage'])} now, {percent(row['would_cover'])} then"
        else:
            said = f"{number(row['bookings'], 'booking')} like {row['shape']}"
        yield Text.assemble((f"  {row['target']}", "bold"), f": {said}")
        yield Text(row["extract"], style="cyan", no_wrap=True)
        for sample in row["samples"]:
            yield plain(f"    {sample}", "dim")
    if len(frame) > _LINES:
        yield Text(f"  {count(len(frame) - _LINES)} more; all of them with --json or --html", style="dim")


def _records(frame: pl.DataFrame, title: str, shown: dict[str, str]) -> Records:
    left_out = len(frame) - _LINES
    return Records(
        shown,
        (
            {name: _cell(name, row[name]) for name in shown}
            for row in frame.head(_LINES).iter_rows(named=True)
        ),
        title=title,
        caption=f"{count(left_out)} more; all of them with --json or --html" if left_out > 0 else "",
        prose=_PROSE,
        right=[name for name in shown if frame[name].dtype.is_numeric() and name != "booking_id"],
    )


def _cell(name: str, value: object) -> Cell:
    if value is None:
        return None
    if isinstance(value, list):
        # Lists are capped: how many there are in all stands in the column of bookings.
        return [str(item) for item in value[:_IDS]] + (["…"] if len(value) > _IDS else [])
    is_short = isinstance(value, float) and name in SHARES and name != "share" and value < 1
    to_look_at = is_short or (name == "known" and not value)
    return Text(in_words(name, value), style="yellow") if to_look_at else in_words(name, value)
