"""Real worklist servers on a directory of files, Orthanc and DCMTK's wlmscpfs, and consoles that ask them."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import subprocess
import time
import warnings
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import ModalityWorklistInformationFind

TITLE = "WORKLIST"
"""The AE title of both servers; wlmscpfs reads the directory below its own that is called so."""
PLUGINS = ("/usr/share/orthanc/plugins", "/usr/lib/orthanc")
PENDING = 0xFF00
ITEM_KEYS = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientWeight",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyInstanceUID",
    "RequestedProcedureID",
    "RequestedProcedureDescription",
)
STEP_KEYS = (
    "ScheduledStationAETitle",
    "ScheduledStationName",
    "ScheduledProcedureStepStartDate",
    "ScheduledProcedureStepStartTime",
    "Modality",
    "ScheduledPerformingPhysicianName",
    "ScheduledProcedureStepDescription",
    "ScheduledProcedureStepID",
)
STEP = "ScheduledProcedureStepSequence"
Line = tuple[str, ...]
"""The values of ``ITEM_KEYS`` and ``STEP_KEYS``, as a console shows them."""


def _is_script(path: Path) -> bool:
    return path.is_file() and path.read_bytes()[:2] == b"#!"


# pynetdicom installs a Python script named findscu beside this Python, whose options are others than DCMTK's.
_PATH = os.pathsep.join(
    folder
    for folder in (*os.environ.get("PATH", "").split(os.pathsep), "/usr/sbin", "/usr/bin")
    if not _is_script(Path(folder) / "findscu")
)


def missing() -> str | None:
    """Say which program of the servers and consoles is not on this machine; None where all are."""
    programs = [name for name in ("Orthanc", "wlmscpfs", "findscu") if shutil.which(name, path=_PATH) is None]
    if not programs and _worklists_plugin() is None:
        programs.append("Orthanc's ModalityWorklists plugin")
    return f"{', '.join(programs)} not installed (apt-get install orthanc dcmtk)" if programs else None


def _program(name: str) -> str:
    found = shutil.which(name, path=_PATH)
    assert found, missing()
    return found


def _worklists_plugin() -> Path | None:
    found = (path for folder in PLUGINS for path in Path(folder).glob("libModalityWorklists.so*"))
    return next(found, None)


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class WorklistServer:
    """A server's process; a context manager that waits until it answers."""

    name = "server"

    def __init__(self, directory: Path, scratch: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.log = scratch / f"{self.name}.log"
        scratch.mkdir(parents=True, exist_ok=True)
        self._command = self.command(scratch)

    def command(self, scratch: Path) -> list[str]:
        """Return the command line of the server."""
        raise NotImplementedError

    def __enter__(self) -> WorklistServer:
        """Start it."""
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 60
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return self
            assert self.process.poll() is None, self.log.read_text(errors="replace")
            assert time.monotonic() < deadline, self.log.read_text(errors="replace")
            time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Orthanc(WorklistServer):
    """Debian's Orthanc with its ModalityWorklists plugin."""

    name = "orthanc"

    def command(self, scratch: Path) -> list[str]:
        """Write a configuration and return the command line."""
        return [_program("Orthanc"), str(self.configuration(scratch))]

    def configuration(self, scratch: Path) -> Path:
        """Write the configuration file."""
        return written_configuration(
            scratch, {**MINIMAL, "Worklists": {"Enable": True, "Database": str(self.directory)}}, self.port
        )


MINIMAL: dict[str, Any] = {
    "DicomAet": TITLE,
    "DicomCheckCalledAet": False,
    "DicomAlwaysAllowFindWorklist": True,
    "DefaultEncoding": "Utf8",
}


class AsShown(Orthanc):
    """Orthanc with the configuration that ``docs/hosts.md`` shows; only what is this machine's own differs."""

    def configuration(self, scratch: Path) -> Path:
        """Write the shown configuration."""
        shown = {**json.loads(shown_block("worklists.json")), **json.loads(shown_block("orthanc.json"))}
        assert shown["Worklists"].pop("Database") == f"/var/lib/calpendo-worklists/{TITLE}"
        shown["Worklists"]["Database"] = str(self.directory)
        return written_configuration(scratch, shown, self.port)


def shown_block(name: str) -> str:
    """Return the block of the docs that follows a test's mark."""
    page = (Path(__file__).parents[2] / "docs" / "hosts.md").read_text(encoding="utf-8")
    return page.split(f"<!-- test: {name} -->")[1].split("```")[1].partition("\n")[2]


def written_configuration(scratch: Path, settings: Mapping[str, Any], port: int) -> Path:
    """Write a configuration of Orthanc that listens on a port of the test's own and keeps what it stores there."""
    storage = scratch / "storage"
    storage.mkdir(exist_ok=True)
    local = {
        "DicomPort": port,
        "HttpServerEnabled": False,
        "StorageDirectory": str(storage),
        "IndexDirectory": str(storage),
        "Plugins": [str(_worklists_plugin())],
    }
    path = scratch / "orthanc.json"
    path.write_text(json.dumps({**settings, **local}))
    return path


class Wlmscpfs(WorklistServer):
    """DCMTK's worklist server; it wants a file ``lockfile`` beside the worklist files."""

    name = "wlmscpfs"

    def command(self, scratch: Path) -> list[str]:
        """Make the lock file and return the command line."""
        assert self.directory.name == TITLE
        (self.directory / "lockfile").touch()
        program, *options = shlex.split(shown_block("wlmscpfs"))
        here = {"/var/lib/calpendo-worklists": str(self.directory.parent), "4242": str(self.port)}
        return [_program(program), *(here.get(option, option) for option in options)]


def _line(answer: Dataset) -> Line:
    (step,) = answer[STEP].value
    texts = [str(answer[keyword].value or "") for keyword in ITEM_KEYS]
    return (*texts, *(str(step[keyword].value or "") for keyword in STEP_KEYS))


def ask(server: WorklistServer, station: str = "", **step_keys: str) -> Counter[Line]:
    """Ask as a scanner does, by pynetdicom; returns the lines of the console's list."""
    question, step = Dataset(), Dataset()
    for keyword in ("SpecificCharacterSet", *ITEM_KEYS):
        setattr(question, keyword, None)
    for keyword in STEP_KEYS:
        setattr(step, keyword, step_keys.get(keyword))
    step.ScheduledStationAETitle = station
    setattr(question, STEP, [step])
    ae = AE(ae_title=station or "CONSOLE")
    ae.add_requested_context(ModalityWorklistInformationFind)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 30
    association = ae.associate("127.0.0.1", server.port, ae_title=TITLE)
    assert association.is_established, server.log.read_text(errors="replace")
    lines: Counter[Line] = Counter()
    last = None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for status, answer in association.send_c_find(question, ModalityWorklistInformationFind):
            last = status.get("Status")
            if last == PENDING:
                lines[_line(answer)] += 1
    association.release()
    assert last == 0x0000, f"{server.name} answered {last}: {server.log.read_text(errors='replace')[-2000:]}"
    return lines


def findscu(server: WorklistServer, scratch: Path, station: str = "") -> Counter[Line]:
    """Ask the same by DCMTK's findscu, a program of another hand."""
    folder = scratch / "answers"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    keys = ["SpecificCharacterSet", *ITEM_KEYS]
    keys += [f"{STEP}[0].{keyword}" for keyword in STEP_KEYS if keyword != "ScheduledStationAETitle"]
    keys.append(f"{STEP}[0].ScheduledStationAETitle={station}")
    arguments = [part for key in keys for part in ("-k", key)]
    done = subprocess.run(
        [
            _program("findscu"),
            "-W",
            "-X",
            "-od",
            str(folder),
            "-aec",
            TITLE,
            "127.0.0.1",
            str(server.port),
            *arguments,
        ],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return Counter(_line(pydicom.dcmread(path, force=True)) for path in sorted(folder.iterdir()))
