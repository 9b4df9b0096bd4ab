"""What each target field got: how many bookings its rule caught, what it fell back to, what stayed empty.

For statuses and resources besides: what each source value became, how often, and whether the table knew it (T013).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from pipeline.audit.findings import EXAMPLES, FRAMES, ROWS, Frames, add_up, count_by, share
from pipeline.config.field_mapping import as_configured
from pipeline.transform.entries import mapped_rules
from pipeline.transform.shapes import shape_expr
from pipeline.transform.vocabularies import OTHER_MODALITY, STEP_STATUSES

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

_VOCABULARY = ("value", "mapped", "known", "cancelled")
STATUS = ("status_source", "performed_procedure_step_status", "status_known")
RESOURCE = ("modality_source", "modality", "modality_known")
"""The columns of a vocabulary: the source's value, what it became, and whether the table knew it."""

_FALLBACKS = (OTHER_MODALITY, *STEP_STATUSES)
_SAMPLED = 500


def source_column(rule: FieldRule) -> str:
    """Return the column of the bookings frame that holds a rule's source."""
    return f"source:{rule.source}"


def patterns_text(rule: FieldRule) -> str | None:
    """Return a rule's pattern as a person reads it: itself, or for a list or a template its ``_extract`` as JSON."""
    if len(rule.extractions) == 1 and rule.extractions[0].template is None:
        return rule.extractions[0].pattern
    return json.dumps(as_configured(rule.extractions)) if rule.extractions else None


def missed(rule: FieldRule) -> pl.Expr:
    """Return whether there was text and none of the rule's patterns matched it (T011)."""
    if not rule.extractions:
        return pl.lit(value=False)
    unmatched = pl.col("unmatched").list.contains(rule.target).fill_null(value=False)
    return _has_text(source_column(rule)) & unmatched


def taken_from_elsewhere(config: PipelineConfig, target: str) -> bool:
    """Return whether a rule says where a vocabulary's value stands, so that it may hold anything."""
    return any(rule.target == target for rule in config.rules)


def collect(wide: pl.DataFrame, config: PipelineConfig, *, reveal: bool) -> Frames:
    """Count one chunk of readable bookings: ``fields``, ``field_values`` (hashes), ``field_examples``."""
    counts = {rule.target: _rule_counts(rule) for rule in mapped_rules(config)}
    counts |= {name: _computed_counts(name, source) for name, source in COMPUTED.items()}
    values = {target: _filled(wide[target]) for target in counts}
    # Where the mapping says where a vocabulary's value stands, an unknown one may be anything, a title too.
    plain = {target for target in COMPUTED if not taken_from_elsewhere(config, target)}
    places = pl.Enum(list(counts))
    return {
        "fields": pl.concat(
            [wide.lazy().select(pl.lit(target).alias("target"), *items) for target, items in counts.items()]
        ).collect(),
        "field_values": pl.concat(
            [
                kept.hash().unique().to_frame("hash").with_columns(pl.lit(target, places).alias("target"))
                for target, kept in values.items()
            ]
        ),
        "field_examples": pl.concat(
            [_examples(target, kept, plain=reveal or target in plain) for target, kept in values.items()]
        ),
    }


