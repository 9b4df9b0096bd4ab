"""What the server's answers mean: redirects, bodies, and the times that the rows of a list show.

Which statuses are retried says ``client.RETRIED``. An answer is believed by its body: what begins as JSON is read as JSON,
and as UTF-8, whatever its labels say. Nothing that is not understood ever counts as "no bookings", and the text of one row
costs that row only. Fields and times of rows are read as the columns read them (``transform.json_values``, ``transform.times``).

Faults are grouped by what is done about them:

    PluginFetchError
    ├── NothingFetchedError       not one of the bookings that were asked for could be fetched: they are owed
    └── CalpendoFault
        ├── AuthenticationFault   the login is refused: nothing is tried again, the whole batch stops
        ├── RefusedFault          the server will not answer this request (4xx): another form of it may do
        ├── ServerFault           429 and 5xx: mostly tried again, after Retry-After where the server sends one
        ├── UnreachableFault      no answer or a broken one: tried again
        ├── AnswerFault           an answer that is not what was asked for: HTML, no JSON, no ``biskits``, another id
        └── DeadlineFault         the time for this answer or for the batch is used up, or the batch was stopped
            └── NotReachedFault   ... before the question was sent, or hardly after: no fault of the server

No message holds any part of an answer's body: only status, content type and length.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from json import detect_encoding
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import SplitResult, urljoin, urlsplit

import msgspec
import polars as pl

from pipeline.config.base_url import api_path_in
from pipeline.errors import PluginFetchError
from pipeline.transform.json_values import JsonObject, NestedTooDeepError, booking_id, decoded, find, parsed
from pipeline.transform.read_objects import as_text, is_whole
from pipeline.transform.times import Readings, iso_readings, pair_readings

if TYPE_CHECKING:
    from pipeline.calpendo.window import Window
    from pipeline.config import PipelineConfig


MAX_VALUES = 100_000
"""The most values that one booking may hold."""

_VALUES_PER_ROW = 64
_ALWAYS_ALLOWED_VALUES = 1_000_000
_FLESH = bytes(set(range(256)) - set(b"[]{},:"))
_INNERMOST = re.compile(rb"\{[,:]*\}|\[[,:]*\]")
_MAX_LEVELS = 64
_MAX_REDIRECTS = 3
_PORTS = {"http": 80, "https": 443}
_LOGIN = re.compile(
    r"(?<![a-z])(?:log-?[io]n|sign-?in|auth(?:enticat\w*|oriz\w*)?|sso|saml2?|oauth2?|cas|idp)(?![a-z])",
    re.IGNORECASE,
)


@dataclass(frozen=True, repr=False)
class Answer:
    """A complete answer; ``body`` is decompressed. Its text form tells nothing of the body but the length."""

    status: int
    media_type: str
    charset: str | None
    location: str | None
    retry_after: str | None
    body: bytes

    def __str__(self) -> str:
        """Return status, content type and length."""
        return f"HTTP {self.status}, {self.media_type or 'no content type'}, {len(self.body)} bytes"

    __repr__ = __str__


class NothingFetchedError(PluginFetchError):
    """Not one booking could be fetched; ``failed`` names them and why, ``ends`` when they end, as far as is known."""

    def __init__(self, message: str, failed: Mapping[int, str], ends: Mapping[int, datetime]) -> None:
        super().__init__(message)
        self.failed = dict(failed)
        self.ends = dict(ends)


class CalpendoFault(PluginFetchError):  # noqa: N818  the faults of one conversation, told apart from bugs
    """Base of the faults; ``retryable`` says whether the same request may be sent again, ``status`` is HTTP's.

    Its text is what was ``found``, the ``advice`` and the ``url`` that was asked, as far as they are known.
    """

    def __init__(
        self,
        found: str,
        *,
        advice: str = "",
        url: str = "",
        retryable: bool = False,
        status: int | None = None,
    ) -> None:
        super().__init__("; ".join(filter(None, (found, advice, url and f"GET {url}"))))
        self.found, self.advice, self.url = found, advice, url
        self.retryable = retryable
        self.status = status


class AuthenticationFault(CalpendoFault):
    """The login was refused (401, 403, a redirect to a login page)."""


class RefusedFault(CalpendoFault):
    """The server understood nothing, or will not answer this request (4xx)."""


class ServerFault(CalpendoFault):
    """The server has trouble (429, 5xx)."""


class UnreachableFault(CalpendoFault):
    """The server could not be reached, or the connection broke."""


class AnswerFault(CalpendoFault):
    """The answer is not what was asked for, or is too large."""


class DeadlineFault(CalpendoFault):
    """The time is used up, or the batch was stopped."""


class NotReachedFault(DeadlineFault):
    """The time was used up before the question was sent, or too soon after it for an answer."""


def redirected(answer: Answer, url: str, count: int) -> str:
    """Return where to ask instead: at the same origin, no login page, and not for ever."""
    try:
        target = urljoin(url, answer.location or "")
        here, there = urlsplit(url), urlsplit(target)
        foreign = _origin(here) != _origin(there)
    except ValueError:
        raise AnswerFault(f"sent to an address that is none ({answer})", status=answer.status) from None
    # Only what is new counts: a resource that is called CAS stands in the path that was asked for.
    fresh = set(there.path.split("/")) - set(here.path.split("/"))
    if any(_LOGIN.search(part) for part in (*fresh, there.netloc if foreign else "")):
        raise AuthenticationFault(
            f"authentication failed: sent to a login page ({answer})", status=answer.status
        )
    if foreign:
        raise RefusedFault(
            f"sent to another origin, {there.scheme}://{there.hostname}, where the login must not go ({answer}); "
            "write the address it should be into base_url",
            status=answer.status,
        )
    if count > _MAX_REDIRECTS or not answer.location:
        raise AnswerFault(f"sent in circles ({answer})", status=answer.status)
    return target


def named(fault: CalpendoFault, what: str, url: str, attempts: int, api_path: str) -> CalpendoFault:
    """Return the fault with what was asked, how often, and where."""
    times = f" after {attempts} attempts" if attempts > 1 else ""
    advice = fault.advice
    if fault.status == 404:
        ending = api_path_in(url.partition(f"{api_path}/")[0], "")
        advice = f"is api_path {api_path!r} right? Newer servers answer at '/api'"
        if ending:
            advice = f'base_url ends with {ending!r}; write it without, and "api_path": "{ending}"'
    return type(fault)(
        f"Calpendo, {what}{times}: {fault.found}",
        advice=advice,
        url=url,
        retryable=fault.retryable,
        status=fault.status,
    )


def has_too_many_values(body: bytes, limit: int = MAX_VALUES) -> bool:
    """Return whether a JSON text may hold more values than ``limit``, before one of them is made.

    Counts the characters that stand before each value; those inside of texts count too.
    """
    return body.count(b",") + body.count(b"[") + body.count(b"{") > limit


def has_too_many_rows(body: bytes, limit: int) -> bool:
    """Return whether a list in a JSON text has more items than ``limit``, before one of them is made.

    Also where it has more values than so many rows can have. Six megabytes of ``{},`` would otherwise become
    gigabytes of objects, in seconds that no deadline can end. Works on brackets, commas and colons alone, in a few
    passes over the bytes: what is broken is left to the parser.
    """
    if body.count(b",") < limit:
        return False
    if has_too_many_values(body, max(_VALUES_PER_ROW * limit, _ALWAYS_ALLOWED_VALUES)):
        return True
    body = body.replace(b"\x00", b"")
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    bones = b"".join(body.split(b'"')[::2]).translate(None, _FLESH)
    # A list of n items has n - 1 commas; an object has as many colons as keys, and one comma less.
    if bones.count(b",") - bones.count(b":") + bones.count(b"{") < limit:
        return False
    bones = bones.replace(b":", b"")
    for _ in range(_MAX_LEVELS):
        # Once what lies inside of its items is gone, a list is its commas.
        if b"," * limit in bones:
            return True
        shorter = bones.replace(b"{}", b"").replace(b"[]", b"")
        if shorter == bones:
            shorter = _INNERMOST.sub(b"", bones)
        if shorter == bones:
            return False
        bones = shorter
    return False


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


NAME = "formattedName"
RANGE_START = "properties.dateRange.start"
RANGE_FINISH = ("properties.dateRange.finish", "properties.dateRange.end")

Texts = tuple[str | None, ...]

_KEPT_AT_MOST = 1_000
"""Rows whose times are kept for the next time that they are asked for; of a longer list nothing is held."""


def surely_outside(rows: Sequence[JsonObject], window: Window, config: PipelineConfig) -> list[bool]:
    """Return for each row whether it alone proves that its booking is not wanted; in doubt it is.

    Both forms of writing times count where a row has both, and a wall-clock time that comes twice is read both ways.
    What starts before the window is wanted while it runs, unless ``include_running`` is off.
    """
    if not rows:
        return []
    first_start, last_start, last_end = map(pl.lit, _times(rows, config.timezone))
    opens, closes = _naive_utc(window.start), _naive_utc(window.end)
    has_ended = (last_end < opens).fill_null(value=False) if config.include_running else pl.lit(value=True)
    outside = (
        pl.when(first_start.is_null() | (last_end < first_start))
        .then(pl.lit(value=False))
        .when(first_start >= closes)
        .then(pl.lit(value=True))
        .otherwise((last_start < opens) & has_ended)
    )
    return pl.select(outside.alias("outside")).to_series().to_list()


def spans(
    rows: Sequence[JsonObject], config: PipelineConfig
) -> list[tuple[datetime | None, datetime | None]]:
    """Return for each row the earliest start and the latest end that it may mean, in UTC; None where it shows none."""
    if not rows:
        return []
    first, _, last = _times(rows, config.timezone)
    aware = pl.select(
        first.dt.replace_time_zone("UTC").alias("start"), last.dt.replace_time_zone("UTC").alias("end")
    )
    return aware.rows()


def is_ambiguous(values: Sequence[Any], timezone: str) -> list[bool]:
    """Return for each written time whether it names two instants: the site's clock shows it twice or never."""
    earliest, latest = iso_readings(list(map(_text, values)), timezone)
    return (earliest != latest).fill_null(value=False).to_list()


