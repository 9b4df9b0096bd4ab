"""The task list's second category, T006-T010, each criterion as a test; the answers are T019's fixtures (T017)."""

from __future__ import annotations

import json
import logging
import re
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
import responses

from pipeline.calpendo.client import CalpendoClient
from pipeline.calpendo.fetch import FetchedBookings, fetch_bookings, fetch_window
from pipeline.calpendo.query import booking_query
from pipeline.calpendo.transport import Deadline
from pipeline.calpendo.window import Window, window_for
from pipeline.config import PipelineConfig
from pipeline.config.credentials import Credentials
from pipeline.errors import PluginFetchError

ANSWERS: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "fixtures/calpendo_responses.json").read_text()
)
BASE = "https://calpendo.test"
LIST = re.compile(rf"{BASE}/webdav/q/Calpendo\.Booking/.*")
OPERATORS = re.compile(rf"{BASE}/webdav/q/MRIScan/.*")
NOW = datetime(2026, 6, 10, 14, 0, tzinfo=UTC)  # eight o'clock in Edmonton


def config(**options: Any) -> PipelineConfig:
    """Return a configuration of the invented server; nothing is tried twice unless asked for."""
    block = {
        "base_url": BASE,
        "resources": ["3T Diagnostic"],
        "field_mapping": {},
        "max_retries": 0,
        **options,
    }
    return PipelineConfig.from_dict(block, environ={})


def window(**options: Any) -> Window:
    """Return the window of a minute's cycle at NOW."""
    return window_for(config(**options), NOW, 60)


def detail_url(number: int) -> str:
    """Return where a booking's details are."""
    return f"{BASE}/webdav/b/Calpendo.Booking/{number}"


def fetch(**options: Any) -> FetchedBookings:
    """Fetch the window of a minute's cycle at NOW."""
    settings = config(**options)
    with CalpendoClient(settings, Credentials("user", "secret-pass")) as client:
        return fetch_window(client, settings, window_for(settings, NOW, 60))


@pytest.fixture
def server() -> Iterator[responses.RequestsMock]:
    """Answer nothing yet."""
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


@pytest.fixture
def whole_server(server: responses.RequestsMock) -> responses.RequestsMock:
    """Answer with T019's fixtures."""
    server.get(LIST, json=ANSWERS["booking_query"])
    server.get(OPERATORS, json=ANSWERS["operator_query"])
    for number, body in ANSWERS["booking_details"].items():
        server.get(detail_url(int(number)), json=body)
    return server


def asked(server: responses.RequestsMock, part: str) -> list[str]:
    """Return the URLs asked for that hold a text."""
    return [call.request.url or "" for call in server.calls if part in (call.request.url or "")]


def test_one_resource_without_status() -> None:
    """T006: one resource and no status filter give the window and an OR group of one."""
    settings = config(include_running=False)
    assert booking_query(settings, window(include_running=False)) == (
        "AND/dateRange.start/GE/20260610-0758/dateRange.start/LT/20260611-0800/OR/resource.name/EQ/3T%20Diagnostic"
    )


def test_several_resources_are_one_or_group() -> None:
    """T006: several resources stand in one OR group."""
    query = booking_query(config(resources=["A", "B", "C"]), window())
    assert query.endswith("/OR/resource.name/EQ/A/resource.name/EQ/B/resource.name/EQ/C")


def test_status_stands_before_the_or_group() -> None:
    """T006: every AND term stands before the OR group, or it would fall inside it."""
    query = booking_query(config(resources=["A", "B"], status_filter="Approved"), window())
    assert query.index("status/EQ/Approved") < query.index("/OR/")
    assert query.count("AND") == 1


def test_no_resources_ask_for_all() -> None:
    """T006: an empty resources list gives a valid query for all resources."""
    everything = config().model_copy(update={"resources": ()})
    assert re.fullmatch(
        r"AND/dateRange\.start/GE/\d{8}-\d{4}/dateRange\.start/LT/\d{8}-\d{4}",
        booking_query(everything, window()),
    )


@pytest.mark.parametrize(
    ("form", "expected"), [("YYYYMMDD-HHMM", "20260610-0758"), ("YYYYMMDDTHHMM", "20260610T0758")]
)
def test_dates_are_site_wall_clock(form: str, expected: str) -> None:
    """T006: dates are the site's wall clock, in the task list's form or the vendor's."""
    query = booking_query(
        config(include_running=False, query_date_format=form), window(include_running=False)
    )
    assert f"dateRange.start/GE/{expected}/" in query


