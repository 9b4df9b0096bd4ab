"""The audit as one page for a browser: sentences, charts and tables; nothing is loaded when it opens.

The same charts and tables show themselves in a notebook. No name stands in them unrevealed.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import altair as alt
import polars as pl
from markupsafe import Markup

from pipeline.audit.findings import SAID, Audit, findings, headings, in_words, number, verdict
from pipeline.display import visible
from pipeline.page import render

if TYPE_CHECKING:
    from great_tables import GT

Chart = Any
"""A chart of altair, which is not typed through and through."""

INK, MUTED, LINE = "#22303c", "#586470", "#e3e7ea"
GOOD, LOOK, BAD, NOTHING = "#2a6787", "#b77400", "#a83a34", "#87939d"
FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"
_MONO = "ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace"

_DRAW = """
const places = document.querySelectorAll("[data-chart]");
Promise.all([...places].map((place) => {
  const spec = JSON.parse(document.getElementById(place.dataset.chart).textContent);
  if (place.clientWidth < 480) spec.config.legend = {...spec.config.legend, columns: 1};
  for (const part of [spec, ...(spec.layer || [])]) {
    const axis = part.encoding && part.encoding.y && part.encoding.y.axis;
    if (axis && axis.labelLimit) axis.labelLimit = Math.min(axis.labelLimit, place.clientWidth * 0.42);
  }
  return vegaEmbed(place, spec, {renderer: "svg", actions: false, ast: true});
})).then(() => { document.documentElement.dataset.drawn = places.length; });
"""


def render_page(audit: Audit, *, heading: str, created: datetime) -> str:
    """Return the page: self-contained HTML, UTF-8.

    The page forbids itself every request and every script but its own two (a content security policy with their
    digests), so that not even a hostile title could make it load anything.

    Args:
        audit: what was found.
        heading: names what was audited: a file's name, a source and its window.
        created: when the audit was made, shown as it is.
    """
    drawn = pictures(audit)
    scripts = [_vega(), _DRAW] if drawn else []
    return render(
        "pipeline.audit",
        "audit.html",
        scripts=scripts,
        audit=audit,
        overview=audit.overview,
        is_revealed=audit.overview.revealed,
        heading=heading,
        created=f"{created:%Y-%m-%d %H:%M %Z}".strip(),
        verdict=verdict(audit),
        findings=findings(audit),
        tables={name: Markup(table) for name, table in tables(audit).items()},  # noqa: S704  great-tables escapes
        pictures=drawn,
        specs={name: _json_in_html(picture) for name, picture in drawn.items()},
    )


@lru_cache(maxsize=1)
def _vega() -> str:
    """Return Vega, Vega-Lite and vega-embed in one script, as altair's ``inline=True`` takes it from vl-convert."""
    import vl_convert

    bundle: str = vl_convert.javascript_bundle(
        "window.vegaEmbed = vegaEmbed;", vl_version=_vega_lite_version()
    )
    return bundle.replace("</script", "<\\/script")


def _json_in_html(picture: Picture) -> Markup:
    text = json.dumps(picture.spec, ensure_ascii=False, default=str)
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704  no tag can begin in it


_WIDTH_IN_NOTEBOOKS = 480

