"""Connections that ask for nothing, and what a server agrees to on encrypted ones."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
import requests

from Testing.server.conftest import serving

HEAD = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.fixture
def hasty(monkeypatch):
    """A server that waits only a little for the head of a request."""
    monkeypatch.setattr("CTSAM3DServer.header_timeout.HEADER_TIMEOUT_S", 0.3)
    with serving() as server:
        yield server


def connected(server) -> socket.socket:
    at = urlsplit(server.address)
    return socket.create_connection((at.hostname, at.port), 5)


def until_hung_up_on(client: socket.socket) -> None:
    """Read until the server ends the connection. Raises TimeoutError where it does not."""
    with suppress(ConnectionResetError):
        while client.recv(65536):
            pass


def dripping(client: socket.socket) -> None:
    with suppress(OSError):
        for byte in HEAD:
            client.sendall(bytes([byte]))
            time.sleep(0.05)


def after_an_answer(client: socket.socket) -> None:
    client.sendall(HEAD + b"\r\n")
    client.recv(65536)
    client.sendall(HEAD)


@pytest.mark.parametrize("ask", [lambda client: None, lambda client: client.sendall(HEAD), dripping, after_an_answer])
def test_who_does_not_finish_asking_is_hung_up_on(hasty, ask: Callable[[socket.socket], None]):
    with connected(hasty) as client:
        ask(client)
        until_hung_up_on(client)


def test_a_body_and_the_next_click_have_more_time_than_a_head(hasty):
    client = HTTPConnection(urlsplit(hasty.address).netloc, timeout=5)
    client.putrequest("PUT", "/v1/volumes/x")
    client.putheader("Content-Length", "2")
    client.endheaders()
    time.sleep(0.6)
    client.send(b"{}")
    assert client.getresponse().read().startswith(b'{"detail"')
    kept = client.sock
    time.sleep(0.6)
    client.request("GET", "/healthz")
    assert client.getresponse().status == 200
    assert client.sock is kept
    client.close()


def test_silent_connections_keep_nobody_out_for_long(hasty):
    hasty._uvicorn.config.limit_concurrency = 4
    silent = [connected(hasty) for _ in range(8)]
    end = time.monotonic() + 5
    while requests.get(f"{hasty.address}/healthz", timeout=5).status_code != 200:
        assert time.monotonic() < end
        time.sleep(0.05)
    for client in silent:
        client.close()


@pytest.mark.parametrize(
    ("cipher", "taken"),
    [
        ("ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256", True),
        ("ECDHE-RSA-AES128-SHA:ECDHE-ECDSA-AES128-SHA", False),
        ("ECDHE-RSA-NULL-SHA:ECDHE-ECDSA-NULL-SHA:AECDH-NULL-SHA:@SECLEVEL=0", False),
    ],
)
def test_only_ciphers_of_today_are_agreed_to(tls, cipher, taken):
    settings, authority = tls
    context = ssl.create_default_context(cafile=authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(cipher)
    with serving(settings) as server, connected(server) as plain:
        if taken:
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as secure:
                assert secure.version() == "TLSv1.2"
        else:
            with pytest.raises(ssl.SSLError):
                context.wrap_socket(plain, server_hostname="127.0.0.1")
