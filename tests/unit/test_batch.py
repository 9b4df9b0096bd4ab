"""The batch: every payload in one part, duplicates, the selection, and the labelled sample."""

from __future__ import annotations

import gc
import json
import re
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import pytz
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pipeline import batch as batches
from pipeline.batch import Batch, judge_bookings, process_batch, process_changed, transform_bookings
from pipeline.config import PipelineConfig
from pipeline.config.file import select_source
from pipeline.errors import PluginSchemaError
from pipeline.schema import split
from pipeline.transform.bookings import read_bookings
from pipeline.transform.columns import to_rows
from pipeline.transform.reasons import FIELD_REASONS, REASONS, explain, field_reason
from pipeline.transform.selection import Selection
from tests.support.batches import batch_of, booking, config_of, entry_of

DATA = Path(__file__).parents[2] / "data"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ("{", "payload_not_json"),
        (b"\xff", "payload_not_json"),
        ("[1]", "payload_not_object"),
        (None, "payload_not_object"),
        ("7", "payload_not_object"),
    ],
)
def test_t014_payloads_that_are_no_booking(payload: Any, reason: str) -> None:
    """Every payload gives one row, also one that is no booking at all."""
    batch = batch_of(booking(), payload)
    assert batch.rejected["row"].to_list() == [1]
    assert batch.rejected["reason"].to_list() == [reason]


def test_t014_a_character_cut_between_two_payloads_is_whole_in_neither() -> None:
    """Bytes are read payload by payload: what would be UTF-8 behind one another is none apart."""
    text = json.dumps(booking(description="é" * 15), ensure_ascii=False).encode()
    cut = text.index("é".encode()) + 15
    batch = batch_of(text[:cut], text[cut:], json.dumps(booking()).encode())
    assert batch.rejected["reason"].to_list() == ["payload_not_json"] * 2
    unread = json.dumps(booking(description="y")).encode()
    ends = (unread.replace(b'"y"', b'"y\xc3"'), unread.replace(b'"y"', b'"\xa9y"'))
    assert [batch_of(end).to_dicts() for end in ends] == [batch_of(unread).to_dicts()] * 2


def test_t014_half_a_surrogate_pair_is_rejected_with_its_id() -> None:
    """A text that UTF-8 cannot carry costs its own booking only, as text and as an object."""
    torn = booking(title="SUB001_\ud800")
    for payload in (torn, json.dumps(torn)):
        batch = batch_of(booking(id=1), payload, booking(id=2))
        assert batch.rejected.select("booking_id", "reason").rows() == [(4711, "lone_surrogate")]
        assert len(batch.to_dicts()) == 2
    unread = booking(description="\ud800")
    assert entry_of(unread)["patient_id"] == entry_of(json.dumps(unread))["patient_id"] == "SUB001"


def test_duplicates_keep_the_newest() -> None:
    """Of several payloads of one booking the newest modification counts, else the last one."""

    def copy(title: str, modified: str | None) -> dict[str, Any]:
        return booking(title=title, properties={"modified": modified})

    batch = batch_of(
        copy("A_x", "2026-01-02T00:00:00Z"), copy("B_x", "2026-01-03 00:00:00.0"), copy("C_x", None)
    )
    assert [entry["patient_id"] for entry in batch.to_dicts()] == ["B"]
    assert batch.rejected["reason"].to_list() == ["duplicate_booking_id"] * 2
    assert [entry["patient_id"] for entry in batch_of(copy("A_x", None), copy("B_x", "?")).to_dicts()] == [
        "B"
    ]


def labels() -> list[dict[str, Any]]:
    """Return the hand-made labels of the sample."""
    return [
        json.loads(line)
        for line in (DATA / "expected_entries.ndjson").read_text(encoding="utf-8").split("\n")
        if line
    ]


def test_the_sample_is_as_labelled_by_hand() -> None:
    """SC-002: every labelled field, rejection and flag of the sample is as it was worked out by hand."""
    config = PipelineConfig.from_dict(
        select_source(DATA / "calpendo_config_example.json", "calpendo").config, environ={}, offline=True
    )
    lines = [line for line in (DATA / "bookings.ndjson").read_bytes().split(b"\n") if line]
    batch = process_batch(lines, config)
    entries = {int(entry["source_record_id"]): entry for entry in batch.to_dicts()}
    by_row = dict(batch.rejected.select("row", "reason").rows())
    by_id = dict(batch.rejected.select("booking_id", "reason").rows())
    for label in labels():
        booking_id = label["booking_id"]
        if "rejected" in label:
            found = by_row[label["line"] - 1] if "line" in label else by_id[booking_id]
            assert (booking_id, found) == (booking_id, label["rejected"])
            continue
        shown = {
            name: getattr(value, "isoformat", lambda value=value: value)()
            for name, value in entries[booking_id].items()
        }
        assert {name: shown[name] for name in label["expected"]} == label["expected"], booking_id
        flags = [
            name
            for name in ("dst_ambiguous", "dst_nonexistent", "multi_day")
            if booking_id in getattr(batch.flags, name)
        ]
        assert (booking_id, sorted(flags)) == (booking_id, sorted(label["flags"]))


