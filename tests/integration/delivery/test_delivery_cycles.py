"""Cycles against a real server that changes in between: what is sent, what is withdrawn, what is owed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from pipeline import matching
from pipeline.delivery.ledger import Ledger
from pipeline.errors import PluginFetchError, PluginStateError
from pipeline.report import last_runs
from tests.support.delivery_site import NOW, KilledError, Site, booking

STEPS = ("settle", "list", "lookup", "batch", "diff", "writing", "write", "returning")
OFF = "DISCONTINUED"
MakeSite = Callable[..., Site]


def test_what_changed_is_sent_and_nothing_else(site: Site) -> None:
    """Issue: new, changed with the names of the fields, unchanged; T015, T020: a second run returns nothing."""
    assert list(site.fetch()) == [1, 2, 3, 4, 5]
    assert site.fetch() == {}
    site.simulator.edit(3, title="SUB003_Otra_Berta")
    site.simulator.put(booking(9))
    assert list(site.fetch()) == [3, 9]
    report = site.plugin.last_report
    assert (report.new, report.changed, report.unchanged) == (1, 1, 4)
    assert dict(report.changed_fields) == {"notes": 1, "patient_name": 1}
    assert site.fetch() == {}


def test_a_restart_forgets_nothing(site: Site) -> None:
    """Issue: the ledger is durable: nothing is sent again after a clean restart."""
    site.fetch()
    site.close()
    assert site.fetch() == {}


def test_memory_is_allowed(make_site: MakeSite) -> None:
    """Issue: `:memory:` allowed; it lives as long as the plugin."""
    site = make_site(state_path=":memory:")
    assert len(site.fetch()) == 5
    assert site.fetch() == {}
    assert site.plugin.ledger_path() is None


def test_a_changed_mapping_sends_everything_again(site: Site) -> None:
    """Issue: the digest covers all emitted fields, so that a changed mapping re-emits."""
    site.fetch()
    site.close()
    site.config["field_mapping"] = {
        **site.config["field_mapping"],
        "study_description": "properties.project.formattedName",
    }
    assert len(site.fetch()) == 5
    assert site.plugin.last_report.changed_fields == {"study_description": 5}


def test_explicit_acknowledgement(make_site: MakeSite) -> None:
    """Issue: a host that can fail acknowledges explicitly; what it did not is emitted again."""
    site = make_site(acknowledge="explicit")
    first = site.fetch()
    assert site.plugin.last_report.pending == 5
    site.plugin.acknowledge(["1", 2])
    assert [entry["source_record_id"] for entry in site.plugin.pending()] == ["3", "4", "5"]
    again = site.fetch()
    assert again == {number: first[number] for number in (3, 4, 5)}
    assert site.plugin.last_report.resent == 3
    site.plugin.acknowledge(again)
    assert site.fetch() == {}
    assert site.plugin.resend([2]) == 1
    assert list(site.fetch()) == [2]


@pytest.mark.parametrize(
    ("step", "mode"),
    [*((step, "explicit") for step in STEPS), *((step, "on_return") for step in STEPS[-3:])],
)
def test_a_kill_at_any_step_loses_nothing(make_site: MakeSite, step: str, mode: str) -> None:
    """Issue: what was pending when a process died is emitted again, also when the window has moved on."""
    site = make_site(acknowledge=mode)
    site.fetch()
    if mode == "explicit":
        site.plugin.acknowledge(range(1, 6))
    else:
        site.close()
    site.simulator.edit(2, title="SUB002_Neu_Berta")
    site.simulator.put(booking(9, NOW + timedelta(minutes=5)))
    site.kill_at(step)
    with pytest.raises(KilledError):
        site.fetch()
    site.kill()
    recorded = step in ("write", "returning")
    site.now += timedelta(hours=12)
    site.simulator.put(booking(20, site.now + timedelta(hours=1)))
    assert set(site.fetch()) == ({2, 9, 20} if recorded else {20})
    if mode == "explicit":
        site.plugin.acknowledge([2, 9, 20])
    site.now = NOW
    if not recorded:
        assert set(site.fetch()) == {2, 9}


def test_a_plain_host_that_is_killed_after_the_return_gets_it_again(site: Site) -> None:
    """Promise: the return counts as acknowledged only when something shows that it came back."""
    site.fetch()
    site.kill()
    assert len(site.fetch()) == 5
    assert site.plugin.last_report.resent == 5
    site.close()
    assert site.fetch() == {}


def test_a_host_that_fails_gets_it_again(site: Site) -> None:
    """Promise: leaving the plugin's context by an error leaves what was returned last as pending."""

    def fail() -> None:
        with site.plugin:
            assert len(site.fetch()) == 5
            raise OSError("the host's disk is full")

    with pytest.raises(OSError, match="disk is full"):
        fail()
    assert len(site.fetch()) == 5


