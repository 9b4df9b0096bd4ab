"""Against hand-checked entries: accuracy per field, and every disagreement (SC-002).

A label is one JSON object per line: ``{"booking_id": 40001, "expected": {"patient_id": "SUB041", ...}}`` or
``{"booking_id": 61002, "rejected": "patient_name_bad_character"}``; further keys: ``flags`` (names of doubts about the
times), ``line`` (the booking's line in its file, where it has no usable id). A bare worklist entry, known by its
``source_record_id``, is a label too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.archives import BookingFile, recognise
from pipeline.audit.coverage import COMPUTED
from pipeline.audit.findings import FRAMES
from pipeline.errors import PluginConfigError
from pipeline.transform.json_values import parsed
from pipeline.transform.shapes import shape

FLAGS = ("dst_ambiguous", "dst_nonexistent", "multi_day")

OUTCOME, REASONS, FLAGGED = "outcome", "reasons", "flags"
"""Judged beside the fields: on the worklist at all; rejected for the right reasons; times flagged as they should."""

PLAIN = frozenset({*COMPUTED, "data_source", "source_record_id", "notes", OUTCOME, REASONS, FLAGGED})
"""Shown as they are: the pipeline works them out, or they say nothing of a patient."""

_NOTHING = "(nothing)"
_BOOKING_ID = re.compile(r"[0-9]{1,16}\Z")
_MOST = 2**53


@dataclass(frozen=True)
class Label:
    """What one booking should become: the fields of ``expected``, or the reasons of ``rejected``."""

    booking_id: int | None
    line: int | None
    expected: Mapping[str, Any] | None
    rejected: frozenset[str] | None
    flags: frozenset[str] | None = None


@dataclass(frozen=True)
class Labels:
    """Labels by booking id, and by line (from 1) for bookings without one."""

    by_id: dict[int, Label]
    by_line: dict[int, Label]

    def __len__(self) -> int:
        """Count the labels."""
        return len(self.by_id) + len(self.by_line)

    def name(self, field: str) -> bool:
        """Return whether any label says what ``field`` should be."""
        every = (*self.by_id.values(), *self.by_line.values())
        return any(field in label.expected for label in every if label.expected is not None)


def read_labels(source: Path | str | Iterable[Mapping[str, Any]] | None) -> Labels:
    """Read labels from an NDJSON file or from objects.

    Raises:
        PluginConfigError: an item is no label; says which one.
    """
    labels = Labels({}, {})
    if source is None:
        return labels
    items = _objects(Path(source)) if isinstance(source, Path | str) else enumerate(source, start=1)
    for place, item in items:
        label = _label(place, item)
        known, key = (
            (labels.by_line, label.line) if label.booking_id is None else (labels.by_id, label.booking_id)
        )
        if key is None:
            raise _fault(place, "names no booking; write booking_id, or line where the booking has no id")
        if key in known:
            raise _fault(place, "labels a booking that has a label already")
        known[key] = label
    return labels


def _objects(path: Path) -> Iterator[tuple[int, Any]]:
    archive = recognise(path, f"--expected: {path}")
    for block in BookingFile(archive).blocks():
        for line, payload in zip(block.lines, block.payloads, strict=True):
            try:
                yield line + 1, payload if isinstance(payload, dict) else parsed(payload)
            except ValueError:
                raise _fault(line + 1, "is not JSON") from None


def _label(place: int, item: object) -> Label:
    if not isinstance(item, Mapping):
        raise _fault(place, "is no JSON object")
    _refuse_unwritable(place, item)
    if "expected" not in item and "rejected" not in item:
        return _bare_entry(place, item)
    expected, rejected = item.get("expected"), item.get("rejected")
    if (expected is None) == (rejected is None):
        raise _fault(place, "needs either expected (an entry) or rejected (reasons)")
    if expected is not None and not isinstance(expected, Mapping):
        raise _fault(place, "has an expected that is no object")
    return Label(
        booking_id=_whole(place, "booking_id", item.get("booking_id")),
        line=_whole(place, "line", item.get("line")),
        expected=expected,
        rejected=None if rejected is None else _reasons(place, rejected),
        flags=_flags(place, item.get("flags")),
    )


def _bare_entry(place: int, item: Mapping[str, Any]) -> Label:
    record = item.get("source_record_id")
    if not isinstance(record, str) or not _BOOKING_ID.match(record):
        raise _fault(place, "has neither expected nor rejected, and no source_record_id as an entry would")
    return Label(int(record), None, item, None)


def _reasons(place: int, rejected: object) -> frozenset[str]:
    if isinstance(rejected, str):
        return frozenset(part.strip() for part in rejected.split(";"))
    if isinstance(rejected, list) and all(isinstance(part, str) for part in rejected):
        return frozenset(rejected)
    raise _fault(place, "has a rejected that is neither text nor a list of texts")


def _flags(place: int, flags: object) -> frozenset[str] | None:
    if flags is None:
        return None
    if isinstance(flags, list) and all(flag in FLAGS for flag in flags):
        return frozenset(flags)
    raise _fault(place, f"has flags that are no list of {', '.join(FLAGS)}")


def _whole(place: int, name: str, value: object) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MOST):
        return value
    raise _fault(place, f"has a {name} that is no whole number from 1 to 2^53-1")


def _refuse_unwritable(place: int, item: Mapping[str, Any]) -> None:
    try:
        json.dumps(item, ensure_ascii=False, default=str, skipkeys=True).encode()
    except (ValueError, RecursionError):
        raise _fault(place, "holds half a surrogate pair, or is nested too deep") from None


def _fault(place: int, problem: str) -> PluginConfigError:
    return PluginConfigError(f"--expected: label {place} {problem}")


def collect(wide: pl.DataFrame, labels: Labels) -> pl.DataFrame:
    """Keep a chunk's labelled rows; ``line`` is a column of it."""
    of_id = pl.col("booking_id").is_in(list(labels.by_id))
    return wide.filter(of_id | pl.col("line").is_in(list(labels.by_line)))


