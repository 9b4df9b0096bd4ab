"""One rule a target field: where its value stands in a booking and what is cut out of it (T011, T014)."""

from __future__ import annotations

import re
import warnings as python_warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

OnNoMatch = Literal["original", "null", "reject"]

HOST_FIELDS = (
    "patient_name",
    "patient_id",
    "patient_birth_date",
    "patient_sex",
    "patient_weight_lb",
    "accession_number",
    "referring_physician_name",
    "modality",
    "study_description",
    "study_instance_uid",
    "scheduled_station_aetitle",
    "performing_physician",
    "procedure_description",
    "protocol_name",
    "station_name",
    "hisris_coding_designator",
    "performed_procedure_step_status",
)
"""The fields of a worklist row that a mapping may fill (Pylantir 0.4.6, ``WORKLIST_FIELDS`` and the study UID)."""

COMPUTED_FIELDS = (
    "scheduled_start_date",
    "scheduled_start_time",
    "scheduled_procedure_step_duration",
    "data_source",
    "source_record_id",
    "notes",
)
"""The fields the pipeline works out itself from times, id and hash; a rule for one is ignored with a warning."""

RESERVED_NAMES = frozenset(
    {
        "row",
        "booking_id",
        "fault",
        "generation",
        "biskit_type",
        "title",
        "status",
        "formatted_name",
        "project",
        "resource",
        "range_start",
        "range_finish",
        "created",
        "modified",
        "cancelled",
        "wall_start",
        "wall_end",
        "start_utc",
        "end_utc",
        "dst_ambiguous",
        "dst_nonexistent",
        "multi_day",
        "booking_hash",
        "status_known",
        "modality_known",
        "unmatched",
        "reject_reasons",
        "reason",
        "reasons",
        "payload",
    }
)
"""Columns of the pipeline's own frames, and fields of a booking; none may be a target."""


@dataclass(frozen=True, slots=True)
class FieldRule:
    """One target field: where its value stands in a booking, and what is cut out of it.

    ``pattern`` has the meaning Python's ``re.match`` gives it; None takes the value as it is. ``group`` is a
    number or a name; ``on_no_match`` says what a value becomes that the pattern does not match.
    """

    target: str
    source: str
    pattern: str | None = None
    group: int | str = 0
    on_no_match: OnNoMatch = "original"


@lru_cache(maxsize=256)
def compile_pattern(pattern: str) -> tuple[re.Pattern[str], tuple[str, ...]]:
    """Compile as Python does and return the pattern with Python's cautions about it (``[[`` and the like)."""
    with python_warnings.catch_warnings(record=True) as caught:
        python_warnings.simplefilter("always")
        compiled = re.compile(pattern)
    return compiled, tuple(str(caution.message) for caution in caught)
