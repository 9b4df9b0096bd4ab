"""Pylantir's configuration file: which sources are found, and how a fault in the file is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.config_file import SourceSettings, read_sources, select_source
from pipeline.errors import PluginConfigError

CONFIG = {"base_url": "https://example.calpendo.com", "resources": ["3T"]}


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Return a function that writes a file, from text or from JSON values, and returns its path."""

    def _write(content: Any) -> Path:
        path = tmp_path / "mwl_config.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return _write


def source(**more: Any) -> dict[str, Any]:
    """Return a Calpendo source as it stands in the file."""
    return {"type": "calpendo", "config": CONFIG, **more}


def faults_of(path: Path) -> tuple[str, ...]:
    """Return the faults of a file that must be refused."""
    with pytest.raises(PluginConfigError) as caught:
        read_sources(path)
    assert str(path) in str(caught.value)
    return caught.value.faults


def test_enabled_calpendo_sources_are_found(write: Any) -> None:
    """Promise: other types and disabled sources are left out; a source is enabled unless it says otherwise."""
    sources = [
        {"type": "redcap", "config": {"whatever": 1}},
        source(name="mri", sync_interval=120),
        source(name="eeg", enabled=False),
        source(),
    ]
    assert read_sources(write({"data_sources": sources})) == (
        SourceSettings("mri", CONFIG, 120.0),
        SourceSettings("calpendo", CONFIG, 60.0),
    )


def test_the_sources_level_is_merged_as_pylantir_does(write: Any) -> None:
    """pylantir 0.4.6, cli/run.py: field_mapping, window_mode and daily_window of the source go before its config's."""
    inner = {**CONFIG, "field_mapping": {"patient_id": "id"}, "window_mode": "rolling"}
    outer = source(config=inner, field_mapping={"patient_id": "title"}, window_mode="today", daily_window={})
    (found,) = read_sources(write({"data_sources": [outer]}))
    assert found.config == {
        **CONFIG,
        "field_mapping": {"patient_id": "title"},
        "window_mode": "today",
        "daily_window": {},
    }


@pytest.mark.parametrize("content", [CONFIG, {"type": "calpendo", "config": CONFIG}])
def test_one_source_may_stand_alone(write: Any, content: Any) -> None:
    """Promise: a bare config object, or one source, is a file too."""
    found = select_source(write(content))
    assert (found.name, found.config) == ("calpendo", CONFIG)


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    """Promise: what an editor on Windows saves is readable."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG), encoding="utf-8-sig")
    assert select_source(path).config == CONFIG


def test_a_source_is_selected_by_name(write: Any) -> None:
    """Promise: a name is needed where there are several, and a near miss is suggested."""
    path = write(
        {"data_sources": [source(name="scanner"), source(name="eeg"), source(name="old", enabled=False)]}
    )
    assert select_source(path, "eeg").name == "eeg"
    for name, told in [
        (None, "choose one of 'scanner', 'eeg'"),
        ("scaner", "did you mean 'scanner'?"),
        ("zzz", "the enabled ones are 'scanner', 'eeg'"),
        ("old", 'write "enabled": true'),
    ]:
        with pytest.raises(PluginConfigError, match="source") as caught:
            select_source(path, name)
        assert told in str(caught.value)


def test_no_source_is_told(write: Any) -> None:
    """T002: the message says what to write."""
    with pytest.raises(PluginConfigError, match="no enabled Calpendo source") as caught:
        select_source(write({"data_sources": [source(enabled=False)]}))
    assert "set \"enabled\": true for one of 'calpendo'" in str(caught.value)
    with pytest.raises(PluginConfigError, match='"type": "calpendo"'):
        select_source(write({"data_sources": []}))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is not JSON"),
        ('{"data_sources": [],}', "line 1, column"),
        ('// comment\n{"a": 1}', "no comments"),
        ("[]", "got an empty list; write an object"),
        ("3", "got the number 3"),
        ('{"data_sources": {}}', "data_sources: got an object with 0 keys; write a list of sources"),
        ('{"data_sources": [3]}', "data_sources[0]: got the number 3"),
        ('{"data_sources": [{}]}', "data_sources[0].type: got null"),
        ('{"data_sources": [{"type": "Calpendo"}]}', "data_sources[0].type: got the text 'Calpendo'"),
        ('{"data_sources": [{"type": "calpndo"}]}', 'write "calpendo"'),
        ('{"data_sources": [{"type": "calpendo", "enabled": "False"}]}', "write true or false"),
        ('{"data_sources": [{"type": "calpendo", "name": ""}]}', "data_sources[0].name"),
        ('{"data_sources": [{"type": "calpendo", "config": []}]}', "data_sources[0].config"),
        ('{"data_sources": [{"type": "calpendo", "sync_interval": 0}]}', "data_sources[0].sync_interval"),
        ('{"data_sources": [{"type": "calpendo", "sync_interval": NaN}]}', "data_sources[0].sync_interval"),
        ('{"data_sources": [{"type": "calpendo", "sync_interval": true}]}', "data_sources[0].sync_interval"),
        ('{"data_sources": [{"type": "calpendo", "sync_interval": 1e999}]}', "data_sources[0].sync_interval"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("9" * 5000, "cannot be read as JSON"),
    ],
)
def test_faults_of_the_file_are_told(write: Any, content: str, told: str) -> None:
    """T002: whatever is wrong with the file's form, it is said with its place and what to write."""
    assert any(told in fault for fault in faults_of(write(content)))


def test_a_key_that_stands_twice_is_refused(write: Any) -> None:
    """Promise: JSON readers keep the last of two equal keys in silence; two rules for a target must not pass so."""
    text = (
        '{"data_sources": [{"type": "calpendo", "_comment": 1, "_comment": 2, "config": {"field_mapping": '
        '{"patient_id": "id", "patient_id": "title"}}}]}'
    )
    assert faults_of(write(text)) == (
        "data_sources[0].config.field_mapping.patient_id: the key stands there twice; write it once",
    )


def test_two_sources_of_one_name_are_refused(write: Any) -> None:
    """Promise: rows and ledgers are kept by the source's name."""
    (fault,) = faults_of(write({"data_sources": [source(), source()]}))
    assert "2 enabled sources are named 'calpendo'" in fault


def test_unreadable_files_are_told(tmp_path: Path) -> None:
    """T002: a missing file, a folder and a file that is no text are configuration errors."""
    assert "not found" in faults_of(tmp_path / "none.json")[0]
    assert "cannot be read" in faults_of(tmp_path)[0]
    (tmp_path / "image.json").write_bytes(b"\xff\xd8\xff")
    assert "UTF-8" in faults_of(tmp_path / "image.json")[0]
