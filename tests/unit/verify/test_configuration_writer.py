"""What ``init`` writes: whole or not at all, nothing of others lost, and a login that a shell reads alike."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.credentials import Credentials, environment
from pipeline.errors import PluginConfigError
from pipeline.simulator.sample import sample_path
from pipeline.verify.configuration_writer import (
    Prepared,
    env_file,
    git_would_take,
    new_configuration,
    quoted,
    service_unit,
    updated_configuration,
    write_all,
)

SOURCE = {
    "name": "seven",
    "type": "calpendo",
    "config": {
        "base_url": "https://example.calpendo.com",
        "_comment": "kept",
        "resources": ["7T"],
        "site": "792",
        "status_mapping": {"Provisional": "SCHEDULED"},
        "field_mapping": {"patient_id": "title", "accession_number": "id"},
    },
}


def document(*sources: dict[str, Any]) -> dict[str, Any]:
    """A file of Pylantir's with keys that are none of ours."""
    return {
        "db_path": "/x.db",
        "data_sources": [{"name": "redcap", "type": "REDCapPlugin", "config": {}}, *sources],
        "zz": 1,
    }


def test_an_update_keeps_what_is_not_ours(tmp_path: Path) -> None:
    """Init --update: unknown keys, other sources, comments, order and indentation stay; tables are added to."""
    file = tmp_path / "mwl.json"
    file.write_text(json.dumps(document(SOURCE), indent=4))
    before = json.loads(file.read_text())
    write_all(
        [
            updated_configuration(
                file, {"status_mapping": {"Storniert": "DISCONTINUED"}, "fetch_mode": "changed"}
            )
        ]
    )
    after = json.loads(file.read_text())
    assert '\n    "db_path"' in file.read_text()
    assert list(after) == list(before)
    assert after["data_sources"][0] == before["data_sources"][0]
    config = after["data_sources"][1]["config"]
    assert list(config) == [*SOURCE["config"], "fetch_mode"]  # type: ignore[call-overload]
    assert config["status_mapping"] == {"Provisional": "SCHEDULED", "Storniert": "DISCONTINUED"}
    assert config["field_mapping"] == before["data_sources"][1]["config"]["field_mapping"]


@pytest.mark.parametrize(
    "mapping",
    [
        {"patient_id": "title", "accession_number": "id"},
        {"title": {"_extract": {"patient_id": {"pattern": "^(.)", "group": 1}}}, "id": "accession_number"},
        {"title": "patient_id", "id": "accession_number"},
    ],
)
def test_a_rule_is_set_in_either_form_of_a_mapping(mapping: dict[str, Any], tmp_path: Path) -> None:
    """Init --update: a target has one rule afterwards, whichever form it stood in, beside ``config`` too."""
    rule = {
        "source_field": "title",
        "_extract": [{"pattern": "^(SUB[0-9]+)", "group": 1, "on_no_match": "reject"}],
    }
    for place in ("beside", "inside"):
        source = json.loads(json.dumps(SOURCE))
        (source if place == "beside" else source["config"])["field_mapping"] = mapping
        file = tmp_path / f"{place}.json"
        file.write_text(json.dumps(document(source)))
        write_all([updated_configuration(file, {"field_mapping": {"patient_id": rule}})])
        written = json.loads(file.read_text())["data_sources"][1]
        found = (written if place == "beside" else written["config"])["field_mapping"]
        assert found["patient_id"] == rule
        assert "patient_id" not in json.dumps(
            {key: value for key, value in found.items() if key != "patient_id"}
        )


@pytest.mark.parametrize(
    "content", ["{", '{"data_sources": []}', '{"base_url": "ftp://x", "resources": ["a"]}']
)
def test_a_file_that_is_not_valid_is_left_alone(content: str, tmp_path: Path) -> None:
    """Init --update: what is no configuration, or would be none, is refused and stays as it is."""
    file = tmp_path / "mwl.json"
    file.write_text(content)
    with pytest.raises(PluginConfigError):
        updated_configuration(file, {"fetch_mode": "changed"})
    assert file.read_text() == content
    assert [path.name for path in tmp_path.iterdir()] == ["mwl.json"]


def test_a_new_file_is_never_written_over_another(tmp_path: Path) -> None:
    """Init: an existing file is updated when that is asked for, never replaced."""
    file = tmp_path / "mwl.json"
    write_all([new_configuration(file, SOURCE, beside={})])
    with pytest.raises(PluginConfigError, match="is there already; add --update"):
        new_configuration(file, SOURCE, beside={})
    with pytest.raises(PluginConfigError, match="is not a folder"):
        new_configuration(tmp_path / "nowhere" / "mwl.json", SOURCE, beside={})


def test_files_are_written_together_or_not_at_all(tmp_path: Path) -> None:
    """Init: where one file cannot be written, none is, and nothing is left lying about."""
    files = [Prepared(tmp_path / "a.json", "{}"), Prepared(tmp_path / "nowhere" / "b", "x")]
    with pytest.raises(PluginConfigError, match="cannot be written"):
        write_all(files)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("held", [None, b"{}"])
def test_what_came_in_the_meantime_is_not_written_over(held: bytes | None, tmp_path: Path) -> None:
    """Init: a file that another made or changed while questions were answered stays, and so does every other."""
    files = [tmp_path / name for name in ("new.json", "late.json")]
    if held is not None:
        files[1].write_bytes(held)
    prepared = [Prepared(files[0], "{}"), Prepared(files[1], "{}", before=held)]
    files[1].write_text("another's")
    with pytest.raises(PluginConfigError, match="changed by somebody else"):
        write_all(prepared)
    assert [path.name for path in tmp_path.iterdir()] == ["late.json"]
    assert files[1].read_text() == "another's"


