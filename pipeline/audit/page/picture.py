"""A chart as the page and the notebooks take it: a Vega-Lite specification with its data inside, in one look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import altair as alt

Chart = Any
"""A chart of altair, which is not typed through and through."""

INK, MUTED, LINE = "#22303c", "#586470", "#e3e7ea"
GOOD, LOOK, BAD, NOTHING = "#2a6787", "#b77400", "#a83a34", "#87939d"
FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"

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
    """A chart for the place ``name`` of the page: its specification, and its story for who cannot see it."""

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
        svg: str = vl_convert.vegalite_to_svg(fixed, vl_version=vega_lite_version())
        return {"image/svg+xml": svg, "text/plain": self.description}


def made(name: str, chart: Chart, description: str) -> Picture:
    """Make a picture of a chart: the house's look, and as wide as its place where it says so."""
    spec = chart.properties(description=description).to_dict()
    spec["config"] = _CONFIG
    if spec.get("width") == "container":
        spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    return Picture(name, spec, description)


def vega_lite_version() -> str:
    """The release of Vega-Lite that this altair writes for, as vl-convert names it."""
    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def dates(span: str) -> alt.Axis:
    """An axis of dates for bars of a week, a month or a year."""
    form = {"week": "%d %b %y", "month": "%b %Y", "year": "%Y"}[span]
    return alt.Axis(grid=False, format=form, labelOverlap=True, tickCount=10)
