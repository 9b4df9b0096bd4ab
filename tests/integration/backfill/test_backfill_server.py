"""A range of days brought from a server over real sockets, in bounded windows."""

from __future__ import annotations

import json
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from pipeline.backfill import Progress, ServerRange, backfill
from pipeline.backfill.server import days_of, window_of
from pipeline.commands.backfill import backfill as command
from pipeline.config import PipelineConfig
from pipeline.config.credentials import Credentials
from pipeline.errors import PluginConfigError, PluginFetchError
from pipeline.simulator import CalpendoSimulator
from pipeline.simulator.sample import sample_config
from pipeline.simulator.synthetic import synthetic_bookings

BOOKINGS = list(synthetic_bookings(1000, seed=4, start=date(2024, 1, 20)))
RESOURCES = ["3T Diagnostic", "EEG Lab"]
DAYS = ServerRange("2024-01-25", "2024-02-05", days=4)


def _config(simulator: CalpendoSimulator, **changes: Any) -> PipelineConfig:
    options = {"base_url": simulator.url, "resources": RESOURCES, "fetch_mode": "bulk", "max_retries": 0}
    return PipelineConfig.from_dict({**sample_config(), "status_filter": None, **options, **changes})


def _login(simulator: CalpendoSimulator) -> Credentials:
    return Credentials(simulator.username, simulator.password)


def test_a_range_is_cut_into_windows_without_a_gap() -> None:
    """Backfill: the windows of a range follow each other at the site's midnights, across a clock change too."""
    config = PipelineConfig.from_dict({"timezone": "America/Edmonton"}, offline=True)
    days = days_of(ServerRange("2024-03-01", "2024-03-20", days=7))
    windows = [window_of(config, first, beyond) for first, beyond in days]
    assert [(window.end - window.start).total_seconds() / 3600 for window in windows] == [168, 167, 144]
    assert all(one.end == next_one.start for one, next_one in pairwise(windows))
    assert str(windows[0].start) == "2024-03-01 00:00:00-07:00"
    assert str(windows[-1].end) == "2024-03-21 00:00:00-06:00"


def test_days_of_a_server_become_entries(tmp_path: Path) -> None:
    """Backfill: the bookings of the wanted resources that start on the days asked for, and no others."""
    with CalpendoSimulator(BOOKINGS) as simulator:
        config = _config(simulator, output_timezone="site")
        summary = backfill(DAYS, tmp_path / "out", config, credentials=_login(simulator))
        lists = [request for request in simulator.requests if "/q/Calpendo.Booking" in request.path]
    entries = pl.read_parquet(tmp_path / "out/entries")
    assert len(lists) == 3
    assert summary.read == summary.entries + summary.rejected + summary.filtered
    assert summary.entries > 150
    assert entries["scheduled_start_date"].is_between(date(2024, 1, 25), date(2024, 2, 5)).all()
    assert set(entries["scheduled_start_date"]) >= {date(2024, 1, 25), date(2024, 1, 31), date(2024, 2, 5)}
    assert set(summary.months) == {"2024-01", "2024-02"}


def test_a_broken_fetch_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Backfill: windows that were brought whole are not asked for again after the server failed."""
    with CalpendoSimulator(BOOKINGS) as simulator:
        config, login = _config(simulator), _login(simulator)
        whole = backfill(DAYS, tmp_path / "whole", config, credentials=login)

        def break_down(progress: Progress) -> None:
            if progress.stage == "fetch" and progress.done == 2:
                simulator.faults.add("status", code=500)

        with pytest.raises(PluginFetchError):
            backfill(DAYS, tmp_path / "out", config, credentials=login, progress=break_down)
        simulator.faults.clear()
        simulator.reset_counters()
        resumed = backfill(DAYS, tmp_path / "out", config, credentials=login)
        assert len([request for request in simulator.requests if "/q/Calpendo.Booking" in request.path]) == 1
    assert (resumed.entries, resumed.rejected, resumed.months) == (
        whole.entries,
        whole.rejected,
        whole.months,
    )


def test_a_detail_that_cannot_be_had_is_an_error_and_not_a_gap(tmp_path: Path) -> None:
    """Backfill: a booking whose details fail for good stops the fetch by its id; nothing is written without it."""
    wanted = next(
        b for b in BOOKINGS if b["properties"]["resource"]["formattedName"] == "EEG Lab" and b["id"] % 5 < 3
    )
    with CalpendoSimulator([wanted]) as simulator:
        simulator.put(dict(wanted, id=77))
        simulator.faults.add("status", match=r"/b/Calpendo\.Booking/77$", code=500)
        day = wanted["formattedName"][1:11]
        with pytest.raises(PluginFetchError, match="ids 77"):
            backfill(
                ServerRange(day, day),
                tmp_path / "out",
                _config(simulator, fetch_mode="details", batch_deadline=5.0),
                credentials=_login(simulator),
            )
    assert not (tmp_path / "out/manifest.json").exists()


def test_the_command_fetches(tmp_path: Path, credentials: tuple[str, str]) -> None:
    """Command: --from and --to bring days from the configured server; without --config that is refused."""
    app = typer.Typer()
    app.command()(command)
    days = ["--from", "2024-01-25", "--to", "2024-01-26", "--output", str(tmp_path / "out")]
    assert CliRunner().invoke(app, days).exit_code == 2
    with CalpendoSimulator(BOOKINGS) as simulator:
        path = tmp_path / "config.json"
        path.write_text(json.dumps({**sample_config(), "base_url": simulator.url, "resources": RESOURCES}))
        done = CliRunner().invoke(app, [*days, "--config", str(path)])
    assert done.exit_code == 0, done.output
    assert "bookings read" in done.output


def test_a_range_that_ends_before_it_begins_is_refused(tmp_path: Path) -> None:
    """Backfill: a reversed range is a configuration error before the server is asked."""
    with CalpendoSimulator([]) as simulator, pytest.raises(PluginConfigError, match="swap them"):
        backfill(
            ServerRange("2024-02-01", "2024-01-01"),
            tmp_path / "out",
            _config(simulator),
            credentials=_login(simulator),
        )
