r"""Regex extraction with exactly the meaning of ``re.match`` (T011).

A field's rules are tried in order, and the first that matches a value counts:

| source value                    | result                                                                  |
|---------------------------------|-------------------------------------------------------------------------|
| null or empty                   | ``""``                                                                  |
| a rule with a group matches     | the group's text; null where the group took no part in it               |
| a rule with a template matches  | the template with the groups' texts; no match where one took no part    |
| no match, ``original``          | the source value                                                        |
| no match, ``null``              | null                                                                    |
| no match, ``reject``            | null, and the booking is rejected ``<target>_no_match``                 |
| the matcher ran out of time     | null, unmatched and timed out, whatever ``on_no_match`` says: what the  |
|                                 | rule would have taken is not known, so no later rule is tried           |

The ``values`` of a rule then translate what it took, and those of the field whatever its value is. The Rust engine, whose
time is linear, works where it provably agrees; every other value goes to the matcher once.

For the Rust engine the pattern is parsed by Python's own parser and written out anew from the parse tree (``translate``), so
that no piece of Python syntax ever reaches that engine to mean something else there. What is written is kept to what both
define alike:

- Constructs with one preference order in both engines: literals, classes, anchors, alternatives, groups, greedy and
  lazy repeats of something that is never empty. Only the groups asked for are captured, and only where they take part
  in every match.
- Classes are written as ranges of code points. ``\w``, ``\d`` and ``\s`` differ outside ASCII from one version of Unicode to
  the next: there they are written as this Python has them, and the pattern is only used for values of characters that
  were looked at. ``\b`` and a match without case, where it is asked for, cannot be written so: such a pattern is only used
  for values of printable ASCII, and Python's own engine is asked which of these an item matches. A pattern without any
  of them is used for all values without a line break, where ``$`` has no special case.

Everything else (look-around, back-references, possessive and atomic groups, optional groups) is not translated and left
to ``re``, and so is a user's pattern that ignores case.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from functools import cache, lru_cache
from re import _constants as sre  # type: ignore[attr-defined]  # no public name for Python's parse tree
from re import _parser  # type: ignore[attr-defined]
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import polars as pl

from pipeline.config.field_mapping import (
    compile_pattern,
    searching,
    taken_groups,
    template_parts,
    without_case,
)
from pipeline.transform.columns import map_distinct, places
from pipeline.transform.pattern_cost import characters
from pipeline.transform.text import comparable, rejoined

if TYPE_CHECKING:
    from pipeline.config.field_mapping import ExtractionRule, FieldRule, Values


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


EXTRACTED = pl.Struct({"value": pl.String, "unmatched": pl.Boolean, "timed_out": pl.Boolean})
SEARCHED = pl.Struct({"found": pl.Boolean, "timed_out": pl.Boolean})

Found = str | bool | tuple[str | None, ...] | None
"""What a pattern found in a value: the group's text, None where the group took no part, ``NO_MATCH`` or ``TIMED_OUT``; for
several groups a tuple of texts."""
NO_MATCH: Final = False
TIMED_OUT: Final = True
Matcher = Callable[[str, int | tuple[int, ...], Sequence[str]], Sequence[Found]]
"""Finds a group of a pattern, or several, in each value, as ``re.match`` does, or says that it took too long."""


def match_unbounded(pattern: str, group: int | tuple[int, ...], values: Sequence[str]) -> list[Found]:
    """Match with ``re`` itself, however long that takes."""
    results = map(compile_pattern(pattern)[0].match, values)
    if isinstance(group, tuple):
        return [
            NO_MATCH if result is None else tuple(result.group(each) for each in group) for result in results
        ]
    return [NO_MATCH if result is None else result.group(group) for result in results]


def extract(
    source: pl.Expr, rule: FieldRule, matcher: Matcher = match_unbounded, joined: pl.Expr | None = None
) -> pl.Expr:
    """Return a struct of ``value`` (String), ``unmatched`` and ``timed_out`` (Boolean, never null) for a rule with patterns.

    ``joined`` is the source with its joiners (``text``), where the target keeps them.
    """
    return pl.map_batches(
        [source] if joined is None else [source, joined],
        lambda given: extract_series(given[0], rule, matcher, given[1] if len(given) > 1 else None),
        return_dtype=EXTRACTED,
        is_elementwise=True,
    )


def extract_series(
    values: pl.Series,
    rule: FieldRule,
    matcher: Matcher = match_unbounded,
    joined: pl.Series | None = None,
) -> pl.Series:
    """Apply a field's rules to a column of text, see ``extract``."""
    if not rule.extractions:
        raise ValueError("the rule has no pattern")
    filled = (values != "").fill_null(value=False)
    taken, _ = _first(values, filled, joined, rule.extractions, matcher)
    found, unmatched = taken.text, filled & ~taken.matched
    if rule.on_no_match == "original" and unmatched.any():
        whole = values if joined is None else rejoined(values, joined)
        found = whole.zip_with(unmatched & ~taken.timed_out, found)
    if not filled.all():
        found = found.set(~filled, "")
    return pl.DataFrame(
        {
            "value": translated_values(found, rule.values),
            "unmatched": unmatched,
            "timed_out": taken.timed_out,
        }
    ).to_struct(values.name)


