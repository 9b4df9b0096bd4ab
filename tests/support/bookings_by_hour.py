"""Bookings and sources for the tests at Pylantir: invented subjects, times relative to now."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytz

ZONE = "America/Edmonton"
RESOURCE = "3T Diagnostic"
MAPPING: dict[str, Any] = {
    "patient_id": {"source_field": "title", "_extract": {"pattern": "^([^_]+)_", "group": 1}},
    "patient_name": {"source_field": "title", "_extract": {"pattern": "^[^_]+_(.+)$", "group": 1}},
    "study_description": "properties.project.formattedName",
    "accession_number": "id",
}


def site_now() -> datetime:
    """The site's wall clock, whole minutes."""
    return datetime.now(pytz.timezone(ZONE)).replace(tzinfo=None, second=0, microsecond=0)


def span(start: datetime, minutes: float) -> str:
    """A booking's ``formattedName``."""
    finish = start + timedelta(minutes=minutes)
    return f"[{start:%Y-%m-%d %H:%M:%S}.0, {finish:%Y-%m-%d %H:%M:%S}.0]"


def booking(
    number: int, title: str, *, hours: float = 1.0, minutes: float = 60, **changes: Any
) -> dict[str, Any]:
    """A booking that starts ``hours`` from now; ``changes`` replace top-level keys, or properties of that name."""
    made: dict[str, Any] = {
        "id": number,
        "biskitType": "Booking",
        "title": title,
        "status": "Approved",
        "formattedName": span(site_now() + timedelta(hours=hours), minutes),
        "created": "2026-01-05 09:00:00.0",
        "properties": {
            "resource": {"formattedName": RESOURCE},
            "project": {"formattedName": "Brain Study"},
            "modified": "2026-01-05 09:00:00.0",
        },
    }
    for key, value in changes.items():
        if key in ("resource", "project"):
            made["properties"][key] = {"formattedName": value}
        else:
            made[key] = value
    return made


def source(url: str, name: str = "mri", **options: Any) -> dict[str, Any]:
    """A source of Pylantir's configuration file, in the form that its own plugin takes too."""
    config = {
        "base_url": url,
        "resources": [RESOURCE],
        "timezone": ZONE,
        "output_timezone": "site",
        "resource_modality_mapping": {"3T": "MR"},
        "field_mapping": MAPPING,
    }
    return {
        "name": name,
        "type": "calpendo",
        "enabled": True,
        "sync_interval": 1,
        "config": config | options,
    }
