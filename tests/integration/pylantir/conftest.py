"""A simulated Calpendo, Pylantir's loop in this process, and both plugins to run in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.simulator import CalpendoSimulator
from tests.support.bookings_by_hour import source
from tests.support.pylantir_process import OURS
from tests.support.worklist_host import WorklistHost, load_pylantir

Start = Callable[..., Any]


@pytest.fixture(scope="session", autouse=True)
def _pylantir(tmp_path_factory: pytest.TempPathFactory) -> None:
    load_pylantir(tmp_path_factory.mktemp("pylantir"))


@pytest.fixture
def sim(credentials: tuple[str, str]) -> Iterator[CalpendoSimulator]:
    """An empty Calpendo."""
    with CalpendoSimulator([]) as simulator:
        yield simulator
    assert not simulator.errors


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorklistHost]:
    """Pylantir's loop with an empty database."""
    made = WorklistHost(tmp_path, monkeypatch)
    yield made
    made.close()


@pytest.fixture
def start() -> Iterator[Start]:
    """Make a validated plugin of either kind for a source, as the host's sync thread does."""
    made: list[Any] = []

    def make(settings: dict[str, Any], kind: str = OURS) -> Any:
        plugin = new_plugin(kind)
        config = dict(settings["config"])
        config |= {
            key: settings[key] for key in ("field_mapping", "window_mode", "daily_window") if key in settings
        }
        valid, message = plugin.validate_config(config)
        assert valid, message
        made.append(plugin)
        return plugin

    yield make
    for plugin in made:
        if hasattr(plugin, "close"):
            plugin.close()


def new_plugin(kind: str) -> Any:
    """A plugin as the registry makes it: without arguments, not validated."""
    if kind == OURS:
        from pipeline.pylantir import CalendoPylantirPlugin

        return CalendoPylantirPlugin()
    from pylantir.data_sources.calpendo_plugin import CalendoPlugin

    return CalendoPlugin()


class Site:
    """A source, its plugin and its filter at one host: what a scanner sees after a cycle."""

    def __init__(
        self, host: WorklistHost, sim: CalpendoSimulator, start: Start, kind: str, **options: Any
    ) -> None:
        self.host = host
        self.sim = sim
        self.kind = kind
        self.settings = source(sim.url, **options)
        self._start = start
        self.plugin = start(self.settings, kind)
        host.use_filter(new_plugin(kind), self.settings)

    def sync(self, interval: float = 360.0) -> int:
        """Run one cycle."""
        return self.host.cycle(self.plugin, self.settings, interval=interval)

    def restart(self) -> None:
        """Begin anew with the same configuration, as after a crash: nothing is closed in order."""
        if hasattr(self.plugin, "close"):
            self.plugin.close()
        self.plugin = self._start(self.settings, self.kind)

    @property
    def shown(self) -> list[str]:
        """The subjects on the scanner's list."""
        return self.host.shown


@pytest.fixture
def site(host: WorklistHost, sim: CalpendoSimulator, start: Start) -> Callable[..., Site]:
    """Make a site with one of the two plugins and options of its source."""

    def make(kind: str = OURS, **options: Any) -> Site:
        return Site(host, sim, start, kind, **options)

    return make
