"""One list that brings every needed field of every booking: two requests a window, operators among them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pipeline.calpendo.answers import UNREADABLE
from pipeline.calpendo.faults import AnswerFault, CalpendoFault, RefusedFault, ServerFault
from pipeline.calpendo.rows import HIDDEN, find, is_ambiguous

if TYPE_CHECKING:
    from pipeline.calpendo.client import CalpendoClient
    from pipeline.calpendo.fetched import FetchedBookings
    from pipeline.calpendo.gathering import Gathering
    from pipeline.calpendo.window import Window
    from pipeline.config import PipelineConfig

_TOP = ("id", "biskitType", "title", "status", "formattedName")
_TIMES = ("dateRange.start", "dateRange.finish")
_HASHED = ("title", "status", "resource.formattedName", "project.formattedName")
_FIELDS = (*_TOP, *_TIMES, "resource.formattedName", "project.formattedName", "cancelled")
# Fields of a subtype: a query over all bookings that names them is refused, so they come with the operator query.
_SUBTYPE_ROOTS = frozenset({"Operator", "operator"})
_OFFSET = re.compile(r"(?:Z|[+-]\d{2}:?\d{2})\Z", re.ASCII)
_REFUSING_STATUSES = frozenset({500, 501})


def bulk_paths(config: PipelineConfig) -> tuple[str, ...]:
    """Return the fields that mapping, filters and hash need, without ``properties.`` at their front."""
    sources = (rule.source.removeprefix("properties.") for rule in config.rules)
    wanted = (source for source in sources if source.partition(".")[0] not in _SUBTYPE_ROOTS)
    return tuple(dict.fromkeys((*_FIELDS, *wanted)))


def refuses_paths(fault: CalpendoFault) -> bool:
    """Return whether a fault says that the server will not answer a list with chosen fields."""
    if isinstance(fault, ServerFault):
        return fault.status in _REFUSING_STATUSES
    return isinstance(fault, (RefusedFault, AnswerFault))


def fetch_bulk(
    gathering: Gathering, client: CalpendoClient, config: PipelineConfig, window: Window
) -> FetchedBookings | None:
    """Return the window's bookings from one list, None where this server's list cannot be used that way.

    A row that lacks what enters the hash is looked up, because a list does not tell null from missing. The first
    list of a client is held against the details of one booking before it is believed.
    """
    paths = bulk_paths(config)
    try:
        kept = gathering.list_bookings(window, paths)
    except CalpendoFault as fault:
        if not refuses_paths(fault):
            raise
        client.learned.paths_refused = isinstance(fault, RefusedFault)
        gathering.warn_once(f"fetch_mode bulk is not possible here, details are fetched instead: {fault}")
        return None
    rows = {number: gathering.rows[number] for number in kept}
    reason = _lacking(list(rows.values()), paths) or _probe(gathering, client, config, rows, paths)
    if reason:
        client.learned.paths_refused = True
        gathering.warn_once(f"fetch_mode bulk is not possible here, details are fetched instead: {reason}")
        return None
    gathering.begin_operators(window)
    incomplete = [number for number in kept if _incomplete(rows[number], config)]
    gathering.fetch_details(number for number in incomplete if not gathering.has(number))
    looked_up = set(incomplete)
    for number in kept:
        if number not in looked_up:
            gathering.payloads[number] = as_payload(rows[number], paths, named=client.learned.named_details)
    gathering.raise_if_all_failed()
    return gathering.result("bulk")


def as_payload(row: dict[str, Any], paths: tuple[str, ...], *, named: bool) -> dict[str, Any]:
    """Return a row in the form a detail has: the same keys in the same places, so that all else treats them alike.

    Where a row has times twice, ``formattedName`` stays the one that counts, as it does in a detail; only where the
    server's details have none (not ``named``) and the ``dateRange`` knows the offset, that is the truer one.
    """
    payload: dict[str, Any] = {"properties": {}}
    for path in paths:
        value = find(row, path)[1]
        if value is not None:
            _plant(payload if path in _TOP else payload["properties"], path, value)
    if not named and all(_has_offset(find(row, path)[1]) for path in _TIMES):
        payload.pop("formattedName", None)
    return payload


def _plant(root: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        root = root.setdefault(parent, {})
        if not isinstance(root, dict):
            return
    if isinstance(value, dict) and isinstance(root.get(last), dict):
        root[last] = {**value, **root[last]}
    else:
        root[last] = value


def _lacking(rows: list[dict[str, Any]], paths: tuple[str, ...]) -> str | None:
    """Return why the rows cannot be used: a field that was asked for and that no row has."""
    if not rows:
        return None
    absent = [path for path in paths if not any(find(row, path)[0] for row in rows)]
    timed = any(_has_times(row) for row in rows)
    lacking = [path for path in absent if path not in ("formattedName", *_TIMES)]
    if not timed:
        lacking.append("formattedName or dateRange")
    return f"no row of the list has {', '.join(lacking)}" if lacking else None


def _has_times(row: dict[str, Any]) -> bool:
    name = find(row, "formattedName")[1]
    return name is not None or all(find(row, path)[1] is not None for path in _TIMES)


def _has_offset(value: Any) -> bool:
    return isinstance(value, str) and _OFFSET.search(value) is not None


def _incomplete(row: dict[str, Any], config: PipelineConfig) -> bool:
    """Return whether a row leaves open what its details tell: a field of the hash, or which of two like times."""
    if not _has_times(row) or any(find(row, path)[1] is None for path in _HASHED):
        return True
    times = [find(row, path)[1] for path in _TIMES]
    return any(_has_offset(time) for time in times) and any(
        is_ambiguous(time, config.timezone) for time in times
    )


def _probe(
    gathering: Gathering,
    client: CalpendoClient,
    config: PipelineConfig,
    rows: dict[int, dict[str, Any]],
    paths: tuple[str, ...],
) -> str | None:
    """Hold the first list against one booking's details; return what the list keeps back, if anything.

    An answer with a null for each field it does not know would otherwise look like bookings without those fields.
    """
    if client.learned.bulk_checked:
        return None
    number = next((number for number, row in rows.items() if not _incomplete(row, config)), None)
    if number is None:
        return None
    gathering.fetch_details([number])
    detail = gathering.payloads.pop(number, None)
    if detail is None or UNREADABLE in detail:
        gathering.forget(number)
        return None
    row = rows[number]
    kept_back = [
        path
        for path in paths
        if find(row, path)[1] in (None, HIDDEN) and find(detail, path)[1] not in (None, HIDDEN)
    ]
    client.learned.named_details = find(detail, "formattedName")[1] is not None
    client.learned.bulk_checked = not kept_back
    if not kept_back:
        return None
    gathering.payloads[number] = detail
    return f"the list leaves {', '.join(kept_back)} empty where a booking's details have it"
