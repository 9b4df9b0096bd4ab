"""``calpendo-pipeline verify``: is everything in place? One line a check, with what to do (T025)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red", "skipped": "dim"}


def verify(
    config: Annotated[
        Path, typer.Option(help="Pylantir's configuration file, or one source's config object.")
    ],
    source: Annotated[
        str | None, typer.Option(help="The source's name, where the file holds several.")
    ] = None,
) -> None:
    """Check environment, configuration, login, server, resource names, zone data and registration.

    Writes nothing and fetches no booking's details. Exit code 0: ready; 1: something has to be mended first.
    """
    from rich.text import Text

    from pipeline.commands.render import plain, terminal
    from pipeline.verify import State
    from pipeline.verify import verify as run_checks

    console = terminal()
    verification = run_checks(config, source)
    width = max(len(check.name) for check in verification.checks)
    for check in verification.checks:
        line = Text.assemble(
            (f"{check.state:<8}", _STYLES[check.state]), f"{check.name:<{width}}  ", plain(check.found)
        )
        if check.advice:
            line.append(plain(f"  → {check.advice}", "bold"))
        console.print(line)
    failures, warnings = verification.count(State.FAILED), verification.count(State.WARNING)
    if not verification.passed:
        console.print(f"Not ready: {failures} failed, {warnings} with a warning.")
        raise typer.Exit(1)
    console.print(f"Ready, with {warnings} warnings." if warnings else "Ready.")
