"""Python patterns -> the Rust engine's, only where both provably give the same answer (T011).

The pattern is parsed by Python's own parser and written out anew from the parse tree, so that no piece of Python
syntax ever reaches the Rust engine to mean something else there. What is written is kept to what both define alike:

- Constructs with one preference order in both engines: literals, classes, anchors, alternatives, groups, greedy and
  lazy repeats of something that is never empty. Only the groups asked for are captured, and only where they take part
  in every match.
- Classes are written as ranges of code points. ``\\w``, ``\\d`` and ``\\s`` differ outside ASCII from one version of Unicode to
  the next: there they are written as this Python has them, and the pattern is only used for values of characters that
  were looked at. ``\\b`` and a match without case, where it is asked for, cannot be written so: such a pattern is only used
  for values of printable ASCII, and Python's own engine is asked which of these an item matches. A pattern without any
  of them is used for all values without a line break, where ``$`` has no special case.

Everything else (look-around, back-references, possessive and atomic groups, optional groups) is not translated and left
to ``re``, and so is a user's pattern that ignores case.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from enum import Enum
from functools import cache, lru_cache
from re import _constants as sre  # type: ignore[attr-defined]  # no public name for Python's parse tree
from re import _parser  # type: ignore[attr-defined]
from typing import Any, Final, NamedTuple

import polars as pl

from pipeline.pattern_cost import characters

Ranges = list[tuple[int, int]]

_HARMLESS_FLAGS = re.UNICODE | re.ASCII | re.VERBOSE | re.DOTALL | re.MULTILINE | re.DEBUG
_PRINTABLE = (0x20, 0x7E)
_ALL: Final[Ranges] = [(0, 0xD7FF), (0xE000, 0x10FFFF)]
"""Every code point a text column can hold: no half surrogate pairs."""
_LINE_BREAK: Final[Ranges] = [(0x0A, 0x0A)]
_ASCII_CATEGORIES: Final[dict[Any, Ranges]] = {
    sre.CATEGORY_DIGIT: [(0x30, 0x39)],
    sre.CATEGORY_SPACE: [(0x20, 0x20)],
    sre.CATEGORY_WORD: [(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)],
}
"""What is printable and ASCII of each category."""
_BEYOND_ASCII: Final[Ranges] = [(0x80, 0xD7FF), (0xE000, 0x1FFFF)]
"""Where Python is asked, one code point after the other, which are of a category: all scripts but rare Han signs."""
_SYNTAX = {sre.CATEGORY_DIGIT: r"\d", sre.CATEGORY_SPACE: r"\s", sre.CATEGORY_WORD: r"\w"}
_NEGATED = {
    sre.CATEGORY_NOT_DIGIT: sre.CATEGORY_DIGIT,
    sre.CATEGORY_NOT_SPACE: sre.CATEGORY_SPACE,
    sre.CATEGORY_NOT_WORD: sre.CATEGORY_WORD,
}
_ANCHORS = {
    sre.AT_BEGINNING: r"\A",
    sre.AT_BEGINNING_STRING: r"\A",
    sre.AT_END: r"\z",
    sre.AT_END_STRING: r"\z",
    sre.AT_BOUNDARY: r"\b",
    sre.AT_NON_BOUNDARY: r"(?u:\B)",
}
_BOUNDARIES = (sre.AT_BOUNDARY, sre.AT_NON_BOUNDARY)
_REPEATS = (sre.MAX_REPEAT, sre.MIN_REPEAT)
_MAX_REPEAT = 1000


class Scope(Enum):
    """The values that a translation may be used for, as the pattern of what must not stand in them."""

    ONE_LINE = r"\n"
    LOOKED_AT = r"[^\x{20}-\x{7e}\x{80}-\x{1ffff}]"
    PRINTABLE_ASCII = r"[^\x{20}-\x{7e}]"


class Translation(NamedTuple):
    """A Rust pattern whose groups are the wanted ones, from 1 on, and the values it may be used for."""

    pattern: str
    scope: Scope

    def excluded(self, values: pl.Series) -> pl.Series:
        """Tell which values must go through ``re`` (Boolean, false for null)."""
        return values.str.contains(self.scope.value).fill_null(value=False)


class _Untranslatable(Exception):  # noqa: N818  never leaves this module
    """A construct for which agreement is not proved."""


class _Category(_Untranslatable):
    """A construct that differs, or may differ, outside of the scope."""


@lru_cache(maxsize=256)
def translate(pattern: str, *groups: int, anywhere: bool = False) -> Translation | None:
    """Return a Rust pattern whose groups are what ``re.match(pattern, value)`` has in these ones, or None.

    ``groups`` ascend; the first of them is group 1 of the Rust pattern, and so on. No match there is no match here, for
    every non-empty value that is not excluded. ``pattern`` must compile. ``anywhere``: found where
    ``re.search`` finds it, and it may ignore case.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = _parser.parse(pattern)
        except RecursionError:
            return None
    allowed = _HARMLESS_FLAGS | re.IGNORECASE if anywhere else _HARMLESS_FLAGS
    if tree.state.flags & ~allowed:
        return None
    for scope in Scope:
        if tree.state.flags & re.ASCII and scope is Scope.LOOKED_AT:
            continue
        try:
            writer = _Writer(groups, scope, tree.state.flags, allowed)
            body = writer.whole(list(tree), anywhere=anywhere)
        except _Category:
            continue
        except (_Untranslatable, RecursionError):
            return None
        if _compiles(body):
            return Translation(body, scope)
    return None


