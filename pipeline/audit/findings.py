"""What an audit finds: small frames, one per subject, and sentences for people who own the worklist and do not program."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import date
from typing import Any, Literal

import orjson
import polars as pl

from pipeline.display import count

Level = Literal["good", "look", "bad"]
Frames = dict[str, pl.DataFrame]
Schema = dict[str, pl.DataType | type[pl.DataType]]

IDS = 20
"""Booking ids kept per line; the counts are never capped."""
EXAMPLES = 5
"""Shapes (or values, revealed) kept per field."""
TITLES = 12
"""Titles kept per shape and chunk, to check suggested patterns against; they leave the audit only when revealed."""
ROWS = 500
"""Lines kept in lists of single bookings and in the census."""

_KINDS: Sequence[tuple[pl.DataType | type[pl.DataType], str]] = (
    (pl.Int64, "alone booking_id bookings caught checked correct distinct emptied empty fell_back filtered"),
    (pl.Int64, "group in_doubt judged labelled line matched rejected seen shapes unmatched unreadable"),
    (pl.Float64, "accuracy coverage filled hours percent share would_cover"),
    (pl.Boolean, "cancelled known visit_in_doubt"),
    (pl.Date, "first_day last_day week"),
    (pl.Datetime("us"), "first_wall start_utc wall_end wall_start"),
    (pl.List(pl.Int64), "booking_ids"),
    (pl.List(pl.String), "caught_by examples missed_by partly_by reasons resources samples titles"),
)
_TYPES: Schema = {column: kind for kind, columns in _KINDS for column in columns.split()}
"""What the columns of all frames hold; texts where nothing else is said here."""


def schema(columns: str) -> Schema:
    """Return the types of columns that are named with blanks between them."""
    return {column: _TYPES.get(column, pl.String) for column in columns.split()}


FRAMES: Mapping[str, Schema] = {
    name: schema(columns)
    for name, columns in {
        "fields": "target source pattern bookings matched fell_back emptied empty coverage filled distinct examples",
        "accuracy": "field labelled correct accuracy",
        "disagreements": "booking_id line field expected got kind",
        "statuses": "value mapped known cancelled bookings booking_ids",
        "resources": "value mapped known cancelled bookings booking_ids",
        "times": "check meaning bookings share booking_ids",
        "doubtful": "booking_id check wall_start wall_end start_utc",
        "zone_data": "library version bookings share hours first_wall booking_ids",
        "rejections": "reason meaning remedy bookings alone booking_ids",
        "co_occurrence": "reason with_reason bookings",
        "repairs": "target kind meaning remedy bookings booking_ids",
        "duplicates": "subject start_utc bookings booking_ids resources",
        "census": "source shape form bookings share caught_by partly_by missed_by booking_ids",
        "conventions": "source form shape shapes bookings share caught caught_by partly_by missed_by",
        "suggestions": "source target form shape bookings pattern group extract checked samples visit_in_doubt",
        "proposals": "source target current coverage pattern group extract would_cover samples",
        "weeks": "week bookings rejected unmatched in_doubt",
        "judged": "measure name percent judged",
    }.items()
}
"""The columns of every frame of an ``Audit`` and what they hold.

