"""The schema gate: pandera models of the two frames, and the split into accepted and rejected rows.

Every rule is one named Boolean expression (``transform.dicom_limits``). ``WorklistEntrySchema`` carries each as a check of
its own, for reading and for files. The gate of a batch, ``split``, is the same schema with all rules in one check: pandera
spends a millisecond on each check, and a rule is evaluated once this way. Failing rows are then named rule by rule.

pandera's own messages hold cell values, which are patients' names: nothing of them leaves this module.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple, Optional

import pandera.polars as pa
import polars as pl
from pandera.api.polars.types import PolarsData

from pipeline.errors import PluginSchemaError
from pipeline.transform.dicom_limits import VR, entry_rules
from pipeline.transform.labels import true_names
from pipeline.transform.reasons import (
    BAD_CHARACTER,
    MALFORMED,
    MISSING,
    TOO_LONG,
    TOO_MANY_COMPONENTS,
    TOO_MANY_GROUPS,
)

__all__ = ["BookingSchema", "Split", "WorklistEntrySchema", "entry_schema", "split"]

_DTYPES = {
    "scheduled_start_date": pl.Date(),
    "scheduled_start_time": pl.Time(),
    "scheduled_procedure_step_duration": pl.Int64(),
}


class BookingSchema(pa.DataFrameModel):
    """The bookings frame of ``read_bookings``: one row a payload, whatever the payload holds.

    Only the structure is fixed, the content is free. Further columns (``source:*``, ``hash:*``) may follow.
    """

    row: pl.UInt32 = pa.Field(unique=True)
    booking_id: pl.Int64 = pa.Field(nullable=True, ge=1)
    fault: pl.String = pa.Field(nullable=True)
    generation: pl.String = pa.Field(isin=["A", "B"])
    title: pl.String = pa.Field(nullable=True)
    status: pl.String = pa.Field(nullable=True)
    formatted_name: pl.String = pa.Field(nullable=True)
    project: pl.String = pa.Field(nullable=True)
    resource: pl.String = pa.Field(nullable=True)
    modified: pl.String = pa.Field(nullable=True)
    range_start: pl.String = pa.Field(nullable=True)
    range_finish: pl.String = pa.Field(nullable=True)
    cancelled: pl.Boolean = pa.Field(nullable=True)


def _fields_with(ending: str) -> list[str]:
    fields = (*VR, *WORKLIST_COMPUTED)
    return [rule.field for rule in entry_rules(fields) if rule.ending == ending]


WORKLIST_COMPUTED = (*_DTYPES, "data_source", "source_record_id", "notes")


class WorklistEntrySchema(pa.DataFrameModel):
    """The emitted entries: types, what must be there, and DICOM's limits; each check is named after its rule.

    Mapped targets other than ``patient_id`` may be missing as columns and null as values; targets that this table
    does not know may follow as text.
    """

    patient_id: pl.String
    patient_name: Optional[pl.String] = pa.Field(nullable=True)  # noqa: UP045  pandera reads the annotation
    patient_birth_date: Optional[pl.String] = pa.Field(nullable=True)  # noqa: UP045
    patient_sex: Optional[pl.String] = pa.Field(nullable=True)  # noqa: UP045
    patient_weight_lb: Optional[pl.String] = pa.Field(nullable=True)  # noqa: UP045
    accession_number: Optional[pl.String] = pa.Field(nullable=True)  # noqa: UP045
    referring_physician_name: Optional[pl.String] = pa.Field(nullable=True)  # noqa: UP045
    study_description: Optional[pl.String] = pa.Field(nullable=True)  # noqa: UP045
    study_instance_uid: Optional[pl.String] = pa.Field(nullable=True)  # noqa: UP045
    scheduled_station_aetitle: Optional[pl.String] = pa.Field(nullable=True)  # noqa: UP045
    performing_physician: Optional[pl.String] = pa.Field(nullable=True)  # noqa: UP045
    procedure_description: Optional[pl.String] = pa.Field(nullable=True)  # noqa: UP045
    protocol_name: Optional[pl.String] = pa.Field(nullable=True)  # noqa: UP045
    station_name: Optional[pl.String] = pa.Field(nullable=True)  # noqa: UP045
    hisris_coding_designator: Optional[pl.String] = pa.Field(nullable=True)  # noqa: UP045
    scheduled_start_date: pl.Date
    scheduled_start_time: pl.Time
    scheduled_procedure_step_duration: pl.Int64
    modality: pl.String
    performed_procedure_step_status: pl.String
    data_source: pl.String
    source_record_id: pl.String
    notes: pl.String

    @pa.check(*_fields_with(MISSING), name=MISSING)
    def _present(cls, data: PolarsData) -> pl.LazyFrame:  # noqa: N805
        return _holds(data, MISSING)

    @pa.check(*_fields_with(TOO_LONG), name=TOO_LONG)
    def _short_enough(cls, data: PolarsData) -> pl.LazyFrame:  # noqa: N805
        return _holds(data, TOO_LONG)

    @pa.check(*_fields_with(BAD_CHARACTER), name=BAD_CHARACTER)
    def _good_characters(cls, data: PolarsData) -> pl.LazyFrame:  # noqa: N805
        return _holds(data, BAD_CHARACTER)

    @pa.check(*_fields_with(MALFORMED), name=MALFORMED)
    def _well_formed(cls, data: PolarsData) -> pl.LazyFrame:  # noqa: N805
        return _holds(data, MALFORMED)

    @pa.check(*_fields_with(TOO_MANY_GROUPS), name=TOO_MANY_GROUPS)
    def _few_groups(cls, data: PolarsData) -> pl.LazyFrame:  # noqa: N805
        return _holds(data, TOO_MANY_GROUPS)

    @pa.check(*_fields_with(TOO_MANY_COMPONENTS), name=TOO_MANY_COMPONENTS)
    def _few_components(cls, data: PolarsData) -> pl.LazyFrame:  # noqa: N805
        return _holds(data, TOO_MANY_COMPONENTS)


class Split(NamedTuple):
    """``accepted``: which rows keep every rule (Boolean). ``reasons``: the broken rules of the others, List(String)."""

    accepted: pl.Series
    reasons: pl.Series


def split(entries: pl.DataFrame) -> Split:
    """Validate entries eagerly and tell the rows apart; ``reasons`` has one item for each row not accepted, in order.

    Raises PluginSchemaError where not single rows but the frame itself is wrong: a column is missing or has another type.
    """
    accepted = pl.Series("accepted", [True], dtype=pl.Boolean).new_from_index(0, len(entries))
    none = pl.Series("reasons", [], dtype=pl.List(pl.String))
    try:
        entry_schema(tuple(entries.columns)).validate(entries, lazy=True)
    except pa.errors.SchemaErrors as error:
        rows = error.failure_cases["index"]
    else:
        return Split(accepted, none)
    # Raised out here, so that pandera's error, which holds values, is not its context.
    if rows.null_count():
        raise PluginSchemaError(f"entries frame: missing or of another type: {_wrong_columns(entries)}")
    rows = rows.unique().sort()
    flags = {rule.code: rule.broken for rule in entry_rules(entries.columns)}
    broken = entries[rows.to_list()].select(true_names(flags).alias("reasons"))["reasons"]
    return Split(accepted.scatter(rows, False), broken)


@lru_cache(maxsize=32)
def entry_schema(columns: tuple[str, ...]) -> pa.DataFrameSchema:
    """Return the gate for entries of these columns: types, and one check of all rules (``dicom_rules``)."""
    holds = ~pl.any_horizontal(rule.broken.fill_null(value=False) for rule in entry_rules(columns))
    return pa.DataFrameSchema(
        {name: pa.Column(dtype, nullable=True) for name, dtype in _types(columns).items()},
        checks=pa.Check(lambda data: data.lazyframe.select(holds), name="dicom_rules"),
        name="WorklistEntry",
    )


def _types(columns: Iterable[str]) -> dict[str, pl.DataType]:
    """Return the types of these columns and of those that no entry may lack."""
    model = WorklistEntrySchema.to_schema().columns
    required = [name for name, column in model.items() if column.required]
    return {name: _DTYPES.get(name, pl.String()) for name in dict.fromkeys((*columns, *required))}


def _wrong_columns(entries: pl.DataFrame) -> str:
    return ", ".join(
        name for name, dtype in _types(entries.columns).items() if entries.schema.get(name) != dtype
    )


def _holds(data: PolarsData, ending: str) -> pl.LazyFrame:
    """Return whether each row keeps the rule of this field and ending."""
    broken = next(rule.broken for rule in entry_rules((data.key,)) if rule.ending == ending)
    return data.lazyframe.select(~broken.fill_null(value=False))
