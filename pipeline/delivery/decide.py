"""What a cycle does between the server's answer and the host: what goes out, what is written down. Writes nothing.

Answers    what the server said: the window's list, and the bookings asked for by number
Checked    the same through the columns and the schema gate
Delivery   what is emitted, withdrawn, held back, owed, rejected; and the counts that must add up
Plan       the same for people, before it happens: ``run --dry-run``

What changed is found by a join of today's entries with the ledger's lines. A booking is taken off the
scanner's list on its own booking's answer only, and never many on one answer (``judge``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from pipeline.calpendo.fetch import NOT_REACHED
from pipeline.delivery.ledger import (
    DATE_KEY,
    DISCONTINUED,
    DURATION_KEY,
    STATUS_KEY,
    TIME_KEY,
    Changes,
    Ledger,
    Line,
    from_text,
    microseconds,
    to_text,
)
from pipeline.delivery.quarantine import Rejected
from pipeline.errors import PluginSchemaError
from pipeline.fields import SOURCE
from pipeline.transform.columns import to_rows
from pipeline.transform.json_values import UNDER, payload_text
from pipeline.transform.reasons import (
    BOOKING_ID_INVALID,
    TOO_MANY_WITHDRAWALS,
    WITHDRAWAL_IN_DOUBT,
    WITHDRAWAL_UNANSWERED,
)

if TYPE_CHECKING:
    from pipeline.batch import Batch
    from pipeline.calpendo.fetch import FetchedBookings
    from pipeline.calpendo.window import Window
    from pipeline.config import PipelineConfig


# What keeps a booking off the list for good. Being outside the window does not: it may just have moved.
_WINDOW = "window"
# What a row of the list shows as well as its booking's details do.
_SHOWN_BY_THE_LIST = ("resource", "status", "title_ignored")
_OPERATOR = "operator"
"""Where a fetch puts an operator's name in the payload (T009)."""


@dataclass(frozen=True)
class Answers:
    """The server's answers of one cycle, and the ledger's lines as they were before it."""

    window: Window
    listed: FetchedBookings
    followed: FetchedBookings
    interest: tuple[int, ...]
    lines: pl.DataFrame = field(repr=False)
    owed: frozenset[int]
    held: frozenset[int]

    @property
    def failed(self) -> dict[int, str]:
        """Every booking whose details could not be fetched, with the reason."""
        return {**self.listed.failed, **self.followed.failed}

    @property
    def asked_in_vain(self) -> bool:
        """Whether a request failed; what there was no time to ask for is no fault of the server."""
        return any(reason != NOT_REACHED for reason in self.failed.values())

    def failed_rows(self) -> list[Any]:
        """Return what the list itself says of bookings that the host may show and whose details failed."""
        shown = self.lines.filter(pl.col("status") != DISCONTINUED)["booking_id"].to_list()
        rows = self.listed.failed_rows
        return [rows[booking_id] for booking_id in shown if booking_id in rows]


@dataclass(frozen=True)
class Checked:
    """The listed and the followed bookings after the schema gate; ``moved`` of the followed came with the list.

    ``told`` are bookings whose details failed, and of which the list itself says that they are not wanted.
    """

    listed: Batch
    followed: Batch | None = None
    moved: int = 0
    told: frozenset[int] = frozenset()

    @property
    def batches(self) -> tuple[Batch, ...]:
        """The batches that there are, the listed bookings first."""
        return (self.listed,) if self.followed is None else (self.listed, self.followed)


@dataclass(frozen=True)
class Verdict:
    """Which withdrawals go now, which wait for the same answer again, and why: a failed fetch, or their number."""

    withdrawn: tuple[int, ...] = ()
    waiting: Mapping[int, str] = field(default_factory=dict)
    """Booking id -> the code of the reason for which its withdrawal waits."""
    kept_by: Literal["failed_fetch", "guard"] | None = None
    limit: float = 0.0

    @property
    def held(self) -> frozenset[int]:
        """The bookings whose withdrawal waits."""
        return frozenset(self.waiting)


