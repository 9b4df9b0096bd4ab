"""What a cycle and the service may take. The numbers themselves: ``python -m tests.benchmarks.cycle``."""

from __future__ import annotations

import sys

import pytest

from tests.benchmarks.cycle import files_passed, service


def test_a_booking_passes_few_files() -> None:
    """Promise: who follows one booking through a cycle has to open 45 files at most."""
    files = files_passed()
    assert len(files) <= 45, "\n".join(files)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the memory of another process is read from /proc")
def test_the_service_is_small(credentials: tuple[str, str]) -> None:
    """Promise: Pylantir with this plugin holds at most 170 MB."""
    assert service().resident <= 170
