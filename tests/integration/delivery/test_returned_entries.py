"""When the return of a plain fetch counts as delivered: for the next plugin, for a looker-on, after a kill, in a child."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.config.credentials import Credentials
from pipeline.delivery.ledger import Ledger, is_held
from pipeline.errors import PluginStateError
from pipeline.plugin import CalendoPlugin
from tests.support.delivery_site import Site

HOST = """
import json, os, sys
from datetime import datetime
from pipeline import CalendoPlugin

plugin = CalendoPlugin("calpendo", json.loads(sys.argv[1]), clock=lambda: datetime.fromisoformat(sys.argv[2]))
print(len(plugin.fetch_entries(60)), flush=True)
order = sys.stdin.readline().strip()
if order == "fork":
    child = os.fork()
    if child == 0:
        sys.exit()
    os.waitpid(child, 0)
    print("forked", flush=True)
    sys.stdin.readline()
"""


def other(site: Site, **options: object) -> CalendoPlugin:
    """Return a second plugin on the site's ledger."""
    config = {**site.config, **options}
    return CalendoPlugin("calpendo", config, credentials=Credentials("demo", "demo"), clock=lambda: site.now)


def pending(path: str | Path) -> list[int]:
    """Read beside the host what waits for its acknowledgement."""
    with Ledger.copy(path) as ledger:
        return ledger.pending_ids()


@pytest.fixture
def host(site: Site) -> Iterator[subprocess.Popen[str]]:
    """Start a host of its own process on the site; it has printed how many entries it got."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOST, json.dumps(site.config), site.now.isoformat()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "CALPENDO_USERNAME": "demo", "CALPENDO_PASSWORD": "demo"},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "5\n"
    with process:
        yield process
        process.kill()


def test_a_second_plugin_beside_the_first_returns_nothing(site: Site) -> None:
    """T015, T020: a second run with nothing changed returns nothing, also by another object while the first lives."""
    assert len(site.fetch()) == 5
    with other(site) as second:
        assert second.plan(60).entries == []
        assert second.fetch_entries(60) == []
        assert second.last_report.unchanged == 5


@pytest.mark.parametrize("spelling", ["folder/../ledger-0.sqlite", "link.sqlite"])
def test_one_file_is_one_ledger_however_it_is_named(site: Site, tmp_path: Path, spelling: str) -> None:
    """Issue: one process a source: a link or another spelling of the path leads to the same ledger and lock."""
    (tmp_path / "folder").mkdir()
    site.fetch()
    (tmp_path / "link.sqlite").symlink_to(tmp_path / "ledger-0.sqlite")
    with other(site, state_path=str(tmp_path / spelling)) as second:
        assert second.fetch_entries(60) == []
        assert not (tmp_path / "link.sqlite.lock").exists()


@pytest.mark.slow
def test_a_looker_on_sees_what_a_living_host_has_got(site: Site, host: subprocess.Popen[str]) -> None:
    """Promise: `status` and a dry run beside a host that sleeps between two cycles call nothing pending."""
    assert is_held(Path(site.config["state_path"]))
    assert pending(site.config["state_path"]) == []
    assert other(site).plan(60).entries == []
    with pytest.raises(PluginStateError, match=f"in use by process {host.pid} "):
        other(site).fetch_entries(60)


@pytest.mark.slow
def test_what_a_killed_host_got_is_sent_again(site: Site, host: subprocess.Popen[str]) -> None:
    """Issue: what was pending when a process died is emitted again: nobody knows what became of its return."""
    host.send_signal(signal.SIGKILL)
    host.wait()
    assert pending(site.config["state_path"]) == [1, 2, 3, 4, 5]
    with other(site, acknowledge="explicit") as second:
        assert len(second.fetch_entries(60)) == 5
        assert second.last_report.resent == 5
        assert pending(site.config["state_path"]) == [1, 2, 3, 4, 5], (
            "the new host has the lock, not the news"
        )


@pytest.mark.slow
def test_a_host_that_ends_in_order_has_it(site: Site, host: subprocess.Popen[str]) -> None:
    """T020: the end of the program shows that the return came back."""
    host.communicate("end\n")
    assert pending(site.config["state_path"]) == []
    assert other(site).fetch_entries(60) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system knows no fork")
@pytest.mark.slow
def test_a_forked_child_settles_nothing(site: Site, host: subprocess.Popen[str]) -> None:
    """Promise: the ledger is its process's own: a child that ends writes nothing through the file it inherited."""
    assert host.stdin is not None
    assert host.stdout is not None
    host.stdin.write("fork\n")
    host.stdin.flush()
    assert host.stdout.readline() == "forked\n"
    host.send_signal(signal.SIGKILL)
    host.wait()
    assert pending(site.config["state_path"]) == [1, 2, 3, 4, 5]


def test_a_host_that_could_not_use_it_leaves_no_note(site: Site) -> None:
    """Promise: what an error of the host took back is pending for every looker-on."""
    site.fetch()
    with other(site) as keeper:
        keeper.pending()
        site.plugin.close(acknowledge=False)
        assert pending(site.config["state_path"]) == [1, 2, 3, 4, 5]


def test_a_note_costs_no_cycle(site: Site) -> None:
    """Promise: a cycle that returns nothing writes no note, and the next one takes the old note away."""
    site.fetch()
    with Ledger.copy(site.config["state_path"]) as ledger:
        assert ledger.meta("returned") is None, "settled in the copy"
    assert site.fetch() == {}
    assert site.plugin._ledger is not None
    assert site.plugin._ledger.meta("returned") is None


def test_what_the_host_lost_is_pending_for_lookers_on_too(site: Site) -> None:
    """Promise: `resend` right after the return takes the booking out of the note."""
    site.fetch()
    assert site.plugin.resend([2]) == 1
    assert pending(site.config["state_path"]) == [2]
    assert list(site.fetch()) == [2]
