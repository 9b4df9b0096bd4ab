"""The list as its host would get it now: every booking of the window, whether it is on the list, why, and what would change.

The cycle is the one that delivers, on a copy of the ledger (``CalendoPlugin.plan``, ``pylantir.rehearsal``): nothing is
written, and no host notices.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time
from importlib.util import find_spec
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import polars as pl
import pytz

from pipeline import fields
from pipeline.config import AnyConfig, PipelineConfig
from pipeline.config.file import DEFAULT_SYNC_INTERVAL, SourceSettings, select_source
from pipeline.delivery.decide import moved_away
from pipeline.delivery.ledger import (
    CALLER,
    DATE_KEY,
    DISCONTINUED,
    DURATION_KEY,
    MEMORY,
    PYLANTIR,
    STATUS_KEY,
    TIME_KEY,
    WORKLIST,
    from_text,
    worklist_host,
)
from pipeline.errors import PluginConfigError
from pipeline.transform import reasons
from pipeline.transform.columns import to_rows
from pipeline.transform.json_values import value_at
from pipeline.transform.shapes import shape, shape_expr
from pipeline.transform.text import comparable
from pipeline.transform.vocabularies import OTHER_MODALITY
from pipeline.wording import counted, install

if TYPE_CHECKING:
    from pipeline.batch import Batch
    from pipeline.calpendo.window import Window
    from pipeline.delivery.cycle import Plan
    from pipeline.delivery.decide import Delivery
    from pipeline.pylantir.rehearsal import Rehearsal, Row


CHANGES: Final = ("new", "changed", "unchanged", "withdrawn", "held")
"""What the next cycle changes about a booking on the host's list; one that is on none, or comes later, has null."""

NO_SCANNER: Final = "No longer in Calpendo's answer"
"""The heading of bookings that only the host has."""

SCHEMA: Final[Mapping[str, Any]] = {
    "booking_id": pl.Int64,
    "scanner": pl.String,
    "day": pl.Date,
    "time": pl.Time,
    "minutes": pl.Int64,
    "patient_id": pl.String,
    "patient_name": pl.String,
    "study": pl.String,
    "modality": pl.String,
    "status": pl.String,
    "on_list": pl.Boolean,
    "reasons": pl.List(pl.String),
    "why": pl.String,
    "what_to_do": pl.String,
    "repaired": pl.List(pl.String),
    "change": pl.String,
    "differences": pl.List(pl.Struct({"field": pl.String, "old": pl.String, "new": pl.String})),
    "title": pl.String,
    "booker": pl.String,
    "mail": pl.String,
}
"""The columns of a preview's frame, in order."""

VALUES: Final = ("patient_id", "patient_name", "study", "title", "booker", "mail")
"""The columns that hold people's data: shapes, unless they were asked for as they are."""

_TO_BE_SCANNED: Final = ("SCHEDULED", "IN_PROGRESS")
_OFF_BY_STATUS: Final = {DISCONTINUED: "cancelled", "COMPLETED": "completed"}
_KEYS: Final = {"study": "study_description", "minutes": DURATION_KEY, "status": STATUS_KEY}
# What says nothing of a subject, as a difference's old and new value.
_TOLD: Final = frozenset({DATE_KEY, TIME_KEY, DURATION_KEY, STATUS_KEY})
_NOT_NOW: Final = frozenset({"not_yet", "over"})
_PEOPLE: Final = ("properties.booker", "properties.owner")
_NAMES: Final = ("formattedName", "name")
_MAILS: Final = ("email", "mail", "emailAddress")
# What nobody has to change in Calpendo.
_NOBODYS_FAULT: Final = frozenset(
    {
        *reasons.HELD,
        "cancelled",
        "completed",
        "not_yet",
        "over",
        "withdrawn",
        "fetch_failed",
        "window",
        "title_ignored",
    }
)


LIST_HEADINGS: Final = {
    "time": "time",
    "patient_id": "id",
    "patient_name": "name",
    "study": "study",
    "status": "status",
    "change": "change",
}
"""What is shown of a booking on the list, and its heading."""
_NO_PYLANTIR: Final = (
    f"Pylantir is not installed here: the list is shown as other hosts get it; write {install('pylantir')}"
)


class Difference(NamedTuple):
    """A field that the next cycle changes: what the host has of it, and what it gets."""

    field: str
    old: str | None
    new: str | None


