"""Segments -> the output's own files: one row per booking, in the order of the sources.

Which versions of a booking a newer one replaces is found over the whole output, one bucket of ids after the other, so
that what is in memory is bounded whatever the archives' size. All versions compete, whatever became of them: a newest
version that is rejected replaces an older one that was fine, as it has on the server.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from pipeline.backfill.layout import Layout, damaged, private_directory
from pipeline.backfill.records import SegmentRecord
from pipeline.errors import PluginStateError
from pipeline.transform.selection import superseded

LOST = "lost.parquet"

_OF_THE_SYSTEM = re.compile(r"\(os error (\d+)\)")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def resolve(
    directory: Path, output: Path, bucket: int, buckets: int, segments: Sequence[SegmentRecord]
) -> dict[str, int]:
    """Write down which versions of one bucket's bookings are replaced; count them, and those that were filtered."""
    layout = Layout(output)
    with disk(layout.segments):
        mine = pl.col("booking_id") % buckets == bucket
        versions = _rows(layout, segments, "versions").filter(mine)
        # The ids alone first, eight bytes a row: of most bookings there is one version.
        ids = versions.select("booking_id").collect(engine="streaming")["booking_id"].sort()
        repeated = ids.filter(ids == ids.shift(1)).unique()
        copies = versions.filter(pl.col("booking_id").is_in(repeated.implode())).collect(engine="streaming")
    lost = copies.filter(superseded(copies.with_columns(fault=None)))
    lost.write_parquet(directory / LOST, row_group_size=20_000)
    return {"replaced": lost.height, "filtered": int(lost["is_filtered"].sum())}


def merge(
    directory: Path, output: Path, group: int, buckets: int, segments: Sequence[SegmentRecord]
) -> dict[str, int]:
    """Write the entries by month, the rejected and the replaced rows of some segments that follow one another.

    Args:
        directory: gets the files, below the names of their places in the output.
        output: the backfill's output directory.
        group: the number of these segments among all groups, which is that of their files.
        buckets: in how many of them ``resolve`` looked.
        segments: the segments, each with rows.

    Returns:
        The rows written: ``rejected``, ``replaced``, ``month:…`` for entries; ``reason:…`` counts the rejections' reasons.

    Raises:
        PluginStateError: a file of the work is damaged, or the disk is full.
    """
    layout = Layout(output)
    name = f"part-{group:04d}.parquet"
    with disk(layout.work):
        mine = pl.col("segment").is_between(segments[0].key, segments[-1].key)
        found = [layout.resolve / f"{bucket:05d}" / LOST for bucket in range(buckets)]
        lost = _scan(found).filter(mine).collect().sort("segment", "row")
        by_month = pl.PartitionBy(
            directory / "entries",
            key=pl.col("scheduled_start_date").dt.strftime("%Y-%m").alias("month"),
            include_key=False,
            file_path_provider=lambda file: f"month={file.partition_keys.item()}/{name}",
            approximate_bytes_per_file=None,
        )
        _sink(kept(layout, segments, "entries", lost).drop("segment", "row"), by_month)
        rejected, replaced = (private_directory(directory / kind) / name for kind in ("rejected", "replaced"))
        _sink(_placed(kept(layout, segments, "rejected", lost), segments), rejected)
        _sink(_placed(lost.lazy().drop("is_filtered"), segments), replaced)
        counts = {
            f"month:{file.parent.name.removeprefix('month=')}": _height(file)
            for file in sorted(directory.glob("entries/*/*"))
        }
        reasons = _scan([rejected]).select(pl.col("reasons").explode().drop_nulls().alias("reason"))
        counted = reasons.group_by("reason").len().sort("reason").collect()
        counts |= {f"reason:{reason}": count for reason, count in counted.iter_rows()}
        for file in (rejected, replaced):
            counts[file.parent.name] = _height(file)
            if not counts[file.parent.name]:
                file.unlink()
    return counts


def kept(layout: Layout, segments: Sequence[SegmentRecord], kind: str, lost: pl.DataFrame) -> pl.LazyFrame:
    """Return the segments' rows of one kind, without those of ``lost``."""
    rows = _rows(layout, segments, kind)
    return rows.join(lost.lazy(), on=["segment", "row"], how="anti", maintain_order="left")


def _rows(layout: Layout, segments: Sequence[SegmentRecord], kind: str) -> pl.LazyFrame:
    files = [file for segment in segments for file in segment.files(layout.segments, kind)]
    return pl.scan_ipc(files, glob=False, hive_partitioning=False)


def _placed(rows: pl.LazyFrame, segments: Sequence[SegmentRecord]) -> pl.LazyFrame:
    """Put the source's name and the line (from 1, in the whole source) in the place of the segment and its row."""
    places = pl.LazyFrame(
        [(segment.key, segment.shown, segment.lines_before + 1) for segment in segments],
        schema={"segment": pl.UInt64, "source": pl.String, "line": pl.Int64},
        orient="row",
    )
    placed = rows.join(places, on="segment", how="left", maintain_order="left")
    return placed.select(
        "source", pl.col("line") + pl.col("row"), pl.exclude("segment", "row", "source", "line")
    )


def _sink(rows: pl.LazyFrame, target: Path | pl.PartitionBy) -> None:
    rows.sink_parquet(target, compression="zstd", compression_level=1, mkdir=True, engine="streaming")


def _scan(files: list[Path]) -> pl.LazyFrame:
    return pl.scan_parquet(files, glob=False, hive_partitioning=False)


def _height(file: Path) -> int:
    return int(_scan([file]).select(pl.len()).collect().item())


@contextmanager
def disk(path: Path) -> Iterator[None]:
    """Turn what polars says of damaged files and a full disk into ``PluginStateError``; its messages may quote rows."""
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        number = _OF_THE_SYSTEM.search(str(error))
        refused = os.strerror(int(number[1])) if number and int(number[1]) in _FULL else None
    else:
        return
    if refused is None:
        raise damaged(path)
    raise PluginStateError(
        f"{path}: cannot be written ({refused}); make room, start the same command again and it continues where it stopped"
    )
