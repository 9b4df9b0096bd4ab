"""``CalendoPylantirPlugin``: Pylantir's interface, answered by ``CalendoPlugin`` and its ledger (T023).

What Pylantir's database holds decides what counts as delivered.
"""

from __future__ import annotations

import copy
import sqlite3
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import pytz
from pylantir.data_sources import base
from pylantir.data_sources.base import DataSourcePlugin

from pipeline import errors
from pipeline.calpendo.client import SourceLogger
from pipeline.config.file import DEFAULT_NAME
from pipeline.delivery.ledger import (
    DATE_KEY,
    DISCONTINUED,
    PYLANTIR,
    SCHEDULED,
    STATUS_KEY,
    TIME_KEY,
    Ledger,
    from_text,
    microseconds,
    moment,
)
from pipeline.errors import PluginConfigError, PluginError, PluginFetchError
from pipeline.hosts import CarriedReport, adopt_unknown, is_study_uid, study_uid
from pipeline.plugin import CalendoPlugin, place_of
from pipeline.pylantir import host_rows
from pipeline.pylantir.configuration import UNNAMED, ledger_name, option_faults, with_host_defaults
from pipeline.pylantir.host_rows import Left, Step, StepBook, settle
from pipeline.pylantir.wire import dicom_date, dicom_time, to_wire
from pipeline.pylantir.worklist_filter import make_filter, output_zone
from pipeline.report import RunReport
from pipeline.wording import first_of

if TYPE_CHECKING:
    from pipeline.delivery.cycle import Plan


Record = dict[str, Any]
NOT_ACKNOWLEDGED = "calpendo_pipeline_not_acknowledged"
"""Marks a record that takes a row off the list in place of an entry that cannot be sent; Pylantir passes it over."""


