"""Bytes that are no UTF-8, and labels that the body contradicts, from a real server to the entries."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.batch import Batch, Selection, process_batch
from pipeline.simulator import CalpendoSimulator
from tests.support.calpendo_site import fetch, scan, settings

LATIN_1 = "application/json; charset=ISO-8859-1"
MAPPING = {
    "patient_id": {"source_field": "title", "_extract": {"pattern": "^([A-Z]+[0-9]+)_", "group": 1}},
    "patient_name": {"source_field": "title", "_extract": {"pattern": "^[A-Z]+[0-9]+_(.+)$", "group": 1}},
    "study_description": "properties.project.formattedName",
}


def batch_of(mode: str, *bookings: dict[str, Any], **rewrite: Any) -> Batch:
    """Return the batch of bookings on a server that rewrites its answers."""
    with CalpendoSimulator(list(bookings)) as server:
        server.faults.add("rewrite", **rewrite)
        config = settings(server.url, fetch_mode=mode, field_mapping=MAPPING, fetch_operators=False)
        fetched = fetch(server, fetch_mode=mode, field_mapping=MAPPING, fetch_operators=False)
        assert fetched.mode == mode
        assert not server.errors
        return process_batch(fetched.payloads, config)


def names(batch: Batch) -> dict[str, str]:
    """Return the entries' names by patient id."""
    return {entry["patient_id"]: entry["patient_name"] for entry in batch.to_dicts()}


@pytest.mark.parametrize("mode", ["details", "bulk", "changed"])
@pytest.mark.parametrize("label", [LATIN_1, "application/json", "text/html"])
def test_a_broken_byte_costs_its_own_booking_only(mode: str, label: str) -> None:
    """Issue: one broken byte in one title, under any label, in every mode: that booking is rejected by its id, the
    others come, and their names are not turned."""
    people = [scan(1), scan(2) | {"title": "SUB002_BROKEN"}, scan(3) | {"title": "SUB003_José Núñez"}]
    batch = batch_of(mode, *people, old=b"BROKEN", new=b"Jos\xe9", content_type=label)
    others = {"SUB001": "Testa_Anna", "SUB003": "José Núñez"}
    if mode == "bulk":
        assert names(batch) == others
        assert batch.rejected.select("booking_id", "reason").rows() == [(2, "text_undecodable")]
    else:
        # Each detail is a body of its own: alone and so labelled, the byte is a letter of Latin-1.
        alone = {"SUB002": "José"} if label == LATIN_1 else {}
        assert names(batch) == others | alone
        assert batch.rejected["reason"].to_list() == [] if alone else ["text_undecodable"]


@pytest.mark.parametrize("mode", ["details", "bulk", "changed"])
def test_a_list_with_a_broken_byte_lists_every_booking(mode: str) -> None:
    """Issue: where only the list is broken, every booking comes, that one too, unless the list is the payload."""
    people = [scan(1), scan(2) | {"title": "SUB002_BROKEN"}, scan(3) | {"title": "SUB003_Zoë"}]
    batch = batch_of(mode, *people, match="/q/", old=b"BROKEN", new=b"\xffBROKEN", content_type=LATIN_1)
    found = names(batch)
    assert found.pop("SUB002", None) == (None if mode == "bulk" else "BROKEN")
    assert found == {"SUB001": "Testa_Anna", "SUB003": "Zoë"}


def test_a_byte_in_another_field_is_left_out() -> None:
    """Rule: only identity and time reject; a broken byte in a project's name is left out of it, and flagged."""
    booking = scan(1)
    booking["properties"]["project"]["formattedName"] = "Sleep BROKEN"
    batch = batch_of("details", booking, old=b"BROKEN", new=b"\xff\xfeStudy", content_type="application/json")
    (entry,) = batch.to_dicts()
    assert entry["study_description"] == "Sleep Study"
    assert batch.flags.repaired == {"study_description": {"suspect": (1,)}}


@pytest.mark.parametrize("mode", ["details", "bulk", "changed"])
def test_a_label_that_the_body_contradicts_is_not_believed(mode: str) -> None:
    """Issue: UTF-8 labelled ISO-8859-1 keeps its names; JSON labelled text/html is no login page."""
    people = [scan(1) | {"title": "SUB001_José"}, scan(2)]
    for label in (LATIN_1, "text/html;charset=UTF-8", "text/html"):
        batch = batch_of(mode, *people, content_type=label)
        assert names(batch) == {"SUB001": "José", "SUB002": "Testa_Anna"}


@pytest.mark.parametrize("mode", ["details", "bulk", "changed"])
def test_times_that_cannot_be_decoded_cut_nothing(mode: str) -> None:
    """Rule: a row of the list whose times hold a broken byte is not left out by the list; its own booking is judged."""
    batch = batch_of(
        mode,
        scan(1),
        scan(2),
        match="/q/",
        old=b"[2026-06-10 09:10",
        new=b"[20\xff26-06-10 09:10",
        content_type="application/json",
    )
    assert len(batch.entries) + len(batch.rejected) == 2
    found = dict(batch.rejected.select("booking_id", "reason").rows())
    assert found == ({1: "text_undecodable"} if mode == "bulk" else {})


@pytest.mark.parametrize(("named", "reason"), [("3T Diag", None), ("Other", "resource_missing")])
def test_a_resource_that_lost_a_byte_is_never_another_one(named: str, reason: str | None) -> None:
    """Rule: where a filter asks for a resource, one that cannot be told rejects; it is not filtered as another."""
    booking = scan(1)
    booking["properties"]["resource"]["formattedName"] = "3T\udcff Diag"
    config = settings("http://127.0.0.1:1", field_mapping=MAPPING)
    batch = process_batch([booking], config, selection=Selection(resources=(named,)))
    assert batch.rejected["reason"].to_list() == ([] if reason is None else [reason])
    assert batch.filtered.is_empty()


def test_latin_1_that_says_so_is_read() -> None:
    """Rule: where no string of the body is UTF-8 beyond ASCII, the label counts."""
    batch = batch_of(
        "bulk",
        scan(1) | {"title": "SUB001_JOSE"},
        scan(2) | {"title": "SUB002_JOSE Roe"},
        old=b"JOSE",
        new=b"Jos\xe9",
        content_type=LATIN_1,
    )
    assert names(batch) == {"SUB001": "José", "SUB002": "José Roe"}
