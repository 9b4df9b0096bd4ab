"""A connection that cannot be made says what to do: real TLS servers on this machine, certificates made here (T004)."""

from __future__ import annotations

import re
import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.calpendo.client import CalpendoClient
from pipeline.calpendo.responses import UnreachableFault
from pipeline.config.credentials import Credentials
from tests.support.calpendo_site import settings

if TYPE_CHECKING:
    import trustme
else:
    trustme = pytest.importorskip("trustme", reason="it makes the certificates: pip install -e '.[test]'")

HOST = "127.0.0.1"
ANSWER = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{"biskits": []}'
FOREIGN = re.compile(
    r"urllib3|requests|SSL:|_ssl|Errno|[A-Z][a-z]+Error|Max retries|VERIFY_FAILED|X509|Guarded"
)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """An authority that nobody knows."""
    return trustme.CA()


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with the authority's certificate, which the environment names."""
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
    return path


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what this machine's environment says about proxies and authorities."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


Serve = Callable[..., int]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a function that starts a server with a TLS context, or one without, and returns its port."""
    open_sockets: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def _serve(tls: ssl.SSLContext | None = None, answer: bytes = ANSWER) -> int:
        listener = socket.create_server((HOST, 0))
        open_sockets.append(listener)

        def run() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    connection.settimeout(5)
                    with suppress(OSError), connection:
                        if tls is None:
                            connection.recv(4096)
                            connection.sendall(answer)
                            continue
                        with tls.wrap_socket(connection, server_side=True) as secure:
                            secure.recv(4096)
                            secure.sendall(answer)

        threads.append(threading.Thread(target=run, daemon=True))
        threads[-1].start()
        return int(listener.getsockname()[1])

    yield _serve
    for listener in open_sockets:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    for thread in threads:
        thread.join(timeout=5)


def tls(authority: trustme.CA, name: str = HOST, **dates: datetime) -> ssl.SSLContext:
    """Return a server's context with a certificate of the authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name, **dates).configure_cert(context)
    return context


def asked(url: str, **options: float) -> list[object]:
    """Ask a server for its bookings."""
    config = settings(url, max_retries=0, **options)
    with CalpendoClient(config, Credentials("reader", "s3cret")) as client:
        return client.query("Calpendo.Booking", "AND/id/GT/0")


def told(url: str, **options: float) -> str:
    """Return what is said about a server that cannot be asked: one line, in our words, with something to do."""
    with pytest.raises(UnreachableFault) as caught:
        asked(url, **options)
    text = str(caught.value)
    assert not FOREIGN.search(text)
    assert caught.value.__cause__ is None
    assert re.search(r"; (check|write|wait|its administrators|the server's administrators|ask)", text)
    assert "\n" not in text
    return text


def test_a_known_authority_is_trusted(authority: trustme.CA, bundle: Path, serve: Serve) -> None:
    """Promise: a private authority named in REQUESTS_CA_BUNDLE is enough."""
    assert asked(f"https://{HOST}:{serve(tls(authority))}") == []


def test_an_unknown_authority(authority: trustme.CA, serve: Serve) -> None:
    """Issue: who vouches for the server is not known here: where its certificate is to be named."""
    text = told(f"https://{HOST}:{serve(tls(authority))}")
    assert "not signed by an authority known here" in text
    assert "into REQUESTS_CA_BUNDLE" in text


def test_an_intermediate_certificate_is_missing(
    authority: trustme.CA, bundle: Path, serve: Serve, tmp_path: Path
) -> None:
    """Issue: a server that leaves out the certificate between is the most frequent case of all; it is named."""
    leaf = authority.create_child_ca().issue_cert(HOST)
    leaf.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    leaf.cert_chain_pems[0].write_to_path(str(tmp_path / "leaf.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "leaf.pem", tmp_path / "key.pem")
    text = told(f"https://{HOST}:{serve(context)}")
    assert "the server does not send the intermediate certificate" in text
    assert f"{bundle} (from REQUESTS_CA_BUNDLE)" in text


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "does not exist"),
        ("", "holds no certificate in PEM form"),
        (
            "-----BEGIN CERTIFICATE-----\nabcd\n-----END CERTIFICATE-----\n",
            "holds no certificate in PEM form",
        ),
        ("a directory", "is a directory without certificates under their hashed names"),
    ],
)
def test_a_bundle_that_is_none(
    authority: trustme.CA,
    serve: Serve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    content: str | None,
    problem: str,
) -> None:
    """Issue: a path that does not exist, or a file without certificates: which variable, which path, what to write."""
    path = tmp_path / "bundle.pem"
    if content == "a directory":
        path.mkdir()
    elif content is not None:
        path.write_text(content)
    monkeypatch.setenv(variable, str(path))
    text = told(f"https://{HOST}:{serve(tls(authority))}")
    assert f"{path} (from {variable}) {problem}; write the path of a PEM file" in text


