"""``field_mapping``: both forms, their mixture, and every way to get one wrong (T002, T011)."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from pipeline import fields
from pipeline.config.field_mapping import (
    ExtractionRule,
    FieldRule,
    MappingReader,
    as_configured,
    compile_pattern,
)
from pipeline.wording import Wording

ID = {"pattern": "^([A-Z0-9]+)_", "group": 1}
NAME = {"pattern": "^[A-Z0-9]+_(.+)$", "group": 1}
ID_RULE = ExtractionRule("^([A-Z0-9]+)_", 1)
NAME_RULE = ExtractionRule("^[A-Z0-9]+_(.+)$", 1)


def read(mapping: Any) -> MappingReader:
    """Read a mapping and return the reader with rules, faults and warnings."""
    reader = MappingReader(Wording())
    reader.read(mapping)
    return reader


def rules(mapping: Any) -> dict[str, FieldRule]:
    """Return the rules of a mapping that must be faultless."""
    reader = read(mapping)
    assert reader.faults == []
    return reader.rules


def fault(mapping: Any) -> str:
    """Return the one fault of a mapping."""
    (only,) = read(mapping).faults
    return only


def test_target_keyed_form() -> None:
    """T014: a target names its source, with or without an extraction."""
    found = rules({"patient_id": {"source_field": "title", "_extract": ID}, "accession_number": "id"})
    assert found["patient_id"] == FieldRule("patient_id", "title", (ID_RULE,))
    assert found["accession_number"] == FieldRule("accession_number", "id")
    assert rules({"patient_id": {"source_field": "title"}})["patient_id"] == FieldRule("patient_id", "title")


def test_source_keyed_form() -> None:
    """Design: a source names its targets, with or without an extraction."""
    found = rules(
        {
            "title": {"_extract": {"patient_id": ID, "patient_name": NAME}},
            "resource.formattedName": "modality",
        }
    )
    assert list(found.values()) == [
        FieldRule("patient_id", "title", (ID_RULE,)),
        FieldRule("patient_name", "title", (NAME_RULE,)),
        FieldRule("modality", "resource.formattedName"),
    ]


def test_the_forms_may_be_mixed() -> None:
    """Design: one mapping may use both forms, in any order."""
    mixed = {
        "id": "accession_number",
        "patient_id": {"source_field": "title", "_extract": ID},
        "title": {"_extract": {"patient_name": NAME}},
        "study_description": "properties.project.formattedName",
    }
    assert {target: rule.source for target, rule in rules(mixed).items()} == {
        "accession_number": "id",
        "patient_id": "title",
        "patient_name": "title",
        "study_description": "properties.project.formattedName",
    }


def test_an_empty_mapping_takes_the_title() -> None:
    """Promise: an empty mapping is valid, and the title is both id and name."""
    assert rules({}) == {
        "patient_id": FieldRule("patient_id", "title"),
        "patient_name": FieldRule("patient_name", "title"),
    }


def test_comments_are_left_out() -> None:
    """T021: keys that begin with _ are comments at every level."""
    commented = {
        "_comment": 3,
        "patient_id": {"_why": "x", "source_field": "title", "_extract": {**ID, "_note": "y"}},
        "title": {"_extract": {"_comment": "z", "patient_name": NAME}},
    }
    assert set(rules(commented)) == {"patient_id", "patient_name"}
    assert read(commented).warnings == []


@pytest.mark.parametrize("target", fields.names("computed"))
def test_computed_fields_are_left_to_the_pipeline(target: str) -> None:
    """Promise: a rule for a field that the pipeline works out itself is accepted and ignored with a warning."""
    for mapping in ({target: "id"}, {"some.path": target}, {target: {"source_field": "id"}}):
        reader = read(mapping)
        assert reader.faults == []
        assert target not in reader.rules
        assert target in reader.warnings[0]


@pytest.mark.parametrize("value", [3, None, [], ["patient_id"], True, 1.5])
def test_a_rule_is_a_path_or_an_object(value: Any) -> None:
    """T002: a rule of another type is refused with both things one can write."""
    assert fault({"patient_id": value}).startswith("field_mapping.patient_id: got ")
    assert '"source_field": "title"' in fault({"patient_id": value})


@pytest.mark.parametrize("mapping", [None, [], "title", 3])
def test_a_mapping_is_an_object(mapping: Any) -> None:
    """T002: field_mapping of another type is refused."""
    assert fault(mapping).startswith("field_mapping: got ")


@pytest.mark.parametrize("path", ["", "  ", "a..b", ".a", "a.", "a\nb", "\ud800"])
def test_a_path_has_names_between_its_dots(path: str) -> None:
    """T002: a path that can point to nothing is refused."""
    assert "the source: got " in fault({"accession_number": path})


@pytest.mark.parametrize("extract", [None, "pattern", [], 3, True])
def test_extract_is_an_object(extract: Any) -> None:
    """T002: a malformed _extract is refused with a well-formed one to copy."""
    told = fault({"patient_id": {"source_field": "title", "_extract": extract}})
    assert told.startswith("field_mapping.patient_id._extract: got ")
    assert '{"pattern": ' in told


def test_extract_needs_a_pattern() -> None:
    """T002: validates that _extract has its required key."""
    told = fault({"patient_id": {"source_field": "title", "_extract": {"group": 1}}})
    assert told.startswith("field_mapping.patient_id._extract: pattern is missing; write ")
    assert "pattern is missing" in fault({"patient_id": {"source_field": "title", "_extract": {}}})


def test_a_target_keyed_extract_needs_a_source() -> None:
    """T002: without source_field nobody knows what to read."""
    assert "source_field is missing" in fault({"patient_id": {"_extract": ID}})
    assert "source_field is missing" in fault({"patient_id": {}})
    assert "source_field: got null" in fault({"patient_id": {"source_field": None, "_extract": ID}})


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("([A-Z", "does not compile at position 1: unterminated character set"),
        ("*a", "does not compile at position 0: nothing to repeat"),
        ("(?P<1>a)", "does not compile at position 4"),
        ("(a", "does not compile at position 0: missing ), unterminated subpattern"),
        ("a{9999999999999999}", "does not compile"),
        ("(" * 5000 + ")" * 5000, "does not compile"),
        ("\ud800", "half a surrogate pair"),
    ],
)
def test_a_pattern_must_compile(pattern: str, told: str) -> None:
    """T011: an invalid pattern is a configuration error that names the field and the position."""
    found = fault({"patient_id": {"source_field": "title", "_extract": {"pattern": pattern}}})
    assert found.startswith("field_mapping.patient_id._extract.pattern: got ")
    assert told in found


@pytest.mark.parametrize("pattern", [None, 3, "", [], True])
def test_a_pattern_is_a_text(pattern: Any) -> None:
    """T002: strict types hold for patterns too."""
    told = fault({"patient_id": {"source_field": "title", "_extract": {"pattern": pattern}}})
    assert told.startswith("field_mapping.patient_id._extract.pattern: got ")


@pytest.mark.parametrize(
    ("pattern", "group", "told"),
    [
        ("(a)(b)", 3, "but the pattern has 2 groups; write a number from 0 to 2"),
        ("(a)", -1, "but the pattern has one group; write a number from 0 to 1"),
        ("a", 1, "but the pattern has no group; write 0, or ( )"),
        ("(?P<id>a)", "name", "no group of that name; write one of its names: 'id'"),
        ("(a)", "name", "names no group; write a number, or name the group"),
        ("(a)", "1", "write 1 without quotes"),
        ("(a)", True, "got true; write a group's number"),
        ("(a)", 1.0, "got the number 1.0"),
        ("(a)", None, "got null"),
        ("(a)", [1], "got the list [1]"),
        ("(a)", 10**30, "more than 18 digits"),
    ],
)
def test_a_group_must_be_in_the_pattern(pattern: str, group: Any, told: str) -> None:
    """Promise: a group that the pattern does not have, by number or by name, is refused."""
    found = fault({"patient_id": {"source_field": "title", "_extract": {"pattern": pattern, "group": group}}})
    assert found.startswith("field_mapping.patient_id._extract.group: got ")
    assert told in found


def test_groups_by_number_and_name() -> None:
    """T011: group 0, numbers from 1 on, and names are supported; without a group it is the whole match."""
    pattern = "(?P<id>[A-Z]+)_(.+)"
    for group in (0, 1, 2, "id"):
        found = rules(
            {"patient_id": {"source_field": "title", "_extract": {"pattern": pattern, "group": group}}}
        )
        assert found["patient_id"].extractions == (ExtractionRule(pattern, group),)
    plain = rules({"patient_id": {"source_field": "t", "_extract": {"pattern": "a"}}})
    assert plain["patient_id"].extractions[0].group == 0


@pytest.mark.parametrize(
    "mapping",
    [
        {"patient_id": "title", "title": {"_extract": {"patient_id": ID}}},
        {"id": "accession_number", "accession_number": "title"},
        {"title": {"_extract": {"patient_id": ID}}, "properties.title": {"_extract": {"patient_id": ID}}},
        {"id": "notes", "notes": "title", "accession_number": "id", "properties.id": "accession_number"},
    ],
)
def test_two_rules_for_one_target_are_refused(mapping: Any) -> None:
    """Promise: which rule wins must not be a matter of order."""
    assert "a second rule for the target" in fault(mapping)


@pytest.mark.parametrize("value", ["Original", None, 3, True, ["null"]])
def test_on_no_match_is_one_of_three(value: Any) -> None:
    """Design: original, null or reject."""
    told = fault({"patient_id": {"source_field": "title", "_extract": {**ID, "on_no_match": value}}})
    assert told.endswith('write "original", "null" or "reject"')


def test_on_no_match_of_one_rule_stands_above_the_option() -> None:
    """Design: the option holds for all rules that do not say otherwise."""
    reader = MappingReader(Wording(), on_no_match="null")
    mapping = {
        "patient_id": {"source_field": "title", "_extract": {**ID, "on_no_match": "reject"}},
        "patient_name": {"source_field": "title", "_extract": NAME},
    }
    assert [rule.on_no_match for rule in reader.read(mapping)] == ["reject", "null"]


@pytest.mark.parametrize(
    ("mapping", "meant"),
    [
        ({"patient_nmae": "title"}, "patient_name"),
        ({"patient-id": "title"}, "patient_id"),
        ({"Patient_ID": "title"}, "patient_id"),
        ({"modalty": {"source_field": "title"}}, "modality"),
        ({"title": {"_extract": {"acession_number": ID}}}, "accession_number"),
        ({"patient_id": {"source_feild": "title", "source_field": "title"}}, "source_field"),
        ({"patient_id": {"source_field": "title", "extract": ID}}, "_extract"),
        ({"patient_id": {"source_field": "title", "_extract": {**ID, "gruop": 1}}}, "group"),
    ],
)
def test_near_misses_are_suggested(mapping: Any, meant: str) -> None:
    """Promise: near misses of key names are suggested, in the mapping too."""
    assert f"did you mean {meant!r}?" in fault(mapping)


def test_a_pattern_beside_extract_is_refused() -> None:
    """T002: a pattern that would be ignored is told, with the right place."""
    told = fault({"patient_id": {"source_field": "title", "pattern": "x"}})
    assert "pattern stands beside" in told
    assert "write it inside" in told


@pytest.mark.parametrize("target", ["patient_age", "patient_size", "operator", "my_field"])
def test_other_targets_are_carried_with_a_warning(target: str) -> None:
    """Promise: existing mappings run unchanged, also with a target that Pylantir does not store."""
    reader = read({target: "properties.x"})
    assert reader.faults == []
    assert reader.rules[target].source == "properties.x"
    assert target in reader.warnings[0]


@pytest.mark.parametrize("target", ["has blank", "1st", "a.b", "überschrift", *sorted(fields.FRAME_COLUMNS)])
def test_a_target_cannot_be_a_column_of_the_pipeline(target: str) -> None:
    """Promise: names of the pipeline's own columns, and what is no name, are refused as targets."""
    assert read({target: {"source_field": "properties.x"}}).faults


