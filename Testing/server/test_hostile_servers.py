"""A server may be broken, or another's: a client takes nothing from it that is too long, too slow or makes no sense."""

from __future__ import annotations

import gzip
import itertools
import json
import threading
import time
import tracemalloc

import numpy as np
import pytest

from CTSAM3DLib import connect
from CTSAM3DLib.checkpoints.model_info import ModelInfo
from CTSAM3DLib.errors import Cancelled, Problem, ServerError
from CTSAM3DLib.remote.connection import MAX_RESPONSE, Connection, Endpoint
from CTSAM3DLib.remote.protocol import MAX_PATCHES, MEDIA_TYPE, PROTOCOL, PROTOCOL_HEADER, SegmentResponse, pack
from CTSAM3DLib.remote.remote_segmenter import RemoteSession, ServedModel
from Testing.server.other_programs import answering

OURS = {PROTOCOL_HEADER: str(PROTOCOL)}
MODEL = {
    "name": "a",
    "hash": "b",
    "window": [-1000, 1000],
    "spacing": 1.5,
    "cross_patch": False,
    "labels": [],
    "data_hash": "",
    "licence": "",
    "card": "",
}


def refused(call, problem: Problem, words: str | None = None) -> None:
    with pytest.raises(ServerError, match=words) as caught:
        call()
    sentence = str(caught.value)
    assert caught.value.problem is problem, sentence
    assert sentence.isprintable()
    assert len(sentence) < 500


def endless():
    return itertools.repeat(b" " * 2**16)


@pytest.mark.parametrize("status", [200, 422])
@pytest.mark.parametrize("body", [b" " * (MAX_RESPONSE + 1), endless()], ids=["long", "endless"])
def test_answers_that_are_too_long_are_not_kept(status, body):
    with answering(status, "application/json", body, OURS) as address:
        tracemalloc.start()
        refused(lambda: connect(address), Problem.OTHER_PROGRAM, "more than was asked")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert most < 8 * MAX_RESPONSE


def test_answers_that_come_too_slowly_are_given_up(monkeypatch):
    monkeypatch.setattr("CTSAM3DLib.remote.connection.MAX_BODY_S", 0.2)

    def dripping():
        for _ in range(100):
            time.sleep(0.02)
            yield b" " * 4096

    with answering(200, "application/json", dripping(), OURS) as address:
        refused(lambda: connect(address), Problem.TIMEOUT, "too long")


def test_answers_that_unpack_by_themselves_are_not_unpacked():
    bomb = gzip.compress(bytes(2**24))
    with answering(200, "application/json", bomb, {**OURS, "Content-Encoding": "gzip"}) as address:
        refused(lambda: connect(address), Problem.PROXY, "compresses")


@pytest.mark.parametrize(
    "change",
    [
        {"name": "a|b"},
        {"name": ""},
        {"name": "a\nb"},
        {"name": "a" * 300},
        {"hash": "a|b"},
        {"window": [1, float("nan")]},
        {"window": [1000, -1000]},
        {"window": [1, 10**400]},
        {"window": [1, 2, 3]},
        {"spacing": float("inf")},
        {"spacing": 0},
        {"labels": 3},
    ],
)
def test_models_that_are_none(change):
    body = json.dumps({"version": "1", "device": "cpu", "models": [{**MODEL, **change}]}).encode()
    with answering(200, "application/json", body, OURS) as address:
        refused(lambda: connect(address), Problem.OTHER_PROGRAM, "cannot be read")


def test_json_that_is_none():
    for body in (b"[" * 100_000, b'{"models": ' * 10_000, b"9" * 5000, b"\xff", b"null", b'{"models": []}'):
        with answering(200, "application/json", body, OURS) as address:
            refused(lambda address=address: connect(address), Problem.OTHER_PROGRAM, "cannot be read")


def test_reasons_that_are_none_or_too_long():
    for body, words in (
        (json.dumps({"detail": "a\n\x1b[31mb \u202e" + "c" * 9999}).encode(), r"^a \[31mb c+…$"),
        (json.dumps({"detail": ["a"]}).encode(), "without a reason"),
        (b"[" * 100_000, "without a reason"),
    ):
        with answering(422, "application/json", body, OURS) as address:
            refused(lambda address=address: connect(address), Problem.REFUSED, words)


@pytest.mark.parametrize("version", ["9" * 5000, "-1", "1.0", "", "one"])
def test_versions_that_are_none(version):
    with answering(200, "application/json", b"{}", {PROTOCOL_HEADER: version}) as address:
        refused(lambda: connect(address), Problem.OTHER_PROGRAM)


def session_on(address: str, volume) -> RemoteSession:
    return RemoteSession(Connection(lambda: Endpoint(address)), volume, ServedModel(ModelInfo("a", (-1000, 1000)), "b"))


def answer(needed=(), **fields) -> bytes:
    arrays = [np.zeros((0, 0, 0), np.uint8), np.zeros((0, 4), np.int32), np.array(needed, np.int32).reshape(-1, 3)]
    return pack({"final": True, "quality": 0.5, "start": [0, 0, 0], **fields}, arrays)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"CT3D", "not one of CT-SAM3D"),
        (answer([[0, 0, 0]] * (MAX_PATCHES + 1)), "larger than"),
        (answer([[0, 0, 900]]), "tiles that are not in the volume"),
        (answer([[-1, 0, 0]]), "tiles that are not in the volume"),
        (answer([[0, 0, 0], [0, 0, 0]]), "tiles that are not in the volume"),
        (answer(quality=10**400), "quality"),
        (answer(quality=float("nan")), "quality"),
        (answer(quality=True), "quality"),
        (answer(final=1), "lacks a part"),
        (answer(start=[0, 0, 2**40]), "integers"),
        (answer(start=[0, 0, 999]), "outside of the volume"),
        (SegmentResponse(True, 0.5, (), np.zeros((500, 1, 1), np.uint8), (0, 0, 0), ()).pack(), "larger than"),
    ],
)
def test_masks_that_are_none(tube, clicks, body, words):
    with answering(200, MEDIA_TYPE, body, OURS) as address:
        refused(lambda: session_on(address, tube).segment(clicks), Problem.OTHER_PROGRAM, words)


def test_a_mask_that_never_ends_can_be_cancelled(tube, clicks, monkeypatch):
    monkeypatch.setattr("CTSAM3DLib.remote.remote_segmenter.max_response_bytes", lambda grid: 2**40)
    stop = threading.Event()
    body = itertools.chain([b"CT3D"], iter(lambda: (stop.set(), b" " * 2**16)[1], None))
    with answering(200, MEDIA_TYPE, body, OURS) as address:
        session = session_on(address, tube)
        session._registered = True
        with pytest.raises(Cancelled):
            session.segment(clicks, cancel=stop)
