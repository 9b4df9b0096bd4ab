"""What a newcomer meets at the command line: texts that help, exit codes that are right, and no traceback."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner, Result

from pipeline import cli
from pipeline.commands.exits import unforeseen
from pipeline.simulator import CalpendoSimulator
from pipeline.simulator.sample import sample_config

COMMAND = [sys.executable, "-c", "from pipeline.cli import main; main()"]
NAME = "Wellensittich"


def call(*arguments: object, **environ: str) -> Result:
    """Run a command with the simulator's login."""
    login = {"CALPENDO_USERNAME": "demo", "CALPENDO_PASSWORD": "demo", "COLUMNS": "400"}
    return CliRunner().invoke(cli.app, list(map(str, arguments)), env=login | environ)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    """A server with the sample, and a configuration file for it; the site's day, so that the hour does not matter."""
    with CalpendoSimulator() as server:
        here = {"base_url": server.url, "state_path": str(tmp_path / "ledger.sqlite"), "window_mode": "today"}
        config = {**sample_config(), **here}
        file = tmp_path / "mwl.json"
        file.write_text(
            json.dumps({"data_sources": [{"name": "site", "type": "calpendo", "config": config}]})
        )
        yield file


def test_help_fits_the_terminal_and_names_no_type_beside_a_flag() -> None:
    """Style: `--help` breaks its sentences where the terminal ends, and nobody writes `--yes true`."""
    group: Any = get_command(cli.app)
    for command in [*group.commands.values(), *group.commands["quarantine"].commands.values()]:
        assert all("\n" not in paragraph for paragraph in (command.help or "").split("\n\n")), command.name
    told = call("init", "--help", COLUMNS="80").stdout
    assert "<bool>" not in told
    assert "--yes" in told


def test_a_file_of_the_services_user_is_named_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    """Administrator: who asks beside a service as another user is told so, not only that permission is denied."""
    assert unforeseen(PermissionError(13, "Permission denied", "/var/lib/x/worklist.db")) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert told.startswith("Failed: /var/lib/x/worklist.db: Permission denied; call it as the user")


