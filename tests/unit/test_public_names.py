"""What a program or a notebook has at hand is taken: a configuration in any form, bookings in any form."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipeline import (
    CalendoPlugin,
    PipelineConfig,
    open_bookings,
    process_batch,
    read_bookings,
    transform_bookings,
)
from pipeline.audit import LiveBookings, audit
from pipeline.backfill import backfill
from pipeline.calpendo.client import CalpendoClient
from pipeline.check import check_file
from pipeline.config.credentials import Credentials
from pipeline.errors import PluginConfigError
from pipeline.simulator.sample import sample_bookings, sample_config
from pipeline.transform.selection import Selection

CONFIG: dict[str, Any] = {
    "base_url": "https://example.calpendo.com",
    "resources": ["3T"],
    "field_mapping": {"patient_id": "title"},
}
FILE: dict[str, Any] = {
    "data_sources": [
        {"type": "calpendo", "name": "mri", "config": CONFIG},
        {"type": "redcap", "config": {}},
    ]
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the path of a configuration file with one Calpendo source."""
    path = tmp_path / "mwl_config.json"
    path.write_text(json.dumps(FILE))
    return path


def test_a_configuration_is_taken_in_every_form(file: Path) -> None:
    """Promise: a PipelineConfig, a config block, a file's content, one source of it, or a path mean the same."""
    expected = PipelineConfig.from_dict(CONFIG, source_name="mri", environ={})
    assert PipelineConfig.of(expected) is expected
    assert PipelineConfig.from_file(file) == expected
    assert PipelineConfig.from_file(str(file), "mri", environ={}) == expected
    for config in (file, str(file), FILE, FILE["data_sources"][0], pickle.loads(pickle.dumps(expected))):
        assert PipelineConfig.of(config, environ={}) == expected
    assert PipelineConfig.of(CONFIG, source="mri", environ={}) == expected
    assert PipelineConfig.of({"field_mapping": {"patient_id": "id"}}, environ={}).rules[0].source == "id"


def test_the_source_is_chosen_or_asked_for(tmp_path: Path) -> None:
    """Promise: of a file with two sources one is chosen by name, and the choices are told without one."""
    two = {"data_sources": [{**FILE["data_sources"][0], "name": name} for name in ("mri", "eeg")]}
    assert PipelineConfig.of(two, source="eeg", environ={}).source_name == "eeg"
    with pytest.raises(PluginConfigError, match="'mri', 'eeg'"):
        PipelineConfig.of(two, environ={})
    path = tmp_path / "two.json"
    path.write_text(json.dumps(two))
    with pytest.raises(PluginConfigError, match="'mri', 'eeg'"):
        PipelineConfig.from_file(path)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (None, "got null; write a PipelineConfig, "),
        ([CONFIG], "got a list of 1 item; write a PipelineConfig, "),
        (json.dumps(CONFIG), "got JSON text; write the file's path, or json.loads"),
        ("no/such/file.json", "not found"),
        ({"data_sources": []}, "no enabled Calpendo source"),
        ({"resources": "3T"}, "resources: got the text '3T'; write a list"),
    ],
)
def test_what_is_no_configuration_is_one_sentence(config: Any, told: str) -> None:
    """House rule: what cannot be a configuration is refused in one sentence that says what to write."""
    with pytest.raises(PluginConfigError, match=told) as caught:
        PipelineConfig.of(config, environ={})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", [CONFIG, {}, {"timezone": "UTC"}, {"rules": (), **CONFIG}])
def test_the_constructor_never_drops_a_mapping(given: dict[str, Any]) -> None:
    """Promise: ``PipelineConfig(**config)`` says which call reads ``field_mapping`` and makes nothing half."""
    for make in (lambda: PipelineConfig(**given), lambda: PipelineConfig.model_validate(given)):
        with pytest.raises(PluginConfigError, match=r"from_dict\(config\).*from_file\("):
            make()


def test_a_whole_file_is_no_config_block() -> None:
    """Promise: a file's whole content handed to ``from_dict`` is refused, not read as a source without a mapping."""
    for whole, key in ((FILE, "data_sources"), ({"config": CONFIG}, "config")):
        with pytest.raises(PluginConfigError, match=rf"{key}: stands around .*; write PipelineConfig\.of"):
            PipelineConfig.from_dict(whole, environ={}, offline=True)


@lru_cache
def bookings() -> tuple[dict[str, Any], ...]:
    """Return bookings of both payload generations, whose flat columns hold all that they do."""
    return tuple(sample_bookings()[4:14])


@lru_cache
def expected_entries() -> pl.DataFrame:
    """Return the bookings' entries."""
    return process_batch(bookings(), sample_config()).entries


