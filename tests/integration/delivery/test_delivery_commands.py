"""Plan, quarantine and status: in the library and on the command line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from pipeline.commands.ledgers import duration, shown
from pipeline.commands.quarantine import quarantine_app
from pipeline.commands.run import run as run_command
from pipeline.commands.status import status
from pipeline.config import PipelineConfig
from pipeline.delivery import quarantine
from pipeline.delivery.ledger import Ledger
from pipeline.errors import PluginConfigError, PluginFetchError
from pipeline.report import A_FEW_CYCLES
from tests.support.delivery_site import NOW, Site, booking

MakeSite = Callable[..., Site]
APP = typer.Typer()
APP.command()(status)
APP.command("run")(run_command)
APP.add_typer(quarantine_app)


def run(*arguments: str | Path) -> Result:
    """Run a command."""
    return CliRunner().invoke(APP, [str(argument) for argument in arguments])


@pytest.fixture
def config(site: Site, tmp_path: Path) -> Path:
    """Write the site's configuration to a file, as Pylantir has it."""
    path = tmp_path / "pylantir.json"
    path.write_text(
        json.dumps({"data_sources": [{"name": "calpendo", "type": "calpendo", "config": site.config}]})
    )
    return path


@pytest.fixture
def ledger_file(site: Site) -> Path:
    """Name the site's ledger."""
    return Path(site.config["state_path"])


def contents(path: Path) -> list[str]:
    """Give everything a ledger holds, as SQL."""
    with Ledger.copy(path) as ledger:
        return list(ledger.connection.iterdump())


def test_a_plan_shows_everything_and_changes_nothing(site: Site, ledger_file: Path) -> None:
    """Issue: new, changed with old and new value of each field, withdrawn, rejected; ledger and quarantine stay."""
    site.fetch()
    site.close()
    site.simulator.put(booking(9))
    site.simulator.edit(2, title="SUB002_Neu_Berta")
    site.simulator.delete(3)
    site.simulator.edit(4, title="")
    before, bytes_before = contents(ledger_file), ledger_file.read_bytes()
    plan = site.plugin.plan(60)
    site.close()
    assert contents(ledger_file) == before
    assert ledger_file.read_bytes() == bytes_before
    old_hash, new_hash = plan.changes.filter(field="notes").select("old", "new").row(0)
    assert old_hash != new_hash
    assert plan.changes.filter(plan.changes["field"].ne_missing("notes")).rows() == [
        ("new", 9, None, None, None),
        ("changed", 2, "patient_name", "Testa_Anna", "Neu_Berta"),
        ("withdrawn", 3, "performed_procedure_step_status", "SCHEDULED", "DISCONTINUED"),
        ("withdrawn", 4, "performed_procedure_step_status", "SCHEDULED", "DISCONTINUED"),
        ("rejected", 4, None, None, "patient_id_missing"),
    ]
    assert "Berta" not in repr(plan)
    assert plan.entries == site.plugin.fetch_entries(60), "what was planned is what is done"
    assert plan.report.returned == 4


def test_a_plan_beside_the_running_plugin_and_without_a_ledger(site: Site, ledger_file: Path) -> None:
    """Promise: a plan needs no ledger of its own and makes none; beside a running plugin it sees what that has sent."""
    assert len(site.plugin.plan(60).entries) == 5
    assert not ledger_file.exists()
    assert site.plugin.last_report.outcome == "failed", "a plan is no run"
    site.fetch()
    assert site.plugin.plan(60).entries == []
    assert site.fetch() == {}


def test_held_withdrawals_stand_in_the_plan(make_site: MakeSite) -> None:
    """Promise: a plan says what the guard would hold back."""
    site = make_site(count=7)
    site.fetch()
    for number in range(1, 8):
        site.simulator.delete(number)
    plan = site.plugin.plan(60)
    assert plan.changes["change"].to_list() == ["held"] * 7
    assert plan.changes["old"].to_list() == ["SCHEDULED"] * 7
    assert plan.entries == []


@pytest.fixture
def rejected(site: Site) -> Iterator[Site]:
    """Return a site whose bookings 2 and 4 are in quarantine."""
    site.simulator.edit(2, title="")
    site.simulator.edit(4, title="Secretname" * 10)
    site.fetch()
    yield site
    site.close()


