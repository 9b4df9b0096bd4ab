"""``init`` as a data manager meets it: a dialog in a terminal, odd servers, exported files, and nothing half-written."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytz
from typer.testing import CliRunner, Result

from pipeline.cli import app
from pipeline.commands import init_dialog
from pipeline.commands.init_dialog import _zone
from pipeline.config.credentials import Credentials
from pipeline.config.file import select_source
from pipeline.simulator import CalpendoSimulator
from pipeline.simulator.sample import sample_bookings
from pipeline.verify.proposals import configuration
from pipeline.verify.site_reading import read_site
from tests.unit.verify.test_proposals import proposed_choices

LOGIN = {"CALPENDO_USERNAME": "demo", "CALPENDO_PASSWORD": "demo", "COLUMNS": "80"}
ZONE = pytz.timezone("Europe/Berlin")
PEOPLE = ["Ann Doe", "Bo Roe", "Cy Poe", "Di Lee", "Ed Kim", "Fay Fox"]


def booking(
    number: int, title: str | None, *, resource: str = "MRT 3T", status: str = "Genehmigt"
) -> dict[str, Any]:
    """A booking around today, an hour long."""
    start = datetime.now(ZONE).replace(tzinfo=None).replace(
        hour=8, minute=0, second=0, microsecond=0
    ) + timedelta(days=number % 20 - 15)
    finish = start + timedelta(hours=1)
    return {
        "id": number,
        "title": title,
        "status": status,
        "biskitType": "Calpendo.Booking",
        "formattedName": f"[{start:%Y-%m-%d %H:%M:%S}.0, {finish:%Y-%m-%d %H:%M:%S}.0]",
        "properties": {
            "resource": {"formattedName": resource},
            "project": {"formattedName": "Study"},
            "modified": f"{start:%Y-%m-%d %H:%M:%S}.0",
        },
    }


def site() -> list[dict[str, Any]]:
    """Twelve bookings of six subjects, two of nobody, one that nobody understands."""
    titles = [f"SUB{number % 6 + 1:03d} - {PEOPLE[number % 6]}" for number in range(12)]
    found = [
        booking(number, title) for number, title in enumerate([*titles, "Phantom", "Wartung", "ask Fay"], 1)
    ]
    found[3]["status"] = "Storniert"
    return [*found, booking(90, "Team", resource="Besprechungsraum")]


@pytest.fixture
def server() -> Iterator[CalpendoSimulator]:
    """The small site over HTTP."""
    with CalpendoSimulator(site(), timezone="Europe/Berlin") as simulator:
        yield simulator


def call(*arguments: object, **environ: str) -> Result:
    """Run ``init`` with the simulator's login."""
    return CliRunner().invoke(app, ["init", *map(str, arguments)], env=LOGIN | environ)


def ready(server: CalpendoSimulator, tmp_path: Path, *more: object) -> list[object]:
    """The arguments of a call without a keyboard."""
    return [
        "--url",
        server.url,
        "--output",
        tmp_path / "mwl.json",
        "--yes",
        "--timezone",
        "Europe/Berlin",
        *more,
    ]


def config_of(file: Path) -> dict[str, Any]:
    """The options of a file's one source."""
    return select_source(file).config


def test_everything_is_proposed_and_written(server: CalpendoSimulator, tmp_path: Path) -> None:
    """Init --yes: resources, statuses, rules, what to ignore, and the unit; values as shapes; no detail is asked for."""
    done = call(*ready(server, tmp_path, "--service", "--env-file", tmp_path / ".env"))
    assert done.exit_code == 0, done.output
    config = config_of(tmp_path / "mwl.json")
    assert config["resources"] == ["MRT 3T"]
    assert config["status_mapping"] == {"Genehmigt": "SCHEDULED", "Storniert": "DISCONTINUED"}
    assert config["fetch_mode"] == "changed"
    assert "12 of 15 right by your choice, 2 ignored, 1 to look at." in done.stdout
    assert "no scanner by its name" in done.stdout
    text = (tmp_path / "mwl.json").read_text()
    assert not any(word in done.output + text for name in PEOPLE for word in (name, "SUB001", "demo:"))
    assert '"demo"' not in text
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    assert f"{tmp_path}/mwl.json" in (tmp_path / "calpendo-pipeline.service").read_text()
    assert not any("/b/Calpendo.Booking/" in request.path for request in server.requests)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".env",
        "calpendo-pipeline.service",
        "mwl.json",
    ]