@dataclass(frozen=True)
class Received:
    """One booking as its host has it after the next cycle: the values of its row, and what is said of them.

    ``entry`` has the keys of an entry; ``repaired`` holds ``field:kind``.
    """

    entry: Mapping[str, Any] = field(repr=False)
    on_list: bool
    change: str | None
    differences: Sequence[Difference] = field(default=(), repr=False)
    repaired: Sequence[str] = ()
    reason: str | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Preview:
    """What a host would be shown now, and what the next cycle changes about it.

    A notebook shows shapes, whatever was revealed.

    Attributes:
        source: The source's name.
        host: The host's name.
        zone: The zone of the days and times, as the host receives them.
        start: The window's start, aware.
        end: The window's end, aware.
        made: The moment that the preview stands for, aware.
        is_revealed: Whether ``frame`` shows people's data as they are.
        frame: One row per booking (``SCHEMA``), by scanner, day and time; ``VALUES`` are shapes unless revealed.
        shapes: The same frame with shapes.
        warnings: What else should be known; no patient's data.
    """

    source: str
    host: str
    zone: str
    start: datetime
    end: datetime
    made: datetime
    is_revealed: bool
    frame: pl.DataFrame
    shapes: pl.DataFrame
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Show whose list it is, and how long."""
        counts = self.counts
        return f"Preview({self.source!r}, {self.host!r}: {counts['on_list']} on the list, {counts['off_list']} off it)"

    @property
    def on_list(self) -> pl.DataFrame:
        """The bookings that are on the list, or come on it by themselves."""
        return self.frame.filter(_is_listed())

    @property
    def off_list(self) -> pl.DataFrame:
        """The bookings that are not on the list; ``why`` and ``what_to_do`` say more."""
        return self.frame.filter(~_is_listed())

    @property
    def to_fix(self) -> pl.DataFrame:
        """The bookings whose title or other field somebody should correct: rejected or repaired."""
        is_wrong = pl.col("reasons").list.set_difference(list(_NOBODYS_FAULT)).list.len() > 0
        return self.frame.filter(is_wrong | (pl.col("repaired").list.len() > 0))

    @property
    def counts(self) -> dict[str, int]:
        """How many bookings are on the list, off it, to be fixed; and how many the next cycle brings, changes and so on."""
        is_now = ~pl.col("reasons").list.set_intersection(list(_NOT_NOW)).list.len().cast(pl.Boolean)
        changes = dict(self.frame.filter(is_now)["change"].drop_nulls().value_counts().rows())
        return {
            "on_list": int(self.frame["on_list"].sum()),
            "later": len(self.on_list) - int(self.frame["on_list"].sum()),
            "off_list": len(self.off_list),
            "to_fix": len(self.to_fix),
            **{change: changes.get(change, 0) for change in CHANGES},
        }

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON-ready values; dates and times are ISO 8601."""
        return {
            "source": self.source,
            "host": self.host,
            "zone": self.zone,
            "window_start": self.start.isoformat(),
            "window_end": self.end.isoformat(),
            "made": self.made.isoformat(),
            "revealed": self.is_revealed,
            "counts": self.counts,
            "warnings": list(self.warnings),
            "bookings": [
                {
                    name: value.isoformat() if isinstance(value, (date, time)) else value
                    for name, value in row.items()
                }
                for row in self.frame.iter_rows(named=True)
            ],
        }

    @property
    def title(self) -> str:
        """What this is, in a few words."""
        whose = {PYLANTIR: "Pylantir", CALLER: "the next caller"}.get(self.host, self.host)
        return f"{self.source}: the list as {whose} would have it now"

    def _repr_html_(self) -> str:
        """Show the list in a notebook, in shapes: a notebook goes from hand to hand."""
        from pipeline.page import table

        headings = {"day": "day", "scanner": "scanner"} | LIST_HEADINGS
        headings |= {"place": "where", "what_to_do": "what to do"}
        rows = (
            {**row, **list_row(row), "place": "on the list" if row["on_list"] else ", ".join(row["reasons"])}
            for row in self.shapes.iter_rows(named=True)
        )
        return str(table(headings, rows, caption=f"{self.title}. {said(self)[1]}"))

    def masked(self) -> Preview:
        """Return the same with shapes instead of values."""
        return replace(self, is_revealed=False, frame=self.shapes) if self.is_revealed else self


