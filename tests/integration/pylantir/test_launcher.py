"""T023: registration, and the launcher that hands everything to Pylantir's own command."""

from __future__ import annotations

import configparser
import json
import logging
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.pylantir import CalendoPylantirPlugin, register
from pipeline.pylantir.log_masks import mask_logs
from pipeline.pylantir.sources import ledger_name, remember_sources
from tests.integration.pylantir.bookings import source

ROOT = Path(__file__).parents[3]


def python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter."""
    import os

    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | environment,
        check=False,
        timeout=60,
    )


def test_register_takes_the_place_of_pylantirs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """T023: sources of type "calpendo" get this plugin, by Pylantir's own look-up."""
    from pylantir.data_sources import PLUGIN_REGISTRY, get_plugin

    monkeypatch.setitem(PLUGIN_REGISTRY, "calpendo", PLUGIN_REGISTRY["calpendo"])
    register([])
    assert get_plugin("calpendo") is CalendoPylantirPlugin


def test_nothing_binds_the_database_before_pylantir_starts() -> None:
    """Importing and registering leave the modules alone that bind the database's path at import."""
    code = """
import sys
from pipeline.pylantir import register, CalendoPylantirPlugin
register(["start"])
CalendoPylantirPlugin().get_mwl_query_filter("mri", config={})
bound = {"pylantir." + name for name in ("db_setup", "mwl_server", "redcap_to_db", "worklist_sync")}
assert not bound & set(sys.modules), bound & set(sys.modules)
"""
    done = python(code)
    assert done.returncode == 0, done.stderr


def test_without_pylantir_the_module_says_what_to_install() -> None:
    """The extra is missing: importing says what to write, the rest of the package works."""
    code = """
import sys
sys.modules["pylantir"] = None
import pipeline, pipeline.plugin
try:
    import pipeline.pylantir
except ImportError as error:
    assert "pip install 'calpendo-pipeline[pylantir]'" in str(error), error
else:
    raise SystemExit("imported")
"""
    done = python(code)
    assert done.returncode == 0, done.stderr


def test_the_command_hands_all_arguments_on() -> None:
    """Pylantir's own parser answers: its help, its commands, its exit code."""
    main = "from pipeline.cli import main; main()"
    shown = python(main, "pylantir", "--help")
    assert shown.returncode == 0, shown.stderr
    assert "--pylantir_config" in shown.stdout
    assert "usage: calpendo-pipeline pylantir" in shown.stdout
    wrong = python(main, "pylantir", "dance")
    assert wrong.returncode == 2
    assert "invalid choice" in wrong.stderr


def test_the_command_without_pylantir_says_what_to_install() -> None:
    """The extra is missing: one line on what to write, and exit code 2."""
    code = 'import sys; sys.modules["pylantir"] = None; from pipeline.cli import main; main()'
    done = python(code, "pylantir", "start")
    assert done.returncode == 2
    assert (
        done.stderr.strip() == "Pylantir is not installed. Write: pip install 'calpendo-pipeline[pylantir]'"
    )


def test_ledgers_are_named_by_the_configuration_file(tmp_path: Path) -> None:
    """The launcher reads the file that Pylantir will read; each source's ledger has its source's name."""
    url = "https://example.calpendo.com"
    outer = source(url, "seven", resources=["7T"])
    mapping = outer["config"].pop("field_mapping")
    unnamed = source(url, resources=["EEG"])
    del unnamed["name"]
    file = tmp_path / "mwl_config.json"
    file.write_text(
        json.dumps({"data_sources": [source(url, "three"), outer | {"field_mapping": mapping}, unnamed]})
    )
    try:
        remember_sources(["start", "--pylantir_config", str(file), "--port", "4242"])
        assert ledger_name(source(url, "three")["config"]) == "three"
        assert ledger_name(outer["config"] | {"field_mapping": mapping}) == "seven"
        assert ledger_name(unnamed["config"]) == "calpendo"
    finally:
        remember_sources([])


def test_without_the_file_a_ledgers_name_comes_from_the_source() -> None:
    """Registered by hand: other resources make another ledger, another mapping does not."""
    first = source("https://example.calpendo.com")["config"]
    name = ledger_name(first)
    assert name.startswith("calpendo-")
    assert ledger_name(first | {"field_mapping": {}}) == name
    assert ledger_name(first | {"resources": ["7T"]}) != name


