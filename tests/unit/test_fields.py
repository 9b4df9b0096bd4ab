"""The one table of worklist fields: everything that knows the fields follows from it."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from pipeline import PipelineConfig, WorklistEntrySchema, contract, fields
from pipeline.check import check_file
from pipeline.fields import WORKLIST, WorklistField
from tests.support.batches import batch_of, booking

DOCUMENT = Path(__file__).parents[2] / "docs" / "transformation.md"
NEW = WorklistField("patient_comments", "SH", "PatientComments", "0010,4000", 16, "emptied", "sent")


@pytest.fixture
def widened(monkeypatch: pytest.MonkeyPatch) -> WorklistField:
    """A field more in the table."""
    monkeypatch.setattr(fields, "WORKLIST", (*WORKLIST, NEW))
    return NEW


def test_a_field_that_is_added_to_the_table_is_everywhere(widened: WorklistField, tmp_path: Path) -> None:
    """A row in the table is all that a new field needs: mapping, entry, gate, schema, contract, check, wire, docs."""
    name = widened.name
    config = PipelineConfig.from_dict({"field_mapping": {name: "comment"}}, environ={}, offline=True)
    assert not [warning for warning in config.warnings if name in warning]
    batch = batch_of(
        booking(id=1, comment="left"), booking(id=2, comment="x" * 17), mapping={name: "comment"}
    )
    assert batch.entries.filter(pl.col("source_record_id") == "1")[name].to_list() == ["left"]
    assert "x" * 17 not in batch.entries[name].to_list()
    assert WorklistEntrySchema.to_schema().columns[name].dtype.type == pl.String
    assert contract.exported()["entry"][name]["checks"]["too_long"]["longest"] == 16
    path = tmp_path / "entries.ndjson"
    batch.entries.filter(pl.col("source_record_id") == "1").with_columns(
        pl.lit("x" * 17).alias(name)
    ).write_ndjson(path)
    assert dict(check_file(path).by_rule) == {f"{name}_too_long": 1}
    assert f"| `{name}` | PatientComments (0010,4000) | SH | 16 characters" in fields.field_table()


def test_a_field_that_is_added_reaches_pylantirs_record(widened: WorklistField) -> None:
    """The record for Pylantir keeps the new field's text, and never sends one that breaks its type."""
    pytest.importorskip("pydicom")
    from pipeline.pylantir.host_rows import stored_form
    from pipeline.pylantir.wire import to_wire

    entry = {"patient_id": "SUB1", "patient_name": "Doe", "modality": "MR"}
    assert stored_form(to_wire(entry | {widened.name: "Größe"}).record)[widened.name] == "Grosse"
    assert to_wire(entry | {widened.name: "x" * 17}).record[widened.name] is None


def test_without_the_row_the_field_is_unknown() -> None:
    """The two tests above see the table's row, not a field that was there before."""
    assert NEW.name not in WorklistEntrySchema.to_schema().columns
    assert NEW.name not in fields.field_table()


@pytest.mark.parametrize("field", WORKLIST, ids=lambda field: field.name)
def test_attributes_are_dicoms(field: WorklistField) -> None:
    """PS3.6: keyword, tag and value representation of each field belong together, and the limit is its VR's."""
    if field.keyword is None:
        assert (field.vr, field.tag, field.limit) == (None, None, None)
        return
    datadict = pytest.importorskip("pydicom.datadict")
    tag = int((field.tag or "").replace(",", ""), 16)
    assert datadict.dictionary_keyword(tag) == field.keyword
    assert datadict.dictionary_VR(tag) == field.vr
    limits = {"LO": 64, "SH": 16, "AE": 16, "CS": 16, "DS": 16, "UI": 64, "PN": 64}
    if field.dtype == "String" and field.vr in limits:
        assert field.limit == limits[field.vr]


def test_the_documents_table_is_the_tables() -> None:
    """The documentation cannot drift; `python -m pipeline.fields` prints the table to paste."""
    assert (
        f"<!-- made by python -m pipeline.fields -->\n{fields.field_table()}<!-- end -->"
        in DOCUMENT.read_text()
    )
