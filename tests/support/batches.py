"""One booking, one configuration, and what becomes of it: for the tests of the transformation."""

from __future__ import annotations

from typing import Any

from pipeline.batch import Batch, process_batch
from pipeline.config import PipelineConfig

SUBJECT = {"pattern": r"(\w+?)_.*", "group": 1}
NAME = {"pattern": r"[^_]+_(.+)", "group": 1}
MAPPING: dict[str, Any] = {
    "patient_id": {"source_field": "title", "_extract": SUBJECT},
    "patient_name": {"source_field": "title", "_extract": NAME},
    "study_description": "properties.project.formattedName",
    "accession_number": "id",
}


def config_of(mapping: dict[str, Any] | None = None, **options: Any) -> PipelineConfig:
    """Return a configuration with this field mapping."""
    raw = {
        "field_mapping": MAPPING if mapping is None else mapping,
        "resource_modality_mapping": {"3T": "MR"},
    }
    return PipelineConfig.from_dict(raw | options, environ={}, offline=True)


def booking(**changes: Any) -> dict[str, Any]:
    """Return a booking of generation A with some of its top-level keys changed."""
    return {
        "id": 4711,
        "biskitType": "MRIScan",
        "title": "SUB001_John_Doe",
        "status": "Approved",
        "formattedName": "[2026-01-27 14:00:00.0, 2026-01-27 15:30:00.0]",
        "properties": {
            "resource": {"id": 3, "formattedName": "3T Diagnostic"},
            "project": {"id": 5, "formattedName": "Brain Study"},
            "cancelled": False,
        },
        **changes,
    }


def batch_of(*payloads: Any, config: PipelineConfig | None = None, **options: Any) -> Batch:
    """Process payloads with a configuration made from the options."""
    return process_batch(payloads, config or config_of(**options))


def entry_of(payload: Any, **options: Any) -> dict[str, Any]:
    """Return the one entry that a payload becomes."""
    batch = batch_of(payload, **options)
    assert batch.rejected["reason"].to_list() == []
    return batch.to_dicts()[0]


def reasons_of(payload: Any, **options: Any) -> list[str]:
    """Return why a payload is rejected."""
    rejected = batch_of(payload, **options).rejected
    assert len(rejected) == 1
    return rejected["reasons"].to_list()[0]
