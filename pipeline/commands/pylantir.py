"""``calpendo-pipeline pylantir``: Pylantir's own command with this package's Calpendo plugin in it."""

from __future__ import annotations

import os

import typer

from pipeline.commands.exits import exit_codes, say

PASS_ALL_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


def pylantir(context: typer.Context) -> None:
    """Start Pylantir with this plugin: takes every argument of Pylantir's own command, such as `start`.

    Example: calpendo-pipeline pylantir start --pylantir_config mwl_config.json --AEtitle WORKLIST --port 4242
    """
    # A day's bookings need no threads, and polars, once it is loaded, has one for each core, with memory of its own.
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    with exit_codes():
        try:
            from pipeline.pylantir import run
        except ImportError as error:
            say(str(error), err=True)
            raise typer.Exit(2) from None
        run(context.args)
