"""The backfill's promises on small archives: what is written, what is refused, what is done again."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from pipeline.backfill import Progress, backfill
from pipeline.backfill.layout import HALF_WRITTEN
from pipeline.batch import process_batch
from pipeline.commands.backfill import backfill as command
from pipeline.config import PipelineConfig
from pipeline.errors import PluginConfigError, PluginSchemaError, PluginStateError
from pipeline.simulator.sample import sample_config
from pipeline.simulator.synthetic import synthetic_bookings

CONFIG = PipelineConfig.from_dict(sample_config(), offline=True)
SEGMENT = 60_000


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Write three hundred invented bookings, one a line."""
    path = tmp_path / "archive.ndjson"
    path.write_text("".join(json.dumps(booking) + "\n" for booking in synthetic_bookings(300, seed=3)))
    return path


def _frames(output: Path, kind: str = "entries") -> pl.DataFrame:
    files = sorted((output / kind).rglob("*.parquet"))
    return pl.concat([pl.read_parquet(file, hive_partitioning=False) for file in files])


def test_entries_lie_in_the_month_they_start(archive: Path, tmp_path: Path) -> None:
    """Backfill: entries are those of one batch, partitioned by the month of scheduled_start_date."""
    out = tmp_path / "out"
    summary = backfill([archive], out, CONFIG, segment_bytes=SEGMENT)
    batch = process_batch(archive.read_bytes().splitlines(), CONFIG)
    assert (summary.read, summary.entries) == (300, batch.entries.height)
    assert _frames(out).sort("source_record_id").equals(batch.entries.sort("source_record_id"))
    for folder in (out / "entries").iterdir():
        starts = pl.read_parquet(folder, hive_partitioning=False)["scheduled_start_date"]
        assert {f"month={start:%Y-%m}" for start in starts} == {folder.name}
    scanned = pl.scan_parquet(out / "entries").filter(month="2024-01").collect()
    assert scanned["scheduled_start_date"].is_between(date(2024, 1, 1), date(2024, 1, 31)).all()


def test_rejected_rows_can_be_found_and_read_again(archive: Path, tmp_path: Path) -> None:
    """Backfill: a rejected row names its file and line and keeps its payload; the rejected files are an archive."""
    lines = archive.read_text().split("\n")
    lines.insert(100, "")
    lines.insert(150, "{broken")
    archive.write_text("\n".join(lines))
    summary = backfill([archive], tmp_path / "out", CONFIG, segment_bytes=SEGMENT)
    rejected = _frames(tmp_path / "out", "rejected")
    assert summary.rejected == rejected.height
    assert dict(rejected.filter(line=151).select("source", "reason", "payload").row(0, named=True)) == {
        "source": str(archive),
        "reason": "payload_not_json",
        "payload": "{broken",
    }
    for row in rejected.iter_rows(named=True):
        assert lines[row["line"] - 1] == row["payload"]
    again = backfill([tmp_path / "out/rejected"], tmp_path / "again", CONFIG)
    assert (again.read, again.rejected) == (rejected.height, rejected.height)


def test_the_newest_version_stays_across_files(tmp_path: Path) -> None:
    """Backfill: ids are unique over the whole output; the newest modified stays, of equal ones the last source's."""
    first, *_ = synthetic_bookings(1, seed=3)
    versions = [
        ("a", "2024-02-02 10:00:00.0"),
        ("b", "2024-02-03 10:00:00.0"),
        ("c", "2024-02-03 10:00:00.0"),
        ("d", None),
    ]
    for name, modified in versions:
        booking = json.loads(json.dumps(first))
        booking["title"] = f"SUB100_{name}"
        booking["properties"]["modified"] = modified
        (tmp_path / f"{name}.ndjson").write_text(json.dumps(booking) + "\n")
    summary = backfill([f"{tmp_path}/?.ndjson"], tmp_path / "out", CONFIG)
    assert (summary.entries, summary.replaced) == (1, 3)
    assert _frames(tmp_path / "out")["patient_name"].to_list() == ["c"]
    replaced = _frames(tmp_path / "out", "replaced")
    assert [Path(source).name for source in replaced["source"]] == ["a.ndjson", "b.ndjson", "d.ndjson"]


