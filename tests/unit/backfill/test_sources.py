"""Which files a backfill reads, and how it notices that they are not what they were."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import polars as pl
import pytest
from backports import zstd

from pipeline.backfill.plan import changed_sources, find_sources
from pipeline.errors import PluginConfigError

LINE = b'{"id": 1}\n'


def test_kinds_are_told_by_the_first_bytes(tmp_path: Path) -> None:
    """Backfill: what a file is decides its contents, not its name."""
    (tmp_path / "a").write_bytes(LINE)
    (tmp_path / "b").write_bytes(gzip.compress(LINE))
    (tmp_path / "c").write_bytes(zstd.compress(LINE))
    pl.DataFrame({"payload": ["{}"]}).write_parquet(tmp_path / "d")
    found = find_sources([str(tmp_path / "?")])
    kinds = [(source.file.kind, source.file.packing) for source in found]
    assert kinds == [("lines", ""), ("lines", "gzip"), ("lines", "zstd"), ("parquet", "")]
    assert [source.index for source in found] == [0, 1, 2, 3]


def test_globs_directories_and_repetitions(tmp_path: Path) -> None:
    """Backfill: directories are searched, names sorted within each argument, and a file named twice is read once."""
    for name in ("b.ndjson", "a.ndjson", "deep/c.ndjson.gz", "notes.txt", ".hidden.ndjson"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(LINE)
    found = find_sources([tmp_path / "b.ndjson", tmp_path, f"{tmp_path}/**/*.ndjson"])
    assert [Path(source.path).name for source in found] == ["b.ndjson", "a.ndjson", "c.ndjson.gz"]


def test_all_unusable_sources_are_named_together(tmp_path: Path) -> None:
    """Backfill: a cut array, a foreign file and a missing one are all in one error, each with what to do."""
    (tmp_path / "array.json").write_bytes(b' [\n{"id": 1}')
    (tmp_path / "wide.json").write_bytes('{"id": 1}'.encode("utf-16"))
    with pytest.raises(PluginConfigError) as raised:
        find_sources([tmp_path / "array.json", tmp_path / "wide.json", tmp_path / "none*.ndjson"])
    assert len(raised.value.faults) == 3
    assert "iconv" in str(raised.value)


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    """Backfill: another size, another content of the same size, another time, a missing and a new file are seen."""
    path = tmp_path / "a.ndjson"
    path.write_bytes(LINE)
    before = find_sources([path])
    facts = path.stat()
    assert changed_sources(before, find_sources([path])) == []

    path.write_bytes(LINE.replace(b"1", b"2"))
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert "a.ndjson" in changed_sources(before, find_sources([path]))[0]

    path.write_bytes(LINE)
    assert changed_sources(before, find_sources([path]))
    (tmp_path / "b.ndjson").write_bytes(LINE)
    assert len(changed_sources(before, find_sources([tmp_path / "b.ndjson"]))) == 2


def test_the_order_of_sources_counts(tmp_path: Path) -> None:
    """Backfill: the order decides between equally new versions, so another order is another backfill."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.ndjson").write_bytes(LINE)
    a, b = tmp_path / "a.ndjson", tmp_path / "b.ndjson"
    assert "order" in changed_sources(find_sources([a, b]), find_sources([b, a]))[0]
