"""One entry as a DICOM Modality Worklist item (PS3.4 table K.6-1; PS3.3 C.4), whole and valid, or the reason why not.

Fields, keywords and value representations are those of ``fields.WORKLIST``; what a worklist item has besides stands here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as of
from datetime import datetime
from functools import lru_cache
from io import BytesIO
from typing import Any, Final

from pydicom import dcmread
from pydicom.config import RAISE
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian

from pipeline import fields
from pipeline.fields import WorklistField
from pipeline.hosts import Carried, fits, in_ascii, is_study_uid, keeps_type, study_uid
from pipeline.transform.repairs import Kind

ASCII: Final = "ASCII"
_CODECS: Final = {"ISO_IR 192": "utf-8", "ISO_IR 100": "latin-1", ASCII: "ascii"}
_SOP_CLASS: Final = "1.2.840.10008.5.1.4.31"  # Modality Worklist Information Model - FIND (PS3.4 K.6)
_STEP: Final = "ScheduledProcedureStepSequence"

UNKNOWN_STATION: Final = "UNKNOWN"
"""The AE title of a station that nothing names: the attribute is of type 1, and a subject is not lost for it."""
_OWN_CODES: Final = "99CALPENDO"
"""The coding scheme of protocol names without one; private designators begin with 99 (PS3.3 8.2)."""
_STEP_STATUSES: Final = {"SCHEDULED": "SCHEDULED", "IN_PROGRESS": "STARTED"}
"""Scheduled Procedure Step Status (PS3.3 C.4.10)."""
SHOWN: Final = tuple(_STEP_STATUSES)
"""The statuses of bookings that stand on a worklist."""

_ITEM: Final = (
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyDescription",
    "ReferencedStudySequence",
    "ReferencedPatientSequence",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientWeight",
    "MedicalAlerts",
    "Allergies",
    "PregnancyStatus",
    "StudyInstanceUID",
    "RequestingPhysician",
    "RequestedProcedureDescription",
    "AdmissionID",
    "SpecialNeeds",
    "CurrentPatientLocation",
    "PatientState",
    "RequestedProcedureID",
    "RequestedProcedurePriority",
    "PatientTransportArrangements",
    "ConfidentialityConstraintOnPatientDataDescription",
)
_IN_STEP: Final = (
    "ScheduledStationAETitle",
    "ScheduledProcedureStepStartDate",
    "ScheduledProcedureStepStartTime",
    "Modality",
    "ScheduledPerformingPhysicianName",
    "ScheduledProcedureStepDescription",
    "ScheduledStationName",
    "ScheduledProcedureStepLocation",
    "ScheduledProcedureStepID",
    "ScheduledProcedureStepStatus",
)
"""The return keys of table K.6-1 of types 1, 1C and 2; what has no value is there, empty. The conditional ones of type 2C
(pre-medication, contrast agent) are left out: that they are wanted, Calpendo does not say."""
_NEVER_EMPTY: Final = frozenset(
    {"PatientName", "PatientID", "StudyInstanceUID", "RequestedProcedureID"}
).union(_IN_STEP[:4], ("ScheduledProcedureStepID", "ScheduledProcedureStepDescription"))


@dataclass(frozen=True, kw_only=True)
class Item(Carried):
    """A worklist item as the bytes of a DICOM file (None where there can be none, and ``fault`` says why)."""

    content: bytes | None = of(default=None, repr=False)


def worklist_item(
    entry: Mapping[str, Any], start: datetime, *, base_url: str, character_set: str = "ISO_IR 192"
) -> Item:
    """Make the worklist item of an entry.

    Args:
        entry: an entry of the pipeline; its date and time are not looked at.
        start: when the step begins, in the site's time: consoles show DICOM times as they come.
        base_url: the server's address, of which the study UID is made where none is mapped.
        character_set: a defined term of SpecificCharacterSet (0008,0005), or ``ASCII`` for none.

    Returns:
        The item, each of whose values pydicom holds valid. What the character set cannot carry is transliterated; an
        invalid value of a detail is left out and flagged; only one of identity makes a fault. No text shows a value.
    """
    making = _Making(character_set)
    values = _values(entry, start, base_url, making)
    item = making.dataset(_ITEM, values)
    step = making.dataset(_IN_STEP, values)
    if making.faults:
        return Item(fault="; ".join(making.faults))
    if code := making.code(entry):
        step.add(_element("ScheduledProtocolCodeSequence", "SQ", Sequence([code])))
    item.add(_element(_STEP, "SQ", Sequence([step])))
    if character_set != ASCII:
        item.add(_element("SpecificCharacterSet", "CS", character_set))
    return Item(
        content=_written(item, values),
        transliterated=tuple(dict.fromkeys(making.transliterated)),
        repaired=making.repaired,
    )


def shown_values(content: bytes) -> dict[str, str]:
    """Return what a console shows of an item, by the names of an entry's fields; what is empty is left out."""

    item = dcmread(BytesIO(content))
    parts = [item, item[_STEP].value[0]]
    found = {}
    for field in fields.WORKLIST:
        if field.keyword is None or field.dtype != "String" or field.origin == "looked_up":
            continue
        value = next((part[field.keyword].value for part in parts if field.keyword in part), None)
        if value:
            found[field.name] = str(value)
    return found


