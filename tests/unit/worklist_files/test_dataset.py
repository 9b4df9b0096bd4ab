"""One entry as a worklist item: every return key of PS3.4 table K.6-1, in a character set that the console knows."""

from __future__ import annotations

import signal
import threading
import warnings
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import pydicom
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from pipeline import fields
from pipeline.commands.run import until_stopped
from pipeline.hosts import study_uid
from pipeline.worklist_files.dataset import Item, worklist_item
from pipeline.worklist_files.directory import read_seal, sealed

URL = "https://site.calpendo.com"
START = datetime(2026, 11, 26, 9, 5, 7, tzinfo=UTC)
ENTRY = {
    "patient_id": "SUB001",
    "modality": "MR",
    "performed_procedure_step_status": "SCHEDULED",
    "source_record_id": "9007199254740991",
}
WHOLE = {
    "patient_id": "SUB001",
    "patient_name": "Doe^Jane",
    "patient_birth_date": "19800503",
    "patient_sex": "F",
    "patient_weight_lb": "71.5",
    "accession_number": "A-17",
    "referring_physician_name": "House^Greg",
    "study_description": "Brain Study",
    "study_instance_uid": "1.2.3.4",
    "scheduled_station_aetitle": "PRISMA 1",
    "performing_physician": "Roe^Rita",
    "procedure_description": "Head, resting state",
    "protocol_name": "T1W",
    "station_name": "3T Diagnostic",
    "hisris_coding_designator": "99SITE",
    "modality": "MR",
    "performed_procedure_step_status": "IN_PROGRESS",
    "source_record_id": "17",
}
TYPE_1 = "PatientName PatientID StudyInstanceUID RequestedProcedureID ScheduledProcedureStepSequence"
TYPE_2 = (
    "AccessionNumber ReferringPhysicianName RequestingPhysician ReferencedStudySequence ReferencedPatientSequence"
    " PatientBirthDate PatientSex PatientWeight MedicalAlerts Allergies PregnancyStatus SpecialNeeds PatientState AdmissionID"
    " CurrentPatientLocation RequestedProcedurePriority PatientTransportArrangements RequestedProcedureDescription"
    " ConfidentialityConstraintOnPatientDataDescription"
)
STEP_TYPE_1 = (
    "ScheduledStationAETitle ScheduledProcedureStepStartDate ScheduledProcedureStepStartTime Modality"
    " ScheduledProcedureStepID ScheduledProcedureStepDescription"
)
STEP_TYPE_2 = "ScheduledPerformingPhysicianName ScheduledStationName ScheduledProcedureStepLocation"
NAMES = {
    "Latin": "Müller^Jürgen",
    "Greek": "Παπαδόπουλος^Νίκος",
    "Cyrillic": "Иванов^Пётр",
    "Hebrew": "כהן^דוד",
    "Arabic": "الحسن^محمد",
    "Persian": "رضایی^علی\u200cرضا",
    "Devanagari": "शर्मा^अर्जुन",
    "Thai": "สมชาย^ใจดี",
    "Chinese": "Li^XiaoLong=李^小龙",
    "Japanese": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "Korean": "Hong^Gildong=洪^吉洞=홍^길동",
    "Armenian": "Պետրոսյան^Անի",
}


def item_of(entry: dict[str, Any], **options: Any) -> Item:
    """Make an item at nine o'clock and seven seconds past five."""
    return worklist_item(entry, START, base_url=URL, **options)


LONGEST = {"SH": 16, "LO": 64, "AE": 16, "CS": 16}


def read(item: Item) -> Dataset:
    """Read an item as a server does, the strict way."""
    assert item.content is not None
    found = pydicom.dcmread(BytesIO(item.content))
    with warnings.catch_warnings():
        # pydicom counts the blank that makes a value's bytes even, too: sixteen characters become seventeen.
        warnings.filterwarnings("ignore", "(With tag .*)?The value length", UserWarning)
        found.walk(lambda _dataset, element: str(element.value))
    for element in found.iterall():
        if element.VR in LONGEST:
            assert len(element.value or "") <= LONGEST[element.VR], element.keyword
    return found


