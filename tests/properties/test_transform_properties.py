"""The columns against the plain-Python reference, whatever JSON the bookings hold."""

from __future__ import annotations

import json
from datetime import date
from functools import lru_cache
from itertools import islice
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pipeline.batch import Batch, process_batch, transform_bookings
from pipeline.calpendo.fetch import as_payload
from pipeline.config import PipelineConfig
from pipeline.schema import BookingSchema, WorklistEntrySchema
from pipeline.simulator.synthetic import synthetic_bookings
from pipeline.transform.bookings import bookings_schema, read_bookings
from pipeline.transform.json_values import find
from pipeline.transform.read_objects import as_text
from pipeline.transform.read_text import TextReader
from tests.reference.reference import Outcome, reference_batch
from tests.support.strategies import BATCHES, JSON_VALUES, PATHS, odd_bookings, regular_bookings

PROPERTY = settings(deadline=None, max_examples=20)
THOROUGH = settings(deadline=None, max_examples=60)
EXTRACT_ID = {"pattern": r"^([A-Za-z]+[0-9]+)[_ -].*", "group": 1}
EXTRACT_NAME = {"pattern": r"^[A-Za-z]+[0-9]+[_ -]+(?P<name>.+)$", "group": "name"}
CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {"field_mapping": {}},
    "usual": {
        "resource_modality_mapping": {"3T": "MR", "3T Research": "MR", "EEG": "EEG"},
        "resource_ae_title": {"3T": "PRISMA", "3t diagnostic": "SKYRA 2"},
        "field_mapping": {
            "patient_id": {"source_field": "title", "_extract": EXTRACT_ID},
            "patient_name": {"source_field": "title", "_extract": EXTRACT_NAME},
            "study_description": "properties.project.formattedName",
            "accession_number": "id",
            "performing_physician": "operator",
            "patient_sex": "sex",
            "patient_birth_date": "born",
            "patient_weight_lb": "weight",
            "station_name": "properties.resource.formattedName",
            "scheduled_station_aetitle": "station",
        },
    },
    "strict": {
        "timezone": "Australia/Lord_Howe",
        "output_timezone": "site",
        "patient_name_form": "family_given",
        "status_mapping": {"nonsense": "COMPLETED"},
        "on_no_match": "reject",
        "field_mapping": {
            "title": {
                "_extract": {
                    "patient_id": EXTRACT_ID,
                    "patient_name": {**EXTRACT_NAME, "on_no_match": "null"},
                }
            },
            "modality": {
                "source_field": "resource.name",
                "_extract": {"pattern": "(.+?)( .*)?$", "group": 1},
            },
            "comment": "properties.status",
        },
    },
    "lists": {
        "ignore_titles": ["^ctl", "(?x) zoë [ ] # a comment", r"\bjane$"],
        "field_mapping": {
            "patient_id": {
                "source_field": "title",
                "_extract": [
                    {"pattern": r"(?P<study>SUB)?(\d+)(?:_| - )", "template": "{study}-{2}"},
                    {"pattern": r"(?i)([a-z]+)(\d+)-", "template": "{{{0}}}", "values": {"{eeg7-}": "EEG 7"}},
                    {"pattern": r"(EEG|ctl)(\d)?", "group": 2, "on_no_match": "reject"},
                ],
            },
            "title": {
                "_extract": {
                    "patient_name": [
                        {"pattern": r"[A-Za-z]*\d*[_ -]+(.+), (.+)$", "template": "{1}^{2}"},
                        {
                            "pattern": r"[^_]*_(\S+) ?(.*)",
                            "template": "{1}^{2}{1}",
                            "values": {"john_DOE^": "Doe^John"},
                        },
                    ]
                }
            },
            "patient_sex": {"source_field": "sex", "values": {"Männlich": "M", "w": "F", "not told": ""}},
            "modality": {"source_field": "resource", "values": {"3t research": "MR", "küche": "OT"}},
            "performed_procedure_step_status": {
                "source_field": "status",
                "_extract": [
                    {"pattern": "(?i)app.*", "values": {"approved": "Completed"}, "on_no_match": "null"}
                ],
            },
            "study_description": {
                "source_field": "project.formattedName",
                "_extract": [{"pattern": "(B)rain (.*)", "template": "{2}, {1}"}],
                "values": {"Study, B": "x" * 70, "sommeil & m&eacute;moire": "Sleep"},
            },
        },
    },
    "odd": {
        "timezone": "America/St_Johns",
        "output_timezone": "Asia/Kathmandu",
        "patient_name_form": "given",
        "resource_ae_title": {"3T Research": "CONNECTOM", "EEG": "EEG"},
        "field_mapping": {
            "patient_id": {"source_field": "title", "_extract": {"pattern": r"(?:SUB(\d+))?.", "group": 1}},
            "patient_sex": "status",
            "study_instance_uid": "properties.modified",
            "patient_birth_date": "properties.created",
        },
    },
}


