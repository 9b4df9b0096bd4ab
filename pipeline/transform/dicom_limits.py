"""DICOM's limits on an entry's text fields, as named rules (PS3.5 table 6.2-1; attributes of PS3.6, PS3.3 C.4)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import polars as pl

from pipeline.transform import person_name, reasons
from pipeline.transform.vocabularies import STEP_STATUSES

VR: Final[dict[str, str]] = {
    "patient_id": "LO",  # (0010,0020)
    "patient_name": "PN",  # (0010,0010)
    "patient_birth_date": "DA",  # (0010,0030)
    "patient_sex": "CS",  # (0010,0040)
    "patient_weight_lb": "DS",  # (0010,1030), there in kilograms
    "accession_number": "SH",  # (0008,0050)
    "referring_physician_name": "PN",  # (0008,0090)
    "modality": "CS",  # (0008,0060)
    "study_description": "LO",  # (0008,1030)
    "study_instance_uid": "UI",  # (0020,000D)
    "scheduled_station_aetitle": "AE",  # (0040,0001)
    "performing_physician": "PN",  # (0040,0006)
    "procedure_description": "LO",  # (0040,0007)
    "protocol_name": "LO",  # (0018,1030)
    "station_name": "SH",  # (0040,0010)
    "hisris_coding_designator": "SH",  # (0008,0102)
    "performed_procedure_step_status": "CS",  # (0040,0252)
}
"""Value representation of each known target field; any other text field must only be free of control characters."""

MAX_LENGTH: Final[dict[str, int]] = {"LO": 64, "SH": 16, "AE": 16, "CS": 16, "DS": 16, "UI": 64}
"""Characters, after PS3.5 table 6.2-1. A PN's limit is per component group, a DA has its form."""

_FREE_TEXT = frozenset({"LO", "SH", "PN", "AE"})
_CONTROL = r"[\x00-\x1f\x7f-\x{9f}]"
_CONTROL_OR_BACKSLASH = r"[\x00-\x1f\x7f-\x{9f}\\]"
_FORMS: Final[dict[str, str]] = {
    "CS": r"\A[A-Z0-9 _]*\z",
    "DS": r"\A *[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)? *\z",
    "UI": r"\A(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))*\z",
}

REQUIRED: Final = ("patient_id", "modality", "performed_procedure_step_status")
"""Text fields that may be neither null nor empty, nor nothing but white space."""


@dataclass(frozen=True)
class Rule:
    """One named rule: ``broken`` is true in the rows that break it, false or null in the others."""

    field: str
    ending: str
    broken: pl.Expr

    @property
    def code(self) -> str:
        """The reason code, such as ``patient_id_too_long``."""
        return reasons.field_reason(self.field, self.ending)


def entry_rules(columns: Iterable[str]) -> tuple[Rule, ...]:
    """Return the rules of an entry's columns. Null breaks no rule but ``missing``; empty text has no form to break."""
    return tuple(rule for column in columns for rule in (COMPUTED_RULES.get(column) or _text_rules(column)))


def _text_rules(field: str) -> list[Rule]:
    text, vr = pl.col(field), VR.get(field)
    found: dict[str, pl.Expr] = {}
    if field in REQUIRED:
        found[reasons.MISSING] = text.is_null() | (text.str.strip_chars() == "")
    if vr == "PN":
        found[reasons.TOO_LONG] = person_name.too_long(text)
        found[reasons.TOO_MANY_GROUPS] = person_name.too_many_groups(text)
        found[reasons.TOO_MANY_COMPONENTS] = person_name.too_many_components(text)
    elif vr in MAX_LENGTH:
        found[reasons.TOO_LONG] = text.str.len_chars() > MAX_LENGTH[vr]
    if vr is None or vr in _FREE_TEXT:
        found[reasons.BAD_CHARACTER] = text.str.contains(_CONTROL if vr is None else _CONTROL_OR_BACKSLASH)
    if vr in _FORMS:
        found[reasons.MALFORMED] = (text != "") & ~text.str.contains(_FORMS[vr])
    if vr == "DA":
        is_date = text.str.contains(r"\A[0-9]{8}\z") & text.str.to_date("%Y%m%d", strict=False).is_not_null()
        found[reasons.MALFORMED] = (text != "") & ~is_date
    if field == "performed_procedure_step_status":
        found[reasons.MALFORMED] = ~text.is_in(STEP_STATUSES)
    return [Rule(field, ending, broken) for ending, broken in found.items()]


def _missing(field: str) -> Rule:
    return Rule(field, reasons.MISSING, pl.col(field).is_null())


def _malformed(field: str, broken: pl.Expr) -> Rule:
    return Rule(field, reasons.MALFORMED, broken)


COMPUTED_RULES: Final[dict[str, tuple[Rule, ...]]] = {
    "scheduled_start_date": (_missing("scheduled_start_date"),),
    "scheduled_start_time": (_missing("scheduled_start_time"),),
    "scheduled_procedure_step_duration": (
        _missing("scheduled_procedure_step_duration"),
        _malformed("scheduled_procedure_step_duration", pl.col("scheduled_procedure_step_duration") < 0),
    ),
    "data_source": (_missing("data_source"),),
    "source_record_id": (_missing("source_record_id"),),
    "notes": (
        _missing("notes"),
        _malformed("notes", pl.col("notes").str.len_bytes() != len('{"booking_hash": ""}') + 64),
    ),
}
"""Rules of the columns that the pipeline works out itself."""