class CalendoPylantirPlugin(DataSourcePlugin):  # type: ignore[misc]
    """Calpendo for Pylantir 0.4.6: what its rows show is what Calpendo says, and never undoes what the scanner did.

    Configuration is that of Pylantir's own plugin, with its defaults (``api_path`` "/api", names as given names, the site's
    own time), and every option of ``PipelineConfig``.
    """

    serving: ClassVar[weakref.WeakSet[CalendoPylantirPlugin]] = weakref.WeakSet()
    """The instances with a checked configuration."""

    def __init__(self) -> None:
        super().__init__()
        self._config: Mapping[str, Any] = {}
        self._core: CorePlugin | None = None
        self._host_name: str | None = None
        self._prepared: dict[int, Prepared] = {}
        self._underway: dict[int, str] = {}
        self._synced = False
        self._carried = CarriedReport("sent to Pylantir")

    def get_source_name(self) -> str:
        """Name the kind of source."""
        return "Calpendo"

    def supports_incremental_sync(self) -> bool:
        """Say that a cycle brings only what changed."""
        return True

    @property
    def last_report(self) -> RunReport | None:
        """The report of the last cycle, with what was done to values that the wire cannot carry; None before it."""
        return None if self._core is None else self._core.last_report

    def validate_config(self, config: Any) -> tuple[bool, str]:
        """Check a source's configuration and the login; never raises. The message names every faulty key."""
        try:
            self.configure(config)
        except PluginError as error:
            return False, str(error)
        except Exception as error:
            return False, f"config: cannot be read ({type(error).__name__})"
        return True, ""

    def fetch_entries(self, field_mapping: Mapping[str, Any] | None, interval: float) -> list[Record]:
        """Run one cycle; returns full records of what Pylantir's database does not hold yet, in the server's order.

        ``field_mapping`` stands before the configuration's where it is not empty; without either, subject id and
        name are the title. ``interval`` in seconds. Raises an error that is both ``pipeline.errors.PluginFetchError``
        and Pylantir's (likewise ``PluginConfigError``); no bookings: an empty list.
        """
        try:
            core = self._mapped(field_mapping)
            self._acknowledge()
            self._look_at_rows(core)
            entries = core.fetch_entries(interval)
            self._synced = True
            return self._records(core, entries)
        except PluginError as error:
            self._check_ledger_after(error)
            raise as_pylantir(error) from error
        except Exception as error:
            self._check_ledger_after(error)
            raise unexpected(error) from None

    def get_record_match_candidates(
        self, record: Mapping[str, Any], configured_source_name: str
    ) -> list[Record]:
        """Name the one identity of a row: its source and booking. A subject may have many bookings."""
        self._host_name = configured_source_name
        number = record.get("source_record_id")
        if number is None:
            return []
        return [{"data_source": configured_source_name, "source_record_id": str(number)}]

    def prepare_record_for_upsert(self, record: Mapping[str, Any], existing_record: Any) -> Record:
        """Return the record its DICOM date and time, its study UID, and a status that undoes nothing."""
        prepared = dict(record)
        prepared[DATE_KEY] = dicom_date(record.get(DATE_KEY))
        prepared[TIME_KEY] = dicom_time(record.get(TIME_KEY))
        number = booking_number(record)
        core = self._core
        if number is None or core is None:
            return prepared
        stored = None if existing_record is None else host_rows.shown_by(existing_record)
        step = settle(
            record.get(STATUS_KEY) or SCHEDULED,
            None if stored is None else stored[STATUS_KEY],
            core.book.get(number),
            underway=self._underway.get(number),
            rescheduled=stored is not None and core.is_rescheduled(number, stored),
        )
        prepared[STATUS_KEY] = step.status
        prepared[host_rows.STUDY_UID] = self._uid(core, number, record, stored)
        if stored is not None:
            prepared |= host_rows.running_identity(step, stored)
        before = getattr(existing_record, STATUS_KEY, None)
        self._prepared[number] = Prepared(
            host_rows.stored_form(prepared), step, before, delivers=NOT_ACKNOWLEDGED not in record
        )
        return prepared

    def get_mwl_query_filter(
        self,
        configured_source_name: str,
        include_unscoped: bool = False,
        config: Mapping[str, Any] | None = None,
    ) -> Callable[..., Any]:
        """Return the filter of each C-FIND: of this source's rows, those that can be scanned now.

        Works on an instance that was never validated, with any configuration.
        """
        return make_filter(configured_source_name, include_unscoped, config or {})

    def cleanup(self) -> None:
        """After a cycle: acknowledge what Pylantir's database holds now, and close the connections to Calpendo."""
        if self._core is None:
            return
        try:
            self._acknowledge()
        except Exception as error:
            self._check_ledger_after(error)
            raise
        finally:
            self._core.hang_up()

    def rehearsal(self, database: Path | None) -> Self:
        """Return a plugin like this one, on copies: what it does leaves no trace. ``database`` is where it finds the rows.

        Close it before this one, whose connections it shares.
        """
        twin = copy.copy(self)
        twin._core = self.core.rehearsal()
        twin._core.other_database = database
        twin._prepared, twin._underway, twin._synced = {}, {}, False
        twin._carried = CarriedReport("sent to Pylantir")
        return twin

    def plan(self, interval: float, *, days: int | None = None) -> tuple[Plan, list[Record]]:
        """On a ``rehearsal``, do what ``fetch_entries`` does; returns what was decided, too.

        ``interval`` and ``days`` as for ``CalendoPlugin.plan``.
        """
        core = self._mapped(None)
        self._look_at_rows(core)
        plan = core.plan(interval, days=days)
        return plan, self._records(core, plan.entries)

    @property
    def core(self) -> CorePlugin:
        """The ``CalendoPlugin`` behind this one, once a configuration was accepted."""
        if self._core is None:
            raise PylantirConfigError("fetch_entries: validate_config must have said yes first")
        return self._core

    def interrupt(self) -> None:
        """Cut a cycle that runs in another thread: it ends with an error, and what it knows is kept."""
        if self._core is not None:
            self._core.interrupt()

    def close(self) -> None:
        """Close the ledger too; the plugin may be used again."""
        if self._core is not None:
            self._core.close()

    def _check_ledger_after(self, error: Exception) -> None:
        """Close a ledger that may have broken the cycle: opened anew it is checked, and set aside where it is damaged."""
        if self._core is not None and not isinstance(error, (PluginConfigError, PluginFetchError)):
            self._core.close(acknowledge=False)

    def configure(self, config: Any, name: str | None = None, **options: Any) -> None:
        """Take over a configuration; raises ``PluginConfigError`` with all faults.

        ``name`` is the source's (default: what Pylantir's file calls it); ``options`` go to ``CalendoPlugin``.
        """
        if not isinstance(config, Mapping):
            raise PluginConfigError(
                f'config: got {type(config).__name__}; write an object such as {{"base_url": ...}}'
            )
        core = CorePlugin(name or ledger_name(config), with_host_defaults(config), host=PYLANTIR, **options)
        faults = option_faults(config)
        try:
            core.validate_config()
        except PluginConfigError as error:
            faults = [*error.faults, *faults]
        if faults:
            raise PluginConfigError("; ".join(faults), faults)
        if self._core is not None:
            self._core.close()
        self._config, self._core = config, core
        self.serving.add(self)
        self.logger = SourceLogger(__name__, core.source_name)

    def _mapped(self, field_mapping: Mapping[str, Any] | None) -> CorePlugin:
        """Return the core for a mapping: the argument where it is not empty, else the configuration's."""
        core = self.core
        mapping = field_mapping or self._config.get("field_mapping") or {}
        given = cast("Mapping[str, Any]", core.config)
        if given.get("field_mapping", {}) != mapping:
            config = {**given, "field_mapping": mapping}
            mapped = CorePlugin(core.source_name, config, host=PYLANTIR)
            mapped.validate_config()
            core.close()
            self._core = core = mapped
        return core

    def _look_at_rows(self, core: CorePlugin) -> None:
        """See what became of the rows since the last cycle, before another one."""
        core.reconcile()
        self._underway = core.underway()

    def _records(self, core: CorePlugin, entries: list[Record]) -> list[Record]:
        """Make records that the wire can carry; what cannot go out stays pending, and its row leaves the list."""
        wires = {
            number: to_wire(entry, transliterating=core.settings.transliterate)
            for entry in entries
            if (number := booking_number(entry)) is not None
        }
        held_back = {number: wire.fault for number, wire in wires.items() if wire.fault}
        self._carried.add_to(core, wires, held_back)
        stale = core.rows_to_discontinue(held_back)
        return [wire.record for wire in wires.values() if not wire.fault] + stale

    def _acknowledge(self) -> None:
        prepared, self._prepared = self._prepared, {}
        synced, self._synced = self._synced, False
        if self._core is not None and (prepared or synced):
            self._core.acknowledge_stored(prepared, self._host_name, synced=synced)

    @staticmethod
    def _uid(
        core: CorePlugin, number: int, record: Mapping[str, Any], stored: Mapping[str, Any] | None
    ) -> str | None:
        """Return a new row's UID; a row keeps the one that a scanner may have used, unless no scanner can have."""
        mapped = record.get(host_rows.STUDY_UID)
        wanted = str(mapped) if is_study_uid(mapped) else study_uid(core.settings.base_url, number)
        if stored is None:
            return wanted
        is_untouched = stored[STATUS_KEY] == SCHEDULED and not is_study_uid(stored[host_rows.STUDY_UID])
        return wanted if is_untouched else None


