"""Each host has a ledger of its own: what was given to one says nothing about another, in whatever order they ask."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.delivery.ledger import PYLANTIR, Ledger, for_host, ledgers_beside
from pipeline.errors import PluginSchemaError, PluginStateError
from pipeline.plugin import CalendoPlugin
from pipeline.simulator import CalpendoSimulator
from tests.fixtures.ledgers.make import as_version_2
from tests.support.bookings_by_hour import booking, site_now, source, span
from tests.support.pylantir_process import PylantirProcess
from tests.support.worklist_host import WorklistHost

STATUS = "performed_procedure_step_status"
Start = Callable[..., Any]


class Centre:
    """One configuration, and every way in which somebody may use it; each call notes what its host holds by then."""

    def __init__(
        self, folder: Path, sim: CalpendoSimulator, host: WorklistHost, start: Start, **options: Any
    ) -> None:
        self.base = folder / "ledger.sqlite"
        self.source = source(sim.url, state_path=str(self.base), **options)
        self.file = folder / "mwl_config.json"
        self.file.write_text(json.dumps({"data_sources": [self.source]}))
        self.output = folder / "entries.ndjson"
        self.host = host
        self.start = start
        self.caller: dict[int, str] = {}
        self.written: dict[int, str] = {}
        self.planned: set[int] = set()

    def command(self, *arguments: object) -> Any:
        """Run a command in this process."""
        done = CliRunner().invoke(app, [*map(str, arguments), "--config", str(self.file)])
        assert done.exit_code == 0, done.output
        return done

    def run(self) -> None:
        """Show the entries on the terminal."""
        shown = json.loads(self.command("run", "--json").output)
        self.caller |= {int(entry["source_record_id"]): entry[STATUS] for entry in shown["entries"]}

    def run_output(self) -> None:
        """Write the entries to a file."""
        self.command("run", "--output", self.output)
        rows = map(json.loads, self.output.read_text().splitlines())
        self.written |= {int(row["source_record_id"]): row[STATUS] for row in rows}

    def dry_run(self) -> None:
        """Look what a run would do."""
        changes = json.loads(self.command("run", "--dry-run", "--json").output)["changes"]
        self.planned = {row["booking_id"] for row in changes}

    def plain(self) -> None:
        """Call the plugin from a program."""
        with CalendoPlugin("mri", self.source["config"]) as plugin:
            entries = plugin.fetch_entries(3600)
        self.caller |= {int(entry["source_record_id"]): entry[STATUS] for entry in entries}

    def pylantir(self) -> None:
        """Run one cycle of Pylantir and stop it."""
        plugin = self.start(self.source)
        self.host.cycle(plugin, self.source)
        plugin.close()

    @property
    def shown(self) -> dict[int, str]:
        """What Pylantir's rows say."""
        return {int(row["source_record_id"]): row[STATUS] for row in self.host.rows()}


DOINGS = ("run", "run_output", "dry_run", "plain", "pylantir")


@pytest.fixture
def centre(tmp_path: Path, sim: CalpendoSimulator, host: WorklistHost, start: Start) -> Centre:
    """Return a centre with three bookings."""
    for number in (1, 2, 3):
        sim.put(booking(number, f"SUB{number}_Doe", hours=number))
    return Centre(tmp_path, sim, host, start)


def play(centre: Centre, sim: CalpendoSimulator, order: tuple[str, ...]) -> None:
    """Do everything in one order, change the bookings, do it once more: each host holds what Calpendo holds."""
    wanted = {1: "SCHEDULED", 2: "SCHEDULED", 3: "SCHEDULED"}
    for doing in order:
        getattr(centre, doing)()
    assert (centre.caller, centre.written, centre.shown) == (wanted, wanted, wanted)
    sim.delete(1)
    sim.edit(2, status="Cancelled")
    sim.put(booking(4, "SUB4_Doe", hours=4))
    wanted = {1: "DISCONTINUED", 2: "DISCONTINUED", 3: "SCHEDULED", 4: "SCHEDULED"}
    for doing in order:
        getattr(centre, doing)()
    assert (centre.caller, centre.written, centre.shown) == (wanted, wanted, wanted)
    # A plan is the caller's: it tells what that one has not got yet, and takes nothing from it.
    first = min(order.index("run"), order.index("plain"))
    assert centre.planned == ({1, 2, 4} if order.index("dry_run") < first else set())


