"""Wrong requests by the hundred; `python -m Testing.benchmarks.server_fuzz` sends tens of thousands."""

from __future__ import annotations

import socket
from collections import Counter
from urllib.parse import urlsplit

import pytest
import requests

from Testing.server.conftest import serving
from Testing.support.fuzz import ID, Fuzzer, complaint, send

CASES = 500


@pytest.fixture(scope="module")
def fuzzed():
    with serving() as server:
        yield server


def test_wrong_requests_are_refused_in_one_sentence_and_change_nothing(fuzzed):
    fuzzer = Fuzzer(seed=5, model="threshold", spacing=1.5)
    address = f"{fuzzed.address}/v1/volumes/{ID}"
    kinds, wrong = Counter(), []
    with requests.Session() as session:
        assert session.put(address, json=fuzzer.volume, timeout=5).status_code == 204
        before = session.post(f"{address}/segment", json=fuzzer.clicks, timeout=5)
        assert before.status_code == 200
        for number in range(CASES):
            case = fuzzer.case(number)
            kinds[case.kind] += 1
            if problem := complaint(case, send(session, fuzzed.address, case)):
                wrong.append((number, case.kind, problem))
        session.put(address, json=fuzzer.volume, timeout=5)
        assert session.post(f"{address}/segment", json=fuzzer.clicks, timeout=5).status_code == 200
    assert not wrong
    assert len(kinds) == 17
    assert fuzzed.service.cache.nbytes <= fuzzed.service.cache.capacity


HEAD = f"PUT /v1/volumes/{ID}/tiles HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.mark.parametrize(
    "text",
    [
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc",  # as TLS begins
        "GET /healthz\r\n\r\n",
        "GET /healthz HTTP/1.1\r\n\r\n",  # no host
        "GET /\xff HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        f"{HEAD}X: {'a' * 200_000}\r\n\r\n",
        f"{HEAD}X: a\0b\r\n\r\n",
        *(f"{HEAD}Content-Length: {size}\r\n\r\n" for size in ("-1", "1e5", "+5", "", "9" * 30, "1" * 5000)),
        f"{HEAD}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        f"{HEAD}Transfer-Encoding: chunked\r\n\r\nZZ\r\nhello\r\n",
        f"{HEAD}Transfer-Encoding: gzip\r\n\r\nhello",
    ],
)
def test_what_is_no_http_ends_the_connection_and_no_more(fuzzed, text):
    at = urlsplit(fuzzed.address)
    with socket.create_connection((at.hostname, at.port), 10) as client:
        try:
            client.sendall(text.encode("latin-1"))
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        except ConnectionResetError:  # hung up on before all was sent
            answer = b""
    assert answer[:13] in (b"", b"HTTP/1.1 400 ")
    assert requests.get(f"{fuzzed.address}/healthz", timeout=5).ok
