"""``calpendo-pipeline backfill``: archives, or a server's bookings of some days, to Parquet by month."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.commands.exits import exit_codes, say

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline.backfill import Progress, ProgressCallback, ServerRange
    from pipeline.config import PipelineConfig
    from pipeline.config.credentials import Credentials

DAY = ["%Y-%m-%d"]
STAGES = {
    "fetch": "Fetching from the server",
    "convert": "Converting bookings",
    "resolve": "Looking for repeated bookings",
    "merge": "Writing the months",
}


def backfill(
    output: Annotated[
        Path,
        typer.Option(help="Directory for the Parquet files; made where it is missing.", file_okay=False),
    ],
    sources: Annotated[
        list[str] | None,
        typer.Argument(help="Archives: files, directories or globs; NDJSON (plain, gzip, zstd) or Parquet."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="Pylantir's configuration file, or one source's config object."),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="The source's name, where the file holds several.")
    ] = None,
    first: Annotated[
        datetime | None,
        typer.Option("--from", formats=DAY, help="First day to fetch from the server, instead of archives."),
    ] = None,
    last: Annotated[
        datetime | None, typer.Option("--to", formats=DAY, help="Last day to fetch, included.")
    ] = None,
    window_days: Annotated[int, typer.Option(help="Days that one request asks for.", min=1, max=366)] = 7,
    workers: Annotated[
        int | None, typer.Option(help="Processes that work; default: one per core.", min=1, max=512)
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(help="Let a Dask cluster work: the scheduler's address, tcp://host:8786.")
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Throw away what an earlier backfill left in the directory.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Turn bookings of any number into Parquet files of worklist entries, one directory per month.

    A killed backfill continues where it stopped when the same command is started again. The ledger is not touched.
    Exit code 0: done; 1: it failed, start it again; 2: arguments, configuration or an archive are wrong.
    """
    with exit_codes():
        from pipeline.backfill import backfill as run_backfill
        from pipeline.commands.render import terminal
        from pipeline.simulator.sample import WITHOUT_CONFIG

        asked = _asked(sources, first, last, window_days)
        checked, credentials = _configured(config, source, server=first is not None)
        console = terminal(err=True)
        for warning in (*([WITHOUT_CONFIG] if config is None else []), *checked.warnings):
            say(f"Note: {warning}", err=True)
        with _shown_on(console) as progress:
            summary = run_backfill(
                asked,
                output,
                checked,
                credentials=credentials,
                cluster=cluster,
                workers=workers,
                restart=restart,
                progress=progress,
            )
        if as_json:
            say(summary.to_json())
            return
        console = terminal()
        console.print(summary.to_text())
        pace = f" ({summary.rate:,.0f} bookings per second)" if summary.rate else ""
        console.print(f"in {output}{pace}")


def _asked(
    sources: list[str] | None, first: datetime | None, last: datetime | None, days: int
) -> list[str] | ServerRange:
    from pipeline.backfill import ServerRange
    from pipeline.errors import PluginConfigError

    if (first is None) != (last is None):
        raise PluginConfigError("--from and --to belong together; write both")
    if bool(sources) == (first is not None):
        raise PluginConfigError("write either archives, or a server's days with --from and --to")
    if first is not None and last is not None:
        return ServerRange(first.date().isoformat(), last.date().isoformat(), days)
    return sources or []


def _configured(
    config: Path | None, source: str | None, *, server: bool
) -> tuple[PipelineConfig, Credentials | None]:
    from pipeline.config import PipelineConfig
    from pipeline.config.credentials import Credentials
    from pipeline.config.file import select_source
    from pipeline.errors import PluginConfigError
    from pipeline.simulator.sample import file_config

    if not server:
        return file_config(config, source), None
    if config is None:
        raise PluginConfigError("--from and --to need --config with the server's address and resources")
    settings = select_source(config, source)
    checked = PipelineConfig.from_dict(settings.config, source_name=settings.name)
    return checked, Credentials.from_environment()


@contextmanager
def _shown_on(console: Console) -> Iterator[ProgressCallback]:
    """Yield a callback that draws a bar per stage, with the rate and the time left; nothing where there is no terminal."""
    from rich import progress as rich

    bars = rich.Progress(
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.TaskProgressColumn(),
        rich.TextColumn("{task.fields[rate]}"),
        rich.TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    tasks: dict[str, tuple[rich.TaskID, float, int]] = {}

    def tell(done: Progress) -> None:
        if done.stage not in tasks:
            # What an earlier run did is where the bar begins; the rate is this run's alone.
            task = bars.add_task(STAGES[done.stage], total=done.total, completed=done.done, rate="")
            tasks[done.stage] = (task, time.monotonic(), done.bookings)
        task, began, before = tasks[done.stage]
        seconds = time.monotonic() - began
        rate = ""
        if done.stage == "convert" and seconds > 1:
            rate = f"{(done.bookings - before) / seconds:,.0f} bookings/s"
        bars.update(task, total=done.total, completed=done.done, rate=rate)

    with bars:
        yield tell
