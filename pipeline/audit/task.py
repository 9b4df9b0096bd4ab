"""What is asked of every chunk of bookings, wherever it is counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.audit.labels import Labels
from pipeline.config import PipelineConfig
from pipeline.transform.selection import Selection

Payload = dict[str, Any] | str | bytes


@dataclass(frozen=True)
class Task:
    """The mapping, the labels, what was asked for, and whether values may be shown; can be sent to another process."""

    config: PipelineConfig
    labels: Labels
    reveal: bool = False
    selection: Selection | None = None
