"""``calpendo-pipeline verify``: is everything in place? One line per check, with what to do (T025)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.arguments import AnySource, ConfigFile

_OF_THE_MACHINE = ("environment", "login", "Pylantir")
"""Checks that say the same for every source of a file; they are shown once."""
_STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red", "skipped": "dim"}


def verify(
    config: ConfigFile,
    source: AnySource = None,
    at_least: Annotated[
        float,
        typer.Option(min=0, max=100, help="Percent of the bookings that a field's patterns have to match."),
    ] = 80.0,
) -> None:
    """Check environment, configuration, login, server, resource names, zone data and registration, and try the mapping.

    Writes nothing and fetches no booking's details. Exit code 0: ready; 1: something has to be fixed first, in any source.
    """
    from rich.text import Text

    from pipeline.commands.render import plain, terminal
    from pipeline.verify import Check, State, Verification
    from pipeline.verify import verify as run_checks
    from pipeline.wording import counted

    console = terminal()
    names = [source] if source is not None else _sources(config)
    found: list[Check] = []
    for name in names:
        if len(names) > 1:
            console.print(plain(f"source {name!r}:"), style="bold")
        checks = run_checks(config, name, at_least=at_least).checks
        width = max(len(check.name) for check in checks)
        for check in checks:
            if check.name in _OF_THE_MACHINE and check in found:
                continue
            found.append(check)
            line = Text.assemble(
                (f"{check.state:<8}", _STYLES[check.state]), f"{check.name:<{width}}  ", plain(check.found)
            )
            if check.advice:
                line.append("\n" if console.wraps else "")
                line.append(plain(f"  → {check.advice}", "bold"))
            console.print(line)
    whole = Verification(tuple(found))
    failures, warnings = whole.count(State.FAILED), whole.count(State.WARNING)
    if not whole.passed:
        console.print(f"Not ready: {failures} failed, {warnings} with a warning.")
        raise typer.Exit(1)
    console.print(f"Ready, with {counted(warnings, 'warning')}." if warnings else "Ready.")


def _sources(config: Path) -> list[str | None]:
    """Return the sources of a file; None where the verification has to report what is wrong with it."""
    from pipeline.config.file import read_sources
    from pipeline.errors import PluginConfigError

    try:
        names = [each.name for each in read_sources(config)]
    except PluginConfigError:
        names = []
    return [*names] or [None]