def preview(
    config: AnyConfig,
    source: str | None = None,
    *,
    days: int | None = None,
    reveal: bool = False,
    host: str | None = None,
    **options: Any,
) -> Preview:
    """Show the list that a host would get now, and what the next cycle changes about it; writes nothing.

    Args:
        config: the path of a configuration file, what it holds as a dict, a source's ``config`` block, or a
            ``PipelineConfig``.
        source: the source's name, where a file holds several.
        days: the site's next days, today included, in place of the window. A booking that the window has not reached yet
            is then shown with the reason ``not_yet`` and no change: the host gets it later. What the host has of other
            days is not compared.
        reveal: show values as they are, not as shapes.
        host: whose list: ``pylantir``, ``worklist`` (the configured directory), ``worklist:DIR``, ``caller`` (of
            ``fetch_entries``, and ``run``) or ``output:PATH``. Without it, Pylantir's where the file is Pylantir's own and
            Pylantir is installed, else the directory's where one is configured, else the caller's.
        options: ``credentials``, ``clock`` and ``environ``, as for ``CalendoPlugin``.

    Returns:
        A ``Preview``.

    Raises:
        PluginConfigError: The configuration, the login or the host is wrong.
        PluginFetchError: The server could not be asked.
        PluginStateError: The ledger cannot be read.
        PluginSchemaError: The data do not have the known structure.
    """
    settings = _settings(config, source)
    warnings: tuple[str, ...] = ()
    directory = _worklist_dir(settings)
    if host is None:
        host = PYLANTIR if isinstance(settings, SourceSettings) and settings.database else CALLER
        if host == PYLANTIR and find_spec("pylantir") is None:
            host, warnings = CALLER, (_NO_PYLANTIR,)
        if host == CALLER and directory:
            host = worklist_host(directory)
    elif host == WORKLIST:
        if not directory:
            raise PluginConfigError(
                'host: the configuration names no directory; write "worklist_dir", or --host worklist:DIR'
            )
        host = worklist_host(directory)
    if host == PYLANTIR:
        plan, shown, received, now, faults = _under_pylantir(settings, days, **options)
        warnings += faults
    else:
        plan, shown, received, now = _for_a_caller(settings, host, days, **options)
    return previewed(plan, shown, host, received, now, days=days, reveal=reveal, warnings=warnings)


def sample_preview(*, reveal: bool = False) -> Preview:
    """Return a preview of the sample's main day at a simulated site, for people without a server; leaves nothing behind."""
    from pipeline.config.credentials import Credentials
    from pipeline.simulator import CalpendoSimulator
    from pipeline.simulator.sample import MAIN_DAY, sample_bookings, sample_config

    with CalpendoSimulator(sample_bookings()) as site:
        return preview(
            {**sample_config(), "base_url": site.url, "state_path": MEMORY},
            credentials=Credentials(site.username, site.password),
            clock=lambda: datetime.combine(MAIN_DAY, time(14), UTC),
            reveal=reveal,
        )


def _settings(config: AnyConfig, source: str | None) -> SourceSettings | PipelineConfig:
    if isinstance(config, PipelineConfig):
        return config
    if isinstance(config, (str, PathLike)):
        return select_source(fspath(config), source)
    if not isinstance(config, Mapping):
        return PipelineConfig.of(config)  # Says what may be given.
    if source and "data_sources" not in config and not {"type", "config"} <= config.keys():
        return replace(select_source(config), name=source)
    return select_source(config, source)


def _worklist_dir(settings: SourceSettings | PipelineConfig) -> Path | None:
    config = vars(settings) if isinstance(settings, PipelineConfig) else settings.config
    given = config.get("worklist_dir")
    return Path(given) if isinstance(given, str) and given.strip() else None


def _under_pylantir(
    settings: SourceSettings | PipelineConfig, days: int | None, **options: Any
) -> tuple[Plan, PipelineConfig, dict[int, Received], datetime, tuple[str, ...]]:
    from pipeline.pylantir.rehearsal import rehearse

    if isinstance(settings, PipelineConfig):
        raise PluginConfigError(
            "host: Pylantir reads a source's config in its own way; write the path of its file, or a dict"
        )
    done = rehearse(settings, days=days, **options)
    warnings: tuple[str, ...] = ()
    if not done.can_look:
        warnings = ("Pylantir's database could not be read: its list is taken to be empty",)
    elif settings.database is not None and not settings.database.exists():
        warnings = (f"Pylantir's database {settings.database} is not there: its list is taken to be empty",)
    return done.plan, done.config, by_pylantir(done), done.now, warnings


