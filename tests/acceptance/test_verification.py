"""T025: the verification says what is in place, what is not, and what to do; one line each, exit code 0 or 1."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from pipeline.audit import times_in_doubt
from pipeline.commands import verify as command
from pipeline.simulator import CalpendoSimulator
from pipeline.verify import Check, State, Verification, setup_checks, verify

NOW = datetime(2026, 11, 23, 18, 0, tzinfo=UTC)
LOGIN = {"CALPENDO_USERNAME": "demo", "CALPENDO_PASSWORD": "demo"}
Write = Callable[..., Path]


@pytest.fixture
def simulator() -> Iterator[CalpendoSimulator]:
    """Serve the sample's bookings over real sockets."""
    with CalpendoSimulator() as server:
        yield server
        assert not server.errors


@pytest.fixture
def write(tmp_path: Path, simulator: CalpendoSimulator) -> Write:
    """Return a function that writes a configuration file for the simulator, with changes."""

    def _write(**changes: Any) -> Path:
        config = {
            "base_url": simulator.url,
            "api_path": "/webdav",
            "resources": ["3T Diagnostic", "EEG Lab"],
            "resource_modality_mapping": {"3T": "MR", "EEG": "EEG"},
            "output_timezone": "site",
            "state_path": str(tmp_path / "ledger.sqlite"),
            "field_mapping": {"patient_id": "title"},
            **changes,
        }
        config = {key: value for key, value in config.items() if value is not None}
        path = tmp_path / "mwl_config.json"
        path.write_text(json.dumps({"data_sources": [{"type": "calpendo", "name": "mri", "config": config}]}))
        return path

    return _write


def lines(verification: Verification, name: str, state: State) -> list[Check]:
    """Return the lines of one name that ended so."""
    return [check for check in verification.checks if check.name == name and check.state is state]


def only(verification: Verification, name: str, state: State) -> Check:
    """Return the one line of a name, which must have ended so."""
    (check,) = [check for check in verification.checks if check.name == name]
    assert check.state is state, check
    return check


def test_everything_in_place(write: Write, simulator: CalpendoSimulator) -> None:
    """T025: checks all prerequisites, and passes where they are met; nothing but three lists is asked of the server."""
    verification = verify(write(), environ=LOGIN)
    assert verification.passed, [check for check in verification.checks if check.state is State.FAILED]
    for name in (
        "environment",
        "login",
        "configuration",
        "modalities",
        "output zone",
        "ledger",
        "connection",
    ):
        only(verification, name, State.OK)
    only(verification, "bookings", State.OK)
    only(verification, "resources", State.OK)
    assert [re.split(r"/(?=AND)", request.path)[0] for request in simulator.requests] == [
        "/webdav/q/Calpendo.Booking",
        "/webdav/b/Calpendo.Resource",
        "/webdav/q/Calpendo.Booking",
    ]
    assert "paths=id," in simulator.requests[-1].path


def test_a_pattern_at_risk_is_shown(write: Write) -> None:
    """Issue: a pattern that may backtrack without end is a warning, with an invented title; an ordinary one is none."""
    rules = {
        "patient_id": {"source_field": "title", "_extract": {"pattern": "(?i)^([A-Z]+\\d+)_", "group": 1}},
        "patient_name": {
            "source_field": "title",
            "_extract": {"pattern": r"(?i)^[A-Z0-9]+_((?:\w+\s?)*)$", "group": 1},
        },
    }
    verification = verify(write(field_mapping=rules), environ=LOGIN)
    (line,) = lines(verification, "patterns", State.WARNING)
    assert re.search(r"patient_name: on the invented title 'a_a+!' \(48 characters\)", line.found)
    assert verification.passed


def test_the_mapping_is_tried(write: Write) -> None:
    """Issue: a pattern that matches no title of the window or of thirty days is a failure, with a form to write a rule for."""
    rule = {"source_field": "title", "_extract": {"pattern": "^(P[0-9]{4})-V", "group": 1}}
    verification = verify(write(field_mapping={"patient_id": rule}), environ=LOGIN)
    (line,) = lines(verification, "mapping", State.FAILED)
    assert re.match(r"patient_id: 0 of \d+ bookings matched \(0 %\); at least 80 % have to match", line.found)
    assert "AAA999_" in line.advice
    assert not verification.passed


