"""Payloads -> ``Batch``: the one door to the columns. Plugin, audit, check and backfill all go through it.

A batch is entries, rejected and filtered rows, and the flags: what a person should look at, though nothing was rejected.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import cached_property
from hashlib import blake2b
from os import PathLike
from typing import Any, Final, NamedTuple

import polars as pl
import pytz

from pipeline import fields
from pipeline.archives import Table, is_bookings_frame, payloads_of
from pipeline.config import AnyConfig, PipelineConfig
from pipeline.errors import PluginConfigError, PluginSchemaError
from pipeline.fields import SOURCE
from pipeline.matching import BoundedMatcher
from pipeline.schema import Split, check_bookings, split
from pipeline.transform import bookings as bookings_frame
from pipeline.transform import reasons
from pipeline.transform.bookings import Payload
from pipeline.transform.columns import paused_collector, to_rows
from pipeline.transform.entries import MODALITY, STATUS, entry_columns, patterned_rules, transformed
from pipeline.transform.extraction import Matcher
from pipeline.transform.json_values import payload_text
from pipeline.transform.repairs import entry_rules
from pipeline.transform.selection import Selection, superseded
from pipeline.transform.shapes import shape_expr

TIME_FLAGS: Final = ("dst_ambiguous", "dst_nonexistent", "multi_day")
_LONGEST_NAME = 64


@dataclass(frozen=True)
class BatchFlags:
    """What a person should look at, though nothing was rejected for it. Tuples hold booking ids.

    ``unknown_statuses`` and ``unknown_resources`` count the accepted bookings by the value that no table knows (a
    missing one counts under ``""``; one that is taken from another field or is very long, under its shape).
    ``unmatched`` counts, for each target, the shapes of the source values that its pattern did not match, over all
    bookings that were asked for, and ``unmatched_ids`` says which. ``pattern_timeouts`` names, for each target, those of
    them where the pattern was stopped: the field was left empty, or the booking rejected for want of its patient_id.
    ``repaired`` says which fields of accepted bookings were changed before they went out: by field, then by kind
    (``repairs.KINDS``). ``translated`` counts, by field, the accepted bookings whose value was only written in DICOM's
    form, without loss.
    """

    dst_ambiguous: tuple[int, ...]
    dst_nonexistent: tuple[int, ...]
    multi_day: tuple[int, ...]
    unknown_statuses: dict[str, int]
    unknown_resources: dict[str, int]
    unmatched: dict[str, dict[str, int]]
    unmatched_ids: dict[str, tuple[int, ...]]
    pattern_timeouts: dict[str, tuple[int, ...]]
    repaired: dict[str, dict[str, tuple[int, ...]]]
    translated: dict[str, int]


def batch_flags(config: PipelineConfig, asked_for: pl.DataFrame, is_accepted: pl.Series) -> BatchFlags:
    """Read all flags off a batch's ``asked_for`` and ``is_accepted``."""
    shapes, unmatched_ids = _unmatched(config, asked_for)
    ids = asked_for["booking_id"]
    raised = {name: tuple(ids.filter(asked_for[name] & is_accepted).to_list()) for name in TIME_FLAGS}
    return BatchFlags(
        **raised,
        unknown_statuses=unknown_statuses(config, asked_for, is_accepted),
        unknown_resources=unknown_resources(config, asked_for, is_accepted),
        unmatched=shapes,
        unmatched_ids=unmatched_ids,
        pattern_timeouts=_too_slow(asked_for),
        repaired=_repaired(asked_for, is_accepted),
        translated=_translated(asked_for, is_accepted),
    )


def _repaired(asked_for: pl.DataFrame, is_accepted: pl.Series) -> dict[str, dict[str, tuple[int, ...]]]:
    rows = asked_for.select("booking_id", "repaired").filter(
        is_accepted & (asked_for["repaired"].list.len() > 0)
    )
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    if rows.is_empty():
        return found
    named = rows.explode("repaired").group_by("repaired", maintain_order=True).agg("booking_id")
    for label, ids in sorted(named.rows()):
        field, _, kind = label.partition(":")
        found.setdefault(field, {})[kind] = tuple(ids)
    return found


