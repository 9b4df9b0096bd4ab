"""What a field can take, and what becomes of a value that it cannot: cut, cleaned, converted or left out, and flagged.

``entry_rules`` are DICOM's limits on an entry's text fields, as named rules (PS3.5 table 6.2-1; attributes of PS3.6, PS3.3
C.4). A person's name (PN, PS3.5 6.2.1) holds up to three component groups (alphabetic, ideographic, phonetic) split by
``=``, each of up to five components (family, given, middle, prefix, suffix) split by ``^`` and at most 64 characters.

Of the fields only identity and times reject a booking, and what the mapping says so of. A field's ``repair`` in ``fields.WORKLIST`` says which rule is its own:

``cut``       a backslash or a control character becomes a blank; what is longer than the limit ends at the last blank, ``^`` or ``_`` in the second half
              of the limit, else at the limit; of a person's name each group, at most three of five components
``emptied``   a code or identifier is never cut: what breaks a rule is left out
``sex``       ``M``, ``F``, ``O`` and the English words for them
``date``      ``YYYYMMDD``, ISO 8601, Java's ``Timestamp`` and ``Date.toString``; the date as written
``weight``    kilograms; pounds are converted

Columns are looked at as a whole first; a Python function then sees each distinct value that needs it once. The same
functions repair a single text again where a host had to rewrite it (``repaired_text``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from html.entities import html5
from typing import Final, Literal, NamedTuple

import polars as pl

from pipeline import fields
from pipeline.fields import WorklistField
from pipeline.transform import reasons
from pipeline.transform.columns import map_distinct, true_names
from pipeline.transform.vocabularies import STEP_STATUSES

NameForm = Literal["as_extracted", "given", "family_given"]

MAX_GROUPS: Final = 3
MAX_COMPONENTS: Final = 5

_GAP = "[ _]"
_COMMA = rf"(?s)\A([^,]*?){_GAP}*,{_GAP}*(.*)\z"
_LAST_WORD = rf"(?s)\A(.*?){_GAP}+([^ _]+)\z"


def in_form(name: pl.Expr, form: NameForm) -> pl.Expr:
    """Return names in the configured form; null stays null, empty stays empty, a name with ``^`` or ``=`` as it is.

    ``as_extracted``: as it is (the task list). ``given``: ``^`` before it, so that the whole counts as a given name (as
    Pylantir's own plugin). ``family_given``: ``Doe, John`` and ``John_Doe`` become ``Doe^John``: before the comma, or
    else the last word (words end at blanks and underscores), is the family name; a single word is the family name.
    """
    if form == "as_extracted":
        return name
    if form == "given":
        # Upstream looks for "^" alone; "=" starts a second writing of the name and may follow the given name.
        return (
            pl.when(name.str.contains("^", literal=True) | (name == ""))
            .then(name)
            .otherwise(pl.lit("^") + name)
        )
    words = name.str.strip_chars(" _")
    by_comma = words.str.replace(_COMMA, "${1}^${2}")
    by_word = words.str.replace(_LAST_WORD, "${2}^${1}")
    rearranged = pl.when(name.str.contains(",", literal=True)).then(by_comma).otherwise(by_word)
    return (
        pl.when(name.str.contains("[=^]"))
        .then(name)
        .otherwise(rearranged.str.replace_all("_", " ", literal=True))
    )


def too_many_groups(name: pl.Expr) -> pl.Expr:
    """Tell whether a name has more than three component groups."""
    return name.str.count_matches("=", literal=True) >= MAX_GROUPS


def too_many_components(name: pl.Expr) -> pl.Expr:
    """Tell whether one of a name's groups has more than five components."""
    return name.str.contains(rf"(?:\^[^=^]*){{{MAX_COMPONENTS}}}")


def too_long(name: pl.Expr, limit: int) -> pl.Expr:
    """Tell whether one of a name's groups is longer than the limit."""
    return (name.str.len_chars() > limit) & name.str.contains(rf"(?s)[^=]{{{limit + 1}}}")


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
        found[reasons.TOO_LONG] = too_long(text, field.limit)
        found[reasons.TOO_MANY_GROUPS] = too_many_groups(text)
        found[reasons.TOO_MANY_COMPONENTS] = too_many_components(text)
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


Kind = Literal["cut", "cleaned", "emptied", "converted", "suspect"]
KINDS: Final[tuple[Kind, ...]] = ("cut", "cleaned", "emptied", "converted", "suspect")
"""What is flagged, by booking id. A lossless translation (a word for a sex, the form of a date) is only counted."""

LABELS: Final = pl.List(pl.String)
_KILOGRAMS_PER_POUND = Decimal("0.45359237")
_CENT = Decimal("0.01")
_BREAKS = " ^_"
_LOOSE_END = " ,;-_("
_SEXES = {
    **dict.fromkeys(("m", "male", "man"), "M"),
    **dict.fromkeys(("f", "female", "woman"), "F"),
    **dict.fromkeys(("o", "other"), "O"),
}
_CLOCK = r"(?:[01][0-9]|2[0-4])(?::?[0-5][0-9](?::?(?:[0-5][0-9]|60)(?:[.,][0-9]+)?)?)?"
_ISO_DATE = re.compile(
    rf"(?P<year>[0-9]{{4}})(?P<dash>-?)(?P<month>[0-9]{{2}})(?P=dash)(?P<day>[0-9]{{2}})"
    rf"(?:[T ]{_CLOCK}(?: ?(?:Z|[+-][0-9]{{2}}(?::?[0-9]{{2}})?))?)?\Z"
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_JAVA_DATE = re.compile(
    rf"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) (?P<month>{'|'.join(_MONTHS)}) (?P<day>[0-9]{{2}}) "
    r"[0-9]{2}:[0-9]{2}:[0-9]{2} [A-Za-z0-9:+/_-]+ (?P<year>[0-9]{4})\Z"
)
_WEIGHT = re.compile(
    r"(?P<number>\+?[0-9]+(?:[.,][0-9]*)?(?:[eE][+-]?[0-9]{1,2})?) ?(?P<unit>kg|lbs?)?\Z", re.IGNORECASE
)
_ENTITY = re.compile(r"&(#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]*);")
_MAYBE_SUSPECT = r"&[#A-Za-z0-9]+;|\x{fffd}"
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")
_MAYBE_TEXT = rf"[\x00-\x1f\x7f-\x{{9f}}\\]|{_MAYBE_SUSPECT}"
_MAYBE_NAME = rf"=|(?:\^[^^]*){{{MAX_COMPONENTS}}}|{_MAYBE_TEXT}"


class Repair(NamedTuple):
    """A text as it goes out (None: it does not), what is to be flagged, and whether it was translated without loss."""

    text: str | None
    kinds: tuple[Kind, ...] = ()
    translated: bool = False


_EMPTIED = Repair(None, ("emptied",))


def repaired_columns(
    frame: pl.LazyFrame,
    columns: Sequence[str],
    today: date | None,
    emptied: Mapping[str, pl.Expr] | None = None,
) -> pl.LazyFrame:
    """Repair an entry's text columns.

    Args:
        frame: has the columns, String.
        columns: the entry's columns to repair; one that ``fields.WORKLIST`` does not know is only looked at.
        today: the last day that a date may name; None takes any.
        emptied: by column, Boolean: where it was left empty before.

    Returns:
        The frame with the columns repaired, and added: ``repaired`` List(String), items ``field:kind``, and ``translated``
        List(String), fields; empty where nothing was to be done. Null and empty text stay as they are.
    """
    if not columns:
        return frame.with_columns(_none().alias("repaired"), _none().alias("translated"))
    shape = pl.Struct({**dict.fromkeys(columns, pl.String), "repaired": LABELS, "translated": LABELS})
    before = emptied or {}
    whole = pl.map_batches(
        [*(pl.col(name) for name in columns), *before.values()],
        lambda given: _repaired(
            given[: len(columns)], today, dict(zip(before, given[len(columns) :], strict=True))
        ),
        return_dtype=shape,
        is_elementwise=True,
    )
    return (
        frame.with_columns(whole.alias("_repaired"))
        .with_columns(pl.col("_repaired").struct.field(name) for name in (*columns, "repaired", "translated"))
        .drop("_repaired")
    )


def _none() -> pl.Expr:
    return pl.lit(pl.Series([[]], dtype=LABELS)).first()


def _repaired(texts: Sequence[pl.Series], today: date | None, emptied: Mapping[str, pl.Series]) -> pl.Series:
    known = fields.by_name()
    columns: list[pl.Series] = []
    flags = {f"{name}:emptied": where for name, where in emptied.items() if where.any()}
    translated: dict[str, pl.Series] = {}
    for values in texts:
        done = _repaired_column(values, known.get(values.name) or WorklistField(values.name), today)
        columns.append(values if done is None else done["text"].alias(values.name))
        if done is None:
            continue
        for label, where in {f"{values.name}:{kind}": done[kind] for kind in KINDS}.items():
            if where.any():
                flags[label] = where | flags[label] if label in flags else where
        if done["translated"].any():
            translated[values.name] = done["translated"]
    labels = [_labels("repaired", flags, len(texts[0])), _labels("translated", translated, len(texts[0]))]
    return pl.DataFrame([*columns, *labels]).to_struct("_repaired")


def _labels(name: str, flags: dict[str, pl.Series], size: int) -> pl.Series:
    if not flags:
        return pl.Series(name, [[]], dtype=LABELS).new_from_index(0, size)
    return pl.DataFrame(flags).select(true_names({label: pl.col(label) for label in flags}).alias(name))[name]


def _repaired_column(values: pl.Series, field: WorklistField, today: date | None) -> pl.DataFrame | None:
    """Return ``text``, one Boolean column per kind, and ``translated``; None where no value needs anything."""
    emptied, affected = values.to_frame().select(_broken(field).alias("emptied"), _affected(field))
    affected &= ~emptied
    if not (affected.any() or emptied.any()):
        return None
    done = map_distinct(
        values.filter(affected),
        lambda text: _as_row(repaired_text(text, field, today)),
        pl.Struct({"text": pl.String, **dict.fromkeys(KINDS, pl.Boolean), "translated": pl.Boolean}),
    ).struct.unnest()
    rows = affected.arg_true()
    untouched = pl.Series([False], dtype=pl.Boolean).new_from_index(0, len(values))
    flags = {name: untouched.clone().scatter(rows, done[name]) for name in (*KINDS, "translated")}
    return pl.DataFrame(
        {
            "text": values.clone().scatter(rows, done["text"]).set(emptied, None),
            **flags,
            "emptied": flags["emptied"] | emptied,
        }
    )


def _as_row(repair: Repair) -> dict[str, object]:
    row: dict[str, object] = {"text": repair.text, "translated": repair.translated}
    return row | {kind: kind in repair.kinds for kind in KINDS}


def _broken(field: WorklistField) -> pl.Expr:
    """Return which values are left out as they are: codes and identifiers, of which a part is another one."""
    rules = entry_rules((field.name,)) if field.repair == "emptied" else ()
    return pl.any_horizontal(pl.lit(value=False), *(rule.broken.fill_null(value=False) for rule in rules))


def _affected(field: WorklistField) -> pl.Expr:
    """Return which values may need a repair; a cheap look, that may find too many and never too few."""
    text = pl.col(field.name)
    match field.repair:
        case "cut":
            affected = text.str.contains(_MAYBE_NAME if field.vr == "PN" else _MAYBE_TEXT)
            if field.limit is not None:
                affected |= text.str.len_bytes() > field.limit
        case "sex":
            affected = ~text.is_in([*fields.SEXES, ""])
        case "date" | "weight":
            affected = text != ""
        case _:
            affected = text.str.contains(_MAYBE_SUSPECT)
    return affected.fill_null(value=False).alias("affected")


def repaired_text(text: str, field: WorklistField, today: date | None = None) -> Repair:
    """Return what becomes of one text in its field, if it is no code or identifier that breaks a rule.

    Args:
        text: the value, in its form; nothing but white space is nobody's fault.
        field: the field it goes out in.
        today: the last day that a date may name; None takes any.
    """
    if not text.strip():
        return Repair("" if field.repair in ("sex", "date", "weight") else text)
    match field.repair:
        case "cut":
            repair = _cut_text(text, field)
        case "sex":
            repair = _translation(text, _SEXES.get(text.strip().lower()))
        case "date":
            repair = _translation(text, _da(text.strip(), today))
        case "weight":
            repair = _weight(text, field)
        case _:
            repair = Repair(text)
    if repair.text is not None and is_suspect(repair.text):
        return repair._replace(kinds=(*repair.kinds, "suspect"))
    return repair


def is_suspect(text: str) -> bool:
    """Tell whether a text was damaged before it came: it holds an HTML entity, or U+FFFD in place of a character."""
    if "\ufffd" in text:
        return True
    return any(name.startswith("#") or f"{name};" in html5 for name in _ENTITY.findall(text))


def cut(text: str, limit: int) -> str:
    """Return the text within the limit, ended at a word's end where there is one in the limit's second half."""
    if len(text) <= limit:
        return text
    kept = text[:limit]
    place = max(kept.rfind(mark) for mark in _BREAKS)
    return (kept[:place] if place >= limit // 2 else kept).rstrip(_LOOSE_END)


def cut_name(name: str, limit: int) -> str:
    """Return a person's name with its first three groups and five components, each group within the limit."""
    groups = name.split("=")[:MAX_GROUPS]
    return "=".join(cut("^".join(group.split("^")[:MAX_COMPONENTS]), limit) for group in groups)


def _cut_text(text: str, field: WorklistField) -> Repair:
    kinds: tuple[Kind, ...] = ()
    clean = text
    if _UNFIT.search(text):
        clean, kinds = _UNFIT.sub(" ", text).strip(" "), ("cleaned",)
    limit = len(clean) if field.limit is None else field.limit
    short = cut_name(clean, limit) if field.vr == "PN" else cut(clean, limit)
    if short != clean:
        kinds = (*kinds, "cut")
    return Repair(short, kinds) if short else _EMPTIED


def _translation(text: str, translated: str | None) -> Repair:
    return _EMPTIED if translated is None else Repair(translated, translated=translated != text)


def _da(text: str, today: date | None) -> str | None:
    """Return a date as DICOM's DA; None for what is no date, not in these forms, or no day on which a patient is born."""
    match = _ISO_DATE.match(text) or _JAVA_DATE.match(text)
    if match is None:
        return None
    month = match["month"]
    try:
        day = date(
            int(match["year"]),
            _MONTHS.index(month) + 1 if month in _MONTHS else int(month),
            int(match["day"]),
        )
    except ValueError:
        return None
    return f"{day:%Y%m%d}" if day >= fields.OLDEST_BIRTH and (today is None or day <= today) else None


def _weight(text: str, field: WorklistField) -> Repair:
    match = _WEIGHT.match(text.strip())
    if match is None:
        return _EMPTIED
    number = match["number"].replace(",", ".")
    in_pounds = (match["unit"] or "").lower().startswith("lb")
    kilograms = Decimal(number) * (_KILOGRAMS_PER_POUND if in_pounds else 1)
    if not fields.KILOGRAMS[0] <= kilograms <= fields.KILOGRAMS[1] or len(number) > (
        field.limit or len(number)
    ):
        return _EMPTIED
    if in_pounds:
        return Repair(str(kilograms.quantize(_CENT, ROUND_HALF_UP)), ("converted",))
    return _translation(text, number)