def test_two_terminals(tmp_path: Path) -> None:
    """Promise: `simulate --write-config` in one terminal, the commands it names in another, Ctrl-C at the end."""
    environ = {**os.environ, "CALPENDO_USERNAME": "demo", "CALPENDO_PASSWORD": "demo"}
    command = [*COMMAND, "simulate", "--port", "0", "--write-config", "mwl.json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environ) as first:
        assert first.stdout is not None
        told = [first.stdout.readline() for _ in range(4)]
        assert told[3].strip() == "calpendo-pipeline run --config mwl.json"
        second = call("run", "--config", tmp_path / "mwl.json", "--json")
        assert second.exit_code == 0, second.stderr
        assert len(json.loads(second.stdout)["entries"]) > 10
        first.send_signal(signal.SIGINT)
        assert first.stdout.read() == "Stopped.\n"
    assert first.returncode == 0
    again = call("simulate", "--port", "0", "--write-config", tmp_path / "mwl.json")
    assert again.exit_code == 2, "nobody's file is written over"
    assert "is there already" in again.stderr


def test_a_run_leaves_nothing_waiting(site: Path) -> None:
    """Promise: what `run` has shown is delivered, and its report says so; the next run says that nothing is new."""
    first = call("run", "--config", site)
    assert first.exit_code == 0
    assert "worklist entries" in first.stdout
    assert "waiting" not in first.stdout
    second = call("run", "--config", site)
    assert "Nothing is new, changed or withdrawn since the last run." in second.stdout
    assert call("status", "--config", site, "--max-age", "15m").exit_code == 0


def test_a_plan_says_what_would_be_new(site: Path) -> None:
    """Promise: a dry run shows of each new booking what would stand on the list."""
    plan = call("run", "--config", site, "--dry-run")
    assert re.search(r"new\s+│ 41001\s+│ —\s+│ —\s+│ \d{4}-\d\d-\d\d, 06:30, EEG, SUB001", plan.stdout)
    assert "waiting" not in plan.stdout


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (("run", "--config", "nope.json"), "Refused: nope.json: file: not found; write the path", 2),
        (("verify", "--config", "nope.json"), "nope.json: file: not found", 1),
        (("run", "--config", "."), ".: file: is a directory; write the path of the file in it", 2),
        (("check", "nope.ndjson"), "nope.ndjson: cannot be read (No such file or directory)", 2),
        (("status",), "there is no ledger in", 2),
        (("status", "--max-age", "soon"), "'soon' is no length of time", 2),
        (("quarantine", "purge", "--older-than", "30"), "'30' is no length of time", 2),
        (("simulate", "--port", "70000"), "Usage:", 2),
    ],
)
def test_a_slip_is_told_with_its_place(
    arguments: tuple[str, ...], words: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Style: messages that help: what was wrong, where, what to write instead; 2 for a wrong call or configuration."""
    monkeypatch.chdir(tmp_path)
    done = call(*arguments)
    assert done.exit_code == code
    assert words in re.sub(r"\s*\n\s*", " ", done.output + done.stderr)
    assert "Traceback" not in done.output + done.stderr


def test_several_faults_stand_in_lines(tmp_path: Path) -> None:
    """Issue: all faults are reported together, one a line, below the source that has them."""
    file = tmp_path / "mwl.json"
    config = {"base_url": "ftp://x", "resources": [], "max_workers": 9}
    file.write_text(json.dumps({"data_sources": [{"name": "site", "type": "calpendo", "config": config}]}))
    lines = call("run", "--config", file, CALPENDO_PASSWORD="").stderr.splitlines()
    assert lines[0].startswith("Refused: ")
    assert sum(line.startswith("  - ") for line in lines) == 4


def test_a_refused_login_and_a_dead_server(site: Path) -> None:
    """Promise: what failed stands first and the long address below it; exit code 1."""
    refused = call("run", "--config", site, CALPENDO_PASSWORD="wrong")
    assert refused.exit_code == 1
    first, second = refused.stderr.splitlines()
    assert first.startswith("Fetch failed: Calpendo, Calpendo.Booking query: authentication failed (HTTP 401")
    assert first.endswith("and that this user may read bookings")
    assert second.startswith("  It asked for http://127.0.0.1:")
    document = json.loads(site.read_text())
    document["data_sources"][0]["config"] |= {"base_url": "http://127.0.0.1:9", "max_retries": 0}
    site.write_text(json.dumps(document))
    dead = call("run", "--config", site)
    assert dead.exit_code == 1
    assert "connection refused" in dead.stderr


def test_a_login_from_a_file(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue: a .env file of the working directory is read where present, and the environment goes before it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("CALPENDO_USERNAME=demo\nCALPENDO_PASSWORD='demo'\n")
    for name in ("CALPENDO_USERNAME", "CALPENDO_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    runner = CliRunner()
    assert runner.invoke(cli.app, ["run", "--config", str(site)]).exit_code == 0
    assert (
        runner.invoke(cli.app, ["run", "--config", str(site)], env={"CALPENDO_PASSWORD": "x"}).exit_code == 1
    )


def test_a_replay_of_what_is_not_there_fails(site: Path) -> None:
    """Promise: an id that nobody knows is told, and is no success."""
    assert call("run", "--config", site).exit_code == 0
    done = call("quarantine", "replay", "77", "61001", "--config", site)
    assert done.exit_code == 1
    assert "there is no booking 77 in quarantine" in done.stderr
    assert "0 of 1 pass now" in done.stdout
    assert call("quarantine", "replay", "77", "--config", site).exit_code == 1


def test_half_a_character_can_be_revealed(tmp_path: Path) -> None:
    """Promise: `show --reveal` shows every payload, also one that no terminal can write."""
    deep = json.loads("[" * 300 + "]" * 300)
    rows = [{"id": "x", "title": f"{NAME}\ud800"}, {"id": "y", "deep": deep}, {"id": "z", "number": 10**40}]
    with CalpendoSimulator([]) as server:
        body = json.dumps({"biskits": rows}).encode()
        server.faults.add("not_biskits", match="/q/Calpendo", body=body)
        file = tmp_path / "mwl.json"
        config = {"base_url": server.url, "resources": ["3T"], "state_path": str(tmp_path / "ledger.sqlite")}
        file.write_text(json.dumps(config))
        done = call("run", "--config", file)
        assert done.exit_code == 0, done.stderr
        assert "rejected 3" in done.stdout
    for item in ("q1", "q2", "q3"):
        for more in ((), ("--reveal",)):
            done = call("quarantine", "show", item, *more, "--config", file)
            assert done.exit_code == 0, done.exception
    assert f"{NAME}\\ud800" in call("quarantine", "show", "q1", "--reveal", "--config", file).stdout


@pytest.mark.slow
def test_a_terminal_that_knows_no_greek(tmp_path: Path) -> None:
    """Promise: names in any script are shown as well as the terminal can, and never end a command."""
    environ = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run([*COMMAND, "demo"], capture_output=True, env=environ, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert b"SUB0" in done.stdout
    assert re.search(rb"\\u[0-9a-f]{4}", done.stdout), "a name beyond ASCII, escaped"


def test_what_nobody_foresaw_is_told_without_its_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Issue: no name in any exception text: a fault of the program is told by kind and place; the system's in words."""
    errors: list[Exception] = [ValueError(f"cannot read {NAME}"), OSError(28, "No space left on device")]

    def burst() -> None:
        raise errors.pop(0)

    monkeypatch.setattr(cli, "app", burst)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    told = capsys.readouterr().err
    assert ended.value.code == 1
    assert NAME not in told
    assert "ValueError; please report" in told
    assert "in burst" in told
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == "Failed: No space left on device\n"


def test_an_output_that_cannot_be_written(site: Path) -> None:
    """Promise: nothing counts as delivered, and the next run has it all."""
    if not Path("/proc").is_dir():
        pytest.skip("the system has no folder that nobody can write to")
    done = call("run", "--config", site, "--output", "/proc/entries.csv")
    assert done.exit_code == 1
    assert "/proc/entries.csv: cannot be written" in done.stderr
    assert len(json.loads(call("run", "--config", site, "--json").stdout)["entries"]) > 10
