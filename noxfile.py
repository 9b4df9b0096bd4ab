"""Sessions behind every command in CONTRIBUTING.md and behind ``.ci/run``: ``nox -l`` lists them.

Each session has an environment of its own, made by uv where it is installed, else by virtualenv, with the Python that
runs nox unless its name says another. ``nox -R`` reuses the environments of the last run; arguments after ``--`` are
handed on to pytest.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import nox

ROOT = Path(__file__).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = nox.project.python_versions({"project": PROJECT})
SAMPLE, LABELS = "data/bookings.ndjson", "data/expected_entries.ndjson"

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "tests"]


@nox.session
def tests(session: nox.Session) -> None:
    """The default run, about three minutes on two cores."""
    session.install("-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def slow(session: nox.Session) -> None:
    """The slow proofs: kills, state machines, real worklist servers, the browser, several processes."""
    session.install("-e", ".[test]")
    # Two processes, a file to each in turn, so that tests which share a server or a folder do not meet.
    beside = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
    session.run("pytest", "-m", "slow", "--timeout", "1200", "--durations", "15", *beside, *session.posargs)


@nox.session
def nightly(session: nox.Session) -> None:
    """The longest proofs: hundreds of kills, and thirty random days on real worklist servers."""
    session.install("-e", ".[test]")
    session.run("pytest", "-m", "nightly", "-n", "0", "--timeout", "7200", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Lint, format and types."""
    session.install("-e", ".[test]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session
def contract(session: nox.Session) -> None:
    """The emitted columns against the versioned contract; the mapping against every hand-made label."""
    session.install(".")
    session.run("python", "-m", "pipeline.contract")
    session.run("calpendo-pipeline", "check", LABELS)
    session.run(
        "calpendo-pipeline", "audit", SAMPLE, "--expected", LABELS, "--fail-under", "100", silent=True
    )


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation as a site in site/, without a warning; ``nox -s docs -- serve`` shows it while you write."""
    session.install("-e", ".[docs]")
    serve = session.posargs == ["serve"]
    session.run("mkdocs", *(["serve"] if serve else ["build", "--strict"]), env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session(python="3.12")
def coverage(session: nox.Session) -> None:
    """The default run under coverage, subprocesses too, on a Python whose own monitoring makes that cheap."""
    session.install("-e", ".[test]", "coverage>=7.10")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report", "--skip-covered")


@nox.session(python=PYTHONS)
def pythons(session: nox.Session) -> None:
    """Acceptance, unit and delivery tests on each Python that the package claims."""
    session.install(".[test]")
    session.run("pytest", "tests/acceptance", "tests/unit", "tests/integration/delivery", *session.posargs)


@nox.session(venv_backend="uv")
def lower_bounds(session: nox.Session) -> None:
    """The default run with the oldest dependencies that pyproject.toml allows; needs uv."""
    session.install("--resolution", "lowest-direct", ".")
    # The tools that test and the extras are the newest ones: it is not their age that is in question.
    session.install(".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Timings, on a quiet machine: the tables of docs/benchmarks, about half an hour."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.benchmarks", *session.posargs)
