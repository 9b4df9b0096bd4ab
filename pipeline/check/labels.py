"""Labels: bookings with the entry they must become, or the reasons for which they must be rejected.

A label names only the fields it judges. What it leaves out is filled with something sound, so that the schema looks at
what is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.check.entries import IDENTITY
from pipeline.transform import reasons

UNKNOWN_REASON = "rejected_unknown_reason"
NO_VERDICT = "label_without_verdict"

REASONS = {
    UNKNOWN_REASON: reasons.Reason(
        "The label asks for a reason that the pipeline does not know.",
        "Write a code of pipeline/transform/reasons.py.",
    ),
    NO_VERDICT: reasons.Reason(
        "The label says neither what is expected nor why the booking is rejected.",
        "Write either expected (an object) or rejected (codes joined by '; ').",
    ),
}

_SOUND: dict[str, Any] = {
    "patient_id": "X",
    "scheduled_start_date": "2000-01-01",
    "scheduled_start_time": "00:00:00",
    "scheduled_procedure_step_duration": 0,
    "modality": "OT",
    "performed_procedure_step_status": "SCHEDULED",
    "data_source": "labels",
    "notes": '{"booking_hash": "' + "0" * 64 + '"}',
}


def label_entry(record: Mapping[str, Any], number: int) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """Return the entry that a label asks for (None where the booking must be rejected) and the label's own faults."""
    expected, rejected = record.get("expected"), record.get("rejected")
    if isinstance(expected, dict) and rejected is None:
        identity = expected.get(IDENTITY) or str(record.get("booking_id") or f"line {number}")
        return {**_SOUND, **expected, IDENTITY: identity}, ()
    if isinstance(rejected, str) and expected is None:
        codes = rejected.split("; ")
        known = all(_is_known(code) for code in codes)
        return None, () if known else (UNKNOWN_REASON,)
    return None, (NO_VERDICT,)


def _is_known(code: str) -> bool:
    if code in reasons.REASONS:
        return True
    return any(code.endswith(f"_{ending}") and code != f"_{ending}" for ending in reasons.FIELD_REASONS)
