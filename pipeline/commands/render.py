"""Tables for the terminal. Imported inside a command, never at start: rich takes its time."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, time
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from pipeline.display import visible

if TYPE_CHECKING:
    import polars as pl

NO_TERMINAL_COLUMNS = 140

STATUS_STYLES = {
    "SCHEDULED": "green",
    "IN_PROGRESS": "cyan",
    "COMPLETED": "dim",
    "DISCONTINUED": "yellow",
}

HEADINGS = {
    "source_record_id": "booking",
    "scheduled_start_date": "date",
    "scheduled_start_time": "time",
    "scheduled_procedure_step_duration": "min",
    "modality": "modality",
    "patient_id": "patient id",
    "patient_name": "patient name",
    "study_description": "study",
    "performed_procedure_step_status": "status",
}


def entries_table(entries: Sequence[Mapping[str, Any]], *, zone: str) -> Table:
    """Worklist entries as a scanner's list shows them: one row an entry, times in ``zone`` as emitted."""
    table = Table(title=f"{len(entries)} worklist entries (times in {zone})", title_justify="left")
    present = [key for key in HEADINGS if any(key in entry for entry in entries)]
    for key in present:
        table.add_column(HEADINGS[key], no_wrap=key.startswith("scheduled"), overflow="fold")
    for entry in sorted(entries, key=_start):
        table.add_row(*(_cell(key, entry.get(key)) for key in present))
    return table


class Terminal(Console):
    """A console on which no text acts: control characters show as codes, and markup and emoji codes as they stand."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as rich does, with every text made harmless; styles are rich's own."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(visible(segment.text, keep="\n"), segment.style)


class HarmlessLines(logging.Formatter):
    """Log lines in which no value acts on the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Write the record as ``logging`` does, made harmless; a traceback keeps its lines."""
        return visible(super().format(record), keep="\n")


def terminal(*, err: bool = False) -> Terminal:
    """Return the console of standard output or standard error, wide enough for a table where it is no terminal."""
    console = Terminal(stderr=err, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = max(NO_TERMINAL_COLUMNS, console.width)
    return console


def plain(value: object, style: str = "") -> Text:
    """Return a value as one line of a table or a sentence, as wide as it is shown."""
    return Text(visible(str(value)), style=style)


def _start(entry: Mapping[str, Any]) -> tuple[date, time]:
    return entry["scheduled_start_date"], entry["scheduled_start_time"]


def _cell(key: str, value: Any) -> Text:
    if value is None:
        return Text("—", style="dim")
    if isinstance(value, time):
        return Text(value.strftime("%H:%M"))
    text = str(value)
    return plain(text, STATUS_STYLES.get(text, "") if key == "performed_procedure_step_status" else "")


CHANGE_STYLES = {
    "new": "green",
    "changed": "cyan",
    "resent": "blue",
    "withdrawn": "yellow",
    "held": "yellow",
    "rejected": "red",
}


def plan_table(changes: pl.DataFrame, entries: Sequence[Mapping[str, Any]] = ()) -> Table:
    """What a cycle would do: a row a booking, and for a changed one a row a field with its old and new value.

    ``entries`` are those of the plan: a new booking's row then says in short what would be on the list.
    """
    in_short = {int(entry["source_record_id"]): _in_short(entry) for entry in entries}
    title = (
        f"{changes['booking_id'].n_unique()} bookings would change"
        if len(changes)
        else "Nothing would change"
    )
    table = Table(title=title, title_justify="left")
    for heading in ("change", "booking", "field", "old", "new"):
        table.add_column(heading, overflow="fold")
    for change, booking_id, field, old, new in changes.iter_rows():
        if field is None and new is None:
            new = in_short.get(booking_id)
        cells = ("—" if value is None else str(value) for value in (booking_id, field, old, new))
        table.add_row(Text(change, style=CHANGE_STYLES.get(change, "")), *(plain(cell) for cell in cells))
    return table


def _in_short(entry: Mapping[str, Any]) -> str:
    keys = ("scheduled_start_date", "scheduled_start_time", "modality", "patient_id", "patient_name")
    return "  ".join(_cell(key, entry.get(key)).plain for key in keys)
