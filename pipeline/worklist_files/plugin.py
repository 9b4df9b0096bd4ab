"""``WorklistPlugin``: a directory of worklist files as a host, whose ledger says what it is to show.

What a cycle decides stands in the ledger before a file is touched. So the files follow from the ledger alone: after a cycle,
after a cycle that failed, after a kill, and in a directory that somebody emptied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any

import polars as pl
import pytz

from pipeline.calpendo.window import Window, window_for
from pipeline.config import PipelineConfig
from pipeline.delivery.ledger import (
    DATE_KEY,
    TIME_KEY,
    Line,
    from_text,
    microseconds,
    moment,
    worklist_host,
)
from pipeline.hosts import CarriedReport, adopt_unknown, server_place
from pipeline.plugin import CalendoPlugin
from pipeline.report import last_success
from pipeline.worklist_files.dataset import SHOWN, Item, worklist_item
from pipeline.worklist_files.directory import WorklistDirectory, sealed

_FORM = "1"
"""The form of the items; another one writes every file anew."""
_NAMED = 3
_NOT_OURS = "a file of its name is not this program's; remove it"


@dataclass(frozen=True)
class Kept:
    """What became of the directory: how many files it holds now, were written and removed, and what was held back.

    ``held_back`` says why, by booking, without a value.
    """

    files: int
    written: int = 0
    removed: int = 0
    held_back: Mapping[int, str] = field(default_factory=dict)

    def to_text(self) -> str:
        """Return it for people, in one line."""
        text = f"{self.files} worklist files, {self.written} written, {self.removed} removed"
        if not self.held_back:
            return text
        reasons = "; ".join(f"{number} {fault}" for number, fault in list(self.held_back.items())[:_NAMED])
        return f"{text}, {len(self.held_back)} bookings held back: {reasons}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready values."""
        return {**vars(self), "held_back": {str(number): fault for number, fault in self.held_back.items()}}


class WorklistPlugin(CalendoPlugin):
    """A ``CalendoPlugin`` that keeps a worklist server's directory: what it returns is delivered when it lies there.

    Args:
        source_name: the source's name.
        config: the source's ``config`` block.
        directory: where the files are kept.
        further: as for ``CalendoPlugin``.
    """

    def __init__(
        self, source_name: str, config: dict[str, Any], directory: str | Path, **further: Any
    ) -> None:
        self._path = Path(directory).expanduser().absolute()
        super().__init__(
            source_name, {**config, "acknowledge": "explicit"}, host=worklist_host(self._path), **further
        )
        self._carried = CarriedReport("on the worklist")

    @property
    def directory(self) -> WorklistDirectory:
        """The directory as the checked configuration has it."""
        return WorklistDirectory.of(self.settings, self._path)

    def validate_config(self) -> None:
        """Check configuration, credentials and directory; raises ``PluginConfigError``."""
        super().validate_config()
        self.directory.refuse_unusable(self.ledger_path())

    def before_cycle(self) -> None:
        """Take files that the ledger does not know for shown, so that each one's booking is asked for by its number."""
        zone = pytz.timezone(self.settings.timezone)
        found = {}
        for number, stored in self.directory.found().ours.items():
            start_utc = microseconds(self.now) if stored.start_utc is None else stored.start_utc
            start = moment(start_utc).astimezone(zone)
            found[number] = (start_utc, stored.end_utc, {DATE_KEY: start.date(), TIME_KEY: start.time()})
        adopt_unknown(self, found, "worklist files")

    def keep_files(self) -> Kept:
        """Bring the directory to what the ledger says, and acknowledge what lies there.

        Called after a cycle, also after one that failed: what is past goes, what is missing comes back.

        Raises:
            PluginError: the disk refuses; nothing counts as delivered.
        """
        config, ledger = self._ready()
        directory = self.directory
        directory.refuse_unusable(self.ledger_path())
        found = directory.found()
        now = self._clock()
        # What the window has reached since Calpendo answered last, nobody has asked for: it may have been moved meanwhile.
        window = window_for(config, min(now, last_success(ledger) or now), 0.0)
        longest = timedelta(hours=config.max_booking_hours)
        since = now - timedelta(hours=config.keep_past_hours)
        shown = _shown(ledger.lasting(SHOWN, window.end, since, longest), window, config)
        times = {number: (start, end) for number, _, _, start, end in shown.iter_rows()}
        wanted = {row[0]: _made_of(row, config) for row in shown.iter_rows()}
        missing = [
            number
            for number, made_of in wanted.items()
            if number not in found.ours or (made_of is not None and found.ours[number].made_of != made_of)
        ]
        items = {
            number: self._item(line, config)
            for number, line in ledger.last_lines(missing).items()
            if line.digest and number not in found.foreign
        }
        held_back = {number: item.fault for number, item in items.items() if item.fault}
        held_back |= dict.fromkeys(found.foreign.intersection(wanted), _NOT_OURS)
        files = {
            number: sealed(item.content, wanted[number] or "", *times[number])
            for number, item in items.items()
            if item.content is not None
        }
        removed = [number for number in found.ours if number not in wanted or number in held_back]
        directory.update(files, removed)
        ledger.acknowledge(set(ledger.pending_ids()) - held_back.keys())
        self._carried.add_to(self, items, held_back, pending=len(ledger.pending_ids()))
        return Kept(len(found.ours.keys() - set(removed) | files.keys()), len(files), len(removed), held_back)

    def _item(self, line: Line, config: PipelineConfig) -> Item:
        start = moment(line.start_utc).astimezone(pytz.timezone(config.timezone))
        return worklist_item(
            from_text(line.entry),
            start,
            base_url=config.base_url,
            character_set=config.worklist_character_set,
        )


def _shown(lines: pl.DataFrame, window: Window, config: PipelineConfig) -> pl.DataFrame:
    """Leave out what the site's window of the day does not hold; a rolling one has no beginning but the bookings' end."""
    lines = lines.select("booking_id", "digest", "status", "start_utc", "end_utc")
    if config.window_mode == "rolling" and config.daily_window is None:
        return lines
    start = microseconds(window.start)
    within = pl.col("start_utc") >= start
    if config.include_running:
        within |= pl.col("end_utc") > start
    return lines.filter(within)


def _made_of(row: tuple[Any, ...], config: PipelineConfig) -> str | None:
    """Return the digest of what a file is made of; None where the ledger does not know: the file stays as it is."""
    if not row[1]:
        return None
    parts = (
        _FORM,
        *row[1:],
        config.worklist_character_set,
        config.timezone,
        server_place(config.base_url),
    )
    return blake2b("\n".join(map(str, parts)).encode(), digest_size=16).hexdigest()
