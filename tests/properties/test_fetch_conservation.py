"""Whatever bookings a server holds, and whenever the time is up, a fetch loses none and never breaks, in any mode."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.calpendo.client import CalpendoClient
from pipeline.calpendo.fetch import (
    NOT_REACHED,
    FetchedBookings,
    KnownBookings,
    LookUp,
    Turn,
    fetch_cycle,
    fetch_window,
    in_turn,
)
from pipeline.calpendo.responses import NothingFetchedError
from pipeline.calpendo.window import Window
from pipeline.config import PipelineConfig
from pipeline.config.credentials import Credentials
from pipeline.errors import PluginFetchError
from pipeline.simulator import CalpendoSimulator

NOON = datetime(2026, 6, 10, 18, tzinfo=UTC)
WINDOW = Window(NOON - timedelta(days=1), NOON + timedelta(days=1), NOON - timedelta(days=2))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.just("<Hidden>"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
NAMES = st.just("[2026-06-10 09:00:00.0, 2026-06-10 10:00:00.0]") | JSON
RANGES = st.just({"start": "2026-06-10T15:00:00Z", "finish": "2026-06-10T16:00:00Z"}) | JSON
NESTED = st.fixed_dictionaries(
    {"resource": st.just({"formattedName": "3T"}) | JSON},
    optional={
        "project": st.just({"formattedName": "P"}) | JSON,
        "dateRange": RANGES,
        "title": JSON,
        "modified": JSON,
        "Operator": JSON,
        "cancelled": JSON,
    },
)
BOOKINGS = st.fixed_dictionaries(
    {"properties": NESTED | JSON},
    optional={
        "id": st.integers(0, 30) | JSON,
        "biskitType": st.sampled_from(["MRIScan", "Calpendo.Booking"]) | JSON,
        "title": JSON,
        "status": JSON,
        "formattedName": NAMES,
    },
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    bookings=st.lists(BOOKINGS, max_size=6),
    shape=st.sampled_from(["flat", "nested", "properties"]),
)
def test_every_listed_booking_is_accounted_for(bookings: list[dict[str, Any]], shape: Any) -> None:
    """Law of conservation: listed = payloads + cut + gone + failed, and the modes agree on each booking's place."""
    places = {}
    with CalpendoSimulator(bookings, paths_shape=shape) as server:
        for mode in ("details", "bulk", "changed"):
            block = {"base_url": server.url, "resources": ["3T"], "field_mapping": {}, "fetch_mode": mode}
            # Without a resource filter the odd bookings are listed too; the batch would filter them.
            config = PipelineConfig.from_dict(block, environ={}).model_copy(update={"resources": ()})
            with CalpendoClient(config, Credentials("demo", "demo")) as client:
                known = KnownBookings()
                for _ in range(2):
                    fetched = fetch_window(client, config, WINDOW, known=known)
                    told = [payload["id"] for payload in fetched.payloads]
                    assert sorted(fetched.listed) == sorted(
                        [*told, *fetched.cut, *fetched.gone, *fetched.failed]
                    )
                    places[mode] = (fetched.listed, told, fetched.cut, fetched.gone, set(fetched.failed))
        assert not server.errors
    assert places["bulk"] == places["changed"] == places["details"]


def scan(number: int) -> dict[str, Any]:
    """Return an ordinary booking of the window."""
    begins = datetime(2026, 6, 10, 9) + timedelta(seconds=number)  # noqa: DTZ001  the site's wall clock
    return {
        "id": number,
        "biskitType": "Calpendo.Booking",
        "title": "t",
        "status": "Approved",
        "formattedName": f"[{begins}.0, {begins + timedelta(minutes=30)}.0]",
        "properties": {"resource": {"formattedName": "3T"}},
    }


def fetched_in(server: CalpendoSimulator, look_up: LookUp, **limits: Any) -> tuple[FetchedBookings, ...]:
    """Fetch one cycle; where not one booking could be fetched, return what the error says."""
    config = PipelineConfig.from_dict(
        {
            "base_url": server.url,
            "resources": ["3T"],
            "field_mapping": {},
            "fetch_operators": False,
            **limits,
        },
        environ={},
    )
    with CalpendoClient(config, Credentials("demo", "demo")) as client:
        try:
            return fetch_cycle(client, config, WINDOW, follow=lambda listed, cut: look_up)
        except NothingFetchedError as error:
            told = set(look_up.spans)
            return (
                FetchedBookings(
                    listed=tuple(error.failed.keys() - told),
                    failed={number: why for number, why in error.failed.items() if number not in told},
                ),
                FetchedBookings(listed=tuple(told), failed={number: error.failed[number] for number in told}),
            )


@contextmanager
def slow_log(seconds: float) -> Iterator[None]:
    """Let each warning take its time, as a log on a full disk or a network does."""

    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            time.sleep(seconds)

    handler = Slow()
    log = logging.getLogger("pipeline.calpendo.fetch")
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def check(fetched: tuple[FetchedBookings, ...], count: int, extra: int) -> None:
    """See that every booking of the list, and every one looked up, is in exactly one place."""
    for part, asked in zip(fetched, (set(range(1, count + 1)), set(range(9001, 9001 + extra))), strict=True):
        places = [*(payload["id"] for payload in part.payloads), *part.cut, *part.gone, *part.failed]
        assert len(places) == len(set(places))
        assert set(places) == set(part.listed) == asked


