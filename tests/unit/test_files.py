"""Files are written whole or not at all."""

from __future__ import annotations

import resource
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import polars as pl
import pytest

from pipeline.errors import PluginError
from pipeline.files import usual_mode, whole_file
from pipeline.output import FORMATS, write_entries


@contextmanager
def _full_disk(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    """Files: until the block ends the old content stands; then the new one does, with the mode asked for."""
    file = tmp_path / "a.txt"
    file.write_text("old")
    with whole_file(file, mode=usual_mode()) as temporary:
        temporary.write_text("new")
        assert file.read_text() == "old"
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
    assert file.read_text() == "new"
    assert stat.S_IMODE(file.stat().st_mode) == usual_mode()
    assert list(tmp_path.iterdir()) == [file]


def test_an_error_leaves_everything_as_it_was(tmp_path: Path) -> None:
    """Files: of several that are written together none changes, and nothing is left, where one of them fails."""
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_text("old")
    with pytest.raises(FileNotFoundError), ExitStack() as together:  # noqa: PT012  one error among three files
        for file in (first, second, tmp_path / "nowhere" / "c.txt"):
            together.enter_context(whole_file(file)).write_text("new")
    assert first.read_text() == "old"
    assert list(tmp_path.iterdir()) == [first]


@pytest.mark.parametrize("ending", FORMATS)
def test_a_full_disk_is_said_in_one_sentence(ending: str, tmp_path: Path) -> None:
    """--output: where the disk is full, the file stays as it was, in every format, and the error says why."""
    file = tmp_path / f"entries{ending}"
    file.write_bytes(b"old")
    entries = [{"patient_id": f"{number}" * 50} for number in range(500)]
    with _full_disk(1000), pytest.raises(PluginError, match=r"cannot be written \(File too large\)"):
        write_entries(entries, file, {"patient_id": pl.String()})
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]
