"""Each fault of the simulated server is real on the wire (issue: the simulator can inject faults)."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator

import pytest

from pipeline.simulator import CalpendoSimulator
from tests.support.simulator_calls import LOGIN, booking, call, connect

DETAIL = "/webdav/b/Calpendo.Booking/1"


@pytest.fixture
def simulator() -> Iterator[CalpendoSimulator]:
    """Serve one booking, and see that the simulator itself had no fault."""
    with CalpendoSimulator([booking(1)]) as running:
        yield running
    assert running.errors == []


def test_a_status_comes_with_its_retry_after(simulator: CalpendoSimulator) -> None:
    """Client rules: 429 and 503 with Retry-After."""
    simulator.faults.add("status", code=429, retry_after=7, times=1)

    status, headers, _ = call(simulator, DETAIL)

    assert (status, headers["Retry-After"]) == (429, "7")
    assert call(simulator, DETAIL)[0] == 200


@pytest.mark.parametrize("kind", ["html", "login_page"])
def test_html_comes_as_success(simulator: CalpendoSimulator, kind: str) -> None:
    """calpendo-api: a failed login may be a 200 with an HTML page."""
    simulator.faults.add(kind)

    status, headers, body = call(simulator, DETAIL)

    assert (status, headers.get_content_type()) == (200, "text/html")
    assert body.startswith(b"<!DOCTYPE html>")


def test_json_without_biskits(simulator: CalpendoSimulator) -> None:
    """calpendo-api: a JSON object without biskits is an error, never an empty day."""
    simulator.faults.add("not_biskits", match="/q/")

    assert "biskits" not in json.loads(call(simulator, "/webdav/q/Calpendo.Booking/id/EQ/1")[2])
    assert json.loads(call(simulator, DETAIL)[2])["id"] == 1


@pytest.mark.parametrize(("kind", "length"), [("empty", 0), ("bad_json", None)])
def test_unreadable_bodies(simulator: CalpendoSimulator, kind: str, length: int | None) -> None:
    """A 200 with nothing, and a 200 whose JSON ends in the middle."""
    simulator.faults.add(kind)

    status, headers, body = call(simulator, DETAIL)

    assert (status, headers.get_content_type()) == (200, "application/json")
    assert length is None or len(body) == length
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)


def test_a_truncated_body_is_shorter_than_promised(simulator: CalpendoSimulator) -> None:
    """The connection ends, in order, before Content-Length is reached."""
    simulator.faults.add("truncate", keep=0.25)

    with pytest.raises(http.client.IncompleteRead) as caught:
        call(simulator, DETAIL)

    assert caught.value.expected
    assert len(caught.value.partial) < caught.value.expected


@pytest.mark.parametrize("after", [0, 10])
def test_a_reset_is_a_tcp_reset(simulator: CalpendoSimulator, after: int) -> None:
    """RST reaches the client before the answer, or in the middle of the body."""
    simulator.faults.add("reset", after=after)

    with pytest.raises(ConnectionResetError):
        call(simulator, DETAIL)

    assert simulator.requests[-1].status == (200 if after else 0)


def test_a_slow_body_drips_until_the_simulator_closes() -> None:
    """A body that comes byte by byte ends with the simulator, not when it is whole."""
    with CalpendoSimulator([booking(1)]) as simulator:
        simulator.faults.add("slow_body", interval=0.02)
        connection = connect(simulator)
        connection.request("GET", DETAIL, headers=LOGIN)
        response = connection.getresponse()
        promised = int(response.headers["Content-Length"])
        received = [response.read(1) for _ in range(3)]
        threading.Timer(0.05, simulator.close).start()
        with pytest.raises(http.client.IncompleteRead):
            response.read()
        connection.close()

    assert all(received)
    assert promised > 100


def test_a_gzip_bomb_is_valid_gzip_and_streamed(simulator: CalpendoSimulator) -> None:
    """Compression bomb: a small compressed body that unpacks, as JSON, to the size asked for."""
    size = 64 << 20
    simulator.faults.add("gzip_bomb", size=size)

    _, headers, body = call(simulator, DETAIL)

    assert headers["Content-Encoding"] == "gzip"
    assert len(body) < size / 500
    unpacked = gzip.decompress(body)
    assert len(unpacked) == size
    assert json.loads(unpacked[-64:]) == {"biskits": []}


def test_a_gzip_bomb_may_be_left_unread() -> None:
    """A client that gives a bomb up in the middle leaves no thread and no error behind."""
    with CalpendoSimulator([booking(1)]) as simulator:
        simulator.faults.add("gzip_bomb", size=8 << 30)
        connection = connect(simulator)
        connection.request("GET", DETAIL, headers=LOGIN)
        response = connection.getresponse()
        assert zlib.decompressobj(31).decompress(response.read(2000))[:3] == b"   "
        connection.close()
    assert simulator.errors == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("calpendo-simulator")]


def test_a_redirect_leads_to_another_origin(simulator: CalpendoSimulator) -> None:
    """Client rules: no redirect to another origin; the simulator hears whether one was followed."""
    simulator.faults.add("redirect", times=1)
    simulator.faults.add("redirect", code=307, location="https://elsewhere.example/login", times=1)

    first, second = call(simulator, DETAIL), call(simulator, DETAIL)

    assert first[0] == 302
    assert first[1]["Location"] == simulator.url.replace("127.0.0.1", "localhost") + DETAIL
    assert (second[0], second[1]["Location"]) == (307, "https://elsewhere.example/login")


def test_a_delay_still_answers_rightly(simulator: CalpendoSimulator) -> None:
    """A late answer is a right one."""
    simulator.faults.add("delay", seconds=0.1)
    began = time.monotonic()

    assert json.loads(call(simulator, DETAIL)[2])["id"] == 1
    assert time.monotonic() - began >= 0.1


def test_faults_are_chosen_by_path_and_number_and_stop_when_cleared(simulator: CalpendoSimulator) -> None:
    """``match``, ``times`` and ``clear``; the first fault that applies is played."""
    twice = simulator.faults.add("status", match=r"/b/Calpendo\.Booking/\d+$", times=2, code=500)
    simulator.faults.add("status", match="/q/.*paths=", code=403)

    seen = [call(simulator, DETAIL)[0] for _ in range(3)]
    query = call(simulator, "/webdav/q/MRIScan/id/eq/1?paths=Operator.name")[0]
    simulator.faults.clear()

    assert seen == [500, 500, 200]
    assert twice.hits == 2
    assert query == 403
    assert call(simulator, "/webdav/q/MRIScan/id/eq/1?paths=Operator.name")[0] == 200


def test_a_faults_probability_is_repeatable() -> None:
    """The same seed plays the same faults."""
    runs = []
    for _ in range(2):
        with CalpendoSimulator([booking(1)], seed=3) as simulator:
            simulator.faults.add("status", probability=0.5)
            connection = connect(simulator)
            runs.append([call(simulator, DETAIL, connection=connection)[0] for _ in range(20)])
            connection.close()

    assert runs[0] == runs[1]
    assert set(runs[0]) == {200, 503}


def test_unknown_faults_are_refused(simulator: CalpendoSimulator) -> None:
    """A test with a misspelt fault must not pass for want of one."""
    with pytest.raises(ValueError, match="unknown fault 'rest'"):
        simulator.faults.add("rest")
    with pytest.raises(ValueError, match="takes no interval"):
        simulator.faults.add("reset", interval=1)


def test_a_client_that_resets_is_no_error_of_the_simulator(simulator: CalpendoSimulator) -> None:
    """A client may vanish at any moment."""
    simulator.faults.add("slow_body", interval=0.005)
    connection = connect(simulator)
    connection.request("GET", DETAIL, headers=LOGIN)
    assert connection.sock is not None
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    simulator.faults.clear()

    assert call(simulator, DETAIL)[0] == 200