def test_a_newest_version_that_is_rejected_replaces_an_older_one(tmp_path: Path) -> None:
    """Backfill: a booking whose newest version is unusable is rejected, not shown as it once was."""
    old, *_ = synthetic_bookings(1, seed=3)
    new = json.loads(json.dumps(old))
    new["properties"]["modified"] = "2030-01-01 00:00:00.0"
    new["title"] = ""
    for name, booking in (("new", new), ("old", old)):
        (tmp_path / f"{name}.ndjson").write_text(json.dumps(booking) + "\n")
    summary = backfill([tmp_path / "new.ndjson", tmp_path / "old.ndjson"], tmp_path / "out", CONFIG)
    assert (summary.entries, summary.rejected, summary.replaced) == (0, 1, 1)


def test_parquet_archives_of_texts_and_of_columns(archive: Path, tmp_path: Path) -> None:
    """Backfill: payloads as a text column, and bookings as columns, give the entries that their NDJSON gives."""
    bookings = [json.loads(line) for line in archive.read_text().splitlines()]
    usable = [booking for booking in bookings if isinstance(booking.get("title"), str)]
    pl.DataFrame({"payload": [json.dumps(booking) for booking in usable]}).write_parquet(
        tmp_path / "a.parquet"
    )
    pl.from_dicts(usable, infer_schema_length=None, strict=False).write_parquet(tmp_path / "b.parquet")
    expected = process_batch(usable, CONFIG).entries
    for name in "ab":
        backfill([tmp_path / f"{name}.parquet"], tmp_path / name, CONFIG)
        found = _frames(tmp_path / name)
        assert found["source_record_id"].to_list() == expected["source_record_id"].to_list()
        columns = expected.drop("notes").columns if name == "b" else expected.columns
        assert found.select(columns).equals(expected.select(columns))


def test_a_parquet_file_that_holds_no_bookings_is_refused(tmp_path: Path) -> None:
    """Backfill: entries taken for an archive are refused with their columns, before anything is written."""
    pl.DataFrame({"patient_id": ["a"]}).write_parquet(tmp_path / "entries.parquet")
    with pytest.raises(PluginConfigError, match=r"holds no bookings.*patient_id"):
        backfill([tmp_path / "entries.parquet"], tmp_path / "out", CONFIG)


def test_files_are_the_owners_alone(archive: Path, tmp_path: Path) -> None:
    """Backfill: patient data is written with mode 0600 in directories of mode 0700, whatever the umask."""
    backfill([archive], tmp_path / "deep" / "out", CONFIG, segment_bytes=SEGMENT)
    for path in (tmp_path / "deep").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_nothing_of_the_work_is_left(archive: Path, tmp_path: Path, isolated_environment: Path) -> None:
    """Backfill: only the output and its manifest remain, and no ledger was made."""
    backfill([archive], tmp_path / "out", CONFIG, segment_bytes=SEGMENT)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"entries", "rejected", "replaced", "manifest.json", ".lock"}
    assert not list(isolated_environment.rglob("*.sqlite"))


def test_a_finished_backfill_is_not_done_again(archive: Path, tmp_path: Path) -> None:
    """Backfill: the same command on a complete output changes nothing, says so, and gives the same counts."""
    out = tmp_path / "out"
    first = backfill([archive], out, CONFIG)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    again = backfill([archive], out, CONFIG)
    assert again == replace(first, was_complete=True)
    assert again.to_text() == f"The output was complete already; nothing was done.\n{first.to_text()}"
    assert first.rate > 0
    assert again.rate == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")} == times


def test_the_work_s_form_counts_only_while_there_is_work(archive: Path, tmp_path: Path) -> None:
    """Backfill: a version that works in another way refuses half-done work, and knows a finished backfill as finished."""
    out = tmp_path / "out"
    first = backfill([archive], out, CONFIG)
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["plan"]["format"] += 1
    manifest["plan"]["sources"][0]["remembered_by_that_version"] = "x"
    (out / "manifest.json").write_text(json.dumps(manifest))
    assert backfill([archive], out, CONFIG) == replace(first, was_complete=True)

    (out / "manifest.json").unlink()
    (out / ".backfill").mkdir()
    (out / ".backfill/plan.json").write_text(json.dumps(manifest["plan"]))
    with pytest.raises(PluginStateError, match="another form"):
        backfill([archive], out, CONFIG)
    for damaged in ("[]", "7", "[" * 100_000):
        (out / "manifest.json").write_text(damaged)
        with pytest.raises(PluginStateError, match="--restart"):
            backfill([archive], out, CONFIG)


