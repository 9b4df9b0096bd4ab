"""The page without a browser: whole in one file, nothing that could load, nobody named, hostile text harmless."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from pipeline.audit import Audit, audit, read_payloads
from pipeline.audit.findings import findings, number, percent, verdict
from pipeline.audit.page import BAD, GOOD, LOOK, NOTHING, picture, pictures, render_page, table
from pipeline.display import visible
from pipeline.simulator.sample import sample_bookings, sample_config

DATA = Path(__file__).parents[3] / "data"
HOSTILE = "</script><script>alert(1)</script><b onload=x>"
TURNED = "\u202egnp\u202c\x1b[2J\u200b"


@pytest.fixture(scope="module")
def sample() -> Audit:
    """The labelled sample's audit."""
    return audit(read_payloads(DATA / "bookings.ndjson"), sample_config(), DATA / "expected_entries.ndjson")


def page_of(found: Audit) -> str:
    """The page of an audit."""
    return render_page(found, heading="bookings.ndjson", created=datetime(2026, 11, 23, 9, 30, tzinfo=UTC))


class Seen(HTMLParser):
    """What stands in a page: tags with their attributes, text outside of scripts and styles, the scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self._in = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append((tag, dict(attrs)))
        self._in = tag if tag in ("script", "style") else ""
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        """Leave a script or style."""
        self._in = ""

    def handle_data(self, data: str) -> None:
        """Note text, or a script's content."""
        if self._in == "script":
            self.scripts[-1] += data
        elif not self._in:
            self.text += data


