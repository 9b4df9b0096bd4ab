"""From a pipeline's entry to a record that Pylantir can store and every console can read.

Pylantir encodes its answers without a check: one value that pydicom cannot write ends a C-FIND response in its
middle, and the scanner loses the rest of the list. So nothing leaves here that would not pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as of
from datetime import date, time
from typing import Any

from pipeline import fields
from pipeline.fields import WorklistField
from pipeline.hosts import Carried, fits, in_ascii, keeps_type
from pipeline.transform.repairs import Kind, Repair

NO_NAME = "UNKNOWN"
"""What Pylantir sends for an empty name. The row has to hold it too: a begun scan is found by the name that was sent."""


def sent_texts() -> tuple[WorklistField, ...]:
    """Return the text fields that Pylantir puts on the wire."""
    return tuple(field for field in fields.WORKLIST if field.host == "sent" and field.dtype == "String")


class DicomDate(date):
    """A date whose text is DICOM's DA, ``YYYYMMDD``, whatever form is asked for.

    Pylantir writes dates with ``strftime("%Y-%m-%d")`` and sends what it wrote; text it would re-format.
    """

    def strftime(self, _format: str) -> str:
        """Return ``YYYYMMDD`` (PS3.5 6.2)."""
        return f"{self.year:04}{self.month:02}{self.day:02}"


class DicomTime(time):
    """A time whose text is DICOM's TM, ``HHMMSS``, whatever form is asked for."""

    def strftime(self, _format: str) -> str:
        """Return ``HHMMSS`` (PS3.5 6.2)."""
        return f"{self.hour:02}{self.minute:02}{self.second:02}"


def dicom_date(value: Any) -> Any:
    """Return a date as one that Pylantir writes as DA; anything else as it is."""
    return DicomDate(value.year, value.month, value.day) if isinstance(value, date) else value


def dicom_time(value: Any) -> Any:
    """Return a time as one that Pylantir writes as TM; anything else as it is."""
    return DicomTime(value.hour, value.minute, value.second) if isinstance(value, time) else value


@dataclass(frozen=True, kw_only=True)
class WireRecord(Carried):
    """A record for Pylantir, and what had to be done to its values for it."""

    record: dict[str, Any] = of(repr=False)


def to_wire(entry: Mapping[str, Any], *, transliterating: bool = True) -> WireRecord:
    """Make a record of an entry: text that the wire carries, fields that keep their DICOM type.

    What cannot be carried is repaired as in a batch, or left out; only an identifier, which is never changed, keeps the
    record back. No text that is returned or raised here shows a value, other than the record itself.
    """
    record = dict(entry)
    transliterated: list[str] = []
    repaired: dict[str, tuple[Kind, ...]] = {}
    faults: list[str] = []
    for name, value in entry.items():
        if isinstance(value, str) and not fits(value, "utf-8"):
            # One such text would cost every row of Pylantir's transaction.
            record[name], repaired[name] = None, ("emptied",)
    for field in sent_texts():
        value = record.get(field.name)
        if value is None:
            continue
        text = value if isinstance(value, str) else str(value)
        if field.required:
            record[field.name] = text
            if problem := _obstacle(field, text, transliterating):
                faults.append(f"{field.name} {problem}")
            continue
        changed = transliterating and not text.isascii()
        repair = in_ascii(field, text) if changed else Repair(text)
        if repair.text and _obstacle(field, repair.text, transliterating):
            repair = Repair(None, ("emptied",))
        record[field.name] = repair.text
        if changed and repair.text is not None:
            transliterated.append(field.name)
        if repair.kinds:
            repaired[field.name] = repair.kinds
    record["patient_name"] = record.get("patient_name") or NO_NAME
    if not record.get("patient_id"):
        faults.append("patient_id is empty")
    return WireRecord(
        record=record,
        transliterated=tuple(transliterated),
        repaired=repaired,
        fault="; ".join(faults) or None,
    )


def _obstacle(field: WorklistField, text: str, transliterating: bool) -> str | None:
    """Say why a text cannot be sent as it is, without the text; None where it can."""
    if transliterating and not text.isascii():
        return "holds characters beyond ASCII, and an identifier is not transliterated"
    if not fits(text, "latin-1"):
        return "holds characters that the answer cannot carry"
    if "\\" in text or not all(character.isprintable() for character in text):
        return "holds a backslash or a control character"
    vr = field.vr or "LO"
    return f"is no valid {vr}" if text and not keeps_type(vr, text) else None
