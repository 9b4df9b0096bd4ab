"""Details, bulk and changed bring the same, at their own cost (issue: fetch modes)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Literal

import pytest
import pytz

from pipeline.batch import process_batch
from pipeline.calpendo.fetch import (
    FetchedBookings,
    KnownBookings,
    as_payload,
    bulk_paths,
    fetch_bookings,
    fetch_window,
)
from pipeline.calpendo.window import Window
from pipeline.config import PipelineConfig
from pipeline.errors import PluginFetchError
from pipeline.simulator import CalpendoSimulator
from pipeline.simulator.sample import sample_bookings, sample_config
from tests.support.calpendo_site import (
    FIRST,
    NOW,
    RESOURCE,
    client_of,
    fetch,
    paths,
    scan,
    settings,
    window_of,
)

EDMONTON = pytz.timezone("America/Edmonton")
ALL_YEARS = Window(
    *(EDMONTON.localize(datetime.fromisoformat(day)) for day in ("2020-01-01", "2031-01-01", "2019-12-31"))
)
LIST_WITH_PATHS = r"/q/Calpendo\.Booking/.*\?paths="


@pytest.fixture
def simulator() -> Iterator[CalpendoSimulator]:
    """Serve fifty MRI scans."""
    with CalpendoSimulator([scan(number) for number in range(1, 51)]) as server:
        yield server
        assert not server.errors


def outcome(fetched: FetchedBookings, config: PipelineConfig) -> dict[str, Any]:
    """Return what the batch makes of a fetch: entries, rejected ids with reasons, and the counts."""
    batch = process_batch(fetched.payloads, config)
    return {
        "entries": batch.to_dicts(),
        "rejected": batch.rejected.select("booking_id", "reason").rows(),
        "operators": [payload.get("operator") for payload in fetched.payloads],
        "listed": fetched.listed,
        "cut": fetched.cut,
        "invalid": len(fetched.invalid),
        "lost": (fetched.gone, dict(fetched.failed)),
    }


@pytest.mark.parametrize(
    ("generation", "shape"),
    [("A", "flat"), ("B", "flat"), (None, "flat"), ("A", "nested"), ("B", "properties")],
)
def test_all_modes_bring_equal_entries(
    generation: Literal["A", "B"] | None, shape: Literal["flat", "nested", "properties"]
) -> None:
    """Issue: the three modes yield equal entries on one server, on both generations, for the whole odd sample."""
    outcomes = {}
    with CalpendoSimulator(sample_bookings(), generation=generation, paths_shape=shape) as server:
        for mode in ("details", "bulk", "changed"):
            config = PipelineConfig.from_dict(
                sample_config() | {"base_url": server.url, "fetch_mode": mode}, environ={}
            )
            with client_of(config) as client:
                server.reset_counters()
                fetched = fetch_window(client, config, ALL_YEARS)
                assert fetched.mode == mode
                assert not fetched.warnings
                outcomes[mode] = outcome(fetched, config)
        assert not server.errors
    assert len(outcomes["details"]["entries"]) > 150
    assert outcomes["bulk"] == outcomes["details"]
    assert outcomes["changed"] == outcomes["details"]


def test_details_cost_one_request_a_booking(simulator: CalpendoSimulator) -> None:
    """Issue: fifty MRI bookings are at most 52 requests on at most 6 connections."""
    assert len(fetch(simulator).payloads) == 50
    assert len(simulator.requests) == 52
    assert simulator.connections <= 6
    assert simulator.peak_in_flight <= 5


@pytest.mark.parametrize("generation", ["A", "B"])
def test_bulk_costs_three_requests_and_then_two(generation: Literal["A", "B"]) -> None:
    """Issue: bulk is at most three requests for fifty MRI bookings; the third is one look at a booking's details."""
    with CalpendoSimulator([scan(number) for number in range(1, 51)], generation=generation) as server:
        config = settings(server.url, fetch_mode="bulk")
        with client_of(config) as client:
            first = fetch_window(client, config, window_of(config))
            assert len(first.payloads) == 50
            assert first.payloads[6]["operator"] == "Testop 7"
            assert len(server.requests) == 3
            server.reset_counters()
            assert fetch_window(client, config, window_of(config)).payloads == first.payloads
            assert len(server.requests) == 2