def test_worklist_files_have_a_directory_and_a_unit_of_their_own(
    server: CalpendoSimulator, tmp_path: Path
) -> None:
    """Init --worklist-dir: the option, the station, the unit that keeps the files; nothing of Pylantir's."""
    directory = tmp_path / "worklists"
    directory.mkdir()
    done = call(
        *ready(server, tmp_path, "--service", "--worklist-dir", directory, "--resource", "MRT 3T=MR:PRISMA")
    )
    assert done.exit_code == 0, done.output
    config = config_of(tmp_path / "mwl.json")
    assert (config["worklist_dir"], config["resource_ae_title"]) == (str(directory), {"MRT 3T": "PRISMA"})
    assert "each configured resource has a station" in " ".join(done.stdout.split())
    unit = (tmp_path / "calpendo-worklist.service").read_text()
    assert f"ReadWritePaths={directory}\n" in unit
    assert f"run --config {tmp_path}/mwl.json --every" in unit
    assert "ylantir" not in unit
    assert "db_path" not in (tmp_path / "mwl.json").read_text()


def test_flags_answer_every_question(server: CalpendoSimulator, tmp_path: Path) -> None:
    """Init: each question has a flag, and what is said goes before what is proposed."""
    rule = {"pattern": "^(SUB[0-9]{3}) - ", "group": 1}
    flags = [
        "--resource",
        "MRT 3T=MR:PRISMA",
        "--status",
        "Storniert=COMPLETED",
        "--id-rule",
        json.dumps(rule),
    ]
    flags += [
        "--name-rule",
        '{"pattern": "^.+ - (.+)$", "group": 1}',
        "--ignore",
        "^ask",
        "--fetch-mode",
        "bulk",
    ]
    done = call(*ready(server, tmp_path, *flags, "--api-path", "/api", "--source", "berlin", "--reveal"))
    assert done.exit_code == 0, done.output
    settings = select_source(tmp_path / "mwl.json")
    config = settings.config
    assert settings.name == "berlin"
    assert config["resource_ae_title"] == {"MRT 3T": "PRISMA"}
    assert config["status_mapping"]["Storniert"] == "COMPLETED"
    assert config["field_mapping"]["patient_id"]["_extract"] == [rule | {"on_no_match": "reject"}]
    assert "^ask" in config["ignore_titles"]
    assert (config["fetch_mode"], config["api_path"]) == ("bulk", "/api")
    assert "SUB001 - Ann Doe" in done.stdout


def test_an_existing_file_is_never_silently_replaced(server: CalpendoSimulator, tmp_path: Path) -> None:
    """Init: without --update it is refused before anything is asked; with it, what is missing is added behind."""
    file = tmp_path / "mwl.json"
    assert call(*ready(server, tmp_path)).exit_code == 0
    before = file.read_text()
    server.reset_counters()
    refused = call(*ready(server, tmp_path))
    assert (refused.exit_code, file.read_text(), server.requests) == (2, before, [])
    assert "is there already; add --update" in refused.stderr
    again = call("--output", file, "--yes", "--update")
    assert (again.exit_code, file.read_text()) == (0, before)
    assert "Nothing is missing" in again.stdout
    for number in range(6):
        server.put(booking(200 + number, f"{PEOPLE[number]} (SUB{number + 1:03d})", status="Neu"))
    updated = call("--output", file, "--yes", "--update", "--status", "Neu=SCHEDULED")
    assert updated.exit_code == 0, updated.output
    config = config_of(file)
    rules = config["field_mapping"]["patient_id"]["_extract"]
    assert [rule.get("on_no_match") for rule in rules] == [None, "reject"]
    assert (
        json.loads(before)["data_sources"][0]["config"]["field_mapping"]["patient_id"]["_extract"][0][
            "pattern"
        ]
        == rules[0]["pattern"]
    )
    assert config["status_mapping"]["Neu"] == "SCHEDULED"
    assert "18 of 21 right" in updated.stdout
    moved = call("--output", file, "--yes", "--update", "--url", f"{server.url}/webdav/")
    assert moved.exit_code == 0, moved.output
    assert (config_of(file)["base_url"], config_of(file)["api_path"]) == (server.url, "/webdav")


def test_exported_bookings_need_no_server(tmp_path: Path) -> None:
    """Init --from: a file of bookings is enough; the address may be filled in later."""
    export = tmp_path / "export.ndjson"
    export.write_text("".join(f"{json.dumps(each)}\n" for each in site()))
    done = CliRunner().invoke(
        app,
        [
            "init",
            "--from",
            str(export),
            "--output",
            str(tmp_path / "mwl.json"),
            "--yes",
            "--timezone",
            "Europe/Berlin",
        ],
    )
    assert done.exit_code == 0, done.output
    assert "base_url" not in config_of(tmp_path / "mwl.json")
    assert "12 of 15 right" in done.stdout
    assert "Next: calpendo-pipeline init --update" in done.stdout