def _for_a_caller(
    settings: SourceSettings | PipelineConfig, host: str, days: int | None, **options: Any
) -> tuple[Plan, PipelineConfig, dict[int, Received], datetime]:
    from pipeline.plugin import CalendoPlugin

    name, given, interval = (
        (settings.source_name, settings, DEFAULT_SYNC_INTERVAL)
        if isinstance(settings, PipelineConfig)
        else (settings.name, settings.config, settings.sync_interval)
    )
    with CalendoPlugin(name, given, host=host, **options) as plugin:
        plan = plugin.plan(interval, days=days)
        shown, received = plugin.settings, by_caller(plan)
        if host.startswith(f"{WORKLIST}:"):
            received = as_worklist_items(received, shown)
            shown = shown.model_copy(update={"output_timezone": "site"})
        return plan, shown, received, plan.report.started


def previewed(
    plan: Plan,
    config: PipelineConfig,
    host: str,
    received: Mapping[int, Received],
    now: datetime,
    *,
    days: int | None = None,
    reveal: bool = False,
    warnings: tuple[str, ...] = (),
) -> Preview:
    """Lay out a plan and what its host receives, booking by booking.

    Args:
        plan: what the next cycle would do.
        config: the source's configuration.
        host: the host's name.
        received: by booking id, what the host has after the cycle.
        now: the moment it stands for, aware.
        days: the days in place of the window, as the plan was made with.
        reveal: keep the values as they are.
        warnings: what to say besides the plan's own.
    """
    from pipeline.calpendo.window import window_for

    window = plan.delivery.answers.window
    usual = window if days is None else window_for(config, now, 0.0)
    frame = _frame(plan.delivery, config, received, now, usual)
    shapes = _masked(frame, config)
    return Preview(
        source=config.source_name,
        host=host,
        zone=_zone_name(config),
        start=window.start,
        end=window.end,
        made=now.astimezone(pytz.timezone(config.timezone)),
        is_revealed=reveal,
        frame=frame if reveal else shapes,
        shapes=shapes,
        warnings=(*warnings, *plan.report.warnings),
    )


def by_caller(plan: Plan) -> dict[int, Received]:
    """Return what a caller of ``fetch_entries`` holds after the plan, by booking id."""
    delivery = plan.delivery
    differences: dict[int, list[Difference]] = {}
    for booking_id, *change in delivery.differences.iter_rows():
        differences.setdefault(booking_id, []).append(Difference(*change))
    repaired = _repaired(delivery)
    found = {}
    for entry in _entries(plan):
        number = int(entry["source_record_id"])
        kind = delivery.kinds.get(number, "unchanged")
        found[number] = Received(
            entry,
            entry[STATUS_KEY] in _TO_BE_SCANNED,
            "unchanged" if kind == "resent" else kind,
            differences.get(number, ()),
            repaired.get(number, ()),
            "withdrawn" if kind == "withdrawn" else None,
        )
    for number, line in delivery.stood.items():
        if number not in found:
            waits = delivery.verdict.waiting.get(number)
            entry = from_text(line.entry)
            found[number] = Received(
                entry,
                entry[STATUS_KEY] in _TO_BE_SCANNED,
                "held" if waits else "unchanged",
                reason=waits or "fetch_failed",
            )
    return found


def as_worklist_items(received: Mapping[int, Received], config: PipelineConfig) -> dict[int, Received]:
    """Return the bookings as their worklist items will be written: in site time, in the console's characters."""
    from pipeline.worklist_files.dataset import SHOWN, shown_values, worklist_item

    site = pytz.timezone(config.timezone)
    zone = site if config.output_timezone == "site" else pytz.timezone(config.output_timezone)

    def at_site(day: date, hour: time) -> datetime:
        start: datetime = zone.localize(datetime.combine(day, hour)).astimezone(site)
        return start

    found = {}
    for number, got in received.items():
        day, hour = got.entry[DATE_KEY], got.entry[TIME_KEY]
        start = at_site(day, hour)
        old = {name: old for name, old, _ in got.differences if old}
        before = at_site(
            date.fromisoformat(old.get(DATE_KEY, f"{day}")), time.fromisoformat(old.get(TIME_KEY, f"{hour}"))
        )
        moved = [
            Difference(name, f"{before:{form}}", f"{start:{form}}")
            for name, form in ((DATE_KEY, "%Y-%m-%d"), (TIME_KEY, "%H:%M:%S"))
            if f"{before:{form}}" != f"{start:{form}}"
        ]
        others = [change for change in got.differences if change.field not in (DATE_KEY, TIME_KEY)]
        entry = {**got.entry, DATE_KEY: start.date(), TIME_KEY: start.time().replace(microsecond=0)}
        shown = replace(got, entry=entry, differences=[*others, *moved])
        if entry[STATUS_KEY] in SHOWN:
            item = worklist_item(
                got.entry, start, base_url=config.base_url, character_set=config.worklist_character_set
            )
            repaired = tuple(dict.fromkeys((*got.repaired, *_labels(item.repaired))))
            if item.content is None:
                reason = got.reason or "not_sendable"
                shown = replace(shown, repaired=repaired, on_list=False, reason=reason)
            else:
                shown = replace(shown, repaired=repaired, entry=entry | shown_values(item.content))
        found[number] = shown
    return found


