"""Why a booking is on the scanner's list, or why it is not: its way through every step (``pipeline.why``).

Nothing is decided here. Each host's next cycle is run on a copy of its ledger in memory (``delivery.cycle``), narrowed to
the bookings in question where these alone decide the outcome, and what it decides is reported; the other steps are read
from the same columns. Where the server cannot be asked, the ledgers and the quarantine tell the last known state.
Nothing is written, and no lock is held.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

import polars as pl
import pytz

from pipeline.batch import Batch, process_batch
from pipeline.calpendo.client import BOOKING, CalpendoClient, SourceLogger
from pipeline.calpendo.fetch import NOT_REACHED, FetchedBookings, fetch_bookings
from pipeline.calpendo.query import query_variants
from pipeline.calpendo.responses import AnswerFault, CalpendoFault, NothingFetchedError, RefusedFault
from pipeline.calpendo.window import Window, appears, is_inside, window_for, window_of_days
from pipeline.config import AnyConfig, PipelineConfig
from pipeline.config.credentials import Credentials
from pipeline.config.field_mapping import FieldRule
from pipeline.config.file import DEFAULT_NAME, SourceSettings, read_sources, select_source
from pipeline.config.options import check_settings
from pipeline.delivery import quarantine
from pipeline.delivery.cycle import Cycle, wanted
from pipeline.delivery.decide import Delivery, decide
from pipeline.delivery.ledger import (
    CALLER,
    DATE_KEY,
    DISCONTINUED,
    PYLANTIR,
    STATUS_KEY,
    TIME_KEY,
    WORKLIST,
    Ledger,
    Line,
    Owed,
    from_text,
    ledger_path,
    ledgers_beside,
    microseconds,
    moment,
)
from pipeline.errors import PluginConfigError, PluginFetchError, PluginStateError
from pipeline.fields import SOURCE
from pipeline.matching import BoundedMatcher
from pipeline.report import health
from pipeline.transform.extraction import explained
from pipeline.transform.json_values import MAX_ID, booking_id, find
from pipeline.transform.reasons import Reason, explain, field_reason
from pipeline.transform.selection import Selection
from pipeline.transform.shapes import shape
from pipeline.transform.text import comparable
from pipeline.transform.times import iso_instants
from pipeline.verify.server_checks import IMPATIENT, list_rows

TO_SCAN = ("SCHEDULED", "IN_PROGRESS")
"""The statuses of what stands on a scanner's list; the others are done or cancelled."""
MOST_FOUND = 50
"""The most bookings that a text may match."""
SILENCE = timedelta(minutes=15)
"""How long, and for a few cycles at least, there may be no success before that is reported."""
SEARCHED = timedelta(days=7)
"""How far before and after the present a text is searched for on the server."""

_LONGEST_NAME = 64
_MISSED = 5
_STEPS = {"title_ignored": "ignore_titles"}
"""The step that a reason of the filter belongs to, where it has another name."""


class Fate(StrEnum):
    """What the next cycle does with a booking; where the server could not be asked, what the last one did."""

    NEW = "new"
    CHANGED = "changed"
    RESENT = "resent"
    UNCHANGED = "unchanged"
    WITHDRAWN = "withdrawn"
    HELD = "held"
    FILTERED = "filtered"
    REJECTED = "rejected"
    FETCH_FAILED = "fetch_failed"
    GONE = "gone"
    NOT_LISTED = "not_listed"
    UNKNOWN = "unknown"


STANDING = (Fate.NEW, Fate.CHANGED, Fate.RESENT, Fate.UNCHANGED)
"""The fates of what the next cycle emits or keeps."""


@dataclass(frozen=True)
class Step:
    """One step of a booking's way.

    Attributes:
        name: what was looked at: ``status``, ``window``, a target field, ``delivery to pylantir``.
        found: what was found there, with shapes instead of values unless ``reveal`` was set.
        decided: whether this step decided the fate; exactly one of a verdict's steps did.
        advice: what to do; empty where nothing has to be done.
    """

    name: str
    found: str
    decided: bool = False
    advice: str = ""


@dataclass(frozen=True)
class Verdict:
    """What becomes of one booking at one source.

    Attributes:
        booking_id: the booking.
        source: the source's name.
        host: the host that the answer is about, as ``status`` names it; the steps cover the others too.
        on_list: whether the booking is, or with the next cycle will be, on the list as one to scan.
        fate: what the next cycle does with it; see ``from_server``.
        reason: why: the filter's name, codes of ``transform.reasons`` ("a; b"), or why a request failed.
        answer: the answer in one sentence.
        steps: all steps, in order.
        from_server: False where the server could not be asked, so that ledger and quarantine speak alone.
        start: when the booking begins, in UTC, where that is known.
    """

    booking_id: int
    source: str
    host: str
    on_list: bool
    fate: Fate
    reason: str
    answer: str
    steps: tuple[Step, ...]
    from_server: bool = True
    start: datetime | None = None

    @property
    def decided(self) -> Step:
        """The step that decided."""
        return next(step for step in self.steps if step.decided)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values; ``start`` is ISO 8601 in UTC."""
        return asdict(self) | {"start": self.start and self.start.isoformat()}


@dataclass(frozen=True)
class Trace:
    """The answer to ``why``: a verdict per booking and source, in the order of their starts.

    Attributes:
        asked: when, aware.
        verdicts: the verdicts.
        notes: what stood in the way of a full answer: a server or a ledger that could not be asked.
        answered: whether server or ledger knew what was asked for.
    """

    asked: datetime
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...] = ()
    answered: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values; ``asked`` is ISO 8601."""
        verdicts = [verdict.to_dict() for verdict in self.verdicts]
        return asdict(self) | {"asked": self.asked.isoformat(), "verdicts": verdicts}

    def to_text(self) -> str:
        """Return notes, answers and steps as lines."""
        lines = list(self.notes)
        for verdict in self.verdicts:
            lines.append(verdict.answer)
            for step in verdict.steps:
                lines.append(f"  {'> ' if step.decided else '  '}{step.name}: {step.found}")
                if step.advice:
                    lines.append(f"      -> {step.advice}")
        return "\n".join(lines)

    def __str__(self) -> str:
        """Return the lines, for ``print``."""
        return self.to_text()