Counts are Int64, shares Float64 in 0..1 (null where nothing was counted), ids ``List(Int64)``, times naive: ``wall_*`` on
the site's clock, ``*_utc`` in UTC.
"""


def joined(parts: Iterable[pl.DataFrame], kinds: Schema) -> pl.DataFrame:
    """Return the rows of many chunks in one frame of the columns of ``kinds``, empty where there is no chunk."""
    return pl.concat([pl.DataFrame(schema=kinds), *(part.select(list(kinds)) for part in parts)])


def count_by(frame: pl.DataFrame, *keys: str) -> pl.DataFrame:
    """Count the bookings per key, with the first ids: keys, bookings Int64, booking_ids List(Int64)."""
    return frame.group_by(*keys, maintain_order=True).agg(
        pl.len().cast(pl.Int64).alias("bookings"), first_ids(pl.col("booking_id"))
    )


def first_ids(ids: pl.Expr) -> pl.Expr:
    """Return the first booking ids of a group, as ``booking_ids``."""
    return ids.drop_nulls().head(IDS).alias("booking_ids")


def add_up(parts: Iterable[pl.DataFrame], kinds: Schema, *keys: str) -> pl.DataFrame:
    """Add the counts of many chunks, the largest first, equal ones by their keys.

    Args:
        parts: frames with the columns of ``kinds``: beside the keys, Int64 columns are summed, and lists are joined and
            capped.
        kinds: the columns and what they hold.
        keys: the columns that tell the lines apart.
    """
    added = {name: kind for name, kind in kinds.items() if name not in keys}
    return (
        joined(parts, kinds)
        .group_by(keys, maintain_order=True)
        .agg(
            pl.col(name).sum() if kind == pl.Int64 else pl.col(name).explode().drop_nulls().head(IDS)
            for name, kind in added.items()
        )
        .select(list(kinds))
        .sort("bookings", *keys, descending=[True, *(False for _ in keys)], nulls_last=True)
    )


def share(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
    """Return ``part / whole`` as Float64, null where the whole is nothing."""
    return pl.when(whole > 0).then(part / whole)


@dataclass(frozen=True)
class Overview:
    """The counts of an audit. ``bookings = entries + rejected + filtered``; days are on the site's clock."""

    bookings: int
    entries: int
    rejected: int
    filtered: int
    unreadable: int
    labelled: int
    labels_unused: int
    in_doubt: int
    first_day: date | None
    last_day: date | None
    timezone: str
    output_timezone: str
    revealed: bool


