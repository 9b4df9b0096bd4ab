"""The chain: bookings frame -> entry columns, each row as the task list's ``_transform_booking_to_entry`` would make it (T014)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Final

import polars as pl

from pipeline import fields
from pipeline.errors import PluginSchemaError
from pipeline.fields import SOURCE
from pipeline.transform import reasons
from pipeline.transform.booking_hash import booking_hash
from pipeline.transform.bookings import PAYLOAD_FAULTS, bookings_schema, is_readable
from pipeline.transform.columns import map_distinct, true_names
from pipeline.transform.extraction import (
    SEARCHED,
    Matcher,
    extract,
    match_unbounded,
    searched,
    translated_values,
)
from pipeline.transform.read_objects import source_columns
from pipeline.transform.repairs import LABELS, in_form, repaired_columns
from pipeline.transform.text import JOINED, add_normalised, keeps_joiners, rejoined
from pipeline.transform.times import add_times, formatted, in_zone
from pipeline.transform.vocabularies import (
    DISCONTINUED,
    by_beginning,
    modality_translator,
    status_translator,
    translated,
)

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig
    from pipeline.config.field_mapping import FieldRule

MODALITY: Final = "modality"
STATUS: Final = "performed_procedure_step_status"
_EXTRACTED = "extracted:"
IGNORE_TITLES: Final = "ignore_titles"
"""The option, as a name beside the targets in ``timed_out``."""
STUDY: Final = "study_description"
STATION: Final = "scheduled_station_aetitle"
MAPPED: Final = "mapped:"
"""Begins the name of a column that holds a target's value before its repair."""


def mapped_rules(config: PipelineConfig) -> tuple[FieldRule, ...]:
    """Return the rules that fill a text field of the entry: all but those that feed a vocabulary."""
    made = always()
    return tuple(rule for rule in config.rules if rule.target not in made)


def patterned_rules(config: PipelineConfig) -> tuple[FieldRule, ...]:
    """Return the rules with a pattern, those that feed a vocabulary too."""
    return tuple(rule for rule in config.rules if rule.extractions)


def entry_columns(config: PipelineConfig) -> tuple[str, ...]:
    """Return the keys of an entry, in order."""
    mapped = [rule.target for rule in mapped_rules(config)]
    station = [STATION] if config.resource_ae_title and STATION not in mapped else []
    return (*mapped, *station, *always())


def always() -> tuple[str, ...]:
    """Return the entry columns that every entry has, behind the mapped ones."""
    return fields.names("looked_up", "computed")


def transformed(
    bookings: pl.LazyFrame | pl.DataFrame,
    config: PipelineConfig,
    reasons_before: Mapping[str, pl.Expr] | None = None,
    *,
    matcher: Matcher = match_unbounded,
    today: date | None = None,
) -> pl.LazyFrame:
    """Add the entry columns and the bookkeeping to a bookings frame; no row is added, dropped or moved.

    Args:
        bookings: the columns of ``read_bookings``.
        config: the mapping, the vocabularies and the zones.
        reasons_before: reason code -> Boolean, what only the caller can tell; these reasons come first.
        matcher: runs the mapping's patterns where the linear engine cannot.
        today: the last day on which a patient can be born; None takes any.

    Returns:
        The columns of ``bookings``, the texts of people among them normalised (``text``), and:

        - ``wall_start``, ``wall_end``, ``start_utc``, ``end_utc`` Datetime(us): naive, site time and UTC
        - ``dst_ambiguous``, ``dst_nonexistent``, ``multi_day``, ``status_known``, ``modality_known`` Boolean
        - ``status_source``, ``modality_source`` String: the texts that were looked up for them
        - ``title_ignored`` Boolean: whether one of ``ignore_titles`` is found in the title
        - ``booking_hash`` String
        - ``unmatched`` List(String): the targets none of whose patterns matched
        - ``timed_out`` List(String): those of them where the ``matcher`` ran out of time, and ``ignore_titles`` where it did there
        - ``repaired``, ``translated`` List(String): see ``repairs``
        - ``mapped:study_description`` String: where mapped, as it was before it was cut
        - ``reject_reasons`` List(String): codes of ``reasons``, empty where nothing is wrong so far
        - the columns of ``entry_columns``: mapped targets String, ``scheduled_start_date`` Date and ``scheduled_start_time``
          Time in ``output_timezone``, ``scheduled_procedure_step_duration`` Int64 minutes, the others String

    Raises:
        PluginSchemaError: a column is missing or of another type.
    """
    return (
        bookings.lazy()
        .pipe(_with_known_columns, config)
        .pipe(add_times, config)
        .pipe(add_booking_hash)
        .pipe(add_normalised, config)
        .pipe(add_schedule, config)
        .pipe(add_extracted, config, matcher)
        .pipe(add_vocabularies, config)
        .pipe(add_mapped_fields, config)
        .pipe(add_repairs, config, today)
        .pipe(add_station, config)
        .pipe(add_origin, config)
        .pipe(add_reject_reasons, config, reasons_before)
        .drop(f"{_EXTRACTED}{rule.target}" for rule in patterned_rules(config))
        .drop(f"{JOINED}{path}" for path in source_columns(config).values())
    )


