"""T002 and T016: what a configuration may hold, and how a fault in it is told."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from datetime import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.config import DailyWindow, FieldRule, PipelineConfig
from pipeline.config.options import check_settings, option_rows
from pipeline.errors import PluginConfigError

NO_ENVIRONMENT: dict[str, str] = {}
LOGIN = {"CALPENDO_USERNAME": "reader", "CALPENDO_PASSWORD": "s3cret-Pass"}


@pytest.fixture
def valid() -> dict[str, Any]:
    """A configuration with what has no default."""
    return {
        "base_url": "https://example.calpendo.com",
        "resources": ["3T Diagnostic", "EEG Lab"],
        "field_mapping": {
            "patient_id": {"source_field": "title", "_extract": {"pattern": "^([A-Z0-9]+)_.*", "group": 1}},
            "patient_name": {
                "source_field": "title",
                "_extract": {"pattern": "^[A-Z0-9]+_(.+)$", "group": 1},
            },
            "accession_number": "id",
        },
    }


def faults_of(config: Any, environ: dict[str, str] = NO_ENVIRONMENT) -> tuple[str, ...]:
    """Return the faults of a configuration that must be refused."""
    with pytest.raises(PluginConfigError) as caught:
        PipelineConfig.from_dict(config, environ=environ)
    for fault in caught.value.faults:
        assert fault in str(caught.value)
    return caught.value.faults


def read(config: dict[str, Any]) -> PipelineConfig:
    """Return a configuration that must be accepted."""
    return PipelineConfig.from_dict(config, environ=NO_ENVIRONMENT)


def test_a_valid_configuration_passes_with_the_defaults(valid: dict[str, Any]) -> None:
    """T002: what is not written takes the value that docs/configuration.md says."""
    config = read(valid)
    assert config.base_url == "https://example.calpendo.com"
    assert config.resources == ("3T Diagnostic", "EEG Lab")
    assert config.source_name == "calpendo"
    assert config.warnings == ()
    defaults = {name: default for name, _, default, _ in option_rows()}
    for name in set(defaults) - {"base_url", "resources", "field_mapping"}:
        value = getattr(config, name)
        expected = {"{}": dict, "[]": list}.get(defaults[name], lambda same: same)(value)
        assert json.loads(defaults[name]) == expected, name


def test_pylantirs_own_example_passes() -> None:
    """Promise: the configuration that Pylantir ships runs unchanged, study_instance_uid and all."""
    spec = find_spec("pylantir")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "config" / "calpendo_config_example.json"
    config = read(json.loads(path.read_text())["data_sources"][0]["config"])
    assert config.api_path == "/api"
    assert config.resource_modality_mapping == {"3T": "MR", "EEG": "EEG", "Mock": "OT"}
    assert [rule.target for rule in config.rules] == [
        "patient_id",
        "patient_name",
        "study_description",
        "accession_number",
        "study_instance_uid",
    ]
    assert config.rules[-1] == FieldRule("study_instance_uid", "id")


def test_base_url_missing_is_refused(valid: dict[str, Any]) -> None:
    """T002: raises PluginConfigError when base_url is missing and the environment has none."""
    del valid["base_url"]
    (fault,) = faults_of(valid)
    assert fault == (
        "base_url: missing, and CALPENDO_API_URL is not set; "
        "write the server's address, such as 'https://example.calpendo.com'"
    )


def test_base_url_falls_back_to_the_environment(valid: dict[str, Any]) -> None:
    """Promise: a missing or empty base_url is CALPENDO_API_URL, which is checked as strictly."""
    for missing in ({}, {"base_url": ""}, {"base_url": None}):
        config = {**{key: valid[key] for key in valid if key != "base_url"}, **missing}
        environ = {"CALPENDO_API_URL": "https://env.calpendo.com/"}
        assert PipelineConfig.from_dict(config, environ=environ).base_url == "https://env.calpendo.com"
        (fault,) = faults_of(config, {"CALPENDO_API_URL": "http://env.calpendo.com"})
        assert fault.startswith("base_url (from CALPENDO_API_URL): ")


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://example.calpendo.com/", "https://example.calpendo.com"),
        ("HTTPS://Example.calpendo.com/site///", "https://Example.calpendo.com/site"),
        (" https://example.calpendo.com:8443 ", "https://example.calpendo.com:8443"),
        ("http://localhost:8642", "http://localhost:8642"),
        ("http://127.0.0.1:8642", "http://127.0.0.1:8642"),
        ("http://127.9.9.9", "http://127.9.9.9"),
        ("http://[::1]:8642", "http://[::1]:8642"),
    ],
)
def test_good_addresses(valid: dict[str, Any], url: str, kept: str) -> None:
    """T002: https anywhere and http to this machine are accepted; no slash stays at the end."""
    assert read({**valid, "base_url": url}).base_url == kept


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("ftp://example.calpendo.com", "does not begin with https://"),
        ("example.calpendo.com", "does not begin with https://"),
        ("javascript:alert(1)", "does not begin with https://"),
        ("https://", "without a host"),
        ("https:///webdav", "without a host"),
        ("https:/example.calpendo.com", "without a host"),
        ("https://example.calpendo.com:port", "cannot be read"),
        ("https://example.calpendo.com:99999", "cannot be read"),
        ("https://[::1", "cannot be read"),
        ("https://example.calpendo.com\\@evil.example", "login"),
        ("https://exa mple.calpendo.com", "a blank"),
        ("https://example.calpendo.com/?token=abc", "query"),
        ("https://example.calpendo.com/#part", "fragment"),
        ("http://example.calpendo.com", "plain http"),
        ("http://127.0.0.1.evil.example", "plain http"),
        ("http://localhost.evil.example", "plain http"),
        ("http://10.0.0.7", "plain http"),
    ],
)
def test_bad_addresses(valid: dict[str, Any], url: str, told: str) -> None:
    """T002: anything but https, and http to another host, is refused with the reason."""
    (fault,) = faults_of({**valid, "base_url": url})
    assert fault.startswith("base_url: got an address ")
    assert told in fault
    assert "; write " in fault


@pytest.mark.parametrize(
    "url",
    [
        "https://reader:s3cret-Pass@example.calpendo.com",
        "http://s3cret-Pass@localhost",
        "https://reader:s3cret-Pass@",
        "https:/reader:s3cret-Pass@example.calpendo.com",
        "https://reader:s3cret-Pass@example.calpendo.com:port",
        "ftp://reader:s3cret-Pass@example.calpendo.com",
        "reader:s3cret-Pass@example.calpendo.com",
    ],
)
def test_a_login_in_the_address_is_refused_and_not_repeated(valid: dict[str, Any], url: str) -> None:
    """T002: a password in base_url is refused, and neither the error nor its chain shows it."""
    with pytest.raises(PluginConfigError) as caught:
        read({**valid, "base_url": url, "timezone": "s3cret-Pass", "resources": ["s3cret-Pass", 1]})
    error: BaseException | None = caught.value
    while error is not None:
        assert "s3cret-Pass" not in str(error) + repr(error)
        error = error.__cause__


def test_http_elsewhere_needs_a_decision(valid: dict[str, Any]) -> None:
    """Promise: plain http to another host passes only with allow_insecure_http true, and true is no text or number."""
    valid["base_url"] = "http://calpendo.hospital.example"
    assert read({**valid, "allow_insecure_http": True}).allow_insecure_http is True
    for no in (False, "true", 1):
        assert any(fault.startswith("base_url") for fault in faults_of({**valid, "allow_insecure_http": no}))


@pytest.mark.parametrize(
    "resources", [[], "3T Diagnostic", None, {}, [None], [""], ["  "], ["3T", 3], ["a\nb"], ["\ud800"]]
)
def test_resources_must_be_a_list_of_names(valid: dict[str, Any], resources: Any) -> None:
    """T002: raises PluginConfigError when resources is not a list, is empty, or holds anything but names."""
    (fault,) = faults_of({**valid, "resources": resources})
    assert fault.startswith("resources")
    assert 'write a list of resource names, such as ["3T Diagnostic", "EEG Lab"]' in fault


def test_resources_missing_is_refused(valid: dict[str, Any]) -> None:
    """T002: raises PluginConfigError when resources is missing."""
    del valid["resources"]
    assert faults_of(valid)[0].startswith("resources: missing; write a list of resource names")


@pytest.mark.parametrize(
    "value", [0, -1, -0.5, float("nan"), float("inf"), True, False, "2", None, [2], {}, 10**400]
)
def test_lookback_multiplier_is_a_positive_number(valid: dict[str, Any], value: Any) -> None:
    """T002: non-positive, NaN, endless, boolean and text values of lookback_multiplier are refused."""
    (fault,) = faults_of({**valid, "lookback_multiplier": value})
    assert fault.startswith("lookback_multiplier: got ")
    assert fault.endswith("write a number above 0 and at most 10000, such as 2")


@pytest.mark.parametrize("value", [1, 2, 2.5, 0.1])
def test_lookback_multiplier_may_be_whole_or_not(valid: dict[str, Any], value: float) -> None:
    """T002: whole numbers and fractions are both numbers."""
    assert read({**valid, "lookback_multiplier": value}).lookback_multiplier == value


def test_an_unknown_zone_is_refused_with_the_likely_one(valid: dict[str, Any]) -> None:
    """T002: the fault names the key, what was given and what to write."""
    assert faults_of({**valid, "timezone": "America/Edmonten"}) == (
        "timezone: got the text 'America/Edmonten', which is no known time zone; write 'America/Edmonton'",
    )
    for zone in ("Mars/Base", "", "\ud800", "../etc/passwd", 7, None, ["UTC"]):
        (fault,) = faults_of({**valid, "timezone": zone})
        assert fault.startswith("timezone: got ")
    (fault,) = faults_of({**valid, "output_timezone": "Mars/Base"})
    assert "'UTC', 'site', or a zone of the IANA list" in fault


def test_zones_are_spelt_as_pytz_spells_them(valid: dict[str, Any]) -> None:
    """T002: Pylantir takes america/edmonton, so it passes; it is kept under the zone's own name."""
    config = read({**valid, "timezone": "america/edmonton", "output_timezone": "SITE"})
    assert (config.timezone, config.output_timezone) == ("America/Edmonton", "site")
    assert read({**valid, "output_timezone": "utc"}).output_timezone == "UTC"