def _compiles(pattern: str) -> bool:
    try:
        pl.Series([""]).str.extract(pattern, 1)
    except pl.exceptions.ComputeError:  # too large for the engine
        return False
    return True


@cache
def _category(category: Any, scope: Scope) -> Ranges:
    """Return the code points of a category, as far as the scope goes."""
    ranges = _ASCII_CATEGORIES[category]
    if scope is Scope.PRINTABLE_ASCII:
        return ranges
    pattern = re.compile(_SYNTAX[category] + "+")
    for first, last in _BEYOND_ASCII:
        text = "".join(map(chr, range(first, last + 1)))
        ranges = ranges + [
            (first + found.start(), first + found.end() - 1) for found in pattern.finditer(text)
        ]
    return ranges


_BOUNDS: Final[dict[Scope, Ranges]] = {
    Scope.ONE_LINE: _ALL,
    Scope.LOOKED_AT: [_PRINTABLE, *_BEYOND_ASCII],
    Scope.PRINTABLE_ASCII: [_PRINTABLE],
}
"""What can stand in a value of each scope."""


class _Writer:
    """Writes a parse tree in Rust's syntax."""

    def __init__(self, groups: tuple[int, ...], scope: Scope, flags: int, allowed: int) -> None:
        self.groups = groups
        self.scope = scope
        self.flags = flags
        self.allowed = allowed

    def whole(self, items: list[tuple[Any, Any]], *, anywhere: bool) -> str:
        """Write the whole pattern, anchored at the start unless it may be found anywhere."""
        body = self._sequence(items, always=True)
        start = "(?-u)" if self.scope is Scope.PRINTABLE_ASCII else ""
        start += "" if anywhere else r"\A"
        if 0 in self.groups:
            return f"{start}({body})"
        while items and items[-1][0] in _REPEATS and items[-1][1][0] == 0:
            items.pop()  # A tail that may be empty decides nothing before it; ``.*`` there costs half of the time.
        return f"{start}(?:{self._sequence(items, always=True)})"

    def _sequence(self, items: Iterable[tuple[Any, Any]], *, always: bool) -> str:
        """Write items one after another; ``always`` says that this part takes part in every match."""
        return "".join(self._item(kind, argument, always=always) for kind, argument in items)

    def _item(self, kind: Any, argument: Any, *, always: bool) -> str:
        if kind in (sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN):
            return self._class(self._characters(kind, argument))
        if kind is sre.AT and argument in _ANCHORS:
            if argument in _BOUNDARIES and self.scope is not Scope.PRINTABLE_ASCII:
                raise _Category
            return _ANCHORS[argument]
        if kind is sre.SUBPATTERN:
            return self._subpattern(*argument, always=always)
        if kind is sre.BRANCH:
            return "(?:" + "|".join(self._sequence(branch, always=False) for branch in argument[1]) + ")"
        if kind in _REPEATS:
            return self._repeat(*argument, lazy=kind is sre.MIN_REPEAT)
        raise _Untranslatable

    def _subpattern(self, number: int | None, added: int, removed: int, items: Any, *, always: bool) -> str:
        if (added | removed) & ~self.allowed:
            raise _Untranslatable
        if added & re.ASCII and self.scope is Scope.LOOKED_AT:
            raise _Category
        wanted = number in self.groups
        if wanted and not always:
            raise _Untranslatable
        outside, self.flags = self.flags, (self.flags | added) & ~removed
        inside = self._sequence(items, always=always)
        self.flags = outside
        return f"({'' if wanted else '?:'}{inside})"

    def _repeat(self, least: int, most: int, items: Any, *, lazy: bool) -> str:
        unbounded = most is sre.MAXREPEAT
        if items.getwidth()[0] == 0 or least > _MAX_REPEAT or (most > _MAX_REPEAT and not unbounded):
            raise _Untranslatable
        upper = "" if unbounded else most
        return f"(?:{self._sequence(items, always=False)}){{{least},{upper}}}{'?' if lazy else ''}"

    def _characters(self, kind: Any, argument: Any) -> Ranges:
        """Return which code points a one-character item matches."""
        if kind is sre.ANY:
            return _without(_LINE_BREAK)
        if self.flags & re.IGNORECASE:
            if self.scope is not Scope.PRINTABLE_ASCII:
                raise _Category
            ascii_set = characters(kind, argument, self.flags)
            return [
                (point, point) for point in range(_PRINTABLE[0], _PRINTABLE[1] + 1) if ascii_set >> point & 1
            ]
        if kind is sre.LITERAL:
            return [(argument, argument)]
        if kind is sre.NOT_LITERAL:
            return _without([(argument, argument)])
        negated = bool(argument) and argument[0][0] is sre.NEGATE
        found = [span for member in argument[negated:] for span in self._member(*member)]
        return _without(found) if negated else found

    def _member(self, kind: Any, argument: Any) -> Ranges:
        if kind is sre.LITERAL:
            return [(argument, argument)]
        if kind is sre.RANGE:
            return [argument]
        if kind is sre.CATEGORY and (argument in _ASCII_CATEGORIES or argument in _NEGATED):
            if self.scope is Scope.ONE_LINE:
                raise _Category
            if argument in _NEGATED:
                return _without(_category(_NEGATED[argument], self.scope))
            return _category(argument, self.scope)
        raise _Untranslatable

    def _class(self, ranges: Ranges) -> str:
        """Write code points as hexadecimal ranges: nothing in them can be taken for syntax."""
        bounds = _BOUNDS[self.scope]
        kept = [
            (max(low, first), min(high, last))
            for low, high in ranges
            for first, last in bounds
            if max(low, first) <= min(high, last)
        ]
        if not kept:
            return r"[^\x00-\xff]" if self.scope is Scope.PRINTABLE_ASCII else r"[^\x{0}-\x{10ffff}]"
        return "[" + "".join(rf"\x{{{low:x}}}-\x{{{high:x}}}" for low, high in kept) + "]"


def _without(ranges: Ranges) -> Ranges:
    """Return all code points but these."""
    kept, start = [], 0
    for low, high in sorted(ranges):
        if low > start:
            kept.append((start, low - 1))
        start = max(start, high + 1)
    return [*kept, (start, 0x10FFFF)] if start <= 0x10FFFF else kept
