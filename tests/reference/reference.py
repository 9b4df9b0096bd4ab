"""The task list's row-by-row way (``row_by_row``) with the design's decisions added, in plain Python.

It shares no code with ``pipeline.transform``: the differential tests hold the columns against it. Slow and plain on
purpose; every decision is one visible line.
"""

# ruff: noqa: DTZ001, DTZ007, DTZ901  wall clock and naive UTC throughout

from __future__ import annotations

import hashlib
import html
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as of
from datetime import date, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytz

from pipeline.config import PipelineConfig
from pipeline.config.field_mapping import ExtractionRule, FieldRule

STATUSES = {
    "requested": "SCHEDULED",
    "tentative": "SCHEDULED",
    "approved": "SCHEDULED",
    "pending": "SCHEDULED",
    "in progress": "IN_PROGRESS",
    "completed": "COMPLETED",
    "denied": "DISCONTINUED",
    "cancelled": "DISCONTINUED",
    "canceled": "DISCONTINUED",
}
COMPUTED = ("modality", "performed_procedure_step_status")
LIMITS = {
    "patient_id": ("LO", 64),
    "patient_name": ("PN", 64),
    "patient_birth_date": ("DA", None),
    "patient_sex": ("CS", 16),
    "patient_weight_lb": ("DS", 16),
    "accession_number": ("SH", 16),
    "referring_physician_name": ("PN", 64),
    "modality": ("CS", 16),
    "study_description": ("LO", 64),
    "study_instance_uid": ("UI", 64),
    "scheduled_station_aetitle": ("AE", 16),
    "performing_physician": ("PN", 64),
    "procedure_description": ("LO", 64),
    "protocol_name": ("LO", 64),
    "station_name": ("SH", 16),
    "hisris_coding_designator": ("SH", 16),
    "performed_procedure_step_status": ("CS", 16),
}
CUT = {name for name, (vr, _) in LIMITS.items() if vr in ("LO", "PN")} - {"patient_id"} | {"station_name"}
EMPTIED = {
    "accession_number",
    "study_instance_uid",
    "scheduled_station_aetitle",
    "hisris_coding_designator",
}
NEEDED = {"patient_id", "modality", "performed_procedure_step_status"}
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
JOINERS = "\u200c\u200d"
UNSEEN = "\u00ad\u061c\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
MISSING = object()


@dataclass
class Outcome:
    """What became of one payload: an entry, the reasons against it, or neither where its title is ignored."""

    booking_id: int | None
    entry: dict[str, Any] | None
    reasons: list[str]
    repaired: list[str] = of(default_factory=list)
    translated: list[str] = of(default_factory=list)


def reference_batch(payloads: Sequence[Any], config: PipelineConfig, today: date) -> list[Outcome]:
    """Return one outcome per payload, in order."""
    bookings = [_load(payload) for payload in payloads]
    newest = _newest(bookings, config)
    outcomes = []
    for row, booking in enumerate(bookings):
        if isinstance(booking, str):
            outcomes.append(Outcome(None, None, [booking]))
            continue
        booking_id = _booking_id(booking)
        torn = _torn(booking, config)
        is_older = booking_id is not None and not torn and newest[booking_id] != row
        if _title_ignored(booking, config) and not is_older:
            outcomes.append(Outcome(booking_id, None, []))
            continue
        if torn:
            outcomes.append(Outcome(booking_id, None, [torn]))
            continue
        entry, reasons = _entry(booking, booking_id, config)
        repaired, translated = _repair(entry, today)
        if config.resource_ae_title and _is_blank(entry.get("scheduled_station_aetitle")):
            entry["scheduled_station_aetitle"] = _of_resource(_resource(booking), config.resource_ae_title)
        for rule in config.rules:
            lost = isinstance(found := _find(booking, rule.source), str) and _text(found) not in (found, None)
            if lost and rule.target in entry and rule.target not in COMPUTED:
                repaired.append(f"{rule.target}:suspect")
        repaired = list(dict.fromkeys(repaired))
        if is_older:
            reasons.insert(0, "duplicate_booking_id")
        reasons = reasons or _limits_broken(entry)
        # Only identity and time reject a booking; a field that none of the repairs knows goes out empty.
        for name in [name for name in entry if name not in NEEDED and f"{name}_bad_character" in reasons]:
            entry[name] = None
            repaired.append(f"{name}:emptied")
            reasons.remove(f"{name}_bad_character")
        outcomes.append(
            Outcome(booking_id, None, reasons)
            if reasons
            else Outcome(booking_id, entry, [], sorted(repaired), sorted(translated))
        )
    return outcomes


