"""The options of a source as they stand under Pylantir: its own defaults, and what only this adapter checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

UPSTREAM_DEFAULTS = {"api_path": "/api", "patient_name_form": "given", "output_timezone": "site"}
"""Where Pylantir's own plugin has another default than this package: a configuration written for it means these."""


def with_host_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """Give a configuration with the defaults of Pylantir's own plugin, and with explicit acknowledgement."""
    return {**UPSTREAM_DEFAULTS, **config, "acknowledge": "explicit"}


def faults(config: Mapping[str, Any]) -> list[str]:
    """Check the protocol name that Pylantir writes into every row: one that it cannot send breaks every answer.

    Each text names the key, what was given and what to write.
    """
    protocol = config.get("protocol")
    if protocol is None:
        return []
    if not isinstance(protocol, Mapping):
        return [f'protocol: got {_shown(protocol)}; write an object such as {{"site": "protocol name"}}']
    site = config.get("site") or config.get("site_id")
    if site is not None and not isinstance(site, (str, int)):
        return [f"site: got {_shown(site)}; write the key of one protocol as text"]
    name = protocol.get(site) if site is not None else None
    if name is None:
        return []
    if (
        isinstance(name, str)
        and name.isascii()
        and name.isprintable()
        and "\\" not in name
        and len(name) <= 64
    ):
        return []
    write = (
        "at most 64 ASCII characters without a backslash: Pylantir sends them to the scanner with every row"
    )
    return [f"protocol.{site}: got {_shown(name)}; write {write}"]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
