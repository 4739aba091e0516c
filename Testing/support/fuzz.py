"""Requests that are wrong in every way that a server can meet, and what has to be true of its answers.

Case n of a seed is always the same, so that one that a server answers wrongly can be sent again alone.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import requests
import zstandard

from CTSAM3DLib.imaging.constants import PATCH
from CTSAM3DLib.remote.protocol import MAX_CLICKS, MAX_TILES, MAX_UPLOAD, PROTOCOL, PROTOCOL_HEADER, pack, pack_tiles
from CTSAM3DLib.segmentation.patch_grid import ModelGrid
from CTSAM3DServer.admission import MAX_JSON

ID = "f" * 64
SIDE = 100
"""Voxels along each axis of the volume that the server knows, on its own grid and on the model's."""

_REFUSALS = (400, 404, 405, 408, 413, 422, 429)
_MAX_SENTENCE = 300


@dataclass(frozen=True)
class Case:
    """One request; `refused` where no right server may take it."""

    kind: str
    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    refused: bool = True


class Fuzzer:
    """The cases of one seed, for a server that knows the volume `ID` and has `model` with voxels of `spacing` mm."""

    def __init__(self, seed: int, model: str, spacing: float) -> None:
        self._seed = seed
        self._model = model
        self._spacing = spacing
        self._grid = ModelGrid((0, 0, 0), (SIDE,) * 3, spacing)
        rng = np.random.default_rng(seed)
        noise, air = rng.integers(-1024, 3071, (PATCH,) * 3, np.int16), np.zeros((PATCH,) * 3, np.int16)
        tiles = {(0, 0, 0): air, (0, 0, 1): noise, (1, 1, 1): air}
        self._messages = [pack_tiles({index: tile}, self._grid) for index, tile in tiles.items()]
        self._packed = zstandard.compress(bytes(2 * PATCH**3))
        self._bombs = _bombs()

    @property
    def volume(self) -> dict[str, Any]:
        """The volume as it is told to the server."""
        return {
            "shape": [SIDE] * 3,
            "origin": [0.0, 0.0, 0.0],
            "spacing": [self._spacing] * 3,
            "direction": [1, 0, 0, 0, 1, 0, 0, 0, 1],
            "model_spacing": self._spacing,
        }

    @property
    def clicks(self) -> dict[str, Any]:
        """Clicks that the server can answer."""
        middle = SIDE / 2 * self._spacing
        return {"clicks": [{"position": [middle] * 3}], "model": self._model, "reach": "patch"}

    def case(self, number: int) -> Case:
        """The case of this number."""
        rng = random.Random(f"{self._seed}/{number}")
        makers: list[Callable[[random.Random], Case]] = [
            self._truncated,
            self._flipped,
            self._noise,
            self._wrong_dtype,
            self._lying_header,
            self._bomb,
            self._tiles_out_of_the_grid,
            self._too_many_tiles,
            self._geometry,
            self._shape,
            self._fields,
            self._positions,
            self._clicks,
            self._unknown_id,
            self._address,
            self._broken_json,
        ]
        if number % 100 == 0:  # each of these is megabytes
            return self._oversized(rng)
        return makers[number % len(makers)](rng)

    # The binary call.

    def _upload(self, kind: str, body: bytes, refused: bool = True, volume_id: str = ID) -> Case:
        return Case(kind, "PUT", f"/v1/volumes/{volume_id}/tiles", body, {}, refused)

    def _truncated(self, rng: random.Random) -> Case:
        message = rng.choice(self._messages)
        return self._upload("truncated", message[: rng.randrange(len(message))])

    def _flipped(self, rng: random.Random) -> Case:
        message = bytearray(rng.choice(self._messages))
        for _ in range(rng.choice((1, 1, 2, 8, 64))):
            where = rng.choice((min(len(message), 200), len(message)))  # the header, or anywhere
            message[rng.randrange(where)] = rng.randrange(256)
        return self._upload("bytes changed", bytes(message), refused=False)

    def _noise(self, rng: random.Random) -> Case:
        start = rng.choice((b"", b"CT3D", struct.pack("<4sHI", b"CT3D", PROTOCOL, rng.choice((0, 2, 100, 2**32 - 1)))))
        return self._upload("noise", start + rng.randbytes(rng.choice((0, 1, 10, 1000, 50_000))))

    def _wrong_dtype(self, rng: random.Random) -> Case:
        if rng.random() < 0.5:
            dtype = rng.choice((np.uint8, np.int32))
            return self._upload("wrong dtype", pack({"tiles": [[0, 0, 0]]}, [np.zeros((PATCH,) * 3, dtype)]))
        name = rng.choice(
            ("object", "float64", "uint16", ">i2", "<i2", "int16,int16", "V2", "S4", "", "int16\0", "a" * 999)
        )
        return self._upload("wrong dtype", self._described(rng, dtype=rng.choice((name, None, 3, [name], {name: 1}))))

    def _lying_header(self, rng: random.Random) -> Case:
        lies: list[dict[str, Any]] = [
            {"shape": _changed(rng, [PATCH] * 3, (-64, -1, 0, 1, 63, 65, 2**31, 2**63, 1e300, True, None, "64", [64]))},
            {"shape": rng.choice(([PATCH], [PATCH] * 2, [PATCH] * 4, [PATCH] * 9999, [], {}, None, 64, "64"))},
            {
                "size": rng.choice(
                    (-1, 0, 1, len(self._packed) - 1, len(self._packed) + 1, 2**31, 2**63, 1.5, None, "9")
                )
            },
            {"version": rng.choice((0, PROTOCOL + 1, 255, 2**16 - 1))},
            {"length": rng.choice((0, 1, 50, 2**16, 2**16 + 1, 2**31, 2**32 - 1))},
        ]
        return self._upload("lying header", self._described(rng, **rng.choice(lies)))

    def _bomb(self, rng: random.Random) -> Case:
        return self._upload("zip bomb", self._described(rng, packed=rng.choice(self._bombs)))

    def _tiles_out_of_the_grid(self, rng: random.Random) -> Case:
        far = (-1, 2, 3, -(2**31), 2**31, 2**63, 2**70)
        odd = (0.0, 0.5, None, True, "0", [0])
        index = _changed(rng, [0, 0, 0], (*far, *odd))
        tiles = rng.choice(([index], [index], [index[:2]], [[*index, 0]], [], index, None, {}, [[0, 0, 0], index]))
        return self._upload("tiles out of the grid", self._described(rng, tiles=tiles))

    def _too_many_tiles(self, rng: random.Random) -> Case:
        count = MAX_TILES + rng.randint(1, 9)
        arrays = [np.zeros(rng.choice(((0, 0, 0), (1, 1, 1), (PATCH,) * 3)), np.int16)] * count
        return self._upload("too many tiles", pack({"tiles": [[0, 0, 0]] * count}, arrays))

    def _oversized(self, rng: random.Random) -> Case:
        if rng.random() < 0.5:
            return self._upload("oversized", bytes(MAX_UPLOAD + rng.choice((1, 1000, 10**6))))
        return self._json("oversized", "PUT", "", b" " * (MAX_JSON + rng.choice((1, 1000, 10**6))))

    def _described(
        self,
        rng: random.Random,
        packed: bytes | None = None,
        dtype: Any = "int16",
        shape: Any = (PATCH,) * 3,
        size: Any = ...,
        tiles: Any = ((0, 0, 0),),
        version: int = PROTOCOL,
        length: int | None = None,
    ) -> bytes:
        """A message of one tile whose header says this of it."""
        packed = self._packed if packed is None else packed
        about = {"dtype": dtype, "shape": shape, "packed_bytes": len(packed) if size is ... else size}
        header = json.dumps({"tiles": tiles, "arrays": [about]}).encode()
        return struct.pack("<4sHI", b"CT3D", version, len(header) if length is None else length) + header + packed

    # The calls in JSON.

    def _json(self, kind: str, method: str, call: str, body: Any, refused: bool = True, volume_id: str = ID) -> Case:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        path = f"/v1/volumes/{volume_id}{call}"
        return Case(kind, method, path, data, {"Content-Type": "application/json"}, refused)

    def _geometry(self, rng: random.Random) -> Case:
        wrong = (float("nan"), float("inf"), float("-inf"), 1e10, -1e10, None, "1", [1.0], True)
        name = rng.choice(("origin", "spacing", "direction"))
        worse = {"origin": (1e9, -5e6), "spacing": (0, -1, 1e-300, 1e8), "direction": (1e9, 1e-9)}[name]
        value = _changed(rng, self.volume[name], (*wrong, *worse))
        if name == "direction" and rng.random() < 0.3:
            value = rng.choice(([0] * 9, [1] * 9, [1, 0, 0, 1, 0, 0, 0, 0, 1]))
        return self._json("NaN and other geometry", "PUT", "", {**self.volume, name: value}, refused=False)

    def _shape(self, rng: random.Random) -> Case:
        wrong = (-1, 0, -(2**31), 4097, 2**31, 2**63, 2**70, 1.5, float("nan"), None, "many", [])
        shape = rng.choice((_changed(rng, [SIDE] * 3, wrong), [SIDE] * rng.choice((0, 1, 2, 4, 500)), [4096] * 3))
        return self._json("negative and other shapes", "PUT", "", {**self.volume, "shape": shape})

    def _fields(self, rng: random.Random) -> Case:
        body = self.volume
        name = rng.choice(list(body))
        if rng.random() < 0.5:
            del body[name]
        else:
            body[rng.choice(("patient", "", "__class__", name.upper(), "\u0000", "é" * 100))] = "John"
        return self._json("fields missing or unknown", "PUT", "", body)

    def _positions(self, rng: random.Random) -> Case:
        far = (float("nan"), float("inf"), 1e308, -1e9, 1e9, 2 * SIDE * self._spacing, -5.0)
        position = _changed(rng, self.clicks["clicks"][0]["position"], (*far, None, "0", [0.0], {}))
        clicks = [{"position": rng.choice((position, position[:2], [*position, 0.0], [], None, {}))}]
        return self._json("clicks nowhere", "POST", "/segment", {**self.clicks, "clicks": clicks})

    def _clicks(self, rng: random.Random) -> Case:
        (click,) = self.clicks["clicks"]
        changes: list[dict[str, Any]] = [
            {"clicks": []},
            {"clicks": [click] * (MAX_CLICKS + 1)},
            {"clicks": [{**click, "positive": rng.choice((False, None, "maybe", 7, []))}]},
            {"clicks": rng.choice((None, {}, 1, "click", [None], [[]], [click, 1]))},
            {"reach": rng.choice(("everywhere", "", None, 1, [], "Patch", "\u0000"))},
            {"model": rng.choice(("other", "", None, 1, "../" * 50, "m" * 257, "\u0000"))},
            {rng.choice(("patient", "session", "\u202e")): 1},
        ]
        return self._json("clicks of another kind", "POST", "/segment", {**self.clicks, **rng.choice(changes)})

    def _unknown_id(self, rng: random.Random) -> Case:
        unknown = f"{rng.getrandbits(256):064x}"
        if rng.random() < 0.5:
            return self._upload("unknown id", rng.choice(self._messages), volume_id=unknown)
        return self._json("unknown id", "POST", "/segment", self.clicks, volume_id=unknown)

    def _address(self, rng: random.Random) -> Case:
        odd = (
            "",
            "..",
            "%2e%2e%2fkeys",
            "F" * 64,
            "f" * 63,
            "f" * 65,
            "%00" * 64,
            "é" * 64,
            "a" * 5000,
            ID + "%0a",
            "{id}",
        )
        wrong = rng.choice((f"/v1/volumes/{rng.choice(odd)}", f"/v1/{rng.choice(odd)}", f"/{rng.choice(odd)}"))
        ends = ("/segment", "/tiles", "/tiles/0", "/segment?clicks=1", "?" + "x" * 2000)
        method = rng.choice(("GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"))
        body = json.dumps(rng.choice((self.volume, self.clicks))).encode()
        return Case(
            "addresses and methods", method, wrong + rng.choice(ends), body, {"Content-Type": "application/json"}
        )

    def _broken_json(self, rng: random.Random) -> Case:
        method, call, right = rng.choice((("PUT", "", self.volume), ("POST", "/segment", self.clicks)))
        text = json.dumps(right).encode()
        where = rng.randrange(len(text))
        broken = rng.choice(
            (
                text[:where],
                text + b"}",
                b"[" * 100_000,
                b'{"a":' * 30_000,
                b"\xff\xfe" + text,
                text.replace(b"[", b"[" + b"9" * rng.choice((400, 5000)), 1),
                b"\0" * 100,
                rng.choice((b"null", b"1", b'"text"', b"[]", b"NaN")),
                text[:where] + b"\x80" + text[where:],
            )
        )
        case = self._json("broken JSON", method, call, broken)
        kinds = ("application/json", "text/plain", "multipart/form-data", "application/x-ctsam3d", "é".encode(), "")
        return Case(case.kind, case.method, case.path, case.body, {"Content-Type": rng.choice(kinds)})


