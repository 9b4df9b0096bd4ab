"""The command audit, as an operator and as CI call it: files, a running server, exit codes, and silence about names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pipeline import open_bookings
from pipeline.audit import counting, read_payloads
from pipeline.cli import app
from pipeline.simulator import CalpendoSimulator
from pipeline.simulator.sample import sample_config

DATA = Path(__file__).parents[3] / "data"
BOOKINGS, EXPECTED = str(DATA / "bookings.ndjson"), str(DATA / "expected_entries.ndjson")


def call(*arguments: str | Path) -> Result:
    """Call the command; an unexpected exception is raised here."""
    given = ["audit", *(str(argument) for argument in arguments)]
    return CliRunner().invoke(app, given, catch_exceptions=False)


def broken_config(folder: Path) -> Path:
    """The example's mapping with one pattern broken on purpose."""
    config = sample_config()
    config["field_mapping"]["patient_name"]["_extract"]["pattern"] = "^[A-Za-z]+[0-9]+_([A-Z][a-z]+)"
    path = folder / "broken.json"
    path.write_text(json.dumps(config))
    return path


def test_the_sample_passes_at_100_percent(tmp_path: Path) -> None:
    """Done when: the command shows 100 % on the sample, writes the page, and CI can hold it to that."""
    report = tmp_path / "report.html"
    result = call(BOOKINGS, "--expected", EXPECTED, "--html", report, "--fail-under", "100")
    assert result.exit_code == 0, result.output
    assert "100 %" in result.stdout
    assert "266 hand-checked bookings" in result.stdout
    assert report.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_a_broken_pattern_fails_and_is_named(tmp_path: Path) -> None:
    """Done when: with one pattern broken on purpose it names the field and the bookings."""
    result = call(
        BOOKINGS, "--config", broken_config(tmp_path), "--expected", EXPECTED, "--fail-under", "100"
    )
    assert result.exit_code == 1
    assert "patient_name: accuracy" in result.stderr
    assert "patient_id" not in result.stderr
    assert "40001" in result.stdout
    assert "Prueba" not in result.output


def test_coverage_is_held_where_there_are_no_labels(tmp_path: Path) -> None:
    """SC-002: without --expected coverage counts, and the fields under it are named."""
    result = call(BOOKINGS, "--fail-under", "95")
    assert result.exit_code == 1
    assert "patient_name: coverage 93" in result.stderr
    assert "accession_number" not in result.stderr
    assert call(BOOKINGS, "--fail-under", "50").exit_code == 0
    (tmp_path / "empty.ndjson").touch()
    nothing = call(tmp_path / "empty.ndjson", "--fail-under", "0")
    assert nothing.exit_code == 1
    assert "nothing to judge" in nothing.stderr


def test_json_is_the_only_thing_on_standard_output(tmp_path: Path) -> None:
    """Audit: --json is for programs: one object, every frame, no name."""
    result = call(BOOKINGS, "--expected", EXPECTED, "--json", "--html", tmp_path / "r.html")
    found = json.loads(result.stdout)
    assert found["score"] == 100
    assert {"overview", "fields", "accuracy", "census", "suggestions"} <= set(found)
    assert "Prueba" not in result.output


def test_values_are_shown_when_asked_and_then_only_to_the_owner(tmp_path: Path) -> None:
    """Privacy: --reveal shows values, says so on the page, and lets nobody else read the file."""
    report = tmp_path / "report.html"
    result = call(
        BOOKINGS, "--config", broken_config(tmp_path), "--expected", EXPECTED, "--reveal", "--html", report
    )
    assert "Alba_Prueba" in result.stdout
    assert "Contains patient data" in report.read_text(encoding="utf-8")
    assert report.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name a file of bookings"),
        (("missing.ndjson",), "cannot be read"),
        ((BOOKINGS, "--days", "3"), "--days"),
        ((BOOKINGS, "--config", "missing.json"), "not found"),
        ((BOOKINGS, "--expected", "missing.ndjson"), "--expected"),
        ((BOOKINGS, "--html", "no/such/folder/report.html"), "--html"),
    ],
)
def test_a_wrong_call_is_told(
    arguments: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Audit: exit code 2 and what to do, before anything long is begun."""
    monkeypatch.chdir(tmp_path)
    result = call(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_packed_file_is_refused(tmp_path: Path) -> None:
    """Audit: a gzip file is no list of broken bookings; it is named for what it is."""
    path = tmp_path / "bookings.ndjson.gz"
    path.write_bytes(b"\x1f\x8b\x08\x00rest")
    result = call(path)
    assert result.exit_code == 2
    assert "gzip" in result.stderr


@pytest.mark.slow
def test_several_processes_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Done when: a large file is shared by processes; what they find does not depend on how many there are."""
    monkeypatch.setattr(counting, "CHUNK", 60)
    labels = DATA / "expected_entries.ndjson"
    done: list[int] = []
    alone = counting.audit(read_payloads(BOOKINGS), sample_config(), labels)
    together = counting.audit(
        read_payloads(BOOKINGS), sample_config(), labels, workers=2, progress=done.append
    )
    assert together.to_dict() == alone.to_dict()
    assert done == [60, 120, 180, 240, 286]


def live_config(folder: Path, url: str, **changes: Any) -> Path:
    """The example's configuration pointed at a simulated server."""
    path = folder / "live.json"
    path.write_text(json.dumps({**sample_config(), "base_url": url, "allow_insecure_http": True, **changes}))
    return path


@pytest.mark.usefixtures("credentials")
def test_the_last_days_of_a_server(tmp_path: Path) -> None:
    """Audit: --config --days fetches day by day, asks for what the source asks for, and audits it."""
    with CalpendoSimulator() as server:
        result = call("--config", live_config(tmp_path, server.url), "--days", "7", "--json")
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)
        queries = [request for request in server.requests if "/q/Calpendo.Booking/" in request.path]
    assert len(queries) == 8
    overview = found["overview"]
    assert overview["bookings"] > 20
    assert overview["bookings"] == overview["entries"] + overview["rejected"] + overview["filtered"]
    assert {row["reason"] for row in found["rejections"]}.isdisjoint({"duplicate_booking_id"})


