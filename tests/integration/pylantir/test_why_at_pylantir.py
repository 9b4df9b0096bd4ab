"""``why`` under Pylantir: what the row says, who set it, what a scanner is shown, and what Pylantir cannot send."""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import pipeline
from pipeline.trace import Fate, Verdict, _Inquiry, _sites
from tests.support.bookings_by_hour import booking, site_now, span
from tests.support.pylantir_process import OURS


def ask(here: Any, folder: Path, *numbers: int) -> dict[int, Verdict]:
    """Ask about bookings with Pylantir's own configuration file; see that nothing of its files changes."""
    file = folder / "mwl_config.json"
    document = {"db_path": str(here.host.database), "data_sources": [here.settings]}
    file.write_text(json.dumps(document))
    before = here.host.database.read_bytes()
    (asked,) = _sites(file, None, None, None)
    with _Inquiry(asked, datetime.now(UTC), reveal=False) as inquiry:
        verdicts = inquiry.verdicts(set(numbers))
    assert here.host.database.read_bytes() == before
    assert {verdict.host for verdict in verdicts} == {"pylantir"}
    return {verdict.booking_id: verdict for verdict in verdicts}


def step(verdict: Verdict, name: str) -> str:
    """Return what a step found."""
    (found,) = (each.found for each in verdict.steps if each.name == name)
    return found


def test_the_row_and_who_set_it(site: Callable, tmp_path: Path) -> None:
    """Issue: under Pylantir what the row says, who set its status, and whether a scanner is shown it now."""
    here = site(OURS)
    for number in range(1, 8):
        here.sim.put(booking(number, f"SUB{number}_Doe", hours=number / 10))
    here.sim.put(booking(8, "SÜB8_Doe", hours=0.5))
    here.sync()
    here.host.mpps("SUB1", "IN_PROGRESS")
    here.host.mpps("SUB2", "COMPLETED")
    here.host.mpps("SUB3", "DISCONTINUED")
    here.sim.edit(4, status="Cancelled")
    here.sync()
    here.sim.edit(5, title="SUB5_Roe")
    here.host.mpps("SUB6", "DISCONTINUED")
    here.sim.edit(6, formattedName=span(site_now().replace(second=0), 60 * 3))
    with sqlite3.connect(here.host.database) as database:
        database.execute("DELETE FROM worklist_items WHERE source_record_id = '7'")
    database.close()
    told = ask(here, tmp_path, *range(1, 9))
    shown = {number for number, verdict in told.items() if "now is shown it" in step(verdict, "pylantir")}
    assert shown == {int(subject[3:]) for subject in here.shown}

    assert (told[1].fate, told[1].on_list) == (Fate.UNCHANGED, True)
    assert "its row says IN_PROGRESS" in step(told[1], "pylantir")
    assert "set by the scanner" in step(told[1], "pylantir")
    for number, words in (
        (2, "the scanner ended it (COMPLETED)"),
        (3, "the scanner broke it off (DISCONTINUED)"),
    ):
        assert not told[number].on_list
        assert told[number].decided.name == "pylantir"
        assert words in told[number].answer
        assert told[number].decided.advice
    assert (told[4].on_list, told[4].decided.name) == (False, "status")
    assert "DISCONTINUED" in step(told[4], "pylantir")
    assert "set by Calpendo" in step(told[4], "pylantir")
    assert (told[5].fate, told[5].on_list) == (Fate.CHANGED, True)
    assert not told[6].on_list, "a step that was broken off and not moved ahead stays off"
    assert "no row" in step(told[7], "pylantir")
    assert (told[7].fate, told[7].on_list) == (Fate.RESENT, True)
    assert not told[8].on_list
    assert "Pylantir cannot send it: patient_id holds characters beyond ASCII" in told[8].answer
    assert "SÜB" not in str(told[8])
    assert told[1].start is not None
    assert f"sent as {told[1].start.astimezone(here_zone()):%Y-%m-%d %H:%M}" in step(told[1], "times")


def here_zone() -> Any:
    """The site's zone."""
    import pytz

    from tests.support.bookings_by_hour import ZONE

    return pytz.timezone(ZONE)


