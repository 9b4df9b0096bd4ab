"""Extraction is ``re.match``: random patterns and values, and the Rust engine held against Python's."""

from __future__ import annotations

import re
import warnings

import polars as pl
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pipeline.config.field_mapping import ExtractionRule, FieldRule, OnNoMatch, Values
from pipeline.transform.extraction import caught_by, explained, extract_series, searched, translate
from tests.reference.reference import normal

PROPERTY = settings(deadline=None, max_examples=200)
QUICK = settings(deadline=None, max_examples=40)

PLAIN_ATOMS = [*"ab_- 19", ".", "[a-c]", "[^a_]", "(?:a|ab)", r"\."]
CLASSES = [r"\w", r"\d", r"\s", r"\W", r"\D", r"\S", r"[\w-]", r"[\d\s]"]
ANCHORS = ["^", "$", r"\b", r"\B", r"\A", r"\Z"]
TRAPS = ["[a&&b]", "[[:alpha:]]", "[^\n]", r"\n", "[]a]", "[é-ü]", "é", "İ"]
ATOMS = st.sampled_from([*PLAIN_ATOMS, *CLASSES, *ANCHORS, *TRAPS])
GROUPS = ["({})", "(?:{})", "(?P<n>{})", "({})?", "({})*", "({}|)", "(?:{}|b)"]
REPEATS = ["{}*", "{}+", "{}?", "{}*?", "{}+?", "{}{{2}}", "{}{{,2}}", "{}{{1,3}}?", "{}*+"]
EXTENSIONS = ["(?={})", "(?!{})", "(?<=a){}", "(?i:{})", "(?>{})", "(?s:{})"]
WRAPS = st.sampled_from([*GROUPS, *REPEATS, *EXTENSIONS])


@st.composite
def patterns(draw: st.DrawFn) -> str:
    """A pattern of Python's grammar, most of them valid, with the traps of the other engine in it."""

    def part(depth: int) -> str:
        pieces = []
        for _ in range(draw(st.integers(1, 4))):
            piece = draw(ATOMS) if depth == 0 or draw(st.booleans()) else part(depth - 1)
            if draw(st.booleans()):
                piece = draw(WRAPS).format(piece)
            pieces.append(piece)
        return draw(st.sampled_from(["", "", "|"])).join(pieces)

    return draw(st.sampled_from(["", "", "", "(?i)", "(?s)", "(?m)", "(?a)", "(?x)"])) + part(2)


def compiling(pattern: str) -> re.Pattern[str]:
    """Compile a pattern, or let hypothesis look for another one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return re.compile(pattern)
        except re.error:
            assume(False)
            raise


def matched_values() -> st.SearchStrategy[list[str]]:
    """Values as a matcher is given them: none is null or empty."""
    return VALUES.map(lambda values: [value for value in values if value])


VALUES = st.lists(
    st.one_of(
        st.none(),
        st.text(alphabet="ab_- 19A", max_size=8),
        st.text(alphabet="ab_\n\t\x1c\x85\u2028é İſK9٣ \x7f", max_size=6),
        st.text(alphabet="a1_ \xa0\u3000é٣९\U0001d7d8ªⅧ²中\U00020000\ue000😀\u0301\u200d", max_size=8),
        st.text(max_size=5),
        st.sampled_from(["SUB001_John_Doe", "a\n", "aab_19", "", "\n"]),
    ),
    max_size=6,
)


def expected(rule: FieldRule, value: str | None) -> tuple[str | None, bool]:
    """T011 with the design's decisions: (value, unmatched)."""
    if not value:
        return "", False
    (only,) = rule.extractions
    match = re.match(only.pattern, value)
    if match:
        return match.group(only.group), False
    return (value if rule.on_no_match == "original" else None), True


