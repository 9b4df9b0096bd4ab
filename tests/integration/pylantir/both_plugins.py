"""The mark of a test that the one plugin passes and Pylantir's own must fail."""

from __future__ import annotations

import pytest

from tests.integration.pylantir.pylantir_process import OURS, UPSTREAM


def fails_upstream(
    seen: str, *, raises: type[BaseException] | tuple[type[BaseException], ...] = AssertionError
):
    """Run a test with both plugins; ``seen`` is what Pylantir's own does, and there the test must fail."""
    theirs = pytest.param(UPSTREAM, marks=pytest.mark.xfail(strict=True, raises=raises, reason=seen))
    return pytest.mark.parametrize("kind", [OURS, theirs])