TODAY = date(2026, 11, 25)


@lru_cache
def config_of(name: str) -> PipelineConfig:
    """Return one of the configurations, read once."""
    return PipelineConfig.from_dict(CONFIGS[name], environ={}, offline=True)


USUAL_TEXTS = [json.dumps(booking).encode() for booking in islice(synthetic_bookings(400), 300)]
SHARDS = (
    b'"', b"\\", b"{", b"}", b"[", b"null", b"NaN", b"1e999", b"\xff", b"\xed\xa0\x80", b"\\ud800", b"\\u0000",
    b"-", b"01", b"99999999999999999999", b"true", b"<Hidden>", b'"id": 7, ', b'"title": null, ', b'"status": 5, ',
    b'"properties": null, ', b'"resource": "x", ', b'"project": {"name": "p"}, ', b'"properties.created": "x", ',
    b'"resource.name": "r", ', b'"cancelled": "TRUE", ', b'"dateRange": {"end": "2026-01-01"}, ', b"[" * 1100,
)  # fmt: skip

TARGETS = ("patient_id", "study_description", "station_name", "protocol_name")
configs = st.one_of(
    st.sampled_from(sorted(CONFIGS)).map(config_of),
    # Any path may be mapped.
    st.lists(st.sampled_from(PATHS), min_size=4, max_size=4).map(
        lambda paths: PipelineConfig.from_dict(
            {"field_mapping": dict(zip(TARGETS, paths, strict=True))}, environ={}, offline=True
        )
    ),
)


def outcomes(batch: Batch) -> list[Outcome]:
    """Put a batch back into the order of its payloads."""
    found: dict[int, Outcome] = {}
    told = batch.accepted.select("row", "booking_id", "repaired", "translated")
    for (row, booking_id, repaired, translated), entry in zip(told.rows(), batch.to_dicts(), strict=True):
        found[row] = Outcome(booking_id, entry, [], sorted(repaired), sorted(translated))
    for row, booking_id, _, reasons, _ in batch.rejected.rows():
        found[row] = Outcome(booking_id, None, reasons)
    for row, booking_id in batch.filtered.select("row", "booking_id").rows():
        found[row] = Outcome(booking_id, None, [])
    return [found[row] for row in range(len(found))]


@THOROUGH
@given(BATCHES, configs)
def test_columns_equal_the_reference(payloads: list[Any], config: PipelineConfig) -> None:
    """T011-T015: entries, ids and reasons are those of the plain-Python reference, row by row."""
    assert outcomes(process_batch(payloads, config, today=TODAY)) == reference_batch(payloads, config, TODAY)


@PROPERTY
@given(BATCHES, configs)
def test_every_payload_is_in_one_part(payloads: list[Any], config: PipelineConfig) -> None:
    """Conservation: accepted, rejected and ignored rows together are the payloads, each once."""
    batch = process_batch(payloads, config)
    rows = [*batch.accepted["row"], *batch.rejected["row"], *batch.filtered["row"]]
    assert sorted(rows) == list(range(len(payloads)))
    assert len(batch.entries) + len(batch.rejected) + len(batch.filtered) == len(payloads)
    assert set(batch.filtered["reason"]) <= {"title_ignored"}
    assert (batch.rejected["reasons"].list.len() > 0).all()


