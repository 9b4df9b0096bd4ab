"""What an audit found: small frames, one subject each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date, datetime, time
from typing import Any

import polars as pl

JsonValue = Any


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
    | duplicates | a subject twice at one time | subject, start_utc, bookings, booking_ids, resources |
    | census | a title's shape | source, shape, form, bookings, share, caught_by, partly_by, missed_by, booking_ids |
    | conventions | a form of titles | source, form, shape, shapes, bookings, share, caught, caught_by, partly_by, missed_by |
    | suggestions | a target and a form | source, target, form, shape, bookings, pattern, group, checked, note |
    | proposals | a target | source, target, current, pattern, group, coverage, would_cover |
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
        """Say in a notebook what ``words.py`` says of the audit."""
        from pipeline.audit.words import findings, verdict

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