UTC_DAY = (datetime(2026, 1, 27, 21, tzinfo=UTC), datetime(2026, 1, 28, 21, tzinfo=UTC))


@pytest.mark.parametrize(
    ("changes", "selection", "reason"),
    [
        ({}, Selection(resources=("3t DIAGNOSTIC",)), None),
        (
            {"properties": {"resource": {"formattedName": "Room 3", "name": "3T"}}},
            Selection(resources=("3T",)),
            None,
        ),
        ({}, Selection(resources=("EEG",)), "resource"),
        ({"status": "APPROVED"}, Selection(status="approved"), None),
        ({"status": "Pending"}, Selection(status="Approved"), "status"),
        ({}, Selection(start=UTC_DAY[0], end=UTC_DAY[1]), None),
        ({}, Selection(end=UTC_DAY[0]), "window"),
        ({}, Selection(start=UTC_DAY[0].replace(hour=22)), None),
        ({}, Selection(start=UTC_DAY[0].replace(hour=22), include_running=False), "window"),
        ({}, Selection(start=UTC_DAY[0].replace(hour=22, minute=30)), "window"),
        ({}, Selection(allowed_studies=("Brain Study",)), None),
        ({}, Selection(allowed_studies=("Other",)), "study"),
        ({"status": "Pending"}, Selection(resources=("EEG",), status="Approved"), "resource"),
    ],
)
def test_the_selection_repeats_what_was_asked_for(
    changes: dict[str, Any], selection: Selection, reason: str | None
) -> None:
    """Design decision 5: resource, status, window and study are checked again on this side."""
    batch = process_batch([booking(**changes)], config_of(), selection=selection)
    assert len(batch.rejected) == 0
    assert batch.filtered["reason"].to_list() == ([reason] if reason else [])
    assert len(batch.entries) + len(batch.filtered) == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"properties": None}, "resource_missing"), ({"status": "<Hidden>"}, "status_missing")],
)
def test_what_cannot_be_told_to_be_asked_for_is_rejected(changes: dict[str, Any], reason: str) -> None:
    """Design decision 5: a hidden resource or status is neither let through nor dropped without a word."""
    selection = Selection(resources=("3T Diagnostic",), status="Approved")
    batch = process_batch([booking(**changes), "{", booking(id=2)], config_of(), selection=selection)
    assert batch.rejected["reason"].to_list() == [reason, "payload_not_json"]
    assert batch.accepted["booking_id"].to_list() == [2]


def test_a_frame_is_judged_as_its_payloads_are() -> None:
    """One door: who holds a frame gets the verdicts that its payloads get, but for their text; the hash is optional."""
    config = config_of()
    selection = Selection(resources=("3T Diagnostic",))
    elsewhere = {"resource": {"formattedName": "EEG"}, "modified": "2026-01-01T00:00:00Z"}
    payloads = [booking(), "{", booking(id=2, properties=elsewhere), booking(id=3, formattedName="?")]
    batch = process_batch(payloads, config, selection=selection)
    frame = read_bookings(payloads, config)
    judged = judge_bookings(frame, config, selection=selection)
    for part in ("entries", "filtered", "asked_for"):
        assert getattr(judged, part).equals(getattr(batch, part))
    assert judged.rejected.drop("payload").equals(batch.rejected.drop("payload"))
    assert judged.rejected["payload"].to_list() == [None, None]
    assert batch.filtered.select("row", "modified", "reason").rows() == [
        (2, "2026-01-01T00:00:00Z", "resource")
    ]
    unhashed = judge_bookings(frame, config, selection=selection, hashed=False)
    assert unhashed.entries.drop("notes").equals(batch.entries.drop("notes"))
    assert unhashed.entries["notes"].to_list() == ['{"booking_hash": "' + "0" * 64 + '"}']
    older = judge_bookings(frame, config, older=frame["booking_id"] == 3)
    assert older.rejected["reason"].to_list() == [
        "payload_not_json",
        "duplicate_booking_id; times_unreadable",
    ]


def test_a_booking_moved_away_takes_its_older_copy_along() -> None:
    """The newest copy counts even where it is not asked for any more: the older one must not be sent."""
    old = booking(properties={"resource": {"formattedName": "3T"}, "modified": "2026-01-01T00:00:00Z"})
    new = booking(properties={"resource": {"formattedName": "EEG"}, "modified": "2026-01-02T00:00:00Z"})
    batch = process_batch([new, old], config_of(), selection=Selection(resources=("3T",)))
    assert len(batch.entries) == 0
    assert batch.filtered["row"].to_list() == [0]
    assert batch.rejected["reason"].to_list() == ["duplicate_booking_id"]