def test_a_deleted_booking_is_withdrawn_as_a_full_entry(site: Site) -> None:
    """Issue: 404 on the lookup: a full entry with status DISCONTINUED, once."""
    first = site.fetch()
    site.simulator.delete(3)
    site.simulator.reset_counters()
    assert site.fetch() == {3: {**first[3], "performed_procedure_step_status": OFF}}
    assert sum(request.path.endswith("/3") for request in site.simulator.requests) == 1
    assert site.plugin.last_report.withdrawn == 1
    site.simulator.reset_counters()
    assert site.fetch() == {}
    assert not any(request.path.endswith("/3") for request in site.simulator.requests), (
        "asked once, not for ever"
    )
    site.simulator.put(booking(3))
    assert site.statuses() == {3: "SCHEDULED"}, "a booking that comes back is sent again"


def test_a_booking_moved_out_of_the_window_is_sent_with_its_new_time(site: Site) -> None:
    """Issue: 200 on the lookup: transformed anew and emitted; it stands again when the window reaches it."""
    site.fetch()
    site.simulator.put(booking(2, NOW + timedelta(days=3)))
    site.simulator.put(booking(4, NOW - timedelta(hours=5), minutes=60))
    moved = site.fetch()
    assert {number: entry["scheduled_start_date"].day for number, entry in moved.items()} == {4: 10, 2: 13}
    assert {entry["performed_procedure_step_status"] for entry in moved.values()} == {"SCHEDULED"}
    assert site.fetch() == {}
    site.now += timedelta(days=2, hours=12)
    assert site.fetch() == {}
    assert site.plugin.last_report.unchanged == 1


@pytest.mark.parametrize("options", [{}, {"status_filter": "Approved"}])
def test_a_cancelled_booking_is_discontinued(make_site: MakeSite, options: dict[str, str]) -> None:
    """Issue: cancelled in Calpendo: DISCONTINUED, whether the list still brings it or not."""
    site = make_site(**options)
    site.fetch()
    site.simulator.edit(5, status="Cancelled")
    assert site.statuses() == {5: OFF}
    assert site.fetch() == {}
    site.simulator.edit(5, status="Approved")
    assert site.statuses() == {5: "SCHEDULED"}


@pytest.mark.parametrize("distance", [timedelta(0), timedelta(days=9)])
def test_a_booking_given_to_another_scanner_is_discontinued(site: Site, distance: timedelta) -> None:
    """Issue: given to another scanner: DISCONTINUED where it no longer matches the resources, wherever it lies."""
    site.fetch()
    site.simulator.put(booking(1, NOW + timedelta(hours=2) + distance, resource="Elsewhere"))
    assert site.statuses() == {1: OFF}
    assert site.fetch() == {}


