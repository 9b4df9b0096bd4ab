"""What changed: digests, the join with the ledger, and the names of the changed fields."""

from __future__ import annotations

from datetime import date, time
from hashlib import blake2b

import orjson
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.delivery.decide import changed_fields, compare, digests, digests_of, field_counts
from pipeline.delivery.ledger import LINES_SCHEMA, from_text, to_text
from pipeline.errors import PluginSchemaError

SCHEMA = {
    "patient_id": pl.String,
    "patient_name": pl.String,
    "scheduled_start_date": pl.Date,
    "scheduled_start_time": pl.Time,
    "scheduled_procedure_step_duration": pl.Int64,
}
TEXT = st.one_of(
    st.none(), st.text(st.characters(codec="utf-8"), max_size=6), st.sampled_from(["", "a", "-", ":", "a=1:"])
)
ENTRY = st.fixed_dictionaries(
    {
        "patient_id": TEXT,
        "patient_name": TEXT,
        "scheduled_start_date": st.dates(date(1990, 1, 1), date(2050, 1, 1)),
        "scheduled_start_time": st.times(),
        "scheduled_procedure_step_duration": st.integers(0, 2**40),
    }
)


def frame(*entries: dict[str, object]) -> pl.DataFrame:
    """Make a frame as a batch's entries."""
    return pl.DataFrame(list(entries), schema=SCHEMA, orient="row")


def test_the_digest_is_the_same_for_ever() -> None:
    """Promise: a digest outlives processes, machines and polars versions, or everything would be sent again."""
    entries = frame(
        {
            "patient_id": "SUB001",
            "patient_name": None,
            "scheduled_start_date": date(2026, 1, 5),
            "scheduled_start_time": time(9, 30),
            "scheduled_procedure_step_duration": 60,
        }
    )
    written = (
        b"patient_id=6:SUB001patient_name=-:scheduled_procedure_step_duration=2:60"
        b"scheduled_start_date=5:20458scheduled_start_time=14:34200000000000"
    )
    assert digests(entries).item() == blake2b(written, digest_size=16).hexdigest()
    assert digests(entries).item() == "1dd391e2d695117ea8da106fd35c767e"


@settings(deadline=None)
@given(st.lists(ENTRY, min_size=2, max_size=6))
def test_equal_entries_and_only_those_have_equal_digests(entries: list[dict[str, object]]) -> None:
    """Issue: the digest covers all emitted fields; neighbours never flow into each other."""
    found = digests(frame(*entries)).to_list()
    for one, left in zip(found, entries, strict=True):
        for other, right in zip(found, entries, strict=True):
            assert (one == other) == (left == right)


@settings(deadline=None)
@given(st.lists(ENTRY, min_size=1, max_size=4))
def test_a_dict_has_the_digest_of_its_row(entries: list[dict[str, object]]) -> None:
    """Promise: a withdrawal's digest is that of the frame's row, so that nothing is sent twice for its form."""
    assert digests_of(entries) == digests(frame(*entries)).to_list()


def test_a_changed_mapping_changes_every_digest() -> None:
    """Issue: a changed mapping re-emits; the order of the columns does not."""
    entries = pl.DataFrame({"a": ["1"], "b": ["2"]})
    assert digests(entries).to_list() == digests(entries.select("b", "a")).to_list()
    assert digests(entries).to_list() != digests(entries.rename({"b": "c"})).to_list()
    assert digests(entries).to_list() != digests(entries.with_columns(c=pl.lit(None, pl.String))).to_list()
    assert digests_of([{"a": "1"}, {"b": "1"}]) == [
        digests(pl.DataFrame({name: ["1"]})).item() for name in "ab"
    ]


def test_a_type_without_a_digest_is_refused() -> None:
    """Promise: a value whose text may differ from version to version is never digested in silence."""
    with pytest.raises(PluginSchemaError, match="'weight' has the type Float64"):
        digests(pl.DataFrame({"weight": [1.5]}))


def test_compare() -> None:
    """Issue: new, changed, unchanged; and pending ones again, because the host may not have them."""
    current = pl.DataFrame({"booking_id": [4, 1, 2, 3], "digest": ["d", "a", "b", "c"]})
    rows = [
        (1, "a", "SCHEDULED", "delivered", 0, 0),
        (2, "x", "SCHEDULED", "pending", 0, 0),
        (3, "c", "SCHEDULED", "pending", 0, 0),
        (9, "z", "SCHEDULED", "delivered", 0, 0),
    ]
    compared = compare(current, pl.DataFrame(rows, schema=LINES_SCHEMA, orient="row"))
    assert compared["booking_id"].to_list() == [4, 1, 2, 3]
    assert compared["change"].to_list() == ["new", "unchanged", "changed", "resent"]


@settings(deadline=None)
@given(st.lists(st.tuples(ENTRY, ENTRY), max_size=4))
def test_changed_fields_are_those_that_differ(
    pairs: list[tuple[dict[str, object], dict[str, object]]],
) -> None:
    """Issue: changed, with the names of the changed fields, as a plain comparison of the entries finds them."""
    ids = pl.Series("booking_id", [100 - number for number in range(len(pairs))], dtype=pl.Int64)
    before = {number: to_text(old) for number, (old, _) in zip(ids, pairs, strict=True)}
    found = changed_fields(ids, frame(*(new for _, new in pairs)), before)
    expected = [
        (number, name)
        for number, (old, new) in zip(ids, pairs, strict=True)
        for name in SCHEMA
        if old[name] != new[name]
    ]
    assert list(found.select("booking_id", "field").iter_rows()) == expected
    texts = {number: orjson.loads(to_text(new)) for number, (_, new) in zip(ids, pairs, strict=True)}
    for number, name, value in found.select("booking_id", "field", "new").iter_rows():
        assert value == (None if texts[number][name] is None else str(texts[number][name]))


def test_fields_that_one_side_lacks() -> None:
    """Issue: old and new value of each field, also when a mapping added or dropped one."""
    ids, entries = pl.Series("booking_id", [1, 2]), pl.DataFrame({"kept": ["a", "b"], "added": ["n", None]})
    found = changed_fields(ids, entries, {1: '{"kept": "a", "dropped": "o"}', 2: '{"kept": "x"}'})
    assert found.rows() == [(1, "added", None, "n"), (1, "dropped", "o", None), (2, "kept", "x", "b")]
    assert field_counts(found) == {"added": 1, "dropped": 1, "kept": 1}
    assert field_counts(changed_fields(ids.head(0), entries.head(0), {})) == {}


@settings(deadline=None)
@given(ENTRY)
def test_an_entry_comes_back_from_its_text(entry: dict[str, object]) -> None:
    """Promise: what the ledger keeps is what was emitted, to the microsecond."""
    assert from_text(to_text(entry)) == entry
