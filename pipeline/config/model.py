"""``PipelineConfig``: every option of a Calpendo source, checked once, frozen from then on (T002)."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.config.base_url import api_path_in, read_base_url
from pipeline.config.checks import MAPPING_KIND, misspelt, worded
from pipeline.config.mapping_reader import MappingReader
from pipeline.config.types import (
    AeTitleTable,
    ApiPath,
    FileMode,
    ModalityTable,
    Names,
    OptionalDailyWindow,
    OptionalNames,
    OptionalText,
    OutputZone,
    StatusTable,
    Text,
    TitlePatterns,
    Zone,
)
from pipeline.config_file import select_source
from pipeline.credentials import environment
from pipeline.errors import PluginConfigError
from pipeline.mapping import FieldRule, OnNoMatch, compile_pattern
from pipeline.wording import Wording, config_error


def _option(default: Any, kind: str, meaning: str, **limits: Any) -> Any:
    """Declare an option: ``kind`` reads on after "write", ``meaning`` is its line in the README's table."""
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
"""What to write for each option, in the order of the README's table (``field_mapping`` is the one besides)."""

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
