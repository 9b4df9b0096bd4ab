"""The title-shape census: which forms of titles there are, which the patterns catch, and rules for the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import polars as pl

from pipeline.audit.coverage import missed, patterns_text, source_column
from pipeline.audit.findings import FRAMES, IDS, ROWS, TITLES, Schema, joined, schema, share
from pipeline.audit.suggestions import SAMPLES, TARGETS, FieldSuggestion, sample_text, suggest_rules
from pipeline.audit.titles import form
from pipeline.matching import BoundedMatcher
from pipeline.transform.entries import mapped_rules
from pipeline.transform.extraction import caught_by, extract_series
from pipeline.transform.shapes import shape_expr

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig
    from pipeline.config.field_mapping import FieldRule

_OF_A_RULE = ("form", "shape", "bookings", "pattern", "group", "extract", "visit_in_doubt")


@dataclass(frozen=True)
class Counted:
    """One source's shapes: shape, form, missed Int64 (a bit per field), rules, bookings, titles, booking_ids.

    ``rules`` String: per field the number, from 1, of the rule of its list that caught the title, with commas between;
    nothing for a field with one rule only.
    """

    source: str
    rules: tuple[FieldRule, ...]
    frame: pl.DataFrame


def sources(config: PipelineConfig) -> dict[str, tuple[FieldRule, ...]]:
    """Return the sources with a pattern and their rules; the title where there is no pattern at all."""
    found: dict[str, list[FieldRule]] = {}
    for rule in mapped_rules(config):
        if rule.extractions:
            found.setdefault(rule.source, []).append(rule)
    return {source: tuple(rules) for source, rules in found.items()} or {"title": ()}


def collect(wide: pl.DataFrame, config: PipelineConfig) -> pl.DataFrame:
    """Count one chunk of readable bookings: source, shape, missed, rules, bookings, titles, booking_ids."""
    return pl.concat([_collect(wide, source, rules) for source, rules in sources(config).items()])


def merged(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Add up what many chunks counted; the first titles and ids are kept."""
    return (
        pl.concat(parts)
        .group_by("source", "shape", "missed", "rules", maintain_order=True)
        .agg(
            pl.col("bookings").sum(),
            pl.col("titles").explode().head(TITLES),
            pl.col("booking_ids").explode().drop_nulls().head(IDS),
        )
    )


def by_source(parts: Sequence[pl.DataFrame], config: PipelineConfig) -> list[Counted]:
    """Return all shapes of each source; holds titles, so it stays inside the audit."""
    if not parts:
        return []
    whole = merged(parts)
    forms = {shape: form(shape) for shape in whole["shape"].unique()}
    whole = whole.with_columns(pl.col("shape").replace_strict(forms, return_dtype=pl.String).alias("form"))
    return [
        Counted(source, rules, whole.filter(pl.col("source") == source))
        for source, rules in sources(config).items()
    ]


def census(counted: Sequence[Counted], *, reveal: bool) -> pl.DataFrame:
    """Return a row per shape, the most frequent first, and the targets whose pattern caught all, some or none of it."""
    return _grouped(counted, "shape", FRAMES["census"] | (schema("titles") if reveal else {}))


def conventions(counted: Sequence[Counted]) -> pl.DataFrame:
    """Return a row per form, the most frequent first; ``shape`` is its commonest shape, ``caught`` is by every pattern."""
    return _grouped(counted, "form", FRAMES["conventions"])


