"""What a notebook opens: bookings of the last days of a server, of a file or a frame, and everything to ask of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.archives import BookingFile, payloads_of
from pipeline.audit import Audit, LiveBookings, audit
from pipeline.audit.counting import Expected
from pipeline.batch import Batch, Payloads, process_batch, read_bookings
from pipeline.config import AnyConfig, PipelineConfig
from pipeline.display import count, visible
from pipeline.errors import PluginConfigError
from pipeline.simulator.sample import sample_config, sample_path
from pipeline.trace import Trace, why
from pipeline.transform.selection import Selection
from pipeline.verify.preview import Preview, preview

_BOOKINGS, _LABELS = "bookings.ndjson", "expected_entries.ndjson"


@dataclass(frozen=True, eq=False)
class Workbench:
    """Bookings and a configuration, and what comes out; made by ``open_bookings``.

    The frames hold patients' names; what a notebook shows of the workbench itself, and of its ``batch``, does not.

    Attributes:
        name: what was opened, in words.
        config: the configuration.
        expected: hand-checked entries, where there are any.
        failed: how many bookings the server listed and could not be fetched.
        warnings: what the fetch said; no patient's data.
    """

    name: str
    config: PipelineConfig
    expected: Expected | None = None
    failed: int = 0
    warnings: tuple[str, ...] = ()
    _payloads: Any = field(default=(), repr=False)
    _selection: Selection | None = field(default=None, repr=False)
    _asked: AnyConfig | None = field(default=None, repr=False)

    @cached_property
    def bookings(self) -> pl.DataFrame:
        """The bookings as they came, one row each (``read_bookings``)."""
        return read_bookings(self._payloads, self.config)

    @cached_property
    def batch(self) -> Batch:
        """Entries, rejected and filtered bookings, and what a person should look at (``process_batch``)."""
        return process_batch(self._payloads, self.config, selection=self._selection)

    @property
    def entries(self) -> pl.DataFrame:
        """The worklist entries, one row each."""
        return self.batch.entries

    @property
    def rejected(self) -> pl.DataFrame:
        """The rejected bookings, with ``booking_id``, ``reason`` and ``payload``."""
        return self.batch.rejected

    def audit(self, config: AnyConfig | None = None, *, reveal: bool = False) -> Audit:
        """Audit the bookings with the configuration, or with another one to try."""
        return audit(
            self._payloads, config or self.config, self.expected, reveal=reveal, selection=self._selection
        )

    def preview(self, *, days: int | None = None, reveal: bool = False, host: str | None = None) -> Preview:
        """Show the list as a host would get it now, as ``pipeline.preview`` does: asks the server, writes nothing.

        Raises:
            PluginConfigError: As for ``pipeline.preview``, and where no configuration was named.
            PluginFetchError: As for ``pipeline.preview``.
            PluginStateError: As for ``pipeline.preview``.
        """
        return preview(self._site(), self.config.source_name, days=days, reveal=reveal, host=host)

    def why(
        self, booking_id: int | str | None = None, *, text: str | None = None, reveal: bool = False
    ) -> Trace:
        """Explain why bookings are on the scanner's list or not, as ``pipeline.why`` does: asks the server, reads the ledgers.

        Raises:
            PluginConfigError: As for ``pipeline.why``, and where no configuration was named.
        """
        return why(booking_id, self._site(), text=text, source=self.config.source_name, reveal=reveal)

    def _site(self) -> AnyConfig:
        if self._asked is None:
            raise PluginConfigError(
                'this asks a server and its ledgers; write open_bookings(config="mwl_config.json") with your configuration'
            )
        return self._asked

    def __repr__(self) -> str:
        """Show sizes only."""
        return f"Workbench({self.name!r}, {self.batch!r}{self._unfetched()})"

    def _repr_html_(self) -> str:
        """Show sizes and reasons, and no value."""
        return f"<p>{escape(visible(self.name))}{escape(self._unfetched())}</p>{self.batch._repr_html_()}"

    def _unfetched(self) -> str:
        return f", {self.failed} could not be fetched" if self.failed else ""


def open_bookings(
    bookings: Payloads | None = None,
    *,
    config: AnyConfig | None = None,
    source: str | None = None,
    days: int = 90,
    expected: Expected | None = None,
) -> Workbench:
    """Open the last ``days`` days of a configuration's server, or a file or frame of bookings, or the sample.

        site = open_bookings(config="mwl_config.json", days=7)
        site.bookings, site.entries, site.rejected
        site.preview()
        print(site.why(4711))

    Args:
        bookings: whatever ``read_bookings`` takes. Without them the server of ``config`` is asked, or, without that
            as well, the invented sample is opened.
        config: a ``PipelineConfig``, a source's config as a dict, or the path of a configuration file. Without it, the
            sample's.
        source: the source's name, where a file holds several.
        days: How many of the site's last days are fetched, besides today; counts for a server only.
        expected: hand-checked entries, a file's path or objects. The sample has its own.

    Returns:
        A ``Workbench`` with the bookings and the configuration.

    Raises:
        PluginConfigError: The configuration, the login (from the environment) or the file is wrong.
        PluginFetchError: The server could not be asked.
    """
    if bookings is None and config is not None:
        return _from_server(config, source, days, expected)
    settings = PipelineConfig.of(sample_config() if config is None else config, source=source)
    if bookings is not None:
        found = payloads_of(bookings)
        if isinstance(found, BookingFile):
            name = Path(found.archive.name).name
            return Workbench(name, settings, expected, _payloads=found, _asked=config)
        held = list(found)
        return Workbench(f"{count(len(held))} bookings", settings, expected, _payloads=held, _asked=config)
    known = sample_path(_LABELS)
    labels = expected or (Path(str(known)) if known.is_file() else None)
    return Workbench(
        "the invented sample", settings, labels, _payloads=payloads_of(str(sample_path(_BOOKINGS)))
    )


def _from_server(config: AnyConfig, source: str | None, days: int, expected: Expected | None) -> Workbench:
    from pipeline.calpendo.client import CalpendoClient
    from pipeline.config.credentials import Credentials

    checked = PipelineConfig.of(config, source=source, offline=False)
    with CalpendoClient(checked, Credentials.from_environment()) as client:
        live = LiveBookings(client, checked, days)
        fetched = tuple(live)
    name = f"{checked.source_name}, the last {days} days and today"
    return Workbench(
        name, checked, expected, live.failed, live.warnings, fetched, Selection.of(checked), _asked=config
    )
