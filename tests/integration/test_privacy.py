"""Patients and logins stay inside: canaries planted everywhere, and every way out is listened to.

Where a title may appear is by contract: in the entries, in a plan's values, in the payloads kept in the ledger's file
(mode 0600), and where a person asks for it with ``--reveal``.
"""

from __future__ import annotations

import json
import logging
import re
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import pipeline
from pipeline import PipelineConfig, process_batch, read_bookings, transform_bookings
from pipeline.calpendo.client import CalpendoClient
from pipeline.cli import app
from pipeline.config.credentials import Credentials
from pipeline.config.file import select_source
from pipeline.delivery import quarantine
from pipeline.delivery.ledger import Changes, Ledger, for_host, output_host
from pipeline.errors import PluginConfigError, PluginError, PluginFetchError, PluginSchemaError
from pipeline.plugin import CalendoPlugin
from pipeline.schema import WorklistEntrySchema, split
from pipeline.simulator import CalpendoSimulator
from tests.support.canaries import (
    DESCRIPTION,
    KEY,
    LOGIN,
    NAME,
    OPERATOR,
    PASSWORD,
    PATIENT,
    PROJECT,
    RESOURCE,
    TITLE,
    USERNAME,
    TroubledServer,
    everything_of,
    heard,
    listening,
    odd_bookings,
    sound,
)

NOW = datetime(2026, 6, 10, 14, 0, tzinfo=UTC)  # eight o'clock in Edmonton
DAY = datetime(2026, 6, 10, 9, 0)  # noqa: DTZ001  the site's wall clock
MAPPING = {
    "patient_id": {"source_field": "title", "_extract": {"pattern": "^([A-Z]+[0-9]+)_", "group": 1}},
    "patient_name": {"source_field": "title", "_extract": {"pattern": "^[A-Z][a-z]{12}_(.+)$", "group": 1}},
    "study_description": "properties.project.formattedName",
    "performing_physician": "operator",
    "procedure_description": "properties.description",
}


def settings(url: str, **options: Any) -> dict[str, Any]:
    """Return a configuration whose one pattern never matches and whose other one does."""
    return {
        "base_url": url,
        "resources": [RESOURCE],
        "field_mapping": MAPPING,
        "state_path": ":memory:",
        "max_retries": 1,
        "batch_deadline": 20,
        **options,
    }


def plugin_for(url: str, **options: Any) -> CalendoPlugin:
    """Return a plugin with a canary for a login."""
    config = settings(url, **options)
    return CalendoPlugin("site", config, credentials=Credentials(USERNAME, PASSWORD), clock=lambda: NOW)


FEW = [*odd_bookings("A", DAY)[::4], *odd_bookings("B", DAY)[1::4]]


def serving(*odd: dict[str, Any]) -> CalpendoSimulator:
    """Serve a sound booking of each generation, and odd ones."""
    bookings = [sound(1, "A", DAY), sound(2, "B", DAY), *odd]
    return CalpendoSimulator(bookings, username=USERNAME, password=PASSWORD)


@pytest.fixture
def server() -> Iterator[CalpendoSimulator]:
    """Serve sound bookings and some odd ones."""
    with serving(*FEW) as simulator:
        yield simulator


def list_of_all(simulator: CalpendoSimulator) -> None:
    """Let the list name every booking, whatever its resource is, and rows that are no bookings at all."""
    rows: list[Any] = [{"id": number} for number in simulator.ids()]
    rows += [
        {"id": TITLE, "title": NAME},
        {"title": f"{NAME}\ud800"},
        TITLE,
        [NAME],
        {"id": "x", KEY: 10**40},
    ]
    simulator.faults.add("not_biskits", match=r"/q/Calpendo", body=json.dumps({"biskits": rows}).encode())


def written_by(ledger: Ledger, *allowed: str) -> str:
    """Give all that a ledger holds, without the columns that may hold patients' data."""
    texts = []
    tables = [row[0] for row in ledger.rows("SELECT name FROM sqlite_master WHERE type = 'table'")]
    for table in tables:
        names = [row[1] for row in ledger.rows(f"PRAGMA table_info({table})")]
        kept = [name for name in names if f"{table}.{name}" not in allowed]
        texts += map(repr, ledger.rows(f"SELECT {', '.join(kept)} FROM {table}"))
    return "\n".join(texts)


