"""What one fetch brought home, every booking in exactly one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.calpendo.stats import FetchStats


@dataclass(frozen=True)
class FetchedBookings:
    """The bookings of a window or of a list of ids, and what became of those that are not among them.

    ``listed``   distinct ids, in the server's order
    ``payloads`` one dict a booking, in the list's order, the operator of an MRI scan under ``operator``; a payload
                 whose text could not be read is ``{"id": ..., "_unreadable": text}``
    ``cut``      outside the window by the list alone: no detail was fetched, they count as filtered
    ``gone``     the detail answered 404
    ``failed``   booking id -> why its detail could not be had
    ``invalid``  list rows without an integer id, as they came
    ``warnings`` texts without patient data
    ``operator_unknown`` scans of whose operators the server said nothing, as against that there is none
    ``mode``     how it was fetched in the end: details, bulk or changed

    Law: ``len(listed) = len(payloads) + len(cut) + len(gone) + len(failed)``. The text form holds no payload.
    """

    listed: tuple[int, ...] = ()
    payloads: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    cut: tuple[int, ...] = ()
    gone: tuple[int, ...] = ()
    failed: Mapping[int, str] = field(default_factory=dict)
    invalid: tuple[object, ...] = field(default=(), repr=False)
    warnings: tuple[str, ...] = ()
    operator_unknown: frozenset[int] = frozenset()
    stats: FetchStats = field(default_factory=FetchStats)
    mode: str = "details"

    def __post_init__(self) -> None:
        """Check the law of conservation."""
        accounted = len(self.payloads) + len(self.cut) + len(self.gone) + len(self.failed)
        if len(self.listed) != accounted:
            raise AssertionError(f"{len(self.listed)} bookings were listed, {accounted} are accounted for")