def flat(payload: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Return a booking as a row of flat columns, as ``pandas.json_normalize`` and Calpendo's exports have it."""
    row: dict[str, Any] = {}
    for key, value in payload.items():
        row |= flat(value, f"{before}{key}.") if isinstance(value, dict) else {f"{before}{key}": value}
    return row


def flat_frame() -> pl.DataFrame:
    """Return the bookings with flat columns."""
    return pl.DataFrame([flat(payload) for payload in bookings()], infer_schema_length=None)


def texts() -> list[str]:
    """Return the bookings as JSON."""
    return [json.dumps(payload) for payload in bookings()]


def pandas_frame(given: Any) -> Any:
    """Return a pandas frame; pandas is loaded by this test, never by the pipeline."""
    import pandas

    return pandas.DataFrame(given)


def csv_file(folder: Path) -> Path:
    """Write the flat columns as CSV."""
    flat_frame().write_csv(folder / "bookings.csv")
    return folder / "bookings.csv"


def parquet_file(folder: Path) -> str:
    """Write the flat columns as Parquet."""
    flat_frame().write_parquet(folder / "bookings.parquet")
    return str(folder / "bookings.parquet")


FORMS: dict[str, Callable[[Path], Any]] = {
    "generator": lambda _folder: (text for text in texts()),
    "payload column": lambda _folder: pl.DataFrame({"payload": texts()}),
    "lazy bytes": lambda _folder: pl.LazyFrame({"payload": [text.encode() for text in texts()]}),
    "objects": lambda _folder: pl.DataFrame({"payload": pl.Series(bookings(), dtype=pl.Object)}),
    "series": lambda _folder: pl.Series(texts()),
    "flat columns": lambda _folder: flat_frame(),
    "flat, read from CSV": lambda folder: pl.read_csv(csv_file(folder)),
    "flat, all text": lambda folder: pl.scan_csv(csv_file(folder), infer_schema=False),
    "CSV file": csv_file,
    "Parquet file": parquet_file,
    "pandas, payloads": lambda _folder: pandas_frame({"payload": texts()}),
    "pandas, series": lambda _folder: pandas_frame({"payload": bookings()})["payload"],
    "pandas, flat": lambda _folder: pandas_frame([flat(payload) for payload in bookings()]),
    "pandas, by id": lambda _folder: pandas_frame([flat(payload) for payload in bookings()]).set_index("id"),
    "what read_bookings returned": lambda _folder: read_bookings(bookings(), sample_config()).lazy(),
}


@pytest.mark.parametrize("form", FORMS)
def test_bookings_mean_the_same_in_every_form(form: str, tmp_path: Path) -> None:
    """Promise: lists, files and frames of polars and pandas give the same entries, hash (T015) and all."""
    batch = process_batch(FORMS[form](tmp_path), sample_config())
    assert len(batch.entries) > 6
    assert_frame_equal(batch.entries, expected_entries())


def test_a_table_means_what_a_person_sees_in_it() -> None:
    """Promise: gaps make no number of an id a fraction, no NaN a name, and a zoned time keeps its instant."""
    config = {
        "timezone": "America/Edmonton",
        "field_mapping": {"patient_id": "properties.subject", "patient_name": "title"},
    }
    start = datetime(2026, 12, 1, 9, tzinfo=ZoneInfo("UTC"))
    zoned = pl.Series([start, None]).dt.convert_time_zone("America/Edmonton")
    columns = {
        "id": [7.0, float("nan")],
        "title": ["Li", None],
        "properties.subject": [1234.0, float("nan")],
        "dateRange.start": zoned,
        "dateRange.finish": zoned.dt.offset_by("1h"),
    }
    pandas = pandas_frame(
        columns | {key: columns[key].to_list() for key in ("dateRange.start", "dateRange.finish")}
    )
    for frame in (pl.DataFrame(columns), pandas):
        batch = process_batch(frame, config)
        (entry,) = batch.to_dicts()
        assert (entry["patient_id"], entry["source_record_id"], entry["patient_name"]) == ("1234", "7", "Li")
        assert (
            datetime.combine(entry["scheduled_start_date"], entry["scheduled_start_time"], start.tzinfo)
            == start
        )
        assert entry["scheduled_procedure_step_duration"] == 60
        assert batch.rejected["reasons"][0].to_list()[0] == "booking_id_invalid"


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a booking": (lambda: {"id": 1, "title": "Smith"}, "got a single object; put it into a list"),
    "its text": (lambda: '{"title": "Smith"}', "got a single JSON text; put it into a list"),
    "its bytes": (lambda: b"{}", "got a single JSON text; put it into a list"),
    "nothing": (lambda: None, "got a NoneType; write a list of bookings"),
    "a number": (lambda: 3, "got a int; write a list of bookings"),
    "no file": (lambda: "Smith.ndjson", "cannot be read"),
    "another frame": (lambda: pl.LazyFrame({"name": ["Smith"]}), "no bookings .its columns: name.; write"),
    "no columns": (pl.DataFrame, "no bookings .its columns: none.; write"),
    "numbers": (lambda: pl.DataFrame({"payload": [1]}), "column 'payload' is Int64; it must be"),
    "a series of numbers": (lambda: pl.Series([1]), "column 'payload' is Int64; it must be"),
    "entries": (
        expected_entries,
        "holds worklist entries, not bookings",
    ),
    "a lazy frame that fails": (
        lambda: pl.LazyFrame({"id": [1], "title": ["Smith"]}).with_columns(pl.col("title").cast(pl.Int64)),
        r"the LazyFrame cannot be read \(InvalidOperationError\); write",
    ),
    "pandas without names": (lambda: pandas_frame([["Smith", 2]]), "must have names that are texts"),
    "another pandas frame": (
        lambda: pandas_frame({"name": ["Smith"]}),
        "no bookings .its columns: name.; write",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_holds_no_bookings_is_refused_in_one_sentence(case: str) -> None:
    """Promise: what is no payloads is never iterated by key, column or character, and no value is quoted."""
    make, told = REFUSED[case]
    for call in (read_bookings, process_batch, audit):
        with pytest.raises(PluginConfigError, match=told) as caught:
            call(make(), sample_config())
        assert "\n" not in str(caught.value)
        assert "Smith" not in str(caught.value).replace("Smith.ndjson", "")


def test_every_public_function_takes_a_configuration_in_any_form(file: Path, tmp_path: Path) -> None:
    """Promise: wherever a config is taken, a dict or a path will do, also where a server is asked."""
    source = tmp_path / "bookings.ndjson"
    source.write_text("\n".join(texts()))
    expected = PipelineConfig.of(file)
    login = Credentials("somebody", "secret")
    for config in (CONFIG, str(file)):
        frame = read_bookings(bookings(), config)
        wide = transform_bookings(frame, config).collect()
        assert wide["patient_id"].to_list() == process_batch(frame, config).asked_for["patient_id"].to_list()
        assert audit(source, config).overview.bookings == check_file(source, config).rows == len(frame)
        LiveBookings(CalpendoClient(expected, login), config, 1)
        plugin = CalendoPlugin("mri", config, credentials=login, environ={})
        plugin.validate_config()
        assert plugin.base_url == "https://example.calpendo.com"
    assert backfill(str(source), tmp_path / "out", str(file)).read == len(bookings())
    offline = PipelineConfig.of({"field_mapping": {"patient_id": "title"}}, environ={})
    with pytest.raises(PluginConfigError, match="base_url: missing; write"):
        CalendoPlugin("mri", offline, credentials=login).validate_config()


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (
            lambda: transform_bookings(list(bookings()), CONFIG),
            "got a list; write the frame that read_bookings",
        ),  # type: ignore[arg-type]
        (lambda: check_file(flat_frame(), CONFIG), "got a DataFrame; write a file's path"),  # type: ignore[arg-type]
        (lambda: backfill(flat_frame(), "out", CONFIG), "got a DataFrame; write the paths of files"),  # type: ignore[arg-type]
    ],
)
def test_a_frame_in_a_wrong_place_is_told(call: Callable[[], Any], told: str) -> None:
    """House rule: a function that takes files or one frame alone says so, and which function takes the rest."""
    with pytest.raises(PluginConfigError, match=told):
        call()