def odd(server: CalpendoSimulator, kind: str) -> None:
    """Make a server of the kinds that there are."""
    if kind == "resources hidden":
        server.faults.add("status", match="Calpendo.Resource", code=403)
    elif kind == "no fields of choice":
        server.faults.add("status", match="paths=", code=400)
    elif kind == "the other form of dates":
        server.faults.add("status", match=r"/GE/\d{8}-", code=400)
    elif kind == "api only":
        server.faults.add("status", match="^/webdav", code=404)
    elif kind == "login page at the wrong path":
        server.faults.add("login_page", match="^/webdav")
    for number in server.ids():
        if kind == "statuses hidden":
            server.edit(number, status="<Hidden>")
        elif kind == "some titles empty" and number % 5 == 0:
            server.edit(number, title=None)


@pytest.mark.parametrize(
    ("kind", "path", "told"),
    [
        ("resources hidden", "/webdav", "does not show its list of resources"),
        ("statuses hidden", "/webdav", "the statuses are hidden"),
        ("some titles empty", "/webdav", ""),
        ("no fields of choice", "/webdav", "the server does not list the fields asked for"),
        ("the other form of dates", "/webdav", ""),
        ("api only", "/api", ""),
        ("login page at the wrong path", "/api", ""),
    ],
)
def test_an_odd_server_is_said_and_asked_around(
    kind: str, path: str, told: str, server: CalpendoSimulator
) -> None:
    """Init: what a server hides or refuses is said, and the rest is read, in at most ten requests and no detail."""
    odd(server, kind)
    found = read_site(server.url, Credentials("demo", "demo"), datetime.now(UTC))
    assert (len(found.payloads), found.api_path) == (16, path)
    assert told in " ".join(found.notes)
    assert bool(found.notes) == bool(told)
    assert found.requests == len(server.requests) <= 10
    assert not any("/b/Calpendo.Booking/" in request.path for request in server.requests)
    choices = proposed_choices(found, timezone="Europe/Berlin", resources={"MRT 3T": "MR"})
    assert len(choices.id_rules) == 1
    assert choices.date_format == ("YYYYMMDDTHHMM" if kind == "the other form of dates" else None)
    assert choices.fetch_mode == (None if kind == "no fields of choice" else "changed")


@pytest.mark.parametrize(
    ("kind", "environ", "words", "code"),
    [
        (
            "wrong password",
            {"CALPENDO_PASSWORD": "wrong"},
            "the login was refused; check user name and password",
            1,
        ),
        ("wrong path", {}, "not as Calpendo's API does at /webdav or /api", 1),
        ("no bookings", {}, "no title clearly identifies its subject, so nothing was written", 2),
        ("titles hidden", {}, "no title clearly identifies", 2),
        ("only rooms", {}, "no resource is clearly a scanner by its name", 2),
        ("no login", {"CALPENDO_PASSWORD": ""}, "CALPENDO_PASSWORD", 2),
    ],
)
def test_what_cannot_be_proposed_is_one_sentence(
    kind: str, environ: dict[str, str], words: str, code: int, server: CalpendoSimulator, tmp_path: Path
) -> None:
    """Init --yes: where nothing is sure nothing is written, and the sentence says what to do."""
    if kind == "wrong path":
        server.faults.add("status", match="/q/", code=404)
    for number in server.ids():
        if kind == "no bookings":
            server.delete(number)
        elif kind == "titles hidden":
            server.edit(number, title="<Hidden>")
        elif kind == "only rooms":
            server.edit(number, resource="Lounge")
    odd(server, kind)
    more = ["--resource", "MRT 3T=MR"] if kind == "no bookings" else []
    done = call(*ready(server, tmp_path, *more), **environ)
    assert words in " ".join(done.output.split()), done.output
    assert done.exit_code == code
    assert not any(tmp_path.iterdir())
    assert "Traceback" not in done.output


