"""Pylantir's interface as its own plugin's tests pin it down: constructor, messages, errors, mapping (T002, T023)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, time
from typing import Any

import pytest
from pylantir.data_sources import base

from pipeline import errors
from pipeline.pylantir import CalendoPylantirPlugin
from pipeline.simulator import CalpendoSimulator
from tests.integration.pylantir.conftest import new_plugin
from tests.support.bookings_by_hour import MAPPING, booking, source
from tests.support.both_plugins import fails_upstream

GOOD = {"base_url": "https://example.calpendo.com", "resources": ["3T"], "field_mapping": {}}


def test_it_is_pylantirs_plugin() -> None:
    """T023: Pylantir's abstract base class, a constructor without arguments, its names."""
    plugin = CalendoPylantirPlugin()
    assert isinstance(plugin, base.DataSourcePlugin)
    assert plugin.get_source_name() == "Calpendo"
    assert plugin.supports_incremental_sync() is True
    plugin.cleanup()


def test_a_good_configuration_is_accepted(credentials: tuple[str, str]) -> None:
    """T002: a valid configuration, with an empty mapping too, gives (True, "")."""
    assert CalendoPylantirPlugin().validate_config(dict(GOOD)) == (True, "")
    assert CalendoPylantirPlugin().validate_config(GOOD | {"field_mapping": MAPPING}) == (True, "")


PYLANTIRS_OWN_OPTIONS = {
    "api_path": "/webdav",
    "status_filter": "Approved",
    "lookback_multiplier": 2,
    "timezone": "America/Edmonton",
    "resource_modality_mapping": {"3T": "MR"},
    "allowed_studies": ["Brain Study"],
    "window_mode": "today",
    "daily_window": {"start_time": [7, 0], "end_time": [19, 30]},
    "site": "792",
    "protocol": {"792": "BRAIN_MRI_3T"},
}


def test_options_of_pylantirs_own_plugin_are_accepted(credentials: tuple[str, str]) -> None:
    """A configuration that uses every option of Pylantir's own plugin passes unchanged."""
    assert CalendoPylantirPlugin().validate_config(GOOD | PYLANTIRS_OWN_OPTIONS) == (True, "")


def test_pylantirs_shipped_example_is_accepted(credentials: tuple[str, str]) -> None:
    """The Calpendo example in Pylantir's package runs as it is."""
    import json
    from importlib.resources import files

    text = (files("pylantir") / "config" / "calpendo_config_example.json").read_text()
    (example,) = json.loads(text)["data_sources"]
    assert CalendoPylantirPlugin().validate_config(example["config"]) == (True, "")


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"resources": ["3T"], "field_mapping": {}}, "base_url"),
        ({"base_url": "https://x.example", "field_mapping": {}}, "resources"),
        (GOOD | {"resources": []}, "resources"),
        (GOOD | {"resources": "3T"}, "resources"),
        (
            GOOD | {"field_mapping": {"patient_id": {"source_field": "title", "_extract": {"group": 1}}}},
            "pattern",
        ),
        (GOOD | {"window_mode": "weekly"}, "window_mode"),
        (GOOD | {"daily_window": {"start_time": [25, 0], "end_time": [19, 0]}}, "daily_window"),
        (GOOD | {"lookback_multiplier": 0}, "lookback_multiplier"),
        (GOOD | {"allowed_studies": ["", 3]}, "allowed_studies"),
        (GOOD | {"timezone": "Mars/Olympus"}, "timezone"),
        (GOOD | {"keep_past_hours": -1}, "keep_past_hours"),
        (GOOD | {"keep_past_hours": "2"}, "keep_past_hours"),
        (GOOD | {"site": "1", "protocol": {"1": "脳"}}, "protocol"),
        (GOOD | {"site": "1", "protocol": ["x"]}, "protocol"),
    ],
)
def test_messages_name_the_faulty_key(credentials: tuple[str, str], config: dict[str, Any], key: str) -> None:
    """T002: a refused configuration is (False, message), and the message names the key."""
    valid, message = CalendoPylantirPlugin().validate_config(config)
    assert not valid
    assert key in message


@fails_upstream("accepted")
@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"base_url": ""}, "base_url"),
        ({"resources": [None]}, "resources"),
        (
            {"field_mapping": {"patient_id": {"source_field": "title", "_extract": {"pattern": "(["}}}},
            "patient_id",
        ),
    ],
)
def test_bad_configurations_are_refused(
    credentials: tuple[str, str], kind: str, change: dict[str, Any], key: str
) -> None:
    """An empty URL, a resource that is no text and a pattern that does not compile are refused."""
    valid, message = new_plugin(kind).validate_config(GOOD | change)
    assert not valid
    assert key in message


@pytest.mark.parametrize(
    "config", [None, [], "x", 7, {1: 2}, {"base_url": object()}, {"field_mapping": [[]]}]
)
def test_validation_never_raises(credentials: tuple[str, str], config: Any) -> None:
    """Whatever stands in the file, the answer is (False, message)."""
    valid, message = CalendoPylantirPlugin().validate_config(config)
    assert valid is False
    assert message


def test_missing_credentials_are_named() -> None:
    """T002: without a login the message names both variables."""
    valid, message = CalendoPylantirPlugin().validate_config(dict(GOOD))
    assert not valid
    assert "CALPENDO_USERNAME" in message
    assert "CALPENDO_PASSWORD" in message


def test_all_faults_come_at_once() -> None:
    """One start shows the faults of configuration, adapter and login together."""
    _, message = CalendoPylantirPlugin().validate_config({"keep_past_hours": -1})
    for key in ("base_url", "resources", "keep_past_hours", "CALPENDO_USERNAME"):
        assert key in message