def caught_by(
    values: pl.Series, rules: Sequence[ExtractionRule], matcher: Matcher = match_unbounded
) -> pl.Series:
    """Return which rule counts for each value.

    Args:
        values: String, normalised texts.
        rules: a field's rules in their order (``FieldRule.extractions``).
        matcher: runs the patterns where the linear engine cannot.

    Returns:
        UInt32, the rule's place from 0; null where none matches, where there is no text, and where a rule that no other
        matched before took too long.
    """
    filled = (values != "").fill_null(value=False)
    if not rules:
        return _no_place(len(values)).alias(values.name)
    taken, place = _first(values, filled, None, rules, matcher)
    return place.set(~(filled & taken.matched), None).alias(values.name)


class Explanation(NamedTuple):
    """Which rule counts for a value (its place from 0), the part of the value that it took, and what became of that."""

    rule: int | None
    part: str | None
    result: str | None


def explained(value: str, rules: Sequence[ExtractionRule], matcher: Matcher = match_unbounded) -> Explanation:
    """Return which rule counts for one normalised text, what it took and what it made of it; nothing where none matches.

    The part of a rule with a template is all that its pattern matched.
    """
    one = pl.Series([value], dtype=pl.String)
    place = caught_by(one, rules, matcher)[0]
    if place is None:
        return Explanation(None, None, None)
    rule = rules[place]
    whole = 0 if rule.template is not None else taken_groups(rule)[0]
    (part,) = matcher(rule.pattern, whole, [value])
    taken = _taken(one, one.is_not_null(), None, rule, matcher)
    return Explanation(place, part if isinstance(part, str) else None, taken.text[0])


def translated_values(found: pl.Series, values: Values) -> pl.Series:
    """Write what a table says for each text, compared normalised and without case; any other goes on as it is."""
    if not values:
        return found
    table: dict[str, str] = {}
    for text, instead in values:
        table.setdefault(comparable(text), instead)
    return map_distinct(found, lambda text: table.get(comparable(text), text) if text else text, pl.String)


def searched(titles: pl.Series, patterns: Sequence[str], matcher: Matcher = match_unbounded) -> pl.Series:
    """Return where one of the patterns is found anywhere in a title, without case.

    Args:
        titles: String, normalised; a null is searched by none.
        patterns: of ``re``, none of which matches the empty text.
        matcher: runs the patterns where the linear engine cannot.

    Returns:
        A struct of ``found`` and ``timed_out`` (Boolean, never null): a pattern took too long, and no other was found.
    """
    found, late = _all_false(len(titles)), _all_false(len(titles))
    filled = (titles != "").fill_null(value=False)
    for pattern in patterns:
        searching_pattern = searching(pattern)
        rust = translate(without_case(pattern), 0, anywhere=True)
        if rust is None:
            _, here, over = _by_matcher(titles, filled & ~found, searching_pattern, (0,), matcher)
            late |= over
        else:
            here = titles.str.contains(rust.pattern).fill_null(value=False) & filled
            odd = rust.excluded(titles) & ~found
            if odd.any():
                _, odd_here, over = _by_matcher(titles, odd, searching_pattern, (0,), matcher)
                here = odd_here.zip_with(odd, here)
                late |= over
        found |= here
    return pl.DataFrame({"found": found, "timed_out": late & ~found}).to_struct(titles.name)


class _Taken(NamedTuple):
    """What a rule took from each value, whether it matched, and whether its time ran out."""

    text: pl.Series
    matched: pl.Series
    timed_out: pl.Series


