"""Suggested patterns: they compile, match every title they were made for, and give no title away."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.audit.forms import form, letters_in, parts
from pipeline.audit.suggestion import combine, cut_at_group, plan_for, suggest, taken
from pipeline.transform.shapes import shape

TITLES = st.text(
    st.one_of(
        st.sampled_from(" _-/.,;:()^'\\\t\n\u00a0"),
        st.characters(codec="utf-8", categories=("Lu", "Ll", "Lo", "Mn", "Nd", "No", "So")),
        st.sampled_from("ABCabc0129"),
    ),
    min_size=1,
    max_size=40,
)
WANTED = ("A9",)


@pytest.mark.parametrize(
    ("title", "identifier", "expected"),
    [
        ("SUB001_John_Doe", True, "SUB001"),
        ("SUB001_John_Doe", False, "John_Doe"),
        ("SUB002 - Mary Major", True, "SUB002"),
        ("SUB002 - Mary Major", False, "Mary Major"),
        ("Doe, Jane (SUB003)", True, "SUB003"),
        ("Doe, Jane (SUB003)", False, "Doe, Jane"),
        ("Éloïse Noël SUB9", True, "SUB9"),
        ("Éloïse Noël SUB9", False, "Éloïse Noël"),
        ("SUB-005/Kim Lee", True, "SUB-005"),
        ("P1 S2 John", False, "John"),
    ],
)
def test_the_part_that_looks_like_the_others_is_taken(title: str, identifier: bool, expected: str) -> None:
    """Audit: a suggestion follows what the target's current pattern takes elsewhere."""
    made = suggest([title], form(shape(title)), identifier=identifier, learned=WANTED, known_ids=WANTED)
    assert taken(re.compile(made.pattern), made.group, title) == expected


@given(TITLES, st.booleans())
def test_every_suggestion_compiles_and_matches(title: str, identifier: bool) -> None:
    """Audit: whatever the title, the suggested pattern compiles and takes something from it (T011: re.match)."""
    made = suggest([title], form(shape(title)), identifier=identifier, learned=WANTED, known_ids=WANTED)
    assert taken(re.compile(made.pattern), made.group, title)


@given(
    st.lists(
        st.sampled_from(["Alba", "Bo", "Zoë", "SUB1", "EEG22", "7", "_", " - ", ", ", "(", ")"]), min_size=1
    )
)
def test_a_suggestion_gives_no_title_away(pieces: list[str]) -> None:
    """Audit: a pattern holds classes and separators, never the letters or digits of a title."""
    title = "".join(pieces)
    made = suggest([title], form(shape(title)), identifier=True, learned=WANTED, known_ids=WANTED)
    for word in ("Alba", "Zoë", "SUB", "EEG", "22", "7"):
        assert word not in made.pattern.replace("[A-Za-z]", "")


@given(TITLES)
def test_parts_put_together_are_the_form(title: str) -> None:
    """Audit: cutting a form loses nothing but the case of its letters."""
    whole = form(shape(title))
    rebuilt = "".join("L" if part.kind == "L" else part.kind for part in parts(whole))
    assert rebuilt == re.sub(r"\s+", " ", re.sub(r"[Aa]+", "L", whole))


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
    """Audit: the current pattern is kept piece by piece inside the combined one."""
    pieces = cut_at_group(pattern, group)
    assert pieces is not None
    assert (pieces.before, pieces.body, pieces.after) == (before, body, after)


@pytest.mark.parametrize(("pattern", "group"), [(r"\w+", 0), (r"(a)|(b)", 2), (r"((a)b)", 2), (r"(a)+", 1)])
def test_a_pattern_that_cannot_be_cut_is_left_alone(pattern: str, group: int) -> None:
    """Audit: where the group is not plain, nothing is combined rather than something wrong."""
    assert cut_at_group(pattern, group) is None


def test_a_combined_pattern_takes_what_each_took() -> None:
    """Audit: the combined pattern takes the same from titles caught today, and something from those it adds."""
    today = cut_at_group(r"^([A-Z]+\d+)_.*", 1)
    title = "SUB002 - Mary Major"
    plan = plan_for(parts(form(shape(title))), identifier=True, learned=WANTED, known_ids=WANTED)
    assert plan is not None
    pattern, group = combine(today, [plan], letters_in([title]))
    assert taken(re.compile(pattern), group, "SUB001_John_Doe") == "SUB001"
    assert taken(re.compile(pattern), group, title) == "SUB002"
