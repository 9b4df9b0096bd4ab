"""What earlier cycles brought home, so that ``fetch_mode`` changed asks only for what is new or modified."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class KnownBookings:
    """Booking id -> the stamp its list row had and the payload it led to; kept in memory only.

    Payloads hold patients' names, so nothing of this is written anywhere, and the text form shows only the number.
    One object belongs to one source; it is not for several threads at a time. ``cycles`` counts the fetches since
    the last one that fetched every detail.
    """

    cycles: int = 0
    _kept: dict[int, tuple[str, dict[str, Any]]] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Tell how many bookings are kept."""
        return f"KnownBookings({len(self._kept)} bookings, {self.cycles} cycles since all were fetched)"

    def __len__(self) -> int:
        """Return how many bookings are kept."""
        return len(self._kept)

    def full_due(self, every: int) -> bool:
        """Return whether this cycle is to fetch every detail: the first one, and then each ``every``-th."""
        return not self._kept or self.cycles + 1 >= every

    def payload(self, number: int, stamp: str) -> dict[str, Any] | None:
        """Return the payload kept for a booking, None where its stamp is another than when it was fetched."""
        kept = self._kept.get(number)
        return kept[1] if kept is not None and kept[0] == stamp else None

    def replace(self, fresh: Iterable[tuple[int, str, dict[str, Any]]], *, full: bool) -> None:
        """Keep exactly these bookings: id, stamp, payload without its operator."""
        self._kept = {number: (stamp, payload) for number, stamp, payload in fresh}
        self.cycles = 0 if full else self.cycles + 1