@pytest.mark.usefixtures("credentials")
def test_a_server_that_fails(tmp_path: Path) -> None:
    """Audit: exit code 1 where the server cannot be asked; what could not be fetched is said."""
    with CalpendoSimulator() as server:
        server.faults.add("status", match="/b/Calpendo.Booking/41005", code=500)
        config = live_config(tmp_path, server.url, max_retries=0)
        some = call("--config", config, "--days", "1", "--json")
        assert some.exit_code == 0
        assert any("could not be fetched" in warning for warning in json.loads(some.stdout)["warnings"])
        server.faults.clear()
        server.faults.add("status", code=401)
        refused = call("--config", config, "--days", "1")
    assert refused.exit_code == 1
    assert "authentication failed" in refused.stderr


@pytest.mark.usefixtures("credentials")
def test_a_notebook_opens_a_server(tmp_path: Path) -> None:
    """Promise: one object of a configuration file has the days' bookings as frames, what became of them, and why."""
    with CalpendoSimulator() as server:
        server.faults.add("status", match="/b/Calpendo.Booking/41005", code=500)
        config = live_config(tmp_path, server.url, max_retries=0, state_path=str(tmp_path / "ledger.sqlite"))
        bench = open_bookings(config=config, days=0)
        listed = bench.preview()
        shown = bench.why(41005)
    assert len(bench.bookings) == len(bench.entries) + len(bench.rejected) + len(bench.batch.filtered)
    assert bench.failed == 1
    assert "1 could not be fetched" in bench._repr_html_()
    assert listed.source == "calpendo"
    assert 41005 not in listed.on_list["booking_id"]
    assert shown.verdicts[0].booking_id == 41005
    assert "41005" in str(shown)
    assert not (tmp_path / "ledger.sqlite").exists()


def test_credentials_are_asked_for(tmp_path: Path) -> None:
    """T002: without credentials the live audit says which variables to set."""
    result = call("--config", live_config(tmp_path, "http://127.0.0.1:9"))
    assert result.exit_code == 2
    assert "CALPENDO_USERNAME" in result.stderr


def test_the_suggested_rules_are_put_into_the_configuration(tmp_path: Path) -> None:
    """Issue: suggestions can be pasted, or written: behind the file's own rules, which take what they took."""
    bookings = tmp_path / "bookings.ndjson"
    titles = ["SUB001_Ann Doe", "SUB002_Bo Roe", "SUB003_Cy Poe", "[ABC] 1234", "[XYZ] 1234", "[XYZ] 1235"]
    rows = [
        {"id": number, "title": title, "formattedName": "[2026-06-15 10:00:00.0, 2026-06-15 11:00:00.0]"}
        for number, title in enumerate(titles, 1)
    ]
    bookings.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    own = {"pattern": "^(SUB[0-9]+)_", "group": 1, "on_no_match": "reject"}
    config = tmp_path / "mwl.json"
    config.write_text(
        json.dumps({"site": "7", "field_mapping": {"patient_id": {"source_field": "title", "_extract": own}}})
    )
    assert call(bookings, "--write-config").exit_code == 2
    done = call(bookings, "--config", config, "--write-config")
    assert done.exit_code == 0, done.output
    assert "added to" in done.stderr
    written = json.loads(config.read_text())
    first, *others = written["field_mapping"]["patient_id"]["_extract"]
    assert first == {"pattern": own["pattern"], "group": 1}
    assert [rule["template"] for rule in others] == ["{1}-{2}"]
    assert others[-1]["on_no_match"] == "reject"
    assert written["site"] == "7"
    shown = json.loads(call(bookings, "--config", config, "--json").stdout)
    assert {row["target"]: row["matched"] for row in shown["fields"]}["patient_id"] == 6
