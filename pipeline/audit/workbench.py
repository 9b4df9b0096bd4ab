"""What a notebook opens: the invented sample, a file, or the last days of a server, with the mapping to try on it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.audit.live import LiveBookings
from pipeline.audit.model import Audit
from pipeline.audit.run import Bookings, audit, read_payloads
from pipeline.config import PipelineConfig
from pipeline.errors import PluginConfigError
from pipeline.mapping import ExtractionRule
from pipeline.transform.selection import Selection

_BOOKINGS, _LABELS = "bookings.ndjson", "expected_entries.ndjson"


@dataclass(frozen=True)
class Workbench:
    """Bookings that can be audited again and again, the configuration, and the labels where there are any."""

    name: str
    config: PipelineConfig
    expected: Path | None
    _file: Path | None = None
    _fetched: tuple[Any, ...] = field(default=(), repr=False)
    _selection: Selection | None = None

    def audit(self, config: PipelineConfig | None = None, *, reveal: bool = False) -> Audit:
        """Audit the bookings with the configuration, or with another one to try."""
        return audit(
            self._bookings(), config or self.config, self.expected, reveal=reveal, selection=self._selection
        )

    def _bookings(self) -> Bookings:
        return read_payloads(self._file) if self._file else iter(self._fetched)


def open_bookings(
    file: str | Path | None = None,
    *,
    config: str | Path | None = None,
    source: str | None = None,
    days: int = 90,
    expected: str | Path | None = None,
) -> Workbench:
    """Open a file of bookings, or the last ``days`` days of ``config``'s server, or without either the sample.

    ``config`` and ``source`` are as the command line has them; a file without them is read with the example's
    mapping. Credentials come from the environment. Raises ``PluginConfigError`` and ``PluginFetchError``.
    """
    labels = Path(expected) if expected else None
    if file is None and config is not None:
        return _from_server(Path(config), source, days, labels)
    from pipeline.sample import file_config, sample_path

    settings = file_config(Path(config) if config else None, source)
    if file is not None:
        return Workbench(Path(file).name, settings, labels, Path(file))
    given = sample_path(_LABELS)
    known = Path(str(given)) if given.is_file() else None
    return Workbench("the invented sample", settings, labels or known, Path(str(sample_path(_BOOKINGS))))


def _from_server(config: Path, source: str | None, days: int, labels: Path | None) -> Workbench:
    from pipeline.calpendo.client import CalpendoClient
    from pipeline.config_file import select_source
    from pipeline.credentials import Credentials

    settings = select_source(config, source)
    checked = PipelineConfig.from_dict(settings.config, source_name=settings.name)
    with CalpendoClient(checked, Credentials.from_environment()) as client:
        fetched = tuple(LiveBookings(client, checked, days))
    name = f"{settings.name}, the last {days} days"
    return Workbench(name, checked, labels, None, fetched, asked_for(checked))


def asked_for(config: PipelineConfig) -> Selection:
    """Give what a configuration asks of the server, but for the window."""
    return Selection(
        resources=config.resources, status=config.status_filter, allowed_studies=config.allowed_studies
    )


def with_pattern(config: PipelineConfig, target: str, pattern: str, group: int | str = 1) -> PipelineConfig:
    """Give the configuration with ``pattern`` for ``target``, everything else as it was.

    ``PluginConfigError`` where the target has no rule, the pattern does not compile, or has no such group.
    """
    if target not in {rule.target for rule in config.rules}:
        raise PluginConfigError(
            f"{target!r} has no rule; mapped are {', '.join(rule.target for rule in config.rules)}"
        )
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise PluginConfigError(f"pattern for {target}: {error.msg} at position {error.pos}") from error
    if group not in {*range(compiled.groups + 1), *compiled.groupindex}:
        raise PluginConfigError(f"pattern for {target}: there is no group {group!r}")
    rules = [
        replace(rule, extractions=(ExtractionRule(pattern, group),)) if rule.target == target else rule
        for rule in config.rules
    ]
    return config.model_copy(update={"rules": tuple(rules)})


def with_proposals(config: PipelineConfig, proposals: pl.DataFrame) -> PipelineConfig:
    """Give the configuration with every pattern that an audit proposes (``Audit.proposals``)."""
    for row in proposals.filter(pl.col("pattern").is_not_null()).iter_rows(named=True):
        config = with_pattern(config, row["target"], row["pattern"], row["group"])
    return config


def coverage_change(before: Audit, after: Audit) -> pl.DataFrame:
    """Compare coverage field by field: target, before, after, gained (bookings), fields with a pattern only."""
    columns = ("target", "coverage", "matched")
    patterned = before.fields.filter(pl.col("pattern").is_not_null()).select(columns)
    return patterned.join(
        after.fields.select(columns), on="target", how="inner", suffix="_after", maintain_order="left"
    ).select(
        "target",
        pl.col("coverage").alias("before"),
        pl.col("coverage_after").alias("after"),
        (pl.col("matched_after") - pl.col("matched")).alias("gained"),
    )
