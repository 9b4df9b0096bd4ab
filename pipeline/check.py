"""Does a file keep the contract? Entries, bookings or labels, held to the pandera models; failing rows by rule.

No value of any cell is returned, logged or raised: bookings are named by their number, rows by their place.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from functools import cached_property
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import polars as pl

from pipeline import fields
from pipeline.archives import Block, BookingFile, recognise
from pipeline.batch import process_batch
from pipeline.config import AnyConfig, PipelineConfig
from pipeline.errors import PluginConfigError, PluginSchemaError
from pipeline.schema import check_bookings, split
from pipeline.transform import reasons
from pipeline.transform.json_values import parsed
from pipeline.wording import sendable

Kind = Literal["entries", "bookings", "labels", "empty"]

CHUNK = 50_000
"""Rows held at once."""

_IDENTITY = "source_record_id"
_BOOKING_ID = re.compile(r"-?[0-9]{1,20}\Z")
_MAX_MINUTES = 2**53
_UNKNOWN_REASON = "rejected_unknown_reason"
_NO_VERDICT = "label_without_verdict"
_REASONS = {
    _UNKNOWN_REASON: reasons.Reason(
        "The label asks for a reason that the pipeline does not know.",
        "Write a code of pipeline/transform/reasons.py.",
    ),
    _NO_VERDICT: reasons.Reason(
        "The label says neither what is expected nor why the booking is rejected.",
        "Write either expected (an object) or rejected (codes joined by '; ').",
    ),
}
_VALID: dict[str, Any] = {
    "patient_id": "X",
    "scheduled_start_date": "2000-01-01",
    "scheduled_start_time": "00:00:00",
    "scheduled_procedure_step_duration": 0,
    "modality": "OT",
    "performed_procedure_step_status": "SCHEDULED",
    "data_source": "labels",
    "notes": '{"booking_hash": "' + "0" * 64 + '"}',
}
"""What fills the fields that a label leaves out: it names only those it judges, and the schema looks at these."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One failing row: its line (NDJSON) or row number from 1, its booking id where it is readable, its rules."""

    line: int
    booking_id: str | None
    rules: tuple[str, ...]


@dataclass(frozen=True)
class CheckResult:
    """The outcome for one file.

    Attributes:
        kind: what the rows are.
        rows: how many there are.
        failures: the rows that break a rule, in the file's order.
        structure: what is wrong with the file as a whole (a column is missing or of another type).
        counted: what ``Failure.line`` counts, lines or rows.
    """

    kind: Kind
    rows: int
    failures: tuple[Failure, ...] = ()
    structure: tuple[str, ...] = ()
    counted: Literal["line", "row"] = "line"

    @property
    def passed(self) -> bool:
        """True where every row keeps every rule."""
        return not self.failures and not self.structure

    @cached_property
    def by_rule(self) -> Mapping[str, int]:
        """How many rows break each rule, the most frequent first."""
        return dict(Counter(rule for failure in self.failures for rule in failure.rules).most_common())


def check_file(path: str | Path, config: AnyConfig | None = None) -> CheckResult:
    """Check a file of entries, bookings or labels: JSON, Parquet or CSV, as ``archives`` recognises them.

    Args:
        path: the file.
        config: a ``PipelineConfig``, a dict or a path, with the mapping for bookings; without it only the bookings
            themselves are looked at (JSON, id, times, duplicates), not what a mapping would make of them.

    Raises:
        PluginConfigError: the file cannot be read, or holds none of the three.
    """
    mapping = None if config is None else PipelineConfig.of(config)
    if not isinstance(path, (str, PathLike)):
        raise PluginConfigError(
            f"path: got a {type(path).__name__}; write a file's path, or hand bookings to process_batch"
        )
    archive = recognise(path)
    blocks = BookingFile(archive).blocks(CHUNK)
    first = next(blocks, None)
    kind: Kind = "empty" if archive.holds == "others" or archive.holds == "unknown" else archive.holds
    if kind == "empty" and first is not None:
        raise PluginConfigError(
            f"{path}: holds neither entries (scheduled_start_date, source_record_id, ...) nor bookings (id with "
            "formattedName, title or properties) nor labels (booking_id with expected or rejected)"
        )
    check = _Check(kind, mapping)
    structure: tuple[str, ...] = ()
    try:
        for block in chain(() if first is None else (first,), blocks):
            check.add(block)
    except PluginSchemaError as error:
        structure = (str(error),)
    if kind == "entries" and archive.columns:
        lacking = [name for name in fields.names(required=True) if name not in archive.columns]
        structure = (*(f"column {name} is missing" for name in lacking),) or structure
    failures = () if structure else sorted(check.failures, key=lambda failure: failure.line)
    return CheckResult(kind, check.rows, tuple(failures), structure, archive.counted)