def test_a_zone_that_nothing_tells_is_the_default_and_said(server: CalpendoSimulator, tmp_path: Path) -> None:
    """Init --yes: on a machine in UTC the default zone is written, with a warning, unless bookings contradict it."""
    arguments = ["--url", server.url, "--output", tmp_path / "mwl.json", "--yes"]
    done = call(*arguments, TZ="UTC")
    assert "the site's time zone is not known: America/Edmonton" in " ".join(done.output.split())
    assert (done.exit_code, config_of(tmp_path / "mwl.json")["timezone"]) == (0, "America/Edmonton")
    (tmp_path / "mwl.json").unlink()
    told = {"properties": {"dateRange": {"start": "2026-11-20T09:00:00+01:00"}}}
    for number in (1, 2, 3):
        server.put(server.get(number) | told)
    refused = call(*arguments, TZ="UTC")
    assert (refused.exit_code, "name it with --timezone" in " ".join(refused.output.split())) == (2, True)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("Europe/Berlin", None),
        ("berlin", "Write Europe/Berlin."),
        ("Hong Kong", "Write Asia/Hong_Kong."),
        ("Entenhausen", "A name such as Europe/Berlin or America/Edmonton."),
        ("", "A name such as Europe/Berlin or America/Edmonton."),
    ],
)
def test_a_city_is_answered_with_its_zone(given: str, said: str | None) -> None:
    """Newcomer: who types the city is told what to write."""
    assert _zone(given) == said


def test_a_server_that_is_down_is_one_sentence(tmp_path: Path) -> None:
    """Init: nobody listens there."""
    done = call(
        "--url", "http://127.0.0.1:9", "--output", tmp_path / "mwl.json", "--yes", "--timezone", "UTC"
    )
    assert done.exit_code == 1
    assert done.stderr.count("Fetch failed") == 1
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--url", "http://calpendo.example.org"], "plain http"),
        (["--url", "https://ann:secret@calpendo.example.org"], "with a login in it"),
        (["--url", "https://x", "--update"], "is not there; leave --update out"),
        ([], "name the server with --url"),
        (["--from", "nope.ndjson"], "nope.ndjson"),
    ],
)
def test_a_wrong_call_is_one_sentence(arguments: list[str], words: str, tmp_path: Path) -> None:
    """Init: exit code 2, nothing sent, nothing written; a password in the address is not repeated."""
    done = call(*arguments, "--yes", "--output", tmp_path / "mwl.json")
    assert done.exit_code == 2
    assert words in " ".join(done.stderr.split())
    assert "secret" not in done.output
    assert not any(tmp_path.iterdir())


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    """Init --update: what is no file is refused as a wrong call, not as a fault of the machine."""
    done = call("--url", "https://x", "--update", "--yes", "--output", tmp_path)
    assert (done.exit_code, "Refused" in done.stderr) == (2, True)


def test_a_dialog_needs_a_terminal(tmp_path: Path) -> None:
    """Init: in a pipe it says what to add, instead of waiting for ever."""
    done = call("--url", "https://x", "--output", tmp_path / "mwl.json")
    assert (done.exit_code, "add --yes" in " ".join(done.stderr.split())) == (2, True)


KEYS = {"enter": "\r", "down": "\x1b[B", "ctrl-c": "\x03"}


def answered(keys: str, arguments: list[object], monkeypatch: pytest.MonkeyPatch) -> Result:
    """Run the dialog with keys that somebody pressed; the questions are real, only the screen is not."""
    from prompt_toolkit.application import create_app_session
    from prompt_toolkit.input import create_pipe_input
    from prompt_toolkit.output import DummyOutput

    monkeypatch.setattr("pipeline.commands.init_dialog.dialog", init_dialog.Dialog)
    with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):
        pipe.send_text(keys)
        return call(*arguments)


