"""A state machine over simulator, pipeline and host: edits, deletions, moves, faults, kills, rolled-back commits.

It holds, whatever happens in whatever order: no booking is lost, none is withdrawn that the server still lists as wanted,
nothing is sent again without need, a plan changes nothing and foretells the cycle, and the host equals the server once the
faults stop.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pipeline.delivery.cycle import Plan
from pipeline.delivery.ledger import Ledger
from pipeline.errors import PluginFetchError
from pipeline.simulator import CalpendoSimulator
from pipeline.verify.preview import by_caller, previewed
from tests.support.delivery_site import OFFSET, RESOURCE, KilledError, Site, booking
from tests.support.host_double import OFF, STATUS, Host, Oracle

NUMBERS = st.integers(1, 9)
# Minutes from now: in the window, long past, running, at both ends of the window, and far beyond it.
STARTS = st.sampled_from([5, 30, 31, 90, 600, 1200, -800, -90, -20, -2, 0, 1439, 1440, 1441, 4000])
LENGTHS = st.sampled_from([15, 45, 200])
EDITS = st.sampled_from(
    [
        {"title": "SUB001_Neu_Ada"},
        {"title": "SUB002_Neu_Bea"},
        {"title": ""},
        {"status": "Approved"},
        {"status": "Cancelled"},
        {"status": "Completed"},
        {"resource": RESOURCE},
        {"resource": "Elsewhere"},
    ]
)
BOOKED = st.tuples(st.just("book"), NUMBERS, st.tuples(STARTS, LENGTHS))
EDITED = st.tuples(st.just("edit"), NUMBERS, EDITS)
DELETED = st.tuples(st.just("delete"), NUMBERS, st.none())
EVENTS = st.lists(BOOKED | EDITED | DELETED, min_size=1, max_size=6)
STEPS = ("settle", "list", "lookup", "batch", "diff", "writing", "write", "returning")
EMPTY = {"kind": "not_biskits", "match": "/q/", "body": b'{"biskits": []}'}
FAULTS = st.sampled_from(
    [
        {"kind": "status", "match": "/q/", "code": 503},
        {"kind": "html", "match": "/q/"},
        EMPTY,
        {"kind": "status", "match": "/b/", "code": 500},
        {"kind": "status", "match": r"/b/.*[13579]$", "code": 503},
        {"kind": "truncate", "match": r"/b/.*[2468]$"},
        {"kind": "reset", "match": r"/b/.*[369]$"},
        {"kind": "status", "match": r"/b/.*[48]$", "code": 500, "times": 1},
        {"kind": "status", "match": r"/b/.*7$", "code": 403},
        {"kind": "empty", "match": r"/b/.*[3456]$"},
    ]
)


class Delivery(RuleBasedStateMachine):
    """One site, one pipeline, one host."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.simulator = CalpendoSimulator([])
        self.host = Host()
        self.promised: set[int] = set()
        self.faulty = False

    def teardown(self) -> None:
        """Let things calm down and see that the host equals the server."""
        try:
            if hasattr(self, "site"):
                self.calm_down()
                self.site.close()
        finally:
            self.simulator.close()
            self.directory.cleanup()

    @initialize(
        acknowledge=st.sampled_from(["on_return", "explicit"]),
        fetch_mode=st.sampled_from(["details", "details", "bulk", "changed"]),
        status_filter=st.sampled_from([None, "Approved"]),
        max_withdrawn=st.sampled_from([None, 0, 2]),
        include_running=st.booleans(),
    )
    def begin(self, **options: Any) -> None:
        """Set up the site with one configuration."""
        state = Path(self.directory.name) / "ledger.sqlite"
        # Faults are what the rules say; a machine under load is none of them.
        self.site = Site(self.simulator, state, full_refresh=3, detail_timeout=60, **options)
        self.explicit = options["acknowledge"] == "explicit"
        for number in range(1, 8):
            self.book(number, (60 + 10 * number, 45))
        self.cycle()

    @rule(events=EVENTS)
    def happen_too(self, events: list[tuple[str, int, Any]]) -> None:
        """Let people work in Calpendo: chosen as often as two other rules."""
        self.happen(events)

    @rule(events=EVENTS)
    def happen(self, events: list[tuple[str, int, Any]]) -> None:
        """Let people work in Calpendo."""
        for kind, number, details in events:
            with suppress(KeyError):
                getattr(self, kind)(number, details)

    def book(self, number: int, span: tuple[int, int]) -> None:
        """Book, or move what is booked under the number; minutes from now, and how many."""
        start = self.site.now + timedelta(minutes=span[0])
        if number in self.simulator.ids():
            begin = (start - OFFSET).replace(tzinfo=None)
            self.simulator.edit(number, start=begin, finish=begin + timedelta(minutes=span[1]))
        else:
            self.simulator.put(booking(number, start, span[1]))

    def edit(self, number: int, changes: dict[str, Any]) -> None:
        """Rename a booking, also so that it breaks the rules; decide on it; give it to another scanner, or back."""
        self.simulator.edit(number, **changes)

    def delete(self, number: int, _: None) -> None:
        """Delete a booking."""
        self.simulator.delete(number)

    @rule(fault=FAULTS)
    def break_something(self, fault: dict[str, Any]) -> None:
        """Begin a fault."""
        self.simulator.faults.add(**fault)
        self.faulty = True

    @precondition(lambda self: self.faulty)
    @rule()
    def mend(self) -> None:
        """End all faults."""
        self.simulator.faults.clear()
        self.faulty = False

    @rule(minutes=st.sampled_from([1, 10, 150, 150, 700]))
    def wait(self, minutes: int) -> None:
        """Let time pass."""
        self.site.now += timedelta(minutes=minutes)

    def restart(self) -> None:
        """End the process in order and start it again: what was returned counts as delivered."""
        self.site.close()
        if not self.explicit:
            self.host.confirm()

    def cycle(self) -> None:
        """Run a cycle whose entries the host commits."""
        if self.fetch():
            self.host.commit()
            if self.explicit:
                self.site.plugin.acknowledge(self.host.returned)
                self.host.confirm()

    @rule(
        then=st.sampled_from(
            ["go on", "go on", "restart", "kill before commit", "kill after commit", "roll back"]
        )
    )
    def cycle_and_then(self, then: str) -> None:
        """Run a cycle, with what may become of the host and the process after its return."""
        if then in ("go on", "restart"):
            self.cycle()
            if then == "restart":
                self.restart()
        elif then == "roll back":
            self.roll_back()
        else:
            if self.fetch() and then == "kill after commit":
                self.host.commit()
            self.kill()

    @rule(step=st.sampled_from(STEPS))
    def cycle_that_is_killed(self, step: str) -> None:
        """Kill the process at the end of one step of a cycle."""
        self.site.kill_at(step)
        with suppress(KilledError):
            self.fetch()
        self.kill()

    def roll_back(self) -> None:
        """Let the host's commit fail; the host says so."""
        if self.fetch():
            if not self.explicit:
                self.site.plugin.close(acknowledge=False)
                self.site.close()
            self.host.forget()

    @rule()
    def plan(self) -> None:
        """A plan changes nothing and foretells the next cycle."""
        ledger = Path(self.site.config["state_path"])
        before = self.contents(ledger)
        try:
            plan = self.site.plugin.plan(60)
        except PluginFetchError:
            assert self.faulty
            return
        assert self.contents(ledger) == before
        self.look(plan)
        if not self.faulty and self.fetch():
            assert list(self.host.returned.values()) == plan.entries
            self.host.commit()
            if self.explicit:
                self.site.plugin.acknowledge(self.host.returned)
                self.host.confirm()

    def look(self, plan: Plan) -> None:
        """See that a preview of the plan leaves no listed booking out, and shows what would be delivered."""
        config = self.site.plugin.settings
        frame = previewed(plan, config, "caller", by_caller(plan), self.site.now, reveal=True).frame
        rows = {row["booking_id"]: row for row in frame.iter_rows(named=True)}
        assert len(rows) == len(frame), "one row per booking"
        delivery = plan.delivery
        listed = delivery.answers.listed
        elsewhere = delivery.checked.listed.filtered.filter(reason="window")["booking_id"].to_list()
        assert set(listed.listed) - set(listed.cut) - set(elsewhere) <= rows.keys()
        for entry in plan.entries:
            row = rows[int(entry["source_record_id"])]
            assert (row["status"], row["day"], row["time"]) == (
                entry[STATUS],
                entry["scheduled_start_date"],
                entry["scheduled_start_time"],
            )
        changing = {number for number, kind in delivery.kinds.items() if kind != "resent"}
        shown = {number for number, row in rows.items() if row["change"] in ("new", "changed", "withdrawn")}
        assert changing - {number for number, kind in delivery.kinds.items() if kind == "unchanged"} == shown

    @staticmethod
    def contents(path: Path) -> list[str]:
        """Give everything a ledger holds."""
        if not path.exists():
            return []
        with Ledger.copy(path) as ledger:
            return [row for row in ledger.connection.iterdump() if "holder" not in row]

    def kill(self) -> None:
        """Kill the process; what it had recorded as pending may or may not have left it."""
        self.site.kill()
        self.host.forget()
        self.site.on_step = lambda _step: None
        path = Path(self.site.config["state_path"])
        if path.exists():
            with Ledger.copy(path) as ledger:
                self.host.doubtful |= set(ledger.pending_ids())

    def said_before(self) -> set[int]:
        """Name the bookings that an earlier cycle found gone: held back, or withdrawn and not confirmed."""
        path = Path(self.site.config["state_path"])
        if not path.exists():
            return set()
        ledger = Ledger.copy(path)
        try:
            pending = ledger.last_lines(ledger.pending_ids())
            return ledger.held() | {number for number, line in pending.items() if line.status == OFF}
        finally:
            ledger.release()

    def fetch(self) -> bool:
        """Run a cycle, check everything that it returns, and hand it to the host."""
        oracle = Oracle(self.site)
        before = self.said_before()
        if not self.explicit:
            # A new call shows that the last one came back.
            self.host.confirm()
        try:
            entries = self.site.fetch()
        except PluginFetchError as error:
            assert self.faulty
            self.promised |= set(getattr(error, "failed", ())) & set(oracle.wanted)
            return False
        if not any(fault.match.pattern == "/q/" for fault in self.simulator.faults._faults):
            self.promised |= set(oracle.wanted)
        for number, entry in entries.items():
            if entry[STATUS] == OFF:
                standing = oracle.standing.get(number)
                assert standing is None or standing[STATUS] == OFF, (
                    f"booking {number} was withdrawn but stands"
                )
        report = self.site.plugin.last_report
        if report.fetch_failed + report.looked_up_failed:
            # Rule, withdrawals: what an earlier cycle said too, or withdrew, or what the list itself tells.
            listed = set(self.simulator.ids())
            withdrawn = {
                number
                for number, entry in entries.items()
                if entry[STATUS] == OFF and number not in oracle.standing
            }
            assert withdrawn <= before | listed, "withdrawn in doubt"
        self.host.receive(entries)
        return True

    def calm_down(self) -> None:
        """End the faults and run a few good cycles: the guard may want a second one."""
        self.mend()
        for _ in range(4):
            self.cycle()
            report = self.site.plugin.last_report
            if not report.returned + report.owed + report.held:
                break
        self.host.check(Oracle(self.site), self.promised)
        assert (report.pending, report.owed, report.held) == (0, 0, 0)


def run(examples: int, steps: int, *, derandomize: bool, **options: Any) -> Callable[[], None]:
    """Run the machine."""
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=derandomize,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
        **options,
    )
    return lambda: run_state_machine_as_test(Delivery, settings=chosen)  # type: ignore[no-untyped-call]


def test_nothing_is_lost_in_a_few_histories() -> None:
    """Issue, done when: the state machine holds; a small run of it, the same one every time."""
    run(2, 16, derandomize=True)()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_nothing_is_lost_in_many_histories() -> None:
    """Issue, done when: the state machine holds, over many long histories; CI plays the same ones every time."""
    run(100, 40, derandomize="CI" in os.environ)()
