"""From what was read of a site to a proposed configuration: pure functions, no network, no file, no clock.

A proposal is made only where the data surely tell: a title that no rule surely understands stays rejected, a status that
nobody surely understands stays unmapped, a resource whose modality its name does not tell stays unchosen.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

import polars as pl

from pipeline import fields
from pipeline.audit.suggestions import TARGETS, SuggestedRule, suggest_rules
from pipeline.audit.titles import form, not_subjects
from pipeline.batch import Selection, process_batch
from pipeline.config import PipelineConfig
from pipeline.mapping import FieldRule, as_configured
from pipeline.matching import BoundedMatcher
from pipeline.transform.extraction import extract_series
from pipeline.transform.paths import value_at
from pipeline.transform.shapes import shape
from pipeline.transform.text import comparable, normalised
from pipeline.verify.known_words import is_built_in, is_no_scanner, meaning_of_status, modality_of_resource
from pipeline.wording import counted, sendable

EXAMPLES: Final = 3
"""Titles kept as examples of a form."""

_AGREEING: Final = 0.9
"""Share of the bookings' times that a zone has to agree with."""

_PATHS: Final[Mapping[str, tuple[str, ...]]] = {field.column: field.paths for field in fields.BOOKING}
_PAIR: Final = re.compile(r"\[\s*([^,\]]+?)\s*,")


@dataclass(frozen=True)
class SiteReading:
    """What was read of a site, from its server or from a file.

    Attributes:
        base_url: the server's address, empty where a file was read; ``api_path`` is where its API answers.
        payloads: bookings in the form of details; they name people.
        resources: names in the server's order, None where the server hides them or a file was read.
        has_modified: the server's list rows carry a modification time.
        date_format: how the server takes dates in a query.
        notes: what could not be read, in sentences without values.
        requests: how many the server was sent.
    """

    payloads: tuple[dict[str, Any], ...]
    base_url: str = ""
    api_path: str = ""
    resources: tuple[str, ...] | None = None
    has_modified: bool = False
    date_format: str | None = None
    notes: tuple[str, ...] = ()
    requests: int = 0

    def __repr__(self) -> str:
        """Show sizes only."""
        return f"SiteReading(payloads={len(self.payloads)}, requests={self.requests})"


@dataclass(frozen=True)
class Resource:
    """A resource, how many of the bookings it has, and what is proposed: its modality, and whether it is wanted."""

    name: str
    bookings: int
    modality: str | None
    no_scanner: bool

    @property
    def is_proposed(self) -> bool:
        """True where its name tells that subjects are examined there, and how."""
        return self.modality is not None


@dataclass(frozen=True)
class Status:
    """A status, how many bookings have it, what it surely means (None: nobody knows), and whether that needs a line."""

    name: str
    bookings: int
    meaning: str | None
    is_built_in: bool


@dataclass(frozen=True)
class TitleForm:
    """Titles that are written alike: bookings, examples with what the rules take (they name people), the rules.

    ``nobody`` holds the words that say that nobody is scanned; a form with neither rule nor such words is for a person
    to look at.
    """

    shape: str
    bookings: int
    examples: tuple[tuple[str, str | None, str | None], ...]
    id_rule: SuggestedRule | None = None
    name_rule: SuggestedRule | None = None
    nobody: tuple[str, ...] = ()


@dataclass(frozen=True)
class Titles:
    """What is proposed for titles: forms of most bookings first, the rules in order, and patterns to ignore."""

    forms: tuple[TitleForm, ...]
    id_rules: tuple[SuggestedRule, ...]
    name_rules: tuple[SuggestedRule, ...]
    ignore: tuple[str, ...]


@dataclass(frozen=True)
class Choices:
    """What a person, the flags or the proposals decided: all that a configuration is made of.

    ``resources`` maps a wanted resource to its modality (None: not told), ``stations`` to the scanner's AE title; ``worklist_dir``
    is the directory of worklist files, where one is kept.
    ``id_rules`` and ``name_rules`` are ``_extract`` objects in order.
    """

    base_url: str
    api_path: str
    resources: Mapping[str, str | None]
    timezone: str
    stations: Mapping[str, str] = field(default_factory=dict)
    worklist_dir: str | None = None
    statuses: Mapping[str, str] = field(default_factory=dict)
    id_rules: tuple[Mapping[str, Any], ...] = ()
    name_rules: tuple[Mapping[str, Any], ...] = ()
    ignore: tuple[str, ...] = ()
    fetch_mode: str | None = None
    date_format: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What the real mapping makes of the bookings that were read, of the chosen resources."""

    listed: int
    right: int
    ignored: int
    to_look_at: int

    def __str__(self) -> str:
        """Say it in one line."""
        return f"{self.right} of {self.listed} right by your choice, {self.ignored} ignored, {self.to_look_at} to look at"


def text_of(payload: Mapping[str, Any], column: str) -> str:
    """Return a booking's field as normalised text, empty where there is none or the account may not read it."""
    for path in _PATHS[column]:
        value = value_at(dict(payload), path)
        if isinstance(value, str):
            return normalised(value)
    return ""


