"""Entries to a file: NDJSON, Parquet or CSV by the name's ending, whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import polars as pl

from pipeline.delivery.ledger_file import sync_directory
from pipeline.display import FORMULA, NUMBER
from pipeline.errors import PluginConfigError, PluginError

FORMATS = (".parquet", ".ndjson", ".csv")


def refuse_unusable_path(path: Path) -> None:
    """Raise ``PluginConfigError`` before any work is done: an unknown ending, or a folder that is not there."""
    if path.suffix.lower() not in FORMATS:
        raise PluginConfigError(
            f"--output: {path.name!r} ends in none of {', '.join(FORMATS)}; name one of them"
        )
    if not path.parent.is_dir():
        raise PluginConfigError(f"--output: the folder {str(path.parent)!r} does not exist; make it first")


def write_entries(
    entries: Sequence[Mapping[str, Any]], path: Path, schema: Mapping[str, pl.DataType]
) -> None:
    """Write ``entries`` with the columns of ``schema``, also when there is none, mode 0600.

    The file is complete or as it was: it is written beside its place and renamed. Dates are ISO 8601, times
    ``HH:MM:SS``, with a fraction where there is one, in the zone the entries were emitted in. In CSV a text that a
    spreadsheet would take for a formula has an apostrophe in front. Raises ``PluginError``
    when the disk refuses.
    """
    frame = pl.DataFrame([dict(entry) for entry in entries], schema=dict(schema), orient="row")
    temporary = path
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            _write(frame, file, path.suffix.lower())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        # The rename is on the disk before anything counts as delivered.
        sync_directory(path.parent)
    except OSError as error:
        raise PluginError(
            f"{path}: cannot be written ({error.strerror}); nothing counts as delivered"
        ) from error
    finally:
        if temporary != path:
            temporary.unlink(missing_ok=True)


def _write(frame: pl.DataFrame, file: IO[bytes], ending: str) -> None:
    match ending:
        case ".parquet":
            frame.write_parquet(file)
        case ".csv":
            _without_formulas(frame).write_csv(file, time_format="%H:%M:%S%.f")
        case _:
            frame.write_ndjson(file)


def _without_formulas(frame: pl.DataFrame) -> pl.DataFrame:
    """Mark as text, by an apostrophe in front, what a spreadsheet would compute; ``check`` takes the mark off again."""
    texts = [pl.col(name) for name, dtype in frame.schema.items() if dtype == pl.String]
    return frame.with_columns(
        pl.when(text.str.contains(FORMULA) & ~text.str.contains(NUMBER))
        .then("'" + text)
        .otherwise(text)
        .name.keep()
        for text in texts
    )
