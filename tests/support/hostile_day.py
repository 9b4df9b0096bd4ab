"""A day that goes wrong: a server that changes and fails, one plugin that must not mind, and a host that keeps score."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline import PipelineConfig, process_batch
from pipeline.config.credentials import Credentials
from pipeline.delivery import quarantine
from pipeline.errors import PluginFetchError
from pipeline.plugin import CalendoPlugin
from pipeline.report import RunReport
from pipeline.simulator import CalpendoSimulator
from tests.support.calpendo_site import FIRST, RESOURCE, scan

NOW = datetime(2026, 6, 10, 14, 0, tzinfo=UTC)  # eight o'clock in Edmonton
OFF = "DISCONTINUED"
STATUS = "performed_procedure_step_status"

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        f"status {code}": ("status", {"code": code}) for code in (400, 401, 403, 404, 410, 500, 502, 503, 504)
    },
    "status 429": ("status", {"code": 429, "retry_after": 0}),
    "html": ("html", {}),
    "login page": ("login_page", {}),
    "another object": ("not_biskits", {}),
    "a list of nonsense": (
        "not_biskits",
        {"body": b'{"biskits": [null, 7, {}, {"id": "x", "n": 1e400}, [[]]]}'},
    ),
    "half an answer": ("truncate", {}),
    "a torn connection": ("reset", {}),
    "a connection torn late": ("reset", {"after": 40}),
    "drips": ("slow_body", {"interval": 0.2}),
    "a bomb": ("gzip_bomb", {"size": 4 << 20}),
    "nothing": ("empty", {}),
    "another origin": ("redirect", {}),
    "a login": ("redirect", {"location": "/login?to=/webdav"}),
    "silence": ("delay", {"seconds": 0.8}),
    "broken JSON": ("bad_json", {}),
    "bytes that are no text": ("bad_json", {"body": b'{"id": 3, "title": "\xff\xfe", "biskits": []}'}),
}
LYING = {"status 404", "status 410", "a list of nonsense", "bytes that are no text"}
"""Answers that can be taken at their word, so that they are no failure."""

TARGETS = {
    "the list": r"/q/Calpendo\.Booking/",
    "one detail": r"/b/Calpendo\.Booking/\d*3$",
    "all details": r"/b/Calpendo\.Booking/",
    "operators": "/q/MRIScan/",
    "look-ups by number": r"/b/Calpendo\.Booking/(9\d|5)$",
}
MODES = ("details", "bulk", "changed")
MAPPING = {
    "patient_id": {"source_field": "title", "_extract": {"pattern": "^([A-Z0-9]+)_", "group": 1}},
    "patient_name": {"source_field": "title", "_extract": {"pattern": "^[A-Z0-9]+_(.+)$", "group": 1}},
    "performing_physician": "operator",
}
PATIENT = dict.fromkeys(("list_timeout", "detail_timeout", "body_deadline"), 20)
"""Where no fault is played and the machine may be busy."""


def settings(url: str, **options: Any) -> dict[str, Any]:
    """Return a configuration with limits that a test can wait for."""
    return {
        "base_url": url,
        "resources": [RESOURCE],
        "resource_modality_mapping": {"3T": "MR"},
        "field_mapping": MAPPING,
        "state_path": ":memory:",
        "max_retries": 0,
        "list_timeout": 0.5,
        "detail_timeout": 0.5,
        "body_deadline": 0.6,
        "batch_deadline": 20,
        "max_body_bytes": 1 << 20,
        **options,
    }


def plugin_for(url: str, **options: Any) -> CalendoPlugin:
    """Return a plugin with a login and a clock that stands."""
    return CalendoPlugin(
        "site", settings(url, **options), credentials=Credentials("demo", "demo"), clock=lambda: NOW
    )


class HostileDay:
    """One server, one plugin on one ledger, and the host's list; a context manager."""

    def __init__(self, mode: str, **options: Any) -> None:
        self.simulator = CalpendoSimulator([scan(number) for number in range(1, 9)])
        self.plugin = plugin_for(self.simulator.url, fetch_mode=mode, full_refresh=3, **options)
        self.host: dict[int, dict[str, Any]] = {}
        self.lied = False

    def __enter__(self) -> HostileDay:
        self.cycle()
        return self

    def __exit__(self, *_: object) -> None:
        self.plugin.close()
        self.simulator.close()
        assert not self.simulator.errors

    def wanted(self, number: int) -> bool:
        """Tell whether the server lists a booking for this site's window."""
        if number not in self.simulator.ids():
            return False
        payload = self.simulator.get(number)
        begins = datetime.fromisoformat(payload["formattedName"][1:20])
        ours = payload["properties"]["resource"]["formattedName"] == RESOURCE
        return ours and payload["status"] == "Approved" and begins < FIRST + timedelta(hours=23)

    def cycle(self) -> RunReport:
        """Run one cycle; hold what must hold in every one."""
        # Where the list itself lies, the server may deny in two cycles what it holds.
        lies = any(
            fault.match.pattern == TARGETS["the list"] and fault.kind == "not_biskits"
            for fault in self.simulator.faults._faults
        )
        listed = set() if lies else {number for number in self.simulator.ids() if self.wanted(number)}
        ledger = self.plugin._ledger
        held = set(ledger.held()) if ledger is not None else set()
        try:
            entries = self.plugin.fetch_entries(60)
        except PluginFetchError:
            report = self.plugin.last_report
            assert report.outcome == "failed"
            return report
        report = self.plugin.last_report
        parts = ("emitted", "unchanged", "filtered", "rejected", "fetch_failed", "gone")
        assert report.listed == sum(getattr(report, part) for part in parts)
        assert report.returned == len(entries)
        by_id = {int(entry["source_record_id"]): entry for entry in entries}
        assert len(by_id) == len(entries)
        off = {number for number, entry in by_id.items() if entry[STATUS] == OFF}
        # Decision of the delivery: what the rules reject now leaves the list, because the row may name a wrong patient.
        assert not (off & listed) - self.rejected(), "what the server lists is never withdrawn"
        if report.fetch_failed or report.looked_up_failed:
            cancelled = {number for number in off - listed if self.is_cancelled(number)}
            assert off - listed - cancelled <= held, (
                "beside a failed fetch only what was answered alike before"
            )
            assert report.withdrawn <= len(held)
        self.host |= by_id
        return report

    def is_cancelled(self, number: int) -> bool:
        """Tell whether the server itself says of a booking that it was called off."""
        return number in self.simulator.ids() and self.simulator.get(number)["status"] != "Approved"

    def rejected(self) -> set[int | None]:
        """Name the bookings that the rules reject now."""
        assert self.plugin._ledger is not None
        return {item.booking_id for item in quarantine.items(self.plugin._ledger)}

    def calm_down(self) -> None:
        """End all faults; see that the host comes to show what a plugin without a past sees, and then rests."""
        self.simulator.faults.clear()
        for _ in range(12):
            report = self.cycle()
            unsettled = report.returned or report.owed or report.held
            # On a busy machine an answer may be late although no fault is played.
            late = any("could not be fetched" in warning for warning in report.warnings)
            if report.outcome == "ok" and not unsettled and not late:
                break
        else:
            raise AssertionError(f"no rest after twelve cycles: {report.to_text()}")
        clean = plugin_for(self.simulator.url, **PATIENT)
        try:
            truth = {int(entry["source_record_id"]): entry for entry in clean.fetch_entries(60)}
        finally:
            clean.close()
        assert {number: self.host.get(number) for number in truth} == truth
        for number in self.host.keys() - truth.keys():
            shown = self.host[number]
            if number not in self.simulator.ids():
                assert shown[STATUS] == OFF, f"booking {number} is deleted"
            elif not (self.lied and shown[STATUS] == OFF):
                assert shown == self.as_it_is(number) or shown[STATUS] == OFF == self.as_off(number)

    def as_it_is(self, number: int) -> dict[str, Any]:
        """Transform a booking that lies outside the window."""
        payload = self.simulator.get(number)
        payload["operator"] = payload["properties"]["Operator"]["name"]
        config = PipelineConfig.from_dict(settings(self.simulator.url), source_name="site", environ={})
        (entry,) = process_batch([payload], config).to_dicts()
        return entry

    def as_off(self, number: int) -> str | None:
        """Give DISCONTINUED for a booking of another scanner, which this site shows no more."""
        resource = self.simulator.get(number)["properties"]["resource"]["formattedName"]
        return OFF if resource != RESOURCE else None


def edits(step: int) -> list[Callable[[CalpendoSimulator], None]]:
    """Return what people do between two cycles; each step does something else to each booking."""
    moved = FIRST + timedelta(days=3, minutes=step)
    return [
        lambda server: server.edit(1, title=f"SUB{step:03d}_Neu_Ada"),
        lambda server: server.put(scan(20 + step)),
        lambda server: server.put(scan(90 + step % 9, moved if step % 2 else None)),
        lambda server: server.edit(3, title=f"SUB{step:03d}_Alt_Bea", Operator={"name": f"Neuop {step}"}),
        lambda server: server.delete(5) if 5 in server.ids() else server.put(scan(5)),
        lambda server: server.edit(6, resource=RESOURCE if step % 2 else "Elsewhere"),
        lambda server: server.edit(7, status="Approved" if step % 2 else "Cancelled"),
    ]
