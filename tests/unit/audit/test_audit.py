"""The audit on the sample: every field right, every fault named, nothing lost, no patient shown."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipeline.audit import Audit, audit, counting, read_payloads, with_pattern
from pipeline.batch import process_batch
from pipeline.config import PipelineConfig
from pipeline.errors import PluginConfigError
from pipeline.simulator.sample import sample_bookings, sample_config
from pipeline.transform.bookings import read_bookings

DATA = Path(__file__).parents[3] / "data"
BOOKINGS = DATA / "bookings.ndjson"
EXPECTED = DATA / "expected_entries.ndjson"


@pytest.fixture(scope="module")
def config() -> PipelineConfig:
    """The example configuration."""
    return PipelineConfig.from_dict(sample_config(), offline=True)


@pytest.fixture(scope="module")
def sample(config: PipelineConfig) -> Audit:
    """The audit of the whole sample against its labels."""
    return audit(read_payloads(BOOKINGS), config, EXPECTED)


def booking(number: int, title: str, start: str = "2026-06-15 10:00", **properties: Any) -> dict[str, Any]:
    """One booking of an hour on the 3T."""
    hour = int(start[11:13]) + 1
    return {
        "id": number,
        "title": title,
        "status": "Approved",
        "formattedName": f"[{start}:00.0, {start[:11]}{hour:02d}{start[13:]}:00.0]",
        "properties": {"resource": {"formattedName": "3T Diagnostic"}, **properties},
    }


def test_the_sample_is_right_in_every_field(sample: Audit) -> None:
    """SC-002: 100 % on the sample, with no disagreement and no label unused."""
    assert sample.score == 100
    assert len(sample.disagreements) == 0
    assert sample.overview.labelled >= 120
    assert sample.overview.labels_unused == 0
    assert set(sample.accuracy["accuracy"]) == {1.0}


def test_a_broken_pattern_is_named_with_its_bookings(config: PipelineConfig) -> None:
    """Done when: with one pattern broken on purpose the audit names the field and the bookings."""
    broken = with_pattern(config, "patient_name", r"^[A-Za-z]+[0-9]+_([A-Z][a-z]+)")
    found = audit(read_payloads(BOOKINGS), broken, EXPECTED)
    wrong = found.accuracy.filter(pl.col("accuracy") < 1)["field"].to_list()
    assert "patient_name" in wrong
    assert "patient_id" not in wrong
    names = found.disagreements.filter(pl.col("field") == "patient_name")
    assert 40001 in names["booking_id"].to_list()
    assert not found.passes(100)
    assert found.score is not None
    assert found.score < 50


def test_nothing_is_lost_or_added(sample: Audit, config: PipelineConfig) -> None:
    """Architecture: the audit rejects what the batch rejects, for the same reasons."""
    batch = process_batch(list(read_payloads(BOOKINGS)), config)
    assert sample.overview.bookings == len(batch.accepted) + len(batch.rejected)
    assert sample.overview.entries == len(batch.accepted)
    reasons = Counter(batch.rejected["reasons"].explode().to_list())
    assert dict(sample.rejections.select("reason", "bookings").iter_rows()) == reasons
    repairs = {
        (target, kind): len(ids)
        for target, kinds in batch.flags.repaired.items()
        for kind, ids in kinds.items()
    }
    assert {row[:2]: row[2] for row in sample.repairs.select("target", "kind", "bookings").rows()} == repairs
    assert ("patient_name", "cut") in repairs
    for field in sample.fields.iter_rows(named=True):
        parts = field["matched"] + field["fell_back"] + field["emptied"] + field["empty"]
        assert parts == field["bookings"] == sample.overview.bookings - sample.overview.unreadable
    unmatched = {target: sum(shapes.values()) for target, shapes in batch.flags.unmatched.items()}
    fallen = {
        row["target"]: row["fell_back"] for row in sample.fields.iter_rows(named=True) if row["pattern"]
    }
    assert fallen == unmatched


@pytest.mark.parametrize("size", [*(pytest.param(size, marks=pytest.mark.slow) for size in (1, 7)), 100])
def test_chunks_do_not_show(
    size: int, sample: Audit, config: PipelineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Done when: a million bookings go through in chunks; the frames are those of one piece."""
    monkeypatch.setattr(counting, "CHUNK", size)
    found = audit(read_payloads(BOOKINGS), config, EXPECTED)
    assert found.overview == sample.overview
    for name, frame in sample.frames().items():
        assert_frame_equal(found.frames()[name], frame, check_row_order=name != "weeks")


