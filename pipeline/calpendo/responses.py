"""What the server's answers mean: which statuses are tried again, where a redirect may lead, and every fault by name.

Faults are grouped by what is done about them:

    PluginFetchError
    ├── NothingFetchedError       not one of the bookings that were asked for could be fetched: they are owed
    └── CalpendoFault
        ├── AuthenticationFault   the login is refused: nothing is tried again, the whole batch stops
        ├── RefusedFault          the server will not answer this request (4xx): another form of it may do
        ├── ServerFault           429 and 5xx: tried again, after Retry-After where the server sends one
        ├── UnreachableFault      no answer or a broken one: tried again
        ├── AnswerFault           an answer that is not what was asked for: HTML, no JSON, no ``biskits``, another id
        └── DeadlineFault         the time for this answer or for the batch is used up, or the batch was stopped
            └── NotReachedFault   ... before the question was sent, or hardly after: no fault of the server

No message holds any part of an answer's body: only status, content type and length.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import SplitResult, urljoin, urlsplit

from pipeline.config.base_url import api_path_in
from pipeline.errors import PluginFetchError

RETRIED = frozenset({429, 500, 502, 503, 504})
"""Statuses after which the same request may be sent again."""

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


def check_status(answer: Answer) -> None:
    """Raise the fault that a status stands for; 2xx is none."""
    if 200 <= answer.status < 300:
        return
    if answer.status in {401, 403}:
        raise AuthenticationFault(
            f"authentication failed ({answer}): check CALPENDO_USERNAME and CALPENDO_PASSWORD, "
            "and that this user may read bookings",
            status=answer.status,
        )
    if answer.status == 429 or answer.status >= 500:
        kind = "too many requests" if answer.status == 429 else "server error"
        raise ServerFault(f"{kind} ({answer})", status=answer.status, retryable=answer.status in RETRIED)
    raise RefusedFault(f"refused ({answer})", status=answer.status)


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
