"""SHA-256 of a booking's critical fields, byte for byte the task list's formula (T015).

    sha256(json.dumps({"title", "status", "formattedName", "project", "resource"}, sort_keys=True))

over the raw JSON values: a null stays ``null``, a number a number, a missing key is ``""``, and a project or resource
that is no object is ``""``. On generation B the same keys are taken from where they stand there, and
``formattedName`` is written from the times as generation A would, so that a server's update changes no hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Final

import polars as pl

from pipeline.transform.distinct import places
from pipeline.transform.fields import Place, stands_at
from pipeline.transform.payloads import Payloads

FIELDS: Final = ("title", "status", "formatted_name", "project", "resource")
"""Columns of the bookings frame that enter the hash."""

_KEYS: Final = {
    "formattedName": "formatted_name",
    "project": "project",
    "resource": "resource",
    "status": "status",
    "title": "title",
}
"""The formula's keys in the order ``sort_keys`` gives them."""

_CLEAN = r"^[\x20\x21\x23-\x5b\x5d-\x7e]*$"
_MISSING = '""'


def literal_column(name: str) -> str:
    """Return the column that holds a field's JSON where it is not simply the quoted text column."""
    return f"hash:{name}"


def literals(
    payloads: Payloads, name: str, values: Sequence[Any], texts: pl.Series, place: Place
) -> pl.Series:
    """Return the JSON of each value that is no plain text, null where the text column says it all.

    ``place`` is the task list's own place of the field: where the key stands there with null, the hash has null,
    otherwise a missing value is the empty string.
    """
    found: list[str | None] = [None] * len(values)
    if texts.null_count() or set(map(type, values)) != {str}:
        for index, (value, text) in enumerate(zip(values, texts, strict=True)):
            if value is None:
                found[index] = "null" if stands_at(payloads, index, place) else _MISSING
            elif text is None or not isinstance(value, str):
                found[index] = _json(value)
    return pl.Series(literal_column(name), found, dtype=pl.String)


def _json(value: Any) -> str:
    """Write a value as the formula does; one that JSON cannot hold (never from a server) counts as null."""
    try:
        return json.dumps(value, sort_keys=True)
    except (ValueError, TypeError, RecursionError):
        return "null"


def booking_hash(formatted_name: pl.Expr) -> pl.Expr:
    """Return ``booking_hash`` String, 64 hex digits, never null.

    ``formatted_name`` is the JSON text of generation B's rendered name, null on generation A. Reads the columns
    ``FIELDS`` and their ``hash:*`` companions.
    """
    parts: list[pl.Expr] = []
    for key, name in _KEYS.items():
        parts.append(pl.lit(f'{", " if parts else "{"}"{key}": '))
        value = pl.coalesce(literal_column(name), quoted(pl.col(name)))
        parts.append(pl.coalesce(formatted_name, value) if name == "formatted_name" else value)
    return (
        pl.concat_str(*parts, pl.lit("}"))
        .map_batches(_sha256, return_dtype=pl.String, is_elementwise=True)
        .alias("booking_hash")
    )


def quoted(text: pl.Expr) -> pl.Expr:
    """Return text as ``json.dumps`` writes it; null stays null.

    Clean ASCII only needs its quotes; any other text goes through ``json.dumps`` itself, once per distinct value.
    """
    plain = pl.concat_str(pl.lit('"'), text, pl.lit('"'))
    return (
        pl.when(text.str.contains(_CLEAN))
        .then(plain)
        .otherwise(text.map_batches(_dumps_unclean, return_dtype=pl.String, is_elementwise=True))
    )


def _dumps_unclean(texts: pl.Series) -> pl.Series:
    unclean = texts.filter(~texts.str.contains(_CLEAN)).unique()
    written = pl.Series([json.dumps(text) for text in unclean.to_list()], dtype=pl.String)
    return written.gather(places(texts, unclean)).alias(texts.name)


def _sha256(texts: pl.Series) -> pl.Series:
    sha256 = hashlib.sha256
    return pl.Series(
        texts.name, [sha256(text.encode()).hexdigest() for text in texts.to_list()], dtype=pl.String
    )
