"""Short pauses, so that these tests wait for the server's faults and not for politeness."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again after hundredths of a second instead of halves."""
    monkeypatch.setattr("pipeline.calpendo.client._BACKOFF", 0.01)
    monkeypatch.setattr("pipeline.calpendo.client._BACKOFF_JITTER", 0.01)