def test_a_notebook_sees_sizes_and_reasons_and_no_value() -> None:
    """Promise: what a notebook shows of a batch, of bookings and of the workbench holds no title, id or name."""
    config = sample_config()
    bench = open_bookings([*bookings(), {"id": 1, "title": "Zebedee"}], config=config)
    filtered = process_batch(bookings(), config, selection=Selection(resources=("no such",)))
    for shown in (bench._repr_html_(), bench.batch._repr_html_(), repr(bench), filtered._repr_html_()):
        assert "Zebedee" not in shown
        assert not any(value in shown for value in bench.entries["patient_id"])
    assert repr(bench) == "Workbench('11 bookings', Batch(accepted=10, rejected=1, filtered=0))"
    for html, row in (
        (bench._repr_html_(), ["rejected", "1", "times_missing"]),
        (filtered._repr_html_(), ["filtered", "10", "resource"]),
    ):
        cells = [re.sub("<[^>]*>", " ", f"<{line}").split() for line in html.split("<tr")[2:]]
        assert row in [words[:3] for words in cells], cells
    assert len(bench.bookings) == 11
    assert bench.rejected["booking_id"].to_list() == [1]


def test_a_workbench_of_a_file_and_of_the_sample(tmp_path: Path) -> None:
    """Promise: ``open_bookings`` takes a file, a frame, or nothing, which is the sample with its labels."""
    bench = open_bookings(csv_file(tmp_path), config=sample_config())
    assert_frame_equal(bench.entries, expected_entries())
    assert_frame_equal(open_bookings(flat_frame(), config=sample_config()).entries, bench.entries)
    sample = open_bookings()
    assert sample.expected is not None
    assert sample.name == "the invented sample"
    assert len(sample.bookings) >= len(sample_bookings())
    with pytest.raises(PluginConfigError, match=r"write open_bookings\(config="):
        sample.why(1)
