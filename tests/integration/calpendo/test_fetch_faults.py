"""What Calpendo may do wrong, over real sockets, and what each does to a batch (issue: client; T007-T010)."""

from __future__ import annotations

import logging
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.calpendo.fetch import fetch_window
from pipeline.calpendo.simulator import CalpendoSimulator
from pipeline.errors import PluginFetchError
from tests.integration.calpendo.calpendo_site import client_of, fetch, paths, scan, settings, window_of

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
    with client_of(config) as client, pytest.raises(PluginFetchError, match="Connection refused"):
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
