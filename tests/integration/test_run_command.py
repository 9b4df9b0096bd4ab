"""The command `run`, as a person or a cron job calls it, against the simulator over real sockets."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.simulator import CalpendoSimulator
from pipeline.simulator.sample import sample_config

pytestmark = pytest.mark.usefixtures("credentials")


@pytest.fixture
def server():
    """A simulated Calpendo with the sample, moved to today."""
    with CalpendoSimulator() as simulator:
        yield simulator


@pytest.fixture
def settings(server, tmp_path) -> Path:
    """A configuration file as Pylantir knows it."""
    return _written(tmp_path, base_url=server.url)


def _written(folder: Path, **changes) -> Path:
    config = {**sample_config(), "state_path": str(folder / "ledger.sqlite"), **changes}
    source = {"name": "site", "type": "calpendo", "sync_interval": 3600, "config": config}
    path = folder / "mwl_config.json"
    path.write_text(json.dumps({"data_sources": [source]}))
    return path


def _run(*arguments: object):
    return CliRunner().invoke(app, ["run", *map(str, arguments)])


@pytest.mark.parametrize(
    ("name", "read"),
    [("entries.parquet", pl.read_parquet), ("entries.ndjson", pl.read_ndjson), ("entries.csv", pl.read_csv)],
)
def test_a_cycle_writes_what_check_accepts(settings, tmp_path, name, read) -> None:
    """Command promise: `run --output` writes each known format whole, private, and keeping the contract."""
    output = tmp_path / name
    done = _run("--config", settings, "--output", output)
    assert done.exit_code == 0, done.output
    assert len(read(output)) > 10
    assert output.stat().st_mode & 0o077 == 0
    assert CliRunner().invoke(app, ["check", str(output)]).exit_code == 0
    assert not list(tmp_path.glob(f".{name}*"))


@pytest.mark.parametrize("name", ["entries.ndjson", "entries.csv"])
def test_times_are_written_as_the_clock_shows_them(settings, tmp_path, name) -> None:
    """Command promise: a text file holds times as HH:MM:SS, which every reader of ISO 8601 takes."""
    output = tmp_path / name
    assert _run("--config", settings, "--output", output).exit_code == 0
    read = pl.read_ndjson if name.endswith("ndjson") else pl.read_csv
    times = read(output)["scheduled_start_time"].cast(pl.String)
    assert times.str.contains(r"\A[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?\z").all()


def test_a_second_cycle_has_nothing_to_say(settings, tmp_path) -> None:
    """T015, T020: what was written is delivered, so a second run with nothing changed writes an empty file."""
    output = tmp_path / "entries.parquet"
    assert _run("--config", settings, "--output", output).exit_code == 0
    assert _run("--config", settings, "--output", output).exit_code == 0
    frame = pl.read_parquet(output)
    assert frame.is_empty()
    assert frame.schema["scheduled_start_date"] == pl.Date


def test_the_whole_list_stays_in_the_file(settings, server, tmp_path) -> None:
    """Promise: `--full` writes every booking of the window in each run; a deleted one stays as DISCONTINUED."""
    output = tmp_path / "list.csv"
    arguments = ("--config", settings, "--output", output)
    _run(*arguments, "--full")
    first = pl.read_csv(output)
    assert len(first) > 10
    assert _run(*arguments, "--full").exit_code == 0
    assert pl.read_csv(output).equals(first), "the second file is not empty"
    assert "nothing changed since the last run with this file; --full" in _run(*arguments).output
    assert pl.read_csv(output).is_empty()
    assert _run(*arguments, "--full", "--dry-run").exit_code == 2
    gone = int(first.filter(pl.col("performed_procedure_step_status") == "SCHEDULED")["source_record_id"][0])
    server.delete(gone)
    assert "the whole list, with 1 that changed" in _run(*arguments, "--full").output
    last = pl.read_csv(output)
    assert last["source_record_id"].equals(first["source_record_id"])
    off = last.filter(pl.col("source_record_id") == gone)["performed_procedure_step_status"]
    assert off.to_list() == ["DISCONTINUED"]


def test_entries_that_could_not_be_written_are_sent_again(settings, tmp_path, monkeypatch) -> None:
    """Design, at least once: a cycle whose file the disk refuses delivers nothing, and the next one has it all."""
    output = tmp_path / "entries.ndjson"
    output.write_text("as it was")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("pipeline.files.os.fsync", full)
        done = _run("--config", settings, "--output", output)
    assert done.exit_code == 1
    assert "No space left" in done.stderr
    assert output.read_text() == "as it was"
    assert len(json.loads(_run("--config", settings, "--output", output, "--json").output)["entries"]) > 10


def test_a_plan_changes_nothing(settings, server) -> None:
    """Plan before act: `--dry-run` names what is new, and a real run afterwards finds it as new as before."""
    planned = json.loads(_run("--config", settings, "--dry-run", "--json").output)
    again = json.loads(_run("--config", settings, "--dry-run", "--json").output)
    done = json.loads(_run("--config", settings, "--json").output)
    new = {row["booking_id"] for row in planned["changes"] if row["change"] == "new"}
    assert planned["changes"] == again["changes"]
    assert new == {int(entry["source_record_id"]) for entry in done["entries"]}
    server.edit(min(new), title="SUB999_Changed_Title")
    changed = _run("--config", settings, "--dry-run")
    assert changed.exit_code == 0
    assert "SUB999" in changed.output
    assert "Nothing was changed" in changed.output


def test_a_refused_login_is_exit_code_one(settings, monkeypatch) -> None:
    """Command promise: a failed fetch exits with 1 and says what failed, without the password."""
    monkeypatch.setenv("CALPENDO_PASSWORD", "not-the-password")
    done = _run("--config", settings)
    assert done.exit_code == 1
    assert "authentication failed" in done.stderr
    assert "not-the-password" not in done.output + done.stderr


def test_a_wrong_configuration_is_exit_code_two(tmp_path) -> None:
    """Command promise: faults of the configuration exit with 2 and are all named at once."""
    path = _written(tmp_path, base_url="ftp://example", resources=[], lookback_multiplier=-1)
    done = _run("--config", path)
    assert done.exit_code == 2
    for key in ("base_url", "resources", "lookback_multiplier"):
        assert key in done.stderr


def test_an_unusable_output_is_refused_before_anything_is_fetched(settings, server, tmp_path) -> None:
    """Command promise: an unknown ending or folder is refused with what to do, and no request is sent."""
    done = _run("--config", settings, "--output", tmp_path / "entries.xlsx")
    assert done.exit_code == 2
    assert ".parquet" in done.stderr
    assert _run("--config", settings, "--output", tmp_path / "absent" / "entries.csv").exit_code == 2
    assert not server.requests


@pytest.mark.parametrize("arguments", [("run",), ("status",), ("quarantine", "list"), ("verify",)])
def test_a_state_path_that_is_something_else_is_refused(settings, tmp_path, arguments) -> None:
    """Command promise: every command refuses a file that is no ledger in one sentence, and leaves it as it is."""
    ledger = tmp_path / "ledger.sqlite"
    ledger.write_text("id,title\n1,Doe\n")
    done = CliRunner().invoke(app, [*arguments, "--config", str(settings)])
    assert done.exit_code == (1 if arguments[0] == "verify" else 2)
    assert "ledger.sqlite is no ledger of this program" in " ".join((done.output + done.stderr).split())
    assert "Doe" not in done.output + done.stderr
    assert ledger.read_text() == "id,title\n1,Doe\n"
    assert not list(tmp_path.glob("ledger.sqlite?*"))


def test_worklist_files_are_kept_where_the_configuration_says(settings, server, tmp_path) -> None:
    """Command promise: `run` keeps the files of `worklist_dir` in place of showing the entries, and says how many."""
    directory = tmp_path / "worklists"
    directory.mkdir()
    state = tmp_path / "state" / "ledger.sqlite"
    path = _written(tmp_path, base_url=server.url, worklist_dir=str(directory), state_path=str(state))
    done = _run("--config", path)
    assert done.exit_code == 0, done.output
    count = len(list(directory.glob("cp-*.wl")))
    assert count > 5
    assert f"{count} worklist files, {count} written" in done.output
    output = tmp_path / "entries.ndjson"
    both = json.loads(_run("--config", path, "--output", output, "--json").output)
    assert len(both["entries"]) == len(pl.read_ndjson(output)) > 10
    # Between the runs a booking may have come to its end, or into the window.
    assert both["worklist"]["files"] == len(list(directory.glob("cp-*.wl")))
    assert both["worklist"]["written"] < count
    refused = _run("--config", path, "--worklist-dir", state.parent)
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "holds the ledger" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--every", "--dry-run"), "leave one of --every and --dry-run out"),
        (("--every", "0s"), "above 0"),
        (("--every", "often"), "such as 15m"),
    ],
)
def test_every_needs_a_length_of_time_or_none(settings, server, arguments, words) -> None:
    """Command promise: `--every` alone means the file's interval; nonsense is refused before anything is fetched."""
    done = _run("--config", settings, *arguments)
    assert done.exit_code == 2
    assert words in done.stderr
    assert not server.requests
