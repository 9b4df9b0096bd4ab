"""Why no complete answer came, in words that say what to do: TLS, certificates, proxy, name, network, silence.

A foreign library's text may quote what a broken server sent: only its kind is looked at, and never passed on.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import requests
import urllib3

from pipeline.calpendo.responses import UnreachableFault

_MAX_CAUSES = 6
_NOT_YET_VALID, _EXPIRED = 9, 10
_SELF_SIGNED = 18
_OTHER_NAME = frozenset({62, 63, 64})
_UNKNOWN_AUTHORITY = frozenset({2, 18, 19, 20, 21})
"""OpenSSL's codes of a failed verification (``X509_V_ERR_*``)."""
_NO_TLS = re.compile("WRONG_VERSION_NUMBER|HTTP_REQUEST|UNKNOWN_PROTOCOL|RECORD_LAYER_FAILURE|PACKET_LENGTH")
_NO_AGREEMENT = re.compile(
    "PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL|HANDSHAKE_FAILURE|TOO_SMALL|LEGACY|NO_SHARED|NO_PROTOCOLS"
)
_CLIENT_CERTIFICATE = re.compile("CERTIFICATE_REQUIRED|ALERT_BAD_CERTIFICATE|ALERT_NO_CERTIFICATE")
_NO_WAY = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL}
)
_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+\Z")


class Bundle(NamedTuple):
    """Where the certificates of trusted authorities are read from: the variable that says so, and the path in it."""

    variable: str
    path: str

    @classmethod
    def of_environment(cls) -> Bundle | None:
        """Return what requests would take from the environment; None: the certificates that come with it."""
        for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            if path := os.environ.get(variable):
                return cls(variable, path)
        return None

    def trouble(self) -> str | None:
        """Say why nothing can be verified with it and what to do, or None."""
        place, write = (
            Path(self.path),
            f"write the path of a PEM file with the authority's certificates into {self.variable}",
        )
        try:
            if place.is_dir():
                if any(_HASHED.match(entry.name) for entry in place.iterdir()):
                    return None
                problem = "is a directory without certificates under their hashed names"
            else:
                with place.open("rb"):
                    ssl.create_default_context(cafile=self.path)
                return None
        except FileNotFoundError:
            problem = "does not exist"
        except ssl.SSLError:
            problem = "holds no certificate in PEM form"
        except (OSError, ValueError):
            problem = "cannot be read"
        return f"{self.path} (from {self.variable}) {problem}; {write}"


def broken(
    error: BaseException, *, bundle: Bundle | None, is_https: bool, silence: float
) -> UnreachableFault:
    """Return the fault for a connection that did not bring a complete answer.

    Args:
        error: what requests, urllib3 or the system raised.
        bundle: where trusted authorities are read from.
        is_https: whether TLS was spoken.
        silence: seconds without an answer after which the request was given up.
    """
    causes = tuple(_causes(error))
    text = _proxy(causes) or (_tls(causes, bundle) if is_https else None)
    may_pass = text is None or _may_pass(causes)
    found, _, advice = (text or _network(causes, silence, is_https=is_https)).partition("; ")
    return UnreachableFault(found, advice=advice, retryable=may_pass)


def _may_pass(causes: tuple[BaseException, ...]) -> bool:
    """Tell whether trying again may help: a proxy's or a connection's end passes, a certificate's fault does not."""
    return any(isinstance(cause, (requests.exceptions.ProxyError, ssl.SSLEOFError)) for cause in causes)


def _proxy(causes: tuple[BaseException, ...]) -> str | None:
    if not any(isinstance(cause, requests.exceptions.ProxyError) for cause in causes):
        return None
    return "the proxy does not let the connection through, or cannot be reached; check HTTPS_PROXY, or name the server in NO_PROXY"