def test_a_frame_says_the_same_as_its_payloads(sample: Audit, config: PipelineConfig) -> None:
    """Audit: a frame of read_bookings, lazy or not, is audited like the payloads it came from."""
    frame = read_bookings(list(read_payloads(BOOKINGS)), config)
    for given in (frame, frame.lazy()):
        found = audit(given, config, EXPECTED)
        assert found.to_dict() == sample.to_dict()


def test_parsed_payloads_and_a_plain_mapping_do_too() -> None:
    """Audit: objects instead of text, and a config object instead of a PipelineConfig."""
    found = audit(iter(sample_bookings()), sample_config())
    assert found.overview.bookings == len(sample_bookings())


def test_no_patient_is_shown_unless_asked(sample: Audit, config: PipelineConfig) -> None:
    """Privacy: no name and no title of the sample stands in the audit, in its repr or its JSON."""
    text = json.dumps(sample.to_dict(), ensure_ascii=False) + repr(sample)
    for name in _names():
        assert name not in text
    revealed = audit(read_payloads(BOOKINGS), config, EXPECTED, reveal=True)
    shown = json.dumps(revealed.to_dict(), ensure_ascii=False)
    assert sum(name in shown for name in _names()) > 20
    assert revealed.overview.revealed
    assert "Prueba" not in repr(revealed)


def test_nothing_is_printed(config: PipelineConfig, capfd: pytest.CaptureFixture[str]) -> None:
    """Audit: a set of frames, no printing."""
    audit(sample_bookings(), config)
    assert capfd.readouterr() == ("", "")


def test_no_bookings_at_all(config: PipelineConfig) -> None:
    """Audit: nothing in, empty frames of the same columns out, and no pass."""
    found = audit([], config)
    assert found.overview.bookings == 0
    full = audit(sample_bookings(), config)
    for name, frame in found.frames().items():
        assert frame.schema == full.frames()[name].schema, name
    assert found.score is None
    assert not found.passes(0)


def test_only_unreadable_bookings(config: PipelineConfig) -> None:
    """Audit: lines that are no bookings are counted, rejected and break nothing."""
    found = audit([b"", b"[]", b"{", "null"], config)
    assert found.overview.rejected == found.overview.unreadable == 4
    assert found.score == 0


def test_times_in_doubt(config: PipelineConfig) -> None:
    """T012: the hour that comes twice, the one that never comes, and the 2026 rule that other zone data miss."""
    found = audit(
        [
            booking(1, "SUB001_A_B", "2025-11-02 01:30"),
            booking(2, "SUB002_A_B", "2026-03-08 02:30"),
            booking(3, "SUB003_A_B", "2026-12-01 10:00"),
            booking(4, "SUB004_A_B", "2026-06-15 10:00"),
        ],
        config,
    )
    checks = {row["check"]: row["booking_ids"] for row in found.times.iter_rows(named=True)}
    assert checks["ambiguous"] == [1]
    assert checks["non_existent"] == [2]
    assert found.overview.in_doubt == 2
    libraries = {row["library"]: row for row in found.zone_data.iter_rows(named=True)}
    assert libraries["pytz"]["bookings"] == 0
    assert checks["zone_data"] == sorted(
        {*libraries["polars"]["booking_ids"], *libraries["system"]["booking_ids"]}
    )
    for library in libraries.values():
        assert library["bookings"] == 0 or (library["booking_ids"], library["hours"]) == ([3], -1.0)


def test_a_night_on_the_scanner_is_counted_but_in_no_doubt(config: PipelineConfig) -> None:
    """Issue text: times name multi-day spans; they are right as they stand, so no one has to look at them."""
    night = booking(1, "SUB001_A_B") | {"formattedName": "[2026-06-15 22:00:00.0, 2026-06-16 06:00:00.0]"}
    found = audit([night, booking(2, "SUB002_A_B")], config)
    checks = {row["check"]: row["booking_ids"] for row in found.times.iter_rows(named=True)}
    assert checks["multi_day"] == [1]
    assert found.overview.in_doubt == 0
    assert found.doubtful.is_empty()


def test_one_subject_booked_twice(config: PipelineConfig) -> None:
    """Audit: the same subject at the same time is a double booking, unless one of them is cancelled."""
    found = audit(
        [
            booking(1, "SUB001_A_B"),
            booking(2, "SUB001_A_B"),
            booking(3, "SUB001_A_B", cancelled=True),
            booking(4, "SUB002_A_B"),
            booking(5, "SUB002_A_B", cancelled=True),
            booking(6, "SUB003_A_B", "2026-06-15 11:00"),
        ],
        config,
    )
    assert found.duplicates.select("subject", "bookings", "booking_ids").rows() == [("AAA999", 2, [1, 2])]


