"""What this plugin left in the rows' status, kept in the ledger: it must outlive a restart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from pipeline.pylantir.steps import Step

if TYPE_CHECKING:
    from pipeline.delivery.ledger import Ledger

STEPS_NOTE = "pylantir steps"
HOST_NAME_NOTE = "pylantir source"
SYNCED_NOTE = "pylantir synced"
"""The ledger's note that a cycle has gone through: rows in the form of Pylantir's own plugin are outdated since."""

# A booking that comes back after a longer time has a new start, and then the book is not needed (see ``settle``).
_KEPT = timedelta(days=7)
_FOREVER = datetime.max.replace(tzinfo=UTC)


class StepBook:
    """The steps by booking id; one note in the ledger, written when something changed."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        kept = json.loads(ledger.meta(STEPS_NOTE) or "{}")
        self._steps = {int(number): Step(status, bool(by)) for number, (status, by) in kept.items()}
        self.host_name = ledger.meta(HOST_NAME_NOTE)
        """The name under which Pylantir writes this source's rows; None before its first record."""

    def get(self, booking_id: int) -> Step | None:
        """Give what is known of a booking's row."""
        return self._steps.get(booking_id)

    def write(self, steps: Mapping[int, Step], *, host_name: str | None = None, synced: bool = False) -> None:
        """Take over what was learned of some rows, and put it on the disk where it is news."""
        notes: dict[str, str] = {}
        if any(self._steps.get(number) != step for number, step in steps.items()):
            self._steps |= steps
            living = set(self._ledger.window_ids(datetime.now(UTC) - _KEPT, _FOREVER))
            self._steps = {number: step for number, step in self._steps.items() if number in living}
            notes[STEPS_NOTE] = json.dumps(
                {str(number): [step.status, int(step.by_scanner)] for number, step in self._steps.items()}
            )
        if host_name is not None and host_name != self.host_name:
            notes[HOST_NAME_NOTE] = self.host_name = host_name
        if synced and self._ledger.meta(SYNCED_NOTE) is None:
            notes[SYNCED_NOTE] = datetime.now(UTC).isoformat(timespec="seconds")
        if notes:
            with self._ledger.transaction():
                for key, value in notes.items():
                    self._ledger.set_meta(key, value)