def why(
    booking_id: int | str | None,
    config: AnyConfig,
    *,
    text: str | None = None,
    source: str | None = None,
    reveal: bool = False,
    credentials: Credentials | None = None,
    environ: Mapping[str, str] | None = None,
    now: datetime | None = None,
) -> Trace:
    """Explain why bookings are on the scanner's list, or why they are not.

    Asks the server for the window's list and, by number, for the bookings in question; reads the ledger of every host of
    the source, its quarantine and, under Pylantir, its database. Writes nothing, also beside a running service.

    Args:
        booking_id: the booking's number; None for all of the site's day, or for what ``text`` finds.
        config: a ``PipelineConfig``, a source's config as a dict, or the path of a configuration file.
        text: searched for, without case, in the titles and ids of the bookings of the last and the next seven days, and
            in what the ledgers hold. At most fifty bookings may match.
        source: the source's name; without it, all sources of the file.
        reveal: whether titles and values are shown as they are: patients' data. Otherwise their shapes are.
        credentials: None: from the environment.
        environ: None: the process's environment with ``.env`` behind it.
        now: the aware present.

    Returns:
        A ``Trace`` with a ``Verdict`` per booking and source, in the order of their starts.

    Raises:
        PluginConfigError: The configuration or the booking's number is wrong, or the text matches too many bookings.
        PluginSchemaError: The data do not have the known structure.
    """
    number = None if booking_id is None else booking_number(booking_id)
    if text is not None and not comparable(text):
        raise PluginConfigError(
            "text: got a blank text; write part of a title, a subject's id or a booking's number"
        )
    asked = now or datetime.now(UTC)
    sites = _sites(config, source, credentials, environ)
    verdicts: list[Verdict] = []
    notes: list[str] = []
    for site in sites:
        with _Inquiry(site, asked, reveal) as inquiry:
            if number is not None:
                ids = {number}
            elif text is not None:
                ids = inquiry.matching(text)
            else:
                ids = inquiry.of_the_day()
            before = f"{site.config.source_name}: " if len(sites) > 1 else ""
            verdicts += (replace(found, answer=before + found.answer) for found in inquiry.verdicts(ids))
            notes += (before + note for note in inquiry.notes)

    def place(verdict: Verdict) -> tuple[object, ...]:
        is_unknown = verdict.fate is Fate.UNKNOWN
        return verdict.start is None, verdict.start, verdict.booking_id, not verdict.on_list, is_unknown

    verdicts.sort(key=place)
    is_known = any(verdict.fate is not Fate.UNKNOWN for verdict in verdicts)
    return Trace(asked, tuple(verdicts), tuple(notes), is_known or (number is None and text is None))


def booking_number(given: int | str) -> int:
    """Return a booking's number; raises PluginConfigError, whose message does not repeat what was given."""
    number = given
    if isinstance(given, str) and given.strip().isascii() and given.strip().isdigit():
        number = int(given) if len(given.strip()) <= len(str(MAX_ID)) else 0
    found = booking_id(number)
    if found is None:
        raise PluginConfigError(
            "a booking's number is a whole number from 1 to 2^53-1, such as 4711; to search for a text, leave it out"
        )
    return found


@dataclass(frozen=True)
class _Site:
    """One source: its checked configuration and login, and what its file says of it."""

    config: PipelineConfig
    credentials: Credentials = field(repr=False)
    settings: SourceSettings


def _sites(
    config: AnyConfig, source: str | None, credentials: Credentials | None, environ: Mapping[str, str] | None
) -> list[_Site]:
    def checked(settings: SourceSettings) -> _Site:
        if credentials is None:
            return _Site(
                *check_settings(settings.config, source_name=settings.name, environ=environ), settings
            )
        found = PipelineConfig.from_dict(settings.config, source_name=settings.name, environ=environ)
        return _Site(found, credentials, settings)

    if isinstance(config, PipelineConfig):
        login = credentials or Credentials.from_environment(environ)
        return [_Site(config, login, SourceSettings(config.source_name, {}))]
    if isinstance(config, Mapping) and not {"data_sources", "type"} & config.keys():
        return [checked(SourceSettings(source or DEFAULT_NAME, dict(config)))]
    if not isinstance(config, (Mapping, str, PathLike)) or (isinstance(config, str) and "{" in config):
        PipelineConfig.of(config)  # which says what is wrong with it
    file = config if isinstance(config, Mapping) else Path(config)
    if source is not None:
        return [checked(select_source(file, source))]
    return [checked(settings) for settings in read_sources(file) or (select_source(file),)]


class _OneAnswer(CalpendoClient):
    """Asks each question once, however many hosts are looked at, and shows of a list only what is asked about."""

    def __init__(self, config: PipelineConfig, credentials: Credentials) -> None:
        super().__init__(config, credentials)
        self.asked_about: Collection[int] | None = None
        self._heard: dict[object, Any] = {}

    def query(self, biskit_type: str, query: str, paths: Sequence[str] = (), **limits: Any) -> list[Any]:
        """Return the rows of a list query; of the bookings those that are asked about."""
        ask = partial(super().query, biskit_type, query, paths, **limits)
        rows: list[Any] = self._remembered((biskit_type, query, tuple(paths)), ask)
        if biskit_type != BOOKING or self.asked_about is None:
            return rows
        return [row for row in rows if _id_of(row) in self.asked_about]

    def booking(self, booking_id: int, **limits: Any) -> dict[str, Any] | None:
        """Return one booking's payload; None where it no longer exists."""
        payload: dict[str, Any] | None = self._remembered(
            booking_id, partial(super().booking, booking_id, **limits)
        )
        return payload

    def _remembered(self, question: object, ask: Callable[[], Any]) -> Any:
        """Return the answer to a question, or raise the fault that it met, as at the first time."""
        if question not in self._heard:
            try:
                self._heard[question] = ask()
            except CalpendoFault as fault:
                self._heard[question] = fault
        answer = self._heard[question]
        if isinstance(answer, CalpendoFault):
            raise answer
        return answer


def _id_of(row: Any) -> int | None:
    return booking_id(find(row, "id")[1]) if isinstance(row, dict) else None


@dataclass(frozen=True)
class _Kept:
    """What one host's ledger holds of a booking."""

    line: Line | None = None
    pending: bool = False
    owed: Owed | None = None
    held: bool = False
    seen: tuple[datetime, datetime] | None = None
    item: quarantine.Item | None = None

    @property
    def stands(self) -> bool:
        """Whether the host was given it as one to scan."""
        return self.line is not None and self.line.status in TO_SCAN

    @property
    def knows(self) -> bool:
        return any((self.line, self.owed, self.held, self.item))


@dataclass(frozen=True)
class _Found:
    """What a cycle says of a booking: its fate, why, and of what stands the entry as the host gets it."""

    fate: Fate
    reason: str = ""
    status: str | None = None
    entry: Mapping[str, Any] | None = field(default=None, repr=False)
    changed: tuple[str, ...] = ()
    cause: Fate | None = None
    """Of a withdrawal or one that is held: what takes it off the list."""

    @property
    def kind(self) -> Fate:
        """What takes it off the list where something does, else its fate."""
        return self.cause or self.fate


class _Cycle:
    """What the next cycle of one host does, booking by booking."""

    def __init__(self, delivery: Delivery) -> None:
        self.delivery, self.answers = delivery, delivery.answers
        listed, followed = self.answers.listed, self.answers.followed
        self._entries: dict[int, dict[str, Any]] = {}
        for batch in delivery.checked.batches:
            self._entries |= zip(batch.accepted["booking_id"].to_list(), batch.to_dicts(), strict=True)
        self._causes = (
            dict.fromkeys((*listed.gone, *followed.gone), _Found(Fate.GONE))
            | {number: _Found(Fate.FETCH_FAILED, reason) for number, reason in self.answers.failed.items()}
            | dict.fromkeys(listed.cut, _Found(Fate.FILTERED, "window"))
            | _left_out_by(*delivery.checked.batches)
        )

    def asked_for(self) -> set[int]:
        """Return the bookings that the cycle learnt of, from its list or by number."""
        return {*self.answers.listed.listed, *self.answers.followed.listed}

    def payloads(self) -> dict[int, dict[str, Any]]:
        """Return the payloads that came, by booking."""
        came = (*self.answers.listed.payloads, *self.answers.followed.payloads)
        return {number: payload for payload in came if (number := _id_of(payload)) is not None}

    def found(self, number: int) -> _Found | None:
        """Return what the cycle does with a booking; None where it does not learn of it."""
        kind = self.delivery.kinds.get(number)
        if number in self.delivery.seen:
            entry = self._entries[number]
            differing = self.delivery.differences.filter(booking_id=number)["field"].to_list()
            changed = [name for name in differing if name != "notes"]
            return _Found(Fate(kind or Fate.UNCHANGED), "", entry[STATUS_KEY], entry, tuple(changed))
        cause = self._causes.get(number)
        is_held = number in self.delivery.verdict.held
        if kind != "withdrawn" and not is_held:
            return cause
        fate = Fate.WITHDRAWN if kind == "withdrawn" else Fate.HELD
        return replace(cause, fate=fate, cause=cause.fate) if cause else _Found(fate)