def test_known_names_are_apart() -> None:
    """Promise: what the host stores, what the pipeline computes and what the frames use do not overlap."""
    assert len(set(fields.names())) == len(fields.WORKLIST)
    assert not fields.FRAME_COLUMNS & set(fields.names())


def test_pythons_cautions_become_warnings() -> None:
    """Promise: a pattern Python is in doubt about is told, and warns nobody else at run time."""
    reader = read({"patient_id": {"source_field": "title", "_extract": {"pattern": "[[a-z]+", "group": 0}}})
    assert reader.faults == []
    assert "Possible nested set" in reader.warnings[0]
    assert compile_pattern("[[a-z]+")[0].match("abc")


def test_rules_can_be_sent_to_another_process() -> None:
    """Promise: workers of a cluster get the rules."""
    rule = FieldRule("patient_id", "title", (ExtractionRule("(a)", values=(("a", "b"),)),), "reject")
    assert pickle.loads(pickle.dumps(rule)) == rule


def extract(value: Any, **beside: Any) -> dict[str, Any]:
    """Return a mapping of patient_id with this ``_extract``, and what stands beside it."""
    return {"patient_id": {"source_field": "title", "_extract": value, **beside}}


def test_extract_may_be_a_list() -> None:
    """rules.md: of a list each is a rule, in both forms, and the last one's on_no_match is the field's."""
    wanted = FieldRule(
        "patient_id",
        "title",
        (
            ExtractionRule(r"\[([A-Z]+)\] (\d+)", 0, "{1}-{2}"),
            ExtractionRule("(?P<n>x)", "n", None, (("x", "Y"),)),
        ),
        "reject",
    )
    given = [
        {"pattern": r"\[([A-Z]+)\] (\d+)", "template": "{1}-{2}"},
        {"pattern": "(?P<n>x)", "group": "n", "values": {"_why": 1, "x": "Y"}, "on_no_match": "reject"},
    ]
    assert rules(extract(given))["patient_id"] == wanted
    assert rules({"title": {"_extract": {"patient_id": given}}})["patient_id"] == wanted
    assert as_configured(wanted.extractions) == [
        {"pattern": r"\[([A-Z]+)\] (\d+)", "template": "{1}-{2}"},
        {"pattern": "(?P<n>x)", "group": "n", "values": {"x": "Y"}},
    ]
    one = rules(extract([ID]))["patient_id"]
    assert one == rules(extract(ID))["patient_id"]
    assert as_configured(one.extractions) == ID