@dataclass(frozen=True, repr=False)
class Audit:
    """The result of :func:`pipeline.audit.audit`.

    Every frame is small: one row per field, value, shape or check, never per booking, except the lists of what went wrong,
    which are capped (``ROWS``, ``IDS``) while their counts are not. Text taken from bookings is a shape (``AAA999_Aaaa``)
    unless the audit was made with ``reveal=True``; booking ids are always plain. ``FRAMES`` holds the columns' types.

    | frame | one row is | columns |
    |---|---|---|
    | fields | a target field | target, source, pattern, bookings, matched, fell_back, emptied, empty, coverage, filled, distinct, examples |
    | accuracy | a labelled field | field, labelled, correct, accuracy |
    | disagreements | a wrong value | booking_id, line, field, expected, got, kind |
    | statuses, resources | a source value | value, mapped, known, cancelled, bookings, booking_ids |
    | times | a check | check, meaning, bookings, share, booking_ids |
    | doubtful | a booking in doubt | booking_id, check, wall_start, wall_end, start_utc |
    | zone_data | a library | library, version, bookings, share, hours, first_wall, booking_ids |
    | rejections | a reason | reason, meaning, remedy, bookings, alone, booking_ids |
    | co_occurrence | two reasons | reason, with_reason, bookings |
    | repairs | a field and what was done to it | target, kind, meaning, remedy, bookings, booking_ids |
    | duplicates | a subject twice at one time | subject, start_utc, bookings, booking_ids, resources |
    | census | a title's shape | source, shape, form, bookings, share, caught_by, partly_by, missed_by, booking_ids |
    | conventions | a form of titles | source, form, shape, shapes, bookings, share, caught, caught_by, partly_by, missed_by |
    | suggestions | a suggested rule | source, target, form, shape, bookings, pattern, group, extract, checked, samples, visit_in_doubt |
    | proposals | a target that misses titles | source, target, current, coverage, pattern, group, extract, would_cover, samples |
    | weeks | a week of bookings | week, bookings, rejected, unmatched, in_doubt |
    | judged | a target under the gate | measure, name, percent, judged |
    """

    overview: Overview
    fields: pl.DataFrame
    accuracy: pl.DataFrame
    disagreements: pl.DataFrame
    statuses: pl.DataFrame
    resources: pl.DataFrame
    times: pl.DataFrame
    doubtful: pl.DataFrame
    zone_data: pl.DataFrame
    rejections: pl.DataFrame
    co_occurrence: pl.DataFrame
    repairs: pl.DataFrame
    duplicates: pl.DataFrame
    census: pl.DataFrame
    conventions: pl.DataFrame
    suggestions: pl.DataFrame
    proposals: pl.DataFrame
    weeks: pl.DataFrame
    judged: pl.DataFrame
    warnings: tuple[str, ...] = field(default=())

    @property
    def score(self) -> float | None:
        """The lowest percentage that is judged, or None where there was nothing to judge.

        Labelled bookings are judged by their labels (accuracy per field), others by coverage per field.
        """
        return self.judged["percent"].min() if len(self.judged) else None  # type: ignore[return-value]

    def passes(self, percent: float) -> bool:
        """Return whether every judged field reaches ``percent``; False where there was nothing to judge."""
        return self.score is not None and self.score >= percent

    def frames(self) -> dict[str, pl.DataFrame]:
        """Return all frames by name, in the order of the table above."""
        found = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in found.items() if isinstance(value, pl.DataFrame)}

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON values: dates and times in ISO 8601."""
        rows = {name: frame.to_dicts() for name, frame in self.frames().items()}
        whole = {"overview": self.overview, "score": self.score, **rows, "warnings": self.warnings}
        found: dict[str, Any] = orjson.loads(orjson.dumps(whole))
        return found

    def _repr_markdown_(self) -> str:
        """Show in a notebook what the report says first."""
        lines = "\n".join(f"- {finding.text}" for finding in findings(self))
        return f"**{verdict(self).text}**\n\n{lines}"

    def __repr__(self) -> str:
        """Show counts only: a frame may hold revealed values."""
        counts = self.overview
        return f"Audit({counts.bookings} bookings, {counts.entries} entries, {counts.rejected} rejected)"


SAID = {"outcome": "on the list or not", "reasons": "why rejected", "flags": "doubts about the times"}
"""What is judged beside the fields, in words."""

SHARES = ("coverage", "accuracy", "share", "would_cover", "before", "after")
"""Columns that are shown as percentages."""

_YES_NO = {"known": ("no, defaulted", "yes"), "cancelled": ("", "yes")}
_HEADINGS = {
    "booking_id": "booking",
    "booking_ids": "bookings, first ones",
    "cancelled": "marked cancelled",
    "change_utc": "at, in UTC",
    "checked": "titles tried",
    "correct": "right",
    "current": "pattern today",
    "distinct": "different values",
    "emptied": "left empty",
    "empty": "nothing there",
    "examples": "what the values look like",
    "expected": "label says",
    "extract": "suggested _extract",
    "first_wall": "first one, site clock",
    "gained": "bookings gained",
    "got": "worklist says",
    "hours": "hours off",
    "known": "in the table",
    "labelled": "hand-checked",
    "library": "zone data of",
    "mapped": "on the worklist",
    "meaning": "what it means",
    "offset_after": "hours after",
    "offset_before": "hours before",
    "remedy": "what to do",
    "samples": "takes",
    "shape": "form (its commonest shape)",
    "source": "taken from",
    "start_utc": "start, UTC",
    "target": "field",
    "version": "release",
    "wall_after": "clock after",
    "wall_before": "clock before",
    "wall_end": "end, site clock",
    "wall_start": "start, site clock",
    "with_reason": "together with",
    "would_cover": "coverage then",
}
"""What columns are called in a table; all others are called by their name."""

_HEADINGS_OF = {
    "conventions": {"source": "text"},
    "coverage_change": {"before": "coverage before", "after": "coverage after"},
    "disagreements": {"kind": "difference"},
    "duplicates": {"booking_ids": "booking ids"},
    "proposals": {"extract": "one _extract for more"},
    "repairs": {"kind": "repair"},
    "resources": {"value": "resource in Calpendo", "mapped": "modality"},
    "statuses": {"value": "status in Calpendo"},
    "suggestions": {"shape": "for titles like"},
    "zone_comparison": {
        "wall_start": "site clock",
        "pytz": "UTC by pytz",
        "polars": "UTC by polars",
        "system": "UTC by the system",
    },
    "zone_data": {"bookings": "bookings elsewhere"},
}


def headings(frame: str, columns: str, short: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the headings of a frame's columns (named with blanks between them); ``short`` ones where there is little room."""
    words = {**_HEADINGS, **_HEADINGS_OF.get(frame, {}), **(short or {})}
    return {column: words.get(column, column.replace("_", " ")) for column in columns.split()}