def test_the_same_booking_twice_far_apart(config: PipelineConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Audit: copies in different chunks are told apart as in one batch: the newest modification counts."""
    payloads = [
        booking(1, "SUB001_A_B", modified="2026-02-02T00:00:00"),
        booking(2, "SUB002_A_B"),
        booking(1, "SUB009_Old", modified="2026-01-01T00:00:00"),
        booking(3, "", modified="2026-01-01T00:00:00"),
        booking(3, "SUB003_A_B", modified="2026-03-01T00:00:00"),
    ]
    label = [{"booking_id": 1, "expected": {"patient_id": "SUB001"}}]
    batch = process_batch(payloads, config)
    monkeypatch.setattr(counting, "CHUNK", 2)
    found = audit(payloads, config, label)
    assert found.overview.entries == len(batch.accepted) == 3
    reasons = Counter(batch.rejected["reasons"].explode().to_list())
    assert dict(found.rejections.select("reason", "bookings").iter_rows()) == reasons
    assert dict(found.rejections.select("reason", "alone").iter_rows()) == {
        "duplicate_booking_id": 1,
        "patient_id_missing": 0,
    }
    assert found.co_occurrence.rows() == [("duplicate_booking_id", "patient_id_missing", 1)]
    assert found.score == 100


def test_a_convention_and_its_exceptions_show(config: PipelineConfig) -> None:
    """Audit: shapes are counted, grouped by form, and the patterns that catch them are named."""
    names = ["John_Doe", "Mary_Major", "Li_Wu"]
    payloads = [booking(n, f"SUB{n:03d}_{names[n % 3]}") for n in range(1, 31)]
    payloads += [booking(n, f"{n:03d} {names[n % 3].replace('_', ' ')} SUB") for n in range(31, 34)]
    found = audit(payloads, config)
    counts = dict(found.census.select("shape", "bookings").iter_rows())
    assert counts["AAA999_Aaaa_Aaa"] == 10
    assert found.conventions.select("form", "bookings", "caught").rows() == [
        ("A9_Aa_Aa", 30, 30),
        ("9 Aa Aa A", 3, 0),
    ]
    second = found.conventions.row(1, named=True)
    assert second["missed_by"] == ["patient_id", "patient_name"]
    suggested = {row["target"]: row for row in found.suggestions.iter_rows(named=True)}
    assert set(suggested) == {"patient_id", "patient_name"}


def test_the_rule_of_a_list_that_catches_a_convention_is_named() -> None:
    """Audit: of a list of rules it is said which one catches a form; ignored titles are not among the unmatched."""
    by_list = [
        {"pattern": r"(SUB[0-9]+)_", "group": 1},
        {"pattern": r"\[([A-Z]+)\] ([0-9]+)", "template": "{1}-{2}"},
        {"pattern": r"[0-9]+$"},
    ]
    mapping = {
        "patient_id": {"source_field": "title", "_extract": by_list},
        "patient_name": {"source_field": "title", "_extract": {"pattern": "SUB[0-9]+_(.+)", "group": 1}},
    }
    titles = [
        "SUB001_Doe",
        "SUB002_Roe",
        "[NEURO] 17",
        "[NEURO] 18",
        "19",
        "QA phantom",
        "QA phantom",
        "Nobody",
    ]
    payloads = [booking(number, title) for number, title in enumerate(titles, start=1)]
    found = audit(payloads, {"field_mapping": mapping, "ignore_titles": ["phantom"]})
    told = {row["shape"]: row for row in found.census.iter_rows(named=True)}
    assert {shape: row["caught_by"] for shape, row in told.items()} == {
        "AAA999_Aaa": ["patient_id (rule 1)", "patient_name"],
        "[AAAAA] 99": ["patient_id (rule 2)"],
        "99": ["patient_id (rule 3)"],
        "Aaaaaa": [],
    }
    assert told["Aaaaaa"]["missed_by"] == ["patient_id", "patient_name"]
    assert found.overview.filtered == 2
    of_id = found.fields.row(0, named=True)
    assert (of_id["bookings"], of_id["matched"]) == (6, 5)
    assert json.loads(of_id["pattern"])[1]["template"] == "{1}-{2}"


def test_suggestions_on_the_sample_are_ids_and_names(config: PipelineConfig) -> None:
    """Audit: each rule suggested for the sample takes the id, or a name, and of no phantom's title anything."""
    found = audit(read_payloads(BOOKINGS), config, reveal=True)
    assert "patient_id" in found.suggestions["target"]
    titles = [title for kept in found.census["titles"] for title in kept]
    for row in found.suggestions.iter_rows(named=True):
        matched = [match for title in titles if (match := re.match(row["pattern"], title))]
        assert len(matched) >= row["checked"] > 0
        for match in matched:
            value, wanted = (
                match.group(row["group"]),
                r"[^\W\d_]+\d+" if row["target"] == "patient_id" else r"\D+",
            )
            assert re.fullmatch(wanted, value), row["pattern"]
            assert not re.search(r"(?i)phantom|\bqa\b", match.string)


def test_a_proposal_keeps_its_promise(config: PipelineConfig) -> None:
    """Audit: with the proposed pattern in place, coverage is what was promised."""
    names = ["John Doe", "Mary Major", "Li Wu", "Zoë O'Neil", "Ed van der Berg"]
    payloads = [booking(n, f"SUB{n:03d}_{names[n % 5].replace(' ', '_')}") for n in range(1, 91)]
    payloads += [booking(n, f"SUB{n:03d}/{names[n % 5]}") for n in range(91, 101)]
    narrow = with_pattern(config, "patient_name", r"^[A-Za-z]+[0-9]+_(.+)$")
    before = audit(payloads, narrow)
    proposal = before.proposals.row(by_predicate=pl.col("target") == "patient_name", named=True)
    assert proposal["coverage"] == pytest.approx(0.9)
    tried = with_pattern(narrow, "patient_name", proposal["pattern"], proposal["group"])
    after = audit(payloads, tried)
    assert _coverage(after, "patient_name") == proposal["would_cover"] == 1
    assert _coverage(before, "patient_name") == pytest.approx(0.9)


def test_coverage_is_judged_where_nothing_is_labelled(config: PipelineConfig) -> None:
    """SC-002: without labels the lowest coverage counts, and the share of bookings that made it."""
    good = [booking(n, f"SUB{n:03d}_John_Doe", project={"formattedName": "P"}) for n in range(1, 11)]
    assert audit(good, config).score == 100
    assert audit([*good[:-1], booking(10, "nobody", project={"formattedName": "P"})], config).score == 90
    assert audit([*good[:-1], b"{"], config).score == 90


def test_a_field_that_nothing_fills_is_not_covered(config: PipelineConfig) -> None:
    """SC-002: a mistyped source leaves every booking empty, which is no coverage, not a full one."""
    wrong = {
        **sample_config(),
        "field_mapping": {"patient_id": "title", "study_description": "properties.projct"},
    }
    found = audit([booking(1, "SUB001_A_B")], wrong)
    assert _coverage(found, "study_description") == 0
    assert not found.passes(100)


def test_what_was_not_asked_for_is_counted_apart(config: PipelineConfig) -> None:
    """Audit: bookings that a selection leaves out are filtered: counted, and no more said of them."""
    from pipeline.transform.selection import Selection

    other = booking(2, "SUB002_A_B", resource={"formattedName": "Kitchen"})
    found = audit(
        [booking(1, "SUB001_A_B"), other], config, selection=Selection(resources=("3T Diagnostic",))
    )
    assert (found.overview.bookings, found.overview.entries, found.overview.filtered) == (2, 1, 1)
    assert found.resources["value"].to_list() == ["3T Diagnostic"]


def test_a_vocabulary_taken_from_the_title_is_masked() -> None:
    """Privacy: where the mapping takes the modality from the title, the table of resources shows shapes."""
    config = {**sample_config(), "field_mapping": {"patient_id": "title", "modality": "title"}}
    found = audit([booking(1, "SUB001_John_Doe")], config)
    assert found.resources["value"].to_list() == ["AAA999_Aaaa_Aaa"]
    # A title that is a valid code becomes the modality itself.
    label = [{"booking_id": 1, "expected": {"modality": "MR"}}]
    found = audit([booking(1, "DOE JOHN"), booking(2, "MR")], config, label)
    assert "DOE" not in json.dumps(found.to_dict(), default=str)
    assert found.resources["mapped"].to_list() == ["AA", "AAA AAAA"]
    revealed = audit([booking(1, "DOE JOHN")], config, label, reveal=True)
    assert "DOE JOHN" in revealed.resources["mapped"].to_list()


@pytest.mark.parametrize(
    ("label", "problem"),
    [
        ([], "no JSON object"),
        ({"booking_id": 1, "expected": {}, "rejected": "x"}, "either expected"),
        ({"booking_id": "one", "expected": {}}, "whole number"),
        ({"expected": {}}, "names no booking"),
        ({"patient_id": "SUB001"}, "source_record_id"),
        ({"booking_id": 1, "rejected": 3}, "neither text"),
    ],
)
def test_a_wrong_label_is_refused(label: Any, problem: str, config: PipelineConfig) -> None:
    """Audit: a label that says nothing is a fault of its file, named by its place, without its values."""
    with pytest.raises(PluginConfigError, match=f"label 1 .*{problem}") as caught:
        audit([], config, [label])
    assert "SUB001" not in str(caught.value)


def test_the_same_label_twice_is_refused(config: PipelineConfig) -> None:
    """Audit: two labels for one booking contradict each other or say nothing new."""
    label = {"booking_id": 1, "expected": {}}
    with pytest.raises(PluginConfigError, match="label 2"):
        audit([], config, [label, label])


def test_every_kind_of_disagreement_is_said(config: PipelineConfig) -> None:
    """Audit: missing, not mapped, of the same shape, wrongly rejected, wrongly accepted, wrong reason."""
    labels = [
        {
            "booking_id": 1,
            "expected": {"patient_id": "SUB999", "protocol_name": "x", "study_description": "S"},
        },
        {"booking_id": 2, "expected": {"patient_id": "SUB002"}},
        {"booking_id": 3, "rejected": "times_missing"},
        {"booking_id": 4, "rejected": ["times_missing"]},
        {"booking_id": 99, "rejected": "times_missing"},
    ]
    payloads = [booking(1, "SUB001_A_B"), booking(2, ""), booking(3, "SUB003_A_B"), booking(4, "")]
    found = audit(payloads, config, labels)
    said = set(found.disagreements.select("booking_id", "field", "expected", "got", "kind").iter_rows())
    assert said == {
        (1, "patient_id", "AAA999", "AAA999", "other value of the same shape"),
        (1, "protocol_name", "a", "(nothing)", "not mapped"),
        (1, "study_description", "A", "(nothing)", "missing"),
        (2, "outcome", "entry", "rejected: patient_id_missing", "other value"),
        (2, "patient_id", "AAA999", "(nothing)", "missing"),
        (3, "outcome", "rejected", "entry", "other value"),
        (4, "reasons", "times_missing", "patient_id_missing", "other value"),
    }
    assert found.overview.labels_unused == 1


def test_the_frames_are_documented() -> None:
    """Audit: the table in Audit's docstring names every frame and its columns."""
    rows = [[cell.strip() for cell in line.split("|")] for line in str(Audit.__doc__).splitlines()]
    table = {name: row[3].split(", ") for row in rows if len(row) == 5 for name in row[1].split(", ")}
    found = audit(sample_bookings(), sample_config())
    assert {name: table[name] for name in found.frames()} == {
        name: frame.columns for name, frame in found.frames().items()
    }


def test_blank_lines_keep_their_place(tmp_path: Path) -> None:
    """Audit: blank lines are no bookings, and a label names a line as an editor counts it."""
    path = tmp_path / "bookings.ndjson"
    path.write_bytes(b'\xef\xbb\xbf{"id": 1}\n\n{"title": "x"}\n\n \n')
    assert list(read_payloads(path)) == [b'{"id": 1}', b'{"title": "x"}']
    label = {"line": 3, "rejected": "booking_id_invalid; times_missing"}
    found = audit(read_payloads(path), {}, [label])
    assert (found.overview.bookings, found.overview.labelled, len(found.disagreements)) == (2, 1, 0)


def test_a_pattern_to_try_is_checked(config: PipelineConfig) -> None:
    """Audit: trying a pattern says what is wrong with it, as the configuration would."""
    with pytest.raises(PluginConfigError, match="position 0"):
        with_pattern(config, "patient_id", "(")
    with pytest.raises(PluginConfigError, match="no group 2"):
        with_pattern(config, "patient_id", "(a)", 2)
    with pytest.raises(PluginConfigError, match="no rule"):
        with_pattern(config, "station_name", "(a)")


def _coverage(found: Audit, target: str) -> float:
    return float(found.fields.row(by_predicate=pl.col("target") == target, named=True)["coverage"])


def _names() -> Iterator[str]:
    """Subjects' names in the labels, and identifiers long enough to be nobody else's."""
    for line in EXPECTED.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line).get("expected")
        if entry and len(entry["patient_name"]) > 6:
            yield entry["patient_name"]