@pytest.mark.parametrize("refused", ["sex", "paths="])
def test_a_server_that_refuses_the_mapped_fields_is_said(
    write: Write, simulator: CalpendoSimulator, refused: str
) -> None:
    """Issue: what cannot be judged from a list is said as such, and never counted as wrong."""
    simulator.faults.add("status", match=refused, code=400)
    mapping = {
        "patient_id": "title",
        "patient_sex": {"source_field": "properties.sex", "_extract": {"pattern": "M|F"}},
    }
    verification = verify(write(field_mapping=mapping), environ=LOGIN)
    (line,) = lines(verification, "mapping", State.WARNING)
    assert ("refuses a list" if refused == "sex" else "could not be listed") in line.found
    (line,) = lines(verification, "mapping", State.SKIPPED)
    assert line.found.startswith("patient_sex: no booking of the list has a value")
    assert verification.passed


def test_the_plugin_registers_in_pylantir(write: Write) -> None:
    """T025, T023: the registration is tried where Pylantir is installed."""
    pytest.importorskip("pylantir")
    assert "0.4.6" in only(verify(write(), environ=LOGIN), "Pylantir", State.OK).found


def test_without_pylantir_it_is_said_what_to_install(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """T025: registration is checked only when Pylantir is installed; the rest works without."""
    monkeypatch.setattr(setup_checks, "find_spec", lambda _: None)
    verification = verify(write(), environ=LOGIN)
    assert "pip install '.[pylantir]'" in only(verification, "Pylantir", State.SKIPPED).advice
    assert verification.passed


@pytest.mark.parametrize("missing", ["CALPENDO_USERNAME", "CALPENDO_PASSWORD"])
def test_missing_environment_variables_are_reported(
    write: Write, missing: str, simulator: CalpendoSimulator
) -> None:
    """T025: reports missing environment variables, and asks the server nothing without a login."""
    verification = verify(write(), environ={key: LOGIN[key] for key in LOGIN if key != missing})
    assert not verification.passed
    line = only(verification, "login", State.FAILED)
    assert missing in line.found
    assert f"export {missing}=" in line.advice
    only(verification, "connection", State.SKIPPED)
    assert simulator.requests == []


def test_a_refused_login_is_reported(write: Write) -> None:
    """T025: tests API authentication; the password stays unsaid."""
    verification = verify(write(), environ={**LOGIN, "CALPENDO_PASSWORD": "s3cret-Pass"})
    assert not verification.passed
    (line,) = lines(verification, "login", State.FAILED)
    assert "authentication failed" in line.found
    assert "CALPENDO_PASSWORD" in line.advice
    assert "s3cret-Pass" not in str(verification)


def test_a_server_that_is_down_is_reported(write: Write, simulator: CalpendoSimulator) -> None:
    """T025: tests connectivity."""
    path = write()
    simulator.close()
    line = only(verify(path, environ=LOGIN), "connection", State.FAILED)
    assert "nothing listens there (connection refused)" in line.found
    assert line.advice == "check the port in base_url, and whether the server runs"


def test_another_api_path_is_found(write: Write) -> None:
    """T025: actionable messages: where the API answers at the other known path, that path is named."""
    verification = verify(write(api_path="/elsewhere"), environ=LOGIN)
    assert '"api_path": "/webdav"' in only(verification, "connection", State.FAILED).advice


def test_a_path_in_the_address_is_proposed_once(write: Write, simulator: CalpendoSimulator) -> None:
    """Issue: with /api/ at the end of base_url it is said once where it belongs, and no address with it twice is."""
    verification = verify(write(base_url=f"{simulator.url}/api/", api_path=None), environ=LOGIN)
    advice = only(verification, "connection", State.FAILED).advice
    assert advice.endswith(f'; write "base_url": "{simulator.url}" and "api_path": "/api"')
    (caution,) = lines(verification, "configuration", State.WARNING)
    assert "base_url: ends with '/api'" in caution.found
    assert "/api/api" not in str(verification)


def test_a_page_instead_of_an_answer_is_reported(write: Write, simulator: CalpendoSimulator) -> None:
    """T025: a web page at the address is no Calpendo, even with status 200."""
    simulator.faults.add("html")
    line = only(verify(write(), environ=LOGIN), "connection", State.FAILED)
    assert "base_url and api_path" in line.advice


def test_resources_the_server_does_not_know_are_reported(write: Write) -> None:
    """Promise: resource names that the server does not know, each with the likely one."""
    verification = verify(write(resources=["3T Diagnostics", "EEG Lab", "Xylophone"]), environ=LOGIN)
    assert not verification.passed
    first, second = lines(verification, "resources", State.FAILED)
    assert "'3T Diagnostics'" in first.found
    assert first.advice == "write '3T Diagnostic'"
    assert "'Xylophone'" in second.found
    assert "spell it as Calpendo does" in second.advice


@pytest.mark.parametrize("kind", ["html", "status"])
def test_a_hidden_resource_list_is_a_warning(write: Write, simulator: CalpendoSimulator, kind: str) -> None:
    """Promise: permissions can hide the list of resources; the bookings may be had all the same."""
    simulator.faults.add(kind, match="Calpendo.Resource", **({"code": 403} if kind == "status" else {}))
    verification = verify(write(), environ=LOGIN)
    only(verification, "resources", State.WARNING)
    assert verification.passed


def test_unmapped_resources_are_a_warning(write: Write) -> None:
    """Promise: resources without a modality are named with what they would become."""
    verification = verify(write(resources=["3T Diagnostic", "EEG Lab", "MEG Suite"]), environ=LOGIN)
    line = only(verification, "modalities", State.WARNING)
    assert "1 of 3" in line.found
    assert "'MEG Suite' becomes 'OT'" in line.found
    assert "resource_modality_mapping" in line.advice


def test_times_that_are_not_the_sites_are_a_warning(write: Write) -> None:
    """Promise: most consoles show the DICOM time as it comes, so UTC looks hours off."""
    line = only(verify(write(output_timezone="UTC"), environ=LOGIN, now=NOW), "output zone", State.WARNING)
    assert "+6 hours" in line.found
    assert '"output_timezone": "site"' in line.advice
    same = write(timezone="Africa/Abidjan", output_timezone="UTC")
    only(verify(same, environ=LOGIN), "output zone", State.OK)


def test_zone_data_that_differs_is_a_warning(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise: pytz against polars and the system, for the site's zone over the next year."""
    system = times_in_doubt.other_libraries("Europe/Paris")[1]

    def one_hour_off_in_march(instants: pl.Series) -> pl.Series:
        off = (instants >= datetime(2027, 3, 14, 9)).cast(int)  # noqa: DTZ001  naive UTC
        return system.to_wall(instants) + pl.select(pl.duration(hours=off)).to_series()

    others = (system._replace(to_wall=one_hour_off_in_march),)
    monkeypatch.setattr(times_in_doubt, "other_libraries", lambda _zone: others)
    path = write(timezone="Europe/Paris")
    line = only(verify(path, environ=LOGIN, now=NOW), "time zones", State.WARNING)
    assert "from 2027-03-14 on" in line.found
    assert "pytz" in line.advice


def test_zone_data_that_agrees_is_fine(write: Write) -> None:
    """Promise: no warning where all three libraries agree."""
    line = only(verify(write(timezone="UTC"), environ=LOGIN, now=NOW), "time zones", State.OK)
    assert "polars" in line.found


def test_polars_and_pytz_are_really_compared() -> None:
    """Promise: where polars puts a winter noon of Edmonton elsewhere than pytz, the difference is found."""
    import pytz

    noon = datetime(2026, 12, 1, 19, tzinfo=UTC)
    ours = noon.astimezone(pytz.timezone("America/Edmonton")).replace(tzinfo=None)
    frame = pl.Series([noon.replace(tzinfo=None)]).dt.replace_time_zone("UTC")
    theirs = frame.dt.convert_time_zone("America/Edmonton").dt.replace_time_zone(None)[0]
    _, differences = setup_checks.compare_zone("America/Edmonton", datetime(2026, 10, 1, tzinfo=UTC))
    minutes = [difference.minutes for difference in differences if difference.library.startswith("polars")]
    assert minutes == ([] if theirs == ours else [round((theirs - ours).total_seconds() / 60)])


def test_old_pytz_is_a_warning(write: Write) -> None:
    """Promise: time-zone data age."""
    verification = verify(write(timezone="UTC"), environ=LOGIN, now=datetime(2040, 1, 1, tzinfo=UTC))
    assert "pip install --upgrade pytz" in lines(verification, "time zones", State.WARNING)[0].advice


def test_a_ledger_that_cannot_be_written_is_reported(write: Write, tmp_path: Path) -> None:
    """T025: a file where a folder should be is found before the first night; memory is a warning."""
    (tmp_path / "file").touch()
    verification = verify(write(state_path=str(tmp_path / "file" / "ledger.sqlite")), environ=LOGIN)
    assert "state_path" in only(verification, "ledger", State.FAILED).advice
    only(verify(write(state_path=":memory:"), environ=LOGIN), "ledger", State.WARNING)
    assert "ledger@pylantir.sqlite" in only(verify(write(), environ=LOGIN), "ledger", State.OK).found
    assert not (tmp_path / "ledger.sqlite").exists()


def test_every_fault_of_a_configuration_is_a_line(write: Write) -> None:
    """T025: validates the configuration's structure, and says for each fault what to write."""
    verification = verify(
        write(timezone="Mars/Base", max_workers=9, base_url="https://demo:demo@x"), environ=LOGIN
    )
    faults = lines(verification, "configuration", State.FAILED)
    assert sorted(fault.found.split(":")[0] for fault in faults) == ["base_url", "max_workers", "timezone"]
    assert all(fault.advice.startswith("write ") for fault in faults)
    only(verification, "connection", State.SKIPPED)


def test_a_missing_file_is_a_line(tmp_path: Path) -> None:
    """T025: nothing is raised for a file that is not there."""
    verification = verify(tmp_path / "none.json", environ={})
    assert "not found" in only(verification, "configuration", State.FAILED).found
    assert not verification.passed


def test_what_is_probably_not_meant_is_a_warning(write: Write) -> None:
    """T025: the configuration's own cautions are shown."""
    verification = verify(write(password="s3cret-Pass"), environ=LOGIN)
    assert lines(verification, "configuration", State.WARNING)[0].found.startswith("password: ignored")
    assert "s3cret-Pass" not in str(verification)


def test_a_path_that_two_programs_guess_differently_is_a_warning(write: Write) -> None:
    """Promise: under Pylantir the default api_path is that of its own plugin, so it should be written."""
    line = lines(verify(write(api_path=None), environ=LOGIN), "configuration", State.WARNING)[0]
    assert "/webdav" in line.found
    assert "/api" in line.found


@pytest.fixture
def app() -> typer.Typer:
    """The command by itself."""
    app = typer.Typer()
    app.command()(command.verify)
    return app


def test_the_command_prints_one_line_a_check(
    app: typer.Typer, write: Write, monkeypatch: pytest.MonkeyPatch, credentials: tuple[str, str]
) -> None:
    """T025: prints a status report and returns 0 on success."""
    monkeypatch.setattr(setup_checks, "find_spec", lambda _: None)
    done = CliRunner().invoke(app, ["--config", str(write(timezone="UTC"))])
    assert done.exit_code == 0, done.output
    *printed, verdict = done.output.splitlines()
    assert verdict.startswith("Ready")
    assert all(re.match(r"(ok|skipped|warning) +[A-Za-z]|  ", line) for line in printed)


def test_the_command_returns_one_on_failure(app: typer.Typer, write: Write) -> None:
    """T025: returns 1 on failure, with an arrow to what is to be done; a name with brackets is printed as it is."""
    done = CliRunner().invoke(app, ["--config", str(write(resources=["[bold]3T"])), "--source", "mri"])
    assert done.exit_code == 1
    assert "  → " in done.output
    assert "[bold]3T" in done.output
    assert "Not ready: 2 failed" in done.output or "Not ready: 3 failed" in done.output


def test_the_command_looks_at_every_source(app: typer.Typer, write: Write) -> None:
    """Promise: without --source all sources of the file are looked at, and what is the machine's is said once."""
    path = write()
    document = json.loads(path.read_text())
    document["data_sources"].append({**document["data_sources"][0], "name": "eeg"})
    path.write_text(json.dumps(document))
    output = CliRunner().invoke(app, ["--config", str(path)]).output
    assert [line for line in output.splitlines() if line.startswith("source")] == [
        "source 'mri':",
        "source 'eeg':",
    ]
    looked_at = re.findall(r"^(?:ok|failed|warning|skipped) +(\w+)", output, re.MULTILINE)
    assert [looked_at.count(name) for name in ("environment", "login", "ledger")] == [1, 2, 2]
    one = CliRunner().invoke(app, ["--config", str(path), "--source", "eeg"]).output
    assert "source 'eeg': " in one
    assert "mri" not in one


def test_a_fault_in_the_env_file_is_told_once(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T002: a .env file that is not read as meant is named with its line; what is exported is not called missing."""
    path = write()
    (tmp_path / ".env").write_text("CALPENDO_PASSWORD=abc #def\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CALPENDO_PASSWORD", raising=False)
    monkeypatch.setenv("CALPENDO_USERNAME", "demo")
    verification = verify(path)
    (fault,) = [check for check in verification.checks if check.state is State.FAILED]
    assert fault.found.startswith(".env: line 1: the value of CALPENDO_PASSWORD ends before")
    assert only(verification, "login", State.SKIPPED).found == "not looked at: .env has to be fixed first"
    assert only(verification, "connection", State.SKIPPED)
