"""A host that may fail, and an oracle that knows what it should show."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pipeline.batch import process_batch
from pipeline.calpendo.window import window_for
from pipeline.config import PipelineConfig
from pipeline.transform.selection import Selection
from tests.support.delivery_site import Site

Entry = dict[str, Any]
STATUS = "performed_procedure_step_status"
OFF = "DISCONTINUED"


def begins(entry: Entry) -> datetime:
    """Give the moment at which an entry (in UTC) starts."""
    return datetime.combine(entry["scheduled_start_date"], entry["scheduled_start_time"], UTC)


class Oracle:
    """What the server holds now, through the columns alone: no ledger, no network."""

    def __init__(self, site: Site) -> None:
        self.config = PipelineConfig.from_dict(site.config)
        self.window = window_for(self.config, site.now, 60)
        payloads = [site.simulator.get(number) for number in site.simulator.ids()]
        self.standing = self._entries(payloads)
        self.wanted = self._entries(
            payloads,
            start=self.window.start,
            end=self.window.end,
            include_running=self.config.include_running,
        )

    def _entries(self, payloads: list[Any], **window: Any) -> dict[int, Entry]:
        config = self.config
        selection = Selection(resources=config.resources, status=config.status_filter, **window)
        batch = process_batch(payloads, config, selection=selection)
        return {int(entry["source_record_id"]): entry for entry in batch.to_dicts()}

    def in_window(self, entry: Entry) -> bool:
        """Tell whether an entry starts in the window."""
        return self.window.start <= begins(entry) < self.window.end


class Host:
    """Rows as a host's database holds them, and what the pipeline was told of them.

    ``confirmed`` holds the entries that the pipeline knows to be delivered, ``doubtful`` the bookings of which
    something was on its way when a process died or a commit failed.
    """

    def __init__(self) -> None:
        self.rows: dict[int, Entry] = {}
        self.confirmed: dict[int, Entry] = {}
        self.doubtful: set[int] = set()
        self.returned: dict[int, Entry] = {}

    def receive(self, entries: dict[int, Entry]) -> None:
        """Check that everything that comes is needed, then keep it in hand."""
        for number, entry in entries.items():
            needed = number in self.doubtful or self.confirmed.get(number) != entry
            assert needed, f"booking {number} was sent again though the host has it"
        self.returned = entries
        self.doubtful |= set(entries)

    def commit(self) -> None:
        """Write what is in hand."""
        self.rows |= self.returned

    def confirm(self) -> None:
        """The pipeline knows now that the host has what was in hand."""
        self.confirmed |= self.returned
        self.doubtful -= set(self.returned)
        self.returned = {}

    def forget(self) -> None:
        """What was in hand is lost with the process, or taken back."""
        self.returned = {}

    def check(self, oracle: Oracle, promised: set[int]) -> None:
        """See that the host equals the server: nothing lost, nothing stale, nothing too much."""
        for number, entry in oracle.wanted.items():
            assert self.rows.get(number) == entry, f"booking {number} is not on the host as the server has it"
        for number, row in self.rows.items():
            if oracle.in_window(row) and number not in oracle.wanted:
                assert row[STATUS] == OFF, f"booking {number} stays on the host though it no longer stands"
        lost = promised & set(oracle.standing) - set(self.rows)
        assert not lost, f"bookings {sorted(lost)} were listed once and never arrived"