def suggestions_and_proposals(
    counted: Sequence[Counted], *, reveal: bool
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Suggest rules for the titles that the patterns of the subject's id and name miss.

    Returns:
        A row per suggested rule, and a row per target that misses titles, with one pattern that takes what its own
        takes today and what the suggested rules take (null where there is none to rely on).
    """
    lines: list[dict[str, object]] = []
    proposed: list[dict[str, object]] = []
    for item in counted:
        rules = {rule.target: rule for rule in item.rules if rule.target in TARGETS}
        known = {
            rule.target: _taken_today(item, place)
            for place, rule in enumerate(item.rules)
            if rule.target in TARGETS
        }
        made = suggest_rules(_bookings_by_title(item.frame), known)
        for target, rule in rules.items():
            suggestion = made[target]
            missed = sum(suggestion.bookings.values()) - _of(suggestion.bookings, known[target])
            if missed:
                proposed.append(_proposal(item.source, rule, suggestion, reveal=reveal))
            lines += [
                {
                    **{name: getattr(each, name) for name in _OF_A_RULE},
                    "source": item.source,
                    "target": target,
                    "checked": each.titles,
                    "samples": each.shown_samples(reveal=reveal),
                }
                for each in suggestion.rules
            ]
    suggested = pl.DataFrame(lines, schema=FRAMES["suggestions"]).sort(
        "bookings", descending=True, maintain_order=True
    )
    return suggested, pl.DataFrame(proposed, schema=FRAMES["proposals"])


def _proposal(
    source: str, rule: FieldRule, suggestion: FieldSuggestion, *, reveal: bool
) -> dict[str, object]:
    bookings, known = suggestion.bookings, suggestion.known
    every = sum(bookings.values())
    joined = suggestion.joined(rule)
    found: dict[str, str] = {}
    if joined is not None:
        found = {title: value for title in bookings if (value := joined.taken(title))}
    added = {title: value for title, value in found.items() if title not in known}
    shown = [*list(known.items())[:1], *list(added.items())[:SAMPLES]] if joined else []
    return {
        "source": source,
        "target": rule.target,
        "current": patterns_text(rule),
        "coverage": _of(bookings, known) / every,
        "pattern": joined and joined.pattern,
        "group": joined and joined.group,
        "extract": joined and joined.extract,
        "would_cover": _of(bookings, {**known, **added}) / every,
        "samples": [sample_text(title, value, reveal=reveal) for title, value in shown],
    }


def _of(bookings: Mapping[str, int], titles: Mapping[str, str]) -> int:
    return sum(bookings[title] for title in titles)


def _taken_today(item: Counted, place: int) -> dict[str, str]:
    """Return what a field's rules take from the kept titles that they catch."""
    caught = item.frame.filter((pl.col("missed") // (1 << place) % 2) == 0)["titles"].explode().drop_nulls()
    titles = caught.unique(maintain_order=True)
    with BoundedMatcher() as matcher:
        found = extract_series(titles, replace(item.rules[place], on_no_match="null"), matcher)
    values = zip(titles, found.struct.field("value"), strict=True)
    return {title: value for title, value in values if value}


def _bookings_by_title(frame: pl.DataFrame) -> dict[str, int]:
    """Return the bookings of each shape, shared among the titles that were kept of it."""
    found: dict[str, int] = {}
    for titles, bookings in (
        frame.sort("bookings", descending=True, maintain_order=True).select("titles", "bookings").iter_rows()
    ):
        kept = list(dict.fromkeys(title for title in titles or () if title))
        for place, title in enumerate(kept):
            share_of_it = bookings // len(kept) + (place < bookings % len(kept))
            found[title] = found.get(title, 0) + share_of_it
    return found


def _collect(wide: pl.DataFrame, source: str, rules: Sequence[FieldRule]) -> pl.DataFrame:
    column = pl.col(source_column(rules[0]) if rules else source)
    texts = wide[source_column(rules[0]) if rules else source]
    bits = [missed(rule).cast(pl.Int64) * (1 << place) for place, rule in enumerate(rules)]
    return (
        wide.lazy()
        .with_columns(_caught_by(texts, rules))
        .filter(column.is_not_null() & (column != ""))
        .select(
            "booking_id",
            column.alias("title"),
            shape_expr(column).alias("shape"),
            rules=_places(rules),
            missed=pl.sum_horizontal(bits) if bits else pl.lit(0, dtype=pl.Int64),
        )
        .group_by("shape", "missed", "rules", maintain_order=True)
        .agg(
            pl.len().cast(pl.Int64).alias("bookings"),
            pl.col("title").head(4 * TITLES).unique(maintain_order=True).head(TITLES).alias("titles"),
            pl.col("booking_id").drop_nulls().head(IDS).alias("booking_ids"),
        )
        .select(pl.lit(source).alias("source"), pl.all())
        .collect()
    )


def _caught_by(texts: pl.Series, rules: Sequence[FieldRule]) -> list[pl.Series]:
    """Return which rule catches a title, from 1, for each field that has a list of rules."""
    with BoundedMatcher() as matcher:
        return [
            (caught_by(texts, rule.extractions, matcher) + 1).alias(f"_rule_of:{rule.target}")
            for rule in rules
            if len(rule.extractions) > 1
        ]


def _places(rules: Sequence[FieldRule]) -> pl.Expr:
    numbers = [
        pl.col(f"_rule_of:{rule.target}").cast(pl.String).fill_null("")
        if len(rule.extractions) > 1
        else pl.lit("")
        for rule in rules
    ]
    return pl.concat_str(numbers, separator=",") if numbers else pl.lit("")


def _named(place: int, rule: FieldRule) -> tuple[list[pl.Expr], pl.Expr]:
    """Return a field's name in the lists of a census, with the rules of its list that caught anything.

    First come the columns that have to be counted for it.
    """
    if len(rule.extractions) < 2:
        return [], pl.lit(rule.target)
    number = pl.col("rules").str.split(",").list.get(place, null_on_oob=True)
    names = [f"_{rule.target}:{each}" for each in range(1, len(rule.extractions) + 1)]
    counted = [(number == str(each)).any().alias(name) for each, name in enumerate(names, start=1)]
    caught = [pl.when(name).then(pl.lit(str(each))) for each, name in enumerate(names, start=1)]
    numbers = pl.concat_list(caught).list.drop_nulls()
    told = pl.concat_str(pl.lit(f"{rule.target} (rule "), numbers.list.join(", "), pl.lit(")"))
    return counted, pl.when(numbers.list.len() > 0).then(told).otherwise(pl.lit(rule.target))


def _grouped(counted: Sequence[Counted], key: str, kinds: Schema) -> pl.DataFrame:
    """Count per shape or form of each source, and say which rules caught all, some or none of it."""
    return joined((_of_source(item, key).select(list(kinds)).head(ROWS).collect() for item in counted), kinds)


def _of_source(item: Counted, key: str) -> pl.LazyFrame:
    missed_by = {
        rule.target: (pl.col("missed") // (1 << place) % 2) == 1 for place, rule in enumerate(item.rules)
    }
    named = {rule.target: _named(place, rule) for place, rule in enumerate(item.rules)}
    names = {target: name for target, (_, name) in named.items()}
    return (
        item.frame.lazy()
        .sort("bookings", descending=True, maintain_order=True)
        .group_by(key, maintain_order=True)
        .agg(
            pl.col("form").first() if key != "form" else pl.col("shape").first(),
            pl.col("shape").n_unique().cast(pl.Int64).alias("shapes"),
            pl.col("bookings").sum(),
            pl.col("bookings").filter(pl.col("missed") == 0).sum().alias("caught"),
            *(pl.col("bookings").filter(bit).sum().alias(f"_{target}") for target, bit in missed_by.items()),
            *(needed for counted, _ in named.values() for needed in counted),
            pl.col("titles").explode().head(TITLES),
            pl.col("booking_ids").explode().drop_nulls().head(IDS),
        )
        .with_columns(
            source=pl.lit(item.source),
            share=share(pl.col("bookings"), pl.col("bookings").sum()),
            caught_by=_list({target: pl.col(f"_{target}") == 0 for target in missed_by}, names),
            partly_by=_list(
                {target: pl.col(f"_{target}").is_between(1, pl.col("bookings") - 1) for target in missed_by},
                names,
            ),
            missed_by=_list({target: pl.col(f"_{target}") == pl.col("bookings") for target in missed_by}),
        )
        .sort("bookings", descending=True, maintain_order=True)
    )


def _list(named: dict[str, pl.Expr], names: Mapping[str, pl.Expr] | None = None) -> pl.Expr:
    if not named:
        return pl.lit([], dtype=pl.List(pl.String))
    return pl.concat_list(
        pl.when(flag).then((names or {}).get(name, pl.lit(name))) for name, flag in named.items()
    ).list.drop_nulls()
