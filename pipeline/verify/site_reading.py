"""Reads a site: resources, statuses and ninety days of titles, in at most ten requests and without any detail."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytz

from pipeline.archives import BookingFile, bookings_only, recognise
from pipeline.calpendo.client import BOOKING, CalpendoClient
from pipeline.calpendo.fetch import CHANGED_PATHS, MODIFIED, as_payload
from pipeline.calpendo.query import booking_query
from pipeline.calpendo.responses import (
    AnswerFault,
    AuthenticationFault,
    CalpendoFault,
    RefusedFault,
    ServerFault,
)
from pipeline.calpendo.window import Window
from pipeline.config import PipelineConfig
from pipeline.config.base_url import API_PATHS, api_path_in
from pipeline.config.credentials import Credentials
from pipeline.errors import PluginFetchError
from pipeline.transform.json_values import HIDDEN, find, parsed, value_at
from pipeline.transform.text import normalised
from pipeline.verify.proposals import SiteReading, text_of
from pipeline.verify.server_checks import IMPATIENT, resource_names
from pipeline.wording import config_error

PAST_DAYS, COMING_DAYS, DAYS_PER_QUERY = 75, 15, 30
"""Ninety days: most of them over, so that their statuses show, and those of which the list will be made."""

_DATE_FORMATS = ("YYYYMMDD-HHMM", "YYYYMMDDTHHMM")
_PATHS = tuple(dict.fromkeys(CHANGED_PATHS))


def checked_address(address: str, *, insecure: bool = False) -> tuple[str, str]:
    """Return the server's address without the API's path, and that path where it was written ("" otherwise).

    Raises:
        PluginConfigError: It is not an address, or the password would cross the network unencrypted.
    """
    text = address.strip()
    if "://" not in text and text:
        text = f"https://{text}"
    if text.count("://") > 1:
        raise config_error(
            "--url",
            ["got an address with two beginnings; write it once, such as https://example.calpendo.com"],
        )
    checked = PipelineConfig.from_dict(
        {"base_url": text, "allow_insecure_http": insecure}, environ={}, offline=True
    )
    path = api_path_in(checked.base_url, "")
    return checked.base_url.removesuffix(path), path


def read_site(
    base_url: str,
    credentials: Credentials,
    now: datetime,
    *,
    api_path: str = "",
    timezone: str = "UTC",
    insecure: bool = False,
) -> SiteReading:
    """Ask the server where its API is, for its resources and for the bookings of ninety days.

    Args:
        base_url: as ``checked_address`` returns it.
        now: aware.
        api_path: asked first where it is known; else both usual ones are tried.
        timezone: the site's, as far as it is known; a few hours at either end do not matter.
        insecure: plain http to another machine was allowed.

    Raises:
        PluginFetchError: no bookings could be fetched: the way, the login or the path.
    """
    config = PipelineConfig.from_dict(
        {"base_url": base_url, "timezone": timezone, "allow_insecure_http": insecure},
        environ={},
        offline=True,
    ).model_copy(update=IMPATIENT | {"batch_deadline": 120.0})
    tried = list(dict.fromkeys(path for path in (api_path, *API_PATHS) if path))
    first: PluginFetchError | None = None
    asked = 0
    for path in tried:
        here = config.model_copy(update={"api_path": path})
        with CalpendoClient(here, credentials) as client:
            try:
                return _Survey(client, here, now, asked).reading(base_url, path)
            except (AuthenticationFault, RefusedFault, AnswerFault) as fault:
                if first is None or isinstance(first, RefusedFault):
                    first = fault
            asked += client.stats.requests
    raise _worded(first, tried)


def _worded(fault: PluginFetchError | None, tried: Sequence[str]) -> PluginFetchError:
    """Return the fault as one sentence that says what to do."""
    if isinstance(fault, AuthenticationFault):
        return AuthenticationFault(
            "the login was refused; check user name and password: a local Calpendo user with the right to use the web API"
        )
    return PluginFetchError(
        f"the server answers, but not as Calpendo's API does at {' or '.join(tried)}; check the address, or name the path "
        "with --api-path"
    )


class _Survey:
    """One server's answers, asked list by list."""

    def __init__(self, client: CalpendoClient, config: PipelineConfig, now: datetime, asked: int) -> None:
        self._client = client
        self._config = config
        self._now = now
        self._asked = asked
        self._paths: Sequence[str] = _PATHS
        self._notes: list[str] = []

    def reading(self, base_url: str, api_path: str) -> SiteReading:
        """Ask for everything; the first list decides whether this is the API."""
        rows: dict[object, dict[str, Any]] = {}
        for window in self._windows():
            for place, row in enumerate(self._list(window)):
                if isinstance(row, dict):
                    rows.setdefault(find(row, "id")[1] or (window.start, place), row)
        payloads = tuple(as_payload(row, ("id", *_under(self._paths)), named=True) for row in rows.values())
        resources = self._resources()
        modified = bool(rows) and all(value_at(row, MODIFIED) is not None for row in rows.values())
        self._notes += hidden(payloads)
        chosen = self._config.query_date_format
        return SiteReading(
            payloads,
            base_url,
            api_path,
            resources,
            modified,
            None if chosen == _DATE_FORMATS[0] else chosen,
            tuple(self._notes),
            self._asked + self._client.stats.requests,
        )

    def _windows(self) -> list[Window]:
        here, step = (
            self._now.astimezone(pytz.timezone(self._config.timezone)),
            timedelta(days=DAYS_PER_QUERY),
        )
        first, lists = here - timedelta(days=PAST_DAYS), (PAST_DAYS + COMING_DAYS) // DAYS_PER_QUERY
        starts = [first + step * at for at in range(lists)]
        # The newest first: where the server fails later, what matters most is there.
        return [Window(start, start + step, start) for start in reversed(starts)]

    def _list(self, window: Window) -> list[Any]:
        """Ask for one list with the fields wanted; where the server refuses that, in its other date form, then bare."""
        try:
            return self._query(window)
        except (RefusedFault, ServerFault, AnswerFault) as fault:
            if isinstance(fault, RefusedFault) and fault.status != 404:
                self._config = self._config.model_copy(update={"query_date_format": _DATE_FORMATS[1]})
                try:
                    return self._query(window)
                except CalpendoFault:
                    self._config = self._config.model_copy(update={"query_date_format": _DATE_FORMATS[0]})
            if not self._paths or getattr(fault, "status", None) == 404:
                raise
            self._paths = ()
            rows = self._query(window)
        self._notes.append(
            "the server does not list the fields asked for, so resources and studies of the bookings are not known"
        )
        return rows

    def _query(self, window: Window) -> list[Any]:
        return self._client.query(BOOKING, booking_query(self._config, window), self._paths)

    def _resources(self) -> tuple[str, ...] | None:
        try:
            rows = self._client.resources()
        except PluginFetchError:
            self._notes.append(
                "the server does not show its list of resources to this user; those of the bookings are taken"
            )
            return None
        names = dict.fromkeys(normalised(found[0]) for row in rows if (found := resource_names(row)))
        names.pop("", None)
        if not names:
            self._notes.append("the server lists no resource to this user; those of the bookings are taken")
        return tuple(names)


