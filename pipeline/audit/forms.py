"""Forms of titles: a shape with its runs shortened, cut into parts that a pattern can be built of.

``SUB001_John_Doe`` has the shape ``AAA999_Aaaa_Aaa``; names of other lengths have other shapes, but one form:
``A9_Aa_Aa``. The census counts shapes and groups them by form, so that a convention shows at a glance.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

_RUN = re.compile(r"A+a*|a+|9+|\s+|[^Aa9\s]")
_ASCII_LETTERS = "[A-Za-z]+"
_ANY_LETTERS = r"[^\W\d_]+"
_ANY_LETTERS_AND_MARKS = r"(?:[^\W\d_]|[\u0300-\u036f])+"
_LETTERS = "L"
_DIGITS = "9"
_SPACE = " "


@dataclass(frozen=True)
class Part:
    """One run of a form: ``kind`` is ``L`` (letters), ``9`` (digits), a blank, or the very character."""

    kind: str

    @property
    def is_word(self) -> bool:
        """Letters or digits; anything else separates."""
        return self.kind in (_LETTERS, _DIGITS)

    def regex(self, letters: str) -> str:
        """The part as Python's ``re`` reads it; ``letters`` is the pattern of a run of letters."""
        if self.kind == _LETTERS:
            return letters
        if self.kind == _DIGITS:
            return r"\d+"
        if self.kind == _SPACE:
            return r"\s+"
        return literal(self.kind)


def literal(character: str) -> str:
    """One character of a shape as ``re`` reads it; ``re.escape`` would escape harmless ones too, and hide the rest.

    In a shape ``?`` stands for any character that is not shown, ``…`` for all that was cut off.
    """
    if character in "?…":
        return "." if character == "?" else ".*"
    return f"\\{character}" if character in r".^$*+?{}[]\|()" else character


def form(shape: str) -> str:
    """Shorten every run of a shape to one character: ``AAA999_Aaaa_Aaa`` becomes ``A9_Aa_Aa``."""
    return re.sub(r"(A)A+|(a)a+|(9)9+", lambda match: match.group(0)[0], shape)


def parts(form_text: str) -> tuple[Part, ...]:
    """Cut a form into letters, digits, blanks and single other characters, in order."""
    found: list[Part] = []
    for run in _RUN.findall(form_text):
        if run[0] in "Aa":
            if found and found[-1].kind == _LETTERS:
                continue
            found.append(Part(_LETTERS))
        elif run[0] == "9":
            found.append(Part(_DIGITS))
        elif run.isspace():
            found.append(Part(_SPACE))
        else:
            found.append(Part(run))
    return tuple(found)


def separator_regex(between: tuple[Part, ...]) -> str:
    """Separators as a pattern: blanks around a mark may be there or not, blanks alone must be."""
    if len(between) > 1 and any(part.kind == _SPACE for part in between):
        return "".join(r"\s*" if part.kind == _SPACE else literal(part.kind) for part in between)
    return "".join(part.regex(_ASCII_LETTERS) for part in between)


def letters_in(titles: Iterable[str]) -> str:
    """The plainest pattern for a run of letters of these titles: ASCII, any script, or with combining marks."""
    text = "".join(titles)
    if text.isascii():
        return _ASCII_LETTERS
    marked = any(unicodedata.category(character).startswith("M") for character in set(text))
    return _ANY_LETTERS_AND_MARKS if marked else _ANY_LETTERS
