"""The dialog of ``init``: questions in a terminal, each with a proposal that Enter takes. Ctrl-C ends it anywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pipeline.display import visible
from pipeline.errors import PluginConfigError

T = TypeVar("T")


class Dialog:
    """Asks a person. Every answer is a value, never a text to be parsed by the caller.

    Raises:
        KeyboardInterrupt: Ctrl-C, in any of the questions.
    """

    def text(
        self, question: str, default: str = "", *, check: Callable[[str], str | None] | None = None
    ) -> str:
        """Ask for a text; ``check`` says what is wrong with one, or None."""
        import questionary

        def valid(given: str) -> bool | str:
            return True if check is None else check(given.strip()) or True

        answer: str = questionary.text(visible(question), default=default, validate=valid).unsafe_ask()
        return answer.strip()

    def password(self, question: str) -> str:
        """Ask for a password, without echo."""
        import questionary

        return str(questionary.password(visible(question)).unsafe_ask())

    def confirm(self, question: str, *, default: bool) -> bool:
        """Ask for yes or no."""
        import questionary

        return bool(questionary.confirm(visible(question), default=default).unsafe_ask())

    def choose(self, question: str, answers: Mapping[str, T], default: str | None = None) -> T:
        """Ask for one of several answers; returns the value of the one that was chosen."""
        import questionary

        choices = [questionary.Choice(visible(title), value=title) for title in answers]
        found: str = questionary.select(
            visible(question), choices=choices, default=default, instruction="(arrows, Enter)"
        ).unsafe_ask()
        return answers[found]

    def tick(self, question: str, answers: Mapping[str, bool]) -> list[str]:
        """Ask which of several are wanted; those that are true are ticked already. At least one has to be."""
        import questionary

        choices: list[Any] = [
            questionary.Choice(visible(title), value=title, checked=ticked)
            for title, ticked in answers.items()
        ]
        found: list[str] = questionary.checkbox(
            visible(question),
            choices=choices,
            instruction="(Space ticks, Enter goes on)",
            validate=lambda given: True if given else "At least one of them.",
        ).unsafe_ask()
        return found


def dialog() -> Dialog:
    """Return a dialog with the person at this terminal.

    Raises:
        PluginConfigError: nobody is there: input or output is no terminal.
    """
    import sys

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise PluginConfigError("a dialog needs a terminal; add --yes to take the proposals without one")
    return Dialog()


def listed(names: Sequence[str]) -> str:
    """Return names as a list in a sentence."""
    return ", ".join(names) if names else "none"