def test_a_booking_that_is_no_subject_any_more_is_discontinued(make_site: MakeSite) -> None:
    """rules.md: an ignored booking is filtered, also outside the window, and withdrawn where it stood on the list."""
    site = make_site(ignore_titles=["phantom"])
    site.fetch()
    site.simulator.edit(2, title="Phantom QA")
    assert site.statuses() == {2: OFF}
    assert dict(site.plugin.last_report.filters) == {"title_ignored": 1}
    site.simulator.put({**booking(1, NOW + timedelta(days=9)), "title": "phantom again"})
    assert site.statuses() == {1: OFF}
    assert site.fetch() == {}
    site.simulator.edit(2, title="SUB002_Testa_Anna")
    assert site.statuses() == {2: "SCHEDULED"}


def test_a_booking_that_breaks_the_rules_now_is_discontinued(site: Site) -> None:
    """Decision: the row that the host shows is out of date and may name the wrong patient: it comes off the list."""
    site.fetch()
    site.simulator.edit(2, title="")
    assert site.statuses() == {2: OFF}
    assert dict(site.plugin.last_report.reasons) == {"patient_id_missing": 1}
    assert site.fetch() == {}
    site.simulator.edit(2, title="SUB002_Testa_Anna")
    assert site.statuses() == {2: "SCHEDULED"}


def test_a_running_booking_that_is_deleted_is_withdrawn(site: Site) -> None:
    """Promise: a booking that began before the window and still runs is looked after like the others."""
    site.simulator.put(booking(7, NOW - timedelta(hours=1), minutes=120))
    assert 7 in site.fetch()
    site.simulator.delete(7)
    assert site.statuses() == {7: OFF}


def test_an_unanswered_lookup_changes_nothing(site: Site) -> None:
    """Issue: any error: left as it is and tried again, also when the window has moved on."""
    site.fetch()
    site.simulator.delete(3)
    site.simulator.faults.add("status", match=r"/3$", code=503)
    assert site.fetch() == {}
    report = site.plugin.last_report
    assert (report.looked_up, report.looked_up_failed, report.owed) == (1, 1, 1)
    site.simulator.faults.clear()
    site.now += timedelta(days=3)
    assert site.statuses() == {3: OFF}
    assert site.plugin.last_report.owed == 0


def test_nothing_is_withdrawn_in_a_cycle_with_a_failed_fetch(site: Site) -> None:
    """Issue, guard: never in a cycle with a failed fetch."""
    site.fetch()
    site.simulator.delete(3)
    site.simulator.edit(4, resource="Elsewhere")
    site.simulator.faults.add("status", match=r"/5$", code=500, times=1)
    assert site.fetch() == {}
    assert "could not be fetched" in site.plugin.last_report.warnings[-1]
    assert site.statuses() == {3: OFF, 4: OFF}


@pytest.mark.parametrize("failing", [r"/5$", r"/[45]$"])
def test_a_booking_that_always_fails_delays_by_one_cycle(site: Site, failing: str) -> None:
    """Rule, withdrawals: in a cycle with failures goes what the cycle before answered alike, cycle after cycle."""
    site.fetch()
    site.simulator.faults.add("status", match=rf"/b/.*{failing}", code=500)
    for number in (1, 2, 3):
        site.simulator.delete(number)
        assert site.fetch() == {}
        assert site.plugin.last_report.held == 1
        assert site.statuses() == {number: OFF}
        assert site.plugin.last_report.held == 0


def test_the_only_booking_of_the_list_may_fail(site: Site) -> None:
    """Rule, withdrawals: as long as anything is answered for, one failing booking is not every booking."""
    site.fetch()
    for number in (1, 2, 3, 4):
        site.simulator.delete(number)
    site.simulator.faults.add("status", match=r"/5$", code=500)
    assert site.fetch() == {}
    assert site.statuses() == dict.fromkeys((1, 2, 3, 4), OFF)


