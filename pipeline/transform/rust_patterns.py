"""Python patterns -> the Rust engine's, only where both provably give the same answer (T011).

The pattern is parsed by Python's own parser and written out anew from the parse tree, so that no piece of Python
syntax ever reaches the Rust engine to mean something else there. Two things make the proof short:

- The Rust engine is used for values of printable ASCII only. There is no line break in them, so ``.`` and ``$`` lose
  their special cases, and every class of characters can be written out as a set of those 95 characters.
- Only constructs whose preference order both engines define alike are written: literals, classes, anchors, word
  boundaries, alternatives, groups, greedy and lazy repeats of something that is never empty. One group is captured,
  the one asked for, and only where it takes part in every match.

Everything else (look-around, back-references, possessive and atomic groups, case folding, optional groups) returns
None and is left to ``re``.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from functools import lru_cache
from re import _constants as sre  # type: ignore[attr-defined]  # no public name for Python's parse tree
from re import _parser  # type: ignore[attr-defined]
from typing import Any, Final

import polars as pl

PRINTABLE: Final = "".join(map(chr, range(0x20, 0x7F)))
UNPRINTABLE: Final = r"[^\x20-\x7e]"
"""Matches, in the Rust engine, a value that must go through ``re``."""

_HARMLESS_FLAGS = re.UNICODE | re.ASCII | re.VERBOSE | re.DOTALL | re.MULTILINE | re.DEBUG
_CATEGORIES = {
    sre.CATEGORY_DIGIT: r"\d",
    sre.CATEGORY_NOT_DIGIT: r"\D",
    sre.CATEGORY_SPACE: r"\s",
    sre.CATEGORY_NOT_SPACE: r"\S",
    sre.CATEGORY_WORD: r"\w",
    sre.CATEGORY_NOT_WORD: r"\W",
}
_ANCHORS = {
    sre.AT_BEGINNING: r"\A",
    sre.AT_BEGINNING_STRING: r"\A",
    sre.AT_END: r"\z",
    sre.AT_END_STRING: r"\z",
    sre.AT_BOUNDARY: r"\b",
    sre.AT_NON_BOUNDARY: r"(?u:\B)",
}
_NEVER = r"[^\x00-\xff]"
_REPEATS = (sre.MAX_REPEAT, sre.MIN_REPEAT)
_MAX_REPEAT = 1000


class _Untranslatable(Exception):  # noqa: N818  never leaves this module
    """A construct for which agreement is not proved."""


@lru_cache(maxsize=256)
def translate(pattern: str, group: int) -> str | None:
    """Return a Rust pattern whose group 1 is what ``re.match(pattern, value).group(group)`` gives, or None.

    No match there is no match here, for every non-empty value of printable ASCII. ``pattern`` must compile.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = _parser.parse(pattern)
        except RecursionError:
            return None
    if tree.state.flags & ~_HARMLESS_FLAGS:
        return None
    try:
        body = _Writer(group).sequence(tree, always=True)
        if group:  # what may be empty at the very end decides neither whether nor what is captured before it
            body = _Writer(group).sequence(_without_tail(list(tree)), always=True)
    except (_Untranslatable, RecursionError):
        return None
    rust = rf"(?-u)\A(?:{body})" if group else rf"(?-u)\A({body})"
    try:
        pl.Series([""]).str.extract(rust, 1)
    except pl.exceptions.ComputeError:  # too large for the engine
        return None
    return rust


def _without_tail(items: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Drop repeats from zero on at the end, which match whatever follows: ``.*`` there costs half of the time."""
    while items and items[-1][0] in _REPEATS and items[-1][1][0] == 0:
        items.pop()
    return items


class _Writer:
    """Writes a parse tree in Rust's syntax."""

    def __init__(self, group: int) -> None:
        self.group = group

    def sequence(self, items: Iterable[tuple[Any, Any]], *, always: bool) -> str:
        """Write items one after another; ``always`` says that this part takes part in every match."""
        return "".join(self._item(kind, argument, always=always) for kind, argument in items)

    def _item(self, kind: Any, argument: Any, *, always: bool) -> str:
        if kind in (sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN):
            return _class(_characters(kind, argument))
        if kind is sre.AT and argument in _ANCHORS:
            return _ANCHORS[argument]
        if kind is sre.SUBPATTERN:
            return self._group(*argument, always=always)
        if kind is sre.BRANCH:
            return "(?:" + "|".join(self.sequence(branch, always=False) for branch in argument[1]) + ")"
        if kind in _REPEATS:
            return self._repeat(*argument, lazy=kind is sre.MIN_REPEAT)
        raise _Untranslatable

    def _group(self, number: int | None, added: int, removed: int, items: Any, *, always: bool) -> str:
        if (added | removed) & ~_HARMLESS_FLAGS:
            raise _Untranslatable
        wanted = number is not None and number == self.group
        if wanted and not always:
            raise _Untranslatable
        return f"({'' if wanted else '?:'}{self.sequence(items, always=always)})"

    def _repeat(self, least: int, most: int, items: Any, *, lazy: bool) -> str:
        if (
            items.getwidth()[0] == 0
            or least > _MAX_REPEAT
            or (most > _MAX_REPEAT and most is not sre.MAXREPEAT)
        ):
            raise _Untranslatable
        upper = "" if most is sre.MAXREPEAT else most
        return f"(?:{self.sequence(items, always=False)}){{{least},{upper}}}{'?' if lazy else ''}"


def _characters(kind: Any, argument: Any) -> set[str]:
    """Return which printable ASCII characters a one-character item matches."""
    if kind is sre.ANY:
        return set(PRINTABLE)
    if kind is sre.LITERAL:
        return {chr(argument)} & set(PRINTABLE)
    if kind is sre.NOT_LITERAL:
        return set(PRINTABLE) - {chr(argument)}
    negated = bool(argument) and argument[0][0] is sre.NEGATE
    found = set().union(*(_members(*member) for member in argument[negated:]))
    return set(PRINTABLE) - found if negated else found


def _members(kind: Any, argument: Any) -> set[str]:
    if kind is sre.LITERAL:
        return {chr(argument)} & set(PRINTABLE)
    if kind is sre.RANGE:
        return {character for character in PRINTABLE if argument[0] <= ord(character) <= argument[1]}
    if kind is sre.CATEGORY and argument in _CATEGORIES:
        return set(re.findall(_CATEGORIES[argument], PRINTABLE))
    raise _Untranslatable


def _class(characters: set[str]) -> str:
    """Write a set of characters as ranges of hexadecimal numbers: nothing in it can be taken for syntax."""
    if not characters:
        return _NEVER
    if len(characters) == 1:
        return rf"\x{ord(next(iter(characters))):02x}"
    codes = sorted(map(ord, characters))
    ranges = [[codes[0], codes[0]]]
    for code in codes[1:]:
        if code == ranges[-1][1] + 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "[" + "".join(rf"\x{low:02x}-\x{high:02x}" for low, high in ranges) + "]"
