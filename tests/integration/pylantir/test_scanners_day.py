"""A scanner's day at a real Pylantir process: after each step the console shows what Calpendo holds."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.simulator import CalpendoSimulator
from tests.support.bookings_by_hour import MAPPING, booking, site_now, source, span
from tests.support.both_plugins import fails_upstream
from tests.support.pylantir_process import OURS, PylantirProcess

PATIENCE = 30.0
LONG = "LONGMEM (Longitudinal imaging of memory and ageing in a population cohort, wave 3)"
SHOWN = {LONG: "LONGMEM (Longitudinal imaging of memory and ageing in a"}
"""A project's title that DICOM has no room for, and what the console shows of it."""
SEXES = {"Female": "F", "male": "M", "not told": ""}
BIRTHS = {"1980-05-03": "19800503", "1975-12-31 00:00:00.0": "19751231", "03/05/1980": ""}
"""Details as people and servers write them, and as the console shows them; empty where nobody can tell."""


BROKEN = "BROKEN"
"""Goes out as bytes that are no UTF-8."""


def serve(bookings: list[dict[str, Any]], port: int = 0) -> CalpendoSimulator:
    """Serve bookings, every answer with the broken bytes that its titles hold."""
    server = CalpendoSimulator(bookings, port=port)
    server.faults.add(
        "rewrite", old=BROKEN.encode(), new=b"Jos\xe9 \xfc", content_type="application/json;charset=UTF-8"
    )
    return server


class Day:
    """A simulated Calpendo, a Pylantir that asks it five times a second, and what the console should show."""

    def __init__(
        self, directory: Path, bookings: list[dict[str, Any]], *, plugin: str = OURS, **options: Any
    ) -> None:
        self.sim = serve(bookings)
        mapping = MAPPING | {"patient_sex": "sex", "patient_birth_date": "born"}
        options = {"field_mapping": mapping, "max_retries": 1} | options
        self.source = source(self.sim.url, **options) | {"sync_interval": 0.2}
        self.pylantir = PylantirProcess(directory, [self.source], plugin=plugin)
        self.scanner = self.pylantir.scanner
        self.begun: dict[int, str] = {}
        self.ended: set[int] = set()
        self.uids: dict[int, str] = {}
        self.pylantir.start()

    def close(self) -> None:
        """End the process and the server."""
        self.pylantir.kill()
        self.sim.close()

    def cycles(self, number: int = 2) -> None:
        """Wait until this many cycles have begun from now on; the last but one is then done with all it does."""
        reached = self.lists() + number
        self.until(lambda: self.lists() >= reached, "no cycle began")

    def until(self, true: Callable[[], bool], otherwise: str) -> None:
        """Wait for something that another process does."""
        deadline = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < deadline, f"{otherwise}:\n{self.pylantir.output()[-3000:]}"
            time.sleep(0.02)

    def lists(self) -> int:
        """How many cycles have begun: each asks for one list."""
        return sum("/q/Calpendo.Booking/" in request.path for request in self.sim.requests)

    def go_down(self) -> list[dict[str, Any]]:
        """Take the server off the network; returns what it held."""
        held = [self.sim.get(number) for number in self.sim.ids()]
        self.sim.close()
        return held

    def come_back(self, held: list[dict[str, Any]]) -> None:
        """Put the server back at the same address."""
        self.sim = serve(held, port=int(self.sim.url.rpartition(":")[2]))

    def expected(self) -> Counter[tuple[str, ...]]:
        """What Calpendo holds, as the console should show it."""
        lines: Counter[tuple[str, ...]] = Counter()
        for number in set(self.sim.ids()) - self.ended:
            held = self.sim.get(number)
            # Whose title cannot be decoded is on no list, and costs no other.
            if held["status"] == "Cancelled" or BROKEN in held["title"]:
                continue
            # A scan runs to its end under the name with which it was begun.
            subject, _, name = self.begun.get(number, held["title"]).partition("_")
            start = held["formattedName"][1:20]
            status = "IN_PROGRESS" if number in self.begun else "SCHEDULED"
            project = held["properties"]["project"]["formattedName"]
            lines[
                subject,
                f"^{name}",
                start[:10].replace("-", ""),
                start[11:].replace(":", ""),
                "MR",
                status,
                SHOWN.get(project, project),
                SEXES.get(held.get("sex"), ""),
                BIRTHS.get(held.get("born"), ""),
            ] += 1
        return lines

    def check(self) -> None:
        """After a whole cycle: the list is what Calpendo holds, no row is doubled, no study UID changed."""
        self.cycles()
        self.check_now()

    def check_now(self) -> None:
        """Check the list as it is, without waiting for a cycle."""
        answer = self.scanner.find()
        assert answer.status == 0x0000
        shown = Counter(
            (
                line.patient_id,
                line.patient_name,
                line.date,
                line.time,
                line.modality,
                line.status,
                line.description,
                line.sex,
                line.birth_date,
            )
            for line in answer.lines
        )
        assert shown == self.expected()
        rows = self.pylantir.rows()
        numbers = [int(row["source_record_id"]) for row in rows]
        assert len(set(numbers)) == len(numbers)
        uids = {int(row["source_record_id"]): row["study_instance_uid"] for row in rows}
        assert len(set(uids.values())) == len(uids)
        assert {number: uids.get(number) for number in self.uids} == self.uids
        self.uids = uids


