"""T023: registration, and the launcher that hands everything to Pylantir's own command."""

from __future__ import annotations

import configparser
import json
import logging
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pynetdicom.sop_class import ModalityWorklistInformationFind
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.errors import PluginConfigError
from pipeline.pylantir import CalendoPylantirPlugin, register, run
from pipeline.pylantir.configuration import ledger_name, remember_sources
from pipeline.pylantir.launcher import mask_logs
from pipeline.simulator import CalpendoSimulator
from tests.support.bookings_by_hour import booking, source
from tests.support.pylantir_process import PylantirProcess

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
    assert "in the checkout of calpendo-pipeline: pip install '.[pylantir]'" in str(error), error
else:
    raise SystemExit("imported")
"""
    done = python(code)
    assert done.returncode == 0, done.stderr


def test_the_command_hands_all_arguments_on() -> None:
    """Pylantir's own parser answers: its help, its commands, its exit code."""
    code = """
import sys
from pipeline.cli import main
for words in (["--help"], ["dance"]):
    sys.argv = ["calpendo-pipeline", "pylantir", *words]
    try:
        main()
    except SystemExit as end:
        print("ended with", end.code)
"""
    done = python(code)
    assert "--pylantir_config" in done.stdout
    assert "usage: calpendo-pipeline pylantir" in done.stdout
    assert "invalid choice" in done.stderr
    assert [line for line in done.stdout.splitlines() if "ended" in line] == ["ended with 0", "ended with 2"]


def test_the_command_without_pylantir_says_what_to_install() -> None:
    """The extra is missing: one line on what to write, and exit code 2."""
    code = 'import sys; sys.modules["pylantir"] = None; from pipeline.cli import main; main()'
    done = python(code, "pylantir", "start")
    assert done.returncode == 2
    assert (
        done.stderr.strip()
        == "Pylantir is not installed. Write in the checkout of calpendo-pipeline: pip install '.[pylantir]'"
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
def test_a_faulty_file_names_no_sources(tmp_path: Path, content: str) -> None:
    """Registration by hand stumbles over no file; whoever starts the server says what is wrong with it."""
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
    from pipeline.pylantir.launcher import PatientMask

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


def test_the_other_service_file_differs_in_what_it_runs_alone() -> None:
    """The unit for worklist files is as confined as Pylantir's, and may write its directory besides."""
    one, other = (
        set((ROOT / "data" / name).read_text().partition("[Unit]")[2].splitlines())
        for name in ("calpendo-pipeline.service", "calpendo-worklist.service")
    )
    names = {line.partition("=")[0] for line in one ^ other if not line.startswith("#")}
    assert names == {"Description", "ExecStart", "ReadWritePaths"}
    assert any(line.endswith("run --config /etc/calpendo-pipeline/mwl_config.json --every") for line in other)


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, credentials: tuple[str, str]):
    """Return a function that starts with a file's content (None: no file) and gives what was refused."""
    monkeypatch.setattr(sys, "argv", ["calpendo-pipeline"])
    monkeypatch.setattr("pylantir.cli.run.main", lambda: pytest.fail("it was started"))

    def ask(content: str | bytes | None, *arguments: str) -> str:
        file = tmp_path / "mwl_config.json"
        if content is not None:
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(PluginConfigError) as refused:
            run(
                [
                    "start",
                    "--pylantir_config",
                    str(file),
                    *(arguments or ("--AEtitle", "W", "--ip", "127.0.0.1")),
                ]
            )
        return str(refused.value)

    yield ask
    remember_sources([])


def _file(**changes: object) -> str:
    return json.dumps({"data_sources": [source("https://example.calpendo.com", "mri") | changes]})


