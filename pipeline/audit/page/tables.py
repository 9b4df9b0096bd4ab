"""The audit's tables, set by great-tables: one function a frame, words instead of column names."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl

from pipeline.audit.model import SAID, Audit, number, percent
from pipeline.audit.page.picture import FONT, INK, LINE, MUTED
from pipeline.display import count, visible

if TYPE_CHECKING:
    from great_tables import GT

_MONO = "ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_STYLE = re.compile(r"<style>.*?</style>", re.DOTALL)
_CELL = re.compile(r"(<td [^>]*data-label=[^>]*>)(.*?)</td>", re.DOTALL)
_ROLES = {"table": "table", "thead": "rowgroup", "tbody": "rowgroup", "tr": "row", "th": "columnheader"}
_SHOWN = 40
_SHOWN_OF = {"disagreements": 200, "conventions": 15, "suggestions": 12, "statuses": 20, "resources": 20}
_IDS = 8
_EXAMPLES = 3
_LONGEST = 44
_NONE = "–"
_YES_NO = {"known": ("no, defaulted", "yes"), "cancelled": ("", "yes")}


@dataclass(frozen=True)
class Columns:
    """How a frame's columns are shown, in order: heading, and which are numbers, shares, code, or long text."""

    headings: Mapping[str, str]
    numbers: Sequence[str] = ()
    shares: Sequence[str] = ()
    code: Sequence[str] = ()
    wide: Sequence[str] = ()


_TABLES: dict[str, Columns] = {
    "fields": Columns(
        {"target": "field", "source": "taken from", "matched": "matched", "fell_back": "fell back",
         "emptied": "left empty", "empty": "nothing there", "coverage": "coverage", "distinct": "different values",
         "examples": "what the values look like"},
        numbers=("matched", "fell_back", "emptied", "empty", "distinct"),
        shares=("coverage",), code=("examples",), wide=("examples",),
    ),
    "accuracy": Columns(
        {"field": "field", "labelled": "hand-checked", "correct": "right", "accuracy": "accuracy"},
        numbers=("labelled", "correct"), shares=("accuracy",),
    ),
    "disagreements": Columns(
        {"booking_id": "booking", "field": "field", "expected": "label says", "got": "worklist says",
         "kind": "difference"},
        code=("expected", "got"),
    ),
    "rejections": Columns(
        {"reason": "reason", "meaning": "what it means", "remedy": "what to do", "bookings": "bookings", "alone": "alone",
         "booking_ids": "bookings, first ones"},
        numbers=("bookings", "alone"), code=("reason",),
    ),
    "co_occurrence": Columns(
        {"reason": "reason", "with_reason": "together with", "bookings": "bookings"}, numbers=("bookings",),
    ),
    "repairs": Columns(
        {"target": "field", "kind": "repair", "meaning": "what it means", "remedy": "what to do", "bookings": "bookings",
         "booking_ids": "bookings, first ones"},
        numbers=("bookings",), code=("target",),
    ),
    "conventions": Columns(
        {"source": "text", "shape": "form (its commonest shape)", "shapes": "shapes", "bookings": "bookings",
         "share": "share", "caught_by": "caught by", "partly_by": "partly by",
         "missed_by": "missed by"},
        numbers=("shapes", "bookings"), shares=("share",), code=("shape",),
    ),
    "suggestions": Columns(
        {"target": "field", "shape": "for titles like", "bookings": "bookings", "extract": "suggested _extract",
         "samples": "takes", "checked": "titles tried"},
        numbers=("bookings", "checked"), code=("shape", "extract", "samples"), wide=("samples",),
    ),
    "proposals": Columns(
        {"target": "field", "current": "pattern today", "coverage": "coverage", "extract": "one _extract for more",
         "samples": "takes", "would_cover": "coverage then"},
        shares=("coverage", "would_cover"), code=("current", "extract", "samples"), wide=("samples",),
    ),
    "times": Columns(
        {"check": "check", "meaning": "what it means", "bookings": "bookings", "share": "share",
         "booking_ids": "bookings, first ones"},
        numbers=("bookings",), shares=("share",), wide=("meaning", "booking_ids"),
    ),
    "doubtful": Columns(
        {"booking_id": "booking", "check": "check", "wall_start": "start, site clock", "wall_end": "end, site clock",
         "start_utc": "start, UTC"},
    ),
    "zone_data": Columns(
        {"library": "zone data of", "version": "release", "bookings": "bookings elsewhere", "share": "share",
         "hours": "hours off", "first_wall": "first one, site clock"},
        numbers=("bookings",), shares=("share",), wide=("version",),
    ),
    "statuses": Columns(
        {"value": "status in Calpendo", "mapped": "on the worklist", "cancelled": "marked cancelled",
         "bookings": "bookings", "known": "in the table"},
        numbers=("bookings",),
    ),
    "resources": Columns(
        {"value": "resource in Calpendo", "mapped": "modality", "bookings": "bookings", "known": "in the table"},
        numbers=("bookings",),
    ),
    "clock_changes": Columns(
        {"library": "zone data of", "wall_before": "clock before", "wall_after": "clock after",
         "change_utc": "at, in UTC", "offset_before": "hours before", "offset_after": "hours after"},
        numbers=("offset_before", "offset_after"),
    ),
    "zone_comparison": Columns(
        {"wall_start": "site clock", "pytz": "UTC by pytz", "polars": "UTC by polars", "system": "UTC by the system"},
    ),
    "coverage_change": Columns(
        {"target": "field", "before": "coverage before", "after": "coverage after", "gained": "bookings gained"},
        numbers=("gained",), shares=("before", "after"),
    ),
    "duplicates": Columns(
        {"subject": "subject", "start_utc": "start, UTC", "bookings": "bookings", "booking_ids": "booking ids",
         "resources": "resources"},
        numbers=("bookings",), code=("subject",),
    ),
}  # fmt: skip


