"""Try the mapping before a scanner shows what comes out: on real bookings, and its patterns on invented titles (T011, T025).

The real bookings, those of the window and of the last thirty days, are rows of a list, which may hold less than a
booking's details do. What they lack cannot be judged, and is reported as such; it is never counted as wrong. Texts show
as shapes.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from itertools import islice
from re import _constants as sre  # type: ignore[attr-defined]  # no public name for Python's parse tree
from typing import TYPE_CHECKING, Any

import polars as pl

from pipeline.batch import process_batch, unknown_statuses
from pipeline.calpendo.fetch import as_payload, bulk_paths
from pipeline.calpendo.window import Window
from pipeline.config.field_mapping import searching, taken_groups, without_case
from pipeline.config.options import STEP_STATUSES
from pipeline.fields import SOURCE
from pipeline.matching import VALUE_STEPS, BoundedMatcher
from pipeline.transform.entries import STATUS, STUDY, patterned_rules
from pipeline.transform.extraction import TIMED_OUT, Scope, caught_by, translate
from pipeline.transform.json_values import UNDER, booking_id, find
from pipeline.transform.pattern_cost import CHARACTERS, REPEATS, characters, most_steps, parsed
from pipeline.transform.reasons import (
    DUPLICATE_BOOKING_ID,
    END_BEFORE_START,
    TIMES_MISSING,
    TIMES_UNREADABLE,
    explain,
    field_reason,
)
from pipeline.transform.selection import RESOURCE, RESOURCE_NAME, TITLE_IGNORED, Selection
from pipeline.transform.shapes import shape, shape_expr
from pipeline.transform.text import comparable
from pipeline.verify.setup_checks import Check, failed, ok, skipped, warning

if TYPE_CHECKING:
    from datetime import date, datetime

    from pipeline.batch import Batch
    from pipeline.config import PipelineConfig
    from pipeline.config.field_mapping import FieldRule


DAYS = 30
"""How far back bookings are looked at."""
AT_LEAST = 80.0
"""Percent of the bookings that a field's patterns have to match, unless ``--at-least`` says otherwise."""
_UNKNOWN_SHARE = 0.05
_SAME_FOR = 5
"""Different titles that get one value: from here on, and where they are more than half of all, it is no coincidence."""
_EXAMPLES = 3
_MOST_STATUSES = 10
_TIMES = ("formattedName", "properties.dateRange.start")
_TIME_CODES = (TIMES_MISSING, TIMES_UNREADABLE, END_BEFORE_START)
_RESOURCES = ("properties.resource.formattedName", "properties.resource.name", "properties.resource")

Sent = Mapping[str, Any]


def asked_span(window: Window, now: datetime) -> Window:
    """Return the window made longer: from thirty days ago to its own end, or to now where that is later."""
    begin = now.astimezone(window.start.tzinfo) - timedelta(days=DAYS)
    start = min(window.start, begin)
    return Window(start, max(window.end, now.astimezone(window.end.tzinfo)), min(window.query_start, start))


@dataclass(frozen=True)
class Rows:
    """Rows of a list; ``chosen`` says that the mapped fields were asked for by name, and not the server's own choice."""

    rows: Sequence[Mapping[str, Any]]
    chosen: bool

    def have(self, *paths: str) -> bool:
        """Return whether any row has a value at one of the paths."""
        return any(find(dict(row), path)[1] is not None for row in self.rows for path in paths)


def tried(
    found: Rows,
    config: PipelineConfig,
    window: Window,
    today: date,
    *,
    at_least: float = AT_LEAST,
    under_pylantir: bool = False,
) -> Iterator[Check]:
    """Yield a line for everything that a person should know about what the mapping makes of these bookings.

    Args:
        found: the rows.
        config: the configuration, as its host reads it.
        window: what the next cycle asks for.
        today: the last day on which a patient can be born.
        at_least: percent of the bookings that a field's patterns have to match.
        under_pylantir: what Pylantir would send is looked at.
    """
    rows = [
        dict(row) for row in found.rows if isinstance(row, Mapping) and booking_id(row.get("id")) is not None
    ]
    found = Rows(rows, found.chosen)
    has_study = any(rule.target == STUDY and found.have(rule.source) for rule in config.rules)
    selection = Selection(
        resources=config.resources if found.have(*_RESOURCES) else (),
        status=config.status_filter if found.have("status") else None,
        allowed_studies=config.allowed_studies if has_study else None,
    )
    payloads = [as_payload(row, bulk_paths(config), named=True) for row in rows]
    batch = process_batch(payloads, config, selection=selection, today=today)
    trial = _Trial(found, config, batch, window)
    if under_pylantir:
        trial.send()
    yield from trial.ignored()
    if trial.asked.is_empty():
        span = f"the last {DAYS} days or of the window"
        yield skipped("mapping", f"not tried: no booking of {span} is asked for")
        return
    yield from trial.fields(at_least)
    yield from trial.sameness()
    yield from trial.statuses()
    yield from trial.outcome()
    yield from trial.quiet_resources()


