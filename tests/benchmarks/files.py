"""The ways over files and in memory: transform, backfill, audit, ledger diff, each beside a row-by-row one.

A row-by-row reference takes the same time for each booking, and is timed on a share of them: see ``share_of``.
"""

from __future__ import annotations

import itertools
import json
import re
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tests.benchmarks.archives import SOURCE, write_archive
from tests.benchmarks.done import Call, Done

PART = 20_000
"""So many bookings a row-by-row way holds at once: more of them only keep Python's collector busy."""
MOST = 200_000
TIMES = 10
"""About so many times as fast as row by row ours is."""
AT_ONCE = 200_000
"""So many bookings are handed to ``process_batch`` at once at most: a million dictionaries are over a gigabyte."""


def archive_of(count: int, folder: Path) -> Path:
    """Return an archive of generation A: the templates of the task list know no other."""
    return write_archive(folder / f"bookings-{count}.ndjson", count, only_a=True)


def share_of(count: int) -> int:
    """Return on how many bookings a row-by-row way is timed: so many that it takes about as long as ours does for all.

    The machine's speed goes up and down within seconds. The best of a few short stretches is a lucky moment, the best
    of a few long ones is nearly the mean; two ways are compared over stretches of one length, half a minute at most.
    """
    return min(count, max(PART, count // TIMES), MOST)


def in_parts(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield the lines, ``PART`` of them at once."""
    remaining = iter(lines)
    while part := list(itertools.islice(remaining, PART)):
        yield part


def lines_of(path: Path, count: int | None = None) -> list[bytes]:
    """Return an archive's first lines."""
    with path.open("rb") as file:
        return list(itertools.islice(file, count))


def config_of() -> Any:
    """Return the checked configuration of all ways."""
    from pipeline.config import PipelineConfig

    return PipelineConfig.from_dict(SOURCE, environ={}, offline=True)


def templates() -> Callable[[bytes], dict[str, Any] | None]:
    """Return the task list's templates for one booking; one they fail on counts as left out."""
    from tests.reference.row_by_row import RowByRow

    reference = RowByRow("calpendo", SOURCE)

    def one(line: bytes) -> dict[str, Any] | None:
        try:
            entries = reference.entries([line])
        except Exception:
            return None
        return entries[0] if entries else None

    return one


@contextmanager
def transform(count: int, folder: Path) -> Iterator[Call]:
    """JSON texts to a list of dictionaries through ``process_batch``."""
    from pipeline.batch import process_batch

    config, lines = config_of(), lines_of(archive_of(count, folder))

    def call() -> Done:
        for start in range(0, count, AT_ONCE):
            process_batch(lines[start : start + AT_ONCE], config).to_dicts()
        return Done(count)

    yield call


@contextmanager
def transform_floor(count: int, folder: Path) -> Iterator[Call]:
    """The same payloads to columns and the same entries to dictionaries, and nothing between."""
    from pipeline.batch import process_batch
    from pipeline.transform.bookings import read_bookings
    from pipeline.transform.columns import to_rows

    config, lines = config_of(), lines_of(archive_of(count, folder))
    parts = [lines[start : start + AT_ONCE] for start in range(0, count, AT_ONCE)]
    entries = [process_batch(part, config).entries for part in parts]

    def call() -> Done:
        for part, frame in zip(parts, entries, strict=True):
            read_bookings(part, config)
            to_rows(frame)
        return Done(count)

    yield call


@contextmanager
def transform_rows(count: int, folder: Path) -> Iterator[Call]:
    """JSON texts to a list of dictionaries by the templates, one by one."""
    one, lines = templates(), lines_of(archive_of(count, folder), share_of(count))

    def call() -> Done:
        return Done(sum(len([one(line) for line in part]) for part in in_parts(lines)))

    yield call


@contextmanager
def archive_to_parquet(count: int, folder: Path) -> Iterator[Call]:
    """An NDJSON file to Parquet by month, as the command does it; the start of the workers is part of it."""
    from pipeline.backfill import backfill

    archive, config, numbers = archive_of(count, folder), config_of(), itertools.count()
    with tempfile.TemporaryDirectory(dir=folder) as output:

        def call() -> Done:
            summary = backfill([archive], Path(output) / str(next(numbers)), config)
            return Done(summary.read, f"{summary.entries:,} entries in {len(summary.months)} months")

        yield call


@contextmanager
def archive_to_parquet_rows(count: int, folder: Path) -> Iterator[Call]:
    """The same file to Parquet by the templates: read, convert one by one, write."""
    import polars as pl

    one, archive = templates(), archive_of(count, folder)
    share = share_of(count)
    with tempfile.TemporaryDirectory(dir=folder) as output:

        def call() -> Done:
            with archive.open("rb") as file:
                for number, part in enumerate(in_parts(itertools.islice(file, share))):
                    entries = [entry for line in part if (entry := one(line))]
                    frame = pl.from_dicts(entries, infer_schema_length=None)
                    frame.write_parquet(Path(output) / f"entries-{number}.parquet")
            return Done(share)

        yield call


@contextmanager
def audit_of_file(count: int, folder: Path) -> Iterator[Call]:
    """The audit of an NDJSON file, as the command does it."""
    from pipeline.audit import audit, read_payloads
    from pipeline.backfill.workers import available_cores

    archive, config = archive_of(count, folder), config_of()

    def call() -> Done:
        audit(read_payloads(archive), config, workers=available_cores())
        return Done(count)

    yield call


@contextmanager
def audit_rows(count: int, folder: Path) -> Iterator[Call]:
    """What a script would do: each booking by the templates, each field's shapes counted one by one."""
    one, lines = templates(), lines_of(archive_of(count, folder), share_of(count))

    def call() -> Done:
        census: dict[str, Counter[str]] = {}
        for line in lines:
            for field, value in (one(line) or {}).items():
                shape = re.sub(r"\d", "9", re.sub("[a-z]", "a", re.sub("[A-Z]", "A", str(value))))
                census.setdefault(field, Counter())[shape] += 1
        return Done(len(lines))

    yield call


@contextmanager
def ledger_diff(count: int, folder: Path) -> Iterator[Call]:
    """The diff of unchanged entries: the ledger's lines, the entries' digests, the join."""
    from datetime import UTC, datetime

    from pipeline.batch import process_batch
    from pipeline.delivery import decide
    from pipeline.delivery.decide import _keys, _lines
    from pipeline.delivery.ledger import Changes, Ledger

    batch = process_batch(lines_of(archive_of(count, folder)), config_of())
    ids = batch.accepted["booking_id"].to_list()
    ever = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
    with (
        tempfile.TemporaryDirectory(dir=folder) as place,
        Ledger.open(Path(place) / "ledger.sqlite", source_name="bench") as ledger,
    ):
        with ledger.transaction():
            ledger.record(Changes(emitted=_lines(_keys(batch), batch.to_dicts()), seen=ids), ever[0])
        ledger.acknowledge(ids)

        def call() -> Done:
            change = decide.compare(_keys(batch), ledger.lines(ids, *ever))["change"]
            assert (change == "unchanged").all()
            return Done(len(ids))

        yield call


@contextmanager
def ledger_diff_rows(count: int, folder: Path) -> Iterator[Call]:
    """T015 word by word: each booking's hash is computed, looked up in the database and compared."""
    from tests.reference.row_by_row import RowByRow

    reference = RowByRow("calpendo", SOURCE)
    one = templates()
    lines = [line for line in lines_of(archive_of(count, folder), share_of(count)) if one(line)]
    bookings = [json.loads(line) for line in lines]
    with (
        tempfile.TemporaryDirectory(dir=folder) as place,
        closing(sqlite3.connect(Path(place) / "sent.sqlite")) as database,
    ):
        database.execute("CREATE TABLE sent (id INTEGER PRIMARY KEY, hash TEXT)")
        rows = {booking["id"]: reference._compute_booking_hash(booking) for booking in bookings}
        database.executemany("INSERT INTO sent VALUES (?, ?)", rows.items())
        database.commit()

        def call() -> Done:
            for booking in bookings:
                digest = reference._compute_booking_hash(booking)
                known = database.execute("SELECT hash FROM sent WHERE id = ?", (booking["id"],)).fetchone()
                assert known is not None
                assert digest
            return Done(len(bookings))

        yield call
