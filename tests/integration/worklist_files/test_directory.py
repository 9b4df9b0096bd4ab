"""A directory of worklist files as a host: it shows what Calpendo holds, touches nobody else's file, and survives all else."""

from __future__ import annotations

import grp
import json
import logging
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytz

from pipeline.config import PipelineConfig
from pipeline.config.credentials import Credentials
from pipeline.delivery.ledger import output_host
from pipeline.errors import PluginConfigError, PluginError, PluginFetchError
from pipeline.plugin import CalendoPlugin, fetch_for
from pipeline.trace import why
from pipeline.verify.preview import preview
from pipeline.verify.setup_checks import State, worklist_files
from pipeline.worklist_files import directory as files
from tests.support.delivery_site import NOW, KilledError, booking
from tests.support.worklist_site import FilesSite

CANCELLED = {"status": "Cancelled"}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FilesSite]:
    """A site with five bookings."""
    made = FilesSite(tmp_path)
    yield made
    made.end()


def test_a_day_in_the_directory(site: FilesSite) -> None:
    """Files appear, follow their booking in every key, and go when it is cancelled, deleted, completed or past."""
    assert site.cycle().written == 5
    assert site.numbers() == [1, 2, 3, 4, 5]
    assert site.plugin.ledger_path() != site.ledger, "the directory is a host of its own"
    uid = site.item(1).StudyInstanceUID
    site.simulator.put(booking(6))
    site.simulator.put(booking(1, NOW + timedelta(hours=5), title="SUB777_Neu_Ada"))
    site.simulator.edit(2, **CANCELLED)
    site.simulator.delete(3)
    site.simulator.edit(4, status="Completed")
    kept = site.cycle()
    assert (kept.files, kept.written, kept.removed) == (3, 2, 3)
    assert site.numbers() == [1, 5, 6]
    item = site.item(1)
    step = item.ScheduledProcedureStepSequence[0]
    assert (item.PatientID, item.PatientName, item.StudyInstanceUID) == ("SUB777", "Neu_Ada", uid)
    assert (step.ScheduledProcedureStepStartDate, step.ScheduledProcedureStepStartTime) == site.start_of(1)
    assert (step.ScheduledStationAETitle, step.Modality) == ("PRISMA", "MR")
    before = {path: path.stat().st_ino for path in site.directory.iterdir()}
    assert site.cycle().written == 0
    assert {path: path.stat().st_ino for path in site.directory.iterdir()} == before
    site.now = NOW + timedelta(
        hours=2, minutes=40
    )  # numbers 5 and 6 ended at nine thirty-five and thirty-six
    assert site.cycle().files == 1


def test_files_are_the_servers_to_read_and_name_no_patient(site: FilesSite) -> None:
    """Mode and group let the server's user read; names, log and report hold booking ids and no value."""
    os.chown(site.directory, -1, 4242)
    site.cycle()
    for path in site.directory.iterdir():
        assert (path.stat().st_mode & 0o7777, path.stat().st_gid) == (0o640, 4242)
        assert path.name.startswith("cp-")
        assert not {"SUB", "Testa"} & set(path.name.split("-"))
    site.close()
    site.config["worklist_file_mode"] = "0664"
    assert site.cycle().written == 5
    assert {path.stat().st_mode & 0o7777 for path in site.directory.iterdir()} == {0o664}


def test_an_emptied_directory_is_filled_again_also_while_calpendo_is_down(site: FilesSite) -> None:
    """What is missing comes back from the ledger; what is past goes, whether the server answers or not."""
    site.cycle()
    for path in site.directory.iterdir():
        path.unlink()
    site.simulator.faults.add("status", code=503)
    with pytest.raises(PluginFetchError):
        site.fetch()
    assert site.plugin.keep_files().written == 5
    assert site.numbers() == [1, 2, 3, 4, 5]
    site.now += timedelta(hours=12)
    with pytest.raises(PluginFetchError):
        site.fetch()
    assert site.plugin.keep_files().removed == 5


