"""Pylantir's configuration file as the Calpendo plugin reads it: the sources' names, their defaults, what is wrong with them.

Pylantir makes its plugins without arguments and tells them a source's name only when it writes rows. The ledger is
needed before that, and belongs to one source; so the launcher reads the file that Pylantir will read.
"""

from __future__ import annotations

import argparse
import codecs
import json
import re
import threading
from collections.abc import Collection, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from pipeline.config import PipelineConfig
from pipeline.config.credentials import Credentials, environment
from pipeline.config.file import DEFAULT_NAME, SourceSettings, read_sources, select_source
from pipeline.errors import PluginConfigError
from pipeline.wording import Wording, config_error

UNNAMED = "unknown"
"""What Pylantir calls a source without a name, in the rows too."""
_IDENTITY = ("base_url", "api_path", "resources", "status_filter", "allowed_studies")
_sources: list[SourceSettings] = []
_lock = threading.Lock()


def remember_sources(arguments: Sequence[str]) -> None:
    """Read the file that ``--pylantir_config`` names, if there is one; one with faults names no sources."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--pylantir_config")
    known, _ = parser.parse_known_args(list(arguments))
    found: Sequence[SourceSettings] = ()
    if known.pylantir_config:
        try:
            found = read_sources(Path(known.pylantir_config))
        except PluginConfigError:
            found = ()
    with _lock:
        _sources[:] = found


def refuse_unusable(path: Path, known_types: Collection[str]) -> None:
    """Raise ``PluginConfigError`` with all faults for which Pylantir would start and serve nothing of a source.

    Everything that needs no server: the file, each source's options, the login in the environment, and what Pylantir
    itself reads of a source. ``known_types``: of sources, at Pylantir.
    """
    sources = read_sources(path)
    if not sources:
        select_source(path)  # Says why there is none, and what to write.
    content = json.loads(path.read_bytes())
    faults = []
    if path.read_bytes().startswith(codecs.BOM_UTF8):
        faults.append(
            "file: begins with a byte order mark, which Pylantir does not read; save it as UTF-8 without one"
        )
    if "data_sources" not in content:
        faults.append(
            'data_sources: missing, and Pylantir reads no other form; write {"data_sources": [...]} around it'
        )
    for place, entry in enumerate(content.get("data_sources", ())):
        if entry.get("enabled", True):
            faults += _host_faults(f"data_sources[{place}]", entry, known_types)
    environ = environment()
    try:
        Credentials.from_environment(environ)
    except PluginConfigError as error:
        faults += error.faults
    for source in sources:
        found = option_faults(source.config)
        try:
            PipelineConfig.of(
                with_host_defaults(source.config), source=source.name, environ=environ, offline=False
            )
        except PluginConfigError as error:
            found = [*error.faults, *found]
        faults += [f"source {source.name!r}: {fault}" for fault in found]
    if faults:
        raise config_error(str(path), faults)


def _host_faults(where: str, entry: Mapping[str, Any], known_types: Collection[str]) -> list[str]:
    """Return what Pylantir's own loop stumbles over, which ends the thread or the server."""
    faults = []
    if entry.get("type") not in known_types:
        faults.append(
            f"{where}.type: Pylantir knows no such sources; write one of {', '.join(sorted(known_types))}"
        )
    hours = entry.get("operation_interval", {})
    if not isinstance(hours, Mapping) or not all(
        _is_clock(hours.get(key, [0, 0])) for key in ("start_time", "end_time")
    ):
        faults.append(
            f'{where}.operation_interval: write hours and minutes, such as {{"start_time": [6, 30], "end_time": [22, 0]}}'
        )
    return faults


def _is_clock(value: object) -> bool:
    """Return whether a value is hours and minutes of a day."""
    return (
        isinstance(value, list)
        and [type(part) for part in value] == [int, int]
        and 0 <= value[0] < 24
        and 0 <= value[1] < 60
    )


def ledger_name(config: Mapping[str, Any]) -> str:
    """Return the name under which a source's ledger is kept: the source's own, where the file tells it.

    A plugin that was registered without the file takes a name from what makes the source: its server, resources
    and filters. Sources that differ in none of these are one source.
    """
    with _lock:
        for source in _sources:
            if source.config == config:
                return source.name
    return _derived_name(config)


def ledger_names(host_name: str, config: Mapping[str, Any]) -> tuple[str, str]:
    """Return the names under which the ledger of a source may be kept, the likelier one first."""
    return (DEFAULT_NAME if host_name == UNNAMED else host_name), _derived_name(config)


def _derived_name(config: Mapping[str, Any]) -> str:
    identity = json.dumps({key: config.get(key) for key in _IDENTITY}, sort_keys=True, default=str)
    return f"{DEFAULT_NAME}-{blake2b(identity.encode('utf-8', 'surrogatepass'), digest_size=4).hexdigest()}"


UPSTREAM_DEFAULTS = {"api_path": "/api", "patient_name_form": "given", "output_timezone": "site"}
"""Where Pylantir's own plugin has another default than this package: a configuration written for it means these."""


def with_host_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with the defaults of Pylantir's own plugin, and with explicit acknowledgement."""
    return {**UPSTREAM_DEFAULTS, **config, "acknowledge": "explicit"}


_SENDABLE = re.compile(r"[ -\[\]-~]{0,64}")


def option_faults(config: Mapping[str, Any]) -> list[str]:
    """Check the protocol name that Pylantir writes into every row: one that it cannot send breaks every answer.

    Each text names the key, what was given and what to write.
    """
    fault = Wording().fault
    protocol = config.get("protocol")
    if protocol is None:
        return []
    if not isinstance(protocol, Mapping):
        return [fault("protocol", protocol, 'an object such as {"site": "protocol name"}')]
    site = config.get("site") or config.get("site_id")
    if site is not None and not isinstance(site, (str, int)):
        return [fault("site", site, "the key of one protocol as text")]
    name = protocol.get(site) if site is not None else None
    if name is None or (isinstance(name, str) and _SENDABLE.fullmatch(name)):
        return []
    write = (
        "at most 64 ASCII characters without a backslash: Pylantir sends them to the scanner with every row"
    )
    return [fault(f"protocol.{site}", name, write)]
