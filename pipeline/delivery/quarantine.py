"""The quarantine: every rejected booking with its payload and reasons, kept for a look and for replay.

One item per booking: a booking that is rejected again updates its item, one that passes later is marked as resolved. A
payload without a usable id is its own subject. Payloads are patients' data: they stay in the ledger's file (0600).
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import Any

import orjson

from pipeline.config import PipelineConfig
from pipeline.delivery.ledger import Ledger, id_list, microseconds, moment
from pipeline.transform.shapes import shape

_FIELD_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,39}", re.ASCII)

MAX_PAYLOAD = 65_536
"""The most bytes that are kept of one payload; what is beyond them is cut off."""

MAX_KEPT = 32 * 1024 * 1024
"""The most bytes of payloads that are kept in all; the reasons of those seen longest ago stay without a payload."""

MAX_UNNAMED = 50
"""The most items without a booking's id that are kept: one may change with every cycle, and none can be followed."""

_LONGEST_CHARACTER = 4

SCHEMA_VERSION = 2
"""The version of the rules that entries are checked by; raise it when a rule of ``schema.py`` changes."""


@dataclass(frozen=True)
class Rejected:
    """A booking as it is put into quarantine: its id where it has one, the rules it broke, its payload as JSON."""

    booking_id: int | None
    reasons: Sequence[str]
    payload: str = field(repr=False)


@dataclass(frozen=True)
class Item:
    """A booking in quarantine; ``resolved`` says since when it passes."""

    item: int
    booking_id: int | None
    reasons: tuple[str, ...]
    payload: str = field(repr=False)
    run: int
    schema_version: int
    first_seen: datetime
    last_seen: datetime
    resolved: datetime | None

    @property
    def last_looked(self) -> datetime:
        """When a cycle said last whether it passes."""
        return max(self.last_seen, self.resolved or self.last_seen)

    @property
    def is_whole(self) -> bool:
        """Whether the payload was kept to its end."""
        return 0 < len(self.payload.encode("utf-8", "replace")) < MAX_PAYLOAD - _LONGEST_CHARACTER

    @property
    def name(self) -> str:
        """What the command line calls it: the booking's id, or ``q`` and the item's number where there is none."""
        return f"q{self.item}" if self.booking_id is None else str(self.booking_id)


@dataclass(frozen=True)
class Replayed:
    """What today's configuration says about a kept payload: no reasons left, and not filtered, is a pass."""

    item: Item
    reasons: tuple[str, ...] = ()
    filtered: str | None = None

    @property
    def passes(self) -> bool:
        """Whether the booking would be emitted now."""
        return not self.reasons and self.filtered is None


def keep(connection: sqlite3.Connection, rejected: Iterable[Rejected], run: int, now: datetime) -> None:
    """Put rejected bookings into quarantine, inside a transaction, within the bounds of what is kept."""
    rejected = list(rejected)
    if not rejected:
        return
    stamp = microseconds(now)
    connection.executemany(
        "INSERT INTO quarantine"
        " (subject, booking_id, reasons, payload, run, schema_version, first_seen, last_seen, resolved)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL)"
        " ON CONFLICT (subject) DO UPDATE SET reasons = excluded.reasons, payload = excluded.payload,"
        " run = excluded.run, schema_version = excluded.schema_version, last_seen = excluded.last_seen,"
        " resolved = NULL",
        [
            (
                _subject(item),
                item.booking_id,
                orjson.dumps(list(item.reasons)).decode(),
                _cut(item.payload),
                run,
                SCHEMA_VERSION,
                stamp,
                stamp,
            )
            for item in rejected
        ],
    )
    connection.execute(
        "DELETE FROM quarantine WHERE booking_id IS NULL AND item NOT IN"
        " (SELECT item FROM quarantine WHERE booking_id IS NULL ORDER BY last_seen DESC, item DESC LIMIT ?)",
        (MAX_UNNAMED,),
    )
    _empty_the_oldest(connection)


def _cut(payload: str) -> str:
    return payload.encode("utf-8", "replace")[:MAX_PAYLOAD].decode("utf-8", "ignore")


def _empty_the_oldest(connection: sqlite3.Connection) -> None:
    """Drop payloads beyond the bound for all: first of bookings that pass by now, then of those seen longest ago."""
    kept = 0
    too_many = []
    for item, size in connection.execute(
        "SELECT item, length(CAST(payload AS BLOB)) FROM quarantine WHERE payload != ''"
        " ORDER BY resolved IS NOT NULL, last_seen DESC, item DESC"
    ):
        kept += size
        if kept > MAX_KEPT:
            too_many.append(item)
    connection.execute(
        "UPDATE quarantine SET payload = '' WHERE item IN (SELECT value FROM json_each(?))",
        (id_list(too_many),),
    )


