"""The public pandera models are the gates of production, and nothing outside the package opens them."""

from __future__ import annotations

import os
import subprocess
import sys

import pandera.polars as pa
import polars as pl
import pytest
from pandera.config import config_context

from pipeline import BookingSchema, WorklistEntrySchema, read_bookings, transform_bookings
from pipeline.errors import PluginSchemaError
from pipeline.schema import split
from tests.support.batches import batch_of, booking, config_of

SECRET = "Zebedee"
LONG = SECRET * 10


def test_the_public_model_judges_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that the public model gains or loses is gained or lost by the batch: there is no second gate."""
    whole = WorklistEntrySchema.to_schema()
    held = [check for check in whole.checks if check.name != "bad_character"]
    monkeypatch.setattr(
        WorklistEntrySchema, "to_schema", lambda: pa.DataFrameSchema(whole.columns, checks=held)
    )
    batch = batch_of(booking(id=1, value="a\\b"), booking(id=2, value=LONG), mapping={"patient_id": "value"})
    assert batch.accepted["booking_id"].to_list() == [1]


def test_failure_cases_name_rows_and_rules() -> None:
    """pandera's own answer to a user who validates entries: each failing row under each rule it breaks."""
    entries = batch_of(booking(id=1), booking(id=2), booking(id=3)).entries.with_columns(
        patient_id=pl.Series(["a", None, "x\\" * 40]), patient_name=pl.Series(["Doe", "a=b=c=d", "Roe"])
    )
    with pytest.raises(pa.errors.SchemaErrors) as caught:
        WorklistEntrySchema.validate(entries, lazy=True)
    cases = caught.value.failure_cases.select("check", "index").sort("index", "check").rows()
    assert cases == [("missing", 1), ("too_many_groups", 1), ("bad_character", 2), ("too_long", 2)]
    verdict = split(entries)
    assert verdict.accepted.to_list() == [True, False, False]
    assert verdict.reasons.to_list() == [
        ["patient_id_missing", "patient_name_too_many_groups"],
        ["patient_id_too_long", "patient_id_bad_character"],
    ]


@pytest.mark.parametrize(
    "setting",
    [{"validation_enabled": False}, {"validation_depth": "SCHEMA_ONLY"}],
    ids=["off", "schema only"],
)
def test_pandera_switched_off_opens_no_gate(setting: dict[str, object]) -> None:
    """Issue text: what stands in PANDERA_VALIDATION_ENABLED and _DEPTH, pandera's configuration, lets no broken row pass."""
    frame = read_bookings([booking()], config_of())
    with config_context(**setting):  # type: ignore[arg-type]
        batch = batch_of(
            booking(id=1, value="SUB1"), booking(id=2, value=LONG), mapping={"patient_id": "value"}
        )
        with pytest.raises(PluginSchemaError):
            transform_bookings(frame.with_columns(generation=pl.lit("C")), config_of())
    assert batch.rejected["booking_id"].to_list() == [2]


@pytest.mark.slow
@pytest.mark.parametrize(
    "variable",
    [
        "PANDERA_VALIDATION_ENABLED=False",
        "PANDERA_VALIDATION_DEPTH=SCHEMA_ONLY",
        "PANDERA_VALIDATION_DEPTH=DATA_ONLY",
    ],
)
def test_the_environment_opens_no_gate(variable: str) -> None:
    """The same, as an operator's environment has it, in a process of its own."""
    name, _, value = variable.partition("=")
    code = (
        "from tests.support.batches import batch_of, booking;"
        f"print(batch_of(booking(value={LONG!r}), mapping={{'patient_id': 'value'}}).rejected['reason'].to_list())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, name: value},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "patient_id_too_long" in done.stdout


def test_a_check_that_fails_lets_nothing_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that raises is the program's fault: an error without a value, and no entry."""

    def broken(data: object) -> bool:
        raise ValueError(LONG)

    whole = WorklistEntrySchema.to_schema()
    monkeypatch.setattr(
        WorklistEntrySchema, "to_schema", lambda: pa.DataFrameSchema(whole.columns, checks=pa.Check(broken))
    )
    with pytest.raises(PluginSchemaError, match="nothing is let through") as caught:
        batch_of(booking(title=f"SUB1_{SECRET}"))
    assert SECRET not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"row": pl.lit(0, dtype=pl.UInt32)}, "row breaks field_uniqueness"),
        ({"generation": pl.lit(SECRET)}, "generation breaks isin"),
        ({"booking_id": pl.lit(0, dtype=pl.Int64)}, "booking_id breaks greater_than_or_equal_to"),
        ({"booking_id": pl.lit(2**53, dtype=pl.Int64)}, "booking_id breaks less_than_or_equal_to"),
        ({"title": pl.lit(7)}, "title breaks dtype"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_frame_from_outside_is_held_to_the_model(change: dict[str, pl.Expr], told: str) -> None:
    """`BookingSchema` is what `read_bookings` promises: a user's frame that breaks it is refused by column and check."""
    frame = read_bookings([booking(id=1), booking(id=2)], config_of())
    BookingSchema.validate(frame)
    with pytest.raises(PluginSchemaError, match=told) as caught:
        transform_bookings(frame.with_columns(**change), config_of())
    assert SECRET not in str(caught.value)


def test_an_export_loses_no_check() -> None:
    """Promise: what pandera writes of the model, as YAML or JSON, is read again as the very same gate, and warns of nothing."""
    entries = batch_of(booking(id=1), booking(id=2)).entries
    broken = entries.with_columns(patient_id=pl.Series(["a", LONG]))
    model, schema = WorklistEntrySchema, WorklistEntrySchema.to_schema()
    for copy in (
        model.from_yaml(model.to_yaml()),
        model.from_json(model.to_json()),
        pa.DataFrameSchema.from_yaml(schema.to_yaml()),
        pa.DataFrameSchema.from_json(schema.to_json()),
    ):
        assert copy == schema
        assert [check.statistics for check in copy.checks] == [check.statistics for check in schema.checks]
        copy.validate(entries, lazy=True)
        with pytest.raises(pa.errors.SchemaErrors) as caught:
            copy.validate(broken, lazy=True)
        assert caught.value.failure_cases.select("check", "index").rows() == [("too_long", 1)]
    assert str(2**53 - 1) in BookingSchema.to_yaml()


def test_a_script_of_the_schema_finds_its_checks() -> None:
    """Promise: the calls that pandera's ``to_script`` writes for a check make the same check again."""
    (check,) = (check for check in WorklistEntrySchema.to_schema().checks if check.name == "too_long")
    written = pa.Check.worklist_entry_rule(
        ending="too_long", raise_warning=False, ignore_na=True, name="too_long"
    )
    assert written == check