@dataclass(frozen=True, kw_only=True)
class Delivery(Changes):
    """What one cycle does: the entries for the host, in order, everything that is written down with them, and why.

    ``kinds`` says of each emitted booking what it is (new, changed, resent, withdrawn); ``stood`` holds the ledger's last
    lines of what is withdrawn, held back or could not be fetched.
    """

    answers: Answers = field(repr=False)
    checked: Checked = field(repr=False)
    entries: list[dict[str, Any]] = field(repr=False)
    kinds: Mapping[int, str]
    stood: Mapping[int, Line] = field(repr=False)
    verdict: Verdict
    rejected: list[Rejected] = field(repr=False)
    differences: pl.DataFrame = field(repr=False)
    counts: Mapping[str, Any]
    filters: Mapping[str, int]

    @property
    def changed_fields(self) -> dict[str, int]:
        """In how many bookings each field changed."""
        return field_counts(self.differences)


def of_interest(
    lines: pl.DataFrame, window: Window, owed: Iterable[int], held: Iterable[int], config: PipelineConfig
) -> list[int]:
    """Name the bookings whose fate this cycle must learn, listed or not.

    Those that the host shows in the window (or, where running bookings are wanted, running at its start), and all
    that are pending, owed or held back, wherever they lie in time.
    """
    running_since = window.query_start if config.include_running else None
    shown = shown_in(lines, window.start, window.end, running_since)
    pending = lines.filter(pl.col("state") == "pending")["booking_id"].to_list()
    return list(dict.fromkeys([*shown, *pending, *sorted(owed), *sorted(held)]))


def to_ask_for(interest: Iterable[int], listed: Iterable[int], cut: Iterable[int]) -> list[int]:
    """Name those of interest that the list did not bring, or whose row alone says that they lie elsewhere now."""
    told = set(listed).difference(cut)
    return [booking_id for booking_id in interest if booking_id not in told]


def not_wanted(rows: Batch) -> frozenset[int]:
    """Name the bookings that the list's own rows show as not wanted: another status or resource, or ignored."""
    shown = rows.filtered.filter(pl.col("reason").is_in(_SHOWN_BY_THE_LIST))
    return frozenset(shown["booking_id"].drop_nulls().to_list())


def moved_away(interest: Iterable[int], listed: FetchedBookings, batch: Batch) -> list[Any]:
    """Pick the payloads of interest that came with the list but turned out to lie outside the window."""
    rows = batch.filtered.filter((pl.col("reason") == _WINDOW) & pl.col("booking_id").is_in(list(interest)))
    return [listed.payloads[row] for row in rows["row"].to_list()]


def with_last_operators(
    batch: Batch, unknown: Collection[int], ledger: Ledger, config: PipelineConfig
) -> Batch:
    """Fill the fields that are mapped from the operator with what was sent last, in the entries of ``unknown``.

    Otherwise each scan of whose operators the server said nothing would be sent as changed, without its operator, and
    sent once more in the next cycle; and in between the host would show that nobody operates it, which nobody has said.

    Only where the payload has no operator of its own; a booking that was never sent stays as it is.
    """
    from pipeline.transform.entries import mapped_rules

    rules = [rule for rule in mapped_rules(config) if rule.source.removeprefix(UNDER) == _OPERATOR]
    if not unknown or not rules:
        return batch
    ids = batch.accepted["booking_id"].to_list()
    last = ledger.entries(set(ids).intersection(unknown))
    filled = []
    for rule in rules:
        kept = pl.Series([last.get(number, {}).get(rule.target) for number in ids], dtype=pl.String)
        as_it_is = kept.is_null() | batch.accepted[f"{SOURCE}{rule.source}"].is_not_null()
        filled.append(batch.entries[rule.target].zip_with(as_it_is, kept))
    return replace(batch, entries=batch.entries.with_columns(filled))