def _values(entry: Mapping[str, Any], start: datetime, base_url: str, making: _Making) -> dict[str, str]:
    """Return the item's values by keyword; what is not there is empty."""
    values = {
        field.keyword: making.text(field, entry.get(field.name))
        for field in fields.WORKLIST
        if field.keyword and field.dtype == "String"
    }
    number = str(entry["source_record_id"])
    if not is_study_uid(values["StudyInstanceUID"]):
        values["StudyInstanceUID"] = study_uid(base_url, number)
    described = [
        values[keyword]
        for keyword in ("ScheduledProcedureStepDescription", "ProtocolName", "StudyDescription", "Modality")
    ]
    values["ScheduledProcedureStepDescription"] = next(filter(None, described), "")
    values["RequestedProcedureDescription"] = values["StudyDescription"] or next(filter(None, described), "")
    values["PatientName"] = values["PatientName"] or values["PatientID"]
    values["ScheduledStationAETitle"] = values["ScheduledStationAETitle"] or UNKNOWN_STATION
    values["ScheduledProcedureStepStartDate"] = start.strftime("%Y%m%d").zfill(8)
    values["ScheduledProcedureStepStartTime"] = start.strftime("%H%M%S")
    values["ScheduledProcedureStepStatus"] = _STEP_STATUSES[values.pop("PerformedProcedureStepStatus")]
    values["ScheduledProcedureStepID"] = values["RequestedProcedureID"] = number
    return values