def test_every_value_is_quoted() -> None:
    """T006: no character of a value can become part of the grammar or of the URL."""
    query = booking_query(config(resources=["3T/7T ?#%&=+ä"], status_filter="To do"), window())
    assert "resource.name/EQ/3T%2F7T%20%3F%23%25%26%3D%2B%C3%A4" in query
    assert "status/EQ/To%20do" in query


def test_running_bookings_are_asked_for() -> None:
    """T003: the query reaches back max_booking_hours before the window, so that a running booking is listed."""
    assert "GE/20260609-1958/" in booking_query(config(), window())


def test_operators_are_asked_for_by_the_windows_query(whole_server: responses.RequestsMock) -> None:
    """T010: one query for the scans of the same window, with the fields of an operator."""
    fetch()
    query = booking_query(config(), window())
    (url,) = asked(whole_server, "/q/MRIScan/")
    assert f"/q/MRIScan/{query}?" in url
    assert "Operator.name" in url


def test_bookings_of_the_window_come_in_the_lists_order(whole_server: responses.RequestsMock) -> None:
    """T007: the list's ids are integers, in the server's order, each with its payload (T017: the whole workflow)."""
    fetched = fetch()
    assert fetched.listed == (1001, 1002, 1003, 1004, 1005)
    assert [payload["id"] for payload in fetched.payloads] == [1001, 1002, 1003, 1004, 1005]
    assert not fetched.failed
    assert not fetched.gone
    assert not fetched.warnings


def test_login_is_http_basic_and_json_is_asked_for(whole_server: responses.RequestsMock) -> None:
    """T007: each request carries the Basic login and asks for JSON."""
    fetch()
    expected = "Basic " + b64encode(b"user:secret-pass").decode()
    for call in whole_server.calls:
        assert call.request.headers["Authorization"] == expected
        assert call.request.headers["Accept"] == "application/json"


def test_timeouts_are_thirty_and_ten_seconds(whole_server: responses.RequestsMock) -> None:
    """T007, T008: a list may be silent for 30 seconds, a detail for 10."""
    fetch()
    for call in whole_server.calls:
        silence = 10 if "/b/" in (call.request.url or "") else 30
        assert call.request.req_kwargs["timeout"] == pytest.approx(silence)  # type: ignore[attr-defined]


@pytest.mark.parametrize("status", [401, 403])
def test_refused_login_on_the_list(server: responses.RequestsMock, status: int) -> None:
    """T007: 401 raises PluginFetchError that says so, and is not tried again."""
    server.get(LIST, json=ANSWERS["errors"]["401"], status=status)
    with pytest.raises(PluginFetchError, match="authentication failed"):
        fetch(max_retries=3)
    assert len(server.calls) == 1


def test_server_error_on_the_list(server: responses.RequestsMock) -> None:
    """T007: 500 raises PluginFetchError that says so."""
    server.get(LIST, json=ANSWERS["errors"]["500"], status=500)
    with pytest.raises(PluginFetchError, match="server error"):
        fetch()


def test_no_bookings_are_no_error(server: responses.RequestsMock) -> None:
    """T007: an empty list gives no bookings and asks for nothing more."""
    server.get(LIST, json={"biskits": []})
    fetched = fetch()
    assert fetched.listed == ()
    assert fetched.payloads == ()
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"<html>Anna Testa</html>", "text/html"),
        (b"<!DOCTYPE html><form>Anna <input type=password></form>", "text/html;charset=UTF-8"),
        (b"<biskits>Anna</biskits>", "application/xml"),
        (b'{"message": "Anna"}', "application/json"),
        (b'{"biskits": "Anna"}', "application/json"),
        (b'["Anna"]', "application/json"),
        (b'{"biskits": [{"id": 1, "title": "Anna', "application/json"),
        (b"", "application/json"),
        (b"null", "application/json"),
    ],
)
def test_anything_but_a_list_of_biskits_is_an_error(
    server: responses.RequestsMock, body: bytes, content_type: str
) -> None:
    """T007: an answer that is no JSON with biskits is an error, never an empty day, and its body stays unquoted."""
    server.get(LIST, body=body, content_type=content_type)
    with pytest.raises(PluginFetchError) as caught:
        fetch()
    assert "Anna" not in str(caught.value)
    assert "Calpendo.Booking query" in str(caught.value)


def test_a_login_page_says_so(server: responses.RequestsMock) -> None:
    """T007: a 200 with a login page is told as a failed login."""
    server.get(LIST, body=b"<html><input type='password'></html>", content_type="text/html")
    with pytest.raises(PluginFetchError, match="login page: authentication failed"):
        fetch()


