"""What a backfill read and wrote, the law that nothing disappeared on the way, and how far it has come."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pipeline.display import visible
from pipeline.errors import PluginSchemaError
from pipeline.wording import first_of


@dataclass(frozen=True)
class BackfillSummary:
    """Counts of a finished backfill. ``read = entries + rejected + replaced + filtered``, checked when it is made.

    ``replaced`` are versions of bookings of which a newer one was read; ``filtered`` is 0 for archives. ``months``
    counts entries by month, ``reasons`` rejections by reason (a booking may have several), ``remarks`` unknown
    statuses and resources, and doubtful times, over everything read. ``seconds`` is wall time by stage, of the run
    that finished it; ``resumed`` says that an earlier run did part of the work, ``was_complete`` that one had done
    all of it. Holds no patient data.
    """

    read: int
    entries: int
    rejected: int
    replaced: int
    filtered: int
    gone: int = 0
    months: Mapping[str, int] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)
    remarks: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    resumed: bool = False
    was_complete: bool = False

    def __post_init__(self) -> None:
        """Hold the law of conservation."""
        written = self.entries + self.rejected + self.replaced + self.filtered
        if self.read != written:
            raise PluginSchemaError(
                f"the backfill read {self.read} payloads and accounts for {written} (entries {self.entries}, rejected "
                f"{self.rejected}, replaced {self.replaced}, filtered {self.filtered}); nothing was published"
            )

    @property
    def rate(self) -> float:
        """Payloads per second, over all stages of this run; 0 where an earlier one read some of them, or all."""
        total = sum(self.seconds.values())
        return self.read / total if total and not (self.resumed or self.was_complete) else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as plain JSON values."""
        return asdict(self)

    def to_json(self) -> str:
        """Return the counts as JSON text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)

    def to_text(self) -> str:
        """Return the counts as lines to read."""
        lines = ["The output was complete already; nothing was done."] if self.was_complete else []
        lines += [
            f"{self.read:>12,} bookings read",
            f"{self.entries:>12,} entries written, in {len(self.months)} months{self._span()}",
            f"{self.rejected:>12,} rejected{_listed(self.reasons)}",
            f"{self.replaced:>12,} replaced by a newer version of the same booking",
        ]
        if self.filtered:
            lines.append(f"{self.filtered:>12,} not asked for{_listed(self.remarks.get('filtered', {}))}")
        if self.gone:
            lines.append(f"{self.gone:>12,} deleted on the server between list and detail")
        for kind, words in REMARKS.items():
            values = {value: count for value, count in self.remarks.get(kind, {}).items() if count}
            if values:
                lines.append(f"{sum(values.values()):>12,} {words}{_listed(values)}")
        return "\n".join(lines)

    def _span(self) -> str:
        months = sorted(self.months)
        return f" ({months[0]} to {months[-1]})" if months else ""


REMARKS = {
    "unknown_statuses": "with a status this version does not know",
    "unknown_resources": "with a resource that maps to no modality",
    "times": "with times to look at",
}


def _listed(counts: Mapping[str, int], most: int = 6) -> str:
    shown = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    texts = [f"{visible(value) or 'missing'}: {count:,}" for value, count in shown]
    return f" ({first_of(texts, most)})" if texts else ""


Stage = Literal["fetch", "convert", "resolve", "merge"]


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` in the stage's unit: windows, bytes of the archives, buckets, parts of the output.

    ``bookings`` counts those converted so far, whoever converted them; ``total`` can still grow while a compressed
    archive is read.
    """

    stage: Stage
    done: int
    total: int
    bookings: int


ProgressCallback = Callable[[Progress], None]
