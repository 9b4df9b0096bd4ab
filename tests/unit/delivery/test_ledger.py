"""The ledger: what it keeps, in which states, and through which accidents of its file."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline import report
from pipeline.delivery import quarantine
from pipeline.delivery.ledger import (
    CALLER,
    CURRENT,
    MIGRATIONS,
    PYLANTIR,
    Changes,
    Ledger,
    Line,
    base_of,
    for_host,
    microseconds,
    output_host,
)
from pipeline.errors import PluginConfigError, PluginStateError

LEDGERS = Path(__file__).parents[2] / "fixtures" / "ledgers"
NOW = datetime(2026, 1, 6, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def line(booking_id: int, *, start: datetime = NOW, status: str = "SCHEDULED", digest: str = "d") -> Line:
    """Make one emitted line."""
    begin = microseconds(start)
    text = f'{{"source_record_id": "{booking_id}", "scheduled_start_date": "2026-01-06"}}'
    return Line(booking_id, digest, status, begin, begin + 3600 * 10**6, "h", text)


def emit(ledger: Ledger, *lines: Line, now: datetime = NOW) -> None:
    """Record lines as one cycle does."""
    with ledger.transaction():
        ledger.record(Changes(emitted=lines, seen=[row.booking_id for row in lines]), now)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a ledger's place."""
    return tmp_path / "state" / "source.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    """Open a fresh ledger on disk."""
    opened = Ledger.open(path, source_name="calpendo")
    yield opened
    opened.release()


def test_entries_are_pending_until_acknowledged(ledger: Ledger) -> None:
    """Issue, at least once: recorded as pending before they leave, delivered only on acknowledgement."""
    emit(ledger, line(1), line(2))
    assert ledger.pending_ids() == [1, 2]
    assert ledger.acknowledge([2, 3]) == 1
    assert ledger.pending_ids() == [1]
    emit(ledger, line(2, digest="e"))
    assert ledger.pending_ids() == [1, 2]


def test_what_was_returned_is_delivered_at_the_next_sign_of_life(ledger: Ledger) -> None:
    """Issue: in a plain call the return acknowledges; written down when the next call shows that it came back."""
    emit(ledger, line(1))
    ledger.mark_returned([1])
    assert ledger.pending_ids() == [1]
    assert ledger.settle_returned() == 1
    assert ledger.pending_ids() == []
    assert ledger.resend([1]) == 1
    assert ledger.pending_ids() == [1]
    ledger.mark_returned([1])
    assert ledger.resend([1]) == 1
    assert ledger.settle_returned() == 0, "what the host has lost is not delivered, though the call came back"
    assert ledger.pending_ids() == [1]


def test_closing_settles_and_a_kill_does_not(path: Path) -> None:
    """Promise: after a clean end nothing is pending; after a kill what was returned last is sent again."""
    for end, pending in (("release", []), ("abandon", [1])):
        ledger = Ledger.open(path, source_name="calpendo")
        emit(ledger, line(1, digest=end))
        ledger.mark_returned([1])
        getattr(ledger, end)()
        again = Ledger.open(path, source_name="calpendo")
        assert again.pending_ids() == pending
        again.release()


def test_a_transaction_is_all_or_nothing(ledger: Ledger) -> None:
    """Promise: a cycle that breaks while writing leaves the ledger as it was."""
    emit(ledger, line(1))

    def break_while_writing() -> None:
        with ledger.transaction():
            ledger.record(Changes(emitted=[line(2)], seen=[2], owed=[3], held=[4]), NOW)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_while_writing()
    assert ledger.pending_ids() == [1]
    assert not ledger.owed()
    assert not ledger.held()


def test_lines_of_interest(ledger: Ledger) -> None:
    """The lines of a cycle: those asked for, those in the window, and all that are pending, owed or held."""
    emit(ledger, *(line(number, start=NOW + number * HOUR) for number in range(1, 8)))
    ledger.acknowledge(range(1, 7))
    with ledger.transaction():
        ledger.record(Changes(owed=[5], held=[6]), NOW)
    lines = ledger.lines([1], NOW + 2 * HOUR, NOW + 4 * HOUR)
    assert sorted(lines["booking_id"].to_list()) == [1, 2, 3, 5, 6, 7]
    assert ledger.window_ids(NOW + 2 * HOUR, NOW + 4 * HOUR) == [2, 3]
    emit(ledger, line(2, start=NOW + 2 * HOUR, status="DISCONTINUED"))
    assert ledger.window_ids(NOW + 2 * HOUR, NOW + 4 * HOUR, live=True) == [3]


def test_what_had_no_turn_waits_longer_each_cycle(ledger: Ledger) -> None:
    """Rule, every booking in turn: passed over counts cycles in a row without a turn; asking in vain begins anew."""
    for unasked, end in (([2], {}), ([2], {2: NOW + HOUR}), ([], {}), ([2], {})):
        with ledger.transaction():
            ledger.record(Changes(owed=[2, 3], unasked=unasked, ends=end), NOW)
    owed = ledger.owed()
    assert owed == {2: (NOW, 1, 1, NOW + HOUR), 3: (NOW, 4, 0, None)}
    assert [owed[2].is_over(NOW + hours * HOUR) for hours in (0, 1)] == [False, True]
    assert not owed[3].is_over(NOW + 9 * HOUR), "in doubt it has not ended"


def test_sightings_and_owed(ledger: Ledger) -> None:
    """Issue: first and last seen; what is owed counts its attempts until it is settled."""
    emit(ledger, line(1))
    later = NOW + HOUR
    with ledger.transaction():
        ledger.record(Changes(seen=[1], owed=[2]), later)
    with ledger.transaction():
        ledger.record(Changes(seen=[1], owed=[2]), later)
    assert ledger.sighting(1) == (NOW, later)
    assert ledger.sighting(9) is None
    assert ledger.owed() == {2: (later, 2, 0, None)}
    with ledger.transaction():
        ledger.record(Changes(settled=[2]), later)
    assert ledger.owed() == {}


def test_entries_come_back_as_they_were(ledger: Ledger) -> None:
    """Promise: dates are dates again, also after a restart."""
    emit(ledger, line(1))
    assert ledger.entries([1, 2]) == {1: {"source_record_id": "1", "scheduled_start_date": NOW.date()}}


def test_retention(ledger: Ledger) -> None:
    """Issue: entries and history older than the retention are forgotten; the last success stays."""
    emit(ledger, line(1, start=NOW - 100 * HOUR), line(2))
    ledger.acknowledge([1])
    with ledger.transaction() as connection:
        assert ledger.purge(NOW - HOUR) == 1
        assert report.purge_runs(connection, NOW) == 0
    ledger.shrink()
    assert ledger.sighting(1) is None
    assert ledger.pending_ids() == [2]


def test_what_the_host_has_not_got_is_kept_past_the_retention(ledger: Ledger) -> None:
    """Issue: what is pending is sent again and what is owed stays owed, however far in the past it lies."""
    emit(ledger, line(1, start=NOW - 100 * HOUR))
    with ledger.transaction():
        ledger.record(Changes(owed=[2]), NOW - 100 * HOUR)
        assert ledger.purge(NOW - HOUR) == 0
    assert ledger.pending_ids() == [1]
    assert ledger.owed().keys() == {2}
    with ledger.transaction():
        assert ledger.purge(NOW + HOUR) == 1
    assert ledger.pending_ids() == []


def test_only_the_owner_may_read(ledger: Ledger, path: Path) -> None:
    """Issue: file mode 0600, the write-ahead log and the lock too; the directory 0700."""
    emit(ledger, line(1))
    files = list(path.parent.iterdir())
    assert {file.name for file in files} >= {
        path.name,
        f"{path.name}-wal",
        f"{path.name}-shm",
        f"{path.name}.lock",
    }
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_wide_permissions_are_narrowed(path: Path) -> None:
    """Promise: a ledger that somebody made readable is closed again when it is opened."""
    Ledger.open(path, source_name="calpendo").release()
    path.chmod(0o644)
    Ledger.open(path, source_name="calpendo").release()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


HOLD = """
import sys
from pipeline.delivery.ledger import Ledger
ledger = Ledger.open(sys.argv[1], source_name="calpendo")
print("held", flush=True)
sys.stdin.read()
"""


def hold(path: Path) -> subprocess.Popen[str]:
    """Let another process hold the ledger until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_process_is_told_at_once_and_a_killed_one_leaves_no_lock(path: Path) -> None:
    """Issue: two processes on one source: a clear error at once, or a bounded wait; no stale lock after SIGKILL."""
    with hold(path) as process:
        with pytest.raises(PluginStateError, match=f"in use by process {process.pid} on "):
            Ledger.open(path, source_name="calpendo")
        with pytest.raises(PluginStateError, match=r"after waiting 0\.1 s"):
            Ledger.open(path, source_name="calpendo", lock_timeout=0.1)
        copy = Ledger.copy(path)
        assert copy.pending_ids() == []
        copy.release()
        process.kill()
        process.wait()
    Ledger.open(path, source_name="calpendo").release()