def test_what_calpendo_was_not_asked_about_does_not_appear(site: FilesSite) -> None:
    """A booking that was moved out of the window and on comes only when Calpendo answers, not when its old time is near."""
    site.cycle()
    for hours in (25, 40):
        start = (
            (NOW + timedelta(hours=hours)).astimezone(pytz.timezone("America/Edmonton")).replace(tzinfo=None)
        )
        site.simulator.edit(1, start=start, finish=start + timedelta(hours=1))
        site.cycle()
    assert 1 not in site.numbers()
    site.now += timedelta(hours=2)
    site.simulator.faults.add("status", code=503)
    with pytest.raises(PluginFetchError):
        site.fetch()
    site.plugin.keep_files()
    assert 1 not in site.numbers()


def test_no_ghost_survives_a_lost_ledger(site: FilesSite) -> None:
    """Files that the ledger does not know are asked for by number: deleted bookings go, the others stay as they are."""
    site.cycle()
    site.close()
    for path in site.ledger.parent.iterdir():
        path.unlink()
    site.simulator.delete(3)
    site.simulator.faults.add("status", match="/b/Calpendo.Booking/2$", code=503)
    kept = site.cycle()
    assert (kept.files, kept.written) == (5, 0), (
        "beside a failed fetch a withdrawal waits for a second answer"
    )
    kept = site.cycle()
    assert (kept.written, kept.removed) == (0, 1)
    assert site.numbers() == [1, 2, 4, 5]


def test_only_our_own_files_are_touched(site: FilesSite, tmp_path: Path) -> None:
    """Another's file, a link, a directory, another source's item: all stay, and the booking in the way is named."""
    site.cycle()
    ours = site.plugin.directory
    foreign = ours.file(2)
    foreign.unlink()
    foreign.write_bytes(b"\0" * 128 + b"DICM and somebody else's")
    outside = tmp_path / "elsewhere.wl"
    outside.write_bytes(ours.file(3).read_bytes())
    ours.file(3).unlink()
    ours.file(3).symlink_to(outside)
    others = [site.directory / name for name in ("lockfile", "cp-00000000-7.wl", "hand-made.wl", "cp-x.wl")]
    for path in others:
        path.write_bytes(outside.read_bytes())
    for number in range(1, 6):
        site.simulator.edit(number, title=f"SUB00{number}_Neu_Name")
    kept = site.cycle()
    assert (kept.written, sorted(kept.held_back)) == (3, [2, 3])
    assert foreign.read_bytes().endswith(b"somebody else's")
    assert ours.file(3).is_symlink()
    assert all(path.read_bytes() == outside.read_bytes() for path in others)
    assert site.plugin.last_report.pending == 2
    foreign.unlink()
    ours.file(3).unlink()
    assert site.cycle().held_back == {}
    assert site.item(2).PatientName == "Neu_Name"


def test_an_id_that_the_console_cannot_show_is_held_back_and_its_old_file_goes(tmp_path: Path) -> None:
    """A detail is transliterated, an id never: the booking is named with its reason, and waits."""
    site = FilesSite(tmp_path, worklist_character_set="ASCII")
    try:
        site.cycle()
        site.simulator.edit(1, title="SÜB001_Testa_Anna")
        site.simulator.edit(2, title="SUB002_Müller^Jürgen")
        kept = site.cycle()
        assert list(kept.held_back) == [1]
        assert "ASCII" in kept.held_back[1]
        assert site.numbers() == [2, 3, 4, 5]
        assert site.item(2).PatientName == "Muller^Jurgen"
        flags = site.plugin.last_report.flags
        assert flags["transliterated"] == [2]
        assert list(flags["not_sendable"]) == ["1"]
        site.simulator.edit(1, title="SUB001_Testa_Anna")
        assert site.cycle().held_back == {}
        assert site.numbers() == [1, 2, 3, 4, 5]
    finally:
        site.end()


