"""The task list's first category: T001, T003, T004 and T005, each criterion as a test (T002: test_configuration)."""

from __future__ import annotations

import ast
import inspect
import json
import logging
import py_compile
import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import pytest

import pipeline
from pipeline import errors
from pipeline.errors import PluginConfigError, PluginError, PluginFetchError, PluginSchemaError
from pipeline.plugin import CalendoPlugin, DataSourcePlugin
from pipeline.simulator import CalpendoSimulator

NOW = datetime(2026, 6, 10, 14, 0, tzinfo=UTC)  # eight o'clock in Edmonton
ANSWERS = json.loads((Path(__file__).parents[1] / "fixtures/calpendo_responses.json").read_text())
BOOKINGS = list(ANSWERS["booking_details"].values())
PACKAGE = Path(pipeline.__file__).parent
MAPPING = {
    "patient_id": {"source_field": "title", "_extract": {"pattern": "^([A-Z0-9]+)_", "group": 1}},
    "patient_name": {"source_field": "title", "_extract": {"pattern": "^[A-Z0-9]+_(.+)$", "group": 1}},
    "study_description": "properties.project.formattedName",
}
MakePlugin = Callable[..., CalendoPlugin]


@pytest.fixture
def simulator() -> Iterator[CalpendoSimulator]:
    """Serve the five bookings of T019's fixtures."""
    with CalpendoSimulator(BOOKINGS) as server:
        yield server


@pytest.fixture
def make_plugin(simulator: CalpendoSimulator, credentials: tuple[str, str]) -> Iterator[MakePlugin]:
    """Make plugins of the simulated server whose clock stands at NOW; each is closed at the end."""
    made: list[CalendoPlugin] = []

    def make(name: str = "site_a", **options: Any) -> CalendoPlugin:
        config = {
            "base_url": simulator.url,
            "resources": ["3T Diagnostic", "EEG Lab"],
            "resource_modality_mapping": {"3T": "MR", "EEG": "EEG"},
            "field_mapping": MAPPING,
            "max_retries": 0,
            "state_path": ":memory:",
            **options,
        }
        made.append(CalendoPlugin(name, config, clock=lambda: NOW))
        return made[-1]

    yield make
    for plugin in made:
        plugin.close()


