"""A site for each test of the delivery."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.simulator import CalpendoSimulator
from tests.support.delivery_site import Site, booking


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Return a maker of sites with the bookings 1 to 5; each is closed at the end."""
    sites: list[Site] = []

    def make(count: int = 5, **options: Any) -> Site:
        simulator = CalpendoSimulator([booking(number) for number in range(1, count + 1)])
        state = options.pop("state_path", tmp_path / f"ledger-{len(sites)}.sqlite")
        sites.append(Site(simulator, state, **options))
        return sites[-1]

    yield make
    for site in sites:
        site.close()
        site.simulator.close()


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    """Return a site with five bookings."""
    return make_site()