def _load(payload: Any) -> dict[str, Any] | str:
    if isinstance(payload, (str, bytes)):
        if isinstance(payload, bytes):
            payload = payload.decode("utf-8", "surrogateescape")
        try:
            payload = json.loads(payload, strict=False)
        except (ValueError, RecursionError):
            return "payload_not_json"
    return payload if isinstance(payload, dict) else "payload_not_object"


def _newest(bookings: list[Any], config: PipelineConfig) -> dict[int, int]:
    best: dict[int, tuple[datetime, int]] = {}
    for row, booking in enumerate(bookings):
        booking_id = None if isinstance(booking, str) else _booking_id(booking)
        if booking_id is None or _torn(booking, config):
            continue
        modified = _iso_naive_utc(_text(_find(booking, "properties.modified"))) or datetime.min
        if booking_id not in best or (modified, row) >= best[booking_id]:
            best[booking_id] = (modified, row)
    return {booking_id: row for booking_id, (_, row) in best.items()}


def _booking_id(booking: dict[str, Any]) -> int | None:
    value = _find(booking, "id")
    return value if type(value) is int and 0 < value < 2**53 else None


def _torn(booking: dict[str, Any], config: PipelineConfig) -> str | None:
    """Half a surrogate pair in a text that identity or start is taken from; a byte that is no UTF-8 becomes one."""
    paths = [rule.source for rule in config.rules if rule.target == "patient_id"]
    if (_text(_find(booking, "formattedName")) or "").startswith("["):
        paths.insert(0, "formattedName")
    else:
        paths.append("properties.dateRange.start")
    for path in paths:
        halves = re.findall("[\ud800-\udfff]", str(_find(booking, path)))
        if halves and isinstance(_find(booking, path), str):
            return (
                "text_undecodable"
                if any("\udc80" <= half <= "\udcff" for half in halves)
                else "lone_surrogate"
            )
    return None


def _candidates(booking: dict[str, Any], path: str) -> list[Any]:
    """Values of a path by the order of look-up; MISSING where a key is not there."""
    properties = booking.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    plain = path.removeprefix("properties.")
    if plain == path:
        return [_walk(booking, path), _key(booking, path), _walk(properties, path), _key(properties, path)]
    below = _walk(properties, plain)
    return [below, _key(booking, path), _walk(booking, plain), _key(booking, plain), _key(properties, plain)]


def _key(container: dict[str, Any], key: str) -> Any:
    return container.get(key, MISSING)


def _walk(container: Any, path: str) -> Any:
    for key in path.split("."):
        if not isinstance(container, dict):
            return MISSING
        container = container.get(key, MISSING)
    return container


def _find(booking: dict[str, Any], path: str) -> Any:
    return next(
        (value for value in _candidates(booking, path) if value is not MISSING and value is not None), None
    )


def _hash_value(booking: dict[str, Any], path: str) -> Any:
    """The raw value; a null in the task list's own place stays null, a missing one is the empty text."""
    found = _find(booking, path)
    if found is not None:
        return found
    return None if _candidates(booking, path)[0] is None else ""


def _text(value: Any) -> str | None:
    if isinstance(value, (str, bool, int, float)):
        text = str(value)
        return None if text == "<Hidden>" else re.sub("[\ud800-\udfff]", "", text)
    return None


