"""Servers no library double plays: drips in headers and chunk lengths, torn chunks, bombs in redirects, odd codings."""

from __future__ import annotations

import json
import socket
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.calpendo.client import CalpendoClient
from pipeline.config.credentials import Credentials
from pipeline.errors import PluginFetchError
from tests.support.calpendo_site import client_of, settings

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
EMPTY = b'{"biskits": []}'
Play = Callable[[socket.socket, threading.Event], None]


class Server:
    """Plays one script on every connection's first request, and keeps what was sent to it."""

    def __init__(self, play: Play) -> None:
        self.received: list[bytes] = []
        self.closing = threading.Event()
        self._play = play
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def _accept(self) -> None:
        while not self.closing.is_set():
            connection, _ = self._listener.accept()
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                request = b""
                while b"\r\n\r\n" not in request:
                    piece = connection.recv(4096)
                    if not piece:
                        return
                    request += piece
                self.received.append(request)
                self._play(connection, self.closing)
            except OSError:
                pass

    def close(self) -> None:
        """Stop, and wait for every thread."""
        self.closing.set()
        socket.create_connection(self._listener.getsockname()).close()
        for thread in self._threads:
            thread.join(10)
        self._listener.close()


@contextmanager
def serving(play: Play) -> Iterator[Server]:
    """Run a server."""
    server = Server(play)
    try:
        yield server
    finally:
        server.close()


def drip(text: bytes) -> Play:
    """Send a text, one byte each tenth of a second, for ever."""

    def play(connection: socket.socket, closing: threading.Event) -> None:
        at = 0
        while not closing.wait(0.1):
            connection.sendall(text[at % len(text)].to_bytes(1, "big"))
            at += 1

    return play


def after(head: bytes, then: Play) -> Play:
    """Send a beginning at once, then go on with another script."""

    def play(connection: socket.socket, closing: threading.Event) -> None:
        connection.sendall(head)
        then(connection, closing)

    return play


def answer(*parts: bytes) -> Play:
    """Send an answer and close."""

    def play(connection: socket.socket, closing: threading.Event) -> None:
        connection.sendall(b"".join(parts))

    return play


def query(url: str, **options: object) -> list[object]:
    """Ask for one list."""
    with client_of(settings(url, max_retries=0, **options)) as client:
        return client.query("Calpendo.Booking", "id/EQ/1")


@pytest.mark.parametrize(
    "play",
    [
        drip(b"HTTP/1.1 200 OK"),
        after(b"HTTP/1.1 200 OK\r\n", drip(b"X-Filler: 1\r\n")),
        after(OK + b"Transfer-Encoding: chunked\r\n\r\n", drip(b"5;extension=")),
        after(OK + b"\r\n", drip(b" ")),
        after(OK + b"Content-Length: 1000000\r\n\r\n", drip(b" ")),
    ],
    ids=["status line", "headers", "chunk length", "body without length", "body"],
)
def test_a_drip_ends_wherever_it_is(play: Play) -> None:
    """Issue: the deadline of an answer holds for each part of it, though no silence ever reaches the timeout."""
    with serving(play) as server:
        began = time.monotonic()
        with pytest.raises(PluginFetchError, match="body_deadline"):
            query(server.url, body_deadline=0.5)
        assert time.monotonic() - began < 2.0


@pytest.mark.parametrize(
    "parts",
    [
        (OK, b"Transfer-Encoding: chunked\r\n\r\n", b"f\r\n", EMPTY, b"\r\n"),
        (OK, b"Transfer-Encoding: chunked\r\n\r\n", b"zz\r\n", EMPTY, b"\r\n0\r\n\r\n"),
        (OK, b"Content-Length: 999\r\n\r\n", EMPTY),
        (OK, b"Content-Length: 12\r\nContent-Encoding: gzip\r\n\r\n", b"no gzip here"),
        (b"SSH-2.0-OpenSSH_9.9 Anna Testa\r\n",),
        (b"",),
    ],
    ids=["no last chunk", "bad chunk length", "short body", "bad gzip", "no HTTP", "nothing"],
)
def test_a_torn_answer_is_no_answer(parts: tuple[bytes, ...]) -> None:
    """Issue: an answer that is not whole raises, and nothing of it is quoted."""
    with (
        serving(answer(*parts)) as server,
        pytest.raises(PluginFetchError, match="no complete answer") as caught,
    ):
        query(server.url)
    assert "Anna" not in str(caught.value)


def test_a_foreign_compression_is_refused() -> None:
    """Issue: only what was asked for is unpacked, because not every library can unpack in bounds."""
    with (
        serving(answer(OK, b"Content-Encoding: br\r\n\r\n", b"\x00" * 20)) as server,
        pytest.raises(PluginFetchError, match="not asked for"),
    ):
        query(server.url)


