"""``calpendo-pipeline simulate``: the simulated Calpendo in the foreground, for trying Pylantir without a server."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Generation(StrEnum):
    """The two shapes of Calpendo's payloads."""

    A = "A"
    B = "B"


def simulate(
    port: Annotated[
        int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.", min=0, max=65535)
    ] = 8642,
    generation: Annotated[
        Generation | None,
        typer.Option(
            help="Answer with payloads of one generation only; default: both, mixed.", case_sensitive=False
        ),
    ] = None,
) -> None:
    """Serve the sample bookings, moved to today, until Ctrl-C."""
    import signal
    import threading

    from pipeline.calpendo.simulator import CalpendoSimulator

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        with CalpendoSimulator(port=port, generation=generation.value if generation else None) as simulator:
            typer.echo(f"Simulated Calpendo at {simulator.url} (api_path /webdav or /api); Ctrl-C stops it.")
            typer.echo("Point a configuration at it:")
            typer.echo(f'  "base_url": "{simulator.url}"')
            typer.echo(
                f"  export CALPENDO_USERNAME={simulator.username} CALPENDO_PASSWORD={simulator.password}"
            )
            stop.wait()
    except OSError as error:
        typer.secho(f"Port {port} cannot be opened: {error.strerror}. Choose another with --port.", err=True)
        raise typer.Exit(1) from error
    typer.echo("Stopped.")
