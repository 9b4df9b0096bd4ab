"""Any day at all: a state machine of edits, scans, failed commits, lost rows and kills around Pylantir's real upsert."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pipeline.pylantir import CalendoPylantirPlugin
from pipeline.simulator import CalpendoSimulator
from pipeline.verify.preview import Preview, preview
from tests.integration.pylantir.test_rehearsal import listed, served
from tests.support.bookings_by_hour import booking, site_now, source, span
from tests.support.worklist_host import WorklistHost

PLACES = st.integers(1, 22)
FAR = 100


@dataclass
class Truth:
    """A booking as Calpendo has it, and what the scanner did with it."""

    start: datetime
    cancelled: bool = False
    deleted: bool = False
    scan: str = "waits"
    broken_off_at: datetime | None = None

    @property
    def wanted(self) -> bool:
        """Whether Calpendo wants it scanned within the next day."""
        return not self.cancelled and not self.deleted and self.start < site_now() + timedelta(hours=24)

    @property
    def shown(self) -> str | None:
        """The status with which the console should show it, if at all."""
        if self.scan == "runs":
            # Until the scanner ends it; Calpendo may have moved it, then its row is out of the window.
            return "IN_PROGRESS" if self.start < site_now() + timedelta(hours=24) else None
        if self.scan == "completed" or not self.wanted:
            return None
        return None if self.scan == "broken off" and self.start == self.broken_off_at else "SCHEDULED"


class AnyDay(RuleBasedStateMachine):
    """Simulator, plugin and host under random events; whenever a cycle goes through, the list is right."""

    foretells = False

    def __init__(self) -> None:
        super().__init__()
        self.environment = pytest.MonkeyPatch()
        self.folder = tempfile.TemporaryDirectory()
        for name, value in (
            ("CALPENDO_USERNAME", "demo"),
            ("CALPENDO_PASSWORD", "demo"),
            ("XDG_STATE_HOME", self.folder.name),
        ):
            self.environment.setenv(name, value)
        self.sim = CalpendoSimulator([])
        self.source = source(self.sim.url, max_retries=0, max_withdrawn=1000)
        self.host = WorklistHost(Path(self.folder.name), self.environment)
        self.host.use_filter(CalendoPylantirPlugin(), self.source)
        self.truth: dict[int, Truth] = {}
        self.plugin: Any = None
        self.settled = False
        self.uids: dict[str, str] = {}

    @initialize()
    def begin(self) -> None:
        """Start the plugin."""
        self.start_plugin()

    def start_plugin(self) -> None:
        """Make a fresh, validated plugin."""
        self.plugin = CalendoPylantirPlugin()
        assert self.plugin.validate_config(dict(self.source["config"])) == (True, "")

    def pick(self, index: int, *scans: str) -> int | None:
        """Choose one of the bookings that are in one of these states and not deleted."""
        found = [number for number, truth in self.truth.items() if not truth.deleted and truth.scan in scans]
        return found[index % len(found)] if found else None

    @rule(place=PLACES)
    def add(self, place: int) -> None:
        """A new booking."""
        number = len(self.truth) + 1
        if number <= 12:
            self.truth[number] = Truth(site_now() + timedelta(hours=place))
            self.sim.put(
                booking(number, f"SUB{number}_Doe{number}")
                | {"formattedName": span(self.truth[number].start, 60)}
            )
            self.settled = False

    @rule(index=st.integers(0, 99), place=PLACES | st.just(FAR))
    def move(self, index: int, place: int) -> None:
        """A booking gets another time, perhaps beyond the window."""
        number = self.pick(index, "waits", "broken off", "completed")
        if number is not None:
            self.truth[number].start = site_now() + timedelta(hours=place)
            self.sim.edit(number, formattedName=span(self.truth[number].start, 60))
            self.settled = False

    @rule(index=st.integers(0, 99), cancelled=st.booleans())
    def cancel_or_approve(self, index: int, cancelled: bool) -> None:
        """A booking is cancelled, or approved again."""
        number = self.pick(index, "waits", "runs", "completed")
        if number is not None:
            self.truth[number].cancelled = cancelled
            self.sim.edit(number, status="Cancelled" if cancelled else "Approved")
            self.settled = False

    @rule(index=st.integers(0, 99))
    def delete(self, index: int) -> None:
        """A booking is deleted."""
        number = self.pick(index, "waits", "completed")
        if number is not None:
            self.truth[number].deleted = True
            self.sim.delete(number)
            self.settled = False

    @precondition(lambda self: self.settled)
    @rule(index=st.integers(0, 99), status=st.sampled_from(["IN_PROGRESS", "COMPLETED", "DISCONTINUED"]))
    def scan(self, index: int, status: str) -> None:
        """The scanner begins or ends what it sees on its list."""
        lines = self.host.find()
        if lines:
            line = lines[index % len(lines)]
            number = int(line.patient_id.removeprefix("SUB"))
            self.host.mpps(line.patient_id, status)
            truth = self.truth[number]
            truth.scan = {"IN_PROGRESS": "runs", "COMPLETED": "completed", "DISCONTINUED": "broken off"}[
                status
            ]
            truth.broken_off_at = truth.start

    @rule(index=st.integers(0, 99))
    def lose_a_row(self, index: int) -> None:
        """Somebody deletes a row that the scanner did not touch yet."""
        number = self.pick(index, "waits")
        if number is not None:
            with contextlib.closing(sqlite3.connect(self.host.database)) as connection, connection:
                connection.execute("DELETE FROM worklist_items WHERE source_record_id = ?", (str(number),))
            self.settled = False

    @rule()
    def sync(self) -> None:
        """A cycle without faults, and what a preview foretold of the list after it."""
        found = self.preview() if self.foretells else None
        self.host.cycle(self.plugin, self.source, interval=self.source["sync_interval"] + 300)
        self.settled = True
        assert found is None or listed(found) == served(self.host.find())

    def preview(self) -> Preview:
        """Preview the next cycle, and see that it leaves ledger and rows as they are."""
        rows = self.host.rows()
        found = preview({"db_path": str(self.host.database), "data_sources": [self.source]}, reveal=True)
        assert self.host.rows() == rows
        return found

    @rule()
    def sync_with_a_failing_commit(self) -> None:
        """A cycle whose rows are rolled back."""
        self.host.fail_commits = 1
        self.host.cycle(self.plugin, self.source)
        self.host.fail_commits = 0
        self.settled = False

    @rule()
    def sync_with_a_failing_server(self) -> None:
        """A cycle in which Calpendo answers with a login page."""
        self.sim.faults.add("login_page", times=1)
        with pytest.raises(Exception):  # noqa: B017, PT011 - the kind is proved elsewhere
            self.host.cycle(self.plugin, self.source)
        self.sim.faults.clear()

    @rule(look=st.booleans())
    def kill(self, look: bool) -> None:
        """The process dies after a cycle's commit, before or after its look at the database."""
        if not look:
            self.plugin.cleanup = lambda: None
        self.host.cycle(self.plugin, self.source)
        self.settled = True
        self.plugin._prepared.clear()
        self.plugin.close()
        self.start_plugin()

    @invariant()
    def the_list_is_right(self) -> None:
        """After a whole cycle the console shows what Calpendo holds; no row is double; no study UID changes."""
        rows = self.host.rows()
        numbers = [row["source_record_id"] for row in rows]
        assert len(set(numbers)) == len(numbers)
        uids = {row["source_record_id"]: row["study_instance_uid"] for row in rows}
        assert self.uids | uids == uids | self.uids
        self.uids |= uids
        if self.settled:
            shown = {
                int(line.patient_id[3:]): (line.status, line.date + line.time) for line in self.host.find()
            }
            expected = {
                number: (truth.shown, f"{truth.start:%Y%m%d%H%M}00")
                for number, truth in self.truth.items()
                if truth.shown
            }
            assert shown == expected

    def teardown(self) -> None:
        """Close everything."""
        if self.plugin is not None:
            self.plugin.close()
        self.host.close()
        self.sim.close()
        self.environment.undo()
        self.folder.cleanup()


class AnyDayForetold(AnyDay):
    """The same, each good cycle foretold."""

    foretells = True


def run(examples: int, steps: int, machine: type[AnyDay] = AnyDay) -> None:
    """Run the machine."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_some_days() -> None:
    """A few random days, for every run of the tests."""
    run(examples=5, steps=15)


@pytest.mark.slow
def test_many_days() -> None:
    """Many long days: no row lost, doubled or resurrected, and each list as a preview foretold it."""
    run(examples=60, steps=40, machine=AnyDayForetold)