class _Making:
    """An item being made: its character set, and what had to be done to its values."""

    def __init__(self, character_set: str) -> None:
        self._codec = _CODECS[character_set]
        self.faults: list[str] = []
        self.transliterated: list[str] = []
        self.repaired: dict[str, tuple[Kind, ...]] = {}

    def text(self, field: WorklistField, value: Any) -> str:
        """Return a field's text in characters that the item can carry; empty where there is none.

        What is still invalid then is left out, so that its stand-in takes its place; an identifier makes a fault.
        """
        if value is None or not str(value).strip():
            return ""
        text = str(value)
        is_identifier = field.repair == "rejected"
        # Of a code the part that fits would be another code.
        if not fits(text, self._codec) and field.vr in _ANY_CHARACTERS:
            first = text.partition("=")[0]
            if is_identifier:
                self.faults.append(
                    f"{field.name} holds characters beyond {self._name()}, and an identifier is not rewritten"
                )
            elif field.vr == "PN" and first.strip(" ^") and fits(first, self._codec):
                text = first
            else:
                repair = in_ascii(field, text)
                text = repair.text or ""
                if repair.kinds:
                    self.repaired[field.name] = repair.kinds
                if text:
                    self.transliterated.append(field.name)
        if text and not is_identifier and not _is_valid(field.vr or "LO", text):
            self.repaired[field.name] = ("emptied",)
            return ""
        return text

    def _name(self) -> str:
        return {"latin-1": "Latin-1", "ascii": "ASCII"}.get(self._codec, "UTF-8")

    def dataset(self, keywords: tuple[str, ...], values: Mapping[str, str]) -> Dataset:
        """Return a dataset of these attributes, each held to its VR by pydicom."""
        from pydicom.dataset import Dataset

        made = Dataset()
        for keyword in keywords:
            value = values.get(keyword, "")
            if not value:
                if keyword in _NEVER_EMPTY:
                    self.faults.append(f"{_name_of(keyword)} is empty")
                made.add(_empty(keyword))
                continue
            try:
                made.add(_element(keyword, _vr_of(keyword), value))
            except ValueError:
                made.add(_empty(keyword))
                if keyword in _NEVER_EMPTY:
                    self.faults.append(f"{_name_of(keyword)} is no valid {_vr_of(keyword)}")
                else:
                    self.repaired[_name_of(keyword)] = ("emptied",)
        return made

    def code(self, entry: Mapping[str, Any]) -> Dataset | None:
        """Return the protocol as a code (PS3.3 8.8), where it is mapped and short enough for one; a code is never cut."""
        known = fields.by_name()
        protocol = self.text(known["protocol_name"], entry.get("protocol_name"))
        scheme = self.text(known["hisris_coding_designator"], entry.get("hisris_coding_designator"))
        if not protocol or len(protocol) > _LONGEST_CODE:
            return None
        code = {
            "CodeValue": protocol,
            "CodingSchemeDesignator": scheme or _OWN_CODES,
            "CodeMeaning": protocol,
        }
        made = self.dataset(tuple(code), code)
        return made if all(element.value for element in made) else None


_LONGEST_CODE: Final = 16


def _written(item: Dataset, values: Mapping[str, str]) -> bytes:

    item.file_meta = FileMetaDataset()
    item.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    item.file_meta.MediaStorageSOPClassUID = UID(_SOP_CLASS)
    item.file_meta.MediaStorageSOPInstanceUID = UID(f"{values['StudyInstanceUID'][:62]}.1")
    file = BytesIO()
    dcmwrite(file, item, enforce_file_format=True)
    return file.getvalue()


def _is_valid(vr: str, text: str) -> bool:
    return keeps_type(vr, text) and (vr in _ANY_CHARACTERS or text.isascii())


_ANY_CHARACTERS: Final = frozenset({"LO", "PN", "SH"})
"""The representations that SpecificCharacterSet applies to (PS3.5 6.1.2.3); all others are of the default repertoire."""


def _element(keyword: str, vr: str, value: Any) -> DataElement:

    if isinstance(value, str) and "\\" in value:
        raise ValueError("a backslash would make two values of one")
    return DataElement(_tag_of(keyword), vr, value, validation_mode=RAISE)


@lru_cache(maxsize=64)
def _empty(keyword: str) -> DataElement:
    """Return an attribute without a value; one object will do for all items, because none changes it."""
    return _element(keyword, _vr_of(keyword), [] if _vr_of(keyword) == "SQ" else None)


_tag_of = lru_cache(maxsize=64)(Tag)


@lru_cache(maxsize=64)
def _vr_of(keyword: str) -> str:

    ours = {field.keyword: field.vr for field in fields.WORKLIST if field.keyword}
    return ours.get(keyword) or dictionary_VR(_tag_of(keyword))


def _name_of(keyword: str) -> str:
    """Return an entry's name of an attribute."""
    return next((field.name for field in fields.WORKLIST if field.keyword == keyword), keyword)
