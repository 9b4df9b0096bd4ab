"""``calpendo-pipeline demo``: the whole pipeline over real HTTP, with nothing to set up and nothing left behind."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.commands.exits import exit_codes


def demo(
    quiet: Annotated[bool, typer.Option("--quiet", help="Show the report only, not the entries.")] = False,
) -> None:
    """Start a simulated Calpendo with sample bookings and turn them into worklist entries.

    Needs no configuration, no credentials and no network; leaves no file behind. The subjects are invented.
    """
    import logging

    from pipeline.commands.render import entries_table, terminal
    from pipeline.config.credentials import Credentials
    from pipeline.plugin import CalendoPlugin
    from pipeline.simulator import CalpendoSimulator
    from pipeline.simulator.sample import sample_config

    # The report tells what the log's warnings would.
    logging.basicConfig(level=logging.CRITICAL)
    console = terminal()
    with exit_codes(), CalpendoSimulator() as simulator:
        console.print(
            f"A simulated Calpendo answers at {simulator.url} with invented bookings, moved to today."
        )
        config = {**sample_config(), "base_url": simulator.url, "state_path": ":memory:"}
        credentials = Credentials(simulator.username, simulator.password)
        with CalendoPlugin("demo", config, credentials=credentials) as plugin:
            plugin.validate_config()
            entries = plugin.fetch_entries(sync_interval=3600)
            if not quiet:
                console.print(entries_table(entries, zone=str(config.get("output_timezone", "UTC"))))
            console.print(plugin.last_report.to_text())
    console.print("Next: calpendo-pipeline init writes the configuration of your own site.", style="bold")