@PROPERTY
@given(BATCHES, configs)
def test_text_and_objects_mean_the_same(payloads: list[Any], config: PipelineConfig) -> None:
    """A payload as text, as bytes or as an object gives the same outcome."""
    texts = [json.dumps(payload) for payload in payloads]
    objects = [json.loads(text) for text in texts]
    expected = outcomes(
        process_batch(
            [value if isinstance(value, dict) else text for value, text in zip(objects, texts, strict=True)],
            config,
        )
    )
    assert outcomes(process_batch(texts, config)) == expected
    assert outcomes(process_batch([text.encode() for text in texts], config)) == expected


@PROPERTY
@given(st.lists(odd_bookings(), max_size=6), st.integers(0, 6), configs)
def test_parts_of_a_batch_equal_the_whole(
    payloads: list[dict[str, Any]], cut: int, config: PipelineConfig
) -> None:
    """Cutting a batch in two changes nothing but which duplicates are seen."""
    for number, payload in enumerate(payloads, 1):
        payload["id"] = number
    whole = outcomes(process_batch(payloads, config))
    parts = outcomes(process_batch(payloads[:cut], config)) + outcomes(process_batch(payloads[cut:], config))
    assert whole == parts


@PROPERTY
@given(st.lists(JSON_VALUES, max_size=5), configs)
def test_the_bookings_frame_has_one_shape(payloads: list[Any], config: PipelineConfig) -> None:
    """T014: whatever the payloads are, the frame has the same columns and types and one row each."""
    frame = read_bookings(payloads, config)
    assert dict(frame.schema) == bookings_schema(config)
    assert frame["row"].to_list() == list(range(len(payloads)))
    BookingSchema.validate(frame)


@PROPERTY
@given(st.lists(regular_bookings(), max_size=6), configs)
def test_accepted_entries_pass_the_public_schema(payloads: list[Any], config: PipelineConfig) -> None:
    """The gate of a batch and the public pandera model hold the same rules."""
    entries = process_batch(payloads, config).entries
    WorklistEntrySchema.validate(entries, lazy=True)


@PROPERTY
@given(st.binary(max_size=40), configs)
def test_any_bytes_give_one_row(payload: bytes, config: PipelineConfig) -> None:
    """Bytes of any kind never raise."""
    assert len(process_batch([payload], config).rejected) == 1


NOT_JSON = st.sampled_from(
    [object(), {1, 2}, b"x", 1j, float("nan"), float("inf"), (1, 2), range(3), 10**5000]
)


@PROPERTY
@given(st.lists(odd_bookings(NOT_JSON), min_size=1, max_size=4), configs)
def test_objects_with_values_json_cannot_hold(payloads: list[Any], config: PipelineConfig) -> None:
    """An object with values that no JSON has gives one row like any other."""
    batch = process_batch(payloads, config)
    assert len(batch.accepted) + len(batch.rejected) + len(batch.filtered) == len(payloads)


def test_every_engine_gives_the_same() -> None:
    """A stage takes a lazy frame and gives one, nothing is collected on the way, and streaming changes nothing."""
    config = config_of("usual")
    frame = read_bookings(synthetic_bookings(2000, seed=5), config)
    plan = transform_bookings(frame.lazy(), config)
    assert isinstance(plan, pl.LazyFrame)
    whole = plan.collect(engine="in-memory")
    assert plan.collect(engine="streaming").equals(whole)
    parts = [transform_bookings(frame.slice(start, 700), config).collect() for start in (0, 700, 1400)]
    assert pl.concat(parts).equals(whole)


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_an_empty_batch_has_all_columns(name: str) -> None:
    """No bookings give empty frames of the full shape, and an empty list."""
    batch = process_batch([], config_of(name))
    assert batch.to_dicts() == []
    full = process_batch(
        [{"id": 1, "title": "SUB1_x", "formattedName": "[2026-01-27 14:00:00, 2026-01-27 15:00:00]"}],
        config_of(name),
    )
    assert batch.entries.schema == full.entries.schema
    assert batch.accepted.schema == full.accepted.schema
    assert batch.rejected.schema == full.rejected.schema