def test_another_character_set_or_station_writes_the_files_anew(site: FilesSite) -> None:
    """What a file is made of is more than its booking: the options count, and so does a file that was damaged."""
    site.cycle()
    path = site.plugin.directory.file(4)
    path.write_bytes(path.read_bytes().replace(b"SUB004", b"SUB999"))
    assert site.cycle().written == 1
    assert site.item(4).PatientID == "SUB004"
    site.close()
    site.config |= {"worklist_character_set": "ISO_IR 100", "resource_ae_title": {"3T": "SKYRA"}}
    assert site.cycle().written == 5
    assert site.item(1).SpecificCharacterSet == "ISO_IR 100"
    assert site.item(1).ScheduledProcedureStepSequence[0].ScheduledStationAETitle == "SKYRA"


def test_the_lists_window_is_the_directorys(tmp_path: Path) -> None:
    """A booking moved beyond the window leaves, and comes back by itself when the window reaches it."""
    site = FilesSite(tmp_path, lookahead_hours=24)
    try:
        site.cycle()
        site.simulator.put(booking(1, NOW + timedelta(hours=30)))
        assert site.cycle().removed == 1
        site.now = NOW + timedelta(hours=7)
        site.cycle()
        assert site.numbers() == [1]
    finally:
        site.end()


