"""Rows that should be worklist entries, held to ``WorklistEntrySchema`` (pandera)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, time
from typing import Any

import polars as pl

from pipeline import fields
from pipeline.check.model import Failure, Row, readable_id
from pipeline.schema import split
from pipeline.transform import reasons
from pipeline.wording import sendable

IDENTITY = "source_record_id"
_MAX_MINUTES = 2**53


def required_keys() -> tuple[str, ...]:
    """Return the keys that every entry has; a file that lacks one in all rows is not what the pipeline emits."""
    return fields.names(required=True)


class EntryCheck:
    """Checks rows chunk by chunk; remembers which bookings it has seen, because each may stand there once."""

    def __init__(self) -> None:
        self.failures: list[Failure] = []
        self._seen: set[tuple[str | None, str]] = set()

    def add(self, rows: Sequence[Row], records: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
        """Check a chunk; ``records`` are the rows' entries, ``columns`` the keys to hold them to.

        Raises PluginSchemaError where the chunk has no frame that the schema knows.
        """
        broken: dict[int, list[str]] = defaultdict(list)
        known = fields.by_name()
        series = [
            self._column(name, known[name].dtype if name in known else "String", records, broken)
            for name in columns
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
            identity = record.get(IDENTITY)
            if isinstance(identity, str) and identity:
                key = (
                    record.get("data_source") if isinstance(record.get("data_source"), str) else None,
                    identity,
                )
                if key in self._seen:
                    broken[place].append(reasons.DUPLICATE_BOOKING_ID)
                self._seen.add(key)
        self.failures += [
            Failure(rows[place].number, readable_id(records[place].get(IDENTITY)), tuple(rules))
            for place, rules in sorted(broken.items())
            if rules
        ]

    def _column(
        self, name: str, dtype: str, records: Sequence[dict[str, Any]], broken: dict[int, list[str]]
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
