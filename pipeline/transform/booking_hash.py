"""SHA-256 of a booking's critical fields, byte for byte the task list's formula (T015).

    sha256(json.dumps({"title", "status", "formattedName", "project", "resource"}, sort_keys=True))

over the raw JSON values: a null stays ``null``, a number a number, a missing key is ``""``, and a project or resource
that is no object is ``""``. On generation B the same keys are taken from where they stand there, and
``formattedName`` is written from the times as generation A would, so that a server's update changes no hash.
"""

from __future__ import annotations

import hashlib
import json
from json.encoder import encode_basestring_ascii  # what ``json.dumps`` itself writes a text with
from typing import Any, Final

import polars as pl

from pipeline.transform.distinct import map_distinct

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

_TEMPLATE: Final = "{{" + ", ".join(f'"{key}": "{{}}"' for key in _KEYS) + "}}"
_CLEAN: Final = r"[\x20\x21\x23-\x5b\x5d-\x7e]*"
"""Text that ``json.dumps`` writes as it is. (DEL is not: it becomes ``\\u007f``.)"""
_PLAIN: Final = r"\A\{" + ", ".join(f'"{key}": "{_CLEAN}"' for key in _KEYS) + r"\}\z"
_MISSING: Final = '""'


def literal_column(name: str) -> str:
    """Return the column that holds a field's JSON where it is not simply the quoted text column."""
    return f"hash:{name}"


def literal(value: Any, *, is_null: bool) -> str:
    """Return the JSON of a value that is not simply the quoted text column.

    ``is_null``: the key stands in the task list's own place with null; otherwise a missing value is the empty string.
    """
    if value is None:
        return "null" if is_null else _MISSING
    return _json(value)


def _json(value: Any) -> str:
    """Write a value as the formula does; one that JSON cannot hold (never from a server) counts as null."""
    try:
        return json.dumps(value, sort_keys=True)
    except (ValueError, TypeError, RecursionError):
        return "null"


def booking_hash(formatted_name: pl.Expr) -> pl.Expr:
    """Return ``booking_hash`` String, 64 hex digits, never null.

    ``formatted_name`` is generation B's name as rendered from its times, null elsewhere. Reads the columns ``FIELDS`` and
    their ``hash:*`` companions.
    """
    rendered = pl.coalesce(formatted_name, "formatted_name").alias("formatted_name")
    literal_name = literal_column("formatted_name")
    literal_name_of_a = pl.when(formatted_name.is_null()).then(pl.col(literal_name)).alias(literal_name)
    others = [name for field in FIELDS[:2] + FIELDS[3:] for name in (field, literal_column(field))]
    return (
        pl.struct(rendered, literal_name_of_a, *others)
        .map_batches(_hashes, return_dtype=pl.String, is_elementwise=True)
        .alias("booking_hash")
    )


def _hashes(fields: pl.Series) -> pl.Series:
    frame = fields.struct.unnest()
    texts = frame.select(pl.format(_TEMPLATE, *_KEYS.values())).to_series()
    as_is = texts.str.contains(_PLAIN).fill_null(value=False)
    for name in FIELDS:
        literals = frame[literal_column(name)]
        if literals.null_count() < len(frame):
            as_is &= literals.is_null()
            texts = texts.set(literals.is_not_null(), None)
    if not as_is.all():
        rows = (~as_is).arg_true()
        texts = texts.scatter(rows, _escaped(texts.gather(rows), frame[rows]))
    sha256 = hashlib.sha256
    digests = [sha256(text).hexdigest() for text in texts.cast(pl.Binary).to_list()]
    return pl.Series(fields.name, digests, dtype=pl.String)


def _escaped(texts: pl.Series, frame: pl.DataFrame) -> pl.Series:
    """Return the formula's JSON for rows with something to escape; null texts are those with a literal.

    Where no field holds a quote, the whole text is escaped at once and the template's own quotes are put back.
    """
    whole = (texts.str.count_matches('"', literal=True) == _TEMPLATE.count('"')).fill_null(value=False)
    escaped = [
        encode_basestring_ascii(text)[1:-1].replace(r"\"", '"') if at_once else None
        for text, at_once in zip(texts.to_list(), whole.to_list(), strict=True)
    ]
    found = pl.Series(texts.name, escaped, dtype=pl.String)
    if whole.all():
        return found
    rows = (~whole).arg_true()
    return found.scatter(rows, _written_out(frame[rows]))


def _written_out(frame: pl.DataFrame) -> pl.Series:
    """Return the formula's JSON field by field, for rows with quotes or with values that are no text."""
    values = [
        pl.coalesce(
            literal_column(name),
            pl.col(name).map_batches(
                lambda texts: map_distinct(texts, _quoted, pl.String), return_dtype=pl.String
            ),
            pl.lit(_MISSING),
        )
        for name in _KEYS.values()
    ]
    return frame.select(pl.format(_TEMPLATE.replace('"{}"', "{}"), *values)).to_series()


def _quoted(text: str | None) -> str | None:
    return None if text is None else encode_basestring_ascii(text)
