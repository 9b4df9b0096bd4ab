"""``calpendo-pipeline why``: why a booking is on the scanner's list, or why it is not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.commands.arguments import AnySource, AsJson, ConfigFile
from pipeline.commands.exits import FAILED, exit_codes, say

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline.trace import Step, Verdict

_WHOLE = 3
"""So many verdicts at most are shown with all their steps; of more, what decided each."""


def why(
    config: ConfigFile,
    booking: Annotated[
        str | None,
        typer.Argument(
            metavar="BOOKING",
            help="A booking's number. Without it, a text to search for in titles and ids is asked for, or read from"
            " standard input: what stands in a command line stays in the shell's history.",
        ),
    ] = None,
    today: Annotated[bool, typer.Option("--today", help="All bookings of the site's day.")] = False,
    source: AnySource = None,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Show titles and values as they are: patients' data.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Tell why a booking is on the list or not: every step it passed, which one decided, and what to do.

    Asks Calpendo, reads the ledgers, the quarantine and Pylantir's database, and writes nothing; with Calpendo down it
    says what ledger and quarantine hold. Exit code 0: answered; 1: neither Calpendo nor a ledger knows the booking;
    2: the configuration or the number is wrong.
    """
    with exit_codes():
        import logging

        from pipeline import trace
        from pipeline.errors import PluginConfigError

        if booking is not None and today:
            raise PluginConfigError("--today is for all bookings of the day; leave it or the number out")
        number = None if booking is None else trace.booking_number(booking)
        # The answer tells of every failure; a log line beside it would say it twice.
        logging.basicConfig(level=logging.CRITICAL)
        text = None if number is not None or today else _asked_text()
        found = trace.why(number, config, text=text, source=source, reveal=reveal)
    if as_json:
        import json

        say(json.dumps(found.to_dict(), ensure_ascii=False))
    else:
        _show(found.notes, found.verdicts, config, today=today)
    if not found.answered:
        raise typer.Exit(FAILED)


def _asked_text() -> str:
    """Ask for a text at the terminal; elsewhere take the first line of standard input."""
    if sys.stdin.isatty():
        return str(typer.prompt("Part of the title, the subject's id, or the booking's number", err=True))
    return sys.stdin.readline().strip()


def _show(notes: tuple[str, ...], verdicts: tuple[Verdict, ...], config: Path, *, today: bool) -> None:
    from pipeline.commands.render import plain, terminal

    console = terminal()
    for note in notes:
        console.print(plain(note, "yellow"))
    if not verdicts:
        console.print("There are no bookings today." if today else "No booking was found.")
    for place, verdict in enumerate(verdicts):
        if place and len(verdicts) <= _WHOLE:
            console.print("")
        console.print(plain(verdict.answer, "bold green" if verdict.on_list else "bold yellow"))
        for step in verdict.steps:
            if len(verdicts) <= _WHOLE:
                _show_step(console, step)
            elif step.decided and step.advice not in ("", "Nothing."):
                _show_indented(console, f"→ {step.advice}")
    if len(verdicts) > _WHOLE:
        on_list = sum(verdict.on_list for verdict in verdicts)
        console.print(
            f"{on_list} of {len(verdicts)} bookings are on the list now or with the next cycle."
            f" Every step of one: calpendo-pipeline why NUMBER --config {config}"
        )


def _show_step(console: Console, step: Step) -> None:
    """Show a step: its name, marked where it decided, and below it what was found and what to do."""
    from pipeline.commands.render import plain

    name = f"> {step.name} (this decided)" if step.decided else f"  {step.name}"
    console.print(plain(name, "bold" if step.decided else "dim"))
    _show_indented(console, step.found)
    if step.advice:
        _show_indented(console, f"→ {step.advice}")


def _show_indented(console: Console, text: str) -> None:
    from pipeline.commands.render import plain

    console.print(plain(f"    {text}"))