@PROPERTY
@given(patterns(), VALUES, st.integers(0, 3), st.sampled_from(["original", "null", "reject"]))
@example(r"(?:(a)|b)*", ["ab", "ba"], 1, "original")
@example(r"a$", ["a", "a\n"], 0, "null")
@example(r"(a)?b", ["b", "ab"], 1, "original")
@example(r"(\w+)_.*", ["SUB001_John_Doe"], 1, "original")
@example(r"(a*)*b", ["aab", "b"], 1, "original")
@example(r"(?:^|a)+b", ["ab", "aab"], 0, "original")
@example(r"a(b)?", ["a", "ab"], 1, "null")
@example(r"a\B", ["a", "ab"], 0, "null")
def test_extraction_is_re_match(
    pattern: str, values: list[str | None], group: int, on_no_match: OnNoMatch
) -> None:
    """T011: whatever the pattern and the values, each row is what ``re.match`` says."""
    compiled = compiling(pattern)
    assume(group <= compiled.groups)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rule = FieldRule("patient_id", "title", (ExtractionRule(pattern, group),), on_no_match)
        found = extract_series(pl.Series("title", values, dtype=pl.String), rule)
        rows = list(zip(found.struct.field("value"), found.struct.field("unmatched"), strict=True))
        assert rows == [expected(rule, value) for value in values]


@pytest.mark.parametrize(
    "pattern",
    [
        r"(\w+)_.*",
        r"\w+_(.+)",
        r"^([A-Za-z]+[0-9]+)[_ -].*",
        r"^[A-Za-z]+[0-9]+[_ -]+(.+)$",
        r"([^_]+)",
        r"(\S+?)\s*-.*",
    ],
)
def test_usual_patterns_run_in_rust(pattern: str) -> None:
    """The patterns of the examples need no detour through Python."""
    assert translate(pattern, 1) is not None


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?=a)(a)",
        r"(a)\1",
        r"(?i)(a)",
        r"(a)?b",
        r"(a)|b",
        r"(a)*",
        r"(a*)*",
        r"(?>a)(b)",
        r"a*+(b)",
        r"(a){0,2000}",
        r"((?i:a))",
    ],
)
def test_what_is_not_proved_is_left_to_re(pattern: str) -> None:
    """Look-around, back-references, case, optional groups: the Rust engine is not asked."""
    assert translate(pattern, 1) is None


@pytest.mark.slow
@pytest.mark.parametrize("category", [r"\d", r"\D", r"\s", r"\S", r"\w", r"\W"])
def test_every_character_is_of_python_s_category(category: str) -> None:
    """T011: what is a digit, a blank or a letter is what this Python says, for each character there is."""
    rule = FieldRule("patient_id", "title", (ExtractionRule(f"({category})", 1),), "null")
    characters = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    found = extract_series(pl.Series("title", characters), rule).struct.field("value")
    pattern = re.compile(category)
    assert found.to_list() == [character if pattern.match(character) else None for character in characters]


def test_usual_patterns_need_no_detour_for_names_of_any_script() -> None:
    """Speed: a digit in the pattern and a name beyond ASCII in the title do not lead through Python."""
    translation = translate(r"^[A-Z]+\d+_(.+)$", 1)
    assert translation is not None
    names = pl.Series(["SUB1_Дарья", "SUB2_李小龙", "SUB3_Zoë😀", "SUB4_Ναί"])
    assert not translation.excluded(names).any()


def test_a_named_group_and_a_number_are_the_same() -> None:
    """T011: a group may be given by its name."""
    values = pl.Series("title", ["SUB001_John_Doe"])
    by_name = extract_series(
        values, FieldRule("patient_id", "title", (ExtractionRule(r"(?P<id>[A-Z0-9]+)_", "id"),))
    )
    by_number = extract_series(
        values, FieldRule("patient_id", "title", (ExtractionRule(r"(?P<id>[A-Z0-9]+)_", 1),))
    )
    assert (
        by_name.to_list()
        == by_number.to_list()
        == [{"value": "SUB001", "unmatched": False, "timed_out": False}]
    )


TABLES: st.SearchStrategy[Values] = st.sampled_from(
    [
        (),
        (),
        (("AB", "x"), ("a", "")),
        ((" b\u200c", "{1}"), ("B", "never")),
        (("19", "1900"), ("a\u0301", "acute")),
    ]
)
FILLERS = st.sampled_from(["", "-", "^", "{{", "}}", "é", " "])


