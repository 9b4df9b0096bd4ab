"""What Calpendo may do wrong, over real sockets, and what each does to a batch (issue: client; T007-T010)."""

from __future__ import annotations

import json
import logging
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pipeline.calpendo.fetch import NOT_REACHED, LookUp, fetch_cycle, fetch_window
from pipeline.calpendo.responses import NothingFetchedError
from pipeline.errors import PluginFetchError
from pipeline.simulator import CalpendoSimulator
from tests.support.calpendo_site import client_of, fetch, paths, scan, settings, window_of

LIST, DETAIL, OPERATORS = r"/q/Calpendo\.Booking/", r"/b/Calpendo\.Booking/", "/q/MRIScan/"
ONE = r"/b/Calpendo\.Booking/3$"


@pytest.fixture
def simulator() -> Iterator[CalpendoSimulator]:
    """Serve six MRI scans."""
    with CalpendoSimulator([scan(number) for number in range(1, 7)]) as server:
        yield server
        assert not server.errors


def test_a_healthy_window(simulator: CalpendoSimulator) -> None:
    """T009: six scans are one list, one operator query and six details, on at most five connections."""
    fetched = fetch(simulator)
    assert fetched.listed == (1, 2, 3, 4, 5, 6)
    assert [payload["operator"] for payload in fetched.payloads] == [
        f"Testop {number}" for number in range(1, 7)
    ]
    assert len(simulator.requests) == fetched.stats.requests == 8
    assert simulator.connections <= 5
    assert simulator.peak_in_flight <= 5


def test_connections_are_kept_between_cycles(simulator: CalpendoSimulator) -> None:
    """Issue: one session a worker thread with keep-alive: the next cycle opens no connection."""
    config = settings(simulator.url)
    with client_of(config) as client:
        fetch_window(client, config, window_of(config))
        opened = simulator.connections
        for _ in range(3):
            fetch_window(client, config, window_of(config))
        assert simulator.connections <= 5
        assert simulator.connections - opened <= 5 - opened


@pytest.mark.parametrize(
    ("kind", "details"),
    [
        ("status", {"code": 429}),
        ("status", {"code": 500}),
        ("status", {"code": 502}),
        ("status", {"code": 503}),
        ("status", {"code": 504}),
        ("reset", {}),
        ("reset", {"after": 40}),
        ("truncate", {}),
        ("empty", {}),
        ("html", {}),
        ("login_page", {}),
        ("bad_json", {}),
        ("delay", {"seconds": 3.0}),
    ],
)
def test_one_bad_answer_of_a_detail_is_asked_again(
    simulator: CalpendoSimulator, kind: str, details: dict[str, Any]
) -> None:
    """Issue: a detail that fails once is retried, and its booking is there."""
    simulator.faults.add(kind, match=ONE, times=1, **details)
    fetched = fetch(simulator)
    assert len(fetched.payloads) == 6
    assert fetched.stats.retries == 1
    assert len(paths(simulator, "/b/Calpendo.Booking/3")) == 2 - (kind == "delay")


@pytest.mark.parametrize(
    ("kind", "details"),
    [
        ("status", {"code": 400}),
        ("status", {"code": 500}),
        ("status", {"code": 503}),
        ("reset", {}),
        ("truncate", {}),
        ("empty", {}),
        ("html", {}),
        ("not_biskits", {}),
        ("redirect", {}),
        ("slow_body", {"interval": 0.05}),
    ],
)
def test_a_detail_that_keeps_failing_is_reported(
    simulator: CalpendoSimulator, kind: str, details: dict[str, Any]
) -> None:
    """Decision 7: one failed detail is fetch_failed, not gone and not dropped, and the rest goes on."""
    simulator.faults.add(kind, match=ONE, **details)
    fetched = fetch(simulator, body_deadline=0.5)
    assert list(fetched.failed) == [3]
    assert [payload["id"] for payload in fetched.payloads] == [1, 2, 4, 5, 6]
    assert "Testa" not in fetched.failed[3]


