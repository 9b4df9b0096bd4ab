"""One list that brings every needed field of every booking: two requests a window, operators among them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pipeline.calpendo.answers import UNREADABLE
from pipeline.calpendo.faults import AnswerFault, CalpendoFault, RefusedFault, ServerFault
from pipeline.calpendo.rows import is_ambiguous
from pipeline.fields import BOOKING
from pipeline.transform.paths import UNDER, JsonObject, find, value_at

if TYPE_CHECKING:
    from pipeline.calpendo.client import CalpendoClient
    from pipeline.calpendo.fetched import FetchedBookings
    from pipeline.calpendo.gathering import Gathering
    from pipeline.calpendo.window import Window
    from pipeline.config import PipelineConfig

_TIMES = tuple(field.paths[0] for field in BOOKING if field.is_range)
_NAME = "formattedName"
_HASHED = tuple(field.paths[0] for field in BOOKING if field.hashed and field.paths[0] != _NAME)
_FIELDS = ("id", "biskitType", _NAME, *_HASHED, *_TIMES, "properties.cancelled")
# Fields of a subtype: a query over all bookings that names them is refused, so they come with the operator query.
_SUBTYPE_ROOTS = frozenset({"Operator", "operator"})
_OFFSET = re.compile(r"(?:Z|[+-]\d{2}:?\d{2})\Z", re.ASCII)
_REFUSING_STATUSES = frozenset({500, 501})


def bulk_paths(config: PipelineConfig) -> tuple[str, ...]:
    """Return the paths that mapping, filters and hash look up."""
    sources = (rule.source for rule in config.rules)
    wanted = (
        source for source in sources if source.removeprefix(UNDER).partition(".")[0] not in _SUBTYPE_ROOTS
    )
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
        kept = gathering.list_bookings(window, _plain(paths))
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
    incomplete = _incomplete(rows, config)
    gathering.fetch_details(number for number in kept if number in incomplete and not gathering.has(number))
    for number in kept:
        if number not in incomplete:
            gathering.payloads[number] = as_payload(rows[number], paths, named=client.learned.named_details)
    gathering.raise_if_all_failed()
    return gathering.result("bulk")


def as_payload(row: dict[str, Any], paths: tuple[str, ...], *, named: bool) -> dict[str, Any]:
    """Return a row in the form a detail has: the same keys in the same places, so that all else treats them alike.

    Where a row has times twice, ``formattedName`` stays the one that counts, as it does in a detail; only where the
    server's details have none (not ``named``) and the ``dateRange`` knows the offset, that is the truer one.
    """
    payload: JsonObject = {"properties": {}}
    # A field before those below it.
    for path in sorted(paths, key=lambda path: path.count(".")):
        value = find(row, path)[1]
        if value is not None:
            _plant(payload, path, value)
    if not named and all(_has_offset(find(row, path)[1]) for path in _TIMES):
        payload.pop("formattedName", None)
    return payload


def _plain(paths: tuple[str, ...]) -> tuple[str, ...]:
    """Return the paths as a query names them: without ``properties.`` at their front."""
    return tuple(dict.fromkeys(path.removeprefix(UNDER) for path in paths))


def _plant(payload: JsonObject, path: str, value: Any) -> None:
    """Put a value where its path is looked up first; beside it, as one flat key, where that is taken."""
    *parents, last = path.split(".")
    root = payload
    for parent in parents:
        below = root.get(parent)
        if below is not None and not isinstance(below, dict):
            payload[path] = value
            return
        root[parent] = dict(below or {})
        root = root[parent]
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
    return f"no row of the list has {', '.join(_plain(tuple(lacking)))}" if lacking else None


def _has_times(row: dict[str, Any]) -> bool:
    name = find(row, "formattedName")[1]
    return name is not None or all(find(row, path)[1] is not None for path in _TIMES)


def _has_offset(value: Any) -> bool:
    return isinstance(value, str) and _OFFSET.search(value) is not None


def _incomplete(rows: dict[int, JsonObject], config: PipelineConfig) -> set[int]:
    """Return the rows that leave open what their details tell: a field of the hash, or which of two like times."""
    times = [[find(row, path)[1] for path in _TIMES] for row in rows.values()]
    doubtful = is_ambiguous([time for pair in times for time in pair], config.timezone)
    return {
        number
        for place, (number, row) in enumerate(rows.items())
        if not _has_times(row)
        or any(find(row, path)[1] is None for path in _HASHED)
        or (any(map(_has_offset, times[place])) and any(doubtful[2 * place : 2 * place + 2]))
    }


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
    incomplete = _incomplete(rows, config)
    number = next((number for number in rows if number not in incomplete), None)
    if number is None:
        return None
    gathering.fetch_details([number])
    detail = gathering.payloads.pop(number, None)
    if detail is None or UNREADABLE in detail:
        gathering.forget(number)
        return None
    row = rows[number]
    kept_back = [path for path in paths if value_at(row, path) is None and value_at(detail, path) is not None]
    client.learned.named_details = find(detail, "formattedName")[1] is not None
    client.learned.bulk_checked = not kept_back
    if not kept_back:
        return None
    gathering.payloads[number] = detail
    return f"the list leaves {', '.join(_plain(tuple(kept_back)))} empty where a booking's details have it"