def decide(answers: Answers, checked: Checked, ledger: Ledger, config: PipelineConfig) -> Delivery:
    """Compare the checked bookings with the ledger and settle what this cycle does; reads the ledger only."""
    # Two frames of one height: a mapping may name its targets as it likes, also like a column of the bookkeeping.
    keys = compare(pl.concat([_keys(batch) for batch in checked.batches]), answers.lines)
    emit = keys["change"] != "unchanged"
    keys_out = keys.filter(emit)
    entries_out = pl.concat([batch.entries for batch in checked.batches]).filter(emit)
    entries = to_rows(entries_out)
    altered = keys_out["change"] == "changed"
    altered_ids = keys_out.filter(altered)["booking_id"]
    differences = changed_fields(
        altered_ids,
        entries_out.filter(altered),
        {number: line.entry for number, line in ledger.last_lines(altered_ids).items()},
    )

    standing = set(keys["booking_id"].to_list())
    verdict, repeated = _withdrawals(answers, checked, standing, config)
    gone = [*verdict.withdrawn, *repeated]
    failed = answers.failed
    last = ledger.last_lines([*gone, *verdict.held, *failed])
    withdrawn = [discontinued(from_text(last[booking_id].entry)) for booking_id in gone]
    withdrawn_lines = [
        last[booking_id]._replace(digest=digest, status=DISCONTINUED, entry=to_text(entry))
        for booking_id, digest, entry in zip(gone, digests_of(withdrawn), withdrawn, strict=True)
    ]

    counts = _counts(answers, checked, keys["change"])
    return Delivery(
        answers=answers,
        checked=checked,
        entries=entries + withdrawn,
        emitted=_lines(keys_out, entries) + withdrawn_lines,
        kinds=dict(keys_out.select("booking_id", "change").iter_rows()) | dict.fromkeys(gone, "withdrawn"),
        stood=last,
        seen=frozenset(standing),
        settled=answers.owed - set(failed),
        owed=frozenset(failed),
        unasked=frozenset(booking_id for booking_id, reason in failed.items() if reason == NOT_REACHED),
        ends={**answers.listed.ends, **answers.followed.ends},
        held=verdict.held,
        verdict=verdict,
        rejected=_rejected(answers.listed, checked),
        differences=differences,
        counts=counts | {"withdrawn": len(withdrawn), "returned": len(entries) + len(withdrawn)},
        filters=_filters(answers.listed, checked.listed),
    )


def _keys(batch: Batch) -> pl.DataFrame:
    """Return one row per entry: the ledger's columns but the entry itself."""
    bookings = batch.accepted.select(
        "booking_id",
        "booking_hash",
        start_utc=pl.col("start_utc").dt.timestamp("us"),
        end_utc=pl.col("end_utc").dt.timestamp("us"),
    )
    return bookings.with_columns(
        digests(batch.entries), batch.entries[STATUS_KEY].cast(pl.String).alias("status")
    )


def _lines(keys: pl.DataFrame, entries: list[dict[str, Any]]) -> list[Line]:
    rows = keys.select(Line._fields[:-1]).iter_rows()
    return [Line._make((*row, to_text(entry))) for row, entry in zip(rows, entries, strict=True)]