class _Trial:
    """One batch of list rows, and the lines that report on it."""

    def __init__(self, found: Rows, config: PipelineConfig, batch: Batch, window: Window) -> None:
        self.found, self.config, self.batch, self.window = found, config, batch, window
        is_older = pl.col("reject_reasons").list.contains(DUPLICATE_BOOKING_ID)
        self.asked = batch.asked_for.filter(pl.col("fault").is_null() & ~is_older)
        self.sent: dict[int, Sent] = dict(zip(batch.accepted["row"], batch.to_dicts(), strict=True))
        self.held: Counter[str] = Counter()
        self.host_repairs: dict[str, set[int]] = defaultdict(set)

    def send(self) -> None:
        """Make of the entries what Pylantir sends."""
        from pipeline.pylantir.wire import to_wire

        for row, entry in self.sent.items():
            wire = to_wire(entry, transliterating=self.config.transliterate)
            self.sent[row] = wire.record
            if wire.fault:
                self.held[wire.fault] += 1
            for name, kinds in wire.repaired.items():
                for kind in kinds:
                    self.host_repairs[field_reason(name, kind)].add(int(entry["source_record_id"]))

    def ignored(self) -> Iterator[Check]:
        """Report how many titles are left out; more than half of them means that a pattern matches too much."""
        left_out = self.batch.filtered.filter(reason=TITLE_IGNORED)["title"].unique(maintain_order=True)
        if left_out.is_empty():
            return
        every = len(left_out) + self.asked["title"].drop_nulls().n_unique()
        told = f"ignore_titles leaves out {len(left_out)} of {every} different titles, such as {shape(left_out[0])}"
        advice = 'write patterns that only such bookings hold, such as "ignore_titles": ["phantom"]'
        means_too_much = 2 * len(left_out) > every
        yield failed("ignored titles", told, advice) if means_too_much else ok("ignored titles", told)

    def fields(self, at_least: float) -> Iterator[Check]:
        """Report for each field with patterns how many bookings they match, and which mapped paths no booking has."""
        for rule in self.config.rules:
            if self.found.have(rule.source):
                continue
            told = f"{rule.target}: no booking of the list has a value at {rule.source!r}"
            if self.found.chosen and rule.source in bulk_paths(self.config):
                advice = "check the path's spelling, and that this user may see the field"
                yield warning("mapping", told, advice)
            else:
                yield skipped("mapping", f"{told}: it cannot be judged from a list")
        for rule in patterned_rules(self.config):
            if self.found.have(rule.source):
                yield from self._field(rule, at_least)

    def _field(self, rule: FieldRule, at_least: float) -> Iterator[Check]:
        source_column = f"{SOURCE}{rule.source}"
        source = pl.col(source_column)
        given = self.asked.filter((source != "").fill_null(value=False))
        if given.is_empty():
            yield skipped("mapping", f"{rule.target}: no booking that is asked for has {rule.source!r}")
            return
        is_missed = given["unmatched"].list.contains(rule.target)
        matched, every = given.filter(~is_missed), given.height
        percent = 100 * matched.height / every
        told = f"{rule.target}: {matched.height} of {every} bookings matched ({math.floor(percent)} %)"
        used: Counter[int] = Counter()
        if len(rule.extractions) > 1:
            with BoundedMatcher() as matcher:
                used.update(caught_by(matched[source_column], rule.extractions, matcher).drop_nulls())
            counts = (f"{place + 1}: {used[place]}" for place in range(len(rule.extractions)))
            told += f", by rule {', '.join(counts)}"
        if examples := self._examples(rule, matched):
            told += f"; {'; '.join(examples)}"
        missed = given.filter(is_missed).select(shape_expr(source).alias("shape"))["shape"]
        if matched.is_empty() or percent < at_least:
            commonest, count = missed.value_counts(sort=True).row(0)
            where = "; a title that is no subject's stands in ignore_titles" * (rule.source == "title")
            yield failed(
                "mapping",
                f"{told}; at least {at_least:g} % have to match",
                f"write a rule for {commonest!r} ({count} bookings), the commonest form that is missed{where}"
                "; calpendo-pipeline audit suggests rules",
            )
        else:
            yield ok("mapping", told)
        idle = [str(place + 1) for place in range(len(rule.extractions)) if used and not used[place]]
        if idle:
            rules = f"rule {', '.join(idle)} of {len(rule.extractions)}"
            advice = "check its pattern and its place: the first rule that matches counts"
            yield warning("mapping", f"{rule.target}: {rules} is the first to match of no booking", advice)
        if rule.target == "patient_id" and rule.on_no_match == "original" and len(missed):
            yield warning(
                "mapping",
                f"patient_id: {len(missed)} bookings that no pattern matches go out with all of {rule.source!r} as their id",
                'write "on_no_match": "reject", so that they are shown in the quarantine and not to a scanner',
            )

    def _examples(self, rule: FieldRule, matched: pl.DataFrame) -> list[str]:
        """Return what is sent for three bookings of different shapes, the commonest first."""
        shapes = (
            matched.select("row", rule.target, shape_expr(pl.col(f"{SOURCE}{rule.source}")).alias("shape"))
            .group_by("shape", maintain_order=True)
            .agg(pl.len(), pl.col("row").first(), pl.col(rule.target).first())
            .sort("len", descending=True, maintain_order=True)
            .head(_EXAMPLES)
        )
        told = []
        for text, _, row, value in shapes.iter_rows():
            made = self.sent[row].get(rule.target) if row in self.sent else value
            is_code = rule.target in (STATUS, "modality")
            shown = made if is_code else shape(str(made or ""))
            told.append(f"{text} → {shown or '(empty)'}")
        return told

    def sameness(self) -> Iterator[Check]:
        """Report where many different titles get one and the same id or name."""
        for target in ("patient_id", "patient_name"):
            rows = self.asked.filter((pl.col(target) != "").fill_null(value=False) & (pl.col("title") != ""))
            if rows.is_empty():
                continue
            titles = rows["title"].n_unique()
            by_value = rows.group_by(target).agg(pl.col("title").n_unique()).sort("title", descending=True)
            value, count = by_value.row(0)
            if count < _SAME_FOR or 2 * count <= titles:
                continue
            told = f"{target}: {count} of {titles} different titles get the same value ({shape(value)})"
            if target == "patient_id":
                advice = "let the pattern take what differs from subject to subject, or map another field"
                yield failed("mapping", told, advice)
            else:
                yield warning("mapping", told, "let the pattern take the name, or leave the field out")

    def statuses(self) -> Iterator[Check]:
        """Report the statuses that no table knows: such bookings count as SCHEDULED even if they are cancelled."""
        name = "statuses"
        sources = [rule.source for rule in self.config.rules if rule.target == STATUS] or ["status"]
        if not self.found.have(*sources):
            yield skipped(name, "the list shows none: they cannot be judged")
            return
        live = ~self.asked["cancelled"].fill_null(value=False)
        counts = unknown_statuses(self.config, self.asked, live)
        if not counts:
            yield ok(name, f"each of {self.asked.height} bookings has one that is known")
            return
        start, end = (at.astimezone(UTC).replace(tzinfo=None) for at in (self.window.start, self.window.end))
        inside = (pl.col("start_utc") < end) & ((pl.col("start_utc") >= start) | (pl.col("end_utc") > start))
        in_window = self.asked.select(inside.fill_null(value=False)).to_series()
        now_unknown = sum(unknown_statuses(self.config, self.asked, live & in_window).values())
        total = sum(counts.values())
        listed = ", ".join(f"{status!r} {count}" for status, count in list(counts.items())[:_MOST_STATUSES])
        told = f"{total} of {self.asked.height} bookings have one that is not known and count as SCHEDULED: {listed}"
        if now_unknown:
            told += f"; {now_unknown} of them in the window"
        is_serious = now_unknown or total >= _UNKNOWN_SHARE * self.asked.height
        yield (failed if is_serious else warning)(name, told, self._status_line(list(counts)))

    def _status_line(self, unknown: Sequence[str]) -> str:
        sources = {rule.source.removeprefix(UNDER) for rule in self.config.rules if rule.target == STATUS}
        if sources - {"status"}:
            return "add them to status_mapping, or map another field"
        from pipeline.verify.proposals import meaning_of_status

        named = [status for status in unknown if status][:_MOST_STATUSES]
        if not named:
            return "let this user see the bookings' status in Calpendo"
        meanings = {status: meaning_of_status(status) for status in named}
        table = dict(self.config.status_mapping) | {
            name: meaning or "SCHEDULED" for name, meaning in meanings.items()
        }
        written = json.dumps(table, ensure_ascii=False)
        doubtful = [repr(name) for name, meaning in meanings.items() if meaning is None]
        told = f'write "status_mapping": {written}'
        if doubtful:
            told += f", and for {', '.join(doubtful)} what it means: one of {', '.join(STEP_STATUSES)}"
        return told

    def outcome(self) -> Iterator[Check]:
        """Report how many bookings would be rejected, repaired, or held back by Pylantir."""
        absent = {rule.target for rule in self.config.rules if not self.found.have(rule.source)}
        every = self.batch.asked_for.height
        has_times = self.found.have(*_TIMES)
        if not has_times:
            yield skipped("rejections", "the list shows no times: they cannot be judged")
        rejected: dict[str, set[int]] = defaultdict(set)
        for row, codes in self.batch.rejected.select("row", "reasons").iter_rows():
            for code in codes:
                can_tell = has_times or code not in _TIME_CODES
                if can_tell and not any(code.startswith(f"{target}_") for target in absent):
                    rejected[code].add(row)
        yield from _counted("rejections", rejected, every, "would be rejected")
        repaired = {
            field_reason(target, kind): set(ids)
            for target, kinds in self.batch.flags.repaired.items()
            for kind, ids in kinds.items()
            if target not in absent
        }
        for code, ids in self.host_repairs.items():
            repaired[code] = repaired.get(code, set()) | ids
        yield from _counted("repairs", repaired, every, "would go out with a field that was repaired")
        for fault, count in self.held.items():
            yield warning(
                "held back",
                f"{count} of {every} bookings cannot be sent by Pylantir: {fault}",
                "correct them in Calpendo, or let the mapping take what Pylantir can send",
            )

    def quiet_resources(self) -> Iterator[Check]:
        """Report the configured resources without a booking: such a name is often misspelt."""
        if not self.found.have(*_RESOURCES):
            return
        asked, filtered = self.batch.asked_for, self.batch.filtered
        booked = pl.concat([asked[RESOURCE], asked[RESOURCE_NAME], filtered[RESOURCE]])
        seen = set(map(comparable, booked.drop_nulls().unique()))
        quiet = [name for name in self.config.resources if comparable(name) not in seen]
        if quiet:
            yield warning(
                "quiet resources",
                f"no booking in {DAYS} days: {', '.join(map(repr, quiet))}",
                "check that these are the resources that people book",
            )


