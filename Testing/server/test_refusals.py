"""Everything that can be wrong in a request is refused in one sentence, before it costs anything."""

from __future__ import annotations

import json
import logging
import socket
import struct
import threading
import time
import tracemalloc

import numpy as np
import pytest
import requests
import zstandard

from CTSAM3DLib import connect
from CTSAM3DLib.errors import Problem, ServerError
from CTSAM3DLib.remote.protocol import MAX_TILES, MAX_UPLOAD, PROTOCOL, PROTOCOL_HEADER, pack, pack_tiles
from CTSAM3DLib.segmentation.patch_grid import ModelGrid
from CTSAM3DServer.admission import MAX_JSON, MAX_REQUESTS
from CTSAM3DServer.keys import KeyFile, OneKey
from CTSAM3DServer.settings import Settings
from Testing.server.conftest import serving, wait_until

ID = "a" * 64
UNKNOWN = "b" * 64
GEOMETRY = {
    "shape": [100, 100, 100],
    "origin": [0, 0, 0],
    "spacing": [1.5, 1.5, 1.5],
    "direction": [1, 0, 0, 0, 1, 0, 0, 0, 1],
    "model_spacing": 1.5,
}
CLICKS = {"clicks": [{"position": [70, 70, 70]}], "model": "threshold"}
GRID = ModelGrid((0, 0, 0), (100, 100, 100))


@pytest.fixture
def known(server) -> str:
    """The address of a volume that the server knows."""
    address = f"{server.address}/v1/volumes/{ID}"
    assert requests.put(address, json=GEOMETRY, timeout=5).status_code == 204
    return address


def refused(answer: requests.Response, status: int, words: str = "") -> None:
    """Check a refusal: its status, one sentence, and our protocol in its head."""
    assert answer.status_code == status, answer.text
    assert answer.headers[PROTOCOL_HEADER] == str(PROTOCOL)
    sentence = answer.json()["detail"]
    assert list(answer.json()) == ["detail"]
    assert words in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [100, 100]},
        {"shape": [0, 100, 100]},
        {"shape": [-1, 100, 100]},
        {"shape": [10**9, 100, 100]},
        {"shape": [4000, 4000, 4000]},
        {"shape": [1000, 1000, 1000]},
        {"shape": [1.5, 2, 2]},
        {"spacing": [0, 1, 1]},
        {"spacing": [-1, 1, 1]},
        {"spacing": [1e8, 1, 1]},
        {"spacing": [1e-320, 1, 1]},
        {"direction": [1e9, 0, 0, 0, 1, 0, 0, 0, 1]},
        {"origin": [1e8, 0, 0]},
        {"origin": ["x", 0, 0]},
        {"direction": [0] * 9},
        {"direction": [1] * 8},
        {"model_spacing": 0},
        {"model_spacing": 7.25},
        {"patient": "John"},
    ],
)
def test_volumes_that_no_ct_can_be(server, change):
    refused(requests.put(f"{server.address}/v1/volumes/{ID}", json={**GEOMETRY, **change}, timeout=5), 422)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e400", "1" * 5000, "[" * 100_000])
def test_numbers_that_are_none(server, value):
    body = json.dumps(GEOMETRY).replace("[0, 0, 0]", f"[{value}, 0, 0]")
    answer = requests.put(f"{server.address}/v1/volumes/{ID}", data=body, headers=JSON, timeout=5)
    refused(answer, answer.status_code)
    assert answer.status_code in (400, 422)


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({**CLICKS, "clicks": []}, "clicks"),
        ({**CLICKS, "clicks": [{"position": [1, 2]}]}, "position"),
        ({**CLICKS, "clicks": [{"position": [9e9, 0, 0]}]}, "position"),
        ({**CLICKS, "clicks": [{"position": [70, 70, 700]}]}, "outside the volume"),
        ({**CLICKS, "clicks": [{"position": [70, 70, 70], "positive": False}]}, "negative"),
        ({**CLICKS, "clicks": [{"position": [70, 70, 70]}] * 1025}, "1024"),
        ({**CLICKS, "reach": "everywhere"}, "reach"),
        ({**CLICKS, "model": "other"}, "no such model"),
        ({"clicks": CLICKS["clicks"]}, "model"),
    ],
)
def test_clicks_that_cannot_be_used(known, body, words):
    refused(requests.post(f"{known}/segment", json=body, timeout=5), 422, words)


