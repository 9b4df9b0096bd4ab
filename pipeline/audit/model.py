"""What an audit found: small frames, one subject each, and sentences for people who own the worklist and do not program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import date, datetime, time
from typing import Any, Literal

import polars as pl

from pipeline.display import count

JsonValue = Any
Level = Literal["good", "look", "bad"]

SAID = {"outcome": "on the list or not", "reasons": "why rejected", "flags": "doubts about the times"}
"""What is judged beside the fields, in words."""


@dataclass(frozen=True)
class Overview:
    """The counts on the first line. ``bookings = entries + rejected + filtered``; days are on the site's clock."""

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

    Every frame is small: one row a field, a value, a shape or a check, never one a booking, except the lists of
    what went wrong, which are capped (``tally.py``) while their counts are not. Text taken from bookings is a shape
    (``AAA999_Aaaa``) unless the audit was made with ``reveal=True``; booking ids are always plain.

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

    Counts are Int64, shares Float64 in 0..1 (null where nothing was counted), ids ``List(Int64)``, times naive:
    ``wall_*`` on the site's clock, ``*_utc`` in UTC.
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
        """The lowest percentage under judgement, or None where there was nothing to judge.

        Labelled bookings are judged by their label (accuracy, a field); all others by coverage (a field).
        """
        return self.judged["percent"].min() if len(self.judged) else None  # type: ignore[return-value]

    def passes(self, percent: float) -> bool:
        """Tell whether every judged field reaches ``percent``; False where there was nothing to judge."""
        return self.score is not None and self.score >= percent

    def frames(self) -> dict[str, pl.DataFrame]:
        """All frames by name, in the order of the table above."""
        found = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in found.items() if isinstance(value, pl.DataFrame)}

    def to_dict(self) -> dict[str, JsonValue]:
        """Everything as plain JSON values: dates and times in ISO 8601."""
        overview = {item.name: plain(getattr(self.overview, item.name)) for item in fields(self.overview)}
        rows = {name: [plain(row) for row in frame.to_dicts()] for name, frame in self.frames().items()}
        return {"overview": overview, "score": self.score, **rows, "warnings": list(self.warnings)}

    def _repr_markdown_(self) -> str:
        """Say in a notebook what the report says first."""
        lines = "\n".join(f"- {finding.text}" for finding in findings(self))
        return f"**{verdict(self).text}**\n\n{lines}"

    def __repr__(self) -> str:
        """Counts only: a frame may hold revealed values."""
        counts = self.overview
        return f"Audit({counts.bookings} bookings, {counts.entries} entries, {counts.rejected} rejected)"


