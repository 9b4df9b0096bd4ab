"""A backfill's progress on the terminal: a bar a stage, with the rate and the time left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from pipeline.backfill.summary import Progress as Done
from pipeline.backfill.summary import ProgressCallback

STAGES = {
    "fetch": "Fetching from the server",
    "convert": "Converting bookings",
    "resolve": "Looking for repeated bookings",
    "merge": "Writing the months",
}


@contextmanager
def shown_on(console: Console) -> Iterator[ProgressCallback]:
    """Yield a callback that draws; where the console is no terminal, nothing is drawn."""
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    tasks: dict[str, tuple[TaskID, float, int]] = {}

    def tell(done: Done) -> None:
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
