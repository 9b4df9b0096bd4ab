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

from pipeline.hosts import is_study_uid, study_uid, transliterate, transliterate_name
from pipeline.pylantir.host_rows import stored_columns, stored_form
from pipeline.pylantir.wire import dicom_date, dicom_time, sent_texts, to_wire
from tests.support.scanner import line_of

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
    ],
)
def test_names_become_readable(text: str, written: str) -> None:
    """Letters of any script get their usual reading; ^ and = keep their places."""
    result = transliterate_name(text)
    # Chinese characters are read in Chinese, and nobody can tell whether a Japanese name stands there.
    assert (result.text, result.faithful) == (written, "李" not in text)


@pytest.mark.parametrize(
    ("name", "written", "faithful"),
    [
        ("山田^太郎=やまだ", "yamada", True),
        ("山田^太郎=山田^太郎=やまだ^たろう", "yamada^tarou", True),
        ("=山田^太郎=ヤマダ^タロウ", "yamada^tarou", True),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada^Tarou", True),
        ("ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎", "yamada^tarou", True),
        ("Müller^Jürgen==ミュラー", "Muller^Jurgen", True),
        ("홍^길동=洪^吉洞=홍^길동", "Hong^GilDong", True),
        ("=山田^太郎", "ShanTian^TaiLang", False),
        ("李^小龙", "Li^XiaoLong", False),
        ("Ann 😀 Bo", "Ann Bo", False),
        ("Doe^👍🏽 Ann ♥", "Doe^Ann", False),
        ("O´Neill", "O'Neill", True),
        ("Doe\ue000^Ann", "Doe^Ann", False),
        ("Müller™", "Muller", False),
    ],
)
def test_a_name_goes_out_as_it_can_be_read(name: str, written: str, faithful: bool) -> None:
    """The phonetic group is used where the alphabetic cannot be read; symbols and emoji are left out; doubts are said."""
    result = transliterate_name(name)
    assert (result.text, result.faithful) == (written, faithful)
    repaired = to_wire(ENTRY | {"patient_name": name}).repaired
    assert repaired == ({} if faithful else {"patient_name": ("suspect",)})


@pytest.mark.parametrize("text", ["Doe＾Jane", "a＝b", "a＼b"])
def test_no_separator_comes_out_of_another_character(text: str) -> None:
    """A look-alike of ^, = or backslash does not become one."""
    assert not set(transliterate(text).text) & {"^", "=", "\\"}


def test_an_identifier_is_never_transliterated() -> None:
    """Two subjects must not become one: an id beyond ASCII is kept back with its reason, and every other field goes out."""
    wire = to_wire(ENTRY | {"patient_id": "Ä12"})
    assert wire.fault == "patient_id holds characters beyond ASCII, and an identifier is not transliterated"
    assert wire.record["patient_id"] == "Ä12"
    assert to_wire(ENTRY | {"patient_id": "Ä12"}, transliterating=False).fault is None
    assert to_wire(ENTRY | {"patient_id": "李12"}, transliterating=False).fault is not None


def test_a_name_of_nothing_but_symbols_is_left_out() -> None:
    """The subject goes out under the id alone."""
    wire = to_wire(ENTRY | {"patient_name": "^😀", "study_description": "🧠 5°"})
    assert (wire.fault, wire.record["patient_name"]) == (None, "UNKNOWN")
    assert wire.record["study_description"] == "5deg"
    assert wire.repaired == {"patient_name": ("emptied",), "study_description": ("suspect",)}


@given(st.text(max_size=40))
def test_transliterated_text_is_printable_ascii(text: str) -> None:
    """Whatever comes in beyond ASCII, printable ASCII comes out; ASCII stays as it is, separators are not added."""
    written = transliterate(text).text
    assert written.isascii()
    assert [written.count(mark) for mark in "^=\\"] == [text.count(mark) for mark in "^=\\"]
    if text.isascii():
        assert written == text


def test_without_transliteration_what_cannot_be_carried_is_left_out() -> None:
    """transliterate: false sends Latin-1 as it is, and leaves out what would be shown as question marks."""
    assert (
        to_wire(ENTRY | {"patient_name": "Müller"}, transliterating=False).record["patient_name"] == "Müller"
    )
    wire = to_wire(ENTRY | {"patient_name": "李^小龙"}, transliterating=False)
    assert (wire.fault, wire.record["patient_name"]) == (None, "UNKNOWN")
    assert wire.repaired == {"patient_name": ("emptied",)}


def test_a_reading_longer_than_the_field_is_cut() -> None:
    """Sixty characters may have a reading of more than the 64 that a PN or LO holds: it is cut as in a batch."""
    for field in ("patient_name", "study_description"):
        wire = to_wire(ENTRY | {field: "庄 " * 30})
        assert wire.fault is None
        assert wire.record[field] == " ".join(["Zhuang"] * 9)
        assert wire.repaired == {field: ("cut", "suspect")}


values = st.one_of(
    st.none(), st.text(st.characters(), max_size=80), st.sampled_from(["70 kg", "1980-01-01", "é", "\ud800"])
)


@given(
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys([field.name for field in sent_texts()], values) | {"accession_number": values},
    )
)
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


def test_what_is_said_of_a_record_holds_no_value() -> None:
    """What does not keep DICOM's rules is left out here too, whoever made the entry; only field and kind are told."""
    wire = to_wire(ENTRY | {"patient_name": "Doe\\Jane", "patient_sex": "male", "patient_weight_lb": "70 kg"})
    assert wire.fault is None
    assert wire.repaired == dict.fromkeys(("patient_name", "patient_sex", "patient_weight_lb"), ("emptied",))


def test_pylantir_writes_da_and_tm() -> None:
    """Pylantir's own formatting, asked for dashes and colons, gives YYYYMMDD and HHMMSS."""
    assert _format_date(dicom_date(date(2026, 3, 9))) == "20260309"
    assert _format_time(dicom_time(time(7, 5, 30))) == "070530"
    assert dicom_date(None) is None
    assert dicom_time("x") == "x"


def test_the_stored_form_is_what_pylantir_stores(site: Any) -> None:
    """What is compared with the database equals what the real upsert put there, column by column."""
    from tests.support.bookings_by_hour import booking

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