_FOREVER = datetime.max.replace(tzinfo=UTC)


class CorePlugin(CalendoPlugin):
    """A ``CalendoPlugin`` with explicit acknowledgement, and the book of the rows' steps beside its ledger."""

    other_database: Path | None = None
    """Where the rows are, in place of the database that Pylantir writes."""
    _book: StepBook | None = None
    _book_ledger: Ledger | None = None

    @property
    def book(self) -> StepBook:
        """The book of the ledger that is open now."""
        if self._book is None or self._book_ledger is not self.ledger:
            self._book, self._book_ledger = StepBook(self.ledger), self.ledger
        return self._book

    @property
    def row_name(self) -> str:
        """The name under which Pylantir writes this source's rows, as far as is known."""
        return self.book.host_name or (UNNAMED if self.source_name == DEFAULT_NAME else self.source_name)

    def underway(self) -> dict[int, str]:
        """Return the statuses of entries that went to the host without it being known whether it kept them."""
        return {int(entry["source_record_id"]): entry[STATUS_KEY] for entry in self.pending()}

    def hang_up(self) -> None:
        """Close the connections to Calpendo; the next request opens new ones."""
        if self._client is not None:
            self._client.hang_up()

    def _tell_failure(self, text: str, error: PluginError) -> None:
        """Log it at DEBUG only: Pylantir writes the same error into its own line."""
        self.lgr.debug("%s", text, exc_info=error)

    def reconcile(self) -> None:
        """Look which delivered rows Pylantir's database lost or holds otherwise, and have them sent again.

        A database that was restored, replaced or edited is brought back to what Calpendo says, and so is one whose ledger
        was lost. What the scanner did to a row is noted and left. One look per cycle, at the bookings that can still be on
        a list.
        """
        since = self.now - timedelta(hours=self.settings.max_booking_hours)
        self._adopt_unknown(since)
        ledger = self.ledger
        lines = ledger.last_lines(ledger.window_ids(since, _FOREVER))
        for number in ledger.pending_ids():
            lines.pop(number, None)
        rows = self._rows(self.book.host_name, lines)
        if rows is None:
            return
        lost: list[int] = []
        left: dict[int, Left] = {}
        for number, line in lines.items():
            entry = from_text(line.entry)
            row = rows.get(number)
            if row is None:
                if entry[STATUS_KEY] != DISCONTINUED:
                    lost.append(number)
                continue
            step = left_in(row, entry, self.book.get(number), transliterating=self.settings.transliterate)
            if step is None:
                lost.append(number)
            else:
                left[number] = Left(step, host_rows.clock_of(row), line.start_utc)
        self.book.write(left)
        if lost:
            self.resend(lost)
            self.lgr.warning(
                "%d rows of Pylantir's database are missing or were changed by another hand; they are written again:"
                " bookings %s",
                len(lost),
                first_of(lost),
            )

    def _adopt_unknown(self, since: datetime) -> None:
        if self.database is None:
            return
        with self._reading():
            shown = host_rows.read_shown(self.database, self.row_name, (since - timedelta(days=1)).date())
            zone = output_zone(self.settings)
            found = {}
            for number, row in shown.items():
                clock = host_rows.moment_of(row)
                if clock[DATE_KEY] is not None:
                    start = zone.localize(datetime.combine(clock[DATE_KEY], clock[TIME_KEY]))
                    entry = {name: row[name] for name in host_rows.stored_columns()} | clock
                    found[number] = (microseconds(start), None, entry)
            adopt_unknown(self, found, "rows of Pylantir's list")

    def is_rescheduled(self, number: int, row: Mapping[str, Any]) -> bool:
        """Return whether a booking has another start than its row, and that lies ahead.

        The row's start is the instant that its date and time meant when they were written: that ``output_timezone`` was
        changed since moves no booking. A row of Pylantir's own plugin (dates with dashes) is in another zone, perhaps: it
        tells nothing.
        """
        before = host_rows.clock_of(row)
        if "-" in before:
            return False
        line = self.ledger.last_lines([number]).get(number)
        if line is None or line.start_utc <= microseconds(self.now):
            return False
        meant = self.book.start_of(number, before)
        if meant is not None:
            return line.start_utc != meant
        # The note was lost. No other zone than these was ever a default.
        zones = (output_zone(self.settings), pytz.utc, pytz.timezone(self.settings.timezone))
        start = moment(line.start_utc)
        return before not in {start.astimezone(zone).strftime("%Y%m%d%H%M%S") for zone in zones}

    def rows_to_discontinue(self, numbers: Collection[int]) -> list[dict[str, Any]]:
        """Return records that take the rows of these bookings off the list, because what they show is out of date."""
        rows = self._rows(self.book.host_name, numbers) if numbers else None
        return [
            {column: row[column] for column in host_rows.stored_columns()}
            | {STATUS_KEY: DISCONTINUED, "source_record_id": str(number), NOT_ACKNOWLEDGED: True}
            | host_rows.moment_of(row)
            for number, row in (rows or {}).items()
            if row[STATUS_KEY] == SCHEDULED
        ]

    def acknowledge_stored(self, prepared: Mapping[int, Prepared], name: str | None, *, synced: bool) -> None:
        """Acknowledge the rows that Pylantir's database holds; what a failed commit took back stays pending."""
        rows = self._rows(name, prepared)
        if rows is None:
            return
        lines = self.ledger.last_lines(prepared)
        stored = {}
        for number, row in prepared.items():
            if row.is_in(rows.get(number)):
                clock = host_rows.clock_of(rows[number])
                line = lines.get(number) if row.delivers else None
                start_utc = line.start_utc if line else self.book.start_of(number, clock)
                stored[number] = Left(row.left_as(rows[number]), clock, start_utc)
        self.book.write(stored, host_name=name, synced=synced)
        self.acknowledge(number for number in stored if prepared[number].delivers)
        missing = sorted(set(prepared) - set(stored))
        if missing:
            self.lgr.warning(
                "Pylantir's database does not hold %d of %d rows; they are sent again: bookings %s",
                len(missing),
                len(prepared),
                first_of(missing),
            )

    @property
    def database(self) -> Path | None:
        """The database with the rows; None where none is known."""
        return self.other_database or host_rows.database_path()

    def _rows(self, name: str | None, ids: Collection[int]) -> dict[int, dict[str, Any]] | None:
        """Return the rows of bookings; None where nobody can look, because neither file nor name is known yet."""
        if self.database is not None and name is not None:
            with self._reading():
                return host_rows.read_rows(self.database, name, ids)
        return None

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Go on without a look where Pylantir's database cannot be read now."""
        try:
            yield
        except sqlite3.Error as error:
            self.lgr.warning("Pylantir's database cannot be read now: %s", type(error).__name__)


