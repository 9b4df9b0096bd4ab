"""Whole plugin runs over real sockets against every fault there is: nothing lost, nothing withdrawn that stands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import PluginError, PluginFetchError, PluginStateError
from tests.support import hostile_day
from tests.support.calpendo_site import FIRST, scan
from tests.support.hostile_day import KINDS, LYING, MODES, NOW, TARGETS, HostileDay, edits, plugin_for


def suffer(day: HostileDay, kind: str, target: str, step: int) -> None:
    """Let people edit, let one thing fail for one cycle, and let it end."""
    name, details = KINDS[kind]
    for edit in edits(step):
        edit(day.simulator)
    day.lied |= kind in LYING
    fault = day.simulator.faults.add(name, match=TARGETS[target], **details)
    report = day.cycle()
    if fault.hits and kind not in LYING and target != "operators":
        troubled = report.fetch_failed + report.looked_up_failed
        assert report.outcome == "failed" or troubled or report.warnings, "no fault goes by unseen"
    day.calm_down()


@pytest.mark.parametrize("kind", KINDS)
def test_any_fault_anywhere(kind: str) -> None:
    """Issue: each fault, here or there, in this mode or that; afterwards all is as it should be. The slow test has all."""
    place = list(KINDS).index(kind)
    with HostileDay(MODES[place % len(MODES)]) as day:
        suffer(day, kind, list(TARGETS)[place % len(TARGETS)], 1 + place % 2)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_any_fault_anywhere_in_every_mode(kind: str, mode: str, tmp_path: Path) -> None:
    """Issue: each fault on the list, on one detail, on all, on operators, on look-ups, in each of the three fetch modes."""
    with HostileDay(mode, state_path=str(tmp_path / "ledger.sqlite"), max_retries=1) as day:
        for step, target in enumerate(TARGETS, start=1):
            suffer(day, kind, target, step)


TROUBLE = st.tuples(
    st.sampled_from([kind for kind in KINDS if kind not in ("drips", "silence", "a bomb")]),
    st.sampled_from(list(TARGETS)),
    st.sampled_from([None, 1, 3]),
    st.sampled_from([1.0, 0.5]),
)
STEPS = st.lists(
    st.tuples(st.lists(TROUBLE, max_size=3), st.sets(st.integers(0, 6), max_size=4), st.booleans()),
    max_size=6,
)


def live(mode: str, steps: list[tuple[list[Any], set[int], bool]]) -> None:
    """Play a random day, then let it calm down."""
    with HostileDay(mode) as day:
        for step, (troubles, edited, calm) in enumerate(steps, start=1):
            for place in edited:
                edits(step)[place](day.simulator)
            for kind, target, times, probability in troubles:
                name, details = KINDS[kind]
                day.lied |= kind in LYING
                day.simulator.faults.add(
                    name, match=TARGETS[target], times=times, probability=probability, **details
                )
            day.cycle()
            if calm:
                day.simulator.faults.clear()
        day.calm_down()


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(mode=st.sampled_from(MODES), steps=STEPS)
def test_a_random_day(mode: str, steps: list[tuple[list[Any], set[int], bool]]) -> None:
    """Issue: any order of edits and faults: conservation, no false withdrawal, and the truth at the end."""
    live(mode, steps)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(mode=st.sampled_from(MODES), steps=STEPS)
def test_many_random_days(mode: str, steps: list[tuple[list[Any], set[int], bool]]) -> None:
    """Issue: the same, many times."""
    live(mode, steps)


@pytest.mark.parametrize("code", [404, 410])
def test_a_listed_booking_is_not_withdrawn_because_its_details_are_not_found(code: int) -> None:
    """Issue: none is withdrawn that the server still lists, also where it denies the details for a while."""
    with HostileDay("details") as day:
        day.simulator.faults.add("status", match=r"/b/.*/3$", code=code)
        report = day.cycle()
        assert (report.gone, report.withdrawn, report.returned) == (1, 0, 0)
        day.simulator.delete(3)
        report = day.cycle()
        assert (report.looked_up_gone, report.withdrawn) == (1, 1)
        day.calm_down()


@pytest.mark.parametrize("mode", MODES)
def test_what_could_not_be_read_once_is_read_again(mode: str) -> None:
    """Issue: also where only changes are fetched, an unreadable answer is not kept in the place of the booking."""
    with HostileDay(mode) as day:
        day.simulator.edit(3, title="SUB003_Neu_Ada")
        unreadable = b'{"id": 3, "title": "SUB003_\xff\xfe"}'
        day.simulator.faults.add("bad_json", match=r"/b/.*/3$", body=unreadable)
        day.lied = True
        day.cycle()
        day.calm_down()
        assert day.host[3]["patient_name"] == "Neu_Ada"


ODD_ROWS: list[Any] = [
    {"id": "x", "n": 10**30},
    {"id": "x", "title": "half \ud800 a character"},
    {"id": None, "deep": json.loads("[" * 400 + "]" * 400)},
    {"id": float("nan")},
    {"id": -1},
    {"id": 2**53},
    {"id": True},
    {"id": 1.0},
    {},
    [],
    None,
    "text",
    7,
]


def test_rows_that_are_no_bookings_cost_nobody_else() -> None:
    """Promise: a list row that is none is rejected and kept; the bookings beside it are delivered."""
    with HostileDay("details") as day:
        rows = json.dumps({"biskits": [*ODD_ROWS, {"id": 1}, {"id": 2}, {"id": 1}]}).encode()
        day.simulator.edit(2, title="SUB002_Neu_Ada")
        day.simulator.faults.add("not_biskits", match=TARGETS["the list"], body=rows)
        report = day.cycle()
        assert (report.listed, report.emitted, report.rejected) == (len(ODD_ROWS) + 2, 1, len(ODD_ROWS))
        day.calm_down()


@pytest.fixture
def server() -> Iterator[HostileDay]:
    """A server with eight scans, slow enough for two cycles to meet."""
    with HostileDay("details") as day:
        day.simulator.detail_latency = 0.05
        yield day


def at_once(
    calls: list[Callable[[], list[dict[str, Any]]]],
) -> tuple[list[list[dict[str, Any]]], list[PluginError]]:
    """Run all calls at one time; give what they returned and what they raised."""
    gate = threading.Barrier(len(calls))
    returned: list[list[dict[str, Any]]] = []
    raised: list[PluginError] = []

    def run(call: Callable[[], list[dict[str, Any]]]) -> None:
        gate.wait()
        try:
            returned.append(call())
        except PluginError as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return returned, raised


@pytest.mark.parametrize("shared", [True, False], ids=["one object", "an object each"])
@pytest.mark.parametrize("patience", [0.0, 30.0])
def test_cycles_of_one_process_exclude_each_other(
    server: HostileDay, tmp_path: Path, patience: float, shared: bool
) -> None:
    """Issue: two at one ledger: the second gets a clear error at once, or waits; nobody gets an entry twice."""
    # A busy machine may take its time: an operator that comes too late would be a change, and sent.
    times = {"list_timeout": 10.0, "detail_timeout": 10.0, "body_deadline": 15.0}
    options = {"state_path": str(tmp_path / "ledger.sqlite"), "lock_timeout": patience, **times}
    plugins = [plugin_for(server.simulator.url, **options) for _ in range(1 if shared else 4)]
    four = plugins * (4 if shared else 1)
    returned, raised = at_once([partial(plugin.fetch_entries, 60) for plugin in four])
    assert len(returned) + len(raised) == 4
    assert sorted(entry["source_record_id"] for entries in returned for entry in entries) == list("12345678")
    if patience:
        assert not raised
    assert all(isinstance(error, PluginStateError) for error in raised)
    assert all("another cycle of this source is running" in str(error) for error in raised)
    for plugin in plugins:
        assert plugin.fetch_entries(60) == []
        plugin.close()


def test_two_cycles_of_a_plugin_without_a_file(server: HostileDay) -> None:
    """Promise: two threads at one plugin share its one ledger, also where that lies in memory."""
    with plugin_for(server.simulator.url, lock_timeout=30) as plugin:
        returned, raised = at_once([partial(plugin.fetch_entries, 60)] * 3)
    assert not raised
    assert sorted(map(len, returned)) == [0, 0, 8]


def test_a_plan_that_fails_leaves_the_last_report(server: HostileDay) -> None:
    """Promise: a plan is no run, also where it fails."""
    before = server.plugin.last_report
    server.simulator.faults.add("html", match="/q/")
    with pytest.raises(PluginFetchError):
        server.plugin.plan(60)
    assert server.plugin.last_report is before
    server.calm_down()


HOLDER = """
import json, sys
from datetime import datetime
from pipeline import CalendoPlugin