def test_a_redirect_to_the_login_page_says_so(server: responses.RequestsMock) -> None:
    """T007: a redirect to a login page is a failed login, and is not followed."""
    server.get(LIST, status=302, headers={"Location": "/login.jsp?from=q"})
    with pytest.raises(PluginFetchError, match="authentication failed"):
        fetch()
    assert len(server.calls) == 1


def test_the_login_goes_to_no_other_origin(server: responses.RequestsMock) -> None:
    """T007: a redirect to another origin is refused; nothing is sent there."""
    server.get(LIST, status=302, headers={"Location": "https://elsewhere.test/webdav"})
    with pytest.raises(PluginFetchError, match=r"another origin, https://elsewhere\.test"):
        fetch()
    assert len(server.calls) == 1


def test_redirects_at_the_same_origin_are_followed_a_few_times(server: responses.RequestsMock) -> None:
    """T007: a server may move a path at its own origin, but not for ever."""
    server.get(LIST, status=307, headers={"Location": f"{BASE}/moved/q"})
    server.get(f"{BASE}/moved/q", json={"biskits": []})
    assert fetch().listed == ()
    server.replace(responses.GET, f"{BASE}/moved/q", status=302, headers={"Location": "/moved/q"})
    with pytest.raises(PluginFetchError, match="sent in circles"):
        fetch()


def test_ids_must_be_integers(server: responses.RequestsMock) -> None:
    """T007: only a whole number from 1 to 2^53-1 enters a URL; rows without one are counted, not fetched."""
    odd = [True, None, "1001", 1.5, -1, 0, 2**53, "../../admin", [1], {"a": 1}]
    rows: list[Any] = [{"id": value, "title": "x"} for value in odd] + ["no object", {}, {"id": 1001}]
    server.get(LIST, json={"biskits": rows})
    server.get(detail_url(1001), json=ANSWERS["booking_details"]["1001"])
    server.get(OPERATORS, json={"biskits": []})
    fetched = fetch()
    assert fetched.listed == (1001,)
    assert len(fetched.invalid) == len(odd) + 2
    assert [url.rpartition("/")[2] for url in asked(server, "/b/")] == ["1001"]


def test_a_booking_listed_twice_is_fetched_once(server: responses.RequestsMock) -> None:
    """T007: listed ids are distinct."""
    server.get(LIST, json={"biskits": [{"id": 1002}, {"id": 1002}]})
    server.get(OPERATORS, json={"biskits": []})
    server.get(detail_url(1002), json=ANSWERS["booking_details"]["1002"])
    assert fetch().listed == (1002,)
    assert len(asked(server, "/b/")) == 1


def test_details_come_as_they_are(whole_server: responses.RequestsMock) -> None:
    """T008: a payload is the detail's own object, of either generation."""
    by_id = {payload["id"]: payload for payload in fetch().payloads}
    for number, detail in ANSWERS["booking_details"].items():
        assert {key: value for key, value in by_id[int(number)].items() if key != "operator"} == detail


def test_only_scans_have_operators(whole_server: responses.RequestsMock) -> None:
    """T008, T010: MRI scans carry their operator, in whatever shape it came; other bookings have none."""
    operators = {payload["id"]: payload.get("operator") for payload in fetch().payloads}
    assert operators == {
        1001: "Testop One",
        1002: None,
        1003: "Testop Three",
        1004: None,
        1005: "Testop Five",
    }
    assert len(asked(whole_server, "/q/MRIScan/")) == 1
    assert asked(whole_server, "/q/MRIScan/")[0].endswith("?paths=id,Operator.name")


def test_without_scans_no_operator_is_asked_for(server: responses.RequestsMock) -> None:
    """T008: a window without MRI scans costs no operator query."""
    server.get(LIST, json={"biskits": [ANSWERS["booking_query"]["biskits"][1]]})
    server.get(detail_url(1002), json=ANSWERS["booking_details"]["1002"])
    assert len(fetch().payloads) == 1


def test_a_missing_booking_is_none(server: responses.RequestsMock) -> None:
    """T008: a detail that answers 404 is None: deleted, or never seen."""
    server.get(detail_url(7), json=ANSWERS["errors"]["404"], status=404)
    with CalpendoClient(config(), Credentials("u", "p")) as client:
        assert client.booking(7) is None