def test_a_waiting_process_gets_the_ledger_when_the_first_one_ends(path: Path) -> None:
    """Issue: ... or waits a bounded time."""
    with hold(path) as process:
        assert process.stdin
        process.stdin.close()
        Ledger.open(path, source_name="calpendo", lock_timeout=30).release()
        process.wait()


def test_one_process_shares_one_ledger(path: Path) -> None:
    """Promise: plugins of one process on one file share it; the last one closes it."""
    first = Ledger.open(path, source_name="calpendo")
    second = Ledger.open(path, source_name="calpendo")
    assert second is first
    with pytest.raises(PluginStateError, match="belongs to the source 'calpendo', not 'other'"):
        Ledger.open(path, source_name="other")
    first.release()
    emit(second, line(1))
    second.release()
    assert not path.with_name(f"{path.name}-wal").exists()


def test_one_cycle_at_a_time(ledger: Ledger) -> None:
    """Promise: two cycles of one process never mix."""
    with ledger.cycle(), pytest.raises(PluginStateError, match="another cycle"), ledger.cycle(0.01):
        pass


def test_a_removed_file_is_noticed(ledger: Ledger, path: Path) -> None:
    """Promise: a ledger deleted under a running process is opened anew, not written into nowhere."""
    assert ledger.is_in_place()
    path.unlink()
    assert not ledger.is_in_place()
    again = Ledger.open(path, source_name="calpendo")
    assert again is not ledger
    again.release()