@dataclass(frozen=True)
class Comparison:
    """Labelled bookings against what became of them: how many there were, and the frames of an ``Audit``."""

    labelled: int
    unused: int
    accuracy: pl.DataFrame
    disagreements: pl.DataFrame


def compare(
    rows: Iterable[pl.DataFrame],
    labels: Labels,
    superseded: Sequence[int],
    *,
    reveal: bool,
    masked: Collection[str] = (),
) -> Comparison:
    """Compare all labelled bookings with their labels.

    Args:
        rows: the labelled bookings of each chunk (``collect``).
        labels: what they should become.
        superseded: lines that gave way to a newer copy of the booking.
        reveal: show values as they are; otherwise all but ``PLAIN`` as shapes.
        masked: fields that are shown as shapes although they are usually no patient's data.
    """
    plain = PLAIN.difference(masked)
    labelled = 0
    counts: dict[str, list[int]] = {}
    wrong: list[dict[str, object]] = []

    def shown(name: str, value: str | None) -> str:
        if not value:
            return _NOTHING
        return value if reveal or name in plain else shape(value)

    for part in rows:
        for row in part.filter(~pl.col("line").is_in(list(superseded))).iter_rows(named=True):
            label = labels.by_id.get(row["booking_id"]) or labels.by_line.get(row["line"])
            if label is None:
                continue
            labelled += 1
            for name, expected, got, known in _judged(label, row):
                right = known and expected == got
                counted = counts.setdefault(name, [0, 0])
                counted[0] += 1
                counted[1] += right
                if not right:
                    found = {"booking_id": row["booking_id"], "line": row["line"], "field": name}
                    found |= {"expected": shown(name, expected), "got": shown(name, got)}
                    wrong.append({**found, "kind": _kind(expected, got, known=known)})
    lines = [(name, seen, right, right / seen) for name, (seen, right) in counts.items()]
    return Comparison(
        labelled,
        len(labels) - labelled,
        pl.DataFrame(lines, schema=FRAMES["accuracy"], orient="row"),
        pl.DataFrame(wrong, schema=FRAMES["disagreements"]),
    )


def _judged(label: Label, row: Mapping[str, Any]) -> Iterator[tuple[str, str | None, str | None, bool]]:
    """Yield what is judged of a booking: the outcome, then every field that the label has.

    Each as expected and as it is, and whether an entry has such a field at all.
    """
    reasons = "; ".join(sorted(set(row["reasons"] or ())))
    if label.rejected is not None:
        yield OUTCOME, "rejected", "rejected" if reasons else "entry", True
        if reasons:
            yield REASONS, "; ".join(sorted(label.rejected)), reasons, True
        return
    yield OUTCOME, "entry", f"rejected: {reasons}" if reasons else "entry", True
    for name, value in (label.expected or {}).items():
        yield name, plain_text(name, value), plain_text(name, row.get(name)), name in row
    if label.flags is not None:
        raised = sorted(name for name in FLAGS if row[name])
        yield FLAGGED, ", ".join(sorted(label.flags)), ", ".join(raised), True


def plain_text(name: str, value: object) -> str | None:
    """Return one field's value as text, the same from a label and from the frame: dates and times in ISO 8601."""
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
