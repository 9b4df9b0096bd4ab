"""What ``init`` proposes for a site, from the bookings that were read: pure functions, no network, no clock.

A proposal is made only where the data leave no doubt: a title that no rule is sure of stays rejected, a status of unknown
meaning stays unmapped, and a resource whose name does not reveal its modality is not chosen.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Final

import polars as pl
import pytz

from pipeline import fields
from pipeline.audit.suggestions import TARGETS, SuggestedRule, suggest_rules
from pipeline.audit.titles import form, not_subjects
from pipeline.batch import Selection, process_batch
from pipeline.config import PipelineConfig
from pipeline.config.field_mapping import FieldRule, as_configured
from pipeline.matching import BoundedMatcher
from pipeline.transform.extraction import extract_series
from pipeline.transform.json_values import value_at
from pipeline.transform.shapes import shape
from pipeline.transform.text import comparable, normalised
from pipeline.transform.times import iso_instants, names_offset, pair_readings
from pipeline.transform.vocabularies import STATUSES
from pipeline.wording import counted, sendable

_STATUS_WORDS: Final[Mapping[str, Mapping[str, str]]] = tomllib.loads(
    files("pipeline.verify").joinpath("status_words.toml").read_text(encoding="utf-8")
)
"""What sites call the statuses: step status -> language -> words."""

_APART: Final = str.maketrans({"ø": "o", "æ": "ae", "å": "a", "ł": "l", "ß": "ss", "đ": "d"})
_SEPARATORS: Final = re.compile(r"[\s_./-]+")


def _plain(text: str) -> str:
    """Return a text without case, accents and marks between words: as people type in a hurry."""
    folded = unicodedata.normalize("NFD", comparable(text).translate(_APART))
    bare = "".join(letter for letter in folded if not unicodedata.combining(letter))
    return _SEPARATORS.sub(" ", bare).strip()


def _expanded() -> dict[str, str]:
    meanings: dict[str, set[str]] = {}
    for meaning, languages in _STATUS_WORDS.items():
        for entry in ",".join(languages.values()).split(","):
            stem, *endings = entry.strip().split("|")
            for ending in endings or [""]:
                meanings.setdefault(_plain(stem + ending), set()).add(meaning)
    return {word: found.pop() for word, found in meanings.items() if len(found) == 1}


_MEANINGS: Final = _expanded()
_BUILT_IN: Final = {comparable(name): meaning for name, meaning in STATUSES.items()}


def is_built_in(status: str) -> bool:
    """Return True for a status that needs no line in ``status_mapping``."""
    return comparable(status) in _BUILT_IN


def meaning_of_status(status: str) -> str | None:
    """Return the step status that a site's status means, or None where its meaning is in doubt."""
    return _BUILT_IN.get(comparable(status)) or _MEANINGS.get(_plain(status))


_TESLA: Final = re.compile(
    r"(?<![\d.,])(?:0[.,]\d+|1[.,]5|3|3[.,]0|4[.,]7|7|7[.,]0|9[.,]4|10[.,]5|11[.,][47]) ?t(?:esla)?(?![a-z]{2})"
)
_MODALITIES: Final[tuple[tuple[str, re.Pattern[str]], ...]] = tuple(
    (modality, re.compile(rf"(?<![^\W\d_])(?:{words})(?![^\W\d_])"))
    for modality, words in (
        ("MEG", "o?meg|magnetoencephalogra\\w*|magnetoenzephalogra\\w*"),
        ("EEG", "eeg|hd ?eeg|elec?tro[- ]?encephalogra\\w*|elektroenzephalogra\\w*"),
        ("PT", "pet|pet ?ct|tep"),
        ("CT", "ct|computed tomography|computertomogra\\w*|tdm|scanner ct"),
        ("US", "ultrasound|ultraschall|sonogra\\w*|echograph\\w*|echografie|ecografia|ecógrafo"),
        ("MG", "mammogra\\w*"),
        ("NM", "spect|spect ?ct"),
        ("ECG", "ecg|ekg"),
        (
            "MR",
            (
                "mr|mri|mrt|irm|rmn|rmi|fmri|irmf|fmrt|mrs|magnetom|prisma|skyra|trio|vida|verio|aera|avanto|terra|sola|lumina"
                "|cima|espree|symphony|sonata|allegra|biograph ?mmr|achieva|ingenia|intera|panorama|elition|ambition|signa|premier"
                "|architect|discovery ?mr\\d*|optima ?mr\\d*|vantage|titan|orian|galan|echelon|umr ?\\d*|biospec"
                "|magnetic resonance|magnetresonanz\\w*|kernspin\\w*|resonancia\\w*|resonância\\w*|risonanza\\w*|résonance\\w*"
                "|rezonans\\w*|magnetkamera\\w*"
            ),
        ),
    )
)
_HYBRID: Final = re.compile(r"(?<![a-z])(?:pet|tep)[ /-]*(?:mr|mri|irm|mrt)(?![a-z])|(?<![a-z])mmr(?![a-z])")
_NO_SCANNER: Final = re.compile(
    r"mock|simulator|simulateur|simulador|dummy|maquette|attrappe|sham|practice|übungs|training|oefen|"
    r"(?<![^\W\d_])coils?(?![^\W\d_])|spule|bobine|bobina|headphone|projector|beamer|goggle|eye ?track|stimul|laptop|workstation|"
    r"console|konsole|printer|"
    r"waiting|wartezimmer|warteraum|wachtkamer|attente|espera|attesa|interview|changing|umkleide|kleedkamer|vestiaire|"
    r"meeting|besprechung|seminar|vergader|réunion|reunion|reunión|riunion|control room|kontrollraum|prep(?:aration)? room|"
    r"preparation|vorbereitung|consult|office|büro|bureau|kitchen|küche|storage|lager|parking|locker|bedroom|"
    r"(?<![^\W\d_])desk|assistant|operator|radiographer|technician|mtra|staff|physicist|support|nurse|(?<![^\W\d_])car(?![^\W\d_])"
)
"""Things and rooms beside a scanner, and people who help: nobody lies in them."""