@pytest.mark.parametrize("entry", [ENTRY, WHOLE], ids=["least", "whole"])
def test_every_return_key_is_there(entry: dict[str, Any]) -> None:
    """PS3.4 K.6-1: type 1 with a value, type 2 at least empty, whatever the mapping names."""
    item = read(item_of(entry))
    step = item.ScheduledProcedureStepSequence[0]
    for dataset, keywords in ((item, TYPE_1), (step, STEP_TYPE_1)):
        assert all(dataset[keyword].value for keyword in keywords.split())
    for dataset, keywords in ((item, TYPE_2), (step, STEP_TYPE_2)):
        assert all(keyword in dataset for keyword in keywords.split())
    assert item.file_meta.MediaStorageSOPClassUID == "1.2.840.10008.5.1.4.31"


def test_every_field_of_the_table_arrives() -> None:
    """Each mapped field stands under the keyword that ``fields.WORKLIST`` names, with its value."""
    item = read(item_of(WHOLE))
    step = item.ScheduledProcedureStepSequence[0]
    code = step.ScheduledProtocolCodeSequence[0]
    places = {"protocol_name": code.CodeMeaning, "performed_procedure_step_status": "IN_PROGRESS"}
    for field in fields.WORKLIST:
        if field.keyword is None or field.dtype != "String":
            continue
        found = next(
            (part[field.keyword].value for part in (item, step, code) if field.keyword in part), None
        )
        assert str(places.get(field.name, found)) == WHOLE[field.name], field.name
    assert (code.CodeValue, code.CodingSchemeDesignator) == ("T1W", "99SITE")
    assert (step.ScheduledProcedureStepStartDate, step.ScheduledProcedureStepStartTime) == (
        "20261126",
        "090507",
    )
    assert (step.ScheduledProcedureStepStatus, step.ScheduledProcedureStepID) == ("STARTED", "17")


def test_what_is_missing_has_a_stand_in() -> None:
    """A subject is not lost for a detail: name, station, description, study UID and weight without a mapping."""
    item = read(item_of(ENTRY))
    step = item.ScheduledProcedureStepSequence[0]
    assert (item.PatientName, item.PatientWeight) == ("SUB001", None)
    assert (step.ScheduledStationAETitle, step.ScheduledProcedureStepDescription) == ("UNKNOWN", "MR")
    assert item.StudyInstanceUID == study_uid(URL, "9007199254740991")
    assert "ScheduledProtocolCodeSequence" not in step
    odd = item_of(WHOLE | {"scheduled_station_aetitle": "PRÏSMA", "patient_name": "a^b^c^d^e^f^g" * 20})
    assert read(odd).ScheduledProcedureStepSequence[0].ScheduledStationAETitle == "UNKNOWN"
    assert read(odd).PatientName == "SUB001"
    assert odd.repaired == {"patient_name": ("emptied",), "scheduled_station_aetitle": ("emptied",)}
    assert read(item_of(ENTRY | {"study_instance_uid": "17"})).StudyInstanceUID == item.StudyInstanceUID


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_names_of_twelve_scripts_arrive_as_they_are(name: str) -> None:
    """ISO_IR 192: what stands in Calpendo stands in the file."""
    item = item_of(ENTRY | {"patient_name": name, "patient_id": f"ID{name[:3]}"})
    assert (read(item).PatientName, read(item).PatientID) == (name, f"ID{name[:3]}")
    assert (item.transliterated, item.repaired) == ((), {})


