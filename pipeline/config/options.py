"""``PipelineConfig``: every option of a Calpendo source, checked once, frozen from then on (T002).

First what each kind of option takes (zones, names, tables, clock times), then how pydantic's errors and unknown keys are
worded, then the options themselves, the documentation's table of them, and the check of configuration and login together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import time
from os import PathLike, fspath
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from pipeline.config.base_url import api_path_in, read_base_url
from pipeline.config.credentials import Credentials, environment
from pipeline.config.field_mapping import (
    FieldRule,
    MappingReader,
    OnNoMatch,
    compile_pattern,
    compile_problem,
    searching,
)
from pipeline.config.file import select_source
from pipeline.errors import PluginConfigError
from pipeline.wording import Wording, config_error, near_miss, sendable, text_problem


class FrozenMapping(Mapping[str, str]):
    """Text to text, in the order given; equal to any mapping with the same items."""

    __slots__ = ("_items",)
    _items: dict[str, str]

    def __init__(self, items: Mapping[str, str] | None = None) -> None:
        object.__setattr__(self, "_items", dict(items or {}))

    def __getitem__(self, key: str) -> str:
        """Return the value of ``key``; KeyError where there is none."""
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        """Yield the keys in the order given."""
        return iter(self._items)

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self._items)

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse every assignment."""
        raise AttributeError("a FrozenMapping cannot change")

    def __delattr__(self, name: str) -> None:
        """Refuse every deletion."""
        raise AttributeError("a FrozenMapping cannot change")

    def __hash__(self) -> int:
        """Hash by the items, whatever their order, as equality compares them."""
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        """Show the items as a plain dict would."""
        return f"FrozenMapping({self._items!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy through the constructor."""
        return (type(self), (dict(self._items),))


STEP_STATUSES = ("SCHEDULED", "IN_PROGRESS", "COMPLETED", "DISCONTINUED")
# DICOM PS3.5 table 6.2-1: CS is at most 16 of upper case letters, digits, blank and underscore.
_AE_TITLE = re.compile(r"[!-\[\]-~](?:[ -\[\]-~]{0,14}[!-\[\]-~])?\Z")
_CODE_STRING = re.compile(r"[A-Z0-9_][A-Z0-9 _]{0,15}\Z")


@dataclass(frozen=True, slots=True)
class DailyWindow:
    """Clock times at the site between which bookings are wanted; an end not after the start is the next day's."""

    start_time: time
    end_time: time


class Faults:
    """Gathers what is wrong with one option, so that all of it is told at once."""

    def __init__(self) -> None:
        self.found: list[tuple[str | int, str, str]] = []

    def add(self, problem: str = "", write: str = "", at: str | int = "") -> None:
        """Note a fault: ``problem`` reads on after "got ...", ``at`` is the key or place below the option."""
        self.found.append((at, problem, write))

    def raise_any(self) -> None:
        """Hand what was found to pydantic."""
        if self.found:
            raise PydanticCustomError("faults", "faults", {"faults": self.found})


def fault(problem: str = "", write: str = "") -> PydanticCustomError:
    """Return the error for a value that is wrong as a whole."""
    return PydanticCustomError("faults", "faults", {"faults": [("", problem, write)]})


def _sound(value: str) -> str:
    problem = text_problem(value)
    if problem:
        raise fault(problem)
    return value


