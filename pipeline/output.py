"""Entries to a file: NDJSON, Parquet or CSV by the name's ending, whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.errors import PluginConfigError

FORMATS = (".parquet", ".ndjson", ".csv")


def refuse_unknown_format(path: Path) -> None:
    """Raise ``PluginConfigError`` before any work is done when the file's ending names no known format."""
    if path.suffix.lower() not in FORMATS:
        raise PluginConfigError(
            f"--output: {path.name!r} ends in none of {', '.join(FORMATS)}; name one of them"
        )


def write_entries(
    entries: Sequence[Mapping[str, Any]], path: Path, schema: Mapping[str, pl.DataType]
) -> None:
    """Write ``entries`` with the columns of ``schema``, also when there is none, mode 0600.

    The file is complete or absent: it is written beside its place and renamed. Dates are ISO 8601, times
    ``HH:MM:SS`` in the zone the entries were emitted in.
    """
    refuse_unknown_format(path)
    frame = pl.DataFrame([dict(entry) for entry in entries], schema=dict(schema), orient="row")
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            match path.suffix.lower():
                case ".parquet":
                    frame.write_parquet(file)
                case ".csv":
                    frame.write_csv(file)
                case _:
                    frame.write_ndjson(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