@pytest.mark.parametrize("content", ["", "{", "[]", '{"data_sources": 3}'])
def test_a_faulty_file_is_pylantirs_to_refuse(tmp_path: Path, content: str) -> None:
    """The launcher stumbles over no file; Pylantir itself says what is wrong with it."""
    file = tmp_path / "mwl_config.json"
    file.write_text(content)
    remember_sources(["start", f"--pylantir_config={file}"])
    remember_sources(["start", "--pylantir_config", str(tmp_path / "missing.json")])


LINES = [
    (
        "pylantir.cli.run",
        "[mri] Processing record for patient_id: SUB1 Doe",
        "[mri] Processing record for patient_id: ***",
    ),
    (
        "pylantir.mwl_server",
        "DB updated: PatientID: SUB1 PatientName: Doe^Jane set to COMPLETED",
        "DB updated: PatientID: *** set to COMPLETED",
    ),
    (
        "pylantir.mwl_server",
        "DB updated: PatientID SUB1 set to IN_PROGRESS",
        "DB updated: PatientID *** set to IN_PROGRESS",
    ),
    (
        "pylantir.mwl_server",
        "MPPS N-SET: No DB entry found for PatientID: SUB1 PatientName: Doe^Jane",
        "MPPS N-SET: No DB entry found for PatientID: ***",
    ),
    (
        "pylantir.mwl_server",
        "Received MWL C-FIND query: (0010,0010) Doe^Jane\n(0010,0020)",
        "Received MWL C-FIND query",
    ),
    (
        "pynetdicom.service_class",
        "(0010,0010) PN [Doe^Jane]                               #   1 PatientName",
        "(0010,0010) PN ***                               #   1 PatientName",
    ),
    (
        "pylantir.cli.run",
        "[mri] Database error: broken\n[SQL: INSERT]\n[parameters: ('Doe^Jane',)]",
        "[mri] Database error: broken\n[SQL: INSERT]\n[parameters: ***]",
    ),
    ("pylantir.cli.run", "[mri] Sync completed successfully", "[mri] Sync completed successfully"),
    (
        "pynetdicom.service_class",
        "Find SCP Response 1: 0xFF00 (Pending)",
        "Find SCP Response 1: 0xFF00 (Pending)",
    ),
]


@pytest.fixture
def unmasked():
    """Take the filters off the loggers again."""
    yield
    from pipeline.pylantir.log_masks import PatientMask

    for name in ("pylantir.cli.run", "pylantir.mwl_server", "pynetdicom.service_class"):
        logger = logging.getLogger(name)
        logger.filters = [known for known in logger.filters if not isinstance(known, PatientMask)]


@pytest.mark.parametrize(("name", "line", "masked"), LINES)
def test_pylantirs_log_lines_are_masked(
    caplog: pytest.LogCaptureFixture, unmasked: None, name: str, line: str, masked: str
) -> None:
    """Subjects' ids and names are taken out of the host's lines; the rest of the line stays."""
    mask_logs()
    mask_logs()
    caplog.set_level(logging.INFO, name)
    logging.getLogger(name).info(line)
    assert caplog.messages == [masked]
    assert len(logging.getLogger(name).filters) == 1


def test_the_masks_can_be_left_off(monkeypatch: pytest.MonkeyPatch, unmasked: None) -> None:
    """CALPENDO_LOG_PATIENTS=1 leaves Pylantir's lines as they are."""
    monkeypatch.setenv("CALPENDO_LOG_PATIENTS", "1")
    mask_logs()
    assert not logging.getLogger("pylantir.cli.run").filters


def test_the_service_file_starts_what_pylantirs_own_did() -> None:
    """The unit's command is Pylantir's, with one word before it, and its state lies where the unit may write."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(ROOT / "data" / "calpendo-pipeline.service")
    service = unit["Service"]
    program, word, *rest = shlex.split(service["ExecStart"])
    assert Path(program).name == "calpendo-pipeline"
    assert (word, rest[0]) == ("pylantir", "start")
    assert "--pylantir_config" in rest
    assert service["StateDirectory"] == "calpendo-pipeline"
    assert "XDG_STATE_HOME=/var/lib" in service["Environment"]
    assert "PASSWORD" not in (ROOT / "data" / "calpendo-pipeline.service").read_text().replace(
        "CALPENDO_PASSWORD", ""
    )
