"""What an answer says: JSON or not, a list of biskits or not, the booking that was asked for or another.

Nothing that is not understood ever counts as "no bookings". No message repeats any part of a body.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

from pipeline.calpendo.faults import AnswerFault
from pipeline.transform.paths import booking_id

if TYPE_CHECKING:
    from pipeline.calpendo.transport import Answer

UNREADABLE = "_unreadable"
"""Key of a payload whose own text could not be read as JSON; beside it stands only the id that was asked for."""

_HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
_BOOKING_KEYS = frozenset({"id", "biskitType", "properties", "title", "status", "formattedName", "dateRange"})


class _Unreadable(Exception):  # noqa: N818  it carries a text, and is caught in this file
    def __init__(self, text: str) -> None:
        super().__init__("the answer's text is no JSON that can be kept")
        self.text = text


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

    A text that did arrive whole and still cannot be kept (bytes that are no UTF-8, objects nested a thousand deep, a
    number of thousands of digits) is the booking's own fault, not the network's: it is handed on as
    ``{"id": ..., "_unreadable": text}``, so that it is rejected with its id and not asked for again for ever. Lone
    surrogates and NaN are handed on as they are, for the same end. Raises AnswerFault (may be tried again) for
    anything else.
    """
    try:
        found = _json(answer, retry_html=True)
    except _Unreadable as error:
        return {"id": asked, UNREADABLE: error.text}
    if not isinstance(found, dict) or _BOOKING_KEYS.isdisjoint(found):
        _refuse(answer, "JSON that is no booking")
    own = found.get("id")
    if own is None or own == str(asked):
        return {**found, "id": asked}
    if booking_id(own) != asked:
        _refuse(answer, "another booking than the one asked for")
    return found


def _list_json(answer: Answer) -> Any:
    try:
        return _json(answer, retry_html=False)
    except _Unreadable:
        _refuse(answer, "JSON that cannot be read", retryable=False)


def _json(answer: Answer, *, retry_html: bool) -> Any:
    body = answer.body
    if not body.strip():
        _refuse(answer, "nothing")
    if answer.media_type in _HTML_TYPES or body.lstrip()[:1] == b"<":
        if b"password" in body[:65536].lower():
            _refuse(answer, "a login page: authentication failed", retryable=retry_html)
        _refuse(answer, "an HTML page instead of JSON, as a failed login may", retryable=retry_html)
    text, whole = _decoded(answer)
    found = _parse(answer, text)
    if not whole:
        raise _Unreadable(text)
    return found


def _decoded(answer: Answer) -> tuple[str, bool]:
    """Return the text, and whether every byte of it could be read."""
    # Python's own error holds the body: it must not hang behind a fault as its context.
    try:
        return answer.body.decode(answer.charset or "utf-8").removeprefix("\ufeff"), True
    except (LookupError, UnicodeError):
        return answer.body.decode("utf-8", errors="replace"), False


def _parse(answer: Answer, text: str) -> Any:
    # Not orjson: numbers beyond 64 bits stay whole here, and a lone surrogate of one title spoils no list.
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        _refuse(answer, "broken JSON")
    except (RecursionError, ValueError):
        raise _Unreadable(text) from None


def _refuse(answer: Answer, what: str, *, retryable: bool = True) -> NoReturn:
    raise AnswerFault(f"answered with {what} ({answer})", retryable=retryable, status=answer.status) from None