def message(header: dict | bytes, payload: bytes = b"", version: int = PROTOCOL, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<4sHI", b"CT3D", version, len(text) if length is None else length) + text + payload


def described(payload: bytes, shape=(64, 64, 64), dtype="int16", size=None, tiles=((0, 0, 0),)) -> bytes:
    about = {"dtype": dtype, "shape": list(shape), "packed_bytes": len(payload) if size is None else size}
    return message({"tiles": [list(tile) for tile in tiles], "arrays": [about]}, payload)


TILE = np.zeros((64, 64, 64), np.int16)
PACKED = zstandard.compress(TILE.tobytes())
BOMB = zstandard.compress(bytes(2**27))
"""128 MiB of zeros in a few kilobytes."""


def nameless(data: bytes) -> bytes:
    """Compressed without saying how much it is."""
    return zstandard.ZstdCompressor(write_content_size=False).compress(data)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"CT3D",
        b"PK\x03\x04" + bytes(100),
        message({"tiles": [], "arrays": []}, version=PROTOCOL + 1),
        message({"tiles": [], "arrays": []}, length=2**31),
        message(b"\xff\xfe"),
        message(b"[" * 60_000),
        message(b"[]"),
        message({"tiles": []}),
        message({"tiles": [[0, 0, 0]], "arrays": []}),
        message({"tiles": None, "arrays": []}),
        message({"arrays": [{"dtype": "int16", "shape": [64, 64, 64]}]}),
        message({"arrays": [{"dtype": "object", "shape": [1], "packed_bytes": 0}]}),
        message({"arrays": [3]}),
        described(PACKED, dtype="float64"),
        described(PACKED, dtype="uint8"),
        described(PACKED, shape=(64, 64)),
        described(PACKED, shape=(64, 64, 65)),
        described(PACKED, shape=(64, 64, -64)),
        described(PACKED, shape=(64, 64, True)),
        described(PACKED, shape=(64, 64, 64.0)),
        described(PACKED, shape=(2**40, 2**40, 2**40)),
        described(PACKED, shape=(32, 64, 64)),
        described(PACKED, size=5),
        described(PACKED, size=-5),
        described(PACKED, size=2**40),
        described(PACKED[:-3]),
        described(PACKED + b"more"),
        described(b""),
        described(b"not compressed"),
        described(BOMB),
        described(nameless(TILE.tobytes())),
        described(nameless(bytes(2**27))),
        described(PACKED, tiles=()),
        described(PACKED, tiles=((0, 0, 0), (0, 0, 0))),
        described(PACKED, tiles=((5, 0, 0),)),
        described(PACKED, tiles=((-1, 0, 0),)),
        described(PACKED, tiles=((0, 0, 1),)),
        described(PACKED, tiles=((0, 0),)),
        described(PACKED, tiles=((0.0, 0, 0),)),
        described(PACKED, tiles=((2**70, 0, 0),)),
        pack({"tiles": [[0, 0, 0]] * (MAX_TILES + 1)}, [TILE] * (MAX_TILES + 1)),
    ],
)
def test_tiles_that_are_none(server, known, body):
    before = server.service.cache.nbytes
    refused(requests.put(f"{known}/tiles", data=body, timeout=5), 422)
    assert server.service.cache.nbytes == before


def test_right_tiles_are_taken(known):
    assert requests.put(f"{known}/tiles", data=pack_tiles({(0, 0, 0): TILE}, GRID), timeout=5).status_code == 204
    noise = np.random.default_rng(0).integers(-32768, 32767, TILE.shape, np.int16)
    body = pack_tiles({(0, 0, 0): noise, (1, 1, 1): noise, (0, 1, 1): noise, (0, 0, 1): noise}, GRID)
    assert requests.put(f"{known}/tiles", data=body, timeout=5).status_code == 204


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [1, 1, 1]},
        {"shape": [4096, 1, 1]},
        {"spacing": [1e-4, 1e-4, 1e-4]},
        {"direction": [1, 1, 0, 0, 0.02, 0, 0, 0, 1]},
        {"direction": [0, 0, -1, 1, 0, 0, 0, 1, 0]},
        {"origin": [-9e5, 9e5, 0]},
    ],
)
def test_odd_volumes_are_answered_or_refused(server, change):
    address = f"{server.address}/v1/volumes/{'c' * 64}"
    assert requests.put(address, json={**GEOMETRY, **change}, timeout=5).status_code == 204
    for position in ([0, 0, 0], (change.get("origin") or [1e-4] * 3)):
        body = {**CLICKS, "clicks": [{"position": position}]}
        assert requests.post(f"{address}/segment", json=body, timeout=5).status_code in (200, 422)