def _entry(
    booking: dict[str, Any], booking_id: int | None, config: PipelineConfig
) -> tuple[dict[str, Any], list[str]]:
    reasons = [] if booking_id is not None else ["booking_id_invalid"]
    start, end, time_reason, rendered = _times(booking, config.timezone)
    if time_reason:
        reasons.append(time_reason)

    entry: dict[str, Any] = {}
    no_match = []
    for rule in config.rules:
        value, matched = _extract(_find(booking, rule.source), rule)
        if rule.target not in COMPUTED:
            entry[rule.target] = value
        if not matched and rule.on_no_match == "reject":
            no_match.append(rule.target)
    reasons += [f"{target}_no_match" for target in no_match]
    if _is_blank(entry["patient_id"]) and "patient_id" not in no_match:
        reasons.append("patient_id_missing")
    if isinstance(entry.get("patient_name"), str):
        entry["patient_name"] = _name_in_form(entry["patient_name"], config.patient_name_form)

    if start and end:
        zone = config.timezone if config.output_timezone == "site" else config.output_timezone
        shown = pytz.utc.localize(start).astimezone(pytz.timezone(zone))
        entry["scheduled_start_date"] = shown.date()
        entry["scheduled_start_time"] = shown.time()
        entry["scheduled_procedure_step_duration"] = int((end - start) / timedelta(minutes=1))
    entry["modality"] = _modality(_vocabulary_text(booking, config, "modality"), config)
    entry["performed_procedure_step_status"] = _status(
        booking, _vocabulary_text(booking, config, "performed_procedure_step_status"), config
    )
    entry["data_source"] = config.source_name
    entry["source_record_id"] = str(booking_id)
    entry["notes"] = json.dumps({"booking_hash": _hash(booking, rendered)})
    return entry, reasons


def _extract(found: Any, rule: FieldRule) -> tuple[str | None, bool]:
    """Match the text without joiners; a name gets them back where they stood."""
    if _text(found) is None:
        return ("" if rule.extractions else None), True
    value, joined = normal(_text(found))
    places = [place for place, character in enumerate(joined) if character not in JOINERS]
    places.append(len(joined))

    def taken(begin: int, end: int) -> str:
        keeps = rule.target not in LIMITS or rule.target in CUT
        return joined[places[begin] : places[end]] if keeps and end > begin else value[begin:end]

    if not rule.extractions or not value:
        return _translated(taken(0, len(value)), rule.values), True
    for one in rule.extractions:
        match = re.match(one.pattern, value)
        if match is None:
            continue
        if one.template is None:
            begin, end = match.span(one.group)
            part = None if begin < 0 else taken(begin, end)
        else:
            part = _template_filled(one, match, taken)
            if part is None:
                continue
        return _translated(_translated(part, one.values), rule.values), True
    return _translated(taken(0, len(value)) if rule.on_no_match == "original" else None, rule.values), False


def _template_filled(rule: ExtractionRule, match: re.Match[str], taken: Any) -> str | None:
    """The template character by character; None where a group in it took no part."""
    made, rest = "", rule.template or ""
    while rest:
        if rest[:2] in ("{{", "}}"):
            made, rest = made + rest[0], rest[2:]
        elif rest[0] == "{":
            name, _, rest = rest[1:].partition("}")
            begin, end = match.span(int(name) if name.isdecimal() else name)
            if begin < 0:
                return None
            made += taken(begin, end)
        else:
            made, rest = made + rest[0], rest[1:]
    return made


def _translated(text: str | None, values: Sequence[tuple[str, str]]) -> str | None:
    """What the table says for a text, compared normalised and without case."""
    for known, instead in values:
        if text and normal(known)[0].casefold() == normal(text)[0].casefold():
            return instead
    return text


def _title_ignored(booking: dict[str, Any], config: PipelineConfig) -> bool:
    """Whether a pattern is found anywhere in the title; not where characters of it were lost."""
    found = _find(booking, "title")
    text = _text(found)
    if text is None or (isinstance(found, str) and text != found):
        return False
    return any(re.search(pattern, normal(text)[0], re.IGNORECASE) for pattern in config.ignore_titles)


def normal(text: str) -> tuple[str, str]:
    """A text as rules.md's "Text from people" has it, without joiners and with them."""
    text = "".join(character for character in text if character not in UNSEEN).replace("\r\n", " ")
    text = "".join(" " if unicodedata.category(c) in ("Cc", "Zs", "Zl", "Zp") else c for c in text)
    joined = unicodedata.normalize("NFC", text)
    bare = "".join(character for character in joined if character not in JOINERS)
    if unicodedata.normalize("NFC", bare) != bare:
        bare = joined = unicodedata.normalize("NFC", bare)
    letters = [place for place, character in enumerate(joined) if character not in JOINERS + " "]
    if not letters:
        return "", ""
    end = letters[-1] + 1
    while end < len(joined) and joined[end] in JOINERS:
        end += 1
    return bare.strip(" "), joined[letters[0] : end]


def _normal_text(value: Any) -> str | None:
    text = _text(value)
    return None if text is None else normal(text)[0]


def _vocabulary_text(booking: dict[str, Any], config: PipelineConfig, target: str) -> str | None:
    for rule in config.rules:
        if rule.target == target:
            return _extract(_find(booking, rule.source), rule)[0]
    return _resource(booking) if target == "modality" else _normal_text(_find(booking, "status"))


