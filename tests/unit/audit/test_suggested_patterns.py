"""Suggested rules: right on every title they match, none where the titles do not tell, and no title given away."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.audit import FieldSuggestion, audit, suggest_rules, with_pattern
from pipeline.audit.suggestions import cut_at_group, taken
from pipeline.audit.titles import form, tokens
from pipeline.config import PipelineConfig
from pipeline.config.field_mapping import ExtractionRule, FieldRule
from pipeline.simulator.sample import sample_config
from pipeline.transform.extraction import explained

CASES = json.loads((Path(__file__).parents[2] / "fixtures/cases/suggestions.json").read_text())
TITLES = st.text(
    st.one_of(
        st.sampled_from(" _-/.,;:()^'\\\t\n\u00a0"),
        st.characters(codec="utf-8", categories=("Lu", "Ll", "Lo", "Mn", "Nd", "No", "So")),
        st.sampled_from("ABCabc0129"),
    ),
    min_size=1,
    max_size=40,
)

Values = list[str | None]

CONVENTIONS: dict[str, tuple[dict[str, str | None], Values | None]] = {
    # title -> id, and the names in the same order (None: no name may be suggested)
    "bids with a subject of letters and digits": (
        {"sub-CAL01_ses-1_task-rest": "sub-CAL01", "sub-CAL02_ses-2_task-rest": "sub-CAL02"},
        None,
    ),
    "visit suffix of two kinds": (
        {"HC01_V1": "HC01", "HC02_V1": "HC02", "PD01_V2": "PD01", "PD01_FU1": "PD01"},
        None,
    ),
    "family name first": (
        {"Doe, John (SUB001)": "SUB001", "Major, Mary Ann (SUB002)": "SUB002"},
        ["Doe^John", "Major^Mary Ann"],
    ),
    "hyphens": (
        {"NB-0012 - Ana Ejemplo": "NB-0012", "NB-0013 - Cy Sample-Probe": "NB-0013"},
        ["Ana Ejemplo", "Cy Sample-Probe"],
    ),
    "medical record number": (
        {"Doe, John MRN 1234567": "1234567", "Major, Mary MRN 7654321": "7654321"},
        ["Doe^John", "Major^Mary"],
    ),
    "conventions mixed, phantoms among them": (
        {
            "SUB001_John_Doe": "SUB001",
            "SUB002_Mary_Major": "SUB002",
            "Bo Muster (SUB003)": "SUB003",
            "Ed Probe (SUB004)": "SUB004",
            "PHANTOM001_weekly": None,
            "Phantom QA (ACR1)": None,
            "QA 2024-05-03": None,
            "Coil test": None,
        },
        ["John_Doe", "Mary_Major", "Bo Muster", "Ed Probe", None, None, None, None],
    ),
    "German": (
        {
            "VP012 Jürgen Müller Termin 1": "VP012",
            "VP013 Zoë von der Straße Termin 2": "VP013",
            "VP014 Änne Weiß Termin 1": "VP014",
        },
        ["Jürgen Müller", "Zoë von der Straße", "Änne Weiß"],
    ),
    "French": (
        {
            "Séance 2 - Sujet 104 - Éloïse Lefèvre": "104",
            "Séance 1 - Sujet 105 - Noël D'Arcy": "105",
        },
        ["Éloïse Lefèvre", "Noël D'Arcy"],
    ),
    "Polish": (
        {"Badany 017 wizyta 2 Łukasz Żak": "017", "Badany 018 wizyta 1 Anna Wójcik": "018"},
        ["Łukasz Żak", "Anna Wójcik"],
    ),
    "lower case": (
        {"nb-0012 john doe": "nb-0012", "nb-0013 mary major": "nb-0013"},
        ["john doe", "mary major"],
    ),
    "two numbers, one the visit": (
        {"0057 2": "0057", "0058 1": "0058", "0101 3": "0101"},
        None,
    ),
    "visit before the id": (
        {"V2 / 0057 MRI": "0057", "V1 / 0058 MRI": "0058", "V1 / 0101 MRI": "0101"},
        None,
    ),
    "visit not set apart": ({"P07V1": "P07", "P08V2": "P08", "P07V2": "P07"}, None),
    "study first": (
        {
            "NRT014: P07 Li Wu": "P07",
            "NRT014: P08 Ed Probe": "P08",
        },
        ["Li Wu", "Ed Probe"],
    ),
    "sites with the same numbers": (
        {"CAL-0057": "CAL-0057", "EDM-0057": "EDM-0057", "CAL-0058": "CAL-0058"},
        None,
    ),
    "sites of numbers": ({"12-0001": "12-0001", "12-0002": "12-0002", "13-0001": "13-0001"}, None),
    "studies with the same numbers": (
        {"[NEURO] 1234": "NEURO-1234", "[CARDIO] 1234": "CARDIO-1234", "[NEURO] 1235": "NEURO-1235"},
        None,
    ),
    "brackets forgotten": (
        {
            "[NEURO] 1234": "NEURO-1234",
            "[CARDIO] 1234 (pilot)": "CARDIO-1234",
            "[NEURO] 1235 (pilot)": "NEURO-1235",
            "[CARDIO] 1236": "CARDIO-1236",
            "NEURO 1237": "NEURO-1237",
            "1238 (pilot)": None,
            "Room 1239": None,
        },
        None,
    ),
    "a blank within the id": (
        {
            "SUB001_John_Doe": "SUB001",
            "SUB002_Mary_Major": "SUB002",
            "SUB003_Li_Wu": "SUB003",
            "SUB 004 Bo Muster": "SUB004",
        },
        ["John_Doe", "Mary_Major", "Li_Wu", "Bo Muster"],
    ),
    "a study called like a phantom": (
        {
            "P0012 phantom limb": "P0012",
            "P0013 phantom limb": "P0013",
            "P0014 phantom limb": "P0014",
            "P0015 phantom limb": "P0015",
            "P0016 control": "P0016",
            "P0017 control": "P0017",
            "P0018 control": "P0018",
            "Phantom": None,
            "P0019 cancelled": None,
        },
        None,
    ),
    "nobody, in many languages": (
        {
            "SUB001_Ana": "SUB001",
            "SUB002_Bo": "SUB002",
            "SUB003_Cy": "SUB003",
            "Phantommessung 001_Ana": None,
            "PHA007_Gerätewartung": None,
            "QAP008_Control de calidad": None,
            "MAN009_Mantenimiento": None,
            "OND010_Onderhoud": None,
        },
        ["Ana", "Bo", "Cy", None, None, None, None, None],
    ),
    "a name like a course": (
        {
            "SUB001_Ana_Kurs": "SUB001",
            "SUB002_Bo_Demo": "SUB002",
            "SUB003_Cy_Probe": "SUB003",
            "Demo": None,
            "Kurs 2026": None,
        },
        ["Ana_Kurs", "Bo_Demo", "Cy_Probe", None, None],
    ),
    "subjects called by the examination": (
        {
            "EEG101_Ana_Ejemplo": "EEG101",
            "EEG102_Bo_Muster": "EEG102",
            "EEG103_Cy_Probe": "EEG103",
            "SUB001_Di_Test": "SUB001",
            "SUB002_Ed_Sample": "SUB002",
            "SUB003_Li_Wu": "SUB003",
        },
        ["Ana_Ejemplo", "Bo_Muster", "Cy_Probe", "Di_Test", "Ed_Sample", "Li_Wu"],
    ),
    "arms of a study": (
        {"HC-001_F0": "HC-001", "PT-002_F0": "PT-002", "HC-001_F1": "HC-001", "PT-004_F0": "PT-004"},
        None,
    ),
    "some names with a comma": (
        {
            "Doe, John (SUB001)": "SUB001",
            "Mary Major (SUB002)": "SUB002",
            "Wu, Li (SUB003)": "SUB003",
            "Bo Muster (SUB004)": "SUB004",
        },
        ["Doe^John", "Mary Major", "Wu^Li", "Bo Muster"],
    ),
    "dates": (
        {
            "2024-05-03 SUB001 Ana Ejemplo": "SUB001",
            "2024-05-10 SUB002 Cy Sample": "SUB002",
        },
        ["Ana Ejemplo", "Cy Sample"],
    ),
    "each title in a way of its own": (
        {
            "SUB001_John_Doe": "SUB001",
            "Mary Major (SUB002)": "SUB002",
            "SUB003 - Li Wu": "SUB003",
            "MRI SUB004": "SUB004",
        },
        None,
    ),
}

NOTHING: dict[str, list[str]] = {
    "no title": [],
    "a single title": ["SUB001_John_Doe"],
    "all different, no id": ["Team lunch", "John Doe", "Coil 7", "3T cover"],
    "the visit alone": ["Smith V1", "Kowalski V2", "Muster V1"],
    "sessions by name": ["Session 1 Smith", "Session 2 Doe", "Session 12 Lee"],
    "rooms": ["Room 101 Smith", "Room 102 Doe", "Room 101 Lee"],
    "a code shared by people": ["R101 Smith", "R102 Doe", "R101 Lee", "R102 Kim"],
    "a study's code": ["NRT014 Smith", "NRT014 Doe", "NRT014 Lee"],
    "dates": ["John Doe 2024-05-03", "Mary Major 2024-05-04"],
    "birth dates": ["John Doe 19800503", "Mary Major 19910201", "Li Wu 20011231"],
    "six digits of a date": ["Doe 240503", "Major 240611", "Wu 240702"],
    "years": ["Doe 2023", "Major 2024", "Wu 2022"],
    "field strengths": ["Smith 3T", "Doe 7T", "Lee 3T"],
    "rooms of many digits": ["MRI101 Smith", "MRI102 Doe", "MRI101 Lee", "MRI102 Kim"],
    "scanners": ["MRI12 Smith", "MRI13 Doe", "MRI14 Lee"],
    "ages": ["Smith 45y", "Doe 37y", "Lee 61y"],
    "ordinals": ["1st visit Smith", "2nd visit Doe", "3rd visit Lee"],
    "times": ["09:30 Smith", "10:30 Doe"],
    "running numbers": ["1 - Smith", "2 - Doe", "1 - Lee", "3 - Kim"],
    "two ids in a title": ["SUB001/SUB002", "SUB003/SUB004"],
    "one subject": ["SUB001_V1", "SUB001_V2", "SUB001_V3"],
    "names with numbers": ["Smith01", "Smith02", "Doe01"],
    "phantoms": ["Phantom 0001", "Phantom 0002", "QA 1234"],
}


def by_rules(suggestion: FieldSuggestion, titles: list[str]) -> Values:
    """What the list of rules takes from each title: the first that matches counts."""
    return [
        next((value for rule in suggestion.rules if (value := rule.taken(title))), None) for title in titles
    ]


def by_joined(suggestion: FieldSuggestion, titles: list[str]) -> Values | None:
    """What the joined pattern takes from each title, None where there is none."""
    joined = suggestion.joined()
    return joined and [taken(re.compile(joined.pattern), joined.group, title) for title in titles]


def has_no_template(suggestion: FieldSuggestion) -> bool:
    """Whether the rules can be joined: a template's value stands in several groups."""
    return all(rule.template is None for rule in suggestion.rules)