@pytest.mark.parametrize("code", [401, 403])
def test_a_refused_login_ends_the_batch_at_once(simulator: CalpendoSimulator, code: int) -> None:
    """Issue: 401 or 403 on one detail raises, cancels what waits and cuts what is asked."""
    for number in range(7, 60):
        simulator.put(scan(number))
    simulator.detail_latency = 0.3
    simulator.faults.add("status", match=r"/b/Calpendo\.Booking/1$", code=code)
    began = time.monotonic()
    with pytest.raises(PluginFetchError, match="authentication failed"):
        fetch(simulator)
    assert time.monotonic() - began < 2.0
    assert len(paths(simulator, "/b/")) <= 10


@pytest.mark.parametrize("code", [401, 403])
def test_wrong_credentials_are_tried_once(simulator: CalpendoSimulator, code: int) -> None:
    """Issue: no retry on 401 and 403."""
    simulator.faults.add("status", match=LIST, code=code)
    with pytest.raises(PluginFetchError, match="authentication failed"):
        fetch(simulator, max_retries=3)
    assert len(simulator.requests) == 1


@pytest.mark.parametrize(
    ("kind", "details", "words"),
    [
        ("status", {"code": 500}, "server error"),
        ("status", {"code": 503}, "server error"),
        ("status", {"code": 429}, "too many requests"),
        ("status", {"code": 404}, "api_path"),
        ("html", {}, "HTML page"),
        ("login_page", {}, "authentication failed"),
        ("not_biskits", {}, "without a list of biskits"),
        ("empty", {}, "nothing"),
        ("bad_json", {}, "broken JSON"),
        ("truncate", {}, "no complete answer"),
        ("reset", {}, "no complete answer"),
        ("redirect", {}, "another origin"),
        ("redirect", {"location": "/login"}, "authentication failed"),
        ("slow_body", {"interval": 0.05}, "body_deadline"),
        ("delay", {"seconds": 3.0}, "no complete answer"),
    ],
)
def test_a_list_that_cannot_be_had_raises(
    simulator: CalpendoSimulator, kind: str, details: dict[str, Any], words: str
) -> None:
    """Issue: a list that is not JSON with biskits raises, never an empty day, and the text says what to look at."""
    simulator.faults.add(kind, match=LIST, **details)
    with pytest.raises(PluginFetchError, match=words) as caught:
        fetch(simulator, list_timeout=0.3, body_deadline=0.5)
    assert "Testa" not in str(caught.value)
    assert f"GET {simulator.url}/webdav/q/Calpendo.Booking/AND/" in str(caught.value)


def test_an_unreachable_server_raises(simulator: CalpendoSimulator) -> None:
    """Issue: a server that cannot be reached raises."""
    url = simulator.url
    simulator.close()
    config = settings(url)
    with client_of(config) as client, pytest.raises(PluginFetchError, match="connection refused"):
        fetch_window(client, config, window_of(config))


def test_every_detail_failing_raises(simulator: CalpendoSimulator) -> None:
    """Decision 7: every detail failing raises, and says why."""
    simulator.faults.add("html", match=DETAIL)
    with pytest.raises(
        PluginFetchError, match=r"not one of 6 bookings could be fetched. 6 times: .*HTML page"
    ):
        fetch(simulator)


def test_all_gone_is_said(simulator: CalpendoSimulator) -> None:
    """T008: details that all answer 404 are gone, with a word on the likelier cause."""
    simulator.faults.add("status", match=DETAIL, code=404)
    fetched = fetch(simulator)
    assert fetched.gone == (1, 2, 3, 4, 5, 6)
    assert any("api_path" in warning for warning in fetched.warnings)


