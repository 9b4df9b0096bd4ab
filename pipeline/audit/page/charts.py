"""The audit's pictures: altair charts as Vega-Lite specifications, sized to their place, with data inside."""

from __future__ import annotations

from collections.abc import Iterator

import altair as alt
import polars as pl

from pipeline.audit.model import SAID, Audit
from pipeline.audit.page.picture import BAD, FONT, GOOD, INK, LOOK, NOTHING, Chart, Picture, dates, made

_SHAPES_SHOWN = 14
_BARS = 80
_ROW = 26


def pictures(audit: Audit) -> dict[str, Picture]:
    """Every chart the audit has data for, by the name of its place."""
    return {picture.name: picture for picture in _pictures(audit)}


def picture(audit: Audit, name: str) -> Picture:
    """Give one of the charts for a notebook; where the audit has nothing to draw it says so."""
    return pictures(audit).get(name) or Picture(
        name, {}, f"There is nothing to draw for {name!r} in this audit."
    )


def _pictures(audit: Audit) -> Iterator[Picture]:
    if len(audit.weeks):
        yield made("weeks", _weeks(audit), "Bookings over time: on the worklist, and rejected.")
    if audit.overview.bookings - audit.overview.unreadable:
        yield made(
            "fields", _fields(audit), "For each field, the share of bookings matched, fallen back and empty."
        )
    if len(audit.accuracy):
        yield made(
            "accuracy", _accuracy(audit), "For each field, the share of hand-checked bookings that are right."
        )
    if len(audit.conventions):
        yield made(
            "titles", _titles(audit), "The commonest forms of titles and which of them the patterns catch."
        )
    if len(audit.rejections):
        yield made("rejections", _rejections(audit), "Rejected bookings by reason.")