def add_schedule(bookings: pl.LazyFrame, config: PipelineConfig) -> pl.LazyFrame:
    """Add start date and time in the output zone, and whole minutes between the two instants (T012, T014)."""
    zone = config.timezone if config.output_timezone == "site" else config.output_timezone
    start = in_zone(pl.col("start_utc"), zone)
    return bookings.with_columns(
        start.dt.date().alias("scheduled_start_date"),
        start.dt.time().alias("scheduled_start_time"),
        (pl.col("end_utc") - pl.col("start_utc"))
        .dt.total_minutes()
        .alias("scheduled_procedure_step_duration"),
    )


def add_extracted(
    bookings: pl.LazyFrame, config: PipelineConfig, matcher: Matcher = match_unbounded
) -> pl.LazyFrame:
    """Add what the patterns found, ``unmatched``, ``timed_out`` and ``title_ignored``; each pattern runs only once (T011).

    A title out of which a character was left ignores no booking: it cannot be told what it was.
    """
    rules = patterned_rules(config)
    late = {rule.target: _extracted(rule.target, "timed_out") for rule in rules}
    found = bookings.with_columns(
        extract(
            pl.col(f"{SOURCE}{rule.source}"),
            rule,
            matcher,
            pl.col(f"{JOINED}{rule.source}") if keeps_joiners(rule.target) else None,
        ).alias(f"{_EXTRACTED}{rule.target}")
        for rule in rules
    )
    is_ignored = pl.lit(value=False)
    if patterns := config.ignore_titles:
        torn = pl.col("undecodable").list.contains("title").fill_null(value=False)
        search = pl.col("title").map_batches(
            lambda titles: searched(titles, patterns, matcher), return_dtype=SEARCHED, is_elementwise=True
        )
        found = found.with_columns(search.alias("_searched"))
        is_ignored = pl.col("_searched").struct.field("found") & ~torn
        late[IGNORE_TITLES] = pl.col("_searched").struct.field("timed_out")
    return found.with_columns(
        true_names({rule.target: _extracted(rule.target, "unmatched") for rule in rules}).alias("unmatched"),
        true_names(late).alias("timed_out"),
        is_ignored.alias("title_ignored"),
    ).drop("_searched", strict=False)


def _extracted(target: str, name: str) -> pl.Expr:
    """Return ``value``, ``unmatched`` or ``timed_out`` of a target's pattern."""
    return pl.col(f"{_EXTRACTED}{target}").struct.field(name)