@st.composite
def extraction_rules(draw: st.DrawFn) -> ExtractionRule:
    """A rule of either kind for a random pattern, with and without values."""
    compiled = compiling(draw(patterns()))
    places: list[int | str] = [*range(compiled.groups + 1), *compiled.groupindex]
    values = draw(TABLES)
    if draw(st.booleans()):
        return ExtractionRule(compiled.pattern, draw(st.sampled_from(places)), None, values)
    groups = draw(st.lists(st.sampled_from(places), min_size=1, max_size=3))
    template = "".join(draw(FILLERS) + f"{{{group}}}" for group in groups) + draw(FILLERS)
    return ExtractionRule(compiled.pattern, 0, template, values)


def made_of(rule: ExtractionRule, match: re.Match[str]) -> str | None:
    """What one rule makes of a match before its values; ``LookupError`` where a group of a template took no part."""
    if rule.template is None:
        return match.group(rule.group)
    taken = {**dict(enumerate([match.group(), *match.groups()])), **match.groupdict()}
    names = re.findall(r"\{(\w+)\}", rule.template.replace("{{", "").replace("}}", ""))
    if any(taken[int(name) if name.isdecimal() else name] is None for name in names):
        raise LookupError
    return rule.template.format(
        *[taken[place] or "" for place in range(len(match.groups()) + 1)], **taken_names(taken)
    )


def taken_names(taken: dict[int | str, str | None]) -> dict[str, str]:
    """The named groups alone."""
    return {name: text or "" for name, text in taken.items() if isinstance(name, str)}


def put_for(text: str | None, values: Values) -> str | None:
    """What a table says for a text, both without case and without what nobody sees."""
    for known, instead in values:
        if text and unseen(known) == unseen(text):
            return instead
    return text


def unseen(text: str) -> str:
    """As texts are compared (rules.md)."""
    return normal(text)[0].casefold()


@QUICK
@given(
    st.lists(extraction_rules(), min_size=1, max_size=3),
    VALUES,
    st.sampled_from(["original", "null"]),
    TABLES,
)
def test_the_first_rule_that_matches_counts(
    rules: list[ExtractionRule], values: list[str | None], on_no_match: OnNoMatch, last: Values
) -> None:
    """rules.md, Mapping: lists, templates and values, row by row; and which rule it was is told alike everywhere."""
    wanted: list[tuple[str | None, bool, int | None]] = []
    for value in values:
        found: tuple[str | None, bool, int | None] = (
            "" if not value else value if on_no_match == "original" else None,
            bool(value),
            None,
        )
        for place, rule in enumerate(rules):
            match = re.match(rule.pattern, value) if value else None
            if match is not None:
                try:
                    found = (put_for(made_of(rule, match), rule.values), False, place)
                except LookupError:
                    continue
                break
        wanted.append((put_for(found[0], last), *found[1:]))
    column = pl.Series("title", values, dtype=pl.String)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = extract_series(column, FieldRule("patient_id", "title", tuple(rules), on_no_match, last))
        places = caught_by(column, rules)
        assert (
            list(zip(made.struct.field("value"), made.struct.field("unmatched"), places, strict=True))
            == wanted
        )
        for value, (_, _, place) in zip(values, wanted, strict=True):
            told = explained(value or "", rules)
            assert told.rule == place
            if place is not None and value:
                match = re.match(rules[place].pattern, value)
                assert match is not None
                assert told.part == match.group(
                    0 if rules[place].template is not None else rules[place].group
                )
                text = made_of(rules[place], match)
                assert told.result == put_for(text, rules[place].values)


@QUICK
@given(st.lists(patterns(), max_size=3), VALUES)
@example(["b", "(?x) a # a"], ["xA", "B", "c", "É b"])
@example([r"\bk", "é$", "^a"], ["K", "aK", "É", "\u212a"])
def test_titles_are_searched_anywhere_and_without_case(wanted: list[str], values: list[str | None]) -> None:
    """rules.md: ``ignore_titles`` is ``re.search`` with ``IGNORECASE``, whichever engine looks."""
    kept = [pattern for pattern in wanted if not compiling(pattern).search("")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = searched(pl.Series("title", values, dtype=pl.String), kept)
        expected_rows = [
            bool(value) and any(re.search(pattern, value or "", re.IGNORECASE) for pattern in kept)
            for value in values
        ]
    assert found.struct.field("found").to_list() == expected_rows
    assert not found.struct.field("timed_out").any()
