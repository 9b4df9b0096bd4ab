"""How far a backfill has come, for whoever shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

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
