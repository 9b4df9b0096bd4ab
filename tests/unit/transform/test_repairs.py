"""Only identity and time reject a booking: what becomes of every other value that its field cannot take."""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import fields
from pipeline.batch import Batch, process_batch
from pipeline.fields import WORKLIST
from pipeline.schema import split
from pipeline.transform import reasons, repairs
from tests.support.batches import batch_of, booking, config_of
from tests.support.strategies import BIRTHS, LONG_TEXTS, SEXES, TEXTS, WEIGHTS

TODAY = date(2026, 11, 25)
TEXT_FIELDS = [field for field in WORKLIST if field.origin == "mapped" and field.repair != "rejected"]


def repaired(field: str, *values: Any) -> Batch:
    """Return the batch of bookings 1, 2, ... with these values mapped to a field."""
    payloads = [booking(id=number, value=value) for number, value in enumerate(values, 1)]
    return process_batch(payloads, config_of({"patient_id": "id", field: "value"}), today=TODAY)


CASES: list[tuple[str, Any, str | None, list[str]]] = [
    # Descriptions end at a word's end in the limit's second half, names at a part's.
    ("station_name", "Prisma 3T East (big)", "Prisma 3T East", ["cut"]),
    ("station_name", "Skyra_Fit_Room_12_West", "Skyra_Fit_Room", ["cut"]),
    ("station_name", "A Magnetom-Terra-Plus", "A Magnetom-Terra", ["cut"]),
    ("station_name", "Prisma-Ost (,;-) z", "Prisma-Ost", ["cut"]),
    ("station_name", "1234567 \\ 9012345678", "1234567", ["cleaned", "cut"]),
    ("protocol_name", "-" * 65, None, ["emptied"]),
    ("protocol_name", "\\\\", None, ["emptied"]),
    ("procedure_description", "Knie\\Hüfte", "Knie Hüfte", ["cleaned"]),
    ("study_description", "ü" * 64, "ü" * 64, []),
    ("study_description", "ü" * 65, "ü" * 64, ["cut"]),
    ("patient_name", "a^b^c^d^e^f=g", "a^b^c^d^e=g", ["cut"]),
    ("patient_name", "a=b=c=d", "a=b=c", ["cut"]),
    ("patient_name", "Doe^" + "J" * 40 + "^" + "K" * 40 + "=漢" * 1, "Doe^" + "J" * 40 + "=漢", ["cut"]),
    ("referring_physician_name", "Dr. " + "Long-Name " * 7, ("Dr. " + "Long-Name " * 6).strip(), ["cut"]),
    # Codes and identifiers are never cut.
    ("accession_number", "1" * 17, None, ["emptied"]),
    ("accession_number", "A\\1", None, ["emptied"]),
    ("scheduled_station_aetitle", "x" * 17, None, ["emptied"]),
    ("hisris_coding_designator", "x" * 17, None, ["emptied"]),
    ("study_instance_uid", "1.02.3", None, ["emptied"]),
    ("study_instance_uid", "1." + "2" * 63, None, ["emptied"]),
    # Sexes.
    ("patient_sex", "WOMAN", "F", []),
    ("patient_sex", "man", "M", []),
    ("patient_sex", "o", "O", []),
    ("patient_sex", "männlich", None, ["emptied"]),
    ("patient_sex", "", "", []),
    # Dates as written.
    ("patient_birth_date", "19800503", "19800503", []),
    ("patient_birth_date", 19800503, "19800503", []),
    ("patient_birth_date", "1980-05-03T23:30:00-07:00", "19800503", []),
    ("patient_birth_date", "19800503T233000.5Z", "19800503", []),
    ("patient_birth_date", "Sat May 03 00:00:00 GMT+01:00 1980", "19800503", []),
    ("patient_birth_date", "1980-02-30", None, ["emptied"]),
    ("patient_birth_date", "3.5.1980", None, ["emptied"]),
    ("patient_birth_date", 325555200000, None, ["emptied"]),
    ("patient_birth_date", "2026-11-25", "20261125", []),
    ("patient_birth_date", "2026-11-26", None, ["emptied"]),
    ("patient_birth_date", "18791231", None, ["emptied"]),
    # Weights, in kilograms whatever the field is called.
    ("patient_weight_lb", 72.5, "72.5", []),
    ("patient_weight_lb", "72,50KG", "72.50", []),
    ("patient_weight_lb", "155.5 lbs", "70.53", ["converted"]),
    ("patient_weight_lb", "4 lb", None, ["emptied"]),
    ("patient_weight_lb", "351", None, ["emptied"]),
    ("patient_weight_lb", "-70", None, ["emptied"]),
    ("patient_weight_lb", "70 st", None, ["emptied"]),
    ("patient_weight_lb", "72." + "5" * 20, None, ["emptied"]),
    # Text that was damaged before it came.
    ("protocol_name", "A&amp;B", "A&amp;B", ["suspect"]),
    ("protocol_name", "caf&#xe9;", "caf&#xe9;", ["suspect"]),
    ("protocol_name", "R&D; AT&T; &", "R&D; AT&T; &", []),
    ("accession_number", "A\ufffd", "A\ufffd", ["suspect"]),
    ("comment", "Jos\ufffd", "Jos\ufffd", ["suspect"]),
    ("patient_name", "O&#39;" + "N" * 70, "O&#39;" + "N" * 58, ["cut", "suspect"]),
]  # fmt: skip
"""A field, a value that is mapped to it, what goes out, and the kinds of repair that are flagged."""


