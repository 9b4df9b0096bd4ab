"""The next cycle under Pylantir, and the list after it, on copies: nothing is written, and Pylantir notices nothing.

The cycle is the plugin's own, on a copy of its ledger; what Pylantir would store is looked at by the filter of its
C-FINDs, in a database in memory.
"""

from __future__ import annotations

import contextlib
import sqlite3
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from pipeline.config.file import DEFAULT_NAME, SourceSettings
from pipeline.delivery.ledger import DATE_KEY, PYLANTIR, STATUS_KEY, TIME_KEY, Ledger, from_text, to_read
from pipeline.pylantir import host_rows
from pipeline.pylantir.configuration import UNNAMED, ledger_names
from pipeline.pylantir.plugin import CalendoPylantirPlugin, booking_number
from pipeline.pylantir.wire import WireRecord, to_wire
from pipeline.pylantir.worklist_filter import make_filter, output_zone
from pipeline.transform.columns import to_rows

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig
    from pipeline.delivery.cycle import Plan

OVERLAP = 300.0
"""Seconds that Pylantir adds to a source's ``sync_interval`` when it asks for entries."""
_SERVED = ("SCHEDULED", "IN_PROGRESS", "DISCONTINUED")
"""Statuses of the rows that Pylantir answers a C-FIND from, before the sources' filters."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Rehearsal:
    """What the next cycle would do, and Pylantir's rows of the source before and after it, by booking id.

    Rows hold what Pylantir stores, dates and times as DICOM writes them. ``shown`` are the bookings that a C-FIND then
    returns, in its order; ``wires`` every entry of the window as it goes to Pylantir. ``can_look`` is False where
    Pylantir's database could not be read.
    """

    plan: Plan
    config: PipelineConfig
    now: datetime
    before: Mapping[int, Row] = field(repr=False)
    after: Mapping[int, Row] = field(repr=False)
    shown: tuple[int, ...]
    wires: Mapping[int, WireRecord] = field(repr=False)
    can_look: bool = True


def rehearse(source: SourceSettings, *, days: int | None = None, **options: Any) -> Rehearsal:
    """Run the next cycle of a source under Pylantir on copies.

    Args:
        source: the source, as it stands in Pylantir's file.
        days: as for ``CalendoPlugin.plan``.
        options: ``credentials``, ``clock`` and ``environ``, as for ``CalendoPlugin``.

    Raises:
        PluginConfigError, PluginFetchError, PluginStateError, PluginSchemaError: as ``CalendoPlugin.fetch_entries``.
    """
    if "sqlalchemy" not in sys.modules:
        threading.Thread(target=_warm_up, name="calpendo-warm-up").start()
    plugin = CalendoPylantirPlugin()
    plugin.configure(source.config, source.name, **options)
    name = _owner(plugin.core.settings, source)
    if name != source.name:
        plugin.configure(source.config, name, **options)
    with contextlib.closing(plugin), contextlib.closing(plugin.rehearsal(source.database)) as twin:
        return _rehearsed(twin, source, days)


def _warm_up() -> None:
    """Load what looks at the rows, a second's work, while the network keeps the cycle waiting."""
    for name in ("pydicom.valuerep", "sqlalchemy.orm", "pylantir.models"):
        import_module(name)


def _owner(config: PipelineConfig, source: SourceSettings) -> str:
    """Return the name under which Pylantir's plugin keeps this source's ledger; it may have been started without the file."""
    names = ledger_names(source.name, source.config)
    for name in names:
        path = to_read(config, PYLANTIR, source_name=name)
        if path is not None:
            with Ledger.copy(path) as ledger:
                owner = ledger.meta("source")
            if owner in names:
                return owner
    return source.name


def _rehearsed(twin: CalendoPylantirPlugin, source: SourceSettings, days: int | None) -> Rehearsal:
    plan, records = twin.plan(source.sync_interval + OVERLAP, days=days)
    core = twin.core
    config, now, zone = core.settings, core.now, output_zone(core.settings)
    entries = {
        int(entry["source_record_id"]): entry
        for entry in (
            *(row for batch in plan.delivery.checked.batches for row in to_rows(batch.entries)),
            *plan.entries,
            *(from_text(line.entry) for line in plan.delivery.stood.values()),
        )
    }
    since = (now - timedelta(hours=config.max_booking_hours)).astimezone(zone) - timedelta(days=1)
    # The file names the source for sure; the plugin knows what its rows are called only once it has seen one.
    names = [core.book.host_name or source.name]
    names += [UNNAMED] if names == [DEFAULT_NAME] else []
    before, can_look = _rows(source.database, names, entries, since)
    after = dict(before)
    for record in records:
        number = booking_number(record)
        if number is None or not record.get("patient_id"):
            continue
        stored = before.get(number)
        prepared = twin.prepare_record_for_upsert(record, stored and SimpleNamespace(**stored))
        row = {**(stored or {}), **host_rows.stored_form(prepared), STATUS_KEY: prepared[STATUS_KEY]}
        row[host_rows.STUDY_UID] = prepared[host_rows.STUDY_UID] or row.get(host_rows.STUDY_UID)
        # A row that is new stands behind all others.
        after[number] = row
    return Rehearsal(
        plan,
        config,
        now,
        before,
        after,
        shown(after, names[0], source.config, now, core.ledger.connection),
        {number: to_wire(entry, transliterating=config.transliterate) for number, entry in entries.items()},
        can_look,
    )


def _rows(
    database: Path | None, names: Iterable[str], ids: Iterable[int], since: datetime
) -> tuple[dict[int, Row], bool]:
    """Return a source's rows that may be on the list or belong to one of these bookings, in the table's order."""
    if database is None:
        return {}, False
    try:
        rows: dict[int, Row] = {}
        for name in names:
            rows |= host_rows.read_rows(database, name, list(ids))
            rows |= host_rows.read_shown(database, name, since.date())
    except sqlite3.Error:
        return {}, False
    return dict(sorted(rows.items(), key=lambda item: item[1]["id"])), True


def shown(
    rows: Mapping[int, Row],
    name: str,
    config: Mapping[str, Any],
    now: datetime,
    ledger: sqlite3.Connection | None = None,
) -> tuple[int, ...]:
    """Return the bookings that a C-FIND brings: these rows, in memory, through the filter of this source's C-FINDs.

    Args:
        rows: the source's rows, as Pylantir stores them, by booking id.
        name: the name under which Pylantir writes them.
        config: the source's ``config`` block.
        now: the moment of the C-FIND, aware.
        ledger: in place of the source's ledger file, after a cycle that went through.
    """
    from pylantir.models import Base, WorklistItem
    from sqlalchemy import create_engine
    from sqlalchemy.orm import Session

    columns = (DATE_KEY, TIME_KEY, STATUS_KEY)
    engine = create_engine("sqlite://")
    try:
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add_all(
                WorklistItem(
                    data_source=name,
                    source_record_id=str(number),
                    **{column: row.get(column) for column in columns},
                )
                for number, row in rows.items()
            )
            session.flush()
            served = session.query(WorklistItem.source_record_id).filter(
                getattr(WorklistItem, STATUS_KEY).in_(_SERVED)
            )
            found = make_filter(name, False, config, ledger)(served, now).order_by(WorklistItem.id)
            return tuple(int(number) for (number,) in found)
    finally:
        engine.dispose()