def _weeks(audit: Audit) -> Chart:
    length, name, label = _span_of_a_bar(audit.weeks)
    start = pl.col("week").dt.truncate(length)
    shown = (
        audit.weeks.group_by(start, maintain_order=True)
        .agg(pl.col("bookings", "rejected").sum())
        .select(
            pl.col("week").dt.epoch("ms").alias("from"),
            pl.col("week").dt.offset_by(length).dt.epoch("ms").alias("next"),
            pl.col("week").dt.to_string(label).alias("label"),
            "bookings",
            "rejected",
            (pl.col("bookings") - pl.col("rejected")).alias("accepted"),
        )
        .with_columns((pl.col("next") - (pl.col("next") - pl.col("from")) // 8).alias("until"))
    )
    bars = pl.concat(
        [
            shown.filter(pl.col(name) > 0).select(
                "from", "until", "label", pl.lit(said).alias("outcome"), low.alias("low"), high.alias("high"), name
            ).rename({name: "number"})
            for name, said, low, high in (
                ("accepted", "on the worklist", pl.lit(0, dtype=pl.Int64), pl.col("accepted")),
                ("rejected", "rejected", pl.col("accepted"), pl.col("bookings")),
            )
        ]
    )  # fmt: skip
    return (
        alt.Chart(bars, width="container", height=200)
        .mark_rect(cornerRadius=1)
        .encode(
            x=alt.X("from:T", title=None, scale=alt.Scale(type="utc"), axis=dates(name)),
            x2="until",
            y=alt.Y("low:Q", title=f"bookings a {name}", axis=_counts(4)),
            y2="high",
            color=_colours({"on the worklist": GOOD, "rejected": BAD}, "outcome"),
            tooltip=[
                alt.Tooltip("label:N", title=name),
                alt.Tooltip("outcome:N"),
                alt.Tooltip("number:Q", title="bookings", format=",d"),
            ],
        )
    )


def _span_of_a_bar(weeks: pl.DataFrame) -> tuple[str, str, str]:
    """How much time a bar stands for, so that there are not too many: polars' duration, its name, a date's form."""
    first, last = weeks["week"][0], weeks["week"][-1]
    if (last - first).days <= 7 * _BARS:
        return "1w", "week", "week of %d %b %Y"
    if (last - first).days <= 31 * _BARS:
        return "1mo", "month", "%b %Y"
    return "1y", "year", "%Y"


def _fields(audit: Audit) -> Chart:
    outcomes = {
        "matched": "matched",
        "fell_back": "fell back",
        "emptied": "left empty",
        "empty": "nothing there",
    }
    long = (
        audit.fields.select("target", *outcomes)
        .rename(outcomes)
        .unpivot(index="target", variable_name="outcome", value_name="bookings")
        .with_columns(share=pl.col("bookings") / pl.col("bookings").sum().over("target"))
        .filter(pl.col("bookings") > 0)
    )
    colours = dict(zip(outcomes.values(), (GOOD, LOOK, BAD, NOTHING), strict=True))
    places = list(outcomes.values())
    return _bars(
        long, "target", audit.fields["target"].to_list(), colours, places, share_axis="share of bookings"
    )


def _accuracy(audit: Audit) -> Chart:
    frame = audit.accuracy.with_columns(
        pl.col("field").replace(SAID),
        right=pl.when(pl.col("accuracy") == 1).then(pl.lit("all right")).otherwise(pl.lit("some wrong")),
    )
    base = alt.Chart(frame).encode(
        y=alt.Y("field:N", sort=frame["field"].to_list(), title=None, axis=_labels()),
        x=alt.X(
            "accuracy:Q", title="right, of the hand-checked", scale=alt.Scale(domain=[0, 1]), axis=_percents()
        ),
        color=_colours({"all right": GOOD, "some wrong": BAD}, "right"),
        tooltip=[
            alt.Tooltip("field:N"),
            alt.Tooltip("accuracy:Q", format=".1%"),
            alt.Tooltip("correct:Q", format=",d"),
            alt.Tooltip("labelled:Q", format=",d"),
        ],
    )
    layers = base.mark_bar(height=2) + base.mark_point(filled=True, size=90, opacity=1)
    return layers.properties(width="container", height=_ROW * len(frame))


def _titles(audit: Audit) -> Chart:
    shown = audit.conventions.head(_SHAPES_SHOWN).with_columns(
        label=pl.when(pl.col("source") == "title")
        .then(pl.col("shape"))
        .otherwise(pl.format("{}: {}", "source", "shape"))
        .str.slice(0, 46)
    )
    shown = shown.with_columns(
        label=pl.when(pl.col("label").is_duplicated())
        .then(pl.format("{} ({})", "label", pl.int_range(pl.len())))
        .otherwise("label"),
        missed=pl.col("bookings") - pl.col("caught"),
    )
    colours = {"caught by every pattern": GOOD, "missed by a pattern": LOOK}
    judged = shown.select(
        "label", *(pl.col(name).alias(text) for name, text in zip(("caught", "missed"), colours, strict=True))
    )
    long = judged.unpivot(index="label", variable_name="outcome", value_name="bookings").filter(
        pl.col("bookings") > 0
    )
    return _bars(long, "label", shown["label"].to_list(), colours, list(colours), mono=True)


def _rejections(audit: Audit) -> Chart:
    long = audit.rejections.head(12).with_columns(
        outcome=pl.lit("rejected"), label=pl.col("reason").str.slice(0, 46)
    )
    return _bars(long, "label", long["label"].to_list(), {"rejected": BAD}, ["rejected"])


def _bars(
    long: pl.DataFrame,
    label: str,
    order: list[str],
    colours: dict[str, str],
    places: list[str],
    *,
    share_axis: str | None = None,
    mono: bool = False,
) -> Chart:
    numbered = long.with_columns(
        pl.col("outcome")
        .replace_strict({name: at for at, name in enumerate(places)}, return_dtype=pl.Int64)
        .alias("at")
    )
    length = (
        alt.X("share:Q", title=share_axis, axis=_percents(), scale=alt.Scale(domain=[0, 1]))
        if share_axis
        else alt.X("bookings:Q", title="bookings", axis=_counts(5))
    )
    return (
        alt.Chart(numbered, width="container", height=_ROW * len(order))
        .mark_bar(height=15, cornerRadius=1)
        .encode(
            y=alt.Y(f"{label}:N", sort=order, title=None, axis=_labels(mono=mono)),
            x=length,
            color=_colours(colours, "outcome")
            if len(colours) > 1
            else alt.value(next(iter(colours.values()))),
            order=alt.Order("at:Q"),
            tooltip=[
                alt.Tooltip(f"{label}:N"),
                alt.Tooltip("outcome:N"),
                alt.Tooltip("bookings:Q", format=",d"),
            ],
        )
    )


def _colours(colours: dict[str, str], name: str) -> alt.Color:
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    return alt.Color(f"{name}:N", scale=scale, title=None)


def _labels(*, mono: bool = False) -> alt.Axis:
    font = "ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace" if mono else FONT
    return alt.Axis(labelColor=INK, labelLimit=340, labelFont=font, grid=False)


def _percents() -> alt.Axis:
    return alt.Axis(format="~%", tickCount=5)


def _counts(ticks: int) -> alt.Axis:
    return alt.Axis(tickCount=ticks, tickMinStep=1, format=",d")