def test_volumes_that_are_not_known(server):
    address = f"{server.address}/v1/volumes/{UNKNOWN}"
    refused(requests.post(f"{address}/segment", json=CLICKS, timeout=5), 404, "not know this volume")
    refused(requests.put(f"{address}/tiles", data=pack_tiles({}, GRID), timeout=5), 404, "not know this volume")
    refused(requests.put(f"{server.address}/v1/volumes/John", json=GEOMETRY, timeout=5), 422)
    refused(requests.get(f"{server.address}/v1/elsewhere", timeout=5), 404, "nothing at this address")
    refused(requests.delete(address, timeout=5), 405, "another method")


def test_bodies_that_are_too_long_are_not_read(known):
    refused(requests.post(f"{known}/segment", data=b" " * (MAX_JSON + 1), headers=JSON, timeout=5), 413)
    refused(requests.put(f"{known}/tiles", data=b" " * (MAX_UPLOAD + 1), timeout=5), 413)

    def endless():
        for _ in range(100):
            yield b" " * 2**16

    refused(requests.put(f"{known}/tiles", data=endless(), timeout=5), 413)


def test_a_body_that_does_not_come_holds_nobody_up(server, monkeypatch):
    monkeypatch.setattr("CTSAM3DServer.admission.BODY_PAUSE_S", 0.3)
    host, port = server.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 5) as slow:
        slow.sendall(f"PUT /v1/volumes/{ID}/tiles HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100\r\n\r\nCT3D".encode())
        assert requests.get(f"{server.address}/healthz", timeout=1).ok
        assert b" 408 " in slow.recv(1000)


def test_too_many_requests_of_one_user(server, known):
    host, port = server.address.removeprefix("http://").split(":")
    head = f"PUT /v1/volumes/{ID}/tiles HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100\r\n\r\n".encode()
    slow = [socket.create_connection((host, int(port)), 5) for _ in range(MAX_REQUESTS)]
    for one in slow:
        one.sendall(head)
    wait_until(lambda: requests.get(f"{server.address}/v1/models", timeout=5).status_code == 429)
    refused(requests.get(f"{server.address}/v1/models", timeout=5), 429, "too many requests")
    for one in slow:
        one.close()
    wait_until(lambda: requests.get(f"{server.address}/v1/models", timeout=5).ok)


def test_lists_of_clicks_that_are_never_answered_stay_under_the_bound():
    with serving() as server:
        cache = server.service.cache
        cache.capacity = 2**20
        address = f"{server.address}/v1/volumes/{ID}"
        requests.put(address, json=GEOMETRY, timeout=5)
        tracemalloc.start()
        for number in range(16):
            clicks = [{"position": [number + n / 512, 70, 70]} for n in range(512)]
            body = {"clicks": clicks, "model": "threshold"}
            answer = requests.post(f"{address}/segment", json=body, timeout=5)
            if answer.status_code == 404:
                requests.put(address, json=GEOMETRY, timeout=5)
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert cache.evicted > 5
    assert kept < 2 * cache.capacity


def test_health_is_told_while_the_network_works(local, tube, clicks):
    with serving() as server:
        network = server.service.engines[0].model.network
        decode, working = network.decode, threading.Event()

        def slow_decode(*args):
            working.set()
            time.sleep(2)
            return decode(*args)

        network.decode = slow_decode
        user = threading.Thread(target=lambda: connect(server.address).open(tube).segment(clicks[:1], "patch"))
        user.start()
        assert working.wait(10)
        begun = time.monotonic()
        assert requests.get(f"{server.address}/healthz", timeout=1).json() == {"program": "ctsam3d", "status": "ok"}
        assert time.monotonic() - begun < 1
        user.join()


def test_a_busy_server_answers_with_what_there_is(monkeypatch, local, tube, clicks):
    monkeypatch.setattr("CTSAM3DServer.service.MAX_WAIT_S", 0.05)
    with serving() as server:
        network = server.service.engines[0].model.network
        decode = network.decode
        network.decode = lambda *args: (time.sleep(0.3), decode(*args))[1]
        result = connect(server.address).open(tube).segment(clicks[:1])
    assert result.mask.content_hash == local.open(tube).segment(clicks[:1]).mask.content_hash


def test_without_keys_only_names_of_this_computer_are_served(server):
    refused(requests.get(f"{server.address}/v1/models", headers={"Host": "evil.example"}, timeout=5), 403)
    assert requests.get(f"{server.address}/v1/models", headers={"Host": "localhost:8900"}, timeout=5).ok


@pytest.mark.parametrize("head", ["Forwarded", "X-Forwarded-For", "X-Real-IP"])
def test_without_keys_nobody_is_served_through_a_proxy(server, head):
    refused(requests.get(f"{server.address}/v1/models", headers={head: "203.0.113.7"}, timeout=5), 403)