def _changed(rng: random.Random, values: list[Any], wrong: tuple[Any, ...]) -> list[Any]:
    """The values with one of them, or more, replaced by wrong ones."""
    changed = list(values)
    for position in rng.sample(range(len(values)), rng.randint(1, len(values))):
        changed[position] = rng.choice(wrong)
    return changed


def _bombs() -> list[bytes]:
    """Zstandard frames of zeros that would fill gigabytes, or say that they do, or do not say it."""
    compressor = zstandard.ZstdCompressor(write_content_size=False)
    right = bytes(2 * PATCH**3)
    silent = [compressor.compress(right), compressor.compress(bytes(2**27))]
    told = zstandard.compress(bytes(2**27))
    frame = zstandard.compress(right)
    # Behind the 4 bytes of magic stands a descriptor, and behind that, of frames of this kind, the content's size.
    lying = [frame[:5] + struct.pack("<I", size) + frame[9:] for size in (0, 1, 2**31, 2**32 - 1)]
    skippable = struct.pack("<II", 0x184D2A50, 2**31) + b"skipped"
    wide = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters(window_log=27, write_content_size=False)
    ).compress(right)
    return [*silent, told, *lying, skippable, wide, frame * 50, skippable + frame]


def send(session: requests.Session, address: str, case: Case) -> requests.Response:
    """The server's answer; OSError where there is none."""
    return session.request(
        case.method, address + case.path, data=case.body, headers=dict(case.headers), timeout=30, allow_redirects=False
    )


def complaint(case: Case, answer: requests.Response) -> str | None:
    """What is wrong with an answer, or None: right ones are taken, and all others refused in one clear sentence."""
    status = answer.status_code
    if answer.headers.get(PROTOCOL_HEADER) != str(PROTOCOL):
        return f"{status} without the head of our answers"
    if status in (200, 204):
        return f"{status}, though it is wrong" if case.refused else None
    if status not in _REFUSALS:
        return f"{status}: {answer.text[:200]}"
    try:
        told = answer.json()
    except ValueError:
        return f"{status} without JSON"
    if list(told) != ["detail"] or not isinstance(told["detail"], str):
        return f"{status} with something else than a sentence: {told}"
    sentence = told["detail"]
    whole = sentence.endswith(".") and sentence[:1].isupper() and sentence.isprintable()
    if not whole or len(sentence) > _MAX_SENTENCE or ". " in sentence:
        return f"{status} without one clear sentence: {sentence[:_MAX_SENTENCE]}"
    return None