def _blank_to_none(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


def _to_tuple(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        if not value:
            raise fault("")
        return tuple(value)
    return value


def _to_stripped_tuple(value: Any) -> Any:
    stripped = _to_tuple(value)
    if isinstance(stripped, tuple):
        return tuple(item.strip() if isinstance(item, str) else item for item in stripped)
    return stripped


def _api_path(value: str) -> str:
    path = value.strip().strip("/")
    if text_problem(path or "/") or re.search(r"[\s?#\\@%]|(^|/)\.\.?(/|$)|//", path):
        raise fault("which is no plain path")
    return f"/{path}" if path else ""


def _zone(value: str) -> str:
    """Return the zone's name as pytz spells it; pytz also decides what is a zone."""
    import pytz

    try:
        return str(pytz.timezone(value).zone)
    except (pytz.UnknownTimeZoneError, ValueError, OSError, AttributeError):
        pass
    meant = near_miss(value, pytz.all_timezones, cutoff=0.75)
    raise fault("which is no known time zone", f"{meant!r}" if meant else "")


def _output_zone(value: str) -> str:
    return "site" if value.strip().casefold() == "site" else _zone(value)


def _table(value: Any, read: Callable[[str], str | None], problem: str, write: str) -> FrozenMapping:
    """Return a text table without comments; keys must differ also without case, as they are looked up so."""
    if isinstance(value, FrozenMapping):
        return value
    if not isinstance(value, Mapping):
        raise fault()
    faults = Faults()
    items: dict[str, str] = {}
    folded: dict[str, str] = {}
    for key, text in value.items():
        if not isinstance(key, str) or text_problem(key):
            faults.add("in which a key is blank or no text")
        elif not key.startswith("_"):
            code = read(text) if isinstance(text, str) else None
            if code is None:
                faults.add(problem if isinstance(text, str) else "", write, at=key)
                continue
            items[key] = code
            if folded.setdefault(key.casefold(), code) != code:
                faults.add(
                    "but the same name stands there in other case with another value",
                    "one of the two",
                    at=key,
                )
    faults.raise_any()
    return FrozenMapping(items)


def _modalities(value: Any) -> FrozenMapping:
    return _table(
        value, _modality, "which is no DICOM code", "at most 16 of A-Z, 0-9, blank and _, such as 'MR'"
    )


def _modality(text: str) -> str | None:
    code = text.strip().upper()
    return code if _CODE_STRING.match(code) else None


def _ae_titles(value: Any) -> FrozenMapping:
    return _table(
        value,
        lambda text: text.strip(" ") if _AE_TITLE.match(text.strip(" ")) else None,
        "which is no AE title",
        "1 to 16 ASCII characters without a backslash, such as 'PRISMA'",
    )


def _file_mode(value: str) -> str:
    """Return the mode as four octal digits; the owner must be able to replace the file, and nobody to run it."""
    if not re.fullmatch(r"0?[0-7]{3}", value) or int(value, 8) & 0o113 or int(value, 8) & 0o600 != 0o600:
        raise fault("which is no mode of a file that its owner can write and others cannot")
    return f"{int(value, 8):04o}"


def _statuses(value: Any) -> FrozenMapping:
    return _table(value, _step_status, "which is no step's status", f"one of {', '.join(STEP_STATUSES)}")


def _step_status(text: str) -> str | None:
    status = re.sub(r"[\s-]+", "_", text.strip()).upper()
    return status if status in STEP_STATUSES else None


def _title_patterns(value: Any) -> Any:
    """Read patterns that are searched in titles; one text is a list of one."""
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, (list, tuple)):
        raise fault()
    faults = Faults()
    for place, pattern in enumerate(value):
        if not isinstance(pattern, str) or not pattern:
            faults.add("", "a regular expression such as 'phantom'", at=place)
        elif not sendable(pattern):
            faults.add("which holds half a surrogate pair", "the whole character", at=place)
        elif problem := compile_problem(pattern):
            write = "a regular expression of Python's re module; in JSON each backslash is written twice"
            faults.add(problem, write, at=place)
        elif problem := compile_problem(searching(pattern)):
            faults.add(problem, "flags such as (?s) at its very beginning", at=place)
        elif compile_pattern(searching(pattern))[0].match(""):
            faults.add(
                "which matches the empty text, and so every title",
                "a pattern that needs at least one character",
                at=place,
            )
    faults.raise_any()
    return tuple(value)


def _daily_window(value: Any) -> Any:
    """Read ``{"start_time": [h, m], "end_time": [h, m]}``; an empty object is no window, as in Pylantir."""
    if value is None or isinstance(value, DailyWindow):
        return value
    if not isinstance(value, Mapping):
        raise fault()
    if not value:
        return None
    faults = Faults()
    times = [_clock(value, key, faults) for key in ("start_time", "end_time")]
    faults.raise_any()
    return DailyWindow(*times)


def _clock(value: Mapping[str, Any], key: str, faults: Faults) -> time:
    if key not in value:
        faults.add(f"without {key}")
        return time.min
    parts = value[key]
    if isinstance(parts, (list, tuple)) and len(parts) == 2 and all(type(part) is int for part in parts):
        hour, minute = parts
        if 0 <= hour <= 23 and 0 <= minute <= 59:
            return time(hour, minute)
    faults.add("", "[hour, minute], two whole numbers from [0, 0] to [23, 59], such as [7, 30]", at=key)
    return time.min


Text = Annotated[str, AfterValidator(_sound)]
OptionalText = Annotated[Text | None, BeforeValidator(_blank_to_none)]
Names = Annotated[tuple[Text, ...], BeforeValidator(_to_tuple)]
OptionalNames = Annotated[tuple[Text, ...] | None, BeforeValidator(_to_stripped_tuple)]
ApiPath = Annotated[str, AfterValidator(_api_path)]
Zone = Annotated[Text, AfterValidator(_zone)]
OutputZone = Annotated[Text, AfterValidator(_output_zone)]
ModalityTable = Annotated[FrozenMapping, BeforeValidator(_modalities)]
AeTitleTable = Annotated[FrozenMapping, BeforeValidator(_ae_titles)]
FileMode = Annotated[str, AfterValidator(_file_mode)]
StatusTable = Annotated[FrozenMapping, BeforeValidator(_statuses)]
TitlePatterns = Annotated[tuple[str, ...], BeforeValidator(_title_patterns)]
OptionalDailyWindow = Annotated[DailyWindow | None, BeforeValidator(_daily_window)]


HOST_KEYS = frozenset(
    {"site", "site_id", "protocol", "name", "type", "enabled", "sync_interval", "operation_interval"}
)
"""Keys that Pylantir itself reads; they pass."""

_RESEMBLANCE = 0.75

MAPPING_KIND = 'an object such as {"patient_id": "title"}'


def worded(detail: ErrorDetails, wording: Wording, kinds: Mapping[str, str]) -> Iterator[str]:
    """Word one of pydantic's errors; ``kinds`` holds what to write for each option."""
    name = str(detail["loc"][0])
    kind = kinds.get(name, "a text")
    value = detail["input"]
    key = name + "".join(f"[{part}]" for part in detail["loc"][1:] if isinstance(part, int))
    if detail["type"] != "faults":
        problem = ""
        if detail["type"] == "literal_error" and isinstance(value, str):
            meant = near_miss(value, kind.split("'")[1::2])
            problem = f"probably for {meant!r}" if meant else ""
        yield wording.fault(key, value, kind, problem=problem)
        return
    for at, problem, write in detail["ctx"]["faults"]:
        if isinstance(at, int):
            part = value[at] if isinstance(value, (list, tuple)) else value
            yield wording.fault(f"{key}[{at}]", part, write or kind, problem=problem)
        elif at:
            place = f".{at}" if wording.harmless(at) else " (key not shown)"
            part = value.get(at) if isinstance(value, Mapping) else value
            yield wording.fault(key + place, part, write or kind, problem=problem)
        else:
            yield wording.fault(key, value, write or kind, problem=problem)


def misspelt(
    config: Mapping[Any, Any], wording: Wording, kinds: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """Return the faults and the cautions about unknown keys: near misses of an option, and what only resembles one.

    All other unknown keys pass, because other programs read the same block.
    """
    faults: list[str] = []
    cautions: list[str] = []
    for key in config:
        if not isinstance(key, str):
            faults.append(wording.fault("config: a key", key, "an option's name as text"))
        elif key not in kinds and key not in HOST_KEYS and not key.startswith("_"):
            meant = near_miss(key, kinds, cutoff=_RESEMBLANCE)
            if meant is None:
                continue
            told = f"{wording.name(key)}: unknown option"
            if near_miss(key, kinds) == meant:
                faults.append(f"{told}; did you mean {meant!r}? write it with {kinds[meant]}")
            else:
                cautions.append(f"{told}, ignored; did you mean {meant!r}?")
    return faults, cautions


def _option(default: Any, kind: str, meaning: str, **limits: Any) -> Any:
    """Declare an option: ``kind`` reads on after "write", ``meaning`` is its line in docs/configuration.md."""
    return Field(default, description=meaning, json_schema_extra={"kind": kind}, **limits)


def _seconds(default: float, meaning: str) -> Any:
    kind = "a number of seconds above 0 and at most 3600"
    return _option(default, kind, meaning, gt=0, le=3600, allow_inf_nan=False)


class PipelineConfig(BaseModel):
    """The options of one Calpendo source: frozen, hashable, and safe to pickle.

    Made by ``from_dict``, ``from_file``, or ``of``, which takes either; not by the constructor, which could not read
    ``field_mapping``. Durations are in the unit their name says, else in seconds; clock times and ``timezone`` are the site's.
    Credentials are no part of it.
    """

    model_config = ConfigDict(
        strict=True, frozen=True, extra="ignore", hide_input_in_errors=True, arbitrary_types_allowed=True
    )

    source_name: Text = Field("calpendo")
    rules: tuple[FieldRule, ...] = ()
    warnings: tuple[str, ...] = ()

    base_url: str = _option(
        "",
        "the server's address, such as 'https://example.calpendo.com'",
        "The server's address, without a login. Where it is missing, CALPENDO_API_URL is taken.",
    )
    api_path: ApiPath = _option(
        "/webdav",
        "a path such as '/webdav' or '/api'",
        "Where the web API stands on the server. Newer servers answer at `/api`, which is the default under Pylantir.",
    )
    allow_insecure_http: bool = _option(
        False,
        "true or false",
        "Allows plain http to another host than this machine. The password then crosses the network unencrypted.",
    )
    resources: Names = _option(
        (),
        'a list of resource names, such as ["3T Diagnostic", "EEG Lab"]',
        "The resources whose bookings are wanted, as Calpendo spells them.",
    )
    status_filter: OptionalText = _option(
        None,
        "a status such as 'Approved', or leave it out",
        "Only bookings of this status, compared without case.",
    )
    allowed_studies: OptionalNames = _option(
        None,
        'a list of study descriptions, such as ["Brain Study"], or leave it out',
        "Only bookings whose mapped `study_description` is one of these.",
    )
    timezone: Zone = _option(
        "America/Edmonton",
        "a zone of the IANA list, such as 'America/Edmonton'",
        "The zone of the site: Calpendo's wall-clock times are read in it, and the window is reckoned in it.",
    )
    output_timezone: OutputZone = _option(
        "UTC",
        "'UTC', 'site', or a zone of the IANA list",
        "The zone of the emitted dates and times. Most consoles show what they get: under Pylantir the default is "
        '`"site"`.',
    )
    window_mode: Literal["rolling", "today"] = _option(
        "rolling",
        "'rolling' or 'today'",
        "`rolling`: from sync interval x `lookback_multiplier` ago to `lookahead_hours` ahead. `today`: the site's day.",
    )
    daily_window: OptionalDailyWindow = _option(
        None,
        '{"start_time": [7, 0], "end_time": [19, 30]}, or leave it out',
        "Only between these clock times of the site's day; an end not after the start is the next day's. "
        "Stands above `window_mode`.",
    )
    lookback_multiplier: float = _option(
        2.0,
        "a number above 0 and at most 10000, such as 2",
        "How many sync intervals the rolling window reaches back.",
        gt=0,
        le=10_000,
        allow_inf_nan=False,
    )
    lookahead_hours: float = _option(
        24.0,
        "a number above 0 and at most 8784",
        "How many hours the rolling window reaches ahead.",
        gt=0,
        le=8784,
        allow_inf_nan=False,
    )
    include_running: bool = _option(
        True, "true or false", "Also bookings that began before the window and still run at its start."
    )
    max_booking_hours: float = _option(
        12.0,
        "a number above 0 and at most 8784",
        "How far the query reaches back for running bookings: the longest booking expected.",
        gt=0,
        le=8784,
        allow_inf_nan=False,
    )
    query_date_format: Literal["YYYYMMDD-HHMM", "YYYYMMDDTHHMM"] = _option(
        "YYYYMMDD-HHMM",
        "'YYYYMMDD-HHMM' or 'YYYYMMDDTHHMM'",
        "How dates stand in a query; the vendor documents the form with the T.",
    )
    resource_modality_mapping: ModalityTable = _option(
        {},
        'an object of resource names and DICOM modalities, such as {"3T": "MR", "EEG": "EEG"}',
        "Resource to modality: the exact name, else the longest beginning, without case.",
        validate_default=True,
    )
    resource_ae_title: AeTitleTable = _option(
        {},
        'an object of resource names and AE titles, such as {"3T": "PRISMA"}',
        "Resource to the AE title of its station, found as the modality is; a mapped `scheduled_station_aetitle` stands above it.",
        validate_default=True,
    )
    status_mapping: StatusTable = _option(
        {},
        'an object of Calpendo statuses and step statuses, such as {"Provisional": "SCHEDULED"}',
        "Adds to or overrides the table of statuses (SCHEDULED, IN_PROGRESS, COMPLETED, DISCONTINUED).",
        validate_default=True,
    )
    on_no_match: OnNoMatch = _option(
        "original",
        "'original', 'null' or 'reject'",
        "What a value becomes that no pattern matches: itself, nothing, or the booking is rejected. "
        "May also stand inside an `_extract`.",
    )
    ignore_titles: TitlePatterns = _option(
        (),
        'a list of patterns, such as ["phantom", "^test"]',
        "Bookings that are no subjects: a pattern is searched anywhere in the title, without case. They are filtered as "
        "`title_ignored`, and withdrawn where they stood on a list.",
    )
    patient_name_form: Literal["as_extracted", "given", "family_given"] = _option(
        "as_extracted",
        "'as_extracted', 'given' or 'family_given'",
        "`as_extracted`: the name as the pattern cut it out. `given`: as a given name, with `^` before it. "
        "`family_given`: `Doe, John` and `John_Doe` become `Doe^John`. Under Pylantir the default is `given`.",
    )
    log_original_values: bool = _option(
        False, "true or false", "Logs, at DEBUG, values that no pattern matched, instead of their shapes."
    )
    fetch_mode: Literal["details", "bulk", "changed"] = _option(
        "details",
        "'details', 'bulk' or 'changed'",
        "`details`: a list, then each booking. `bulk`: one query brings all fields. `changed`: a list, then only "
        "new and modified bookings.",
    )
    full_refresh: int = _option(
        20,
        "a whole number from 1 to 100000",
        "In mode `changed`: all details at least every so many cycles.",
        ge=1,
        le=100_000,
    )
    fetch_operators: bool = _option(
        True, "true or false", "Brings the operators of MRI scans, one query a window."
    )
    max_workers: int = _option(5, "a whole number from 1 to 5", "Requests in flight at once.", ge=1, le=5)
    list_timeout: float = _seconds(30.0, "Seconds without an answer before a list query is given up.")
    detail_timeout: float = _seconds(
        10.0, "Seconds without an answer before a booking's request is given up."
    )
    body_deadline: float = _seconds(60.0, "Seconds that one answer's whole body may take.")
    batch_deadline: float = _seconds(
        300.0,
        "Seconds that a whole cycle's requests may take: list, details, look-ups and operators together.",
    )
    max_body_bytes: int = _option(
        33_554_432,
        "a whole number of bytes from 1024 to 4294967296",
        "The largest answer accepted, after decompression.",
        ge=1024,
        le=2**32,
    )
    max_rows: int = _option(
        50_000,
        "a whole number from 1 to 1000000",
        "The longest list accepted; a longer one is a failed list, never a cut one.",
        ge=1,
        le=1_000_000,
    )
    max_retries: int = _option(
        3, "a whole number from 0 to 10", "Repetitions of a failed request.", ge=0, le=10
    )
    retry_after_cap: float = _option(
        30.0,
        "a number of seconds from 0 to 3600",
        "The longest wait that a server's Retry-After may ask for.",
        ge=0,
        le=3600,
        allow_inf_nan=False,
    )
    state_path: OptionalText = _option(
        None,
        "a file's path, ':memory:', or leave it out",
        "The ledger of `run` and `CalendoPlugin`; each other host's stands beside it (`ledger@pylantir.sqlite`). "
        "Without it: in the user's state directory. `:memory:`: none is kept.",
    )
    acknowledge: Literal["on_return", "explicit"] = _option(
        "on_return",
        "'on_return' or 'explicit'",
        "When entries count as delivered: when `fetch_entries` returns, or when the host calls `acknowledge`. "
        "Under Pylantir always the latter.",
    )
    max_withdrawn: int | None = _option(
        None,
        "a whole number from 0 to 1000000, or leave it out",
        "More vanished bookings than this at once are withdrawn only when a second cycle confirms it. "
        "Without it: 5, and half of those in the window.",
        ge=0,
        le=1_000_000,
    )
    retention_days: float = _option(
        90.0,
        "a number of days above 0 and at most 36500",
        "How long delivered entries and the history are kept.",
        gt=0,
        le=36_500,
        allow_inf_nan=False,
    )
    lock_timeout: float = _option(
        0.0,
        "a number of seconds from 0 to 3600",
        "How long to wait for another process that holds the ledger.",
        ge=0,
        le=3600,
        allow_inf_nan=False,
    )
    transliterate: bool = _option(
        True, "true or false", "Under Pylantir: writes names in the characters its answers can carry."
    )
    keep_past_hours: float = _option(
        1.0,
        "a number of hours from 0 to 8784, such as 1",
        "How long a booking stays on the scanner's list after its end, for the subject who comes late. Under Pylantir: of a "
        "rolling window; `today` and `daily_window` show their whole span.",
        ge=0,
        le=8784,
        allow_inf_nan=False,
    )
    worklist_dir: OptionalText = _option(
        None,
        "a directory's path, or leave it out",
        "`run` keeps DICOM worklist files in it, for Orthanc or wlmscpfs, in place of showing the entries. The directory must exist.",
    )
    worklist_file_mode: FileMode = _option(
        "0640",
        "three or four octal digits as text, such as '0640'",
        "The mode of a worklist file; its group is the directory's.",
    )
    worklist_character_set: Literal["ISO_IR 192", "ISO_IR 100", "ASCII"] = _option(
        "ISO_IR 192",
        "'ISO_IR 192', 'ISO_IR 100' or 'ASCII'",
        "The characters of a worklist file: UTF-8, Latin-1, or none beyond ASCII. What they cannot hold is transliterated; an id never is.",
    )

    @model_validator(mode="before")
    @classmethod
    def _checked_elsewhere(cls, given: Any) -> Any:
        """Refuse ``PipelineConfig(**config)``, which would leave the mapping out without a word."""
        if isinstance(given, Mapping) and ("rules" not in given or "field_mapping" in given):
            raise PluginConfigError(
                "PipelineConfig(...) does not read field_mapping; write PipelineConfig.from_dict(config), "
                'or PipelineConfig.from_file("mwl_config.json")'
            )
        return given

    @classmethod
    def of(
        cls,
        config: AnyConfig,
        *,
        source: str | None = None,
        environ: Mapping[str, str] | None = None,
        offline: bool = True,
    ) -> PipelineConfig:
        """Return the checked configuration of whatever a caller has of it.

        Every public function that takes a ``config`` calls this first.

        Args:
            config: a ``PipelineConfig``, which is returned as it is (under the name ``source``, where one is given); a source's ``config`` block, or what a whole
                configuration file holds, as a dict; or the path of a configuration file.
            source: the source's name: chooses one where there are several, and names a bare ``config`` block.
            environ: as for ``from_dict``.
            offline: as for ``from_dict``; here no server is asked unless the caller says so.

        Raises:
            PluginConfigError: with all faults, or with the choices where a file holds several sources.
        """
        if isinstance(config, PipelineConfig):
            if not offline:
                config._check_server()
            if source is None or source == config.source_name:
                return config
            return config.model_copy(update={"source_name": source})
        if isinstance(config, Mapping):
            if "data_sources" not in config and not ("type" in config and "config" in config):
                name = source or "calpendo"
                return cls.from_dict(config, source_name=name, environ=environ, offline=offline)
            chosen = select_source(config, source)
            return cls.from_dict(chosen.config, source_name=chosen.name, environ=environ, offline=offline)
        if isinstance(config, (str, PathLike)):
            return cls.from_file(config, source, environ=environ, offline=offline)
        given = Wording().given(config)
        raise PluginConfigError(
            f"config: got {given}; write a PipelineConfig, a source's config as a dict, or the path of a configuration file"
        )

    def _check_server(self) -> None:
        """Raise PluginConfigError where a configuration made ``offline`` lacks what a server is asked with."""
        missing = [name for name in ("base_url", "resources") if not getattr(self, name)]
        if missing:
            raise config_error(
                f"Configuration of source {Wording().name(self.source_name)}",
                [f"{name}: missing; write {KINDS[name]}" for name in missing],
            )

    @classmethod
    def from_file(
        cls,
        path: str | PathLike[str],
        source: str | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        offline: bool = False,
    ) -> Self:
        """Check one source of a configuration file (``config_file.read_sources``) and freeze it.

        Args:
            path: a file in the form of Pylantir's, one source out of it, or one bare ``config`` block.
            source: the source's name; may be left out where the file has one enabled Calpendo source.
            environ: as for ``from_dict``.
            offline: as for ``from_dict``.

        Raises:
            PluginConfigError: the file cannot be read, the source is not there, or its options are wrong.
        """
        where = fspath(path)
        if where.lstrip().startswith("{"):
            raise PluginConfigError("config: got JSON text; write the file's path, or json.loads(text)")
        chosen = select_source(Path(where), source)
        return cls.from_dict(chosen.config, source_name=chosen.name, environ=environ, offline=offline)

    @classmethod
    def from_dict(
        cls,
        config: Mapping[str, Any],
        *,
        source_name: str = "calpendo",
        environ: Mapping[str, str] | None = None,
        offline: bool = False,
    ) -> Self:
        """Check a source's ``config`` block and freeze it.

        All faults are found before PluginConfigError is raised; each names the key, what was given and what to
        write. Unknown keys pass, except those that look like a misspelt option. ``environ`` None means the
        process's environment with ``.env`` behind it. ``offline``: no server will be asked, so ``base_url`` and
        ``resources`` may be missing.
        """
        environ = environment() if environ is None else environ
        wording = Wording.of(config, environ)
        where = f"Configuration of source {wording.name(source_name)}"
        if not isinstance(config, Mapping):
            raise config_error(
                where, [wording.fault("config", config, 'an object such as {"base_url": ...}')]
            )
        if wrapped := [key for key in ("data_sources", "config") if key in config]:
            fault = f"{wrapped[0]}: stands around a source's config, not in it; write PipelineConfig.of(...), which looks inside"
            raise config_error(where, [fault])
        faults, cautions = misspelt(config, wording, {**KINDS, "field_mapping": MAPPING_KIND})
        values = {name: config[name] for name in OPTIONS if name in config}
        base_url, url_faults = read_base_url(
            values.pop("base_url", None),
            environ,
            wording,
            allow_insecure_http=values.get("allow_insecure_http") is True,
            optional=offline,
        )
        faults += url_faults
        if "resources" not in values and not offline:
            faults.append(f"resources: missing; write {KINDS['resources']}")
        reader = MappingReader(wording)
        if values.get("on_no_match") in ("null", "reject"):
            reader.on_no_match = values["on_no_match"]
        rules = reader.read(config.get("field_mapping", {}))
        faults += reader.faults
        try:
            checked = cls(source_name=source_name, base_url=base_url, rules=rules, **values)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                faults += worded(detail, wording, KINDS)
            raise config_error(where, faults) from None
        if faults:
            raise config_error(where, faults)
        told = (*cautions, *_cautions(config, checked), *reader.warnings)
        return checked.model_copy(update={"warnings": told})


AnyConfig = PipelineConfig | Mapping[str, Any] | str | PathLike[str]
"""What ``PipelineConfig.of`` takes."""

KINDS: Mapping[str, str] = {
    name: str(option.json_schema_extra["kind"])
    for name, option in PipelineConfig.model_fields.items()
    if isinstance(option.json_schema_extra, dict)
}
"""What to write for each option, in the order of the table in docs/configuration.md (``field_mapping`` is the one besides)."""

OPTIONS: tuple[str, ...] = tuple(KINDS)


def _cautions(config: Mapping[str, Any], checked: PipelineConfig) -> list[str]:
    """Return what is allowed but probably not meant."""
    cautions = []
    if "field_mapping" not in config:
        cautions.append("field_mapping: missing; patient_id and patient_name are the title as it stands")
    cautions += [
        f"{key}: ignored; credentials come from CALPENDO_USERNAME and CALPENDO_PASSWORD only"
        for key in ("username", "password")
        if key in config
    ]
    if checked.api_path and (path := api_path_in(checked.base_url, checked.api_path)):
        cautions.append(
            f"base_url: ends with {path!r}, to which api_path {checked.api_path!r} is added; write the address without it, "
            f'and "api_path": "{path}"'
        )
    cautions += [
        f"ignore_titles[{index}]: {caution}"
        for index, pattern in enumerate(checked.ignore_titles)
        for caution in compile_pattern(pattern)[1]
    ]
    cautions += [
        f"resources[{index}]: begins or ends with a blank; is that so in Calpendo?"
        for index, name in enumerate(checked.resources)
        if name != name.strip()
    ]
    return cautions


MAPPING_ROW = (
    "field_mapping",
    'an object, such as {"patient_id": "title"}',
    "{}",
    "Which booking field fills which worklist field, what is cut out of it, and how it is put together. Both forms: docs/mapping.md.",
)
_NO_DEFAULT = {"base_url": "CALPENDO_API_URL", "resources": "none, required"}


def option_rows() -> list[tuple[str, str, str, str]]:
    """Return name, type, default as JSON, and meaning of every option, in the table's order."""
    rows = []
    for name, kind in KINDS.items():
        option = PipelineConfig.model_fields[name]
        default = _NO_DEFAULT.get(name) or _json(option.default)
        rows.append((name, kind, default, option.description or ""))
        if name == "resources":
            rows.append(MAPPING_ROW)
    return rows


def option_table() -> str:
    """Return the table as Markdown, one line an option."""
    lines = ["| option | type | default | meaning |", "|---|---|---|---|"]
    lines += [
        f"| `{name}` | {_cell(kind)} | `{_cell(default)}` | {_cell(meaning)} |"
        for name, kind, default, meaning in option_rows()
    ]
    return "\n".join(lines) + "\n"


def _json(value: Any) -> str:
    return json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def check_settings(
    config: AnyConfig, *, source_name: str = "calpendo", environ: Mapping[str, str] | None = None
) -> tuple[PipelineConfig, Credentials]:
    """Return the checked configuration and the login; raises PluginConfigError with the faults of both (T002)."""
    environ = environment() if environ is None else environ
    faults: list[str] = []
    checked = credentials = None
    try:
        checked = PipelineConfig.of(config, source=source_name, environ=environ, offline=False)
    except PluginConfigError as error:
        faults += error.faults
    try:
        credentials = Credentials.from_environment(environ)
    except PluginConfigError as error:
        faults += error.faults
    if checked is None or credentials is None:
        raise config_error("Configuration", faults)
    return checked, credentials
