"""Small bookings as people make them, each with the entry that must come out; one line of a file is one case."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from pipeline.batch import process_batch
from pipeline.config import PipelineConfig
from pipeline.transform.selection import Selection

ROOT = Path(__file__).parents[2]
CASES = [
    json.loads(line)
    for line in (ROOT / "tests/fixtures/cases/bookings.ndjson").read_text("utf-8").splitlines()
]
SHIPPED = json.loads((ROOT / "data/mwl_config.json").read_text("utf-8"))
TODAY = date(2026, 11, 25)


OPTIONS = next(source["config"] for source in SHIPPED["data_sources"] if source["type"] == "calpendo")


@pytest.mark.parametrize("as_text", [True, False], ids=["text", "object"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_a_case_comes_out_as_it_says(case: dict[str, Any], as_text: bool) -> None:
    """A subject is never lost for a detail: fields as expected, what was repaired by kind, or the reasons against it."""
    mapping = OPTIONS["field_mapping"] | case.get("field_mapping", {})
    options = OPTIONS | {"field_mapping": mapping} | case.get("config", {})
    config = PipelineConfig.from_dict(options, environ={}, offline=True)
    payload = json.dumps(case["booking"], ensure_ascii=False) if as_text else case["booking"]
    selection = Selection(allowed_studies=config.allowed_studies)
    batch = process_batch([payload], config, selection=selection, today=TODAY)
    expected = dict(case["expect"])
    assert batch.rejected["reasons"].to_list() == (
        [expected.pop("rejected")] if "rejected" in expected else []
    )
    entries = batch.to_dicts()
    kinds = expected.pop("repaired", {})
    assert [{name: entry[name] for name in expected} for entry in entries] == [expected] * bool(expected)
    if case["case"].startswith("compare-before-cutting"):
        kinds = {"study_description": "cut"}  # this case is about which bookings are asked for
    number = case["booking"]["id"]
    assert batch.flags.repaired == {name: {kind: (number,)} for name, kind in kinds.items()}