def test_an_answer_that_failed_in_between_says_nothing(site: Site) -> None:
    """Rule, withdrawals: what was held and could not be asked waits on; what stands again is forgotten."""
    site.fetch()
    site.simulator.delete(1)
    site.simulator.delete(2)
    site.simulator.faults.add("status", match=r"/5$", code=500)
    assert site.fetch() == {}
    site.simulator.faults.add("status", match=r"/1$", code=500, times=1)
    site.simulator.put(booking(2))
    assert site.fetch() == {}
    assert site.plugin.last_report.held == 1
    site.simulator.delete(2)
    assert site.statuses() == {1: OFF}
    assert site.statuses() == {2: OFF}


@pytest.mark.parametrize("fails", [False, True], ids=["another fails", "its details fail"])
@pytest.mark.parametrize(
    "change", [{"resource": "Elsewhere"}, {"status": "Requested"}, {"title": "QA PHANTOM"}]
)
def test_what_the_list_shows_is_withdrawn_at_once(
    make_site: MakeSite, change: dict[str, str], fails: bool
) -> None:
    """Rule, withdrawals: another status or resource in the list, or an ignored title, needs no look-up, also where details fail."""
    site = make_site(status_filter="Approved", ignore_titles=["phantom"])
    site.fetch()
    site.simulator.edit(4, **change)
    rows = [site.simulator.get(number) for number in site.simulator.ids()]
    site.simulator.faults.add("not_biskits", match="/q/", body=json.dumps({"biskits": rows}).encode())
    site.simulator.faults.add("status", match=r"/4$" if fails else r"/5$", code=500)
    assert site.statuses() == {4: OFF}
    assert site.plugin.last_report.fetch_failed == 1
    assert site.fetch() == {}


def test_every_booking_is_delivered_within_a_few_cycles(make_site: MakeSite) -> None:
    """Rule, every booking in turn: a server too slow for the deadline delivers all in a few cycles, and it is said."""
    site = make_site(count=0, max_workers=2, batch_deadline=0.5, detail_timeout=30)
    site.fetch()
    for number in range(1, 25):
        site.simulator.put(booking(number))
    site.simulator.detail_latency = 0.05
    delivered: list[int] = []
    cycles = 0
    while len(delivered) < 24 and cycles < 12:
        cycles += 1
        with suppress(PluginFetchError):
            delivered += site.fetch().keys() - delivered
        report = site.plugin.last_report
        assert (report.not_reached > 0) == any("not reached" in text for text in report.warnings)
        if cycles == 1:
            assert report.not_reached > 2
            assert max(delivered, default=0) <= 26 - report.not_reached, "what starts soonest came first"
    assert sorted(delivered) == list(range(1, 25))
    assert cycles > 1


def test_a_look_up_has_its_turn_among_the_details(make_site: MakeSite) -> None:
    """Rule, every booking in turn: a deleted booking is withdrawn though there is never time for all."""
    site = make_site(count=12)
    site.fetch()
    site.simulator.delete(12)
    site.close()
    site.config |= {"max_workers": 1, "batch_deadline": 0.6, "detail_timeout": 30}
    site.simulator.detail_latency = 0.1
    withdrawn: dict[int, str] = {}
    for _ in range(12):
        with suppress(PluginFetchError):
            withdrawn |= site.statuses()
        report = site.plugin.last_report
        with Ledger.copy(site.config["state_path"]) as ledger:
            assert sum(owed.passed_over > 0 for owed in ledger.owed().values()) == report.not_reached
        if withdrawn:
            break
    assert withdrawn == {12: OFF}
    assert report.not_reached


def test_what_is_over_keeps_nothing_off(make_site: MakeSite) -> None:
    """Rule, every booking in turn: what starts soonest first; what is over shares each fifth turn."""
    site = make_site(count=6, max_workers=1, window_mode="today")
    for number in (21, 22):
        site.simulator.put(booking(number, NOW - timedelta(hours=number - 18)))
    site.simulator.put(booking(9, NOW - timedelta(minutes=5)))
    site.simulator.put(booking(10, NOW + timedelta(minutes=5)))
    site.fetch()
    asked = [
        int(request.path.rpartition("/")[2]) for request in site.simulator.requests if "/b/" in request.path
    ]
    assert asked == [22, 9, 10, 1, 2, 21, 3, 4, 5, 6]