def booking(number: int, title: str) -> dict[str, Any]:
    """One booking with a title."""
    return {
        "id": number,
        "title": title,
        "status": "Approved",
        "formattedName": "[2026-06-15 10:00:00.0, 2026-06-15 11:00:00.0]",
        "properties": {"resource": {"formattedName": "3T Diagnostic"}},
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_the_rules_take_what_a_person_would(case: dict[str, Any]) -> None:
    """Audit: from titles of the field, rules and joined pattern give the subject's id and name."""
    titles = case["titles"]
    made = suggest_rules(titles)
    right = [case["ids"], *case.get("also", [])]
    assert by_rules(made["patient_id"], titles) in right
    assert by_joined(made["patient_id"], titles) in (right if has_no_template(made["patient_id"]) else [None])
    for values in (by_rules(made["patient_name"], titles), by_joined(made["patient_name"], titles)):
        assert values == case["names"] or (case["names"] is None and not any(values or ()))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_the_audit_proposes_the_same(case: dict[str, Any]) -> None:
    """Audit: where no pattern catches anything, the frame of proposals holds the right rule as JSON."""
    titles = case["titles"]
    config = PipelineConfig.from_dict(sample_config(), offline=True)
    for target in ("patient_id", "patient_name"):
        config = with_pattern(config, target, "^(NOBODY)$")
    found = audit([booking(number, title) for number, title in enumerate(titles, 1)], config)
    for row in found.proposals.iter_rows(named=True):
        right = [case["ids"], *case.get("also", [])] if row["target"] == "patient_id" else [case["names"]]
        if row["extract"] is None:
            assert row["target"] == "patient_id" or case["names"] is None
            assert row["target"] == "patient_name" or case["case"] == "bracketed-study"
            continue
        extract = json.loads(row["extract"])
        pattern = re.compile(extract["pattern"])
        assert [taken(pattern, extract["group"], title) for title in titles] in right
        assert row["would_cover"] == 1
        assert not any(title in json.dumps(row) for title in titles)


@pytest.mark.parametrize("name", CONVENTIONS)
def test_each_convention_has_its_rules(name: str) -> None:
    """Audit: other conventions of the field, from BIDS labels to phantoms among the subjects."""
    wanted, names = CONVENTIONS[name]
    titles = list(wanted)
    made = suggest_rules(titles)
    assert by_rules(made["patient_id"], titles) == list(wanted.values())
    if has_no_template(made["patient_id"]):
        assert by_joined(made["patient_id"], titles) == list(wanted.values())
    assert by_rules(made["patient_name"], titles) == (names or [None] * len(titles))
    if names and has_no_template(made["patient_name"]):
        assert by_joined(made["patient_name"], titles) == names


@pytest.mark.parametrize("name", NOTHING)
def test_nothing_is_suggested_where_the_titles_do_not_tell(name: str) -> None:
    """Audit: no suggestion rather than a wrong one, because ``init`` takes it without a keyboard."""
    made = suggest_rules(NOTHING[name])
    assert not made["patient_id"].rules
    assert not made["patient_name"].rules


@pytest.mark.parametrize(
    "titles",
    [
        ["SUB001 - John Doe", "SUB002 - John Doe", "SUB003 - John Doe"],
        ["SUB001_Anna_Doe", "SUB002_John_Doe", "SUB003_Tim_Doe"],
        ["SUB001 CTRL", "SUB002 TRT", "SUB003 CTRL"],
        ["SUB001 Hip", "SUB002 Knee", "SUB003 Spine"],
        ["sub-01_ses-02", "sub-02_ses-03"],
    ],
)
def test_a_word_that_is_nobodys_name_is_not_suggested(titles: list[str]) -> None:
    """Audit: a constant word, an arm of the study, a body part, a label is not proposed as a name."""
    made = suggest_rules(titles)
    assert made["patient_id"].rules
    assert not made["patient_name"].rules


def test_a_series_a_list_and_counts_are_the_same() -> None:
    """Audit: titles come as a list, a polars Series, or counted."""
    titles = ["SUB001_John_Doe", "SUB001_John_Doe", "SUB002_Mary_Major"]
    counts = {"SUB001_John_Doe": 2, "SUB002_Mary_Major": 1}
    made = suggest_rules(titles)
    assert made == suggest_rules(pl.Series("title", titles)) == suggest_rules(counts)
    rule = made["patient_id"].rules[0]
    assert (rule.titles, rule.bookings, rule.shape, rule.form) == (2, 3, "AAA999_Aaaa_Aaa", "A9_Aa_Aa")
    assert rule.shown_samples(reveal=False) == ["AAA999_Aaaa_Aaa → AAA999", "AAA999_Aaaa_Aaaaa → AAA999"]
    assert rule.shown_samples(reveal=True)[0] == "SUB001_John_Doe → SUB001"


def test_an_extract_object_can_be_pasted() -> None:
    """Audit: the JSON of a rule, put into a configuration, is taken and gives what the samples show."""
    rule = suggest_rules(["SUB001 – Ana Ejemplo", "SUB002 – Cy Sample"])["patient_name"].rules[0]
    assert "\n" not in rule.extract
    assert rule.extract.isascii()
    mapping = {
        "patient_id": "id",
        "patient_name": {"source_field": "title", "_extract": json.loads(rule.extract)},
    }
    config = PipelineConfig.from_dict({**sample_config(), "field_mapping": mapping}, offline=True)
    made = next(each for each in config.rules if each.target == "patient_name")
    for title, value in rule.samples:
        assert explained(title, made.extractions).result == value


def test_what_is_taken_today_teaches_what_an_id_looks_like() -> None:
    """Audit: one title is enough where a rule in force shows what ids look like; no rule changes what it takes."""
    known = {"SUB001_John_Doe": "SUB001", "SUB002_Mary_Major": "SUB002"}
    titles = [*known, "Li Wu (SUB003)", "Scan1 Ed Probe", "SUB004/SUB005"]
    made = suggest_rules(titles, {"patient_id": known})["patient_id"]
    assert by_rules(made, titles) == [None, None, "SUB003", None, None]
    joined = made.joined(FieldRule("patient_id", "title", (ExtractionRule(r"^([A-Z]+\d+)_.*", 1),)))
    assert joined is not None
    values = [taken(re.compile(joined.pattern), joined.group, title) for title in titles]
    assert values == ["SUB001", "SUB002", "SUB003", None, None]


@pytest.mark.parametrize("pattern", [r"^([A-Z0-9]+)_((?:\w+\s?)*)$", r"\w+", r"(SUB\d+)|(x)"])
def test_a_pattern_that_cannot_be_joined_is_left_alone(pattern: str) -> None:
    """Audit: where today's pattern could search for long or has no plain group, nothing is joined to it."""
    known = {"SUB001_John": "SUB001", "SUB002_Mary": "SUB002"}
    made = suggest_rules([*known, "Li Wu (SUB003)"], {"patient_id": known})["patient_id"]
    assert made.rules
    assert (
        made.joined(FieldRule("patient_id", "title", (ExtractionRule(pattern, 1 if "(" in pattern else 0),)))
        is None
    )


def test_rules_that_would_change_each_other_are_not_joined() -> None:
    """Audit: today's ``(.+)$`` would take the id with the name, so one pattern for both is not proposed."""
    known = {"SUB401 - Ana Ejemplo": "Ana Ejemplo", "SUB403 - Cy Sample": "Cy Sample"}
    ids = {"SUB401 - Ana Ejemplo": "SUB401", "SUB403 - Cy Sample": "SUB403"}
    titles = [*known, "Bo Muster (SUB402)", "Ed Probe (SUB404)"]
    made = suggest_rules(titles, {"patient_id": ids, "patient_name": known})["patient_name"]
    assert by_rules(made, titles)[2:] == ["Bo Muster", "Ed Probe"]
    joined = made.joined(FieldRule("patient_name", "title", (ExtractionRule(r"^(?:[A-Z]+\d+ - )?(.+)$", 1),)))
    assert joined is None


@given(st.lists(TITLES, max_size=6))
def test_any_titles_will_do(titles: list[str]) -> None:
    """Audit: whatever the titles, what is suggested compiles and takes something from its titles."""
    for suggestion in suggest_rules(titles).values():
        for rule in suggestion.rules:
            for title, value in rule.samples:
                assert value
                assert rule.taken(title) == value


@given(
    st.lists(
        st.lists(
            st.sampled_from(["Alba", "Bo", "Zoë", "SUB1", "EEG22", "7", "_", " - ", ", ", "(", ")"]),
            min_size=1,
        ),
        max_size=5,
    )
)
def test_a_suggestion_gives_no_title_away(pieces: list[list[str]]) -> None:
    """Privacy: a pattern holds classes and separators, never the letters or digits of a title."""
    made = suggest_rules(["SUB1_Alba", "SUB7_Bo", "SUB22_Zoë", *map("".join, pieces)])
    for rule in (*made["patient_id"].rules, *made["patient_name"].rules):
        for word in ("Alba", "Bo", "Zoë", "SUB", "EEG", "22", "7"):
            assert word not in re.sub(r"\[(A-Z|a-z|A-Za-z|0-9)\]|\{[0-9,]+\}", "", rule.pattern)


@given(TITLES)
def test_tokens_put_together_are_the_title(title: str) -> None:
    """Audit: cutting a title into tokens loses nothing."""
    assert "".join(token.text for token in tokens(title)) == title


def test_a_form_is_a_shape_without_lengths() -> None:
    """Audit: names of other lengths have other shapes and one form."""
    assert form("AAA999_Aaaa_Aaa") == form("AA9_Aa_Aaaaaa") == "A9_Aa_Aa"


@pytest.mark.parametrize(
    ("pattern", "group", "before", "body", "after"),
    [
        (r"^(\w+)_.*", 1, "", r"\w+", "_.*"),
        (r"[A-Z(]+\(([^)]+)\)", 1, r"[A-Z(]+\(", "[^)]+", r"\)"),
        (r"(?P<id>\d+)x", "id", "", r"\d+", "x"),
        (r"(?:a|b)_(c)", 1, "(?:a|b)_", "c", ""),
    ],
)
def test_a_pattern_is_cut_at_its_group(
    pattern: str, group: int | str, before: str, body: str, after: str
) -> None:
    """Audit: the current pattern is kept piece by piece inside the joined one."""
    pieces = cut_at_group(pattern, group)
    assert pieces is not None
    assert (pieces.before, pieces.body, pieces.after) == (before, body, after)


@pytest.mark.parametrize(("pattern", "group"), [(r"\w+", 0), (r"(a)|(b)", 2), (r"((a)b)", 2), (r"(a)+", 1)])
def test_a_pattern_that_cannot_be_cut_is_left_alone(pattern: str, group: int) -> None:
    """Audit: where the group is not plain, nothing is joined rather than something wrong."""
    assert cut_at_group(pattern, group) is None
