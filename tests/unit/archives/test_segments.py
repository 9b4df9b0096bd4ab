"""Archives cut into segments: every line in exactly one, whatever the file is packed in."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.archives import Archive, read_segments, recognise, segment_count
from pipeline.archives import text_rows as lines_module
from pipeline.archives.text_rows import LineReader, Packing
from pipeline.errors import PluginConfigError

TEXTS = st.lists(st.binary(max_size=12).map(lambda text: text.replace(b"\n", b"")), max_size=30)


def _segments(path: Path, size: int, wanted: set[int] | None = None) -> dict[int, list[tuple[int, bytes]]]:
    """Read a file's segments as (line number, payload) lists, only those that hold something."""
    packing: Packing = {".gz": "gzip", ".zst": "zstd"}.get(path.suffix, "")  # type: ignore[assignment]
    source = Archive(path.name, str(path), path.stat().st_size, packing=packing)
    found = {}
    for segment in read_segments(source, size, lambda number: wanted is None or number in wanted):
        rows = [pair for block in segment.blocks for pair in zip(block.lines, block.payloads, strict=True)]
        if rows:
            found[segment.number] = rows
    return found


@given(TEXTS, st.booleans(), st.integers(1, 40))
def test_lines_are_taken_once_and_in_order(texts: list[bytes], ends: bool, step: int) -> None:
    """Backfill: the blocks of a stream, joined, are the stream, and each begins at a line's start."""
    data = b"\n".join(texts) + (b"\n" if ends and texts else b"")
    reader = LineReader(io.BytesIO(data))
    taken, end = b"", 0
    while not reader.ended:
        end += step
        while block := reader.take(end):
            assert taken == b"" or taken.endswith(b"\n")
            assert reader.offset == len(taken) + len(block)
            taken += block
    assert taken == data


@settings(deadline=None)
@given(texts=TEXTS, size=st.integers(1, 40))
def test_all_packings_give_the_same_segments(
    tmp_path_factory: pytest.TempPathFactory, texts: list[bytes], size: int
) -> None:
    """Backfill: segment k holds the same lines in a plain, a gzip and a zstd file, and together they are all lines."""
    texts = [b"{}", *texts]
    data = b"".join(text + b"\n" for text in texts)
    folder = tmp_path_factory.mktemp("packed")
    plain, packed, frames = folder / "a.ndjson", folder / "a.ndjson.gz", folder / "a.ndjson.zst"
    plain.write_bytes(data)
    packed.write_bytes(gzip.compress(data[: len(data) // 2]) + gzip.compress(data[len(data) // 2 :]))
    frames.write_bytes(zstd.compress(data[: len(data) // 3]) + zstd.compress(data[len(data) // 3 :]))
    expected = _segments(plain, size)
    assert _segments(packed, size) == expected
    assert _segments(frames, size) == expected
    payloads = [payload for number in sorted(expected) for _, payload in expected[number]]
    assert payloads == [text for text in texts if text.strip()]


def test_a_segment_is_read_without_those_before_it(tmp_path: Path) -> None:
    """Backfill: one segment of a plain file is the same whether it is read alone or with all others."""
    path = tmp_path / "a.ndjson"
    path.write_bytes(b"".join(b'{"id": %d}\n' % number for number in range(500)))
    everything = _segments(path, 256)
    count = segment_count(recognise(path), 256)
    assert count is not None
    assert count - 1 <= len(everything) <= count, "the last bytes may be the end of a line that began before"
    for number, rows in everything.items():
        assert _segments(path, 256, {number}) == {number: rows}


def test_lines_are_numbered_with_the_blank_ones(tmp_path: Path) -> None:
    """Backfill: a blank line is no booking but has its number, so that line numbers are those an editor shows."""
    path = tmp_path / "a.ndjson"
    path.write_bytes(b'\xef\xbb\xbf{"id": 1}\r\n\r\n   \n{"id": 2}')
    assert _segments(path, 1000) == {0: [(0, b'{"id": 1}\r'), (3, b'{"id": 2}')]}


def test_a_giant_line_costs_no_memory_and_no_other_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Backfill: a line beyond the limit is cut to something that is no JSON; the lines around it stay whole."""
    monkeypatch.setattr(lines_module, "LINE_BYTES", 1000)
    monkeypatch.setattr(lines_module, "STEP_BYTES", 100)
    path = tmp_path / "a.ndjson"
    giant = b'{"id": 2, "title": "' + b"x" * 5000 + b'"}'
    path.write_bytes(b'{"id": 1}\n' + giant + b'\n{"id": 3}\n')
    for size in (7, 64):
        found = [payload for rows in _segments(path, size).values() for _, payload in rows]
        assert found[0] == b'{"id": 1}'
        assert found[2] == b'{"id": 3}'
        assert b"\0" in found[1]
        assert len(found[1]) < 1500


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
def test_a_cut_off_file_is_named(tmp_path: Path, packing: str) -> None:
    """Backfill: a compressed file that ends too soon is an error that names it, never a shorter archive."""
    path = tmp_path / f"a.ndjson.{'gz' if packing == 'gzip' else 'zst'}"
    data = b"".join(b'{"id": %d, "title": "SUB%d"}\n' % (number, number * 7919) for number in range(5000))
    path.write_bytes((gzip if packing == "gzip" else zstd).compress(data)[:-20])
    with pytest.raises(PluginConfigError, match=r"a\.ndjson\.\w+: the .* data is damaged or cut off"):
        _segments(path, 1000)