def _translated(asked_for: pl.DataFrame, is_accepted: pl.Series) -> dict[str, int]:
    rows = asked_for["translated"].filter(is_accepted & (asked_for["translated"].list.len() > 0))
    return dict(rows.explode().value_counts(sort=True, name="count").rows()) if len(rows) else {}


def unknown_statuses(
    config: PipelineConfig, asked_for: pl.DataFrame, is_accepted: pl.Series
) -> dict[str, int]:
    """Count the accepted bookings' statuses that no table knows, the most frequent first."""
    return _unknown(config, STATUS, "status", asked_for, is_accepted & ~asked_for["status_known"])


def unknown_resources(
    config: PipelineConfig, asked_for: pl.DataFrame, is_accepted: pl.Series
) -> dict[str, int]:
    """Count the accepted bookings' resources that no table knows, the most frequent first."""
    return _unknown(config, MODALITY, "resource", asked_for, is_accepted & ~asked_for["modality_known"])


def _unknown(
    config: PipelineConfig, target: str, field: str, asked_for: pl.DataFrame, unknown: pl.Series
) -> dict[str, int]:
    if not unknown.any():
        return {}
    source = "status_source" if target == STATUS else "modality_source"
    counted = asked_for.select(value=source).filter(unknown).group_by("value").len()
    return _counts(counted.with_columns(_told(config, target, field)))


def _told(config: PipelineConfig, target: str, field: str) -> pl.Expr:
    """Return what an unknown ``value`` is told as: itself where it is a name out of ``field``, else its shape.

    A mapping may cut a modality out of the title, and a text of that length is no resource's name either.
    """
    value = pl.col("value").fill_null("")
    sources = [rule.source.removeprefix("properties.") for rule in config.rules if rule.target == target]
    if any(source.partition(".")[0] != field for source in sources):
        return shape_expr(value)
    return pl.when(value.str.len_chars() > _LONGEST_NAME).then(shape_expr(value)).otherwise(value)


def _unmatched(
    config: PipelineConfig, asked_for: pl.DataFrame
) -> tuple[dict[str, dict[str, int]], dict[str, tuple[int, ...]]]:
    is_failing = asked_for["unmatched"].list.len() > 0
    shapes: dict[str, dict[str, int]] = {}
    ids: dict[str, tuple[int, ...]] = {}
    if not is_failing.any():
        return shapes, ids
    rules = patterned_rules(config)
    sources = {f"{SOURCE}{rule.source}" for rule in rules}
    failing = asked_for.select("booking_id", "unmatched", *sources).filter(is_failing)
    for rule in rules:
        rows = failing.filter(pl.col("unmatched").list.contains(rule.target))
        if len(rows):
            shape = shape_expr(pl.col(f"{SOURCE}{rule.source}")).alias("value")
            shapes[rule.target] = _counts(rows.select(shape, len=pl.lit(1)))
            ids[rule.target] = tuple(rows["booking_id"].drop_nulls().to_list())
    return shapes, ids


def _too_slow(asked_for: pl.DataFrame) -> dict[str, tuple[int, ...]]:
    late = asked_for.select("booking_id", "timed_out").filter(pl.col("timed_out").list.len() > 0)
    ids: dict[str, tuple[int, ...]] = {}
    for booking_id, targets in late.drop_nulls("booking_id").iter_rows():
        for target in targets:
            ids[target] = (*ids.get(target, ()), booking_id)
    return ids


def _counts(values: pl.DataFrame) -> dict[str, int]:
    """Add up ``len`` by ``value``, the most frequent first."""
    counted = values.group_by("value").agg(pl.col("len").sum())
    return dict(counted.sort(["len", "value"], descending=[True, False]).rows())


__all__ = [
    "Batch",
    "BatchFlags",
    "Kept",
    "Payloads",
    "Selection",
    "judge_bookings",
    "process_batch",
    "process_changed",
    "read_bookings",
    "transform_bookings",
]

Payloads = Iterable[Payload] | pl.DataFrame | pl.LazyFrame | Table | str | PathLike[str]
"""Bookings in any form (``archives.payloads_of``)."""

