"""The contract in CI: the file in data/ says what the pandera models do, and a change of it says how to bump."""

from __future__ import annotations

import json
from pathlib import Path

import pandera.polars as pa
import polars as pl
import pytest

from pipeline import contract
from pipeline.schema import WorklistEntrySchema

FILE = Path(__file__).parents[2] / "data" / "worklist_contract.json"


@pytest.fixture
def written() -> dict[str, object]:
    """The committed contract."""
    return dict(json.loads(FILE.read_text(encoding="utf-8")))


def test_models_and_file_agree(written: dict[str, object]) -> None:
    """Issue text: a test fails when the code's schema and the file differ, and says how to bump it."""
    found = contract.differences(written, contract.exported())
    assert not found, contract.explain(found)


def test_the_version_means_what_it_meant(written: dict[str, object]) -> None:
    """Contract: the file was written by the bump, not by hand: its version's digest is that of its content."""
    versions = written["versions"]
    assert isinstance(versions, dict)
    assert versions[written["version"]] == contract.digest(written)


def test_the_promises_can_be_read(written: dict[str, dict[str, dict[str, dict[str, object]]]]) -> None:
    """DICOM PS3.5: the file says in figures what a scanner may rely on."""
    entry = written["entry"]
    assert entry["patient_id"]["checks"]["too_long"]["longest"] == 64  # type: ignore[index]
    assert entry["accession_number"]["checks"]["too_long"]["longest"] == 16  # type: ignore[index]
    assert "U+005C" in entry["patient_name"]["checks"]["bad_character"]["refused_characters"]  # type: ignore[index]
    assert entry["performed_procedure_step_status"]["checks"]["malformed"]["taken_forms"] == [  # type: ignore[index]
        "SCHEDULED",
        "IN_PROGRESS",
        "COMPLETED",
        "DISCONTINUED",
    ]
    assert entry["scheduled_procedure_step_duration"]["checks"]["malformed"] == {"refused_numbers": [-1]}


class Model:
    """Stands for the emitted model: the same schema with columns added or changed."""

    def __init__(self, **columns: pa.Column) -> None:
        self.schema = WorklistEntrySchema.to_schema().add_columns(columns)

    def to_schema(self) -> pa.DataFrameSchema:
        """Give the schema, as a pandera model does."""
        return self.schema


def wider() -> Model:
    """One column more."""
    return Model(ward=pa.Column(pl.String, nullable=True))


def tighter() -> Model:
    """One column more, and one with another check and no longer optional."""
    name = pa.Column(pl.String, checks=pa.Check.str_length(max_value=40), nullable=True)
    return Model(ward=pa.Column(pl.String, nullable=True), patient_name=name)


def test_a_changed_check_is_seen(written: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Contract: what a check does is compared, not what it is called or how it is coded."""
    monkeypatch.setattr(contract, "WorklistEntrySchema", tighter())
    found = contract.differences(written, contract.exported())
    said = contract.explain(found)
    assert "entry.patient_name: required was False, is True (breaking)" in said
    assert "entry.patient_name: the check str_length is new (breaking)" in said
    assert "entry.ward: a new column\n" in said
    assert "--bump major" in said


def test_a_check_that_is_gone_is_seen(written: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Contract: a rule that the whole frame's check holds is a promise about each column it looks at."""
    looser = Model()
    looser.schema.checks = [check for check in looser.schema.checks if check.name != "too_long"]
    monkeypatch.setattr(contract, "WorklistEntrySchema", looser)
    said = contract.explain(contract.differences(written, contract.exported()))
    assert "entry.patient_name: the check too_long is gone (breaking)" in said
    assert "entry.modality: the check too_long is gone (breaking)" in said
    assert "entry.patient_birth_date" not in said


def test_a_changed_limit_is_seen(written: dict[str, object]) -> None:
    """Contract: 64 characters that become 60 are a breaking difference."""
    changed = contract.exported()
    changed["entry"]["patient_id"]["checks"]["too_long"]["longest"] = 60
    del changed["entry"]["notes"]
    said = [(each.text, each.breaking) for each in contract.differences(written, changed)]
    assert said == [
        ("entry.patient_id.too_long: longest was 64, is 60", True),
        ("entry.notes: the column is gone", True),
    ]


def test_the_bump_says_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Contract: compare, refuse a breaking change as a minor one, write the next version, and agree from then on."""
    file = tmp_path / "contract.json"
    file.write_bytes(FILE.read_bytes())
    before = json.loads(file.read_text())
    major, minor = map(int, before["version"].split("."))
    arguments = ["--file", str(file)]
    assert contract.main(arguments) == 0
    assert contract.main([*arguments, "--bump", "minor"]) == 1
    assert "nothing to bump" in capsys.readouterr().err

    monkeypatch.setattr(contract, "WorklistEntrySchema", wider())
    assert contract.main(arguments) == 1
    assert "--bump minor" in capsys.readouterr().out
    assert contract.main([*arguments, "--bump", "minor"]) == 0
    assert json.loads(file.read_text())["version"] == f"{major}.{minor + 1}"

    monkeypatch.setattr(contract, "WorklistEntrySchema", tighter())
    assert contract.main([*arguments, "--bump", "minor"]) == 1
    assert "--bump major" in capsys.readouterr().err
    assert contract.main([*arguments, "--bump", "major"]) == 0
    content = json.loads(file.read_text())
    assert content["version"] == f"{major + 1}.0"
    assert set(content["versions"]) == {*before["versions"], f"{major}.{minor + 1}", f"{major + 1}.0"}
    assert contract.main(arguments) == 0


def test_it_is_called_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Contract: in a checkout no path is to be given; elsewhere it says where to go."""
    monkeypatch.chdir(FILE.parents[1])
    assert contract.main([]) == 0
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        contract.main([])
