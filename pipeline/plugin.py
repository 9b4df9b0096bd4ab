"""``CalendoPlugin``: one call per cycle, in three steps: fetch, batch, deliver (T001, T003).

The server's bookings of the window come in; what the host does not have yet goes out, at least once; what was
decided is written down before it leaves.
"""

from __future__ import annotations

import copy
import logging
import os
import threading
import time
import traceback
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import polars as pl

from pipeline.calpendo.client import SourceLogger
from pipeline.calpendo.fetch import KnownBookings
from pipeline.delivery import decide
from pipeline.delivery.cycle import Cycle, fetch_from_server
from pipeline.delivery.ledger import CALLER, MEMORY, PYLANTIR, Ledger, hand_over, ledger_path, to_read
from pipeline.errors import PluginError, PluginFetchError, PluginSchemaError, PluginStateError
from pipeline.report import Notices, RunReport, amend_last_run

if TYPE_CHECKING:
    from pipeline.batch import Kept
    from pipeline.calpendo.client import CalpendoClient
    from pipeline.calpendo.window import Window
    from pipeline.config import AnyConfig, PipelineConfig
    from pipeline.config.credentials import Credentials
    from pipeline.delivery.cycle import Plan
    from pipeline.delivery.decide import Delivery

Entry = dict[str, Any]

# What a cycle may take once its requests are over: the columns and one write. Ten thousand bookings take half a second.
_CLOSING_PATIENCE = 60.0
_LOOK_AGAIN = 0.05


class DataSourcePlugin(ABC):
    """What every source offers to its host."""

    @abstractmethod
    def validate_config(self) -> None:
        """Check configuration and credentials; raises ``PluginConfigError`` with all faults."""

    @abstractmethod
    def fetch_entries(self, sync_interval: float) -> list[Entry]:
        """Return the worklist entries that are new or changed; raises ``PluginFetchError``."""