def test_what_was_broken_off_and_has_a_new_time_comes_back(site: Callable, tmp_path: Path) -> None:
    """Issue: the verdict is the host's own: a new time ahead makes a new appointment of it."""
    here = site(OURS)
    here.sim.put(booking(1, "SUB1_Doe", hours=0.2))
    here.sync()
    here.host.mpps("SUB1", "DISCONTINUED")
    here.sync()
    assert not ask(here, tmp_path, 1)[1].on_list
    here.sim.edit(1, formattedName=booking(1, "SUB1_Doe", hours=2)["formattedName"])
    told = ask(here, tmp_path, 1)[1]
    assert (told.fate, told.on_list) == (Fate.CHANGED, True)
    here.sync()
    assert here.shown == ["SUB1"]


def test_the_ledger_of_a_caller_beside_it_is_told_too(
    site: Callable, tmp_path: Path, credentials: tuple[str, str]
) -> None:
    """Issue: delivered to which host, of every host of the source; the answer is about the scanner's list."""
    here = site(OURS, state_path=str(tmp_path / "state" / "ledger.sqlite"), api_path="/webdav")
    here.sim.put(booking(1, "SUB1_Doe"))
    here.sync()
    with pipeline.CalendoPlugin(here.settings["name"], here.settings["config"]) as plugin:
        plugin.fetch_entries(360)
        here.sim.edit(1, title="SUB1_Roe")
        here.sync()
    told = ask(here, tmp_path, 1)[1]
    assert (told.host, told.fate) == ("pylantir", Fate.UNCHANGED)
    assert "the next cycle sends the change of patient_name" in step(told, "delivery to caller")
    here.sim.close()
    told = ask(here, tmp_path, 1)[1]
    assert (told.fate, told.on_list, told.from_server) == (Fate.UNCHANGED, True, False)
    assert "set by Calpendo; a scanner that asks now is shown it" in step(told, "pylantir")


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 12))])
def test_what_is_told_is_what_a_scanner_is_shown_after_the_next_cycle(
    site: Callable, tmp_path: Path, seed: int
) -> None:
    """Issue: whatever people, the scanner and other hands did, exactly what is on the list is then shown to a scanner."""
    rng = random.Random(seed)
    here = site(OURS)
    numbers = range(1, 26)
    for number in numbers:
        status = rng.choice(["Approved"] * 6 + ["Cancelled", "Completed", "In Progress", "Verschoben"])
        title = rng.choice([f"SUB{number}_Doe"] * 8 + ["", f"SÜB{number}_Roe"])
        hours = rng.choice([0.1, 1, 5, 12, 23, 30, -0.2, -3])
        here.sim.put(booking(number, title, hours=hours, minutes=rng.choice([20, 60]), status=status))
    here.sync()
    for number in numbers:
        match rng.randrange(12):
            case 0:
                here.sim.delete(number)
            case 1:
                here.sim.edit(number, title=f"SUB{number}_Neu")
            case 2:
                here.sim.edit(number, status=rng.choice(["Cancelled", "Approved", "Completed"]))
            case 3:
                here.sim.edit(number, resource="Elsewhere")
            case 4:
                here.sim.edit(
                    number, formattedName=span(site_now() + timedelta(hours=rng.choice([2, 40])), 30)
                )
            case 5 | 6:
                with contextlib.suppress(AssertionError):
                    here.host.mpps(f"SUB{number}", rng.choice(["IN_PROGRESS", "COMPLETED", "DISCONTINUED"]))
            case 7:
                with contextlib.closing(sqlite3.connect(here.host.database)) as database, database:
                    database.execute("DELETE FROM worklist_items WHERE source_record_id = ?", (str(number),))
    told = ask(here, tmp_path, *numbers)
    here.sync()
    expected = {f"SUB{number}" for number, verdict in told.items() if verdict.on_list}
    assert expected == set(here.shown)
    again = ask(here, tmp_path, *numbers)
    shown = {number for number, verdict in again.items() if "now is shown it" in step(verdict, "pylantir")}
    assert {f"SUB{number}" for number in shown} == set(here.shown)