_NAMED = (
    "row",
    "booking_id",
    "fault",
    "title",
    "resource",
    "modified",
    "start_utc",
    "end_utc",
    "timed_out",
)
_EVERYTHING = Selection()
_KEPT_AT_MOST = 1_000
"""Payloads of a batch that is kept for the next cycle: a site's day; the memory and the digest stay small."""
_NO_HASH = json.dumps({"booking_hash": "0" * 64})


@dataclass(frozen=True, eq=False)
class Batch:
    """One batch in three parts: every payload is in exactly one of ``accepted``, ``rejected`` and ``filtered``.

    ``entries``: exactly the emitted columns, one row per accepted booking.
    ``rejected``: ``row``, ``booking_id`` (null if unreadable), ``reason`` ("a; b"), ``reasons``, ``payload`` (JSON text;
    null where the batch was made of a frame).
    ``filtered``: ``row``, ``booking_id``, ``fault``, ``title``, ``resource``, ``modified``, ``start_utc``, ``end_utc``,
    ``timed_out``, ``reason`` (``reasons.OFF_THE_LIST``): read, but not asked for.
    ``asked_for``: the transformed frame (see ``transform_bookings``) without the filtered rows; ``is_accepted`` says of
    each of its rows whether it is among the entries. Rows keep the payloads' order. The frames hold patients' names;
    ``repr`` does not.
    """

    config: PipelineConfig
    entries: pl.DataFrame
    rejected: pl.DataFrame
    filtered: pl.DataFrame
    asked_for: pl.DataFrame
    is_accepted: pl.Series

    @cached_property
    def accepted(self) -> pl.DataFrame:
        """The transformed frame of the accepted bookings, row by row with ``entries``: entry columns and bookkeeping."""
        return _rows_where(self.asked_for, self.is_accepted)

    @cached_property
    def flags(self) -> BatchFlags:
        """What a person should look at."""
        return batch_flags(self.config, self.asked_for, self.is_accepted)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the entries as dictionaries of plain Python values."""
        return to_rows(self.entries)

    def __repr__(self) -> str:
        """Show sizes only."""
        return f"Batch(accepted={len(self.entries)}, rejected={len(self.rejected)}, filtered={len(self.filtered)})"

    def _repr_html_(self) -> str:
        """Show a notebook how many bookings became what, and why; no value of any booking."""
        from pipeline.page import table

        rows: list[dict[str, object]] = [{"fate": "accepted", "count": len(self.entries)}]
        for fate, found in (
            ("rejected", self.rejected["reasons"].explode(empty_as_null=False)),
            ("filtered", self.filtered["reason"]),
        ):
            rows += [
                {"fate": fate, "count": count, "reason": code, "meaning": reasons.explain(code).meaning}
                for code, count in found.value_counts(sort=True).rows()
            ]
        headings = {"fate": "bookings", "count": "how many", "reason": "reason", "meaning": "meaning"}
        given = len(self.entries) + len(self.rejected) + len(self.filtered)
        caption = f"{given} bookings; one that is rejected for several reasons counts under each"
        return str(table(headings, rows, caption=caption, code=("reason",)))


def read_bookings(payloads: Payloads, config: AnyConfig) -> pl.DataFrame:
    """Read payloads into the bookings frame, one row each; never raises on a booking's content.

    Args:
        payloads: objects, or JSON text as str or bytes; a file's path; or a frame with a column ``payload`` or with
            flat columns (``archives.tables``).
        config: a ``PipelineConfig``, a source's ``config`` dict, or the path of a configuration file.

    Returns:
        The columns of ``BookingSchema``, and of the mapping's sources (``transform.bookings.read_bookings``).

    Raises:
        PluginConfigError: the configuration is wrong, or ``payloads`` is nothing that holds bookings.
    """
    return bookings_frame.read_bookings(payloads_of(payloads), PipelineConfig.of(config))


def transform_bookings(bookings: pl.LazyFrame | pl.DataFrame, config: AnyConfig) -> pl.LazyFrame:
    """Hold a bookings frame to ``BookingSchema`` and add the entry columns and the bookkeeping (see ``transformed``).

    A pattern that may run for ever is stopped, as by ``process_batch``.

    Args:
        bookings: what ``read_bookings`` returned for the same configuration.
        config: as for ``read_bookings``.

    Raises:
        PluginConfigError: the configuration is wrong, or ``bookings`` is no polars frame.
        PluginSchemaError: the frame is not one that ``read_bookings`` made with this configuration. Of a LazyFrame only
            columns and types are looked at.
    """
    config = PipelineConfig.of(config)
    if not isinstance(bookings, (pl.DataFrame, pl.LazyFrame)):
        raise PluginConfigError(
            f"bookings: got a {type(bookings).__name__}; write the frame that read_bookings returned, or call process_batch"
        )
    check_bookings(bookings)
    return transformed(bookings, config, matcher=BoundedMatcher())


def process_batch(
    payloads: Payloads,
    config: AnyConfig,
    *,
    selection: Selection | None = None,
    matcher: Matcher | None = None,
    today: date | None = None,
) -> Batch:
    """Turn payloads into checked entries.

    Of several payloads with one booking id the one with the newest ``modified`` counts, even if it is then rejected or
    filtered; if ``modified`` is equal or missing, the last one counts. The others are rejected ``duplicate_booking_id``.

    Args:
        payloads: as for ``read_bookings``; or the frame that it returned, whose rejected rows have no payload then.
        config: the mapping and the vocabularies: a ``PipelineConfig``, a source's ``config`` dict, or the path of a
            configuration file.
        selection: what was asked for; without it only the titles are filtered that the configuration ignores.
        matcher: runs the mapping's patterns where the linear engine cannot. Without it, one that stops a pattern after
            a second for a value and five for all values, in a process of its own that ends with this call.
        today: the last day on which a patient can be born; without it, the present day at the site.

    Raises:
        PluginConfigError: the configuration is wrong, or ``payloads`` is nothing that holds bookings.
        PluginSchemaError: a frame has not the known structure, or a payload would be lost or doubled.
    """
    given: Sequence[Payload]
    if isinstance(payloads, (list, tuple)) and isinstance(config, PipelineConfig):  # what a cycle hands over
        given = payloads
    elif is_bookings_frame(payloads):
        assert isinstance(payloads, (pl.DataFrame, pl.LazyFrame))  # noqa: S101  said by is_bookings_frame
        frame = payloads.lazy().collect()
        check_bookings(frame)
        return judge_bookings(
            frame, config, selection=selection, older=superseded(frame), matcher=matcher, today=today
        )
    else:
        config = PipelineConfig.of(config)
        found = payloads_of(payloads)
        given = found if isinstance(found, Sequence) else list(found)
    with paused_collector():
        bookings = bookings_frame.read_bookings(given, config)
        if len(bookings) != len(given):
            raise PluginSchemaError(f"{len(given)} payloads became {len(bookings)} bookings")
        batch = judge_bookings(
            bookings, config, selection=selection, older=superseded(bookings), matcher=matcher, today=today
        )
        texts = pl.Series(
            "payload", [payload_text(given[row]) for row in batch.rejected["row"]], dtype=pl.String
        )
        return replace(batch, rejected=batch.rejected.with_columns(texts))


class Kept(NamedTuple):
    """A batch, and what it was made of: a digest of the payloads, the selection and the day."""

    batch: Batch
    payloads: bytes | None
    selection: Selection
    today: date | None = None

    def __repr__(self) -> str:
        """Show the batch, which shows sizes only."""
        return f"Kept({self.batch!r})"


def process_changed(
    kept: Kept | None,
    payloads: Sequence[Payload],
    config: PipelineConfig,
    *,
    selection: Selection,
    today: date | None = None,
) -> Kept:
    """Process a batch as ``process_batch`` does, or return the kept batch if the result would be the same.

    A quiet cycle brings the payloads of the cycle before; only the window has moved on. The batch is the same as long as no
    booking begins or ends between the window's old bounds and the new ones. Large batches are made anew each time, so
    that nothing large is held from one cycle to the next, and so is one with a pattern that was stopped for its time.

    Args:
        kept: what the last call returned for the same source and kind of bookings; None for the first.
        payloads: as for ``process_batch``.
        config: as for ``process_batch``; another object counts as another configuration.
        selection: as for ``process_batch``.
        today: as for ``process_batch``.

    Returns:
        ``kept`` itself, or the new batch with what it was made of.
    """
    made_of = _digest(payloads)
    if (
        kept is not None
        and made_of is not None
        and made_of == kept.payloads
        and config is kept.batch.config
        and today == kept.today
        and _selects_the_same(kept, selection)
        and not _timed_out(kept.batch)
    ):
        return kept
    batch = process_batch(payloads, config, selection=selection, today=today)
    return Kept(batch, made_of, selection, today)


def _digest(payloads: Sequence[Payload]) -> bytes | None:
    """Return a digest of the payloads, in which 1, 1.0 and true differ; None for those that are not to be kept."""
    if len(payloads) > _KEPT_AT_MOST:
        return None
    try:
        text = repr(payloads)
    except RecursionError:
        return None
    return blake2b(text.encode("utf-8", "surrogatepass")).digest()


def _timed_out(batch: Batch) -> bool:
    return any(bool((frame["timed_out"].list.len() > 0).any()) for frame in (batch.asked_for, batch.filtered))


def _selects_the_same(kept: Kept, selection: Selection) -> bool:
    """Return whether a selection means for the kept batch what the one did that it was made with."""
    was = kept.selection
    if replace(was, start=selection.start, end=selection.end) != selection:
        return False
    moments = [
        frame[name]
        for frame in (kept.batch.asked_for, kept.batch.filtered)
        for name in ("start_utc", "end_utc")
    ]
    for before, now in ((was.start, selection.start), (was.end, selection.end)):
        if before is None or now is None:
            if before is not now:
                return False
        elif before != now:
            first, last = (moment.astimezone(UTC).replace(tzinfo=None) for moment in sorted((before, now)))
            if any(times.is_between(first, last).any() for times in moments):
                return False
    return True


def judge_bookings(
    bookings: pl.DataFrame,
    config: AnyConfig,
    *,
    selection: Selection | None = None,
    older: pl.Series | None = None,
    hashed: bool = True,
    matcher: Matcher | None = None,
    today: date | None = None,
) -> Batch:
    """Judge a frame of bookings as ``process_batch`` judges payloads.

    Args:
        bookings: the columns of ``read_bookings``; ``row`` is unique.
        config: as for ``process_batch``.
        selection: what was asked for; without it only the titles are filtered that the configuration ignores.
        older: Boolean, one per row: another payload of the same booking counts instead. A caller that
            judges several frames together computes it over all of them with ``transform.selection.superseded``.
        hashed: whether the booking hash, an eighth of the work, is computed. Without it ``booking_hash`` is left
            out and ``notes`` holds zeros.
        matcher: as for ``process_batch``.
        today: the last day on which a patient can be born; without it, the present day at the site.

    Returns:
        The batch, whose rejected rows have no payload.

    Raises:
        PluginSchemaError: the frame has not the known structure, or a row would be lost or doubled.
    """
    if not isinstance(config, PipelineConfig):
        config = PipelineConfig.of(config)
    before = _batch_reasons(older, selection)
    today = today or datetime.now(pytz.timezone(config.timezone)).date()
    with BoundedMatcher() as bounded:
        plan = transformed(bookings, config, before, matcher=matcher or bounded, today=today)
        if not hashed:  # Lazily left out, so that it is never computed.
            plan = plan.drop("booking_hash").with_columns(notes=pl.lit(_NO_HASH))
        wide = plan.collect(engine="in-memory")
    filtered, wide = _left_out(wide, selection or _EVERYTHING)
    sound = wide["reject_reasons"].list.len() == 0
    candidates = _rows_where(wide.select(entry_columns(config)), sound)
    verdict = split(candidates)
    if not verdict.accepted.all():
        emptied = _emptied(wide, candidates, sound, verdict)
        if emptied is not None:
            wide = emptied
            candidates = _rows_where(wide.select(entry_columns(config)), sound)
            verdict = split(candidates)
    batch = Batch(
        config,
        entries=_rows_where(candidates, verdict.accepted),
        rejected=_rejected(wide, sound, verdict),
        filtered=filtered,
        asked_for=wide,
        is_accepted=_accepted(sound, verdict),
    )
    _check_conservation(len(bookings), batch)
    return batch


def _emptied(
    wide: pl.DataFrame, candidates: pl.DataFrame, sound: pl.Series, verdict: Split
) -> pl.DataFrame | None:
    """Leave out what the gate finds broken in fields that not every entry has; None where there is no such thing.

    The repairs leave nothing of the kind behind; this is for the rule that one of them overlooks.
    """
    needed = fields.names(required=True)
    optional = {rule.code: rule.field for rule in entry_rules(candidates.columns) if rule.field not in needed}
    broken = (
        pl.DataFrame({"place": sound.arg_true().filter(~verdict.accepted), "code": verdict.reasons})
        .explode("code")
        .filter(pl.col("code").is_in(list(optional)))
    )
    if broken.is_empty():
        return None
    places = pl.int_range(pl.len(), dtype=pl.UInt32)
    for code, field in optional.items():
        here = places.is_in(broken["place"].filter(broken["code"] == code).implode())
        label = (
            pl.when(here).then(pl.lit([f"{field}:emptied"])).otherwise(pl.lit([], dtype=pl.List(pl.String)))
        )
        wide = wide.with_columns(
            pl.when(~here).then(pl.col(field)).alias(field), pl.col("repaired").list.concat(label)
        )
    return wide


def _left_out(wide: pl.DataFrame, selection: Selection) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return what was not asked for, with the reason, and the rest."""
    if selection == _EVERYTHING and not wide["title_ignored"].any():
        nothing = pl.lit(None, dtype=pl.String).alias("reason")
        return wide.clear().select(*_NAMED, nothing), wide
    why = wide.select(selection.filter_reason(wide.columns)).to_series()
    # A duplicate is rejected as such, wherever it would belong.
    why = why.set(wide["reject_reasons"].list.contains(reasons.DUPLICATE_BOOKING_ID), None)
    filtered = wide.select(_NAMED).with_columns(why).filter(why.is_not_null())
    return filtered, _rows_where(wide, why.is_null())


