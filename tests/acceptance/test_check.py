"""`calpendo-pipeline check`: files of entries and bookings held to the contract, for a person and for CI."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from pipeline.batch import process_batch
from pipeline.check import CheckResult, check_file
from pipeline.commands import check as command
from pipeline.config import PipelineConfig
from pipeline.errors import PluginConfigError
from pipeline.output import write_entries
from pipeline.simulator.sample import sample_bookings, sample_config

DATA = Path(__file__).parents[2] / "data"
NAME = "Ærø_Zyxwvut"
Write = Callable[..., Path]


@pytest.fixture(scope="module")
def entries() -> pl.DataFrame:
    """The sample's entries, as the pipeline emits them."""
    config = PipelineConfig.from_dict(sample_config(), environ={}, offline=True)
    return process_batch(sample_bookings(), config).entries


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes JSON values line by line, or text as it is."""

    def _write(*lines: Any, name: str = "file.ndjson") -> Path:
        path = tmp_path / name
        path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
        return path

    return _write


def entry(**changes: Any) -> dict[str, Any]:
    """Return a sound entry as JSON holds it, with changes; a field that is None is left out."""
    sound = {
        "patient_id": "SUB001",
        "patient_name": NAME,
        "scheduled_start_date": "2026-11-23",
        "scheduled_start_time": "15:00:00",
        "scheduled_procedure_step_duration": 60,
        "modality": "MR",
        "performed_procedure_step_status": "SCHEDULED",
        "data_source": "calpendo",
        "source_record_id": "41001",
        "notes": json.dumps({"booking_hash": "0" * 64}),
        **changes,
    }
    return {key: value for key, value in sound.items() if value is not None}


def booking(booking_id: Any = 41001, **changes: Any) -> dict[str, Any]:
    """Return a sound booking of generation A, with changes."""
    return {
        "id": booking_id,
        "title": f"SUB001_{NAME}",
        "status": "Approved",
        "formattedName": "[2026-11-23 09:00:00.0, 2026-11-23 10:00:00.0]",
        "properties": {"resource": {"formattedName": "3T Diagnostic"}},
        **changes,
    }


def rules(path: Path, config: PipelineConfig | None = None) -> dict[tuple[int, str | None], tuple[str, ...]]:
    """Return line and booking id -> rules of every failing row."""
    return {
        (failure.line, failure.booking_id): failure.rules for failure in check_file(path, config).failures
    }


@pytest.mark.parametrize("ending", [".ndjson", ".parquet", ".csv"])
def test_what_the_pipeline_emits_passes(entries: pl.DataFrame, tmp_path: Path, ending: str) -> None:
    """Promise: entries in NDJSON, Parquet and CSV; what run --output writes keeps the contract."""
    path = tmp_path / f"entries{ending}"
    write_entries(entries.to_dicts(), path, dict(entries.schema))
    result = check_file(path)
    assert (result.kind, result.rows, result.passed) == ("entries", entries.height, True), result.failures[:3]


@pytest.mark.parametrize("ending", [".parquet", ".csv"])
def test_a_file_without_rows_has_columns_to_check(entries: pl.DataFrame, tmp_path: Path, ending: str) -> None:
    """Promise: a day without bookings passes; a file without a required column does not, even when it is empty."""
    path = tmp_path / f"entries{ending}"
    write_entries([], path, dict(entries.schema))
    assert check_file(path) == CheckResult("entries", 0, counted="row")
    write_entries([], path, dict(entries.drop("patient_id", "notes").schema))
    assert check_file(path).structure == ("column patient_id is missing", "column notes is missing")


def test_an_empty_file_passes(write: Write) -> None:
    """Promise: a day without bookings written as NDJSON is an empty file."""
    assert check_file(write()) == CheckResult("empty", 0)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"patient_id": None}, ("patient_id_missing",)),
        ({"patient_id": " "}, ("patient_id_missing",)),
        ({"patient_id": "\u00a0"}, ("patient_id_missing",)),
        ({"patient_id": "x" * 65}, ("patient_id_too_long",)),
        ({"patient_id": 3}, ("patient_id_malformed",)),
        ({"patient_name": "a\\b"}, ("patient_name_bad_character",)),
        ({"patient_name": "\ud800"}, ("patient_name_malformed",)),
        ({"patient_name": [NAME]}, ("patient_name_malformed",)),
        ({"modality": "mr"}, ("modality_malformed",)),
        ({"performed_procedure_step_status": "Approved"}, ("performed_procedure_step_status_malformed",)),
        ({"scheduled_start_date": "23.11.2026"}, ("scheduled_start_date_malformed",)),
        ({"scheduled_start_date": "2026-02-30"}, ("scheduled_start_date_malformed",)),
        ({"scheduled_start_date": None}, ("scheduled_start_date_missing",)),
        ({"scheduled_start_time": "25:00"}, ("scheduled_start_time_malformed",)),
        ({"scheduled_start_time": "15:00:00+01:00"}, ("scheduled_start_time_malformed",)),
        ({"scheduled_procedure_step_duration": -1}, ("scheduled_procedure_step_duration_malformed",)),
        ({"scheduled_procedure_step_duration": True}, ("scheduled_procedure_step_duration_malformed",)),
        ({"scheduled_procedure_step_duration": 1.5}, ("scheduled_procedure_step_duration_malformed",)),
        ({"notes": "{}"}, ("notes_malformed",)),
        ({"my_field": "a\u0007b"}, ("my_field_bad_character",)),
        ({"patient_id": "x" * 65, "modality": None}, ("patient_id_too_long", "modality_missing")),
    ],
)
def test_failing_entries_are_named_by_booking_and_rule(
    write: Write, change: dict[str, Any], told: Any
) -> None:
    """Promise: failing rows by booking id and rule."""
    path = write(entry(source_record_id="41000"), entry(**change))
    assert rules(path) == {(2, "41001"): told}


@pytest.mark.parametrize("time", ["15:00", "15:00:00", "15:00:00.5", "15:00:00.000000000"])
def test_times_may_be_written_as_polars_and_python_do(write: Write, time: str) -> None:
    """Promise: CSV and NDJSON of either are entries."""
    assert check_file(write(entry(scheduled_start_time=time))).passed


def test_a_booking_stands_there_once(write: Write) -> None:
    """Promise: the identity of a row is its source and its booking; another source may have the same number."""
    path = write(entry(), entry(source_record_id="2"), entry(), entry(data_source="other"))
    assert rules(path) == {(3, "41001"): ("duplicate_booking_id",)}


def test_lines_that_are_no_objects_are_failing_rows(write: Write) -> None:
    """Promise: a bad line costs no other."""
    path = write(entry(), '{"patient_id": ', "[1]", "", "3", entry(source_record_id="2"))
    assert rules(path) == {
        (2, None): ("payload_not_json",),
        (3, None): ("payload_not_object",),
        (5, None): ("payload_not_object",),
    }


def test_bookings_are_recognised_and_checked(write: Write) -> None:
    """Promise: bookings of both generations; without a mapping only what is wrong with the booking itself counts."""
    path = write(
        booking(1),
        booking(2, title="x" * 300),
        booking("3"),
        booking(4, formattedName=None),
        booking(5, formattedName="[2026-11-23 09:00:00.0, 2026-11-23 08:00:00.0]"),
        booking(1),
        {
            "id": 6,
            "properties": {"dateRange": {"start": "2026-11-23T09:00:00Z", "finish": "2026-11-23T10:00:00Z"}},
        },
        '{"id": 7',
    )
    assert check_file(path).kind == "bookings"
    assert rules(path) == {
        (1, "1"): ("duplicate_booking_id",),
        (3, None): ("booking_id_invalid",),
        (4, "4"): ("times_missing",),
        (5, "5"): ("end_before_start",),
        (8, None): ("payload_not_json",),
    }


def test_bookings_are_taken_through_a_mapping(write: Write) -> None:
    """Promise: with a configuration, what the mapping makes of them is checked as well."""
    config = PipelineConfig.from_dict(sample_config(), environ={}, offline=True)
    path = write(booking(1), booking(2, title="x" * 300))
    assert rules(path, config) == {(2, "2"): ("patient_id_too_long",)}


def test_a_booking_that_is_ignored_is_no_failure(write: Write) -> None:
    """Promise: a phantom that the configuration ignores is no failing row, and the rows after it keep their numbers."""
    config = PipelineConfig.from_dict(
        {**sample_config(), "ignore_titles": "phantom"}, environ={}, offline=True
    )
    path = write(
        booking(1), booking(2, title="PHANTOM"), booking(3, title="x" * 300), booking(2, title="phantom")
    )
    assert rules(path, config) == {
        (2, "2"): ("duplicate_booking_id",),
        (3, "3"): ("patient_id_too_long",),
    }


@pytest.mark.parametrize("around", [b"%s", b'{"biskits": [%s]}'])
def test_a_broken_byte_costs_its_own_row(tmp_path: Path, around: bytes) -> None:
    """Rule: a byte that is no UTF-8 rejects the booking whose title holds it, whatever the file's form."""
    titles = ("SUB001_José", "SUB002_BROKEN", "SUB003_Ann")
    rows = [
        json.dumps(booking(number, title=title), ensure_ascii=False).encode().replace(b"BROKEN", b"Jos\xe9 ")
        for number, title in enumerate(titles, 1)
    ]
    path = tmp_path / "bookings.json"
    path.write_bytes(around % (b"\n" if around == b"%s" else b", ").join(rows))
    result = check_file(path)
    assert [(failure.booking_id, failure.rules) for failure in result.failures] == [
        ("2", ("text_undecodable",))
    ]


