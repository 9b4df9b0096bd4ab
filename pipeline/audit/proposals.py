"""From the census to patterns: one a form that is missed, and one a target that would catch all of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from pipeline.audit.census import Counted
from pipeline.audit.forms import form, letters_in
from pipeline.audit.suggestion import (
    Plan,
    Suggestion,
    combine,
    cut_at_group,
    suggest,
    taken,
    takes_identifier,
)
from pipeline.audit.tally import Schema
from pipeline.mapping import FieldRule
from pipeline.transform.shapes import shape

_FORMS = 100
"""Forms a target for which a pattern is suggested, the most frequent first."""

_WORTH = 0.005
"""Share of the bookings from which on a form is worth its place in a combined pattern."""

_SUGGESTIONS: Schema = {
    "source": pl.String,
    "target": pl.String,
    "form": pl.String,
    "shape": pl.String,
    "bookings": pl.Int64,
    "pattern": pl.String,
    "group": pl.Int64,
    "checked": pl.Int64,
    "note": pl.String,
}
_PROPOSALS: Schema = {
    "source": pl.String,
    "target": pl.String,
    "current": pl.String,
    "pattern": pl.String,
    "group": pl.Int64,
    "coverage": pl.Float64,
    "would_cover": pl.Float64,
}


@dataclass(frozen=True)
class _Form:
    """What one rule did with the titles of one form."""

    form: str
    shape: str
    caught: tuple[str, ...]
    missed: tuple[str, ...]
    bookings_caught: int
    bookings_missed: int


def suggestions_and_proposals(counted: Sequence[Counted]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Suggest a pattern for each target and form it misses, and one combined pattern a target.

    A proposal is checked on every kept title: it takes from the titles caught today what is taken today, and
    something from those it adds; a form whose addition would change that is left out.
    """
    lines: list[dict[str, object]] = []
    proposed: list[dict[str, object]] = []
    for item in counted:
        by_rule = {rule.target: _forms_of(item, place) for place, rule in enumerate(item.rules)}
        learned = {rule.target: _learned(rule, by_rule[rule.target]) for rule in item.rules}
        identifiers = [rule for rule in item.rules if takes_identifier(rule.target, learned[rule.target])]
        known_ids = [value for rule in identifiers for value in learned[rule.target]]
        for rule in item.rules:
            made: list[tuple[_Form, Suggestion]] = [
                (
                    found,
                    suggest(
                        found.missed,
                        found.form,
                        identifier=rule in identifiers,
                        learned=learned[rule.target],
                        known_ids=known_ids,
                    ),
                )
                for found in [each for each in by_rule[rule.target] if each.missed][:_FORMS]
            ]
            lines += [_line(item.source, rule.target, found, made_for) for found, made_for in made]
            if made:
                proposed.append(_proposal(item.source, rule, by_rule[rule.target], made))
    suggested = pl.DataFrame(lines, schema=_SUGGESTIONS).sort(
        "bookings", descending=True, maintain_order=True
    )
    return suggested, pl.DataFrame(proposed, schema=_PROPOSALS)


def _forms_of(item: Counted, place: int) -> list[_Form]:
    bit = (pl.col("missed") // (1 << place) % 2) == 1
    grouped = (
        item.frame.sort("bookings", descending=True, maintain_order=True)
        .group_by("form", maintain_order=True)
        .agg(
            pl.col("shape").filter(bit).first().alias("missed_shape"),
            pl.col("shape").first(),
            pl.col("titles").filter(~bit).explode().alias("caught"),
            pl.col("titles").filter(bit).explode().alias("missed"),
            pl.col("bookings").filter(~bit).sum().alias("bookings_caught"),
            pl.col("bookings").filter(bit).sum().alias("bookings_missed"),
        )
        .sort("bookings_missed", "bookings_caught", descending=True, maintain_order=True)
    )
    return [
        _Form(
            row["form"],
            row["missed_shape"] or row["shape"],
            tuple(title for title in row["caught"] or () if title is not None),
            tuple(title for title in row["missed"] or () if title is not None),
            row["bookings_caught"],
            row["bookings_missed"],
        )
        for row in grouped.iter_rows(named=True)
    ]


def _learned(rule: FieldRule, forms: Sequence[_Form]) -> list[str]:
    """The forms of the values that a rule takes today, those of most bookings first."""
    pattern = re.compile(rule.pattern or "")
    ordered = sorted(forms, key=lambda each: -each.bookings_caught)
    values = [taken(pattern, rule.group, title) for each in ordered for title in each.caught[:3]]
    return list(dict.fromkeys(form(shape(value)) for value in values if value))


def _line(source: str, target: str, found: _Form, made: Suggestion) -> dict[str, object]:
    return {
        "source": source,
        "target": target,
        "form": found.form,
        "shape": found.shape,
        "bookings": found.bookings_missed,
        "pattern": made.pattern,
        "group": made.group,
        "checked": len(found.missed),
        "note": made.note,
    }


def _proposal(
    source: str, rule: FieldRule, forms: Sequence[_Form], made: Sequence[tuple[_Form, Suggestion]]
) -> dict[str, object]:
    current = re.compile(rule.pattern or "")
    caught = [(title, taken(current, rule.group, title)) for each in forms for title in each.caught]
    tried = sum(each.bookings_caught + each.bookings_missed for each in forms)
    today = sum(each.bookings_caught for each in forms)
    pieces = cut_at_group(rule.pattern or "", rule.group) if caught else None
    plans: list[Plan] = []
    added: list[str] = []
    gained, best = 0, None
    for found, suggestion in made if pieces or not caught else ():
        if suggestion.plan is None or suggestion.plan.is_whole or found.bookings_missed < tried * _WORTH:
            continue
        titles = [*added, *found.missed]
        attempt = [*plans, suggestion.plan]
        pattern, group = combine(pieces, attempt, letters_in(titles))
        if _takes_the_same(pattern, group, caught) and _takes_something(pattern, group, titles):
            plans, added, best = attempt, titles, (pattern, group)
            gained += found.bookings_missed
    return {
        "source": source,
        "target": rule.target,
        "current": rule.pattern,
        "pattern": best[0] if best else None,
        "group": best[1] if best else None,
        "coverage": today / tried if tried else None,
        "would_cover": (today + gained) / tried if tried else None,
    }


def _takes_the_same(pattern: str, group: int, caught: Sequence[tuple[str, str | None]]) -> bool:
    compiled = re.compile(pattern)
    return all(taken(compiled, group, title) == value for title, value in caught)


def _takes_something(pattern: str, group: int, titles: Sequence[str]) -> bool:
    compiled = re.compile(pattern)
    return all(taken(compiled, group, title) for title in titles)
