"""The jobs a worker can be asked for, by name, so that who asks for them need not load what they need."""

from __future__ import annotations

from importlib import import_module
from typing import Any

STEPS = {
    "count": ("pipeline.archives", "segment_count"),
    "convert": ("pipeline.backfill.convert", "convert_source"),
    "find": ("pipeline.backfill.duplicates", "find_replaced"),
    "gather": ("pipeline.backfill.duplicates", "losers_by_segment"),
    "month": ("pipeline.backfill.merge", "merge_month"),
    "rejected": ("pipeline.backfill.merge", "merge_rejected"),
    "replaced": ("pipeline.backfill.merge", "merge_replaced"),
}


def perform(step: str, *arguments: Any) -> Any:
    """Do one job here; return what the step's function returns."""
    module, name = STEPS[step]
    return getattr(import_module(module), name)(*arguments)
