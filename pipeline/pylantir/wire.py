"""From a pipeline's entry to a record that Pylantir can store and every console can read.

Pylantir encodes its answers without a check: one value that pydicom cannot write ends a C-FIND response in its
middle, and the scanner loses the rest of the list. So nothing leaves here that would not pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as of
from datetime import date, time
from functools import lru_cache
from typing import Any

from pipeline import fields
from pipeline.pylantir.transliteration import transliterate

REQUIRED = ("patient_id", "patient_name", "modality")
"""Without one of these an entry does not go out; any other field goes out empty."""


def sent_texts() -> dict[str, str]:
    """Return the value representations of the text fields that Pylantir puts on the wire."""
    return {
        field.name: field.vr
        for field in fields.WORKLIST
        if field.host == "sent" and field.vr is not None and field.dtype == "String"
    }


class DicomDate(date):
    """A date whose text is DICOM's DA, ``YYYYMMDD``, whatever form is asked for.

    Pylantir writes dates with ``strftime("%Y-%m-%d")`` and sends what it wrote; text it would re-format.
    """

    def strftime(self, _format: str) -> str:
        """Give ``YYYYMMDD`` (PS3.5 6.2)."""
        return f"{self.year:04}{self.month:02}{self.day:02}"


class DicomTime(time):
    """A time whose text is DICOM's TM, ``HHMMSS``, whatever form is asked for."""

    def strftime(self, _format: str) -> str:
        """Give ``HHMMSS`` (PS3.5 6.2)."""
        return f"{self.hour:02}{self.minute:02}{self.second:02}"


def dicom_date(value: Any) -> Any:
    """Give a date as one that Pylantir writes as DA; anything else as it is."""
    return DicomDate(value.year, value.month, value.day) if isinstance(value, date) else value


def dicom_time(value: Any) -> Any:
    """Give a time as one that Pylantir writes as TM; anything else as it is."""
    return DicomTime(value.hour, value.minute, value.second) if isinstance(value, time) else value


@dataclass(frozen=True)
class WireRecord:
    """A record for Pylantir, and what had to be done to its values; ``fault`` says why it cannot go out."""

    record: dict[str, Any]
    transliterated: tuple[str, ...] = ()
    cleared: tuple[str, ...] = ()
    fault: str | None = None


@dataclass
class _Form:
    transliterating: bool
    transliterated: list[str] = of(default_factory=list)
    cleared: list[str] = of(default_factory=list)
    faults: list[str] = of(default_factory=list)


def to_wire(entry: Mapping[str, Any], *, transliterating: bool = True) -> WireRecord:
    """Make a record of an entry: text that the wire carries, fields that keep their DICOM type.

    A value that cannot be sent empties its field, unless the field is one of ``REQUIRED``: then ``fault`` names it.
    No text that is returned or raised here shows a value, other than the record itself.
    """
    form = _Form(transliterating)
    record = {name: _storable(form, name, value) for name, value in entry.items()}
    for name, representation in sent_texts().items():
        if record.get(name) is not None:
            record[name] = _value(form, name, representation, record[name])
    if not record.get("patient_id"):
        form.faults.append("patient_id is empty")
    return WireRecord(
        record, tuple(form.transliterated), tuple(form.cleared), "; ".join(dict.fromkeys(form.faults)) or None
    )


def _storable(form: _Form, name: str, value: Any) -> Any:
    """Keep a text away from the database that it cannot take; one such text there costs every row of the cycle."""
    if not isinstance(value, str):
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        form.cleared.append(name)
        return None
    return value


def _value(form: _Form, name: str, representation: str, value: Any) -> str | None:
    text = value if isinstance(value, str) else str(value)
    problem = None
    if not text.isascii():
        if form.transliterating:
            written = transliterate(text)
            text = written.text
            form.transliterated.append(name)
            problem = None if written.faithful else "holds a character that has no reading"
        else:
            problem = None if _is_latin_1(text) else "holds characters that the answer cannot carry"
    problem = problem or (_broken_rule(representation, text) if text else None)
    if problem is None:
        return text
    if name in REQUIRED:
        form.faults.append(f"{name} {problem}")
        return text
    form.cleared.append(name)
    return None


def _is_latin_1(text: str) -> bool:
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True


@lru_cache(maxsize=8192)
def _broken_rule(representation: str, text: str) -> str | None:
    """Say which rule of its DICOM type a value breaks, without the value; None when it keeps all."""
    from pydicom.config import RAISE
    from pydicom.valuerep import validate_value

    if "\\" in text or not all(character.isprintable() for character in text):
        return "holds a backslash or a control character"
    try:
        validate_value(representation, text, RAISE)
    except ValueError:
        return f"is no valid {representation}"
    return None
