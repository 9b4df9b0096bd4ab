"""What is read of a booking: the names, the paths where it stands, and the types it usually has (T008, T014)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from pipeline.transform import booking_hash
from pipeline.transform.typed import FLAG, IDENTIFIER, TEXT, TEXT_NOT_NULL, TEXT_OR_NUMBER, Kind

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig

SOURCE: Final = "source:"
RESOURCE_NAME: Final = "resource:name"

ID: Final = "id"
CANCELLED: Final = "properties.cancelled"
TEXTS: Final = {
    "title": "title",
    "status": "status",
    "formatted_name": "formattedName",
    "project": "properties.project.formattedName",
    "resource": "properties.resource.formattedName",
    "modified": "properties.modified",
    RESOURCE_NAME: "properties.resource.name",
}
FALLBACKS: Final = {
    "project": ("properties.project.name", "properties.project"),
    "resource": ("properties.resource.name", "properties.resource"),
}
"""Where a text is taken from, in this order, when its own path has none."""
RANGES: Final = {
    "range_start": ("properties.dateRange.start",),
    "range_finish": ("properties.dateRange.finish", "properties.dateRange.end"),
}
"""The times of generation B, the first path that has any."""
HASHED: Final = {name: TEXTS[name] for name in booking_hash.FIELDS}


def bookings_schema(config: PipelineConfig) -> dict[str, pl.DataType]:
    """Return the bookings frame's columns and types, in order."""
    return {
        "row": pl.UInt32(),
        "booking_id": pl.Int64(),
        "fault": pl.String(),
        "generation": pl.String(),
        **dict.fromkeys(TEXTS, pl.String()),
        **dict.fromkeys(RANGES, pl.String()),
        "cancelled": pl.Boolean(),
        **{booking_hash.literal_column(name): pl.String() for name in booking_hash.FIELDS},
        **dict.fromkeys(source_columns(config), pl.String()),
    }


def source_columns(config: PipelineConfig) -> dict[str, str]:
    """Return column name -> path for every distinct source of the mapping's rules."""
    return {f"{SOURCE}{rule.source}": rule.source for rule in config.rules}


def text_paths(config: PipelineConfig) -> tuple[str, ...]:
    """Return every path that becomes a column of text, once each."""
    return tuple(dict.fromkeys((*TEXTS.values(), *source_columns(config).values())))


def usual_kinds(config: PipelineConfig) -> tuple[tuple[str, Kind], ...]:
    """Return each path that is looked at, with the type that its values usually have.

    What enters the hash comes first, and is not null: there a null differs from a missing text, which a column hides.
    """
    texts = (*TEXTS.values(), *(path for paths in (FALLBACKS | RANGES).values() for path in paths))
    kinds = {ID: IDENTIFIER, CANCELLED: FLAG, **dict.fromkeys(HASHED.values(), TEXT_NOT_NULL)}
    for path in texts:
        kinds.setdefault(path, TEXT)
    for path in source_columns(config).values():
        kinds.setdefault(path, TEXT_OR_NUMBER)
    return tuple(kinds.items())


def without_rows(columns: dict[str, pl.Series], config: PipelineConfig) -> pl.DataFrame:
    """Return the bookings frame but for ``row``; ``generation`` follows from the ranges among the columns."""
    is_range = columns["range_start"].is_not_null() | columns["range_finish"].is_not_null()
    generation = pl.Series(["A", "B"], dtype=pl.String).gather(is_range.cast(pl.UInt32))
    whole = columns | {"generation": generation}
    return pl.DataFrame({name: whole[name] for name in bookings_schema(config) if name != "row"})


def no_texts(size: int) -> pl.Series:
    """Return a column of text without any."""
    return pl.Series([None], dtype=pl.String).new_from_index(0, size)