def test_a_refused_login_is_both_packages_fetch_error(start: Callable, sim: CalpendoSimulator) -> None:
    """T007: 401 raises PluginFetchError, Pylantir's and this package's, and says "authentication"."""
    plugin = start(source(sim.url))
    sim.password = "another"
    with pytest.raises(base.PluginFetchError, match="authentication") as caught:
        plugin.fetch_entries({}, 60)
    assert isinstance(caught.value, errors.PluginFetchError)
    plugin.cleanup()


def test_no_bookings_is_an_empty_list(start: Callable, sim: CalpendoSimulator) -> None:
    """T003: an empty day is [] and no error."""
    assert start(source(sim.url)).fetch_entries({}, 60) == []


def test_a_404_detail_is_skipped(start: Callable, sim: CalpendoSimulator) -> None:
    """T008: a booking deleted between list and detail is left out, the others come."""
    sim.put(booking(1, "SUB1_Doe"))
    sim.put(booking(2, "SUB2_Roe"))
    sim.faults.add("status", match=r"/b/Calpendo\.Booking/1$", code=404)
    entries = start(source(sim.url)).fetch_entries({}, 60)
    assert [entry["source_record_id"] for entry in entries] == ["2"]


def test_the_order_of_bookings_is_kept(start: Callable, sim: CalpendoSimulator) -> None:
    """Entries come in the order of the server's list, though details are fetched in parallel."""
    order = [5, 3, 9, 1, 7, 2]
    for place, number in enumerate(order):
        sim.put(booking(number, f"SUB{number}_Doe", hours=1 + place))
    entries = start(source(sim.url)).fetch_entries({}, 60)
    assert [int(entry["source_record_id"]) for entry in entries] == order


def test_an_empty_mapping_falls_back_to_the_title(start: Callable, sim: CalpendoSimulator) -> None:
    """T014: without a mapping, subject id and name are the title."""
    sim.put(booking(1, "SUB1 Doe"))
    (entry,) = start(source(sim.url, field_mapping={})).fetch_entries({}, 60)
    assert (entry["patient_id"], entry["patient_name"]) == ("SUB1 Doe", "^SUB1 Doe")


def test_a_mapping_in_the_call_goes_before_the_configurations(
    start: Callable, sim: CalpendoSimulator
) -> None:
    """The argument wins where it is not empty; an empty one means the configuration's."""
    sim.put(booking(1, "SUB1_Doe"))
    plugin = start(source(sim.url))
    assert plugin.fetch_entries({}, 60)[0]["patient_id"] == "SUB1"
    (entry,) = plugin.fetch_entries({"patient_id": "id", "patient_name": "title"}, 60)
    assert entry["patient_id"] == "1"
    assert plugin.fetch_entries(None, 60)[0]["patient_id"] == "SUB1"


def test_a_bad_mapping_in_the_call_is_a_configuration_error(start: Callable, sim: CalpendoSimulator) -> None:
    """A pattern that does not compile raises both packages' PluginConfigError, naming the field."""
    plugin = start(source(sim.url))
    with pytest.raises(base.PluginConfigError, match="patient_id") as caught:
        plugin.fetch_entries({"patient_id": {"source_field": "title", "_extract": {"pattern": "(["}}}, 60)
    assert isinstance(caught.value, errors.PluginConfigError)


def test_a_fetch_before_validation_says_so() -> None:
    """A plugin that was never validated raises a configuration error, not an AttributeError."""
    with pytest.raises(base.PluginConfigError, match="validate_config"):
        CalendoPylantirPlugin().fetch_entries({}, 60)


def test_the_api_path_is_pylantirs_where_none_is_given(start: Callable, sim: CalpendoSimulator) -> None:
    """A configuration without api_path means /api, as it does to Pylantir's own plugin; one with it means that."""
    start(source(sim.url)).fetch_entries({}, 60)
    assert all(request.path.startswith("/api/") for request in sim.requests)
    sim.reset_counters()
    start(source(sim.url, "other", api_path="/webdav")).fetch_entries({}, 60)
    assert sim.requests
    assert all(request.path.startswith("/webdav/") for request in sim.requests)


def test_entries_are_plain_values(start: Callable, sim: CalpendoSimulator) -> None:
    """What leaves holds text, a date, a time and whole minutes; no frame type."""
    sim.put(booking(1, "SUB1_Doe"))
    (entry,) = start(source(sim.url)).fetch_entries({}, 60)
    assert type(entry["scheduled_start_date"]) is date
    assert type(entry["scheduled_start_time"]) is time
    assert entry["scheduled_procedure_step_duration"] == 60
    rest = set(entry) - {"scheduled_start_date", "scheduled_start_time", "scheduled_procedure_step_duration"}
    assert all(entry[key] is None or type(entry[key]) is str for key in rest)


def test_two_sources_of_one_server_keep_two_ledgers(start: Callable, sim: CalpendoSimulator) -> None:
    """Sources that ask one server for different resources do not withdraw each other's bookings."""
    sim.put(booking(1, "SUB1_Doe"))
    sim.put(booking(2, "EEG2_Roe", resource="EEG Lab"))
    scanner, lab = start(source(sim.url)), start(source(sim.url, "eeg", resources=["EEG Lab"]))
    assert [entry["source_record_id"] for entry in scanner.fetch_entries({}, 60)] == ["1"]
    assert [entry["source_record_id"] for entry in lab.fetch_entries({}, 60)] == ["2"]
    assert scanner.last_report.withdrawn == lab.last_report.withdrawn == 0