def test_bulk_asks_for_what_the_mapping_needs() -> None:
    """Issue: the one query brings every field that mapping, filters and hash need, and no field of a subtype."""
    mapping = {
        "accession_number": "properties.study.code",
        "study_description": "project.formattedName",
        "patient_id": "title",
        "performing_physician": "operator",
    }
    wanted = bulk_paths(settings("http://127.0.0.1:1", field_mapping=mapping))
    assert "properties.study.code" in wanted
    assert len(set(wanted)) == len(wanted)
    asked = [path.removeprefix("properties.") for path in wanted]
    assert not any(path.startswith(("operator", "Operator")) for path in asked)


def test_bulk_without_a_key_falls_back_and_says_so_once(simulator: CalpendoSimulator) -> None:
    """Issue: where no row has an asked-for key, details are fetched, and it is said once."""
    simulator.faults.add("not_biskits", match=LIST_WITH_PATHS, body=b'{"biskits": [{"id": 3, "title": "x"}]}')
    config = settings(simulator.url, fetch_mode="bulk", resources=[RESOURCE])
    with client_of(config) as client:
        first = fetch_window(client, config, window_of(config))
        assert first.mode == "details"
        assert first.listed == (3,)
        assert first.payloads[0]["title"] == "SUB003_Testa_Anna"
        assert len(first.warnings) == 1
        assert "no row of the list has" in first.warnings[0]
        simulator.reset_counters()
        second = fetch_window(client, config, window_of(config))
        assert len(second.payloads) == 50
        assert not second.warnings
        assert not [path for path in paths(simulator, "?paths=id") if "MRIScan" not in path]


@pytest.mark.parametrize("mode", ["bulk", "changed"])
@pytest.mark.parametrize("code", [400, 404, 414, 500, 501])
def test_a_refused_list_falls_back_and_says_so_once(
    simulator: CalpendoSimulator, mode: str, code: int
) -> None:
    """Issue: where the server refuses a list with chosen fields, details are fetched, and it is said once."""
    simulator.faults.add("status", match=LIST_WITH_PATHS, code=code)
    config = settings(simulator.url, fetch_mode=mode, max_retries=0)
    with client_of(config) as client:
        fetches = [fetch_window(client, config, window_of(config)) for _ in range(3)]
    assert all(len(fetched.payloads) == 50 and fetched.mode == "details" for fetched in fetches)
    assert [len(fetched.warnings) for fetched in fetches] == [1, 0, 0]


@pytest.mark.parametrize("mode", ["bulk", "changed"])
@pytest.mark.parametrize("code", [401, 403])
def test_a_refused_login_is_no_reason_to_fall_back(
    simulator: CalpendoSimulator, mode: str, code: int
) -> None:
    """Issue: 401 and 403 raise in every mode."""
    simulator.faults.add("status", match=LIST_WITH_PATHS, code=code)
    with pytest.raises(PluginFetchError, match="authentication failed"):
        fetch(simulator, fetch_mode=mode)


def test_a_list_that_keeps_values_back_is_not_believed(simulator: CalpendoSimulator) -> None:
    """Issue: a list that answers null where the details know a value is found out and not used."""
    rows = [
        {"id": number, "biskitType": "MRIScan", "title": "t", "status": "Approved", "formattedName": "x"}
        | {
            "dateRange.start": None,
            "dateRange.finish": None,
            "cancelled": None,
            "resource.formattedName": RESOURCE,
        }
        | {"project.formattedName": "p"}
        for number in range(1, 3)
    ]
    body = json.dumps({"biskits": rows}).encode()
    simulator.faults.add("not_biskits", match=LIST_WITH_PATHS, body=body)
    fetched = fetch(simulator, fetch_mode="bulk")
    assert fetched.mode == "details"
    assert "leaves cancelled empty" in fetched.warnings[0]
    assert len(fetched.payloads) == 2
    assert len(paths(simulator, "/b/")) == 2


def test_bulk_looks_up_what_a_row_leaves_open() -> None:
    """Issue: a row without a field of the hash is looked up, because null and missing are not the same there."""
    bookings = [scan(number) for number in range(1, 11)]
    del bookings[4]["properties"]["project"]
    with CalpendoSimulator(bookings) as server:
        fetched = fetch(server, fetch_mode="bulk")
        assert len(fetched.payloads) == 10
        assert "project" not in fetched.payloads[4]["properties"]
        assert sorted(paths(server, "/b/")) == [f"/webdav/b/Calpendo.Booking/{number}" for number in (1, 5)]


