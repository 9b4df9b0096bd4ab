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
time is linear, works where it provably agrees (``rust_patterns``); every other value goes to the matcher once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import polars as pl

from pipeline.mapping import compile_pattern, searching, taken_groups, template_parts, without_case
from pipeline.transform.columns import map_distinct, places
from pipeline.transform.rust_patterns import translate
from pipeline.transform.text import comparable, rejoined

if TYPE_CHECKING:
    from pipeline.mapping import ExtractionRule, FieldRule, Values

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