def _counted(name: str, found: Mapping[str, set[int]], every: int, fate: str) -> Iterator[Check]:
    """Yield a line that counts the bookings, and each code's, with the remedy for the commonest."""
    if not found:
        return
    codes = Counter({code: len(ids) for code, ids in found.items()})
    listed = ", ".join(f"{code} {count}" for code, count in codes.most_common())
    told = f"{len(set().union(*found.values()))} of {every} bookings {fate}: {listed}"
    yield warning(name, told, explain(codes.most_common(1)[0][0]).remedy)


SLOW = 0.1
"""Seconds after which a title counts as slow."""
_PATIENCE = 2.0
_LENGTHS = (48, 200)
_ENDINGS = ("!", "_", " ", "", "@", "a", "1")
_BEYOND_ASCII = ("é", "é!")
"""Ends a title that the linear engine is not asked for, where it takes all others."""
_LIKED = "aA1 _-,.()"
"""What titles are made of, the most usual first."""
_MOST = 400


def patterns(config: PipelineConfig) -> Iterator[Check]:
    """Yield a warning for each pattern that an invented title shows to be slow."""
    for rule in config.rules:
        for place, each in enumerate(rule.extractions, start=1):
            title = slow_title(each.pattern, *taken_groups(each))
            if title is not None:
                which = rule.target if len(rule.extractions) == 1 else f"{rule.target}, rule {place}"
                loss = "the booking is rejected" if rule.target == "patient_id" else "the field is left empty"
                yield _slow(which, title, loss)
    for place, pattern in enumerate(config.ignore_titles):
        title = slow_title(pattern, 0, anywhere=True)
        if title is not None:
            yield _slow(f"ignore_titles[{place}]", title, "the booking is not ignored")


