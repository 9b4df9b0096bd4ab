r"""Regex extraction with exactly the meaning of ``re.match`` (T011).

| source value                    | result                                                        |
|---------------------------------|---------------------------------------------------------------|
| null or empty                   | ``""``                                                        |
| the pattern matches             | the group's text; null where the group took no part in it     |
| no match, ``original``          | the source value                                              |
| no match, ``null``              | null                                                          |
| no match, ``reject``            | null, and the booking is rejected ``<target>_no_match``       |

The Rust engine works where it provably agrees (``rust_patterns``); every other value goes through ``re`` once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from pipeline.mapping import compile_pattern
from pipeline.transform.distinct import places
from pipeline.transform.rust_patterns import translate

if TYPE_CHECKING:
    import re

    from pipeline.mapping import FieldRule

EXTRACTED = pl.Struct({"value": pl.String, "unmatched": pl.Boolean})


def extract(source: pl.Expr, rule: FieldRule) -> pl.Expr:
    """Return a struct of ``value`` (String) and ``unmatched`` (Boolean, never null) for a rule with a pattern."""
    return source.map_batches(
        lambda values: extract_series(values, rule), return_dtype=EXTRACTED, is_elementwise=True
    )


def extract_series(values: pl.Series, rule: FieldRule) -> pl.Series:
    """Apply a rule's pattern to a column of text, see ``extract``."""
    if rule.pattern is None:
        raise ValueError("the rule has no pattern")
    filled = (values != "").fill_null(value=False)
    pattern, _ = compile_pattern(rule.pattern)
    number = pattern.groupindex[rule.group] if isinstance(rule.group, str) else rule.group
    rust = translate(rule.pattern, number)
    if rust is None:
        found, matched = _by_python(values, filled, pattern, number)
    else:
        found = values.str.extract(rust.pattern, 1)
        matched = found.is_not_null()
        odd = rust.excluded(values)
        if odd.any():
            odd_found, odd_matched = _by_python(values, odd, pattern, number)
            found, matched = odd_found.zip_with(odd, found), odd_matched.zip_with(odd, matched)
    unmatched = filled & ~matched
    if rule.on_no_match == "original" and unmatched.any():
        found = values.zip_with(unmatched, found)
    if not filled.all():
        found = found.set(~filled, "")
    return pl.DataFrame({"value": found, "unmatched": unmatched}).to_struct(values.name)


def _by_python(
    values: pl.Series, wanted: pl.Series, pattern: re.Pattern[str], number: int
) -> tuple[pl.Series, pl.Series]:
    """Match each distinct wanted value once; return the group's text and whether there was a match."""
    distinct = values.filter(wanted).unique()
    matches = [pattern.match(value) for value in distinct.to_list()]
    texts = pl.Series([match and match.group(number) for match in matches], dtype=pl.String)
    hits = pl.Series([match is not None for match in matches], dtype=pl.Boolean)
    rows = places(values, distinct)
    return texts.gather(rows), hits.gather(rows).fill_null(value=False)