@pytest.mark.parametrize("deadline", [0.02, 0.1, 0.2])
@pytest.mark.parametrize("pause", [0.0, 0.01])
def test_the_deadline_strikes_at_any_moment(deadline: float, pause: float) -> None:
    """Law of conservation: answers that wait to be taken when the time is up are taken; the rest is failed."""
    with CalpendoSimulator([scan(number) for number in range(1, 41)]) as server, slow_log(pause):
        server.faults.add("status", match=r"/b/.*[02468]$", code=404)
        server.detail_latency = 0.01
        try:
            fetched = fetched_in(server, LookUp({9001: (None, None)}), batch_deadline=deadline, max_retries=0)
        except PluginFetchError:
            return  # The list itself did not come in time.
        check(fetched, 40, 1)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    count=st.integers(1, 60),
    deadline=st.floats(0.02, 0.4),
    latency=st.sampled_from([0.0, 0.001, 0.01, 0.05, 0.2]),
    pause=st.sampled_from([0.0, 0.002, 0.02]),
    patience=st.sampled_from([0.05, 0.15, 30.0]),
    faults=st.lists(
        st.sampled_from(
            [
                {"kind": "status", "code": 404, "match": r"/b/.*[05]$"},
                {"kind": "status", "code": 500, "match": r"/b/.*[16]$"},
                {"kind": "delay", "seconds": 0.1, "match": r"/b/.*2$"},
                {"kind": "slow_body", "interval": 0.002, "match": r"/b/.*3$"},
                {"kind": "reset", "match": r"/b/.*7$", "times": 2},
            ]
        ),
        max_size=3,
    ),
)
def test_no_booking_is_lost_whatever_the_moment(
    count: int, deadline: float, latency: float, pause: float, patience: float, faults: list[dict[str, Any]]
) -> None:
    """Law of conservation: whenever the time is up, whatever is slow, each booking is in exactly one place."""
    with (
        CalpendoSimulator([scan(number) for number in range(1, count + 1)]) as server,
        slow_log(pause),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("pipeline.calpendo.client.STRAGGLER_PATIENCE", patience)
        for fault in faults:
            server.faults.add(**fault)
        server.detail_latency = latency
        look_up = LookUp(dict.fromkeys(range(9001, 9004), (None, None)))
        try:
            fetched = fetched_in(
                server, look_up, batch_deadline=deadline, max_retries=1, detail_timeout=patience
            )
        except PluginFetchError:
            return
        check(fetched, count, 3)


@pytest.mark.slow
def test_forty_thousand_listed_bookings() -> None:
    """Law of conservation: a list far longer than the time allows is accounted for to the last booking."""
    with CalpendoSimulator([scan(1)]) as server:
        rows = [{"id": number, "biskitType": "Calpendo.Booking"} for number in range(1, 40_001)]
        server.faults.add("not_biskits", match="/q/", body=json.dumps({"biskits": rows}).encode())
        began = time.monotonic()
        fetched = fetched_in(server, LookUp(), batch_deadline=4.0)
        assert time.monotonic() - began < 10.0
        check(fetched, 40_000, 0)
        assert NOT_REACHED in fetched[0].failed.values()


@pytest.mark.slow
def test_four_hundred_bookings_and_a_slow_log() -> None:
    """Law of conservation: a log that takes its time makes no booking disappear."""
    with CalpendoSimulator([scan(number) for number in range(1, 401)]) as server, slow_log(0.02):
        server.faults.add("status", match=r"/b/.*[02468]$", code=404)
        check(fetched_in(server, LookUp(), batch_deadline=1.0, max_retries=0), 400, 0)


MOMENTS = st.none() | st.integers(-40, 40).map(lambda hours: NOON + timedelta(hours=hours))


@settings(max_examples=40)
@given(
    st.lists(
        st.builds(Turn, st.integers(1, 10_000), MOMENTS, MOMENTS, st.integers(0, 3)),
        unique_by=lambda turn: turn.number,
        max_size=30,
    )
)
def test_the_order_of_turns(turns: list[Turn]) -> None:
    """Rule, every booking in turn: what waits longest, then what starts soonest; what is over keeps none off."""
    order = in_turn(turns, NOON)
    by_number = {turn.number: turn for turn in turns}
    assert sorted(order) == sorted(by_number)
    over = {turn.number for turn in turns if turn.end is not None and turn.end <= NOON}
    for some in (over, by_number.keys() - over):
        own = [by_number[number] for number in order if number in some]
        waited = [turn.passed_over for turn in own]
        assert waited == sorted(waited, reverse=True)
        for cycles in range(4):
            starts = [turn.start or turn.end for turn in own if turn.passed_over == cycles]
            known = [moment for moment in starts if moment is not None]
            assert known == sorted(known)
    for place in range(5 * min(len(over), (len(order) - len(over)) // 4)):
        assert sum(number in over for number in order[: place + 1]) == place // 5 + 1


@settings(max_examples=60)
@given(
    count=st.integers(1, 40),
    capacities=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    arrivals=st.integers(0, 2),
)
def test_every_booking_has_its_turn(count: int, capacities: list[int], arrivals: int) -> None:
    """Rule, every booking in turn: however little a cycle can ask for, none waits longer than one round of all."""
    passed_over: dict[int, int] = {}
    starts = {number: NOON + timedelta(minutes=number) for number in range(count)}
    for cycle in range(60):
        if cycle < 20:
            for new in range(arrivals):  # They start sooner than all others.
                starts[1000 + 10 * cycle + new] = NOON + timedelta(seconds=cycle)
        turns = [Turn(number, start, None, passed_over.get(number, 0)) for number, start in starts.items()]
        order = in_turn(turns, NOON)
        capacity = capacities[cycle % len(capacities)]
        for place, number in enumerate(order):
            passed_over[number] = 0 if place < capacity else passed_over.get(number, 0) + 1
        assert max(passed_over.values()) <= len(starts)
