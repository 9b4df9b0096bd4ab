"""Which rows count: those that were asked for, and of several payloads of one booking the newest.

What was asked for is checked again on this side: a wrong row on a scanner's list is the worst error (decision 5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl

from pipeline.transform import entries, reasons
from pipeline.transform.bookings import is_readable
from pipeline.transform.columns import map_distinct
from pipeline.transform.text import comparable, normalised
from pipeline.transform.times import iso_instants

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig

RESOURCE = "resource"
RESOURCE_NAME = "resource:name"
STATUS = "status"
WINDOW = "window"
TITLE_IGNORED = "title_ignored"
STUDY = "study"
_STUDY = f"{entries.MAPPED}{entries.STUDY}"


@dataclass(frozen=True)
class Selection:
    """Which bookings are wanted; an empty or missing part wants all.

    ``resources`` match the resource's display form or its name, ``status`` the status, all without case.
    ``start`` and ``end`` are aware; a booking is inside when it starts in ``[start, end)`` or, with
    ``include_running``, began before and still runs at ``start``. ``allowed_studies`` are texts of
    ``study_description``, as they are before anything is cut.
    """

    resources: tuple[str, ...] = ()
    status: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    include_running: bool = True
    allowed_studies: tuple[str, ...] | None = None

    @classmethod
    def of(
        cls, config: PipelineConfig, start: datetime | None = None, end: datetime | None = None
    ) -> Selection:
        """Return what a configuration asks for, between two aware times or at any time."""
        return cls(
            resources=config.resources,
            status=config.status_filter,
            start=start,
            end=end,
            include_running=config.include_running,
            allowed_studies=config.allowed_studies,
        )

    def filter_reason(self, columns: Iterable[str]) -> pl.Expr:
        """Return why a row of the transformed frame was not asked for (String), null where it was.

        A booking whose title is ignored by the configuration is not asked for, whatever the selection says. A value that
        is not readable filters nothing: what cannot be told is for ``reject_reasons`` to say.
        """
        parts = {
            RESOURCE: self._wrong_resource(),
            STATUS: self._wrong_status(),
            WINDOW: self._outside(),
            TITLE_IGNORED: pl.col(TITLE_IGNORED),
        }
        if self.allowed_studies:
            known = _STUDY in set(columns)
            parts[STUDY] = self._wrong_study() if known else pl.lit(value=True)
        reason = pl.lit(None, dtype=pl.String)
        for name, wrong in reversed(parts.items()):
            reason = pl.when(wrong.fill_null(value=False)).then(pl.lit(name)).otherwise(reason)
        return reason.alias("reason")

    def reject_flags(self) -> dict[str, pl.Expr]:
        """Return why a row cannot be told to have been asked for, by reason code."""
        flags = {}
        if self.resources:
            flags[reasons.RESOURCE_MISSING] = ~self._is_wanted_resource() & _unreadable(
                RESOURCE, RESOURCE_NAME
            )
        if self.status:
            flags[reasons.STATUS_MISSING] = ~self._is_wanted_status() & _unreadable(STATUS)
        return {code: flag & is_readable() for code, flag in flags.items()}

    def _is_wanted_resource(self) -> pl.Expr:
        wanted = {comparable(name) for name in self.resources}
        named = _comparable_in(RESOURCE_NAME, wanted) & ~_missing(RESOURCE)
        return _comparable_in(RESOURCE, wanted) | named

    def _wrong_resource(self) -> pl.Expr:
        if not self.resources:
            return pl.lit(value=False)
        return ~self._is_wanted_resource() & ~_unreadable(RESOURCE, RESOURCE_NAME)

    def _is_wanted_status(self) -> pl.Expr:
        return _comparable_in(STATUS, {comparable(self.status or "")})

    def _wrong_status(self) -> pl.Expr:
        if not self.status:
            return pl.lit(value=False)
        return ~self._is_wanted_status() & ~_unreadable(STATUS)

    def _outside(self) -> pl.Expr:
        inside = pl.lit(value=True)
        start, end = pl.col("start_utc"), pl.col("end_utc")
        if self.end is not None:
            inside &= start < _naive_utc(self.end)
        if self.start is not None:
            first = _naive_utc(self.start)
            running = (end > first) if self.include_running else pl.lit(value=False)
            inside &= (start >= first) | running
        return ~inside

    def _wrong_study(self) -> pl.Expr:
        return ~_in(_STUDY, set(map(normalised, self.allowed_studies or ())), normalised)


def _missing(column: str) -> pl.Expr:
    return (pl.col(column).str.strip_chars() == "").fill_null(value=True)


def _unreadable(*columns: str) -> pl.Expr:
    """Tell whether the first column has no text, or any of them one out of which a character was left."""
    lost = pl.any_horizontal(pl.col("undecodable").list.contains(name) for name in columns)
    return _missing(columns[0]) | lost.fill_null(value=False)


def _comparable_in(column: str, wanted: set[str]) -> pl.Expr:
    return _in(column, wanted, comparable)


def _in(column: str, wanted: set[str], form: Callable[[str], str]) -> pl.Expr:
    """Tell whether a text, in this form, is one of the wanted ones; null is none."""
    return pl.col(column).map_batches(
        lambda values: map_distinct(
            values, lambda value: value is not None and form(value) in wanted, pl.Boolean
        ),
        return_dtype=pl.Boolean,
        is_elementwise=True,
    )


def _naive_utc(moment: datetime) -> pl.Expr:
    return pl.lit(moment.astimezone(UTC).replace(tzinfo=None), dtype=pl.Datetime("us"))


def superseded(bookings: pl.DataFrame) -> pl.Series:
    """Return, for each row, whether another row of the same booking counts instead of it (Boolean).

    The newest ``modified`` counts, and the last row where that does not tell; an unreadable ``modified`` is the oldest.
    Rows without a booking id, or whose payload is unusable, stand for themselves.
    """
    ids = bookings["booking_id"].set(bookings["fault"].is_not_null(), None)
    nothing = pl.Series("superseded", [False], dtype=pl.Boolean).new_from_index(0, len(ids))
    rows = (ids.is_duplicated() & ids.is_not_null()).arg_true()
    if rows.is_empty():
        return nothing
    copies = pl.DataFrame(
        {"row": rows, "id": ids.gather(rows), "modified": bookings["modified"].gather(rows)}
    )
    newest = (
        copies.with_columns(iso_instants(copies["modified"]))
        .sort("id", "modified", "row", nulls_last=False)
        .group_by("id", maintain_order=True)
        .last()
    )
    return nothing.scatter(rows.filter(~rows.is_in(newest["row"].implode())), True)