def _withdrawals(
    answers: Answers, checked: Checked, standing: set[int], config: PipelineConfig
) -> tuple[Verdict, list[int]]:
    """Judge the bookings that no longer stand; name also the withdrawals that the host has not acknowledged.

    No longer standing: listed no more and answered 404, given to a resource or status that is not configured, or
    rejected by the rules now, so that the row that the host shows is out of date.
    """
    # What the server lists and denies in one breath may have been deleted in between: the next list will tell.
    fallen = set(answers.followed.gone) - set(answers.listed.listed)
    for batch in checked.batches:
        fallen |= set(_filtered_for_good(batch))
        fallen |= set(batch.rejected["booking_id"].drop_nulls().to_list())
    told = checked.told.union(_filtered_for_good(checked.listed))
    fallen = (fallen | told) - standing
    lines = answers.lines.filter(pl.col("booking_id").is_in(list(fallen))).sort("start_utc", "booking_id")
    live = pl.col("status") != DISCONTINUED
    in_window = answers.lines.filter(live_in_window(answers.window.start, answers.window.end)).height
    verdict = judge(
        lines.filter(live)["booking_id"].to_list(),
        # One that stands again begins anew: its absence must be seen twice in a row.
        held=answers.held - standing,
        in_window=in_window,
        max_withdrawn=config.max_withdrawn,
        fetch_failed=answers.asked_in_vain,
        told=told,
        unanswered=answers.failed.keys() - fallen,
    )
    # That these were withdrawn before is the second answer.
    return verdict, lines.filter(~live & (pl.col("state") == "pending"))["booking_id"].to_list()


def _filtered_for_good(batch: Batch) -> list[int]:
    ids: list[int] = batch.filtered.filter(pl.col("reason") != _WINDOW)["booking_id"].drop_nulls().to_list()
    return ids


def _rejected(listed: FetchedBookings, checked: Checked) -> list[Rejected]:
    found = [Rejected(None, (BOOKING_ID_INVALID,), payload_text(row)) for row in listed.invalid]
    for batch in checked.batches:
        rows = batch.rejected.select("booking_id", "reasons", "payload").iter_rows()
        found += [Rejected(booking_id, tuple(reasons), payload) for booking_id, reasons, payload in rows]
    return found


def _filters(listed: FetchedBookings, batch: Batch) -> dict[str, int]:
    counts = Counter(batch.filtered["reason"].to_list())
    return dict(counts + Counter({_WINDOW: len(listed.cut)}))


def _counts(answers: Answers, checked: Checked, change: pl.Series) -> dict[str, int]:
    """Count each booking once; in ``change`` the listed ones stand first."""
    listed, followed = answers.listed, answers.followed
    first, second = change[: checked.listed.accepted.height], change[checked.listed.accepted.height :]
    same, same_followed = int((first == "unchanged").sum()), int((second == "unchanged").sum())
    kinds = Counter(change.to_list())
    return {
        "listed": len(listed.listed) + len(listed.invalid),
        "emitted": len(first) - same,
        "unchanged": same,
        "filtered": len(listed.cut) + checked.listed.filtered.height,
        "rejected": len(listed.invalid) + checked.listed.rejected.height,
        "fetch_failed": len(listed.failed),
        "not_reached": list(answers.failed.values()).count(NOT_REACHED),
        "gone": len(listed.gone),
        "looked_up": len(followed.listed) + checked.moved,
        "looked_up_emitted": len(second) - same_followed,
        "looked_up_unchanged": same_followed,
        "looked_up_filtered": checked.followed.filtered.height if checked.followed else 0,
        "looked_up_rejected": checked.followed.rejected.height if checked.followed else 0,
        "looked_up_failed": len(followed.failed),
        "looked_up_gone": len(followed.gone),
        "new": kinds["new"],
        "changed": kinds["changed"],
        "resent": kinds["resent"],
    }


Change = Literal["new", "changed", "resent", "unchanged"]
# How a value of each type becomes text: by its whole number where it has one, because polars' own rendering of
# dates, times and booleans is not promised to stay the same from one version to the next.
_AS_NUMBER = (pl.Date, pl.Time, pl.Boolean)
_DIFFERENCES = {"booking_id": pl.Int64, "field": pl.String, "old": pl.String, "new": pl.String}


