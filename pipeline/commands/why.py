"""``calpendo-pipeline why``: why a booking is on the scanner's list, or why it is not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.commands.arguments import AnySource, AsJson, ConfigFile, Text, told
from pipeline.commands.exits import FAILED, exit_codes, say

if TYPE_CHECKING:
    from pipeline.trace import Trace

_WHOLE = 3
"""So many verdicts at most are shown with all their steps; of more, what decided each."""


def why(
    config: ConfigFile,
    booking: Annotated[
        Text,
        typer.Argument(
            metavar="BOOKING",
            help="A booking's number. Without it, a text to search for in titles and ids is asked for, or read from"
            " standard input: what stands in a command line stays in the shell's history.",
        ),
    ] = None,
    today: Annotated[bool, told("All bookings of the site's day.", "--today")] = False,
    source: AnySource = None,
    reveal: Annotated[bool, told("Show titles and values as they are: patients' data.", "--reveal")] = False,
    as_json: AsJson = False,
) -> None:
    """Explain why a booking is on the list or not: every step it passed, which one decided, and what to do.

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
        from pipeline.commands.render import plain, terminal

        console = terminal()
        for line, style in _lines(found, config, today=today):
            console.print(plain(line, style))
    if not found.answered:
        raise typer.Exit(FAILED)


def _asked_text() -> str:
    """Ask for a text at the terminal; elsewhere take the first line of standard input."""
    if sys.stdin.isatty():
        return str(typer.prompt("Part of the title, the subject's id, or the booking's number", err=True))
    return sys.stdin.readline().strip()


def _lines(found: Trace, config: Path, *, today: bool) -> Iterator[tuple[str, str]]:
    """Yield what is shown, line by line, with its style: every step of a few bookings, of more what decided."""
    yield from ((note, "yellow") for note in found.notes)
    if not found.verdicts:
        yield "There are no bookings today." if today else "No booking was found.", ""
    is_whole = len(found.verdicts) <= _WHOLE
    for place, verdict in enumerate(found.verdicts):
        if place and is_whole:
            yield "", ""
        yield verdict.answer, "bold green" if verdict.on_list else "bold yellow"
        for step in verdict.steps:
            if is_whole:
                name = f"> {step.name} (this decided)" if step.decided else f"  {step.name}"
                yield name, "bold" if step.decided else "dim"
                yield f"    {step.found}", ""
            if step.advice and (is_whole or (step.decided and step.advice != "Nothing.")):
                yield f"    → {step.advice}", ""
    if not is_whole:
        on_list = sum(verdict.on_list for verdict in found.verdicts)
        yield f"{on_list} of {len(found.verdicts)} bookings are on the list now or with the next cycle.", ""
        yield f"Every step of one: calpendo-pipeline why NUMBER --config {config}", ""
