"""Pylantir's configuration file: which sources are found, and how a fault in the file is told."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import file
from pipeline.config.file import SourceSettings, read_sources, select_source
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
        (None, "choose one with --source NAME: 'scanner', 'eeg'"),
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
        ("", "file: is empty; write a configuration into it"),
        (" \n\ufeff", "an invisible character (U+FEFF) at line 2, column 1"),
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


NO_JSON = [
    ('{"a": 1,}', "a comma before a closing bracket at line 1, column 8); remove the comma"),
    ('{"a": [1,\n 2,\n],\n"b": 2}', "a comma before a closing bracket at line 2, column 3)"),
    ('{"a": 1,, "b": 2}', "a comma too many at line 1, column 9)"),
    ('{"a": 1\n "b": 2}', "no comma between two values at line 1, column 8)"),
    (
        '{"a": "x"y"}',
        'no comma between two values at line 1, column 10); write a comma there, or a \\ before a "',
    ),
    ('{"a": 1;}', "a semicolon at line 1, column 8); write a comma"),
    ('{"a" = 1}', "an equals sign at line 1, column 6); write a colon"),
    ('{"a" 1}', "no colon after a key at line 1, column 6)"),
    ('{\n"pattern": "\\d+"}', "a single backslash in a text at line 2, column 13); write each backslash"),
    ('{"path": "C:\\users"}', "a backslash and u without four digits of a character's number at line 1"),
    ('{\n\u00a0"a": 1}', "a no-break or other unusual blank (U+00A0) at line 2, column 1); replace it"),
    ('{"a":\u20091}', "a no-break or other unusual blank (U+2009) at line 1, column 6)"),
    ('{"a"\u200b: 1}', "an invisible character (U+200B) at line 1, column 5); remove it"),
    ("\ufeff\ufeff{}", "an invisible character (U+FEFF) at line 1, column 1)"),
    ("{\u201ca\u201d: 1}", "a curly or other typographic quote at line 1, column 2); write the straight one"),
    ('{"a": \u201eb\u201c}', "a curly or other typographic quote at line 1, column 7)"),
    ('{"a": "b\u201d,\n "c": 1}', "a curly or other typographic quote at line 1, column 9)"),
    ('{"a": "b\u201d}', "a curly or other typographic quote at line 1, column 9)"),
    ("{'a': 1}", "a single quote at line 1, column 2); write texts and keys in double quotes"),
    (
        '// comment\n{"a": 1}',
        "a comment at line 1, column 1); remove it, or write it as a key that begins with _",
    ),
    ('{"a": 1, # hi\n "b": 2}', "a comment at line 1, column 10)"),
    ('{"a": 1 /* hi */}', "a comment at line 1, column 9)"),
    ('{"a": True}', "the word True at line 1, column 7); write true, false or null in small letters"),
    ('{"a": }', "no value where one has to stand at line 1, column 7)"),
    ("{a: 1}", "no key where one has to stand at line 1, column 2); write the key in double quotes"),
    (
        '{"a": "x\n", "b": 1}',
        "a line break, a tab or another control character inside a text at line 1, column 9)",
    ),
    ('{"a": "x', "a text that is never closed at line 1, column 7)"),
    ('{\r\n"a": {"b": 1}\r\n', "the end of the file before all brackets are closed at line 2, column 14)"),
    ('{"a": 1}\n{"b": 2}', "more text after the last closing bracket at line 2, column 1); write one object"),
    ("<!doctype html>", "markup, as of a web page, at line 1, column 1); write the path of the JSON file"),
    ("a: 1", "no { at the beginning at line 1, column 1)"),
]


@pytest.mark.parametrize(("content", "told"), NO_JSON)
def test_what_is_no_json_is_told_by_its_cause(write: Any, content: str, told: str) -> None:
    """Issue: the cause is named, with its line and column as an editor counts them and what to write instead."""
    (fault,) = faults_of(write(content))
    assert f"file: is not JSON ({told}" in fault


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('{"a": 1}'.encode("utf-16"), "is UTF-16 text; save it as UTF-8"),
        ('{"a": 1}'.encode("utf-16-le"), "holds zero bytes, as UTF-16 text"),
        ('{"a": 1}'.encode("utf-32"), "is UTF-32 text; save it as UTF-8"),
        (
            '{"a":\n "Z\u00fcrich"}'.encode("cp1252"),
            "is not UTF-8 text (the first other byte stands at line 2, column 4)",
        ),
    ],
)
def test_other_encodings_are_told(tmp_path: Path, body: bytes, told: str) -> None:
    """Issue: a file that an editor saved in another encoding is told by what it is, with what to do."""
    path = tmp_path / "config.json"
    path.write_bytes(body)
    (fault,) = faults_of(path)
    assert fault.startswith(f"file: {told}")


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    """Issue: the folder of the configuration instead of the file is a usual slip."""
    assert list(faults_of(tmp_path)) == [
        "file: is a directory; write the path of the file in it, such as mwl_config.json"
    ]


@given(st.text(alphabet="{}[]\":,\\/#'\u201c\u00a0\u200bab1 \n\t-.tn", max_size=30))
def test_whatever_is_no_json_is_one_sentence(text: str) -> None:
    """Promise: any text is read or refused in one line with its place, by every Python's parser alike."""
    content, fault = file._parsed(text)
    try:
        assert content == json.loads(text)
    except ValueError:
        assert fault is not None
        assert re.fullmatch(r"is not JSON \(.+ at line [0-9]+, column [0-9]+\); [^\n]+", fault)


def test_many_keys_that_stand_twice_take_no_time(write: Any) -> None:
    """Issue: 20,000 keys that stand twice are told, each by its place, as fast as two are."""
    pairs = [f'"key{number}": 1' for number in range(20_000)]
    path = write(f'{{"data_sources": [{{"type": "calpendo", "config": {{{", ".join(pairs + pairs)}}}}}]}}')
    began = time.process_time()
    faults = faults_of(path)
    assert time.process_time() - began < 3
    assert len(faults) == 20_000
    assert faults[-1] == "data_sources[0].config.key19999: the key stands there twice; write it once"


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
    """T002: a missing file and a file that is no text are configuration errors."""
    assert "not found" in faults_of(tmp_path / "none.json")[0]
    (tmp_path / "image.json").write_bytes(b"\xff\xd8\xff")
    assert "UTF-8" in faults_of(tmp_path / "image.json")[0]