@pytest.mark.parametrize("match", ["/q/", "/b/"])
def test_closing_the_plugin_ends_its_cycle(make_site: MakeSite, match: str) -> None:
    """close() from another thread: the cycle ends at once with an error, is kept in the history, and can be run again."""
    site = make_site(detail_timeout=30, list_timeout=30)
    fault = site.simulator.faults.add("delay", match=match, seconds=30)
    plugin = site.plugin
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(plugin.fetch_entries, 60)
        while not fault.hits:
            time.sleep(0.01)
        time.sleep(0.1)
        began = time.monotonic()
        plugin.close()
        with pytest.raises(PluginFetchError, match="closed"):
            running.result(5)
        assert time.monotonic() - began < 1.5
    assert plugin.last_report.outcome == "failed"
    assert not any("written down" in text for text in plugin.last_report.warnings)
    site.simulator.faults.clear()
    with Ledger.copy(site.config["state_path"]) as ledger:
        assert [run.outcome for run in last_runs(ledger, 9)] == ["failed"]
    assert len(site.fetch()) == 5


def test_many_at_once_need_a_second_cycle(make_site: MakeSite, caplog: pytest.LogCaptureFixture) -> None:
    """Issue, guard: more than the limit at once: nothing, an ERROR; the same answer in a second cycle confirms it."""
    site = make_site(count=10)
    site.fetch()
    for number in range(1, 8):
        site.simulator.delete(number)
    assert site.fetch() == {}
    assert site.plugin.last_report.held == 7
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert errors[0].startswith(
        "[calpendo:calpendo] 7 bookings would be withdrawn at once, more than the limit of 5"
    )
    assert errors[0].endswith("the same answer in the next cycle confirms it: 1, 2, 3, 4, 5, 6, 7")
    site.kill()
    site.simulator.put(booking(7))
    site.now += timedelta(days=3)
    assert site.statuses() == dict.fromkeys(range(1, 7), OFF), (
        "also after a restart, also when the window moved on"
    )
    assert site.plugin.last_report.held == 0


def test_a_recovering_server_withdraws_nothing(make_site: MakeSite) -> None:
    """Promise: when the bookings are back in the second cycle, the alarm was false and nothing has happened."""
    site = make_site(count=10)
    site.fetch()
    site.simulator.faults.add("status", match=r"/b/", code=404)
    site.simulator.faults.add("not_biskits", match=r"/q/", body=b'{"biskits": []}')
    assert site.fetch() == {}
    assert site.plugin.last_report.held == 10
    site.simulator.faults.clear()
    assert site.fetch() == {}
    assert site.plugin.last_report.held == 0


def test_what_stood_again_in_between_needs_two_cycles_anew(make_site: MakeSite) -> None:
    """Issue, guard: the same answer in a second cycle; a return in between counts, also in a cycle with a failed fetch."""
    site = make_site(count=10)
    site.fetch()
    for absent in (True, False, True):
        for number in range(1, 8):
            site.simulator.delete(number) if absent else site.simulator.put(booking(number))
        if not absent:
            site.simulator.faults.add("status", match=r"/10$", code=500, times=1)
        assert site.fetch() == {}
        assert site.plugin.last_report.held == (7 if absent else 0)
    assert site.statuses() == dict.fromkeys(range(1, 8), OFF)


