"""Run the notebooks on the invented sample and keep the outputs; or check that nothing else was kept.

    python notebooks/refresh.py            run them, write the outputs and stamp them
    python notebooks/refresh.py --check    exit code 1 where a notebook holds outputs that were not written so

A notebook that was run on a file or a server of your own, and saved, no longer agrees with its stamp.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
DATA = FOLDER.parent / "data"
SAMPLE = ("bookings.ndjson", "expected_entries.ndjson", "calpendo_config_example.json")
PARAMETERS = """\
BOOKINGS = None  # a file of bookings, one JSON object a line; None: the invented sample
CONFIG = None  # your configuration; without BOOKINGS: the last DAYS days of its server
DAYS = 90
EXPECTED = None  # hand-checked entries of your own
REVEAL = False  # show titles and values as they are"""


def notebooks() -> list[Path]:
    """All notebooks, in their order."""
    return sorted(FOLDER.glob("*.ipynb"))


def execute(notebook: Any, folder: Path = FOLDER) -> None:
    """Run a notebook from its first cell in this Python, in a fresh process; raises on the first error."""
    from ipykernel.kernelspec import write_kernel_spec
    from nbclient import NotebookClient

    with tempfile.TemporaryDirectory() as place:
        write_kernel_spec(f"{place}/kernels/python3")
        kept = {name: os.environ.get(name) for name in ("JUPYTER_PATH", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
        os.environ.update(
            JUPYTER_PATH=place, JUPYTER_RUNTIME_DIR=f"{place}/runtime", IPYTHONDIR=f"{place}/ipython"
        )
        try:
            client = NotebookClient(
                notebook,
                timeout=300,
                startup_timeout=300,
                kernel_name="python3",
                resources={"metadata": {"path": str(folder)}},
            )
            client.execute()
        finally:
            for name, value in kept.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
    _drop_times(notebook)


def stamp(notebook: Any) -> dict[str, str]:
    """Give the digests that tell whether the outputs are those of these cells on this sample."""
    sample = hashlib.sha256()
    for name in SAMPLE:
        sample.update((DATA / name).read_bytes())
    cells = [[cell.source, cell.get("outputs", [])] for cell in notebook.cells if cell.cell_type == "code"]
    outputs = json.dumps(cells, sort_keys=True).encode()
    return {"sample": sample.hexdigest(), "outputs": hashlib.sha256(outputs).hexdigest()}


def faults(notebook: Any) -> Iterator[str]:
    """Say what is wrong with the outputs that a notebook holds; nothing where all is well."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if not code or code[0].source != PARAMETERS:
        yield "its first code cell is not the parameters as they were committed"
    if any(output.output_type == "error" for cell in code for output in cell.outputs):
        yield "it holds an error"
    kept, now = notebook.metadata.get("calpendo", {}), stamp(notebook)
    if kept.get("outputs") != now["outputs"]:
        yield "its cells or outputs were changed since they were made of the sample"
    elif kept.get("sample") != now["sample"]:
        yield "the sample was changed since its outputs were made"


def main() -> int:
    """Check or refresh; returns the exit code."""
    import nbformat

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    failed = 0
    for path in notebooks():
        notebook = nbformat.read(path, as_version=4)
        if check:
            for fault in faults(notebook):
                failed = 1
                sys.stdout.write(f"{path.name}: {fault}; run python notebooks/refresh.py\n")
            continue
        _tidy(notebook)
        execute(notebook)
        notebook.metadata["calpendo"] = stamp(notebook)
        nbformat.write(notebook, path)
        sys.stdout.write(f"{path.name}: refreshed\n")
    return failed


def _tidy(notebook: Any) -> None:
    """Start from the cells alone, with the parameters as they belong."""
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    code[0].source = PARAMETERS
    for cell in code:
        cell.outputs, cell.execution_count = [], None


def _drop_times(notebook: Any) -> None:
    """Drop what differs from run to run and says nothing: times of execution, the Python's version."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }


if __name__ == "__main__":
    raise SystemExit(main())
