"""A preview under Pylantir is what a C-FIND returns after the next cycle, and it changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.verify.preview import Preview, preview
from tests.integration.pylantir.test_scanners_day import Day, morning
from tests.support.bookings_by_hour import RESOURCE, booking, site_now, span
from tests.support.scanner import Line

COLUMNS = ("patient_id", "patient_name", "day", "time", "modality", "status", "study")
MAPPING = {
    "patient_id": {"source_field": "title", "_extract": {"pattern": "^([^_]+)_", "group": 1}},
    "patient_name": {"source_field": "title", "_extract": {"pattern": "^[^_]+_(.+)$", "group": 1}},
    "study_description": "properties.project.formattedName",
}


def previewed(here: Any, **options: Any) -> Preview:
    """Preview a site as a person does who has Pylantir's file."""
    file = {"db_path": str(here.host.database), "data_sources": [here.settings]}
    return preview(file, reveal=True, **options)


def listed(found: Preview) -> list[tuple[str, ...]]:
    """Give the lines of the list as a preview foretells them."""
    rows = found.frame.filter("on_list").select(COLUMNS)
    return sorted(
        (
            row["patient_id"],
            row["patient_name"] or "",
            f"{row['day']:%Y%m%d}",
            f"{row['time']:%H%M%S}",
            row["modality"],
            row["status"],
            row["study"] or "",
        )
        for row in rows.iter_rows(named=True)
    )


def served(lines: list[Line]) -> list[tuple[str, ...]]:
    """Give the lines of a C-FIND in the same form."""
    return sorted(
        (
            line.patient_id,
            line.patient_name,
            line.date,
            line.time,
            line.modality,
            line.status,
            line.description,
        )
        for line in lines
    )


def agrees(here: Any) -> Preview:
    """See that a preview equals what is served after the next cycle, and leaves everything as it was."""
    rows, shown = here.host.rows(), here.host.find()
    found = previewed(here)
    assert here.host.rows() == rows
    assert here.host.find() == shown
    here.sync(301.0)  # As Pylantir asks: the source's interval and five minutes.
    assert listed(found) == served(here.host.find())
    again = previewed(here)
    assert listed(again) == listed(found)
    assert set(again.frame["change"].drop_nulls()) <= {"unchanged", "held"}, "nothing is left to change"
    return found


def changes(found: Preview) -> dict[int, str | None]:
    """Give the changes by booking."""
    return dict(found.frame.select("booking_id", "change").rows())


def test_a_preview_is_what_is_served_next(site: Callable, tmp_path: Path) -> None:
    """Issue: preview equals, entry for entry, what Pylantir then serves: names, times, scans that run, withdrawals."""
    here = site(
        state_path=str(tmp_path / "ledger.sqlite"), field_mapping=MAPPING, patient_name_form="as_extracted"
    )
    for number, title in enumerate(["S1_Müller Jürgen", "S2_山田", "S3_Roe^Ann", "Sü4_Blue", "S5_Red"], 1):
        here.sim.put(booking(number, title, hours=number))
    here.sim.put(booking(6, "S6_Black", hours=2, status="Cancelled"))
    here.sim.put(booking(7, "S7_White", hours=-2, minutes=115))
    here.sim.put(booking(8, "no subject here", hours=3, project="x" * 80))
    first = agrees(here)
    by_id = {row["booking_id"]: row for row in first.frame.iter_rows(named=True)}
    assert by_id[1]["patient_name"] == "Muller Jurgen"
    assert by_id[4]["reasons"] == ["not_sendable"]
    assert not by_id[4]["on_list"]
    assert by_id[6]["reasons"] == ["cancelled"]
    assert by_id[8]["repaired"] == ["study_description:cut"]
    assert by_id[2]["scanner"] == RESOURCE
    assert changes(first)[1] == "new"

    here.host.mpps("S3", "IN_PROGRESS")
    here.sim.edit(3, title="S3_Roe^Anna")
    here.sim.edit(5, start=site_now() + timedelta(hours=9), finish=site_now() + timedelta(hours=10))
    here.sim.delete(1)
    here.sim.put(booking(9, "S9_New", hours=6))
    second = agrees(here)
    assert changes(second) | {4: None, 6: None, 8: None} == {
        1: "withdrawn",
        2: "unchanged",
        3: "unchanged",  # A running scan keeps its subject until it ends.
        4: None,
        5: "changed",
        6: None,
        7: "unchanged",
        8: None,
        9: "new",
    }
    (moved,) = second.frame.filter(booking_id=5)["differences"].to_list()
    assert [difference["field"] for difference in moved] == [
        "scheduled_start_time"
    ] or "scheduled_start_date" in str(moved)


