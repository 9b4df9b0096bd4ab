"""Operators that the server said nothing of: what the ledger has of them stays, instead of going out empty.

Otherwise each scan would be sent as changed, without its operator, and sent once more in the next cycle; and in between
the host would show that nobody operates it, which nobody has said.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from pipeline.fields import SOURCE
from pipeline.transform.entries import mapped_rules
from pipeline.transform.paths import UNDER

if TYPE_CHECKING:
    from pipeline.batch import Batch
    from pipeline.config import PipelineConfig
    from pipeline.delivery.ledger import Ledger

_OPERATOR = "operator"
"""Where a fetch puts an operator's name in the payload (T009)."""


def with_last_operators(
    batch: Batch, unknown: Collection[int], ledger: Ledger, config: PipelineConfig
) -> Batch:
    """Fill the fields that are mapped from the operator with what was sent last, in the entries of ``unknown``.

    Only where the payload has no operator of its own; a booking that was never sent stays as it is.
    """
    rules = [rule for rule in mapped_rules(config) if rule.source.removeprefix(UNDER) == _OPERATOR]
    if not unknown or not rules:
        return batch
    ids = batch.accepted["booking_id"].to_list()
    last = ledger.entries(set(ids).intersection(unknown))
    filled = []
    for rule in rules:
        kept = pl.Series([last.get(number, {}).get(rule.target) for number in ids], dtype=pl.String)
        as_it_is = kept.is_null() | batch.accepted[f"{SOURCE}{rule.source}"].is_not_null()
        filled.append(batch.entries[rule.target].zip_with(as_it_is, kept))
    return replace(batch, entries=batch.entries.with_columns(filled))