WRONG_TYPES: dict[str, list[Any]] = {
    "api_path": [3, None, "a b", "/x?y=1", "/../x"],
    "allow_insecure_http": ["yes", 1, None],
    "status_filter": [3, ["Approved"], True],
    "allowed_studies": ["Brain", [], [1], [" "], {}],
    "timezone": [1],
    "output_timezone": [1, None],
    "window_mode": ["Rolling", "tomorrow", 1, None, []],
    "daily_window": [[7, 19], "7-19", 7, {"start_time": [7, 0]}],
    "lookahead_hours": ["24", 0, -1, True, float("inf")],
    "include_running": ["true", 0, None],
    "keep_past_hours": ["1", -1, True, None],
    "max_booking_hours": ["12", 0, False],
    "query_date_format": ["%Y%m%d", 1],
    "resource_modality_mapping": [
        [],
        "MR",
        None,
        {"3T": 3},
        {"3T": "much too long to be a code"},
        {"": "MR"},
    ],
    "resource_ae_title": [[], "PRISMA", {"3T": 3}, {"3T": "longer than 16 characters"}],
    "status_mapping": [[], {"Approved": "BOOKED"}, {"Approved": None}],
    "on_no_match": ["Original", None, 1, ["null"]],
    "ignore_titles": [
        None,
        3,
        "",
        "(",
        ["phantom", ""],
        [3],
        ["x*"],
        ["(?i"],
        ["a", "$"],
        {},
        "x" * 9 + "\ud800",
    ],
    "patient_name_form": ["last_first", 1],
    "log_original_values": [1, "no"],
    "fetch_mode": ["fast", 1],
    "full_refresh": [0, 2.0, "20", True],
    "fetch_operators": [1],
    "max_workers": [0, 6, 2.5, "5", True],
    "list_timeout": [0, -1, "30", True, float("nan"), 3601],
    "detail_timeout": [0],
    "body_deadline": [0],
    "batch_deadline": [None],
    "max_body_bytes": [0, 1.5, "32 MiB"],
    "max_rows": [0, 1.5, "50,000", 1_000_001],
    "max_retries": [-1, 11, True],
    "retry_after_cap": [-1, "30"],
    "state_path": [3, True, "a\0b"],
    "acknowledge": ["never", 1],
    "max_withdrawn": [-1, True, 2.0, "5"],
    "retention_days": [0, "90"],
    "lock_timeout": [-1, None],
    "worklist_dir": [3, True, "a\0b"],
    "worklist_file_mode": [640, "rw-r-----", "0999", "", None],
    "worklist_character_set": ["UTF-8", 1, None],
    "transliterate": ["yes"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG_TYPES.items() for value in values]
)
def test_wrong_types_are_refused_everywhere(valid: dict[str, Any], name: str, value: Any) -> None:
    """T002: every option has one type; a fault names the option, what was given and what to write."""
    faults = faults_of({**valid, name: value})
    assert faults
    for fault in faults:
        assert fault.startswith(name)
        assert ": got " in fault
        assert "; write " in fault


