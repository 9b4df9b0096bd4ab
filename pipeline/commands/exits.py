"""What a command's exit code means: 0 done, 1 the run failed, 2 the configuration or the call is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from pipeline.errors import PluginConfigError, PluginError

FAILED = 1
MISCONFIGURED = 2


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn this package's errors into a message on standard error and the exit code that belongs to them."""
    try:
        yield
    except PluginConfigError as error:
        typer.secho("Configuration refused:", fg=typer.colors.RED, bold=True, err=True)
        for fault in error.faults:
            typer.echo(f"  - {fault}", err=True)
        raise typer.Exit(MISCONFIGURED) from error
    except PluginError as error:
        typer.secho(f"{type(error).__name__}: {error}", fg=typer.colors.RED, err=True)
        raise typer.Exit(FAILED) from error