def _resource(booking: dict[str, Any]) -> str | None:
    parts = ("properties.resource.formattedName", "properties.resource.name", "properties.resource")
    texts = (_normal_text(_find(booking, part)) for part in parts)
    return next((text for text in texts if text is not None), None)


def _status(booking: dict[str, Any], text: str | None, config: PipelineConfig) -> str:
    cancelled = _find(booking, "properties.cancelled")
    if cancelled is True or (isinstance(cancelled, str) and cancelled.strip().lower() == "true"):
        return "DISCONTINUED"
    overrides = {name.strip().casefold(): status for name, status in config.status_mapping.items()}
    folded = (text or "").strip().casefold()
    return overrides.get(folded) or STATUSES.get(folded) or "SCHEDULED"


def _modality(resource: str | None, config: PipelineConfig) -> str:
    name = (resource or "").strip()
    if not name:
        return "OT"
    found = _of_resource(name, config.resource_modality_mapping)
    return found or (name if re.fullmatch(r"[A-Z0-9 _]{1,16}", name) else "OT")


def _of_resource(resource: str | None, table: Mapping[str, str]) -> str | None:
    name = (resource or "").strip().casefold()
    mapping = {key.strip().casefold(): value for key, value in table.items()}
    if name in mapping:
        return mapping[name]
    beginnings = [key for key in mapping if name.startswith(key)]
    return mapping[max(beginnings, key=len)] if beginnings and name else None


def _name_in_form(name: str, form: str) -> str:
    if form == "as_extracted" or not name or "^" in name:
        return name
    if form == "given":
        return "^" + name
    if "=" in name:
        return name
    name = name.strip(" _")
    if "," in name:
        family, given = name.split(",", 1)
    else:
        words = re.split("[ _]+", name)
        if len(words) < 2:
            return name
        family = words[-1]
        given = name[: -len(family)]
    return f"{family.rstrip(' _')}^{given.strip(' _')}".replace("_", " ")


def _hash(booking: dict[str, Any], rendered: str | None) -> str:
    critical = {
        "title": _hash_value(booking, "title"),
        "status": _hash_value(booking, "status"),
        "formattedName": _hash_value(booking, "formattedName") if rendered is None else rendered,
        "project": _hash_value(booking, "properties.project.formattedName"),
        "resource": _hash_value(booking, "properties.resource.formattedName"),
    }
    return hashlib.sha256(json.dumps(critical, sort_keys=True).encode()).hexdigest()


def _is_blank(text: str | None) -> bool:
    """Nothing, or only white space as Unicode has it; Python's ``strip`` also takes four control characters."""
    return all(character.isspace() and not "\x1c" <= character <= "\x1f" for character in text or "")


def _times(
    booking: dict[str, Any], zone: str
) -> tuple[datetime | None, datetime | None, str | None, str | None]:
    """Start and end in naive UTC, what is wrong with them, and on generation B the rendered formattedName."""
    formatted_name = _text(_find(booking, "formattedName"))
    if not (formatted_name or "").startswith("["):
        first = _text(_find(booking, "properties.dateRange.start"))
        last = _text(_find(booking, "properties.dateRange.finish"))
        last = _text(_find(booking, "properties.dateRange.end")) if last is None else last
        if first is not None or last is not None:
            if _is_blank(first) or _is_blank(last):
                return None, None, "times_missing", None
            start, end = _iso(first, zone), _iso(last, zone)
            if start is None or end is None:
                return None, None, "times_unreadable", None
            rendered = f"[{_java(start[1])}, {_java(end[1])}]"
            return start[0], end[0], "end_before_start" if end[0] < start[0] else None, rendered
    if _is_blank(formatted_name):
        return None, None, "times_missing", None
    stamp = r"(\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2})(\.\d+)?"
    match = re.match(rf"\[{stamp}, {stamp}\]", formatted_name, re.ASCII)
    start = match and _wall_to_utc(_naive(match[1], match[2]), zone)
    end = match and _wall_to_utc(_naive(match[3], match[4]), zone)
    if not start or not end:
        return None, None, "times_unreadable", None
    return start, end, "end_before_start" if end < start else None, None