def in_words(column: str, value: object) -> str:
    """Return a value as a table shows it: shares as percentages, numbers with their thousands apart, yes and no."""
    if isinstance(value, bool):
        return _YES_NO[column][value]
    if isinstance(value, float):
        return percent(value) if column in SHARES else f"{value:+g}"
    if isinstance(value, int) and column != "booking_id":
        return count(value)
    text = SAID.get(str(value), str(value)) if column == "field" else str(value)
    return text if text.strip() else "(blank)"


_REPAIRS_SAID = 3
"""Sentences about repairs at the head of a report; the table has them all."""


@dataclass(frozen=True)
class Finding:
    """One sentence, and how much it matters: ``good``, ``look`` (worth a look) or ``bad`` (wrong on the list)."""

    level: Level
    text: str


def verdict(audit: Audit) -> Finding:
    """Return the one sentence at the top."""
    counts = audit.overview
    if not counts.bookings:
        return Finding("look", "There were no bookings to audit.")
    if not counts.labelled:
        text = f"{count(counts.entries)} of {number(counts.bookings, 'booking')} became worklist entries."
        return Finding("good" if counts.entries == counts.bookings else "look", text)
    checked = number(counts.labelled, "hand-checked booking")
    if wrong := audit.disagreements["booking_id"].n_unique():
        verb = "is" if wrong == 1 else "are"
        return Finding("bad", f"{count(wrong)} of {checked} {verb} not as the labels say.")
    return Finding("good", f"Every field of all {checked} is right: 100 %.")


def findings(audit: Audit) -> tuple[Finding, ...]:
    """Return all that is worth saying, one sentence per subject, in the order of the report."""
    if not audit.overview.bookings:
        return ()
    subjects = (_outcome, _repairs, _fields, _titles, _times, _vocabularies, _duplicates)
    return tuple(Finding(level, text) for said in subjects for level, text in said(audit))


def number(value: int, noun: str, plural: str | None = None) -> str:
    """Return a number and its noun: ``1 booking``, ``2 bookings``."""
    several = f"{noun}s" if plural is None else (plural or noun)
    return f"{count(value)} {noun if value == 1 else several}"


def percent(value: float | None) -> str:
    """Return a share as a percentage that never rounds up to 100 or down to 0."""
    if value is None:
        return "–"
    if 0.999 < value < 1:
        return "99.9 %"
    if 0 < value < 0.001:
        return "0.1 %"
    shown = f"{value * 100:.1f}".removesuffix(".0")
    return f"{shown} %"


_Said = Iterator[tuple[Level, str]]


def _outcome(audit: Audit) -> _Said:
    counts = audit.overview
    bookings = number(counts.bookings, "booking")
    if not counts.rejected:
        yield "good", f"All {bookings} became worklist entries; none was rejected."
        return
    first = audit.rejections.row(0, named=True)
    yield (
        "look",
        (
            f"{count(counts.entries)} of {bookings} became worklist entries; {count(counts.rejected)} did not. "
            f"The commonest reason, {number(first['bookings'], 'time')}: {first['meaning']}"
        ),
    )