@pytest.mark.parametrize("version", range(1, CURRENT + 1))
def test_old_ledgers_are_migrated(version: int, path: Path) -> None:
    """Issue: old ledger files are fixtures, from the first version on; each one opens with all that it held."""
    fixture = LEDGERS / f"v{version}.ledger"
    assert fixture.exists(), "a version without a fixture: run tests/fixtures/ledgers/make.py"
    path.parent.mkdir()
    shutil.copy(fixture, path)
    copy = Ledger.copy(path)
    assert copy.pending_ids() == [102]
    copy.release()
    assert path.read_bytes() == fixture.read_bytes(), "a copy changes nothing"
    ledger = Ledger.open(path, source_name="calpendo")
    try:
        assert ledger.rows("PRAGMA user_version") == [(CURRENT,)]
        assert ledger.rows("PRAGMA quick_check") == [("ok",)]
        assert ledger.pending_ids() == [102]
        assert list(ledger.owed()) == [104]
        start = datetime(2026, 1, 6, 15, tzinfo=UTC)
        assert ledger.window_ids(start, start + HOUR) == [101, 102, 103]
        assert ledger.window_ids(start, start + HOUR, live=True) == [101, 102]
        assert ledger.sighting(101) == (start - 24 * HOUR, start)
        assert ledger.entries([101])[101]["scheduled_start_time"].hour == 15
        assert [item.booking_id for item in quarantine.items(ledger)] == [105]
        assert report.last_runs(ledger, 5)[0].listed == 2
        emit(ledger, line(1))
    finally:
        ledger.release()