def _left_out_by(*batches: Batch) -> dict[int, _Found]:
    """Return the bookings that are filtered or rejected, with the reason."""
    frames = [(Fate.FILTERED, batch.filtered) for batch in batches]
    frames += [(Fate.REJECTED, batch.rejected) for batch in batches]
    return {
        number: _Found(fate, reason)
        for fate, frame in frames
        for number, reason in frame.select("booking_id", "reason").iter_rows()
    }


class _Host:
    """Who is given a source's entries, with a copy of its ledger as it was, and what its next cycle does."""

    def __init__(self, name: str, config: PipelineConfig, ledger: Ledger) -> None:
        self.name = name
        self.config = config
        self.ledger = ledger
        self.last_success: datetime | None = None
        self.cycle: _Cycle | None = None
        self.failed: Mapping[int, str] = {}
        self._kept: dict[int, _Kept] = {}

    def read(self, ids: Collection[int], now: datetime) -> None:
        """Read what the ledger holds of these bookings."""
        self.last_success = health(self.ledger, now, runs=0).last_success
        lines, pending = self.ledger.last_lines(ids), set(self.ledger.pending_ids())
        owed, held = self.ledger.owed(), self.ledger.held()
        items = {item.booking_id: item for item in quarantine.items(self.ledger, resolved=True)}
        self._kept = {
            number: _Kept(
                lines.get(number),
                number in pending,
                owed.get(number),
                number in held,
                self.ledger.sighting(number),
                items.get(number),
            )
            for number in ids
        }

    def kept(self, number: int) -> _Kept:
        return self._kept.get(number, _Kept())

    def run(self, client: _OneAnswer, ids: Collection[int], sync_interval: float, now: datetime) -> None:
        """Run the next cycle, as far as it is about these bookings.

        Whether a booking is taken off at once or in two cycles rests on the others too: on how many there are, and on
        whether a request fails. Where that matters, all of them are asked for.

        Raises PluginFetchError where the server's list cannot be fetched.
        """
        client.asked_about = frozenset(ids)
        with self.ledger.snapshot() as ledger:
            ledger.narrow(ids)
            self._run(client, ledger, sync_interval, now)
        if self.cycle is not None and "withdrawn" in self.cycle.delivery.kinds.values():
            client.asked_about = None
            self._run(client, self.ledger, sync_interval, now)

    def _run(self, client: _OneAnswer, ledger: Ledger, sync_interval: float, now: datetime) -> None:
        log = SourceLogger(__name__, self.config.source_name)
        cycle = Cycle(ledger, client, self.config, now=now, log=log, on_step=lambda _step: None)
        try:
            answers = cycle.fetch(sync_interval)
        except NothingFetchedError as error:
            self.failed = error.failed
            return
        self.cycle = _Cycle(decide(answers, cycle.batch(answers), ledger, self.config))