def _labels(repaired: Mapping[str, Iterable[str]]) -> list[str]:
    return [f"{name}:{kind}" for name, kinds in repaired.items() for kind in kinds]


def by_pylantir(done: Rehearsal) -> dict[int, Received]:
    """Return what Pylantir holds after a rehearsed cycle, by booking id."""
    from pipeline.pylantir.host_rows import moment_of

    delivery = done.plan.delivery
    repaired = _repaired(delivery)
    failed = delivery.answers.failed
    shown = frozenset(done.shown)
    found = {}
    for number in {**done.after, **done.wires}:
        before, after, wire = done.before.get(number), done.after.get(number), done.wires.get(number)
        if wire is None and number not in shown:
            continue  # A row of another day.
        labels = [*repaired.get(number, ())]
        if wire is not None:
            labels += _labels(wire.repaired)
        waits = delivery.verdict.waiting.get(number)
        told = {
            "fetch_failed": number in failed,
            "withdrawn": delivery.kinds.get(number) == "withdrawn",
            "not_sendable": wire is not None and wire.fault is not None,
        }
        reason = waits or next((code for code, holds in told.items() if holds), None)
        differences = _differences(before, after) if before is not None and after is not None else []
        change: str | None = "unchanged"
        if waits:
            change = "held"
        elif after is None or (before is None and after[STATUS_KEY] not in _TO_BE_SCANNED):
            change = None  # It was on no list, and comes on none.
        elif before is None:
            change = "new"
        elif differences:
            # A scan that runs stays on the list until it ends, whatever became of its booking.
            change = "withdrawn" if reason in ("withdrawn", "not_sendable") else "changed"
        if after is None or reason == "not_sendable":
            entry = wire.record if wire is not None else {}
        else:
            entry = dict(after) | moment_of(after)
            if wire is not None:
                entry[DURATION_KEY] = wire.record.get(DURATION_KEY)
        found[number] = Received(
            entry, number in shown, change, differences, tuple(dict.fromkeys(labels)), reason
        )
    return found


def _differences(before: Row, after: Row) -> list[Difference]:
    """Return the fields in which two rows differ; what Pylantir fills by itself does not count."""
    return [
        Difference(name, None if old is None else str(old), None if new is None else str(new))
        for name in fields.names()
        if name in after and (old := before.get(name)) != (new := after[name]) and (old or new)
    ]


