"""The options of a Calpendo source: checked once, all faults together, frozen from then on (T002)."""

from __future__ import annotations

from pipeline.config.frozen import FrozenMapping
from pipeline.config.model import KINDS, OPTIONS, AnyConfig, PipelineConfig
from pipeline.config.types import STEP_STATUSES, DailyWindow
from pipeline.mapping import ExtractionRule, FieldRule

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