def test_a_database_that_was_edited_is_seen(site: Callable, tmp_path: Path) -> None:
    """Contract: what the host has is what its database holds, not what the ledger believes."""
    here = site(state_path=str(tmp_path / "ledger.sqlite"))
    here.sim.put(booking(1, "S1_Doe"))
    here.sync()
    with here.host.session() as session:
        from pylantir.models import WorklistItem

        session.query(WorklistItem).update({"patient_name": "Somebody^Else"})
        session.commit()
    found = agrees(here)
    assert found.frame["differences"].to_list() == [
        [{"field": "patient_name", "old": "Somebody^Else", "new": "^Doe"}]
    ]


@pytest.mark.slow
def test_a_preview_is_what_a_real_pylantir_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Done when: preview equals, entry for entry, what a real Pylantir then serves to a C-FIND, step after step of a day."""
    for name, value in (
        ("CALPENDO_USERNAME", "demo"),
        ("CALPENDO_PASSWORD", "demo"),
        ("XDG_STATE_HOME", str(tmp_path / "state")),
    ):
        monkeypatch.setenv(name, value)
    day = Day(tmp_path, [*morning(), booking(12, "SUB12_Żółć", hours=3), booking(13, "SÜB13_Grün", hours=3)])

    def foretell() -> Preview:
        return preview(tmp_path / "mwl_config.json", reveal=True)

    def agrees() -> Preview:
        found = foretell()
        day.cycles()
        assert listed(found) == served(list(day.scanner.find().lines))
        return found

    try:
        day.cycles()
        agrees()
        # The host is down while Calpendo goes on: what it will have missed is foretold, too.
        day.pylantir.kill()
        day.sim.put(booking(20, "SUB20_New", hours=5))
        day.sim.edit(1, title="SUB1_White-Gray", sex="Male")
        day.sim.edit(2, status="Cancelled")
        day.sim.delete(3)
        day.sim.edit(5, formattedName=span(site_now() + timedelta(hours=40), 60))
        found = foretell()
        day.pylantir.start()
        day.cycles()
        assert listed(found) == served(list(day.scanner.find().lines))
        assert changes(found)[20] == "new"
        assert changes(found)[1] == "changed"
        assert changes(found)[3] == "withdrawn"
        instance = day.scanner.begin("SUB4", "^Blue")
        day.sim.edit(4, title="SUB4_Blue-Green")
        agrees()
        day.scanner.end(instance)
        agrees()
        day.sim.edit(2, status="Approved")
        assert set(agrees().frame["booking_id"]) >= {1, 2, 4, 6, 10, 12, 13, 20}
    finally:
        day.close()


def test_what_one_host_was_given_says_nothing_of_another(site: Callable, tmp_path: Path) -> None:
    """Contract: the same file previewed for a caller is compared with the caller's ledger, in the caller's form."""
    here = site(state_path=str(tmp_path / "ledger.sqlite"), patient_name_form="as_extracted")
    here.sim.put(booking(1, "S1_Müller"))
    here.sync()
    under, caller = previewed(here), previewed(here, host="caller", days=2)
    assert (changes(under), changes(caller)) == ({1: "unchanged"}, {1: "new"})
    assert [found.frame["patient_name"][0] for found in (under, caller)] == ["Muller", "Müller"]
