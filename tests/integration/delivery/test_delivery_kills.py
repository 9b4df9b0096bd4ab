"""Real kills: a child process is killed with SIGKILL at random moments, and loses nothing."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pipeline.delivery.ledger import Ledger, from_text
from pipeline.simulator import CalpendoSimulator
from tests.support.delivery_site import NOW, Site, booking
from tests.support.host_double import OFF, STATUS, Oracle

CHILD = Path(__file__).parents[2] / "support" / "killed_child.py"
ROOT = Path(__file__).parents[3]
BOOKINGS = 12
STEPS = 11  # that a child tells of in one cycle
DELICATE = ("write", "returning", "committing")  # between the ledger's commit and the host's


class Churn(threading.Thread):
    """Edits, deletes and books while the children run."""

    def __init__(self, simulator: CalpendoSimulator, chance: random.Random) -> None:
        super().__init__()
        self.simulator, self.chance = simulator, chance
        self.stopped = threading.Event()

    def run(self) -> None:
        """Change something every few milliseconds."""
        while not self.stopped.wait(self.chance.uniform(0.001, 0.03)):
            number = self.chance.randint(1, BOOKINGS)
            if number not in self.simulator.ids():
                self.simulator.put(booking(number))
            elif self.chance.random() < 0.15:
                self.simulator.delete(number)
            else:
                self.simulator.edit(number, title=f"SUB{number:03d}_Name{self.chance.randint(0, 999)}")

    def stop(self) -> None:
        """Change nothing any more."""
        self.stopped.set()
        self.join()


def child(config: Path, host: Path, cycles: int = 0) -> subprocess.Popen[str]:
    """Start a host process and wait until it is about to begin its first cycle."""
    command = [sys.executable, str(CHILD), str(config), str(host), *([str(cycles)] if cycles else [])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def check_ledger(ledger_path: Path, host_path: Path) -> int:
    """See that the ledger opens, is whole, and calls delivered only what the host holds; count what is pending."""
    if not ledger_path.exists():
        return 0
    with contextlib.closing(sqlite3.connect(host_path)) as host:
        rows = dict(host.execute("SELECT booking_id, entry FROM rows"))
    with Ledger.open(ledger_path, source_name="calpendo") as ledger:
        assert ledger.rows("PRAGMA integrity_check") == [("ok",)]
        assert ledger.warnings == ()
        for number, entry in ledger.rows("SELECT booking_id, entry FROM entries WHERE state = 'delivered'"):
            assert rows.get(number) == entry, (
                f"booking {number} is called delivered, but the host does not have it"
            )
        return len(ledger.pending_ids())


def kill_often(tmp_path: Path, runs: int, acknowledge: str) -> tuple[int, int]:
    """Kill children at random moments; give how many kills left something pending, and how many rows the host has."""
    chance = random.Random(f"{runs} {acknowledge}")
    with CalpendoSimulator([booking(number) for number in range(1, BOOKINGS + 1)]) as simulator:
        site = Site(simulator, tmp_path / "ledger.sqlite", acknowledge=acknowledge, max_withdrawn=BOOKINGS)
        config, host = tmp_path / "config.json", tmp_path / "host.sqlite"
        config.write_text(json.dumps({**site.config, "now": NOW.isoformat()}))
        churn = Churn(simulator, chance)
        churn.start()
        left_pending = 0
        try:
            for _ in range(runs):
                process = child(config, host)
                assert process.stdout
                # A random moment, over about three cycles, however fast the machine is; every other time one in which
                # entries have been recorded and the host does not have them yet.
                steps = chance.randint(0, 3 * STEPS)
                told = [process.stdout.readline() for _ in range(steps)]
                if chance.random() < 0.5:
                    step = chance.choice(DELICATE)
                    while told[-1:] != [f"{step}\n"]:
                        told.append(process.stdout.readline())
                        assert told[-1], "the child goes on until it is killed"
                else:
                    threading.Event().wait(chance.uniform(0, 0.02))
                assert all(told)
                process.kill()
                process.communicate()
                assert process.returncode == -signal.SIGKILL
                left_pending += check_ledger(tmp_path / "ledger.sqlite", host) > 0
        finally:
            churn.stop()
        last = child(config, host, cycles=2)
        assert last.wait(60) == 0
        last.communicate()
        assert check_ledger(tmp_path / "ledger.sqlite", host) == 0
        with contextlib.closing(sqlite3.connect(host)) as connection:
            rows = {number: from_text(entry) for number, entry in connection.execute("SELECT * FROM rows")}
        oracle = Oracle(site)
        for number, entry in oracle.wanted.items():
            assert rows.get(number) == entry
        assert all(row[STATUS] == OFF for number, row in rows.items() if number not in oracle.wanted)
        return left_pending, len(rows)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("acknowledge", ["on_return", "explicit"])
@pytest.mark.parametrize(
    "runs", [pytest.param(40, marks=pytest.mark.slow), pytest.param(100, marks=pytest.mark.nightly)]
)
def test_many_kills_lose_nothing(tmp_path: Path, runs: int, acknowledge: str) -> None:
    """Issue, done when: killed with SIGKILL at random moments, over 200 runs, half of them each way, it loses nothing."""
    left_pending, rows = kill_often(tmp_path, runs, acknowledge)
    assert left_pending > runs // 10
    assert rows == BOOKINGS