@pytest.mark.parametrize("status", [400, 409, 429, 500, 501, 503])
def test_other_detail_errors_raise(server: responses.RequestsMock, status: int) -> None:
    """T008: every other HTTP error of a detail is a PluginFetchError with the booking's id."""
    server.get(detail_url(7), json={"title": "Anna"}, status=status)
    with CalpendoClient(config(), Credentials("u", "p")) as client, pytest.raises(PluginFetchError) as caught:
        client.booking(7)
    assert "booking 7" in str(caught.value)
    assert f"HTTP {status}" in str(caught.value)
    assert "Anna" not in str(caught.value)


@pytest.mark.parametrize("number", [True, -1, 0, 2**53, "7", 7.0, None])
def test_nothing_but_an_id_enters_a_detail_url(number: Any) -> None:
    """T008: an id is an integer before it enters a URL."""
    with (
        CalpendoClient(config(), Credentials("u", "p")) as client,
        pytest.raises(ValueError, match="booking id"),
    ):
        client.booking(number)


@pytest.mark.parametrize(
    "body",
    [
        b'{"id": 8, "title": "another"}',
        b'{"id": true, "title": "another"}',
        b'{"error": "no session"}',
        b'[{"id": 1}]',
        b"<html></html>",
        b'{"id": 1, "tit',
        b"",
    ],
)
def test_a_detail_that_is_not_the_booking_fails(server: responses.RequestsMock, body: bytes) -> None:
    """T008: another booking, no booking, HTML, a torn or an empty answer fail; they are neither gone nor dropped."""
    server.get(LIST, json={"biskits": [{"id": 1, "biskitType": "EEG"}, {"id": 1002, "biskitType": "EEG"}]})
    server.get(detail_url(1), body=body, content_type="application/json")
    server.get(detail_url(1002), json=ANSWERS["booking_details"]["1002"])
    fetched = fetch()
    assert list(fetched.failed) == [1]
    assert [payload["id"] for payload in fetched.payloads] == [1002]


def test_a_detail_that_shows_no_id_is_the_one_asked_for(server: responses.RequestsMock) -> None:
    """T008: a hidden or missing id is the id that was asked for."""
    server.get(detail_url(5), json={"title": "x", "properties": {}})
    with CalpendoClient(config(), Credentials("u", "p")) as client:
        assert client.booking(5) == {"id": 5, "title": "x", "properties": {}}


def test_unreadable_text_is_the_bookings_own_fault(server: responses.RequestsMock) -> None:
    """T008: a whole answer that cannot be kept is handed on to be rejected with its id, not fetched for ever."""
    deep = b'{"id": 1, "title": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    server.get(detail_url(1), body=deep, content_type="application/json")
    server.get(detail_url(2), body=b'{"id": 2, "title": "\xff"}', content_type="application/json")
    server.get(detail_url(3), body=b'{"id": 3, "title": "\\ud800"}', content_type="application/json")
    fetched = fetch_one_by_one(1, 2, 3)
    assert [set(payload) for payload in fetched.payloads] == [{"id", "_unreadable"}] + [{"id", "title"}] * 2
    assert [payload["title"] for payload in fetched.payloads[1:]] == ["\udcff", "\ud800"]


def fetch_one_by_one(*numbers: int) -> FetchedBookings:
    """Fetch bookings by their ids."""
    settings = config()
    with CalpendoClient(settings, Credentials("u", "p")) as client:
        return fetch_bookings(client, settings, numbers)


def test_deleted_bookings_are_counted_as_gone(whole_server: responses.RequestsMock) -> None:
    """T009: a booking whose detail answers 404 is gone; the rest comes."""
    whole_server.replace(responses.GET, detail_url(1003), json=ANSWERS["errors"]["404"], status=404)
    fetched = fetch()
    assert fetched.gone == (1003,)
    assert len(fetched.payloads) == 4


def test_all_details_failing_raises(server: responses.RequestsMock) -> None:
    """T009: when not one detail can be had, the fetch raises instead of returning an empty day."""
    server.get(LIST, json=ANSWERS["booking_query"])
    server.get(re.compile(rf"{BASE}/webdav/b/.*"), status=503)
    server.get(OPERATORS, json=ANSWERS["operator_query"])
    with pytest.raises(PluginFetchError, match="not one of 5 bookings"):
        fetch()


def test_owed_bookings_may_all_fail(server: responses.RequestsMock) -> None:
    """T009: bookings fetched by id are reported as failed, so that one bad booking never stops a cycle."""
    server.get(detail_url(1), status=503)
    assert list(fetch_one_by_one(1).failed) == [1]


