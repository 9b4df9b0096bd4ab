"""The notebooks: they run on the sample, hold its outputs only, and notice when they hold any other."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest

FOLDER = Path(__file__).parents[3] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
TAG = re.compile(r"<style>.*?</style>|<[^>]+>", re.DOTALL)


@pytest.fixture(scope="module")
def refresh() -> ModuleType:
    """The script that runs the notebooks."""
    spec = importlib.util.spec_from_file_location("refresh", FOLDER / "refresh.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(path: Path) -> Any:
    """A notebook as committed."""
    return nbformat.read(path, as_version=4)


def said(cell: Any) -> list[str]:
    """What a cell shows in words and figures; pictures and styles depend on the libraries' releases."""
    shown = []
    for output in cell.outputs:
        data = output.get("data", {})
        text = (
            data.get("text/html")
            or data.get("text/markdown")
            or data.get("text/plain")
            or output.get("text", "")
        )
        shown.append(" ".join(TAG.sub(" ", text).split()))
    return shown


def test_the_three_stories_are_there() -> None:
    """Issue text: three notebooks, each short, with text between the cells, and no logic of their own."""
    assert [path.name for path in NOTEBOOKS] == [
        "01_mapping_accuracy.ipynb",
        "02_times_and_dst.ipynb",
        "03_title_conventions.ipynb",
    ]
    for path in NOTEBOOKS:
        cells = read(path).cells
        code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
        assert len(code.splitlines()) <= 35, path.name
        assert sum(cell.cell_type == "markdown" for cell in cells) >= 5, path.name
        assert not re.search(
            r"\b(def|for|while|if|class|lambda|try)\b(?! no)", re.sub(r"#.*|\"[^\"]*\"", "", code)
        )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_only_outputs_of_the_sample_are_kept(path: Path, refresh: ModuleType) -> None:
    """Issue text: a check keeps any other output out: cells, outputs and sample agree with the stamp."""
    assert list(refresh.faults(read(path))) == [], "run python notebooks/refresh.py"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_other_outputs_are_noticed(path: Path, refresh: ModuleType) -> None:
    """Issue text: the check can fail: a changed output, a changed parameter, a changed cell, an error."""
    notebook = read(path)
    code = [number for number, cell in enumerate(notebook.cells) if cell.cell_type == "code"]

    other = copy.deepcopy(notebook)
    shown = json.loads(json.dumps(other.cells[code[-1]].outputs).replace("1", "2"))
    other.cells[code[-1]].outputs = [nbformat.from_dict(output) for output in shown]
    assert any("changed since" in fault for fault in refresh.faults(other))

    emptied = copy.deepcopy(notebook)
    emptied.cells[code[-1]].outputs = []
    assert any("changed since" in fault for fault in refresh.faults(emptied))

    own = copy.deepcopy(notebook)
    own.cells[code[0]].source = own.cells[code[0]].source.replace(
        "BOOKINGS = None", 'BOOKINGS = "mine.ndjson"'
    )
    assert any("parameters" in fault for fault in refresh.faults(own))

    unstamped = copy.deepcopy(notebook)
    del unstamped.metadata["calpendo"]
    assert list(refresh.faults(unstamped))


def test_a_changed_sample_is_noticed(
    refresh: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Issue text: outputs of an older sample are stale, and the check says so."""
    for name in refresh.SAMPLE:
        (tmp_path / name).write_bytes((refresh.DATA / name).read_bytes() + b"\n")
    monkeypatch.setattr(refresh, "DATA", tmp_path)
    assert any("sample was changed" in fault for fault in refresh.faults(read(NOTEBOOKS[0])))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_and_says_what_was_kept(path: Path, refresh: ModuleType) -> None:
    """Issue text: the tests execute them and fail on an error; what they say is what was committed.

    Cells tagged ``machine`` show zone data of the machine they run on and are only run.
    """
    kept, run = read(path), read(path)
    refresh.execute(run)
    compared = 0
    for before, after in zip(kept.cells, run.cells, strict=True):
        if before.cell_type == "code" and "machine" not in before.metadata.get("tags", []):
            assert said(after) == said(before)
            compared += bool(before.outputs)
    assert compared >= 1


@pytest.mark.slow
def test_a_file_of_ones_own_by_parameter(refresh: ModuleType, tmp_path: Path) -> None:
    """Issue text: a file by parameter; an error in a cell is an error of the run."""
    from nbclient.exceptions import CellExecutionError

    line = (refresh.DATA / "bookings.ndjson").read_bytes().splitlines()[0]
    (tmp_path / "mine.ndjson").write_bytes(line + b"\n")
    notebook = read(NOTEBOOKS[0])
    parameters = next(cell for cell in notebook.cells if cell.cell_type == "code")
    parameters.source += f"\nBOOKINGS = {str(tmp_path / 'mine.ndjson')!r}"
    refresh.execute(notebook)
    assert "1 booking" in json.dumps(notebook.cells)

    parameters.source += '\nBOOKINGS = "missing.ndjson"'
    with pytest.raises(CellExecutionError, match="cannot be read"):
        refresh.execute(notebook)
