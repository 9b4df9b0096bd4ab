"""A preview is what the next cycle delivers: on the list or off it and why, what changes; and it writes nothing."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

import pipeline
from pipeline.cli import app
from pipeline.config.credentials import Credentials
from pipeline.delivery.ledger import Ledger
from pipeline.simulator import CalpendoSimulator
from pipeline.transform.shapes import shape
from pipeline.verify.preview import SCHEMA, VALUES, Preview
from tests.support.delivery_site import NOW, Site, booking

STATUS = "performed_procedure_step_status"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A day with one booking for each fate that the first cycle knows."""
    bookings = [booking(number) for number in range(1, 6)]
    bookings += [
        booking(6, status="Cancelled"),
        booking(7, title=""),
        booking(8, title=f"SUB008_{'Long_' * 20}"),
        booking(9, NOW + timedelta(days=3)),
        booking(10, title="SUB010_Testa_Anna", resource="Elsewhere"),
    ]
    for each in bookings:
        each["properties"]["booker"] = {"formattedName": "Booker, Betty", "email": "betty@site.example"}
    with CalpendoSimulator(bookings) as server:
        made = Site(server, tmp_path / "ledger.sqlite")
        yield made
        made.close()


def look(site: Site, **options: Any) -> Preview:
    """Preview a site at its own time."""
    return pipeline.preview(
        site.config, credentials=Credentials("demo", "demo"), clock=lambda: site.now, **options
    )


def test_each_booking_of_the_window_has_its_place(site: Site) -> None:
    """Issue: time, id, name, status; off the list and why; repaired fields; what changes; nothing is written."""
    found = look(site, reveal=True)
    assert dict(found.frame.schema) == dict(SCHEMA)
    assert not Path(site.config["state_path"]).exists()
    rows = {row["booking_id"]: row for row in found.frame.iter_rows(named=True)}
    assert set(rows) == {1, 2, 3, 4, 5, 6, 7, 8}, "the window's bookings of the resources that are asked for"
    assert rows[1]["patient_id"] == "SUB001"
    assert rows[1]["patient_name"] == "Testa_Anna"
    assert (rows[1]["change"], rows[1]["on_list"], rows[1]["reasons"]) == ("new", True, [])
    assert (rows[6]["on_list"], rows[6]["reasons"]) == (False, ["cancelled"])
    assert rows[7]["reasons"] == ["patient_id_missing"]
    assert rows[7]["what_to_do"]
    assert rows[7]["booker"] == "Booker, Betty"
    assert rows[7]["mail"] == "betty@site.example"
    assert rows[8]["repaired"] == ["patient_name:cut"]
    assert set(found.to_fix["booking_id"]) == {7, 8}
    assert found.counts == {
        "on_list": 6, "later": 0, "off_list": 2, "to_fix": 2,
        "new": 7, "changed": 0, "unchanged": 0, "withdrawn": 0, "held": 0,
    }  # fmt: skip


def test_what_changes_is_what_the_next_cycle_brings(site: Site) -> None:
    """Issue: what changes against what the host has now: the entries of the next cycle, with old and new values."""
    site.fetch()
    site.close()
    site.simulator.edit(1, title="SUB001_Testa_Berta")
    site.simulator.edit(2, status="Cancelled")
    site.simulator.edit(3, resource="Elsewhere")
    site.simulator.delete(4)
    site.simulator.put(booking(11))
    found = look(site, reveal=True)
    changes = dict(found.frame.select("booking_id", "change").drop_nulls().rows())
    assert {number for number, change in changes.items() if change != "unchanged"} == {1, 2, 3, 4, 11}
    assert changes[1] == changes[2] == "changed"
    assert changes[3] == changes[4] == "withdrawn"
    rows = {row["booking_id"]: row for row in found.frame.iter_rows(named=True)}
    assert {"field": "patient_name", "old": "Testa_Anna", "new": "Testa_Berta"} in rows[1]["differences"]
    assert (rows[3]["on_list"], rows[4]["on_list"], rows[4]["reasons"]) == (False, False, ["withdrawn"])
    brought = site.fetch()
    assert set(brought) == {1, 2, 3, 4, 11}
    for number, entry in brought.items():
        assert rows[number]["status"] == entry[STATUS]
        assert rows[number]["patient_name"] == entry["patient_name"]
    site.close()
    assert set(look(site).frame["change"].drop_nulls()) == {"unchanged"}


def test_the_next_days_stand_in_place_of_the_window(site: Site) -> None:
    """Contract: with days, what the window has not reached yet is shown as such, and is not on the list."""
    site.fetch()
    site.close()
    rows = {row["booking_id"]: row for row in look(site, days=4).frame.iter_rows(named=True)}
    assert (rows[9]["on_list"], rows[9]["reasons"], rows[9]["change"]) == (False, ["not_yet"], None)
    assert rows[1]["change"] == "unchanged"
    assert look(site, days=4).counts["new"] == 0, "the next cycle does not bring it"
    assert 9 not in set(look(site, days=3).frame["booking_id"]), "today and the next two"
    with pytest.raises(pipeline.PluginConfigError, match="days"):
        look(site, days=0)