def test_a_file_keeps_its_owner(tmp_path: Path) -> None:
    """Init --update: a service's own file is still the service's when root wrote it."""
    file = tmp_path / "mwl.json"
    file.write_text(json.dumps(SOURCE))
    try:
        os.chown(file, 12345, 12345)
    except PermissionError:
        pytest.skip("only root may give files away")
    write_all([updated_configuration(file, {"fetch_mode": "changed"})])
    assert (file.stat().st_uid, file.stat().st_gid) == (12345, 12345)


def test_the_line_ends_of_windows_stay(tmp_path: Path) -> None:
    """Init: a configuration and a .env whose lines end in CR LF have no other ends afterwards."""
    file, env = tmp_path / "mwl.json", tmp_path / ".env"
    file.write_bytes(json.dumps(document(SOURCE), indent=2).replace("\n", "\r\n").encode())
    env.write_bytes(b"# ours\r\nCALPENDO_PASSWORD=old\r\nLAST=2\r\n")
    write_all([updated_configuration(file, {"fetch_mode": "changed"}), env_file(env, "ann", "new")])
    for content in (file.read_bytes(), env.read_bytes()):
        assert content.count(b"\n") == content.count(b"\r\n") > 3


def test_a_link_and_its_rights_stay(tmp_path: Path) -> None:
    """Init --update: the file that a link leads to is written, with the rights that it had."""
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    real.write_text("{}")
    real.chmod(0o640)
    link.symlink_to(real)
    write_all([Prepared(link, '{"a": 1}', before=b"{}")])
    assert link.is_symlink()
    assert real.read_text() == '{"a": 1}'
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


PASSWORDS = [
    "plain",
    "with blank",
    "a'b",
    'a"b',
    "a\\b",
    "a\\\\b",
    "$HOME",
    "`id`",
    "a#b",
    "a #b",
    "ü€",
    "!x",
    "${A}",
    "=",
    "a\\",
    " ",
]


def test_a_shell_reads_what_was_written(tmp_path: Path) -> None:
    """Init: a .env file means the same to this package and to a POSIX shell, whatever stands in the password."""
    lines, kept = [], []
    for number, password in enumerate(PASSWORDS):
        lines.append(f"V{number}={quoted(password)}")
        kept.append(f'printf "%s\\n" "$V{number}"')
    script = tmp_path / "script"
    script.write_text("\n".join([*lines, *kept]))
    shell = subprocess.run(["sh", str(script)], capture_output=True, text=True, check=True)
    assert shell.stdout.split("\n")[:-1] == PASSWORDS


@given(
    st.text(
        st.characters(codec="utf-8", exclude_characters="\r\n\0", exclude_categories=("Cs", "Cc")),
        min_size=1,
        max_size=12,
    )
)
def test_this_package_reads_what_was_written(password: str) -> None:
    """Init: any password comes back as it was, or is refused in one sentence that does not repeat it."""
    from io import StringIO

    from dotenv.parser import parse_stream

    try:
        text = env_file(Path("/nowhere/.env"), "ann", password).text
    except PluginConfigError as error:
        assert "'" in password or "\\" in password
        assert "set CALPENDO_PASSWORD in the environment" in str(error)  # noqa: PT017
        return
    found = {line.key: line.value for line in parse_stream(StringIO(text))}
    assert found == {"CALPENDO_USERNAME": "ann", "CALPENDO_PASSWORD": password}


def test_other_lines_of_an_env_file_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Init: mode 0600, comments and other variables kept, the login replaced where it stood, once."""
    file = tmp_path / ".env"
    file.write_text("# ours\nexport OTHER='1'\nCALPENDO_PASSWORD=old\nLAST=2")
    file.chmod(0o644)
    write_all([env_file(file, "ann", "it's # new")])
    assert file.read_text() == (
        "# ours\nexport OTHER='1'\nCALPENDO_PASSWORD=\"it's # new\"\nLAST=2\nCALPENDO_USERNAME='ann'\n"
    )
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    monkeypatch.chdir(tmp_path)
    assert Credentials.from_environment(environment()).password == "it's # new"
    assert "it's" not in repr(env_file(file, "ann", "it's # new"))


def test_a_login_in_a_git_tree_is_warned_of(tmp_path: Path) -> None:
    """Init: a .env that a commit would take along is said; one that is ignored, or outside of a tree, is not."""
    assert not git_would_take(tmp_path / ".env")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True, capture_output=True)
    assert git_would_take(tmp_path / ".env")
    (tmp_path / ".gitignore").write_text(".env\n")
    assert not git_would_take(tmp_path / ".env")


def test_the_unit_names_this_installations_files(tmp_path: Path) -> None:
    """Init --service: the example's unit with the paths of the files that were written, and nothing of the example's."""
    template = sample_path("calpendo-pipeline.service").read_text(encoding="utf-8")
    unit = service_unit(template, tmp_path / "mwl config.json", tmp_path / ".env")
    assert f'--pylantir_config "{tmp_path}/mwl config.json"' in unit
    assert f"EnvironmentFile={tmp_path}/.env" in unit
    assert "/opt/calpendo-pipeline" not in unit
    assert "/etc/calpendo-pipeline" not in unit
    assert "[Install]" in unit
