"""Calpendo's statuses and resources -> DICOM's procedure step statuses and modalities (T013)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

import polars as pl

from pipeline.transform.columns import places
from pipeline.transform.text import comparable

SCHEDULED: Final = "SCHEDULED"
IN_PROGRESS: Final = "IN_PROGRESS"
COMPLETED: Final = "COMPLETED"
DISCONTINUED: Final = "DISCONTINUED"

STEP_STATUSES: Final = (SCHEDULED, IN_PROGRESS, COMPLETED, DISCONTINUED)
"""Step statuses a worklist entry may have: PS3.3 C.4.14 for the last three, SCHEDULED before it has begun (C.4.10)."""

STATUSES: Final[Mapping[str, str]] = {
    "Requested": SCHEDULED,
    "Tentative": SCHEDULED,
    "Approved": SCHEDULED,
    "Pending": SCHEDULED,
    "In Progress": IN_PROGRESS,
    "Completed": COMPLETED,
    "Denied": DISCONTINUED,
    "Cancelled": DISCONTINUED,
    "Canceled": DISCONTINUED,
}
"""Calpendo's own (vendor's manual: Requested, Tentative, Approved, Denied, Cancelled) and the task list's (T013)."""

OTHER_MODALITY: Final = "OT"
"""DICOM's modality "Other" (PS3.3 C.7.3.1.1.1)."""

_CODE_STRING = re.compile(r"[A-Z0-9 _]{1,16}\Z")

TRANSLATED = pl.Struct({"value": pl.String, "known": pl.Boolean})


def status_translator(overrides: Mapping[str, str]) -> Callable[[str | None], tuple[str, bool]]:
    """Return the function from a Calpendo status to (DICOM status, known).

    Without case and outer blanks; an unknown or missing status is SCHEDULED and not known.
    """
    table = {comparable(name): status for name, status in (*STATUSES.items(), *overrides.items())}

    def translate(status: str | None) -> tuple[str, bool]:
        found = table.get(comparable(status)) if status else None
        return found or SCHEDULED, found is not None

    return translate


def modality_translator(mapping: Mapping[str, str]) -> Callable[[str | None], tuple[str, bool]]:
    """Return the function from a resource's name to (modality, known).

    The exact name counts, then the longest beginning, both without case and outer blanks. Otherwise the name itself
    where it is a valid DICOM code string (PS3.5, VR CS), else ``OT``; both are not known.
    """
    found = by_beginning(mapping)

    def translate(resource: str | None) -> tuple[str, bool]:
        if modality := found(resource):
            return modality, True
        name = (resource or "").strip()
        return name if _CODE_STRING.match(name) else OTHER_MODALITY, False

    return translate


def by_beginning(mapping: Mapping[str, str]) -> Callable[[str | None], str | None]:
    """Return the look-up of a resource's name: the exact name, then the longest beginning, both without case.

    None for a name that the mapping does not know, and for no name.
    """
    table = {comparable(name): value for name, value in mapping.items()}
    beginnings = sorted(table, key=len, reverse=True)

    def find(resource: str | None) -> str | None:
        if resource is None or not resource.strip():
            return None
        folded = comparable(resource)
        return next((table[beginning] for beginning in beginnings if folded.startswith(beginning)), None)

    return find


def translated(source: pl.Expr, translate: Callable[[str | None], tuple[str, bool]]) -> pl.Expr:
    """Return a struct of ``value`` (String) and ``known`` (Boolean), translating each distinct value once."""
    return source.map_batches(
        lambda values: _translate_distinct(values, translate), return_dtype=TRANSLATED, is_elementwise=True
    )


def _translate_distinct(values: pl.Series, translate: Callable[[str | None], tuple[str, bool]]) -> pl.Series:
    distinct = values.unique()
    answers = [translate(value) for value in distinct.to_list()]
    table = pl.DataFrame(answers, schema={"value": pl.String, "known": pl.Boolean}, orient="row")
    return table.select(pl.all().gather(places(values, distinct))).to_struct(values.name)