@pytest.mark.parametrize("named", [True, False])
def test_bulk_times_stand_as_in_details(named: bool) -> None:
    """Issue: a row with both forms of its times is read as the server's details would be."""
    row = {"id": 1, "formattedName": "[2026-11-01 01:30:00.0, 2026-11-01 02:30:00.0]"}
    row |= {"dateRange.start": "2026-11-01T07:30:00Z", "dateRange.finish": "2026-11-01T09:30:00Z"}
    times = ("properties.dateRange.start", "properties.dateRange.finish")
    payload = as_payload(row, ("id", "formattedName", *times), named=named)
    assert ("formattedName" in payload) == named
    assert payload["properties"]["dateRange"]["start"].endswith("Z")


def test_changed_fetches_only_what_changed(simulator: CalpendoSimulator) -> None:
    """Issue: the second cycle of changed is at most three requests with nothing changed, then one for each change."""
    known = KnownBookings()
    config = settings(simulator.url, fetch_mode="changed")
    with client_of(config) as client:
        first = fetch_window(client, config, window_of(config), known=known)
        assert len(simulator.requests) == 52
        simulator.reset_counters()
        second = fetch_window(client, config, window_of(config), known=known)
        assert len(simulator.requests) == 2
        assert second.payloads == first.payloads
        simulator.edit(5, title="SUB005_Testb_Bela")
        simulator.edit(6, status="Cancelled")
        simulator.delete(7)
        simulator.put(scan(70))
        simulator.reset_counters()
        third = fetch_window(client, config, window_of(config), known=known)
        assert {path.rpartition("/")[2] for path in paths(simulator, "/b/")} == {"5", "6", "70"}
        titles = {payload["id"]: payload["title"] for payload in third.payloads}
        assert titles[5] == "SUB005_Testb_Bela"
        assert 7 not in titles
        assert len(titles) == 50


def test_changed_fetches_all_from_time_to_time(simulator: CalpendoSimulator) -> None:
    """Issue: all details are fetched at least every full_refresh cycles."""
    known = KnownBookings()
    config = settings(simulator.url, fetch_mode="changed", full_refresh=3)
    counts = []
    with client_of(config) as client:
        for _ in range(7):
            simulator.reset_counters()
            fetch_window(client, config, window_of(config), known=known)
            counts.append(len(paths(simulator, "/b/")))
    assert counts == [50, 0, 0, 50, 0, 0, 50]


def test_changed_brings_operators_anew(simulator: CalpendoSimulator) -> None:
    """Issue: an operator is no part of a booking's modification, so it is asked for in every cycle."""
    known = KnownBookings()
    config = settings(simulator.url, fetch_mode="changed")
    with client_of(config) as client:
        fetch_window(client, config, window_of(config), known=known)
        modified = simulator.get(3)["properties"]["modified"]
        simulator.edit(3, Operator={"name": "Testop New"}, modified=modified)
        again = fetch_window(client, config, window_of(config), known=known)
        simulator.edit(3, Operator=None, modified=modified)
        without = fetch_window(client, config, window_of(config), known=known)
    assert again.payloads[2]["operator"] == "Testop New"
    assert "operator" not in without.payloads[2]


def test_a_failed_change_is_no_old_news(simulator: CalpendoSimulator) -> None:
    """Issue: a changed booking whose details cannot be had is failed, not served from memory, and asked for again."""
    known = KnownBookings()
    config = settings(simulator.url, fetch_mode="changed")
    with client_of(config) as client:
        fetch_window(client, config, window_of(config), known=known)
        simulator.edit(9, status="Cancelled")
        simulator.faults.add("html", match=r"/b/Calpendo\.Booking/9$")
        assert list(fetch_window(client, config, window_of(config), known=known).failed) == [9]
        simulator.faults.clear()
        simulator.reset_counters()
        again = fetch_window(client, config, window_of(config), known=known)
        assert again.payloads[8]["status"] == "Cancelled"
        assert len(paths(simulator, "/b/")) == 1


