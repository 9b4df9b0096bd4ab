"""What one cycle did, and what is logged after it.

``RunReport`` holds counts that must add up, without any patient's data; the ledger keeps a history of them, from which a
source's health is read. ``Notices`` writes the log (T005): counts at INFO, what needs a look at WARNING. Titles and names
never appear, unless ``log_original_values`` asks for them at DEBUG: bookings are named by their ids, texts by their shapes. A
warning that repeats is logged at DEBUG, until a cycle passes without it: a pattern that misses one title must not fill a log
every minute.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pipeline.delivery.ledger import CALLER, Ledger, Owed, microseconds, moment
from pipeline.errors import PluginSchemaError
from pipeline.transform.reasons import explain, field_reason
from pipeline.wording import first_of

if TYPE_CHECKING:
    from pipeline.batch import Batch, BatchFlags
    from pipeline.calpendo.client import SourceLogger
    from pipeline.config import PipelineConfig
    from pipeline.delivery.decide import Delivery


KEPT_IDS = 20
"""How many bookings a report names for one field and one kind of repair; the count is of all."""

# Each law: the sum on the left equals the sum on the right.
LAWS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("listed",), ("emitted", "unchanged", "filtered", "rejected", "fetch_failed", "gone")),
    (
        ("looked_up",),
        (
            "looked_up_emitted",
            "looked_up_unchanged",
            "looked_up_filtered",
            "looked_up_rejected",
            "looked_up_failed",
            "looked_up_gone",
        ),
    ),
    (("emitted", "looked_up_emitted"), ("new", "changed", "resent")),
    (("returned",), ("emitted", "looked_up_emitted", "withdrawn")),
)


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """Counts, reasons and timings of one cycle; built only when the laws of conservation hold.

    ``listed`` counts the bookings of the window's list, each of which is exactly one of ``emitted``, ``unchanged``,
    ``filtered``, ``rejected``, ``fetch_failed`` and ``gone``. ``looked_up`` counts those asked for beyond the list
    (owed, vanished, pending, moved out of the window), with the same outcomes. ``withdrawn`` counts the DISCONTINUED
    entries sent in place of a booking that no longer stands. ``returned`` is the length of the answer. ``pending``,
    ``owed`` and ``held`` are the ledger's state after the cycle. ``not_reached`` counts the failed bookings that
    were never asked for, because the cycle's time ran out, ``left_behind`` those that could not be fetched in a few cycles
    and have not ended. Seconds are wall
    clock, by stage.

    Raises:
        PluginSchemaError: a law is broken.
    """

    source: str
    started: datetime
    outcome: Literal["ok", "failed"] = "ok"
    error: str | None = None
    window_start: datetime | None = None
    window_end: datetime | None = None
    listed: int = 0
    emitted: int = 0
    unchanged: int = 0
    filtered: int = 0
    rejected: int = 0
    fetch_failed: int = 0
    gone: int = 0
    looked_up: int = 0
    looked_up_emitted: int = 0
    looked_up_unchanged: int = 0
    looked_up_filtered: int = 0
    looked_up_rejected: int = 0
    looked_up_failed: int = 0
    looked_up_gone: int = 0
    new: int = 0
    changed: int = 0
    resent: int = 0
    withdrawn: int = 0
    returned: int = 0
    pending: int = 0
    owed: int = 0
    held: int = 0
    not_reached: int = 0
    left_behind: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    filters: Mapping[str, int] = field(default_factory=dict)
    changed_fields: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    requests: Mapping[str, float] = field(default_factory=dict)
    flags: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the laws of conservation."""
        for left, right in LAWS:
            if sum(getattr(self, name) for name in left) != sum(getattr(self, name) for name in right):
                raise PluginSchemaError(f"the law of conservation is broken: {self._law(left, right)}")

    def _law(self, left: tuple[str, ...], right: tuple[str, ...]) -> str:
        def side(names: tuple[str, ...]) -> str:
            return " + ".join(
                f"{name.removeprefix('looked_up_').replace('_', ' ')} {getattr(self, name)}" for name in names
            )

        return f"{side(left)} = {side(right)}"

    def to_dict(self) -> dict[str, Any]:
        """Return what differs from an empty report, as JSON-ready values; times are ISO 8601 in UTC."""
        document: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, datetime):
                value = value.isoformat()
            elif isinstance(value, Mapping):
                value = dict(value)
            elif isinstance(value, tuple):
                value = list(value)
            if value or item.name in _ALWAYS:
                document[item.name] = value
        return document

    def to_json(self) -> str:
        """Return the report as one line of JSON; absent counts are zero."""
        return json.dumps(self.to_dict(), ensure_ascii=False, default=str)

    def to_history(self) -> str:
        """Return the report as the history keeps it: short, because one per minute for 90 days makes 130,000.

        Zeros are left out, and of long lists of ids the first ones stay.
        """
        document = {name: value for name, value in self.to_dict().items() if value}
        if self.flags:
            document["flags"] = _cut(self.flags)
        return json.dumps(document, ensure_ascii=False, default=str, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a report back; keys that this version does not know are passed over."""
        document = json.loads(text)
        known = {item.name for item in fields(cls)}
        values = {name: value for name, value in document.items() if name in known}
        for name in ("started", "window_start", "window_end"):
            if values.get(name) is not None:
                values[name] = datetime.fromisoformat(values[name])
        values["warnings"] = tuple(values.get("warnings", ()))
        return cls(**values)

    def to_text(self) -> str:
        """Return the report for people: a headline, the laws with their numbers, then what stands out."""
        if self.outcome == "failed":
            lines = [f"{self.source}: the cycle failed after {self.total_seconds:.2f} s: {self.error}"]
            return "\n".join(lines + [f"warning: {warning}" for warning in self.warnings])
        kinds = (
            f"{self.new} new, {self.changed} changed, {self.resent} sent again, {self.withdrawn} withdrawn"
        )
        lines = [f"{self.source}: {self.returned} entries returned ({kinds}) in {self.total_seconds:.2f} s"]
        if self.window_start and self.window_end:
            lines.append(
                f"window: {self.window_start:%Y-%m-%d %H:%M %Z} to {self.window_end:%Y-%m-%d %H:%M %Z}"
            )
        lines.append(self._law(*LAWS[0]))
        if self.looked_up:
            lines.append(self._law(*LAWS[1]))
        lines += [
            f"{title}: {', '.join(f'{name} {count}' for name, count in counts.items())}"
            for title, counts in (
                ("rejected because", self.reasons),
                ("filtered by", self.filters),
                ("fields changed", self.changed_fields),
            )
            if counts
        ]
        if self.waiting:
            lines.append(f"waiting: {', '.join(f'{name} {count}' for name, count in self.waiting.items())}")
        lines += _flag_lines(self.flags)
        if self.requests:
            lines.append(
                "requests: " + ", ".join(f"{name} {value:g}" for name, value in self.requests.items())
            )
        lines.append("seconds: " + ", ".join(f"{stage} {spent:.3f}" for stage, spent in self.seconds.items()))
        return "\n".join(lines + [f"warning: {warning}" for warning in self.warnings])

    @property
    def waiting(self) -> dict[str, int]:
        """How many bookings are pending, owed or held; without what is zero."""
        counts = {name: getattr(self, name) for name in ("pending", "owed", "held")}
        return {name: count for name, count in counts.items() if count}

    @property
    def total_seconds(self) -> float:
        """The whole cycle's seconds."""
        return sum(self.seconds.values())


_ALWAYS = frozenset(LAWS[0][0] + LAWS[0][1] + ("source", "started", "outcome", "returned", "withdrawn"))
_SHOWN = 10
HELD_BACK, NOT_SENDABLE = "held_back", "not_sendable"
"""Flags that hold booking id (text) -> why its withdrawal waits (a code), or why the host cannot carry its entry."""
REPAIRS = ("repaired", "repaired_for_host")
"""Flags that hold field -> kind of repair -> ``count`` and ``bookings``."""
_KEPT = 20


def _cut(value: Any) -> Any:
    """Shorten every list and every table of a flag, and say how much was left out."""
    if isinstance(value, Mapping):
        kept = {name: _cut(part) for name, part in list(value.items())[:_KEPT]}
        return kept | ({"…": len(value) - _KEPT} if len(value) > _KEPT else {})
    if isinstance(value, (list, tuple)):
        return [*value[:_KEPT], *([f"{len(value) - _KEPT} more"] if len(value) > _KEPT else [])]
    return value


def _flag_lines(flags: Mapping[str, Any]) -> list[str]:
    """Render what stands out: one line per flag, and for patterns that did not match one per field."""
    ids = flags.get("unmatched_ids", {})
    lines = [
        f"no match for {target}: {_shown(shapes)} (bookings {_shown(ids.get(target, ()))})"
        for target, shapes in flags.get("unmatched", {}).items()
    ]
    lines += [
        f"pattern for {target} stopped: bookings {_shown(late)}"
        for target, late in flags.get("pattern_timeouts", {}).items()
    ]
    return lines + [
        f"{name.replace('_', ' ')}: {_repairs(value) if name in REPAIRS else _shown(value)}"
        for name, value in flags.items()
        if value and name not in ("unmatched", "unmatched_ids", "pattern_timeouts")
    ]


def _repairs(fields: Mapping[str, Any]) -> str:
    """Render repairs: field, kind, how many bookings, and the first of them."""
    return "; ".join(
        f"{field} {kind} {told['count']} ({_shown(told['bookings'])})"
        for field, kinds in fields.items()
        if isinstance(kinds, Mapping)  # else the history's note of how many fields it left out
        for kind, told in kinds.items()
        if isinstance(told, Mapping)
    )


def _shown(value: object) -> str:
    """Render one flag: ids as a list, counts by value; long ones are cut."""
    if isinstance(value, Mapping):
        items = [
            f"{name!r} {_shown(count) if isinstance(count, Mapping) else count}"
            for name, count in value.items()
        ]
    elif isinstance(value, (list, tuple)):
        items = [str(item) for item in value]
    else:
        return str(value)
    return first_of(items, _SHOWN)


def merged_flags(several: Iterable[BatchFlags]) -> dict[str, Any]:
    """Join the flags of several batches by name: ids in order, counts added; what is empty is left out.

    Of ``repaired`` the count and the first bookings of each field and kind are kept (``counted_repairs``).
    """
    total: dict[str, Any] = {}
    for flags in several:
        for item in fields(flags):
            value = getattr(flags, item.name)
            if value:
                total[item.name] = _joined(total.get(item.name), value)
    if "repaired" in total:
        total["repaired"] = counted_repairs(total["repaired"])
    return total


def counted_repairs(repaired: Mapping[str, Mapping[str, Sequence[int]]]) -> dict[str, dict[str, Any]]:
    """Return field -> kind -> ``count`` and ``bookings``, the ids of the first ones."""
    return {
        field: {kind: {"count": len(ids), "bookings": list(ids[:KEPT_IDS])} for kind, ids in kinds.items()}
        for field, kinds in repaired.items()
    }


def _joined(before: Any, more: Any) -> Any:
    if isinstance(more, Mapping):
        counts = dict(before or {})
        for name, value in more.items():
            counts[name] = _joined(counts.get(name), value)
        return counts
    if isinstance(more, int):
        return (before or 0) + more
    return [*(before or ()), *more]


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
        """Return everything as JSON-ready values; times are ISO 8601 in UTC, ``age`` is in seconds."""
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
                    **owed._asdict(),
                    "since": owed.since.isoformat(),
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
        """Return whether nothing has succeeded for longer than ``limit``.

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
    """Return the number of the run that is about to be kept, inside its transaction."""
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
    """Return whether the clock goes on from the last recorded runs; what is forgotten by a clock that jumped is gone.

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
    """Return the reports of the last runs, newest first; one that is damaged, or written by another version's laws, is passed over."""
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


def waiting_withdrawals(delivery: Delivery) -> list[str]:
    """Say why withdrawals wait."""
    count, limit = len(delivery.held), delivery.verdict.limit
    if delivery.verdict.kept_by == "failed_fetch":
        why = "because details of some bookings could not be fetched"
        return [f"{count} withdrawals wait for the same answer in the next cycle, {why}"]
    if delivery.verdict.kept_by == "guard":
        what = f"{count} bookings would be withdrawn at once, more than the limit of {limit:g}"
        return [f"{what}, so none was; the same answer in the next cycle confirms it"]
    return []


FEW_MATCHES = 0.8
"""A pattern that matches fewer of a window's bookings is an ERROR: it was hardly meant so."""


_ENOUGH = 5
"""Of fewer bookings, a share says nothing."""


class Notices:
    """The voice of one plugin; remembers from one cycle to the next what it has said."""

    def __init__(self, log: SourceLogger) -> None:
        self._log = log
        self._said: set[tuple[str, object]] = set()
        self._saying: set[tuple[str, object]] = set()

    def tell(self, delivery: Delivery, report: RunReport, config: PipelineConfig) -> None:
        """Log what a cycle did."""
        self._saying = set()
        self._rejected(delivery)
        for batch in delivery.checked.batches:
            self._unmatched(batch, config)
            self._repaired(batch)
            self._unknown(batch)
        self._withdrawals(delivery)
        window = delivery.answers.window
        bounds = {
            "start": window.start.isoformat(timespec="minutes"),
            "end": window.end.isoformat(timespec="minutes"),
        }
        self._log.info(
            "%(listed)d bookings in the window from %(start)s to %(end)s: %(emitted)d emitted, %(unchanged)d unchanged,"
            " %(filtered)d filtered, %(rejected)d rejected, %(fetch_failed)d could not be fetched, %(gone)d gone",
            {**delivery.counts, **bounds},
        )
        if report.looked_up:
            self._log.info(
                "%(looked_up)d more looked up by number: %(looked_up_emitted)d emitted, %(looked_up_unchanged)d unchanged,"
                " %(looked_up_gone)d gone, %(looked_up_failed)d could not be fetched",
                delivery.counts,
            )
        self._log.info(
            "%(returned)d entries returned: %(new)d new, %(changed)d changed, %(resent)d sent again, %(withdrawn)d withdrawn",
            delivery.counts,
        )
        if report.changed_fields:
            self._log.info("fields changed: %s", _counts(report.changed_fields.items()))
        self._said = self._saying

    def _warn(
        self, topic: str, subject: object, message: str, *args: object, level: int = logging.WARNING
    ) -> None:
        """Say something at ``level`` the first time, at DEBUG as long as it stays."""
        key = (topic, subject)
        self._saying.add(key)
        self._log.log(logging.DEBUG if key in self._said else level, message, *args)

    def _rejected(self, delivery: Delivery) -> None:
        for item in delivery.rejected:
            name = "without an id" if item.booking_id is None else item.booking_id
            reasons = "; ".join(item.reasons)
            subject = (item.booking_id if item.booking_id is not None else hash(item.payload), reasons)
            self._warn("rejected", subject, "booking %s rejected, kept in quarantine: %s", name, reasons)

    def _unmatched(self, batch: Batch, config: PipelineConfig) -> None:
        for target, shapes in batch.flags.unmatched.items():
            for shape, count in shapes.items():
                self._warn(
                    "unmatched",
                    (target, shape),
                    "%s: the pattern did not match %d bookings of the shape %s",
                    target,
                    count,
                    shape,
                )
            asked_for, missed = batch.accepted.height + batch.rejected.height, sum(shapes.values())
            if asked_for >= _ENOUGH and asked_for - missed < FEW_MATCHES * asked_for:
                self._warn(
                    "few matches",
                    target,
                    "%s: the pattern matched only %d of %d bookings; calpendo-pipeline verify shows what it misses",
                    target,
                    asked_for - missed,
                    asked_for,
                    level=logging.ERROR,
                )
        for target, ids in batch.flags.unmatched_ids.items():
            self._log.debug("%s: bookings that the pattern did not match: %s", target, first_of(ids))
        for target, ids in batch.flags.pattern_timeouts.items():
            self._warn(
                "pattern_timeouts",
                (target, ids),
                "%s: the pattern took too long and was stopped for bookings %s; calpendo-pipeline verify shows why",
                target,
                first_of(ids),
            )
        if config.log_original_values:
            self._original_values(batch, config)

    def _original_values(self, batch: Batch, config: PipelineConfig) -> None:
        """Log the texts themselves, at DEBUG, because the configuration asks for it (T011, design decision 6)."""
        for rule in config.rules:
            column = f"source:{rule.source}"
            if column not in batch.accepted.columns:
                continue
            missed = batch.accepted.filter(batch.accepted["unmatched"].list.contains(rule.target))
            for booking_id, value in missed.select("booking_id", column).iter_rows():
                self._log.debug(
                    "booking %s: %s: the pattern did not match %r", booking_id, rule.target, value
                )

    def _repaired(self, batch: Batch) -> None:
        for name, kinds in batch.flags.repaired.items():
            for kind, ids in kinds.items():
                why = explain(field_reason(name, kind))
                self._warn(
                    "repaired",
                    (name, kind, ids),
                    "%s %s %d bookings: %s",
                    why.meaning,
                    why.remedy,
                    len(ids),
                    first_of(ids),
                )
        for name, count in batch.flags.translated.items():
            self._log.debug("%s: %d values were only written in DICOM's form", name, count)

    def _unknown(self, batch: Batch) -> None:
        for topic, counts, outcome in (
            ("statuses", batch.flags.unknown_statuses, "SCHEDULED was taken; add them to status_mapping"),
            ("resources", batch.flags.unknown_resources, "add them to resource_modality_mapping"),
        ):
            if counts:
                values = tuple(sorted(counts))
                # A wrong status is shown to a scanner; a resource without a modality is OT or its own name.
                level = logging.ERROR if topic == "statuses" else logging.WARNING
                self._warn(
                    topic, values, "unknown %s: %s; %s", topic, _counts(counts.items()), outcome, level=level
                )

    def _withdrawals(self, delivery: Delivery) -> None:
        gone = [booking_id for booking_id, change in delivery.kinds.items() if change == "withdrawn"]
        if gone:
            self._log.warning("%d bookings withdrawn: %s", len(gone), first_of(gone))
        level = logging.ERROR if delivery.verdict.kept_by == "guard" else logging.WARNING
        for text in waiting_withdrawals(delivery):
            self._log.log(level, "%s: %s", text, first_of(sorted(delivery.held)))


def _counts(items: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{name!r} ({count})" for name, count in items)
