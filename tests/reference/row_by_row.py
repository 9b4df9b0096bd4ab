"""The task list's code templates (T011-T015), line by line: one booking at a time, ``json.loads`` for each.

This is what the columns are measured against, and the ground the reference of the differential tests stands on. Only
what the templates leave to their class is filled in: the config, the logger, ``_get_nested_value``, and the lines of the
implementation steps for which no code is given (duration, status, modality, hash, T014 and T015).
"""

# ruff: noqa: DTZ007, TRY300  the templates are left as they are

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import pytz

STATUS_MAPPING = {
    "Approved": "SCHEDULED",
    "In Progress": "IN_PROGRESS",
    "Completed": "COMPLETED",
    "Cancelled": "DISCONTINUED",
    "Pending": "SCHEDULED",
}


class PluginConfigError(Exception):
    """As T004 names it."""


class RowByRow:
    """The transformation half of the task list's ``CalendoPlugin``."""

    def __init__(self, source_name: str, config: dict[str, Any]) -> None:
        self.source_name = source_name
        self.config = config
        self.lgr = logging.getLogger("row_by_row")

    def entries(self, payloads: Iterable[str | bytes]) -> list[dict[str, Any]]:
        """T003: transform and keep what is valid."""
        entries = []
        for payload in payloads:
            entry = self._transform_booking_to_entry(json.loads(payload))
            if entry:
                entries.append(entry)
        return entries

    def _extract_field_with_regex(self, source_value: str, extract_config: dict[str, Any]) -> str:
        if not source_value:
            return ""

        pattern_str = extract_config.get("pattern")
        group_num = extract_config.get("group", 0)

        try:
            pattern = re.compile(pattern_str)
            match = pattern.match(source_value)

            if match:
                return match.group(group_num)
            self.lgr.warning(f"Regex no match for '{source_value}', using original")
            return source_value

        except Exception as e:
            raise PluginConfigError(f"Invalid regex pattern '{pattern_str}': {e}") from e

    def _parse_formatted_name_dates(self, formatted_name: str) -> tuple[datetime, datetime]:
        pattern = (
            r"\[(\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}\.\d+), (\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}\.\d+)\]"
        )
        match = re.match(pattern, formatted_name)

        if not match:
            raise ValueError(f"Invalid formattedName format: {formatted_name}")

        tz = pytz.timezone(self.config.get("timezone", "America/Edmonton"))

        start_str, end_str = match.groups()
        start_naive = datetime.strptime(start_str, "%Y-%m-%d %H:%M:%S.%f")
        end_naive = datetime.strptime(end_str, "%Y-%m-%d %H:%M:%S.%f")

        start_dt = tz.localize(start_naive)
        end_dt = tz.localize(end_naive)

        return start_dt, end_dt

    def _convert_to_utc(self, dt: datetime) -> datetime:
        return dt.astimezone(pytz.UTC)

    def _map_status_to_dicom(self, calpendo_status: str) -> str:
        return STATUS_MAPPING.get(calpendo_status, "SCHEDULED")

    def _map_resource_to_modality(self, resource_name: str) -> str:
        mapping = self.config.get("resource_modality_mapping", {})

        if resource_name in mapping:
            return mapping[resource_name]

        for prefix, modality in mapping.items():
            if resource_name.startswith(prefix):
                return modality

        return resource_name

    def _get_nested_value(self, data: dict[str, Any], key_path: str) -> Any:
        value: Any = data
        for key in key_path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def _transform_booking_to_entry(self, booking: dict[str, Any]) -> dict[str, Any] | None:
        entry: dict[str, Any] = {"data_source": self.source_name}
        field_mapping = self.config.get("field_mapping", {})

        for target_field, mapping_config in field_mapping.items():
            if isinstance(mapping_config, dict):
                source_key = mapping_config.get("source_field")
                source_value = self._get_nested_value(booking, source_key)

                if "_extract" in mapping_config:
                    source_value = self._extract_field_with_regex(source_value, mapping_config["_extract"])
            else:
                source_value = self._get_nested_value(booking, mapping_config)

            entry[target_field] = source_value

        if "formattedName" in booking:
            start_dt, end_dt = self._parse_formatted_name_dates(booking["formattedName"])
            entry["scheduled_start_date"] = self._convert_to_utc(start_dt).date()
            entry["scheduled_start_time"] = self._convert_to_utc(start_dt).time()
            entry["scheduled_procedure_step_duration"] = int((end_dt - start_dt).total_seconds() / 60)

        entry["performed_procedure_step_status"] = self._map_status_to_dicom(booking.get("status", ""))
        entry["modality"] = self._map_resource_to_modality(
            self._get_nested_value(booking, "properties.resource.formattedName")
        )
        entry["source_record_id"] = str(booking["id"])
        entry["notes"] = json.dumps({"booking_hash": self._compute_booking_hash(booking)})

        required = ["patient_id", "scheduled_start_date", "scheduled_start_time"]
        for field in required:
            if not entry.get(field):
                self.lgr.warning(f"Booking {booking.get('id')} missing {field}, skipping")
                return None

        return entry

    def _compute_booking_hash(self, booking: dict[str, Any]) -> str:
        critical_fields = {
            "title": booking.get("title", ""),
            "status": booking.get("status", ""),
            "formattedName": booking.get("formattedName", ""),
            "project": booking.get("properties", {}).get("project", {}).get("formattedName", ""),
            "resource": booking.get("properties", {}).get("resource", {}).get("formattedName", ""),
        }

        json_str = json.dumps(critical_fields, sort_keys=True)
        return hashlib.sha256(json_str.encode()).hexdigest()
