"""Every subject, the ways it is measured in, and up to which size each way is run."""

from __future__ import annotations

from typing import NamedTuple

from tests.benchmarks import files, servers
from tests.benchmarks.done import Way

OURS = "calpendo-pipeline"
ROWS = "row by row (task list)"
PYLANTIR = "Pylantir's own plugin"
NEVER_MORE = 10_000_000
ONE_BY_ONE = 10_000
"""A way that asks for each booking by itself is run up to here: it needs some milliseconds for each."""
PYLANTIRS = 1_000
"""Pylantir's own plugin needs twice as many requests, each with a connection of its own."""


class Subject(NamedTuple):
    """A subject's ways, each with the largest size it is run at.

    ``only``: the only sizes it is measured at. ``warm``: up to this size one call goes before those that are measured,
    so that what is loaded at the first use is not counted.
    """

    ways: dict[str, tuple[Way, int]]
    only: tuple[int, ...] = ()
    warm: int = 10_000


def _fetch(latencies: tuple[float, float]) -> dict[str, tuple[Way, int]]:
    ours = {
        f"{OURS}, {mode}": (
            servers.fetching(mode, latencies),
            200_000 if mode == "bulk" else ONE_BY_ONE,  # the first cycle of "changed" asks for each as well
        )
        for mode in servers.MODES
    }
    return {**ours, PYLANTIR: (servers.pylantir_fetching(latencies), PYLANTIRS)}


def _cycle(latencies: tuple[float, float]) -> dict[str, tuple[Way, int]]:
    return {
        f"{OURS}, details": (servers.cycling("details", latencies), ONE_BY_ONE),
        f"{OURS}, bulk": (servers.cycling("bulk", latencies), 200_000),
        PYLANTIR: (servers.pylantir_cycling(latencies), PYLANTIRS),
    }


SUBJECTS: dict[str, Subject] = {
    "transform, text to dicts": Subject(
        {
            OURS: (files.transform, 1_000_000),
            "floor": (files.transform_floor, 1_000_000),
            ROWS: (files.transform_rows, 1_000_000),
        }
    ),
    "backfill, NDJSON to Parquet": Subject(
        {
            OURS: (files.archive_to_parquet, NEVER_MORE),
            ROWS: (files.archive_to_parquet_rows, NEVER_MORE),
        }
    ),
    "audit": Subject({OURS: (files.audit_of_file, 1_000_000), ROWS: (files.audit_rows, 1_000_000)}),
    "ledger diff": Subject({OURS: (files.ledger_diff, 1_000_000), ROWS: (files.ledger_diff_rows, 1_000_000)}),
    "fetch at 0.5 s a query, 0.2 s a detail": Subject(_fetch(servers.CONTRACT), only=(50,)),
    "end to end at 0.5 s a query, 0.2 s a detail": Subject(_cycle(servers.CONTRACT), only=(50,)),
    "fetch without latency": Subject(_fetch((0.0, 0.0)), warm=1000),
    "end to end without latency": Subject(_cycle((0.0, 0.0)), warm=1000),
}
