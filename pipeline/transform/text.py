"""Text from people, normalised before anything looks at it: titles, names, statuses and every mapped path.

1. What nobody sees vanishes: byte order mark, zero-width space, word joiner, soft hyphen, direction marks.
2. A line break of two characters, every other control character and every white space of Unicode (Zs, Zl, Zp) become one
   blank each.
3. The rest is composed (NFC), and outer blanks are stripped; runs of blanks inside stay.

U+200C and U+200D, which are spelling in Persian and Indic scripts, are left out of identifiers and for matching, and
stay in names: a column holds the text without them, and another one, ``joined:``, the text with them where there are any.
A column is looked at as a whole first; only texts that need it are touched, each distinct one once. The booking hash
(T015) is made of the text as it came, before this stage.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Final, NamedTuple

import polars as pl

from pipeline import fields
from pipeline.fields import SOURCE
from pipeline.transform.columns import places
from pipeline.transform.read_objects import no_texts, source_columns

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig

JOINED: Final = "joined:"
"""Begins the name of the column that holds a mapped path's text with its joiners."""

_NAMES: Final = ("status", "project", "resource", "resource:name")
"""Columns of few distinct values."""
_COLUMNS: Final = ("title", *_NAMES)

_JOINERS: Final = "\u200c\u200d"
_JOINER: Final = re.compile(f"[{_JOINERS}]")
_UNSEEN: Final = re.compile("[\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
_WHITE: Final = re.compile("\r\n|[\x00-\x1f\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]")
_BEFORE: Final = re.compile(f"^[ {_JOINERS}]+")
_BEHIND: Final = re.compile(f"([{_JOINERS}]*)(?: [ {_JOINERS}]*)?$")

PLAIN: Final = (
    r"\x20-\x7e\u00a1-\u00ac\u00ae-\u02ff\u0370-\u0373\u0375-\u037d\u037f-\u0386\u0388-\u0482\u048a-\u0556"
    r"\u05d0-\u05ea\u0620-\u064a\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fff\uac00-\ud7a3"
)
"""Characters of which any text without outer blanks is normalised already, as a class of a regex."""
_TO_DO: Final = r"\A | \z|[^" + re.sub(r"\\[ux]([0-9a-f]+)", r"\\x{\1}", PLAIN) + "]"


class Forms(NamedTuple):
    """A normalised text without joiners, and with them where it has any."""

    text: str
    joined: str | None


def normalised(text: str) -> str:
    """Return a text as it is matched and compared: normalised, without joiners."""
    return forms(text).text


def comparable(text: str) -> str:
    """Return a text as it is compared without case."""
    return normalised(text).casefold()


def forms(text: str) -> Forms:
    """Return the normalised forms of a text."""
    seen = unicodedata.normalize("NFC", _WHITE.sub(" ", _UNSEEN.sub("", text)))
    if _JOINER.search(seen) is None:
        return Forms(seen.strip(" "), None)
    bare = _JOINER.sub("", seen)
    composed = unicodedata.normalize("NFC", bare)
    if composed != bare:  # It kept an accent from its letter, which is no spelling.
        return Forms(composed.strip(" "), None)
    joined = _BEHIND.sub(r"\1", _BEFORE.sub("", seen))
    return Forms(bare.strip(" "), joined if _JOINER.search(joined) else None)


def with_joiners(found: str, joined: str) -> str:
    """Return a part of a text without joiners as it stands in the text with them; the last such part counts."""
    begin = _JOINER.sub("", joined).rfind(found)
    if begin < 0 or not found:
        return found
    places_of_letters = [place for place, letter in enumerate(joined) if letter not in _JOINERS]
    places_of_letters.append(len(joined))
    return joined[places_of_letters[begin] : places_of_letters[begin + len(found)]]


def add_normalised(bookings: pl.LazyFrame, config: PipelineConfig) -> pl.LazyFrame:
    """Normalise the texts of a bookings frame: ``title``, ``status``, ``project``, ``resource``, ``source:*``.

    Adds ``joined:<path>`` String for each source of the mapping: its text with joiners, null where it has none.
    """
    sources = source_columns(config)
    joined = [f"{JOINED}{path}" for path in sources.values()]
    columns = (*_COLUMNS, *sources)
    shape = pl.Struct(dict.fromkeys((*columns, *joined), pl.String))
    whole = pl.struct(*columns).map_batches(_normalised_frame, return_dtype=shape, is_elementwise=True)
    return (
        bookings.with_columns(whole.alias("_normalised"))
        .with_columns(pl.col("_normalised").struct.field(name) for name in (*columns, *joined))
        .drop("_normalised")
    )


def keeps_joiners(target: str) -> bool:
    """Tell whether a target is a name or a description, in which joiners are spelling, and no identifier."""
    field = fields.by_name().get(target)
    return field is None or field.repair == "cut"


def rejoined(values: pl.Series, joined: pl.Series) -> pl.Series:
    """Return parts of texts as they stand in the texts with joiners (``joined``, null where a text has none)."""
    rows = (joined.is_not_null() & values.is_not_null()).arg_true()
    if rows.is_empty():
        return values
    pairs = zip(values.gather(rows), joined.gather(rows), strict=True)
    whole = pl.Series([with_joiners(found, text) for found, text in pairs], dtype=pl.String)
    return values.clone().scatter(rows, whole)


def _normalised_frame(given: pl.Series) -> pl.Series:
    raw = given.struct.unnest()
    done: dict[str, tuple[pl.Series, pl.Series]] = {}
    for name in raw.columns:
        # A mapped path is mostly a column of the booking as well.
        same = next((other for other in done if raw[other].equals(raw[name], null_equal=True)), None)
        done[name] = done[same] if same else _normalised_column(raw[name], few=name in _NAMES)
    texts = [text.alias(name) for name, (text, _) in done.items()]
    joined = [
        text.alias(f"{JOINED}{name.removeprefix(SOURCE)}")
        for name, (_, text) in done.items()
        if name.startswith(SOURCE)
    ]
    return pl.DataFrame([*texts, *joined]).to_struct(given.name)


def _normalised_column(values: pl.Series, *, few: bool) -> tuple[pl.Series, pl.Series]:
    """Return a column without joiners, and its texts with them."""
    nothing = no_texts(len(values))
    if not (values.unique() if few else values).str.contains(_TO_DO).any():
        return values, nothing
    rows = values.str.contains(_TO_DO).fill_null(value=False).arg_true()
    affected = values.gather(rows)
    distinct = affected.unique()
    both = list(map(forms, distinct))
    where = places(affected, distinct)
    texts, joined = (
        pl.Series([found[part] for found in both], dtype=pl.String).gather(where) for part in (0, 1)
    )
    kept = nothing if joined.null_count() == len(joined) else nothing.clone().scatter(rows, joined)
    return values.clone().scatter(rows, texts), kept