def resolve(connection: sqlite3.Connection, accepted: Collection[int], now: datetime) -> None:
    """Mark the items of bookings that pass now, inside a transaction."""
    connection.execute(
        "UPDATE quarantine SET resolved = ? WHERE resolved IS NULL"
        " AND booking_id IN (SELECT value FROM json_each(?))",
        (microseconds(now), id_list(accepted)),
    )


def items(*ledgers: Ledger, names: Collection[str] = (), resolved: bool = False) -> list[Item]:
    """Return the items of hosts of a source, each booking once, oldest first: as the host has it that looked last.

    Args:
        ledgers: the hosts' ledgers.
        names: only these; otherwise all that are open.
        resolved: all, also those of bookings that pass by now.
    """
    latest: dict[str, Item] = {}
    for ledger in ledgers:
        for subject, item in _read(ledger):
            known = latest.get(subject)
            if known is None or known.last_looked < item.last_looked:
                latest[subject] = item
    found = sorted(latest.values(), key=lambda item: (item.first_seen, item.item))
    if names:
        return [item for item in found if item.name in names]
    return [item for item in found if resolved or item.resolved is None]


def _read(ledger: Ledger) -> Iterator[tuple[str, Item]]:
    rows = ledger.rows(
        "SELECT subject, item, booking_id, reasons, payload, run, schema_version, first_seen, last_seen, resolved"
        " FROM quarantine ORDER BY item"
    )
    for subject, item, booking_id, reasons, payload, run, version, first, last, passes in rows:
        try:
            rules = tuple(map(str, orjson.loads(reasons)))
        except (ValueError, TypeError):
            continue  # damaged; where the booking is rejected still, the next cycle writes it anew
        passed = None if passes is None else moment(passes)
        times = moment(first), moment(last), passed
        yield subject, Item(item, booking_id, rules, payload, run, version, *times)


def purge(connection: sqlite3.Connection, before: datetime) -> int:
    """Forget the items not seen since a moment, inside a transaction; return how many."""
    return connection.execute("DELETE FROM quarantine WHERE last_seen < ?", (microseconds(before),)).rowcount


def replay(kept: Sequence[Item], config: PipelineConfig) -> list[Replayed]:
    """Run today's configuration over kept payloads; nothing is emitted and nothing is changed.

    Resources, status and studies are checked as in a cycle; the window is not. A payload that was not kept whole passes
    nothing.
    """
    from pipeline.batch import process_batch
    from pipeline.transform.selection import Selection

    batch = process_batch([item.payload for item in kept], config, selection=Selection.of(config))
    reasons = dict(batch.rejected.select("row", "reasons").iter_rows())
    filtered = dict(batch.filtered.select("row", "reason").iter_rows())
    return [
        Replayed(item, tuple(reasons.get(row, ())), filtered.get(row))
        if item.is_whole
        else Replayed(item, ("its payload was too large to be kept whole",))
        for row, item in enumerate(kept)
    ]


def opened(payload: str) -> Any:
    """Return a kept payload as it was; text that is no JSON stays text."""
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        return payload


def masked(payload: str) -> Any:
    """Return a payload to show: its structure and the shapes of its texts (``SUB001`` is ``AAA999``), no value.

    The booking's own id, true, false and null stay; other numbers become nines. A key stays where it is written like a
    field's name. What is nested too deep to be walked is one text.
    """
    document = opened(payload)
    try:
        hidden = _masked(document)
    except RecursionError:
        return shape(payload)
    if isinstance(document, dict) and isinstance(document.get("id"), int):
        hidden["id"] = document["id"]
    return hidden


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        hidden: dict[str, Any] = {}
        for key, part in value.items():
            name = key if _FIELD_NAME.fullmatch(key) else shape(key)
            hidden[name if name not in hidden else f"{name} ({len(hidden)})"] = _masked(part)
        return hidden
    if isinstance(value, list):
        return [_masked(part) for part in value]
    if value is None or isinstance(value, bool):
        return value
    try:
        return shape(str(value))
    except ValueError:  # a number of more digits than Python writes out
        return "9…"


def _subject(item: Rejected) -> str:
    if item.booking_id is not None:
        return f"booking:{item.booking_id}"
    return f"payload:{blake2b(item.payload.encode(), digest_size=16).hexdigest()}"