def test_values_stand_beside_a_source() -> None:
    """rules.md: values beside source_field, without a pattern and with one."""
    table = {"männlich": "M", "Unbekannt": ""}
    found = rules({"patient_sex": {"source_field": "sex", "values": table}})["patient_sex"]
    assert found == FieldRule("patient_sex", "sex", values=(("männlich", "M"), ("Unbekannt", "")))
    assert rules(extract(ID, values=table))["patient_id"].values == found.values


def test_a_target_may_be_called_like_a_later_key() -> None:
    """Promise: configurations mean what they meant: `template` and `values` are targets in the source-keyed form."""
    assert set(read({"title": {"_extract": {"template": ID, "values": NAME}}}).rules) >= {
        "template",
        "values",
    }


PAIR = "(?P<a>x)-(y)?"


@pytest.mark.parametrize(
    ("mapping", "told"),
    [
        (extract([]), "_extract: got an empty list; write"),
        (extract([ID, 3]), "_extract[1]: got the number 3; write"),
        (extract([ID, {"group": 1}]), "_extract[1]: pattern is missing"),
        (extract([ID, {"pattern": ""}]), "_extract[1].pattern: got an empty text"),
        (extract([{"pattern": "(a"}, ID]), "_extract[0].pattern: got the text '(a', which does not compile"),
        (
            extract([{"pattern": "a", "group": 1}, ID]),
            "_extract[0].group: got the number 1, but the pattern has no group",
        ),
        (
            extract({"pattern": PAIR, "template": "{1}", "group": 1}),
            "_extract: group and template both say what is taken",
        ),
        (extract({"pattern": PAIR, "template": "{3}"}), "a group is named that the pattern does not have"),
        (extract({"pattern": PAIR, "template": "{b}"}), "the pattern's groups are '1', '2', 'a'"),
        (extract({"pattern": PAIR, "template": "{}"}), "a group is named that the pattern does not have"),
        (extract({"pattern": PAIR, "template": "{1!r}"}), "a group is named that the pattern does not have"),
        (extract({"pattern": PAIR, "template": "{1"}), "in which a { stands alone"),
        (extract({"pattern": PAIR, "template": "{1}}"}), "in which a } stands alone"),
        (extract({"pattern": PAIR, "template": r"\1"}), "in which no group stands"),
        (extract({"pattern": PAIR, "template": "{{1}}"}), "in which no group stands"),
        (extract({"pattern": PAIR, "template": ""}), "template: got an empty text; write"),
        (extract({"pattern": PAIR, "template": 1}), "template: got the number 1; write"),
        (extract({"pattern": PAIR, "template": "{1}\ud800"}), "half a surrogate pair"),
        (extract({"pattern": PAIR, "template": "{1}\n"}), "which holds a control character"),
        (
            extract({"pattern": "a", "values": ["a"]}),
            "values: got a list of 1 item; write an object of texts",
        ),
        (extract({"pattern": "a", "values": {"a": 1}}), "values.a: got the number 1; write the text"),
        (extract({"pattern": "a", "values": {"a": None}}), "values.a: got null"),
        (extract({"pattern": "a", "values": {" ": "b"}}), "values: a key: got a blank text"),
        (extract({"pattern": "a", "values": {"a": "\x07"}}), "which holds a control character"),
        (
            extract({"pattern": "a", "values": {"A": "x", "a": "y"}}),
            "the same text stands there in other case",
        ),
        (extract({"pattern": "a", "valeus": {}}), "did you mean 'values'?"),
        (
            extract({"pattern": "a", "values": {"a": "b"}}, values={"a": "c"}),
            "values stands both beside source_field",
        ),
        ({"patient_sex": {"source_field": "sex", "values": "M"}}, "patient_sex.values: got the text 'M'"),
        ({"patient_id": {"source_field": "title", "template": "{1}"}}, 'template stands beside "_extract"'),
        ({"title": {"_extract": {"patient_id": ID}, "values": {}}}, 'values stands beside "_extract"'),
        ({"title": {"_extract": {"patient_id": []}}}, "title._extract.patient_id: got an empty list"),
        ({"patient_id": {"_extract": [ID]}}, "source_field is missing"),
    ],
)
def test_each_wrong_use_is_one_sentence(mapping: Any, told: str) -> None:
    """Issue: a wrong use of the mapping names its field and place, and says what to write."""
    found = fault(mapping)
    assert told in found
    assert found.startswith("field_mapping.")
    assert "\n" not in found


def test_only_the_last_rules_on_no_match_counts() -> None:
    """rules.md: what is written in vain is a warning, with its place."""
    reader = read(extract([{**ID, "on_no_match": "reject"}, ID]))
    assert reader.rules["patient_id"].on_no_match == "original"
    assert reader.warnings[0].startswith("field_mapping.patient_id._extract[0].on_no_match: is ignored")
