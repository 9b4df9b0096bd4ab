"""The simulated Calpendo over real sockets: what it serves, how it is changed, how it ends."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.simulator import CalpendoSimulator
from tests.support.simulator_calls import LOGIN, ask, booking, call, connect, found

DETAIL = "/webdav/b/Calpendo.Booking/1"
NEWER: dict[str, Any] = {
    "id": 2,
    "biskitType": "Calpendo.Booking",
    "properties": {
        "title": "SUB002_Bo_Example",
        "status": "Requested",
        "dateRange": {"start": "2026-11-23T18:00:00Z", "end": "2026-11-23T13:00:00-06:00"},
        "resource": {"formattedName": "EEG/Lab"},
        "created": "2026-11-01T09:00:00",
        "modified": "2026-11-02T09:00:00",
    },
}


@pytest.fixture
def simulator() -> Iterator[CalpendoSimulator]:
    """Serve one booking of each generation."""
    with CalpendoSimulator([booking(1), NEWER]) as running:
        yield running
    assert running.errors == []


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Basic ZGVtbzp3cm9uZw=="}, {"Authorization": "Bearer x"}, {"Authorization": ""}],
)
def test_without_the_right_login_nothing_is_served(
    simulator: CalpendoSimulator, headers: dict[str, str]
) -> None:
    """calpendo-api: HTTP Basic with a local user; else 401."""
    status, answered, body = call(simulator, DETAIL, headers=headers)

    assert (status, answered["WWW-Authenticate"]) == (401, 'Basic realm="Calpendo"')
    assert b"SUB" not in body


@pytest.mark.parametrize("root", ["/webdav", "/api"])
def test_both_roots_serve(simulator: CalpendoSimulator, root: str) -> None:
    """calpendo-api: the root is /webdav or, on newer servers, /api."""
    assert json.loads(call(simulator, f"{root}/b/Calpendo.Booking/1")[2])["title"] == "SUB001_Ann_Example"


@pytest.mark.parametrize(
    "path",
    [
        "/webdav/b/Calpendo.Booking/3",
        "/webdav/b/Calpendo.Booking/x",
        "/webdav/b/MRIScan/2",
        "/webdav/b/Nothing/1",
        "/webdav/b/Calpendo.Booking/1/2",
        "/webdav/b/Calpendo.Booking/1%D9%A3",
        "/webdav/b/Calpendo.Resource/9",
        "/webdav/q/Nothing/id/EQ/1",
        "/other/b/Calpendo.Booking/1",
        "/",
    ],
)
def test_what_is_not_there_answers_404(simulator: CalpendoSimulator, path: str) -> None:
    """T008: 404 for a booking that is not there, or not of that type."""
    assert call(simulator, path)[0] == 404


def test_list_rows_hold_a_few_fields_only(simulator: CalpendoSimulator) -> None:
    """calpendo-api: id, formattedName, title, status, biskitType, created; B has no formattedName."""
    older, newer = ask(simulator, "q/Calpendo.Booking/id/LT/9")["biskits"]

    assert older == {
        "id": 1,
        "formattedName": "[2026-11-23 10:00:00.0, 2026-11-23 11:00:00.0]",
        "title": "SUB001_Ann_Example",
        "status": "Approved",
        "biskitType": "MRIScan",
        "created": "2026-11-01 09:00:00.0",
    }
    assert newer == {
        "id": 2,
        "title": "SUB002_Bo_Example",
        "status": "Requested",
        "biskitType": "Calpendo.Booking",
        "created": "2026-11-01T09:00:00",
    }


def test_paths_come_in_three_shapes(simulator: CalpendoSimulator) -> None:
    """calpendo-api: the shape of a ?paths= answer is open: flat, nested, or under properties."""
    path = "q/MRIScan/id/EQ/1?paths=resource.name,Operator.name,modified,properties.project.formattedName"
    modified = "2026-11-02 09:00:00.0"

    assert ask(simulator, path)["biskits"] == [
        {
            "id": 1,
            "resource.name": "3T Diagnostic",
            "Operator.name": "Olsen, Oda",
            "modified": modified,
            "properties.project.formattedName": "Sleep (PRJ-014)",
        }
    ]
    nested = {
        "resource": {"name": "3T Diagnostic"},
        "Operator": {"name": "Olsen, Oda"},
        "modified": modified,
        "project": {"formattedName": "Sleep (PRJ-014)"},
    }
    simulator.paths_shape = "nested"
    assert ask(simulator, path)["biskits"] == [{"id": 1, **nested}]
    simulator.paths_shape = "properties"
    assert ask(simulator, path)["biskits"] == [{"id": 1, "properties": nested}]


def test_paths_give_a_range_for_either_generation(simulator: CalpendoSimulator) -> None:
    """calpendo-api: one request can bring the fields of many bookings."""
    rows = ask(simulator, "q/Calpendo.Booking/id/LT/9?paths=dateRange.start,dateRange.finish,status")[
        "biskits"
    ]

    assert rows == [
        {
            "id": 1,
            "dateRange.start": "2026-11-23T10:00:00",
            "dateRange.finish": "2026-11-23T11:00:00",
            "status": "Approved",
        },
        {
            "id": 2,
            "dateRange.start": "2026-11-23T18:00:00Z",
            "dateRange.finish": "2026-11-23T13:00:00",
            "status": "Requested",
        },
    ]


@pytest.mark.parametrize(
    "operator", ["Olsen, Oda", {"formattedName": "Olsen, Oda"}, {"Operator": {"name": "Olsen, Oda"}}, None, 7]
)
def test_an_operator_comes_as_it_is_stored(operator: Any) -> None:
    """calpendo-api: Operator.name is a text, an object, or nested; details of bookings do not show it."""
    with CalpendoSimulator([booking(1, operator=operator)]) as simulator:
        assert ask(simulator, "q/MRIScan/id/eq/1?paths=Operator.name")["biskits"] == [
            {"id": 1, "Operator.name": operator}
        ]
        assert "operator" not in ask(simulator, "b/Calpendo.Booking/1")
        expected = [1] if operator not in (None, 7) else []
        assert found(simulator, ["Operator.name", "STARTS_WITH", "Olsen"], "MRIScan") == expected


def test_resources_are_those_of_the_bookings(simulator: CalpendoSimulator) -> None:
    """calpendo-api: the list of resources, by b and by q."""
    listed = ask(simulator, "b/Calpendo.Resource")["biskits"]

    assert [row["name"] for row in listed] == ["3T Diagnostic", "EEG/Lab"]
    assert ask(simulator, "q/Calpendo.Resource/name/STARTS_WITH/EEG?paths=name")["biskits"] == [
        {"id": 2, "name": "EEG/Lab"}
    ]
    assert ask(simulator, "b/Calpendo.Resource/1")["name"] == "3T Diagnostic"


def test_all_bookings_as_generation_a() -> None:
    """Payload generation A: title, status and formattedName at the top level, in site wall-clock time."""
    with CalpendoSimulator([booking(1), NEWER], generation="A") as simulator:
        assert ask(simulator, "b/Calpendo.Booking/1") == {
            key: value for key, value in booking(1).items() if key != "operator"
        }
        newer = ask(simulator, "b/Calpendo.Booking/2")
    assert newer["formattedName"] == "[2026-11-23 12:00:00.0, 2026-11-23 13:00:00.0]"
    assert (newer["title"], newer["status"]) == ("SUB002_Bo_Example", "Requested")
    assert newer["properties"] == {
        key: value
        for key, value in NEWER["properties"].items()
        if key not in {"title", "status", "dateRange"}
    }


def test_all_bookings_as_generation_b() -> None:
    """Payload generation B: everything under properties, ISO 8601 with Z, with an offset, or naive."""
    with CalpendoSimulator([booking(number) for number in (3, 4, 5, 6)], generation="B") as simulator:
        shown = [ask(simulator, f"b/Calpendo.Booking/{number}") for number in (3, 4, 5, 6)]

    assert [payload["properties"]["dateRange"] for payload in shown] == [
        {"start": "2026-11-23T10:00:00", "finish": "2026-11-23T11:00:00"},
        {"start": "2026-11-23T16:00:00Z", "end": "2026-11-23T17:00:00Z"},
        {"start": "2026-11-23T10:00:00-06:00", "finish": "2026-11-23T11:00:00-06:00"},
        {"start": "2026-11-23T10:00:00", "end": "2026-11-23T11:00:00"},
    ]
    assert all(not {"formattedName", "title", "status"} & set(payload) for payload in shown)
    assert shown[0]["properties"]["title"] == "SUB003_Ann_Example"


def test_b_keeps_a_time_that_does_not_exist() -> None:
    """DST: 02:30 on 2026-03-08 has no offset of its own, so B writes it naive, whatever its number."""
    gap = "[2026-03-08 02:30:00.0, 2026-03-08 03:30:00.0]"
    with CalpendoSimulator([booking(4, formattedName=gap)], generation="B") as simulator:
        shown = ask(simulator, "b/Calpendo.Booking/4")["properties"]["dateRange"]

    assert shown["start"] == "2026-03-08T02:30:00"


def test_keep_alive_and_the_counters(simulator: CalpendoSimulator) -> None:
    """Issue promise: requests and TCP connections can be counted."""
    connection = connect(simulator)
    for _ in range(3):
        call(simulator, DETAIL, connection=connection)
    call(simulator, "/webdav/b/Calpendo.Booking/9?x=%2F", connection=connection)
    connection.close()

    assert simulator.connections == 1
    assert simulator.requests[-2:] == [
        ("GET", DETAIL, 200),
        ("GET", "/webdav/b/Calpendo.Booking/9?x=%2F", 404),
    ]
    simulator.reset_counters()
    assert (simulator.requests, simulator.connections, simulator.peak_in_flight) == ([], 0, 0)


def test_latencies_are_those_of_the_contract() -> None:
    """Figures of the API contract: a query is slower than a detail; an operator look-up costs as a detail."""
    with CalpendoSimulator([booking(1)], query_latency=0.2, detail_latency=0.05) as simulator:
        seconds = []
        for path in (
            "q/Calpendo.Booking/id/GE/1",
            "b/Calpendo.Booking/1",
            "q/MRIScan/id/eq/1?paths=Operator.name",
        ):
            began = time.monotonic()
            ask(simulator, path)
            seconds.append(time.monotonic() - began)

    assert seconds[0] >= 0.2
    assert all(0.05 <= lookup < 0.2 for lookup in seconds[1:])


def test_requests_in_flight_are_answered_side_by_side() -> None:
    """T009: five requests at once take as long as one."""
    with CalpendoSimulator([booking(1)], detail_latency=0.2) as simulator:
        began = time.monotonic()
        with ThreadPoolExecutor(5) as pool:
            statuses = list(pool.map(lambda _: call(simulator, DETAIL)[0], range(5)))
        assert time.monotonic() - began < 0.8
        assert statuses == [200] * 5
        assert simulator.peak_in_flight == simulator.connections == 5


def test_bookings_change_while_it_runs(simulator: CalpendoSimulator) -> None:
    """put, edit, delete and get; an edit moves the modification time onwards."""
    half_past_nine, two = (datetime.fromisoformat(f"2026-11-23T{clock}") for clock in ("09:30", "14:00"))
    simulator.edit(1, title="SUB001_New", resource="EEG/Lab", cancelled=True, start=half_past_nine)
    simulator.edit(2, status="Denied", finish=two)
    simulator.put(booking(3))
    first = simulator.get(1)["properties"]["modified"]
    simulator.edit(1, description="again")

    assert simulator.ids() == [1, 2, 3]
    changed = ask(simulator, "b/Calpendo.Booking/1")
    assert changed["title"] == "SUB001_New"
    assert changed["formattedName"] == "[2026-11-23 09:30:00.0, 2026-11-23 11:00:00.0]"
    assert changed["properties"]["resource"] == {"id": 1, "formattedName": "EEG/Lab"}
    assert changed["properties"]["cancelled"] is True
    assert changed["properties"]["modified"] > first > "2026-11-02"
    assert ask(simulator, "b/Calpendo.Booking/2")["properties"]["dateRange"]["end"] == "2026-11-23T14:00:00"
    assert found(simulator, ["dateRange.start", "LT", "20261123-1000"]) == [1]
    assert found(simulator, ["resource.name", "EQ", "EEG/Lab"]) == [1, 2]

    simulator.delete(1)
    assert call(simulator, DETAIL)[0] == 404
    for missing in (simulator.get, simulator.edit, simulator.delete):
        with pytest.raises(KeyError):
            missing(1)


def test_edits_and_requests_do_not_disturb_each_other() -> None:
    """Thread safety: every answer is one state of the booking, never half of an edit."""
    with CalpendoSimulator([booking(1)]) as simulator:
        stop = threading.Event()

        def edit() -> None:
            number = 0
            while not stop.wait(0.0005):
                number += 1
                simulator.edit(1, title=f"T{number}", description=f"T{number}")

        editor = threading.Thread(target=edit)
        editor.start()
        connection = connect(simulator)
        seen = [json.loads(call(simulator, DETAIL, connection=connection)[2]) for _ in range(100)]
        stop.set()
        editor.join()
        connection.close()

    assert all(
        payload["title"] in ("SUB001_Ann_Example", payload["properties"].get("description"))
        for payload in seen
    )


@pytest.mark.parametrize("latency", [0.0, 60.0])
def test_closing_is_quick_and_leaves_no_thread(latency: float) -> None:
    """Idle keep-alive connections and waiting requests end with the simulator."""
    simulator = CalpendoSimulator([booking(1)], detail_latency=latency)
    idle, waiting = connect(simulator), connect(simulator)
    call(simulator, "/webdav/q/Calpendo.Booking/id/GE/1", connection=idle)
    waiting.request("GET", DETAIL, headers=LOGIN)
    began = time.monotonic()
    simulator.close()
    simulator.close()
    idle.close()
    waiting.close()

    assert time.monotonic() - began < 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("calpendo-simulator")]


def test_a_given_port_is_used_and_freed() -> None:
    """`calpendo-pipeline simulate --port`: a taken port is an OSError, a freed one can be had again."""
    with CalpendoSimulator([]) as first:
        port = int(first.url.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"):
            CalpendoSimulator([], port=port)
    with CalpendoSimulator([], port=port) as second:
        assert second.url == first.url


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = ["id", "formattedName", "title", "status", "biskitType", "properties", "operator", "created"]
INNER = ["title", "status", "dateRange", "resource", "project", "modified", "cancelled", "Operator"]
odd_bookings = st.dictionaries(
    st.sampled_from(KEYS),
    json_values | st.dictionaries(st.sampled_from(INNER), json_values, max_size=4),
    max_size=8,
)


@settings(max_examples=25, deadline=None)
@given(
    bookings=st.lists(odd_bookings, max_size=3), generation=st.sampled_from([None, "A", "B"]), data=st.data()
)
def test_odd_bookings_never_break_it(
    bookings: list[dict[str, Any]], generation: Any, data: st.DataObject
) -> None:
    """Whatever JSON the bookings hold, every answer is a readable one."""
    path = data.draw(
        st.sampled_from(["dateRange.start", "title", "resource.name", "modified", "id", "Operator.name"])
    )
    value = "20261123-0000" if path in {"dateRange.start", "modified"} else "7"
    with CalpendoSimulator([booking(1), *bookings], generation=generation) as simulator:
        rows = ask(
            simulator, f"q/Calpendo.Booking/OR/id/GE/0/id/LT/0?paths={'title' if path[0] == 'O' else path}"
        )
        relation = data.draw(st.sampled_from(["EQ", "NE", "LT", "GE", "CONTAINS", "DOES_NOT_END_WITH"]))
        ask(simulator, f"q/MRIScan/{path}/{relation}/{value}")
        ask(simulator, "q/Calpendo.Booking")
        ask(simulator, "b/Calpendo.Resource")
        for number in simulator.ids():
            if number >= 0:
                call(simulator, f"/webdav/b/Calpendo.Booking/{number}")
                simulator.edit(number, title="x", start=datetime(2026, 1, 1), resource="y")  # noqa: DTZ001
                ask(simulator, f"q/Calpendo.Booking/id/EQ/{number}")
    assert rows["biskits"]
    assert simulator.errors == []
