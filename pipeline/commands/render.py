"""Records, sentences and log lines for the terminal. Imported inside a command, never at start: rich takes its time."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date, time
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from pipeline.display import visible
from pipeline.errors import PluginError

if TYPE_CHECKING:
    import polars as pl

NO_TERMINAL_COLUMNS = 140
"""The width of a pipe, where ``COLUMNS`` says nothing."""
_NARROWEST = 20
_SENTENCE = 64
_LAYOUTS = ((True, 16, 28), (False, 12, 28))
"""Tables to try before blocks: with lines between the columns or not, and how narrow a column of names may be, and one of
sentences (more than 64 characters): what is narrower is harder to read than a block."""
_HANGING = "  "
_DASH = "—"
_WORD = 12
_LONG_WORD = re.compile(r".{3,5}[_^/.,;:-]+ *|.{1,6} *", re.DOTALL)
"""Parts of a longer word: six characters, which are at most twelve cells, and what stands between the parts."""

Cell = str | int | float | Text | Sequence[str] | None
"""A value of a record; a sequence is a list of values, and a line may break between two of them."""

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


def entries_table(entries: Sequence[Mapping[str, Any]], *, zone: str) -> Records:
    """Return worklist entries as a scanner's list shows them: times in ``zone`` as emitted."""
    present = {key: heading for key, heading in HEADINGS.items() if any(key in entry for entry in entries)}
    return Records(
        present,
        ({key: _cell(key, entry.get(key)) for key in present} for entry in sorted(entries, key=_start)),
        title=f"{len(entries)} worklist entries (times in {zone})",
        prose=("patient_name", "study_description"),
        right=("scheduled_procedure_step_duration",),
    )


class Terminal(Console):
    """A console on which no text acts, and no word is broken.

    Control characters show as codes, markup and emoji codes as they stand. A sentence that is longer than a line goes on
    in the next one at a blank; a word that is longer than a line (an id, a path) stays whole.
    """

    wraps = True

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does, with texts broken between words only, and nothing cut at the right edge."""
        width = self.width if self.wraps and not options.get("soft_wrap") else None
        objects = tuple(
            _sentences(each, width) if isinstance(each, (str, Text)) else each for each in objects
        )
        super().print(*objects, **{"crop": False, "no_wrap": True, "overflow": "ignore", **options})

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

    def formatException(self, ei: Any) -> str:  # noqa: N802  logging's name
        """Leave out the traceback of this package's own errors: their text says what happened, and what to do."""
        return "" if isinstance(ei[1], PluginError) else super().formatException(ei)


def terminal(*, err: bool = False) -> Terminal:
    """Return the console of standard output or standard error.

    ``COLUMNS`` is its width where it is set, in a pipe too; else a terminal has its own width, and a pipe one that is wide
    enough for a table, with a line for each sentence.
    """
    console = Terminal(stderr=err, highlight=False, markup=False, emoji=False)
    asked = os.environ.get("COLUMNS", "")
    if re.fullmatch(r"0*[1-9][0-9]{0,3}", asked, re.ASCII):
        console.width = max(int(asked), _NARROWEST)
    elif not console.is_terminal:
        console.width = NO_TERMINAL_COLUMNS
        console.wraps = False
    return console


class Records:
    """Records as a table where it fits into the width with no value broken, else as blocks of ``key: value`` lines.

    Args:
        headings: each column's key in a row, and its heading.
        rows: the records. A value that is None shows as a dash in a table; a block leaves it out, and an empty text too.
        title: a line above.
        caption: a line below.
        prose: keys whose values are sentences or names, which may go on in a next line at a blank, and in a table within
            a very long word. Every other value (ids, statuses, reasons, times) stays in one piece, whatever the width.
        right: keys of numbers, aligned at the right.
    """

    def __init__(
        self,
        headings: Mapping[str, str],
        rows: Iterable[Mapping[str, Cell]],
        *,
        title: str = "",
        caption: str = "",
        prose: Collection[str] = (),
        right: Collection[str] = (),
    ) -> None:
        self._headings = headings
        self._rows = [[_pieces(row.get(key), key in prose) for key in headings] for row in rows]
        self._title, self._caption, self._right = title, caption, right
        self._prose = [key in prose for key in headings]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Render as the width allows."""
        if self._title:
            yield _sentences(Text(self._title, style="bold"), options.max_width)
        for lined, *readable in _LAYOUTS:
            widths = self._widths(options.max_width, lined, *readable)
            if widths is not None:
                yield self._table(widths, lined)
                break
        else:
            yield from self._blocks(options.max_width)
        if self._caption:
            yield _sentences(Text(self._caption, style="dim"), options.max_width)

    def fits(self, width: int) -> bool:
        """Return whether the records are a table at this width."""
        return any(self._widths(width, *layout) is not None for layout in _LAYOUTS)

    def _widths(self, width: int, lined: bool, name: int, sentence: int) -> list[int] | None:
        """Return each column's width, or None where the table would not fit."""
        titles = [_words(heading) for heading in self._headings.values()]
        columns = list(zip(*self._rows, strict=True)) or [()] * len(titles)
        least, most = [], []
        for heading, cells, prose in zip(titles, columns, self._prose, strict=True):
            natural = max([_width(heading), *(_width(pieces) for _, pieces in cells)])
            parts = [part for _, pieces in cells for part in (_short(pieces) if prose else pieces)]
            widest = max(_width([part]) for part in [*heading, *parts])
            readable = name if natural <= _SENTENCE else sentence
            least.append(max(widest, min(natural, readable)) if prose else widest)
            most.append(natural)
        left = width - sum(least) - (3 * len(titles) + 1 if lined else 2 * len(titles) - 2)
        if left < 0:
            return None
        # What is left goes to the columns that need the least to be whole.
        for place in sorted(range(len(titles)), key=lambda place: most[place] - least[place]):
            more = min(left, most[place] - least[place])
            least[place] += more
            left -= more
        return least

    def _table(self, widths: Sequence[int], lined: bool) -> Table:
        if lined:
            table = Table()
        else:
            table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold underline")
        for (key, heading), width in zip(self._headings.items(), widths, strict=True):
            table.add_column(
                _broken(Text(heading), _words(heading), width),
                width=width,
                justify="right" if key in self._right else "left",
            )
        for row in self._rows:
            cells = zip(row, widths, self._prose, strict=True)
            table.add_row(
                *(
                    _broken(text, pieces if not prose or _fits(pieces, width) else _short(pieces), width)
                    for (text, pieces), width, prose in cells
                )
            )
        return table

    def _blocks(self, width: int) -> Iterator[Text]:
        for number, row in enumerate(self._rows):
            if number:
                yield Text("")
            for heading, (text, pieces) in zip(self._headings.values(), row, strict=True):
                if text.plain and text.plain != _DASH:
                    line = Text.assemble((f"{heading}: ", "dim"), text)
                    yield _kept(_broken(line, [f"{heading}: ", *pieces], width, _HANGING))


