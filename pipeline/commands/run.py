"""``calpendo-pipeline run``: one real cycle against a configured server, or the plan of one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.commands.exits import FAILED, exit_codes, say

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline.plugin import CalendoPlugin
    from pipeline.report import RunReport


def run(
    config: Annotated[
        Path, typer.Option(help="Pylantir's configuration file, or one source's config object.")
    ],
    source: Annotated[
        str | None, typer.Option(help="The source's name, where the file holds several.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Write the entries to a .parquet, .ndjson or .csv file, replacing it.", dir_okay=False
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show what would change; keep ledger and quarantine as they are."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print entries and report as JSON.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log each step to standard error.")
    ] = False,
) -> None:
    """Fetch the window's bookings once and emit what is new, changed or withdrawn since the last run.

    Exit code 0: done; 1: the fetch failed and nothing was recorded as delivered, or a booking that has not ended yet is
    still left after several runs; 2: the configuration is wrong.
    """
    with exit_codes():
        import logging

        from pipeline.commands.render import HarmlessLines, terminal
        from pipeline.config_file import select_source
        from pipeline.delivery.ledger_file import CALLER, output_host
        from pipeline.output import refuse_unusable_path
        from pipeline.plugin import CalendoPlugin

        if output is not None:
            refuse_unusable_path(output)
        # The exit code and one message tell of a failure; the log's lines come with --verbose.
        handler = logging.StreamHandler()
        handler.setFormatter(HarmlessLines("%(asctime)s %(levelname)s %(message)s"))
        logging.basicConfig(level=logging.WARNING if verbose else logging.CRITICAL, handlers=[handler])
        if verbose:
            logging.getLogger("pipeline").setLevel(logging.DEBUG)
        settings = select_source(config, source)
        # Delivered is what has been written or shown, not what has merely been fetched.
        options = {**settings.config, "acknowledge": "explicit"}
        console = terminal()
        host = CALLER if output is None else output_host(output)
        with CalendoPlugin(settings.name, options, host=host) as plugin:
            plugin.validate_config()
            if dry_run:
                _show_plan(plugin, settings.sync_interval, console, as_json=as_json)
            else:
                _run(plugin, settings.sync_interval, output, console, as_json=as_json)


def _run(
    plugin: CalendoPlugin, sync_interval: float, output: Path | None, console: Console, *, as_json: bool
) -> None:
    from pipeline.batch import process_batch
    from pipeline.commands.render import entries_table
    from pipeline.config import PipelineConfig
    from pipeline.output import write_entries

    checked = PipelineConfig.of(plugin.config, source=plugin.source_name, offline=False)
    entries = plugin.fetch_entries(sync_interval)
    if output is not None:
        write_entries(entries, output, process_batch([], checked).entries.schema)
    report = _with_what_is_shown(plugin.last_report)
    if as_json:
        say(_json({"entries": entries, "report": report.to_dict()}))
    else:
        if output is not None:
            console.print(f"{len(entries)} entries written to {output}")
        elif entries:
            console.print(entries_table(entries, zone=checked.output_timezone))
        else:
            console.print("Nothing is new, changed or withdrawn since the last run.")
        console.print(report.to_text())
    plugin.acknowledge(entry["source_record_id"] for entry in entries)
    if report.left_behind:
        say(
            f"{report.left_behind} bookings are still left after several runs: see the report's warnings, and"
            " `calpendo-pipeline status`",
            fg=typer.colors.RED,
            err=True,
        )
        raise typer.Exit(FAILED)


def _show_plan(plugin: CalendoPlugin, sync_interval: float, console: Console, *, as_json: bool) -> None:
    from pipeline.commands.render import plan_table

    plan = plugin.plan(sync_interval)
    report = _with_what_is_shown(plan.report)
    if as_json:
        say(_json({"changes": plan.changes.to_dicts(), "report": report.to_dict()}))
        return
    console.print(plan_table(plan.changes, plan.entries))
    console.print(report.to_text())
    console.print("Nothing was changed: this was a plan.", style="bold")


def _with_what_is_shown(report: RunReport) -> RunReport:
    """Give the report as it is once the entries are written or shown: none of them waits any more."""
    from dataclasses import replace

    return replace(report, pending=max(report.pending - report.returned, 0))


def _json(document: dict[str, Any]) -> str:
    """Render entries as JSON; dates and times are ISO 8601, in the zone they were emitted in."""
    import json

    return json.dumps(document, default=str, ensure_ascii=False)
