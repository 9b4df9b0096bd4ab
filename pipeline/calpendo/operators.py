"""Who operates an MRI scan: one query for all of a window, else one look-up per scan (T010). Never a lost booking.

The query is ``/q/MRIScan/QUERY?paths=id,Operator.name`` with the same QUERY that asks for the window's bookings
(``query.booking_query``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from pipeline.calpendo.client import MRI_SCAN, CalpendoClient, RequestQueue
from pipeline.calpendo.query import ids_query
from pipeline.calpendo.responses import (
    AnswerFault,
    AuthenticationFault,
    CalpendoFault,
    RefusedFault,
    ServerFault,
)
from pipeline.transform.json_values import HIDDEN, booking_id, find, value_at

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig

# The task list's URL (T010) ends in ``?paths=Operator.name``: answers to it were seen that name no booking, so that no
# operator could be given to its scan. ``id`` is the vendor's own example of a path.
PATHS = ("id", "Operator.name")
_NAME_KEYS = ("name", "formattedName", "Operator.name", "Operator")
_IDS_PER_QUERY = 50
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
    found = ((_id_of(row), _name_of(row)) for row in rows)
    return {number: name for number, name in found if number is not None and name is not None}


def _id_of(row: Any) -> int | None:
    return booking_id(find(row, "id")[1]) if isinstance(row, dict) else None


def _name_of(row: Any) -> str | None:
    if not isinstance(row, dict):
        return None
    return operator_name(value_at(row, "Operator.name")) or operator_name(value_at(row, "Operator"))


class Operators:
    """Fetches operators beside the details; every failure becomes a warning.

    ``unknown`` names the scans of whose operators the server said nothing, as against that there is none.
    """

    def __init__(
        self,
        client: CalpendoClient,
        config: PipelineConfig,
        requests: RequestQueue,
        warn: Callable[[str], None],
    ) -> None:
        self._client = client
        self._config = config
        self._requests = requests
        self._warn = warn
        self._window: Future[list[Any]] | None = None
        self.unknown: set[int] = set()

    def begin(self, query: str) -> None:
        """Ask for all scans of a window, on a worker thread; does nothing where it is of no use, or was done."""
        useful = self._config.fetch_operators and not self._client.learned.nameless_operators
        if useful and self._window is None:
            self._window = self._requests.submit(self._client.query, MRI_SCAN, query, PATHS)

    def of_window(self, scans: Sequence[int]) -> dict[int, str]:
        """Return booking id -> operator for MRI scans of the window."""
        if not self._config.fetch_operators or not scans:
            return {}
        if self._window is None:
            return self._one_by_one(scans) if self._client.learned.nameless_operators else self.of_ids(scans)
        return self._of_many(scans, self._window)

    def of_ids(self, scans: Sequence[int]) -> dict[int, str]:
        """Return booking id -> operator for MRI scans from anywhere in time, some dozens per query."""
        if not self._config.fetch_operators or not scans:
            return {}
        if self._client.learned.nameless_operators:
            return self._one_by_one(scans)
        parts = [scans[at : at + _IDS_PER_QUERY] for at in range(0, len(scans), _IDS_PER_QUERY)]
        names: dict[int, str] = {}
        for part, answer in [(part, self._ask_for(part)) for part in parts]:
            names |= self._of_many(part, answer)
        return names

    def _of_many(self, scans: Sequence[int], answer: Future[list[Any]]) -> dict[int, str]:
        """Give each scan its operator, by the ids of the rows; look up one by one what that leaves open."""
        try:
            rows = self._result(answer)
        except CalpendoFault as fault:
            refused = isinstance(fault, _REFUSALS) or (
                isinstance(fault, ServerFault) and fault.status in _REFUSING_STATUSES
            )
            if not refused or self._requests.deadline.over:
                return self._none_of(scans, fault)
            self._warn(
                f"operators are looked up scan by scan, because the one query for all was not answered: {fault}"
            )
            return self._one_by_one(scans)
        names = names_by_id(rows)
        told = {_id_of(row) for row in rows}
        untold = [number for number in scans if number not in told]
        if None not in told or not untold:
            return names
        self._client.learned.nameless_operators = told == {None}
        self._warn(
            "operators are looked up scan by scan, because the server's rows of operators show no booking's id"
        )
        return names | self._one_by_one(untold)

    def _ask_for(self, ids: Sequence[int]) -> Future[list[Any]]:
        timeout = self._config.detail_timeout if len(ids) == 1 else None
        return self._requests.submit(self._client.query, MRI_SCAN, ids_query(ids), PATHS, timeout=timeout)

    def _result(self, answer: Future[list[Any]]) -> list[Any]:
        return self._requests.result(answer, cut_stragglers=True)

    def _one_by_one(self, scans: Sequence[int]) -> dict[int, str]:
        names: dict[int, str] = {}
        lost: list[int] = []
        first, *others = scans
        # The first look-up goes alone: a user who may see no operator at all costs one more request, not fifty.
        try:
            self._take(first, self._result(self._ask_for([first])), names, lost)
        except AuthenticationFault as fault:
            return self._none_of(scans, fault)
        except CalpendoFault:
            others = list(scans)
        for number, answer in [(number, self._ask_for([number])) for number in others]:
            try:
                self._take(number, self._result(answer), names, lost)
            except CalpendoFault:
                lost.append(number)
        if lost:
            self.unknown.update(lost)
            self._warn(f"the operators of {len(lost)} scans could not be fetched: bookings {_some(lost)}")
        return names

    @staticmethod
    def _take(number: int, rows: list[Any], names: dict[int, str], lost: list[int]) -> None:
        """Take the answer to a look-up of one scan: a row without an id is that scan's, where it is the only one."""
        own = [row for row in rows if _id_of(row) == number]
        nameless = [row for row in rows if _id_of(row) is None]
        if not own and len(nameless) > 1:
            lost.append(number)
        name = next((found for row in own or nameless[:1] if (found := _name_of(row)) is not None), None)
        if name is not None and number not in lost:
            names[number] = name

    def _none_of(self, scans: Sequence[int], fault: CalpendoFault) -> dict[int, str]:
        self.unknown.update(scans)
        self._warn(f"the operators of {len(scans)} scans could not be fetched: {fault}")
        return {}


def _some(ids: Sequence[int]) -> str:
    shown = ", ".join(str(number) for number in ids[:10])
    return shown if len(ids) <= 10 else f"{shown}, ..."
