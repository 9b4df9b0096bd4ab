"""StudyInstanceUIDs: one a booking, the same in every cycle and after the loss of any database."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, uuid5

# PS3.5 9.1: numbers without leading zeros, joined by dots, at most 64 characters. One number alone is no UID that any
# organisation could have been given, but what `"study_instance_uid": "id"` makes of a booking.
_UID = re.compile(r"(?=.{1,64}\Z)[0-2](?:\.(?:0|[1-9][0-9]*))+\Z", re.ASCII)


def is_study_uid(value: Any) -> bool:
    """Tell whether a value can stand as a StudyInstanceUID."""
    return isinstance(value, str) and _UID.match(value) is not None


def study_uid(base_url: str, booking_id: int | str) -> str:
    """Derive the UID of a booking from its server and number: ``2.25.`` and a UUID as an integer (PS3.5 B.2).

    The scheme, the port and the case of the host's name do not count, so a server that moves to https keeps them.
    """
    name = f"calpendo://{server_place(base_url)}/Calpendo.Booking/{booking_id}"
    return f"2.25.{uuid5(NAMESPACE_URL, name).int}"


def server_place(base_url: str) -> str:
    """Return the part of a server's address that it keeps: its name and path."""
    parts = urlsplit(base_url)
    return f"{parts.hostname or ''}{parts.path.rstrip('/')}"