def explain(rule: str) -> reasons.Reason:
    """Return what a rule's failure means and what to do."""
    return _REASONS.get(rule) or reasons.explain(rule)


class _Check:
    """Checks a file chunk by chunk; remembers which bookings it has seen, because each may stand there once."""

    def __init__(self, kind: Kind, config: PipelineConfig | None) -> None:
        self.rows = 0
        self.failures: list[Failure] = []
        self._kind = kind
        self._config = config or PipelineConfig.from_dict({}, environ={}, offline=True)
        self._mapped = config is not None
        self._seen: set[object] = set()

    def add(self, block: Block) -> None:
        """Check a chunk.

        Raises:
            PluginSchemaError: its frame has not the known structure.
        """
        self.rows += len(block.payloads)
        if self._kind == "bookings":
            self._add_bookings(block)
            return
        lines: list[int] = []
        records: list[dict[str, Any]] = []
        for line, payload in zip(block.lines, block.payloads, strict=True):
            record = _record(payload)
            if isinstance(record, str):
                self._fail(line, None, [record])
                continue
            if self._kind == "labels":
                entry, fault = _label_entry(record, line)
                if fault:
                    self._fail(line, record.get("booking_id"), [fault])
                if entry is None:
                    continue
                record = entry
            lines.append(line)
            records.append(record)
        if records:
            self._add_entries(lines, records)

    def _add_bookings(self, block: Block) -> None:
        """Take payloads the whole way through the pipeline, without a server.

        Without a mapping only what is wrong with the bookings themselves counts.
        """
        batch = process_batch(block.payloads, self._config)
        check_bookings(batch.asked_for)
        broken: dict[int, list[str]] = defaultdict(list)
        for place, codes in batch.rejected.select("row", "reasons").rows():
            broken[place] = [code for code in codes if self._mapped or code in reasons.REASONS]
        # A booking that the configuration ignores is no failure, and may come twice like any other.
        ids = dict(batch.asked_for.select("row", "booking_id").iter_rows())
        ids |= dict(batch.filtered.select("row", "booking_id").iter_rows())
        for place, booking_id in ids.items():
            # Within a chunk process_batch has told the older one; here it is one of an earlier chunk.
            if booking_id in self._seen and reasons.DUPLICATE_BOOKING_ID not in broken[place]:
                broken[place].append(reasons.DUPLICATE_BOOKING_ID)
        self._seen.update(booking_id for booking_id in ids.values() if booking_id is not None)
        for place, codes in broken.items():
            self._fail(block.lines[place], ids[place], codes)

    def _add_entries(self, lines: Sequence[int], records: Sequence[dict[str, Any]]) -> None:
        """Hold entries to ``WorklistEntrySchema``."""
        broken: dict[int, list[str]] = defaultdict(list)
        known = fields.by_name()
        series = [
            _column(name, known[name].dtype if name in known else "String", records, broken)
            for name in _entry_columns(records)
        ]
        verdict = split(pl.DataFrame(series))
        failing = verdict.accepted.not_().arg_true().to_list()
        for place, rules in zip(failing, verdict.reasons.to_list(), strict=True):
            # A value that could not be read is null in the frame: malformed, and not missing as well.
            unread = {rule.removesuffix(f"_{reasons.MALFORMED}") for rule in broken[place]}
            broken[place] += [
                rule
                for rule in rules
                if rule.removesuffix(f"_{reasons.MISSING}") not in unread and rule not in broken[place]
            ]
        for place, record in enumerate(records):
            identity, source = record.get(_IDENTITY), record.get("data_source")
            if isinstance(identity, str) and identity:
                key = (source if isinstance(source, str) else None, identity)
                if key in self._seen:
                    broken[place].append(reasons.DUPLICATE_BOOKING_ID)
                self._seen.add(key)
        for place, rules in broken.items():
            self._fail(lines[place], records[place].get(_IDENTITY), rules)

    def _fail(self, line: int, booking_id: object, rules: Sequence[str]) -> None:
        """Note a failing row; a booking id that is no whole number is left out: it might be a patient's data."""
        if rules:
            text = (
                str(booking_id)
                if isinstance(booking_id, (int, str)) and not isinstance(booking_id, bool)
                else ""
            )
            shown = text if _BOOKING_ID.match(text) else None
            self.failures.append(Failure(line + 1, shown, tuple(rules)))