def test_a_booking_that_could_not_be_fetched_stays_as_the_host_has_it(site: Site) -> None:
    """Contract: a fetch that fails takes nothing off the list, and says so; a held withdrawal stays, too."""
    site.fetch()
    site.close()
    site.simulator.faults.add("status", match="/b/.*/1$", code=500)
    site.simulator.delete(2)
    rows = {row["booking_id"]: row for row in look(site, reveal=True).frame.iter_rows(named=True)}
    assert (rows[1]["on_list"], rows[1]["reasons"], rows[1]["patient_id"]) == (
        True,
        ["fetch_failed"],
        "SUB001",
    )
    assert (rows[2]["on_list"], rows[2]["reasons"], rows[2]["change"]) == (
        True,
        ["withdrawal_in_doubt"],
        "held",
    )


def test_values_are_shapes_unless_they_are_asked_for(site: Site) -> None:
    """Issue: values are shapes unless revealed; a notebook's output and the page of an unrevealed one hold none."""
    from pipeline.verify.preview import render_preview

    site.fetch()
    site.close()
    site.simulator.edit(1, title="SUB001_Testa_Berta")
    plain, revealed = look(site), look(site, reveal=True)
    for name in VALUES:
        assert plain.frame[name].to_list() == [text and shape(text) for text in revealed.frame[name]]
    (names,) = plain.frame.filter(booking_id=1)["differences"].to_list()
    assert {"field": "patient_name", "old": "Aaaaa_Aaaa", "new": "Aaaaa_Aaaaa"} in names
    for text in (
        plain._repr_html_(),
        revealed._repr_html_(),
        render_preview(plain),
        repr(revealed),
        json.dumps(plain.to_dict()),
    ):
        assert [value for value in ("Testa", "Betty", "betty", "SUB001", "Sleep") if value in text] == []
    assert plain.frame.drop(*VALUES, "differences").equals(revealed.frame.drop(*VALUES, "differences"))


def test_the_command_shows_it_in_three_forms(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue: a table, JSON, and a page that is private where it was revealed; two sources ask for one."""
    monkeypatch.setenv("CALPENDO_USERNAME", "demo")
    monkeypatch.setenv("CALPENDO_PASSWORD", "demo")
    file, page = tmp_path / "site.json", tmp_path / "page.html"
    file.write_text(json.dumps({**site.config, "lookahead_hours": 8784}))

    def call(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["preview", "--config", str(file), *arguments], env={"COLUMNS": "60"})

    # It is another day here than at the site: only what comes later is there to be seen.
    site.simulator.put(booking(20, _soon()))
    done = call("--html", str(page))
    assert done.exit_code == 0, done.output
    assert "AAA999" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 60
    assert stat.S_IMODE(page.stat().st_mode) & 0o077
    told = json.loads(call("--json").stdout)
    assert [row["patient_id"] for row in told["bookings"]] == ["AAA999"]
    assert call("--reveal", "--html", str(page)).exit_code == 0
    before = set(tmp_path.iterdir())
    refused = call("--html", str(tmp_path))
    assert refused.exit_code == 2
    assert "cannot be written: Is a directory" in " ".join(refused.stderr.split())
    assert set(tmp_path.iterdir()) == before
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert "<title>Contains patient data" in page.read_text()
    assert not list(tmp_path.glob(".page*"))
    assert call("--source", "nobody").exit_code == 2
    site.simulator.faults.add("status", match="/q/", code=503)
    assert call("--html", str(tmp_path / "none.html")).exit_code == 1
    assert not (tmp_path / "none.html").exists()


def _soon() -> Any:
    from datetime import UTC, datetime

    return datetime.now(UTC).replace(microsecond=0) + timedelta(hours=3)


class Parts(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append((tag, dict(attrs)))


def test_the_page_can_be_read_by_everybody(site: Site) -> None:
    """WCAG 2.2 AA: a language, landmarks, a way past the head, headings of rows and columns; and it loads nothing."""
    from pipeline.verify.preview import render_preview

    parts = Parts(render_preview(look(site)))
    tags = [tag for tag, _ in parts.tags]
    assert dict(parts.tags)["html"]["lang"] == "en"
    assert tags.count("main") == tags.count("header") == tags.count("footer") == tags.count("h1") == 1
    assert ("a", {"class": "skip", "href": "#content"}) in parts.tags
    assert tags.count("table") == tags.count("caption") >= 3
    for tag, attributes in parts.tags:
        if tag == "th":
            assert attributes["scope"] in ("row", "col")
        assert not {"src", "action", "background"} & set(attributes)
        assert (attributes.get("href") or "#").startswith(("#", "data:,"))
    assert "script" not in tags


def test_a_plan_is_what_the_ledger_then_holds(site: Site) -> None:
    """Promise: the plan's entries are those of the next cycle, and a preview leaves the ledger as it was."""
    site.fetch()
    site.close()
    with Ledger.copy(site.config["state_path"]) as ledger:
        before = list(ledger.connection.iterdump())
    site.simulator.edit(1, title="SUB001_Testa_Berta")
    look(site)
    with Ledger.copy(site.config["state_path"]) as ledger:
        assert list(ledger.connection.iterdump()) == before
    assert isinstance(look(site).on_list, pl.DataFrame)
