"""Per target field: how many bookings its rule caught, what it fell back to, what stayed empty."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from pipeline.audit.tally import EXAMPLES, Frames, Schema, share
from pipeline.audit.vocabularies import taken_from_elsewhere
from pipeline.config.field_mapping import as_configured
from pipeline.transform.entries import mapped_rules
from pipeline.transform.shapes import shape_expr

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig
    from pipeline.config.field_mapping import FieldRule

COMPUTED = {
    "scheduled_start_date": "start",
    "scheduled_start_time": "start",
    "scheduled_procedure_step_duration": "start and end",
    "modality": "resource",
    "performed_procedure_step_status": "status",
}
"""Fields the pipeline works out itself, and of what."""

_SAMPLED = 500
_VALUES: Schema = {"place": pl.UInt32, "hash": pl.UInt64}
_EXAMPLES: Schema = {"target": pl.String, "example": pl.String, "seen": pl.Int64}
_SCHEMA: Schema = {
    "target": pl.String,
    "source": pl.String,
    "pattern": pl.String,
    "bookings": pl.Int64,
    "matched": pl.Int64,
    "fell_back": pl.Int64,
    "emptied": pl.Int64,
    "empty": pl.Int64,
    "coverage": pl.Float64,
    "filled": pl.Float64,
    "distinct": pl.Int64,
    "examples": pl.List(pl.String),
}


def source_column(rule: FieldRule) -> str:
    """The column of the bookings frame that holds a rule's source."""
    return f"source:{rule.source}"


def patterns_text(rule: FieldRule) -> str | None:
    """A rule's pattern as a person reads it: itself, or for a list or a template what stands in ``_extract``, as JSON."""
    if len(rule.extractions) == 1 and rule.extractions[0].template is None:
        return rule.extractions[0].pattern
    return json.dumps(as_configured(rule.extractions)) if rule.extractions else None


def has_source(rule: FieldRule) -> pl.Expr:
    """True where the rule's source holds any text."""
    column = pl.col(source_column(rule))
    return column.is_not_null() & (column != "")


def missed(rule: FieldRule) -> pl.Expr:
    """True where there was text and none of the rule's patterns matched it (T011)."""
    if not rule.extractions:
        return pl.lit(value=False)
    return has_source(rule) & pl.col("unmatched").list.contains(rule.target).fill_null(value=False)


def collect(wide: pl.DataFrame, config: PipelineConfig, *, reveal: bool) -> Frames:
    """Count one chunk of readable bookings: ``fields``, ``field_values`` (hashes), ``field_examples``."""
    rules = mapped_rules(config)
    counts = [_rule_counts(rule) for rule in rules]
    counts += [_computed_counts(name, source) for name, source in COMPUTED.items()]
    counted = pl.concat([wide.lazy().select(*items) for items in counts]).with_row_index("place").collect()
    targets = [rule.target for rule in rules] + list(COMPUTED)
    values = [_filled(wide[target]) for target in targets]
    # Where the mapping says where a vocabulary's value stands, an unknown one may be anything, a title too.
    plain = {target for target in COMPUTED if not taken_from_elsewhere(config, target)}
    return {
        "fields": counted,
        "field_values": pl.concat([_hashes(place, kept) for place, kept in enumerate(values)]),
        "field_examples": pl.concat(
            [
                _examples(target, kept, plain=reveal or target in plain)
                for target, kept in zip(targets, values, strict=True)
            ]
        ),
    }


def merged_values(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Distinct values of many chunks: place UInt32, hash UInt64."""
    return pl.concat([pl.DataFrame(schema=_VALUES), *parts]).unique()


def total(
    config: PipelineConfig,
    counts: Sequence[pl.DataFrame],
    values: Sequence[pl.DataFrame],
    examples: Sequence[pl.DataFrame],
) -> pl.DataFrame:
    """One row a field, in the order of the mapping, then the computed fields."""
    if not counts:
        return pl.DataFrame(schema=_SCHEMA)
    names = [(rule.target, rule.source, patterns_text(rule)) for rule in mapped_rules(config)]
    names += [(name, source, None) for name, source in COMPUTED.items()]
    sums = pl.concat(counts).group_by("place").sum()
    distinct = merged_values(values).group_by("place").agg(pl.len().alias("distinct"))
    return (
        pl.DataFrame(names, schema=["target", "source", "pattern"], orient="row")
        .with_row_index("place")
        .join(sums, on="place", how="left", maintain_order="left")
        .join(distinct, on="place", how="left", maintain_order="left")
        .join(_most_seen(examples), on="target", how="left", maintain_order="left")
        .with_columns(
            coverage=_coverage(),
            filled=share(pl.col("matched") + pl.col("fell_back"), pl.col("bookings")),
            distinct=pl.col("distinct").fill_null(0),
            examples=pl.col("examples").fill_null([]),
        )
        .select(pl.col(name).cast(kind) for name, kind in _SCHEMA.items())
    )


def _filled(values: pl.Series) -> pl.Series:
    kept = values.drop_nulls()
    return kept.filter(kept != "") if kept.dtype == pl.String else kept


def _hashes(place: int, values: pl.Series) -> pl.DataFrame:
    return (
        values.hash().unique().to_frame("hash").select(pl.lit(place, dtype=pl.UInt32).alias("place"), "hash")
    )


def _examples(target: str, values: pl.Series, *, plain: bool) -> pl.DataFrame:
    shown = pl.col("value") if plain else shape_expr(pl.col("value"))
    return (
        values.head(_SAMPLED)
        .cast(pl.String)
        .to_frame("value")
        .group_by(shown.alias("example"), maintain_order=True)
        .agg(pl.len().cast(pl.Int64).alias("seen"))
        .select(pl.lit(target).alias("target"), "example", "seen")
    )


def _rule_counts(rule: FieldRule) -> Sequence[pl.Expr]:
    without = ~has_source(rule)
    fallen = missed(rule)
    filled = pl.col(rule.target).is_not_null() & (pl.col(rule.target) != "")
    return _sums(~without & ~fallen, fallen & filled, fallen & ~filled, without)


def _computed_counts(name: str, source: str) -> Sequence[pl.Expr]:
    present = pl.col(name).is_not_null()
    known = {"resource": pl.col("modality_known"), "status": pl.col("status_known")}.get(source, present)
    known = known.fill_null(value=False)
    return _sums(present & known, present & ~known, ~present, pl.lit(value=False))


def _sums(*counted: pl.Expr) -> Sequence[pl.Expr]:
    names = ("matched", "fell_back", "emptied", "empty")
    sums = [item.sum().cast(pl.Int64).alias(name) for item, name in zip(counted, names, strict=True)]
    return [pl.len().cast(pl.Int64).alias("bookings"), *sums]


def _coverage() -> pl.Expr:
    caught, tried = pl.col("matched"), pl.col("matched") + pl.col("fell_back") + pl.col("emptied")
    return pl.when(tried > 0).then(caught / tried).when(pl.col("bookings") > 0).then(0.0)


def _most_seen(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return (
        pl.concat([pl.DataFrame(schema=_EXAMPLES), *parts])
        .group_by("target", "example", maintain_order=True)
        .agg(pl.col("seen").sum())
        .sort("seen", descending=True, maintain_order=True)
        .group_by("target", maintain_order=True)
        .agg(pl.col("example").head(EXAMPLES).alias("examples"))
    )