def _under(paths: Sequence[str]) -> tuple[str, ...]:
    """Return the paths as details have them, of those that were asked for, else of a plain list row."""
    top = {"id", "biskitType", "formattedName", "title", "status"}
    plain = paths or ("biskitType", "formattedName", "title", "status", "created")
    return tuple(path if path in top else f"properties.{path}" for path in plain if path != "id")


def hidden(payloads: Sequence[dict[str, Any]]) -> list[str]:
    """Return a sentence for each field that no booking shows."""
    if not payloads:
        return []
    told = {
        "title": "the titles are hidden from this user: no subject can be identified; ask Calpendo's administrator for the right",
        "status": "the statuses are hidden from this user: every booking will be SCHEDULED",
        "resource": "the resources of bookings are hidden from this user: bookings cannot be told apart by scanner",
    }
    return [
        sentence
        for column, sentence in told.items()
        if all(text_of(payload, column) in ("", HIDDEN) for payload in payloads)
    ]


def read_file(path: Path) -> SiteReading:
    """Read exported bookings; no server is asked.

    Raises:
        PluginConfigError: it cannot be read, or holds something else.
    """
    rows = [_as_booking(payload) for payload in BookingFile(bookings_only(recognise(path)))]
    found = [booking for booking in rows if booking is not None]
    notes = hidden(found)
    if len(found) < len(rows):
        notes.append(f"{len(rows) - len(found)} rows of the file cannot be read as bookings")
    return SiteReading(tuple(found), notes=tuple(notes))


def _as_booking(payload: Any) -> dict[str, Any] | None:
    try:
        booking = payload if isinstance(payload, dict) else parsed(payload)
    except ValueError:
        return None
    return booking if isinstance(booking, dict) else None


_NO_PLACE = ("UTC", "UCT", "GMT", "Zulu", "Universal")
"""Zones, also below ``Etc/``, that say of a machine only that nobody told it where it stands."""


def machine_zone() -> str | None:
    """Return the IANA name of this machine's zone, None where it is UTC or cannot be found out."""
    name = os.environ.get("TZ", "").removeprefix(":")
    if not name:
        try:
            place = Path("/etc/localtime").resolve(strict=True)
        except OSError:
            return None
        name = str(place).partition("zoneinfo/")[2]
    if name not in pytz.all_timezones_set or name.rpartition("/")[2] in _NO_PLACE:
        return None
    return name
