"""The documents stay true: links lead somewhere, and the commands that CI takes from the README are there."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

import pipeline
from pipeline.cli import app
from pipeline.transform.reasons import REPAIRS

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("data/*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def _text_without_code(document: Path) -> str:
    return re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)


def _anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", _text_without_code(document), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    """Docs promise: every link to a file or heading of the repository leads to one that exists."""
    for target in LINK.findall(_text_without_code(document)):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        linked = (document.parent / name).resolve() if name else document
        assert linked.exists(), f"{document.name}: {target} leads nowhere"
        if anchor and linked.suffix == ".md":
            assert anchor in _anchors(linked), f"{document.name}: {target}: no such heading"


@pytest.mark.parametrize(
    "document",
    [page for page in DOCUMENTS if page.name != "CHANGELOG.md"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_what_is_named_exists(document: Path) -> None:
    """Docs promise: every file, module and name of the package that a document names is there."""
    text = document.read_text(encoding="utf-8")
    named = re.findall(r"(?<![\w./-])((?:pipeline|tests|docs|data|notebooks)/[\w./-]*\w/?)", text)
    if document.name == "ARCHITECTURE.md":
        named += [
            f"pipeline/{name}" for name in re.findall(r"`([\w/]+(?:\.py|/))`", text) if "tests" not in name
        ]
    assert [name for name in named if not (ROOT / name).exists()] == []
    for room in re.findall(r"(?:`|python -m |from )(?:pipeline|tests)\.(\w+)", text):
        places = (f"{folder}/{room}{end}" for folder in ("pipeline", "tests") for end in ("", ".py"))
        assert room in pipeline.__all__ or any((ROOT / place).exists() for place in places), room


def _ci(function: str, call: str) -> str:
    """Call a shell function of ``.ci/run``."""
    script = (ROOT / ".ci/run").read_text()
    found = re.search(rf"^{function}\(\) \{{\n.*?^\}}$", script, flags=re.DOTALL | re.MULTILINE)
    assert found
    command = ["bash", "-c", f"{found.group()}\n{call}"]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()


@pytest.mark.parametrize(
    ("name", "command"),
    [("demo", "pip install . && calpendo-pipeline demo"), ("test", "pip install '.[test]' && pytest")],
)
def test_ci_runs_the_commands_of_the_first_screen(name: str, command: str) -> None:
    """Issue promise: both commands stand in the README's first screen, and .ci/run takes them from there."""
    assert _ci("readme_block", f"readme_block {name}") == command
    assert command in "\n".join((ROOT / "README.md").read_text().splitlines()[:40])


def test_what_is_on_no_index_is_installed_from_the_checkout() -> None:
    """Docs promise: no document, message or file tells to install this package by its name from an index."""
    shown = [*DOCUMENTS, *(ROOT / "pipeline").rglob("*.py"), *(ROOT / "data").iterdir()]
    by_name = re.compile(r"pip install[^\n]*calpendo-pipeline(\[|\b(?! demo))")
    told = [str(path.relative_to(ROOT)) for path in shown if path.is_file() and path.name != "CHANGELOG.md"]
    assert [name for name in told if by_name.search((ROOT / name).read_text(encoding="utf-8"))] == []


def test_ci_tests_every_python_that_is_claimed() -> None:
    """Promise: .ci/run takes the Pythons from the classifiers; README and lower bound name the same ones."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    claimed = re.findall(r"Python :: (3\.\d+)$", "\n".join(project["classifiers"]), flags=re.MULTILINE)
    assert _ci("claimed_pythons", "claimed_pythons").split() == claimed
    assert project["requires-python"] == f">={claimed[0]}"
    assert f"Python {', '.join(claimed[:-1])} or {claimed[-1]}" in (ROOT / "README.md").read_text()


def test_the_docs_name_every_command() -> None:
    """Docs promise: each command of `calpendo-pipeline` has its row in the page of commands."""
    page = (ROOT / "docs/commands.md").read_text()
    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert len(commands) >= 10
    for name in commands:
        assert re.search(rf"^\| `{name}[ `]", page, flags=re.MULTILINE), f"{name} has no row"


def test_the_docs_explain_each_repair_in_the_program_s_words() -> None:
    """Docs promise: the table of repairs says what report and audit say, meaning and remedy."""
    table = (ROOT / "docs/transformation.md").read_text(encoding="utf-8")
    for kind, reason in REPAIRS.items():
        meaning = reason.meaning.format(field="The field")
        assert f"| `{kind}` | {meaning} | {reason.remedy} |" in table


def test_every_session_that_is_named_is_there() -> None:
    """Docs promise: CONTRIBUTING, .ci/run and the workflows call sessions that noxfile.py has, and leave none out."""
    sessions = set(re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text(), flags=re.MULTILINE))
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    assert {name.partition("-")[0] for name in re.findall(r"nox -s ([\w.-]+)", contributing)} == sessions
    script = (ROOT / ".ci/run").read_text()
    called = set(re.findall(r"run_session \"?(\w+)", script))
    called |= set(re.findall(r"for session in ([^;]*);", script)[0].split())
    hosted = "".join(path.read_text() for path in (ROOT / ".github/workflows").glob("*.yml"))
    called |= set(re.findall(r"-s (\w+)", hosted))
    called |= {name.partition("-")[0] for name in re.findall(r"session: \[(.*)\]", hosted)[0].split(", ")}
    assert sessions - called == {"benchmarks"}
    assert called <= sessions
