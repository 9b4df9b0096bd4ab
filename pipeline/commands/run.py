"""``calpendo-pipeline run``: real cycles against a configured server, one or one after another, or the plan of one."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.commands.exits import FAILED, Command, OneSource, exit_codes, say

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline.config.file import SourceSettings
    from pipeline.plugin import CalendoPlugin
    from pipeline.report import RunReport
    from pipeline.worklist_files.plugin import Kept, WorklistPlugin


SYNC_INTERVAL = "sync_interval"
"""What ``--every`` means without a value."""


class RunCommand(Command):
    """The command line of ``run``, in which ``--every`` may stand without a value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments."""
        given: list[str] = []
        for place, argument in enumerate(args):
            given.append(argument)
            if argument == "--every" and (place + 1 == len(args) or args[place + 1].startswith("-")):
                given.append(SYNC_INTERVAL)
        return super().parse_args(ctx, given)


def run(
    config: Annotated[
        Path, typer.Option(help="Pylantir's configuration file, or one source's config object.")
    ],
    source: OneSource = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Write the changes since the last run with this file to a .parquet, .ndjson or .csv file, replacing it: an"
            " empty one where nothing changed. With --full, the whole list.",
            dir_okay=False,
        ),
    ] = None,
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help="Give the whole list of the window, not the changes only; a withdrawn booking stays on it as DISCONTINUED.",
        ),
    ] = False,
    worklist_dir: Annotated[
        Path | None,
        typer.Option(
            help="Keep DICOM worklist files in this directory, for Orthanc or wlmscpfs; else the file's worklist_dir."
        ),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(
            help="Repeat until stopped, so often: 60s, 5m; without a value, at the file's sync_interval."
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
    """Fetch the window's bookings and emit what is new, changed or withdrawn since the last run.

    Exit code 0: done, or stopped; 1: the fetch failed and nothing was recorded as delivered, a file could not be written, or a
    booking that has not ended yet is still left after several runs; 2: the configuration is wrong.
    """
    with exit_codes():
        import logging

        from pipeline.commands.render import HarmlessLines, terminal
        from pipeline.config.file import select_source
        from pipeline.errors import PluginConfigError
        from pipeline.output import refuse_unusable_path

        if full and dry_run:
            raise PluginConfigError(
                "--full and --dry-run: a plan shows the changes; write one of them (calpendo-pipeline preview shows the"
                " whole list)"
            )
        if output is not None:
            refuse_unusable_path(output)
        if dry_run and every is not None:
            raise PluginConfigError("--every: a plan is shown once; leave one of --every and --dry-run out")
        # The exit code and one message tell of a failure; the log's lines come with --verbose.
        handler = logging.StreamHandler()
        handler.setFormatter(HarmlessLines("%(asctime)s %(levelname)s %(message)s"))
        logging.basicConfig(level=logging.WARNING if verbose else logging.CRITICAL, handlers=[handler])
        if verbose:
            logging.getLogger("pipeline").setLevel(logging.DEBUG)
        settings = select_source(config, source)
        interval = settings.sync_interval if every in (None, SYNC_INTERVAL) else _seconds(every or "")
        console = terminal()
        with _outlets(settings, output, worklist_dir, full=full) as outlets:
            if dry_run:
                _show_plan(outlets.first, interval, console, as_json=as_json)
            elif every is None:
                _show(outlets, outlets.cycle(interval), console, as_json=as_json)
            else:
                _repeat(outlets, interval, console, as_json=as_json)


def _seconds(every: str) -> float:
    from pipeline.commands.ledgers import duration
    from pipeline.errors import PluginConfigError

    seconds = duration(every).total_seconds()
    if seconds <= 0:
        raise PluginConfigError("--every: write a length of time above 0, such as 60s")
    return seconds


@dataclass
class Done:
    """What one cycle did: the first host's entries and report, and what became of the worklist directory.

    ``entries`` are those to show or to write: the changes, which are ``returned``, or the whole list.
    """

    entries: list[dict[str, Any]] = field(repr=False)
    returned: list[dict[str, Any]] = field(repr=False)
    report: RunReport
    kept: Kept | None = None


@dataclass
class Outlets:
    """Where a run's entries go: the screen or a file, a worklist directory, or a file and a directory."""

    shown: CalendoPlugin | None
    output: Path | None
    worklist: WorklistPlugin | None
    full: bool

    @property
    def plugins(self) -> list[CalendoPlugin]:
        """One for each host."""
        return [plugin for plugin in (self.shown, self.worklist) if plugin is not None]

    @property
    def first(self) -> CalendoPlugin:
        """The host whose entries and report are shown."""
        return self.plugins[0]

    def cycle(self, interval: float) -> Done:
        """Ask the server once and give each host what it does not have yet; raises ``PluginError``."""
        from pipeline.errors import PluginError, PluginFetchError
        from pipeline.plugin import fetch_for

        try:
            returned = fetch_for(self.plugins, interval)[0]
        except PluginFetchError:
            if self.worklist is not None:
                # What is past goes, and what is missing comes back, whether the server answers or not.
                self.worklist.keep_files()
            raise
        kept, failure = None, None
        try:
            kept = None if self.worklist is None else self.worklist.keep_files()
        except PluginError as error:
            failure = error  # The other host gets what is its own all the same.
        entries = self.first.whole_list() if self.full else returned
        if self.output is not None:
            self._write(entries)
        if failure is not None:
            raise failure
        report = self.first.last_report if self.shown is None else _with_what_is_shown(self.first.last_report)
        return Done(entries, returned, report, kept)

    def _write(self, entries: list[dict[str, Any]]) -> None:
        from pipeline.batch import process_batch
        from pipeline.output import write_entries

        assert self.output is not None  # noqa: S101 - its only caller asks
        write_entries(entries, self.output, process_batch([], self.first.settings).entries.schema)

    def acknowledge(self, done: Done) -> None:
        """Say that the entries are written or shown; those of a worklist directory are, where their files lie."""
        if self.shown is not None:
            # Of the whole list, the rest is acknowledged already.
            self.shown.acknowledge(entry["source_record_id"] for entry in done.returned)