@dataclass(frozen=True)
class Prepared:
    """A row as it was handed to Pylantir: its columns as stored, the status with its author, and the one before.

    ``delivers`` is False where it only stands in for an entry that could not be sent.
    """

    columns: Mapping[str, Any] = field(repr=False)
    step: Step
    before: str | None
    delivers: bool = True

    def is_in(self, row: Mapping[str, Any] | None) -> bool:
        """Return whether a row is this one, stored; between commit and look the scanner may have moved it on."""
        if row is None or not host_rows.holds(row, self.columns):
            return False
        return row[STATUS_KEY] == self.step.status or row[STATUS_KEY] not in (self.before, None, SCHEDULED)

    def left_as(self, row: Mapping[str, Any]) -> Step:
        """Return the step of the stored row."""
        return self.step if row[STATUS_KEY] == self.step.status else Step(row[STATUS_KEY], by_scanner=True)


def left_in(
    row: Mapping[str, Any], entry: Mapping[str, Any], known: Step | None, *, transliterating: bool
) -> Step | None:
    """Return the step of a row that holds a delivered entry; None where another hand has changed it since."""
    step = settle(entry[STATUS_KEY], row[STATUS_KEY] or SCHEDULED, known)
    record = to_wire(entry, transliterating=transliterating).record
    columns = host_rows.stored_form(record | host_rows.running_identity(step, row))
    return step if step.status == row[STATUS_KEY] and host_rows.holds(row, columns) else None


