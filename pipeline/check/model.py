"""What a checked file holds, and which of its rows break which rule; no value of any cell."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

Kind = Literal["entries", "bookings", "labels", "empty"]

_BOOKING_ID = re.compile(r"-?[0-9]{1,20}\Z")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file: its number from 1, and its JSON text or what was read."""

    number: int
    payload: Any


@dataclass(frozen=True, slots=True)
class Failure:
    """One failing row: its line (NDJSON) or row number from 1, its booking id where it is readable, its rules."""

    line: int
    booking_id: str | None
    rules: tuple[str, ...]


@dataclass(frozen=True)
class CheckResult:
    """The outcome for one file.

    ``structure`` says what is wrong with the file as a whole (a column is missing or of another type); ``counted`` is
    what ``line`` counts: "line" or "row".
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


def readable_id(value: object) -> str | None:
    """Return a booking id as text where it is a whole number; anything else might be a patient's data."""
    text = str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    return text if _BOOKING_ID.match(text) else None
