"""Who operates an MRI scan: one query for all of a window, else one look-up a scan (T010). Never a lost booking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from pipeline.calpendo.client import MRI_SCAN
from pipeline.calpendo.faults import (
    AnswerFault,
    AuthenticationFault,
    CalpendoFault,
    RefusedFault,
    ServerFault,
)
from pipeline.calpendo.query import ids_query
from pipeline.transform.paths import HIDDEN, booking_id, find, value_at

if TYPE_CHECKING:
    from pipeline.calpendo.client import CalpendoClient
    from pipeline.calpendo.deadline import Deadline
    from pipeline.config import PipelineConfig

PATHS = ("Operator.name",)
_NAME_KEYS = ("name", "formattedName", "Operator.name", "Operator")
_IDS_A_QUERY = 50
_MAX_DEPTH = 4
# What says "I will not answer this form of the question", as against "I cannot be reached now".
_REFUSALS = (RefusedFault, AuthenticationFault, AnswerFault)
_REFUSING_STATUSES = frozenset({500, 501})


def operator_name(value: Any) -> str | None:
    """Return the name in any of the shapes the server writes an operator in; None where there is none to see."""
    for _ in range(_MAX_DEPTH):
        if isinstance(value, list) and value:
            value = value[0]
        elif isinstance(value, dict):
            value = next((value[key] for key in _NAME_KEYS if value.get(key) is not None), None)
        else:
            break
    return value if isinstance(value, str) and value.strip() and value != HIDDEN else None


def names_by_id(rows: list[Any]) -> dict[int, str]:
    """Return booking id -> operator's name for the rows that tell both."""
    names: dict[int, str] = {}
    for row in rows:
        if not isinstance(row, dict):
            continue
        number = booking_id(find(row, "id")[1])
        name = operator_name(value_at(row, "Operator.name")) or operator_name(value_at(row, "Operator"))
        if number is not None and name is not None:
            names[number] = name
    return names


class Operators:
    """Fetches operators beside the details; every failure becomes a warning.

    ``unknown`` names the scans of whose operators the server said nothing, as against that there is none.
    """

    def __init__(
        self, client: CalpendoClient, config: PipelineConfig, deadline: Deadline, warn: Callable[[str], None]
    ) -> None:
        self._client = client
        self._config = config
        self._deadline = deadline
        self._warn = warn
        self._window: Future[list[Any]] | None = None
        self.unknown: set[int] = set()

    def begin(self, query: str) -> None:
        """Ask for all scans of a window, on a worker thread; does nothing where ``fetch_operators`` is off."""
        if self._config.fetch_operators and self._window is None:
            self._window = self._client.submit(
                self._client.query, MRI_SCAN, query, PATHS, deadline=self._deadline
            )

    def names(self, scans: Sequence[int]) -> dict[int, str]:
        """Return booking id -> operator for the given MRI scans."""
        if not self._config.fetch_operators or not scans:
            return {}
        if self._window is not None:
            waiting = [(scans, self._window)]
        else:
            waiting = [
                (part, self._lookup(part))
                for part in (scans[at : at + _IDS_A_QUERY] for at in range(0, len(scans), _IDS_A_QUERY))
            ]
        names: dict[int, str] = {}
        for part, answer in waiting:
            try:
                names |= names_by_id(self._deadline.result(answer))
            except CalpendoFault as fault:
                names |= self._one_by_one(part, fault)
        return names

    def _lookup(self, ids: Sequence[int]) -> Future[list[Any]]:
        timeout = self._config.detail_timeout if len(ids) == 1 else None
        return self._client.submit(
            self._client.query, MRI_SCAN, ids_query(ids), PATHS, deadline=self._deadline, timeout=timeout
        )

    def _one_by_one(self, scans: Sequence[int], refusal: CalpendoFault) -> dict[int, str]:
        refused = isinstance(refusal, _REFUSALS) or (
            isinstance(refusal, ServerFault) and refusal.status in _REFUSING_STATUSES
        )
        if not refused or self._deadline.over:
            return self._none_of(scans, refusal)
        self._warn(
            f"operators are looked up scan by scan, because the one query for all was not answered: {refusal}"
        )
        names: dict[int, str] = {}
        first, *others = scans
        # The first look-up goes alone: a user who may see no operator at all costs one more request, not fifty.
        try:
            names |= names_by_id(self._deadline.result(self._lookup([first])))
        except AuthenticationFault as fault:
            return self._none_of(scans, fault)
        except CalpendoFault:
            others = list(scans)
        lost: list[int] = []
        for number, answer in [(number, self._lookup([number])) for number in others]:
            try:
                names |= names_by_id(self._deadline.result(answer))
            except CalpendoFault:
                lost.append(number)
        if lost:
            self.unknown.update(lost)
            self._warn(f"the operators of {len(lost)} scans could not be had: bookings {_some(lost)}")
        return names

    def _none_of(self, scans: Sequence[int], fault: CalpendoFault) -> dict[int, str]:
        self.unknown.update(scans)
        self._warn(f"the operators of {len(scans)} scans could not be had: {fault}")
        return {}


def _some(ids: Sequence[int]) -> str:
    shown = ", ".join(str(number) for number in ids[:10])
    return shown if len(ids) <= 10 else f"{shown}, ..."
