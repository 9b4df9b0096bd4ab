"""SHA-256 of a booking's critical fields, byte for byte the task list's formula (T015).

    sha256(json.dumps({"title", "status", "formattedName", "project", "resource"}, sort_keys=True))

over the raw JSON values: a null stays ``null``, a number a number, a missing key is ``""``, and a project or resource
that is no object is ``""``. On generation B the same keys are taken from where they stand there, and
``formattedName`` is written from the times as generation A would, so that a server's update changes no hash.
"""

from __future__ import annotations

import json
from json.encoder import encode_basestring_ascii  # what ``json.dumps`` itself writes a text with
from typing import Any, Final

import polars as pl
import polars_hash as plh

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

_UNCLEAN: Final = r"[^\x20\x21\x23-\x5b\x5d-\x7e]"
"""A character that ``json.dumps`` does not write as it is. (DEL is one: it becomes ``\\u007f``.)"""
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
    unclean = frame.select(pl.col(*FIELDS).str.contains(_UNCLEAN).fill_null(value=False))
    parts = {name: _escaped(frame[name], unclean[name]) for name in FIELDS}
    literals = {name: frame[literal_column(name)] for name in FIELDS}
    values = {
        key: _literal_or_quoted(literals[name], parts[name])
        if literals[name].null_count() < len(frame)
        else None
        for key, name in _KEYS.items()
    }
    # Where a field has no literals, the template itself holds the quotes.
    template = ", ".join(f'"{key}": ' + ('"{}"' if value is None else "{}") for key, value in values.items())
    written = [parts[_KEYS[key]].fill_null("") if value is None else value for key, value in values.items()]
    text = pl.format("{{" + template + "}}", *map(pl.lit, written)).alias("text")
    return pl.select(text).select(plh.col("text").chash.sha2_256().alias(fields.name)).to_series()


def _escaped(texts: pl.Series, unclean: pl.Series) -> pl.Series:
    """Return the texts as JSON writes them between its quotes."""
    if not unclean.any():
        return texts
    rows = unclean.arg_true()
    escaped = [encode_basestring_ascii(text)[1:-1] for text in texts.gather(rows).to_list()]
    return texts.clone().scatter(rows, pl.Series(escaped, dtype=pl.String))


def _literal_or_quoted(literals: pl.Series, texts: pl.Series) -> pl.Series:
    quoted = pl.format('"{}"', pl.lit(texts))
    return pl.select(pl.coalesce(pl.lit(literals), quoted, pl.lit(_MISSING))).to_series()
