"""A frame -> a list of dictionaries of plain Python values."""

from __future__ import annotations

from typing import Any

import polars as pl

from pipeline.transform.payloads import paused_collector


def to_rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Return one dictionary a row, columns in order."""
    with paused_collector():
        return frame.to_dicts()