def as_objects(texts: list[Any], config: PipelineConfig) -> pl.DataFrame:
    """Return the bookings frame of the texts' objects, as Python's own ``json`` reads them."""
    objects: list[Any] = []
    for text in texts:
        whole = text if isinstance(text, str) else text.decode("utf-8", "surrogateescape")
        try:
            found = json.loads(whole, strict=False)
            objects.append(found if isinstance(found, dict) else [])
        except (ValueError, RecursionError):
            objects.append(text)
    return read_bookings(objects, config)


@THOROUGH
@given(BATCHES, configs)
def test_texts_mean_what_their_objects_mean(bookings: list[Any], config: PipelineConfig) -> None:
    """Texts, ordinary ones and others, give the rows that the reader of objects gives for what they hold."""
    texts = [json.dumps(booking) for booking in bookings]
    for given_texts in (texts, [text.encode() for text in texts]):
        assert_frame_equal(read_bookings(given_texts, config), as_objects(given_texts, config))


@THOROUGH
@given(st.sampled_from(USUAL_TEXTS), st.data(), configs)
def test_a_damaged_text_is_read_as_its_object_is(
    text: bytes, data: st.DataObject, config: PipelineConfig
) -> None:
    """Bytes changed, cut out or doubled in a usual booking: no damage is overlooked because nobody asked for the field."""
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(text) - 1))
        length = data.draw(st.integers(0, 12))
        new = data.draw(st.binary(max_size=2) | st.sampled_from(SHARDS))
        text = text[:place] + new + text[place + length :]
    given_texts = [USUAL_TEXTS[0], text, USUAL_TEXTS[1]]
    assert_frame_equal(read_bookings(given_texts, config), as_objects(given_texts, config))


@THOROUGH
@given(odd_bookings(), st.sampled_from(PATHS))
def test_the_client_finds_what_the_columns_hold(booking: dict[str, Any], path: str) -> None:
    """One look-up: what the client finds at a path is the text in the column that is mapped from it."""
    config = PipelineConfig.from_dict({"field_mapping": {"patient_id": path}}, environ={}, offline=True)
    (held,) = read_bookings([booking], config)[f"source:{path}"].to_list()
    is_there, found = find(booking, path)
    text = as_text(found)
    assert held == text or (text is not None and any("\ud800" <= character <= "\udfff" for character in text))
    assert is_there or found is None


@THOROUGH
@given(odd_bookings(), st.lists(st.sampled_from([path for path in PATHS if path.count("properties") < 2])))
def test_a_row_of_a_list_means_the_same_as_a_detail(booking: dict[str, Any], mapped: list[str]) -> None:
    """The booking that ``fetch_mode`` bulk makes of a row holds at every path the text that the row held."""
    paths = (*mapped, "title", "properties.resource.formattedName")
    before = json.dumps(booking)
    payload = as_payload(booking, paths, named=True)
    assert json.dumps(booking) == before
    for path in paths:
        assert as_text(find(payload, path)[1]) == as_text(find(booking, path)[1])


def test_usual_bookings_become_no_objects() -> None:
    """Nearly all bookings of a busy site, both generations, are read as texts: else the two tests above prove nothing."""
    left = TextReader(config_of("usual")).add(USUAL_TEXTS)
    assert len(left) < 0.05 * len(USUAL_TEXTS)


def test_an_odd_text_leaves_only_itself() -> None:
    """A byte that is no UTF-8 in a wanted field, no JSON, another type: each is left alone, its neighbours are not."""
    usual = [text for text in USUAL_TEXTS if not TextReader(config_of("usual")).add([text])][:3]
    for odd in (b'{"id": 1, "operator": "\xff"}', '{"id": true}', "{", b""):
        assert list(TextReader(config_of("usual")).add([usual[0], odd, *usual[1:]])) == [1]
