"""Every field of a worklist entry, once: type, DICOM attribute, limit, repair, and what Pylantir does with it.

To add a field, add a row to ``WORKLIST``; CONTRIBUTING.md ("Add a worklist field") names the steps around it. What a mapping
may fill, the schema and its rules, the repairs, the record for Pylantir, the contract and the tables in the docs follow:

    python -m pipeline.fields          print the table of docs/transformation.md
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final, Literal

Origin = Literal["mapped", "looked_up", "computed"]
Repair = Literal["rejected", "cut", "emptied", "sex", "date", "weight", "none"]
Host = Literal["sent", "stored", "no"]


@dataclass(frozen=True, slots=True)
class WorklistField:
    """One field of an entry.

    Attributes:
        name: The key in an entry, and the target in ``field_mapping``.
        vr: DICOM value representation (PS3.6), None for what is no DICOM attribute.
        keyword: DICOM keyword (PS3.6).
        tag: DICOM tag, ``gggg,eeee``.
        limit: Characters at most, after PS3.5 table 6.2-1; for a person's name (PN) in each component group.
        repair: What becomes of an invalid value. ``rejected``: the booking is; ``cut``: shortened and cleaned;
            ``emptied``: left out; ``sex``, ``date``, ``weight``: read as people write it, else left out; ``none``: the
            pipeline makes the value, and it is always valid.
        host: What Pylantir does with it (0.4.6, ``WORKLIST_FIELDS`` and ``row_to_mwl_dataset``): ``sent`` to the
            scanner, only ``stored`` in its database, or ``no``.
        origin: ``mapped``: taken from the booking as the mapping says; ``looked_up``: as the mapping says, by way of a
            vocabulary; ``computed``: made from times, id and hash, a rule for it is ignored.
        required: Whether every entry has a value. One that is mapped need not be a column unless it is required.
        dtype: Name of the polars type.
    """

    name: str
    vr: str | None = None
    keyword: str | None = None
    tag: str | None = None
    limit: int | None = None
    repair: Repair = "none"
    host: Host = "no"
    origin: Origin = "mapped"
    required: bool = False
    dtype: Literal["String", "Date", "Time", "Int64"] = "String"


WORKLIST: tuple[WorklistField, ...] = (
    WorklistField("patient_name", "PN", "PatientName", "0010,0010", 64, "cut", "sent"),
    WorklistField("patient_id", "LO", "PatientID", "0010,0020", 64, "rejected", "sent", required=True),
    WorklistField("patient_birth_date", "DA", "PatientBirthDate", "0010,0030", 8, "date", "sent"),
    WorklistField("patient_sex", "CS", "PatientSex", "0010,0040", 16, "sex", "sent"),
    # In kilograms, as DICOM has it, whatever Pylantir calls it.
    WorklistField("patient_weight_lb", "DS", "PatientWeight", "0010,1030", 16, "weight", "sent"),
    WorklistField("accession_number", "SH", "AccessionNumber", "0008,0050", 16, "emptied", "stored"),
    WorklistField("referring_physician_name", "PN", "ReferringPhysicianName", "0008,0090", 64, "cut", "sent"),
    WorklistField("study_description", "LO", "StudyDescription", "0008,1030", 64, "cut", "sent"),
    WorklistField("study_instance_uid", "UI", "StudyInstanceUID", "0020,000D", 64, "emptied", "sent"),
    WorklistField(
        "scheduled_station_aetitle", "AE", "ScheduledStationAETitle", "0040,0001", 16, "emptied", "stored"
    ),
    WorklistField(
        "performing_physician", "PN", "ScheduledPerformingPhysicianName", "0040,0006", 64, "cut", "stored"
    ),
    WorklistField(
        "procedure_description", "LO", "ScheduledProcedureStepDescription", "0040,0007", 64, "cut", "stored"
    ),
    WorklistField("protocol_name", "LO", "ProtocolName", "0018,1030", 64, "cut", "sent"),
    WorklistField("station_name", "SH", "ScheduledStationName", "0040,0010", 16, "cut", "sent"),
    WorklistField(
        "hisris_coding_designator", "SH", "CodingSchemeDesignator", "0008,0102", 16, "emptied", "sent"
    ),
    WorklistField(
        "scheduled_start_date",
        "DA",
        "ScheduledProcedureStepStartDate",
        "0040,0002",
        host="sent",
        origin="computed",
        required=True,
        dtype="Date",
    ),
    WorklistField(
        "scheduled_start_time",
        "TM",
        "ScheduledProcedureStepStartTime",
        "0040,0003",
        host="sent",
        origin="computed",
        required=True,
        dtype="Time",
    ),
    WorklistField("scheduled_procedure_step_duration", origin="computed", required=True, dtype="Int64"),
    WorklistField("modality", "CS", "Modality", "0008,0060", 16, "none", "sent", "looked_up", required=True),
    # Pylantir sends it as ScheduledProcedureStepStatus (0040,0020).
    WorklistField(
        "performed_procedure_step_status",
        "CS",
        "PerformedProcedureStepStatus",
        "0040,0252",
        16,
        host="sent",
        origin="looked_up",
        required=True,
    ),
    WorklistField("data_source", origin="computed", required=True),
    WorklistField("source_record_id", origin="computed", required=True),
    WorklistField("notes", origin="computed", required=True),
)
"""The fields of an entry: the mapped ones, then those that every entry has, in an entry's order."""