def test_every_option_is_tried_with_wrong_types() -> None:
    """T016: no option is left out of the tests above."""
    tested_apart = {"base_url", "resources", "field_mapping", "lookback_multiplier"}
    assert set(WRONG_TYPES) | tested_apart == {name for name, *_ in option_rows()}


def test_all_faults_are_told_together(valid: dict[str, Any]) -> None:
    """Promise: one start shows every fault, those of the mapping, the tables and the login included."""
    valid |= {
        "base_url": "example.calpendo.com",
        "resources": ["", 3],
        "timezone": "Mars/Base",
        "resource_modality_mapping": {"3T": 3, "EEG": "e.e.g"},
        "daily_window": {"start_time": [25, 0], "end_time": [7, 60]},
    }
    valid["field_mapping"]["patient_id"]["_extract"] = {"pattern": "("}
    valid["field_mapping"]["study_description"] = 3
    with pytest.raises(PluginConfigError) as caught:
        check_settings(valid, environ=NO_ENVIRONMENT)
    keys = [fault.split(":")[0] for fault in caught.value.faults]
    assert sorted(keys) == sorted(
        [
            "base_url",
            "resources[0]",
            "resources[1]",
            "timezone",
            "resource_modality_mapping.3T",
            "resource_modality_mapping.EEG",
            "daily_window.start_time",
            "daily_window.end_time",
            "field_mapping.patient_id._extract.pattern",
            "field_mapping.study_description",
            "CALPENDO_USERNAME",
            "CALPENDO_PASSWORD",
        ]
    )