DAMAGES = (b"", b'{"rows": "x"}', b"\xff\x00" * 40)


def test_damaged_work_is_told(archive: Path, tmp_path: Path) -> None:
    """Backfill: whatever a disk did to the work of a killed backfill, one sentence says to begin anew."""

    def stop(progress: Progress) -> None:
        if progress.stage == "merge" and progress.done > progress.total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backfill([archive], tmp_path / "out", CONFIG, progress=stop)
    files = [
        path
        for path in (tmp_path / "out/.backfill").rglob("*")
        if path.is_file() and path.parent.name != "staged"
    ]
    told = []
    for file, damage in product(
        {(file.parent.parent.name, file.suffix): file for file in files}.values(), DAMAGES
    ):
        kept = file.read_bytes()
        file.write_bytes(damage)
        try:
            backfill([archive], tmp_path / "out", CONFIG, progress=stop)
        except PluginStateError as error:
            told.append(str(error))
        except KeyboardInterrupt:
            pass
        file.write_bytes(kept)
    assert len(told) > 6
    assert all("--restart" in error for error in told)


def test_a_full_disk_is_told_and_costs_nothing(archive: Path, tmp_path: Path) -> None:
    """Backfill: where the disk refuses, one sentence says so, and with room again the same command goes on."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for stage in ("convert", "resolve"):

        def no_room(progress: Progress, stage: str = stage) -> None:
            if progress.stage == stage:
                resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))

        try:
            with pytest.raises(PluginStateError, match=r"cannot be written \(File too large\); make room"):
                backfill([archive], tmp_path / "out", CONFIG, progress=no_room, segment_bytes=SEGMENT)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    resumed = backfill([archive], tmp_path / "out", CONFIG, segment_bytes=SEGMENT)
    assert resumed.resumed
    assert resumed.entries == backfill([archive], tmp_path / "whole", CONFIG).entries


@pytest.mark.parametrize("stop_after", ["convert", "resolve", "merge"])
def test_a_stopped_backfill_goes_on(archive: Path, tmp_path: Path, stop_after: str) -> None:
    """Backfill: stopped within any stage, it goes on with what is there, and the result is the same."""
    whole = backfill([archive], tmp_path / "whole", CONFIG, segment_bytes=SEGMENT)

    def stop(progress: Progress) -> None:
        if progress.stage == stop_after and progress.done > progress.total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backfill([archive], tmp_path / "out", CONFIG, segment_bytes=SEGMENT, progress=stop)
    assert not (tmp_path / "out/entries").exists(), "nothing half-done is shown"
    done = len(list((tmp_path / "out/.backfill/segments").glob("[0-9]*")))
    assert done
    resumed = backfill([archive], tmp_path / "out", CONFIG, segment_bytes=SEGMENT)
    assert resumed.resumed
    assert (resumed.entries, resumed.months, resumed.reasons) == (whole.entries, whole.months, whole.reasons)
    for kind in ("entries", "rejected"):
        assert _frames(tmp_path / "out", kind).equals(_frames(tmp_path / "whole", kind))


def test_what_a_kill_left_half_written_is_not_published(archive: Path, tmp_path: Path) -> None:
    """Backfill: files are whole or absent, also where a killed worker was writing a month or the manifest."""
    out = tmp_path / "out"

    def leave_behind(progress: Progress) -> None:
        if progress.stage == "merge" and progress.done:
            month = out / ".backfill/merge/.00001.01234567.tmp/entries/month=2026-11"
            month.mkdir(parents=True, exist_ok=True)
            (month / "part-0001.parquet").touch()
            (out / ".manifest.json.01234567.tmp").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backfill([archive], out, CONFIG, progress=leave_behind)
    backfill([archive], out, CONFIG)
    assert not list(out.rglob(HALF_WRITTEN))
    assert not list(out.rglob("part-0001.parquet"))


def test_another_backfill_is_not_joined_to_this_one(archive: Path, tmp_path: Path) -> None:
    """Backfill: a directory of another configuration, other sources or other content is refused until --restart."""
    out = tmp_path / "out"
    backfill([archive], out, CONFIG)
    other = CONFIG.model_copy(
        update={"output_timezone": "UTC" if CONFIG.output_timezone == "site" else "site"}
    )
    with pytest.raises(PluginStateError, match=r"another configuration.*--restart"):
        backfill([archive], out, other)
    with archive.open("a") as file:
        file.write("{}\n")
    with pytest.raises(PluginStateError, match=r"archive\.ndjson: its contents"):
        backfill([archive], out, CONFIG)
    assert backfill([archive], out, other, restart=True).read == 301


def test_how_bookings_are_fetched_does_not_matter_for_an_archive(archive: Path, tmp_path: Path) -> None:
    """Backfill: an option without a part in the entries, such as a timeout, does not make it another backfill."""
    first = backfill([archive], tmp_path / "out", CONFIG)
    assert backfill(
        [archive], tmp_path / "out", CONFIG.model_copy(update={"detail_timeout": 3.0})
    ) == replace(first, was_complete=True)


def test_a_source_that_changes_meanwhile_is_noticed(archive: Path, tmp_path: Path) -> None:
    """Backfill: a file that is written to while it is read makes no output."""

    def write(progress: Progress) -> None:
        if progress.stage == "convert":
            archive.write_text("{}\n")

    with pytest.raises(PluginConfigError, match="changed while they were read"):
        backfill([archive], tmp_path / "out", CONFIG, progress=write)
    assert not (tmp_path / "out/entries").exists()


def test_what_no_backfill_wrote_is_left_alone(archive: Path, tmp_path: Path) -> None:
    """Backfill: a directory with entries of unknown origin is refused, also with --restart."""
    (tmp_path / "out/entries").mkdir(parents=True)
    for restart in (False, True):
        with pytest.raises(PluginStateError, match="already holds entries"):
            backfill([archive], tmp_path / "out", CONFIG, restart=restart)


def test_two_backfills_do_not_write_to_one_directory(archive: Path, tmp_path: Path) -> None:
    """Backfill: a second one on the same output gets a clear error at once."""

    def second(progress: Progress) -> None:
        with pytest.raises(PluginStateError, match="another backfill is writing"):
            backfill([archive], tmp_path / "out", CONFIG)

    backfill([archive], tmp_path / "out", CONFIG, progress=second)


def test_a_lost_row_is_an_error_and_nothing_is_published(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law of conservation: were a row lost on the way, the backfill would fail and show no output."""
    from pipeline.backfill import merge

    kept = merge.kept
    monkeypatch.setattr(merge, "kept", lambda *args: kept(*args).slice(1))
    with pytest.raises(PluginSchemaError, match="accounts for"):
        backfill([archive], tmp_path / "out", CONFIG)
    assert not (tmp_path / "out/entries").exists()


