"""``CalendoPylantirPlugin``: Pylantir's interface, answered by ``CalendoPlugin`` and its ledger (T023)."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from pylantir.data_sources.base import DataSourcePlugin

from pipeline.calpendo.log import SourceLogger
from pipeline.delivery.ledger_file import PYLANTIR
from pipeline.errors import PluginConfigError, PluginError, PluginFetchError
from pipeline.hosts.study_uid import is_study_uid, study_uid
from pipeline.pylantir import host_rows
from pipeline.pylantir.errors import PylantirConfigError, as_pylantir, unexpected
from pipeline.pylantir.host_rows import STATUS
from pipeline.pylantir.hosted import NOT_ACKNOWLEDGED, HostedPlugin, Prepared, booking_number
from pipeline.pylantir.options import faults as option_faults
from pipeline.pylantir.options import with_host_defaults
from pipeline.pylantir.sources import ledger_name
from pipeline.pylantir.steps import SCHEDULED, Step, settle
from pipeline.pylantir.wire import WireRecord, dicom_date, dicom_time, to_wire
from pipeline.pylantir.worklist_filter import make_filter
from pipeline.report import NOT_SENDABLE, RunReport, counted_repairs
from pipeline.transform.reasons import explain, field_reason

if TYPE_CHECKING:
    from pipeline.delivery.decide import Plan

Record = dict[str, Any]


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
        self._database: Path | None = None
        self._core: HostedPlugin | None = None
        self._host_name: str | None = None
        self._prepared: dict[int, Prepared] = {}
        self._underway: dict[int, str] = {}
        self._synced = False
        self._told: set[tuple[int, str]] = set()

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
        """Give the record its DICOM date and time, its study UID, and a status that undoes nothing."""
        prepared = dict(record)
        prepared["scheduled_start_date"] = dicom_date(record.get("scheduled_start_date"))
        prepared["scheduled_start_time"] = dicom_time(record.get("scheduled_start_time"))
        number = booking_number(record)
        core = self._core
        if number is None or core is None:
            return prepared
        step = self._step(core, number, prepared, existing_record)
        prepared[STATUS] = step.status
        if existing_record is not None:
            stored = {name: getattr(existing_record, name, None) for name in host_rows.stored_columns()}
            prepared |= host_rows.running_identity(step, stored)
        prepared["study_instance_uid"] = self._uid(core, number, record, existing_record)
        before = getattr(existing_record, STATUS, None)
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
        """Give the filter of each C-FIND: of this source's rows, those that can be scanned now.

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
        twin._core, twin._database = self.core.rehearsal(), database
        twin._prepared, twin._underway, twin._synced, twin._told = {}, {}, False, set()
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
    def core(self) -> HostedPlugin:
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
        core = HostedPlugin(name or ledger_name(config), with_host_defaults(config), host=PYLANTIR, **options)
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

    def _mapped(self, field_mapping: Mapping[str, Any] | None) -> HostedPlugin:
        """Give the core for a mapping: the argument where it is not empty, else the configuration's."""
        core = self.core
        mapping = field_mapping or self._config.get("field_mapping") or {}
        given = cast("Mapping[str, Any]", core.config)
        if given.get("field_mapping", {}) != mapping:
            config = {**given, "field_mapping": mapping}
            mapped = HostedPlugin(core.source_name, config, host=PYLANTIR)
            mapped.validate_config()
            core.close()
            self._core = core = mapped
        return core

    def _look_at_rows(self, core: HostedPlugin) -> None:
        """See what became of the rows since the last cycle, before another one."""
        core.reconcile(self._rows_in())
        self._underway = core.underway()

    def _rows_in(self) -> Path | None:
        return self._database or host_rows.database_path()

    def _records(self, core: HostedPlugin, entries: list[Record]) -> list[Record]:
        """Make records that the wire can carry; what cannot go out stays pending, and its row leaves the list."""
        wires = [
            (number, to_wire(entry, transliterating=core.settings.transliterate))
            for entry in entries
            if (number := booking_number(entry)) is not None
        ]
        core.amend_report(
            {
                "transliterated": [number for number, wire in wires if wire.transliterated],
                "repaired_for_host": counted_repairs(_by_field(wires)),
                NOT_SENDABLE: {str(number): wire.fault for number, wire in wires if wire.fault},
            }
        )
        self._tell(core, wires)
        stale = core.rows_to_discontinue([number for number, wire in wires if wire.fault], self._rows_in())
        return [wire.record for _, wire in wires if not wire.fault] + stale

    def _tell(self, core: HostedPlugin, wires: list[tuple[int, WireRecord]]) -> None:
        """Log by number what the wire could not carry as it was; each fault once."""
        for number, wire in wires:
            if wire.fault and self._is_news(number, wire.fault):
                core.lgr.warning("booking %s is not sent to Pylantir: %s", number, wire.fault)
            for field, kinds in wire.repaired.items():
                for kind in kinds:
                    if self._is_news(number, f"{field} {kind}"):
                        why = explain(field_reason(field, kind))
                        core.lgr.warning("booking %s for Pylantir: %s %s", number, why.meaning, why.remedy)
        changed = [number for number, wire in wires if wire.transliterated and not wire.fault]
        if changed:
            core.lgr.info("%d entries are transliterated to ASCII: bookings %s", len(changed), changed[:20])

    def _is_news(self, number: int, text: str) -> bool:
        """Tell whether this was not yet said of a booking, and remember it."""
        if (number, text) in self._told:
            return False
        self._told.add((number, text))
        return True

    def _acknowledge(self) -> None:
        prepared, self._prepared = self._prepared, {}
        synced, self._synced = self._synced, False
        if self._core is not None and (prepared or synced):
            self._core.acknowledge_stored(prepared, self._rows_in(), self._host_name, synced=synced)

    def _step(self, core: HostedPlugin, number: int, record: Record, existing: Any) -> Step:
        stored = None if existing is None else getattr(existing, STATUS, None) or SCHEDULED
        return settle(
            record.get(STATUS) or SCHEDULED,
            stored,
            core.book.get(number),
            underway=self._underway.get(number),
            rescheduled=existing is not None and core.is_rescheduled(number, existing),
        )

    @staticmethod
    def _uid(core: HostedPlugin, number: int, record: Mapping[str, Any], existing: Any) -> str | None:
        """Give a new row its UID; a row keeps the one that a scanner may have used, unless no scanner can have."""
        mapped = record.get("study_instance_uid")
        wanted = str(mapped) if is_study_uid(mapped) else study_uid(core.settings.base_url, number)
        if existing is None:
            return wanted
        kept = getattr(existing, "study_instance_uid", None)
        untouched = (getattr(existing, STATUS, None) or SCHEDULED) == SCHEDULED
        return wanted if untouched and not is_study_uid(kept) else None


def _by_field(wires: list[tuple[int, WireRecord]]) -> dict[str, dict[str, list[int]]]:
    found: dict[str, dict[str, list[int]]] = {}
    for number, wire in wires:
        for field, kinds in wire.repaired.items():
            for kind in kinds:
                found.setdefault(field, {}).setdefault(kind, []).append(number)
    return found