def _pieces(value: Cell, prose: bool) -> tuple[Text, list[str]]:
    """Return a cell's text, and the pieces in which it stays whole."""
    if value is None:
        return Text(_DASH, style="dim"), [_DASH]
    if isinstance(value, (list, tuple)):
        items = [visible(str(item)) for item in value]
        pieces = [f"{item}, " for item in items[:-1]] + items[-1:]
        return Text("".join(pieces)), pieces
    text = value if isinstance(value, Text) else plain(value)
    return text, _words(text.plain) if prose else [text.plain]


def _words(line: str) -> list[str]:
    """Split a line between words; blanks stay at the word before them, and those at the beginning at the first."""
    return re.findall(r" *[^ ]+ *", line)


def _short(words: Iterable[str]) -> list[str]:
    """Split words that are too long for a narrow column: where a name has a mark, else anywhere."""
    return [
        part for word in words for part in ([word] if _width([word]) <= _WORD else _LONG_WORD.findall(word))
    ]


def _fits(pieces: Iterable[str], width: int) -> bool:
    return all(_width([piece]) <= width for piece in pieces)


def _width(pieces: Sequence[str]) -> int:
    return cell_len("".join(pieces).rstrip(" "))


def _broken(text: Text, pieces: Iterable[str], width: int, hanging: str = "") -> Text:
    """Break a text between pieces only, into lines of ``width`` cells where its pieces are no longer than that."""
    offsets, place, used = [], 0, 0
    for piece in pieces:
        if used and used + _width([piece]) > width:
            offsets.append(place)
            used = cell_len(hanging)
        used += cell_len(piece)
        place += len(piece)
    lines = text.divide(offsets)
    for line in lines:
        line.rstrip()
    return Text("\n" + hanging).join(lines)


def _kept(text: Text) -> Text:
    """Return a text whose lines stay as they are, however long."""
    text.no_wrap, text.overflow = True, "ignore"
    return text


def _sentences(text: str | Text, width: int | None) -> Text:
    """Break each line of a text between words, indenting what goes on by two more; None: leave the lines as they are."""
    whole = text if isinstance(text, Text) else Text(visible(text, keep="\n"))
    if width is None:
        return _kept(whole.copy())
    lines = []
    for line in whole.split("\n", allow_blank=True):
        margin = re.match(" *", line.plain)
        hanging = (margin[0] if margin else "") + _HANGING
        lines.append(_broken(line, _words(line.plain), width, hanging if len(hanging) < width // 2 else ""))
    return _kept(Text("\n").join(lines))


def plain(value: object, style: str = "") -> Text:
    """Return a value as one line of a table or a sentence, as wide as it is shown."""
    return Text(visible(str(value)), style=style)


def _start(entry: Mapping[str, Any]) -> tuple[date, time]:
    return entry["scheduled_start_date"], entry["scheduled_start_time"]


def _cell(key: str, value: Any) -> Text | None:
    if value is None:
        return None
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


def plan_table(changes: pl.DataFrame, entries: Sequence[Mapping[str, Any]] = ()) -> Records:
    """Return what a cycle would do: a record per booking, and for a changed one a record per field, old and new.

    ``entries`` are those of the plan: a new booking's record then says in short what would be on the list.
    """
    in_short = {int(entry["source_record_id"]): _in_short(entry) for entry in entries}
    title = (
        f"{changes['booking_id'].n_unique()} bookings would change"
        if len(changes)
        else "Nothing would change"
    )
    return Records(
        {"change": "change", "booking": "booking", "field": "field", "old": "old", "new": "new"},
        (
            {
                "change": Text(change, style=CHANGE_STYLES.get(change, "")),
                "booking": None if booking_id is None else str(booking_id),
                "field": field,
                "old": old,
                "new": in_short.get(booking_id) if field is None and new is None else new,
            }
            for change, booking_id, field, old, new in changes.iter_rows()
        ),
        title=title,
    )


def _in_short(entry: Mapping[str, Any]) -> list[str]:
    keys = ("scheduled_start_date", "scheduled_start_time", "modality", "patient_id", "patient_name")
    return [cell.plain if (cell := _cell(key, entry.get(key))) else "—" for key in keys]
