"""One HTML file with everything inside, as the audit and the preview write it: frame, style, and tables.

A page loads nothing: a content security policy forbids every request and every script but the page's own, so that not
even a hostile title could make it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from pipeline.display import count, visible
from pipeline.errors import PluginConfigError
from pipeline.files import PRIVATE, usual_mode, whole_file

NOTHING = "–"
SHORT = 16
"""Characters of a value that stays on one line: a date and time."""
SMALL = 11
"""Characters of a value of which two stand side by side where the page is narrow: a clock time, a status, a number."""


def render(room: str, template: str, *, scripts: Iterable[str] = (), **values: Any) -> str:
    """Render a template of a room (``pipeline.audit``) within the frame ``page.html`` of this one.

    Args:
        room: the package that holds the template.
        template: its file's name; it extends ``page.html``.
        scripts: the scripts that the page may run.
        values: what the template shows; texts are escaped and made harmless.
    """
    own = list(scripts)
    return (
        _environment(room)
        .get_template(template)
        .render(
            style=Markup(_resource(__name__, "page.css")),  # noqa: S704  our own file
            scripts=[Markup(script) for script in own],  # noqa: S704  our own and vega's
            policy=_policy(own),
            **values,
        )
    )


def table(
    headings: Mapping[str, str],
    rows: Iterable[Mapping[str, object]],
    *,
    caption: str,
    code: Collection[str] = (),
) -> Markup:
    """Return a table that becomes a list of blocks where the page is narrow; the first column names its row.

    Args:
        headings: each column's key in a row, and its heading.
        rows: the values, which are escaped; None and an empty text show as a dash.
        caption: what the table holds.
        code: keys whose values are set as code.
    """
    lines = [
        {key: visible(str(row[key])) if row.get(key) not in (None, "") else NOTHING for key in headings}
        for row in rows
    ]
    widths = {key: max((len(line[key]) for line in lines), default=0) for key in headings}
    head = Markup().join(
        Markup('<th scope="col" role="columnheader">{}</th>').format(heading) for heading in headings.values()
    )
    body = Markup().join(
        Markup('<tr role="row">{}</tr>\n').format(
            Markup().join(
                _cell(line[key], heading, is_first=not place, is_code=key in code, width=widths[key])
                for place, (key, heading) in enumerate(headings.items())
            )
        )
        for line in lines
    )
    return Markup(
        '<div class="table"><table class="plain" role="table"><caption>{}</caption>\n'
        '<thead role="rowgroup"><tr role="row">{}</tr></thead>\n<tbody role="rowgroup">\n{}</tbody></table></div>'
    ).format(visible(caption), head, body)


def _cell(text: str, heading: str, *, is_first: bool, is_code: bool, width: int) -> Markup:
    shown = Markup("<code>{}</code>").format(text) if is_code and text != NOTHING else escape(text)
    kind = 'th scope="row" role="rowheader"' if is_first else 'td role="cell"'
    kept = "" if width > SHORT else ' class="short"' if width > SMALL else ' class="short small"'
    return Markup(f'<{kind}{kept} data-label="{{}}"><span>{{}}</span></{kind[:2]}>').format(heading, shown)  # noqa: S704


def write_page(page: str, path: Path, *, is_private: bool) -> None:
    """Write a page whole or not at all; one with revealed values only its owner may read.

    Raises:
        PluginConfigError: the file cannot be written there.
    """
    try:
        with whole_file(path, mode=PRIVATE if is_private else usual_mode()) as temporary:
            temporary.write_text(page, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise PluginConfigError(f"--html: {path} cannot be written: {error.strerror}") from error


@lru_cache(maxsize=8)
def _environment(room: str) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(
            lambda name: _resource(__name__ if name == "page.html" else room, name),
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_harmless,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = count
    return environment


def _harmless(value: object) -> object:
    """Write out characters that would hide or turn round a line of the page; escaping is autoescape's job."""
    return visible(value, keep="\n") if isinstance(value, str) and not isinstance(value, Markup) else value


def _resource(room: str, name: str) -> str:
    return (files(room) / name).read_text(encoding="utf-8")


def _policy(scripts: Iterable[str]) -> str:
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; form-action 'none'"