def test_settings_hold_configuration_and_login(valid: dict[str, Any]) -> None:
    """T002: a valid configuration and a login in the environment are all that is needed."""
    config, credentials = check_settings(valid, source_name="mri", environ=LOGIN)
    assert config.source_name == "mri"
    assert credentials.username == "reader"
    assert "s3cret-Pass" not in repr(config) + repr(credentials) + str(credentials)


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("resource", "resources"),
        ("Base-URL", "base_url"),
        ("base url", "base_url"),
        ("lookback_multipler", "lookback_multiplier"),
        ("fieldmapping", "field_mapping"),
        ("time_zone", "timezone"),
        ("max_worker", "max_workers"),
    ],
)
def test_misspelt_options_are_told_with_the_right_name(valid: dict[str, Any], key: str, meant: str) -> None:
    """Promise: near misses of key names are suggested."""
    (fault,) = faults_of({**valid, key: 1})
    assert f"{key!r}: unknown option; did you mean {meant!r}?" in fault


def test_a_resemblance_is_a_warning(valid: dict[str, Any]) -> None:
    """Promise: unknown keys pass, but one that resembles an option is told before the first scan."""
    (warning,) = read({**valid, "resource_mapping": {"3T": "MR"}}).warnings
    assert warning == "'resource_mapping': unknown option, ignored; did you mean 'resource_modality_mapping'?"


