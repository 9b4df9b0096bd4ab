"""An audit in the terminal: sentences first, then one table a subject; what has nothing to say is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import polars as pl
from rich.console import RenderableType
from rich.text import Text

from pipeline.audit.model import SAID, findings, number, percent, verdict
from pipeline.commands.render import Cell, Records, plain
from pipeline.display import count

if TYPE_CHECKING:
    from pipeline.audit import Audit

_LINES = 15
_IDS = 6
_LEVELS = {"good": ("✓", "green"), "look": ("→", "yellow"), "bad": ("✗", "red")}
_PROSE = ("examples", "remedy", "shape", "meaning", "caught_by", "partly_by", "missed_by", "subject")
_SHARES = ("coverage", "accuracy", "share", "would_cover")

_TABLES: Sequence[tuple[str, str, Mapping[str, str]]] = (
    (
        "accuracy",
        "Against hand-checked entries",
        {"field": "field", "labelled": "checked", "correct": "right", "accuracy": "accuracy"},
    ),
    (
        "disagreements",
        "Disagreements",
        {
            "booking_id": "booking",
            "field": "field",
            "expected": "label says",
            "got": "worklist says",
            "kind": "difference",
        },
    ),
    (
        "fields",
        "Fields",
        {
            "target": "field",
            "source": "taken from",
            "matched": "matched",
            "fell_back": "fell back",
            "emptied": "left empty",
            "empty": "nothing there",
            "coverage": "coverage",
            "distinct": "values",
            "examples": "look like",
        },
    ),
    (
        "rejections",
        "Rejected bookings",
        {
            "reason": "reason",
            "bookings": "bookings",
            "alone": "alone",
            "remedy": "what to do",
            "booking_ids": "ids",
        },
    ),
    (
        "repairs",
        "Repaired fields",
        {
            "target": "field",
            "kind": "repair",
            "bookings": "bookings",
            "remedy": "what to do",
            "booking_ids": "ids",
        },
    ),
    (
        "co_occurrence",
        "Reasons together",
        {"reason": "reason", "with_reason": "with", "bookings": "bookings"},
    ),
    (
        "conventions",
        "Titles by form",
        {
            "shape": "commonest shape",
            "shapes": "shapes",
            "bookings": "bookings",
            "share": "share",
            "caught_by": "caught by",
            "partly_by": "partly by",
            "missed_by": "missed by",
        },
    ),
    ("proposals", "One pattern for more titles, as _extract of its field", {}),
    ("suggestions", "A pattern for each way of writing titles that is missed, as _extract of its field", {}),
    (
        "times",
        "Times",
        {"check": "check", "meaning": "meaning", "bookings": "bookings", "booking_ids": "ids"},
    ),
    (
        "zone_data",
        "Zone data",
        {"library": "library", "version": "release", "bookings": "bookings elsewhere", "hours": "hours off"},
    ),
    (
        "statuses",
        "Statuses",
        {
            "value": "in Calpendo",
            "mapped": "on the worklist",
            "cancelled": "marked cancelled",
            "bookings": "bookings",
            "known": "in the table",
        },
    ),
    (
        "resources",
        "Resources",
        {"value": "in Calpendo", "mapped": "modality", "bookings": "bookings", "known": "in the table"},
    ),
    (
        "duplicates",
        "Booked twice",
        {"subject": "subject", "start_utc": "start, UTC", "bookings": "bookings", "booking_ids": "ids"},
    ),
)


def renderables(audit: Audit) -> Iterator[RenderableType]:
    """Everything to print, in order."""
    first = verdict(audit)
    yield Text(first.text, style=f"bold {_LEVELS[first.level][1]}")
    for finding in findings(audit):
        mark, style = _LEVELS[finding.level]
        yield Text.assemble((f"  {mark} ", style), plain(finding.text))
    for warning in audit.warnings:
        yield Text.assemble(("  ! ", "yellow"), plain(warning))
    for name, title, headings in _TABLES:
        frame: pl.DataFrame = getattr(audit, name)
        if name in ("proposals", "suggestions"):
            yield from _rules(frame.filter(pl.col("pattern").is_not_null()), title)
        elif len(frame):
            yield ""
            yield _records(frame, title, headings)


def _rules(frame: pl.DataFrame, title: str) -> Iterator[RenderableType]:
    """Suggested rules: what each is for, the JSON to paste on a line of its own, and what it takes."""
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


def _records(frame: pl.DataFrame, title: str, headings: Mapping[str, str]) -> Records:
    left_out = len(frame) - _LINES
    return Records(
        headings,
        (
            {name: _cell(name, row[name]) for name in headings}
            for row in frame.head(_LINES).iter_rows(named=True)
        ),
        title=title,
        caption=f"{count(left_out)} more; all of them with --json or --html" if left_out > 0 else "",
        prose=_PROSE,
        right=[name for name in headings if frame[name].dtype.is_numeric() and name != "booking_id"],
    )


def _cell(name: str, value: object) -> Cell:
    if value is None:
        return None
    if isinstance(value, bool):
        if name == "cancelled":
            return "yes" if value else ""
        return "yes" if value else Text("no, defaulted", style="yellow")
    if name in _SHARES and isinstance(value, float):
        return Text(percent(value), style="" if name == "share" or value >= 1 else "yellow")
    if isinstance(value, list):
        # Lists are capped: how many there are in all stands in the column of bookings.
        return [str(item) for item in value[:_IDS]] + (["…"] if len(value) > _IDS else [])
    if isinstance(value, int) and name != "booking_id":
        return count(value)
    if name == "field":
        return SAID.get(str(value), str(value))
    text = f"{value:+g}" if isinstance(value, float) else str(value)
    return text if text.strip() else "(blank)"