_CONFIG: dict[str, Any] = {
    "font": FONT,
    "background": "transparent",
    "view": {"stroke": None},
    "axis": {
        "labelColor": MUTED, "titleColor": MUTED, "labelFontSize": 12, "titleFontSize": 12,
        "titleFontWeight": "normal", "domain": False, "ticks": False, "gridColor": LINE, "labelPadding": 6,
    },
    "legend": {
        "orient": "top", "direction": "horizontal", "title": None, "labelColor": INK, "labelFontSize": 12,
        "symbolType": "square", "symbolSize": 110, "padding": 0, "offset": 10, "columnPadding": 18,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """A chart for the place ``name`` of the page: its specification, and its description for whoever cannot see it."""

    name: str
    spec: dict[str, Any]
    description: str

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        """Show the picture in a notebook, drawn already, so that it is also seen where no script may run."""
        if not self.spec:
            return {"text/plain": self.description}
        import vl_convert

        fixed = {name: value for name, value in self.spec.items() if name != "autosize"}
        if fixed.get("width") == "container":
            fixed["width"] = _WIDTH_IN_NOTEBOOKS
        svg: str = vl_convert.vegalite_to_svg(fixed, vl_version=_vega_lite_version())
        return {"image/svg+xml": svg, "text/plain": self.description}


def _picture(name: str, chart: Chart, description: str) -> Picture:
    """Make a picture of a chart: in the common look, and as wide as its place where it says so."""
    spec = chart.properties(description=description).to_dict()
    spec["config"] = _CONFIG
    if spec.get("width") == "container":
        spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    return Picture(name, spec, description)


def _vega_lite_version() -> str:
    """Return the release of Vega-Lite that this altair writes for, as vl-convert names it."""
    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


_SHAPES_SHOWN = 14
_REASONS_SHOWN = 12
_BARS = 80
_ROW = 26


def pictures(audit: Audit) -> dict[str, Picture]:
    """Return every chart the audit has data for, by the name of its place."""
    data = {
        "weeks": audit.weeks,
        "fields": audit.fields.filter(pl.col("bookings") > 0),
        "accuracy": audit.accuracy,
        "titles": audit.conventions,
        "rejections": audit.rejections,
    }
    return {
        name: _picture(name, draw(data[name]), description)
        for name, (draw, description) in _CHARTS.items()
        if len(data[name])
    }


def picture(audit: Audit, name: str) -> Picture:
    """Return one of the charts for a notebook; where the audit has nothing to draw it says so."""
    return pictures(audit).get(name) or Picture(
        name, {}, f"There is nothing to draw for {name!r} in this audit."
    )


def _weeks(weeks: pl.DataFrame) -> Chart:
    length, name, label = _span_of_a_bar(weeks)
    shown = (
        weeks.group_by(pl.col("week").dt.truncate(length), maintain_order=True)
        .agg(pl.col("bookings", "rejected").sum())
        .select(
            pl.col("week").dt.epoch("ms").alias("from"),
            pl.col("week").dt.offset_by(length).dt.epoch("ms").alias("next"),
            pl.col("week").dt.to_string(label).alias("label"),
            "bookings",
            "rejected",
            accepted=pl.col("bookings") - pl.col("rejected"),
        )
        .with_columns(until=pl.col("next") - (pl.col("next") - pl.col("from")) // 8)
    )
    outcomes = {
        "on the worklist": ("accepted", pl.lit(0, pl.Int64)),
        "rejected": ("rejected", pl.col("accepted")),
    }
    bars = pl.concat(
        shown.filter(pl.col(column) > 0).select(
            "from",
            "until",
            "label",
            pl.lit(outcome).alias("outcome"),
            low.alias("low"),
            (low + pl.col(column)).alias("high"),
            pl.col(column).alias("number"),
        )
        for outcome, (column, low) in outcomes.items()
    )
    return (
        alt.Chart(bars, width="container", height=200)
        .mark_rect(cornerRadius=1)
        .encode(
            x=alt.X("from:T", title=None, scale=alt.Scale(type="utc"), axis=_dates(name)),
            x2="until",
            y=alt.Y("low:Q", title=f"bookings per {name}", axis=_counts(4)),
            y2="high",
            color=_colours({"on the worklist": GOOD, "rejected": BAD}, "outcome"),
            tooltip=[
                alt.Tooltip("label:N", title=name),
                "outcome:N",
                alt.Tooltip("number:Q", title="bookings", format=",d"),
            ],
        )
    )


def _span_of_a_bar(weeks: pl.DataFrame) -> tuple[str, str, str]:
    """Return how much time a bar stands for, so that there are not too many bars: polars' duration, its name, a date format."""
    first, last = weeks["week"][0], weeks["week"][-1]
    if (last - first).days <= 7 * _BARS:
        return "1w", "week", "week of %d %b %Y"
    if (last - first).days <= 31 * _BARS:
        return "1mo", "month", "%b %Y"
    return "1y", "year", "%Y"


def _fields(fields: pl.DataFrame) -> Chart:
    outcomes = {
        "matched": "matched",
        "fell_back": "fell back",
        "emptied": "left empty",
        "empty": "nothing there",
    }
    colours = dict(zip(outcomes.values(), (GOOD, LOOK, BAD, NOTHING), strict=True))
    return _bars(fields.select("target", *outcomes).rename(outcomes), "target", colours, as_shares=True)


def _accuracy(accuracy: pl.DataFrame) -> Chart:
    frame = accuracy.with_columns(
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
            "field:N",
            alt.Tooltip("accuracy:Q", format=".1%"),
            alt.Tooltip("correct:Q", format=",d"),
            alt.Tooltip("labelled:Q", format=",d"),
        ],
    )
    layers = base.mark_bar(height=2) + base.mark_point(filled=True, size=90, opacity=1)
    return layers.properties(width="container", height=_ROW * len(frame))


def _titles(conventions: pl.DataFrame) -> Chart:
    label = (
        pl.when(pl.col("source") == "title")
        .then(pl.col("shape"))
        .otherwise(pl.format("{}: {}", "source", "shape"))
        .str.slice(0, 46)
    )
    numbered = pl.format("{} ({})", label, pl.int_range(pl.len()))
    shown = conventions.head(_SHAPES_SHOWN).select(
        pl.when(label.is_duplicated()).then(numbered).otherwise(label).alias("label"),
        pl.col("caught").alias("caught by every pattern"),
        (pl.col("bookings") - pl.col("caught")).alias("missed by a pattern"),
    )
    colours = {"caught by every pattern": GOOD, "missed by a pattern": LOOK}
    return _bars(shown, "label", colours, mono=True)


def _rejections(rejections: pl.DataFrame) -> Chart:
    shown = rejections.head(_REASONS_SHOWN).select(
        pl.col("reason").str.slice(0, 46).alias("label"), rejected="bookings"
    )
    return _bars(shown, "label", {"rejected": BAD})


def _bars(
    wide: pl.DataFrame, label: str, colours: dict[str, str], *, as_shares: bool = False, mono: bool = False
) -> Chart:
    """Draw a bar per line; each other column is a part of it, and ``colours`` says in which order and colour."""
    of_all = pl.col("bookings") / pl.col("bookings").sum().over(label)
    long = (
        wide.unpivot(index=label, variable_name="outcome", value_name="bookings")
        .with_columns([of_all.alias("share")] if as_shares else [])
        .filter(pl.col("bookings") > 0)
        .with_columns(at=pl.col("outcome").cast(pl.Enum(list(colours))).to_physical())
    )
    if as_shares:
        scale = alt.Scale(domain=[0, 1])
        length = alt.X("share:Q", title="share of bookings", axis=_percents(), scale=scale)
    else:
        length = alt.X("bookings:Q", title="bookings", axis=_counts(5))
    return (
        alt.Chart(long, width="container", height=_ROW * len(wide))
        .mark_bar(height=15, cornerRadius=1)
        .encode(
            y=alt.Y(f"{label}:N", sort=wide[label].to_list(), title=None, axis=_labels(mono=mono)),
            x=length,
            color=_colours(colours, "outcome")
            if len(colours) > 1
            else alt.value(next(iter(colours.values()))),
            order=alt.Order("at:Q"),
            tooltip=[f"{label}:N", "outcome:N", alt.Tooltip("bookings:Q", format=",d")],
        )
    )


def _colours(colours: dict[str, str], name: str) -> alt.Color:
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    return alt.Color(f"{name}:N", scale=scale, title=None)


def _labels(*, mono: bool = False) -> alt.Axis:
    return alt.Axis(labelColor=INK, labelLimit=340, labelFont=_MONO if mono else FONT, grid=False)


def _percents() -> alt.Axis:
    return alt.Axis(format="~%", tickCount=5)


def _counts(ticks: int) -> alt.Axis:
    return alt.Axis(tickCount=ticks, tickMinStep=1, format=",d")


def _dates(span: str) -> alt.Axis:
    """Return an axis of dates for bars of a week, a month or a year."""
    form = {"week": "%d %b %y", "month": "%b %Y", "year": "%Y"}[span]
    return alt.Axis(grid=False, format=form, labelOverlap=True, tickCount=10)


_CHARTS: Mapping[str, tuple[Callable[[pl.DataFrame], Chart], str]] = {
    "weeks": (_weeks, "Bookings over time: on the worklist, and rejected."),
    "fields": (_fields, "For each field, the share of bookings matched, fallen back and empty."),
    "accuracy": (_accuracy, "For each field, the share of hand-checked bookings that are right."),
    "titles": (_titles, "The commonest forms of titles and which of them the patterns catch."),
    "rejections": (_rejections, "Rejected bookings by reason."),
}


def offsets(changes: pl.DataFrame) -> Picture:
    """Draw the clock's distance from UTC over time, a line per library, from ``clock_changes``."""
    first, last = changes["change_utc"].min(), changes["change_utc"].max()
    ends = changes.group_by("library", maintain_order=True)
    points = pl.concat(
        [
            ends.first().select("library", at=pl.lit(first).dt.offset_by("-2mo"), hours="offset_before"),
            changes.select("library", at="change_utc", hours="offset_after"),
            ends.last().select("library", at=pl.lit(last).dt.offset_by("2mo"), hours="offset_after"),
        ]
    ).sort("library", "at")
    chart = (
        alt.Chart(points.with_columns(pl.col("at").dt.epoch("ms")), width=540, height=44)
        .mark_line(interpolate="step-after", strokeWidth=2.5)
        .encode(
            x=alt.X("at:T", title=None, scale=alt.Scale(type="utc"), axis=_dates("month")),
            y=alt.Y(
                "hours:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=2, format="+d")
            ),
            row=alt.Row(
                "library:N",
                sort=changes["library"].unique(maintain_order=True).to_list(),
                title=None,
                header=alt.Header(labelAngle=0, labelAlign="left"),
            ),
        )
    )
    return _picture("offsets", chart, "Hours from UTC over time, as pytz, polars and the system have them.")


_STYLE = re.compile(r"<style>.*?</style>", re.DOTALL)
_CELL = re.compile(r"(<td [^>]*data-label=[^>]*>)(.*?)</td>", re.DOTALL)
_ROLES = {"table": "table", "thead": "rowgroup", "tbody": "rowgroup", "tr": "row", "th": "columnheader"}
_SHOWN = 40
_SHOWN_OF = {"disagreements": 200, "conventions": 15, "suggestions": 12, "statuses": 20, "resources": 20}
_IDS = 8
_EXAMPLES = 3
_LONGEST = 44
_NONE = "–"

_COLUMNS = {
    "fields": "target source matched fell_back emptied empty coverage distinct examples",
    "accuracy": "field labelled correct accuracy",
    "disagreements": "booking_id field expected got kind",
    "rejections": "reason meaning remedy bookings alone booking_ids",
    "co_occurrence": "reason with_reason bookings",
    "repairs": "target kind meaning remedy bookings booking_ids",
    "conventions": "source shape shapes bookings share caught_by partly_by missed_by",
    "suggestions": "target shape bookings extract samples checked",
    "proposals": "target current coverage extract samples would_cover",
    "times": "check meaning bookings share booking_ids",
    "doubtful": "booking_id check wall_start wall_end start_utc",
    "zone_data": "library version bookings share hours first_wall",
    "statuses": "value mapped cancelled bookings known",
    "resources": "value mapped bookings known",
    "duplicates": "subject start_utc bookings booking_ids resources",
    "clock_changes": "library wall_before wall_after change_utc offset_before offset_after",
    "zone_comparison": "wall_start pytz polars system",
    "coverage_change": "target before after gained",
}
"""The columns that a table shows, by the frame's name, in order."""

_CODE = {"current", "examples", "expected", "extract", "got", "samples", "shape", "subject"}
_CODE_OF = {"rejections": {"reason"}, "repairs": {"target"}}
"""Columns set as code: shapes, patterns and what a configuration holds."""


def tables(audit: Audit) -> dict[str, str]:
    """Return every table that has rows, as HTML by the frame's name; numbers are written out, shapes set as code."""
    return {
        name: _labelled(name, _great_table(name, frame).as_raw_html())
        for name, frame in audit.frames().items()
        if name in _COLUMNS and len(frame)
    }


def _labelled(name: str, table: str) -> str:
    """Let each cell say its heading, and each part what it is: where the page is narrow, the table becomes blocks."""
    for column, heading in headings(name, _COLUMNS[name]).items():
        place = f'headers="table-{name}-{column}"'
        table = table.replace(place, f'role="cell" data-label="{html.escape(heading)}" {place}')
    for tag, role in _ROLES.items():
        table = re.sub(rf"<{tag}(?=[ >])", f'<{tag} role="{role}"', table)
    return _CELL.sub(r"\1<span>\2</span></td>", table)


@dataclass(frozen=True)
class Shown:
    """A table that shows itself in a notebook, in a few lines of HTML instead of a page's worth of style."""

    html: str

    def _repr_html_(self) -> str:
        return self.html


def table(name: str, frame: pl.DataFrame) -> Shown:
    """Return a frame, or some lines of it, as the page sets the frame of that name, for a notebook."""
    whole = _great_table(name, frame).as_raw_html()
    style = f"#table-{name} td, #table-{name} th {{ text-align: left }} #table-{name} .gt_right {{ text-align: right; white-space: nowrap }}"
    return Shown(_STYLE.sub(f"<style>{style}</style>", whole, count=1))


def _great_table(name: str, frame: pl.DataFrame) -> GT:
    from great_tables import GT, loc, style

    shown_as = {
        column: heading
        for column, heading in headings(name, _COLUMNS[name]).items()
        if not _says_nothing(frame, column)
    }
    kept = list(shown_as)
    most = _SHOWN_OF.get(name, _SHOWN)
    shown = frame.head(most)
    right = [column for column in kept if frame[column].dtype.is_numeric() and column != "booking_id"]
    code = [column for column in kept if column in _CODE | _CODE_OF.get(name, set())]
    texts = ([visible(_cell(column, value)) for value in shown[column].to_list()] for column in kept)
    made = GT(
        pl.DataFrame(dict(zip(kept, texts, strict=True)), schema=dict.fromkeys(kept, pl.String)),
        id=f"table-{name}",
    )
    # Older releases put text into the page as it is.
    made = made.fmt(html.escape, columns=kept).cols_label({**shown_as})
    if right:
        made = made.cols_align("right", columns=right)
    made = made.cols_align("left", columns=[column for column in kept if column not in right])
    if code:
        made = made.tab_style(style.text(font=_MONO, size="12.5px"), loc.body(columns=code))
    for column in (column for column in kept if column in ("coverage", "accuracy")):
        short = [row for row, value in enumerate(shown[column]) if value is not None and value < 1]
        if short:
            made = made.tab_style(
                style.text(color="#8a5a00", weight="bold"), loc.body(columns=column, rows=short)
            )
    if len(frame) > most:
        more = number(len(frame) - most, "more line", plural="more lines")
        made = made.tab_source_note(f"{more}; all of them with --json.")
    return _dressed(made)


def _dressed(table: GT) -> GT:
    return table.tab_options(
        table_font_names=[FONT],
        table_font_size="14px",
        table_font_color=INK,
        table_width="100%",
        table_border_top_style="none",
        table_border_bottom_style="none",
        table_body_border_top_style="none",
        table_body_border_bottom_color=LINE,
        table_body_hlines_color=LINE,
        column_labels_border_top_style="none",
        column_labels_border_bottom_color=MUTED,
        column_labels_border_bottom_width="1px",
        column_labels_font_size="12px",
        column_labels_font_weight="bold",
        data_row_padding="6px",
        data_row_padding_horizontal="9px",
        column_labels_padding_horizontal="9px",
        source_notes_font_size="12px",
    )


def _says_nothing(frame: pl.DataFrame, column: str) -> bool:
    """Return whether a column holds the same nothing in every row: each text from the title, nothing emptied."""
    if column == "source" and "shape" in frame.columns:
        return frame["source"].n_unique() == 1
    if column == "partly_by":
        return bool((frame[column].list.len() == 0).all())
    return column in ("emptied", "share", "cancelled") and bool(frame[column].fill_null(0).sum() == 0)


def _cell(column: str, value: object) -> str:
    if value is None:
        return _NONE
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if not isinstance(value, list):
        text = in_words(column, value)
        return _short(text) if column in ("shape", "expected", "got") else text
    if column == "samples":
        return "; ".join(value) or _NONE
    most = {"booking_ids": _IDS, "examples": _EXAMPLES}.get(column, len(value))
    # Lists are capped: how many there are in all stands in the column of bookings.
    more = ", …" if column == "booking_ids" and len(value) > most else ""
    return (", ".join(_short(str(item)) for item in value[:most]) or _NONE) + more


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
