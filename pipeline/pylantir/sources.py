"""Which source of Pylantir's configuration file a plugin serves.

Pylantir makes its plugins without arguments and tells them a source's name only when it writes rows. The ledger is
needed before that, and belongs to one source; so the launcher reads the file that Pylantir will read.
"""

from __future__ import annotations

import argparse
import json
import threading
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from pipeline.config_file import DEFAULT_NAME, SourceSettings, read_sources
from pipeline.errors import PluginConfigError

UNNAMED = "unknown"
"""What Pylantir calls a source without a name, in the rows too."""

_IDENTITY = ("base_url", "api_path", "resources", "status_filter", "allowed_studies")
_sources: list[SourceSettings] = []
_lock = threading.Lock()


def remember_sources(arguments: Sequence[str]) -> None:
    """Read the file that ``--pylantir_config`` names, if there is one; a file with faults is Pylantir's to refuse."""
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


def ledger_name(config: Mapping[str, Any]) -> str:
    """Give the name under which a source's ledger is kept: the source's own, where the file tells it.

    A plugin that was registered without the file takes a name from what makes the source: its server, resources
    and filters. Sources that differ in none of these are one source.
    """
    with _lock:
        for source in _sources:
            if source.config == config:
                return source.name
    return _derived_name(config)


def ledger_names(host_name: str, config: Mapping[str, Any]) -> tuple[str, str]:
    """Give the names under which the ledger of a source may be kept, the likelier one first."""
    return (DEFAULT_NAME if host_name == UNNAMED else host_name), _derived_name(config)


def _derived_name(config: Mapping[str, Any]) -> str:
    identity = json.dumps({key: config.get(key) for key in _IDENTITY}, sort_keys=True, default=str)
    return f"{DEFAULT_NAME}-{blake2b(identity.encode('utf-8', 'surrogatepass'), digest_size=4).hexdigest()}"
