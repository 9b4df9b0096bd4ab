"""A real `pylantir start` in a process of its own: on free ports, with its own database, killed at will."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from tests.support.scanner import Scanner

OURS = "ours"
UPSTREAM = "pylantir's own"
LAUNCH = {
    OURS: ["-c", "from pipeline.cli import main; main()", "pylantir"],
    UPSTREAM: ["-c", "from pylantir.cli.run import main; main()"],
}


def free_port() -> int:
    """Find a port that nobody listens on."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class PylantirProcess:
    """Starts, kills and restarts the host with one of the two plugins; a context manager that ends its group."""

    def __init__(
        self, directory: Path, sources: Sequence[Mapping[str, Any]], *, plugin: str = OURS, **settings: Any
    ) -> None:
        self.directory = directory
        self.plugin = plugin
        self.database = directory / "worklist.db"
        self.log = directory / "pylantir.log"
        self.port = free_port()
        self.scanner = Scanner(self.port)
        self._process: subprocess.Popen[bytes] | None = None
        config = directory / "mwl_config.json"
        config.write_text(
            json.dumps({"db_path": str(self.database), "data_sources": list(sources)} | settings)
        )
        self._arguments = ["--pylantir_config", str(config), "--AEtitle", self.scanner.server]
        self._arguments += ["--ip", "127.0.0.1", "--port", str(self.port)]

    def __enter__(self) -> PylantirProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start the process and wait until its server answers a C-ECHO."""
        environment = os.environ | {
            "CALPENDO_USERNAME": "demo",
            "CALPENDO_PASSWORD": "demo",
            "XDG_STATE_HOME": str(self.directory / "state"),
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *LAUNCH[self.plugin], "start", *self._arguments],
                cwd=self.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        while not self.scanner.echo():
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self._process.wait(0.1)
                raise AssertionError(f"pylantir ended with {code}:\n{self.output()[-3000:]}")
            assert time.monotonic() < deadline, self.output()[-3000:]

    @property
    def process(self) -> psutil.Process:
        """The running process, to be looked at."""
        assert self._process is not None
        return psutil.Process(self._process.pid)

    def kill(self) -> None:
        """End the whole process group with SIGKILL, as a power cut does."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
        self._process = None

    def end(self, number: int) -> tuple[int, float]:
        """Send a signal; returns the exit code and the seconds that it took."""
        assert self._process is not None
        began = time.monotonic()
        self._process.send_signal(number)
        return self._process.wait(60), time.monotonic() - began

    def restart(self) -> None:
        """Kill and start again on the same port and database."""
        self.kill()
        self.start()

    def output(self) -> str:
        """Everything the process wrote so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def rows(self) -> list[dict[str, Any]]:
        """Look at the worklist table without touching it."""
        with contextlib.closing(sqlite3.connect(f"{self.database.as_uri()}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute("SELECT * FROM worklist_items ORDER BY id")]
