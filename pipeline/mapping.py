"""One rule a target field: where its value stands in a booking and what is cut out of it (T011, T014)."""

from __future__ import annotations

import re
import warnings as python_warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

OnNoMatch = Literal["original", "null", "reject"]


@dataclass(frozen=True, slots=True)
class FieldRule:
    """One target field: where its value stands in a booking, and what is cut out of it.

    ``pattern`` has the meaning Python's ``re.match`` gives it; None takes the value as it is. ``group`` is a
    number or a name; ``on_no_match`` says what a value becomes that the pattern does not match.
    """

    target: str
    source: str
    pattern: str | None = None
    group: int | str = 0
    on_no_match: OnNoMatch = "original"


@lru_cache(maxsize=256)
def compile_pattern(pattern: str) -> tuple[re.Pattern[str], tuple[str, ...]]:
    """Compile as Python does and return the pattern with Python's cautions about it (``[[`` and the like)."""
    with python_warnings.catch_warnings(record=True) as caught:
        python_warnings.simplefilter("always")
        compiled = re.compile(pattern)
    return compiled, tuple(str(caution.message) for caution in caught)


def group_number(rule: FieldRule) -> int:
    """Return the number of a rule's group, which it may give by name."""
    if isinstance(rule.group, int):
        return rule.group
    return compile_pattern(rule.pattern or "")[0].groupindex[rule.group]
