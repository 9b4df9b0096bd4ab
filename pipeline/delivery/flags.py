"""What stood out in a cycle's batches, added up for the report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.batch import Batch


def merged_flags(batches: Iterable[Batch]) -> dict[str, Any]:
    """Join the flags of several batches by name: ids in order, counts added; what is empty is left out."""
    total: dict[str, Any] = {}
    for batch in batches:
        for item in fields(batch.flags):
            value = getattr(batch.flags, item.name)
            if value:
                total[item.name] = _joined(total.get(item.name), value)
    return total


def _joined(before: Any, more: Any) -> Any:
    if isinstance(more, Mapping):
        counts = dict(before or {})
        for name, value in more.items():
            counts[name] = _joined(counts.get(name), value)
        return counts
    if isinstance(more, int):
        return (before or 0) + more
    return [*(before or ()), *more]