def test_consoles_of_fewer_characters() -> None:
    """ISO_IR 100 and ASCII: what fits stays, other details are transliterated, an id is never rewritten."""
    entry = ENTRY | {"patient_name": "Müller^Jürgen=李^小龙", "study_description": "Schlaf und Träume"}
    latin = item_of(entry, character_set="ISO_IR 100")
    assert read(latin).SpecificCharacterSet == "ISO_IR 100"
    assert (read(latin).PatientName, read(latin).StudyDescription) == ("Müller^Jürgen", "Schlaf und Träume")
    bare = item_of(entry, character_set="ASCII")
    assert "SpecificCharacterSet" not in read(bare)
    assert (read(bare).PatientName, read(bare).StudyDescription) == ("Muller^Jurgen", "Schlaf und Traume")
    assert bare.transliterated == ("patient_name", "study_description")
    assert all(str(element.value).isascii() for element in read(bare).iterall())
    station = item_of(ENTRY | {"scheduled_station_aetitle": "PRÏSMA"}, character_set="ASCII")
    assert read(station).ScheduledProcedureStepSequence[0].ScheduledStationAETitle == "UNKNOWN", (
        "no code is rewritten"
    )
    for character_set, identity in (("ASCII", "Ü1"), ("ISO_IR 100", "Ж1")):
        held = item_of(ENTRY | {"patient_id": identity}, character_set=character_set)
        assert held.content is None
        assert identity not in (held.fault or "")
    assert item_of(ENTRY | {"patient_id": "Ü1"}, character_set="ISO_IR 100").fault is None


TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=70)


@settings(max_examples=20)
@given(
    entry=st.fixed_dictionaries(
        {}, optional={field.name: TEXT for field in fields.WORKLIST if field.origin == "mapped"}
    ),
    character_set=st.sampled_from(["ISO_IR 192", "ISO_IR 100", "ASCII"]),
)
@example(
    {"station_name": "a" * 15 + "é", "hisris_coding_designator": "é" * 15 + "a", "protocol_name": "0"},
    "ISO_IR 192",
)
def test_no_text_makes_an_invalid_item(entry: dict[str, str], character_set: str) -> None:
    """Whatever an entry holds, the item is valid or held back with a reason that shows no value."""
    item = item_of(
        entry | ENTRY | {"patient_id": entry.get("patient_id") or "X"}, character_set=character_set
    )
    assert (item.content is None) == (item.fault is not None)
    if item.content is None:
        assert item.fault is not None
        assert "patient_id" in item.fault, "a subject is not lost for a detail"
        assert all(len(value) < 3 or value not in item.fault for value in entry.values())
        return
    found = read(item)
    assert found.ScheduledProcedureStepSequence[0].ScheduledStationAETitle.isascii()
    assert all(found[keyword].value for keyword in TYPE_1.split())


def test_a_file_says_itself_whether_it_is_whole_and_whose() -> None:
    """The seal: any byte that changed, or is missing, makes it another's or a damaged one; never a sound one."""
    content = sealed(item_of(ENTRY).content or b"", "a" * 32, 1_795_000_000_000_000, None)
    assert pydicom.dcmread(BytesIO(content))[0x4343, 0x0010].value == "CALPENDO PIPELINE"
    stored = read_seal(content)
    assert stored is not None
    assert (stored.made_of, stored.start_utc, stored.end_utc) == ("a" * 32, 1_795_000_000_000_000, None)
    assert read_seal(b"") is read_seal(content[:400]) is None
    for place in range(0, len(content), 7):
        changed = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        found = read_seal(changed)
        assert found is None or found.made_of is None
    assert (read_seal(content[:-1]) or stored).made_of is None or read_seal(content[:-1]) is None


def test_a_task_is_repeated_until_a_signal() -> None:
    """SIGTERM or Ctrl-C: the running cycle is cut and finishes in order, nothing runs twice at once, the handlers come back."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    for number in (signal.SIGTERM, signal.SIGINT):
        done, cut = [], threading.Event()

        def task(stopping: threading.Event, number: int = number, done: list[bool] = done, cut=cut) -> None:
            if len(done) == 2:
                signal.raise_signal(number)
                assert cut.wait(10)
            done.append(stopping.is_set())

        until_stopped(task, 0.001, cut.set)
        assert done == [False, False, True]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
