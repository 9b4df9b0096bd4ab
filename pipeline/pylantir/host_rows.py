"""A look into Pylantir's database, read-only: which rows of a source it holds, and what stands in them."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import sys
from collections.abc import Collection, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

from pipeline import fields
from pipeline.pylantir.steps import IN_PROGRESS, SCHEDULED, Step
from pipeline.pylantir.wire import dicom_date, dicom_time

# Empty, Pylantir fills them: the protocol from its configuration, the weight with 100.
_FILLED_BY_HOST = ("protocol_name", "patient_weight_lb")

STATUS = "performed_procedure_step_status"
_STUDY_UID = "study_instance_uid"
# Pylantir waits 5 seconds for its own locks; a look must not wait longer than that.
_BUSY_SECONDS = 5.0


def stored_columns() -> tuple[str, ...]:
    """Return the columns that a record of this plugin may fill, beside status and study UID."""
    return tuple(
        field.name
        for field in fields.WORKLIST
        if field.host != "no" and field.name not in (STATUS, _STUDY_UID)
    )


def database_path() -> Path | None:
    """Find the database that Pylantir writes: it names it in ``DB_PATH`` before it opens it; None outside Pylantir."""
    path = os.environ.get("DB_PATH")
    if not path:
        # Nothing of Pylantir's database is imported here: that would bind the path before it is known.
        path = getattr(sys.modules.get("pylantir.db_setup"), "DB_PATH", None)
    return Path(path).expanduser().absolute() if path else None


def read_rows(path: Path, source_name: str, ids: Collection[int]) -> dict[int, dict[str, Any]]:
    """Give a source's rows by booking id, of the bookings asked for. A database not yet made has none.

    Raises ``sqlite3.Error`` when the file cannot be read.
    """
    rows = _select(
        path,
        "data_source = ? AND source_record_id IN (SELECT value FROM json_each(?))",
        (source_name, json.dumps([str(booking_id) for booking_id in ids])),
    )
    return {int(row["source_record_id"]): row for row in rows}


def _select(path: Path, condition: str, values: tuple[str, ...]) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    uri = f"{path.as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS)) as connection:
        connection.row_factory = sqlite3.Row
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'worklist_items'").fetchone():
            return []
        query = f"SELECT * FROM worklist_items WHERE {condition}"  # noqa: S608 - constants of this file
        return [dict(row) for row in connection.execute(query, values)]


def read_shown(path: Path, source_name: str, since: date) -> dict[int, dict[str, Any]]:
    """Return the rows of a source that may be on a list: not ended, since a day, and written by this plugin.

    Raises ``sqlite3.Error`` when the file cannot be read.
    """
    found: dict[int, dict[str, Any]] = {}
    for row in _select(
        path,
        f"data_source = ? AND {STATUS} IN (?, ?) AND scheduled_start_date >= ?"
        " AND scheduled_start_date NOT LIKE '%-%'",
        (source_name, SCHEDULED, IN_PROGRESS, f"{since:%Y%m%d}"),
    ):
        with contextlib.suppress(TypeError, ValueError):
            found[int(row["source_record_id"])] = row
    return found


def clock_of(row: Mapping[str, Any]) -> str:
    """Return the date and time that a row shows, as one text: ``YYYYMMDDHHMMSS`` where this plugin wrote it."""
    return f"{row['scheduled_start_date'] or ''}{row['scheduled_start_time'] or ''}"


def stored_form(record: Mapping[str, Any]) -> dict[str, Any]:
    """Give the columns of a record as Pylantir stores them, those left out that it fills by itself."""
    columns = {name: record[name] for name in stored_columns() if name in record}
    for name, dicom in (("scheduled_start_date", dicom_date), ("scheduled_start_time", dicom_time)):
        value = dicom(columns.get(name))
        columns[name] = value.strftime("") if hasattr(value, "strftime") else value
    columns["modality"] = columns.get("modality") or "MR"
    for name in _FILLED_BY_HOST:
        if not columns.get(name):
            columns.pop(name, None)
    return columns


def moment_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Read a stored date and time back; None for what this plugin did not write."""
    texts = (str(row["scheduled_start_date"] or ""), str(row["scheduled_start_time"] or ""))
    try:
        start = datetime.strptime("".join(texts), "%Y%m%d%H%M%S")  # noqa: DTZ007 - the row's own wall clock
    except ValueError:
        return {"scheduled_start_date": None, "scheduled_start_time": None}
    return {"scheduled_start_date": start.date(), "scheduled_start_time": start.time()}


def running_identity(step: Step, row: Mapping[str, Any]) -> dict[str, Any]:
    """Give the subject under whom a scan runs, as its row has it; empty while none runs.

    Pylantir finds the row that an N-SET ends by the subject's id and name as the scanner took them from the list. A
    correction in Calpendo must wait for the end of the scan, or the scan never ends.
    """
    if step != Step(IN_PROGRESS, by_scanner=True):
        return {}
    return {name: row[name] for name in ("patient_id", "patient_name")}


def holds(row: Mapping[str, Any], columns: Mapping[str, Any]) -> bool:
    """Tell whether a row holds these columns; the status is another matter."""
    return all(row.get(name) == value for name, value in columns.items())