def _times(rows: Sequence[JsonObject], timezone: str) -> tuple[pl.Series, pl.Series, pl.Series]:
    """Return the earliest and the latest start and the latest end that each row may mean, in UTC."""
    read = _read if len(rows) <= _KEPT_AT_MOST else _read.__wrapped__
    return read(_texts(rows, NAME), _texts(rows, RANGE_START), _texts(rows, *RANGE_FINISH), timezone)


# One cycle asks twice, and a quiet one asks for what the cycle before asked.
@lru_cache(maxsize=4)
def _read(
    pairs: Texts, range_starts: Texts, range_ends: Texts, timezone: str
) -> tuple[pl.Series, pl.Series, pl.Series]:
    starts, ends = pair_readings(pairs, timezone)
    first, last = _span(starts, iso_readings(range_starts, timezone) if any(range_starts) else None)
    _, end = _span(ends, iso_readings(range_ends, timezone) if any(range_ends) else None)
    times = pl.select(first.alias("first"), last.alias("last"), end.alias("end"))
    return times["first"], times["last"], times["end"]


def _texts(rows: Sequence[JsonObject], *paths: str) -> Texts:
    """Return, for each row, the text of the first path that has any."""
    texts = ((_text(find(row, path)[1]) for path in paths) for row in rows)
    return tuple(next((text for text in found if text is not None), None) for found in texts)


def _text(value: Any) -> str | None:
    """Return a value as text; one that could not be decoded tells nothing."""
    text = as_text(value)
    return text if text is None or is_whole(text) else None


def _span(one: Readings, other: Readings | None) -> tuple[pl.Expr, pl.Expr]:
    """Return the earliest and the latest of all readings, of those that there are."""
    if other is None:
        return pl.lit(one.earliest), pl.lit(one.latest)
    first, last = (one.earliest, other.earliest), (one.latest, other.latest)
    return pl.min_horizontal(*map(pl.lit, first)), pl.max_horizontal(*map(pl.lit, last))


def _naive_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


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


def is_readable(payload: dict[str, Any]) -> bool:
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