def merged_values(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return the distinct values of many chunks: their hash UInt64, target Enum."""
    return pl.concat(parts).unique()


def total(
    config: PipelineConfig,
    counts: Sequence[pl.DataFrame],
    values: Sequence[pl.DataFrame],
    examples: Sequence[pl.DataFrame],
) -> pl.DataFrame:
    """Add up ``fields``: a row per field, in the order of the mapping, then the computed fields."""
    if not counts:
        return pl.DataFrame(schema=FRAMES["fields"])
    names = [(rule.target, rule.source, patterns_text(rule)) for rule in mapped_rules(config)]
    names += [(name, source, None) for name, source in COMPUTED.items()]
    distinct = merged_values(values).group_by("target").agg(pl.len().alias("distinct"))
    tried = pl.col("matched") + pl.col("fell_back") + pl.col("emptied")
    return (
        pl.DataFrame(names, schema=["target", "source", "pattern"], orient="row")
        .join(pl.concat(counts).group_by("target").sum(), on="target", how="left", maintain_order="left")
        .join(distinct.cast({"target": pl.String}), on="target", how="left", maintain_order="left")
        .join(_most_seen(examples), on="target", how="left", maintain_order="left")
        .with_columns(
            coverage=pl.when(tried > 0)
            .then(pl.col("matched") / tried)
            .when(pl.col("bookings") > 0)
            .then(0.0),
            filled=share(pl.col("matched") + pl.col("fell_back"), pl.col("bookings")),
            distinct=pl.col("distinct").fill_null(0),
            examples=pl.col("examples").fill_null([]),
        )
        .select(pl.col(name).cast(kind) for name, kind in FRAMES["fields"].items())
    )


def collect_vocabulary(wide: pl.DataFrame, columns: tuple[str, str, str]) -> pl.DataFrame:
    """Count one chunk by source value, mapped value and whether it was known; columns as in ``STATUS``."""
    # A booking marked as cancelled is DISCONTINUED whatever its status says.
    marked = pl.col("cancelled").fill_null(value=False) if columns == STATUS else pl.lit(value=False)
    shown = dict(zip(("value", "mapped", "known"), columns, strict=True))
    return count_by(wide.select("booking_id", cancelled=marked, **shown), *_VOCABULARY)


def total_vocabulary(parts: Sequence[pl.DataFrame], *, masked: bool) -> pl.DataFrame:
    """Add up ``statuses`` or ``resources``, the most frequent first; where ``masked``, values are shapes.

    A status or resource is no patient's data and is shown as it is, so that it can be entered in the table; it is
    masked only where the mapping takes it from elsewhere. What no table knows may then be its own modality, so that
    a title would show up there too.
    """
    counted = add_up(parts, FRAMES["statuses"], *_VOCABULARY)
    if masked:
        mapped = pl.col("mapped")
        own = ~pl.col("known") & ~mapped.is_in(_FALLBACKS)
        shaped = counted.with_columns(
            shape_expr(pl.col("value")), mapped=pl.when(own).then(shape_expr(mapped)).otherwise(mapped)
        )
        counted = add_up([shaped], FRAMES["statuses"], *_VOCABULARY)
    return counted.head(ROWS)


def _has_text(column: str) -> pl.Expr:
    return (pl.col(column) != "").fill_null(value=False)


def _filled(values: pl.Series) -> pl.Series:
    kept = values.drop_nulls()
    return kept.filter(kept != "") if kept.dtype == pl.String else kept


def _examples(target: str, values: pl.Series, *, plain: bool) -> pl.DataFrame:
    shown = pl.col("value") if plain else shape_expr(pl.col("value"))
    return (
        values.head(_SAMPLED)
        .cast(pl.String)
        .to_frame("value")
        .group_by(shown.alias("example"), maintain_order=True)
        .agg(pl.len().cast(pl.Int64).alias("seen"))
        .with_columns(pl.lit(target).alias("target"))
    )


def _most_seen(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return (
        pl.concat(parts)
        .group_by("target", "example", maintain_order=True)
        .agg(pl.col("seen").sum())
        .sort("seen", descending=True, maintain_order=True)
        .group_by("target", maintain_order=True)
        .agg(pl.col("example").head(EXAMPLES).alias("examples"))
    )


def _rule_counts(rule: FieldRule) -> Sequence[pl.Expr]:
    given, fallen, filled = _has_text(source_column(rule)), missed(rule), _has_text(rule.target)
    return _sums(matched=given & ~fallen, fell_back=fallen & filled, emptied=fallen & ~filled, empty=~given)


def _computed_counts(name: str, source: str) -> Sequence[pl.Expr]:
    present = pl.col(name).is_not_null()
    known = {"resource": pl.col("modality_known"), "status": pl.col("status_known")}.get(source, present)
    known = known.fill_null(value=False)
    return _sums(
        matched=present & known, fell_back=present & ~known, emptied=~present, empty=pl.lit(value=False)
    )


def _sums(**counted: pl.Expr) -> Sequence[pl.Expr]:
    return [pl.len().alias("bookings"), *(item.sum().alias(name) for name, item in counted.items())]