def test_unknown_keys_of_pylantir_and_others_pass(valid: dict[str, Any]) -> None:
    """Promise: keys that Pylantir itself uses, comments and strangers pass."""
    strangers = {
        "site": "792",
        "site_id": 3,
        "protocol": {"792": "BRAIN"},
        "_comment": [],
        "redcap2wl": {},
        "x": None,
    }
    assert read({**valid, **strangers}) == read(valid)


@pytest.mark.parametrize("config", [None, [], "config", 3, [("base_url", "x")]])
def test_something_else_than_an_object_is_refused(config: Any) -> None:
    """T002: a configuration is an object."""
    (fault,) = faults_of(config)
    assert fault.startswith("config: got ")


def test_offline_work_needs_no_server() -> None:
    """Promise: files are read without base_url and resources, and what is given is still checked."""
    config = PipelineConfig.from_dict({}, environ=NO_ENVIRONMENT, offline=True)
    assert (config.base_url, config.resources) == ("", ())
    with pytest.raises(PluginConfigError):
        PipelineConfig.from_dict({"base_url": "x", "resources": []}, environ=NO_ENVIRONMENT, offline=True)


def test_a_daily_window_is_two_clock_times(valid: dict[str, Any]) -> None:
    """T002: Pylantir's form of the daily window; null and an empty object are none, as there."""
    window = {"start_time": [19, 30], "end_time": (7, 0)}
    assert read({**valid, "daily_window": window}).daily_window == DailyWindow(time(19, 30), time(7, 0))
    for none in (None, {}):
        assert read({**valid, "daily_window": none}).daily_window is None
    for clock in ([7], [7, 0, 0], [7.0, 0], ["7", 0], [True, 0], "07:00", [24, 0], [0, -1], None):
        (fault,) = faults_of({**valid, "daily_window": {"start_time": clock, "end_time": [8, 0]}})
        assert fault.startswith("daily_window.start_time: got ")


def test_tables_are_read_without_case(valid: dict[str, Any]) -> None:
    """T013: codes are brought to DICOM's form; one name with two values is refused; comments are left out."""
    config = read(
        {
            **valid,
            "resource_modality_mapping": {"_comment": "x", "3T": "mr", "EEG": " EEG "},
            "status_mapping": {"Provisional": "in progress"},
        }
    )
    assert config.resource_modality_mapping == {"3T": "MR", "EEG": "EEG"}
    assert config.status_mapping == {"Provisional": "IN_PROGRESS"}
    (fault,) = faults_of({**valid, "resource_modality_mapping": {"eeg": "EEG", "EEG": "OT"}})
    assert fault.startswith(
        "resource_modality_mapping.EEG: got the text 'OT', but the same name stands there"
    )


def test_a_blank_filter_is_no_filter(valid: dict[str, Any]) -> None:
    """Promise: Pylantir treats an empty status_filter as none, so it passes as none."""
    assert read({**valid, "status_filter": ""}).status_filter is None
    assert read({**valid, "allowed_studies": [" Brain "]}).allowed_studies == ("Brain",)


@pytest.mark.parametrize(
    ("given", "kept"), [("/api", "/api"), ("api/", "/api"), ("/", ""), ("", ""), ("a/b", "/a/b")]
)
def test_api_path_has_one_form(valid: dict[str, Any], given: str, kept: str) -> None:
    """Promise: one slash before, none after."""
    assert read({**valid, "api_path": given}).api_path == kept