def test_a_dripping_body_ends(simulator: CalpendoSimulator) -> None:
    """Issue: one byte every two seconds ends with the body's deadline, also over its retries."""
    simulator.faults.add("slow_body", match=LIST, interval=2.0)
    began = time.monotonic()
    with pytest.raises(PluginFetchError, match="body_deadline"):
        fetch(simulator, list_timeout=30, body_deadline=1, max_retries=1)
    assert 1.9 < time.monotonic() - began < 4.0


def test_the_batch_ends_with_its_deadline(simulator: CalpendoSimulator) -> None:
    """Issue: the batch's deadline holds over all details and all their retries; what came before is kept."""
    simulator.faults.add("delay", match=r"/b/Calpendo\.Booking/[2-6]$", seconds=30)
    began = time.monotonic()
    fetched = fetch(simulator, batch_deadline=1.5, detail_timeout=10, body_deadline=10, max_retries=5)
    assert time.monotonic() - began < 4.0
    assert [payload["id"] for payload in fetched.payloads] == [1]
    assert list(fetched.failed) == [2, 3, 4, 5, 6]
    assert all("batch_deadline" in reason for reason in fetched.failed.values())


def test_a_gzip_bomb_costs_no_memory(simulator: CalpendoSimulator) -> None:
    """Issue: the size cap counts unpacked bytes as they stream: a gigabyte of blanks is refused at the cap."""
    simulator.faults.add("gzip_bomb", match=LIST, size=1 << 30)
    tracemalloc.start()
    try:
        with pytest.raises(PluginFetchError, match="larger than max_body_bytes"):
            fetch(simulator, max_body_bytes=1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    assert len(simulator.requests) == 1


def test_a_large_answer_below_the_cap_is_read(simulator: CalpendoSimulator) -> None:
    """Issue: compressed answers are read; only beyond the cap they are refused."""
    simulator.faults.add("gzip_bomb", match=LIST, size=3 << 20)
    assert fetch(simulator, max_body_bytes=4 << 20).listed == ()


def test_retry_after_is_honoured(simulator: CalpendoSimulator) -> None:
    """Issue: Retry-After is waited for before the next try."""
    simulator.faults.add("status", match=LIST, times=1, code=503, retry_after=1)
    began = time.monotonic()
    assert len(fetch(simulator).payloads) == 6
    assert time.monotonic() - began >= 1.0


@pytest.mark.parametrize("header", ["86400", "Wed, 01 Jan 2200 00:00:00 GMT", "soon", "-5", "9" * 5000])
def test_retry_after_is_capped(simulator: CalpendoSimulator, header: str) -> None:
    """Issue: Retry-After waits no longer than retry_after_cap, and nonsense in it breaks nothing."""
    simulator.faults.add("status", match=LIST, times=1, code=429, retry_after=header)
    began = time.monotonic()
    assert len(fetch(simulator, retry_after_cap=0.2).payloads) == 6
    assert time.monotonic() - began < 3.0


def test_no_wait_outlasts_the_batch(simulator: CalpendoSimulator) -> None:
    """Issue: a wait that would outlast the batch's deadline is not begun."""
    simulator.faults.add("status", match=LIST, code=503, retry_after=20)
    began = time.monotonic()
    with pytest.raises(PluginFetchError, match="server error"):
        fetch(simulator, max_retries=5)
    assert time.monotonic() - began < 2.0


def test_an_operator_never_costs_a_booking(simulator: CalpendoSimulator) -> None:
    """T010: whatever happens to the operator query, the bookings come, with a warning."""
    for kind in ("reset", "html", "not_biskits", "empty"):
        simulator.faults.clear()
        simulator.faults.add(kind, match=OPERATORS)
        fetched = fetch(simulator)
        assert len(fetched.payloads) == 6
        assert fetched.warnings
        assert not any("operator" in payload for payload in fetched.payloads)


@pytest.mark.parametrize("code", [400, 404, 500, 501])
def test_a_refused_operator_query_becomes_look_ups(simulator: CalpendoSimulator, code: int) -> None:
    """T010: where the server refuses one query for all operators, each scan is looked up."""
    simulator.faults.add("status", match="/q/MRIScan/AND/", code=code)
    fetched = fetch(simulator)
    assert [payload["operator"] for payload in fetched.payloads] == [
        f"Testop {number}" for number in range(1, 7)
    ]
    assert len(paths(simulator, "/q/MRIScan/id/EQ/")) == 6
    assert len(fetched.warnings) == 1


def test_an_encoded_slash_may_be_refused(simulator: CalpendoSimulator) -> None:
    """Issue: where the server refuses %2F, the resource is asked for more widely and filtered on this side."""
    for number in (1, 2):
        simulator.edit(number, resource="3T/7T")
    simulator.faults.add("status", match="%2F", code=400)
    config = settings(simulator.url, resources=["3T/7T"])
    with client_of(config) as client:
        first = fetch_window(client, config, window_of(config))
        assert first.listed == (1, 2, 3, 4, 5, 6)
        assert [payload.get("operator") for payload in first.payloads][:2] == ["Testop 1", "Testop 2"]
        assert len(first.warnings) == 1
        simulator.reset_counters()
        again = fetch_window(client, config, window_of(config))
        assert again.listed == first.listed
        assert not again.warnings
        assert not paths(simulator, "%2F")
    simulator.faults.clear()
    assert fetch(simulator, resources=["3T/7T"]).listed == (1, 2)


def test_nothing_secret_is_said(simulator: CalpendoSimulator, caplog: pytest.LogCaptureFixture) -> None:
    """Issue: no name, title or credential in a log or an exception, not even at DEBUG."""
    simulator.faults.add("truncate", match=ONE)
    simulator.faults.add("html", match=r"/b/Calpendo\.Booking/4$")
    with caplog.at_level(logging.DEBUG):
        fetched = fetch(simulator)
    assert set(fetched.failed) == {3, 4}
    said = caplog.text + str(fetched) + repr(fetched) + " ".join(fetched.failed.values())
    for secret in ("Testa", "SUB00", "Testop", "demo:demo", "ZGVtbzpkZW1v", "Sleep"):
        assert secret not in said


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut a straggler after four tenths of a second instead of thirty seconds."""
    monkeypatch.setattr("pipeline.calpendo.client.STRAGGLER_PATIENCE", 0.4)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("stragglers", [1, 6])
def test_a_straggler_costs_itself_only(simulator: CalpendoSimulator, stragglers: int) -> None:
    """Rule, delivery: so long after the last other answer a straggler is cut; six on five threads block nobody."""
    for number in range(7, 21):
        simulator.put(scan(number))
    pattern = "|".join(str(number) for number in range(1, stragglers + 1))
    simulator.faults.add("slow_body", match=rf"/b/Calpendo\.Booking/({pattern})$", interval=0.05)
    began = time.monotonic()
    fetched = fetch(simulator, body_deadline=30, batch_deadline=30, detail_timeout=0.4, list_timeout=0.4)
    assert time.monotonic() - began < 3.0
    assert list(fetched.failed) == list(range(1, stragglers + 1))
    assert "after the last other one" in fetched.failed[1]
    assert len(fetched.payloads) == 20 - stragglers


@pytest.mark.usefixtures("impatient")
def test_operators_that_drip_cost_operators_only(simulator: CalpendoSimulator) -> None:
    """Rule, delivery: the operator query is cut like any other straggler; the bookings are there."""
    simulator.faults.add("slow_body", match=OPERATORS, interval=0.05)
    began = time.monotonic()
    fetched = fetch(simulator, body_deadline=30, batch_deadline=30, detail_timeout=0.4, list_timeout=0.4)
    assert time.monotonic() - began < 3.0
    assert len(fetched.payloads) == 6
    assert fetched.operator_unknown == {1, 2, 3, 4, 5, 6}


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_a_slow_server_is_no_straggler(simulator: CalpendoSimulator) -> None:
    """Where nothing was answered at all, patience grows with each cut: a server that is slow for all is still read."""
    for number in range(7, 21):
        simulator.put(scan(number))
    simulator.faults.add("slow_body", match=DETAIL, interval=0.0012)
    fetched = fetch(simulator, fetch_operators=False, detail_timeout=0.4, body_deadline=9, batch_deadline=20)
    assert "after the last other one" in fetched.failed[1]
    assert fetched.payloads


def test_what_there_was_no_time_for_is_not_reached(simulator: CalpendoSimulator) -> None:
    """Rule, delivery: the deadline leaves some unasked; they fail as not_reached, and are said in one line."""
    for number in range(7, 41):
        simulator.put(scan(number))
    simulator.detail_latency = 0.1
    fetched = fetch(simulator, batch_deadline=0.35, fetch_operators=False)
    unasked = [number for number, reason in fetched.failed.items() if reason == NOT_REACHED]
    asked = {int(path.rpartition("/")[2]) for path in paths(simulator, "/b/")}
    assert fetched.payloads
    assert len(unasked) >= 10
    assert len(asked & set(unasked)) <= 5, "what was asked for too late for an answer"
    latest = max(payload["id"] for payload in fetched.payloads)
    assert latest < min(unasked) + 5, "what starts soonest comes first"
    assert f"{len(unasked)} bookings were not reached" in fetched.warnings[-1]


def test_one_budget_holds_for_everything(simulator: CalpendoSimulator) -> None:
    """Rule, delivery: list, look-ups, details and operators share batch_deadline."""
    simulator.query_latency = 0.3
    simulator.faults.add("delay", match=DETAIL, seconds=10)
    simulator.faults.add("delay", match=OPERATORS, seconds=10)
    config = settings(simulator.url, batch_deadline=0.8, detail_timeout=10, list_timeout=10, body_deadline=10)
    look_up = LookUp(dict.fromkeys(range(50, 60), (None, None)))
    began = time.monotonic()
    with client_of(config) as client, pytest.raises(NothingFetchedError) as caught:
        fetch_cycle(client, config, window_of(config), follow=lambda listed, cut: look_up)
    assert time.monotonic() - began < 2.0
    assert caught.value.failed.keys() == {*range(1, 7), *range(50, 60)}


def test_a_list_that_takes_all_the_time(simulator: CalpendoSimulator) -> None:
    """A cycle in which nothing could be asked for is a failed one, and says what took the time."""
    config = settings(simulator.url, fetch_operators=False, batch_deadline=0.3)

    def linger(listed: Sequence[int], cut: Sequence[int]) -> LookUp:
        time.sleep(0.4)
        return LookUp()

    with (
        client_of(config) as client,
        pytest.raises(NothingFetchedError, match="the list took all the time") as caught,
    ):
        fetch_cycle(client, config, window_of(config), follow=linger)
    assert set(caught.value.failed.values()) == {NOT_REACHED}
    assert caught.value.ends.keys() == set(range(1, 7))


@pytest.mark.parametrize(
    ("match", "kind", "details"),
    [
        (LIST, "delay", {"seconds": 30}),
        (DETAIL, "delay", {"seconds": 30}),
        (DETAIL, "slow_body", {"interval": 0.02}),
        (DETAIL, "status", {"code": 503, "retry_after": 20}),
        (OPERATORS, "delay", {"seconds": 30}),
    ],
)
def test_closing_the_client_ends_its_fetch(
    simulator: CalpendoSimulator, match: str, kind: str, details: dict[str, Any]
) -> None:
    """close() from another thread ends a fetch at once, whatever it waits for; it does not wait for the server."""
    simulator.faults.add(kind, match=match, **details)
    config = settings(simulator.url, detail_timeout=30, list_timeout=30, body_deadline=60, batch_deadline=60)
    with client_of(config) as client, ThreadPoolExecutor(1) as thread:
        running = thread.submit(fetch_window, client, config, window_of(config))
        while len(paths(simulator, "/q/Calpendo.Booking/")) < (match != LIST) or (
            match == OPERATORS and len(paths(simulator, "/b/")) < 6
        ):
            time.sleep(0.01)
        time.sleep(0.2)
        began = time.monotonic()
        client.close()
        if match == OPERATORS:
            assert len(running.result(5).payloads) == 6, "the bookings were there already"
        else:
            with pytest.raises(PluginFetchError, match="closed"):
                running.result(5)
        assert time.monotonic() - began < 1.5
        with pytest.raises(PluginFetchError, match="closed"):
            fetch_window(client, config, window_of(config))


NAMELESS = json.dumps({"biskits": [{"Operator.name": "Testop 1"}, {"Operator.name": "Testop 2"}]}).encode()


def test_operators_without_ids_are_looked_up(simulator: CalpendoSimulator) -> None:
    """T010: rows of operators that show no booking's id are no reason to lose the operators: one look-up per scan."""
    simulator.faults.add("not_biskits", match="/q/MRIScan/AND/", body=NAMELESS)
    config = settings(simulator.url)
    with client_of(config) as client:
        first, second = (fetch_window(client, config, window_of(config)) for _ in range(2))
    for fetched in (first, second):
        assert [payload["operator"] for payload in fetched.payloads] == [
            f"Testop {number}" for number in range(1, 7)
        ]
    assert "show no booking's id" in first.warnings[0]
    assert not second.warnings
    assert len(paths(simulator, "/q/MRIScan/AND/")) == 1, "it is asked no second time"
    assert len(paths(simulator, "/q/MRIScan/id/EQ/")) == 12


@pytest.mark.parametrize(
    ("rows", "operator", "is_unknown"),
    [
        ([{"Operator.name": "Testop 3"}], "Testop 3", False),
        ([{"Operator.name": None}], None, False),
        ([], None, False),
        ([{"Operator.name": "A"}, {"Operator.name": "B"}], None, True),
        ([{"Operator.name": "A"}, {"id": 3, "Operator.name": "B"}], "B", False),
        ([{"id": 4, "Operator.name": "D"}], None, False),
    ],
)
def test_a_look_up_without_ids(
    simulator: CalpendoSimulator, rows: list[Any], operator: str | None, is_unknown: bool
) -> None:
    """T010: the only row of a look-up is that scan's; of several without ids none can be told, and that is said."""
    simulator.faults.add("not_biskits", match="/q/MRIScan/AND/", body=NAMELESS)
    simulator.faults.add(
        "not_biskits", match="/q/MRIScan/id/EQ/3", body=json.dumps({"biskits": rows}).encode()
    )
    fetched = fetch(simulator)
    assert fetched.payloads[2].get("operator") == operator
    assert fetched.payloads[1]["operator"] == "Testop 2"
    assert (3 in fetched.operator_unknown) is is_unknown
    assert any("could not be fetched: bookings 3" in warning for warning in fetched.warnings) is is_unknown


def test_a_list_of_too_many_rows_is_a_failed_list(simulator: CalpendoSimulator) -> None:
    """Rule, bounds: more than max_rows is a failed list, never a cut one; exactly so many are read."""
    assert len(fetch(simulator, max_rows=6).payloads) == 6
    with pytest.raises(PluginFetchError, match=r"longer than max_rows \(5\)"):
        fetch(simulator, max_rows=5)


def test_a_booking_of_endless_values_is_its_own_fault(simulator: CalpendoSimulator) -> None:
    """Rule, bounds: a detail of more values than a booking has is rejected with its id, and not asked for for ever."""
    body = b'{"id": 3, "properties": {"x": [' + b",".join([b"[]"] * 200_000) + b"]}}"
    simulator.faults.add("bad_json", match=ONE, body=body)
    fetched = fetch(simulator)
    assert not fetched.failed
    assert len(fetched.payloads[2]["_unreadable"]) == 65_536
