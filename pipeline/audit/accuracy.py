"""Against hand-checked entries: accuracy a field, and every disagreement (SC-002)."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, time
from typing import Any

import polars as pl

from pipeline.audit.labels import FLAGS, Label, Labels
from pipeline.audit.tally import Schema
from pipeline.transform.shapes import shape

OUTCOME, REASONS, FLAGGED = "outcome", "reasons", "flags"
"""Judged beside the fields: on the worklist at all; rejected for the right reasons; times flagged as they should."""

PLAIN = frozenset(
    [
        "scheduled_start_date",
        "scheduled_start_time",
        "scheduled_procedure_step_duration",
        "modality",
        "performed_procedure_step_status",
        "data_source",
        "source_record_id",
        "notes",
    ]
) | {OUTCOME, REASONS, FLAGGED}
"""What is shown as it is: worked out by the pipeline, or no patient's."""

NOTHING = "(nothing)"

_ACCURACY: Schema = {"field": pl.String, "labelled": pl.Int64, "correct": pl.Int64, "accuracy": pl.Float64}
_DISAGREEMENTS: Schema = {
    "booking_id": pl.Int64,
    "line": pl.Int64,
    "field": pl.String,
    "expected": pl.String,
    "got": pl.String,
    "kind": pl.String,
}


def collect(wide: pl.DataFrame, labels: Labels) -> pl.DataFrame:
    """Keep a chunk's labelled rows; ``line`` is a column of it."""
    of_id = pl.col("booking_id").is_in(list(labels.by_id))
    return wide.filter(of_id | pl.col("line").is_in(list(labels.by_line)))


def compare(
    rows: Sequence[pl.DataFrame],
    labels: Labels,
    superseded: Sequence[int],
    *,
    reveal: bool,
    masked: Collection[str] = (),
) -> Comparison:
    """Compare all labelled bookings; the lines in ``superseded`` gave way to a newer copy of the booking.

    ``masked`` are fields that are shown as shapes although they are usually no patient's data.
    """
    found = Comparison(reveal=reveal, plain=PLAIN.difference(masked))
    for part in rows:
        for row in part.filter(~pl.col("line").is_in(list(superseded))).iter_rows(named=True):
            label = labels.by_id.get(row["booking_id"]) or labels.by_line.get(row["line"])
            if label is not None:
                found.judge(label, row)
    found.unused = len(labels) - found.labelled
    return found


@dataclass
class Comparison:
    """Labelled bookings against what became of them."""

    reveal: bool
    plain: frozenset[str] = PLAIN
    labelled: int = 0
    unused: int = 0
    _counts: dict[str, list[int]] = field(default_factory=dict)
    _wrong: list[dict[str, object]] = field(default_factory=list)

    def judge(self, label: Label, row: Mapping[str, Any]) -> None:
        """Compare one booking: the outcome first, then every field that the label has."""
        self.labelled += 1
        reasons = frozenset(row["reasons"] or ())
        outcome = "rejected" if reasons else "entry"
        if label.rejected is not None:
            self._compare(row, OUTCOME, "rejected", outcome)
            if reasons:
                self._compare(row, REASONS, "; ".join(sorted(label.rejected)), "; ".join(sorted(reasons)))
            return
        why = f"rejected: {'; '.join(sorted(reasons))}" if reasons else "entry"
        self._compare(row, OUTCOME, "entry", why)
        for name, value in (label.expected or {}).items():
            self._compare(
                row, name, plain_text(name, value), plain_text(name, row.get(name)), known=name in row
            )
        if label.flags is not None:
            raised = frozenset(name for name in FLAGS if row[name])
            self._compare(row, FLAGGED, ", ".join(sorted(label.flags)), ", ".join(sorted(raised)))

    def accuracy(self) -> pl.DataFrame:
        """One row a field, in the order in which the labels name them."""
        lines = [(name, seen, right, right / seen) for name, (seen, right) in self._counts.items()]
        return pl.DataFrame(lines, schema=_ACCURACY, orient="row")

    def disagreements(self) -> pl.DataFrame:
        """Every value that is not as labelled, in the bookings' order."""
        return pl.DataFrame(self._wrong, schema=_DISAGREEMENTS)

    def _compare(
        self, row: Mapping[str, Any], name: str, expected: str | None, got: str | None, *, known: bool = True
    ) -> None:
        counts = self._counts.setdefault(name, [0, 0])
        counts[0] += 1
        if known and expected == got:
            counts[1] += 1
            return
        self._wrong.append(
            {
                "booking_id": row["booking_id"],
                "line": row["line"],
                "field": name,
                "expected": self._shown(name, expected),
                "got": self._shown(name, got),
                "kind": _kind(expected, got, known=known),
            }
        )

    def _shown(self, name: str, value: str | None) -> str:
        if not value:
            return NOTHING
        return value if self.reveal or name in self.plain else shape(value)


def plain_text(name: str, value: object) -> str | None:
    """One field's value as text, the same from a label and from the frame: dates and times in ISO 8601."""
    if value is None or isinstance(value, str):
        return _clock(value) if name == "scheduled_start_time" and value else value
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Mapping | list):
        return json.dumps(value)
    return str(value)


def _clock(text: str) -> str:
    try:
        return time.fromisoformat(text).isoformat()
    except ValueError:
        return text


def _kind(expected: str | None, got: str | None, *, known: bool) -> str:
    if not known:
        return "not mapped"
    if not got:
        return "missing"
    if not expected:
        return "should be empty"
    return "other value of the same shape" if shape(expected) == shape(got) else "other value"