@pytest.mark.parametrize("order", [DOINGS, DOINGS[::-1]], ids=["run first", "pylantir first"])
def test_each_host_gets_every_entry_whoever_asked_before(
    centre: Centre, sim: CalpendoSimulator, order: tuple[str, ...]
) -> None:
    """Promise: an order and its reverse, so each way of asking stands once before and once behind each other."""
    play(centre, sim, order)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_each_host_gets_every_entry_in_all_orders(
    tmp_path_factory: pytest.TempPathFactory, start: Start, credentials: tuple[str, str]
) -> None:
    """Promise: ... in all 120 orders."""
    for order in itertools.permutations(DOINGS):
        folder = tmp_path_factory.mktemp("order")
        with pytest.MonkeyPatch.context() as patch, CalpendoSimulator([]) as sim:
            host = WorklistHost(folder, patch)
            for number in (1, 2, 3):
                sim.put(booking(number, f"SUB{number}_Doe", hours=number))
            play(Centre(folder, sim, host, start), sim, order)
            host.close()


def test_hosts_of_one_source_run_side_by_side(centre: Centre) -> None:
    """Promise: each host has a lock of its own; only a second process of the same host is refused."""
    plugin = centre.start(centre.source)
    centre.host.cycle(plugin, centre.source)
    with CalendoPlugin("mri", centre.source["config"]) as program:
        assert len(program.fetch_entries(3600)) == 3
        centre.run_output()
        centre.host.cycle(plugin, centre.source)
        assert set(centre.written) == set(centre.shown) == {1, 2, 3}
        assert len(ledgers_beside(centre.base)) == 3
        code = "import sys; from pipeline.delivery.ledger import Ledger; Ledger.open(sys.argv[1], source_name='mri')"
        done = subprocess.run(
            [sys.executable, "-c", code, str(centre.base)], capture_output=True, text=True, check=False
        )
        assert "in use by process" in done.stderr
    plugin.close()


def test_status_shows_each_host(centre: Centre) -> None:
    """Promise: a success at one host does not hide that another one waits; --host looks at one alone."""
    centre.run()
    centre.pylantir()
    shown = centre.command("status").output
    assert "(caller):" in shown
    assert "(pylantir):" in shown
    document = json.loads(centre.command("status", "--json").output)
    assert {document["host"], *(other["host"] for other in document["other_hosts"])} == {"caller", "pylantir"}
    centre.command("status", "--max-age", "15m")
    with Ledger.beside(for_host(centre.base, PYLANTIR)) as ledger, ledger.transaction() as connection:
        connection.execute("UPDATE runs SET finished = finished - 3600000000")
    arguments = ["status", "--max-age", "15m", "--config", str(centre.file)]
    late = CliRunner().invoke(app, arguments)
    assert late.exit_code == 1
    assert "(pylantir) for more than 15m" in late.stderr
    assert "caller" not in late.stderr
    assert json.loads(centre.command("status", "--json").output)["host"] == "pylantir"
    assert CliRunner().invoke(app, [*arguments, "--host", "caller"]).exit_code == 0
    assert CliRunner().invoke(app, [*arguments, "--host", "pylantir"]).exit_code == 1


def test_a_booking_rejected_at_two_hosts_is_one_in_quarantine(centre: Centre, sim: CalpendoSimulator) -> None:
    """Promise: the quarantine is the source's; a booking that passes at the next host is resolved for all."""
    sim.edit(1, title="")
    centre.run()
    centre.run_output()
    assert centre.command("quarantine", "list").output.count("patient_id_missing") == 1
    sim.edit(1, title="SUB1_Doe")
    centre.pylantir()
    centre.run_output()
    assert "empty" in centre.command("quarantine", "list").output


