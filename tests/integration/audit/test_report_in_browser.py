"""The report in a real browser: drawn, filled, silent, alone with itself, and nobody's name in it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.audit import audit, read_payloads
from pipeline.audit.page import render_page
from pipeline.simulator.sample import sample_config

DATA = Path(__file__).parents[3] / "data"
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
)
CHARTS = {"weeks", "fields", "accuracy", "titles", "rejections"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None and "CI" not in os.environ, reason="chromium is not installed; CI always has it"
    ),
    # selenium closes its pipes to the driver when it is collected, after the test that the warning would fall into
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium with a fresh profile, its console and its network log kept."""
    from selenium import webdriver

    assert CHROMIUM is not None, "CI must have chromium: .ci/run installs it"
    assert DRIVER is not None, "CI must have chromedriver: .ci/run installs it"
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The masked report of the labelled sample."""
    return write(tmp_path_factory.mktemp("report") / "report.html")


def write(path: Path, *, bookings: Any = None, reveal: bool = False) -> Path:
    """Write a report of the sample, or of other bookings."""
    given = read_payloads(DATA / "bookings.ndjson") if bookings is None else bookings
    labels = DATA / "expected_entries.ndjson" if bookings is None else None
    found = audit(given, sample_config(), labels, reveal=reveal)
    path.write_text(
        render_page(found, heading="bookings.ndjson", created=datetime(2026, 11, 23, 9, 30, tzinfo=UTC)),
        encoding="utf-8",
    )
    return path


def open_page(browser: Any, page: Path) -> None:
    """Open a file and wait until its charts are drawn; what the logs held before is dropped."""
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get("about:blank")
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(page.as_uri())
    WebDriverWait(browser, 30).until(
        lambda here: here.execute_script(
            "return document.documentElement.dataset.drawn || !document.querySelector('[data-chart]')"
        )
    )


def requested(browser: Any) -> set[str]:
    """Every address that the page has asked for since it was opened."""
    messages = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    return {
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    }


def test_every_chart_is_drawn(browser: Any, page: Path) -> None:
    """Done when: charts drawn, each with marks that have a size, none wider than its place."""
    open_page(browser, page)
    drawn = browser.execute_script(
        """
        return Object.fromEntries([...document.querySelectorAll("[data-chart]")].map((place) => {
          const svg = place.querySelector("svg");
          const marks = [...place.querySelectorAll("svg .mark-rect path, svg .mark-symbol path")];
          const sized = marks.filter((mark) => { const box = mark.getBBox(); return box.width > 0 && box.height > 0; });
          return [place.dataset.chart.replace("spec-", ""), {
            marks: sized.length,
            fits: svg !== null && svg.getBoundingClientRect().width <= place.getBoundingClientRect().width + 1,
            labels: place.querySelectorAll("svg .role-axis-label text").length,
          }];
        }));
        """
    )
    assert set(drawn) == CHARTS
    for name, seen in drawn.items():
        assert seen["marks"] >= 3, name
        assert seen["labels"] >= 4, name
        assert seen["fits"], name


def test_every_table_is_filled(browser: Any, page: Path) -> None:
    """Done when: tables filled; the accuracy table says 100 % of every field."""
    open_page(browser, page)
    rows = browser.execute_script(
        """
        return Object.fromEntries([...document.querySelectorAll("div[id^=table-]")].map((table) => [
          table.id.replace("table-", ""),
          [...table.querySelectorAll("tbody tr")].map((row) => [...row.cells].map((cell) => cell.innerText.trim())),
        ]));
        """
    )
    for name in (
        "fields",
        "accuracy",
        "rejections",
        "conventions",
        "suggestions",
        "proposals",
        "times",
        "zone_data",
    ):
        assert rows[name], name
        assert all(any(cell not in ("", "–") for cell in row) for row in rows[name]), name
    assert {row[-1] for row in rows["accuracy"]} == {"100 %"}
    assert "100 %" in browser.find_element("css selector", ".verdict").text
    assert "disagreements" not in rows


def test_the_page_is_silent_and_alone(browser: Any, page: Path) -> None:
    """Done when: no console error and no request to any host; and the page could not make one if it tried."""
    open_page(browser, page)
    assert browser.get_log("browser") == []
    assert requested(browser) <= {page.as_uri(), "data:,"}
    blocked = browser.execute_async_script(
        """
        const done = arguments[0];
        fetch("http://127.0.0.1:9/").then(() => done("loaded"), () => done("blocked"));
        """
    )
    assert blocked == "blocked"
    assert any("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))


def test_nobody_is_named(browser: Any, page: Path) -> None:
    """Done when: no patient name in the masked page, neither to be read nor in its source."""
    open_page(browser, page)
    text = browser.execute_script(
        """
        const whole = document.documentElement.cloneNode(true);
        whole.querySelectorAll("script:not([type])").forEach((library) => library.remove());
        return document.body.innerText + whole.outerHTML;
        """
    )
    names = {
        entry["patient_name"]
        for line in (DATA / "expected_entries.ndjson").read_text(encoding="utf-8").splitlines()
        if (entry := json.loads(line).get("expected"))
        and any(letter.isalpha() for letter in entry["patient_name"][3:])
    }
    assert len(names) > 100
    assert [name for name in names if name in text] == []
    assert "Names and identifiers are shown as shapes" in text


def test_it_fits_a_laptop_and_paper(browser: Any, page: Path) -> None:
    """Report: nothing sticks out of the window or of a printed page."""
    open_page(browser, page)
    overhang = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    cut_tables = """
        return [...document.querySelectorAll("div[id^=table-]")]
          .filter((table) => table.querySelector("table").offsetWidth > table.clientWidth + 1)
          .map((table) => table.id);
    """
    assert browser.execute_script(overhang) <= 0
    assert browser.execute_script(cut_tables) == []
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 690, "height": 1000, "deviceScaleFactor": 1, "mobile": False},
    )
    try:
        assert browser.execute_script(overhang) <= 0
        assert browser.execute_script(cut_tables) == []
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("kind", ["audit", "preview"])
def test_a_phone_reads_words_and_a_keyboard_reaches_them(
    browser: Any, page: Path, tmp_path: Path, kind: str
) -> None:
    """Report: at 390 px no cell is a few letters wide and nothing sticks out; the first Tab leads past the head."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True},
    )
    try:
        open_page(browser, page if kind == "audit" else preview_page(tmp_path / "preview.html"))
        assert (
            browser.execute_script(
                "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            <= 0
        )
        cells = browser.execute_script(
            """
            return [...document.querySelectorAll("[data-label]")].map((cell) => [
              cell.getBoundingClientRect().width,
              cell.scrollWidth - cell.clientWidth,
              getComputedStyle(cell, "::before").content,
            ]);
            """
        )
        assert len(cells) > 20
        assert all(width >= 120 and over <= 0 and label != "none" for width, over, label in cells)
        browser.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
        assert browser.switch_to.active_element.get_attribute("href").endswith("#content")
        assert browser.get_log("browser") == []
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def preview_page(path: Path) -> Path:
    """Write the preview of the sample's main day, as nobody has it yet."""
    from pipeline.verify.preview import render_preview, sample_preview

    path.write_text(render_preview(sample_preview()), encoding="utf-8")
    return path


def test_a_hostile_title_stays_text(browser: Any, tmp_path: Path) -> None:
    """Privacy: a title that is markup is shown, when revealed, and never run."""
    title = "<img src=x onerror=\"document.title='run'\"></script><script>document.title='run'</script>"
    booking = {
        "id": 1,
        "title": title[:60],
        "status": title,
        "formattedName": "[2026-06-15 10:00:00.0, 2026-06-15 11:00:00.0]",
        "properties": {"resource": {"formattedName": title}, "project": {"formattedName": "</script>"}},
    }
    page = write(tmp_path / "hostile.html", bookings=[booking], reveal=True)
    open_page(browser, page)
    assert browser.title.startswith("Contains patient data: Worklist audit")
    assert browser.get_log("browser") == []
    assert "Contains patient data" in browser.execute_script("return document.body.innerText")
    assert title in browser.find_element("id", "table-statuses").text


def test_an_audit_of_nothing_is_still_a_page(browser: Any, tmp_path: Path) -> None:
    """Report: no bookings, no charts, no error."""
    open_page(browser, write(tmp_path / "empty.html", bookings=[]))
    assert browser.get_log("browser") == []
    assert "no bookings to audit" in browser.execute_script("return document.body.innerText")