def _first(
    values: pl.Series,
    filled: pl.Series,
    joined: pl.Series | None,
    rules: Sequence[ExtractionRule],
    matcher: Matcher,
) -> tuple[_Taken, pl.Series]:
    """Take by the first rule that matches, and say which it was; ``filled`` says which values are texts."""
    taken = _taken(values, filled, joined, rules[0], matcher)
    place = pl.repeat(0, len(values), dtype=pl.UInt32, eager=True)
    for number, rule in enumerate(rules[1:], start=1):
        rest = (filled & ~taken.matched & ~taken.timed_out).arg_true()
        if rest.is_empty():
            break
        there = values.gather(rest)
        more = _taken(
            there, there.is_not_null(), None if joined is None else joined.gather(rest), rule, matcher
        )
        taken = _Taken(*(whole.clone().scatter(rest, part) for whole, part in zip(taken, more, strict=True)))
        place = place.scatter(rest, number)
    return taken, place


def _taken(
    values: pl.Series, filled: pl.Series, joined: pl.Series | None, rule: ExtractionRule, matcher: Matcher
) -> _Taken:
    """Apply one rule."""
    groups = taken_groups(rule)
    rust = translate(rule.pattern, *groups)
    if rust is None:
        parts, matched, timed_out = _by_matcher(values, filled, rule.pattern, groups, matcher)
    else:
        parts = _by_rust(values, rust.pattern, len(groups))
        matched = parts[0].is_not_null()
        timed_out = _all_false(len(values))
        odd = rust.excluded(values)
        if odd.any():
            odd_parts, odd_matched, timed_out = _by_matcher(values, odd, rule.pattern, groups, matcher)
            parts = [there.zip_with(odd, here) for there, here in zip(odd_parts, parts, strict=True)]
            matched = odd_matched.zip_with(odd, matched)
    if joined is not None:
        parts = [rejoined(part, joined) for part in parts]
    if rule.template is None:
        text = parts[0]
    else:
        text = _filled_in(template_parts(rule.template, rule.pattern), dict(zip(groups, parts, strict=True)))
        matched &= text.is_not_null()
    return _Taken(translated_values(text, rule.values), matched, timed_out)


def _filled_in(template: Sequence[str | int], parts: dict[int, pl.Series]) -> pl.Series:
    """Put the groups' texts into a template; null where one took no part."""
    frame = pl.DataFrame({str(group): part for group, part in parts.items()})
    items = [pl.col(str(part)) if isinstance(part, int) else pl.lit(part) for part in template]
    return frame.select(pl.concat_str(items)).to_series()


def _by_rust(values: pl.Series, pattern: str, groups: int) -> list[pl.Series]:
    if groups == 1:
        return [values.str.extract(pattern, 1)]
    return values.str.extract_groups(pattern).struct.unnest().get_columns()


def _by_matcher(
    values: pl.Series, wanted: pl.Series, pattern: str, groups: tuple[int, ...], matcher: Matcher
) -> tuple[list[pl.Series], pl.Series, pl.Series]:
    """Match each distinct wanted value once; return the groups' texts, whether it matched, and whether time ran out."""
    distinct = values.filter(wanted).unique()
    answers = matcher(pattern, groups[0] if len(groups) == 1 else groups, distinct.to_list())
    texts = [
        pl.Series([_text(answer, place) for answer in answers], dtype=pl.String)
        for place in range(len(groups))
    ]
    matched = pl.Series([not isinstance(answer, bool) for answer in answers], dtype=pl.Boolean)
    timed_out = pl.Series([answer is TIMED_OUT for answer in answers], dtype=pl.Boolean)
    rows = places(values, distinct)
    hits, late = (column.gather(rows).fill_null(value=False) for column in (matched, timed_out))
    return [text.gather(rows) for text in texts], hits, late


def _text(answer: Found, place: int) -> str | None:
    """Return what was found in one of the groups."""
    if isinstance(answer, tuple):
        return answer[place]
    return None if isinstance(answer, bool) else answer


def _all_false(size: int) -> pl.Series:
    return pl.repeat(value=False, n=size, dtype=pl.Boolean, eager=True)


def _no_place(size: int) -> pl.Series:
    return pl.Series([None], dtype=pl.UInt32).new_from_index(0, size)