def test_changed_without_modification_times_falls_back(simulator: CalpendoSimulator) -> None:
    """Issue: a server whose list tells no modification time is asked for details, and it is said once."""
    for number in simulator.ids():
        booking = simulator.get(number)
        del booking["properties"]["modified"]
        simulator.put(booking)
    fetched = fetch(simulator, fetch_mode="changed", known=KnownBookings())
    assert len(fetched.payloads) == 50
    assert fetched.mode == "details"
    assert "no row of the list has modified" in fetched.warnings[0]


def test_what_is_known_shows_no_booking(simulator: CalpendoSimulator) -> None:
    """Issue: no name in any text form of what is kept."""
    known = KnownBookings()
    fetched = fetch(simulator, fetch_mode="changed", known=known)
    assert len(known) == 50
    assert not re.search("Testa|SUB", repr(known) + repr(fetched))


@pytest.mark.parametrize("mode", ["details", "bulk", "changed"])
def test_rows_outside_are_cut_before_their_details(mode: str) -> None:
    """Issue: a booking that began before the window and still runs is kept, one that has ended is cut by the list."""
    eight = FIRST - timedelta(hours=1)
    bookings = [
        scan(1, eight - timedelta(hours=2), 60),
        scan(2, eight - timedelta(hours=2), 180),
        scan(3, eight, 30),
        scan(4, eight + timedelta(hours=30), 30),
    ]
    with CalpendoSimulator(bookings) as server:
        fetched = fetch(server, fetch_mode=mode)
        assert fetched.listed == (1, 2, 3)
        assert fetched.cut == (1,)
        assert [payload["id"] for payload in fetched.payloads] == [2, 3]
        assert not [path for path in paths(server, "/b/") if path.endswith("/1")]
        exact = fetch(server, fetch_mode=mode, include_running=False)
        assert [payload["id"] for payload in exact.payloads] == [3]


@pytest.mark.parametrize("order", [1, -1])
def test_an_id_that_stands_twice_is_cut_only_where_both_rows_are_outside(
    simulator: CalpendoSimulator, order: int
) -> None:
    """Issue, no booking lost: a stale row of a moved booking beside its present one does not hide it from the list."""
    stale, today = scan(3, FIRST - timedelta(days=9)), scan(3)
    gone_by = scan(4, FIRST - timedelta(days=8))
    rows = [*[stale, today][::order], gone_by, gone_by]
    simulator.faults.add(
        "not_biskits", match=r"/q/Calpendo\.Booking/", body=json.dumps({"biskits": rows}).encode()
    )
    fetched = fetch(simulator)
    assert fetched.listed == (3, 4)
    assert fetched.cut == (4,)
    assert [payload["id"] for payload in fetched.payloads] == [3]


def test_text_that_cannot_be_kept_is_rejected_with_its_id(simulator: CalpendoSimulator) -> None:
    """Issue: a detail that is no sound JSON is that booking's fault: rejected with its id and text, not lost."""
    deep = b'{"id": 3, "title": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"
    simulator.faults.add("bad_json", match=r"/b/Calpendo\.Booking/3$", body=deep)
    simulator.faults.add(
        "bad_json", match=r"/b/Calpendo\.Booking/4$", body=b'{"id": 4, "title": "SUB004 \xff"}'
    )
    simulator.edit(5, title="SUB005_\ud800")
    fetched = fetch(simulator)
    assert not fetched.failed
    batch = process_batch(fetched.payloads, settings(simulator.url))
    rejected = {row["booking_id"]: row["payload"] for row in batch.rejected.to_dicts()}
    assert {3, 4, 5} <= set(rejected)
    assert "SUB004" in rejected[4]


def test_bookings_by_id_come_from_anywhere_in_time(simulator: CalpendoSimulator) -> None:
    """Decision 7: owed and vanished bookings are fetched by their ids, operators with one query, gone ones told."""
    simulator.put(scan(500, NOW.replace(tzinfo=None) - timedelta(days=300)))
    config = settings(simulator.url)
    with client_of(config) as client:
        fetched = fetch_bookings(client, config, [500, 999, 3, 3, True, 2**60])
    assert fetched.listed == (500, 999, 3)
    assert fetched.gone == (999,)
    assert [payload["operator"] for payload in fetched.payloads] == ["Testop 500", "Testop 3"]
    assert fetched.invalid == (True, 2**60)
    assert len(simulator.requests) == 4
