"""``calpendo-pipeline init``: asks what a site needs to be asked, shows what comes out, and writes the configuration."""

from __future__ import annotations

from inspect import signature
from typing import Any

from pipeline.commands.arguments import InitOptions
from pipeline.commands.exits import exit_codes


def init(**given: Any) -> None:
    """Ask for what a site needs, show what comes out of its titles, write the configuration, and verify it.

    Nothing is written before the end: Ctrl-C leaves everything as it was. Exit code 0: written and ready; 1: the server
    did not answer, nothing was written, or the verification failed; 2: the call or the configuration is wrong.
    """
    with exit_codes():
        from pipeline.commands.init_dialog import carry_out

        carry_out(InitOptions(**given))


# Typer reads a command's options from its signature.
vars(init)["__signature__"] = signature(InitOptions, eval_str=True)
