"""What is shown does nothing: text from bookings, servers and files made harmless for a terminal, a log, a spreadsheet.

A title is written by people, and can hold what a terminal obeys (escape sequences), what makes a line read differently
from what it is (bidirectional overrides, invisible marks), or what a spreadsheet computes.
"""

from __future__ import annotations

import json
import re
from typing import Final

_ACTING: Final = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # control characters, C1's one-byte escape sequences among them
    "\u00ad\u034f\u061c\u070f\u115f\u1160\u17b4\u17b5\u180b-\u180f"  # soft hyphen, joiners, fillers, Arabic mark
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f"  # invisible marks, line separators, bidirectional overrides and isolates
    "\u3164\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f"
    "]"
)
FORMULA: Final = r"^'*[=+\-@\t\r\n\x{ff0b}\x{ff0d}\x{ff1d}\x{ff20}]"
"""How a text begins that a spreadsheet takes for a formula, or one that is marked already; for polars."""
NUMBER: Final = r"^[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?$"
"""A number, which a spreadsheet reads as what it is; for polars."""

_MARKED: Final = re.compile(r"^'+[=+\-@\t\r\n\uff0b\uff0d\uff1d\uff20]")


def visible(text: str, *, keep: str = "") -> str:
    r"""Return ``text`` with every character that acts or hides written as its code, such as ``\u001b``.

    Applied to JSON (with ``keep="\n"``), the result is JSON of the same values.

    Args:
        text: any text, half surrogate pairs too.
        keep: characters that stay, such as the line breaks of a text of several lines.
    """
    if text.isascii() and text.isprintable():
        return text
    return _ACTING.sub(lambda found: found[0] if found[0] in keep else json.dumps(found[0])[1:-1], text)


def count(value: int) -> str:
    """Write a number with thin spaces between its thousands: ``12 345``."""
    return f"{value:,}".replace(",", "\u202f")


def unguarded(cell: str) -> str:
    """Return what a cell of CSV stood for before ``output`` marked it as text with an apostrophe."""
    return cell[1:] if _MARKED.match(cell) else cell