def test_the_quarantine_keeps_every_rejected_booking(rejected: Site, ledger_file: Path) -> None:
    """Issue: payload, reasons, run, schema version, first and last seen; one that passes later is marked."""
    rejected.now += timedelta(minutes=1)
    rejected.fetch()
    rejected.simulator.edit(2, title="SUB002_Testa_Anna")
    rejected.now += timedelta(minutes=1)
    rejected.fetch()
    with Ledger.copy(ledger_file) as ledger:
        both = quarantine.items(ledger, resolved=True)
        still = quarantine.items(ledger)
    assert [(item.booking_id, item.reasons, item.run) for item in both] == [
        (2, ("patient_id_missing",), 2),
        (4, ("patient_id_too_long",), 3),
    ]
    assert [item.first_seen for item in both] == [NOW, NOW]
    assert both[0].resolved == both[1].last_seen == NOW + timedelta(minutes=2)
    assert both[0].schema_version == quarantine.SCHEMA_VERSION
    assert [item.booking_id for item in still] == [4]
    assert "Secretname" in both[1].payload
    assert "Secretname" not in repr(both[1])


def test_a_booking_without_an_id_is_kept_once(site: Site, ledger_file: Path) -> None:
    """Promise: a list row without a usable id is rejected and kept, not one more time with each cycle."""
    site.simulator.put(booking(3) | {"id": "odd"})
    for _ in range(2):
        site.fetch()
    assert site.plugin.last_report.rejected == 1
    with Ledger.copy(ledger_file) as ledger:
        items = quarantine.items(ledger)
    assert [(item.name, item.booking_id) for item in items] == [("q1", None)]


