"""The options of a Calpendo source: checked once, all faults together, frozen from then on (T002)."""

from __future__ import annotations

from pipeline.config.field_mapping import ExtractionRule, FieldRule
from pipeline.config.options import (
    KINDS,
    OPTIONS,
    STEP_STATUSES,
    AnyConfig,
    DailyWindow,
    FrozenMapping,
    PipelineConfig,
)

__all__ = [
    "KINDS",
    "OPTIONS",
    "STEP_STATUSES",
    "AnyConfig",
    "DailyWindow",
    "ExtractionRule",
    "FieldRule",
    "FrozenMapping",
    "PipelineConfig",
]
