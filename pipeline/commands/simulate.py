"""``calpendo-pipeline simulate``: the simulated Calpendo in the foreground, for trying Pylantir without a server."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.exits import exit_codes, say


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
    write_config: Annotated[
        Path | None,
        typer.Option(
            help="Write a configuration for this server to a new file, ready for run, verify and Pylantir.",
            dir_okay=False,
        ),
    ] = None,
) -> None:
    """Serve the sample bookings, moved to today, until Ctrl-C."""
    import signal
    import threading

    from pipeline.simulator import CalpendoSimulator

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        simulator = CalpendoSimulator(port=port, generation=generation.value if generation else None)
    except OSError as error:
        say(f"Port {port} cannot be opened: {error.strerror}. Choose another with --port.", err=True)
        raise typer.Exit(1) from error
    with exit_codes(), simulator:
        say(f"Simulated Calpendo at {simulator.url} (api_path /webdav or /api); Ctrl-C stops it.")
        say("In another terminal:")
        say(f"  export CALPENDO_USERNAME={simulator.username} CALPENDO_PASSWORD={simulator.password}")
        if write_config is None:
            say(f'and point a configuration at it: "base_url": "{simulator.url}"')
        else:
            _write_config(write_config, simulator.url)
            say(f"  calpendo-pipeline run --config {write_config}")
        stop.wait()
    say("Stopped.")


def _write_config(path: Path, url: str) -> None:
    """Write the sample's source with this server's address, as Pylantir reads it; never over another file."""
    import json

    from pipeline.errors import PluginConfigError
    from pipeline.simulator.sample import sample_config

    source = {
        "name": "simulated",
        "type": "calpendo",
        "sync_interval": 60,
        "config": {**sample_config(), "base_url": url},
    }
    try:
        with path.open("x", encoding="utf-8") as file:
            json.dump({"data_sources": [source]}, file, indent=2, ensure_ascii=False)
    except FileExistsError:
        raise PluginConfigError(f"--write-config: {path} is there already; name a new file") from None
    except OSError as error:
        raise PluginConfigError(f"--write-config: {path} cannot be written ({error.strerror})") from None
