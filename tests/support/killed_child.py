"""A host that runs cycles until it is killed: ``python killed_child.py CONFIG.json HOST.sqlite [CYCLES]``.

It writes what each cycle returns into its own database, commits, acknowledges where the configuration wants it, and goes
on. Says "ready" on standard output before the first cycle, and then the name of each step as it ends.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from datetime import datetime
from itertools import count
from pathlib import Path

from pipeline.config.credentials import Credentials
from pipeline.delivery.ledger import to_text
from pipeline.plugin import CalendoPlugin


def say(word: str) -> None:
    """Tell the parent how far it is."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def main(config_path: str, host_path: str, cycles: str = "") -> None:
    """Run cycles."""
    # The first use of polars and pandera takes its time; it belongs before the moment from which kills are counted.
    import pipeline.batch  # noqa: F401

    document = json.loads(Path(config_path).read_text())
    now = datetime.fromisoformat(document.pop("now"))
    host = sqlite3.connect(host_path, isolation_level=None)
    host.execute("CREATE TABLE IF NOT EXISTS rows (booking_id INTEGER PRIMARY KEY, entry TEXT)")
    plugin = CalendoPlugin(
        "calpendo", document, credentials=Credentials("demo", "demo"), clock=lambda: now, on_step=say
    )
    say("ready")
    for cycle in count(1):
        entries = plugin.fetch_entries(60)
        host.execute("BEGIN IMMEDIATE")
        host.executemany(
            "INSERT OR REPLACE INTO rows VALUES (?, ?)",
            [(int(entry["source_record_id"]), to_text(entry)) for entry in entries],
        )
        say("committing")
        host.execute("COMMIT")
        say("committed")
        if document["acknowledge"] == "explicit":
            plugin.acknowledge(entry["source_record_id"] for entry in entries)
            say("acknowledged")
        if cycle == int(cycles or 0):
            break
    plugin.close()
    host.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
