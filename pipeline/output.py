"""Entries to a file: NDJSON, Parquet or CSV by the name's ending, whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.display import FORMULA, NUMBER
from pipeline.errors import PluginConfigError, PluginError
from pipeline.files import whole_file

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
    """Write entries to a private file (mode 0600), which is complete or as it was.

    Dates are ISO 8601, times ``HH:MM:SS``, with a fraction where there is one, in the zone the entries were emitted in. In
    CSV a text that a spreadsheet would take for a formula has an apostrophe in front.

    Args:
        entries: as ``CalendoPlugin.fetch_entries`` returns them.
        path: the file; its ending is one of ``FORMATS``.
        schema: the columns, which the file has also without an entry.

    Raises:
        PluginError: the disk refuses.
    """
    frame = pl.DataFrame([dict(entry) for entry in entries], schema=dict(schema), orient="row")
    try:
        with whole_file(path) as temporary:
            temporary.write_bytes(_encoded(frame, path.suffix.lower()))
    except OSError as error:
        raise PluginError(
            f"{path}: cannot be written ({error.strerror}); nothing counts as delivered"
        ) from error


def _encoded(frame: pl.DataFrame, ending: str) -> bytes:
    """Return the file's content: polars itself would raise something of its own where the disk is full."""
    content = BytesIO()
    match ending:
        case ".parquet":
            frame.write_parquet(content)
        case ".csv":
            _without_formulas(frame).write_csv(content, time_format="%H:%M:%S%.f")
        case _:
            frame.write_ndjson(content)
    return content.getvalue()


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