plugin = CalendoPlugin("site", json.loads(sys.argv[1]), clock=lambda: datetime.fromisoformat(sys.argv[2]))
print(len(plugin.fetch_entries(60)), flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def holder(server: HostileDay, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has run a cycle and keeps the ledger."""
    # The child loads its libraries while the first answers come.
    path = str(tmp_path / "ledger.sqlite")
    config = hostile_day.settings(server.simulator.url, state_path=path, **hostile_day.PATIENT)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, json.dumps(config), NOW.isoformat()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "CALPENDO_USERNAME": "demo", "CALPENDO_PASSWORD": "demo"},
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "8\n"
        yield process
        process.kill()


def test_another_process_is_named_and_waited_for(
    server: HostileDay, holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    """Issue: the second process gets a clear error at once, or after a bounded wait, or the ledger when it is free."""
    path = str(tmp_path / "ledger.sqlite")
    for patience, words in ((0.0, "own 'state_path'"), (0.6, "after waiting 0.6 s")):
        began = time.monotonic()
        with pytest.raises(PluginStateError, match=rf"in use by process {holder.pid} on \S+ since") as caught:
            plugin_for(server.simulator.url, state_path=path, lock_timeout=patience).fetch_entries(60)
        assert patience <= time.monotonic() - began < patience + 5
        assert words in str(caught.value)
    second = plugin_for(server.simulator.url, state_path=path, lock_timeout=60)
    assert holder.stdin is not None
    waited: list[list[dict[str, Any]]] = []
    waiting = threading.Thread(target=lambda: waited.append(second.fetch_entries(60)))
    waiting.start()
    with plugin_for(server.simulator.url, state_path=str(tmp_path / "other.sqlite")) as other:
        assert len(other.fetch_entries(60)) == 8, "another source does not wait with it"
    assert waiting.is_alive()
    holder.stdin.close()
    waiting.join()
    assert waited == [[]]
    assert second.last_report.unchanged == 8, "nothing is sent twice"
    second.close()


def test_a_scan_that_everybody_moves_at_once_keeps_one_place() -> None:
    """Promise: edits under a running cycle end in the truth one cycle later, in whatever mode."""
    for mode in MODES:
        with HostileDay(mode) as day:
            day.simulator.detail_latency = 0.02
            stop = threading.Event()

            def shuffle(day: HostileDay = day, stop: threading.Event = stop) -> None:
                step = 0
                while not stop.wait(0.01):
                    step += 1
                    day.simulator.put(scan(1 + step % 8, FIRST.replace(minute=step % 60)))

            people = threading.Thread(target=shuffle)
            people.start()
            for _ in range(3):
                day.cycle()
            stop.set()
            people.join()
            day.calm_down()