@contextmanager
def _outlets(
    settings: SourceSettings, output: Path | None, worklist_dir: Path | None, *, full: bool
) -> Iterator[Outlets]:
    from pipeline.delivery.ledger import CALLER, output_host
    from pipeline.plugin import CalendoPlugin

    configured = settings.config.get("worklist_dir")
    directory = worklist_dir or (configured if isinstance(configured, str) and configured.strip() else None)
    # Delivered is what has been written or shown, not what has merely been fetched.
    options = {**settings.config, "acknowledge": "explicit"}
    shown, worklist = None, None
    with ExitStack() as stack:
        if output is not None or directory is None:
            host = CALLER if output is None else output_host(output)
            shown = stack.enter_context(CalendoPlugin(settings.name, options, host=host))
            shown.validate_config()
        if directory is not None:
            from pipeline.worklist_files.plugin import WorklistPlugin

            worklist = stack.enter_context(WorklistPlugin(settings.name, options, directory))
            worklist.validate_config()
        yield Outlets(shown, output, worklist, full)


def _show(outlets: Outlets, done: Done, console: Console, *, as_json: bool) -> None:
    from pipeline.commands.render import entries_table

    if as_json:
        say(_json(_document(outlets, done)))
    else:
        if outlets.output is not None:
            console.print(f"{len(done.entries)} entries written to {outlets.output}{_said(outlets, done)}")
        elif outlets.worklist is None and done.entries:
            console.print(entries_table(done.entries, zone=outlets.first.settings.output_timezone))
        elif outlets.worklist is None and outlets.full:
            console.print("No booking of the window is on the list.")
        elif outlets.worklist is None:
            console.print(
                "Nothing is new, changed or withdrawn since the last run. (--full shows the whole list.)"
            )
        if outlets.worklist is not None and done.kept is not None:
            console.print(f"{outlets.worklist.directory.path}: {done.kept.to_text()}")
        console.print(done.report.to_text())
    outlets.acknowledge(done)
    if done.report.left_behind:
        say(
            f"{done.report.left_behind} bookings are still left after several runs: see the report's warnings, and"
            " `calpendo-pipeline status`",
            fg=typer.colors.RED,
            err=True,
        )
        raise typer.Exit(FAILED)


