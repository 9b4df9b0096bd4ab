"""T021 and T022: the example files are valid, whole, and read by Pylantir as well."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import OPTIONS, PipelineConfig
from pipeline.config.file import SourceSettings, read_sources, select_source
from pipeline.transform.extraction import explained

DATA = Path(__file__).parents[2] / "data"
EXAMPLE = DATA / "calpendo_config_example.json"
TEMPLATE = DATA / "mwl_config.json"
EXPLANATION = DATA / "calpendo_config_example.md"


def all_sources(path: Path, tmp_path: Path) -> dict[str, SourceSettings]:
    """Return the file's sources as they are read once all are enabled."""
    content = json.loads(path.read_text())
    for source in content["data_sources"]:
        source["enabled"] = True
    enabled = tmp_path / path.name
    enabled.write_text(json.dumps(content))
    return {source.name: source for source in read_sources(enabled)}


def read(source: SourceSettings) -> PipelineConfig:
    """Check a source's config; it must be faultless and without warnings."""
    config = PipelineConfig.from_dict(source.config, source_name=source.name, environ={})
    assert config.warnings == ()
    return config


@pytest.mark.parametrize("path", [EXAMPLE, TEMPLATE])
def test_every_example_source_is_valid(path: Path, tmp_path: Path) -> None:
    """T021, T022: valid JSON, and every source in it passes the check once it is enabled."""
    sources = all_sources(path, tmp_path)
    assert sources
    for source in sources.values():
        read(source)


def test_there_is_a_minimal_and_a_full_example(tmp_path: Path) -> None:
    """T021: minimal and full example; the full one writes out every option there is."""
    sources = all_sources(EXAMPLE, tmp_path)
    full = {key for key in sources["calpendo"].config if not key.startswith("_")}
    assert full == {*OPTIONS, "field_mapping"}
    assert set(sources["calpendo_minimal"].config) == {"base_url", "resources", "field_mapping"}


def test_the_full_example_writes_the_defaults(tmp_path: Path) -> None:
    """T021: who copies the full example and removes a line changes nothing."""
    sources = all_sources(EXAMPLE, tmp_path)
    full = read(sources["calpendo"])
    given = {key: sources["calpendo"].config[key] for key in ("base_url", "resources", "field_mapping")}
    bare = PipelineConfig.from_dict(given, environ={})
    changed = {name for name in OPTIONS if getattr(full, name) != getattr(bare, name)}
    assert changed == {"resource_modality_mapping"}


def test_one_example_is_enabled_and_the_template_has_none() -> None:
    """T022: the template's source is off by default; JSON has no comments, so it is disabled instead."""
    assert select_source(EXAMPLE).name == "calpendo"
    assert read_sources(TEMPLATE) == ()
    content = json.loads(TEMPLATE.read_text())
    assert [source["type"] for source in content["data_sources"]] == ["calpendo"]
    assert "calpendo_config_example.json" in content["_comment_data_sources"]


def test_the_template_sets_site_time(tmp_path: Path) -> None:
    """Promise: consoles show what they get, so the configuration for Pylantir emits site time."""
    assert read(all_sources(TEMPLATE, tmp_path)["calpendo"]).output_timezone == "site"


def test_the_template_is_pylantirs_own_but_for_the_sources() -> None:
    """T022: everything else in the template is as Pylantir 0.4.6 ships it."""
    spec = find_spec("pylantir")
    assert spec is not None
    assert spec.origin is not None
    shipped: dict[str, Any] = json.loads(
        (Path(spec.origin).parent / "config" / "mwl_config.json").read_text()
    )
    ours = json.loads(TEMPLATE.read_text())
    differing = {key for key in {*shipped, *ours} if shipped.get(key) != ours.get(key)}
    assert differing == {"data_sources", "_comment_data_sources"}


@pytest.mark.parametrize("path", [EXAMPLE, TEMPLATE])
def test_no_example_holds_a_login(path: Path) -> None:
    """T021: credentials come from the environment, and the examples do not suggest otherwise."""
    keys = re.findall(r'"([^"]+)":', path.read_text())
    assert not [key for key in keys if re.search("passw|user|token|secret", key, re.IGNORECASE)]


def explained_patterns() -> list[tuple[str, str, str, str]]:
    """Return title, pattern, group and result of each line of the explanation's table."""
    rows = re.findall(
        r"^\| `(.+?)` \| `(.+?)` \| (.+?) \| `(.+?)` \|$", EXPLANATION.read_text(), re.MULTILINE
    )
    return [(title, pattern, group.strip("`"), gives) for title, pattern, group, gives in rows]


@pytest.mark.parametrize(("title", "pattern", "group", "gives"), explained_patterns())
def test_the_explained_patterns_do_what_is_said(title: str, pattern: str, group: str, gives: str) -> None:
    """T021: the regex examples are true."""
    match = re.match(pattern, title)
    assert match is not None
    assert match.group(int(group) if group.isdecimal() else group) == gives


def test_every_pattern_of_the_example_is_explained(tmp_path: Path) -> None:
    """T021: the explanation covers the patterns of the full and of the source-keyed example."""
    explained = {pattern for _, pattern, _, _ in explained_patterns()}
    sources = all_sources(EXAMPLE, tmp_path)
    for name in ("calpendo", "calpendo_by_source"):
        for rule in read(sources[name]).rules:
            assert {each.pattern for each in rule.extractions} <= explained


def explained_extracts() -> list[tuple[str, str, str]]:
    """Return title, ``_extract`` and result of each line of the explanation's second table."""
    return re.findall(
        r"^\| `(.+?)` \| `([{\[].+?[}\]])` \| `(.+?)` \|$", EXPLANATION.read_text(), re.MULTILINE
    )


@pytest.mark.parametrize(("title", "extract", "gives"), explained_extracts())
def test_the_explained_extracts_do_what_is_said(title: str, extract: str, gives: str) -> None:
    """T021: the examples of lists, templates and values are true."""
    mapping = {"patient_id": {"source_field": "title", "_extract": json.loads(extract)}}
    config = PipelineConfig.from_dict({"field_mapping": mapping}, environ={}, offline=True)
    assert config.warnings == ()
    assert explained(title, config.rules[0].extractions).result == gives


def test_the_examples_show_every_form() -> None:
    """T021: a list, a template and a table of values are explained by an example each."""
    shown = " ".join(extract for _, extract, _ in explained_extracts())
    assert all(part in shown for part in ("[{", '"template"', '"values"'))