@pytest.mark.parametrize("mode", ["details", "bulk", "changed"])
def test_a_cycle_over_odd_bookings_says_nothing(mode: str) -> None:
    """Issue: no name, title or credential in any log, report, history or repr, whatever the bookings hold."""
    every = [*odd_bookings("A", DAY), *odd_bookings("B", DAY)]
    server = serving(*(every if mode == "details" else FEW))
    if mode == "details":
        list_of_all(server)
    with server, listening() as ear, plugin_for(server.url, fetch_mode=mode) as plugin:
        planned = plugin.plan(60)
        entries = plugin.fetch_entries(60)
        plugin.acknowledge(entry["source_record_id"] for entry in entries)
        report, ledger = plugin.last_report, plugin._ledger
        assert ledger is not None
        kept = ("entries.entry", "quarantine.payload")
        assert heard(written_by(ledger, *kept)) == []
        dump = "\n".join(ledger.connection.iterdump())
    assert report.rejected > (40 if mode == "details" else 4)
    assert {TITLE, NAME, DESCRIPTION, PROJECT, OPERATOR} <= set(heard(entries)), "this is what they are for"
    assert {TITLE, NAME, KEY} <= set(heard(dump, PATIENT)), "the quarantine keeps payloads whole"
    assert heard(dump, LOGIN) == []
    assert planned.entries == entries
    for text in (
        ear.text(),
        report.to_text(),
        report.to_json(),
        repr(report),
        repr(planned),
        repr(planned.report),
    ):
        assert heard(text) == []
    assert report.flags["unmatched"]["patient_id"], "the shapes of titles that no pattern caught are told"
    assert "Aaaaaaaaaaaaa_Aaaaaaaaaaaaa" in ear.text(logging.WARNING)


def test_a_changed_title_shows_in_the_plans_values_only(server: CalpendoSimulator) -> None:
    """Contract: a plan is for the eyes of who asks: old and new value stand in its changes, and nowhere else."""
    with listening() as ear, plugin_for(server.url) as plugin:
        plugin.fetch_entries(60)
        server.edit(1, title=f"{TITLE}_{OPERATOR}")
        plan = plugin.plan(60)
        assert plan.changes.filter(field="patient_name").select("old", "new").rows() == [(NAME, OPERATOR)]
        plugin.fetch_entries(60)
    assert heard(ear.text() + repr(plan) + plan.report.to_text() + plugin.last_report.to_json()) == []
    assert plugin.last_report.changed_fields["patient_name"] == 1


def test_original_values_are_told_at_debug_only_when_asked_for(server: CalpendoSimulator) -> None:
    """Issue: a title in the log at DEBUG only with `log_original_values`, and never a login."""
    with listening() as ear, plugin_for(server.url, log_original_values=True) as plugin:
        plugin.fetch_entries(60)
    assert heard(ear.text(logging.INFO)) == []
    assert TITLE in ear.text(logging.DEBUG)
    assert heard(ear.text(logging.DEBUG), LOGIN) == []


@pytest.mark.parametrize(
    "source",
    ["title", {"source_field": "title", "_extract": {"pattern": "^(MR|EEG)_", "group": 1}}],
    ids=["whole", "extracted"],
)
def test_a_vocabulary_that_is_taken_from_the_title_is_told_by_shapes(source: Any) -> None:
    """Decision 4 and 6: unknown statuses and resources are listed, unless a mapping lets them hold a patient's title."""
    mapping = {**MAPPING, "modality": source, "performed_procedure_step_status": source}
    odd = sound(2, "B", DAY)
    odd["properties"]["status"] = f"{NAME} " * 20
    with (
        CalpendoSimulator([sound(1, "A", DAY), odd], username=USERNAME, password=PASSWORD) as server,
        listening() as ear,
        plugin_for(server.url, field_mapping=mapping) as plugin,
    ):
        plugin.fetch_entries(60)
        report = plugin.last_report
        plugin.config["field_mapping"] = MAPPING
        plugin.validate_config()
        plugin.fetch_entries(60)
    assert report.flags["unknown_resources"] == {"Aaaaaaaaaaaaa_Aaaaaaaaaaaaa": 2}
    assert plugin.last_report.flags["unknown_resources"] == {RESOURCE: 2}, "a resource is no patient"
    assert heard(ear.text() + report.to_json() + report.to_text() + plugin.last_report.to_json()) == []