def modality_of_resource(name: str) -> str | None:
    """Return the DICOM modality (PS3.3 C.7.3.1.1.1) of a resource, None where its name leaves doubt.

    MEG has no code of its own in DICOM; ``OT`` stands for it, as in the example's configuration.
    """
    text = comparable(name)
    if is_no_scanner(name) or _HYBRID.search(text):
        return None
    spaced = re.sub(r"[_./-]+", " ", text)
    found = {modality for modality, words in _MODALITIES if words.search(spaced)}
    if {"CT", "PT"} <= found:
        found -= {"CT"}
    if _TESLA.search(text) and not found - {"MR"}:
        found = {"MR"}
    if len(found) != 1:
        return None
    modality = found.pop()
    return "OT" if modality == "MEG" else modality


def is_no_scanner(name: str) -> bool:
    """Return True for a resource whose name says that it is a room, a thing or a person beside a scanner."""
    return _NO_SCANNER.search(comparable(name)) is not None


EXAMPLES: Final = 3
"""Titles kept as examples of a form."""

_AGREEING: Final = 0.9
"""Share of the bookings' times that a zone has to agree with."""

_PATHS: Final[Mapping[str, tuple[str, ...]]] = {field.column: field.paths for field in fields.BOOKING}
_OFFSET: Final = re.compile(r"(Z|[+-][0-9:]+)$")


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
    """A status, how many bookings have it, what it means (None: in doubt), and whether it is known without a mapping."""

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
        """Return the counts in one line."""
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
    """Return the statuses of bookings, the most frequent first, with what each means where that is beyond doubt."""
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
            with BoundedMatcher() as matcher:
                taken = extract_series(series, replace(rule, on_no_match="null"), matcher).struct.field(
                    "value"
                )
            found[rule.target] = {title: value for title, value in zip(series, taken, strict=True) if value}
    return found


def appended(config: PipelineConfig, rules: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Return the mapping of some targets with rules behind those that they have; what becomes of the rest stays."""
    mapping: dict[str, Any] = {}
    for target, new in rules.items():
        today = next(rule for rule in config.rules if rule.target == target)
        written = as_configured(today.extractions) if today.extractions else []
        kept = [] if _is_placeholder(today) else written if isinstance(written, list) else [written]
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
    """Sort the titles into forms and propose a rule for each that names its subject beyond doubt.

    Args:
        payloads: bookings of the chosen resources.
        config: the one in force; titles that its rules match already are left out.
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
    def taken(rule: SuggestedRule | None, title: str) -> str | None:
        return None if rule is None else rule.taken(title)

    commonest = sorted(titles, key=lambda title: (-titles[title], title))[:EXAMPLES]
    examples = tuple((title, taken(id_rule, title), taken(name_rule, title)) for title in commonest)
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
        fitting = (each for each in _patterns_for(word) if all(is_in(each, title) for title in own))
        found = next(fitting, None)
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
        "api_path": choices.api_path if choices.base_url else "",
        "resources": list(choices.resources),
        "timezone": choices.timezone,
        "output_timezone": "site",
        "resource_modality_mapping": {name: code for name, code in choices.resources.items() if code},
        "status_mapping": dict(choices.statuses),
        "resource_ae_title": dict(choices.stations),
        "worklist_dir": choices.worklist_dir,
        "ignore_titles": list(choices.ignore),
        "fetch_mode": choices.fetch_mode,
        "query_date_format": choices.date_format,
        "field_mapping": field_mapping(choices),
    }
    # Without an address a file was read: it is filled in later, or stands in CALPENDO_API_URL.
    return {key: value for key, value in config.items() if value or key in _ALWAYS_WRITTEN}


_ALWAYS_WRITTEN: Final = ("resources", "resource_modality_mapping", "status_mapping")


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
    told = [
        (start.strip(), text_of(payload, "formatted_name"))
        for payload in payloads
        if isinstance(start := value_at(dict(payload), "properties.dateRange.start"), str)
        and names_offset(start.strip())
    ]
    starts, names = [start for start, _ in told], [name for _, name in told]
    instants = iso_instants(pl.Series(starts, dtype=pl.String))
    as_written = iso_instants(pl.Series([_OFFSET.sub("", start) for start in starts], dtype=pl.String))
    named = pair_readings(names, "UTC")[0].earliest
    walls = named.fill_null(as_written.set(as_written == instants, None))
    pairs = pl.DataFrame({"instant": instants, "wall": walls}).drop_nulls().unique(maintain_order=True)
    return tuple((instant.replace(tzinfo=UTC), wall) for instant, wall in pairs.iter_rows())


def agrees_with(zone: str, pairs: Iterable[tuple[datetime, datetime]]) -> bool:
    """Return whether a zone's clock shows what the bookings say (pytz), but for a few that are written wrongly."""
    there = pytz.timezone(zone)
    fits = [instant.astimezone(there).replace(tzinfo=None) == wall for instant, wall in pairs]
    return sum(fits) >= _AGREEING * len(fits)