def test_enter_takes_every_proposal(
    server: CalpendoSimulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Init: a dialog in which only Enter is pressed writes what --yes writes; examples are shown as they are."""
    arguments = ["--url", server.url, "--output", tmp_path / "mwl.json", "--timezone", "Europe/Berlin"]
    done = answered("\r" * 10, arguments, monkeypatch)
    assert done.exit_code == 0, done.output
    assert "SUB001 - Ann Doe → id SUB001, name Ann Doe" in re.sub(r"\s+", " ", done.stdout)
    config = config_of(tmp_path / "mwl.json")
    found = read_site(server.url, Credentials("demo", "demo"), datetime.now(UTC))
    assert {key: value for key, value in config.items() if not key.startswith("_")} == configuration(
        proposed_choices(found, timezone="Europe/Berlin")
    )


@pytest.mark.parametrize(
    "presses", [5, *(pytest.param(each, marks=pytest.mark.slow) for each in (0, 2, 7, 9))]
)
def test_ctrl_c_leaves_nothing(
    presses: int, server: CalpendoSimulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Init: stopped at any question, nothing is written."""
    arguments = [
        "--url",
        server.url,
        "--output",
        tmp_path / "mwl.json",
        "--timezone",
        "Europe/Berlin",
        "--service",
    ]
    done = answered("\r" * presses + KEYS["ctrl-c"], arguments, monkeypatch)
    assert done.exit_code == 1
    assert "Stopped. Nothing was written." in done.stderr
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_a_file_that_is_there_is_added_to_on_wish(
    server: CalpendoSimulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Init: the dialog asks before it touches a file that is there, and shows only titles that its rules miss."""
    assert call(*ready(server, tmp_path)).exit_code == 0
    for number in range(6):
        server.put(booking(200 + number, f"{PEOPLE[number]} (SUB{number + 1:03d})"))
    # Add to it; keep the new form; leave what nobody understands; write.
    done = answered("\r" * 4, ["--output", tmp_path / "mwl.json"], monkeypatch)
    assert done.exit_code == 0, done.output
    assert "Ann Doe (SUB001) → id SUB001" in re.sub(r"\s+", " ", done.stdout)
    assert "SUB001 - Ann Doe" not in done.stdout
    assert len(config_of(tmp_path / "mwl.json")["field_mapping"]["patient_id"]["_extract"]) == 2


@pytest.mark.slow
def test_a_person_shows_what_the_id_is(
    server: CalpendoSimulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Init: a form is edited by typing the part of the title that is meant; no regular expression is needed."""
    arguments = ["--url", server.url, "--output", tmp_path / "mwl.json", "--timezone", "Europe/Berlin"]
    # Resource, modality, station, statuses; third answer of the first form; half a word, the id, no name; Enter.
    keys = "\r" * 4 + KEYS["down"] * 2 + "\r" + "UB001\r" + "001\r" + "\r"
    done = answered(keys + "\r" * 4 + KEYS["ctrl-c"], arguments, monkeypatch)
    shown = re.sub(r"\s+", " ", done.stdout)
    assert "No rule can be made of that" in shown
    assert "SUB001 - Ann Doe → 001" in shown
    assert "12 of 15 right" in shown


@pytest.mark.slow
def test_the_dialog_in_a_real_terminal(server: CalpendoSimulator, tmp_path: Path) -> None:
    """Init: 80 columns, address, user and password typed; the password is not echoed; Enter to the end; a .env file."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("CALPENDO")}
    environ |= {"COLUMNS": "80", "LINES": "40", "TERM": "xterm"}
    code = "from pipeline.cli import main; main()"
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", code, "init", "--timezone", "Europe/Berlin"],
        stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path, env=environ, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    seen = ""

    def until(words: str, seconds: float = 30) -> None:
        nonlocal seen
        limit = time.monotonic() + seconds
        while words not in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen):
            assert time.monotonic() < limit, seen[-2000:]
            if select.select([ours], [], [], 0.2)[0]:
                try:
                    seen += os.read(ours, 65536).decode(errors="replace")
                except OSError:
                    return

    def press(text: str) -> None:
        nonlocal seen
        seen = ""
        os.write(ours, text.encode())

    try:
        until("Calpendo's address")
        press(f"{server.url}\r")
        until("Calpendo user")
        press("demo\r")
        until("Password of demo")
        press("demo\r")
        until("Which resources")
        assert "******" not in seen
        for words in ("MRT 3T is MR: right?", "Which server shows the list", "what these statuses mean"):
            press("\r")
            until(words)
        for _ in range(9):
            press("\r")
            time.sleep(0.3)
        until("Next: calpendo-pipeline preview", 30)
        child.wait(10)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        os.close(ours)
    assert child.returncode == 0
    assert (tmp_path / "mwl_config.json").exists()
    assert (tmp_path / ".env").read_text() == "CALPENDO_USERNAME='demo'\nCALPENDO_PASSWORD='demo'\n"


def test_the_sample_is_understood_as_far_as_it_is_sure(tmp_path: Path) -> None:
    """Init: the invented sample with all its odd bookings makes a valid file, and no odd title is guessed."""
    export = tmp_path / "export.ndjson"
    export.write_text("".join(f"{json.dumps(each)}\n" for each in sample_bookings()))
    done = call(
        "--from", export, "--output", tmp_path / "mwl.json", "--yes", "--timezone", "America/Edmonton"
    )
    assert done.exit_code == 0, done.output
    assert "Mock Scanner" in done.stdout