@pytest.mark.parametrize("status", [b"302 Found", b"503 Service Unavailable", b"401 Unauthorized"])
def test_no_body_is_unpacked_without_bounds(status: bytes) -> None:
    """Issue: the cap holds for the bodies of redirects and errors too."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(b" " * (1 << 20)) for _ in range(24)) + packer.flush()
    head = b"HTTP/1.1 " + status + b"\r\nLocation: /elsewhere\r\nContent-Encoding: gzip\r\n"
    with serving(answer(head, b"Content-Length: %d\r\n\r\n" % len(bomb), bomb)) as server:
        tracemalloc.start()
        try:
            with pytest.raises(PluginFetchError):
                query(server.url, max_body_bytes=1 << 20)
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("coding", ["latin-1", "utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("label", ["application/json;charset=ISO-8859-1", "text/html; charset=x-no", ""])
def test_a_server_is_believed_by_its_body(coding: str, label: str) -> None:
    """Decision: JSON is UTF-8 whatever its label says; the label counts where the body is no UTF-8."""
    if coding == "latin-1" and "8859" not in label:
        return
    body = json.dumps({"biskits": [{"id": 1, "title": "Zoë"}]}, ensure_ascii=False).encode(coding)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {label}\r\n\r\n".encode()
    with serving(answer(head, body)) as server:
        assert query(server.url) == [{"id": 1, "title": "Zoë"}]


def test_the_text_of_one_row_costs_that_row_only() -> None:
    """Issue: a byte that is no UTF-8, a control character, endless digits, endless nesting: the other rows come."""
    odd = [
        b'{"id": 1, "title": "\xff"}',
        b'{"id": 2, "title": "a\tb"}',
        b'{"id": 3, "title": ' + b"9" * 5000 + b"}",
        b'{"title": ' + b'[{"id": 9}, ' * 3000 + b"0" + b"]" * 3000 + b', "id": 4}',
        b'{"id": 5, "title": "\\ud800"}',
        b'{"id": 6, "title": ' + b"[" * 3000 + b"]" * 3000 + b', "x": "\xff"}',
    ]
    body = b'{"meta": [[{"id": 8}]], "biskits": [' + b", ".join([*odd, b'{"id": 7}']) + b"]}"
    with serving(answer(OK, b"\r\n", body)) as server:
        rows = query(server.url)
    assert [row["id"] for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    assert rows[0]["title"] == "\udcff"
    assert rows[1]["title"] == "a\tb"


def test_rows_without_end_are_refused_before_they_are_made() -> None:
    """Rule, bounds: six megabytes of rows, six kilobytes packed, cost neither gigabytes nor the deadline."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    rows = packer.compress(b'{"biskits": [' + b"{}," * 2_000_000 + b"{}]}") + packer.flush()
    head = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(rows)
    with serving(answer(head, rows)) as server:
        tracemalloc.start()
        began = time.monotonic()
        try:
            with pytest.raises(PluginFetchError, match="max_rows"):
                query(server.url)
            assert tracemalloc.get_traced_memory()[1] < 32 << 20
        finally:
            tracemalloc.stop()
        assert time.monotonic() - began < 2.0


def test_no_cookie_is_kept() -> None:
    """Rule, bounds: a server that sets a cookie with each answer never gets one back."""

    def play(connection: socket.socket, closing: threading.Event) -> None:
        cookie = b"Set-Cookie: c%d=%s; Path=/\r\n" % (len(server.received), b"x" * 900)
        connection.sendall(OK + cookie + b"Connection: close\r\n\r\n" + EMPTY)

    with serving(play) as server, client_of(settings(server.url)) as client:
        for _ in range(3):
            assert client.query("Calpendo.Booking", "id/EQ/1") == []
        assert len(server.received) == 3
        assert not any(b"cookie" in request.lower() for request in server.received)


def test_the_login_comes_from_the_environment_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue: neither ~/.netrc nor a login in the address is ever sent, and no proxy sees a plain request."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login other password wrong\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with serving(answer(OK, b"\r\n", EMPTY)) as server:
        config = settings(server.url).model_copy(
            update={"base_url": server.url.replace("http://", "http://name:word@")}
        )
        with CalpendoClient(config, Credentials("Zoë", "pass:wört")) as client:
            assert client.query("Calpendo.Booking", "id/EQ/1") == []
            assert "word" not in repr(client)
        assert b"Authorization: Basic Wm/DqzpwYXNzOnfDtnJ0\r\n" in server.received[0]
        assert len(server.received) == 1