def test_duplicates_are_found_across_chunks(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise: ids are unique over the whole file, however large it is."""
    monkeypatch.setattr("pipeline.check.CHUNK", 2)
    path = write(*(booking(number) for number in (1, 2, 3, 1, 4, 5)))
    assert rules(path) == {(4, "1"): ("duplicate_booking_id",)}
    path = write(*(entry(source_record_id=str(number)) for number in (1, 2, 3, 1)))
    assert rules(path) == {(4, "1"): ("duplicate_booking_id",)}


def test_bookings_in_columns_are_bookings(tmp_path: Path) -> None:
    """Promise: Parquet and CSV of bookings, nested, flat, or as a column of JSON."""
    good, reversed_range = (
        booking(1),
        booking(2, formattedName="[2026-11-23 09:00:00.0, 2026-11-23 08:00:00.0]"),
    )
    nested, flat, texts = tmp_path / "a.parquet", tmp_path / "b.csv", tmp_path / "c.parquet"
    pl.DataFrame([good, reversed_range]).write_parquet(nested)
    columns = {key: [good[key], reversed_range[key]] for key in ("id", "title", "status", "formattedName")}
    pl.DataFrame({**columns, "properties.resource.formattedName": ["3T", "3T"]}).write_csv(flat)
    pl.DataFrame({"payload": [json.dumps(good), json.dumps(reversed_range)]}).write_parquet(texts)
    for path in (nested, flat, texts):
        assert check_file(path).kind == "bookings"
        assert rules(path) == {(2, "2"): ("end_before_start",)}


def test_the_labels_of_the_sample_pass() -> None:
    """Promise: the sample files are held to the contract in CI."""
    result = check_file(DATA / "expected_entries.ndjson")
    assert result.kind == "labels"
    assert result.passed, result.failures
    assert result.rows > 120


def test_wrong_labels_are_found(write: Write) -> None:
    """Promise: a label asks for an entry that DICOM allows, or for a rejection that the pipeline knows."""
    path = write(
        {"booking_id": 1, "expected": {"patient_id": "SUB001"}},
        {"booking_id": 2, "expected": {"modality": "much too long for DICOM"}},
        {"booking_id": 3, "rejected": "times_missing; patient_id_missing"},
        {"booking_id": 4, "rejected": "because"},
        {"booking_id": 5, "expected": 3},
    )
    assert rules(path) == {
        (2, "2"): ("modality_too_long", "modality_malformed"),
        (4, "4"): ("rejected_unknown_reason",),
        (5, "5"): ("label_without_verdict",),
    }


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"a": 1}\n', "holds neither entries"),
        (b"[{}]", "holds neither entries"),
        (b"[{}", "is not valid JSON"),
        (b"PAR1 and nothing more", "cannot be read as Parquet"),
        (b"a,b\n1,2\n", "holds neither bookings"),
        (b"id,title\n1,2,3\n", "cannot be read as CSV"),
        (b"\x89PNG\r\n\0", "neither JSON, CSV nor Parquet"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, told: str) -> None:
    """Promise: a file that is none of them is a wrong call, told without its content."""
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(PluginConfigError, match=told):
        check_file(path)


def test_missing_files_are_refused(tmp_path: Path) -> None:
    """Promise: exit code 2 has its reason."""
    for path in (tmp_path / "none.ndjson", tmp_path):
        with pytest.raises(PluginConfigError, match="cannot be read"):
            check_file(path)


odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
keys = st.sampled_from([*entry(), *booking(), "study_description", "my_field", "booking_id", "expected"])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.dictionaries(keys, odd, max_size=3), max_size=4),
    base=st.sampled_from([entry, booking]),
)
def test_any_content_is_checked_or_refused(write: Write, changes: list[dict[str, Any]], base: Any) -> None:
    """Promise: no content makes the check fall over."""
    try:
        result = check_file(write(*({**base(), **change} for change in changes)))
    except PluginConfigError:
        return
    assert result.rows == len(changes)


@pytest.fixture
def app() -> typer.Typer:
    """The command by itself."""
    app = typer.Typer()
    app.command()(command.check)
    return app


def test_the_command_for_ci(app: typer.Typer, write: Write) -> None:
    """Promise: exit codes 0, 1 and 2, failing rows by booking id and rule, and no value of any cell."""
    good = CliRunner().invoke(app, [str(write(entry()))])
    assert (good.exit_code, good.output.splitlines()[-1].split(": ")[-1]) == (0, "1 entries, 0 failing")
    path = write(
        entry(),
        entry(source_record_id="2", patient_name=f"{NAME}\\"),
        entry(source_record_id=NAME, notes=NAME),
    )
    bad = CliRunner().invoke(app, [str(path)])
    assert bad.exit_code == 1
    assert "line 2  booking 2  patient_name_bad_character" in bad.output
    assert "line 3  no readable id  notes_malformed" in bad.output
    assert "patient_name holds a backslash or a control character" in bad.output
    assert NAME not in bad.output
    limited = CliRunner().invoke(app, [str(path), "--limit", "1"])
    assert "... and 1 more" in limited.output
    assert CliRunner().invoke(app, [str(path.parent / "none")]).exit_code == 2


def test_the_command_takes_a_configuration(app: typer.Typer, write: Write) -> None:
    """Promise: a centre holds its mapping and its sample to the contract."""
    path = write(booking(1), booking(2, title="no convention"))
    example = str(DATA / "calpendo_config_example.json")
    assert CliRunner().invoke(app, [str(path), "--config", example]).exit_code == 0
    config = write(
        {"field_mapping": {"patient_id": {"source_field": "title", "_extract": {"pattern": "("}}}}, name="c"
    )
    refused = CliRunner().invoke(app, [str(path), "--config", str(config)])
    assert refused.exit_code == 2
    assert "position 0" in refused.output