def test_rejected_payloads_are_kept_as_text() -> None:
    """The quarantine gets what came: text as it is, objects as JSON, and no kind of payload breaks it."""
    loop: dict[str, Any] = {}
    loop["self"] = loop
    payloads: list[Any] = [
        '{"id": 1',
        b"\xff{}",
        "\ud800",
        {"id": 2, "x": {3}},
        {"id": 3, "t": "\ud800"},
        loop,
        7,
        None,
        {1: 2},
    ]
    kept = process_batch(payloads, config_of()).rejected["payload"].to_list()
    assert kept[:3] == ['{"id": 1', "\\xff{}", "\\ud800"]
    assert kept[3:] == [
        '{"id": 2, "x": "<set>"}',
        '{"id": 3, "t": "\\ud800"}',
        '{"unwritable": "<dict>"}',
        "7",
        "null",
        '{"1": 2}',
    ]


def test_nothing_of_a_patient_in_the_batch_s_repr() -> None:
    """Design decision 6: a batch in a log or a traceback shows sizes only."""
    assert repr(batch_of(booking(), "x")) == "Batch(accepted=1, rejected=1, filtered=0)"


def test_a_frame_of_another_shape_is_a_fault_of_the_program() -> None:
    """A missing or mistyped column raises PluginSchemaError that names columns, never values."""
    config = config_of()
    frame = read_bookings([booking()], config)
    for wrong in (frame.drop("title"), frame.with_columns(title=1)):
        with pytest.raises(PluginSchemaError, match="title") as caught:
            transform_bookings(wrong, config)
        assert "SUB001" not in str(caught.value)
    entries = batch_of(booking()).entries
    for wrong in (entries.drop("modality"), entries.with_columns(modality=1)):
        with pytest.raises(PluginSchemaError, match="modality") as caught:
            split(wrong)
        assert "SUB001" not in repr(caught.value)
        assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_every_reason_is_explained() -> None:
    """Each reason code has a meaning and a remedy, for the report, the quarantine and the audit."""
    codes = [*REASONS, *(field_reason("patient_id", ending) for ending in FIELD_REASONS)]
    for code in codes:
        assert re.fullmatch("[a-z_]+", code)
        assert all(text.endswith(".") and "{" not in text for text in explain(code))
    assert explain("something_new").remedy


def test_threads_share_the_paused_collector() -> None:
    """The collector is on again when the last of several overlapping batches is done, and off if it was off."""
    assert gc.isenabled()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: batch_of(booking(id=number)), range(1, 9)))
    assert gc.isenabled()
    gc.disable()
    try:
        batch_of(booking())
        assert not gc.isenabled()
    finally:
        gc.enable()


NOON = datetime(2026, 1, 6, 19, tzinfo=UTC)
DAY = Selection(resources=("3T Diagnostic",), start=NOON, end=NOON + timedelta(hours=24))


def moved(minutes: float, selection: Selection = DAY) -> Selection:
    """Move a selection's window on."""
    assert selection.start
    assert selection.end
    step = timedelta(minutes=minutes)
    return replace(selection, start=selection.start + step, end=selection.end + step)


def at(number: int, start: datetime, minutes: int = 60) -> dict[str, Any]:
    """Make a booking that starts at an instant."""
    begins, ends = (
        moment.astimezone(pytz.timezone("America/Edmonton")).strftime("%Y-%m-%d %H:%M:%S")
        for moment in (start, start + timedelta(minutes=minutes))
    )
    return booking(id=number, formattedName=f"[{begins}.0, {ends}.0]")


def assert_equal_batches(one: Batch, other: Batch) -> None:
    """Compare everything that a batch holds."""
    for name in ("entries", "rejected", "filtered", "asked_for"):
        assert_frame_equal(getattr(one, name), getattr(other, name))
    assert one.is_accepted.to_list() == other.is_accepted.to_list()
    assert one.flags == other.flags


@settings(max_examples=15, deadline=None)
@given(
    starts=st.lists(st.sampled_from([-120, -60, -59, -1, 0, 1, 29, 30, 31, 1440, 1441, 1470]), max_size=4),
    steps=st.lists(st.sampled_from([0, 0.5, 1, 30, -30, 1440]), min_size=1, max_size=4),
    running=st.booleans(),
)
def test_a_kept_batch_is_the_one_that_would_be_made(
    starts: list[int], steps: list[float], running: bool
) -> None:
    """Property: wherever the window moves to, the batch of unchanged payloads is as if it were made anew."""
    config = config_of()
    payloads = [at(number, NOON + timedelta(minutes=start)) for number, start in enumerate(starts, 1)]
    selection, kept = replace(DAY, include_running=running), None
    for step in steps:
        selection = moved(step, selection)
        kept = process_changed(kept, deepcopy(payloads), config, selection=selection)
        assert_equal_batches(kept.batch, process_batch(payloads, config, selection=selection))


