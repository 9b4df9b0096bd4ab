"""Does a file keep the contract? Entries, bookings or labels, held to the pandera models; failing rows by rule.

No value of any cell is returned, logged or raised: bookings are named by their number, rows by their place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any

from pipeline import fields
from pipeline.archives import BookingFile, recognise
from pipeline.check import labels
from pipeline.check.bookings import BookingCheck
from pipeline.check.entries import EntryCheck, required_keys
from pipeline.check.model import CheckResult, Failure, Kind, Row, readable_id
from pipeline.config import AnyConfig, PipelineConfig
from pipeline.errors import PluginConfigError, PluginSchemaError
from pipeline.transform import reasons
from pipeline.transform.json_text import parsed

__all__ = ["CheckResult", "Failure", "check_file", "explain"]

CHUNK = 50_000


def check_file(path: str | Path, config: AnyConfig | None = None) -> CheckResult:
    """Check a file of entries, bookings or labels: JSON, Parquet or CSV, as ``archives`` recognises them.

    ``config`` (a ``PipelineConfig``, a dict or a path) has the mapping for bookings; without it only the bookings themselves are looked at (JSON, id, times,
    duplicates), not what a mapping would make of them. Raises PluginConfigError for a file that cannot be read or holds
    none of the three.
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
    result = _Check(kind, mapping)
    structure: tuple[str, ...] = ()
    try:
        for block in chain(() if first is None else (first,), blocks):
            numbered = zip(block.lines, block.payloads, strict=True)
            result.add([Row(line + 1, payload) for line, payload in numbered])
    except PluginSchemaError as error:
        structure = (str(error),)
    if kind == "entries" and archive.columns:
        lacking = [name for name in required_keys() if name not in archive.columns]
        structure = (*(f"column {name} is missing" for name in lacking),) or structure
    return CheckResult(
        kind=kind,
        rows=result.rows,
        failures=() if structure else tuple(result.failures),
        structure=structure,
        counted=archive.counted,
    )


def explain(rule: str) -> reasons.Reason:
    """Return what a rule's failure means and what to do."""
    return labels.REASONS.get(rule) or reasons.explain(rule)


class _Check:
    """Hands each chunk to the check of its kind."""

    def __init__(self, kind: Kind, config: PipelineConfig | None) -> None:
        self.rows = 0
        self._kind = kind
        self._unread: list[Failure] = []
        self._entries = EntryCheck()
        offline = config or PipelineConfig.from_dict({}, environ={}, offline=True)
        self._bookings = BookingCheck(offline, mapped=config is not None)

    @property
    def failures(self) -> list[Failure]:
        found = [*self._unread, *self._entries.failures, *self._bookings.failures]
        return sorted(found, key=lambda failure: failure.line)

    def add(self, rows: Sequence[Row]) -> None:
        self.rows += len(rows)
        if self._kind == "bookings":
            self._bookings.add(rows)
            return
        kept: list[Row] = []
        records: list[dict[str, Any]] = []
        for row in rows:
            record = _record(row)
            if isinstance(record, str):
                self._unread.append(Failure(row.number, None, (record,)))
                continue
            if self._kind == "labels":
                entry, faults = labels.label_entry(record, row.number)
                if faults:
                    self._unread.append(Failure(row.number, readable_id(record.get("booking_id")), faults))
                if entry is None:
                    continue
                record = entry
            kept.append(row)
            records.append(record)
        if records:
            self._entries.add(kept, records, _entry_columns(records))


def _entry_columns(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys to hold entries to: those required, and each other one whose values are text."""
    required = required_keys()
    others = dict.fromkeys(key for record in records for key in record if key not in required)
    texts = [key for key in others if any(isinstance(record.get(key), str) for record in records)]
    known = [key for key in others if key in fields.by_name()]
    return [*required, *dict.fromkeys((*known, *texts))]


def _record(row: Row) -> dict[str, Any] | str:
    """Return a row as an object, or the reason why it is none."""
    content = row.payload
    if isinstance(content, (bytes, str)):
        try:
            content = parsed(content)
        except ValueError:
            return reasons.PAYLOAD_NOT_JSON
    return content if isinstance(content, dict) else reasons.PAYLOAD_NOT_OBJECT
