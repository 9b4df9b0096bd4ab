"""The ledger's tables, as the steps that lead from one version of the file to the next.

A new file walks through all the steps, so every migration runs each time a ledger is made. A step never changes
after it was released; a change of the tables is a new step at the end, with a fixture of the version before it
under ``tests/fixtures/ledgers``.

Times are integers: microseconds since 1970 in UTC. Only SQL that SQLite 3.24 knows is used, because Python takes
the system's library.
"""

from __future__ import annotations

APPLICATION_ID = 0x43414C50
"""``CALP``: tells a ledger from any other SQLite file."""

_VERSION_1 = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE entries (
        booking_id INTEGER PRIMARY KEY,
        digest TEXT NOT NULL,
        booking_hash TEXT NOT NULL,
        start_utc INTEGER NOT NULL,
        status TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('pending', 'delivered')),
        first_seen INTEGER NOT NULL,
        last_seen INTEGER NOT NULL,
        entry TEXT NOT NULL)""",
    "CREATE INDEX entries_start ON entries (start_utc)",
    "CREATE TABLE owed (booking_id INTEGER PRIMARY KEY, since INTEGER NOT NULL)",
    """CREATE TABLE quarantine (
        item INTEGER PRIMARY KEY,
        subject TEXT NOT NULL UNIQUE,
        booking_id INTEGER,
        reasons TEXT NOT NULL,
        payload TEXT NOT NULL,
        run INTEGER NOT NULL,
        schema_version INTEGER NOT NULL,
        first_seen INTEGER NOT NULL,
        last_seen INTEGER NOT NULL)""",
    """CREATE TABLE runs (
        run INTEGER PRIMARY KEY,
        started INTEGER NOT NULL,
        finished INTEGER NOT NULL,
        outcome TEXT NOT NULL,
        report TEXT NOT NULL)""",
    "CREATE INDEX runs_started ON runs (started)",
)

# Sightings leave the wide rows: marking 10,000 unchanged bookings as seen then writes about forty pages, not
# two thousand. The end of a booking tells which ones still run; withdrawals that wait for a second look survive a
# restart; a rejected booking that passes later is marked, not forgotten.
_VERSION_2 = (
    "CREATE TABLE sightings (booking_id INTEGER PRIMARY KEY, first_seen INTEGER NOT NULL, last_seen INTEGER NOT NULL)",
    "INSERT INTO sightings SELECT booking_id, first_seen, last_seen FROM entries",
    """CREATE TABLE entries_2 (
        booking_id INTEGER PRIMARY KEY,
        digest TEXT NOT NULL,
        status TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('pending', 'delivered')),
        start_utc INTEGER NOT NULL,
        end_utc INTEGER,
        booking_hash TEXT NOT NULL,
        entry TEXT NOT NULL)""",
    """INSERT INTO entries_2
        SELECT booking_id, digest, status, state, start_utc, NULL, booking_hash, entry FROM entries""",
    "DROP TABLE entries",
    "ALTER TABLE entries_2 RENAME TO entries",
    "CREATE INDEX entries_start ON entries (start_utc)",
    "CREATE INDEX entries_pending ON entries (booking_id) WHERE state = 'pending'",
    "ALTER TABLE owed ADD COLUMN attempts INTEGER NOT NULL DEFAULT 1",
    "ALTER TABLE quarantine ADD COLUMN resolved INTEGER",
    "CREATE TABLE held (booking_id INTEGER PRIMARY KEY, since INTEGER NOT NULL)",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_VERSION_1, _VERSION_2)
"""``MIGRATIONS[n]`` leads from version ``n`` to ``n + 1``; version 0 is an empty file."""

CURRENT = len(MIGRATIONS)
"""The version that this program reads and writes."""