SEXES: Final = ("M", "F", "O")
"""Patient's Sex (PS3.3 C.7.1.1)."""
OLDEST_BIRTH: Final = date(1880, 1, 1)
"""Nobody who is scanned was born before; a date that says so is a slip or a filler."""
KILOGRAMS: Final = (2, 350)
"""The lightest and the heaviest patient; anything else is a slip, or another unit."""


@dataclass(frozen=True, slots=True)
class BookingField:
    """One field of a booking, and the column of the bookings frame that holds it (T008, T014).

    Attributes:
        column: The column's name.
        paths: Where the field stands (``transform.json_values``); the first path that has a value counts.
        usual: The type of its values; whatever else stands there is read by the rules of text.
        hashed: Whether it enters the booking hash (T015), by its first path.
        is_range: Whether it is a time of generation B, which counts where ``formattedName`` holds none.
    """

    column: str
    paths: tuple[str, ...]
    usual: Literal["id", "flag", "text"] = "text"
    hashed: bool = False
    is_range: bool = False


BOOKING: Final = (
    BookingField("booking_id", ("id",), "id"),
    BookingField("title", ("title",), hashed=True),
    BookingField("status", ("status",), hashed=True),
    BookingField("formatted_name", ("formattedName",), hashed=True),
    BookingField(
        "project",
        ("properties.project.formattedName", "properties.project.name", "properties.project"),
        hashed=True,
    ),
    BookingField(
        "resource",
        ("properties.resource.formattedName", "properties.resource.name", "properties.resource"),
        hashed=True,
    ),
    BookingField("modified", ("properties.modified",)),
    BookingField("resource:name", ("properties.resource.name",)),
    BookingField("range_start", ("properties.dateRange.start",), is_range=True),
    BookingField("range_finish", ("properties.dateRange.finish", "properties.dateRange.end"), is_range=True),
    BookingField("cancelled", ("properties.cancelled",), "flag"),
)
"""What is read of a booking, besides the paths of the mapping."""

SOURCE: Final = "source:"
"""The column of a mapped path is called by the path, behind this."""

FRAME_COLUMNS: Final = frozenset(
    {
        "row",
        "booking_id",
        "fault",
        "undecodable",
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
        "status_source",
        "modality_source",
        "modality_known",
        "unmatched",
        "timed_out",
        "title_ignored",
        "repaired",
        "translated",
        "reject_reasons",
        "reason",
        "reasons",
        "payload",
    }
)
"""Columns of the pipeline's own frames, and fields of a booking; none may be a target."""


def by_name() -> Mapping[str, WorklistField]:
    """Return the fields by name, in the table's order."""
    return {field.name: field for field in WORKLIST}


def names(*origins: Origin, required: bool | None = None) -> tuple[str, ...]:
    """Return the names of the fields of these origins (all without one), and of this ``required`` where given."""
    return tuple(
        field.name
        for field in WORKLIST
        if (not origins or field.origin in origins) and required in (None, field.required)
    )


def field_table() -> str:
    """Return the fields as a Markdown table."""
    lines = ["| field | DICOM | VR | form | otherwise | Pylantir |", "|---|---|---|---|---|---|"]
    for field in WORKLIST:
        attribute = f"{field.keyword} ({field.tag})" if field.keyword else ""
        cells = (
            f"`{field.name}`",
            attribute,
            field.vr or "",
            _form(field),
            _OTHERWISE[field.repair],
            _HOSTS[field.host],
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


_HOSTS: Final[Mapping[Host, str]] = {"sent": "sends it", "stored": "only stores it", "no": ""}
_OTHERWISE: Final[Mapping[Repair, str]] = {
    "rejected": "the booking is rejected",
    "cut": "cleaned and cut",
    "emptied": "left out",
    "sex": "translated, or left out",
    "date": "translated, or left out",
    "weight": "converted, or left out",
    "none": "",
}
_FORMS: Final = {
    "AE": "{limit} characters, no backslash",
    "CS": "{limit} of `A-Z 0-9 _` and blank",
    "DA": "`YYYYMMDD`, from 1880 to today",
    "DS": "{limit} characters, kilograms from 2 to 350",
    "LO": "{limit} characters, no backslash",
    "PN": "3 groups (`=`) of {limit} characters and 5 components (`^`), no backslash",
    "SH": "{limit} characters, no backslash",
    "TM": "`HHMMSS`",
    "UI": "{limit} characters, numbers without leading zeros, joined by dots",
}
_OWN_FORMS: Final = {
    "patient_sex": "`M`, `F` or `O`",
    "scheduled_start_date": "`datetime.date`, in `output_timezone`",
    "scheduled_start_time": "`datetime.time`, in `output_timezone`",
    "scheduled_procedure_step_duration": "whole minutes between start and end, `int`",
    "performed_procedure_step_status": "SCHEDULED, IN_PROGRESS, COMPLETED or DISCONTINUED",
    "data_source": "the source's name",
    "source_record_id": "the booking's id",
    "notes": '`{"booking_hash": "<64 hex digits>"}`',
}


def _form(field: WorklistField) -> str:
    return _OWN_FORMS.get(field.name) or _FORMS.get(field.vr or "", "text").format(limit=field.limit)


if __name__ == "__main__":
    import sys

    sys.stdout.write(field_table())
