"""DICOM's limits on an entry's text fields, as named rules (PS3.5 table 6.2-1; attributes of PS3.6, PS3.3 C.4)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import polars as pl

from pipeline import fields
from pipeline.fields import WorklistField
from pipeline.transform import person_name, reasons
from pipeline.transform.vocabularies import STEP_STATUSES

_FREE_TEXT = frozenset({"LO", "SH", "PN", "AE"})
_CONTROL = r"[\x00-\x1f\x7f-\x{9f}]"
_CONTROL_OR_BACKSLASH = r"[\x00-\x1f\x7f-\x{9f}\\]"
_FORMS: Final[dict[str, str]] = {
    "CS": r"\A[A-Z0-9 _]*\z",
    "DS": r"\A *[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)? *\z",
    "UI": r"\A(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))*\z",
}


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
    """Return the rules of an entry's columns, in the columns' order.

    Null breaks no rule but ``missing``; empty text has no form to break. A column that ``fields.WORKLIST`` does not
    know is text without control characters.
    """
    known = fields.by_name()
    return tuple(
        Rule(name, ending, broken)
        for name in columns
        for ending, broken in _rules(known.get(name) or WorklistField(name)).items()
    )


def _rules(field: WorklistField) -> dict[str, pl.Expr]:
    if field.name in _OWN_RULES:
        return _OWN_RULES[field.name]
    if field.origin == "computed" or field.dtype != "String":
        return {reasons.MISSING: pl.col(field.name).is_null()} if field.required else {}
    return _text_rules(field)


def _text_rules(field: WorklistField) -> dict[str, pl.Expr]:
    text, vr = pl.col(field.name), field.vr
    found: dict[str, pl.Expr] = {}
    if field.required:
        found[reasons.MISSING] = text.is_null() | (text.str.strip_chars() == "")
    if vr == "PN" and field.limit is not None:
        found[reasons.TOO_LONG] = person_name.too_long(text, field.limit)
        found[reasons.TOO_MANY_GROUPS] = person_name.too_many_groups(text)
        found[reasons.TOO_MANY_COMPONENTS] = person_name.too_many_components(text)
    elif vr != "DA" and field.limit is not None:
        found[reasons.TOO_LONG] = text.str.len_chars() > field.limit
    if vr is None or vr in _FREE_TEXT:
        found[reasons.BAD_CHARACTER] = text.str.contains(_CONTROL if vr is None else _CONTROL_OR_BACKSLASH)
    if vr in _FORMS:
        found[reasons.MALFORMED] = (text != "") & ~text.str.contains(_FORMS[vr])
    if field.repair == "sex":
        found[reasons.MALFORMED] = ~text.is_in([*fields.SEXES, ""])
    if field.repair == "date":
        day = text.str.to_date("%Y%m%d", strict=False)
        is_date = text.str.contains(r"\A[0-9]{8}\z") & (day >= fields.OLDEST_BIRTH).fill_null(value=False)
        found[reasons.MALFORMED] = (text != "") & ~is_date
    if field.repair == "weight":
        is_weight = text.str.strip_chars(" ").cast(pl.Float64, strict=False).is_between(*fields.KILOGRAMS)
        found[reasons.MALFORMED] |= (text != "") & ~is_weight.fill_null(value=False)
    if field.name == "performed_procedure_step_status":
        found[reasons.MALFORMED] = ~text.is_in(STEP_STATUSES)
    return found


_MINUTES: Final = pl.col("scheduled_procedure_step_duration")
_NOTES: Final = pl.col("notes")
_OWN_RULES: Final[dict[str, dict[str, pl.Expr]]] = {
    "scheduled_procedure_step_duration": {
        reasons.MISSING: _MINUTES.is_null(),
        reasons.MALFORMED: _MINUTES < 0,
    },
    "notes": {
        reasons.MISSING: _NOTES.is_null(),
        reasons.MALFORMED: _NOTES.str.len_bytes() != len('{"booking_hash": ""}') + 64,
    },
}
"""Rules of columns whose form is the pipeline's own."""
