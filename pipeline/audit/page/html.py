"""The audit's page: sentences, charts, tables, and the library that draws the charts."""

from __future__ import annotations

import json
from datetime import datetime
from functools import lru_cache

from markupsafe import Markup

from pipeline.audit.model import Audit, findings, verdict
from pipeline.audit.page.charts import pictures
from pipeline.audit.page.picture import Picture, vega_lite_version
from pipeline.audit.page.tables import tables
from pipeline.page import render

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
    """Write the page: self-contained HTML, UTF-8.

    ``heading`` names what was audited (a file's name, a source and its window); ``created`` is shown as it is. The
    page forbids itself every request and every script but its own two (a content security policy with their
    digests), so that not even a hostile title could make it load anything.
    """
    drawn = pictures(audit)
    scripts = [_vega(), _DRAW] if drawn else []
    return render(
        "pipeline.audit.page",
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
    """Vega, Vega-Lite and vega-embed in one script, as altair's ``inline=True`` takes it from vl-convert."""
    import vl_convert

    bundle: str = vl_convert.javascript_bundle(
        "window.vegaEmbed = vegaEmbed;", vl_version=vega_lite_version()
    )
    return bundle.replace("</script", "<\\/script")


def _json_in_html(picture: Picture) -> Markup:
    text = json.dumps(picture.spec, ensure_ascii=False, default=str)
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704  no tag can begin in it
