"""The schema gate: pandera models of the two frames, and the split into accepted and rejected rows.

Every rule is one named Boolean expression (``transform.dicom_limits``). ``WorklistEntrySchema`` carries each as a check of
its own, for reading and for files. The gate of a batch, ``split``, is the same schema with all rules in one check: pandera
spends a millisecond on each check, and a rule is evaluated once this way. Failing rows are then named rule by rule.

pandera's own messages hold cell values, which are patients' names: nothing of them leaves this module.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache, partial
from typing import NamedTuple

import pandera.polars as pa
import polars as pl
from pandera.api.polars.types import PolarsData

from pipeline import fields
from pipeline.errors import PluginSchemaError
from pipeline.fields import WorklistField
from pipeline.transform.dicom_limits import entry_rules
from pipeline.transform.labels import true_names

__all__ = ["BookingSchema", "Split", "WorklistEntrySchema", "entry_schema", "split"]


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


class WorklistEntrySchema(pa.DataFrameModel):
    """The emitted entries: types, what must be there, and DICOM's limits; each check is named after its rule.

    Built from ``fields.WORKLIST``. Mapped fields other than ``patient_id`` may be missing as columns and null as values;
    columns that the table does not know may follow as text.
    """

    @classmethod
    def to_schema(cls) -> pa.DataFrameSchema:
        """Return the schema of the fields as the table has them now."""
        return _of_table(fields.WORKLIST)


@lru_cache(maxsize=8)
def _of_table(table: tuple[WorklistField, ...]) -> pa.DataFrameSchema:
    rules = entry_rules(field.name for field in table)
    return pa.DataFrameSchema(
        {
            field.name: pa.Column(
                getattr(pl, field.dtype),
                checks=[
                    pa.Check(partial(_holds, broken=rule.broken), name=rule.ending)
                    for rule in rules
                    if rule.field == field.name
                ],
                nullable=not field.required,
                required=field.required,
            )
            for field in table
        },
        name="WorklistEntry",
    )


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


def entry_schema(columns: tuple[str, ...]) -> pa.DataFrameSchema:
    """Return the gate for entries of these columns: types, and one check of all rules (``dicom_rules``)."""
    return _gate(columns, fields.WORKLIST)


@lru_cache(maxsize=32)
def _gate(columns: tuple[str, ...], _table: tuple[WorklistField, ...]) -> pa.DataFrameSchema:
    holds = ~pl.any_horizontal(rule.broken.fill_null(value=False) for rule in entry_rules(columns))
    return pa.DataFrameSchema(
        {name: pa.Column(dtype, nullable=True) for name, dtype in _types(columns).items()},
        checks=pa.Check(lambda data: data.lazyframe.select(holds), name="dicom_rules"),
        name="WorklistEntry",
    )


def _types(columns: Iterable[str]) -> dict[str, pl.DataType]:
    """Return the types of these columns and of those that no entry may lack."""
    known = fields.by_name()
    wanted = dict.fromkeys((*columns, *fields.names(required=True)))
    return {name: getattr(pl, known[name].dtype)() if name in known else pl.String() for name in wanted}


def _wrong_columns(entries: pl.DataFrame) -> str:
    return ", ".join(
        name for name, dtype in _types(entries.columns).items() if entries.schema.get(name) != dtype
    )


def _holds(data: PolarsData, broken: pl.Expr) -> pl.LazyFrame:
    """Return whether each row keeps a rule."""
    return data.lazyframe.select(~broken.fill_null(value=False))