def test_failed_details_stay_owed(site: Site) -> None:
    """Issue: fetched again in later cycles, also when the window has moved on, until they answer or 404."""
    site.simulator.faults.add("status", match=r"/(2|4)$", code=500)
    assert set(site.fetch()) == {1, 3, 5}
    report = site.plugin.last_report
    assert (report.listed, report.emitted, report.fetch_failed, report.owed) == (5, 3, 2, 2)
    site.kill()
    site.now += timedelta(days=4)
    assert site.fetch() == {
        1: site.plugin.pending()[0],
        3: site.plugin.pending()[1],
        5: site.plugin.pending()[2],
    }
    assert site.plugin.last_report.owed == 2
    site.simulator.faults.clear()
    site.simulator.delete(4)
    assert set(site.fetch()) == {2}
    assert site.plugin.last_report.owed == 0
    assert site.fetch() == {}


def test_when_every_detail_fails_all_are_owed(site: Site) -> None:
    """Design, decision 7: every detail failing raises; the bookings are not forgotten for that."""
    site.simulator.faults.add("status", match=r"/b/", code=500)
    with pytest.raises(PluginFetchError, match="not one of 5 bookings"):
        site.fetch()
    assert site.plugin.last_report.outcome == "failed"
    site.simulator.faults.clear()
    site.now += timedelta(days=4)
    assert set(site.fetch()) == {1, 2, 3, 4, 5}


def test_a_failed_cycle_withdraws_nothing_and_is_kept_in_the_history(site: Site) -> None:
    """Promise: an unreachable server is an error and a line in the history, never an empty day."""
    site.fetch()
    site.simulator.faults.add("html", match=r"/q/")
    with pytest.raises(PluginFetchError):
        site.fetch()
    site.simulator.faults.clear()
    assert site.fetch() == {}
    assert site.plugin.last_report.unchanged == 5


def test_a_ledger_that_breaks_under_a_cycle_is_opened_anew(site: Site) -> None:
    """Promise: trouble with the file ends one cycle, not the service; nothing is lost with it."""
    site.fetch()
    assert site.plugin._ledger is not None
    site.plugin._ledger.connection.close()
    with pytest.raises(PluginStateError, match="cannot be used"):
        site.fetch()
    assert site.plugin.last_report.outcome == "failed"
    assert set(site.fetch()) == {1, 2, 3, 4, 5}, "the last acknowledgement was not written: they come again"
    assert site.fetch() == {}