def add_vocabularies(bookings: pl.LazyFrame, config: PipelineConfig) -> pl.LazyFrame:
    """Add modality and step status with ``modality_known`` and ``status_known``, and what was looked up (T013).

    A rule for one of them only says where the vocabulary's source stands. A booking marked as cancelled is
    DISCONTINUED whatever its status.
    """
    status = translated(pl.col("status_source"), status_translator(config.status_mapping))
    modality = translated(pl.col("modality_source"), modality_translator(config.resource_modality_mapping))
    cancelled = pl.col("cancelled").fill_null(value=False)
    return (
        bookings.with_columns(
            _vocabulary_source(config, STATUS).alias("status_source"),
            _vocabulary_source(config, MODALITY).alias("modality_source"),
        )
        .with_columns(status.alias("_status"), modality.alias("_modality"))
        .with_columns(
            pl.col("_modality").struct.field("value").alias(MODALITY),
            pl.col("_modality").struct.field("known").alias("modality_known"),
            pl.when(cancelled)
            .then(pl.lit(DISCONTINUED))
            .otherwise(pl.col("_status").struct.field("value"))
            .alias(STATUS),
            pl.col("_status").struct.field("known").alias("status_known"),
        )
        .drop("_status", "_modality")
    )


def _vocabulary_source(config: PipelineConfig, target: str) -> pl.Expr:
    """Return the text that is looked up for ``modality`` or ``performed_procedure_step_status``."""
    for rule in config.rules:
        if rule.target == target:
            return _rule_value(rule)
    return pl.col("status" if target == STATUS else "resource")


def add_mapped_fields(bookings: pl.LazyFrame, config: PipelineConfig) -> pl.LazyFrame:
    """Add the mapped targets, extracted where the rule has a pattern (T011, T014)."""
    rules = mapped_rules(config)
    return bookings.with_columns(_rule_value(rule).alias(rule.target) for rule in rules).with_columns(
        in_form(pl.col(rule.target), config.patient_name_form)
        for rule in rules
        if rule.target == "patient_name"
    )


def _rule_value(rule: FieldRule) -> pl.Expr:
    """Return what a rule takes from a booking."""
    if rule.extractions:
        return _extracted(rule.target, "value")
    value = pl.col(f"{SOURCE}{rule.source}")
    if keeps_joiners(rule.target):
        value = pl.map_batches(
            [value, pl.col(f"{JOINED}{rule.source}")],
            lambda columns: rejoined(*columns),
            return_dtype=pl.String,
            is_elementwise=True,
        )
    if values := rule.values:
        value = value.map_batches(
            lambda texts: translated_values(texts, values), return_dtype=pl.String, is_elementwise=True
        )
    return value


def add_repairs(bookings: pl.LazyFrame, config: PipelineConfig, today: date | None) -> pl.LazyFrame:
    """Repair the mapped fields (``repairs``), and keep the study as it was: it is compared before it is cut.

    A field is suspect, too, where a character was left out of its source.
    """
    sources = {rule.target: f"{SOURCE}{rule.source}" for rule in mapped_rules(config)}
    studies = [pl.col(STUDY).alias(f"{MAPPED}{STUDY}")] if STUDY in sources else []
    late = {
        rule.target: _extracted(rule.target, "timed_out")
        for rule in patterned_rules(config)
        if rule.target in sources
    }
    lost = pl.map_batches(
        ["repaired", "undecodable"],
        lambda columns: _with_suspects(columns[0], columns[1], sources),
        return_dtype=LABELS,
        is_elementwise=True,
    )
    return (
        bookings.with_columns(studies)
        .pipe(repaired_columns, list(sources), today, late)
        .with_columns(lost.alias("repaired"))
    )


def _with_suspects(repaired: pl.Series, undecodable: pl.Series, sources: Mapping[str, str]) -> pl.Series:
    if undecodable.null_count() == len(undecodable):
        return repaired
    labels = true_names(
        {f"{target}:suspect": pl.lit(undecodable).list.contains(source) for target, source in sources.items()}
    )
    return pl.select(pl.concat_list(repaired, labels).list.unique(maintain_order=True)).to_series()