class CalendoPlugin(DataSourcePlugin):
    """Calpendo bookings as worklist entries, each delivered at least once.

    A context manager: leaving it by an error leaves what was returned last as pending.

    Args:
        source_name: the source's name; it names the ledger, the entries' ``data_source`` and the lines of the log.
        config: the source's ``config`` block, a ``PipelineConfig``, or the path of a configuration file with a source of
            this name; nothing is checked before ``validate_config`` or the first fetch.
        host: the receiver of the entries. Each host has a ledger of its own, so what one was given says nothing about
            another. ``"caller"`` is whoever calls ``fetch_entries``; for a file it is what ``ledger.output_host`` returns.
        credentials: the login; None: from the environment.
        clock: returns the aware present.
        environ: the environment; None: this process's.
        on_step: is called with the name of each step as it ends.
    """

    def __init__(
        self,
        source_name: str,
        config: AnyConfig,
        *,
        host: str = CALLER,
        credentials: Credentials | None = None,
        clock: Callable[[], datetime] | None = None,
        environ: Mapping[str, str] | None = None,
        on_step: Callable[[str], None] | None = None,
    ) -> None:
        self.source_name = source_name
        self.config = config
        self.host = host
        given = config.get("base_url") if isinstance(config, Mapping) else getattr(config, "base_url", None)
        self.base_url = str(given or "").rstrip("/")
        self.lgr = SourceLogger(__name__, source_name)
        self.last_report = RunReport(
            source=source_name, started=datetime.now(UTC), outcome="failed", error="no cycle has run yet"
        )
        self._clock = clock or (lambda: datetime.now(UTC))
        self._on_step = on_step or (lambda _step: None)
        self._environ = environ
        self._given_credentials = credentials
        self._settings: tuple[PipelineConfig, Credentials] | None = None
        self._client: CalpendoClient | None = None
        self._ledger: Ledger | None = None
        self._window: Window | None = None
        self._rehearses = False
        self._known = KnownBookings()
        self._kept: dict[str, Kept] = {}
        self._notices = Notices(self.lgr)
        self._endings: list[weakref.finalize[..., CalendoPlugin]] = []
        # Two threads at one plugin share its ledger and its connections.
        self._opening = threading.RLock()
        self._cycling = threading.RLock()

    def __enter__(self) -> Self:
        """Return the plugin."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close it; an error leaves what was returned last as pending."""
        self.close(acknowledge=kind is None)

    def __repr__(self) -> str:
        """Name the source and its server, never the login; an address that is not checked yet may hold one."""
        server = self._settings[0].base_url if self._settings else "not checked yet"
        return f"CalendoPlugin({self.source_name!r}, {server!r})"

    def validate_config(self) -> None:
        """Check configuration and credentials together (T002); raises ``PluginConfigError`` with all faults."""
        from pipeline.config import PipelineConfig
        from pipeline.config.options import check_settings

        source, environ = self.source_name, self._environ
        if self._given_credentials is None:
            self._settings = check_settings(self.config, source_name=source, environ=environ)
        else:
            config = PipelineConfig.of(self.config, source=source, environ=environ, offline=False)
            self._settings = config, self._given_credentials
        config = self._settings[0]
        self.base_url = config.base_url
        for warning in config.warnings:
            self.lgr.warning("%s", warning)
        self.lgr.info("Configuration validated: %d resources", len(config.resources))

    def fetch_entries(self, sync_interval: float) -> list[Entry]:
        """Run one cycle and return what the host does not have yet, in the order of the server's list (T003).

        With ``acknowledge: on_return`` the return is the acknowledgement. The entries are recorded as delivered only at the
        next call, at ``close`` or at the program's end; a process that is killed before that sends them again.

        Args:
            sync_interval: seconds since the last cycle, for the rolling window.

        Returns:
            The new, changed and not yet acknowledged entries, then the withdrawals: full entries with status DISCONTINUED.
            Dates and times are in ``output_timezone``. No bookings: an empty list.

        Raises:
            PluginConfigError: configuration or login are wrong.
            PluginFetchError: the server could not be asked; nothing was emitted or withdrawn.
            PluginStateError: the ledger is in use or unusable.
            PluginSchemaError: the data no longer has the shape that this version knows.
        """
        return fetch_for([self], sync_interval)[0]

    @property
    def settings(self) -> PipelineConfig:
        """The checked configuration."""
        return self._checked()[0]

    @property
    def ledger(self) -> Ledger:
        """The ledger of this host, which is open now."""
        return self._ready()[1]

    @property
    def now(self) -> datetime:
        """The aware present."""
        return self._clock()

    def plan(self, sync_interval: float, *, days: int | None = None) -> Plan:
        """Show what ``fetch_entries`` would do now: the same cycle on a copy of the ledger in memory.

        Ledger, quarantine and history stay as they are, also beside a running process. On a ``rehearsal`` it is the next
        cycle of it.

        Args:
            sync_interval: seconds since the last cycle, for the rolling window.
            days: the site's next days, today included, in place of the window. Bookings beyond the
                normal window then show as new; of what the host has, only these days are compared.

        Raises:
            PluginConfigError, PluginFetchError, PluginStateError, PluginSchemaError: as ``fetch_entries``.
        """
        from pipeline.delivery.cycle import plan_of

        if not self._rehearses:
            with self.rehearsal() as twin:
                return twin.plan(sync_interval, days=days)
        (delivery,) = self._run([(self, self.ledger)], sync_interval, days)
        return plan_of(delivery, self.last_report)

    def rehearsal(self) -> Self:
        """Return a plugin like this one, on a copy of its ledger in memory: what it does leaves no trace.

        It shares the connections of this one. Close it, or use it as a context manager.
        """
        if self._ledger is not None:
            ledger = self._ledger.snapshot()
        else:
            path = to_read(self.settings, self.host)
            ledger = Ledger.memory() if path is None else Ledger.copy(path)
        twin = copy.copy(self)
        twin._rehearses, twin._ledger, twin._client = True, ledger, self._connected()
        twin._known = replace(self._known)
        twin._opening, twin._cycling = threading.RLock(), threading.RLock()
        twin._endings = [weakref.finalize(twin, ledger.release)]
        return twin

    def acknowledge(self, booking_ids: Iterable[int | str]) -> int:
        """Note that the host has the last entries of these bookings; return how many were pending.

        Call it before the next ``fetch_entries``: only the last entry of a booking can be meant.

        Args:
            booking_ids: ``source_record_id`` of the entries, or the bookings' numbers.
        """
        return self.ledger.acknowledge(int(booking_id) for booking_id in booking_ids)

    def resend(self, booking_ids: Iterable[int | str]) -> int:
        """Note that the host has lost these bookings: the next cycle emits them again; return how many were delivered."""
        return self.ledger.resend(int(booking_id) for booking_id in booking_ids)

    def pending(self) -> list[Entry]:
        """Return the entries that wait for their acknowledgement, whole, withdrawals among them."""
        return list(self.ledger.entries(self.ledger.pending_ids()).values())

    def last_entries(self, start: datetime, end: datetime) -> list[Entry]:
        """Return the last entry of every booking that starts in ``[start, end)`` (aware), in the order of starts."""
        return self._entries_of(self.ledger.window_ids(start, end))

    def _entries_of(self, ids: Sequence[int]) -> list[Entry]:
        found = self.ledger.entries(ids)
        return [found[booking_id] for booking_id in ids]

    def before_cycle(self) -> None:
        """Do what a host has to before the server is asked; nothing here."""

    def interrupt(self) -> None:
        """Cut the requests of a cycle that runs in another thread.

        The cycle ends with ``PluginFetchError`` unless all answers had already arrived. For a program that ends: the connections are not opened again before ``close``.
        """
        if self._client is not None:
            self._client.close()

    def amend_report(self, flags: Mapping[str, Any], *, pending: int | None = None) -> None:
        """Put what a host found out after a cycle into the last report, in the history too."""
        found = {name: value for name, value in flags.items() if value}
        waiting = self.last_report.pending if pending is None else pending
        if found or waiting != self.last_report.pending:
            self.last_report = replace(
                self.last_report, pending=waiting, flags={**self.last_report.flags, **found}
            )
            with self.ledger.transaction() as connection:
                amend_last_run(connection, self.last_report)

    def whole_list(self) -> list[Entry]:
        """Return the whole list as the last ``fetch_entries`` left it, in the order of starts: what the host should show.

        Every booking of that cycle's window as it was emitted last, changed by the cycle or not, and all else that waits for
        its acknowledgement. A booking that was withdrawn stays on it as DISCONTINUED until the window has left it behind;
        one whose details could not be fetched stays as it was. Empty before the first cycle.
        """
        if self._window is None:
            return []
        window = self._window
        lines = self.ledger.lines((), window.query_start, window.end)
        shown = lines.filter(decide.stands_in(window.start, window.end) | (pl.col("state") == "pending"))
        return self._entries_of(shown.sort("start_utc", "booking_id")["booking_id"].to_list())

    def ledger_path(self) -> Path | None:
        """Return where this host's ledger lies; None for ``:memory:``."""
        return ledger_path(self.settings, self.host)

    def close(self, *, acknowledge: bool = True) -> None:
        """Close connections and ledger; may be called twice, from any thread, and the plugin may be used again.

        A cycle that runs in another thread ends at once, with ``PluginFetchError`` unless the server's answers are all
        there; what it returns after that counts as not acknowledged. ``acknowledge=False``: the host could not use
        what was returned last; it is sent again.
        """
        patient_until = time.monotonic() + _CLOSING_PATIENCE
        while not self._cycling.acquire(timeout=_LOOK_AGAIN):
            # A cycle of another thread: it may connect only now.
            acknowledge = False
            self.interrupt()
            if time.monotonic() > patient_until:
                self.lgr.error("a cycle goes on that could not be ended; its ledger stays open until it has")
                return
        try:
            if self._ledger is not None and not acknowledge:
                self._ledger.unsettle_returned()
            endings, self._endings = self._endings, []
            self._client = self._ledger = None
            for ending in reversed(endings):
                ending()
        finally:
            self._cycling.release()

    def _checked(self) -> tuple[PipelineConfig, Credentials]:
        if self._settings is None:
            self.validate_config()
        assert self._settings is not None  # noqa: S101 - validate_config sets it or raises
        return self._settings

    def _ready(self) -> tuple[PipelineConfig, Ledger]:
        """Return the checked configuration and the open ledger."""
        config, _ = self._checked()
        with self._opening:
            if self._rehearses and self._ledger is not None:
                return config, self._ledger
            if self._ledger is not None and not self._ledger.is_in_place():
                self.lgr.error(
                    "the ledger %s was removed or replaced while in use; it is opened anew", self._ledger.path
                )
                self.close(acknowledge=False)
            if self._ledger is None:
                base, now = ledger_path(config), self._clock()
                if base is not None and self.host in (CALLER, PYLANTIR):
                    hand_over(base, lock_timeout=config.lock_timeout, now=now)
                self._ledger = Ledger.open(
                    self.ledger_path() or MEMORY,
                    source_name=self.source_name,
                    host=self.host,
                    lock_timeout=config.lock_timeout,
                    now=now,
                )
                self._endings.append(weakref.finalize(self, self._ledger.release))
                for warning in self._ledger.warnings:
                    self.lgr.error("%s", warning)
            return config, self._ledger

    def _connected(self) -> CalpendoClient:
        from pipeline.calpendo.client import CalpendoClient

        with self._opening:
            if self._client is None:
                self._client = CalpendoClient(*self._checked())
                self._endings.append(weakref.finalize(self, self._client.close))
            return self._client

    def _run(
        self, hosts: Sequence[tuple[CalendoPlugin, Ledger]], sync_interval: float, days: int | None = None
    ) -> list[Delivery]:
        """Fetch, batch, deliver for hosts of this source, by this one's connections and memory of earlier cycles."""
        config, client, now = self.settings, self._connected(), self.now
        cycles = [
            Cycle(
                ledger,
                client,
                config,
                known=self._known,
                kept=plugin._kept,
                now=now,
                log=plugin.lgr,
                on_step=plugin._on_step,
            )
            for plugin, ledger in hosts
        ]
        try:
            done = _stages(cycles, sync_interval, days)
        except PluginError as error:
            text = f"{type(error).__name__}: {error}"
            self._tell_failure(f"fetch failed: {text}", error)
            for (plugin, _), cycle in zip(hosts, cycles, strict=True):
                plugin.last_report = cycle.failed(error, text)
            raise
        for (plugin, _), (delivery, report) in zip(hosts, done, strict=True):
            plugin.last_report, plugin._window = report, delivery.answers.window
            plugin._notices.tell(delivery, report, config)
            plugin._on_step("returning")
        return [delivery for delivery, _ in done]

    def _tell_failure(self, text: str, error: PluginError) -> None:
        """Log a failed cycle in one line (T005); the traceback at DEBUG, or a server that is down would fill the log."""
        is_traced = isinstance(error, PluginFetchError) and self.lgr.isEnabledFor(logging.DEBUG)
        self.lgr.error("%s", text, exc_info=error if is_traced else None)


