"""What a command says, made harmless, and what its exit code means: 0 done, 1 failed, 2 wrong configuration or call."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from pipeline.display import visible
from pipeline.errors import PluginConfigError, PluginError, PluginFetchError, PluginStateError

ConfigFile = Annotated[
    Path | None, typer.Option(help="Pylantir's configuration file; without it, this user's only source.")
]
OneSource = Annotated[str | None, typer.Option(help="The source's name, where the file holds several.")]
AnySource = Annotated[str | None, typer.Option(help="Only this source; without it, all sources of the file.")]
"""Options of several commands."""

FAILED = 1
MISCONFIGURED = 2
LINES = "\n"

_HEADINGS = {PluginFetchError: "Fetch failed", PluginStateError: "Cannot go on", PluginError: "Failed"}


class Command(TyperCommand):
    """A command whose ``--help`` breaks lines where the terminal ends, and shows no type beside a flag that takes no value."""

    def __init__(self, *args: Any, help: str | None = None, **options: Any) -> None:  # noqa: A002  Typer's name
        """Take Typer's arguments."""
        paragraphs = textwrap.dedent(help or "").strip().split("\n\n")
        super().__init__(*args, help="\n\n".join(" ".join(each.split()) for each in paragraphs), **options)

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters."""
        params: list[Any] = super().get_params(ctx)
        for param in params:
            if getattr(param, "is_flag", False):
                param.metavar = ""
        return params


def say(text: str, *, err: bool = False, fg: str | None = None, bold: bool | None = None) -> None:
    """Write a text, or JSON, to standard output or standard error; nothing in it acts on the terminal.

    What goes to standard error is for people: it is broken between words where the terminal, or ``COLUMNS``, ends.
    """
    if err:
        _complain((text, f"{'bold ' if bold else ''}{fg or ''}".strip()))
    else:
        typer.secho(visible(text, keep=LINES), fg=fg, bold=bold)


def _complain(*parts: tuple[str, str]) -> None:
    """Write parts of a text, each with its style, to standard error."""
    from rich.text import Text

    from pipeline.commands.render import terminal

    shown = [(visible(text, keep=LINES), style) for text, style in parts]
    terminal(err=True).print(Text.assemble(*shown))


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn this package's errors into a message on standard error and the exit code that belongs to them."""
    try:
        yield
    except PluginConfigError as error:
        text = str(error)
        if len(error.faults) > 1 and "\n" not in text:
            text = "".join(f"\n  - {fault}" for fault in error.faults)
        _say("Refused", text)
        raise typer.Exit(MISCONFIGURED) from error
    except PluginError as error:
        heading = next(heading for kind, heading in _HEADINGS.items() if isinstance(error, kind))
        text, _, asked = str(error).partition("; GET ")
        _say(heading, text)
        if asked:
            say(f"  It asked for {asked}", err=True)
        raise typer.Exit(FAILED) from error


def unforeseen(error: Exception) -> int:
    """Say the kind and place of an error that no command expected, and return the exit code.

    Its text is left out, because it may hold a patient's name; but the system's own words about a file are shown.
    """
    if isinstance(error, OSError) and error.strerror:
        told = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        if isinstance(error, PermissionError):
            told += "; call it as the user to whom the file belongs (beside a service: docs/operating.md)"
        _say("Failed", told)
        return FAILED
    import traceback

    _say("A fault of this program", f"{type(error).__name__}; please report it with these lines:")
    say("".join(traceback.format_tb(error.__traceback__)).rstrip(), err=True)
    say("The error's text is left out, because it may hold a patient's name.", err=True)
    return FAILED


def _say(heading: str, text: str) -> None:
    _complain((f"{heading}:", "bold red"), (f" {text}", ""))
