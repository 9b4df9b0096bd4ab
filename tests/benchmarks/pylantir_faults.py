"""The faults of the side-by-side table: each is played once and described as it was seen."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillRunning
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.simulator import CalpendoSimulator
from tests.benchmarks.pylantir_site import a_site, two
from tests.integration.pylantir.conftest import new_plugin
from tests.support.bookings_by_hour import MAPPING, RESOURCE, booking, site_now, span
from tests.support.pylantir_process import OURS
from tests.support.worklist_host import LostAnswerError

ROOT = Path(__file__).parents[2]
BOMB = """
import sys
from tests.integration.pylantir.conftest import new_plugin
from tests.support.bookings_by_hour import source
from tests.support.peak_memory import own_peak
plugin = new_plugin(sys.argv[1])
plugin.validate_config(source(sys.argv[2], max_retries=0)["config"])
outcome = "accepted"
try:
    plugin.fetch_entries({}, 360)
except Exception as error:
    outcome = "refused"
print(outcome, own_peak())
"""


def detail_fault(kind: str, fault: str, **details: Any) -> str:
    """Two bookings, one of whose details answers once with a fault."""
    with a_site(kind) as here:
        here.sim.put(booking(1, "SUB1_Doe"))
        here.sim.put(booking(2, "SUB2_Roe", hours=2))
        here.sim.faults.add(fault, match=r"/b/Calpendo\.Booking/1$", times=1, **details)
        try:
            here.sync()
        except Exception as error:
            return f"the whole batch fails ({type(error).__name__})"
        return (
            "both delivered" if here.shown == ["SUB1", "SUB2"] else f"only {len(here.shown)} of 2, no error"
        )


def all_details_fail(kind: str) -> str:
    """Every detail answers HTML."""
    with a_site(kind, max_retries=0) as here:
        here.sim.put(booking(1, "SUB1_Doe"))
        here.sim.faults.add("html", match=r"/b/")
        try:
            return f"{here.sync()} entries, reported as a success"
        except Exception as error:
            return f"{type(error).__name__}, the list stays"


def slow_body(kind: str) -> str:
    """One detail comes at a byte every two seconds; the deadline is set to two seconds."""
    with a_site(kind, body_deadline=2.0, max_retries=0) as here:
        here.sim.put(booking(1, "SUB1_Doe"))
        here.sim.put(booking(2, "SUB2_Roe"))
        here.sim.faults.add("slow_body", match=r"/b/Calpendo\.Booking/1$")
        pool = ThreadPoolExecutor(1)
        began = time.perf_counter()
        call = pool.submit(here.plugin.fetch_entries, {}, 360)
        try:
            entries = call.result(10)
            return f"given up after {time.perf_counter() - began:.1f} s, the other {len(entries)} delivered"
        except StillRunning:
            return "still waiting after 10 s, nothing delivered"
        finally:
            here.sim.close()
            pool.shutdown()


def bomb(kind: str) -> str:
    """The list is 256 MiB of blanks, packed."""
    with a_site(OURS) as here:
        here.sim.faults.add("gzip_bomb", match="/q/Calpendo.Booking/", size=1 << 28)
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", BOMB, kind, here.sim.url],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "POLARS_MAX_THREADS": "1"},
            check=True,
        )
    outcome, memory = done.stdout.split()[-2:]
    return f"{outcome}, peak memory {memory} MB"


def status_filter(kind: str) -> str:
    """29 approved bookings among 113 of two resources; only those are wanted."""
    with a_site(kind, status_filter="Approved", resources=[RESOURCE, "EEG Lab"]) as here:
        for number in range(1, 114):
            status = "Approved" if number <= 29 else "Requested"
            here.sim.put(booking(number, f"SUB{number}_Doe", hours=number / 6, status=status))
        return f"{here.sync()} rows for 29"


def after_edit(act: Callable[[CalpendoSimulator], None], shown: str, gone: str) -> Callable[[str], str]:
    """Two bookings on the list, one is changed in Calpendo; is its line still there?"""

    def run(kind: str) -> str:
        with a_site(kind) as here:
            two(here)
            act(here.sim)
            here.sync()
            return shown if "SUB1" in here.shown else gone

    return run


def one_subject_twice(kind: str) -> str:
    """Two bookings of one subject on one day."""
    with a_site(kind) as here:
        here.sim.put(booking(1, "SUB1_Doe", hours=1))
        here.sim.put(booking(2, "SUB1_Doe", hours=5))
        here.sync()
        lines = here.host.find()
        return f"{len(lines)} rows, {len({line.study_uid for line in lines})} study UIDs"


def mpps(kind: str) -> str:
    """The scanner begins, then a sync."""
    with a_site(kind) as here:
        two(here)
        here.host.mpps("SUB1", "IN_PROGRESS")
        here.sync()
        status = here.host.row(1)["performed_procedure_step_status"]
        return "stays IN_PROGRESS" if status == "IN_PROGRESS" else f"set back to {status}"


def running(kind: str) -> str:
    """A booking that began two hours ago and has an hour to go."""
    with a_site(kind) as here:
        here.sim.put(booking(1, "SUB1_Doe", hours=-2, minutes=180))
        here.sync()
        return "on the list" if here.shown else "never appears"


def moments(kind: str) -> str:
    """DA and TM on the wire."""
    with a_site(kind) as here:
        two(here)
        line = here.host.find()[0]
        return f"`{line.date}`, `{line.time}`"


def odd_resource(kind: str) -> str:
    """An unmapped resource named in Chinese."""
    with a_site(kind, resources=[RESOURCE, "磁気共鳴"]) as here:
        here.sim.put(booking(1, "SUB1_Doe", resource="磁気共鳴"))
        here.sim.put(booking(2, "SUB2_Roe", hours=2))
        here.sync()
        try:
            return f"{len(here.host.find())} of 2 lines, modality {here.host.find()[0].modality}"
        except LostAnswerError:
            return "the response breaks: the rest of the list is lost"


def odd_name(kind: str) -> str:
    """A Chinese name."""
    with a_site(kind) as here:
        here.sim.put(booking(1, "SUB1_李^小龙"))
        here.sync()
        return f"`{here.host.find()[0].patient_name}`"


def surrogate(kind: str) -> str:
    """A lone surrogate in one of two titles."""
    with a_site(kind) as here:
        here.sim.put(booking(1, "SUB1_\ud800Doe"))
        here.sim.put(booking(2, "SUB2_Roe"))
        here.sync()
        error = ", database error" if here.host.database_errors else ""
        return f"{len(here.host.rows())} of 1 good rows{error}"


def rolled_back(kind: str) -> str:
    """The first commit fails; what stands on the list after the next cycle, and was it told apart?"""
    with a_site(kind) as here:
        here.host.fail_commits = 1
        two(here)
        first = len(here.host.rows())
        again, third = here.sync(), here.sync()
        return f"{first} rows, then {again} sent again, then {third}"


def names_in_log(kind: str) -> str:
    """Lines of one cycle, at INFO, that hold a name."""
    lines: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.name.split(".")[0] in ("pipeline", "pylantir"):
                lines.append(record.getMessage())

    handler = Kept()
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        with a_site(kind) as here:
            for number in range(1, 21):
                here.sim.put(booking(number, f"Fräulein Montgomery {number}", hours=number))
            here.sync()
    finally:
        root.removeHandler(handler)
        root.setLevel(logging.WARNING)
    return f"{sum('Montgomery' in line for line in lines)} of {len(lines)} lines"


def bad_configuration(kind: str) -> str:
    """An empty URL, a pattern that does not compile, a resource that is null."""
    good = {"base_url": "https://x.example", "resources": ["3T"], "field_mapping": MAPPING}
    broken = {"patient_id": {"source_field": "title", "_extract": {"pattern": "(["}}}
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CALPENDO_USERNAME", "demo")
        environment.setenv("CALPENDO_PASSWORD", "demo")
        changes = ({"base_url": ""}, {"field_mapping": broken}, {"resources": [None]})
        refused = sum(not new_plugin(kind).validate_config(good | change)[0] for change in changes)
    return f"{refused} of 3 refused"


def later(sim: CalpendoSimulator) -> None:
    """Move booking 1 to next week."""
    sim.edit(1, formattedName=span(site_now() + timedelta(days=7), 60))


FAULTS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("one detail answers 503 once", lambda kind: detail_fault(kind, "status", code=503)),
    (
        "one detail answers 429 with Retry-After once",
        lambda kind: detail_fault(kind, "status", code=429, retry_after=1),
    ),
    ("one detail is cut off once", lambda kind: detail_fault(kind, "truncate")),
    ("one detail is HTML once", lambda kind: detail_fault(kind, "html")),
    ("one detail's connection is reset once", lambda kind: detail_fault(kind, "reset")),
    ("all details fail", all_details_fail),
    ("a detail trickles: a byte every 2 s", slow_body),
    ("the list is a compression bomb of 256 MiB", bomb),
    ("status filter beside two resources", status_filter),
    ("booking deleted", after_edit(lambda sim: sim.delete(1), "still on the list", "off the list")),
    ("booking moved to next week", after_edit(later, "still on the list", "off the list until then")),
    (
        "booking cancelled",
        after_edit(lambda sim: sim.edit(1, status="Cancelled"), "still shown", "off the list"),
    ),
    (
        "booking given to another scanner",
        after_edit(lambda sim: sim.edit(1, resource="7T"), "still on this one's list", "off this one's list"),
    ),
    ("two bookings of one subject", one_subject_twice),
    ("scan running, next sync", mpps),
    ("booking that began before the look-back and runs", running),
    ("DA and TM on the wire", moments),
    ("unmapped resource in another script", odd_resource),
    ("name beyond Latin-1 on the wire", odd_name),
    ("a lone surrogate in one title", surrogate),
    ("Pylantir's first commit fails", rolled_back),
    ("names in the log, default level", names_in_log),
    ("empty URL, bad pattern, null resource", bad_configuration),
)