def test_keys_are_asked_for_everywhere_but_for_health(tmp_path):
    with serving(keys=OneKey("anna", "right")) as server:
        assert requests.get(f"{server.address}/healthz", timeout=5).ok
        for path in ("/metrics", "/openapi.json", "/v1/models", f"/v1/volumes/{ID}/segment", "/elsewhere"):
            refused(requests.get(server.address + path, timeout=5), 401, "asks for a key")
            for wrong in ("Bearer wrong", "Bearer", "Basic cmlnaHQ=", "right"):
                answer = requests.get(server.address + path, headers={"Authorization": wrong}, timeout=5)
                refused(answer, 401)
        allowed = {"Authorization": "Bearer right"}
        assert requests.get(f"{server.address}/metrics", headers=allowed, timeout=5).ok


def test_a_revoked_key_ends_at_once_and_a_new_one_begins(tmp_path, tube, clicks):
    keys = KeyFile(tmp_path / "keys.json")
    anna, bert = keys.add("anna"), keys.add("bert")
    with serving(Settings(port=0, keys_file=keys.path)) as server:
        session = connect(server.address, anna).open(tube)
        session.segment(clicks[:1])
        keys.revoke("anna")
        with pytest.raises(ServerError) as caught:
            session.segment(clicks)
        assert caught.value.problem is Problem.WRONG_KEY
        assert connect(server.address, bert)
        assert connect(server.address, keys.add("carl"))
        keys.path.unlink()
        with pytest.raises(ServerError) as caught:
            connect(server.address, bert)
        assert caught.value.problem is Problem.BUSY


def test_a_volume_is_seen_by_its_owner_alone(tmp_path, tube, clicks):
    keys = KeyFile(tmp_path / "keys.json")
    anna, bert = keys.add("anna"), keys.add("bert")
    with serving(Settings(port=0, keys_file=keys.path)) as server:
        session = connect(server.address, anna).open(tube)
        session.segment(clicks)
        for path, body in (("/segment", CLICKS), ("/tiles", None)):
            call = requests.post if body else requests.put
            address = f"{server.address}/v1/volumes/{session._id}{path}"
            stranger = call(address, json=body, headers={"Authorization": f"Bearer {bert}"}, timeout=5)
            nobody = call(
                address.replace(session._id, UNKNOWN),
                json=body,
                headers={"Authorization": f"Bearer {bert}"},
                timeout=5,
            )
            assert (stranger.status_code, stranger.text) == (404, nobody.text)


def test_logs_and_metrics_hold_no_key_voxel_click_or_name(tmp_path, caplog, tube, clicks):
    caplog.set_level(logging.DEBUG)
    keys = KeyFile(tmp_path / "keys.json")
    key = keys.add("anna")
    with serving(Settings(port=0, keys_file=keys.path)) as server:
        network = server.service.engines[0].model.network
        session = connect(server.address, key).open(type(tube)(tube.array, tube.geometry, name="Doe^John"))
        session.segment(clicks)
        headers = {"Authorization": f"Bearer {key}"}
        far = {**CLICKS, "clicks": [{"position": [987654.0, 2, 3]}]}
        requests.post(f"{server.address}/v1/volumes/{session._id}/segment", json=far, headers=headers, timeout=5)
        requests.get(f"{server.address}/v1/Doe^John?key={key}", headers=headers, timeout=5)
        requests.get(f"{server.address}/v1/models", headers={"Authorization": f"Bearer {key}x"}, timeout=5)

        def broken(*args):
            raise RuntimeError(f"a defect that tells of voxel {31336 + 1}")

        network.decode = broken
        with pytest.raises(ServerError) as caught:
            session.segment([*clicks, clicks[0]])
        assert caught.value.problem is Problem.SERVER_FAULT
        metrics = requests.get(f"{server.address}/metrics", headers=headers, timeout=5).text
    ours = [record for record in caplog.records if not record.name.startswith("urllib3")]
    logged = "\n".join([*(record.getMessage() for record in ours), *(record.exc_text or "" for record in ours)])
    assert "/v1/volumes/{id}/segment 200" in logged
    assert "RuntimeError in /v1/volumes/{id}/segment" in logged
    position = str(clicks[0].position[2])
    for secret in (key, "Doe", "987654", "31337", session._id, position):
        assert secret not in logged.replace(server.address, "")
    for secret in (key, "Doe", "anna", "987654", session._id):
        assert secret not in metrics


def test_the_openapi_names_every_call(server):
    described = requests.get(f"{server.address}/openapi.json", timeout=5).json()
    assert set(described["paths"]) == {
        "/healthz",
        "/metrics",
        "/v1/models",
        "/v1/volumes/{id}",
        "/v1/volumes/{id}/tiles",
        "/v1/volumes/{id}/segment",
    }
