"""The two pandera models, which are the gates: what ``read_bookings`` promises, and what may leave as an entry.

Each DICOM rule (``transform.repairs``) is a named check of the whole frame: pandera spends half a millisecond on a
check, whether it looks at one column or at all, so there is one for each kind of rule (``too_long``) and not one for each
field. Its failure cases say which rows fail, and the fields are named for these rows alone.

What stands in the environment or in pandera's configuration does not open the gates. pandera's own messages
and failure cases hold cell values, which are patients' names: nothing of them leaves this module.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, NamedTuple

import pandera.polars as pa
import polars as pl
from pandera.api.polars.types import PolarsData
from pandera.config import CONFIG, ValidationDepth, config_context

from pipeline import fields
from pipeline.errors import PluginSchemaError
from pipeline.fields import BookingField, WorklistField
from pipeline.transform.columns import true_names
from pipeline.transform.json_values import MAX_ID
from pipeline.transform.repairs import entry_rules

__all__ = ["BookingSchema", "Split", "WorklistEntrySchema", "check_bookings", "split"]


class _OfTable(pa.DataFrameModel):
    """A model that is built from a table of ``fields``; pandera's own ways, its exports among them, get the same schema."""

    @classmethod
    def build_schema_(cls, **_options: object) -> pa.DataFrameSchema:
        """Return what ``to_schema`` returns, for ``to_yaml``, ``to_json`` and the like."""
        return cls.to_schema()


class BookingSchema(_OfTable):
    """The bookings frame of ``read_bookings``: one row per payload, whatever the payload holds.

    Built from ``fields.BOOKING``. Only the structure is fixed, the content is free; ids are from 1 to 2^53-1. Further columns (``source:*``,
    ``hash:*``) may follow.
    """

    @classmethod
    def to_schema(cls) -> pa.DataFrameSchema:
        """Return the schema of the fields as the table has them now."""
        return _of_bookings(fields.BOOKING)


@lru_cache(maxsize=8)
def _of_bookings(table: tuple[BookingField, ...]) -> pa.DataFrameSchema:
    dtypes = {"id": pl.Int64, "flag": pl.Boolean, "text": pl.String}
    columns = {field.column: pa.Column(dtypes[field.usual], nullable=True) for field in table}
    ids = [pa.Check.ge(1), pa.Check.le(MAX_ID)]
    return pa.DataFrameSchema(
        {
            "row": pa.Column(pl.UInt32, unique=True),
            **columns,
            "booking_id": pa.Column(pl.Int64, checks=ids, nullable=True),
            "fault": pa.Column(pl.String, nullable=True),
            "undecodable": pa.Column(pl.List(pl.String), nullable=True),
            "generation": pa.Column(pl.String, checks=pa.Check.isin(["A", "B"])),
        },
        name="Booking",
    )


class WorklistEntrySchema(_OfTable):
    """The emitted entries: types, what must be there, and DICOM's limits; each check is named after its rule.

    Built from ``fields.WORKLIST``. Mapped fields other than ``patient_id`` may be missing as columns and null as values;
    columns that the table does not know may follow as text. A check looks at every column that the frame has.

    ``to_yaml`` and ``to_json`` write the checks by name, and ``from_yaml`` and ``from_json`` find them again where
    ``pipeline.schema`` is imported; so does ``to_schema().to_script()``. ``to_json_schema`` has names and types only, as with any
    pandera model. For readers without this package ``data/worklist_contract.json`` (``pipeline.contract``) says what
    each check refuses. To add columns: ``to_schema().add_columns``; a subclass's own annotations are not read.
    """

    @classmethod
    def to_schema(cls) -> pa.DataFrameSchema:
        """Return the schema of the fields as the table has them now."""
        return _of_table(fields.WORKLIST)


@lru_cache(maxsize=8)
def _of_table(table: tuple[WorklistField, ...]) -> pa.DataFrameSchema:
    endings = dict.fromkeys(rule.ending for rule in entry_rules(field.name for field in table))
    return pa.DataFrameSchema(
        {
            # The check ``missing`` refuses null where a field is required; pandera's own way costs another pass a column.
            field.name: pa.Column(getattr(pl, field.dtype), nullable=True, required=field.required)
            for field in table
        },
        checks=[_entry_check(ending) for ending in endings],
        name="WorklistEntry",
    )


class Split(NamedTuple):
    """``accepted``: which rows keep every rule (Boolean). ``reasons``: the broken rules of the others, List(String)."""

    accepted: pl.Series
    reasons: pl.Series