def test_a_target_named_month_is_refused(archive: Path, tmp_path: Path) -> None:
    """Backfill: a mapped field may not hide the partition's column."""
    mapping: dict[str, Any] = {"patient_id": "title", "month": "status"}
    config = PipelineConfig.from_dict({"field_mapping": mapping}, offline=True)
    with pytest.raises(PluginConfigError, match="'month'"):
        backfill([archive], tmp_path / "out", config)


def test_an_empty_archive_gives_an_empty_output(tmp_path: Path) -> None:
    """Backfill: nothing in, nothing out, no error."""
    (tmp_path / "a.ndjson").write_bytes(b"\n")
    summary = backfill([tmp_path / "a.ndjson"], tmp_path / "out", CONFIG)
    assert (summary.read, summary.entries, summary.months) == (0, 0, {})


@pytest.mark.slow
def test_worker_processes_give_what_this_process_gives(archive: Path, tmp_path: Path) -> None:
    """Backfill: two worker processes write the same rows in the same order as none."""
    backfill([archive], tmp_path / "one", CONFIG, workers=1, segment_bytes=SEGMENT)
    backfill([archive], tmp_path / "two", CONFIG, workers=2, segment_bytes=SEGMENT)
    for kind in ("entries", "rejected"):
        assert _frames(tmp_path / "one", kind).equals(_frames(tmp_path / "two", kind))


def test_the_command(archive: Path, tmp_path: Path) -> None:
    """Command: counts on standard output, exit code 0; a wrong call is exit code 2 and says what to write."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps(sample_config()))
    app = typer.Typer()
    app.command()(command)
    call = [str(archive), "--output", str(tmp_path / "out"), "--config", str(config)]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    assert "300 bookings read" in done.output
    as_json = CliRunner().invoke(app, [*call, "--json"])
    assert json.loads(as_json.stdout)["read"] == 300
    wrong = CliRunner().invoke(app, ["--output", str(tmp_path / "out")])
    assert wrong.exit_code == 2
    assert "either archives" in wrong.output