def plain(value: object) -> JsonValue:
    """One value as JSON has it."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return value


@dataclass(frozen=True)
class Finding:
    """One sentence and how much it matters: ``good``, ``look`` (worth a look) or ``bad`` (wrong on the list)."""

    level: Level
    text: str


def verdict(audit: Audit) -> Finding:
    """The one sentence at the top."""
    counts = audit.overview
    if not counts.bookings:
        return Finding("look", "There were no bookings to audit.")
    wrong = audit.disagreements["booking_id"].n_unique()
    if counts.labelled:
        if wrong:
            verb = "is" if wrong == 1 else "are"
            return Finding(
                "bad",
                f"{count(wrong)} of {number(counts.labelled, 'hand-checked booking')} {verb} not as the labels say.",
            )
        return Finding(
            "good", f"Every field of all {number(counts.labelled, 'hand-checked booking')} is right: 100 %."
        )
    text = f"{count(counts.entries)} of {number(counts.bookings, 'booking')} became worklist entries."
    return Finding("good" if counts.entries == counts.bookings else "look", text)


def findings(audit: Audit) -> tuple[Finding, ...]:
    """All that is worth saying, one sentence a subject, in the order of the report."""
    return tuple(_findings(audit))


def number(value: int, noun: str, plural: str | None = None) -> str:
    """A number and its noun: ``1 booking``, ``2 bookings``."""
    several = f"{noun}s" if plural is None else (plural or noun)
    return f"{count(value)} {noun if value == 1 else several}"


def percent(value: float | None) -> str:
    """A share as a percentage that never rounds up to 100 or down to 0."""
    if value is None:
        return "–"
    if 0.999 < value < 1:
        return "99.9 %"
    if 0 < value < 0.001:
        return "0.1 %"
    shown = f"{value * 100:.1f}".removesuffix(".0")
    return f"{shown} %"


def _findings(audit: Audit) -> Iterator[Finding]:
    counts = audit.overview
    if not counts.bookings:
        return
    yield from _outcome(audit)
    for row in audit.repairs.head(_REPAIRS_SAID).iter_rows(named=True):
        yield Finding("look", f"{number(row['bookings'], 'booking')}: {row['meaning']} {row['remedy']}")
    yield from _fields(audit)
    yield from _titles(audit)
    yield from _times(audit)
    yield from _vocabularies(audit)
    if len(audit.duplicates):
        one = len(audit.duplicates) == 1
        yield Finding(
            "look",
            f"{number(len(audit.duplicates), 'subject')} {'is' if one else 'are'} booked more than once "
            "at the very same time.",
        )


_REPAIRS_SAID = 3
"""Sentences about repairs at the head of a report; the table has them all."""


def _outcome(audit: Audit) -> Iterator[Finding]:
    counts = audit.overview
    if not counts.rejected:
        yield Finding(
            "good", f"All {number(counts.bookings, 'booking')} became worklist entries; none was rejected."
        )
        return
    first = audit.rejections.row(0, named=True)
    yield Finding(
        "look",
        f"{count(counts.entries)} of {number(counts.bookings, 'booking')} became worklist entries; "
        f"{count(counts.rejected)} did not. The commonest reason, {number(first['bookings'], 'time')}: "
        f"{first['meaning']}",
    )


def _fields(audit: Audit) -> Iterator[Finding]:
    if audit.overview.labelled:
        for row in audit.accuracy.filter(pl.col("correct") < pl.col("labelled")).iter_rows(named=True):
            wrong = row["labelled"] - row["correct"]
            of_all = f"{count(wrong)} of {number(row['labelled'], 'checked booking')}"
            if row["field"] == "outcome":
                yield Finding(
                    "bad", f"{of_all} should be on the worklist and are not, or the other way round."
                )
            else:
                name = SAID.get(row["field"], row["field"])
                yield Finding("bad", f"{name}: wrong in {of_all} ({percent(row['accuracy'])} right).")
        if audit.overview.labels_unused:
            yield Finding(
                "look",
                f"{number(audit.overview.labels_unused, 'label')} could not be used: no such booking here.",
            )
    mapped = audit.fields.filter(pl.col("pattern").is_not_null())
    broken = mapped.filter((pl.col("coverage") < 1) & (pl.col("fell_back") + pl.col("emptied") > 0))
    for row in broken.iter_rows(named=True):
        missed = row["fell_back"] + row["emptied"]
        became = "kept the whole text" if row["fell_back"] >= row["emptied"] else "was left empty"
        yield Finding(
            "look",
            f"{row['target']} {became} in {number(missed, 'booking')}: its pattern did not match "
            f"(it did in {percent(row['coverage'])}).",
        )
    if len(mapped) and not len(broken):
        yield Finding(
            "good",
            "Every pattern matched every title it was given; only hand-checked entries can say whether the values are right.",
        )


def _titles(audit: Audit) -> Iterator[Finding]:
    forms = audit.conventions.filter(pl.col("source") == "title")
    if not len(forms):
        return
    main = forms.row(0, named=True)
    others = len(forms) - 1
    yield Finding(
        "good" if not others else "look",
        f"{percent(main['share'])} of the titles look like {main['shape']}"
        + (f"; the rest come in {number(others, 'other form')}." if others else "."),
    )


def _times(audit: Audit) -> Iterator[Finding]:
    found = {row["check"]: row["bookings"] for row in audit.times.iter_rows(named=True)}
    twice = found.get("ambiguous", 0) + found.get("non_existent", 0)
    if twice:
        yield Finding(
            "look",
            f"{number(twice, 'booking')} in an hour in which the clocks change; see below how each was read.",
        )
    if found.get("zone_data", 0):
        off = audit.zone_data.filter(pl.col("bookings") > 0)["library"].to_list()
        yield Finding(
            "good",
            f"{number(found['zone_data'], 'booking')} would be at a wrong time by the zone data of "
            f"{' and of '.join('the system' if name == 'system' else name for name in off)}; "
            "the pipeline uses pytz and has them right.",
        )
    if not twice:
        yield Finding("good", "No booking starts or ends in an hour in which the clocks change.")


def _vocabularies(audit: Audit) -> Iterator[Finding]:
    for name, frame, became in (
        ("status", audit.statuses, "SCHEDULED"),
        ("resource", audit.resources, "their own name or OT"),
    ):
        unknown = frame.filter(~pl.col("known").fill_null(value=True))
        if len(unknown):
            plural = "statuses" if name == "status" else "resources"
            yield Finding(
                "look",
                f"{number(len(unknown), name, plural=plural)} the table does not know, in "
                f"{number(int(unknown['bookings'].sum()), 'booking')}; they became {became}.",
            )
