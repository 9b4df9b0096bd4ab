"""Ledgers with flipped bits: every host goes on, and nobody is told what stood in the file."""

from __future__ import annotations

import logging
import random
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.delivery.ledger import PYLANTIR, Ledger, for_host
from pipeline.errors import PluginError
from pipeline.plugin import CalendoPlugin
from pipeline.report import health
from pipeline.simulator import CalpendoSimulator
from tests.integration.pylantir.test_one_ledger_each import Centre
from tests.support.bookings_by_hour import booking
from tests.support.worklist_host import WorklistHost

SECRET = "Quetzalcoatl"
COUNT = 12
Start = Callable[..., Any]


class Disk:
    """A centre whose files were saved after a morning, and can be put back as often as one likes."""

    def __init__(self, folder: Path, sim: CalpendoSimulator, host: WorklistHost, start: Start) -> None:
        self.sim = sim
        self.centre = Centre(
            folder, sim, host, start, fetch_mode="bulk", fetch_operators=False, max_retries=0
        )
        self.saved = folder / "saved"
        self.saved.mkdir()
        self.bookings = [
            booking(number, f"SUB{number}_{SECRET}{number}", hours=number) for number in range(1, COUNT + 1)
        ]
        self.bookings.append(booking(99, "", project=SECRET))  # rejected: in quarantine with all its texts
        self.reset_bookings()
        self.centre.pylantir()
        self.centre.plain()
        host.mpps("SUB2", "IN_PROGRESS")
        host.mpps("SUB3", "DISCONTINUED")
        sim.edit(4, status="Cancelled")
        self.bookings[3]["status"] = "Cancelled"
        self.centre.pylantir()
        self.centre.plain()
        self.base = self.centre.base
        self.ledgers = [self.base, for_host(self.base, PYLANTIR)]
        for file in (*self.ledgers, host.database):
            assert not file.with_name(file.name + "-wal").exists()
            shutil.copy(file, self.saved / file.name)
        self.given = dict(self.centre.caller)

    def reset_bookings(self) -> None:
        """Put Calpendo back to the morning."""
        for number in self.sim.ids():
            self.sim.delete(number)
        for made in self.bookings:
            self.sim.put(made)

    def restore(self) -> None:
        """Put every file back, and nothing beside it but the locks of an earlier day."""
        for file in self.base.parent.iterdir():
            if file.is_file() and file.suffix != ".json" and file.name != self.centre.host.database.name:
                file.unlink()
        for file in self.ledgers:
            shutil.copy(self.saved / file.name, file)
            file.with_name(f"{file.name}.lock").touch()
        self.centre.host.engine.dispose()
        shutil.copy(self.saved / self.centre.host.database.name, self.centre.host.database)
        self.centre.caller = dict(self.given)
        self.reset_bookings()

    def copies(self) -> Iterator[Ledger]:
        """Read both ledgers as `status` does."""
        for file in self.ledgers:
            with Ledger.copy(file) as ledger:
                yield ledger

    def flip(self, chance: random.Random, bits: int = 2) -> list[int]:
        """Flip bits anywhere in both ledgers; return where in each of them."""
        places = []
        for file in self.ledgers:
            content = bytearray(file.read_bytes())
            for _ in range(bits):
                places.append(chance.randrange(len(content) * 8))
                content[places[-1] // 8] ^= 1 << places[-1] % 8
            file.write_bytes(content)
        return places

    def go_on(self) -> None:
        """Delete, rename and add a booking; then two cycles at each host, whatever they raise."""
        self.sim.delete(5)
        self.sim.edit(6, title=f"SUB6_{SECRET}-New")
        self.sim.put(booking(50, f"SUB50_{SECRET}", hours=5))
        plugin = self.centre.start(self.centre.source)
        with CalendoPlugin("mri", self.centre.source["config"]) as program:
            for _ in range(2):
                try:
                    self.centre.host.cycle(plugin, self.centre.source)
                except Exception:
                    logging.getLogger("pylantir.cli.run").exception("Sync error")
                try:
                    entries = program.fetch_entries(3600)
                except PluginError:
                    logging.getLogger("cron").exception("the cycle failed")
                else:
                    for entry in entries:
                        assert entry["patient_name"].startswith(SECRET)
                        self.centre.caller[int(entry["source_record_id"])] = entry["patient_name"]
        plugin.close()

    def check(self) -> None:
        """The list is what Calpendo and the scanner say; the caller was sent everything that stands."""
        shown = {line.patient_id: (line.patient_name, line.status) for line in self.centre.host.find()}
        expected = {
            f"SUB{number}": (f"^{SECRET}{number}", "SCHEDULED") for number in (1, *range(7, COUNT + 1))
        }
        expected["SUB2"] = (f"^{SECRET}2", "IN_PROGRESS")
        expected["SUB6"] = (f"^{SECRET}-New", "SCHEDULED")
        expected["SUB50"] = (f"^{SECRET}", "SCHEDULED")
        assert shown == expected
        assert set(self.centre.caller) >= {*range(1, COUNT + 1), 50} - {5}
        assert self.centre.caller[6] == f"{SECRET}-New"
        assert self.centre.caller[50] == SECRET


@pytest.fixture
def disk(tmp_path: Path, sim: CalpendoSimulator, host: WorklistHost, start: Start) -> Iterator[Disk]:
    """Return a centre with a morning behind it."""
    made = Disk(tmp_path, sim, host, start)
    host.use_filter(start(made.centre.source), made.centre.source)
    return made


def play(disk: Disk, caplog: pytest.LogCaptureFixture, seeds: range, bits: int = 2) -> None:
    """Damage both ledgers in one way for each seed, and see that everything goes on in silence."""
    for seed in seeds:
        disk.restore()
        places = disk.flip(random.Random(seed), bits)
        caplog.clear()
        damaged = CliRunner().invoke(app, ["status", "--json", "--config", str(disk.centre.file)])
        try:
            disk.go_on()
            disk.check()
            assert SECRET not in caplog.text + damaged.output + damaged.stderr
            # Whatever is left of the history can be shown.
            assert all(health(ledger, datetime.now(UTC)).last_success for ledger in disk.copies())
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, bits {places}: {error}\n{caplog.text[-3000:]}") from error


def test_a_few_damaged_ledgers_go_on(disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    """Promise: two flipped bits stop nothing, and no name reaches a log, an error or `status`."""
    play(disk, caplog, range(4))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_hundred_damaged_ledgers_go_on(disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    """Promise: ... in 200 ledgers of each host, and in 20 more that are damaged all over."""
    play(disk, caplog, range(1000, 1200))
    play(disk, caplog, range(2000, 2020), bits=200)