class _Inquiry(ExitStack):
    """One source, asked about some bookings; a context manager that closes copies and connections."""

    def __init__(self, site: _Site, now: datetime, reveal: bool) -> None:
        super().__init__()
        self.site = site
        self.now = now
        self.notes: list[str] = []
        hasty = {name: min(most, getattr(site.config, name)) for name, most in IMPATIENT.items()}
        self.config = site.config.model_copy(update=hasty)
        self._reveal = reveal
        self._clients: dict[tuple[str, str], _OneAnswer] = {}
        self.fault: str | None = None
        self.hosts = self._found_hosts()

    def _found_hosts(self) -> list[_Host]:
        """Return the source's hosts, those with a list of their own first: Pylantir where the file is its own."""
        hosts = []
        for path in self._ledgers():
            try:
                ledger = self.enter_context(Ledger.copy(path))
            except PluginStateError as error:
                self.notes.append(str(error))
                continue
            self.notes += ledger.warnings
            name, source = ledger.meta("host") or CALLER, ledger.meta("source")
            config = self._config_for(name).model_copy(update={"source_name": source} if source else {})
            hosts.append(_Host(name, config, ledger))
        pylantirs = self.site.settings.database is not None and find_spec("pylantir") is not None
        if not hosts or (pylantirs and all(host.name != PYLANTIR for host in hosts)):
            name = PYLANTIR if pylantirs else CALLER
            ledger = self.enter_context(Ledger.memory())
            hosts.append(_Host(name, self._config_for(name), ledger))
        rank = {PYLANTIR: 0, WORKLIST: 1, CALLER: 2}
        return sorted(hosts, key=lambda host: rank.get(host.name.partition(":")[0], 3))

    def _ledgers(self) -> list[Path]:
        """Return the source's ledgers, also under the name that a plugin takes which Pylantir loads without its file."""
        names = [self.config.source_name]
        with suppress(ImportError):
            from pipeline.pylantir.configuration import ledger_names

            names += ledger_names(self.config.source_name, self.site.settings.config)
        bases = dict.fromkeys(ledger_path(self.config, source_name=name) for name in names)
        return [path for base in bases if base is not None for path in ledgers_beside(base)]

    def _config_for(self, host: str) -> PipelineConfig:
        """Return the options as they stand for a host: Pylantir's plugin has other defaults than this package."""
        if host != PYLANTIR:
            return self.config
        try:
            from pipeline.pylantir.configuration import with_host_defaults
        except ImportError:
            self.notes.append(
                "Pylantir is not installed here: its defaults and its database are not looked at"
            )
            return self.config
        given = {name: getattr(self.config, name) for name in self.site.config.model_fields_set}
        others = {name: value for name, value in with_host_defaults(given).items() if name not in given}
        return self.config.model_copy(update=others)

    def _client(self, config: PipelineConfig) -> _OneAnswer:
        place = (config.base_url, config.api_path)
        if place not in self._clients:
            self._clients[place] = self.enter_context(_OneAnswer(config, self.site.credentials))
        return self._clients[place]

    def _rows(self, window: Window, config: PipelineConfig) -> dict[int, dict[str, Any]]:
        """List the bookings that begin in a span, whatever becomes of them; none where the server cannot be asked."""
        client = self._client(config)
        client.asked_about = None
        try:
            rows = list_rows(client, query_variants(config, window))
            return {number: row for row in rows if (number := _id_of(row)) is not None}
        except (AnswerFault, RefusedFault) as fault:
            self.notes.append(f"Calpendo's list could not be searched: {_first_words(str(fault))}.")
        except PluginFetchError as fault:
            self.fault = str(fault)
        return {}

    def of_the_day(self) -> set[int]:
        """Return the bookings that begin on the site's day: on the configured resources, or known to a ledger."""
        config = self.hosts[0].config.model_copy(update={"status_filter": None})
        day = window_of_days(config, self.now, 1)
        window = Window(day.start, day.end, day.start)
        ids = set(self._rows(window, config))
        for host in self.hosts:
            ids |= set(host.ledger.window_ids(window.start, window.end))
            if self.fault is not None:
                ids |= {
                    item.booking_id
                    for item in quarantine.items(host.ledger)
                    if item.booking_id is not None and item.last_seen >= window.start
                }
        return ids

    def matching(self, text: str) -> set[int]:
        """Return the bookings whose title or id contains a text; raises PluginConfigError where there are too many."""
        sought = comparable(text)
        config = self.hosts[0].config.model_copy(update={"resources": (), "status_filter": None})
        zone = pytz.timezone(config.timezone)
        first, last = ((self.now + way * SEARCHED).astimezone(zone) for way in (-1, 1))
        rows = self._rows(Window(first, last, first), config)
        known: list[tuple[int | None, object]] = [(n, find(row, "title")[1]) for n, row in rows.items()]
        for host in self.hosts:
            entries = host.ledger.entries(host.ledger.window_ids(first, last))
            known += [
                (n, entry.get(key)) for n, entry in entries.items() for key in ("patient_id", "patient_name")
            ]
            for item in quarantine.items(host.ledger):
                payload = quarantine.opened(item.payload)
                if isinstance(payload, dict):
                    known.append((item.booking_id, find(payload, "title")[1]))
        ids = {
            number
            for number, told in known
            if number is not None
            and (str(number) == sought or (isinstance(told, str) and sought in comparable(told)))
        }
        if not ids and sought.isascii() and sought.isdigit() and len(sought) <= len(str(MAX_ID)):
            ids = {number for number in [booking_id(int(sought))] if number is not None}
        if len(ids) > MOST_FOUND:
            raise PluginConfigError(
                f"{len(ids)} bookings contain this text; write more of it, or a booking's number"
            )
        return ids

    def verdicts(self, ids: Collection[int]) -> list[Verdict]:
        """Run each host's next cycle over these bookings and tell what it does with each of them."""
        if not ids:
            if self.fault is not None:
                self.notes.insert(0, self._not_asked())
            return []
        for host in self.hosts:
            host.read(ids, self.now)
        for host in self.hosts if self.fault is None else ():
            try:
                host.run(self._client(host.config), ids, self.interval(host.name), self.now)
            except PluginFetchError as error:
                if host is self.hosts[0]:
                    self.fault = str(error)
                    break
                self.notes.append(f"For {host.name} Calpendo could not be asked: {_first_words(str(error))}.")
        if self.fault is not None:
            self.notes.insert(0, f"{self._not_asked()} What follows is what ledger and quarantine hold.")
        self._notice_silence(self.hosts[0])
        seen, rows = _Seen(self, ids), self._pylantirs_rows(ids)
        return [_Teller(seen, number, rows, self._reveal).verdict() for number in sorted(ids)]

    def _notice_silence(self, host: _Host) -> None:
        """Add a note where no cycle has succeeded for so long that the service may not be running."""
        last, missed = host.last_success, _MISSED * timedelta(seconds=self.interval(host.name))
        if last is not None and self.now - last > max(SILENCE, missed):
            at = last.astimezone(pytz.timezone(self.config.timezone))
            self.notes.append(
                f"No cycle has succeeded for {_told(host.name)} since {at:%Y-%m-%d %H:%M} {self.config.timezone}: look whether"
                " the service runs (calpendo-pipeline status)."
            )

    def _not_asked(self) -> str:
        return f"Calpendo could not be asked: {_first_words(self.fault or '')}."

    def interval(self, host: str) -> float:
        """Return the seconds between two cycles, as a host passes them to the window."""
        if host != PYLANTIR or find_spec("pylantir") is None:
            return self.site.settings.sync_interval
        from pipeline.pylantir.rehearsal import OVERLAP

        return self.site.settings.sync_interval + OVERLAP

    def looked_up(self, ids: Collection[int]) -> FetchedBookings:
        """Ask by number for what the first host's cycle did not learn of, and for what it left at the list's word."""
        host = self.hosts[0]
        if self.fault is not None:
            return FetchedBookings()
        known = set(host.failed)
        if host.cycle is not None:
            known |= host.cycle.asked_for() - set(host.cycle.answers.listed.cut)
        missing = sorted(set(ids) - known)
        if not missing:
            return FetchedBookings()
        try:
            return fetch_bookings(self._client(host.config), host.config, missing)
        except PluginFetchError as error:
            return FetchedBookings(listed=tuple(missing), failed=dict.fromkeys(missing, str(error)))

    def _pylantirs_rows(self, ids: Collection[int]) -> _PylantirsRows | None:
        """Read what Pylantir's own database holds of these bookings, where it is a host and can be read."""
        host = self.hosts[0]
        if host.name != PYLANTIR:
            return None
        try:
            return _PylantirsRows(self.site, host, ids, self.now)
        except ImportError:
            return None
        except sqlite3.Error as error:
            self.notes.append(f"Pylantir's database cannot be read now: {type(error).__name__}")
            return None


class _PylantirsRows:
    """What Pylantir's own database says of some bookings, who set it, and whether a scanner that asks now gets it."""

    def __init__(self, site: _Site, host: _Host, ids: Collection[int], now: datetime) -> None:
        from pipeline.pylantir import host_rows
        from pipeline.pylantir.configuration import UNNAMED
        from pipeline.pylantir.host_rows import StepBook
        from pipeline.pylantir.rehearsal import shown

        self.database = site.settings.database or host_rows.database_path()
        self._host, self._now = host, now
        self._book = StepBook(host.ledger)
        source = site.config.source_name
        name = self._book.host_name or (UNNAMED if source == DEFAULT_NAME else source)
        self.rows: dict[int, dict[str, Any]] = {}
        self.shown: set[int] | None = None
        if self.database is not None:
            self.rows = host_rows.read_rows(self.database, name, ids)
        if self.database is not None and site.settings.config:
            self.shown = set(shown(self.rows, name, site.settings.config, now))

    def author(self, number: int) -> str:
        """Return who set the status of a booking's row."""
        status, known = self.status(number), self._book.get(number)
        if known is not None and known.status == status:
            return "the scanner" if known.by_scanner else "Calpendo"
        return "Calpendo" if known is None and status == "SCHEDULED" else "the scanner"

    def status(self, number: int) -> str:
        return str(self.rows[number][STATUS_KEY] or "SCHEDULED")

    def clock(self, number: int) -> str:
        """Return the row's date and time, as one reads them."""
        from pipeline.pylantir.host_rows import moment_of

        found = moment_of(self.rows[number])
        if found[DATE_KEY] is None:
            return "another hand's time"
        return f"{found[DATE_KEY]:%Y-%m-%d} {found[TIME_KEY]:%H:%M}"

    def next_status(self, number: int, wanted: str, start: datetime | None) -> str:
        """Return the status that the row has after the next cycle, which sends it with this start (``steps.settle``)."""
        from pipeline.pylantir.host_rows import clock_of, settle

        row = self.rows.get(number)
        if row is None:
            return wanted
        was = self._book.start_of(number, clock_of(row))
        moved = was is not None and start is not None and was != microseconds(start) and start > self._now
        return settle(wanted, self.status(number), self._book.get(number), rescheduled=moved).status

    def is_lost(self, number: int, entry: Mapping[str, Any]) -> bool:
        """Return whether the database does not hold what was delivered, so that the next cycle writes it again."""
        from pipeline.pylantir.plugin import left_in

        if self.database is None:
            return False
        row = self.rows.get(number)
        if row is None:
            return bool(entry[STATUS_KEY] != DISCONTINUED)
        known = self._book.get(number)
        return left_in(row, entry, known, transliterating=self._host.config.transliterate) is None

    def fault(self, entry: Mapping[str, Any]) -> str | None:
        """Return why Pylantir cannot send an entry, without its values; None where it can."""
        from pipeline.pylantir.wire import to_wire

        return to_wire(entry, transliterating=self._host.config.transliterate).fault