def play_morning(day: Day) -> None:
    """Bookings appear, one is cancelled, one deleted, one begins; then the power fails."""
    day.check()
    day.sim.put(booking(7, "SUB7_Gray", hours=6))
    day.sim.edit(2, status="Cancelled")
    day.sim.delete(3)
    day.scanner.begin("SUB4", "^Blue")
    day.begun[4] = "SUB4_Blue"
    day.check()
    day.pylantir.restart()
    day.check_now()
    day.sim.edit(2, status="Approved")
    day.check()


def play_day(day: Day) -> None:
    """The whole day, one step at a time; fails where the console shows anything but what Calpendo holds."""
    start = site_now()
    day.check()

    day.sim.put(booking(7, "SUB7_Gray", hours=6))
    day.check()

    day.sim.edit(1, formattedName=span(start + timedelta(hours=8), 45))
    day.check()

    day.sim.edit(1, sex="not told", born="03/05/1980")
    day.check()
    day.sim.edit(1, sex="Female", born="1980-05-03")
    day.check()

    day.sim.edit(2, status="Cancelled")
    day.check()

    day.sim.delete(3)
    day.check()

    instance = day.scanner.begin("SUB4", "^Blue")
    day.begun[4] = "SUB4_Blue"
    day.check()
    day.sim.edit(4, title="SUB4_Blue-Green")
    day.check()

    day.scanner.end(instance)
    day.ended.add(4)
    day.check()
    day.sim.edit(4, title="SUB4_Blue")
    day.check()

    broken_off = day.scanner.begin("SUB7", "^Gray")
    day.scanner.end(broken_off, "DISCONTINUED")
    day.ended.add(7)
    day.check()

    play_outage(day)

    day.pylantir.restart()
    day.check_now()
    day.check()

    day.sim.edit(2, status="Approved")
    day.check()

    # Killed in the middle of a cycle that has something to bring.
    day.sim.detail_latency = 0.3
    day.sim.put(booking(9, "SUB9_Teal", hours=3))
    day.sim.edit(8, title="SUB8_Pink-Rose")
    day.cycles(1)
    day.pylantir.restart()
    day.sim.detail_latency = 0.0
    day.check()


def play_outage(day: Day) -> None:
    """The API goes down; the list stays, over a restart too; it comes back with a booking less and one more."""
    held = day.go_down()
    failures = day.pylantir.output().count("Sync error")
    day.until(lambda: day.pylantir.output().count("Sync error") > failures, "the outage was not noticed")
    day.check_now()
    day.pylantir.restart()
    day.check_now()
    day.come_back([payload for payload in held if payload["id"] != 5] + [booking(8, "SUB8_Pink", hours=2)])
    day.check()


def morning() -> list[dict[str, Any]]:
    """The bookings at the start of the day; subject 1 comes twice, and a scan is running."""
    return [
        booking(1, "SUB1_White", hours=1, project=LONG, sex="Female", born="1980-05-03"),
        booking(2, "SUB2_Black", hours=2, sex="male", born="1975-12-31 00:00:00.0"),
        booking(3, "SUB3_Brown", hours=3, sex="not told", born="03/05/1980"),
        booking(4, "SUB4_Blue", hours=4, project=LONG),
        booking(5, "SUB5_Red", hours=5),
        booking(6, "SUB1_White", hours=7),
        booking(10, "SUB10_Gold", hours=-1, minutes=120),
        booking(11, f"SUB11_{BROKEN}", hours=4),
    ]


@pytest.mark.slow
@fails_upstream("the very first list is wrong")
def test_a_scanners_morning(tmp_path: Path, kind: str) -> None:
    """A real process from the first bookings to a power cut: the console shows what Calpendo holds, no name is logged."""
    day = Day(tmp_path, morning(), plugin=kind)
    try:
        play_morning(day)
        log = day.pylantir.output()
        assert not [subject for subject in ("White", "Black", "Blue", "SUB4") if subject in log]
    finally:
        day.close()


@pytest.mark.slow
def test_a_scanners_day(tmp_path: Path) -> None:
    """After each step of a whole day the C-FIND answer equals what Calpendo holds: no row lost, doubled or resurrected."""
    day = Day(tmp_path, morning())
    try:
        play_day(day)
    finally:
        day.close()
