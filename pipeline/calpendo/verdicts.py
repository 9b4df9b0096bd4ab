"""What a status line or a redirect means, and how a fault is told: pure functions of an answer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urljoin, urlsplit

from pipeline.calpendo.faults import (
    AnswerFault,
    AuthenticationFault,
    CalpendoFault,
    RefusedFault,
    ServerFault,
)

if TYPE_CHECKING:
    from pipeline.calpendo.transport import Answer

RETRIED = frozenset({429, 500, 502, 503, 504})
"""Statuses after which the same request may be sent again."""

_MAX_REDIRECTS = 3
_PORTS = {"http": 80, "https": 443}
_LOGIN = re.compile(
    r"(?<![a-z])(?:log-?[io]n|sign-?in|auth(?:enticat\w*|oriz\w*)?|sso|saml2?|oauth2?|cas|idp)(?![a-z])",
    re.IGNORECASE,
)


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
    hint = f"; is api_path {api_path!r} right? Newer servers answer at '/api'" if fault.status == 404 else ""
    text = f"Calpendo, {what}: {fault}{times}{hint}; GET {url}"
    return type(fault)(text, retryable=fault.retryable, status=fault.status)


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)
