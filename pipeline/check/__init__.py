"""Does a file keep the contract? Entries, bookings or labels, held to the pandera models; failing rows by rule.

No value of any cell is returned, logged or raised: bookings are named by their number, rows by their place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import fields
from pipeline.check import labels
from pipeline.check.bookings import BookingCheck, looks_like_booking
from pipeline.check.entries import EntryCheck, required_keys
from pipeline.check.model import CheckResult, Failure, Kind, readable_id
from pipeline.check.reading import PAYLOAD, Row, columns, file_format, parsed, read_chunks
from pipeline.config import PipelineConfig
from pipeline.errors import PluginConfigError, PluginSchemaError
from pipeline.transform import reasons

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["CheckResult", "Failure", "check_file", "explain"]

_SAMPLE = 500


def check_file(path: str | Path, config: PipelineConfig | None = None) -> CheckResult:
    """Check a file of entries, bookings or labels: NDJSON, Parquet or CSV.

    ``config`` gives the mapping for bookings; without it only the bookings themselves are looked at (JSON, id, times,
    duplicates), not what a mapping would make of them. Raises PluginConfigError for a file that cannot be read or holds
    none of the three.
    """
    path = Path(path)
    form = file_format(path)
    chunks = read_chunks(path, form)
    first = next(chunks, [])
    kind = _kind(path, first, columns(path, form))
    result = _Check(kind, config)
    structure: tuple[str, ...] = ()
    try:
        for rows in _joined(first, chunks):
            result.add(rows)
    except PluginSchemaError as error:
        structure = (str(error),)
    if kind == "entries" and form != "ndjson":
        lacking = [name for name in required_keys() if name not in columns(path, form)]
        structure = (*(f"column {name} is missing" for name in lacking),) or structure
    return CheckResult(
        kind=kind,
        rows=result.rows,
        failures=() if structure else tuple(result.failures),
        structure=structure,
        counted="line" if form == "ndjson" else "row",
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
    content = row.content
    if row.text is not None:
        try:
            content = parsed(row.text)
        except ValueError:
            return reasons.PAYLOAD_NOT_JSON
    return content if isinstance(content, dict) else reasons.PAYLOAD_NOT_OBJECT


def _kind(path: Path, first: Sequence[Row], names: Sequence[str]) -> Kind:
    """Tell what the file holds by what most of its first rows look like; an empty one by its columns."""
    if not first and not names:
        return "empty"
    if PAYLOAD in names:
        return "bookings"
    votes: dict[Kind, int] = {"labels": 0, "entries": 0, "bookings": 0}
    samples = [record for row in first[:_SAMPLE] if isinstance(record := _record(row), dict)]
    of_entries = set(required_keys()) - {"patient_id"}
    for record in samples or [dict.fromkeys(names)]:
        if labels.looks_like_label(record):
            votes["labels"] += 1
        elif record.keys() & of_entries:
            votes["entries"] += 1
        elif looks_like_booking(record):
            votes["bookings"] += 1
    best: Kind = max(votes, key=lambda kind: votes[kind])
    if votes[best] == 0:
        raise PluginConfigError(
            f"{path}: holds neither entries (scheduled_start_date, source_record_id, ...) nor bookings (id with "
            "formattedName, title or properties) nor labels (booking_id with expected or rejected)"
        )
    return best


def _joined(first: list[Row], rest: Iterable[list[Row]]) -> Iterator[list[Row]]:
    if first:
        yield first
    yield from rest