def test_a_batch_is_kept_until_something_is_different() -> None:
    """Promise: a quiet cycle makes no batch; a change of anything makes one: a value's type, the order, the selection."""
    config = config_of()
    payloads = [
        at(1, NOON + timedelta(hours=2)),
        at(2, NOON - timedelta(minutes=30)),
        at(3, NOON - timedelta(minutes=40), 70),
    ]
    kept = process_changed(None, payloads, config, selection=DAY)

    def same(selection: Selection = DAY, *, of: Any = None, config: PipelineConfig = config) -> bool:
        given = deepcopy(payloads) if of is None else of
        again = process_changed(kept, given, config, selection=selection)
        assert_equal_batches(again.batch, process_batch(given, config, selection=selection))
        return again is kept

    assert same()
    assert same(moved(20)), "no booking begins or ends in these twenty minutes, nor a day later"
    assert not same(moved(30)), "one ends at the window's new start"
    assert not same(moved(-40)), "one begins in between"
    assert not same(replace(DAY, start=None))
    assert not same(replace(DAY, resources=()))
    assert not same(replace(DAY, include_running=False))
    assert not same(config=config_of(default_modality="US")), "another configuration"
    assert not same(of=payloads[::-1])
    assert not same(of=payloads[:2])
    assert not same(of=[payloads[0] | {"title": "SUB009_Testa_Eva"}, *payloads[1:]])
    flag = [[payloads[0] | {"cancelled": value}, *payloads[1:]] for value in (True, 1, 1.0)]
    assert len({process_changed(None, of, config, selection=DAY).payloads for of in flag}) == 3
    assert "SUB" not in repr(kept)


def test_what_is_large_or_was_stopped_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise: nothing large is held between cycles, and a pattern that was stopped for its time is tried again."""
    config = config_of()
    payloads = [at(1, NOON + timedelta(hours=2))]
    monkeypatch.setattr(batches, "_KEPT_AT_MOST", 0)
    kept = process_changed(None, payloads, config, selection=DAY)
    assert process_changed(kept, payloads, config, selection=DAY) is not kept
    monkeypatch.undo()
    kept = process_changed(None, payloads, config, selection=DAY)
    stopped = kept.batch.asked_for.with_columns(timed_out=pl.lit(["patient_name"]))
    late = kept._replace(batch=replace(kept.batch, asked_for=stopped))
    assert process_changed(late, payloads, config, selection=DAY) is not late
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert process_changed(None, [at(1, NOON) | {"odd": deep}], config, selection=DAY).payloads is None


IGNORING = {"ignore_titles": ["phantom", "^qa\\b"], "field_mapping": {"patient_id": "title"}}


@pytest.mark.parametrize("selection", [None, Selection(resources=("3T Diagnostic",))])
def test_ignored_titles_are_filtered(selection: Selection | None) -> None:
    """rules.md: searched anywhere and without case, with or without a selection; never rejected for anything else."""
    titles = ["SUB1 a", "Daily PHANTOM check", "\u200bQA\u00a0run", "no qa", "Phant\udce9om", None]
    payloads = [{**booking(), "id": 10 + place, "title": title} for place, title in enumerate(titles)]
    payloads += [
        {"id": 30, "title": "phantom without a time"},
        {**booking(), "id": 11, "title": "older phantom"},
    ]
    payloads[-2] |= {"properties": {"resource": {"formattedName": "3T Diagnostic"}}}
    batch = process_batch(
        payloads, PipelineConfig.from_dict(IGNORING, environ={}, offline=True), selection=selection
    )
    assert batch.entries["patient_id"].to_list() == ["SUB1 a", "no qa"]
    assert batch.filtered.select("booking_id", "reason").rows() == [
        (12, "title_ignored"),
        (30, "title_ignored"),
        (11, "title_ignored"),
    ]
    assert batch.rejected.select("booking_id", "reason").rows() == [
        (11, "duplicate_booking_id"),
        (14, "text_undecodable"),
        (15, "patient_id_missing"),
    ]


@pytest.mark.parametrize("name", ["patient_id", "a-b", "", "__slots__", "class", "größe", "x y"])
def test_rows_are_the_frames_own_dictionaries(name: str) -> None:
    """Promise: an entry has the keys of the columns, whatever they are called, and plain Python values."""
    frame = pl.DataFrame(
        {name: ["same", "same"], "other": [None, "b"], "day": [date(2026, 1, 2)] * 2, "minutes": [3, None]}
    )
    assert to_rows(frame) == frame.to_dicts()
    assert to_rows(frame.clear()) == []