def test_counts_are_logged_without_names(
    whole_server: responses.RequestsMock, caplog: pytest.LogCaptureFixture
) -> None:
    """T009, T005: INFO tells how many came and how many failed, DEBUG each URL; no log holds a name or a password."""
    whole_server.replace(responses.GET, detail_url(1004), status=500)
    with caplog.at_level(logging.DEBUG):
        fetch()
    info = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert len(info) == 1
    assert info[0].startswith(
        "[calpendo:calpendo] 5 bookings listed: 4 fetched (details), 0 outside the window, "
    )
    assert info[0].endswith("0 gone, 1 failed, 0 without an id")
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == 1
    assert "1 bookings could not be fetched: 1004; " in warned[0]
    urls = [record.getMessage() for record in caplog.records if "GET " in record.getMessage()]
    assert any(f"GET {BASE}/webdav/q/Calpendo.Booking/AND/dateRange.start/GE/" in url for url in urls)
    for secret in ("secret-pass", "Testa", "Testop", "SUB00", b64encode(b"user:secret-pass").decode()):
        assert secret not in caplog.text


def test_an_operator_that_cannot_be_had_is_a_warning(
    whole_server: responses.RequestsMock, caplog: pytest.LogCaptureFixture
) -> None:
    """T010: a failed operator look-up warns and costs no booking."""
    whole_server.replace(responses.GET, OPERATORS, status=403)
    fetched = fetch()
    assert len(fetched.payloads) == 5
    assert all("operator" not in payload for payload in fetched.payloads)
    assert any("operators of 4 scans could not be fetched" in warning for warning in fetched.warnings)
    assert any(record.levelno == logging.WARNING for record in caplog.records)
    assert len(asked(whole_server, "/q/MRIScan/")) == 2


def test_refused_operator_query_falls_back_to_look_ups(whole_server: responses.RequestsMock) -> None:
    """T010: where the server refuses the one query for all, each scan's operator is looked up by its id."""
    whole_server.remove(responses.GET, OPERATORS)
    whole_server.get(re.compile(rf"{BASE}/webdav/q/MRIScan/AND/.*"), status=400)
    for row in ANSWERS["operator_query"]["biskits"]:
        one = f"{BASE}/webdav/q/MRIScan/id/EQ/{row['id']}?paths=id,Operator.name"
        whole_server.get(one, json={"biskits": [row]})
    fetched = fetch()
    operators = {payload["id"]: payload.get("operator") for payload in fetched.payloads}
    assert operators == {
        1001: "Testop One",
        1002: None,
        1003: "Testop Three",
        1004: None,
        1005: "Testop Five",
    }
    assert len(asked(whole_server, "/q/MRIScan/id/EQ/")) == 4
    assert len(fetched.warnings) == 1


def test_operators_may_be_left_out(whole_server: responses.RequestsMock) -> None:
    """T010: fetch_operators false asks for no operator."""
    fetched = fetch(fetch_operators=False)
    assert not asked(whole_server, "/q/MRIScan/")
    assert all("operator" not in payload for payload in fetched.payloads)


@pytest.mark.parametrize(("status", "pauses"), [(503, [0.5, 1.0, 2.0]), (429, [0.5, 1.0, 2.0])])
def test_a_server_in_trouble_is_given_time(
    server: responses.RequestsMock, monkeypatch: pytest.MonkeyPatch, status: int, pauses: list[float]
) -> None:
    """Issue: exponential backoff with jitter, from the first retry on where the server itself says it has trouble."""
    waited: list[float] = []

    def pause(self: Deadline, seconds: float) -> bool:
        waited.append(seconds)
        return True

    monkeypatch.setattr(Deadline, "pause", pause)
    server.get(LIST, status=status)
    with pytest.raises(PluginFetchError, match="after 4 attempts"):
        fetch(max_retries=3)
    assert all(least <= seconds <= least + 0.5 for least, seconds in zip(pauses, waited, strict=True))


def test_a_stale_connection_is_tried_again_at_once(
    server: responses.RequestsMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue: a connection that broke is replaced without a pause the first time, and with growing ones after it."""
    waited: list[float] = []

    def pause(self: Deadline, seconds: float) -> bool:
        waited.append(seconds)
        return True

    monkeypatch.setattr(Deadline, "pause", pause)
    server.get(LIST, body=requests.ConnectionError())
    with pytest.raises(PluginFetchError, match="no complete answer"):
        fetch(max_retries=2)
    assert waited[0] == 0
    assert 0.5 <= waited[1] <= 1.0
