"""Whatever JSON stands in a configuration: it is accepted or refused with PluginConfigError, and no password is told."""

from __future__ import annotations

import json
import pickle
import traceback
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.config import OPTIONS, PipelineConfig
from pipeline.config.file import read_sources
from pipeline.errors import PluginConfigError
from pipeline.fields import names

PASSWORD = "s3cret-Pass"
ENVIRON = {"CALPENDO_USERNAME": "reader-name", "CALPENDO_PASSWORD": PASSWORD}

texts = st.text(max_size=12) | st.sampled_from(
    [
        PASSWORD,
        f"https://reader:{PASSWORD}@example.calpendo.com",
        f"{PASSWORD}@",
        "title",
        "^([A-Z]+)_",
        "(?P<id>x)",
        "a.b",
        "https://example.calpendo.com",
        "\ud800",
    ]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
names = st.sampled_from(
    [
        *OPTIONS,
        *names("mapped", "looked_up"),
        "field_mapping",
        "source_field",
        "_extract",
        "pattern",
        "group",
        "start_time",
        "resource",
        "notes",
        "title",
        "_comment",
        "password",
        PASSWORD,
    ]
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names | texts, inner, max_size=4),
    max_leaves=12,
)
extracts = st.dictionaries(
    st.sampled_from(["pattern", "group", "on_no_match", "patient_id", "x"]), scalars, max_size=4
)
rules = st.dictionaries(
    st.sampled_from(["source_field", "_extract", "extract"]), extracts | scalars, max_size=3
)
mappings = st.dictionaries(names | texts, rules | values, max_size=5)
configs = st.dictionaries(names, values, max_size=8) | st.fixed_dictionaries(
    {"base_url": texts, "resources": st.lists(texts, max_size=2), "field_mapping": mappings}
)


def read(config: Any, *, offline: bool = False) -> PipelineConfig | PluginConfigError:
    """Return the configuration, or the one error that may be raised."""
    try:
        return PipelineConfig.from_dict(config, environ=ENVIRON, offline=offline)
    except PluginConfigError as error:
        return error


@settings(max_examples=400, deadline=None)
@given(config=configs | values, offline=st.booleans())
def test_any_json_is_accepted_or_refused(config: Any, offline: bool) -> None:
    """Promise: never another exception, never the password, and what is accepted is a whole, picklable configuration."""
    outcome = read(config, offline=offline)
    if isinstance(outcome, PluginConfigError):
        told = "".join([str(outcome), repr(outcome), *outcome.faults, *traceback.format_exception(outcome)])
        assert PASSWORD not in told
        assert outcome.faults
        return
    assert PASSWORD not in "".join(outcome.warnings)
    assert PASSWORD not in outcome.base_url
    assert pickle.loads(pickle.dumps(outcome)) == outcome
    targets = [rule.target for rule in outcome.rules]
    assert len(set(targets)) == len(targets)
    assert {"patient_id", "patient_name"} <= set(targets)


@settings(max_examples=200, deadline=None)
@given(name=names, value=values)
def test_one_odd_value_is_told_under_its_name(name: str, value: Any) -> None:
    """Promise: a fault names its key; a configuration that was good stays good or is refused for that key."""
    config = {
        "base_url": "https://example.calpendo.com",
        "resources": ["3T"],
        "field_mapping": {},
        name: value,
    }
    outcome = read(config)
    if isinstance(outcome, PluginConfigError):
        assert all(name in fault or "key not shown" in fault for fault in outcome.faults)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=values | st.fixed_dictionaries({"data_sources": st.lists(values, max_size=3)}))
def test_any_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, content: Any
) -> None:
    """Promise: the same holds for the file around it."""
    monkeypatch.setenv("CALPENDO_PASSWORD", PASSWORD)
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(content))
    try:
        read_sources(path)
    except PluginConfigError as error:
        told = str(error)
    else:
        told = ""
    assert PASSWORD not in told