def test_what_is_kept_is_bounded(site: Site, ledger_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule, bounds: 64 kB of one payload, 32 MB in all, and few of those without an id, which may change each time."""
    long = booking(3, title="é" * 90_000)
    site.simulator.put(long)
    site.simulator.put(booking(4, title=""))
    site.fetch()
    with Ledger.copy(ledger_file) as ledger:
        kept = {item.booking_id: item for item in quarantine.items(ledger)}
        replayed = quarantine.replay(list(kept.values()), PipelineConfig.from_dict(site.config))
    assert len(kept[3].payload.encode()) in (65_535, 65_536)
    assert [item.is_whole for item in kept.values()] == [False, True]
    assert "too large" in replayed[0].reasons[0]
    monkeypatch.setattr(quarantine, "MAX_UNNAMED", 3)
    monkeypatch.setattr(quarantine, "MAX_KEPT", 70_000)
    for cycle in range(5):
        site.now += timedelta(minutes=1)
        rows = [{"id": None, "title": f"odd {cycle} {'x' * 2000}"}, *map(site.simulator.get, (1, 3, 4))]
        site.simulator.faults.clear()
        site.simulator.faults.add("not_biskits", match="/q/", body=json.dumps({"biskits": rows}).encode())
        site.fetch()
        assert site.plugin.last_report.rejected == 3
    with Ledger.copy(ledger_file) as ledger:
        items = quarantine.items(ledger)
    assert sum(item.booking_id is None for item in items) == 3
    assert sum(len(item.payload.encode()) for item in items) <= 70_000
    assert {item.booking_id for item in items} == {3, 4, None}, "reasons stay where a payload does not"


def test_quarantine_list_and_show(rejected: Site, config: Path) -> None:
    """Issue: list; show masks values unless --reveal."""
    listed = run("quarantine", "list", "--config", config)
    assert listed.exit_code == 0
    assert "patient_id_too_long" in listed.output
    assert "Secret" not in listed.output
    masked = run("quarantine", "show", "4", "--config", config)
    assert masked.exit_code == 0
    assert '"title": "AaaaaaaaaaAaaaaaaaaa' in masked.output
    assert '"id": 4' in masked.output
    assert "Secret" not in masked.output
    assert "Approved" not in masked.output
    assert "Secretname" in run("quarantine", "show", "4", "--reveal", "--config", config).output
    assert run("quarantine", "show", "99", "--config", config).exit_code == 1


def test_quarantine_replay(rejected: Site, config: Path) -> None:
    """Issue: replay runs today's configuration over the kept payloads and reports which pass now."""
    assert run("quarantine", "replay", "--config", config).exit_code == 1
    document = json.loads(config.read_text())
    document["data_sources"][0]["config"]["field_mapping"]["patient_id"] = {
        "source_field": "title",
        "_extract": {"pattern": "^(.{10})", "group": 1},
    }
    config.write_text(json.dumps(document))
    one = run("quarantine", "replay", "4", "--config", config)
    assert one.exit_code == 0, one.output
    assert "1 of 1 pass now" in one.output
    all_of_them = run("quarantine", "replay", "--config", config)
    assert all_of_them.exit_code == 1
    assert "1 of 2 pass now" in all_of_them.output
    document["data_sources"][0]["config"]["resources"] = ["Elsewhere"]
    config.write_text(json.dumps(document))
    assert "filtered: resource" in run("quarantine", "replay", "4", "--config", config).output


def test_quarantine_purge(rejected: Site, config: Path) -> None:
    """Issue: purge --older-than, beside the running plugin too."""
    assert "0 forgotten" in run("quarantine", "purge", "--older-than", "9999d", "--config", config).output
    rejected.now = datetime.now(UTC)
    assert "2 forgotten" in run("quarantine", "purge", "--older-than", "1d", "--config", config).output
    assert "empty" in run("quarantine", "list", "--config", config).output
    assert run("quarantine", "purge", "--older-than", "soon", "--config", config).exit_code == 2


def test_payloads_that_are_no_json_are_masked_whole() -> None:
    """Promise: also a payload that nobody can read shows its shape only."""
    assert quarantine.masked('{"id": 7, "a": [null, true, 12.5, {"b": "Ann"}]}') == {
        "id": 7,
        "a": [None, True, "99.9", {"b": "Aaa"}],
    }
    assert quarantine.masked("Ann's secret") == "Aaa'a aaaaaa"


def test_status(site: Site, config: Path, ledger_file: Path) -> None:
    """Issue: the last runs, the time since the last success and what is owed; --max-age exits 1 for a monitor."""
    nothing_yet = run("status", "--config", config)
    assert nothing_yet.exit_code == 2
    assert (
        f"there is no ledger yet: nothing has run with this configuration as this user (looked for {ledger_file})"
        in (nothing_yet.output)
    )
    site.now = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=20)
    site.simulator.put(booking(7, site.now + timedelta(hours=1)))
    site.simulator.put(booking(8, site.now + timedelta(hours=1)))
    site.simulator.faults.add("status", match=r"/8$", code=500)
    site.fetch()
    text = run("status", "--config", config)
    assert f"ledger: {ledger_file}\n" in text.output
    assert "last success: 20 min" in text.output
    assert "owed: booking 8 since" in text.output
    site.now += timedelta(minutes=10)
    site.simulator.faults.add("html", match="/q/")
    with pytest.raises(PluginFetchError):
        site.fetch()
    assert run("status", "--config", config, "--max-age", "15m").exit_code == 1, "a failed run is no success"
    assert run("status", "--config", config, "--max-age", "30m").exit_code == 0
    document = json.loads(run("status", "--config", config, "--json").output)
    assert [found["outcome"] for found in document["runs"]] == ["failed", "ok"]
    assert document["owed"][0]["booking_id"] == 8
    assert "Testa" not in json.dumps(document)
    assert run("status", "--config", config, "--max-age", "15").exit_code == 2


def test_status_says_why_a_booking_is_held_back(site: Site, config: Path) -> None:
    """Promise: a booking whose withdrawal waits is named, with the reason of the cycle that holds it back."""
    site.now = datetime.now(UTC).replace(microsecond=0)
    for number in (5, 6):
        site.simulator.put(booking(number, site.now + timedelta(hours=1)))
    site.fetch()
    site.simulator.delete(6)
    site.simulator.faults.add("status", match=r"/5$", code=500)
    site.fetch()
    line = "held back: booking 6: withdrawal_in_doubt: The booking no longer stands in Calpendo"
    assert line in run("status", "--config", config).output
    document = json.loads(run("status", "--config", config, "--json", "--last", "0").output)
    assert (document["held"], document["held_back"]) == ([6], {"6": "withdrawal_in_doubt"})