def _entries(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yield the entry of every booking that stands, and of those that are withdrawn."""
    for batch in plan.delivery.checked.batches:
        yield from to_rows(batch.entries)
    yield from (
        entry for entry in plan.entries if plan.delivery.kinds[int(entry["source_record_id"])] == "withdrawn"
    )


def _repaired(delivery: Delivery) -> dict[int, tuple[str, ...]]:
    return {
        number: tuple(labels)
        for batch in delivery.checked.batches
        for number, labels in batch.accepted.select("booking_id", "repaired").iter_rows()
        if labels
    }


def _frame(
    delivery: Delivery,
    config: PipelineConfig,
    received: Mapping[int, Received],
    now: datetime,
    usual: Window,
) -> pl.DataFrame:
    """Return one row per booking, as it is; see ``SCHEMA``."""
    zone = pytz.timezone(_zone_name(config))
    bookings = [*_bookings(delivery, config)]
    told = {booking["booking_id"] for booking in bookings}
    bookings += [{"booking_id": number, "reasons": []} for number in received if number not in told]
    rows = [
        _row(booking, received.get(booking["booking_id"]), now, usual, zone)
        for booking in bookings
        # What is not of this window is shown where it is on the list all the same.
        if booking["reasons"] != ["window"] or booking["booking_id"] in received
    ]
    frame = pl.DataFrame(rows, schema=dict(SCHEMA), orient="row")
    return frame.sort("scanner", "day", "time", "booking_id", nulls_last=True, maintain_order=True)


def _bookings(delivery: Delivery, config: PipelineConfig) -> Iterator[dict[str, Any]]:
    """Yield what Calpendo says of every booking: number, scanner, title, booker, time, and what is against it."""
    answers, checked = delivery.answers, delivery.checked
    wanted = {comparable(name) for name in config.resources}
    if checked.followed is not None:
        moved = moved_away(answers.interest, answers.listed, checked.listed)
        yield from _of_batch(checked.followed, [*answers.followed.payloads, *moved], wanted)
    followed = {
        number
        for batch in checked.batches[1:]
        for frame in (batch.asked_for, batch.filtered)
        for number in frame["booking_id"].to_list()
    }
    for booking in _of_batch(checked.listed, answers.listed.payloads, wanted):
        if not (booking["reasons"] == ["window"] and booking["booking_id"] in followed):
            yield booking
    rows = answers.listed.failed_rows
    for number in dict.fromkeys((*rows, *answers.failed)):
        yield _of_payload(rows.get(number), wanted) | {"booking_id": number, "reasons": ["fetch_failed"]}
    yield from (
        {"booking_id": number, "reasons": ["gone"]}
        for number in answers.listed.gone
        if number not in followed
    )
    for nameless in answers.listed.invalid:
        yield _of_payload(nameless, wanted) | {"booking_id": None, "reasons": [reasons.BOOKING_ID_INVALID]}


def _of_batch(batch: Batch, payloads: Sequence[Any], wanted: set[str]) -> Iterator[dict[str, Any]]:
    columns = ("row", "booking_id", "title", "resource", "start_utc", "end_utc")
    judged = batch.asked_for.select(columns).join(
        batch.rejected.select("row", "reasons"), on="row", how="left", maintain_order="left"
    )
    filtered = batch.filtered.select(*columns, reasons=pl.concat_list("reason"))
    for row in pl.concat([judged, filtered]).sort("row").iter_rows(named=True):
        row["scanner"] = _scanner(row.pop("resource"), wanted)
        row["reasons"] = row["reasons"] or []
        yield row | _person(payloads[row["row"]])


def _of_payload(payload: object, wanted: set[str]) -> dict[str, Any]:
    """Return what a row of the list says, as far as it can be read."""
    if not isinstance(payload, dict):
        return {}
    resource = "properties.resource"
    scanner = _text_at(payload, [f"{resource}.{key}" for key in _NAMES] + [resource])
    return {"title": _text_at(payload, ["title"]), "scanner": _scanner(scanner, wanted)} | _person(payload)


def _scanner(resource: str | None, wanted: set[str]) -> str | None:
    """Return a resource's name, its shape where it is none of the configured ones: it may be anything then."""
    if resource is None or comparable(resource) in wanted or not wanted:
        return resource
    return shape(resource)


def _person(payload: object) -> dict[str, str | None]:
    """Return who booked, and under which address they are reached, where Calpendo says so."""
    found: dict[str, str | None] = {"booker": None, "mail": None}
    if not isinstance(payload, dict):
        return found
    for path in _PEOPLE:
        name = _text_at(payload, [path, *(f"{path}.{key}" for key in _NAMES)])
        if name is not None:
            return {"booker": name, "mail": _text_at(payload, [f"{path}.{key}" for key in _MAILS])}
    return found


def _text_at(payload: dict[str, Any], paths: Iterable[str]) -> str | None:
    """Return the first text at one of these paths, with a mark for what no encoding can carry."""
    for path in paths:
        value = value_at(payload, path)
        if isinstance(value, str) and value.strip():
            return value.encode("utf-8", "replace").decode()
    return None


def _row(
    booking: Mapping[str, Any], got: Received | None, now: datetime, usual: Window, zone: Any
) -> dict[str, Any]:
    entry: Mapping[str, Any] = {} if got is None else got.entry
    against = list(booking["reasons"]) or _reasons(booking, got, now, usual)
    repaired = list(got.repaired) if got is not None else []
    explained = [reasons.explain(code.replace(":", "_")) for code in (*against, *repaired)]
    start = booking.get("start_utc")
    wall = None if start is None else start.replace(tzinfo=UTC).astimezone(zone)
    taken = ("minutes", "patient_id", "patient_name", "study", "modality", "status")
    return {
        **booking,
        **{name: entry.get(_KEYS.get(name, name)) for name in taken},
        "day": entry.get(DATE_KEY) or (wall and wall.date()),
        "time": entry.get(TIME_KEY) or (wall and wall.time()),
        "on_list": got is not None and got.on_list and not _NOT_NOW & set(against),
        "reasons": against,
        "why": " ".join(dict.fromkeys(reason.meaning for reason in explained)) or None,
        "what_to_do": " ".join(dict.fromkeys(reason.remedy for reason in explained)) or None,
        "repaired": repaired,
        "change": None if got is None or ("not_yet" in against and got.change == "new") else got.change,
        "differences": [change._asdict() for change in (got.differences if got else ())],
    }


def _reasons(booking: Mapping[str, Any], got: Received | None, now: datetime, usual: Window) -> list[str]:
    """Return why a booking that passed all rules is not on the list, or what should be known of it there."""
    if got is None:
        return []
    if got.reason is not None:
        return [got.reason]
    status = got.entry.get(STATUS_KEY)
    if status in _OFF_BY_STATUS:
        return [_OFF_BY_STATUS[status]]
    start, end = (at and at.replace(tzinfo=UTC) for at in (booking.get("start_utc"), booking.get("end_utc")))
    is_new = got.change == "new"
    if is_new and end is not None and end <= usual.start:
        return ["over"]
    if start is not None and start >= usual.end and (is_new or not got.on_list):
        return ["not_yet"]
    if got.on_list:
        return []
    return ["over" if end is not None and end <= now else "window"]


def _is_listed() -> pl.Expr:
    return pl.col("on_list") | pl.col("reasons").list.contains("not_yet")


def _masked(frame: pl.DataFrame, config: PipelineConfig) -> pl.DataFrame:
    """Return a frame with shapes instead of values; times, statuses, modalities and numbers of bookings stay.

    A modality that no table knows may be a part of the title.
    """
    modality = pl.col("modality")
    known = [*config.resource_modality_mapping.values(), *config.resources, OTHER_MODALITY]
    change = pl.element().struct
    is_told = change.field("field").is_in(list(_TOLD))
    old_and_new = (
        pl.when(is_told).then(change.field(name)).otherwise(shape_expr(change.field(name))).alias(name)
        for name in ("old", "new")
    )
    return frame.with_columns(
        *(shape_expr(pl.col(name)).alias(name) for name in VALUES),
        pl.when(modality.is_in(known)).then(modality).otherwise(shape_expr(modality)).alias("modality"),
        pl.col("differences").list.eval(pl.struct(change.field("field"), *old_and_new)),
    )


def _zone_name(config: PipelineConfig) -> str:
    return config.timezone if config.output_timezone == "site" else config.output_timezone


def said(found: Preview) -> list[str]:
    """Return a preview in sentences: the span, how many bookings are where, what changes, and the warnings."""
    counts = found.counts
    on_list, later, off = counts["on_list"], counts["later"], counts["off_list"]
    where = [f"{counted(on_list, 'booking')} {'is' if on_list == 1 else 'are'} on the list"]
    where += [f"{later} {'appears' if later == 1 else 'appear'} there later"] if later else []
    where += [f"{off} {'is' if off == 1 else 'are'} not on it"] if off else []
    changed = [f"{counts[change]} {change}" for change in CHANGES if counts[change] and change != "unchanged"]
    span = (
        f"Bookings from {found.start:%Y-%m-%d %H:%M} to {found.end:%Y-%m-%d %H:%M} (site time); days and times of the"
        f" list in {found.zone}; as of {found.made:%Y-%m-%d %H:%M %Z}."
    )
    sentences = [
        span,
        f"{', '.join(where)}.",
        f"The next cycle changes: {', '.join(changed)}." if changed else "The next cycle changes nothing.",
    ]
    if not found.is_revealed:
        sentences.append("Ids, names and titles are shown as shapes; --reveal shows them as they are.")
    return [*sentences, *(f"warning: {warning}" for warning in found.warnings)]


def by_day(found: Preview) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the bookings on the list under a heading for each scanner and day."""
    groups: dict[tuple[str, date | None], list[dict[str, Any]]] = {}
    for row in found.on_list.iter_rows(named=True):
        groups.setdefault((row["scanner"] or NO_SCANNER, row["day"]), []).append(row)
    return [
        (f"{scanner}, {day:%A %Y-%m-%d}" if day else scanner, rows) for (scanner, day), rows in groups.items()
    ]


def list_row(row: Mapping[str, Any]) -> dict[str, str | None]:
    """Return a booking of the list as texts."""
    later = " (comes later)" if "not_yet" in row["reasons"] else ""
    return {
        **{name: row[name] for name in ("patient_id", "patient_name", "study", "modality", "change")},
        "booking_id": str(row["booking_id"]),
        "time": f"{row['time']:%H:%M}" if row["time"] else None,
        "status": f"{row['status'] or ''}{later}",
    }


def day_and_time(row: Mapping[str, Any]) -> str:
    """Return when a booking is, as far as that is known."""
    day, hour = row["day"], row["time"]
    return f"{f'{day:%Y-%m-%d}' if day else ''} {f'{hour:%H:%M}' if hour else ''}".strip()


def by_reason(found: Preview) -> list[dict[str, Any]]:
    """Return why bookings are not on the list: each code with meaning, remedy and its bookings' numbers."""
    off = found.off_list.select("booking_id", "reasons").iter_rows()
    return _explained((code, number) for number, codes in off for code in (codes or ["unknown"]))


def by_repair(found: Preview) -> list[dict[str, Any]]:
    """Return what was repaired: field and kind with meaning, remedy and its bookings' numbers."""
    repaired = found.frame.select("booking_id", "repaired").iter_rows()
    told = _explained((label, number) for number, labels in repaired for label in labels)
    return [row | dict(zip(("field", "kind"), row["reason"].split(":"), strict=True)) for row in told]


def _explained(codes: Iterable[tuple[str, int | None]]) -> list[dict[str, Any]]:
    """Return each code (of a repair ``field:kind``) with meaning, remedy and the numbers of the bookings that have it."""
    groups: dict[str, list[str]] = {}
    for code, number in codes:
        groups.setdefault(code, []).append("no number" if number is None else str(number))
    explained = ((code, reasons.explain(code.replace(":", "_")), ids) for code, ids in groups.items())
    return [
        {"reason": code, "why": reason.meaning, "what_to_do": reason.remedy, "bookings": ids}
        for code, reason, ids in explained
    ]


def differences(found: Preview) -> list[dict[str, Any]]:
    """Return each field that changes, booking by booking, with what the host has now and what it gets."""
    return [
        {"booking_id": str(row["booking_id"]), **difference}
        for row in found.frame.iter_rows(named=True)
        for difference in row["differences"]
    ]


_ON = {**LIST_HEADINGS, "modality": "modality", "booking_id": "booking"}
_OFF = {
    "booking_id": "booking",
    "when": "when",
    "scanner": "scanner",
    "title": "title",
    "reason": "reason",
    "why": "why",
    "what_to_do": "what to do",
}
_FIX = {
    "booking_id": "booking",
    "when": "when",
    "title": "title",
    "booker": "booked by",
    "mail": "mail",
    "place": "on the list",
    "why": "what is wrong",
    "what_to_do": "what to change",
}
_CHANGES = {"booking_id": "booking", "change": "change", "field": "field", "old": "now", "new": "then"}


def render_preview(found: Preview) -> str:
    """Return the preview as one page for the control room: self-contained HTML, UTF-8, that loads nothing."""
    from pipeline.page import render, table

    counts = found.counts
    off, fix = found.off_list, found.to_fix
    changes = [*_changes(found.frame)]
    return render(
        "pipeline.verify",
        "preview.html",
        found=found,
        is_revealed=found.is_revealed,
        sentences=said(found),
        counts=counts,
        changing=sum(counts[change] for change in ("new", "changed", "withdrawn")),
        level="look" if len(fix) or found.warnings else "good",
        days=[table(_ON, map(list_row, rows), caption=heading) for heading, rows in by_day(found)],
        fix=table(_FIX, _told(fix), caption="Bookings to be corrected", code=_CODE) if len(fix) else None,
        off=table(_OFF, _told(off), caption="Bookings that are not on the list", code=_CODE)
        if len(off)
        else None,
        changes=table(_CHANGES, changes, caption="Changes, field by field") if changes else None,
        new=found.frame.filter(change="new")["booking_id"].to_list(),
    )


_CODE = ("title", "reason")


def _told(frame: pl.DataFrame) -> Iterator[dict[str, object]]:
    for row in frame.iter_rows(named=True):
        yield {
            **row,
            "booking_id": row["booking_id"] or "no number",
            "when": day_and_time(row),
            "reason": ", ".join(row["reasons"]),
            "place": "yes" if row["on_list"] else "no",
        }


def _changes(frame: pl.DataFrame) -> Iterator[Mapping[str, Any]]:
    for row in frame.iter_rows(named=True):
        named = {"booking_id": row["booking_id"], "change": row["change"]}
        if row["differences"] and row["change"] == "changed":
            yield from ({**named, **difference} for difference in row["differences"])
        elif row["change"] in ("withdrawn", "held"):
            yield {**named, "old": f"{day_and_time(row)} {row['patient_id'] or ''}".strip()}