class Deadly:
    """Counts what the program does to the disk, and dies before the call of a number, as SIGKILL would let it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls, self.dies_at = 0, 0
        for name in ("open", "fsync", "fchmod"):
            monkeypatch.setattr(files.os, name, self._dying(getattr(os, name)))
        for name in ("replace", "unlink"):
            monkeypatch.setattr(files.Path, name, self._dying(getattr(Path, name)))

    def _dying(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            self.calls += 1
            # Nothing more is done either: no process tidies up behind itself when it was killed.
            if self.dies_at and self.calls >= self.dies_at:
                raise KilledError
            return real(*given, **named)

        return call

    def kills(self, task: Callable[[], object], at: int) -> bool:
        """Run a task that dies before its call of this number; return whether it did."""
        self.calls, self.dies_at = 0, at
        try:
            task()
        except KilledError:
            return True
        finally:
            self.dies_at = 0
        return False


def test_a_kill_before_any_touch_of_the_disk_leaves_whole_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file is the old or the new one, one that goes is there or not, and the next update leaves nothing behind."""
    directory = files.WorklistDirectory(tmp_path, "0123abcd", 0o640)
    old = {number: files.sealed(b"old" * 200, "0" * 32, number, None) for number in (1, 2, 3)}
    new = {number: files.sealed(b"new" * 300, "1" * 32, number, 7) for number in (1, 2, 4)}
    deadly, moment, killed = Deadly(monkeypatch), 0, True
    while killed:
        moment += 1
        directory.update(old, [4])
        killed = deadly.kills(lambda: directory.update(new, [3]), moment)
        for path in tmp_path.glob("*.wl"):
            number = int(path.stem.rpartition("-")[2])
            assert path.read_bytes() in (old.get(number), new.get(number))
        directory.update(new, [3])
        assert {path.name for path in tmp_path.iterdir()} == {f"cp-0123abcd-{number}.wl" for number in new}
    assert moment > 15


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_no_ghost(site: FilesSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before each single touch of the disk in a cycle's end: one cycle later the files are what Calpendo holds."""
    site.cycle()
    deadly, moment, killed = Deadly(monkeypatch), 0, True
    while killed:
        moment += 1
        site.simulator.put(booking(1, title=f"SUB{moment:03d}_Neu_Ada"))
        site.simulator.put(booking(2, title=f"SUB{moment:03d}_Neu_Bea", minutes=30 + moment % 2))
        site.simulator.put(booking(3, title="SUB003_X_Y", status="Cancelled" if moment % 2 else "Approved"))
        site.fetch()
        killed = deadly.kills(site.plugin.keep_files, moment)
        assert all(item.RequestedProcedureID for item in site.items())
        site.kill()
        site.cycle()
        assert site.item(1).PatientID == f"SUB{moment:03d}"
        assert site.numbers() == ([1, 2, 4, 5] if moment % 2 else [1, 2, 3, 4, 5])
        assert not list(site.directory.glob(".*"))
    assert moment > 20


def test_a_full_disk_delivers_nothing_and_is_told_in_one_sentence(
    site: FilesSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At least once: what the disk refuses stays pending, the old files stay, and the next cycle writes all."""
    site.cycle()
    site.simulator.edit(1, title="SUB111_Neu_Ada")
    site.fetch()
    with monkeypatch.context() as disk:
        disk.setattr(
            files.os, "fsync", lambda _file: (_ for _ in ()).throw(OSError(28, "No space left on device"))
        )
        with pytest.raises(PluginError, match="No space left on device"):
            site.plugin.keep_files()
    assert site.item(1).PatientID == "SUB001"
    assert [entry["source_record_id"] for entry in site.plugin.pending()] == ["1"]
    site.cycle()
    assert site.item(1).PatientID == "SUB111"
    assert site.plugin.pending() == []


def test_what_is_no_worklist_directory_is_refused(site: FilesSite, tmp_path: Path) -> None:
    """A file, nothing at all, the ledger's own directory, a link and one that cannot be written: a sentence each."""
    link = tmp_path / "link"
    link.symlink_to(site.directory)
    (tmp_path / "file").touch()
    site.ledger.parent.mkdir()
    cases = {
        tmp_path / "file": "is no directory",
        tmp_path / "file" / "below": "does not exist",
        tmp_path / "absent": "does not exist; make it",
        site.ledger.parent: "holds the ledger",
        link: "is reached through a link",
        Path("/proc"): "cannot be written",
    }
    for path, words in cases.items():
        site.directory, site._plugin = path, None
        with pytest.raises(PluginConfigError, match=words) as refused:
            _ = site.plugin
        assert "\n" not in str(refused.value)


def test_two_hosts_are_served_by_one_fetch(site: FilesSite, tmp_path: Path) -> None:
    """A file and a directory: the server is asked once, and each host gets what itself does not have yet."""
    output = CalendoPlugin(
        "calpendo",
        {**site.config, "acknowledge": "explicit"},
        host=output_host(tmp_path / "entries.ndjson"),
        credentials=Credentials("demo", "demo"),
        clock=lambda: site.now,
    )
    with output:
        site.cycle()
        site.simulator.delete(2)
        asked = len(site.simulator.requests)
        to_file, to_directory = fetch_for([output, site.plugin], 60)
        requests = [request.path for request in site.simulator.requests[asked:]]
        assert len(requests) == len(set(requests)) == 6  # the list, four details, and the one that is gone
        assert sorted(entry["source_record_id"] for entry in to_file) == ["1", "3", "4", "5"]
        assert [entry["source_record_id"] for entry in to_directory] == ["2"]
        assert (output.last_report.new, site.plugin.last_report.withdrawn) == (4, 1)
        assert output.last_report.looked_up == 0
        site.plugin.keep_files()
        assert site.numbers() == [1, 3, 4, 5]
        assert len(output.pending()) == 4


def test_debug_logs_hold_no_value(site: FilesSite, caplog: pytest.LogCaptureFixture) -> None:
    """Privacy: what is written, transliterated, held back or removed is logged by number, at every level."""
    caplog.set_level(logging.DEBUG)
    site.config["worklist_character_set"] = "ASCII"
    site.simulator.edit(1, title="SÜB001_Kanari_Ünal")
    site.simulator.edit(2, title="SUB002_Kanarienvogel^Jörg=李^小龙")
    kept = site.cycle()
    told = caplog.text + repr(kept) + kept.to_text() + json.dumps(site.plugin.last_report.to_dict())
    for secret in ("Kanari", "SÜB001", "SUB002", "Jörg", "Jorg", "小龙"):
        assert secret not in told


def looked_at(site: FilesSite, **changes: Any) -> dict[str, tuple[State, str]]:
    """Return what `verify` says of the directory, by name of the check."""
    config = PipelineConfig.from_dict(
        {**site.config, "worklist_dir": str(site.directory), **changes}, environ={}
    )
    return {check.name: (check.state, check.found) for check in worklist_files(config)}


def test_verify_knows_the_directory(site: FilesSite) -> None:
    """Whether it can be written, who reads it, and whether each resource has a station; in one line each."""
    os.chown(site.directory, -1, grp.getgrnam("daemon").gr_gid)
    site.directory.chmod(0o2750)
    state, found = looked_at(site)["worklist files"]
    assert (state, "'daemon' reads it: daemon" in found) == (State.OK, True)
    assert looked_at(site)["stations"][0] is State.OK
    assert "3T Diagnostic" in looked_at(site, resource_ae_title={})["stations"][1]
    assert looked_at(site, resource_ae_title={"EEG": "EEG"})["stations"][0] is State.FAILED
    site.directory.chmod(0o700)
    assert looked_at(site)["worklist files"][0] is State.FAILED
    site.directory.chmod(0o755)
    assert "every user" in looked_at(site, worklist_file_mode="0644")["worklist files"][1]
    os.chown(site.directory, -1, 0)
    assert "no other user is in" in looked_at(site)["worklist files"][1]
    state, found = looked_at(site, worklist_dir=str(site.directory / "absent"))["worklist files"]
    assert (state, "does not exist" in found) == (State.FAILED, True)
    assert not list(site.directory.iterdir()), "what was tried left nothing behind"


def test_why_names_the_file_that_holds_a_booking(site: FilesSite) -> None:
    """`why` says of a booking on the list where its file lies, and of one that has none where it would be."""
    site.cycle()
    site.simulator.edit(2, **CANCELLED)
    site.cycle()
    site.close()
    found = {}
    for number in (1, 2):
        told = why(number, site.config, credentials=Credentials("demo", "demo"), now=site.now)
        (verdict,) = told.verdicts
        found[number] = [step.found for step in verdict.steps if step.name == "file"]
    path = site.plugin.directory.file(1)
    assert found[1] == [f"{path} holds it, as it was delivered last"]
    assert found[2] == [f"none; it would be {site.plugin.directory.file(2)}"]


def test_preview_shows_the_items_as_they_will_be_written(site: FilesSite) -> None:
    """Site time, the console's characters, and what is held back; the directory stays as it is."""
    site.config |= {"worklist_dir": str(site.directory), "worklist_character_set": "ASCII"}
    site.cycle()
    site.simulator.put(booking(1, NOW + timedelta(hours=5)))
    site.simulator.edit(2, title="SUB002_Müller^Jürgen")
    site.simulator.edit(3, title="SÜB003_Testa_Anna")
    before = {path.name: path.read_bytes() for path in site.directory.iterdir()}
    found = preview(site.config, reveal=True, credentials=Credentials("demo", "demo"), clock=lambda: site.now)
    assert found.host == f"worklist:{site.directory}"
    rows = {row["booking_id"]: row for row in found.frame.iter_rows(named=True)}
    assert f"{rows[1]['time']:%H%M%S}" == site.start_of(1)[1] == "130000"
    assert ("scheduled_start_time", "09:01:00", "13:00:00") in [
        tuple(each.values()) for each in rows[1]["differences"]
    ]
    assert (rows[2]["patient_name"], rows[2]["on_list"]) == ("Muller^Jurgen", True)
    assert (rows[3]["reasons"], rows[3]["on_list"]) == (["not_sendable"], False)
    assert {path.name: path.read_bytes() for path in site.directory.iterdir()} == before
    site.cycle()
    assert site.numbers() == sorted(number for number, row in rows.items() if row["on_list"])
