"""A scanner's day on real worklist servers: at every step each console's answer is what Calpendo holds, in every key."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest
import pytz

from pipeline.config.credentials import Credentials
from pipeline.errors import PluginFetchError
from pipeline.hosts import study_uid
from pipeline.simulator import CalpendoSimulator
from pipeline.worklist_files.plugin import WorklistPlugin
from tests.support import worklist_servers
from tests.support.bookings_by_hour import ZONE, booking, site_now, span
from tests.support.worklist_servers import (
    TITLE,
    AsShown,
    Line,
    Orthanc,
    Wlmscpfs,
    WorklistServer,
    ask,
    findscu,
)
from tests.unit.worklist_files.test_dataset import NAMES

pytestmark = [
    pytest.mark.skipif(worklist_servers.missing() is not None, reason=str(worklist_servers.missing())),
    pytest.mark.timeout(1800),
]

STATIONS = {"3T Diagnostic": "PRISMA", "7T Research": "TERRA 7"}
OFF = ("Cancelled", "Completed", "Denied")
ON = {"Approved": "SCHEDULED", "In Progress": "STARTED"}
KEEP_PAST = timedelta(hours=1)
AHEAD = timedelta(hours=24)
PATIENCE = 60.0
MAIN = "from pipeline.cli import main; main()"
MAPPING = {
    "patient_id": {"source_field": "title", "_extract": {"pattern": "^([^_]+)_", "group": 1}},
    "patient_name": {"source_field": "title", "_extract": {"pattern": "^[^_]+_(.+)$", "group": 1}},
    "patient_birth_date": "born",
    "patient_sex": "sex",
    "patient_weight_lb": "weight",
    "referring_physician_name": "referrer",
    "performing_physician": "radiographer",
    "study_description": "properties.project.formattedName",
    "procedure_description": "protocol",
    "station_name": "properties.resource.formattedName",
    "accession_number": "id",
}


def config_for(simulator: CalpendoSimulator, directory: Path) -> dict[str, Any]:
    """Return the configuration of a site with two scanners."""
    return {
        "base_url": simulator.url,
        "resources": list(STATIONS),
        "timezone": ZONE,
        "resource_modality_mapping": {"3T": "MR", "7T": "MR"},
        "resource_ae_title": STATIONS,
        "field_mapping": MAPPING,
        "fetch_operators": False,
        "max_retries": 0,
        "state_path": str(directory.parent.parent / "state" / "ledger.sqlite"),
        "worklist_dir": str(directory),
    }


def held(
    payloads: Sequence[dict[str, Any]], url: str, now: datetime, *, ended: bool = False
) -> dict[str, Counter[Line]]:
    """What Calpendo holds, by station, as a console should show it; in plain Python, from the payloads alone.

    ``ended``: what came to its end less than an hour ago, in place of what has not.
    """
    lists: dict[str, Counter[Line]] = {station: Counter() for station in STATIONS.values()}
    wall = now.astimezone(pytz.timezone(ZONE)).replace(tzinfo=None)
    for payload in payloads:
        begin, end = (
            datetime.strptime(text, "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007 - the site's wall clock
            for text in re.findall(r"[0-9-]{10} [0-9:]{8}", payload["formattedName"])
        )
        resource = payload["properties"]["resource"]["formattedName"]
        if payload["status"] in OFF or resource not in STATIONS:
            continue
        if end <= wall - KEEP_PAST or begin >= wall + AHEAD or (end <= wall) != ended:
            continue
        subject, _, name = payload["title"].partition("_")
        details = payload["properties"] | payload

        def detail(key: str, details: dict[str, Any] = details) -> str:
            return str(details.get(key, ""))

        project = payload["properties"]["project"]["formattedName"]
        item = (
            name,
            subject,
            detail("born"),
            detail("sex"),
            detail("weight"),
            str(payload["id"]),
            detail("referrer"),
            study_uid(url, payload["id"]),
            str(payload["id"]),
            project,
        )
        step = (
            STATIONS[resource],
            resource,
            begin.strftime("%Y%m%d"),
            begin.strftime("%H%M%S"),
            "MR",
            detail("radiographer"),
            detail("protocol") or project,
            str(payload["id"]),
        )
        lists[STATIONS[resource]][*item, *step] += 1
    return lists


@contextmanager
def both_servers(folder: Path) -> Iterator[tuple[Path, list[WorklistServer]]]:
    """Run Orthanc and wlmscpfs on one directory."""
    directory = folder / "served" / TITLE
    directory.mkdir(parents=True)
    with ExitStack() as stack:
        servers = [stack.enter_context(kind(directory, folder / kind.name)) for kind in (Orthanc, Wlmscpfs)]
        yield directory, servers


def check(
    servers: Sequence[WorklistServer],
    expected: dict[str, Counter[Line]],
    late: dict[str, Counter[Line]] | None = None,
) -> None:
    """Hold each station's list, on each server, against what Calpendo holds; and the list of all stations.

    ``late`` are bookings that have ended: they may stay for their hour, as they were.
    """
    for server in servers:
        shown: Counter[Line] = Counter()
        for station, lines in expected.items():
            answer = ask(server, station)
            assert answer - (late or {}).get(station, Counter()) == lines, f"{server.name}, {station}"
            shown += answer
        assert ask(server) == shown, server.name


class Process:
    """The command `run --every` on a site, and what its consoles show."""

    def __init__(self, folder: Path, directory: Path, bookings: list[dict[str, Any]]) -> None:
        self.sim = CalpendoSimulator(bookings)
        self.url = self.sim.url
        self.directory = directory
        self.file = folder / "mwl_config.json"
        self.file.write_text(json.dumps(config_for(self.sim, directory)))
        self.log = folder / "run.log"
        self.start()

    def start(self) -> None:
        """Start the process, on the ledger that there is."""
        environment = os.environ | {"CALPENDO_USERNAME": "demo", "CALPENDO_PASSWORD": "demo"}
        command = [sys.executable, "-c", MAIN, "run", "--config", str(self.file), "--every", "0.2s"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)

    def close(self) -> None:
        """End process and server."""
        self.process.kill()
        self.process.wait()
        self.sim.close()

    def until(self, true: Callable[[], object], otherwise: str, pause: float = 0.02) -> None:
        """Wait for something that the process does."""
        deadline = time.monotonic() + PATIENCE
        while not true():
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < deadline, f"{otherwise}:\n{self.log.read_text()[-3000:]}"
            time.sleep(pause)

    def cycles(self, number: int = 2) -> None:
        """Wait until this many cycles have begun from now on; the last but one is then done with all it does."""
        reached = self.lists() + number
        self.until(lambda: self.lists() >= reached, "no cycle began")

    def lists(self) -> int:
        """How many cycles have begun: each asks for one list."""
        return sum("/q/Calpendo.Booking/" in request.path for request in self.sim.requests)

    def held(self) -> dict[str, Counter[Line]]:
        """What Calpendo holds now."""
        payloads = [self.sim.get(number) for number in self.sim.ids()]
        return held(payloads, self.url, datetime.now(pytz.utc))


DETAILS = {
    "born": "19800503",
    "sex": "F",
    "weight": "71.5",
    "referrer": "House^Greg",
    "protocol": "Resting state",
}


@pytest.mark.slow
def test_a_scanners_day(tmp_path: Path) -> None:
    """Bookings appear, move, change subject, are cancelled and deleted, the server goes down and comes back, the process too."""
    scripts = [booking(20 + n, f"ID{n}_{name}", hours=2 + n / 2) for n, name in enumerate(NAMES.values())]
    morning = [
        booking(1, "SUB1_White^Wanda", hours=1, **DETAILS),
        booking(2, "SUB2_Black", hours=2),
        booking(3, "SUB3_Brown", hours=3, resource="7T Research", radiographer="Roe^Rita"),
        booking(4, "SUB4_Blue", hours=-0.5, minutes=90, status="In Progress"),
        *scripts,
    ]
    with both_servers(tmp_path) as (directory, servers):
        day = Process(tmp_path, directory, morning)
        try:
            play_day(day, servers, tmp_path)
        finally:
            day.close()


def play_day(day: Process, servers: list[WorklistServer], scratch: Path) -> None:
    """Play the day, one step at a time."""

    def settled() -> None:
        day.cycles(3)
        check(servers, day.held())

    settled()
    for server in servers:
        for station, lines in day.held().items():
            assert findscu(server, scratch, station) == lines, f"findscu at {server.name}, {station}"
    today = day.sim.get(1)["formattedName"][1:11].replace("-", "")
    for server in servers:  # A console's own filters: station, date and modality.
        found = ask(server, "PRISMA", ScheduledProcedureStepStartDate=today, Modality="MR")
        assert found == Counter(line for line in day.held()["PRISMA"].elements() if line[12] == today)
        assert not ask(server, "PRISMA", Modality="EEG")
        assert not ask(server, "NOBODY")

    steps: list[Callable[[], object]] = [
        lambda: day.sim.put(booking(7, "SUB7_Gray", hours=6)),
        lambda: day.sim.edit(1, formattedName=span(site_now() + timedelta(hours=8), 45)),
        lambda: day.sim.edit(2, title="SUB22_Ersatz^Eva"),
        lambda: day.sim.edit(3, resource="3T Diagnostic"),
        lambda: day.sim.edit(3, resource="7T Research"),
        lambda: day.sim.edit(2, status="Cancelled"),
        lambda: day.sim.delete(20),
        lambda: day.sim.edit(1, formattedName=span(site_now() + timedelta(hours=30), 45)),
        lambda: day.sim.edit(1, formattedName=span(site_now() + timedelta(hours=4), 45)),
        lambda: day.sim.edit(4, status="Completed"),
        lambda: day.sim.edit(2, status="Approved"),
    ]
    for step in steps:
        step()
        settled()

    before = day.held()
    bookings = [day.sim.get(number) for number in day.sim.ids()]
    day.sim.close()
    failures = day.log.read_text().count("failed:")
    day.until(lambda: day.log.read_text().count("failed:") > failures, "the outage was not noticed")
    check(servers, before)
    next(directory for directory in [day.directory]).joinpath("x").write_text("not a worklist file")
    for path in day.directory.glob("*.wl"):
        path.unlink()
    failures = day.log.read_text().count("failed:")
    day.until(lambda: day.log.read_text().count("failed:") > failures + 1, "no cycle ended")
    check(servers, before)
    rest = [payload for payload in bookings if payload["id"] != 21]
    day.sim = CalpendoSimulator([*rest, booking(8, "SUB8_Pink")], port=int(day.url.rpartition(":")[2]))
    settled()

    assert day.end() == 0
    check(servers, day.held())
    day.sim.edit(8, title="SUB8_Rose")
    day.start()
    settled()
    day.sim.query_latency = 30
    begun = day.lists()
    day.until(lambda: day.lists() > begun, "no cycle began")
    asked = time.monotonic()
    assert day.end(signal.SIGINT) == 0
    assert time.monotonic() - asked < 15, "what is waited for is cut"
    day.sim.query_latency = 0
    log = day.log.read_text()
    line = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d calpendo: (\d+ listed, .* worklist files, .* s|failed: .*)"
    assert all(re.fullmatch(line, told) for told in log.splitlines()), "one line per cycle, and nothing else"
    assert not [name for name in ("SUB", "White", "Wanda", "Ersatz", "Rose", "小龙") if name in log]


@pytest.mark.slow
def test_the_configurations_that_the_docs_show_work(tmp_path: Path) -> None:
    """docs/hosts.md: the source and Orthanc as shown, with a scanner that is named and one that is not."""
    page = (Path(__file__).parents[3] / "docs" / "hosts.md").read_text(encoding="utf-8")
    source = json.loads(page.split("```json")[1].split("```")[0])["data_sources"][0]
    directory = tmp_path / "served" / TITLE
    directory.mkdir(parents=True)
    bookings = [booking(1, "SUB1_Müller^Jürgen"), booking(2, "SUB2_李^小龙", resource="7T Research")]
    with CalpendoSimulator(bookings) as simulator, AsShown(directory, tmp_path / "orthanc") as server:
        config = source["config"] | {"base_url": simulator.url, "api_path": "/webdav", "timezone": ZONE}
        config["state_path"] = str(tmp_path / "state" / "ledger.sqlite")
        assert config.pop("worklist_dir").endswith(TITLE)
        login = Credentials("demo", "demo")
        with WorklistPlugin(source["name"], config, directory, credentials=login) as plugin:
            plugin.fetch_entries(source["sync_interval"])
            assert plugin.keep_files().written == 2
        assert [(line[0], line[10]) for line in ask(server, "PRISMA")] == [("Müller^Jürgen", "PRISMA")]
        assert [(line[0], line[5]) for line in ask(server, "TERRA")] == [("李^小龙", "2")]
        with pytest.raises(AssertionError):
            ask(server, "STRANGER")


def kill_while_writing(folder: Path, times: int) -> None:
    """Change every booking, and kill the process as soon as it writes; then let it start again."""
    count = 60
    with both_servers(folder) as (directory, servers):
        bookings = [booking(n, f"SUB{n}_Round0", hours=1 + n / 10) for n in range(1, count + 1)]
        day = Process(folder, directory, bookings)
        try:
            day.cycles(3)
            check(servers, day.held())
            for turn in range(1, times + 1):
                for number in range(1, count + 1):
                    day.sim.edit(number, title=f"SUB{number}_Round{turn}")
                day.until(lambda: any(directory.glob(".cp-*.tmp")), "nothing was written", pause=0)
                day.end(signal.SIGKILL)
                for path in directory.glob("*.wl"):
                    item = pydicom.dcmread(path)
                    assert item.PatientName in (f"Round{turn - 1}", f"Round{turn}", "Again")
                for server in servers:
                    assert sum(ask(server).values()) == count, "no half file, no file less"
                if turn % 2:
                    day.sim.delete(count - turn)
                    day.sim.put(booking(200 + turn, "SUB200_Late", hours=3))
                    day.sim.delete(200 + turn)
                    day.sim.put(booking(count - turn, f"SUB{turn}_Again", hours=2))
                day.start()
                day.cycles(3)
                check(servers, day.held())
                assert not list(directory.glob(".cp-*"))
        finally:
            day.close()


@pytest.mark.slow
def test_ten_kills_in_the_middle_of_writing(tmp_path: Path) -> None:
    """SIGKILL while files are written: each is whole, old or new, and after the next start the lists are what Calpendo holds."""
    kill_while_writing(tmp_path, 10)


@pytest.mark.nightly
def test_fifty_kills_in_the_middle_of_writing(tmp_path: Path) -> None:
    """The same, fifty times."""
    kill_while_writing(tmp_path, 50)


class RandomDay:
    """A site in this process, its real servers, and whatever may happen on a day; a seed says what does."""

    def __init__(self, folder: Path, directory: Path, servers: list[WorklistServer], seed: int) -> None:
        self.random = random.Random(seed)
        self.sim = CalpendoSimulator([])
        self.url = self.sim.url
        self.servers = servers
        self.directory = directory
        self.now = datetime.now(pytz.utc).replace(minute=5)
        self.config = config_for(self.sim, directory) | {
            "state_path": str(folder / f"state-{seed}" / "l.sqlite")
        }
        self.plugin = self.new_plugin()
        self.seen: list[dict[str, Any]] = []
        self.serial = 0

    def new_plugin(self) -> WorklistPlugin:
        """Return a plugin on the ledger that there is."""
        plugin = WorklistPlugin(
            "calpendo",
            self.config,
            self.directory,
            credentials=Credentials("demo", "demo"),
            clock=lambda: self.now,
        )
        plugin.validate_config()
        return plugin

    def start_text(self, *, far: bool = False) -> str:
        """Return a span of time within the window, or beyond it."""
        hours = self.random.uniform(25, 60) if far else self.random.uniform(-3, 20)
        wall = (self.now + timedelta(hours=hours)).astimezone(pytz.timezone(ZONE)).replace(tzinfo=None)
        return span(wall.replace(second=0, microsecond=0), self.random.choice([15, 45, 150]))

    def title(self) -> str:
        """Return a new subject with a name in some script."""
        self.serial += 1
        return f"S{self.serial}_{self.random.choice(list(NAMES.values()))}"

    def still_to_come(self) -> list[int]:
        """Name the bookings that have not ended: nobody looks after the others any more."""
        wall = f"{self.now.astimezone(pytz.timezone(ZONE)):%Y-%m-%d %H:%M:%S}"
        return [number for number in self.sim.ids() if self.sim.get(number)["formattedName"][24:43] > wall]

    def check(self) -> None:
        """Compare the lists with what was held when the server answered last."""
        late = held(self.seen, self.url, self.now, ended=True)
        check(self.servers, held(self.seen, self.url, self.now), late)

    def event(self) -> str:
        """Let something happen, and say what."""
        coming = self.still_to_come()
        some = self.random.choice(coming) if coming else None
        kinds = ["put"] * 3
        if some is not None:
            kinds += [
                "move",
                "far",
                "subject",
                "status",
                "resource",
                "detail",
                "delete",
                "time",
                "kill",
                "empty",
            ]
            kinds += ["lost ledger", "down"]
        kind = self.random.choice(kinds)
        choose = self.random.choice
        match kind:
            case "put":
                self.serial += 1
                made = booking(self.serial, self.title(), resource=choose(list(STATIONS)))
                self.sim.put(made | {"formattedName": self.start_text()})
            case "move" | "far":
                self.sim.edit(some, formattedName=self.start_text(far=kind == "far"))
            case "subject":
                self.sim.edit(some, title=self.title())
            case "status":
                self.sim.edit(some, status=choose([*OFF, *ON]))
            case "resource":
                self.sim.edit(some, resource=choose([*STATIONS, "Elsewhere"]))
            case "detail":
                self.sim.edit(some, **dict([choose(list(DETAILS.items()))]))
            case "delete":
                self.sim.delete(some)
            case "time":
                self.now += timedelta(minutes=self.random.uniform(5, 90))
            case "kill":
                assert self.plugin._ledger is not None
                self.plugin._ledger.abandon()
                self.plugin.close()
                self.plugin = self.new_plugin()
            case "empty":
                for path in self.directory.glob("*.wl"):
                    path.unlink()
            case "lost ledger":
                self.plugin.close()
                for path in Path(self.config["state_path"]).parent.iterdir():
                    path.unlink()
                self.plugin = self.new_plugin()
            case "down":
                self.sim.faults.add("status", code=503)
                self.now += timedelta(minutes=self.random.uniform(1, 50))
        return kind

    def settle(self, kind: str) -> None:
        """Run the cycles that follow, and compare."""
        if kind == "down":
            with pytest.raises(PluginFetchError):
                self.plugin.fetch_entries(60)
            self.plugin.keep_files()
            self.check()
            self.sim.faults.clear()
        for _ in range(2):
            self.plugin.fetch_entries(60)
            self.plugin.keep_files()
            self.now += timedelta(seconds=60)
        self.now -= timedelta(seconds=60)
        self.seen = [self.sim.get(number) for number in self.sim.ids()]
        self.check()


def play_random_days(folder: Path, seeds: Sequence[int], events: int = 30) -> None:
    """Play days of thirty events, each checked on both servers at both stations."""
    with both_servers(folder) as (directory, servers):
        for seed in seeds:
            day = RandomDay(folder, directory, servers, seed)
            story = []
            try:
                for _ in range(events):
                    story.append(day.event())
                    try:
                        day.settle(story[-1])
                    except AssertionError as error:
                        raise AssertionError(f"seed {seed}, after {story}: {error}") from error
            finally:
                day.plugin.close()
                day.sim.close()
            for path in directory.glob("*.wl"):
                path.unlink()


@pytest.mark.slow
def test_ten_random_days(tmp_path: Path) -> None:
    """Whatever happens to bookings, server, process, clock and directory: each station's list is what Calpendo holds."""
    play_random_days(tmp_path, range(10))


@pytest.mark.nightly
def test_thirty_random_days(tmp_path: Path) -> None:
    """Thirty other days."""
    play_random_days(tmp_path, range(100, 130))