def test_a_kill_during_migration_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise: a migration happens whole or not at all."""
    path.parent.mkdir()
    shutil.copy(LEDGERS / "v1.ledger", path)

    class Killed(tuple[str, ...]):
        def __iter__(self) -> Iterator[str]:
            yield from self[:]
            raise KeyboardInterrupt

    monkeypatch.setattr(
        "pipeline.delivery.ledger.MIGRATIONS", (MIGRATIONS[0], Killed(MIGRATIONS[1]), *MIGRATIONS[2:])
    )
    with pytest.raises(KeyboardInterrupt):
        Ledger.open(path, source_name="calpendo")
    monkeypatch.undo()
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    ledger = Ledger.open(path, source_name="calpendo")
    assert ledger.pending_ids() == [102]
    ledger.release()


def test_a_newer_ledger_is_refused(path: Path) -> None:
    """Issue: a file of a newer version is refused with a clear error, and stays as it is."""
    Ledger.open(path, source_name="calpendo").release()
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"PRAGMA user_version = {CURRENT + 1}")
    before = path.read_bytes()
    for way in (lambda: Ledger.open(path, source_name="calpendo"), lambda: Ledger.copy(path)):
        with pytest.raises(PluginStateError, match=f"version {CURRENT + 1}, written by a newer"):
            way()
    assert path.read_bytes() == before


def test_another_programs_database_is_refused(path: Path) -> None:
    """Promise: a database that is no ledger is never touched."""
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE theirs (a)")
    before = path.read_bytes()
    with pytest.raises(PluginStateError, match="another program"):
        Ledger.open(path, source_name="calpendo")
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["no database", "torn page"])
def test_a_damaged_ledger_is_set_aside(path: Path, damage: str) -> None:
    """Issue: a corrupt file is set aside (renamed, reported), never silently overwritten."""
    ledger = Ledger.open(path, source_name="calpendo")
    emit(ledger, *(line(number) for number in range(200)))
    ledger.release()
    content = bytearray(path.read_bytes())
    if damage == "no database":
        content[:100] = os.urandom(100)
    else:
        content[4096 * 3 : 4096 * 6] = b"\xff" * 4096 * 3
    path.write_bytes(content)
    with pytest.raises(PluginStateError), Ledger.copy(path) as copy:
        copy.lines([], NOW, NOW)
    ledger = Ledger.open(path, source_name="calpendo")
    aside = sorted(file for file in path.parent.iterdir() if ".corrupt-" in file.name)
    assert aside[0].read_bytes() == bytes(content)
    assert "damaged and set aside" in ledger.warnings[0]
    assert ledger.pending_ids() == []
    emit(ledger, line(1))
    ledger.release()


def test_an_unusable_place_is_explained(tmp_path: Path) -> None:
    """Promise: a place that cannot be written is an error that names the option."""
    (tmp_path / "file").write_text("")
    with pytest.raises(PluginStateError, match="state_path"):
        Ledger.open(tmp_path / "file" / "ledger", source_name="calpendo")


def test_a_short_write_beside_a_running_process(path: Path) -> None:
    """Issue: purge works while the service runs; a ledger of an old version asks for a cycle first."""
    with hold(path) as process:
        beside = Ledger.beside(path)
        with beside.transaction() as connection:
            assert quarantine.purge(connection, NOW) == 0
        beside.release()
        process.kill()
        process.wait()
    old = path.with_name("old.sqlite")
    shutil.copy(LEDGERS / "v1.ledger", old)
    with pytest.raises(PluginStateError, match="run one cycle first"):
        Ledger.beside(old)
    with pytest.raises(PluginStateError, match="no ledger at"):
        Ledger.beside(path.with_name("none"))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[sqlite3.Connection]:
    """Note every connection that is made: only the newest Pythons warn of one that is never closed."""
    made: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def noted(*arguments: Any, **options: Any) -> sqlite3.Connection:
        made.append(connect(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(sqlite3, "connect", noted)
    return made


def is_closed(connection: sqlite3.Connection) -> bool:
    """Return whether a connection refuses to work."""
    try:
        connection.total_changes  # noqa: B018 - raises when closed
    except sqlite3.ProgrammingError:
        return True
    return False


@pytest.mark.parametrize("way", ["open", "copy", "beside", "memory"])
def test_whoever_opens_a_ledger_can_leave_it_to_a_with_block(
    way: str, path: Path, opened: list[sqlite3.Connection]
) -> None:
    """Promise: every way to a ledger closes all its connections at the end of a `with` block."""
    Ledger.open(path, source_name="calpendo").release()
    arguments = {"memory": ()}.get(way, (path,))
    options = {"source_name": "calpendo"} if way == "open" else {}
    with getattr(Ledger, way)(*arguments, **options) as ledger, ledger.snapshot():
        assert not is_closed(ledger.connection)
    assert len(opened) > 2
    assert all(map(is_closed, opened))


@pytest.mark.parametrize(
    ("way", "broken"),
    [
        ("open", "_migrate"),
        ("open", "_version"),
        ("open", "_check_structure"),
        ("open", "Ledger._claim"),
        ("open", "Ledger._take_back_note"),
        ("copy", "_migrate"),
        ("copy", "_version"),
        ("copy", "Ledger._forget_damaged"),
        ("beside", "_version"),
        ("memory", "_migrate"),
    ],
)
def test_what_was_opened_is_closed_when_opening_fails(
    way: str, broken: str, path: Path, opened: list[sqlite3.Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise: a step of opening that breaks, whichever, leaves neither a connection nor the lock behind."""
    with Ledger.open(path, source_name="calpendo") as ledger:
        emit(ledger, line(1))

    def fail(*_arguments: object) -> None:
        raise KeyboardInterrupt

    arguments = {"memory": ()}.get(way, (path,))
    options = {"source_name": "calpendo"} if way == "open" else {}
    with monkeypatch.context() as patch:
        if broken.startswith("Ledger."):
            patch.setattr(Ledger, broken.removeprefix("Ledger."), fail)
        else:
            patch.setattr(f"pipeline.delivery.ledger.{broken}", fail)
        with pytest.raises(KeyboardInterrupt):
            getattr(Ledger, way)(*arguments, **options)
    assert all(map(is_closed, opened))
    with Ledger.open(path, source_name="calpendo") as ledger:
        assert ledger.pending_ids() == [1]