def propose_resources(reading: SiteReading) -> tuple[Resource, ...]:
    """Return the server's resources, and those that only bookings name, with a modality where the name tells one."""
    counted = Counter(text_of(payload, "resource") for payload in reading.payloads)
    by_key: Counter[str] = Counter()
    for name, number in counted.items():
        by_key[comparable(name)] += number
    names: dict[str, str] = {}
    for name in (*(reading.resources or ()), *(name for name, _ in counted.most_common() if name)):
        names.setdefault(comparable(name), name)
    return tuple(
        Resource(name, by_key[key], modality_of_resource(name), is_no_scanner(name))
        for key, name in names.items()
    )


def propose_statuses(payloads: Iterable[Mapping[str, Any]]) -> tuple[Status, ...]:
    """Return the statuses of bookings, the most frequent first, with what each surely means."""
    counted: dict[str, Counter[str]] = {}
    for payload in payloads:
        if status := text_of(payload, "status"):
            counted.setdefault(comparable(status), Counter())[status] += 1
    found = [
        Status(spelt.most_common(1)[0][0], spelt.total(), meaning_of_status(key), is_built_in(key))
        for key, spelt in counted.items()
    ]
    return tuple(sorted(found, key=lambda status: -status.bookings))


def of_resources(payloads: Iterable[dict[str, Any]], resources: Iterable[str]) -> tuple[dict[str, Any], ...]:
    """Return the bookings of some resources; those whose resource is hidden belong to all."""
    wanted = {comparable(name) for name in resources}
    return tuple(
        payload
        for payload in payloads
        if not (name := text_of(payload, "resource")) or comparable(name) in wanted
    )