@pytest.mark.parametrize("field", dict.fromkeys(field for field, *_ in CASES))
def test_a_value_is_repaired_as_the_rules_say(field: str) -> None:
    """The booking goes out, with what its field can take, and a person can see which bookings to look at."""
    cases = [case[1:] for case in CASES if case[0] == field]
    batch = repaired(field, *(value for value, _, _ in cases))
    assert batch.rejected.is_empty()
    assert batch.entries[field].to_list() == [after for _, after, _ in cases]
    flagged = {kind: ids for kind in repairs.KINDS if (ids := _numbers(cases, kind))}
    assert batch.flags.repaired == ({field: flagged} if flagged else {})


def _numbers(cases: list[Any], kind: str) -> tuple[int, ...]:
    return tuple(number for number, (_, _, kinds) in enumerate(cases, 1) if kind in kinds)


def test_lossless_translations_are_counted() -> None:
    """A word for a sex, a date's form, a comma: nothing is lost, so nothing is flagged, but it can be seen."""
    batch = repaired("patient_sex", "Female", "M", "male", "?", None)
    assert batch.flags.translated == {"patient_sex": 2}
    assert batch.flags.repaired == {"patient_sex": {"emptied": (4,)}}
    assert repaired("patient_weight_lb", "72,5", "72.5").flags.translated == {"patient_weight_lb": 1}


def test_an_identifier_is_looked_at_and_left_alone() -> None:
    """An entity or a lost character in an id rejects nothing and changes nothing; it is flagged."""
    batch = batch_of(
        booking(id=1, value="S&amp;1"), booking(id=2, value="S2"), mapping={"patient_id": "value"}
    )
    assert batch.entries["patient_id"].to_list() == ["S&amp;1", "S2"]
    assert batch.flags.repaired["patient_id"] == {"suspect": (1,)}


def test_flags_are_of_accepted_bookings() -> None:
    """A booking that is rejected stands in quarantine with its reasons; what was repaired in it concerns nobody."""
    batch = batch_of(
        booking(id=1, end=1, formattedName="[]", value="x" * 99),
        mapping={"patient_id": "id", "protocol_name": "value"},
    )
    assert len(batch.rejected) == 1
    assert batch.flags.repaired == {}


def test_the_form_comes_before_the_cut() -> None:
    """A name is brought into its form first: the family name that stands last is not what is cut off."""
    name = "Anna " + "Maria " * 12 + "Muster"
    batch = batch_of(booking(title=f"SUB1_{name}"), patient_name_form="family_given")
    assert batch.entries["patient_name"].to_list()[0].startswith("Muster^Anna Maria")
    assert batch.flags.repaired == {"patient_name": {"cut": (4711,)}}


def test_what_no_repair_knows_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that the repairs overlook empties an optional field and flags it; the booking goes out."""
    monkeypatch.setattr(repairs, "repaired_text", lambda text, *_: repairs.Repair(text))
    batch = repaired("protocol_name", "fine", "x" * 65, "a\\b")
    assert batch.entries["protocol_name"].to_list() == ["fine", None, None]
    assert batch.accepted["protocol_name"].to_list() == ["fine", None, None]
    assert batch.flags.repaired == {"protocol_name": {"emptied": (2, 3)}}


ANY_VALUE = st.one_of(TEXTS, LONG_TEXTS, SEXES, BIRTHS, WEIGHTS, st.text(max_size=90)).filter(
    lambda value: not isinstance(value, str) or value.isprintable()
)


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(TEXT_FIELDS), st.lists(ANY_VALUE, min_size=1, max_size=12))
def test_no_value_of_an_optional_field_rejects_or_breaks_an_entry(
    field: fields.WorklistField, values: list[Any]
) -> None:
    """Whatever stands in it: every booking goes out, the gate has nothing left to find, a second repair changes nothing."""
    batch = repaired(field.name, *values)
    assert batch.rejected.is_empty()
    assert split(batch.entries).accepted.all()
    again = batch.entries[field.name].to_list()
    assert repaired(field.name, *again).entries[field.name].to_list() == again
    for text in filter(None, again):
        done = repairs.repaired_text(text, field, TODAY)
        assert (done.text, set(done.kinds) <= {"suspect"}) == (text, True)


@settings(max_examples=50)
@given(LONG_TEXTS, st.sampled_from([16, 64]))
def test_a_cut_text_is_a_beginning(text: str, limit: int) -> None:
    """A cut adds nothing, keeps the limit, and takes no more than half of it away but for loose ends."""
    short = repairs.cut(text, limit)
    assert text.startswith(short)
    assert len(short) <= limit
    assert short == text or len(text) > limit
    assert len(text) <= limit or not text[len(short) : limit // 2].strip(" ,;-_(")


def test_every_rule_is_explained() -> None:
    """Each reason code that the table's rules can give has a meaning and a remedy."""
    for rule in repairs.entry_rules(fields.names()):
        assert reasons.explain(rule.code).meaning != reasons.explain("unheard_of").meaning


def test_repairs_leave_a_lazy_frame_lazy() -> None:
    """A stage takes a lazy frame and returns one, with every column of the plan known before it runs."""
    frame = pl.LazyFrame({"patient_sex": ["Female", None]})
    plan = repairs.repaired_columns(frame, ["patient_sex"], None)
    assert plan.collect_schema() == plan.collect().schema
    assert plan.collect()["translated"].to_list() == [["patient_sex"], []]