def test_all_sources_of_a_file(site: Site, config: Path, ledger_file: Path) -> None:
    """Promise: status and quarantine list show all sources of a file; who needs one is told of --source."""
    site.simulator.put(booking(7, title=""))
    site.fetch()
    document = json.loads(config.read_text())
    other = {**site.config, "state_path": str(ledger_file.with_name("eeg.sqlite"))}
    document["data_sources"].append({"name": "eeg", "type": "calpendo", "config": other})
    config.write_text(json.dumps(document))
    shown = run("status", "--config", config)
    assert shown.exit_code == 0
    assert [line for line in shown.output.splitlines() if line.startswith(("eeg", "calpendo", "ledger"))] == [
        "eeg (caller):",
        "ledger: none yet, nothing has run",
        "calpendo (caller):",
        f"ledger: {ledger_file}",
    ]
    assert (
        "nothing has succeeded for eeg (caller)"
        in run("status", "--config", config, "--max-age", "9999d").output
    )
    assert "│ calpendo │ 7" in run("quarantine", "list", "--config", config).output
    for command in (["quarantine", "show", "7"], ["run"]):
        asked = run(*command, "--config", config)
        assert asked.exit_code == 2
        assert "choose one with --source NAME: 'calpendo', 'eeg'" in asked.output


def test_status_fails_for_what_is_owed_too_long(site: Site, config: Path) -> None:
    """Rule: --max-age fails when a booking that has not ended yet has been owed for longer; one that is over may."""
    now = datetime.now(UTC).replace(microsecond=0)
    site.now = now - timedelta(minutes=50)
    site.simulator.put(booking(6, now + timedelta(minutes=30)))
    site.simulator.put(booking(7, now + timedelta(minutes=30)))
    site.simulator.put(booking(8, now - timedelta(minutes=45), minutes=20))
    site.simulator.faults.add("status", match=r"/[78]$", code=500)
    site.fetch()
    site.now = now
    site.fetch()
    failed = run("status", "--config", config, "--max-age", "15m")
    assert failed.exit_code == 1
    assert "1 bookings that have not ended yet have been owed for more than 15m: 7" in failed.output
    assert run("status", "--config", config, "--max-age", "1h").exit_code == 0
    site.simulator.faults.clear()
    site.simulator.faults.add("status", match=r"/8$", code=500)
    site.fetch()
    assert run("status", "--config", config, "--max-age", "15m").exit_code == 0


def test_run_fails_for_what_is_left_after_several_cycles(
    site: Site, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule: every booking is delivered within a few cycles, and if not, `run` says so by its exit code too."""
    monkeypatch.setenv("CALPENDO_USERNAME", "demo")
    monkeypatch.setenv("CALPENDO_PASSWORD", "demo")
    now = datetime.now(UTC).replace(microsecond=0)
    site.simulator.put(booking(7, now + timedelta(minutes=30)))
    site.simulator.put(booking(8, now + timedelta(minutes=30)))
    site.simulator.put(booking(9, now - timedelta(minutes=1), minutes=0))
    fault = site.simulator.faults.add("status", match=r"/[79]$", code=500)
    codes = [run("run", "--config", config).exit_code for _ in range(A_FEW_CYCLES)]
    assert codes == [0] * A_FEW_CYCLES
    left = run("run", "--config", config)
    assert left.exit_code == 1
    assert "1 bookings are still left after several runs" in left.output
    assert "have not ended yet: 7" in left.output
    fault.times = 0
    assert run("run", "--config", config).exit_code == 0


def test_the_only_ledger_needs_no_configuration(site: Site) -> None:
    """Issue: `calpendo-pipeline status --max-age 15m`, as a monitor calls it; several ledgers must be told apart."""
    assert run("status").exit_code == 2
    del site.config["state_path"]
    site.now = datetime.now(UTC)
    site.fetch()
    place = site.plugin.ledger_path()
    assert place is not None
    assert place.is_relative_to(os.environ["XDG_STATE_HOME"])
    assert run("status", "--max-age", "15m").exit_code == 0
    (place.parent / "other.sqlite").touch()
    assert "2 ledgers" in run("status").output


def test_lengths_of_time() -> None:
    """Promise: lengths of time are read and written as people do."""
    assert [duration(text) for text in ("90s", "15m", "2h", "30d", "1.5w")] == [
        timedelta(seconds=90),
        timedelta(minutes=15),
        timedelta(hours=2),
        timedelta(days=30),
        timedelta(days=10.5),
    ]
    for text in ("", "15", "-1d", "1y", "nan"):
        with pytest.raises(PluginConfigError, match="15m"):
            duration(text)
    assert [shown(timedelta(seconds=number)) for number in (5, 65, 3600, 90061)] == [
        "5 s",
        "1 min 5 s",
        "1 h 0 min",
        "1 d 1 h",
    ]