def counted_titles(payloads: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """Return how many bookings each title has."""
    titles = (text_of(payload, "title") for payload in payloads)
    return Counter(title for title in titles if title and sendable(title))


def of_unknown_statuses(
    payloads: Iterable[dict[str, Any]], config: PipelineConfig
) -> tuple[dict[str, Any], ...]:
    """Return the bookings whose status a configuration does not name."""
    named = set(map(comparable, config.status_mapping))
    return tuple(payload for payload in payloads if comparable(text_of(payload, "status")) not in named)


def taken_today(config: PipelineConfig, titles: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return what a configuration's rules take from titles already: target -> title -> value."""
    series = pl.Series(list(titles), dtype=pl.String)
    found: dict[str, dict[str, str]] = {}
    for rule in config.rules:
        if (
            rule.target in TARGETS
            and rule.source == "title"
            and rule.extractions
            and not _is_placeholder(rule)
        ):
            taken = extract_series(
                series, replace(rule, on_no_match="null"), BoundedMatcher()
            ).struct.unnest()
            found[rule.target] = {
                title: value for title, value in zip(series, taken["value"], strict=True) if value
            }
    return found


def appended(config: PipelineConfig, rules: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Return the mapping of some targets with rules behind those that they have; what becomes of the rest stays."""
    mapping: dict[str, Any] = {}
    for target, new in rules.items():
        today = next(rule for rule in config.rules if rule.target == target)
        kept: list[Any] = []
        if today.extractions and not _is_placeholder(today):
            written = as_configured(today.extractions)
            kept = written if isinstance(written, list) else [written]
        # A title that was taken as a whole, because no rule was written, is nobody's id or name.
        instead = "reject" if target == "patient_id" else "null"
        on_no_match = today.on_no_match if today.extractions else instead
        mapping[target] = {"source_field": today.source, "_extract": _rules([*kept, *new], on_no_match)}
        if today.values:
            mapping[target]["values"] = dict(today.values)
    return mapping


def _is_placeholder(rule: FieldRule) -> bool:
    return [each.pattern for each in rule.extractions] in ([_NO_ID["pattern"]], [_NO_NAME["pattern"]])


def propose_titles(payloads: Iterable[Mapping[str, Any]], config: PipelineConfig | None = None) -> Titles:
    """Sort the titles into forms and propose a rule for each that surely tells who the subject is.

    Args:
        payloads: bookings of the chosen resources.
        config: one in force; what its rules take stays, and is no form any more.
    """
    counted = counted_titles(payloads)
    known = {} if config is None else taken_today(config, counted)
    made = suggest_rules(counted, known)
    from_titles = {rule.target for rule in config.rules if rule.source == "title"} if config else {*TARGETS}
    ids = made["patient_id"].rules if "patient_id" in from_titles else ()
    names = made["patient_name"].rules if "patient_name" in from_titles else ()
    ignore = propose_ignored(counted, ids)
    if config is not None:
        already = known.get("patient_id", {})
        ignore = tuple(pattern for pattern in ignore if not any(is_in(pattern, title) for title in already))
        counted = Counter(
            {
                title: number
                for title, number in counted.items()
                if title not in already and not any(is_in(pattern, title) for pattern in config.ignore_titles)
            }
        )
    by_form: dict[object, Counter[str]] = {}
    of_form: dict[object, tuple[SuggestedRule | None, SuggestedRule | None, tuple[str, ...]]] = {}
    for title, number in counted.items():
        id_rule = next((rule for rule in ids if rule.taken(title) is not None), None)
        name_rule = next((rule for rule in names if rule.taken(title) is not None), None)
        nobody = () if id_rule else tuple(sorted(not_subjects(title)))
        key = (id_rule, name_rule) if id_rule else ("nobody", nobody) if nobody else form(shape(title))
        by_form.setdefault(key, Counter())[title] += number
        of_form[key] = (id_rule, name_rule, nobody)
    forms = [_title_form(titles, *of_form[key]) for key, titles in by_form.items()]
    forms.sort(key=lambda each: -each.bookings)
    return Titles(tuple(forms), ids, names, ignore)


def _title_form(
    titles: Counter[str],
    id_rule: SuggestedRule | None,
    name_rule: SuggestedRule | None,
    nobody: tuple[str, ...],
) -> TitleForm:
    examples = tuple(
        (
            title,
            None if id_rule is None else id_rule.taken(title),
            None if name_rule is None else name_rule.taken(title),
        )
        for title, _ in sorted(titles.items(), key=lambda item: (-item[1], item[0]))[:EXAMPLES]
    )
    return TitleForm(shape(examples[0][0]), titles.total(), examples, id_rule, name_rule, nobody)


def propose_ignored(titles: Iterable[str], id_rules: Sequence[SuggestedRule]) -> tuple[str, ...]:
    """Return patterns for ``ignore_titles``: one for each word that says that nobody is scanned.

    None of them is found in a title from which a rule takes an id.
    """
    subjects = [title for title in titles if any(rule.taken(title) is not None for rule in id_rules)]
    nobody: dict[str, list[str]] = {}
    for title in titles:
        for word in not_subjects(title):
            nobody.setdefault(word, []).append(title)
    patterns = []
    for word, own in sorted(nobody.items(), key=lambda item: (-len(item[1]), item[0])):
        found = next(
            (pattern for pattern in _patterns_for(word) if all(is_in(pattern, title) for title in own)), None
        )
        if found is not None and not any(is_in(found, title) for title in subjects):
            patterns.append(found)
    return tuple(patterns)


def _patterns_for(word: str) -> tuple[str, str, str]:
    """A word as it stands between blanks, between any marks, and as a part of longer words."""
    text = re.sub(r"([.^$*+?{}\[\]\\|()])", r"\\\1", word)
    return rf"\b{text}\b", rf"(?:^|[\W\d_]){text}(?:$|[\W\d_])", text


def is_in(pattern: str, title: str) -> bool:
    """Return whether a pattern of ``ignore_titles`` is found in a title."""
    return re.search(pattern, title, re.IGNORECASE) is not None


def proposed_choices(
    reading: SiteReading, *, timezone: str, resources: Mapping[str, str | None] | None = None
) -> Choices:
    """Take every proposal that is sure; ``resources`` are the chosen ones where somebody has chosen already."""
    if resources is None:
        resources = {each.name: each.modality for each in propose_resources(reading) if each.is_proposed}
    payloads = of_resources(reading.payloads, resources)
    titles = propose_titles(payloads)
    return Choices(
        base_url=reading.base_url,
        api_path=reading.api_path,
        resources=resources,
        timezone=timezone,
        statuses={
            status.name: status.meaning
            for status in propose_statuses(payloads)
            if status.meaning is not None and not status.is_built_in
        },
        id_rules=tuple(as_rule(rule) for rule in titles.id_rules if not rule.visit_in_doubt),
        name_rules=proposed_names(titles),
        ignore=titles.ignore,
        fetch_mode="changed" if reading.has_modified else None,
        date_format=reading.date_format,
    )


def field_mapping(choices: Choices) -> dict[str, Any]:
    """Return the mapping: id and name by their rules, the study, the booking's number."""
    return {
        "patient_id": {"source_field": "title", "_extract": _rules(choices.id_rules or [_NO_ID], "reject")},
        "patient_name": {
            "source_field": "title",
            "_extract": _rules(choices.name_rules or [_NO_NAME], "null"),
        },
        "study_description": "properties.project.formattedName",
        "accession_number": "id",
    }


_NO_ID: Final = {"_comment": "no rule is known yet, so every booking is rejected", "pattern": "(?!)"}
_NO_NAME: Final = {"_comment": "no name stands in the titles", "pattern": "^()", "group": 1}


def as_rule(suggested: SuggestedRule) -> dict[str, Any]:
    """Return an ``_extract`` object with a comment that says what it is for; the comment shows a shape, no title."""
    return {"_comment": f"{counted(suggested.bookings, 'booking')} like {suggested.shape}", **suggested.rule}


def proposed_names(titles: Titles) -> tuple[dict[str, Any], ...]:
    """Return the rules for names, and behind them one for each form of titles that holds an id and no name."""
    nameless = [
        each.id_rule
        for each in titles.forms
        if each.id_rule is not None and each.name_rule is None and not each.id_rule.visit_in_doubt
    ]
    return (*map(as_rule, titles.name_rules), *map(as_nameless, dict.fromkeys(nameless)))


def as_nameless(id_rule: SuggestedRule) -> dict[str, Any]:
    """Return an ``_extract`` object that takes no name from the titles from which a rule takes an id.

    Without it such titles would count as ones whose name is missed.
    """
    pattern = f"^(){id_rule.pattern.removeprefix('^')}"
    return {"_comment": f"no name stands in titles like {id_rule.shape}", "pattern": pattern, "group": 1}


def _rules(rules: Sequence[Mapping[str, Any]], on_no_match: str) -> list[dict[str, Any]]:
    """Return an ``_extract`` list, the last rule of which says what becomes of a title that none matches."""
    kept = [{key: value for key, value in rule.items() if key != "on_no_match"} for rule in rules]
    kept[-1]["on_no_match"] = on_no_match
    return kept


def configuration(choices: Choices) -> dict[str, Any]:
    """Return a source's ``config`` block for the choices; what is at its default is left out."""
    config: dict[str, Any] = {
        "base_url": choices.base_url,
        "api_path": choices.api_path,
        "resources": list(choices.resources),
        "timezone": choices.timezone,
        "output_timezone": "site",
        "resource_modality_mapping": {
            name: modality for name, modality in choices.resources.items() if modality is not None
        },
        "status_mapping": dict(choices.statuses),
    }
    if choices.stations:
        config["resource_ae_title"] = dict(choices.stations)
    if choices.worklist_dir:
        config["worklist_dir"] = choices.worklist_dir
    if choices.ignore:
        config["ignore_titles"] = list(choices.ignore)
    if choices.fetch_mode is not None:
        config["fetch_mode"] = choices.fetch_mode
    if choices.date_format is not None:
        config["query_date_format"] = choices.date_format
    config["field_mapping"] = field_mapping(choices)
    if (
        not choices.base_url
    ):  # A file was read: the address is filled in later, or stands in CALPENDO_API_URL.
        del config["base_url"], config["api_path"]
    return config


def outcome(payloads: Sequence[dict[str, Any]], config: Mapping[str, Any]) -> Outcome:
    """Run the real mapping over the bookings and count what comes out."""
    checked = PipelineConfig.from_dict(config, environ={}, offline=True)
    kept = of_resources(payloads, checked.resources)
    batch = process_batch(kept, checked, selection=Selection())
    ignored = int((batch.filtered["reason"] == "title_ignored").sum())
    return Outcome(len(kept), len(batch.entries), ignored, len(kept) - len(batch.entries) - ignored)


def clock_offsets(payloads: Iterable[Mapping[str, Any]]) -> tuple[tuple[datetime, datetime], ...]:
    """Return pairs of an instant (aware, UTC) and what the site's clock showed then, where bookings tell both.

    A booking tells both by a time with the site's own offset, or by ``formattedName`` beside a time in UTC.
    """
    pairs: dict[tuple[datetime, datetime], None] = {}
    for payload in payloads:
        written = value_at(dict(payload), "properties.dateRange.start")
        start = _moment(written)
        if start is None or start.tzinfo is None:
            continue
        instant = start.astimezone(UTC)
        named = _PAIR.match(text_of(payload, "formatted_name"))
        wall = _moment(named[1].removesuffix(".0")) if named else None
        if wall is None and start.utcoffset():
            wall = start.replace(tzinfo=None)
        if wall is not None and wall.tzinfo is None:
            pairs[instant, wall] = None
    return tuple(pairs)


def _moment(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        return datetime.fromisoformat(value.strip())
    except ValueError:
        return None


def agrees_with(zone: str, pairs: Iterable[tuple[datetime, datetime]]) -> bool:
    """Return whether a zone's clock shows what the bookings say (pytz), but for a few that are written wrongly."""
    import pytz

    there = pytz.timezone(zone)
    fits = [instant.astimezone(there).replace(tzinfo=None) == wall for instant, wall in pairs]
    return sum(fits) >= _AGREEING * len(fits)