def _batch_reasons(older: pl.Series | None, selection: Selection | None) -> dict[str, pl.Expr]:
    """Return what only the batch and the selection tell, by reason code."""
    flags = {reasons.DUPLICATE_BOOKING_ID: pl.lit(older)} if older is not None and older.any() else {}
    return flags | (selection.reject_flags() if selection else {})


def _accepted(sound: pl.Series, verdict: Split) -> pl.Series:
    """Put the gate's verdict on the sound rows among all rows."""
    if verdict.accepted.all():
        return sound
    return sound.clone().scatter(sound.arg_true().filter(~verdict.accepted), False)


def _rejected(wide: pl.DataFrame, sound: pl.Series, verdict: Split) -> pl.DataFrame:
    """Return the rows that have a reason against them, or that the gate refused, in order."""
    refused = sound.arg_true().filter(~verdict.accepted)
    named = wide.select("row", "booking_id")
    turned_away = pl.concat(
        [
            named.filter(~sound).with_columns(wide["reject_reasons"].filter(~sound).alias("reasons")),
            named[refused.to_list()].with_columns(verdict.reasons.alias("reasons")),
        ]
    ).sort("row")
    return turned_away.select(
        "row",
        "booking_id",
        pl.col("reasons").list.join("; ").alias("reason"),
        "reasons",
        pl.lit(None, dtype=pl.String).alias("payload"),
    )


def _rows_where(frame: pl.DataFrame, wanted: pl.Series) -> pl.DataFrame:
    """Filter, without copying a wide frame where all or no rows are wanted: by far the most frequent cases."""
    if wanted.all():
        return frame
    return frame.filter(wanted) if wanted.any() else frame.clear()


def _check_conservation(given: int, batch: Batch) -> None:
    """Hold the law: every payload is in exactly one part."""
    accepted = batch.asked_for["row"].filter(batch.is_accepted)
    rows = pl.concat([accepted, batch.rejected["row"], batch.filtered["row"]])
    if len(accepted) != len(batch.entries) or len(rows) != given or rows.n_unique() != given:
        raise PluginSchemaError(
            f"{given} bookings, but {len(batch.entries)} entries of {len(accepted)} rows, "
            f"{len(batch.rejected)} rejected and {len(batch.filtered)} filtered"
        )
