"""Bookings out of a file, one line at a time, however large it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import PluginConfigError

_BOM = b"\xef\xbb\xbf"


def read_payloads(source: Path | str | BinaryIO) -> Iterator[bytes]:
    """Give the lines of an NDJSON file of bookings, read lazily; a blank line is a booking that cannot be read.

    Nothing is dropped, so that the n-th payload stands on line n; only blank lines at the end are no bookings.
    ``source`` is a path or an open binary file. ``PluginConfigError`` where it cannot be read.
    """
    try:
        if isinstance(source, Path | str):
            with Path(source).open("rb") as file:
                yield from _lines(file)
        else:
            yield from _lines(source)
    except OSError as error:
        raise PluginConfigError(f"the bookings cannot be read: {error.strerror}") from error


def _lines(file: BinaryIO) -> Iterator[bytes]:
    blank = 0
    for number, line in enumerate(file):
        text = line.removeprefix(_BOM) if number == 0 else line
        if text.isspace() or not text:
            blank += 1
            continue
        if blank:
            yield from [b""] * blank
            blank = 0
        yield text
