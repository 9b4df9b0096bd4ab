"""A fresh server, worklist database and plugin of either kind, for one row of the side-by-side table."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.simulator import CalpendoSimulator
from tests.integration.pylantir.conftest import Site, new_plugin
from tests.support.bookings_by_hour import booking
from tests.support.worklist_host import WorklistHost


@contextmanager
def a_site(
    kind: str, *, query_latency: float = 0.0, detail_latency: float = 0.0, **options: Any
) -> Iterator[Site]:
    """A fresh server, database and plugin."""
    with (
        tempfile.TemporaryDirectory() as folder,
        pytest.MonkeyPatch.context() as environment,
        CalpendoSimulator([], query_latency=query_latency, detail_latency=detail_latency) as sim,
    ):
        environment.setenv("XDG_STATE_HOME", folder)
        environment.setenv("CALPENDO_USERNAME", "demo")
        environment.setenv("CALPENDO_PASSWORD", "demo")
        made: list[Any] = []

        def start(settings: dict[str, Any], chosen: str) -> Any:
            plugin = new_plugin(chosen)
            valid, message = plugin.validate_config(dict(settings["config"]))
            assert valid, message
            made.append(plugin)
            return plugin

        host = WorklistHost(Path(folder), environment)
        try:
            yield Site(host, sim, start, kind, **options)
        finally:
            for plugin in made:
                if hasattr(plugin, "close"):
                    plugin.close()
            host.close()


def two(here: Site) -> None:
    """Put two bookings and sync."""
    here.sim.put(booking(1, "SUB1_Doe"))
    here.sim.put(booking(2, "SUB2_Roe", hours=2))
    here.sync()
