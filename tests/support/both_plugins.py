"""The mark of a test that the one plugin passes and Pylantir's own must fail."""

from __future__ import annotations

import pytest

from tests.support.pylantir_process import OURS, UPSTREAM


def fails_upstream(
    seen: str, *, raises: type[BaseException] | tuple[type[BaseException], ...] = AssertionError
):
    """Run a test with both plugins; ``seen`` is what Pylantir's own does, and there the test must fail.

    Its half runs with the slow proofs: it shows what there is to beat, not whether this package still works.
    """
    must_fail = pytest.mark.xfail(strict=True, raises=raises, reason=seen)
    theirs = pytest.param(UPSTREAM, marks=[must_fail, pytest.mark.slow])
    return pytest.mark.parametrize("kind", [OURS, theirs])