def _tls(causes: tuple[BaseException, ...], bundle: Bundle | None) -> str | None:
    """Say what is wrong with TLS, or None."""
    failure = next((cause for cause in causes if isinstance(cause, ssl.SSLError)), None)
    # A bundle's fault comes as an OSError of no kind, before any connection.
    if failure is None and not (len(causes) == 1 and isinstance(causes[0], OSError)):
        return None
    if bundle is not None and (trouble := bundle.trouble()):
        return trouble
    if failure is None:
        return None
    if isinstance(failure, ssl.SSLCertVerificationError):
        return _certificate(failure.verify_code, bundle)
    reason = failure.reason or ""
    if _NO_TLS.search(reason):
        return (
            "what answers there speaks no TLS, probably plain http; check the port in base_url, or write http:// "
            "(with allow_insecure_http where the network itself is protected)"
        )
    if _NO_AGREEMENT.search(reason):
        return (
            "the server and this machine agree on no version or cipher of TLS; the server's administrators have to allow "
            "TLS 1.2 or newer"
        )
    if _CLIENT_CERTIFICATE.search(reason):
        return "the server asks for a certificate of this machine; its administrators have to allow a login without"
    if isinstance(failure, ssl.SSLEOFError):
        if not any(isinstance(cause, requests.exceptions.SSLError) for cause in causes):
            return None  # In the middle of a body.
        return (
            "the connection was broken off while TLS was agreed on; check the port in base_url, and whether the server or a "
            "firewall before it refuses this machine"
        )
    return "TLS failed; check the port in base_url, and ask the server's administrators"


def _certificate(code: int, bundle: Bundle | None) -> str:
    if code == _EXPIRED:
        return "the server's certificate has expired; its administrators have to renew it (check this machine's clock first)"
    if code == _NOT_YET_VALID:
        return "the server's certificate is not valid yet; check this machine's clock"
    if code in _OTHER_NAME:
        return "the server's certificate is made out to another name; write that name into base_url"
    if code not in _UNKNOWN_AUTHORITY:
        return f"the server's certificate is not accepted (OpenSSL's code {code}); ask the server's administrators"
    by = (
        f"by the authorities in {bundle.path} (from {bundle.variable})"
        if bundle
        else "by an authority known here"
    )
    if code == _SELF_SIGNED:
        return (
            f"the server's certificate is not trusted: it is signed by itself, not {by}; write the path of a PEM file with it "
            "into REQUESTS_CA_BUNDLE"
        )
    return (
        f"the server's certificate is not trusted: it is not signed {by}, or the server does not send the intermediate "
        "certificate between; write the path of a PEM file with the authority's certificates, intermediate ones too, into "
        "REQUESTS_CA_BUNDLE"
    )


def _network(causes: tuple[BaseException, ...], silence: float, *, is_https: bool) -> str:
    """Say where on the way to the server the answer was lost."""
    system = next((cause for cause in causes if isinstance(cause, OSError) and _is_system_s(cause)), None)
    if isinstance(system, socket.gaierror):
        return "the server's name is not known here; check its spelling in base_url, the network and the VPN"
    if isinstance(system, ConnectionRefusedError):
        return "nothing listens there (connection refused); check the port in base_url, and whether the server runs"
    if system is not None and system.errno in _NO_WAY:
        return "the network does not lead to the server; check the network, the VPN and base_url"
    if any(
        isinstance(cause, (requests.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError))
        for cause in causes
    ):
        return f"no connection within {silence:.3g} s; check base_url, the network, the firewall and the VPN"
    if any(isinstance(cause, (TimeoutError, urllib3.exceptions.TimeoutError)) for cause in causes):
        return (
            f"no complete answer: nothing came for {silence:.3g} s; wait, or raise list_timeout and detail_timeout where the "
            "server is slow"
        )
    if any(isinstance(cause, urllib3.exceptions.DecodeError) for cause in causes):
        return "no complete answer: its compression is broken; ask the server's administrators"
    if not isinstance(causes[0], requests.RequestException):
        return (
            "no complete answer: the connection was broken off in the middle; check whether the server, or a proxy before it, "
            "was restarted or is overloaded"
        )
    speech = "" if is_https else ", and that the server speaks http and not https"
    return f"no complete answer: the connection was broken off; check the port in base_url{speech}, and whether the server runs"


def _is_system_s(cause: OSError) -> bool:
    """Tell whether an error is the system's own: requests' are OSErrors, too."""
    return not isinstance(cause, (requests.RequestException, ssl.SSLError))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what lies behind it, as requests and urllib3 wrap them."""
    at: BaseException | None = error
    for _ in range(_MAX_CAUSES):
        if at is None:
            return
        yield at
        wrapped = (getattr(at, "reason", None), *at.args)
        at = next((part for part in wrapped if isinstance(part, BaseException)), at.__cause__)