def test_a_damaged_ledger_is_reported(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Issue: a corrupt file is set aside and reported: an ERROR, and a warning in the report of the next run."""
    site.fetch()
    site.close()
    Path(site.config["state_path"]).write_bytes(b"no database" * 1000)
    assert len(site.fetch()) == 5
    assert "set aside" in site.plugin.last_report.warnings[0]
    assert any("set aside" in record.getMessage() for record in caplog.records if record.levelname == "ERROR")
    site.fetch()
    assert site.plugin.last_report.warnings == ()


def test_a_hidden_record_does_not_stop_the_others(site: Site) -> None:
    """Promise: a lookup that is refused (403) keeps withdrawals back, and nothing else."""
    site.fetch()
    site.simulator.put(booking(1, NOW + timedelta(days=3)))
    site.simulator.put(booking(9))
    site.simulator.faults.add("status", match=r"/1$", code=403)
    assert set(site.fetch()) == {9}
    assert site.plugin.last_report.looked_up_failed == 1
    site.simulator.faults.clear()
    assert set(site.fetch()) == {1}


def test_a_short_retention_never_forgets_the_window(make_site: MakeSite) -> None:
    """Promise: what the window still brings is not forgotten, however short the retention."""
    site = make_site(retention_days=0.001, window_mode="today")
    site.simulator.put(booking(7, NOW - timedelta(hours=3)))
    assert len(site.fetch()) == 6
    assert site.fetch() == {}
    site.now += timedelta(days=4)
    site.fetch()
    assert site.plugin.last_entries(NOW - timedelta(days=9), NOW + timedelta(days=9)) == []


def test_the_whole_list(make_site: MakeSite) -> None:
    """Promise: the whole list holds what stands in the window, runs into it, was withdrawn, or waits, and nothing twice."""
    site = make_site(include_running=True, max_booking_hours=3)
    assert site.plugin.whole_list() == []
    site.simulator.put(booking(8, site.now - timedelta(hours=2), minutes=150))
    site.simulator.put(booking(9, site.now - timedelta(hours=2), minutes=30))
    site.fetch()

    def listed() -> dict[int, str]:
        entries = site.plugin.whole_list()
        return {int(entry["source_record_id"]): entry["performed_procedure_step_status"] for entry in entries}

    everything = dict.fromkeys((8, 1, 2, 3, 4, 5), "SCHEDULED")
    assert listed() == everything
    assert list(listed()) == list(everything), "in the order of their starts"
    site.simulator.delete(1)
    site.simulator.put(booking(2, site.now + timedelta(days=9)))
    site.fetch()
    assert listed() == everything | {1: OFF}, "what moved away is told of once"
    site.fetch()
    assert listed() == {number: status for number, status in (everything | {1: OFF}).items() if number != 2}


def test_the_last_entries_of_a_span(site: Site) -> None:
    """Interface for hosts: the last entries in a window, in the order of their starts, as full dicts."""
    first = site.fetch()
    found = site.plugin.last_entries(NOW + timedelta(hours=1, minutes=2), NOW + timedelta(hours=1, minutes=5))
    assert found == [first[number] for number in (2, 3, 4)]


def test_a_pattern_without_end_costs_its_value_only(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Issue: the list goes out complete but for that one name; report and log say for which booking, and no title."""
    monkeypatch.setattr(matching, "ROUNDS", (0.005, 0.02))
    pattern = {"pattern": r"(?i)^[A-Z0-9]+_((?:\w+\s?)*)$", "group": 1}
    site = make_site(3)
    site.config["field_mapping"]["patient_name"] = {"source_field": "title", "_extract": pattern}
    site.simulator.put(booking(9, title="SUB009_Maximiliana Wilhelmina Musterfrau-Sondhe!"))
    entries = site.fetch()
    assert set(entries) == {1, 2, 3, 9}
    assert [number for number, entry in entries.items() if entry["patient_name"] is None] == [9]
    report = site.plugin.last_report
    assert "pattern for patient_name stopped: bookings 9" in report.to_text()
    assert "patient_name: the pattern took too long and was stopped for bookings 9" in caplog.text
    assert "Musterfrau" not in caplog.text + report.to_text()
    assert site.fetch() == {}, "what was left out is no change in the next cycle"


def test_a_clock_that_jumps_forgets_nothing(site: Site) -> None:
    """Promise: a year ahead for a cycle and back again: a booking deleted meanwhile still leaves the list."""
    assert len(site.fetch()) == 5
    site.now += timedelta(days=365)
    site.fetch()
    site.simulator.delete(3)
    site.now -= timedelta(days=365) - timedelta(minutes=1)
    assert site.statuses() == {3: "DISCONTINUED"}
    site.now += timedelta(minutes=1)
    assert site.fetch() == {}


def test_retention_goes_on_when_the_clock_does(make_site: MakeSite) -> None:
    """Promise: neither the cycle after a jump nor the next one forgets; the one after them does, and after a short pause at once."""
    site = make_site(retention_days=10)
    ledger_ids = lambda: site.plugin._ready()[1].window_ids(NOW, NOW + timedelta(days=1))  # noqa: E731
    site.fetch()
    for number in range(1, 6):
        site.simulator.delete(number)
    for forgotten in (False, False, True):
        site.now += timedelta(days=31) if site.now == NOW else timedelta(minutes=1)
        site.fetch()
        assert (ledger_ids() == []) is forgotten
    site.simulator.put(booking(7, site.now + timedelta(hours=1)))
    start = site.now
    site.fetch()
    site.now += timedelta(minutes=1)
    site.fetch()
    site.now += timedelta(days=29)
    site.fetch()
    assert site.plugin._ready()[1].window_ids(start, start + timedelta(days=1)) == []
