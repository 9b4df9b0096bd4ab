"""The mapping as it might be: a configuration with other patterns, to audit the same bookings with once more."""

from __future__ import annotations

import re
from dataclasses import replace

import polars as pl

from pipeline.audit.findings import Audit
from pipeline.config import AnyConfig, PipelineConfig
from pipeline.config.field_mapping import ExtractionRule
from pipeline.errors import PluginConfigError


def with_pattern(config: AnyConfig, target: str, pattern: str, group: int | str = 1) -> PipelineConfig:
    """Return the configuration with ``pattern`` for ``target``, everything else as it was.

    Raises:
        PluginConfigError: the target has no rule, the pattern does not compile, or it has no such group.
    """
    config = PipelineConfig.of(config)
    if target not in {rule.target for rule in config.rules}:
        raise PluginConfigError(
            f"{target!r} has no rule; mapped are {', '.join(rule.target for rule in config.rules)}"
        )
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise PluginConfigError(f"pattern for {target}: {error.msg} at position {error.pos}") from error
    if group not in {*range(compiled.groups + 1), *compiled.groupindex}:
        raise PluginConfigError(f"pattern for {target}: there is no group {group!r}")
    rules = [
        replace(rule, extractions=(ExtractionRule(pattern, group),)) if rule.target == target else rule
        for rule in config.rules
    ]
    return config.model_copy(update={"rules": tuple(rules)})


def with_proposals(config: AnyConfig, proposals: pl.DataFrame) -> PipelineConfig:
    """Return the configuration with every pattern that an audit proposes (``Audit.proposals``)."""
    config = PipelineConfig.of(config)
    for row in proposals.filter(pl.col("pattern").is_not_null()).iter_rows(named=True):
        config = with_pattern(config, row["target"], row["pattern"], row["group"])
    return config


def coverage_change(before: Audit, after: Audit) -> pl.DataFrame:
    """Compare coverage field by field: target, before, after, gained (bookings), fields with a pattern only."""
    columns = ("target", "coverage", "matched")
    patterned = before.fields.filter(pl.col("pattern").is_not_null()).select(columns)
    return patterned.join(
        after.fields.select(columns), on="target", how="inner", suffix="_after", maintain_order="left"
    ).select(
        "target",
        pl.col("coverage").alias("before"),
        pl.col("coverage_after").alias("after"),
        (pl.col("matched_after") - pl.col("matched")).alias("gained"),
    )