def _record(payload: Any) -> dict[str, Any] | str:
    """Return a row as an object, or the reason why it is none."""
    if isinstance(payload, (bytes, str)):
        try:
            payload = parsed(payload)
        except ValueError:
            return reasons.PAYLOAD_NOT_JSON
    return payload if isinstance(payload, dict) else reasons.PAYLOAD_NOT_OBJECT


def _label_entry(record: Mapping[str, Any], line: int) -> tuple[dict[str, Any] | None, str | None]:
    """Return the entry that a label asks for (None where the booking must be rejected) and the label's own fault."""
    expected, rejected = record.get("expected"), record.get("rejected")
    if isinstance(expected, dict) and rejected is None:
        identity = expected.get(_IDENTITY) or str(record.get("booking_id") or f"line {line + 1}")
        return {**_VALID, **expected, _IDENTITY: identity}, None
    if isinstance(rejected, str) and expected is None:
        return None, None if all(map(_is_known, rejected.split("; "))) else _UNKNOWN_REASON
    return None, _NO_VERDICT


def _is_known(code: str) -> bool:
    endings = (f"_{ending}" for ending in reasons.FIELD_REASONS)
    return code in reasons.REASONS or any(code.endswith(ending) and code != ending for ending in endings)


def _entry_columns(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys to hold entries to: those required, and each other one whose values are text."""
    required = fields.names(required=True)
    others = dict.fromkeys(key for record in records for key in record if key not in required)
    texts = [key for key in others if any(isinstance(record.get(key), str) for record in records)]
    known = [key for key in others if key in fields.by_name()]
    return [*required, *dict.fromkeys((*known, *texts))]


def _column(
    name: str, dtype: str, records: Sequence[dict[str, Any]], broken: dict[int, list[str]]
) -> pl.Series:
    """Return one column in its type; a value of another type becomes null and breaks ``<name>_malformed``."""
    read = _READERS[dtype]
    values: list[Any] = []
    for place, record in enumerate(records):
        value = record.get(name)
        try:
            values.append(None if value is None else read(value))
        except ValueError:
            broken[place].append(reasons.field_reason(name, reasons.MALFORMED))
            values.append(None)
    return pl.Series(name, values, dtype=getattr(pl, dtype), strict=True)


def _text(value: object) -> str:
    if not isinstance(value, str) or not sendable(value):
        raise ValueError("no text")
    return value


def _date(value: object) -> date:
    if isinstance(value, str) and len(value) == 10 and value.isascii():
        return date.fromisoformat(value)
    raise ValueError("no date")


def _time(value: object) -> time:
    """Read HH:MM or HH:MM:SS with any fraction, as polars and Python write it; the zone is not the file's to say."""
    if not isinstance(value, str) or not value.isascii():
        raise ValueError("no time")
    clock, _, fraction = value.partition(".")
    if len(clock) not in (5, 8) or (fraction and not fraction.isdecimal()) or value.endswith("."):
        raise ValueError("no time")
    return time.fromisoformat(clock)


def _minutes(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdecimal() and len(value) < 17:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _MAX_MINUTES:
        return value
    raise ValueError("no whole number")


_READERS: dict[str, Any] = {"String": _text, "Date": _date, "Time": _time, "Int64": _minutes}
