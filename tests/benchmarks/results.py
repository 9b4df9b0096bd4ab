"""Results as a table, raw numbers and charts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.subjects import OURS, PYLANTIR, ROWS, SUBJECTS

COMMAND = "python -m tests.benchmarks"


@dataclass(frozen=True)
class Result:
    """One way at one size. ``bookings`` were done in ``seconds`` (wall); ``processor`` counts all processes' time."""

    subject: str
    way: str
    asked: int
    bookings: int
    seconds: float
    processor: float
    megabytes: int
    note: str = ""

    @property
    def whole(self) -> float:
        """Seconds for all bookings asked for; a share that was timed is scaled up."""
        return self.seconds * self.asked / self.bookings

    @property
    def is_share(self) -> bool:
        """Tell whether only a share was timed."""
        return self.bookings < self.asked

    def to_line(self) -> str:
        """Say it in one line."""
        return (
            f"{self.subject:45s} {self.way:32s} {self.asked:>10,} {self.whole:10.3f} s "
            f"{self.seconds / self.bookings * 1e6:10.2f} us each, {self.megabytes} MB {self.note}"
        )


def write_results(folder: Path, results: Sequence[Result], described: dict[str, Any]) -> None:
    """Write ``results.json``, ``results.md``, ``growth.svg`` and ``growth.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    raw = {"machine": described, "results": [asdict(result) for result in results]}
    (folder / "results.json").write_text(json.dumps(raw, indent=1) + "\n")
    (folder / "results.md").write_text(to_markdown(results, described))
    chart = growth_chart(results)
    for suffix in ("svg", "png"):
        chart.save(folder / f"growth.{suffix}")


def to_markdown(results: Sequence[Result], described: dict[str, Any]) -> str:
    """Write the results as Markdown: the machine, then one table a subject."""
    libraries = ", ".join(f"{name} {number}" for name, number in described["libraries"].items())
    lines = [
        "# Benchmarks",
        "",
        f"Made by `{COMMAND}` on {described['day']}, in one run of {described['minutes']} minutes.",
        "",
        (
            f"{described['processor']}, {described['cores']} cores, {described['memory_gb']} GB; {described['system']}, "
            f"Python {described['python']}; {libraries}. Load before the run: {described['load_before']}."
        ),
        "",
        (
            "Seconds are wall time, the best of up to seven calls in each of up to five rounds, all ways in turns. *Processor* is the time of all processes together. "
            "*Memory* is the peak of a process and its workers together. "
            "A figure with ~ is scaled up from a share of the bookings, because a row-by-row way takes the same time for each. "
            "Every way runs in a process of its own, seconds apart, so that what else the machine does shows in the ratios; "
            "the transform's, measured in turns within one process, are in "
            "[Where the time goes](../transformation.md#where-the-time-goes)."
        ),
        "",
        "![Seconds by bookings, both logarithmic](growth.svg)",
    ]
    for subject in dict.fromkeys(result.subject for result in results):
        found = [result for result in results if result.subject == subject]
        lines += ["", f"## {subject[0].upper()}{subject[1:]}", "", *_table(found), *_growth(found)]
    return "\n".join(lines) + "\n"


def _table(results: Sequence[Result]) -> list[str]:
    lines = [
        "| bookings | way | seconds | a second | processor | memory | beside it |",
        "|---:|---|---:|---:|---:|---:|---|",
    ]
    for result in results:
        sign = "~" if result.is_share else ""
        cells = (
            f"{result.asked:,}",
            result.way + (f" ({result.note})" if result.note else ""),
            f"{sign}{_short(result.whole)}",
            f"{result.bookings / result.seconds:,.0f}",
            f"{sign}{_short(result.processor * result.asked / result.bookings)} s",
            f"{result.megabytes} MB",
            _beside(result, results),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _beside(result: Result, results: Sequence[Result]) -> str:
    """Compare one of our ways with the references at the same size."""
    if not result.way.startswith(OURS):
        return ""
    parts = []
    for other in results:
        if other.asked == result.asked and other.way in (ROWS, PYLANTIR):
            name = "row by row" if other.way == ROWS else "Pylantir's"
            parts.append(f"**{other.whole / result.whole:.1f} times** the speed of {name}")
        if other.asked == result.asked and other.way == "floor":
            parts.append(f"{result.whole / other.whole:.2f} times the floor")
    return ", ".join(parts)


def _growth(results: Sequence[Result]) -> list[str]:
    """Say how each of our ways grows: the slope of the line through its largest sizes on the log-log plot."""
    lines = []
    for way in dict.fromkeys(result.way for result in results if result.way.startswith(OURS)):
        points = [result for result in results if result.way == way and result.asked >= 10_000]
        if len(points) > 1:
            first, last = points[0], points[-1]
            slope = math.log(last.whole / first.whole) / math.log(last.asked / first.asked)
            lines.append(
                f"Growth of {way} from {first.asked:,} to {last.asked:,} bookings: time is as the "
                f"{slope:.2f}th power of the number."
            )
    return ["", *lines] if lines else []


def growth_chart(results: Iterable[Result]) -> Any:
    """Draw seconds over bookings, both logarithmic, one panel a subject; a line of slope 1 is linear growth."""
    import altair as alt

    rows = [
        {"subject": result.subject, "way": result.way, "bookings": result.asked, "seconds": result.whole}
        for result in results
    ]
    subjects = [name for name in SUBJECTS if any(row["subject"] == name for row in rows)]
    data = alt.Data(values=rows)
    lines = (
        alt.Chart(data, width=300, height=200)
        .mark_line(point=True)
        .encode(
            x=alt.X("bookings:Q", scale=alt.Scale(type="log"), axis=alt.Axis(format="~s")),
            y=alt.Y("seconds:Q", scale=alt.Scale(type="log"), axis=alt.Axis(format="~g")),
            color=alt.Color("way:N", legend=alt.Legend(orient="bottom", columns=3, labelLimit=300)),
            facet=alt.Facet("subject:N", columns=2, sort=subjects, title=None),
        )
    )
    return lines.properties(title="Seconds by bookings, both logarithmic: slope 1 is linear growth")


def _short(seconds: float) -> str:
    if seconds >= 100:
        return f"{seconds:,.0f}"
    return f"{seconds:.2f}" if seconds >= 1 else f"{seconds:.3f}"
