"""What an answer says: JSON or not, a list of biskits or not, the booking that was asked for or another.

An answer is believed by its body: what begins as JSON is read as JSON, and as UTF-8, whatever its labels say. Nothing
that is not understood ever counts as "no bookings", and the text of one row costs that row only. No message repeats
any part of a body.
"""

from __future__ import annotations

import re
from json import detect_encoding
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from pipeline.calpendo.responses import AnswerFault
from pipeline.transform.json_text import NestedTooDeepError, decoded, parsed
from pipeline.transform.paths import booking_id

if TYPE_CHECKING:
    from pipeline.calpendo.responses import Answer

UNREADABLE = "_unreadable"
"""Key of a payload that is nested deeper than can be read; beside it stands only the id that was asked for."""

_HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
_BOOKING_KEYS = frozenset({"id", "biskitType", "properties", "title", "status", "formattedName", "dateRange"})


_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_ID = re.compile(r"\s*:\s*(\d{1,16})(?!\d)", re.ASCII)


def biskits(answer: Answer) -> list[Any]:
    """Return the ``biskits`` of a list answer.

    Raises AnswerFault: an HTML page, no JSON (may be tried again), or JSON without a ``biskits`` list.
    """
    found = _list_json(answer)
    if not isinstance(found, dict) or not isinstance(found.get("biskits"), list):
        _refuse(answer, "JSON without a list of biskits", retryable=False)
    return list(found["biskits"])


def biskits_or_list(answer: Answer) -> list[Any]:
    """Return a list answer that may also be a bare JSON list, as ``/b/TYPE`` is said to be."""
    found = _list_json(answer)
    return found if isinstance(found, list) else biskits(answer)


def booking(answer: Answer, asked: int) -> dict[str, Any]:
    """Return one booking's payload, with the id that was asked for where the payload itself shows none.

    A byte that cannot be decoded stands in the payload as half of a surrogate pair, for the columns to judge. An object
    that is nested deeper than can be read is the booking's own fault, not the network's: it is handed on as
    ``{"id": ..., "_unreadable": text}``, so that it is rejected with its id and not asked for again for ever. Raises
    AnswerFault (may be tried again) for anything else.
    """
    try:
        found = _json(answer, retry_html=True)
    except NestedTooDeepError:
        return {"id": asked, UNREADABLE: decoded(answer.body, answer.charset)}
    if not isinstance(found, dict) or _BOOKING_KEYS.isdisjoint(found):
        _refuse(answer, "JSON that is no booking")
    own = found.get("id")
    if own is None or own == str(asked):
        return {**found, "id": asked}
    if booking_id(own) != asked:
        _refuse(answer, "another booking than the one asked for")
    return found


def is_whole(payload: dict[str, Any]) -> bool:
    """Return whether every text of a payload could be read; another answer may bring what this one did not."""
    try:
        msgspec.json.encode(payload)
    except UnicodeEncodeError:
        return False
    return UNREADABLE not in payload


def _list_json(answer: Answer) -> Any:
    try:
        return _json(answer, retry_html=False)
    except NestedTooDeepError:
        pass
    rows = _rows_apart(decoded(answer.body, answer.charset))
    if rows is None:
        _refuse(answer, "JSON that cannot be read", retryable=False)
    return {"biskits": rows}


def _json(answer: Answer, *, retry_html: bool) -> Any:
    start = _first_character(answer.body)
    if not start:
        _refuse(answer, "nothing")
    if start == "<" or (answer.media_type in _HTML_TYPES and start not in "{["):
        if b"password" in answer.body[:65536].lower():
            _refuse(answer, "a login page: authentication failed", retryable=retry_html)
        _refuse(answer, "an HTML page instead of JSON, as a failed login may", retryable=retry_html)
    try:
        return parsed(answer.body, answer.charset)
    except NestedTooDeepError:
        raise
    except ValueError:
        _refuse(answer, "broken JSON")


def _first_character(body: bytes) -> str:
    """Return the first character that is no white space, an empty text where there is none."""
    if not body.strip():
        return ""
    head = body[:64] if body[:64].strip() else body.lstrip()[:64]
    return head.decode(detect_encoding(head), "replace").lstrip("\ufeff \t\r\n")[:1]


def _rows_apart(text: str) -> list[Any] | None:
    """Return the rows of ``biskits``, read one by one; None where there are no such rows.

    Of a row that is nested too deep only the id is kept, so that its booking is asked for by number.
    """
    depth, begin, key = 0, 0, ""
    rows: list[Any] | None = None
    for token in _TOKEN.finditer(text):
        match token.group()[0]:
            case "[" | "{":
                depth += 1
                if depth == 2 and key == '"biskits"' and token.group() == "[":
                    rows = []
                if depth == 3:
                    begin = token.start()
            case "]" | "}":
                if depth == 3 and rows is not None and key == '"biskits"':
                    rows.append(_row(text[begin : token.end()]))
                depth -= 1
            case _:
                if depth == 1:
                    key = token.group()
    return rows


def _row(text: str) -> Any:
    try:
        return parsed(text)
    except ValueError:
        pass
    depth = 0
    for token in _TOKEN.finditer(text):
        match token.group()[0]:
            case "[" | "{":
                depth += 1
            case "]" | "}":
                depth -= 1
            case _:
                if depth == 1 and token.group() == '"id"' and (number := _ID.match(text, token.end())):
                    return {"id": int(number[1])}
    return {}


def _refuse(answer: Answer, what: str, *, retryable: bool = True) -> NoReturn:
    raise AnswerFault(f"answered with {what} ({answer})", retryable=retryable, status=answer.status) from None