def test_a_bundle_for_plain_http_is_not_looked_at(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong bundle does no harm where no certificate is asked for."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/bundle.pem")
    assert asked(f"http://{HOST}:{serve()}") == []


@pytest.mark.parametrize(
    ("name", "dates", "problem"),
    [
        (HOST, {"not_after": datetime(2020, 1, 1, tzinfo=UTC)}, "has expired"),
        (
            HOST,
            {"not_before": datetime(2090, 1, 1, tzinfo=UTC), "not_after": datetime(2091, 1, 1, tzinfo=UTC)},
            "is not valid yet; check this machine's clock",
        ),
        ("calpendo.example", {}, "is made out to another name; write that name into base_url"),
    ],
)
def test_a_certificate_that_does_not_fit(
    authority: trustme.CA, bundle: Path, serve: Serve, name: str, dates: dict[str, datetime], problem: str
) -> None:
    """Issue's kind: an expired certificate, a wrong clock, another name: each says its own remedy."""
    assert problem in told(f"https://{HOST}:{serve(tls(authority, name, **dates))}")


def test_https_on_an_http_port(serve: Serve) -> None:
    """Issue: https on an http port."""
    assert "speaks no TLS, probably plain http; check the port" in told(f"https://{HOST}:{serve()}")


def test_http_on_an_https_port(authority: trustme.CA, serve: Serve) -> None:
    """The other way round, it is asked whether the server speaks https."""
    assert "that the server speaks http and not https" in told(f"http://{HOST}:{serve(tls(authority))}")


def test_tls_of_old(authority: trustme.CA, bundle: Path, serve: Serve) -> None:
    """A server that knows only versions of TLS that this machine refuses."""
    context = tls(authority)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    assert "allow TLS 1.2 or newer" in told(f"https://{HOST}:{serve(context)}")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_is_down(scheme: str) -> None:
    """Issue: nothing listens at the port."""
    with socket.create_server((HOST, 0)) as freed:
        port = freed.getsockname()[1]
    assert "nothing listens there (connection refused); check the port" in told(f"{scheme}://{HOST}:{port}")


def test_a_name_that_is_not_known() -> None:
    """Issue: a name that no name server knows (RFC 2606 keeps .invalid free for that)."""
    text = told("https://calpendo.invalid")
    assert "the server's name is not known here; check its spelling in base_url" in text


def test_a_proxy_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment that cannot be reached is named as such."""
    with socket.create_server((HOST, 0)) as freed:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{HOST}:{freed.getsockname()[1]}")
    assert "check HTTPS_PROXY" in told("https://calpendo.invalid")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_says_nothing(scheme: str) -> None:
    """Issue: a server that takes the connection and never answers, with TLS or without."""
    with socket.create_server((HOST, 0)) as silent:
        text = told(f"{scheme}://{HOST}:{silent.getsockname()[1]}", list_timeout=0.2, body_deadline=5)
    assert "no complete answer: nothing came for 0.2 s; " in text


def test_a_server_that_takes_no_connection() -> None:
    """Issue: the way to the server swallows everything, as a firewall does: the connection times out."""
    with socket.socket() as full:
        full.bind((HOST, 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        try:
            for one in waiting:
                one.setblocking(False)
                with suppress(BlockingIOError):
                    one.connect(full.getsockname())
            text = told(f"http://{HOST}:{full.getsockname()[1]}", list_timeout=0.2, body_deadline=5)
        finally:
            for one in waiting:
                one.close()
    assert "no connection within 0.2 s; check base_url, the network, the firewall and the VPN" in text