def _slow(which: str, title: str, loss: str) -> Check:
    return warning(
        "patterns",
        f"{which}: on the invented title {title!r} ({len(title)} characters) the pattern runs for more than "
        f"{SLOW:g} s; where it takes a second it is stopped, and {loss}",
        "write each repetition over characters that the next part cannot begin with",
    )


def slow_title(pattern: str, *groups: int, anywhere: bool = False) -> str | None:
    """Invent a title on which a pattern is slow, or return None where none was found; ``anywhere``: one of ``ignore_titles``."""
    rust = translate(without_case(pattern) if anywhere else pattern, *groups, anywhere=anywhere)
    # The linear engine takes it, but for titles beyond ASCII where case plays no part.
    if rust is not None and not (anywhere and rust.scope is Scope.PRINTABLE_ASCII):
        return None
    if anywhere:
        pattern = searching(pattern)
    for length in _LENGTHS:
        if most_steps(pattern, length, is_ascii=rust is None) <= VALUE_STEPS:
            continue
        endings = _ENDINGS if rust is None else _BEYOND_ASCII
        titles = list(dict.fromkeys(islice(_titles(pattern, length, endings), _MOST)))
        found = BoundedMatcher(rounds=(SLOW,), budget=_PATIENCE)(pattern, groups[0], titles)
        for title, answer in zip(titles, found, strict=True):
            if answer is TIMED_OUT:
                return title
    return None


