"""What a way is, and what one call of it did."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple


class Done(NamedTuple):
    """How many bookings one call did, and what else was seen."""

    bookings: int
    note: str = ""


Call = Callable[[], Done]
Way = Callable[[int, Path], AbstractContextManager[Call]]
"""Prepare for so many bookings, with room for files; yield the call that is measured."""