def test_a_snapshot_that_fails_is_closed(
    ledger: Ledger, opened: list[sqlite3.Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise: the copy in memory of a dry run goes as well when it cannot be brought up to date."""
    emit(ledger, line(1))

    def fail(_ledger: Ledger) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Ledger, "settle_returned", fail)
    with pytest.raises(KeyboardInterrupt):
        ledger.snapshot()
    monkeypatch.undo()
    assert [is_closed(connection) for connection in opened] == [True]
    assert ledger.pending_ids() == [1]


@pytest.mark.parametrize("content", [b"booking,patient\n1,Doe\n", b"{}", b"SQLite for me\n" + b"x" * 200])
@pytest.mark.parametrize("way", ["open", "copy", "beside"])
def test_a_file_that_is_not_ours_is_refused_and_left_as_it_is(path: Path, content: bytes, way: str) -> None:
    """Promise: a file at `state_path` that holds something else is refused in one sentence; nothing is made beside it."""
    path.parent.mkdir()
    path.write_bytes(content)
    path.chmod(0o644)
    options = {"source_name": "calpendo"} if way == "open" else {}
    with pytest.raises(PluginConfigError, match=r"is no ledger of this program, and was left as it is"):
        getattr(Ledger, way)(path, **options)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (content, 0o644)


def test_what_was_set_aside_is_removed_after_thirty_days(ledger: Ledger, path: Path) -> None:
    """Promise: damaged and migrated files are kept for thirty days, another ledger's and everything else for ever."""
    stamp = "20260106T120000.000000Z"
    aside = {
        f"{path.name}.{why}-{stamp}{ending}" for why in ("corrupt", "v2") for ending in ("", "-wal", "-shm")
    }
    others = {f"{path.name}.old", f"{path.name}.corrupt-yesterday", f"x{path.name}.corrupt-{stamp}"}
    for name in aside | others:
        path.with_name(name).touch()
    with Ledger.copy(path) as copy:
        assert copy.purge_files(NOW + timedelta(days=60)) == 0, "a dry run leaves every file"
    assert ledger.purge_files(NOW + timedelta(days=30)) == 0
    assert ledger.purge_files(NOW + timedelta(days=30, seconds=1)) == len(aside)
    left = {file.name for file in path.parent.iterdir()}
    assert others < left
    assert not aside & left


def test_a_copy_is_narrowed_to_some_bookings_and_a_file_never(ledger: Ledger, path: Path) -> None:
    """Promise: a copy may forget all other bookings, what is owed and held of them too; the file keeps everything."""
    emit(ledger, *(line(number) for number in range(1, 5)))
    with ledger.transaction():
        ledger.owe(Changes(owed=[1, 9]), NOW)
    with Ledger.copy(path) as copy:
        copy.narrow([1, 2, 7])
        assert (sorted(copy.last_lines(range(9))), list(copy.owed())) == ([1, 2], [1])
    with pytest.raises(PluginStateError, match="is no copy"):
        ledger.narrow([1])
    assert len(ledger.last_lines(range(9))) == 4


def test_a_ledger_has_one_host(path: Path) -> None:
    """Promise: a file that one host uses is refused to another, in whatever way it was named."""
    Ledger.open(path, source_name="calpendo").release()
    with pytest.raises(PluginStateError, match="belongs to the host 'caller', not 'pylantir'"):
        Ledger.open(path, source_name="calpendo", host=PYLANTIR)


def test_ledgers_are_named_after_their_hosts(path: Path, tmp_path: Path) -> None:
    """Promise: every host's file is found again from every other's, and two outputs never share one."""
    hosts = [
        CALLER,
        PYLANTIR,
        output_host(tmp_path / "a.csv"),
        output_host(tmp_path / "b.csv"),
        "worklist:/srv/wl",
    ]
    for base in (path, path.with_name("ledger"), path.with_name("a@home.b.sqlite")):
        files = [for_host(base, host) for host in hosts]
        assert files[0] == base
        assert len(set(files)) == len(hosts)
        assert {base_of(file) for file in files} == {base}
    assert output_host(Path("a.csv")) == output_host(Path.cwd() / "x" / ".." / "a.csv")