def split(entries: pl.DataFrame) -> Split:
    """Put entries through ``WorklistEntrySchema`` and tell the rows apart.

    Args:
        entries: the columns of an entry (see ``fields.WORKLIST``); any further ones are text.

    Returns:
        Which rows are accepted, and one list of reason codes for each row that is not, in order.

    Raises:
        PluginSchemaError: not single rows but the frame itself is wrong: a column is missing or has another type.
    """
    if wrong := _wrong_columns(entries):
        raise PluginSchemaError(f"entries frame: missing or of another type: {', '.join(wrong)}")
    accepted = pl.Series("accepted", [True], dtype=pl.Boolean).new_from_index(0, len(entries))
    failures = _failures(WorklistEntrySchema, entries)
    if failures is None:
        return Split(accepted, pl.Series("reasons", [], dtype=pl.List(pl.String)))
    rows = failures["index"].unique().sort()
    if rows.null_count():
        raise PluginSchemaError("entries frame: a rule could not be checked; nothing is let through")
    flags = {rule.code: rule.broken for rule in entry_rules(entries.columns)}
    broken = entries[rows.to_list()].select(true_names(flags).alias("reasons"))["reasons"]
    return Split(accepted.scatter(rows, False), broken)


def check_bookings(bookings: pl.DataFrame | pl.LazyFrame) -> None:
    """Hold a frame from outside to ``BookingSchema``; of a LazyFrame only columns and types are looked at.

    Raises:
        PluginSchemaError: the frame is not what ``read_bookings`` promises; names columns and checks, and no value.
    """
    failures = _failures(BookingSchema, bookings)
    if failures is None:
        return
    told = failures.select("column", "check", "failure_case").unique(maintain_order=True).rows()
    named = [
        f"{case} is missing" if check == _ABSENT else f"{column} breaks {check}"
        for column, check, case in told
    ]
    raise PluginSchemaError(
        f"bookings frame: {', '.join(dict.fromkeys(named))}; give the frame that read_bookings made"
    )


_ABSENT: Final = "column_in_dataframe"


def _failures(model: type[pa.DataFrameModel], frame: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame | None:
    """Return pandera's failure cases, None where there are none; ``failure_case`` holds values of cells."""
    depth = (
        ValidationDepth.SCHEMA_ONLY if isinstance(frame, pl.LazyFrame) else ValidationDepth.SCHEMA_AND_DATA
    )
    try:
        # PANDERA_VALIDATION_ENABLED and PANDERA_VALIDATION_DEPTH would let every row pass without a word.
        with config_context(validation_enabled=True, validation_depth=depth):
            model.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as error:
        failures: pl.DataFrame = error.failure_cases
        return failures
    except Exception as error:
        failed = type(error).__name__
    else:
        return None
    # Raised out here, so that a foreign error, which may hold values, is not its context.
    remedy = "; unset PANDERA_USE_NARWHALS_BACKEND" if getattr(CONFIG, "use_narwhals_backend", False) else ""
    raise PluginSchemaError(
        f"{model.__name__}: the frame could not be validated ({failed}); nothing is let through{remedy}"
    )


def _wrong_columns(entries: pl.DataFrame) -> list[str]:
    known = fields.by_name()
    wanted = dict.fromkeys((*entries.columns, *fields.names(required=True)))
    types = {name: getattr(pl, known[name].dtype) if name in known else pl.String for name in wanted}
    return [name for name, dtype in types.items() if entries.schema.get(name) != dtype]


def _entry_check(ending: str, **options: Any) -> pa.Check:
    """Return the check of all rules of one ending; ``options`` are those that an export of pandera holds."""
    return pa.Check(worklist_entry_rule, ending=ending, **({"name": ending} | options))


def worklist_entry_rule(data: PolarsData, ending: str) -> pl.LazyFrame | bool:
    """Return whether each row keeps the rules of this ending, over all columns that are there; True where all do."""
    frame = data.lazyframe.collect()
    kept = frame.select(_kept(tuple(frame.columns), ending, fields.WORKLIST))
    return True if kept.to_series().all() else kept.lazy()


# pandera writes a check that is registered, and leaves any other out of an export with no more than a warning. Entered by hand,
# because its own ``register_check_method`` imports pandas and takes no check of polars.
pa.Check.REGISTERED_CUSTOM_CHECKS[worklist_entry_rule.__name__] = _entry_check


@lru_cache(maxsize=256)
def _kept(columns: tuple[str, ...], ending: str, _table: tuple[WorklistField, ...]) -> pl.Expr:
    broken = [rule.broken for rule in entry_rules(columns) if rule.ending == ending]
    return ~pl.any_horizontal(pl.lit(value=False), *(each.fill_null(value=False) for each in broken))
