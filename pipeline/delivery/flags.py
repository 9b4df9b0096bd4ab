"""What stood out in a cycle's batches, added up for the report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.batch import Batch


KEPT_IDS = 20
"""How many bookings a report names for one field and one kind of repair; the count is of all."""


def merged_flags(batches: Iterable[Batch]) -> dict[str, Any]:
    """Join the flags of several batches by name: ids in order, counts added; what is empty is left out.

    Of ``repaired`` the count and the first bookings of each field and kind are kept (``counted_repairs``).
    """
    total: dict[str, Any] = {}
    for batch in batches:
        for item in fields(batch.flags):
            value = getattr(batch.flags, item.name)
            if value:
                total[item.name] = _joined(total.get(item.name), value)
    if "repaired" in total:
        total["repaired"] = counted_repairs(total["repaired"])
    return total


def counted_repairs(repaired: Mapping[str, Mapping[str, Sequence[int]]]) -> dict[str, dict[str, Any]]:
    """Return field -> kind -> ``count`` and ``bookings``, the ids of the first ones."""
    return {
        field: {kind: {"count": len(ids), "bookings": list(ids[:KEPT_IDS])} for kind, ids in kinds.items()}
        for field, kinds in repaired.items()
    }


def _joined(before: Any, more: Any) -> Any:
    if isinstance(more, Mapping):
        counts = dict(before or {})
        for name, value in more.items():
            counts[name] = _joined(counts.get(name), value)
        return counts
    if isinstance(more, int):
        return (before or 0) + more
    return [*(before or ()), *more]