def begin_day(centre: Centre, sim: CalpendoSimulator) -> None:
    """A morning under 0.1.0: one scan runs, one is completed, one was broken off, one waits; then the upgrade."""
    for number, hours in ((1, -1), (2, 1), (3, 3), (4, 5), (5, 6)):
        sim.put(booking(number, f"SUB{number}_Doe", hours=hours, minutes=120))
    # 0.1.0 wrote UTC where nothing was said.
    old = source(sim.url, state_path=str(centre.base), output_timezone="UTC")
    plugin = centre.start(old)
    centre.host.cycle(plugin, old)
    for number, status in ((1, "IN_PROGRESS"), (2, "COMPLETED"), (3, "DISCONTINUED")):
        centre.host.mpps(f"SUB{number}", status)
    sim.edit(5, status="Cancelled")
    centre.host.cycle(plugin, old)
    plugin.close()
    new = for_host(centre.base, PYLANTIR)
    as_version_2(new, centre.base)
    new.unlink()


@pytest.fixture
def upgraded(tmp_path: Path, sim: CalpendoSimulator, host: WorklistHost, start: Start) -> Centre:
    """Return a centre in the middle of a day, with the file that 0.1.0 left."""
    made = Centre(tmp_path, sim, host, start)
    begin_day(made, sim)
    del made.source["config"]["output_timezone"]
    made.file.write_text(json.dumps({"data_sources": [made.source]}))
    return made


@pytest.mark.parametrize("before", [(), ("run",), ("dry_run", "run_output", "plain")])
def test_a_ledger_of_the_first_version_goes_over_in_the_middle_of_a_day(
    upgraded: Centre, sim: CalpendoSimulator, before: tuple[str, ...]
) -> None:
    """Promise: no scan of the morning is undone, though every time on the list flips to the site's; nobody misses any."""
    for doing in before:
        getattr(upgraded, doing)()
        assert json.loads(upgraded.command("status", "--json", "--host", "pylantir").output)["last_success"]
    plugin = upgraded.start(upgraded.source)
    # One to begin with, and one that shows that it stays so.
    for _ in range(2):
        upgraded.host.cycle(plugin, upgraded.source)
        assert upgraded.shown == {
            1: "IN_PROGRESS",
            2: "COMPLETED",
            3: "DISCONTINUED",
            4: "SCHEDULED",
            5: "DISCONTINUED",
        }
        row = upgraded.host.row(4)
        start = site_now() + timedelta(hours=5)
        assert row["scheduled_start_date"] + row["scheduled_start_time"][:2] == f"{start:%Y%m%d%H}"
    # What was known still tells who set a status: a cancelled one comes back, a broken-off one when it is moved.
    sim.edit(5, status="Approved")
    sim.edit(3, formattedName=span(site_now() + timedelta(hours=7), 60))
    upgraded.host.cycle(plugin, upgraded.source)
    assert (upgraded.shown[3], upgraded.shown[5]) == ("SCHEDULED", "SCHEDULED")
    plugin.close()
    if "run" in before or "plain" in before:
        assert {number for number, status in upgraded.caller.items() if status == "SCHEDULED"} == {1, 2, 3, 4}
    kept = [path for path in upgraded.base.parent.iterdir() if ".v2-" in path.name]
    assert [path.name.split(".v2-")[0] for path in kept] == ["ledger@pylantir.sqlite"]
    with Ledger.copy(kept[0]) as ledger:
        assert ledger.meta("host") == PYLANTIR


