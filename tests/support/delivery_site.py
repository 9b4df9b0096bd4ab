"""A site that changes under a running pipeline: a simulated server, a clock, and plugins that may be killed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pipeline.config.credentials import Credentials
from pipeline.plugin import CalendoPlugin
from pipeline.simulator import CalpendoSimulator

RESOURCE = "3T Diagnostic"
NOW = datetime(2026, 6, 10, 14, 0, tzinfo=UTC)  # eight o'clock in Edmonton
OFFSET = timedelta(hours=6)  # Edmonton in summer


class KilledError(BaseException):
    """Stands for SIGKILL: nothing in the product may catch it."""


def booking(number: int, start: datetime | None = None, minutes: int = 30, **fields: Any) -> dict[str, Any]:
    """Return a booking of generation A; number n begins n minutes after nine (``start``: aware) in Edmonton."""
    begins = (start or NOW + timedelta(hours=1, minutes=number)).astimezone(UTC).replace(tzinfo=None) - OFFSET
    payload = {
        "id": number,
        "title": f"SUB{number:03d}_Testa_Anna",
        "status": "Approved",
        "biskitType": "Calpendo.Booking",
        "formattedName": f"[{begins}.0, {begins + timedelta(minutes=minutes)}.0]",
        "properties": {
            "resource": {"id": 1, "formattedName": fields.pop("resource", RESOURCE)},
            "project": {"id": 11, "formattedName": "Sleep Study"},
            "cancelled": False,
            "created": "2026-05-01 08:00:00.0",
            "modified": "2026-06-01 08:00:00.0",
        },
    }
    return payload | fields


class Site:
    """One server, one ledger, one clock; ``plugin`` is the running one, made when it is asked for."""

    def __init__(self, simulator: CalpendoSimulator, state: Path | str, **options: Any) -> None:
        self.simulator = simulator
        self.now = NOW
        self.on_step: Callable[[str], None] = lambda _step: None
        self.config: dict[str, Any] = {
            "base_url": simulator.url,
            "resources": [RESOURCE],
            "resource_modality_mapping": {"3T": "MR"},
            "field_mapping": {
                "patient_id": {"source_field": "title", "_extract": {"pattern": "^([A-Z0-9]+)_", "group": 1}},
                "patient_name": {
                    "source_field": "title",
                    "_extract": {"pattern": "^[A-Z0-9]+_(.+)$", "group": 1},
                },
            },
            "state_path": str(state),
            "max_retries": 0,
            "detail_timeout": 2,
            "fetch_operators": False,
            **options,
        }
        self._plugin: CalendoPlugin | None = None

    @property
    def plugin(self) -> CalendoPlugin:
        """The running plugin."""
        if self._plugin is None:
            self._plugin = CalendoPlugin(
                "calpendo",
                self.config,
                credentials=Credentials("demo", "demo"),
                clock=lambda: self.now,
                on_step=lambda step: self.on_step(step),
            )
        return self._plugin

    def fetch(self) -> dict[int, dict[str, Any]]:
        """Run one cycle; give the entries by booking id, and see that none comes twice."""
        entries = self.plugin.fetch_entries(60)
        by_id = {int(entry["source_record_id"]): entry for entry in entries}
        assert len(by_id) == len(entries)
        return by_id

    def statuses(self) -> dict[int, str]:
        """Run one cycle; give the returned statuses by booking id."""
        return {number: entry["performed_procedure_step_status"] for number, entry in self.fetch().items()}

    def close(self) -> None:
        """End the running plugin in order."""
        if self._plugin is not None:
            self._plugin.close()
            self._plugin = None

    def kill(self) -> None:
        """End the running plugin as SIGKILL would: nothing more is written."""
        if self._plugin is not None:
            if self._plugin._ledger is not None:
                self._plugin._ledger.abandon()
            self.close()

    def kill_at(self, step: str) -> None:
        """Let the next cycle die at the end of a step."""

        def die(ended: str) -> None:
            if ended == step:
                self.on_step = lambda _step: None
                raise KilledError(step)

        self.on_step = die
