"""What can go wrong in one conversation with Calpendo, grouped by what is done about it.

    PluginFetchError
    ├── NothingFetchedError       not one of the listed bookings could be fetched: they are owed
    └── CalpendoFault
        ├── AuthenticationFault   the login is refused: nothing is tried again, the whole batch stops
        ├── RefusedFault          the server will not answer this request (4xx): another form of it may do
        ├── ServerFault           429 and 5xx: tried again, after Retry-After where the server sends one
        ├── UnreachableFault      no answer or a broken one: tried again
        ├── AnswerFault           an answer that is not what was asked for: HTML, no JSON, no ``biskits``, another id
        └── DeadlineFault         the time for this answer or for the batch is used up, or the batch was stopped

No message holds any part of an answer's body: only status, content type and length.
"""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.errors import PluginFetchError


class NothingFetchedError(PluginFetchError):
    """Every detail of a window failed; ``failed`` names the bookings, so that they can be asked for again."""

    def __init__(self, message: str, failed: Iterable[int]) -> None:
        super().__init__(message)
        self.failed = tuple(failed)


class CalpendoFault(PluginFetchError):  # noqa: N818  the faults of one conversation, told apart from bugs
    """Base of the faults; ``retryable`` says whether the same request may be sent again, ``status`` is HTTP's."""

    def __init__(self, message: str, *, retryable: bool = False, status: int | None = None) -> None:
        super().__init__(message)
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
