"""All benchmarks, each beside its row-by-row reference in the same run: ``python -m tests.benchmarks``.

Writes a table, a chart of the growth and the raw numbers to ``docs/benchmarks``. Each way runs at each size in a process
of its own; its memory is that of the process and its workers together, looked at fifty times a second.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import psutil
import typer

from tests.benchmarks.machine import machine
from tests.benchmarks.results import Result, write_results
from tests.benchmarks.subjects import SUBJECTS

ROOT = Path(__file__).parents[2]
SIZES = (50, 10_000, 200_000, 1_000_000)
LOOK_SECONDS = 0.02
ROUNDS = 5
ROUNDS_SECONDS = 100.0
"""No round is begun that would end later than this; the first one always is."""


class Memory:
    """The largest sum of resident memory of a process and its children, the simulated server left out."""

    def __init__(self, process: int) -> None:
        self.peak = 0
        self.leave_out: set[int] = set()
        self._process = psutil.Process(process)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            total = 0
            try:
                family = [self._process, *self._process.children(recursive=True)]
            except psutil.Error:
                return
            for member in family:
                if member.pid not in self.leave_out:
                    try:
                        total += member.memory_info().rss
                    except psutil.Error:
                        continue
            self.peak = max(self.peak, total)

    def forget(self) -> None:
        """Begin anew: what preparing took does not count."""
        self.peak = 0

    def stop(self) -> int:
        """End watching; return the peak in bytes."""
        self._stop.set()
        self._thread.join()
        return self.peak


def run_way(subject: str, way: str, count: int, folder: Path) -> Result:
    """Run one way at one size in a child process; return its best call."""
    call = [sys.executable, "-m", "tests.benchmarks.child", subject, way, str(count), str(folder)]
    with subprocess.Popen(call, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        memory = Memory(child.pid)
        calls = []
        for line in child.stdout or ():
            seen = json.loads(line)
            if "ready" in seen:
                memory.leave_out = {int(seen["server"])} if seen["server"] else set()
                memory.forget()
            else:
                calls.append(seen)
        peak = memory.stop()
    if child.returncode or not calls:
        raise RuntimeError(f"{subject}, {way}, {count}: the child failed")
    best = min(calls, key=lambda call: call["seconds"])
    return Result(
        subject=subject,
        way=way,
        asked=count,
        bookings=best["bookings"],
        seconds=best["seconds"],
        processor=min(call["processor"] for call in calls),
        megabytes=round(peak / 1e6),
        note=best["note"],
    )


def in_turns(subject: str, ways: list[str], count: int, folder: Path) -> list[Result]:
    """Measure the ways at one size in rounds, one after the other; return each way's best call and largest memory.

    A machine that others use as well changes its speed within seconds: what is compared is measured several times.
    """
    began = time.monotonic()
    rounds: list[list[Result]] = []
    while len(rounds) < ROUNDS:
        rounds.append([run_way(subject, way, count, folder) for way in ways])
        spent = time.monotonic() - began
        if spent + spent / len(rounds) > ROUNDS_SECONDS:
            break
    return [
        replace(
            min(found, key=lambda result: result.seconds), megabytes=max(result.megabytes for result in found)
        )
        for found in zip(*rounds, strict=True)
    ]


def main(
    sizes: Annotated[str, typer.Option(help="Numbers of bookings, joined by commas.")] = ",".join(
        str(size) for size in SIZES
    ),
    largest: Annotated[
        int, typer.Option(help="Beside the sizes: the backfill alone at this number, such as 10000000.")
    ] = 0,
    only: Annotated[str, typer.Option(help="Only subjects whose name begins so.")] = "",
    folder: Annotated[
        Path | None, typer.Option(help="Where archives are made and kept; default: a temporary directory.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Where the results go.")] = ROOT / "docs" / "benchmarks",
) -> None:
    """Measure and write the results."""
    wanted = [int(size.replace("_", "")) for size in sizes.split(",")]
    results: list[Result] = []
    began = time.time()
    described = machine()
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        for name, subject in SUBJECTS.items():
            if not name.startswith(only):
                continue
            asked = [size for size in wanted if not subject.only or size in subject.only]
            if largest and name.startswith("backfill"):
                asked.append(largest)
            for count in asked:
                ways = [way for way, (_, most) in subject.ways.items() if count <= most]
                for result in in_turns(name, ways, count, place):
                    results.append(result)
                    typer.echo(result.to_line())
            # After each subject: a run takes long, and what it has measured shall not be lost with it.
            minutes = round((time.time() - began) / 60, 1)
            write_results(output, results, described | {"minutes": minutes})
    typer.echo(f"Written to {output}")


if __name__ == "__main__":
    typer.run(main)
