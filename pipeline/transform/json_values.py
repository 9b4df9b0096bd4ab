"""JSON and its values: text to values and back, where a value stands in a booking, and what a booking's id may be.

The one look-up of the client and of the columns; loads no polars. JSON is decided by the body, not by its label
(``decoded``); what a column cannot hold is told from text by ``read_objects``.

A dotted path is looked up at the top level, nested and as one flat key, then the same below ``properties``. A leading
``properties.`` is looked up there first, and then at the top level, so that it also finds flat answers. The first
value that is not null counts.
"""

from __future__ import annotations

import codecs
import json
import re
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
import orjson

JsonObject = dict[str, Any]

UNDER: Final = "properties."
HIDDEN: Final = "<Hidden>"
"""What Calpendo writes in place of a field that the account may not read."""
MAX_ID: Final = 2**53 - 1
"""Calpendo's ids are JavaScript's safe integers (the vendor's API pages)."""

_PROPERTIES: Final = UNDER.removesuffix(".")
_MISSING: Final = object()


class Place(NamedTuple):
    """One place where a path may stand: below ``properties`` or at the top, and the keys from there."""

    in_properties: bool
    keys: tuple[str, ...]

    @property
    def whole(self) -> tuple[str, ...]:
        """Return the keys from the top."""
        return (_PROPERTIES, *self.keys) if self.in_properties else self.keys


@lru_cache(maxsize=256)
def places(path: str) -> tuple[Place, ...]:
    """Return the places of a path in the order in which they are looked at."""
    plain = path.removeprefix(UNDER)
    top = (Place(False, tuple(plain.split("."))), Place(False, (plain,)))
    below = (Place(True, tuple(plain.split("."))), Place(True, (plain,)))
    if plain == path:
        return tuple(dict.fromkeys(top + below))
    return tuple(dict.fromkeys((below[0], Place(False, (path,)), *top, below[1])))


def find(booking: JsonObject, path: str) -> tuple[bool, Any]:
    """Look a path up in one booking or row of a list.

    Returns:
        Whether the path's key stands in any of its places, be its value null, and the first value that is not null.
    """
    is_there = False
    for place in places(path):
        value = _at(booking, place)
        if value is not _MISSING:
            if value is not None:
                return True, value
            is_there = True
    return is_there, None


def value_at(booking: JsonObject, path: str) -> Any:
    """Return a path's value, None where there is none or the account may not read it."""
    value = find(booking, path)[1]
    return None if value == HIDDEN else value


def stands_at(booking: JsonObject, place: Place) -> bool:
    """Return whether a booking has a place's last key, be its value null."""
    return _at(booking, place) is not _MISSING


def _at(booking: JsonObject, place: Place) -> Any:
    """Return what stands at one place of a booking, a mark of its own where nothing does."""
    value: Any = booking
    for key in place.whole:
        if not isinstance(value, dict):
            return _MISSING
        value = value.get(key, _MISSING)
    return value


def booking_id(value: object) -> int | None:
    """Return a usable id, a whole number from 1 to 2^53-1, else None; a bool, a float or a text is none."""
    return value if type(value) is int and 0 < value <= MAX_ID else None


Text: TypeAlias = str | bytes | bytearray | memoryview

TEXT_TYPES: Final = (str, bytes, bytearray, memoryview)
REFUSALS: Final = (msgspec.DecodeError, UnicodeError, RecursionError)
"""What msgspec's decoders raise."""

_ASCII: Final = "".join(map(chr, range(0x20, 0x7F)))
_ASCII_EXTENSIONS: Final = ("iso8859", "cp", "koi8", "mac", "shift_jis", "euc", "gb", "big5")
_UTF_8_BEYOND_ASCII: Final = re.compile("[^\x00-\x7f\udc80-\udcff]")
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


class NestedTooDeepError(ValueError):
    """A JSON text is nested deeper than Python reads."""


def parsed(text: Text, charset: str | None = None) -> Any:
    """Return a JSON text's value: numbers exact, ``NaN`` and half surrogate pairs as Python's ``json`` reads them.

    A control character inside of a string is read as such, and a whole number of more digits than Python reads as null:
    neither costs more than its own field.

    Args:
        text: The text, or its bytes (see ``decoded``).
        charset: What the bytes are labelled as.

    Raises:
        NestedTooDeepError: The text is nested too deep.
        ValueError: The text is no JSON.
    """
    plain = text if isinstance(text, (str, bytes)) else bytes(text)
    try:
        return msgspec.json.decode(plain)
    except REFUSALS:
        pass
    whole = plain if isinstance(plain, str) else decoded(plain, charset)
    # Python's own errors hold the text: they must not hang behind ours as a context.
    try:
        return json.loads(whole, strict=False, parse_int=_whole_number)
    except RecursionError:
        too_deep = True
    except ValueError:
        too_deep = False
    raise NestedTooDeepError("nested too deep") if too_deep else ValueError("no JSON")


def decoded(body: bytes, charset: str | None = None) -> str:
    """Return the text of JSON bytes, which are UTF-8, or UTF-16 or UTF-32 by their own look, whatever their label.

    A string that is no UTF-8 is read as ``charset`` (an extension of ASCII), unless UTF-8 beyond ASCII stands anywhere in
    the body: then the label is wrong. A byte that cannot be decoded becomes half of a surrogate pair (U+DC80 to
    U+DCFF), as ``surrogateescape`` makes it, which ``read_objects`` tells from text.
    """
    encoding = json.detect_encoding(body)
    if not encoding.startswith("utf-8"):
        try:
            return body.decode(encoding, "surrogatepass")
        except UnicodeError:
            pass
    text = body.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    if charset is None or _UTF_8_BEYOND_ASCII.search(text) or not _extends_ascii(charset):
        return text
    return _STRING.sub(lambda found: _relabelled(found.group(), charset), text)


def _relabelled(text: str, charset: str) -> str:
    if text.isascii():
        return text
    try:
        return text.encode("utf-8", "surrogateescape").decode(charset)
    except UnicodeError:
        return text


def _extends_ascii(charset: str) -> bool:
    try:
        name = codecs.lookup(charset).name
    except (LookupError, ValueError):
        return False
    return name.startswith(_ASCII_EXTENSIONS) and _ASCII.encode().decode(name) == _ASCII


def _whole_number(digits: str) -> int | None:
    try:
        return int(digits)
    except ValueError:
        return None


def payload_text(payload: object) -> str:
    """Return a payload as JSON text that any reader of UTF-8 takes, for the quarantine; never raises.

    Text is given back as it came, but for what UTF-8 cannot carry; an object is written out.
    """
    if isinstance(payload, (bytes, bytearray, memoryview)):
        return bytes(payload).decode("utf-8", "backslashreplace")
    if isinstance(payload, str):
        return payload.encode("utf-8", "backslashreplace").decode("utf-8")
    try:
        return orjson.dumps(payload).decode()
    except (orjson.JSONEncodeError, RecursionError):
        pass
    try:
        return json.dumps(payload, default=_type_name, skipkeys=True)
    except (ValueError, TypeError, RecursionError):
        return json.dumps({"unwritable": _type_name(payload)})


def _type_name(value: object) -> str:
    return f"<{type(value).__name__}>"