def test_a_start_that_would_serve_nothing_is_refused(asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise: what needs no server is said at once, with what to write; the server is not started."""
    assert "not found" in asked(None)
    assert "is not JSON" in asked("{")
    assert "no enabled Calpendo source" in asked('{"data_sources": []}')
    assert "no enabled Calpendo source" in asked(_file(enabled=False))
    assert "data_sources: missing" in asked(json.dumps(source("https://example.calpendo.com")["config"]))
    assert "byte order mark" in asked(b"\xef\xbb\xbf" + _file().encode())
    assert "operation_interval: write hours" in asked(_file(operation_interval={"start_time": [24, 0]}))
    other = json.loads(_file())
    other["data_sources"].append({"type": "csv_file"})
    assert "data_sources[1].type: Pylantir knows no such sources" in asked(json.dumps(other))
    several = asked(_file(config={"base_url": "https://example.calpendo.com", "keep_past_hours": -1}))
    assert "source 'mri': resources: missing" in several
    assert "source 'mri': keep_past_hours: got the number -1" in several
    assert "--AEtitle" in asked(_file(), "--port", "4242")
    assert "--port: got 70000" in asked(_file(), "--AEtitle", "W", "--port", "70000")
    monkeypatch.delenv("CALPENDO_PASSWORD")
    assert "CALPENDO_PASSWORD: not set" in asked(_file())
    with pytest.raises(PluginConfigError, match="--pylantir_config FILE"):
        run(["start", "--AEtitle", "W"])


def test_a_taken_port_is_refused(asked, tmp_path: Path) -> None:
    """Promise: a port that another server has is named, and the exit code is 1: a restart may help."""
    file = tmp_path / "mwl_config.json"
    file.write_text(_file())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        arguments = [
            "pylantir",
            "start",
            "--pylantir_config",
            str(file),
            "--AEtitle",
            "W",
            "--ip",
            "127.0.0.1",
        ]
        ended = CliRunner().invoke(app, [*arguments, "--port", port])
    assert ended.exit_code == 1
    assert f"port {port} of 127.0.0.1 is taken" in ended.output


def _wait_for(condition) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("state", ["idle", "asking"])
def test_a_signal_ends_it_within_seconds(tmp_path: Path, number: int, state: str) -> None:
    """Promise: Ctrl-C and SIGTERM end the server within seconds, also in the middle of a cycle and of an association."""
    with CalpendoSimulator([booking(1, "SUB001_Doe")]) as sim:
        slow = sim.faults.add("delay", match="/q/", seconds=50) if state == "asking" else None
        settings = source(sim.url, "mri", list_timeout=60, batch_deadline=120)
        with PylantirProcess(tmp_path, [settings | {"sync_interval": 600}]) as pylantir:
            _wait_for(lambda: slow.hits if slow else pylantir.rows())
            with pylantir.scanner.association(ModalityWorklistInformationFind):
                code, seconds = pylantir.end(number)
    assert code == 0, pylantir.output()
    assert seconds < 10
    assert "Traceback" not in pylantir.output()


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["down", "refused"])
def test_a_server_in_trouble_costs_one_line_a_cycle(tmp_path: Path, fault: str) -> None:
    """Promise: while Calpendo is down or refuses the login, each cycle is one ERROR line, and the last good list stays."""
    with (
        CalpendoSimulator([booking(1, "SUB001_Doe")]) as sim,
        CalpendoSimulator([booking(2, "SUB002_Roe")]) as other,
    ):
        sources = [source(sim.url, "mri", max_retries=0), source(other.url, "eeg")]
        with PylantirProcess(tmp_path, [each | {"sync_interval": 1} for each in sources]) as pylantir:
            _wait_for(lambda: len(pylantir.rows()) == 2)
            if fault == "down":
                sim.close()
            else:
                sim.faults.add("status", code=401)
            _wait_for(lambda: pylantir.output().count("[mri] Sync error") >= 4)
            began = pylantir.output().index("[mri] Sync error")
            seen = len(pylantir.output())
            _wait_for(lambda: "emitted" in pylantir.output()[seen:])
            assert pylantir.scanner.find().subjects == ["SUB001", "SUB002"]
    lines = [
        line
        for line in pylantir.output()[began:].splitlines()[1:-1]
        if "mri" in line or "calpendo" not in line
    ]
    ours = [line for line in lines if "pynetdicom" not in line and "pylantir.mwl_server" not in line]
    assert len(ours) >= 3
    assert all(" ERROR [mri] Sync error: Calpendo" in line for line in ours), ours


@pytest.mark.slow
def test_a_fault_of_pylantir_ends_it(tmp_path: Path) -> None:
    """Promise: where Pylantir's server cannot be made, its threads are not waited for."""
    with CalpendoSimulator([booking(1, "SUB001_Doe")]) as sim:
        pylantir = PylantirProcess(tmp_path, [source(sim.url, "mri")], allowed_aet=[7])
        with pytest.raises(AssertionError, match="pylantir ended with 1"):
            pylantir.start()