def booking_number(record: Mapping[str, Any]) -> int | None:
    """Read the booking's id from a record; None for a foreign one."""
    try:
        return int(record["source_record_id"])
    except (KeyError, TypeError, ValueError):
        return None


class PylantirConfigError(errors.PluginConfigError, base.PluginConfigError):  # type: ignore[misc]
    """The configuration or the environment is wrong; ``faults`` lists what."""


class PylantirFetchError(errors.PluginFetchError, base.PluginFetchError):  # type: ignore[misc]
    """Calpendo could not be asked, or its answer cannot be trusted; the worklist stays as it is."""


class PylantirStateError(errors.PluginStateError, base.PluginError):  # type: ignore[misc]
    """The ledger cannot be used; the worklist stays as it is."""


class PylantirSchemaError(errors.PluginSchemaError, base.PluginError):  # type: ignore[misc]
    """The data no longer has the shape that this version knows; the worklist stays as it is."""


def as_pylantir(error: errors.PluginError) -> errors.PluginError:
    """Return an error of this package as one of Pylantir's too, with the same text."""
    if isinstance(error, errors.PluginConfigError):
        return PylantirConfigError(str(error), error.faults)
    kinds = (PylantirStateError, PylantirSchemaError)
    return next((kind for kind in kinds if isinstance(error, kind.__bases__[0])), PylantirFetchError)(
        str(error)
    )


def unexpected(error: Exception) -> PylantirFetchError:
    """Return an error of the program's own as a failed cycle: where it happened, not its text, which may hold a name."""
    return PylantirFetchError(f"the cycle broke: {type(error).__name__} at {place_of(error)}")
