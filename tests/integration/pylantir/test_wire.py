"""What a record may carry: DICOM's default characters, each field its own type, and nothing that breaks an answer."""

from __future__ import annotations

import warnings
from datetime import date, time
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID
from pylantir.models import WorklistItem
from pylantir.worklist_sync import _format_date, _format_time
from pynetdicom.dsutils import decode, encode

from pipeline.pylantir.host_rows import stored_columns, stored_form
from pipeline.pylantir.study_uid import is_study_uid, study_uid
from pipeline.pylantir.transliteration import transliterate
from pipeline.pylantir.wire import dicom_date, dicom_time, sent_texts, to_wire
from tests.integration.pylantir.scanner import line_of

ENTRY = {
    "patient_id": "SUB1",
    "patient_name": "Doe^Jane",
    "modality": "MR",
    "scheduled_start_date": date(2026, 3, 9),
    "scheduled_start_time": time(7, 5),
    "performed_procedure_step_status": "SCHEDULED",
    "source_record_id": "1",
}


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("Doe^Jane", "Doe^Jane"),
        ("Müller^Jürgen", "Muller^Jurgen"),
        ("Mu\u0308ller", "Muller"),
        ("Nguyễn^Thị", "Nguyen^Thi"),
        ("李^小龙", "Li^XiaoLong"),
        ("Иванов^Пётр", "Ivanov^Petr"),
        ("O\u2019Brien", "O'Brien"),
        ("Smith\u200b^A", "Smith^A"),
        ("山田^太郎=やまだ", "ShanTian^TaiLang=yamada"),
    ],
)
def test_names_become_readable(text: str, written: str) -> None:
    """Letters of any script get their usual reading; ^ and = keep their places."""
    result = transliterate(text)
    assert (result.text, result.faithful) == (written, True)


@pytest.mark.parametrize("text", ["Doe＾Jane", "a＝b", "a＼b"])
def test_no_separator_comes_out_of_another_character(text: str) -> None:
    """A look-alike of ^, = or backslash does not become one."""
    assert not set(transliterate(text).text) & {"^", "=", "\\"}


def test_a_letter_without_a_reading_is_not_dropped_in_silence() -> None:
    """A character of a private font cannot be written: the entry is kept back rather than shortened."""
    assert not transliterate("Doe\ue000").faithful
    wire = to_wire(ENTRY | {"patient_name": "Doe\ue000"})
    assert wire.fault == "patient_name holds a character that has no reading"


@given(st.text(max_size=40))
def test_transliterated_text_is_printable_ascii(text: str) -> None:
    """Whatever comes in beyond ASCII, printable ASCII comes out; ASCII stays as it is, separators are not added."""
    written = transliterate(text).text
    assert written.isascii()
    assert [written.count(mark) for mark in "^=\\"] == [text.count(mark) for mark in "^=\\"]
    if text.isascii():
        assert written == text


def test_without_transliteration_what_cannot_be_carried_is_kept_back() -> None:
    """transliterate: false sends Latin-1 as it is, and keeps back what would be shown as question marks."""
    assert (
        to_wire(ENTRY | {"patient_name": "Müller"}, transliterating=False).record["patient_name"] == "Müller"
    )
    wire = to_wire(ENTRY | {"patient_name": "李^小龙"}, transliterating=False)
    assert wire.fault == "patient_name holds characters that the answer cannot carry"


def test_a_reading_longer_than_the_field_is_kept_back() -> None:
    """Sixty characters may have a reading of more than the 64 that a PN or LO holds."""
    assert to_wire(ENTRY | {"patient_name": "庄" * 40}).fault == "patient_name is no valid PN"
    wire = to_wire(ENTRY | {"study_description": "庄" * 40})
    assert (wire.fault, wire.cleared, wire.record["study_description"]) == (
        None,
        ("study_description",),
        None,
    )


values = st.one_of(
    st.none(), st.text(st.characters(), max_size=80), st.sampled_from(["70 kg", "1980-01-01", "é", "\ud800"])
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(sent_texts(), values) | {"accession_number": values}))
def test_no_record_breaks_an_answer(fields: dict[str, Any]) -> None:
    """Any text in any field: the record is kept back, or Pylantir's own answer encodes, decodes and reads in ASCII."""
    from pylantir.mwl_server import row_to_mwl_dataset

    wire = to_wire(ENTRY | fields)
    for value in wire.record.values():
        if isinstance(value, str):
            value.encode()
    if wire.fault:
        return
    row = WorklistItem(
        performed_procedure_step_status="SCHEDULED",
        **{"patient_weight_lb": "100", "protocol_name": "DEFAULT_PROTOCOL"} | stored_form(wire.record),
    )
    with warnings.catch_warnings():
        # The host's own constants break two rules (CodeValue, an empty coding scheme); that is not the record's doing.
        warnings.simplefilter("ignore")
        encoded = encode(row_to_mwl_dataset(row), True, True)
        assert encoded is not None
        line = line_of(decode(BytesIO(encoded), True, True))
    assert line.patient_id
    assert all(part.isascii() and part.isprintable() for part in vars(line).values())


def test_faults_name_fields_and_no_values() -> None:
    """What is said about a record never shows what stands in it."""
    wire = to_wire(ENTRY | {"patient_name": "Doe\\Jane", "patient_sex": "male", "patient_weight_lb": "70 kg"})
    assert wire.fault == "patient_name holds a backslash or a control character"
    assert wire.cleared == ("patient_sex", "patient_weight_lb")


def test_pylantir_writes_da_and_tm() -> None:
    """Pylantir's own formatting, asked for dashes and colons, gives YYYYMMDD and HHMMSS."""
    assert _format_date(dicom_date(date(2026, 3, 9))) == "20260309"
    assert _format_time(dicom_time(time(7, 5, 30))) == "070530"
    assert dicom_date(None) is None
    assert dicom_time("x") == "x"


def test_the_stored_form_is_what_pylantir_stores(site: Any) -> None:
    """What is compared with the database equals what the real upsert put there, column by column."""
    from tests.integration.pylantir.bookings import booking

    here = site()
    here.sim.put(booking(1, "SUB1_Doe"))
    (entry,) = here.plugin.fetch_entries({}, 60)
    expected = stored_form(to_wire(entry).record)
    here.plugin.cleanup()
    here.sync()
    row = here.host.row(1)
    assert {name: row[name] for name in expected} == expected
    assert set(stored_columns()) <= set(row)


def test_study_uids_are_valid_stable_and_their_bookings_own() -> None:
    """PS3.5 B.2: 2.25 and a UUID; the same for http and https, another for another booking or server."""
    uid = study_uid("https://site.calpendo.com", 41)
    assert uid == study_uid("http://SITE.calpendo.com/", 41) == study_uid("https://site.calpendo.com", "41")
    others = {study_uid("https://site.calpendo.com", 42), study_uid("https://other.calpendo.com", 41)}
    assert uid not in others
    for made in (uid, *others):
        assert UID(made).is_valid
        assert is_study_uid(made)


@pytest.mark.parametrize("value", [None, 41, "41", "", "2.25.007", "1." + "2" * 64, "1.2.x", "3.1", "1..2"])
def test_what_is_no_study_uid(value: object) -> None:
    """A bare number, leading zeros, letters or more than 64 characters are no UID."""
    assert not is_study_uid(value)
