"""What can be wrong between a client and a server: each told apart, in one sentence."""

from __future__ import annotations

import socket
import ssl

import pytest

from CTSAM3DLib import connect
from CTSAM3DLib.errors import Problem, ServerError
from CTSAM3DLib.remote.connection import complete_address
from CTSAM3DLib.remote.protocol import PROTOCOL, PROTOCOL_HEADER
from CTSAM3DLib.remote.remote_segmenter import test_connection as look_at
from CTSAM3DServer.keys import OneKey
from Testing.server.conftest import same, serving
from Testing.server.other_programs import answering, raw

KEY = "k3y-of-a-test"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("127.0.0.1:8900", "http://127.0.0.1:8900"),
        ("localhost", "http://localhost:8900"),
        ("0.0.0.0:8900", "http://127.0.0.1:8900"),
        ("http://0.0.0.0:8900/", "http://127.0.0.1:8900"),
        ("[::]:8900", "http://[::1]:8900"),
        ("gpu:8900", "https://gpu:8900"),
        (" gpu.clinic.example ", "https://gpu.clinic.example:8900"),
        ("https://gpu.clinic.example", "https://gpu.clinic.example"),
        ("HTTP://GPU:80/ctsam3d/", "http://gpu:80/ctsam3d"),
    ],
)
def test_addresses_are_read_as_they_are_meant(written, meant):
    assert complete_address(written) == meant


@pytest.mark.parametrize(
    "written",
    ["", "http://", "gpu:port", "gpu:99999", "ftp://gpu", "a b:1", "u:pw@gpu:1", "gpu?x=1", "gpu..clinic", "g" * 64],
)
def test_addresses_that_are_none(written):
    assert problem_of(lambda: connect(written)) is Problem.ADDRESS


def test_what_a_server_says_of_itself(server):
    info = look_at(server.address.removeprefix("http://"))
    (model,) = info.models
    assert (info.device, model.info.name, model.info.window) == ("cpu", "threshold", (-1000.0, 1000.0))
    assert info.version


def test_nothing_listens_there():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert problem_of(lambda: connect(f"127.0.0.1:{port}")) is Problem.CLOSED_PORT


def test_no_computer_of_this_name():
    assert problem_of(lambda: connect("http://no-such-host.invalid:8900")) is Problem.UNKNOWN_HOST


def test_a_server_that_does_not_answer(monkeypatch):
    monkeypatch.setattr("CTSAM3DLib.remote.connection.READ_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert problem_of(lambda: connect(f"127.0.0.1:{silent.getsockname()[1]}")) is Problem.TIMEOUT


def test_keys(server):
    with serving(keys=OneKey("anna", KEY)) as locked:
        assert look_at(locked.address, KEY).models
        assert problem_of(lambda: connect(locked.address)) is Problem.NO_KEY
        assert problem_of(lambda: connect(locked.address, "another")) is Problem.WRONG_KEY
        assert problem_of(lambda: connect(locked.address, "two\nlines")) is Problem.WRONG_KEY
    assert look_at(server.address, KEY).models  # a key too many does no harm


def test_tls_with_an_authority_of_ones_own(tls, local, tube, clicks):
    settings, authority = tls
    with serving(settings, OneKey("anna", KEY)) as server:
        assert server.address.startswith("https://")
        result = connect(server.address, KEY, ca_file=str(authority)).open(tube).segment(clicks[:1])
        assert same(result, local.open(tube).segment(clicks[:1]))
        assert problem_of(lambda: connect(server.address, KEY)) is Problem.UNTRUSTED
        assert problem_of(lambda: connect(server.address, KEY, ca_file="nowhere.pem")) is Problem.UNTRUSTED
        other_name = server.address.replace("127.0.0.1", "localhost")
        assert problem_of(lambda: connect(other_name, KEY, ca_file=str(authority))) is Problem.UNTRUSTED
        plain = server.address.replace("https://", "http://")
        sentence = sentence_of(lambda: connect(plain, KEY), Problem.NEEDS_HTTPS)
        assert f"write {server.address}" in sentence


def test_https_against_http(server):
    sentence = sentence_of(lambda: connect(server.address.replace("http://", "https://")), Problem.NEEDS_HTTP)
    assert f"write {server.address}" in sentence


def test_a_tls_connection_that_fails_otherwise(tls):
    settings, _ = tls
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(settings.tls_cert, settings.tls_key)
    context.verify_mode = ssl.CERT_REQUIRED  # of the client, which has none
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(tls[1])
    with answering(200, "text/plain", b"", context=context) as address:
        secure = address.replace("http://", "https://")
        assert problem_of(lambda: connect(secure, ca_file=str(tls[1]))) is Problem.TLS


def test_another_program_that_speaks_html_json_or_no_http():
    with answering(200, "text/html", b"<html>a router</html>") as address:
        assert problem_of(lambda: connect(address)) is Problem.OTHER_PROGRAM
    with answering(200, "application/json", b'{"models": []}') as address:
        assert problem_of(lambda: connect(address)) is Problem.OTHER_PROGRAM
    with answering(404, "application/json", b'{"detail": "Not Found"}') as address:
        assert problem_of(lambda: connect(address)) is Problem.OTHER_PROGRAM
    with answering(200, "application/json", b'{"models": 3}', {PROTOCOL_HEADER: str(PROTOCOL)}) as address:
        assert problem_of(lambda: connect(address)) is Problem.OTHER_PROGRAM
    with raw(b"SSH-2.0-OpenSSH_9.6\r\n") as address:
        assert problem_of(lambda: connect(address)) is Problem.OTHER_PROGRAM


@pytest.mark.parametrize(
    ("version", "problem"), [(PROTOCOL - 1, Problem.OLDER_SERVER), (PROTOCOL + 1, Problem.NEWER_SERVER)]
)
def test_other_versions(version, problem):
    with answering(404, "application/json", b"{}", {PROTOCOL_HEADER: str(version)}) as address:
        assert problem_of(lambda: connect(address)) is problem


def test_proxies(monkeypatch):
    for status in (500, 502, 504):
        with answering(status, "text/html", b"Bad Gateway") as address:
            assert problem_of(lambda: connect(address)) is Problem.PROXY
    with answering(301, "text/html", b"", {"Location": "https://elsewhere/"}) as address:
        assert problem_of(lambda: connect(address)) is Problem.NEEDS_HTTPS
    with answering(503, "text/html", b"Service Unavailable") as address:
        assert problem_of(lambda: connect(address)) is Problem.BUSY
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = f"http://127.0.0.1:{listener.getsockname()[1]}"
    monkeypatch.setenv("HTTP_PROXY", closed)
    monkeypatch.setenv("http_proxy", closed)
    assert problem_of(lambda: connect("http://gpu.example:8900")) is Problem.PROXY


def test_a_proxy_of_the_environment_is_not_asked_about_this_computer(server, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert look_at(server.address).models


def problem_of(call) -> Problem:
    with pytest.raises(ServerError) as caught:
        call()
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert KEY not in sentence
    return caught.value.problem


def sentence_of(call, problem: Problem) -> str:
    with pytest.raises(ServerError) as caught:
        call()
    assert caught.value.problem is problem
    return str(caught.value)