def fetch_for(plugins: Sequence[CalendoPlugin], sync_interval: float) -> list[list[Entry]]:
    """Run one cycle for several hosts of one source and return what each does not have yet, in the plugins' order.

    The server is asked once and the bookings are judged once; each host's own ledger decides what that host is given. The
    plugins have one configuration; the first one's connections and memory of earlier cycles are used.

    Raises:
        PluginConfigError, PluginFetchError, PluginStateError, PluginSchemaError: as ``CalendoPlugin.fetch_entries``; what
            one host was to be given before another's ledger failed is sent again.
    """
    try:
        hosts = [(plugin, plugin.ledger) for plugin in plugins]
    except PluginError as error:
        plugins[0]._tell_failure(f"no cycle could begin: {error}", error)
        raise
    with ExitStack() as stack:
        for plugin, ledger in hosts:
            stack.enter_context(ledger.cycle(plugin.settings.lock_timeout))
            stack.enter_context(plugin._cycling)
        try:
            for plugin in plugins:
                plugin.before_cycle()
            deliveries = plugins[0]._run(hosts, sync_interval)
        except (PluginStateError, PluginSchemaError):
            # Opened and checked anew by the next cycle, which sets a damaged file aside.
            for plugin in plugins:
                plugin.close(acknowledge=False)
            raise
        for (plugin, ledger), delivery in zip(hosts, deliveries, strict=True):
            ledger.warnings = ()
            if plugin.settings.acknowledge == "on_return":
                ledger.mark_returned(line.booking_id for line in delivery.emitted)
    return [delivery.entries for delivery in deliveries]


def _stages(
    cycles: Sequence[Cycle], sync_interval: float, days: int | None
) -> list[tuple[Delivery, RunReport]]:
    try:
        fetched = fetch_from_server(cycles, sync_interval, days)
        done = []
        for cycle, answers in zip(cycles, fetched, strict=True):
            done.append(cycle.deliver(answers, cycle.batch(answers, cycles[0].judged)))
    except PluginError:
        raise
    except Exception as error:
        broken = f"the cycle broke: {type(error).__name__} at {place_of(error)}"
    else:
        return done
    # Raised out here, because a foreign error's text may hold a patient's name: it must not hang behind this one.
    raise PluginSchemaError(broken)


def place_of(error: BaseException) -> str:
    """Name the innermost line of this package that an error passed through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if f"{os.sep}pipeline{os.sep}" in frame.filename] or frames
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
