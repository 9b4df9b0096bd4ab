"""A site whose host is a directory of worklist files, and what a console is to read in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset

from pipeline.config.credentials import Credentials
from pipeline.simulator import CalpendoSimulator
from pipeline.worklist_files.plugin import Kept, WorklistPlugin
from tests.support.delivery_site import Site, booking

MAPPING = {
    "patient_id": {"source_field": "title", "_extract": {"pattern": "^([^_]+)_", "group": 1}},
    "patient_name": {"source_field": "title", "_extract": {"pattern": "^[^_]+_(.+)$", "group": 1}},
    "study_description": "properties.project.formattedName",
    "accession_number": "id",
}


class FilesSite(Site):
    """One server, one directory, one ledger, one clock."""

    def __init__(self, folder: Path, count: int = 5, **options: Any) -> None:
        simulator = CalpendoSimulator([booking(number) for number in range(1, count + 1)])
        self.directory = folder / "worklists"
        self.directory.mkdir(exist_ok=True)
        self.ledger = folder / "state" / "ledger.sqlite"
        mapped = {"field_mapping": MAPPING, "resource_ae_title": {"3T": "PRISMA"}}
        super().__init__(simulator, self.ledger, **mapped | options)

    @property
    def plugin(self) -> WorklistPlugin:
        """The running plugin."""
        if self._plugin is None:
            self._plugin = WorklistPlugin(
                "calpendo",
                self.config,
                self.directory,
                credentials=Credentials("demo", "demo"),
                clock=lambda: self.now,
                on_step=lambda step: self.on_step(step),
            )
            self._plugin.validate_config()
        assert isinstance(self._plugin, WorklistPlugin)
        return self._plugin

    def cycle(self) -> Kept:
        """Run one cycle and keep the files."""
        self.fetch()
        return self.plugin.keep_files()

    def numbers(self) -> list[int]:
        """Name the bookings whose files lie in the directory."""
        return sorted(int(item.RequestedProcedureID) for item in self.items())

    def items(self) -> list[Dataset]:
        """Read every file that a worklist server would, strictly."""
        return [pydicom.dcmread(path) for path in sorted(self.directory.glob("*.wl"))]

    def item(self, number: int) -> Dataset:
        """Read one booking's file."""
        (found,) = (item for item in self.items() if item.RequestedProcedureID == str(number))
        return found

    def start_of(self, number: int) -> tuple[str, str]:
        """Return a booking's start as its server holds it, as DA and TM."""
        wall = self.simulator.get(number)["formattedName"][1:20]
        return wall[:10].replace("-", ""), wall[11:].replace(":", "")

    def end(self) -> None:
        """End the plugin and the server."""
        self.close()
        self.simulator.close()