def _titles(pattern: str, length: int, endings: Sequence[str]) -> Iterator[str]:
    """Yield texts that lead into each repetition, stay there as long as they can, and then do not match."""
    tree = parsed(pattern)
    for ending in endings:
        for lead, turn in _repetitions(list(tree), "", tree.state.flags):
            room = length - len(lead) - len(ending)
            if turn and room > 0:
                yield lead + (turn * (room // len(turn) + 1))[:room] + ending


def _repetitions(items: list[Any], lead: str, flags: int) -> Iterator[tuple[str, str]]:
    """Yield, for each repetition, a text that leads to it and texts for one of its turns."""
    for place, (kind, argument) in enumerate(items):
        for inside, inner in _inside(kind, argument, flags):
            if kind in REPEATS:
                turns = dict.fromkeys([_sample(inside, inner), *_starts(inside, inner)])
                yield from ((lead, turn) for turn in turns)
            yield from _repetitions(inside, lead, inner)
        lead += _sample(items[place : place + 1], flags)


def _inside(kind: Any, argument: Any, flags: int) -> Iterator[tuple[list[Any], int]]:
    """Yield the sequences that an item of a parsed pattern holds, with the flags that count in them."""
    if kind is sre.SUBPATTERN:
        yield list(argument[3]), int((flags | argument[1]) & ~argument[2]) & ~re.DEBUG
    elif kind is sre.BRANCH:
        yield from ((list(branch), flags) for branch in argument[1])
    elif kind in REPEATS:
        yield list(argument[2]), flags
    elif kind in (sre.ASSERT, sre.ASSERT_NOT):
        yield list(argument[1]), flags
    elif kind is sre.ATOMIC_GROUP:
        yield list(argument), flags


def _starts(items: list[Any], flags: int) -> Iterator[str]:
    """Yield each usual character that a sequence may consist of: what another part may match, too."""
    for kind, argument in items:
        if kind in CHARACTERS:
            found = characters(kind, argument, flags)
            yield from (liked for liked in _LIKED if found >> ord(liked) & 1)
        elif kind in REPEATS or kind in (sre.SUBPATTERN, sre.BRANCH):
            for inside, inner in _inside(kind, argument, flags):
                if kind is sre.BRANCH:
                    yield _sample(inside, inner)
                yield from _starts(inside, inner)


def _sample(items: list[Any], flags: int) -> str:
    """Return a short text that a sequence matches, as far as one can tell item by item."""
    text = ""
    for kind, argument in items:
        if kind in CHARACTERS:
            text += _character(characters(kind, argument, flags))
        elif kind not in (sre.ASSERT, sre.ASSERT_NOT):
            times = min(max(argument[0], 1), 8) if kind in REPEATS else 1
            text += "".join(_sample(*first) for first in islice(_inside(kind, argument, flags), 1)) * times
    return text


def _character(found: int) -> str:
    for liked in _LIKED:
        if found >> ord(liked) & 1:
            return liked
    return next((chr(point) for point in range(32, 127) if found >> point & 1), "")
