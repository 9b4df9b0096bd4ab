"""The checks that ask the server: connection, login, API, bookings in the window, resource names (T025)."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any

import pytz

from pipeline.calpendo.client import CalpendoClient
from pipeline.calpendo.fetch import BASIC_PATHS, bulk_paths, plain_paths
from pipeline.calpendo.query import query_variants
from pipeline.calpendo.responses import AnswerFault, AuthenticationFault, RefusedFault, UnreachableFault
from pipeline.calpendo.window import Window, window_for
from pipeline.config import PipelineConfig
from pipeline.config.base_url import API_PATHS, api_path_in
from pipeline.config.credentials import Credentials
from pipeline.errors import PluginConfigError, PluginError, PluginFetchError
from pipeline.transform.json_values import value_at
from pipeline.verify.mapping_checks import AT_LEAST, DAYS, Rows, asked_span, tried
from pipeline.verify.setup_checks import Check, failed, ok, warning
from pipeline.wording import near_miss

IMPATIENT = {"max_retries": 1, "retry_after_cap": 5.0, "batch_deadline": 60.0}
"""A person waits for the answer: one retry, and a minute at most."""


def server(
    config: PipelineConfig,
    credentials: Credentials,
    now: datetime,
    sync_interval: float,
    *,
    hosted: PipelineConfig | None = None,
    at_least: float = AT_LEAST,
) -> Iterator[Check]:
    """Ask for the window's bookings and for the resources, then try the mapping on one more list.

    The lines stop where nothing more can be learnt. ``hosted`` is the configuration as Pylantir reads it, where it is
    Pylantir's.
    """
    hasty = config.model_copy(update=IMPATIENT)
    try:
        window = window_for(hasty, now, sync_interval)
    except PluginConfigError as error:
        yield failed("window", str(error), "correct sync_interval or lookback_multiplier")
        return
    with CalpendoClient(hasty, credentials) as client:
        try:
            rows = list_rows(client, query_variants(hasty, window))
        except PluginFetchError as error:
            yield _unanswered(error, hasty, credentials, window)
            return
        place = f"{config.base_url} answers at {config.api_path or '/'}"
        yield ok("connection", f"{place}; the login is accepted")
        span = f"{window.start:%Y-%m-%d %H:%M} to {window.end:%Y-%m-%d %H:%M} and what may still run at its start"
        yield ok("bookings", f"the server lists {len(rows)} for the window {span}")
        yield from _resources(client, config)
        found = yield from _rows_to_try(client, hasty, asked_span(window, now), rows)
    today = now.astimezone(pytz.timezone(config.timezone)).date()
    trial = partial(tried, at_least=at_least, under_pylantir=hosted is not None)
    try:
        yield from trial(found, hosted or config, window, today)
    except PluginError as error:
        advice = "try again; run --dry-run shows the whole cycle"
        yield warning("mapping", f"could not be tried: {error}", advice)


def _rows_to_try(
    client: CalpendoClient, config: PipelineConfig, span: Window, listed: list[Any]
) -> Generator[Check, None, Rows]:
    """Return the bookings of a longer span with the mapped fields, or what the window's list told, with a line that says so."""
    every = plain_paths(bulk_paths(config))
    # A server may refuse a whole list for one path that it does not know.
    for paths in dict.fromkeys((every, plain_paths(BASIC_PATHS))):
        try:
            rows = list_rows(client, query_variants(config, span), paths)
        except PluginFetchError as error:
            refusal = error
            continue
        if paths != every:
            yield warning(
                "mapping",
                "the server refuses a list with all mapped fields: what is not on it cannot be judged",
                "check the spelling of the paths in field_mapping",
            )
        return Rows(rows, chosen=paths == every)
    yield warning(
        "mapping",
        f"the last {DAYS} days could not be listed, the window's bookings alone were looked at: {refusal}",
        "try again, or shorten the list with status_filter or resources",
    )
    return Rows(listed, chosen=False)


def list_rows(client: CalpendoClient, queries: Iterable[str], paths: Sequence[str] = ()) -> list[Any]:
    """Return the rows of the first of several forms of a list query that the server takes; raises PluginFetchError."""
    refused: RefusedFault | None = None
    for query in queries:
        try:
            return client.query("Calpendo.Booking", query, paths)
        except RefusedFault as fault:
            refused = fault
    assert refused is not None  # noqa: S101  there is always at least one query
    raise refused


def _unanswered(
    error: PluginFetchError, config: PipelineConfig, credentials: Credentials, window: Window
) -> Check:
    """Return which of the three is at fault: the login, the path of the API, or the connection."""
    if isinstance(error, AuthenticationFault):
        return failed(
            "login",
            str(error),
            "check CALPENDO_USERNAME and CALPENDO_PASSWORD: a local Calpendo user with web API rights",
        )
    if isinstance(error, (RefusedFault, AnswerFault)):
        for base_url, path in _elsewhere(config):
            other = config.model_copy(update={"base_url": base_url, "api_path": path})
            write = f'"api_path": "{path}"'
            if base_url != config.base_url:
                write = f'"base_url": "{base_url}" and {write}'
            with suppress(PluginFetchError), CalpendoClient(other, credentials) as client:
                list_rows(client, query_variants(other, window))
                return failed("connection", str(error), f"the API answers at another path; write {write}")
        return failed(
            "connection", str(error), "check base_url and api_path: /webdav, or /api on newer servers"
        )
    if isinstance(error, UnreachableFault) and error.advice:
        return failed("connection", f"{error.found}; GET {error.url}", error.advice)
    return failed("connection", str(error), "check base_url, the network and the proxy")


def _elsewhere(config: PipelineConfig) -> list[tuple[str, str]]:
    """Return the usual places of the API besides the configured one; a path at the address's end is not added twice."""
    ending = api_path_in(config.base_url, "")
    bases = [config.base_url.removesuffix(ending), config.base_url] if ending else [config.base_url]
    paths = [path for path in dict.fromkeys((ending, *API_PATHS)) if path]
    places = [(base_url, path) for base_url in bases for path in paths]
    return [place for place in places if place != (config.base_url, config.api_path)]


def _resources(client: CalpendoClient, config: PipelineConfig) -> Iterator[Check]:
    """Compare the configured names with the server's list (GET .../b/Calpendo.Resource)."""
    name = "resources"
    try:
        known = {name for row in client.resources() for name in resource_names(row)}
    except PluginFetchError as error:
        told = f"the list of resources could not be fetched: {error}"
        yield warning(name, told, "compare the names with those in Calpendo yourself")
        return
    if not known:
        advice = "ask Calpendo's administrator for the right"
        yield warning(name, "the server lists no resource to this user", advice)
        return
    unknown = [wanted for wanted in config.resources if wanted not in known]
    for wanted in unknown:
        meant = near_miss(wanted, sorted(known), cutoff=0.6)
        advice = f"write {meant!r}" if meant else "spell it as Calpendo does, or let this user see it"
        yield failed(name, f"the server knows no {wanted!r}", advice)
    if not unknown:
        yield ok(name, "the server knows each configured resource")


def resource_names(row: Any) -> list[str]:
    """Return the names under which a row of the server's list of resources shows one, the plain one first."""
    found = [value_at(row, key) for key in ("name", "formattedName")] if isinstance(row, dict) else []
    return [name for name in found if isinstance(name, str) and name]
