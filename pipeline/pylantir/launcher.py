"""Registration with Pylantir, and its own command with this plugin in it (T023).

``pylantir start`` must not look alive while it serves nothing: what is wrong with file, options or login is said before
anything starts, and whatever ends Pylantir's server ends its threads, which otherwise would be waited for without end.

Pylantir and pynetdicom log subject ids, and the names of a C-FIND's query, at INFO. A plugin cannot stop that; the launcher
can, by filters on their loggers. ``CALPENDO_LOG_PATIENTS=1`` leaves the lines as they are.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from pylantir.data_sources import PLUGIN_REGISTRY

from pipeline.errors import PluginConfigError, PluginError, PluginStateError
from pipeline.pylantir.configuration import refuse_unusable, remember_sources
from pipeline.pylantir.plugin import CalendoPylantirPlugin

SOURCE_TYPE = "calpendo"
PROGRAM = "calpendo-pipeline pylantir"
PATIENCE = 5.0
"""Seconds that the threads have to end by themselves; a kill after that loses nothing, because entries are sent again."""
_LOOK_AGAIN = 0.1


def register(arguments: Sequence[str] | None = None) -> None:
    """Put the plugin in the place of Pylantir's own for sources of the type "calpendo".

    ``arguments`` (default: the program's) may hold ``--pylantir_config FILE``; its sources' names then name the
    ledgers. Pylantir has no other way in: its ``register_plugin`` refuses a type that it knows.
    """
    remember_sources(sys.argv[1:] if arguments is None else arguments)
    PLUGIN_REGISTRY[SOURCE_TYPE] = CalendoPylantirPlugin


def run(arguments: Sequence[str]) -> None:
    """Run Pylantir's own command with these arguments; its exit code is raised as ``SystemExit``.

    Raises ``PluginConfigError`` where ``start`` could serve nothing of Calpendo, ``PluginStateError`` where its port
    cannot be used. Ctrl-C and SIGTERM end ``start`` within seconds, with exit code 0.
    """
    from pylantir.cli import run as host

    sys.argv = [PROGRAM, *arguments]
    asked = host.parse_args()
    register(arguments)
    mask_logs()
    if asked.command == "start":
        _refuse(asked)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _end)
        host.ThreadPoolExecutor = _EndingThreads
        traceback.print_exc = _print_what_is_unforeseen
        for name in ("root", "pylantir.redcap_to_db"):
            logging.getLogger(None if name == "root" else name).addFilter(_has_news)
    host.main()


def _refuse(asked: Any) -> None:
    """Raise for everything for which the server would start and serve nothing, or could not start."""
    from pynetdicom import AE

    if asked.pylantir_config is None:
        raise PluginConfigError(
            "start: no configuration is named, and Pylantir's own is an example; write --pylantir_config FILE"
        )
    refuse_unusable(Path(asked.pylantir_config), PLUGIN_REGISTRY)
    try:
        AE(ae_title=asked.AEtitle)
    except (TypeError, ValueError):
        raise PluginConfigError(
            "--AEtitle: write the name that the scanner calls, 1 to 16 ASCII characters"
        ) from None
    if not 0 < asked.port < 65536:
        raise PluginConfigError(f"--port: got {asked.port}; write a number from 1 to 65535, such as 4242")
    _try_port(asked.ip, asked.port)


def _try_port(host: str, port: int) -> None:
    """Raise ``PluginStateError`` where nobody can listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except socket.gaierror:
        raise PluginConfigError(
            "--ip: is no address of this machine; leave it out to listen on all"
        ) from None
    except OSError as error:
        why = f"cannot be used: {os.strerror(error.errno or 0)}; write another --port or --ip"
        if error.errno == errno.EADDRINUSE:
            why = "is taken: a worklist server runs there already; stop it, or write another --port"
        raise PluginStateError(f"port {port} of {host} {why}") from None


class _EndingThreads(ThreadPoolExecutor):
    """Pylantir's threads, told to end when its server has ended, for whatever reason."""

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool | None:
        from pylantir.redcap_to_db import STOP_EVENT

        STOP_EVENT.set()
        code = error.code if isinstance(error, SystemExit) else int(error is not None)
        threading.Thread(target=_hurry, args=(code,), name="calpendo-end", daemon=True).start()
        return super().__exit__(kind, error, trace)


def _hurry(code: int) -> None:
    """Cut the cycles that run, and end the process where a thread does not end by itself."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        for plugin in tuple(CalendoPylantirPlugin.serving):
            plugin.interrupt()
        time.sleep(_LOOK_AGAIN)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


_asked_to_end = False


def _end(number: int, _: FrameType | None) -> NoReturn:
    """End the server and its threads in order; at the second signal, at once."""
    global _asked_to_end
    if _asked_to_end:
        os._exit(128 + number)
    _asked_to_end = True
    raise SystemExit(0)


_EVERY_CYCLE = ("Memory cleanup: ", "First sync of the day")


def _has_news(record: logging.LogRecord) -> bool:
    """Leave out what Pylantir writes in every cycle, also while Calpendo is down: a log of one line per cycle is read."""
    return not any(text in str(record.msg) for text in _EVERY_CYCLE)


_print_exc = traceback.print_exc


def _print_what_is_unforeseen(*arguments: Any, **options: Any) -> None:
    """Print the traceback as Python does, unless the error is this package's: the log's line has said all of it."""
    if not isinstance(sys.exc_info()[1], PluginError):
        _print_exc(*arguments, **options)


SHOW = "CALPENDO_LOG_PATIENTS"
_MASKS: dict[str, tuple[tuple[re.Pattern[str], str], ...]] = {
    "pylantir.cli.run": (
        (re.compile(r"(Processing record for patient_id: ).*", re.DOTALL), r"\1***"),
        (re.compile(r"\[parameters: .*", re.DOTALL), "[parameters: ***]"),
    ),
    "pylantir.mwl_server": (
        (re.compile(r"(Received MWL C-FIND query).*", re.DOTALL), r"\1"),
        (re.compile(r"(PatientID:? ).*?( set to |\Z)", re.DOTALL), r"\1***\2"),
    ),
    "pynetdicom.service_class": (
        # (0010,xxxx): the patient's group; the value stands between the VR and the comment.
        (re.compile(r"(\(0010,[0-9A-Fa-f]{4}\) [A-Z]{2} ).*?(\s+# |\Z)"), r"\1***\2"),
    ),
}


class PatientMask(logging.Filter):
    """Masks what a logger writes about patients; lines without it pass as they are."""

    def __init__(self, masks: tuple[tuple[re.Pattern[str], str], ...]) -> None:
        super().__init__()
        self._masks = masks

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record's message where a mask fits; every record passes."""
        message = record.getMessage()
        masked = message
        for pattern, replacement in self._masks:
            masked = pattern.sub(replacement, masked)
        if masked != message:
            record.msg, record.args = masked, None
        return True


def mask_logs() -> None:
    """Put the filters on the loggers of Pylantir and pynetdicom, once; the environment may say no."""
    if os.environ.get(SHOW, "").strip().lower() in ("1", "true", "yes"):
        return
    for name, masks in _MASKS.items():
        logger = logging.getLogger(name)
        if not any(isinstance(known, PatientMask) for known in logger.filters):
            logger.addFilter(PatientMask(masks))