def add_station(bookings: pl.LazyFrame, config: PipelineConfig) -> pl.LazyFrame:
    """Add the AE title of the resource's station (``resource_ae_title``), where none is mapped or the booking has none."""
    if not config.resource_ae_title:
        return bookings
    find = by_beginning(config.resource_ae_title)
    of_resource = pl.col("resource").map_batches(
        lambda names: map_distinct(names, find, pl.String), return_dtype=pl.String, is_elementwise=True
    )
    if STATION not in (rule.target for rule in mapped_rules(config)):
        return bookings.with_columns(of_resource.alias(STATION))
    return bookings.with_columns(
        pl.when(_is_empty(STATION)).then(of_resource).otherwise(pl.col(STATION)).alias(STATION)
    )


def add_booking_hash(bookings: pl.LazyFrame) -> pl.LazyFrame:
    """Add ``booking_hash`` (T015), of the texts as they came."""
    is_range = pl.col("generation") == "B"
    rendered = [formatted(pl.when(is_range).then(pl.col(name))) for name in ("wall_start", "wall_end")]
    formatted_name = pl.concat_str(pl.lit("["), rendered[0], pl.lit(", "), rendered[1], pl.lit("]"))
    return bookings.with_columns(booking_hash(formatted_name))


def add_origin(bookings: pl.LazyFrame, config: PipelineConfig) -> pl.LazyFrame:
    """Add where the entry came from: source, booking id and the booking hash as ``notes``."""
    return bookings.with_columns(
        pl.lit(config.source_name).alias("data_source"),
        pl.col("booking_id").cast(pl.String).alias("source_record_id"),
        pl.concat_str(pl.lit('{"booking_hash": "'), pl.col("booking_hash"), pl.lit('"}')).alias("notes"),
    )


def add_reject_reasons(
    bookings: pl.LazyFrame, config: PipelineConfig, reasons_before: Mapping[str, pl.Expr] | None = None
) -> pl.LazyFrame:
    """Add ``reject_reasons``: what makes an entry impossible, before DICOM's limits are looked at (T014)."""
    fault = pl.col("fault")
    is_range = pl.col("generation") == "B"
    missing = (
        pl.when(is_range)
        .then(_is_empty("range_start") | _is_empty("range_finish"))
        .otherwise(_is_empty("formatted_name"))
    )
    unreadable = pl.col("start_utc").is_null() | pl.col("end_utc").is_null()
    refused = [rule.target for rule in patterned_rules(config) if rule.on_no_match == "reject"]
    no_match = {
        reasons.field_reason(name, reasons.NO_MATCH): _extracted(name, "unmatched")
        & ~_extracted(name, "timed_out")
        for name in refused
    }
    has_pattern = any(rule.target == "patient_id" for rule in patterned_rules(config))
    timed_out = _extracted("patient_id", "timed_out") if has_pattern else pl.lit(value=False)
    missing_id = _is_empty("patient_id") & ~timed_out
    if "patient_id" in refused:
        missing_id &= ~_extracted("patient_id", "unmatched")
    own = {
        reasons.TIMES_MISSING: missing,
        reasons.TIMES_UNREADABLE: unreadable & ~missing,
        reasons.END_BEFORE_START: pl.col("end_utc") < pl.col("start_utc"),
        **no_match,
        reasons.field_reason("patient_id", reasons.PATTERN_TIMEOUT): timed_out,
        reasons.field_reason("patient_id", reasons.MISSING): missing_id,
    }
    flags = {
        **(reasons_before or {}),
        **{code: fault == code for code in (*PAYLOAD_FAULTS, reasons.BOOKING_ID_INVALID)},
        **{code: flag & is_readable() for code, flag in own.items()},
    }
    return bookings.with_columns(true_names(flags).alias("reject_reasons"))


def _is_empty(column: str) -> pl.Expr:
    """Null, empty, or nothing but white space of any kind: on a console nobody could tell it from nothing."""
    return pl.col(column).is_null() | (pl.col(column).str.strip_chars() == "")


def _with_known_columns(bookings: pl.LazyFrame, config: PipelineConfig) -> pl.LazyFrame:
    given = bookings.collect_schema()
    wrong = [
        f"{name} ({dtype})" for name, dtype in bookings_schema(config).items() if given.get(name) != dtype
    ]
    if wrong:
        raise PluginSchemaError(f"bookings frame: missing or of another type: {', '.join(wrong)}")
    return bookings