class _Seen:
    """What is known of the bookings: the server's answers through the columns, else what the quarantine kept."""

    def __init__(self, inquiry: _Inquiry, ids: Collection[int]) -> None:
        self.now, self.fault, self.hosts = now, fault, hosts = inquiry.now, inquiry.fault, inquiry.hosts
        first = hosts[0]
        self.config = config = first.config
        self.sync_interval = inquiry.interval(first.name)
        self.looked_up = looked_up = inquiry.looked_up(ids)
        self.matcher = inquiry.enter_context(BoundedMatcher())
        self.window = (
            first.cycle.answers.window if first.cycle else window_for(config, now, self.sync_interval)
        )
        today = now.astimezone(pytz.timezone(config.timezone)).date()
        came = {number: p for p in looked_up.payloads if (number := _id_of(p)) is not None}
        asked = wanted(config, self.window)
        self.judged: dict[int, _Found] = {}
        if came:
            batch = process_batch(list(came.values()), config, selection=asked, today=today)
            # What becomes of bookings that no list named, had it named them.
            self.judged = dict.fromkeys(came, _Found(Fate.NOT_LISTED)) | _left_out_by(batch)
        payloads: dict[int, Any] = {**(first.cycle.payloads() if first.cycle else {}), **came}
        self.from_quarantine: dict[int, datetime] = {}
        for number in set(ids) - set(payloads):
            kept = [item for host in hosts if (item := host.kept(number).item) and item.is_whole]
            if kept and (fault is not None or number in first.failed or number in looked_up.failed):
                item = max(kept, key=lambda item: item.last_looked)
                payloads[number], self.from_quarantine[number] = item.payload, item.last_seen
        order = list(payloads)
        given = list(payloads.values())
        # Also of a title that is ignored the other steps are to be seen.
        whole = process_batch(given, config.model_copy(update={"ignore_titles": ()}), today=today)
        frame = whole.asked_for
        self.rows = {order[row["row"]]: row for row in frame.iter_rows(named=True)}
        rejected = whole.rejected.select("row", "reasons").rows()
        self.rejected = {order[row]: reasons for row, reasons in rejected}
        parts = {
            "resource": Selection(resources=asked.resources),
            "status": Selection(status=asked.status),
            "study": Selection(allowed_studies=asked.allowed_studies),
            "window": Selection(start=asked.start, end=asked.end, include_running=asked.include_running),
        }
        # Those that a part of what is asked for leaves out, for its own reason.
        self.outside = {
            name: {
                order[row]
                for row, reason in frame.select(
                    "row", part.filter_reason(frame.columns).alias("reason")
                ).rows()
                if reason == name
            }
            for name, part in parts.items()
        }
        self.outside["title_ignored"] = set()
        if config.ignore_titles:
            left_out = process_batch(given, config, today=today).filtered["row"]
            self.outside["title_ignored"] = {order[row] for row in left_out}

    def found(self, number: int, host: _Host) -> _Found:
        """Return what becomes of a booking at one host."""
        if self.fault is not None or (host.cycle is None and not host.failed):
            return self._as_it_was(number, host)
        known = any(each.kept(number).knows for each in self.hosts)
        if number in host.failed:
            return _Found(Fate.FETCH_FAILED, host.failed[number])
        found = host.cycle.found(number) if host.cycle else None
        if found is not None:
            return found
        if number in self.looked_up.failed:
            reason = self.looked_up.failed[number]
            return _Found(Fate.FETCH_FAILED if known else Fate.UNKNOWN, reason)
        if number in self.judged:
            return self.judged[number]
        return _Found(Fate.GONE if known else Fate.UNKNOWN)

    def _as_it_was(self, number: int, host: _Host) -> _Found:
        kept = host.kept(number)
        if kept.line is not None and kept.line.status == DISCONTINUED:
            return _Found(Fate.WITHDRAWN)
        if kept.line is not None and kept.held:
            return _Found(Fate.HELD, "", kept.line.status)
        if kept.line is not None and (kept.pending or self.is_shown(kept.line)):
            entry = from_text(kept.line.entry)
            return _Found(Fate.RESENT if kept.pending else Fate.UNCHANGED, "", kept.line.status, entry)
        if kept.item is not None and kept.item.resolved is None:
            return _Found(Fate.REJECTED, "; ".join(kept.item.reasons))
        if kept.owed is not None:
            return _Found(Fate.FETCH_FAILED)
        return _Found(Fate.UNKNOWN) if kept.line is None else _Found(Fate.FILTERED, "window")

    def is_shown(self, line: Line) -> bool:
        """Return whether a host shows what it was given: as one to scan, within the window."""
        start, end = moment(line.start_utc), None if line.end_utc is None else moment(line.end_utc)
        return line.status in TO_SCAN and is_inside(self.window, start, end, self.config)


_ANSWERS: Mapping[str, str] = {
    "first": "is not on the list yet: no cycle has succeeded so far, and the first one puts it there.",
    Fate.NEW: "is not on the list yet: it is new, and the next cycle puts it there.",
    "comes": "goes on the list with the next cycle.",
    "again": "goes on the list again with the next cycle.",
    Fate.CHANGED: "is on the list; the next cycle corrects {changed}.",
    Fate.RESENT: "was sent, but {host} does not hold it for sure; the next cycle sends it again.",
    Fate.UNCHANGED: "is on the list: {host} has it, and nothing has changed.",
    "unchanged, down": "is on the list as far as the ledger knows: {host} has it.",
    Fate.WITHDRAWN: "is taken off the list by the next cycle: {cause}.",
    "withdrawn, down": "is not on the list: it was taken off.",
    Fate.HELD: "is still on the list, and is taken off when the next cycle finds the same{why}.",
    Fate.FETCH_FAILED: "is on the list as it was sent last; {cause}.",
    Fate.GONE: "is on the list until the next cycle; {cause}.",
    Fate.UNKNOWN: "is known neither to Calpendo nor to any ledger of this source: check the number.",
    "unknown, failed": "is not known to any ledger of this source, and {cause}.",
    "unknown, down": "is not known to any ledger of this source, and Calpendo could not be asked.",
    "off": "is not on the list: {cause}.",
}
"""The answer by fate, or by what sets a case apart from others of its fate; ``down``: Calpendo could not be asked."""

_ODD_TIMES: Mapping[str, str] = {
    "dst_ambiguous": "the clock shows this time twice that day; winter time was taken",
    "dst_nonexistent": "the clock skips this time that day; winter time was taken",
    "multi_day": "it reaches into another day",
}


