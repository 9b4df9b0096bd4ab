"""Imports run one way, between rooms and between files, and the command starts without the heavy libraries."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pipeline"

LEVELS: dict[str, int] = {
    "version": 0,
    "errors": 0,
    "fields": 1,
    "wording": 1,
    "display": 1,
    "files": 1,
    "processes": 1,
    "matching_worker": 1,
    "config": 2,
    "transform": 3,
    "schema": 3,
    "contract": 3,
    "matching": 4,
    "batch": 4,
    "archives": 4,
    "page": 4,
    "calpendo": 4,
    "simulator": 4,
    "delivery": 4,
    "report": 4,
    "output": 4,
    "plugin": 5,
    "audit": 5,
    "backfill": 5,
    "check": 5,
    "hosts": 5,
    "pylantir": 6,
    "worklist_files": 6,
    "verify": 6,
    "trace": 6,
    "workbench": 7,
    "commands": 7,
    "cli": 8,
}
HEAVY = (
    "polars",
    "pandera",
    "requests",
    "pydantic",
    "pandas",
    "altair",
    "dask",
    "rich",
    "orjson",
    "msgspec",
    "pytz",
)


def _room(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imported_rooms(module: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(module.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "pipeline":
                names = [f"pipeline.{alias.name}" for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("pipeline.")}
    return rooms


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(module: Path) -> None:
    """Architecture: a module imports only from its own room, its own level or a lower one."""
    room = _room(module)
    assert room in LEVELS, f"{room} has no place in ARCHITECTURE.md's table and in LEVELS"
    for other in _imported_rooms(module) - {room}:
        assert other in LEVELS, f"{module} imports pipeline.{other}, which has no level"
        assert LEVELS[other] < LEVELS[room] or (LEVELS[other] == LEVELS[room] and room != "errors"), (
            f"{module.relative_to(ROOT)} (level {LEVELS[room]}) imports pipeline.{other} (level {LEVELS[other]})"
        )


def _imported_files(module: Path) -> set[Path]:
    """Return the package's files that a file imports anywhere in it: in functions and for type checking too."""
    files = set()
    for node in ast.walk(ast.parse(module.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module.relative_to(ROOT)}: imports are written out, not relative"
            parts = [f"{node.module}.{alias.name}" for alias in node.names]
            # What is taken from a file inside a package is no use of the package's own face.
            names = [part if _file_of(part) else str(node.module) for part in parts]
        files |= {file for name in names if (file := _file_of(name))}
    return files - {module}


def _file_of(name: str) -> Path | None:
    place = ROOT.joinpath(*name.split("."))
    for file in (place / "__init__.py", place.with_suffix(".py")):
        if name.partition(".")[0] == PACKAGE.name and file.exists():
            return file
    return None


def test_no_two_files_know_each_other() -> None:
    """Architecture: imports form no circle of files, however long, and wherever in a file they stand."""
    known = {module: _imported_files(module) for module in PACKAGE.rglob("*.py")}
    # What imports nothing that is left can be taken away; what cannot be taken away lies in a circle or above one.
    while free := {module for module, others in known.items() if not others & known.keys()}:
        known = {module: others for module, others in known.items() if module not in free}
    while top := known.keys() - set().union(*known.values()):
        known = {module: others for module, others in known.items() if module not in top}
    circle = {
        str(module.relative_to(ROOT)): [
            str(other.relative_to(ROOT)) for other in sorted(others & known.keys())
        ]
        for module, others in sorted(known.items())
    }
    assert circle == {}, "these files import each other"


def test_the_columns_know_no_outside_world() -> None:
    """Design: transform knows nothing of HTTP, files, clocks or logs."""
    forbidden = {"requests", "urllib3", "logging", "pathlib", "os", "time", "sqlite3", "socket"}
    for module in (PACKAGE / "transform").glob("*.py"):
        imported = set()
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
        assert not imported & forbidden, f"{module.name} imports {sorted(imported & forbidden)}"


def test_there_is_one_door_to_the_columns() -> None:
    """Design: whoever needs entries calls ``batch``; nobody else chains the transform and the gate."""
    allowed = {"transform_bookings": {"__init__", "batch"}, "split": {"batch", "check"}}
    for module in (path for path in PACKAGE.rglob("*.py") if _room(path) not in ("transform", "schema")):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pipeline."):
                for name in {alias.name for alias in node.names} & allowed.keys():
                    assert _room(module) in allowed[name], f"{module.relative_to(ROOT)} imports {name}"


def test_commands_print_by_one_harmless_way() -> None:
    """House rule: what a command shows passes ``exits.say`` or ``render.terminal``, so that no text acts."""
    own = {"exits.py": {"typer.echo", "typer.secho"}, "render.py": {"Console"}}
    printing = {
        "print",
        "typer.echo",
        "typer.secho",
        "click.echo",
        "Console",
        "sys.stdout.write",
        "sys.stderr.write",
    }
    for module in (*(PACKAGE / "commands").glob("*.py"), PACKAGE / "cli.py"):
        called = {
            ast.unparse(node.func)
            for node in ast.walk(ast.parse(module.read_text()))
            if isinstance(node, ast.Call)
        }
        assert not called & printing - own.get(module.name, set()), module.name


def test_help_loads_nothing_heavy() -> None:
    """Issue promise: `calpendo-pipeline --help` starts fast because heavy imports stay lazy."""
    loaded = f"[name for name in {HEAVY!r} if name in sys.modules]"
    code = f"import sys, pipeline.cli; print({loaded}); import pipeline.backfill.coordinator; print({loaded})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    of_the_command, of_a_backfill = done.stdout.splitlines()
    assert of_the_command == "[]"
    # What coordinates a backfill waits for hours while its workers do the columns: 26 MB less.
    assert "polars" not in of_a_backfill