def digests(entries: pl.DataFrame) -> pl.Series:
    """Return the digest of each row over all its columns: 32 hex digits (BLAKE2b, 128 bits).

    ``entries``: String, integer, Boolean, Date and Time columns, any order. Equal rows have equal digests across
    processes, machines and polars versions; null differs from "", and a new or renamed column changes every digest.
    Raises ``PluginSchemaError`` on a column of another type.
    """
    parts: list[pl.Expr] = []
    for name, dtype in sorted(entries.schema.items()):
        column = pl.col(name)
        if dtype in _AS_NUMBER:
            column = column.to_physical().cast(pl.Int64)
        elif not (dtype == pl.String or dtype == pl.Null or dtype.is_integer()):
            raise PluginSchemaError(
                f"the entry column {name!r} has the type {dtype}, which no digest is defined for"
            )
        text = column.cast(pl.String)
        # The length before each value keeps neighbours apart: ("ab", "c") is not ("a", "bc").
        parts += [
            pl.lit(f"{name}="),
            text.str.len_bytes().cast(pl.String).fill_null("-"),
            pl.lit(":"),
            text.fill_null(""),
        ]
    if not parts:
        return pl.Series("digest", [], dtype=pl.String)
    rows = entries.select(pl.concat_str(parts).alias("row"))["row"].to_list()
    return pl.Series(
        "digest", [blake2b(row.encode(), digest_size=16).hexdigest() for row in rows], dtype=pl.String
    )