def tables(audit: Audit) -> dict[str, str]:
    """Every table that has rows, as HTML by the frame's name; numbers are written out, shapes set as code."""
    return {
        name: _labelled(name, _great_table(name, getattr(audit, name)).as_raw_html())
        for name in (item.name for item in fields(Audit))
        if name in _TABLES and len(getattr(audit, name))
    }


def _labelled(name: str, table: str) -> str:
    """Let each cell say its heading, and each part what it is: where the page is narrow, the table becomes blocks."""
    headings = _TABLES[name].headings
    for column, heading in headings.items():
        place = f'headers="table-{name}-{column}"'
        table = table.replace(place, f'role="cell" data-label="{html.escape(heading)}" {place}')
    for tag, role in _ROLES.items():
        table = re.sub(rf"<{tag}(?=[ >])", f'<{tag} role="{role}"', table)
    return _CELL.sub(r"\1<span>\2</span></td>", table)


@dataclass(frozen=True)
class Shown:
    """A table that shows itself in a notebook, in a few lines of HTML instead of a page's worth of style."""

    html: str

    def _repr_html_(self) -> str:
        return self.html


def table(name: str, frame: pl.DataFrame) -> Shown:
    """Set a frame, or some lines of it, as the page sets the frame of that name, for a notebook."""
    whole = _great_table(name, frame).as_raw_html()
    style = f"#table-{name} td, #table-{name} th {{ text-align: left }} #table-{name} .gt_right {{ text-align: right; white-space: nowrap }}"
    return Shown(_STYLE.sub(f"<style>{style}</style>", whole, count=1))


def _great_table(name: str, frame: pl.DataFrame) -> GT:
    from great_tables import GT, loc, style

    columns = _TABLES[name]

    kept = [column for column in columns.headings if not _says_nothing(frame, column)]
    most = _SHOWN_OF.get(name, _SHOWN)
    shown = frame.head(most)
    made = GT(shown.select(_text(shown, column, columns) for column in kept), id=f"table-{name}")
    # Older releases put text into the page as it is.
    made = made.fmt(html.escape, columns=kept)
    made = made.cols_label({column: columns.headings[column] for column in kept})
    right = [column for column in kept if column in (*columns.numbers, *columns.shares, "hours")]
    if right:
        made = made.cols_align("right", columns=right)
    left = [column for column in kept if column not in right]
    made = made.cols_align("left", columns=left)
    code = [column for column in kept if column in columns.code]
    if code:
        made = made.tab_style(style.text(font=_MONO, size="12.5px"), loc.body(columns=code))
    for column in (column for column in kept if column in ("coverage", "accuracy")):
        short = [row for row, value in enumerate(shown[column]) if value is not None and value < 1]
        if short:
            made = made.tab_style(
                style.text(color="#8a5a00", weight="bold"), loc.body(columns=column, rows=short)
            )
    if len(frame) > most:
        more = number(len(frame) - most, "more line", plural="more lines")
        made = made.tab_source_note(f"{more}; all of them with --json.")
    return _dressed(made)


def _dressed(table: GT) -> GT:
    return table.tab_options(
        table_font_names=[FONT],
        table_font_size="14px",
        table_font_color=INK,
        table_width="100%",
        table_border_top_style="none",
        table_border_bottom_style="none",
        table_body_border_top_style="none",
        table_body_border_bottom_color=LINE,
        table_body_hlines_color=LINE,
        column_labels_border_top_style="none",
        column_labels_border_bottom_color=MUTED,
        column_labels_border_bottom_width="1px",
        column_labels_font_size="12px",
        column_labels_font_weight="bold",
        data_row_padding="6px",
        data_row_padding_horizontal="9px",
        column_labels_padding_horizontal="9px",
        source_notes_font_size="12px",
    )


def _says_nothing(frame: pl.DataFrame, column: str) -> bool:
    """Leave out a column that holds one and the same nothing: every text from the title, nothing emptied."""
    if column == "source" and "shape" in frame.columns:
        return frame["source"].n_unique() == 1
    if column == "partly_by":
        return bool((frame[column].list.len() == 0).all())
    return column in ("emptied", "share", "cancelled") and bool(frame[column].fill_null(0).sum() == 0)


def _text(frame: pl.DataFrame, column: str, columns: Columns) -> pl.Series:
    return pl.Series(
        column, [visible(_cell(value, column, columns)) for value in frame[column].to_list()], dtype=pl.String
    )


def _cell(value: object, column: str, columns: Columns) -> str:
    if value is None:
        return _NONE
    if column in columns.shares and isinstance(value, float):
        return percent(value)
    if isinstance(value, bool):
        return _YES_NO[column][value]
    if isinstance(value, list):
        most = {"booking_ids": _IDS, "examples": _EXAMPLES}.get(column, len(value))
        if column == "samples":
            return "; ".join(map(str, value)) or _NONE
        # Lists are capped: how many there are in all stands in the column of bookings.
        more = ", …" if column == "booking_ids" and len(value) > most else ""
        return (", ".join(_short(str(item)) for item in value[:most]) or _NONE) + more
    if column in columns.numbers and isinstance(value, int):
        return count(value)
    if column == "hours" and isinstance(value, float):
        return f"{value:+g}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if column.startswith("offset_") and isinstance(value, float):
        return f"{value:+g}"
    if column == "field":
        return SAID.get(str(value), str(value))
    text = _short(str(value)) if column in ("shape", "expected", "got") else str(value)
    return text if text.strip() else "(blank)"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
