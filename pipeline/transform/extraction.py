r"""Regex extraction with exactly the meaning of ``re.match`` (T011).

| source value                    | result                                                        |
|---------------------------------|---------------------------------------------------------------|
| null or empty                   | ``""``                                                        |
| the pattern matches             | the group's text; null where the group took no part in it     |
| no match, ``original``          | the source value                                              |
| no match, ``null``              | null                                                          |
| no match, ``reject``            | null, and the booking is rejected ``<target>_no_match``       |
| the matcher ran out of time     | null, unmatched and timed out, whatever ``on_no_match`` says  |

The Rust engine, whose time is linear, works where it provably agrees (``rust_patterns``); every other value goes to the
matcher once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import polars as pl

from pipeline.mapping import compile_pattern, group_number
from pipeline.transform.columns import places
from pipeline.transform.rust_patterns import translate

if TYPE_CHECKING:
    from pipeline.mapping import FieldRule

EXTRACTED = pl.Struct({"value": pl.String, "unmatched": pl.Boolean, "timed_out": pl.Boolean})

Found = str | bool | None
"""What a pattern found in a value: the group's text, None where the group took no part, ``NO_MATCH`` or ``TIMED_OUT``."""
NO_MATCH: Final = False
TIMED_OUT: Final = True
Matcher = Callable[[str, int, Sequence[str]], Sequence[Found]]
"""Finds the group of a pattern in each value, as ``re.match`` does, or says that it took too long."""


def match_unbounded(pattern: str, group: int, values: Sequence[str]) -> list[Found]:
    """Match with ``re`` itself, however long that takes."""
    match = compile_pattern(pattern)[0].match
    results = map(match, values)
    return [NO_MATCH if result is None else result.group(group) for result in results]


def extract(source: pl.Expr, rule: FieldRule, matcher: Matcher = match_unbounded) -> pl.Expr:
    """Return a struct of ``value`` (String), ``unmatched`` and ``timed_out`` (Boolean, never null) for a rule with a pattern."""
    return source.map_batches(
        lambda values: extract_series(values, rule, matcher), return_dtype=EXTRACTED, is_elementwise=True
    )


def extract_series(values: pl.Series, rule: FieldRule, matcher: Matcher = match_unbounded) -> pl.Series:
    """Apply a rule's pattern to a column of text, see ``extract``."""
    if rule.pattern is None:
        raise ValueError("the rule has no pattern")
    filled = (values != "").fill_null(value=False)
    number = group_number(rule)
    rust = translate(rule.pattern, number)
    if rust is None:
        found, matched, timed_out = _by_matcher(values, filled, rule.pattern, number, matcher)
    else:
        found = values.str.extract(rust.pattern, 1)
        matched = found.is_not_null()
        timed_out = pl.repeat(value=False, n=len(values), dtype=pl.Boolean, eager=True)
        odd = rust.excluded(values)
        if odd.any():
            odd_found, odd_matched, timed_out = _by_matcher(values, odd, rule.pattern, number, matcher)
            found, matched = odd_found.zip_with(odd, found), odd_matched.zip_with(odd, matched)
    unmatched = filled & ~matched
    if rule.on_no_match == "original" and unmatched.any():
        found = values.zip_with(unmatched & ~timed_out, found)
    if not filled.all():
        found = found.set(~filled, "")
    return pl.DataFrame({"value": found, "unmatched": unmatched, "timed_out": timed_out}).to_struct(
        values.name
    )


def _by_matcher(
    values: pl.Series, wanted: pl.Series, pattern: str, number: int, matcher: Matcher
) -> tuple[pl.Series, pl.Series, pl.Series]:
    """Match each distinct wanted value once; return the group's text, whether it matched, and whether time ran out."""
    distinct = values.filter(wanted).unique()
    answers = matcher(pattern, number, distinct.to_list())
    columns = (
        pl.Series([None if isinstance(answer, bool) else answer for answer in answers], dtype=pl.String),
        pl.Series([not isinstance(answer, bool) for answer in answers], dtype=pl.Boolean),
        pl.Series([answer is TIMED_OUT for answer in answers], dtype=pl.Boolean),
    )
    rows = places(values, distinct)
    texts, hits, late = (column.gather(rows) for column in columns)
    return texts, hits.fill_null(value=False), late.fill_null(value=False)
