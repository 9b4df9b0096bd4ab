"""One HTML file with everything inside: sentences, charts, tables, and the library that draws the charts."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from importlib.resources import files

import jinja2
from markupsafe import Markup

from pipeline.audit.model import Audit, count, findings, percent, verdict
from pipeline.audit.page.charts import pictures
from pipeline.audit.page.picture import Picture, vega_lite_version
from pipeline.audit.page.tables import tables
from pipeline.display import visible

_DRAW = """
const places = document.querySelectorAll("[data-chart]");
Promise.all([...places].map((place) => {
  const spec = JSON.parse(document.getElementById(place.dataset.chart).textContent);
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
    template = _environment().get_template("page.html")
    return template.render(
        audit=audit,
        overview=audit.overview,
        heading=heading,
        created=f"{created:%Y-%m-%d %H:%M %Z}".strip(),
        verdict=verdict(audit),
        findings=findings(audit),
        tables={name: Markup(table) for name, table in tables(audit).items()},  # noqa: S704  great-tables escapes
        pictures=drawn,
        specs={name: _json_in_html(picture) for name, picture in drawn.items()},
        style=Markup(_resource("page.css")),  # noqa: S704  our own file
        scripts=[Markup(script) for script in scripts],  # noqa: S704  our own and vega's
        policy=_policy(scripts),
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_resource),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_harmless,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(count=count, percent=percent)
    return environment


def _harmless(value: object) -> object:
    """Write out what would hide or turn round a line of the page; escaping is autoescape's."""
    return visible(value, keep="\n") if isinstance(value, str) and not isinstance(value, Markup) else value


def _resource(name: str) -> str:
    return (files("pipeline.audit.page") / name).read_text(encoding="utf-8")


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


def _policy(scripts: Iterable[str]) -> str:
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; form-action 'none'"