TROUBLES: dict[str, dict[str, Any]] = {
    "unauthorized": {"status": 401, "headers": {"WWW-Authenticate": f'Basic realm="{TITLE} {PASSWORD}"'}},
    "forbidden": {"status": 403, "body": f"{USERNAME}:{PASSWORD} may not see {NAME}".encode()},
    "refused": {"status": 400, "body": f"<html>{NAME} {PASSWORD}</html>".encode(), "reason": NAME},
    "server error": {"status": 500, "body": f'{{"error": "{NAME} {PASSWORD}"}}'.encode(), "reason": TITLE},
    "busy": {"status": 429, "headers": {"Retry-After": NAME}},
    "html": {"status": 200, "body": f"<html><title>{TITLE}</title>{NAME}</html>".encode()},
    "login page": {
        "status": 200,
        "body": f"<html>{USERNAME} <input type=password value={PASSWORD}></html>".encode(),
    },
    "no list": {"status": 200, "body": json.dumps({NAME: TITLE, "biskits": NAME}).encode()},
    "broken json": {"status": 200, "body": f'{{"biskits": [{{"id": 1, "title": "{TITLE} {NAME}'.encode()},
    "no utf-8": {"status": 200, "body": f'{{"biskits": [{{"title": "{TITLE}"'.encode() + b"\xff\xfe}]}"},
    "too deep": {"status": 200, "body": b'{"biskits": ' + b'["' + NAME.encode() + b'",' + b"[" * 100_000},
    "a number of many digits": {"status": 200, "body": f'{{"{NAME}": {"7" * 9000}}}'.encode()},
    "other charset": {
        "status": 200,
        "body": f'{{"{NAME}": "ü"}}'.encode("utf-16"),
        "headers": {"Content-Type": f"application/json; charset={NAME}"},
    },
    "redirect": {"status": 302, "headers": {"Location": f"/{TITLE}?{NAME}={PASSWORD}"}},
    "redirect elsewhere": {
        "status": 302,
        "headers": {"Location": f"https://{USERNAME}:{PASSWORD.rstrip('%')}@other.example/{TITLE}?{NAME}"},
    },
    "redirect to a login": {"status": 307, "headers": {"Location": f"/login?user={USERNAME}&for={TITLE}"}},
    "bad redirect": {"status": 301, "headers": {"Location": f"http://[{NAME}"}},
    "unknown compression": {"status": 200, "headers": {"Content-Encoding": NAME}, "body": NAME.encode()},
    "broken compression": {"status": 200, "headers": {"Content-Encoding": "gzip"}, "body": NAME.encode()},
    "too large": {"status": 200, "body": NAME.encode() * 1000},
    "broken length": {"status": 200, "headers": {"Content-Length": NAME}, "body": NAME.encode()},
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_a_troubled_server_writes_is_never_repeated(trouble: str, tmp_path: Path) -> None:
    """Issue: nor in any exception text: bodies, headers, redirects and reasons of a server stay unquoted."""
    path = tmp_path / "ledger.sqlite"
    with TroubledServer(**TROUBLES[trouble]) as server, listening() as ear:
        plugin = plugin_for(
            server.url, state_path=str(path), max_retries=0, max_body_bytes=8192, body_deadline=1
        )
        with plugin, pytest.raises(PluginFetchError) as caught:
            plugin.fetch_entries(60)
        report = plugin.last_report
        with Ledger.copy(path) as ledger:
            history = written_by(ledger)
    assert report.outcome == "failed"
    # urllib3 names at DEBUG what it asks for, and after a redirect that is the server's own text.
    log = ear.text(logging.INFO if trouble == "redirect" else logging.DEBUG)
    for text in (
        everything_of(caught.value),
        log,
        report.to_text(),
        report.to_json(),
        repr(report),
        history,
    ):
        assert heard(text) == []


@pytest.mark.parametrize("trouble", TROUBLES)
def test_nor_where_only_the_details_are_troubled(trouble: str) -> None:
    """Issue: the same for a server that lists well and answers details badly: failed bookings name numbers only."""
    server = CalpendoSimulator([sound(1, "A", DAY), sound(2, "B", DAY)], username=USERNAME, password=PASSWORD)
    body = TROUBLES[trouble].get("body") or f"{NAME} {PASSWORD}".encode()
    server.faults.add("bad_json", match="/b/.*/2$", body=body)
    server.faults.add("not_biskits", match="/q/MRIScan", body=body)
    with server, listening() as ear, plugin_for(server.url, max_retries=0) as plugin:
        plugin.fetch_entries(60)
        report = plugin.last_report
    assert report.listed == 2
    assert heard(ear.text() + report.to_text() + report.to_json() + repr(report)) == []


def test_no_object_shows_what_it_holds(server: CalpendoSimulator, tmp_path: Path) -> None:
    """House rule: the repr of every object on the way, public or not, holds no patient and no login."""
    config = PipelineConfig.from_dict(settings(server.url))
    login = Credentials(USERNAME, PASSWORD)
    # An unknown resource is told by its name (decision 4), so here none is odd.
    payloads = [sound(1, "A", DAY), *(odd for odd in odd_bookings("B", DAY) if RESOURCE in str(odd))]
    batch = process_batch(payloads, config)
    ledger = Ledger.open(tmp_path / "ledger.sqlite", source_name="site")
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"data_sources": [{"type": "calpendo", "config": {"password": PASSWORD}}]}))
    seen: list[object] = [config, login, batch, batch.flags, ledger, server, select_source(file)]
    with plugin_for(server.url) as plugin:
        original = plugin._run

        def watch(*arguments: Any) -> Any:
            deliveries = original(*arguments)
            (delivery,) = deliveries
            seen.extend(
                [delivery, Changes(emitted=delivery.emitted), *delivery.emitted[:3], *delivery.rejected]
            )
            return deliveries

        plugin._run = watch  # type: ignore[method-assign]
        plugin.fetch_entries(60)
        assert plugin._ledger is not None
        kept = quarantine.items(plugin._ledger)
        seen += [
            plugin,
            plugin.last_report,
            plugin._client,
            plugin._known,
            *kept,
            *quarantine.replay(kept, config),
        ]
    with CalpendoClient(config, login) as client:
        from pipeline.calpendo.fetch import fetch_window
        from pipeline.calpendo.window import window_for

        seen.append(fetch_window(client, config, window_for(config, NOW, 60)))
    ledger.release()
    assert [
        (type(item).__name__, heard(repr(item) + str(item))) for item in seen if heard(repr(item) + str(item))
    ] == []


