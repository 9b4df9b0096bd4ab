"""The clock's distance from UTC, as each library has it."""

from __future__ import annotations

import altair as alt
import polars as pl

from pipeline.audit.page.picture import Picture, dates, made


def offsets(changes: pl.DataFrame) -> Picture:
    """Draw the clock's distance from UTC over time, a line a library, from ``clock_changes``."""
    first, last = changes["change_utc"].min(), changes["change_utc"].max()
    ends = changes.group_by("library", maintain_order=True).agg(
        pl.col("offset_before").first(), pl.col("offset_after").last()
    )
    points = pl.concat(
        [
            ends.select("library", pl.lit(first).dt.offset_by("-2mo").alias("at"), pl.col("offset_before").alias("hours")),
            changes.select("library", pl.col("change_utc").alias("at"), pl.col("offset_after").alias("hours")),
            ends.select("library", pl.lit(last).dt.offset_by("2mo").alias("at"), pl.col("offset_after").alias("hours")),
        ]
    ).sort("library", "at").with_columns(pl.col("at").dt.epoch("ms"))  # fmt: skip
    libraries = changes["library"].unique(maintain_order=True).to_list()
    chart = (
        alt.Chart(points, width=540, height=44)
        .mark_line(interpolate="step-after", strokeWidth=2.5)
        .encode(
            x=alt.X("at:T", title=None, scale=alt.Scale(type="utc"), axis=dates("month")),
            y=alt.Y(
                "hours:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=2, format="+d")
            ),
            row=alt.Row(
                "library:N", sort=libraries, title=None, header=alt.Header(labelAngle=0, labelAlign="left")
            ),
        )
    )
    return made("offsets", chart, "Hours from UTC over time, as pytz, polars and the system have them.")