def _naive(stamp: str, fraction: str | None) -> datetime | None:
    try:
        moment = datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S")
    except ValueError:
        return None
    moment += timedelta(microseconds=int((fraction or ".")[1:7].ljust(6, "0")))
    return moment if datetime(1, 1, 3) <= moment < datetime(9999, 12, 29) else None


def _wall_to_utc(wall: datetime | None, zone: str) -> datetime | None:
    if wall is None:
        return None
    return pytz.timezone(zone).localize(wall, is_dst=False).astimezone(pytz.utc).replace(tzinfo=None)


ISO = re.compile(r"(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2})(:\d{2})?(\.\d+)?(Z|[+-]\d{2}(?::?\d{2})?)?", re.ASCII)


def _iso(text: str, zone: str) -> tuple[datetime, datetime] | None:
    """An ISO time as (naive UTC, naive site time)."""
    parsed = _iso_parts(text)
    if parsed is None:
        return None
    wall, offset = parsed
    if offset is None:
        return _wall_to_utc(wall, zone), wall
    instant = wall - offset
    return instant, pytz.utc.localize(instant).astimezone(pytz.timezone(zone)).replace(tzinfo=None)


def _iso_parts(text: str | None) -> tuple[datetime, timedelta | None] | None:
    match = ISO.fullmatch(text or "")
    if not match:
        return None
    wall = _naive(f"{match[1]} {match[2]}{match[3] or ':00'}", match[4])
    if wall is None or match[5] is None:
        return wall and (wall, None)
    if match[5] == "Z":
        return wall, timedelta(0)
    digits = match[5][1:].replace(":", "").ljust(4, "0")
    if int(digits[:2]) > 23 or int(digits[2:]) > 59:
        return None
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return wall, -offset if match[5][0] == "-" else offset


def _iso_naive_utc(text: str | None) -> datetime | None:
    parsed = _iso_parts(text)
    return parsed and parsed[0] - (parsed[1] or timedelta(0))


def _java(wall: datetime) -> str:
    """As Java's Timestamp prints it: at least one digit of fraction."""
    fraction = f"{wall.microsecond:06d}".rstrip("0") or "0"
    return f"{wall.year:04d}-{wall:%m-%d %H:%M:%S}.{fraction}"


def _repair(entry: dict[str, Any], today: date) -> tuple[list[str], list[str]]:
    """Put right in place what a field cannot take; returns ``field:kind`` and the fields translated without loss."""
    repaired: list[str] = []
    translated: list[str] = []
    for name, value in list(entry.items()):
        if not isinstance(value, str) or name in ("data_source", "notes"):
            continue
        if not value.strip():
            entry[name] = "" if name in ("patient_sex", "patient_birth_date", "patient_weight_lb") else value
            continue
        kinds: list[str] = []
        after: str | None = value
        if name in CUT:
            clean = "".join(
                " " if _is_control(character) or character == "\\" else character for character in value
            )
            if clean != value:
                clean = clean.strip(" ")
                kinds.append("cleaned")
            vr, limit = LIMITS[name]
            short = _cut_name(clean, limit) if vr == "PN" else _cut(clean, limit)
            if short != clean:
                kinds.append("cut")
            after = short
            if not short:
                after, kinds = None, ["emptied"]
        elif name in EMPTIED:
            after = None if _limits_broken({name: value}) else value
        elif name == "patient_sex":
            words = {
                "male": "M",
                "man": "M",
                "m": "M",
                "female": "F",
                "woman": "F",
                "f": "F",
                "other": "O",
                "o": "O",
            }
            after = words.get(value.strip().lower())
        elif name == "patient_birth_date":
            day = _birth_date(value.strip())
            after = (
                f"{day.year:04}{day.month:02}{day.day:02}"
                if day and date(1880, 1, 1) <= day <= today
                else None
            )
        elif name == "patient_weight_lb":
            after, is_converted = _weight(value.strip())
            kinds += ["converted"] * is_converted
        if after is None:
            kinds = ["emptied"]
        elif "\ufffd" in after or any(
            html.unescape(found) != found for found in re.findall("&[#A-Za-z0-9]+;", after)
        ):
            kinds.append("suspect")
        if after is not None and after != value and not {"cut", "cleaned", "converted"} & set(kinds):
            translated.append(name)
        entry[name] = after
        repaired += [f"{name}:{kind}" for kind in kinds]
    return repaired, translated


def _is_control(character: str) -> bool:
    return ord(character) < 32 or 127 <= ord(character) < 160