def _repairs(audit: Audit) -> _Said:
    for row in audit.repairs.head(_REPAIRS_SAID).iter_rows(named=True):
        yield "look", f"{number(row['bookings'], 'booking')}: {row['meaning']} {row['remedy']}"


def _fields(audit: Audit) -> _Said:
    for row in audit.accuracy.filter(pl.col("correct") < pl.col("labelled")).iter_rows(named=True):
        wrong = row["labelled"] - row["correct"]
        of_all = f"{count(wrong)} of {number(row['labelled'], 'checked booking')}"
        if row["field"] == "outcome":
            yield "bad", f"{of_all} should be on the worklist and are not, or the other way round."
        else:
            name = SAID.get(row["field"], row["field"])
            yield "bad", f"{name}: wrong in {of_all} ({percent(row['accuracy'])} right)."
    if audit.overview.labelled and audit.overview.labels_unused:
        unused = number(audit.overview.labels_unused, "label")
        yield "look", f"{unused} could not be used: no such booking here."
    mapped = audit.fields.filter(pl.col("pattern").is_not_null())
    broken = mapped.filter((pl.col("coverage") < 1) & (pl.col("fell_back") + pl.col("emptied") > 0))
    for row in broken.iter_rows(named=True):
        missed = number(row["fell_back"] + row["emptied"], "booking")
        became = "kept the whole text" if row["fell_back"] >= row["emptied"] else "was left empty"
        matched = percent(row["coverage"])
        yield (
            "look",
            f"{row['target']} {became} in {missed}: its pattern did not match (it did in {matched}).",
        )
    if len(mapped) and not len(broken):
        yield (
            "good",
            "Every pattern matched every title it was given; only hand-checked entries can say whether the values are right.",
        )


def _titles(audit: Audit) -> _Said:
    forms = audit.conventions.filter(pl.col("source") == "title")
    if not len(forms):
        return
    main = forms.row(0, named=True)
    others = len(forms) - 1
    rest = f"; the rest come in {number(others, 'other form')}" if others else ""
    yield (
        "look" if others else "good",
        f"{percent(main['share'])} of the titles look like {main['shape']}{rest}.",
    )


def _times(audit: Audit) -> _Said:
    found = dict(audit.times.select("check", "bookings").rows())
    twice = found["ambiguous"] + found["non_existent"]
    if twice:
        bookings = number(twice, "booking")
        yield "look", f"{bookings} in an hour in which the clocks change; see below how each was read."
    if found["zone_data"]:
        off = audit.zone_data.filter(pl.col("bookings") > 0)["library"].replace("system", "the system")
        yield (
            "good",
            (
                f"{number(found['zone_data'], 'booking')} would be at a wrong time by the zone data of "
                f"{' and of '.join(off)}; the pipeline uses pytz and has them right."
            ),
        )
    if not twice:
        yield "good", "No booking starts or ends in an hour in which the clocks change."


def _vocabularies(audit: Audit) -> _Said:
    for noun, plural, frame, became in (
        ("status", "statuses", audit.statuses, "SCHEDULED"),
        ("resource", "resources", audit.resources, "their own name or OT"),
    ):
        unknown = frame.filter(~pl.col("known").fill_null(value=True))
        if len(unknown):
            bookings = number(int(unknown["bookings"].sum()), "booking")
            values = number(len(unknown), noun, plural=plural)
            yield "look", f"{values} the table does not know, in {bookings}; they became {became}."


def _duplicates(audit: Audit) -> _Said:
    if number_of := len(audit.duplicates):
        verb = "is" if number_of == 1 else "are"
        yield "look", f"{number(number_of, 'subject')} {verb} booked more than once at the very same time."
