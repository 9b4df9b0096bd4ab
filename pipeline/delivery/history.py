"""The history of runs: each cycle's report, and how the source is doing."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline.delivery.ledger import Ledger, Owed, microseconds, moment
from pipeline.delivery.ledger_file import CALLER
from pipeline.errors import PluginSchemaError
from pipeline.report import HELD_BACK, NOT_SENDABLE, RunReport

A_FEW_CYCLES = 5
"""So many cycles may leave a booking before ``run`` fails for it; every booking has its turn in fewer."""

_LONGEST_PAUSE = timedelta(days=30) // timedelta(microseconds=1)


@dataclass(frozen=True)
class Health:
    """How a source is doing at one host: its last runs, its last success, and what waits."""

    now: datetime
    host: str = CALLER
    runs: tuple[RunReport, ...] = ()
    last_success: datetime | None = None
    pending: tuple[int, ...] = ()
    owed: dict[int, Owed] = field(default_factory=dict)
    held: frozenset[int] = frozenset()
    held_back: dict[int, str] = field(default_factory=dict)
    """Booking id -> why its withdrawal waits (a code), or why the host cannot carry its entry; the first ones."""
    quarantined: int = 0
    source: str = ""
    ledger: Path | None = None

    @property
    def age(self) -> timedelta | None:
        """The time since the last success; None when there was none."""
        return None if self.last_success is None else max(self.now - self.last_success, timedelta(0))

    def to_dict(self) -> dict[str, Any]:
        """Give everything as JSON-ready values; times are ISO 8601 in UTC, ``age`` is in seconds."""
        return {
            "now": self.now.isoformat(),
            "source": self.source,
            "ledger": None if self.ledger is None else str(self.ledger),
            "host": self.host,
            "last_success": self.last_success.isoformat() if self.last_success else None,
            "age": None if self.age is None else self.age.total_seconds(),
            "owed": [
                {
                    "booking_id": booking_id,
                    "since": owed.since.isoformat(),
                    "attempts": owed.attempts,
                    "passed_over": owed.passed_over,
                    "end": None if owed.end is None else owed.end.isoformat(),
                }
                for booking_id, owed in self.owed.items()
            ],
            "pending": list(self.pending),
            "held": sorted(self.held),
            "held_back": {str(number): why for number, why in self.held_back.items()},
            "quarantined": self.quarantined,
            "runs": [run.to_dict() for run in self.runs],
        }

    def is_older_than(self, limit: timedelta) -> bool:
        """Tell whether nothing has succeeded for longer than ``limit``.

        A success that lies further ahead than that says nothing either: the clock was set back since.
        """
        return self.last_success is None or abs(self.now - self.last_success) > limit

    def left_behind(self, limit: timedelta) -> list[int]:
        """Name the bookings that have been owed for longer than ``limit`` and have not ended yet."""
        return [
            booking_id
            for booking_id, owed in self.owed.items()
            if not owed.is_over(self.now) and abs(self.now - owed.since) > limit
        ]


def left_behind(owed: Mapping[int, Owed], now: datetime) -> list[int]:
    """Name the bookings that more than a few cycles could not fetch and that have not ended yet."""
    return [
        booking_id
        for booking_id, item in owed.items()
        if item.attempts + item.passed_over > A_FEW_CYCLES and not item.is_over(now)
    ]


def next_run(connection: sqlite3.Connection) -> int:
    """Give the number of the run that is about to be kept, inside its transaction."""
    return int(connection.execute("SELECT coalesce(max(run), 0) + 1 FROM runs").fetchone()[0])


def add_run(connection: sqlite3.Connection, run: int, report: RunReport, finished: datetime) -> None:
    """Keep a cycle's report, inside a transaction."""
    connection.execute(
        "INSERT INTO runs (run, started, finished, outcome, report) VALUES (?, ?, ?, ?, ?)",
        (run, microseconds(report.started), microseconds(finished), report.outcome, report.to_history()),
    )


def amend_last_run(connection: sqlite3.Connection, report: RunReport) -> None:
    """Put a fuller report in the place of the last run's, inside a transaction: a host may have more to say."""
    connection.execute(
        "UPDATE runs SET report = ? WHERE run = (SELECT max(run) FROM runs)", (report.to_history(),)
    )


def clock_is_steady(connection: sqlite3.Connection, now: datetime) -> bool:
    """Tell whether the clock goes on from the last recorded runs; what is forgotten by a clock that jumped is gone.

    It does not where it is before the last run or more than thirty days after it, nor in the cycle after that one.
    """
    rows = connection.execute("SELECT started FROM runs ORDER BY run DESC LIMIT 2").fetchall()
    moments = [microseconds(now), *(row[0] for row in rows)]
    return len(rows) > 0 and all(
        0 <= later - earlier <= _LONGEST_PAUSE for later, earlier in pairwise(moments)
    )


def purge_runs(connection: sqlite3.Connection, before: datetime) -> int:
    """Forget runs that started before a moment, inside a transaction; the last success always stays."""
    return connection.execute(
        "DELETE FROM runs WHERE started < ?"
        " AND run != coalesce((SELECT max(run) FROM runs WHERE outcome = 'ok'), 0)",
        (microseconds(before),),
    ).rowcount


def _held_back(ledger: Ledger) -> dict[int, str]:
    """Return why bookings are held back: what the last cycle that succeeded said, where it is known."""
    for (text,) in ledger.rows("SELECT report FROM runs WHERE outcome = 'ok' ORDER BY run DESC LIMIT 1"):
        with suppress(PluginSchemaError, ValueError, TypeError, AttributeError):
            flags = RunReport.from_json(text).flags
            told = {**flags.get(HELD_BACK, {}), **flags.get(NOT_SENDABLE, {})}
            return {int(number): str(why) for number, why in told.items() if number.isdecimal()}
    return {}


def last_runs(ledger: Ledger, count: int) -> list[RunReport]:
    """Give the reports of the last runs, newest first; one that is damaged, or written by another version's laws, is passed over."""
    reports = []
    for (text,) in ledger.rows("SELECT report FROM runs ORDER BY run DESC LIMIT ?", count):
        with suppress(PluginSchemaError, ValueError, TypeError, AttributeError):
            reports.append(RunReport.from_json(text))
    return reports


def last_success(ledger: Ledger) -> datetime | None:
    """Return when a cycle succeeded last (aware), None where none has."""
    success = ledger.rows("SELECT finished FROM runs WHERE outcome = 'ok' ORDER BY run DESC LIMIT 1")
    return moment(success[0][0]) if success else None


def health(ledger: Ledger, now: datetime, *, runs: int = 10) -> Health:
    """Read how a source is doing."""
    held = ledger.held()
    known = ledger.meta("source")
    quarantined = ledger.rows("SELECT count(*) FROM quarantine WHERE resolved IS NULL")
    return Health(
        now=now,
        host=ledger.meta("host") or CALLER,
        runs=tuple(last_runs(ledger, runs)),
        last_success=last_success(ledger),
        pending=tuple(ledger.pending_ids()),
        owed=ledger.owed(),
        held=frozenset(held),
        held_back=dict.fromkeys(sorted(held), "") | _held_back(ledger),
        quarantined=quarantined[0][0],
        source=known or "",
        ledger=ledger.path,
    )
