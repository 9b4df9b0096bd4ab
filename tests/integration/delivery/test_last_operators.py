"""Operators that the server says nothing of: nothing is sent for it, and nothing is blanked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.delivery_site import Site, booking

MakeSite = Callable[..., Site]
OPERATORS = "/q/MRIScan/"
SILENT = [("status", {"code": 503}), ("status", {"code": 403}), ("reset", {}), ("html", {})]


def scan(number: int, **fields: Any) -> dict[str, Any]:
    """Return a scan with an operator."""
    payload = booking(number, biskitType="MRIScan", **fields)
    payload["properties"]["Operator"] = {"name": f"Testop {number}"}
    return payload


@pytest.fixture(params=["details", "bulk", "changed"])
def site(request: pytest.FixtureRequest, make_site: MakeSite) -> Site:
    """Return a site with three scans, each sent with its operator, in each of the fetch modes."""
    site = make_site(0, fetch_mode=request.param, fetch_operators=True)
    site.config["field_mapping"] = {**site.config["field_mapping"], "performing_physician": "operator"}
    for number in (1, 2, 3):
        site.simulator.put(scan(number))
    assert physicians(site.fetch()) == {1: "Testop 1", 2: "Testop 2", 3: "Testop 3"}
    return site


def physicians(entries: dict[int, dict[str, Any]]) -> dict[int, str | None]:
    """Give the operators by booking id."""
    return {number: entry["performing_physician"] for number, entry in entries.items()}


@pytest.mark.parametrize(("kind", "details"), SILENT, ids=["503", "403", "reset", "html"])
def test_a_silent_operator_query_sends_nothing(site: Site, kind: str, details: dict[str, Any]) -> None:
    """Promise: a question that was not answered changes no entry, in this cycle or the next; a warning says so."""
    site.simulator.faults.add(kind, match=OPERATORS, **details)
    assert site.fetch() == {}
    assert any("could not be fetched" in warning for warning in site.plugin.last_report.warnings)
    site.simulator.faults.clear()
    assert site.fetch() == {}


def test_it_outlives_the_process(site: Site) -> None:
    """Promise: a pipeline that cron starts anew each time knows the operators from the ledger."""
    site.close()
    site.simulator.faults.add("status", match=OPERATORS, code=503)
    assert site.fetch() == {}


def test_what_else_changed_goes_out_with_the_last_operator(site: Site) -> None:
    """Promise: other changes and new bookings are sent in such a cycle; a new one gets its operator in the next."""
    site.simulator.faults.add("status", match=OPERATORS, code=503)
    site.simulator.edit(2, title="SUB002_Neu_Berta", modified="2026-06-02 08:00:00.0")
    site.simulator.put(scan(4))
    sent = site.fetch()
    assert physicians(sent) == {2: "Testop 2", 4: None}
    assert sent[2]["patient_name"] == "Neu_Berta"
    assert dict(site.plugin.last_report.changed_fields) == {"notes": 1, "patient_name": 1}
    site.simulator.faults.clear()
    assert physicians(site.fetch()) == {4: "Testop 4"}


def test_an_answer_counts(site: Site) -> None:
    """Promise: an operator who changed, or of whom the server says that there is none, is sent."""
    site.simulator.edit(1, Operator={"name": "Neuop"})
    site.simulator.edit(2, Operator=None)
    assert physicians(site.fetch()) == {1: "Neuop", 2: None}
