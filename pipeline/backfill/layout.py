"""Where everything lies: the output one reads, and the work beside it that a killed backfill goes on with.

OUTPUT/
  entries/month=2026-01/part-0000.parquet   the worklist entries, by the month of scheduled_start_date
  rejected/part-0000.parquet                what was rejected: source, line, booking id, reasons, payload
  replaced/part-0000.parquet                older versions of bookings: source, line, booking id, modified
  manifest.json                             counts, sources, settings; written last
  .backfill/                                the work; gone when the backfill is done
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pipeline.backfill.files import private_directory


@dataclass(frozen=True)
class Layout:
    """The paths of one backfill below its output directory."""

    output: Path

    @property
    def manifest(self) -> Path:
        """The file whose presence says that the output is complete."""
        return self.output / "manifest.json"

    @property
    def work(self) -> Path:
        """Everything that is not output."""
        return self.output / ".backfill"

    @property
    def plan(self) -> Path:
        """What the work is for."""
        return self.work / "plan.json"

    @property
    def fetched(self) -> Path:
        """Bookings brought from a server, one NDJSON file a window."""
        return self.work / "fetched"

    @property
    def segments(self) -> Path:
        """One directory a finished segment."""
        return self.work / "segments"

    def rows_of(self, segment: str) -> Path:
        """A finished segment's rows, see ``spill``."""
        return self.segments / segment / ROWS

    @property
    def ends(self) -> Path:
        """One small file a compressed source that was read to its end: how many segments it has."""
        return self.work / "ends"

    @property
    def found(self) -> Path:
        """Replaced rows as they are found, one file a bucket of ids."""
        return self.work / "found"

    @property
    def losers(self) -> Path:
        """The same rows, one file a segment."""
        return self.work / "losers"

    @property
    def merged(self) -> Path:
        """One small file a finished part of the output: its files and rows."""
        return self.work / "merged"

    @property
    def staged(self) -> Path:
        """The output while it is made; its directories are moved to their places at the end."""
        return self.work / "staged"

    def make(self) -> None:
        """Make the directories of the work."""
        for path in (
            self.fetched,
            self.segments,
            self.ends,
            self.found,
            self.losers,
            self.merged,
            self.staged,
        ):
            private_directory(path)

    def outputs(self) -> tuple[Path, ...]:
        """Return the directories that a reader of the output looks at."""
        return tuple(self.output / name for name in OUTPUTS)

    def publish(self) -> None:
        """Move the staged output to its place. Can be done again after it was cut short."""
        for name in OUTPUTS:
            staged = self.staged / name
            if staged.is_dir():
                staged.rename(self.output / name)
            else:
                private_directory(self.output / name)
        handle = os.open(self.output, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


OUTPUTS = ("entries", "rejected", "replaced")
ROWS = "rows"


def segment_name(source: int, number: int) -> str:
    """Name a segment so that the names sort in the order of the sources."""
    return f"{source:05d}-{number:07d}"