def test_nothing_can_be_loaded(sample: Audit) -> None:
    """Issue text: one self-contained page, no network when opened; its policy allows its own two scripts only."""
    seen = Seen(page_of(sample))
    for tag, attributes in seen.tags:
        assert not {"src", "srcset", "action", "formaction", "background", "ping"} & set(attributes), tag
        assert tag not in ("iframe", "object", "embed", "base", "form", "img"), tag
        assert (attributes.get("href") or "#").startswith(("#", "data:,")), tag
        assert not any(name.startswith("on") for name in attributes), tag
    style = re.sub(r"<script.*?</script>", "", page_of(sample), flags=re.DOTALL)
    assert "@import" not in style
    assert "url(" not in style
    policy = next(a["content"] for t, a in seen.tags if t == "meta" and a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    allowed = set(re.findall(r"'sha256-([^']+)'", policy))
    run = [script for script in seen.scripts if not script.startswith("{")]
    digests = {base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in run}
    assert digests == allowed
    assert len(run) == 2


def test_charts_and_tables_are_inside(sample: Audit) -> None:
    """Issue text: altair charts embedded, great-tables for tables, each place filled."""
    seen = Seen(page_of(sample))
    places = {a["data-chart"] for _, a in seen.tags if "data-chart" in a}
    assert places == {f"spec-{name}" for name in pictures(sample)}
    specs = [json.loads(script) for script in seen.scripts if script.startswith("{")]
    assert len(specs) == len(places) == 5
    assert all(any(spec["datasets"].values()) for spec in specs)
    tables = {a["id"] for t, a in seen.tags if t == "div" and (a.get("id") or "").startswith("table-")}
    assert {
        "table-fields",
        "table-accuracy",
        "table-rejections",
        "table-repairs",
        "table-times",
        "table-suggestions",
    } <= tables
    assert "Every field of all 266 hand-checked bookings is right: 100 %." in seen.text


def test_nobody_is_named(sample: Audit) -> None:
    """Privacy: no title and no subject's name in the masked page, in text, charts or attributes."""
    page = page_of(sample)
    seen = Seen(page)
    shown = seen.text + "".join(script for script in seen.scripts if script.startswith("{")) + str(seen.tags)
    for booking in sample_bookings():
        title = booking.get("title") or (booking.get("properties") or {}).get("title")
        if isinstance(title, str) and re.search(r"[A-Za-z]{2}.*[_ ].*[a-z]{2}", title):
            assert title not in shown
    assert "Contains patient data" not in page


@pytest.mark.parametrize("reveal", [True, False])
def test_hostile_text_stays_text(reveal: bool) -> None:
    """Privacy: markup in a title, a status or a resource becomes no tag and no script."""
    booking: dict[str, Any] = {
        "id": 1,
        "title": HOSTILE,
        "status": HOSTILE + TURNED,
        "formattedName": "[2026-06-15 10:00:00.0, 2026-06-15 11:00:00.0]",
        "properties": {"resource": {"formattedName": HOSTILE}, "project": {"formattedName": HOSTILE}},
    }
    label = [{"booking_id": 1, "expected": {"patient_id": HOSTILE + "x", HOSTILE: HOSTILE}}]
    found = audit([booking], sample_config(), label, reveal=reveal)
    seen = Seen(render_page(found, heading=HOSTILE + TURNED, created=datetime(2026, 1, 1, tzinfo=UTC)))
    assert "b" not in {tag for tag, _ in seen.tags}
    assert f"{HOSTILE}{visible(TURNED)}" in seen.text
    assert not set(TURNED) & set(seen.text) - set("gnp[2J")
    assert sum(tag == "script" for tag, _ in seen.tags) == 2 + len(pictures(found))
    for name, frame in found.frames().items():
        if name in ("fields", "disagreements", "statuses", "resources"):
            assert "<script" not in table(name, frame)._repr_html_()


def test_a_page_of_nothing() -> None:
    """Report: an audit without bookings is a page that says so, without charts and without scripts."""
    seen = Seen(page_of(audit([], sample_config())))
    assert "There were no bookings to audit." in seen.text
    assert seen.scripts == []


def test_a_missing_picture_says_so(sample: Audit) -> None:
    """Notebooks: a chart that an audit has no data for is a sentence, not an error; the others are drawn."""
    empty = audit([], sample_config())
    assert "nothing to draw" in picture(empty, "accuracy")._repr_mimebundle_()["text/plain"]
    drawn = picture(sample, "titles")._repr_mimebundle_()
    assert drawn["image/svg+xml"].startswith("<svg")


def test_the_findings_are_sentences(sample: Audit) -> None:
    """Report: a summary in plain words; shares never round up to all or down to none."""
    assert verdict(sample).level == "good"
    for finding in findings(sample):
        assert finding.text[0].isupper() or finding.text[0].isdigit() or "_" in finding.text.split()[0]
        assert finding.text.endswith((".", ")"))
    assert percent(0.99999) == "99.9 %"
    assert percent(0.00001) == "0.1 %"
    assert percent(1.0) == "100 %"
    assert percent(0.5) == "50 %"
    assert number(1, "booking") == "1 booking"
    assert number(12_345, "booking") == "12\u202f345 bookings"


def luminance(colour: str) -> float:
    """The relative luminance of a colour (WCAG 2.2)."""
    digits = colour.removeprefix("#")
    digits = digits if len(digits) == 6 else "".join(2 * digit for digit in digits)
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours (WCAG 2.2)."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_every_colour_can_be_told_from_its_ground() -> None:
    """WCAG 2.2 AA, 1.4.3 and 1.4.11: texts 4.5 to 1 on each ground of the pages, marks of charts 3 to 1."""
    style = (files("pipeline.page") / "page.css").read_text(encoding="utf-8")
    named = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", style))
    grounds = {"#fff", *re.findall(r"background: (#[0-9a-f]{3,6})", style)}
    assert len(grounds) >= 3
    for name in ("ink", "muted", "good", "look", "bad"):
        for ground in grounds:
            assert contrast(named[name], ground) >= 4.5, (name, ground)
    for colour in (GOOD, LOOK, BAD, NOTHING, named["edge"]):
        assert contrast(colour, "#fff") >= 3, colour


def test_a_cell_says_its_heading(sample: Audit) -> None:
    """Report: where the page is narrow, a line of a table becomes blocks, and each cell stands behind its heading."""
    seen = Seen(page_of(sample))
    cells = [attributes for tag, attributes in seen.tags if tag == "td" and "headers" in attributes]
    assert cells
    assert all(cell.get("data-label") and cell.get("role") == "cell" for cell in cells)
    heads = [attributes for tag, attributes in seen.tags if tag == "th"]
    assert all(head.get("scope") == "col" for head in heads)
    assert {"main", "header", "footer", "nav"} <= {tag for tag, _ in seen.tags}


def test_a_revealed_page_says_so_in_its_title(sample: Audit) -> None:
    """Privacy: a page with names is known by its title, where it lies among others."""
    revealed = replace(sample, overview=replace(sample.overview, revealed=True))
    assert "<title>Contains patient data: Worklist audit" in page_of(revealed)
    assert "<title>Worklist audit" in page_of(sample)