class _Teller:
    """Puts one booking's verdict into words, step by step."""

    def __init__(self, seen: _Seen, number: int, rows: _PylantirsRows | None, reveal: bool) -> None:
        self._seen, self._number = seen, number
        self._host, self._config = seen.hosts[0], seen.hosts[0].config
        self._zone = pytz.timezone(self._config.timezone)
        self._reveal, self._pylantir = reveal, rows
        self._found = found = seen.found(number, self._host)
        if found.fate is Fate.UNCHANGED and found.entry and rows and rows.is_lost(number, found.entry):
            self._found = replace(found, fate=Fate.RESENT)
        self._kept = self._host.kept(number)
        self._row: dict[str, Any] | None = seen.rows.get(number)
        self._start, self._end = self._times()
        # A host that was given it gets its new time.
        self._is_moved_away = (
            self._start is not None
            and found.status in TO_SCAN
            and not is_inside(seen.window, self._start, self._end, self._config)
        )
        self._appears = self._start and appears(self._config, seen.sync_interval, seen.now, self._start)
        self._lasting = self._lasting_cause()
        self._causing = self._lasting or self._found
        self._steps: list[Step] = []
        self._decisive = self._decisive_step()

    def verdict(self) -> Verdict:
        """Return the verdict, with exactly one step that decided."""
        on_list = self._is_on_list()
        obstacle = self._obstacle() if on_list else None
        if obstacle is not None:
            on_list, self._decisive = False, "pylantir"
        self._tell_server()
        if self._row is not None:
            self._tell_selection(self._row)
            self._tell_fields(self._row)
            self._tell_gate()
            self._tell_times(self._row)
        elif self._kept.line is not None:
            self._tell_last_entry(from_text(self._kept.line.entry))
        self._tell_delivery(obstacle)
        if not any(step.decided for step in self._steps):
            self._add(self._decisive, self._cause() or self._found.fate.value.replace("_", " "))
        where = f" ({place})" if (place := self._place()) else ""
        return Verdict(
            booking_id=self._number,
            source=self._config.source_name,
            host=self._host.name,
            on_list=on_list,
            fate=self._found.fate,
            reason=self._found.reason,
            answer=f"Booking {self._number}{where} {self._answer(on_list, obstacle)}",
            steps=tuple(self._steps),
            from_server=self._seen.fault is None,
            start=self._start,
        )

    def _add(self, name: str, found: str, code: str = "", advice: str = "") -> None:
        """Append a step, with the remedy for a reason's code or with other advice."""
        decided = name == self._decisive and not any(step.decided for step in self._steps)
        self._steps.append(Step(name, found, decided, explain(code).remedy if code else advice))

    def _times(self) -> tuple[datetime | None, datetime | None]:
        """Return start and end as the booking has them, else as the ledger does."""
        row, line = self._row or {}, self._kept.line
        start, end = (
            None if row.get(name) is None else pytz.utc.localize(row[name])
            for name in ("start_utc", "end_utc")
        )
        if line is None:
            return start, end
        last = None if line.end_utc is None else moment(line.end_utc)
        return start or moment(line.start_utc), end or last

    # -- what decided -------------------------------------------------------------------------------------------------

    def _lasting_cause(self) -> _Found | None:
        """Return what keeps a booking off the list also when the window reaches it, which says more than the window."""
        found, seen = self._found, self._seen
        is_ahead = self._start is not None and self._start >= seen.window.end
        if self._row is None or not is_ahead or (found.kind, found.reason) != (Fate.FILTERED, "window"):
            return None
        if self._row[STATUS_KEY] not in TO_SCAN:
            return _Found(Fate.FILTERED, "status")
        for name in ("status", "title_ignored", "study"):
            if self._number in seen.outside[name]:
                return _Found(Fate.FILTERED, name)
        codes = seen.rejected.get(self._number)
        return _Found(Fate.REJECTED, "; ".join(codes)) if codes else None

    def _decisive_step(self) -> str:
        found, delivery = self._causing, f"delivery to {self._host.name}"
        if found.fate in STANDING and self._is_moved_away:
            return "window"
        if found.fate in STANDING:
            return delivery if found.status in TO_SCAN else "status"
        if found.kind is Fate.FILTERED:
            return _STEPS.get(found.reason, found.reason)
        if found.kind is Fate.REJECTED:
            return "gate" if self._row is not None else "quarantine"
        steps = {Fate.FETCH_FAILED: "fetch", Fate.WITHDRAWN: delivery, Fate.HELD: delivery}
        return steps.get(found.kind, "calpendo")

    def _is_on_list(self) -> bool:
        found = self._found
        if found.fate in STANDING:
            return found.status in TO_SCAN and not self._is_moved_away
        if found.fate in (Fate.HELD, Fate.FETCH_FAILED, Fate.GONE) and self._kept.line is not None:
            return self._seen.is_shown(self._kept.line)
        return False

    def _obstacle(self) -> str | None:
        """Return what keeps a booking off Pylantir's list although Calpendo wants it there."""
        rows, found = self._pylantir, self._found
        if rows is None:
            return None
        if found.entry is not None and (fault := rows.fault(found.entry)):
            return f"Pylantir cannot send it: {fault}"
        status = found.status or (self._kept.line.status if self._kept.line else "SCHEDULED")
        after = rows.next_status(self._number, status, self._start)
        if after in TO_SCAN:
            return None
        done = {"COMPLETED": "ended it", DISCONTINUED: "broke it off"}.get(after, "changed it")
        return f"the scanner {done} ({after})"

    # -- words --------------------------------------------------------------------------------------------------------

    def _value(self, text: Any) -> str:
        """Return a person's text as it may be shown."""
        if text is None or text == "":
            return "nothing"
        return f"'{text if self._reveal else shape(str(text))}'"

    def _name(self, text: str | None) -> str:
        """Return a resource's or status's name; what is too long for one is a person's text."""
        if not text:
            return "(none)"
        return f"'{text}'" if len(text) <= _LONGEST_NAME else self._value(text)

    def _at(self, instant: datetime) -> str:
        """Write a moment in the site's zone, with its name and offset."""
        local = instant.astimezone(self._zone)
        offset = f"{local:%z}"
        return f"{local:%Y-%m-%d %H:%M} {self._zone.zone} (UTC{offset[:3]}:{offset[3:5]})"

    def _span(self, first: datetime, last: datetime) -> str:
        """Write two moments, with one zone where it is the same."""
        begins, ends = first.astimezone(self._zone), last.astimezone(self._zone)
        if begins.utcoffset() != ends.utcoffset():
            return f"{self._at(first)} to {self._at(last)}"
        return f"{begins:%Y-%m-%d %H:%M} to {self._at(last)}"

    def _place(self) -> str:
        parts = [] if self._start is None else [f"{self._start.astimezone(self._zone):%Y-%m-%d %H:%M}"]
        if self._row is not None and self._row["resource"]:
            parts.append(self._name(self._row["resource"]).strip("'"))
        return ", ".join(parts)

    def _modified(self) -> str:
        """Return when the booking was last changed in Calpendo, where its time can be read."""
        text = self._row["modified"] if self._row is not None else None
        at = iso_instants(pl.Series([text], dtype=pl.String))[0]
        return "" if at is None else f"; last changed in Calpendo {at:%Y-%m-%d %H:%M}"

    def _answer(self, on_list: bool, obstacle: str | None) -> str:
        found, kept, fate = self._found, self._kept, self._found.fate
        is_down = self._seen.fault is not None
        if obstacle is not None:
            return f"is not on the list: {obstacle}."
        if fate in STANDING and self._is_moved_away:
            sent = "; the next cycle sends its new time" if fate is Fate.CHANGED else ""
            return f"is not on the list now: {self._window_words()}{sent}."
        if fate in STANDING and not on_list:
            still = "; the next cycle takes it off" if kept.stands and not is_down else ""
            return f"is not on the list: {self._status_words()}{self._modified()}{still}."
        case: str = fate
        if fate is Fate.NEW and self._host.last_success is None:
            case = "first"
        elif fate is Fate.CHANGED and not kept.stands:
            case = "again" if kept.line is not None and kept.line.status == DISCONTINUED else "comes"
        elif is_down and f"{fate}, down" in _ANSWERS:
            case = f"{fate}, down"
        elif fate is Fate.UNKNOWN and found.reason:
            case = "unknown, failed"
        elif (fate in (Fate.FETCH_FAILED, Fate.GONE) and not on_list) or fate not in _ANSWERS:
            case = "off"
        cause, changed = self._cause(), ", ".join(found.changed) or "it"
        why = f": {cause}" if cause else ""
        return _ANSWERS[case].format(cause=cause, why=why, changed=changed, host=_told(self._host.name))

    def _cause(self) -> str:
        """Return the cause, to be read after a colon."""
        found, row = self._causing, self._row or {}
        match found.kind, found.reason:
            case Fate.FILTERED, "resource":
                return f"its resource {self._name(row.get('resource'))} is not asked for"
            case Fate.FILTERED, "status":
                return f"{self._status_words()}{self._modified()}"
            case Fate.FILTERED, "window":
                return self._window_words()
            case Fate.FILTERED, "study":
                return "its study is not one of 'allowed_studies'"
            case Fate.FILTERED, _:
                return "its title is one that 'ignore_titles' leaves out"
            case Fate.REJECTED, codes:
                return _clause(explain(codes.partition("; ")[0]).meaning)
            case Fate.NOT_LISTED, _:
                return "Calpendo's list for the window does not name it, though its details would fit"
            case (Fate.GONE, _) | (Fate.UNKNOWN, ""):
                return "it no longer exists in Calpendo"
            case ((Fate.FETCH_FAILED | Fate.UNKNOWN), _):
                return self._fetch_words()
        return ""

    def _fetch_words(self) -> str:
        owed, reason = self._kept.owed, self._found.reason
        since = "" if owed is None else f" since {self._at(owed.since)}"
        if reason == NOT_REACHED:
            return f"there was no time to fetch its details{since}"
        return f"its details could not be fetched{since}" + (f" ({_first_words(reason)})" if reason else "")

    def _status_words(self) -> str:
        if self._row is None:
            status = self._found.status
            return "its status is not the one asked for" if status is None else f"its status is {status}"
        row, wanted_status = self._row, self._config.status_filter
        name = self._shown_status(row)
        meaning = {"COMPLETED": "completed", DISCONTINUED: "cancelled"}.get(row[STATUS_KEY])
        if row["cancelled"]:
            return "it is marked as cancelled"
        if meaning and row["status_known"]:
            return f"its status {name} means that it is {meaning}"
        return f"its status {name} is not {self._name(wanted_status)}, the only one asked for"

    def _shown_status(self, row: Mapping[str, Any]) -> str:
        """Return the status as Calpendo names it; where a mapping takes it from another field, that text's shape."""
        elsewhere = any(
            rule.target == STATUS_KEY and rule.source.removeprefix("properties.") != "status"
            for rule in self._config.rules
        )
        return self._value(row["status_source"]) if elsewhere else self._name(row["status"])

    def _window_words(self) -> str:
        start, end, window = self._start, self._end, self._seen.window
        if start is None:
            return "it lies outside the window"
        if start < window.end:
            has_ended = end is not None and end <= self._seen.now
            return f"it {f'ended {self._at(end)}' if has_ended and end else f'began {self._at(start)}'}, before the window"
        at = self._appears
        if at is None:
            return f"it begins {self._at(start)}, and the window of a day never reaches that time"
        appears_at = "; the window reaches it" if self._lasting else ", and appears"
        return f"it begins {self._at(start)}{appears_at} {self._at(at)}"

    # -- the steps ----------------------------------------------------------------------------------------------------

    def _tell_server(self) -> None:
        seen, number, found = self._seen, self._number, self._found
        if seen.fault is not None:
            self._add("calpendo", "could not be asked", advice="run calpendo-pipeline verify")
        elif found.kind is Fate.GONE:
            self._add("calpendo", "no longer exists there", "gone")
        elif found.kind is Fate.UNKNOWN and not found.reason:
            self._add("calpendo", "has no such booking for this login", "unknown")
        elif found.kind is Fate.NOT_LISTED:
            found_by = "found by its number, but the list for the window does not name it"
            self._add("calpendo", found_by, "not_listed")
        elif found.kind in (Fate.FETCH_FAILED, Fate.UNKNOWN):
            self._add("calpendo", "its details do not come" if found.reason else "its details did not come")
        else:
            self._add("calpendo", f"found there{self._modified()}")
        if number in seen.from_quarantine:
            at = self._at(seen.from_quarantine[number])
            self._add("payload", f"as the quarantine kept it {at}; what follows was read from it")
        if found.kind is Fate.FETCH_FAILED or self._kept.owed is not None:
            self._tell_fetch()

    def _tell_fetch(self) -> None:
        owed, reason = self._kept.owed, self._found.reason
        why = "no time was left for it" if reason == NOT_REACHED else _first_words(reason)
        parts = [why] if why else []
        if owed is not None:
            parts.append(f"owed since {self._at(owed.since)}, {owed.attempts} cycles asked for it")
            if owed.passed_over:
                parts.append(f"the last {owed.passed_over} had no time to")
        self._add("fetch", "; ".join(parts) or "its details could not be fetched", "fetch_failed")

    def _tell_selection(self, row: Mapping[str, Any]) -> None:
        config = self._config
        outside = {name: self._number in ids for name, ids in self._seen.outside.items()}
        resource = self._name(row["resource"])
        if not config.resources:
            self._add("resource", f"{resource}; all resources are asked for")
        elif outside["resource"]:
            asked = ", ".join(map(self._name, config.resources))
            self._add("resource", f"{resource} is not asked for, only {asked}", "resource")
        else:
            self._add("resource", f"{resource}, sent as {row['modality']}")
        self._tell_status(row, outside["status"])
        self._tell_window(outside["window"])
        if config.ignore_titles:
            is_ignored = outside["title_ignored"]
            told = f"the title {self._value(row['title'])} is {'' if is_ignored else 'not '}ignored"
            self._add("ignore_titles", told, "title_ignored" if is_ignored else "")
        if config.allowed_studies:
            study = self._value(row.get("mapped:study_description"))
            code = "study" if outside["study"] else ""
            self._add("study", f"{study} is {'not ' * outside['study']}asked for", code)

    def _tell_status(self, row: Mapping[str, Any], outside: bool) -> None:
        name, config = self._shown_status(row), self._config
        means = f"{name} means {row[STATUS_KEY]}"
        if row["cancelled"]:
            means = f"{name}, and marked as cancelled: {row[STATUS_KEY]}"
        elif not row["status_known"]:
            means = f"{name} is in no table, so it counts as {row[STATUS_KEY]}"
        unknown = "say what it means in 'status_mapping'" if not row["status_known"] else ""
        if outside:
            only = self._name(config.status_filter)
            self._add("status", f"{means}; only {only} is asked for", "status")
        elif row[STATUS_KEY] in TO_SCAN:
            self._add("status", means, advice=unknown)
        else:
            code = "cancelled" if row[STATUS_KEY] == DISCONTINUED else "completed"
            self._add("status", f"{means}, which no scanner is shown", code)

    def _tell_window(self, outside: bool) -> None:
        start, window = self._start, self._seen.window
        if start is None:
            return
        span = f"the window is {self._span(window.start, window.end)}"
        if not outside:
            self._add("window", f"inside; {span}")
            return
        code = "over" if start < window.end else "not_yet" if self._appears else "never"
        self._add("window", f"{self._window_words()}; {span}", "" if self._lasting else code)

    def _tell_fields(self, row: Mapping[str, Any]) -> None:
        for rule in self._config.rules:
            given = row[f"{SOURCE}{rule.source}"]
            text = f"{rule.source} {self._value(given)}"
            if not given:
                how = f"{rule.source} is empty"
            elif rule.target in row["timed_out"]:
                how = f"the pattern was stopped on {text}, because it took too long"
            elif not rule.extractions:
                how = f"{text} as it stands"
            else:
                how = self._extraction(rule, given)
            self._add(rule.target, f"{self._value(row[rule.target])}: {how}")
        for label in row["repaired"]:
            target, _, kind = label.partition(":")
            why = explain(field_reason(target, kind))
            self._add("repair", f"{target} {kind}: {why.meaning}", advice=why.remedy)

    def _extraction(self, rule: FieldRule, given: str) -> str:
        """Return which of a field's rules applies, and which part of the text it took."""
        number, part, result = explained(given, rule.extractions, self._seen.matcher)
        several, whole = len(rule.extractions) > 1, f"{rule.source} {self._value(given)}"
        if number is None:
            which = f"none of {len(rule.extractions)} rules matches" if several else "no match in"
            return f"{which} {whole}, and on_no_match is {rule.on_no_match!r}"
        which = f"rule {number + 1} of {len(rule.extractions)} took" if several else "took"
        made = f" and made {self._value(result)} of it" if result != part else ""
        return f"{which} {self._value(part)} of {whole}{made}"

    def _tell_gate(self) -> None:
        found = self._found
        codes: Sequence[str] = self._seen.rejected.get(self._number, ())
        if found.kind is Fate.REJECTED:
            codes = found.reason.split("; ")
        if not codes:
            self._add("gate", "passes every rule")
            return
        reasons = [explain(code) for code in codes]
        told = " ".join(f"{code}: {reason.meaning}" for code, reason in zip(codes, reasons, strict=True))
        self._add("gate", told, advice=" ".join(dict.fromkeys(reason.remedy for reason in reasons)))

    def _tell_times(self, row: Mapping[str, Any]) -> None:
        start, end = self._start, self._end
        if start is None or end is None or row["scheduled_start_date"] is None:
            return
        zone = "site time" if self._config.output_timezone == "site" else self._config.output_timezone
        sent = f"{row['scheduled_start_date']:%Y-%m-%d} {row['scheduled_start_time']:%H:%M:%S} {zone}"
        odd = [words for name, words in _ODD_TIMES.items() if row[name]]
        self._add("times", "; ".join([f"{self._span(start, end)}, sent as {sent}", *odd]))

    def _tell_last_entry(self, entry: Mapping[str, Any]) -> None:
        """Append what was sent last, where nothing else is known about the booking."""
        told = [f"{rule.target} {self._value(entry.get(rule.target))}" for rule in self._config.rules]
        if self._start is not None:
            told.append(self._span(self._start, self._end) if self._end else self._at(self._start))
        self._add("sent last", ", ".join(told))

    def _tell_delivery(self, obstacle: str | None) -> None:
        for host in self._seen.hosts:
            self._tell_host(host)
        if items := [item for host in self._seen.hosts if (item := host.kept(self._number).item)]:
            item = max(items, key=lambda item: item.last_looked)
            open_for = f"since {self._at(item.first_seen)}, seen last {self._at(item.last_seen)}"
            if item.resolved is not None:
                self._add("quarantine", f"was there {open_for}; passes since {self._at(item.resolved)}")
            else:
                why = explain(item.reasons[0]) if item.reasons else Reason("", "")
                told = f"{open_for}: {'; '.join(item.reasons)}. {why.meaning}"
                self._add("quarantine", told, advice=why.remedy)
        self._tell_pylantir(obstacle)

    def _tell_host(self, host: _Host) -> None:
        kept, found = host.kept(self._number), self._seen.found(self._number, host)
        name, line = f"delivery to {host.name}", kept.line
        last = "" if host.last_success is None else f"; last successful cycle {self._at(host.last_success)}"
        if line is None:
            sent = "nothing was sent of it yet" if host.last_success else "no cycle has succeeded yet"
        else:
            first = f", found from {self._span(*kept.seen)}" if kept.seen else ""
            state = "sent, but not confirmed" if kept.pending else "delivered"
            if line.status == DISCONTINUED:
                state = "taken off the list" + (", which is not confirmed" if kept.pending else "")
            sent = f"{state} as {line.status}{first}"
        if kept.held or found.fate is Fate.HELD:
            sent += "; a withdrawal waits for the same answer in a second cycle"
        if self._seen.fault is None:
            todo = {
                Fate.NEW: "the next cycle sends it",
                Fate.CHANGED: f"the next cycle sends the change of {', '.join(found.changed)}",
                Fate.RESENT: "the next cycle sends it again",
                Fate.WITHDRAWN: "the next cycle takes it off",
            }.get(found.fate)
            sent += f"; {todo}" if todo else ""
        self._add(name, sent + last)
        self._tell_file(host)

    def _tell_file(self, host: _Host) -> None:
        """Append the state of a booking's worklist file, where the host is a directory of them."""
        kind, _, place = host.name.partition(":")
        if kind != WORKLIST:
            return
        from pipeline.worklist_files.directory import WorklistDirectory

        directory = WorklistDirectory.of(host.config, Path(place))
        path = directory.file(self._number)
        try:
            state = directory.state_of(self._number)
        except OSError as error:
            self._add("file", f"{path} cannot be read ({error.strerror})")
            return
        told = {
            "whole": f"{path} holds it, as it was delivered last",
            "damaged": f"{path} is there, but not as it was written; the next cycle writes it again",
            "foreign": f"{path} is not this program's",
            "absent": f"none; it would be {path}",
        }
        self._add("file", told[state], advice="remove it" if state == "foreign" else "")

    def _tell_pylantir(self, obstacle: str | None) -> None:
        rows, number = self._pylantir, self._number
        if rows is None:
            return
        if number not in rows.rows:
            where = "" if rows.database is not None else ": no database is known (db_path, DB_PATH)"
            text = f"its database has no row of it{where}"
        else:
            text = f"its row says {rows.status(number)} at {rows.clock(number)}, set by {rows.author(number)}"
            if rows.shown is not None:
                text += f"; a scanner that asks now is {'' if number in rows.shown else 'not '}shown it"
        code = ""
        if obstacle is not None:
            text += f"; {obstacle}"
            code = "not_sendable" if obstacle.startswith("Pylantir cannot") else "scanned"
        self._add("pylantir", text, code)


def _told(host: str) -> str:
    """Return a host's name as it reads in a sentence."""
    kind, _, place = host.partition(":")
    return {PYLANTIR: "Pylantir", CALLER: "the caller", WORKLIST: f"the directory {place}"}.get(
        kind, f"the file {place}"
    )


def _clause(sentence: str) -> str:
    """Return a sentence as it reads after a colon."""
    first, _, rest = sentence.rstrip(".").partition(" ")
    return f"{first.lower() if first in ('The', 'There', 'Start', 'Neither') else first} {rest}"


def _first_words(fault: str) -> str:
    """Return a failed request's reason without the address."""
    return fault.partition("; GET ")[0]