def _said(outlets: Outlets, done: Done) -> str:
    """Say what kind of list was written, where that is not plain."""
    if outlets.full:
        return f": the whole list, with {len(done.returned)} that changed"
    if not done.entries:
        return ": nothing changed since the last run with this file; --full writes the whole list"
    return ""


def _repeat(outlets: Outlets, interval: float, console: Console, *, as_json: bool) -> None:
    """Run cycles until a signal says to stop, with one line for each."""
    from datetime import datetime
    from threading import Event

    from pipeline.commands.render import entries_table
    from pipeline.errors import PluginConfigError, PluginError, PluginStateError

    begun = False

    def cycle(stopping: Event) -> None:
        nonlocal begun
        at = f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S}"
        try:
            done = outlets.cycle(interval)
        except PluginError as error:
            # What is wrong at the start is for people to put right; later it may pass, as a full disk does.
            if not begun and isinstance(error, (PluginConfigError, PluginStateError)):
                raise
            if not stopping.is_set():
                text = str(error).partition("; GET ")[0].replace("\n", " ")
                say(f"{at} {outlets.first.source_name}: failed: {text}", err=True)
            return
        finally:
            begun = True
        if as_json:
            say(_json(_document(outlets, done)))
        else:
            if outlets.first is outlets.shown and outlets.output is None and done.entries:
                console.print(entries_table(done.entries, zone=outlets.first.settings.output_timezone))
            say(f"{at} {_line(done)}")
        outlets.acknowledge(done)

    until_stopped(cycle, interval, outlets.first.interrupt)


def _line(done: Done) -> str:
    """Return a cycle in one line; the report as a whole is in the history (``status``)."""
    report = done.report
    counts = ", ".join(
        f"{getattr(report, name)} {name}" for name in ("listed", "new", "changed", "withdrawn", "rejected")
    )
    waiting = [f"{count} {name}" for name, count in report.waiting.items()]
    if report.warnings:
        waiting.append(f"{len(report.warnings)} warnings (calpendo-pipeline status)")
    kept = [] if done.kept is None else [done.kept.to_text()]
    parts = [counts, *([", ".join(waiting)] if waiting else []), *kept, f"{report.total_seconds:.2f} s"]
    return f"{report.source}: {'; '.join(parts)}"


def _document(outlets: Outlets, done: Done) -> dict[str, Any]:
    document: dict[str, Any] = {"entries": done.entries, "report": done.report.to_dict()}
    if outlets.worklist is not None and done.kept is not None:
        document["worklist"] = {"directory": str(outlets.worklist.directory.path), **done.kept.to_dict()}
    return document


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
    """Return the report as it is once the entries are written or shown: none of them waits any more."""
    from dataclasses import replace

    return replace(report, pending=max(report.pending - report.returned, 0))


def _json(document: dict[str, Any]) -> str:
    """Render entries as JSON; dates and times are ISO 8601, in the zone they were emitted in."""
    import json

    return json.dumps(document, default=str, ensure_ascii=False)


_LOOK_AGAIN = 0.05


def until_stopped(
    task: Callable[[threading.Event], None], interval: float, interrupt: Callable[[], None]
) -> None:
    """Call ``task`` so often until a signal comes; never twice at once.

    A signal ends a pause at once. A task that is running is interrupted, as far as it can be, and finishes in order.

    Args:
        task: is given the event that says that an end was asked for.
        interval: seconds from one beginning to the next; a task that takes longer is followed by the next at once.
        interrupt: cuts what a running task waits for; called from another thread, more than once.
    """
    stopping, ended = threading.Event(), threading.Event()

    def cut() -> None:
        while not ended.is_set():
            interrupt()
            ended.wait(_LOOK_AGAIN)

    def stop(_number: int, _frame: FrameType | None) -> None:
        if not stopping.is_set():
            stopping.set()
            threading.Thread(target=cut, name="calpendo-stop", daemon=True).start()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        while not stopping.is_set():
            begun = time.monotonic()
            task(stopping)
            stopping.wait(max(interval - (time.monotonic() - begun), 0.0))
    finally:
        ended.set()
        for number, handler in before.items():
            signal.signal(number, handler)
