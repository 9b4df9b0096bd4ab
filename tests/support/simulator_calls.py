"""Raw HTTP calls to the simulator for its tests: paths go out exactly as written."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, urlsplit

from pipeline.simulator import CalpendoSimulator

LOGIN = {"Authorization": "Basic " + base64.b64encode(b"demo:demo").decode()}


def connect(simulator: CalpendoSimulator, timeout: float = 10) -> http.client.HTTPConnection:
    """Give a connection to the simulator; the caller closes it."""
    return http.client.HTTPConnection(urlsplit(simulator.url).netloc, timeout=timeout)


def call(
    simulator: CalpendoSimulator,
    path: str,
    *,
    connection: http.client.HTTPConnection | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Ask for a path below the server's root; gives status, headers and the whole body."""
    used = connection or connect(simulator)
    try:
        used.request("GET", path, headers=LOGIN if headers is None else headers)
        response = used.getresponse()
        return response.status, response.headers, response.read()
    finally:
        if connection is None:
            used.close()


def ask(simulator: CalpendoSimulator, path: str) -> Any:
    """Ask for a path below ``/webdav`` and read the JSON of a 200."""
    status, _, body = call(simulator, f"/webdav/{path}")
    assert status == 200, body
    return json.loads(body)


def found(
    simulator: CalpendoSimulator, segments: Iterable[str], biskit_type: str = "Calpendo.Booking"
) -> list[Any]:
    """Give the ids a query finds; every segment is quoted whole."""
    query = "/".join(quote(segment, safe="") for segment in segments)
    return [row.get("id") for row in ask(simulator, f"q/{biskit_type}/{query}")["biskits"]]


def booking(number: int, **changes: Any) -> dict[str, Any]:
    """Make a plain booking of generation A: Monday 2026-11-23, ten to eleven at the site."""
    plain: dict[str, Any] = {
        "id": number,
        "formattedName": "[2026-11-23 10:00:00.0, 2026-11-23 11:00:00.0]",
        "title": f"SUB{number:03d}_Ann_Example",
        "status": "Approved",
        "biskitType": "MRIScan",
        "operator": "Olsen, Oda",
        "properties": {
            "resource": {"id": 1, "formattedName": "3T Diagnostic"},
            "project": {"id": 12, "formattedName": "Sleep (PRJ-014)"},
            "durationInMinutes": 60,
            "cancelled": False,
            "created": "2026-11-01 09:00:00.0",
            "modified": "2026-11-02 09:00:00.0",
        },
    }
    properties = plain["properties"] | changes.pop("properties", {})
    return plain | changes | {"properties": properties}