@pytest.mark.parametrize(
    ("base_url", "api_path", "told"),
    [
        ("https://a.example/api/", "/webdav", "'/api', to which api_path '/webdav' is added"),
        ("https://a.example/api", "/api", "'/api', to which api_path '/api' is added"),
        ("https://a.example/x/WebDAV/", "/webdav", '"api_path": "/WebDAV"'),
        ("https://a.example/x/y", "/y", '"api_path": "/y"'),
        ("https://a.example/api", "", None),
        ("https://a.example/x", "/api", None),
        ("https://api.example", "/api", None),
    ],
)
def test_a_path_of_the_api_stands_once(
    valid: dict[str, Any], base_url: str, api_path: str, told: str | None
) -> None:
    """Issue: an address that ends with the API's path is one caution, which says where the path belongs."""
    cautions = [
        caution
        for caution in read({**valid, "base_url": base_url, "api_path": api_path}).warnings
        if caution.startswith("base_url: ends with")
    ]
    assert len(cautions) == (told is not None)
    assert all(told in caution for caution in cautions if told)


def _set_option(config: PipelineConfig) -> None:
    config.timezone = "UTC"  # type: ignore[misc]


def _set_item(config: PipelineConfig) -> None:
    config.resource_modality_mapping["3T"] = "CT"  # type: ignore[index]


def _set_attribute(config: PipelineConfig) -> None:
    config.resource_modality_mapping._items = {}


def _delete_attribute(config: PipelineConfig) -> None:
    del config.resource_modality_mapping._items


def _set_rule(config: PipelineConfig) -> None:
    config.rules[0].source = "id"  # type: ignore[misc]


@pytest.mark.parametrize("change", [_set_option, _set_item, _set_attribute, _delete_attribute, _set_rule])
def test_a_configuration_is_frozen_deep(
    valid: dict[str, Any], change: Callable[[PipelineConfig], None]
) -> None:
    """Promise: typed and frozen, its tables and rules included."""
    config = read({**valid, "resource_modality_mapping": {"3T": "MR"}})
    with pytest.raises((AttributeError, TypeError, ValidationError)):
        change(config)


def test_what_was_given_may_change_afterwards(valid: dict[str, Any]) -> None:
    """Promise: a frozen configuration shares nothing with the dictionary it came from."""
    valid["resource_modality_mapping"] = {"3T": "MR"}
    before = copy.deepcopy(valid)
    config = read(valid)
    assert valid == before
    valid["resource_modality_mapping"]["3T"] = "CT"
    valid["resources"].append("Mock")
    assert config == read(before)


def test_a_configuration_can_be_sent_to_another_process(valid: dict[str, Any]) -> None:
    """Promise: workers of a cluster get the configuration; it pickles, copies and hashes."""
    valid |= {
        "resource_modality_mapping": {"3T": "MR"},
        "daily_window": {"start_time": [7, 0], "end_time": [8, 0]},
    }
    config = read(valid)
    for copied in (pickle.loads(pickle.dumps(config)), copy.deepcopy(config)):
        assert copied == config
        assert hash(copied) == hash(config)
        assert copied.resource_modality_mapping == {"3T": "MR"}


@pytest.mark.parametrize("name", ["", "  ", "a\nb", 3, None])
def test_a_source_has_a_name(valid: dict[str, Any], name: Any) -> None:
    """T001: the source's name goes into logs and rows, so it is one line of text."""
    with pytest.raises(PluginConfigError, match="source_name"):
        PipelineConfig.from_dict(valid, source_name=name, environ=NO_ENVIRONMENT)


def test_what_is_probably_not_meant_is_a_warning(valid: dict[str, Any]) -> None:
    """T002: what works but looks like a slip is told without stopping the start."""
    del valid["field_mapping"]
    valid |= {
        "password": "s3cret-Pass",
        "base_url": "https://example.calpendo.com/webdav",
        "resources": ["3T "],
    }
    warnings = read(valid).warnings
    assert [warning.split(":")[0] for warning in warnings] == [
        "field_mapping",
        "password",
        "base_url",
        "resources[0]",
    ]
    assert "s3cret-Pass" not in "".join(warnings)