def digests_of(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the digests of entries that are plain dicts already: the same as those of the frame's rows.

    Entries of an older mapping may have other keys; each set of keys is a frame of its own.
    """
    found: dict[int, str] = {}
    by_keys: dict[tuple[str, ...], list[int]] = {}
    for index, entry in enumerate(entries):
        by_keys.setdefault(tuple(sorted(entry)), []).append(index)
    typed: dict[str, Any] = {DATE_KEY: pl.Date, TIME_KEY: pl.Time, DURATION_KEY: pl.Int64}
    for names, rows in by_keys.items():
        frame = pl.DataFrame(
            {name: [entries[row][name] for row in rows] for name in names},
            schema={name: typed.get(name, pl.String) for name in names},
        )
        found |= zip(rows, digests(frame).to_list(), strict=True)
    return [found[index] for index in range(len(entries))]


def compare(current: pl.DataFrame, lines: pl.DataFrame) -> pl.DataFrame:
    """Add ``change`` to today's entries: new, changed, resent (pending and equal), or unchanged.

    ``current`` has ``booking_id`` and ``digest``; ``lines`` is the ledger's part (``LINES_SCHEMA``). Rows and their
    order stay; nulls of ``current`` do not occur. A pending entry is never "unchanged": the host may not have it.
    """
    known = lines.select("booking_id", known_digest="digest", known_state="state")
    return (
        current.join(known, on="booking_id", how="left", maintain_order="left")
        .with_columns(
            pl.when(pl.col("known_digest").is_null())
            .then(pl.lit("new"))
            .when(pl.col("known_digest") != pl.col("digest"))
            .then(pl.lit("changed"))
            .when(pl.col("known_state") == "pending")
            .then(pl.lit("resent"))
            .otherwise(pl.lit("unchanged"))
            .alias("change")
        )
        .drop("known_digest", "known_state")
    )


def changed_fields(ids: pl.Series, entries: pl.DataFrame, before: Mapping[int, str]) -> pl.DataFrame:
    """List each field that differs: ``booking_id``, ``field``, ``old`` and ``new`` (text or null).

    ``ids`` are the booking ids of ``entries``, row by row; ``before`` holds the ledger's last entry of the same
    bookings as JSON text. A field that one side lacks counts as null. In the order of ``entries``.
    """
    if not len(ids):
        return pl.DataFrame(schema=_DIFFERENCES)
    rows = []
    for booking_id, new in zip(ids, to_rows(entries), strict=True):
        old = from_text(before[booking_id])
        rows += [
            (booking_id, name, _shown(old.get(name)), _shown(new.get(name)))
            for name in new | old
            if old.get(name) != new.get(name)
        ]
    return pl.DataFrame(rows, schema=_DIFFERENCES, orient="row")


def _shown(value: Any) -> str | None:
    if isinstance(value, (date, time)):
        return value.isoformat()
    return None if value is None else str(value)


def field_counts(differences: pl.DataFrame) -> dict[str, int]:
    """Count in how many bookings each field changed, most often changed first."""
    counts = differences.group_by("field").len().sort(["len", "field"], descending=[True, False])
    return dict(counts.iter_rows())


# The guard's default: withdrawals go at once up to this number, or up to half of those in the window.
ALWAYS_ALLOWED = 5


def judge(
    candidates: Sequence[int],
    *,
    held: Collection[int],
    in_window: int,
    max_withdrawn: int | None,
    fetch_failed: bool,
    told: Collection[int] = (),
    unanswered: Collection[int] = (),
) -> Verdict:
    """Decide over the bookings that would be withdrawn now.

    Args:
        candidates: The bookings that this cycle's answers take off the list, in order.
        held: Those of which an earlier cycle's answer said the same, and no answer since said otherwise.
        in_window: How many bookings the host shows in the window.
        max_withdrawn: The limit; None means 5 or half of those in the window, whichever is more.
        fetch_failed: Whether a request of this cycle failed, so that the server may be in trouble.
        told: Those of which the list itself says that they are not wanted: another status or resource.
        unanswered: Those that were asked for in vain: what is held of them waits on.

    Returns:
        What was said twice goes in any case. The rest goes at once up to the limit; where a fetch failed only as far as
        it was ``told``. What does not go is held until the same is said once more.
    """
    limit: float = max(ALWAYS_ALLOWED, in_window / 2) if max_withdrawn is None else max_withdrawn
    once = [booking_id for booking_id in candidates if booking_id not in held]
    doubtful = [booking_id for booking_id in once if booking_id not in told] if fetch_failed else []
    # The limit counts what rests on one answer: two answers of one kind are no accident of the moment.
    too_many = len(once) > limit
    why = TOO_MANY_WITHDRAWALS if too_many else WITHDRAWAL_IN_DOUBT
    waiting = dict.fromkeys(once if too_many else doubtful, why)
    return Verdict(
        withdrawn=tuple(booking_id for booking_id in candidates if booking_id not in waiting),
        waiting=dict.fromkeys(sorted(set(held) & set(unanswered)), WITHDRAWAL_UNANSWERED) | waiting,
        kept_by="guard" if too_many else "failed_fetch" if doubtful else None,
        limit=limit,
    )


def live_in_window(start: datetime, end: datetime) -> pl.Expr:
    """Select ledger lines that a host shows as wanted and that start in ``[start, end)``."""
    return (
        (pl.col("status") != DISCONTINUED)
        & (pl.col("start_utc") >= microseconds(start))
        & (pl.col("start_utc") < microseconds(end))
    )


def stands_in(start: datetime, end: datetime) -> pl.Expr:
    """Select ledger lines of any status that start in ``[start, end)``, or began before and still run at ``start``."""
    begins, ends = pl.col("start_utc"), pl.col("end_utc").fill_null(pl.col("start_utc"))
    first = microseconds(start)
    return (begins < microseconds(end)) & ((begins >= first) | (ends > first))


def shown_in(
    lines: pl.DataFrame, start: datetime, end: datetime, running_since: datetime | None
) -> list[int]:
    """Name the bookings that the host shows in the window, in the order of their starts.

    ``running_since`` (how far the query reached back) adds those that began before the window and still run at its
    start.
    """
    wanted = live_in_window(start, end)
    if running_since is not None:
        wanted |= live_in_window(running_since, start) & (pl.col("end_utc") > microseconds(start))
    return lines.filter(wanted).sort("start_utc", "booking_id")["booking_id"].to_list()


def discontinued(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entry that takes a row off the list: the last one, whole, with status DISCONTINUED."""
    return {**entry, STATUS_KEY: DISCONTINUED}