def _cut_name(name: str, limit: int | None) -> str:
    groups = name.split("=")
    shorter = ["^".join(group.split("^")[:5]) for group in groups[:3]]
    return "=".join(_cut(group, limit) for group in shorter)


def _cut(text: str, limit: int | None) -> str:
    """At the last blank, ``^`` or ``_`` in the second half of the limit, else hard; a loose end goes."""
    if limit is None or len(text) <= limit:
        return text
    end = limit
    for place in range(limit // 2, limit):
        if text[place] in " ^_":
            end = place
    while end and text[end - 1] in " ,;-_(":
        end -= 1
    return text[:end]


def _birth_date(text: str) -> date | None:
    """YYYYMMDD, ISO 8601 (extended or basic) or Java's Date.toString; the date as written."""
    words = text.split(" ")
    try:
        if (
            len(words) == 6
            and words[1] in MONTHS
            and words[0] in ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
        ):
            if not re.fullmatch("[0-9]{2} [0-9]{4}", f"{words[2]} {words[5]}"):
                return None
            return date(int(words[5]), MONTHS.index(words[1]) + 1, int(words[2]))
        size = 10 if text[4:5] == "-" else 8
        day, rest = text[:size], text[size:]
        if not re.fullmatch("[0-9]{8}|[0-9]{4}-[0-9]{2}-[0-9]{2}", day):
            return None
        clock = re.fullmatch(
            r"[T ](\d\d)(?::?(\d\d)(?::?(\d\d)(?:[.,]\d+)?)?)?(?: ?(?:Z|[+-]\d\d(?::?\d\d)?))?",
            rest,
            re.ASCII,
        )
        if rest and (
            clock is None or int(clock[1]) > 24 or int(clock[2] or 0) > 59 or int(clock[3] or 0) > 60
        ):
            return None
        return date.fromisoformat(day)
    except ValueError:
        return None


def _weight(text: str) -> tuple[str | None, bool]:
    """Kilograms as text, and whether they were pounds."""
    number, unit = text, ""
    for ending in ("kg", "lbs", "lb"):
        if text.lower().endswith(ending):
            number, unit = text[: -len(ending)].removesuffix(" "), ending
            break
    number = number.replace(",", ".", 1)
    if not re.fullmatch(r"\+?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]{1,2})?", number) or len(number) > 16:
        return None, False
    exact = Fraction(
        number.rstrip(".") if number.endswith(".") else number.replace(".e", "e").replace(".E", "E")
    )
    kilograms = exact * (Fraction("0.45359237") if unit.startswith("lb") else 1)
    if not 2 <= kilograms <= 350:
        return None, False
    if unit.startswith("lb"):
        cents = int(kilograms * 100 + Fraction(1, 2))
        return f"{cents // 100}.{cents % 100:02}", True
    return number, False


def _limits_broken(entry: dict[str, Any]) -> list[str]:
    broken = []
    for field, value in entry.items():
        if not isinstance(value, str) or field in ("data_source", "source_record_id", "notes"):
            continue
        vr, limit = LIMITS.get(field, (None, None))
        control = any(ord(character) < 32 or 127 <= ord(character) < 160 for character in value)
        if vr == "PN":
            groups = value.split("=")
            broken += [f"{field}_too_long"] * any(len(group) > 64 for group in groups)
            broken += [f"{field}_too_many_groups"] * (len(groups) > 3)
            broken += [f"{field}_too_many_components"] * any(group.count("^") > 4 for group in groups)
        elif limit:
            broken += [f"{field}_too_long"] * (len(value) > limit)
        if vr is None:
            broken += [f"{field}_bad_character"] * control
        elif vr in ("LO", "SH", "PN", "AE"):
            broken += [f"{field}_bad_character"] * (control or "\\" in value)
        broken += [f"{field}_malformed"] * (bool(value) and not _well_formed(vr, value))
    return broken


def _well_formed(vr: str | None, value: str) -> bool:
    match vr:
        case "CS":
            return re.fullmatch("[A-Z0-9 _]*", value) is not None
        case "DS":
            return re.fullmatch(r" *[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)? *", value) is not None
        case "UI":
            return re.fullmatch(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*", value) is not None
        case "DA":
            try:
                return re.fullmatch("[0-9]{8}", value) is not None and bool(
                    date(int(value[:4]), int(value[4:6]), int(value[6:]))
                )
            except ValueError:
                return False
    return True
