"""T020: configuration -> query -> fetch -> transform -> change detection -> entries, over real sockets."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import pytest

from pipeline.plugin import CalendoPlugin
from pipeline.simulator import CalpendoSimulator
from tests.acceptance.test_core_plugin import ANSWERS, BOOKINGS, MAPPING, told

NOW = datetime(2026, 6, 10, 14, 0, tzinfo=UTC)
OPERATORS = {"1001": "Testop One", "1003": "Testop Three", "1005": "Testop Five"}


@pytest.fixture
def simulator() -> Iterator[CalpendoSimulator]:
    """Serve T019's bookings with their operators, each answer a twentieth of a second late."""
    bookings = [
        booking | ({"operator": OPERATORS[str(booking["id"])]} if str(booking["id"]) in OPERATORS else {})
        for booking in BOOKINGS
    ]
    with CalpendoSimulator(bookings, detail_latency=0.05) as server:
        yield server


@pytest.fixture
def plugin(
    simulator: CalpendoSimulator, credentials: tuple[str, str], tmp_path: Path
) -> Iterator[CalendoPlugin]:
    """Make a plugin with a full configuration."""
    config: dict[str, Any] = {
        "base_url": simulator.url,
        "resources": ["3T Diagnostic", "EEG Lab"],
        "status_filter": None,
        "timezone": "America/Edmonton",
        "lookback_multiplier": 2,
        "resource_modality_mapping": {"3T": "MR", "EEG": "EEG"},
        "field_mapping": {**MAPPING, "accession_number": "id", "operator_name": "operator"},
        "state_path": str(tmp_path / "ledger.sqlite"),
    }
    with CalendoPlugin("calpendo_primary", config, clock=lambda: NOW) as made:
        yield made


def test_end_to_end_sync(
    plugin: CalendoPlugin, simulator: CalpendoSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """T020: the full workflow, twice; then with one booking edited, one cancelled and one deleted."""
    caplog.set_level(logging.DEBUG)
    plugin.validate_config()
    entries = {entry["source_record_id"]: entry for entry in plugin.fetch_entries(sync_interval=60)}

    # Rolling window: 2 x 60 s back, 24 h ahead, in Mountain Time; 12 h more for bookings that still run.
    query = next(request.path for request in simulator.requests if "/q/Calpendo.Booking/" in request.path)
    assert (
        "/AND/dateRange.start/GE/20260609-1958/dateRange.start/LT/20260611-0800/OR/resource.name/EQ/" in query
    )

    # Parallel details: several at once, never more than five, on kept-alive connections.
    details = [request.path for request in simulator.requests if "/b/Calpendo.Booking/" in request.path]
    assert sorted(details) == [f"/webdav/b/Calpendo.Booking/{number}" for number in range(1001, 1006)]
    assert 2 <= simulator.peak_in_flight <= 6
    assert simulator.connections <= 6

    # Transformations: extraction, UTC, duration, modality, status, operator; both generations.
    assert list(entries) == ["1001", "1002", "1003", "1004", "1005"]
    assert [entry["patient_id"] for entry in entries.values()] == [f"SUB00{number}" for number in range(1, 6)]
    assert entries["1005"]["patient_name"] == "Teste_Emil"
    assert {entry["scheduled_start_date"] for entry in entries.values()} == {date(2026, 6, 10)}
    assert [entry["scheduled_start_time"] for entry in entries.values()] == [
        time(15), time(17), time(19), time(20), time(21)
    ]  # fmt: skip
    assert [entry["scheduled_procedure_step_duration"] for entry in entries.values()] == [90, 60, 60, 60, 60]
    assert [entry["modality"] for entry in entries.values()] == ["MR", "EEG", "MR", "MR", "MR"]
    assert {number: entry["performed_procedure_step_status"] for number, entry in entries.items()} == {
        "1001": "SCHEDULED",
        "1002": "SCHEDULED",
        "1003": "DISCONTINUED",
        "1004": "SCHEDULED",
        "1005": "SCHEDULED",
    }
    assert {
        number: entry["operator_name"] for number, entry in entries.items() if entry["operator_name"]
    } == OPERATORS
    assert ANSWERS["booking_details"]["1004"]["properties"].get("project") is None
    assert entries["1004"]["study_description"] is None

    # Change detection: a second run returns nothing.
    assert plugin.fetch_entries(sync_interval=60) == []
    assert plugin.last_report.unchanged == 5

    # Logs: what was fetched and emitted, every request, and no name.
    info = told(caplog, logging.INFO)
    assert "[calpendo:calpendo_primary] Configuration validated: 2 resources" in info
    assert (
        "[calpendo:calpendo_primary] 5 entries returned: 5 new, 0 changed, 0 sent again, 0 withdrawn" in info
    )
    assert (
        "[calpendo:calpendo_primary] 0 entries returned: 0 new, 0 changed, 0 sent again, 0 withdrawn" in info
    )
    assert any(f"GET {simulator.url}{details[0]}" in text for text in told(caplog, logging.DEBUG))
    assert "Testa" not in caplog.text

    # A change, a cancellation, a deletion: exactly these come.
    simulator.edit(1001, title="SUB001_Neu_Anna")
    simulator.edit(1002, status="Cancelled")
    simulator.delete(1004)
    changed = {entry["source_record_id"]: entry for entry in plugin.fetch_entries(sync_interval=60)}
    assert list(changed) == ["1001", "1002", "1004"]
    assert changed["1001"]["patient_name"] == "Neu_Anna"
    assert changed["1002"]["performed_procedure_step_status"] == "DISCONTINUED"
    assert changed["1004"] == {**entries["1004"], "performed_procedure_step_status": "DISCONTINUED"}
    warnings = told(caplog, logging.WARNING)
    assert "[calpendo:calpendo_primary] 1 bookings withdrawn: 1004" in warnings
    assert plugin.fetch_entries(sync_interval=60) == []


def test_two_sources_share_nothing(
    plugin: CalendoPlugin, simulator: CalpendoSimulator, credentials: tuple[str, str]
) -> None:
    """Promise: two sources in one process, each in its thread with its own ledger, do not disturb each other."""
    config = {key: value for key, value in plugin.config.items() if key != "state_path"}
    plugins = [CalendoPlugin(name, config, clock=lambda: NOW) for name in ("a", "b")]
    found: dict[str, list[dict[str, Any]]] = {}
    threads = [
        threading.Thread(target=lambda one=one: found.update({one.source_name: one.fetch_entries(60)}))
        for one in plugins
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in plugins:
        assert {entry["data_source"] for entry in found[one.source_name]} == {one.source_name}
        assert len(found[one.source_name]) == 5
        one.close()
