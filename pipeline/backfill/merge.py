"""Segments -> the output's own files: rows in the order of the sources, replaced versions left out.

A file is written from as many segments as fill ``PART_ROWS`` or ``PART_BYTES``, so that what is in memory is bounded
and a month of any size can be written.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import polars as pl

from pipeline.backfill.files import Layout, damaged, private_directory, read_counts, whole_file, write_json
from pipeline.backfill.records import Piece, SegmentPieces


class SpillWriter:
    """Appends frames to one file; use as a context manager."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Close the file."""
        self._file.close()

    def add(self, frame: pl.DataFrame) -> Piece:
        """Write ``frame`` behind the others and return where it lies."""
        offset = self._file.tell()
        frame.write_ipc_stream(self._file, compression="lz4")
        return Piece(offset, self._file.tell() - offset, frame.height)


def read_piece(path: Path, piece: Piece) -> pl.DataFrame:
    """Return the frame that lies there."""
    with intact(path), path.open("rb") as file:
        file.seek(piece.offset)
        return pl.read_ipc_stream(io.BytesIO(file.read(piece.length)))


def read_whole(path: Path) -> pl.DataFrame:
    """Return the one frame of a file. (From memory: polars is ten times as slow with a path, for a few rows.)"""
    with intact(path):
        return pl.read_ipc_stream(io.BytesIO(path.read_bytes()))


@contextmanager
def intact(path: Path) -> Iterator[None]:
    """Turn what polars says of a damaged file into ``PluginStateError``; its own messages may quote rows."""
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
        raise damaged(path) from None


PART_ROWS = 100_000
PART_BYTES = 32 << 20

LOST = "row:lost"
"""Marks rows on their way to a file; with a colon, no mapped field is called so."""

Counts = dict[str, int]


def merge_month(output: Path, month: str, segments: Sequence[SegmentPieces]) -> Counts:
    """Write the accepted rows of one month; return {"rows": …, "files": …}."""
    layout = Layout(output)
    frames = (frame for frame, _ in _marked(layout, segments))
    return _write(layout, f"month={month}", layout.staged / "entries" / f"month={month}", frames)


def merge_rejected(output: Path, segments: Sequence[SegmentPieces]) -> Counts:
    """Write the rejected rows, each with the source and line it came from."""
    layout = Layout(output)
    frames = (_placed(frame, segment) for frame, segment in _marked(layout, segments))
    return _write(layout, "rejected", layout.staged / "rejected", frames, count="reasons")


def merge_replaced(output: Path, segments: Sequence[SegmentPieces]) -> Counts:
    """Write which rows newer versions replaced, both those of the same segment and those of others."""
    layout = Layout(output)

    def frames() -> Iterator[pl.DataFrame]:
        for segment in segments:
            found = [read_piece(layout.rows_of(segment.segment), piece) for piece in segment.pieces]
            if segment.has_losers:
                found.append(losers_of(layout, segment.segment))
            if found:
                yield _placed(pl.concat(frame.select(REPLACED) for frame in found).sort("row"), segment)

    return _write(layout, "replaced", layout.staged / "replaced", frames())


REPLACED = ("row", "booking_id", "modified")


def losers_of(layout: Layout, segment: str) -> pl.DataFrame:
    """Return the rows of a segment that another segment's replaced."""
    return read_whole(layout.losers / segment)


def _marked(
    layout: Layout, segments: Iterable[SegmentPieces]
) -> Iterator[tuple[pl.DataFrame, SegmentPieces]]:
    """Yield the pieces with a column ``LOST``: whether another segment has a newer version of the row."""
    for segment in segments:
        losers = losers_of(layout, segment.segment)["row"].implode() if segment.has_losers else None
        for piece in segment.pieces:
            frame = read_piece(layout.rows_of(segment.segment), piece)
            lost = pl.lit(value=False) if losers is None else pl.col("row").is_in(losers)
            yield frame.with_columns(lost.alias(LOST)), segment


def _placed(frame: pl.DataFrame, segment: SegmentPieces) -> pl.DataFrame:
    """Put the source's name and the line (from 1, in the whole source) in the place of the segment's own row."""
    line = pl.col("row").cast(pl.Int64) + (segment.lines_before + 1)
    return (
        frame.select(source=pl.lit(segment.source), line=line, rest=pl.lit(0))
        .drop("rest")
        .hstack(frame.drop("row"))
    )


def _write(
    layout: Layout, name: str, target: Path, frames: Iterable[pl.DataFrame], count: str | None = None
) -> Counts:
    """Write the frames behind one another into as few files as memory allows; do nothing where that was done.

    ``count`` names a list column whose values are counted besides, as "reasons:<value>".
    """
    done = layout.merged / f"{name}.json"
    known = read_counts(done, ("rows", "files"))
    if known is not None:
        return known
    counts: Counts = {"rows": 0, "files": 0}
    for frame in _filled(frames):
        private_directory(target)
        with whole_file(target / f"part-{counts['files']:04d}.parquet") as temporary:
            frame.write_parquet(temporary, compression="zstd", compression_level=1)
        counts["rows"] += frame.height
        counts["files"] += 1
        if count:
            for value, times in frame[count].explode().drop_nulls().value_counts().iter_rows():
                counts[f"{count}:{value}"] = counts.get(f"{count}:{value}", 0) + times
    write_json(done, counts)
    return counts


def _filled(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Join frames to some as large as a file may be, without the rows that are marked as ``LOST``."""
    held: list[pl.DataFrame] = []
    rows = size = 0
    for frame in frames:
        held.append(frame)
        rows += frame.height
        size += int(frame.estimated_size())
        if rows >= PART_ROWS or size >= PART_BYTES:
            yield from _kept(held)
            held, rows, size = [], 0, 0
    if held:
        yield from _kept(held)


def _kept(frames: list[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    joined = pl.concat(frames)
    if LOST in joined.columns:  # once for all of them: a filter for each of many small frames takes longer
        joined = joined.filter(~pl.col(LOST)).drop(LOST, "row", strict=False)
    if not joined.is_empty():
        yield joined
