"""Extraction is ``re.match``: random patterns and values, and the Rust engine held against Python's."""

from __future__ import annotations

import re
import warnings

import polars as pl
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pipeline.mapping import FieldRule, OnNoMatch
from pipeline.transform.extraction import extract_series
from pipeline.transform.rust_patterns import translate

PROPERTY = settings(deadline=None, max_examples=300)

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
    match = re.match(rule.pattern or "", value)
    if match:
        return match.group(rule.group), False
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
        rule = FieldRule("patient_id", "title", pattern, group, on_no_match)
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


@pytest.mark.parametrize("category", [r"\d", r"\D", r"\s", r"\S", r"\w", r"\W"])
def test_every_character_is_of_python_s_category(category: str) -> None:
    """T011: what is a digit, a blank or a letter is what this Python says, for each character there is."""
    rule = FieldRule("patient_id", "title", f"({category})", 1, "null")
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
    by_name = extract_series(values, FieldRule("patient_id", "title", r"(?P<id>[A-Z0-9]+)_", "id"))
    by_number = extract_series(values, FieldRule("patient_id", "title", r"(?P<id>[A-Z0-9]+)_", 1))
    assert (
        by_name.to_list()
        == by_number.to_list()
        == [{"value": "SUB001", "unmatched": False, "timed_out": False}]
    )
