"""The server's address: which ones are trusted with a password."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from pipeline.wording import Wording

API_PATHS = ("/webdav", "/api")
"""Where servers answer: older ones, newer ones."""

_WRITE = "the server's address, such as 'https://example.calpendo.com'"
_FORBIDDEN = re.compile(r"[\s\\\x00-\x1f\x7f]")


def read_base_url(
    value: object, environ: Mapping[str, str], wording: Wording, *, allow_insecure_http: bool, optional: bool
) -> tuple[str, list[str]]:
    """Return the address without trailing slash, and the faults found (T002).

    A missing or empty ``value`` falls back to CALPENDO_API_URL. Refused: other schemes than http and https, plain
    http to another host than this machine unless ``allow_insecure_http``, a login, query or fragment in the
    address (a login would end up in logs; it is not repeated in the fault either).
    """
    key = "base_url"
    if value is None or (isinstance(value, str) and not value.strip()):
        missing = value
        value, key = environ.get("CALPENDO_API_URL", ""), "base_url (from CALPENDO_API_URL)"
        if not value.strip():
            if optional:
                return "", []
            what = "missing" if missing is None else f"got {wording.given(missing)}"
            return "", [f"base_url: {what}, and CALPENDO_API_URL is not set; write {_WRITE}"]
    if not isinstance(value, str):
        return "", [wording.fault(key, value, _WRITE)]
    url = value.strip()
    fault = _fault(url, allow_insecure_http=allow_insecure_http)
    if fault is None:
        scheme, rest = url.split("://", 1)
        return f"{scheme.lower()}://{rest}".rstrip("/"), []
    problem, write = fault
    return "", [f"{key}: got an address {problem}; write {write}"]


def _fault(url: str, *, allow_insecure_http: bool) -> tuple[str, str] | None:
    """Return the problem and what to write, or None for a good address; neither holds a part of the address."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "that cannot be read (its port or host is malformed)", _WRITE
    if "@" in parts.netloc or re.match(r"\w+:/*[^/]*@", url):
        return (
            "with a login in it",
            f"it without the login, {_WRITE}, and put the login into CALPENDO_USERNAME and CALPENDO_PASSWORD",
        )
    if parts.scheme not in ("http", "https"):
        return "that does not begin with https:// or http://", _WRITE
    if not host or not url.lower().startswith(f"{parts.scheme}://"):
        return "without a host", _WRITE
    if port == 0:
        return "with port 0", _WRITE
    if _FORBIDDEN.search(url) or not url.isprintable():
        return "with a blank, a backslash or a control character in it", _WRITE
    if parts.query or parts.fragment or "?" in url or "#" in url:
        return "with a query or a fragment (? or #) in it", _WRITE
    if parts.scheme == "http" and not allow_insecure_http and not is_loopback(host):
        return (
            "that would send the password unencrypted over the network (plain http)",
            "https:// instead of http://, or, where the network itself is protected, add 'allow_insecure_http': true",
        )
    return None


def api_path_in(base_url: str, api_path: str) -> str:
    """Return the path of the API that an address ends with, as it is spelt there, or ""."""
    for path in dict.fromkeys((api_path, *API_PATHS)):
        if path and base_url.lower().endswith(path.lower()):
            return base_url[-len(path) :]
    return ""


def is_loopback(host: str) -> bool:
    """Tell whether ``host`` is this machine: localhost, 127.0.0.0/8 or ::1."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