def test_frames_that_are_wrong_name_columns_only() -> None:
    """Issue: a structural failure raises PluginSchemaError, and it quotes no cell."""
    config = PipelineConfig.from_dict({"field_mapping": MAPPING}, offline=True)
    frame = read_bookings([sound(1, "A", DAY)], config)
    batch = process_batch([sound(1, "A", DAY)], config)
    wrong = [
        lambda: transform_bookings(frame.drop("title"), config).collect(),
        lambda: transform_bookings(
            frame.with_columns(title=frame["title"].to_list()[:1] * 1).select("title"), config
        ),
        lambda: transform_bookings(frame.with_columns(booking_id=frame["title"]), config).collect(),
        lambda: split(batch.entries.drop("patient_id")),
        lambda: split(batch.entries.with_columns(scheduled_start_date=batch.entries["patient_name"])),
    ]
    for call in wrong:
        with pytest.raises(PluginSchemaError) as caught:
            call()
        assert heard(everything_of(caught.value)) == []
    assert WorklistEntrySchema.to_schema().columns


def test_an_error_of_the_program_itself_is_told_by_its_place(
    server: CalpendoSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise: what nobody foresaw, with a title in its text, comes out as the place where it happened, no more."""

    def burst(*_: object, **__: object) -> None:
        raise ValueError(f"cannot read {TITLE} of {NAME}")

    monkeypatch.setattr("pipeline.batch.process_batch", burst)
    with listening() as ear, plugin_for(server.url) as plugin, pytest.raises(PluginError) as caught:
        plugin.fetch_entries(60)
    assert isinstance(caught.value, PluginSchemaError)
    assert re.search(r"ValueError at \w+\.py:\d+", str(caught.value))
    assert heard(everything_of(caught.value) + ear.text() + plugin.last_report.to_json()) == []


WRONG_CONFIGURATIONS: tuple[dict[str, Any], ...] = (
    {"base_url": f"https://{USERNAME}:{PASSWORD.rstrip('%')}@calpendo.example"},
    {"base_url": f"https://calpendo.example/?user={USERNAME}&password={PASSWORD}"},
    {"base_url": f"https://calpendo.example:{PASSWORD}"},
    {"base_url": PASSWORD},
    {"password": PASSWORD, "username": USERNAME, "resources": PASSWORD},
    {"passwort": PASSWORD, "api_path": PASSWORD, "timezone": PASSWORD, "fetch_mode": PASSWORD},
    {PASSWORD: USERNAME, f"resource_{PASSWORD}": 1, "field_mapping": {PASSWORD: PASSWORD}},
    {"field_mapping": {"patient_id": {"source_field": USERNAME, "_extract": {"pattern": f"({PASSWORD}"}}}},
    {"field_mapping": PASSWORD, "daily_window": {PASSWORD: PASSWORD}, "status_mapping": {PASSWORD: PASSWORD}},
    {
        "resource_modality_mapping": {PASSWORD: PASSWORD},
        "state_path": [PASSWORD],
        "allowed_studies": PASSWORD,
    },
    {
        "max_workers": PASSWORD,
        "on_no_match": PASSWORD,
        "patient_name_form": PASSWORD,
        "acknowledge": USERNAME,
    },
)


@pytest.mark.parametrize("wrong", WRONG_CONFIGURATIONS, ids=lambda wrong: "+".join(wrong)[:40])
def test_a_configuration_error_repeats_no_login(wrong: dict[str, Any], tmp_path: Path) -> None:
    """Issue: credentials never appear in an error: in the address, in a wrong key, as a key, in a pattern."""
    environ = {"CALPENDO_USERNAME": USERNAME, "CALPENDO_PASSWORD": PASSWORD}
    config = {"base_url": "https://calpendo.example", "resources": [RESOURCE], "max_workers": 99, **wrong}
    plugin = CalendoPlugin("site", config, environ=environ)
    with listening() as ear:
        with pytest.raises(PluginConfigError) as caught:
            plugin.validate_config()
        with pytest.raises(PluginConfigError) as again:
            plugin.fetch_entries(60)
    assert (
        heard(everything_of(caught.value) + everything_of(again.value) + ear.text() + repr(plugin), LOGIN)
        == []
    )
    file = tmp_path / "mwl.json"
    file.write_text(json.dumps({"data_sources": [{"name": "site", "type": "calpendo", "config": config}]}))
    for command in ("run", "verify", "status"):
        done = CliRunner().invoke(app, [command, "--config", str(file)], env=environ)
        assert done.exit_code in (1, 2)
        assert heard(done.output + done.stderr, LOGIN) == []


@pytest.mark.parametrize("name", ["CALPENDO_USERNAME", "CALPENDO_PASSWORD", "CALPENDO_API_URL"])
def test_a_faulty_environment_is_not_repeated(name: str) -> None:
    """Issue: nor when the environment itself is wrong."""
    environ = {"CALPENDO_USERNAME": USERNAME, "CALPENDO_PASSWORD": PASSWORD}
    environ[name] = f"ftp://{USERNAME}:{PASSWORD}\n"
    config = {"resources": [RESOURCE], "base_url": "" if name.endswith("URL") else "https://calpendo.example"}
    with pytest.raises(PluginConfigError) as caught:
        CalendoPlugin("site", config, environ=environ).validate_config()
    assert heard(everything_of(caught.value), LOGIN) == []


class Desk:
    """A person at the command line, with a configuration file and a login."""

    def __init__(self, server: CalpendoSimulator, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "mwl.json"
        config = settings(server.url, state_path=str(folder / "ledger.sqlite"), window_mode="rolling")
        source = {"name": "site", "type": "calpendo", "sync_interval": 3600, "config": config}
        self.file.write_text(json.dumps({"data_sources": [source]}))

    def call(self, *arguments: object) -> Result:
        """Run a command."""
        environ = {"CALPENDO_USERNAME": USERNAME, "CALPENDO_PASSWORD": PASSWORD, "COLUMNS": "200"}
        return CliRunner().invoke(app, list(map(str, arguments)), env=environ)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A desk with bookings of today: sound ones, odd ones, and a first run behind it."""
    today = datetime.now().replace(hour=12, minute=0, second=0, microsecond=0)  # noqa: DTZ005
    bookings = [sound(1, "A", today), *odd_bookings("A", today)[::3], *odd_bookings("B", today)[1::3]]
    with CalpendoSimulator(bookings, username=USERNAME, password=PASSWORD) as server:
        desk = Desk(server, tmp_path)
        list_of_all(server)
        done = desk.call("run", "--config", desk.file, "--output", tmp_path / "out.ndjson")
        assert done.exit_code == 0, done.output
        assert heard(done.output + done.stderr) == []
        yield desk


def test_the_commands_show_patients_only_where_they_are_asked_to(desk: Desk) -> None:
    """Contract: run shows its entries, `show --reveal` the payload; every other command and every log line is silent."""
    config = ("--config", desk.file)
    silent = [
        ("verify", *config),
        ("status", *config),
        ("status", "--json", *config),
        ("quarantine", "list", "--all", *config),
        ("quarantine", "replay", *config),
        ("preview", "--host", "caller", *config),
        ("preview", "--json", "--days", 2, "--html", desk.folder / "preview.html", *config),
        ("why", 1, *config),
        ("why", 1, "--json", *config),
        ("why", 2001, *config),
        ("check", desk.folder / "out.ndjson"),
        ("run", "--output", desk.folder / "out.ndjson", *config),
        ("run", "--dry-run", "--output", desk.folder / "out.ndjson", *config),
    ]
    for arguments in silent:
        done = desk.call(*arguments)
        assert done.exit_code in (0, 1), done.output
        assert (arguments[:2], heard(done.output + done.stderr)) == (arguments[:2], [])
    host = output_host(desk.folder / "out.ndjson")
    with Ledger.copy(for_host(desk.folder / "ledger.sqlite", host)) as ledger:
        items = quarantine.items(ledger)
    assert len(items) > 20
    assert [item.name for item in items if heard(quarantine.masked(item.payload))] == []
    for item in (items[0], items[-1]):
        done = desk.call("quarantine", "show", item.name, *config)
        assert done.exit_code == 0, (item.name, done.exception)
        assert (item.name, heard(done.output)) == (item.name, [])
    page = desk.folder / "preview.html"
    assert heard(page.read_text()) == []
    for command in (
        ("quarantine", "show", items[0].name),
        ("why", 1),
        ("preview", "--json", "--html", page, "--host", "caller"),
    ):
        revealed = desk.call(*command, "--reveal", *config)
        assert TITLE in revealed.output
        assert heard(revealed.output + revealed.stderr, LOGIN) == []
    assert TITLE in page.read_text()
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert heard(desk.call("quarantine", "purge", "--older-than", "0s", *config).output) == []


def test_verbose_runs_log_to_stderr_without_patients(desk: Desk) -> None:
    """Issue: `run --verbose` writes DEBUG lines, urllib3's among them; the entries alone go to standard output."""
    done = desk.call("run", "--verbose", "--json", "--config", desk.file)
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    assert TITLE in json.dumps(document["entries"], ensure_ascii=False)
    assert heard(document["report"]) == []
    assert heard(done.stderr) == []


def test_files_with_patients_are_private(desk: Desk) -> None:
    """Contract: ledger and output are for their owner only."""
    for path in desk.folder.iterdir():
        if path.suffix != ".json":
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path.name


def test_checking_auditing_and_converting_a_file_shows_no_value(desk: Desk) -> None:
    """Issue: check, audit and backfill name booking ids, rules and shapes; values only where `--reveal` asks for them."""
    file = desk.folder / "bookings.ndjson"
    odd = [*odd_bookings("A", DAY), *odd_bookings("B", DAY)]
    # A resource is told by its name, so that it can be entered in the table (decision 4).
    lines = [json.dumps(payload) for payload in odd if RESOURCE in str(payload)]
    file.write_text("\n".join([*lines, f'{{"id": 5, "title": "{TITLE}', f'"{NAME}"', f'["{NAME}"]']))
    config = ("--config", desk.file)
    commands = [
        ("check", file),
        ("check", file, *config, "--limit", 1000),
        ("audit", file, *config),
        ("audit", file, *config, "--json"),
        ("backfill", file, *config, "--output", desk.folder / "archive", "--workers", 1),
    ]
    with listening() as ear:
        for arguments in commands:
            done = desk.call(*arguments)
            assert done.exit_code in (0, 1), (arguments[0], done.output, done.stderr)
            assert (arguments[0], heard(done.output + done.stderr)) == (arguments[0], [])
    assert heard(ear.text()) == []
    assert TITLE in desk.call("audit", file, *config, "--reveal", "--json").output
    for path in (desk.folder / "archive").rglob("*"):
        assert heard(path.name) == []
        if path.suffix in (".json", ".jsonl"):
            assert (path.name, heard(path.read_text())) == (path.name, [])


def test_asking_why_tells_shapes(tmp_path: Path) -> None:
    """Issue: of every odd booking, and of a troubled server: no value in answers, steps, JSON, repr or log."""
    # A resource is told by its name (decision 4).
    server = serving(*(payload for payload in FEW if RESOURCE in str(payload)))
    options = settings(server.url, state_path=str(tmp_path / "ledger.sqlite"), max_retries=0)
    login = Credentials(USERNAME, PASSWORD)
    list_of_all(server)
    with server, listening() as ear:
        with plugin_for(server.url, state_path=options["state_path"]) as plugin:
            plugin.fetch_entries(60)
        told = [pipeline.why(None, options, credentials=login, now=NOW)]
        with pytest.raises(PluginConfigError, match="bookings contain this text") as caught:
            pipeline.why(None, options, text=TITLE, credentials=login, now=NOW)
        for trouble in ("html", "redirect elsewhere", "broken json", "forbidden"):
            with TroubledServer(**TROUBLES[trouble]) as troubled:
                told.append(pipeline.why(1, options | {"base_url": troubled.url}, credentials=login, now=NOW))
    assert len({verdict.reason for verdict in told[0].verdicts}) > 3
    assert [len(each.notes) for each in told] == [0, 1, 1, 1, 1]
    for each in told:
        assert heard(str(each) + repr(each) + json.dumps(each.to_dict())) == []
    assert heard(everything_of(caught.value) + ear.text()) == []


def test_setting_a_site_up_shows_no_value(tmp_path: Path) -> None:
    """Issue: init and audit --write-config tell shapes, in the terminal, the log and the file; the login is in .env alone."""
    today = datetime.now().replace(hour=12, minute=0, second=0, microsecond=0)  # noqa: DTZ005
    titles = [f"SUB{number:03d} - {NAME}{chr(96 + number)} {TITLE}" for number in range(1, 9)]
    titles += [f"[{PROJECT.upper()}] {number}" for number in range(1201, 1205)] + [
        f"Phantom {TITLE}",
        f"{NAME} tbc",
    ]
    bookings = [sound(number, "A", today) | {"title": title} for number, title in enumerate(titles, 1)]
    file, env = tmp_path / "mwl.json", tmp_path / ".env"
    environ = {"CALPENDO_USERNAME": USERNAME, "CALPENDO_PASSWORD": PASSWORD, "COLUMNS": "200"}
    told = []
    with CalpendoSimulator(bookings, username=USERNAME, password=PASSWORD) as server, listening() as ear:
        new = ("--url", server.url, "--timezone", "America/Edmonton", "--resource", f"{RESOURCE}=MR")
        for arguments, password in (
            (("init", "--output", file, "--yes", "--env-file", env, "--service", *new), PASSWORD),
            (("init", "--output", file, "--yes", "--update"), PASSWORD),
            (("init", "--output", tmp_path / "b.json", "--yes", *new), "wrong"),
            (("audit", "--config", file, "--days", "1", "--write-config"), PASSWORD),
        ):
            call = list(map(str, arguments))
            done = CliRunner().invoke(app, call, env=environ | {"CALPENDO_PASSWORD": password})
            assert (
                done.exit_code in (0, 1),
                done.exception is None or isinstance(done.exception, SystemExit),
            ) == (
                True,
                True,
            ), done.output
            told.append(done.output + done.stderr)
    assert "SUB" not in "".join(told)
    config = json.loads(file.read_text())["data_sources"][0]["config"]
    assert len(config["field_mapping"]["patient_id"]["_extract"]) == 2
    assert (
        heard([*told, ear.text(), file.read_text(), (tmp_path / "calpendo-pipeline.service").read_text()])
        == []
    )
    assert heard(env.read_text(), LOGIN[:2]) == [*LOGIN[:2]]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".env",
        "calpendo-pipeline.service",
        "mwl.json",
    ]


