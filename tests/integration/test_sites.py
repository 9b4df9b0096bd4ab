"""Ten invented sites, from nothing to a list: ``init --yes``, ``verify``, a cycle, and the truth that was written before."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest
import pytz
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.config.file import select_source
from pipeline.plugin import CalendoPlugin
from pipeline.simulator import CalpendoSimulator
from tests.fixtures.sites.load import NAMES, Site, load

DAY = 86_400.0
ALWAYS = ("london",)
"""The site of the default run: five conventions in one."""


def judged(site: Site, entries: list[dict[str, object]], today: datetime) -> tuple[int, list[str]]:
    """Compare entries with the truth: how many subjects are right, and what is wrong, by booking."""
    starts = site.starts(today.date())
    by_id = {int(str(entry["source_record_id"])): entry for entry in entries}
    status = {row["id"]: site.statuses[row["status"]] for row in site.rows}
    resource = {row["id"]: row["resource"] for row in site.rows}
    zone = pytz.timezone(site.timezone)
    right, wrong = 0, []
    for number, reading in site.truth.items():
        entry = by_id.get(number)
        if entry is None:
            continue
        name = str(entry.get("patient_name") or "")
        start = zone.localize(datetime.combine(entry["scheduled_start_date"], entry["scheduled_start_time"]))  # type: ignore[arg-type]
        faults = {
            "no subject": reading.kind != "subject",
            "id": not reading.is_id(str(entry["patient_id"])),
            "name": bool(name) and not reading.is_name(name),
            "modality": entry["modality"] != site.modalities[resource[number]],
            "status": entry["performed_procedure_step_status"] != status[number],
            "start": start != starts[number],
        }
        found = [fault for fault, is_so in faults.items() if is_so]
        wrong += [f"{number}: {fault}" for fault in found]
        right += not found
    return right, wrong


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in ALWAYS else pytest.mark.slow) for name in NAMES]
)
def test_a_site_gets_a_right_list_without_a_question(
    name: str, tmp_path: Path, credentials: tuple[str, str]
) -> None:
    """Issue: at least 95 % of the subjects are right and none is wrong, in at most ten requests without a detail."""
    site = load(name)
    today = datetime.now(pytz.timezone(site.timezone))
    file = tmp_path / "mwl.json"
    with CalpendoSimulator(
        site.payloads(today.date()),
        timezone=site.timezone,
        generation=site.generation,  # type: ignore[arg-type]
    ) as server:
        arguments = ["--url", server.url, "--output", str(file), "--yes", "--timezone", site.timezone]
        done = CliRunner().invoke(app, ["init", *arguments])
        assert done.exit_code == 0, done.output
        assert "Ready" in done.stdout
        by_init = server.requests[
            : next(at for at, each in enumerate(server.requests) if "/b/Calpendo.Resource" in each.path) + 1
        ]
        assert len(by_init) <= 10
        assert not any("/b/Calpendo.Booking/" in request.path for request in server.requests)
        settings = select_source(file)
        wide = {**settings.config, "lookahead_hours": 72.0, "state_path": ":memory:"}
        plugin = CalendoPlugin("site", wide)
        entries = plugin.fetch_entries(50 * DAY)
    right, wrong = judged(site, entries, today)
    subjects = sum(reading.kind == "subject" for reading in site.truth.values())
    assert not wrong
    assert right >= 0.95 * subjects
    shown = done.output + json.dumps(
        {key: text for key, text in settings.config.items() if key.startswith("_")}
    )
    people = {part for each in site.truth.values() if each.name for part in each.name if len(part) > 3}
    assert not any(person in shown for person in people)