def told(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    """Return the messages of one level."""
    return [record.getMessage() for record in caplog.records if record.levelno == level]


def test_t001_class_inherits_from_the_abstract_base_class() -> None:
    """T001: class inherits from `DataSourcePlugin` ABC, which cannot be instantiated itself."""
    assert issubclass(CalendoPlugin, DataSourcePlugin)
    assert inspect.isabstract(DataSourcePlugin)
    with pytest.raises(TypeError):
        DataSourcePlugin()  # type: ignore[abstract]


def test_t001_constructor_takes_source_name_and_config() -> None:
    """T001: constructor accepts `source_name` and `config`, stores them and base_url, and checks nothing yet."""
    config = {"base_url": "https://calpendo.test/"}
    plugin = CalendoPlugin("site_a", config)
    assert (plugin.source_name, plugin.config, plugin.base_url) == ("site_a", config, "https://calpendo.test")
    assert list(inspect.signature(CalendoPlugin.__init__).parameters)[1:3] == ["source_name", "config"]


@pytest.mark.parametrize("name", ["site_a", "100% MRI", "%s"])
def test_t001_logger_prefix(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """T001: logger initialized with prefix `[calpendo:{source_name}]`, whatever the name."""
    plugin = CalendoPlugin(name, {})
    with caplog.at_level(logging.INFO):
        plugin.lgr.info("%d bookings", 3)
    assert told(caplog, logging.INFO) == [f"[calpendo:{name}] 3 bookings"]


def test_t001_files_compile_and_the_named_libraries_are_used(tmp_path: Path) -> None:
    """T001: passes `python -m py_compile`; requests, pytz, re, hashlib and ThreadPoolExecutor do the work."""
    py_compile.compile(str(PACKAGE / "plugin.py"), cfile=str(tmp_path / "out"), doraise=True)
    imported = set()
    for module in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported |= {node.module, *(alias.name for alias in node.names)}
    assert imported >= {"requests", "pytz", "re", "hashlib", "ThreadPoolExecutor"}


def test_t003_signature_matches_the_interface() -> None:
    """T003: method signature matches the DataSourcePlugin interface."""
    assert inspect.signature(CalendoPlugin.fetch_entries) == inspect.signature(DataSourcePlugin.fetch_entries)
    assert list(inspect.signature(CalendoPlugin.fetch_entries).parameters) == ["self", "sync_interval"]


@pytest.mark.parametrize(
    ("options", "start"), [({}, "20260610-0758"), ({"lookback_multiplier": 60}, "20260610-0700")]
)
def test_t003_rolling_window(
    make_plugin: MakePlugin, simulator: CalpendoSimulator, options: dict[str, Any], start: str
) -> None:
    """T003: the window runs from now - sync_interval * lookback_multiplier to now + 24 h, in site time."""
    plugin = make_plugin(include_running=False, **options)
    plugin.fetch_entries(60)
    query = simulator.requests[0].path
    assert f"/dateRange.start/GE/{start}/" in query
    assert "/dateRange.start/LT/20260611-0800/" in query
    assert plugin.last_report.window_start is not None
    assert f"{plugin.last_report.window_start:%Y%m%d-%H%M}" == start


def test_t003_helpers_are_called_in_order(make_plugin: MakePlugin, simulator: CalpendoSimulator) -> None:
    """T003: list first, then details; then fetch, batch and deliver in this order."""
    steps: list[str] = []
    plugin = make_plugin(fetch_operators=False)
    plugin._on_step = steps.append
    plugin.fetch_entries(60)
    assert [request.path.split("/")[2] for request in simulator.requests] == ["q", *["b"] * 5]
    assert steps == ["settle", "list", "lookup", "batch", "diff", "writing", "write", "returning"]


def test_t003_returns_a_list_of_entries(make_plugin: MakePlugin) -> None:
    """T003: returns a list of dicts with worklist fields, plain Python values, in the order of the server's list."""
    entries = make_plugin().fetch_entries(60)
    assert [entry["source_record_id"] for entry in entries] == ["1001", "1002", "1003", "1004", "1005"]
    first = entries[0]
    assert re.fullmatch(r'\{"booking_hash": "[0-9a-f]{64}"\}', first.pop("notes"))
    assert first == {
        "patient_id": "SUB001",
        "patient_name": "Testa_Anna",
        "study_description": "Sleep Study (PRJ-001)",
        "scheduled_start_date": date(2026, 6, 10),
        "scheduled_start_time": time(15, 0),
        "scheduled_procedure_step_duration": 90,
        "modality": "MR",
        "performed_procedure_step_status": "SCHEDULED",
        "data_source": "site_a",
        "source_record_id": "1001",
    }
    assert {type(value) for entry in entries for value in entry.values()} <= {
        str,
        int,
        date,
        time,
        type(None),
    }


def test_t003_logs_counts_of_fetched_and_filtered(
    make_plugin: MakePlugin, caplog: pytest.LogCaptureFixture
) -> None:
    """T003: logs INFO with the counts of fetched and filtered entries."""
    with caplog.at_level(logging.INFO):
        make_plugin(allowed_studies=["Sleep Study (PRJ-001)"]).fetch_entries(60)
    messages = told(caplog, logging.INFO)
    assert any(
        re.search(r"5 bookings in the window .*: 3 emitted, 0 unchanged, 2 filtered, 0 rejected", text)
        for text in messages
    )
    assert any("3 entries returned: 3 new" in text for text in messages)


@pytest.mark.parametrize(
    ("kind", "details"), [("status", {"code": 500}), ("status", {"code": 401}), ("html", {}), ("reset", {})]
)
def test_t003_api_failures_raise(
    make_plugin: MakePlugin, simulator: CalpendoSimulator, kind: str, details: dict[str, Any]
) -> None:
    """T003: raises PluginFetchError on API failures; the report says so, and the next cycle is whole."""
    plugin = make_plugin()
    simulator.faults.add(kind, match="/q/", **details)
    with pytest.raises(PluginFetchError):
        plugin.fetch_entries(60)
    assert plugin.last_report.outcome == "failed"
    assert plugin.last_report.error
    simulator.faults.clear()
    assert len(plugin.fetch_entries(60)) == 5


def test_t003_no_bookings_are_no_error(make_plugin: MakePlugin) -> None:
    """T003: no bookings = empty list."""
    assert make_plugin(resources=["Nothing booked here"]).fetch_entries(60) == []


def test_t003_a_wrong_configuration_is_refused_before_anything_is_asked(
    make_plugin: MakePlugin, simulator: CalpendoSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T002, T003: all faults together, the missing credentials among them; no request is sent."""
    monkeypatch.delenv("CALPENDO_PASSWORD")
    plugin = make_plugin(resources=[], timezone="Mars/Olympus")
    for call in (plugin.validate_config, lambda: plugin.fetch_entries(60)):
        with pytest.raises(PluginConfigError) as caught:
            call()
        assert len(caught.value.faults) == 3
        for key in ("resources", "timezone", "CALPENDO_PASSWORD"):
            assert any(key in fault for fault in caught.value.faults)
    assert simulator.requests == []


def test_t003_a_broken_program_names_the_place_and_no_patient(
    make_plugin: MakePlugin, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Promise: a foreign error's text, which may hold a patient's name, reaches neither log nor caller."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("cannot cast Testa_Anna")

    monkeypatch.setattr("pipeline.batch.process_batch", broken)
    plugin = make_plugin()
    with (
        caplog.at_level(logging.DEBUG),
        pytest.raises(PluginSchemaError, match=r"RuntimeError at batch\.py:\d+") as caught,
    ):
        plugin.fetch_entries(60)
    assert caught.value.__cause__ is None
    assert "Testa" not in caplog.text
    assert "Testa" not in plugin.last_report.to_json()


@pytest.mark.parametrize("name", ["PluginConfigError", "PluginFetchError"])
def test_t004_errors_are_defined(name: str) -> None:
    """T004: both errors have a docstring, inherit from Exception, and are what the plugin raises."""
    error = getattr(errors, name)
    assert issubclass(error, Exception)
    assert issubclass(error, PluginError)
    assert error.__doc__
    assert getattr(pipeline, name) is error
    with pytest.raises(error, match="what happened"):
        raise error("what happened")


def test_t004_messages_hold_the_context(make_plugin: MakePlugin, simulator: CalpendoSimulator) -> None:
    """T004: error messages name the missing field and the endpoint."""
    plugin = make_plugin()
    del plugin.config["resources"]
    with pytest.raises(PluginConfigError, match="resources: missing"):
        plugin.validate_config()
    simulator.faults.add("status", match="/q/", code=500)
    with pytest.raises(PluginFetchError, match=r"Calpendo\.Booking query.*500"):
        make_plugin().fetch_entries(60)


def test_t005_every_request_at_debug_with_its_url(
    make_plugin: MakePlugin, simulator: CalpendoSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """T005: all API requests logged at DEBUG level with the full URL, under the source's prefix."""
    with caplog.at_level(logging.DEBUG):
        make_plugin().fetch_entries(60)
    messages = told(caplog, logging.DEBUG)
    for request in simulator.requests:
        assert any(f"GET {simulator.url}{request.path}" in text for text in messages), request.path
    ours = [record for record in caplog.records if record.name.startswith("pipeline")]
    assert all(record.getMessage().startswith("[calpendo:site_a] ") for record in ours)


def test_t005_validation_is_logged_at_info(make_plugin: MakePlugin, caplog: pytest.LogCaptureFixture) -> None:
    """T002, T005: successful operations logged at INFO."""
    with caplog.at_level(logging.INFO):
        make_plugin().validate_config()
    assert told(caplog, logging.INFO) == ["[calpendo:site_a] Configuration validated: 2 resources"]


def test_t005_missing_fields_are_warnings_with_the_booking_id(
    make_plugin: MakePlugin, simulator: CalpendoSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """T005: missing required fields logged at WARNING with the booking's id, once and not in every cycle."""
    simulator.edit(1002, title="")
    plugin = make_plugin()
    for _ in range(3):
        plugin.fetch_entries(60)
    rejected = [text for text in told(caplog, logging.WARNING) if "1002" in text]
    assert rejected == ["[calpendo:site_a] booking 1002 rejected, kept in quarantine: patient_id_missing"]
    simulator.edit(1002, title="SUB002_Testb_Bela")
    plugin.fetch_entries(60)
    simulator.edit(1002, title="")
    plugin.fetch_entries(60)
    assert len([text for text in told(caplog, logging.WARNING) if "1002 rejected" in text]) == 2


def test_t005_unmatched_titles_are_warnings_by_shape(
    make_plugin: MakePlugin, simulator: CalpendoSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """T005, T011, decision 6: a failed extraction is a WARNING with the title's shape; the value only if asked for."""
    simulator.edit(1002, title="Odd Oscar, 12")
    with caplog.at_level(logging.DEBUG):
        make_plugin().fetch_entries(60)
    assert any(
        "patient_id: the pattern did not match 1 bookings of the shape Aaa Aaaaa, 99" in text
        for text in told(caplog, logging.WARNING)
    )
    assert "Oscar" not in caplog.text
    with caplog.at_level(logging.DEBUG):
        make_plugin(log_original_values=True).fetch_entries(60)
    assert any(
        "booking 1002: patient_id: the pattern did not match 'Odd Oscar, 12'" in text
        for text in told(caplog, logging.DEBUG)
    )
    assert not any(
        "Oscar" in text for level in (logging.INFO, logging.WARNING) for text in told(caplog, level)
    )


def test_a_mapping_that_hardly_fits_is_an_error(
    make_plugin: MakePlugin, simulator: CalpendoSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """Promise: unknown statuses, and a pattern with few matches, are one ERROR line each, and stop nothing."""
    plugin = make_plugin()
    simulator.edit(1002, title="Odd Oscar, 12", status="Vielleicht")
    plugin.fetch_entries(60)
    (unknown,) = told(caplog, logging.ERROR)
    assert "unknown statuses: 'Vielleicht' (1)" in unknown
    simulator.edit(1001, title="Ugo 7")
    assert len(plugin.fetch_entries(60)) == 1
    plugin.fetch_entries(60)
    few = told(caplog, logging.ERROR)[1:]
    assert ["matched only 3 of 5 bookings" in text for text in few] == [True, True], (
        "one for each field, once"
    )


def test_t005_api_failures_are_errors_with_details(
    make_plugin: MakePlugin, simulator: CalpendoSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """T005: API failures logged at ERROR level with full exception details: one line, and the traceback at DEBUG."""
    simulator.faults.add("status", match="/q/", code=503)
    for level in (logging.INFO, logging.DEBUG):
        caplog.clear()
        with caplog.at_level(level), pytest.raises(PluginFetchError):
            make_plugin().fetch_entries(60)
        (told,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert told.levelno == logging.ERROR
        assert "503" in told.getMessage()
        assert bool(told.exc_info) is (level == logging.DEBUG)


def test_t005_no_print_statements() -> None:
    """T005: no print statements in production code."""
    for module in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            assert not (
                isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
            ), module


def test_no_patient_and_no_credential_is_ever_shown(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Issue: no patient name, title or credential in any log, error, report or repr, on the whole sample with faults."""
    from pipeline.simulator.sample import sample_bookings, sample_config

    monkeypatch.setenv("CALPENDO_USERNAME", "sesame-user")
    monkeypatch.setenv("CALPENDO_PASSWORD", "sesame-word")
    bookings = sample_bookings(NOW.date())
    with CalpendoSimulator(bookings, username="sesame-user", password="sesame-word") as simulator:
        config = {
            **sample_config(),
            "base_url": simulator.url,
            "max_retries": 0,
            "state_path": str(tmp_path / "ledger"),
        }
        said = []
        with caplog.at_level(logging.DEBUG), CalendoPlugin("s", config, clock=lambda: NOW) as plugin:
            for fault in (
                None,
                {"kind": "status", "code": 500, "match": r"[05]$"},
                {"kind": "bad_json", "match": "/q/"},
            ):
                if fault:
                    simulator.faults.add(**fault)
                try:
                    plugin.fetch_entries(7 * 86400)
                except PluginError as error:
                    said.append(f"{error!r} {error.__cause__!r}")
                said += [
                    plugin.last_report.to_json(),
                    plugin.last_report.to_text(),
                    repr(plugin),
                    repr(plugin.plan),
                ]
                simulator.faults.clear()
                for number in simulator.ids()[::7]:
                    simulator.edit(number, title=f"SUB777_Changed{number}_Person")
    shown = caplog.text + "\n".join(said)
    for booking in bookings:
        inner = booking.get("properties")
        title = booking.get("title") or (inner.get("title") if isinstance(inner, dict) else None)
        for word in re.findall(r"[^\W\d_]{4,}", title) if isinstance(title, str) else ():
            assert word not in shown or word in json.dumps(config), word
    assert "Changed" not in shown
    assert "sesame" not in shown
