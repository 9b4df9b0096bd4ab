"""All chunks of one audit added up, and made into one ``Audit``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import polars as pl

from pipeline.audit import accuracy, census, duplicates, fields, rejections, repeats, times, vocabularies
from pipeline.audit.model import Audit, Overview
from pipeline.audit.tally import Frames, Schema
from pipeline.audit.task import Task
from pipeline.transform.entries import MODALITY, STATUS

_MERGED: dict[str, Callable[[Sequence[pl.DataFrame]], pl.DataFrame]] = {
    "census": census.merged,
    "field_values": fields.merged_values,
}
"""Frames that grow with the bookings and shrink when chunks are merged; the others are small or must stay whole."""
_HELD = 8

_COUNTED = ("bookings", "filtered", "unreadable", "rejected")
_CHUNKS: Schema = {**dict.fromkeys(_COUNTED, pl.Int64), "first_day": pl.Date, "last_day": pl.Date}
_JUDGED: Schema = {"measure": pl.String, "name": pl.String, "percent": pl.Float64, "judged": pl.Int64}


@dataclass
class Whole:
    """What all chunks so far have given, in their order."""

    task: Task
    _frames: dict[str, list[pl.DataFrame]] = field(default_factory=dict)

    def add(self, frames: Frames) -> None:
        """Add the next chunk's frames."""
        for name, frame in frames.items():
            held = self._frames.setdefault(name, [])
            held.append(frame)
            if name in _MERGED and len(held) > _HELD:
                self._frames[name] = [_MERGED[name](held)]

    def audit(self) -> Audit:
        """Add everything up."""
        config, reveal = self.task.config, self.task.reveal
        gone = repeats.superseded_lines(self._of("repeats"))
        compared = accuracy.compare(
            self._of("labelled"),
            self.task.labels,
            gone["line"].to_list(),
            reveal=reveal,
            masked=[name for name in (STATUS, MODALITY) if self._masked(name)],
        )
        counted = census.by_source(self._of("census"), config)
        suggestions, proposals = census.suggestions_and_proposals(counted, reveal=reveal)
        overview = self._overview(gone, compared)
        readable = overview.bookings - overview.filtered - overview.unreadable
        of_fields = fields.total(
            config, self._of("fields"), self._of("field_values"), self._of("field_examples")
        )
        return Audit(
            overview=overview,
            fields=of_fields,
            accuracy=compared.accuracy(),
            disagreements=compared.disagreements(),
            statuses=vocabularies.total(self._of("statuses"), masked=self._masked(STATUS)),
            resources=vocabularies.total(self._of("resources"), masked=self._masked(MODALITY)),
            times=times.total(self._of("times"), readable),
            doubtful=times.doubtful(self._of("doubtful")),
            zone_data=times.zone_data(self._of("zone_data"), config.timezone, readable),
            rejections=rejections.total([*self._of("rejections"), *repeats.as_rejections(gone)]),
            co_occurrence=rejections.total_pairs([*self._of("co_occurrence"), repeats.as_pairs(gone)]),
            repairs=rejections.total_repairs(self._of("repairs")),
            duplicates=duplicates.total(self._of("duplicates"), reveal=reveal),
            census=census.census(counted, reveal=reveal),
            conventions=census.conventions(counted),
            suggestions=suggestions,
            proposals=proposals,
            weeks=times.weeks(self._of("weeks")),
            judged=under_judgement(overview, of_fields, compared.accuracy()),
            warnings=config.warnings,
        )

    def _of(self, name: str) -> list[pl.DataFrame]:
        return self._frames.get(name, [])

    def _overview(self, gone: pl.DataFrame, compared: accuracy.Comparison) -> Overview:
        config = self.task.config
        chunks = pl.concat(self._of("chunks")) if self._of("chunks") else pl.DataFrame(schema=_CHUNKS)
        bookings, filtered, unreadable, rejected = chunks.select(pl.col(_COUNTED).sum()).row(0)
        rejected += len(gone.filter(pl.col("reasons").list.len() == 0))
        zone = config.output_timezone
        return Overview(
            bookings=bookings,
            entries=bookings - filtered - rejected,
            rejected=rejected,
            filtered=filtered,
            unreadable=unreadable,
            labelled=compared.labelled,
            labels_unused=compared.unused,
            in_doubt=sum(part.item() for part in self._of("in_doubt")),
            first_day=chunks["first_day"].min(),  # type: ignore[arg-type]
            last_day=chunks["last_day"].max(),  # type: ignore[arg-type]
            timezone=config.timezone,
            output_timezone=config.timezone if zone == "site" else zone,
            revealed=self.task.reveal,
        )

    def _masked(self, target: str) -> bool:
        return not self.task.reveal and vocabularies.taken_from_elsewhere(self.task.config, target)


def under_judgement(overview: Overview, of_fields: pl.DataFrame, of_labels: pl.DataFrame) -> pl.DataFrame:
    """What the gate looks at: accuracy a field where bookings are labelled, else coverage a field and of entries."""
    if overview.labelled:
        kept = of_labels.select(
            pl.lit("accuracy").alias("measure"), "field", pl.col("accuracy") * 100, "labelled"
        )
    elif asked_for := overview.bookings - overview.filtered:
        kept = of_fields.filter(pl.col("coverage").is_not_null()).select(
            pl.lit("coverage").alias("measure"), "target", pl.col("coverage") * 100, "bookings"
        )
        entries = ("coverage", "worklist entries", 100 * overview.entries / asked_for, asked_for)
        kept = pl.concat([kept, pl.DataFrame([entries], schema=kept.schema, orient="row")])
    else:
        return pl.DataFrame(schema=_JUDGED)
    return kept.rename(dict(zip(kept.columns, _JUDGED, strict=True)))
