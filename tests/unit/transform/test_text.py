"""Text from people, normalised before anything looks at it."""

from __future__ import annotations

import re
import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.batch import Selection, process_batch
from pipeline.config import PipelineConfig
from pipeline.transform import text
from pipeline.transform.text import forms, normalised, with_joiners
from tests.support.batches import booking, entry_of

ODD = "\u0001\t\n\r\u0085\u00a0\u00ad\u0301\u0340\u061c\u064b\u1100\u1161\u11a8\u1680\u200b\u200c\u200d\u200e\u2028\u202e\u2066\u3000\u3099\ufeff\u212b"
TEXTS = st.text(
    alphabet=st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(ODD + " aeé")), max_size=8
)
ALI = "علی\u200cرضا"


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ("", ""),
        ("SUB001_Ann  Roe", "SUB001_Ann  Roe"),
        ("\ufeff\u200b\u00a0 SUB001 \u200e\r\n", "SUB001"),
        ("a\r\nb\rc\nd\te\u0000f\u0085g\u2028h\u2029i\u3000j", "a b c d e f g h i j"),
        ("a\r\u200b\nb", "a b"),
        ("SUB\u200b001\u2060_\u00adAnn\u202e\u2066x\u2069", "SUB001_Annx"),
        ("Jose\u0301 A\u030a \u212b \u1112\u1161\u11ab", "José Å Å 한"),
        ("e\u200b\u0301", "é"),
        (f"\u200c {ALI} \u200d", "علیرضا"),
        ("\u00a0\u200c\ufeff", ""),
    ],
)
def test_what_becomes_of_pasted_text(given_text: str, expected: str) -> None:
    """Rule: what nobody sees vanishes, white space and control characters become blanks, the rest is composed."""
    assert normalised(given_text) == expected


@pytest.mark.parametrize(
    ("given_text", "joined"),
    [
        ("Ann", None),
        (ALI, ALI),
        (f" \u200d{ALI}\u200d \u200c ", f"{ALI}\u200d"),
        ("\u200c Ann \u200d", None),
        ("e\u200d\u0301", None),
        ("മോഹന്\u200d", "മോഹന്\u200d"),
    ],
)
def test_joiners_stay_in_names(given_text: str, joined: str | None) -> None:
    """Rule: U+200C and U+200D are spelling within and behind a word; around it, or before an accent, they are none."""
    assert forms(given_text).joined == joined


@given(TEXTS)
def test_normalised_text_is_normalised(any_text: str) -> None:
    """Twice is once, nothing that should vanish is left, and with and without joiners it is the same text."""
    plain, joined = forms(any_text)
    assert forms(plain) == (plain, None)
    assert not re.search("[\u200b-\u200f\u2028-\u202f\u00a0\u00ad\ufeff]", plain)
    assert plain == plain.strip(" ")
    assert unicodedata.is_normalized("NFC", plain)
    assert not any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in plain)
    if joined is not None:
        assert forms(joined) == (plain, joined)
        assert with_joiners(plain, joined) == joined


@settings(deadline=None, max_examples=60)
@given(st.lists(st.one_of(st.none(), TEXTS), max_size=6))
def test_columns_mean_what_each_text_means(texts: list[str | None]) -> None:
    """The look at a whole column overlooks no text that is to be changed."""
    config = PipelineConfig.from_dict(
        {"field_mapping": {"patient_id": "x", "comment": "x"}}, environ={}, offline=True
    )
    payloads = [{"id": number, "x": found} for number, found in enumerate(texts, 1)]
    wide = process_batch(payloads, config).asked_for
    expected = [None if found is None or found == "<Hidden>" else forms(found) for found in texts]
    assert wide["patient_id"].to_list() == [found and found.text for found in expected]
    assert wide["comment"].to_list() == [found and (found.joined or found.text) for found in expected]


def test_plain_characters_need_no_look() -> None:
    """No text of the characters that are passed over is changed, in whatever order they stand."""
    plain = re.compile(f"[{text.PLAIN}]")
    every = [chr(code) for code in range(sys.maxunicode + 1) if plain.match(chr(code))]
    assert len(every) > 30_000
    assert all(normalised(f"x{character}x") == f"x{character}x" for character in every)
    # A pair is composed only where its second character stands second in some canonical decomposition.
    second = {
        chr(int(parts[1], 16))
        for code in range(sys.maxunicode + 1)
        if len(parts := unicodedata.decomposition(chr(code)).split()) == 2 and not parts[0].startswith("<")
    }
    assert not second.intersection(every)


def test_a_name_keeps_its_joiners_and_an_identifier_does_not() -> None:
    """Rule: a pattern matches the text without joiners, and the name has them where they stood."""
    entry = entry_of(booking(title=f"SUB\u200c001_{ALI}\u200d"))
    assert (entry["patient_id"], entry["patient_name"]) == ("SUB001", f"{ALI}\u200d")


@pytest.mark.parametrize(
    "odd",
    ["\u00a03T Diagnostic", "3T\u00a0Diagnostic\u200b", "3T Diag\u200cnostic", "\ufeff3T Diagnostic "],
)
def test_names_are_compared_normalised_on_both_sides(odd: str) -> None:
    """Rule: status, resource, studies and vocabularies are compared as normalised text, whichever side is odd."""
    plain = "3T Diagnostic"
    mapping = {"patient_id": "title", "study_description": "properties.project.formattedName"}
    for here, there in ((odd, plain), (plain, odd)):
        payload = booking(
            status=here, properties={"resource": {"formattedName": here}, "project": {"formattedName": here}}
        )
        config = PipelineConfig.from_dict(
            {
                "field_mapping": mapping,
                "resource_modality_mapping": {there: "MR"},
                "status_mapping": {there: "COMPLETED"},
            },
            environ={},
            offline=True,
        )
        asked = Selection(resources=(there,), status=there, allowed_studies=(there,))
        (entry,) = process_batch([payload], config, selection=asked).to_dicts()
        assert (entry["modality"], entry["performed_procedure_step_status"]) == ("MR", "COMPLETED")
