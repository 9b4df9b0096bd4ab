"""Rows that should be bookings, taken the whole way through the pipeline without a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.batch import process_batch
from pipeline.check.model import Failure, Row
from pipeline.schema import check_bookings
from pipeline.transform import reasons

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig


class BookingCheck:
    """Checks payloads chunk by chunk; without a mapping only what is wrong with the bookings themselves counts."""

    def __init__(self, config: PipelineConfig, *, mapped: bool) -> None:
        self.failures: list[Failure] = []
        self._config = config
        self._mapped = mapped
        self._seen: set[int] = set()

    def add(self, rows: Sequence[Row]) -> None:
        """Check a chunk. Raises PluginSchemaError where its bookings frame has not the known structure."""
        batch = process_batch([row.payload for row in rows], self._config)
        check_bookings(batch.asked_for)
        broken: dict[int, list[str]] = {}
        for place, codes in batch.rejected.select("row", "reasons").rows():
            told = [code for code in codes if self._mapped or code in reasons.REASONS]
            if told:
                broken[place] = told
        # A booking that the configuration ignores is no failure, and may come twice like any other.
        ids = dict(batch.asked_for.select("row", "booking_id").iter_rows())
        ids |= dict(batch.filtered.select("row", "booking_id").iter_rows())
        for place, booking_id in ids.items():
            # Within a chunk process_batch has told the older one; here it is one of an earlier chunk.
            if booking_id in self._seen and reasons.DUPLICATE_BOOKING_ID not in broken.get(place, []):
                broken.setdefault(place, []).append(reasons.DUPLICATE_BOOKING_ID)
        self._seen.update(booking_id for booking_id in ids.values() if booking_id is not None)
        self.failures += [
            Failure(rows[place].number, None if ids[place] is None else str(ids[place]), tuple(codes))
            for place, codes in sorted(broken.items())
        ]
