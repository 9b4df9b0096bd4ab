"""``calpendo-pipeline``: the thin shell over the library. Each command lives in ``pipeline/commands``.

Nothing heavy is imported here: polars, pandera, requests and rich wait inside the command that needs them.
"""

from __future__ import annotations

import sys
from io import TextIOWrapper

import typer

from pipeline.commands.audit import audit
from pipeline.commands.backfill import backfill
from pipeline.commands.check import check
from pipeline.commands.demo import demo
from pipeline.commands.exits import Command, say, unforeseen
from pipeline.commands.init import init
from pipeline.commands.preview import preview
from pipeline.commands.pylantir import PASS_ALL_ON, pylantir
from pipeline.commands.quarantine import quarantine_app
from pipeline.commands.run import RunCommand, run
from pipeline.commands.simulate import simulate
from pipeline.commands.status import status
from pipeline.commands.verify import verify
from pipeline.commands.why import why
from pipeline.processes import load_pandera_alone

app = typer.Typer(
    name="calpendo-pipeline",
    help="Calpendo bookings in, checked DICOM worklist entries out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (demo, init, verify, preview, run, status, why):
    app.command()(command)
app.add_typer(quarantine_app, name="quarantine")
for later in (audit, check, backfill, simulate):
    app.command()(later)
app.command("pylantir", context_settings=PASS_ALL_ON)(pylantir)
for told in (*app.registered_commands, *quarantine_app.registered_commands):
    told.cls = RunCommand if told.callback is run else Command


@app.callback(invoke_without_command=True)
def _options(
    version: bool = typer.Option(False, "--version", help="Show the version and stop."),
) -> None:
    if version:
        from pipeline.version import __version__

        say(f"calpendo-pipeline {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line."""
    load_pandera_alone()
    for stream in (sys.stdout, sys.stderr):
        # A terminal or a pipe that knows no Greek shows a name's letters as codes, instead of ending the command.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except Exception as error:
        sys.exit(unforeseen(error))
