"""Fixtures for all tests: no test sees the user's state, credentials or configuration."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine takes longer for an example than hypothesis allows; how long something takes is for the benchmarks to say.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Spread the default run over two processes; slow proofs and benchmarks have the machine to themselves."""
    return min(2, os.cpu_count() or 1) if "not slow" in config.option.markexpr else 0


@pytest.fixture(autouse=True)
def isolated_environment(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point the state directory to a fresh folder and take credentials, server address and width away."""
    home = tmp_path_factory.mktemp("home")
    for name in ("CALPENDO_USERNAME", "CALPENDO_PASSWORD", "CALPENDO_API_URL", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    return home


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Put the simulator's own username and password into the environment."""
    monkeypatch.setenv("CALPENDO_USERNAME", "demo")
    monkeypatch.setenv("CALPENDO_PASSWORD", "demo")
    return ("demo", "demo")