def test_a_file_without_a_note_of_pylantir_is_the_callers(centre: Centre, sim: CalpendoSimulator) -> None:
    """Promise: where `run` took everything under 0.1.0, Pylantir's list fills after the upgrade and `run` stays quiet."""
    centre.run()
    old = centre.base.with_name("old")
    as_version_2(centre.base, old)
    old.rename(centre.base)
    centre.caller.clear()
    centre.pylantir()
    centre.run()
    assert centre.shown == dict.fromkeys((1, 2, 3), "SCHEDULED")
    assert centre.caller == {}


def test_a_process_of_the_first_version_keeps_its_file(upgraded: Centre) -> None:
    """Promise: while 0.1.0 still runs, neither Pylantir nor a caller of today takes its file away."""
    hold = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN EXCLUSIVE');"
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"{hold} print('held', flush=True); sys.stdin.read()",
            f"{upgraded.base}.lock",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        before = upgraded.base.read_bytes()
        with pytest.raises(PluginStateError, match="in use by"):
            upgraded.plain()
        with pytest.raises(Exception, match="in use by"):
            upgraded.pylantir()
        assert upgraded.base.read_bytes() == before
        process.communicate()
    upgraded.pylantir()
    assert upgraded.shown[3] == "DISCONTINUED"


@pytest.mark.slow
def test_run_before_the_first_start_of_a_real_pylantir(
    tmp_path: Path, sim: CalpendoSimulator, host: WorklistHost, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise: `run` and `run --output`, before and beside a real `pylantir start`, leave the scanner's list whole."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for number in (1, 2, 3):
        sim.put(booking(number, f"SUB{number}_Doe", hours=number))
    settings = source(sim.url) | {"sync_interval": 0.2}
    process = PylantirProcess(tmp_path, [settings])
    run = [sys.executable, "-c", "from pipeline.cli import main; main()", "run", "--config"]
    run.append(str(tmp_path / "mwl_config.json"))

    def command(*arguments: str) -> str:
        done = subprocess.run([*run, *arguments], capture_output=True, text=True, check=True, env=os.environ)
        return done.stdout

    assert len(json.loads(command("--json"))["entries"]) == 3
    with process:
        for _ in range(200):
            if len(process.scanner.find().lines) == 3:
                break
        command("--output", str(tmp_path / "entries.csv"))
        assert sorted(line.patient_id for line in process.scanner.find().lines) == ["SUB1", "SUB2", "SUB3"]
        assert len((tmp_path / "entries.csv").read_text().splitlines()) == 4


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_damaged_file_of_the_first_version_goes_over(upgraded: Centre, sim: CalpendoSimulator) -> None:
    """Promise: bits that flipped before there was a seal cost no row of the list and bring no broken-off scan back."""
    saved = upgraded.base.parent / "saved"
    saved.mkdir()
    files = (upgraded.base, upgraded.host.database)
    for file in files:
        shutil.copy(file, saved)
    held = [sim.get(number) for number in sim.ids()]
    for seed in range(80):
        chance = random.Random(seed)
        for path in upgraded.base.parent.glob("ledger*"):
            path.unlink()
        upgraded.host.engine.dispose()
        for file in files:
            shutil.copy(saved / file.name, file)
        content = bytearray(upgraded.base.read_bytes())
        for _ in range(2 if seed % 2 else 60):
            bit = chance.randrange(100 * 8, len(content) * 8)
            content[bit // 8] ^= 1 << bit % 8
        upgraded.base.write_bytes(content)
        for number in sim.ids():
            sim.delete(number)
        for payload in held:
            sim.put(payload)
        sim.delete(4)
        sim.put(booking(8, "SUB8_Doe", hours=4))
        plugin = upgraded.start(upgraded.source)
        for _ in range(2):
            if seed % 3:
                with contextlib.suppress(PluginStateError, PluginSchemaError):
                    upgraded.plain()
            with contextlib.suppress(PluginStateError, PluginSchemaError):
                upgraded.host.cycle(plugin, upgraded.source)
        plugin.close()
        live = {number for number, status in upgraded.shown.items() if status in ("SCHEDULED", "IN_PROGRESS")}
        assert live == {1, 8}, (seed, upgraded.shown)