@pytest.mark.slow
def test_the_page_of_an_audit_shows_no_value(desk: Desk) -> None:
    """Issue: the page that goes from hand to hand is masked, charts, tables and sources alike."""
    page = desk.folder / "page.html"
    done = desk.call("audit", "--config", desk.file, "--days", 1, "--html", page)
    assert done.exit_code == 0, done.stderr
    assert heard(done.output + done.stderr + page.read_text()) == []


def test_the_adapter_for_pylantir_is_as_silent(server: CalpendoSimulator, tmp_path: Path) -> None:
    """Issue: the same behind Pylantir's interface: its records hold patients, its log lines and errors do not."""
    pytest.importorskip("pylantir")
    from pipeline.pylantir import CalendoPylantirPlugin

    list_of_all(server)
    today = settings(server.url, state_path=str(tmp_path / "ledger.sqlite"), lookahead_hours=8784)
    plugin = CalendoPylantirPlugin()
    with pytest.MonkeyPatch.context() as environ, listening() as ear:
        environ.setenv("CALPENDO_USERNAME", USERNAME)
        environ.setenv("CALPENDO_PASSWORD", PASSWORD)
        assert plugin.validate_config({**today, "lookback_multiplier": 10_000}) == (True, "")
        records = plugin.fetch_entries({}, 3600)
        for record in records:
            plugin.get_record_match_candidates(record, "site")
            plugin.prepare_record_for_upsert(record, None)
        plugin.cleanup()
        report = plugin.last_report
        server.faults.clear()
        server.faults.add("bad_json", match="/q/", body=f'{{"{NAME}": "{PASSWORD}'.encode())
        with pytest.raises(PluginFetchError) as caught:
            plugin.fetch_entries({}, 3600)
        refused, message = plugin.validate_config({**today, "password": PASSWORD, "timezone": PASSWORD})
        plugin.close()
    assert not refused
    assert report is not None
    assert {TITLE, NAME} <= set(heard(records))
    for text in (
        ear.text(),
        message,
        everything_of(caught.value),
        repr(plugin),
        report.to_json(),
        report.to_text(),
    ):
        assert heard(text) == []
    assert heard(repr(plugin._prepared) + repr(plugin._core)) == []
