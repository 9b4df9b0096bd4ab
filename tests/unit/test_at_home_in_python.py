"""What a program or a notebook has at hand is taken: a configuration in any form, bookings in any form."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from pipeline import PipelineConfig
from pipeline.errors import PluginConfigError

CONFIG: dict[str, Any] = {
    "base_url": "https://example.calpendo.com",
    "resources": ["3T"],
    "field_mapping": {"patient_id": "title"},
}
FILE: dict[str, Any] = {
    "data_sources": [
        {"type": "calpendo", "name": "mri", "config": CONFIG},
        {"type": "redcap", "config": {}},
    ]
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the path of a configuration file with one Calpendo source."""
    path = tmp_path / "mwl_config.json"
    path.write_text(json.dumps(FILE))
    return path


def test_a_configuration_is_taken_in_every_form(file: Path) -> None:
    """Promise: a PipelineConfig, a config block, a file's content, one source of it, or a path mean the same."""
    expected = PipelineConfig.from_dict(CONFIG, source_name="mri", environ={})
    assert PipelineConfig.of(expected) is expected
    assert PipelineConfig.from_file(file) == expected
    assert PipelineConfig.from_file(str(file), "mri", environ={}) == expected
    for config in (file, str(file), FILE, FILE["data_sources"][0], pickle.loads(pickle.dumps(expected))):
        assert PipelineConfig.of(config, environ={}) == expected
    assert PipelineConfig.of(CONFIG, source="mri", environ={}) == expected
    assert PipelineConfig.of({"field_mapping": {"patient_id": "id"}}, environ={}).rules[0].source == "id"


def test_the_source_is_chosen_or_asked_for(tmp_path: Path) -> None:
    """Promise: of a file with two sources one is chosen by name, and the choices are told without one."""
    two = {"data_sources": [{**FILE["data_sources"][0], "name": name} for name in ("mri", "eeg")]}
    assert PipelineConfig.of(two, source="eeg", environ={}).source_name == "eeg"
    with pytest.raises(PluginConfigError, match="'mri', 'eeg'"):
        PipelineConfig.of(two, environ={})
    path = tmp_path / "two.json"
    path.write_text(json.dumps(two))
    with pytest.raises(PluginConfigError, match="'mri', 'eeg'"):
        PipelineConfig.from_file(path)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (None, "got null; write a PipelineConfig, "),
        ([CONFIG], "got a list of 1 item; write a PipelineConfig, "),
        (json.dumps(CONFIG), "got JSON text; write the file's path, or json.loads"),
        ("no/such/file.json", "not found"),
        ({"data_sources": []}, "no enabled Calpendo source"),
        ({"resources": "3T"}, "resources: got the text '3T'; write a list"),
    ],
)
def test_what_is_no_configuration_is_one_sentence(config: Any, told: str) -> None:
    """House rule: what cannot be a configuration is refused in one sentence that says what to write."""
    with pytest.raises(PluginConfigError, match=told) as caught:
        PipelineConfig.of(config, environ={})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", [CONFIG, {}, {"timezone": "UTC"}, {"rules": (), **CONFIG}])
def test_the_constructor_never_drops_a_mapping(given: dict[str, Any]) -> None:
    """Promise: ``PipelineConfig(**config)`` says which call reads ``field_mapping`` and makes nothing half."""
    for make in (lambda: PipelineConfig(**given), lambda: PipelineConfig.model_validate(given)):
        with pytest.raises(PluginConfigError, match=r"from_dict\(config\).*from_file\("):
            make()


def test_a_whole_file_is_no_config_block() -> None:
    """Promise: a file's whole content handed to ``from_dict`` is refused, not read as a source without a mapping."""
    for whole, key in ((FILE, "data_sources"), ({"config": CONFIG}, "config")):
        with pytest.raises(PluginConfigError, match=rf"{key}: stands around .*; write PipelineConfig\.of"):
            PipelineConfig.from_dict(whole, environ={}, offline=True)
