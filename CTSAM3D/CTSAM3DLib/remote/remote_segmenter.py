"""Segmentation on a server: `connect(address, key)`, then `.open(volume)` and `.segment(clicks)` as with `Segmenter`.

The client resamples the CT and uploads only the tiles that the network reads. The server keeps no state that the client
depends on: a server that lost its cache asks for the tiles again.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from CTSAM3DLib.cancel import CancelEvent, stop_if_cancelled
from CTSAM3DLib.checkpoints.model_info import ModelInfo
from CTSAM3DLib.clicks.click import Click, check_clicks
from CTSAM3DLib.errors import ClickError, ModelError, Problem, ServerError
from CTSAM3DLib.imaging.constants import PATCH
from CTSAM3DLib.imaging.volume import Volume
from CTSAM3DLib.remote.connection import PARALLEL, Connection, Endpoint, complete_address
from CTSAM3DLib.remote.protocol import (
    MAX_CLICKS,
    MAX_TILES,
    PROTOCOL,
    VOLUME_HEADER,
    ProtocolError,
    SegmentResponse,
    max_response_bytes,
    pack_tiles,
)
from CTSAM3DLib.segmentation.growth import Reach, check_reach
from CTSAM3DLib.segmentation.patch_grid import TileIndex, TileSampler
from CTSAM3DLib.segmentation.result import Result

MAX_PREPARED = 64
"""Tiles that `prepare` samples at most: a second of work, within the sampler's cache."""
MAX_REPEATS = 8
"""Requests for tiles without progress after which the server's memory is taken to be too small."""


@dataclass(frozen=True)
class ServedModel:
    """A model on a server: its metadata and the SHA-256 of its file."""

    info: ModelInfo
    hash: str


@dataclass(frozen=True)
class ServerInfo:
    """Address, version, device and models of a server."""

    address: str
    version: str
    device: str
    models: tuple[ServedModel, ...]

    def model(self, name: str | None) -> ServedModel:
        """The model of this name, or the first model for None. Raises ModelError."""
        for model in self.models:
            if name in (None, model.info.name):
                return model
        names = ", ".join(model.info.name for model in self.models)
        raise ModelError(f"The server at {self.address} has no model '{name}'; choose one of: {names}.")


def connect(
    address: str, key: str | None = None, ca_file: str | None = None, model: str | None = None
) -> RemoteSegmenter:
    """A segmenter on a server.

    Args:
        address: such as https://gpu:8900; see `complete_address`.
        key: the user's key, where the server asks for one.
        ca_file: PEM file with the certificate of the server's authority, where it is not a public one.
        model: name of a model of the server; by default its first.

    Raises:
        ServerError: the server cannot be used; `problem` is the reason.
        ModelError: the server has no such model.

    """
    endpoint = Endpoint(complete_address(address), key, ca_file)
    return RemoteSegmenter.on(Connection(lambda: endpoint), endpoint.address, model)


def test_connection(address: str, key: str | None = None, ca_file: str | None = None) -> ServerInfo:  # noqa: PT028 - no test
    """Version, device and models of the server at `address`. Raises ServerError; `problem` is the reason."""
    return connect(address, key, ca_file).server


class RemoteSegmenter:
    """A model on a server; opens volumes as `Segmenter` does."""

    def __init__(self, connection: Connection, server: ServerInfo, model: ServedModel) -> None:
        self.server = server
        self.model = model
        self._connection = connection

    @classmethod
    def on(cls, connection: Connection, address: str, model: str | None = None) -> RemoteSegmenter:
        """A segmenter on the server of a connection, after one attempt. Raises ServerError and ModelError."""
        server = _server_info(connection.request("GET", "/v1/models", retry=False), address)
        return cls(connection, server, server.model(model))

    def open(self, volume: Volume) -> RemoteSession:
        """A session on a CT; nothing is sent yet. Raises VolumeError if it cannot be a CT in Hounsfield units."""
        volume.check_ct()
        return RemoteSession(self._connection, volume, self.model)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class RemoteSession:
    """One CT, ready to be clicked, on a server. Safe across threads: calls of `segment` wait for one another."""

    def __init__(self, connection: Connection, volume: Volume, model: ServedModel) -> None:
        self.geometry = volume.geometry
        self.source = TileSampler(volume, model.info.spacing)
        self.grid = self.source.grid
        self.model = model
        self._connection = connection
        self._volume = volume
        self._registered = False
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Register the volume and, if it is small, resample it ahead; uploads no voxel. Raises ServerError."""
        with self._lock:
            if not self._registered:
                self._register_volume(None)
        tiles = [-(-size // PATCH) for size in self.grid.shape]
        if math.prod(tiles) <= MAX_PREPARED:
            for index in np.ndindex(*tiles):
                self.source.tile(index)

    def segment(
        self,
        clicks: Sequence[Click],
        reach: Reach = "structure",
        progress: Callable[[Result], None] | None = None,
        cancel: CancelEvent | None = None,
    ) -> Result:
        """The mask of these clicks, equal to that of a local `Session` bit for bit.

        Args:
            clicks: positions in LPS mm with signs; their order matters.
            reach: how far a positive click may grow.
            progress: called with partial results as the mask grows.
            cancel: once set, the call ends.

        Raises:
            ClickError: as from `Session.segment`, or too many clicks for a server.
            ServerError: the server cannot be used; `problem` is the reason.
            Cancelled: `cancel` was set.

        """
        check_reach(reach)
        clicks = tuple(check_clicks(clicks, self.geometry))
        if len(clicks) > MAX_CLICKS:
            raise ClickError(f"There are more than {MAX_CLICKS} clicks; a server takes no more in one list.")
        shown, before, repeats = 0, -1, 0
        with self._lock:
            while True:
                stop_if_cancelled(cancel)
                response = self._request_mask(clicks, reach, cancel)
                if progress is not None and len(response.patches) > shown:  # a restarted server begins anew
                    progress(self._result(clicks, reach, response, final=False))
                    shown = len(response.patches)
                if response.final:
                    return self._result(clicks, reach, response, final=True)
                stuck = bool(response.needed) and len(response.patches) == before
                before, repeats = len(response.patches), repeats + 1 if stuck else 0
                if repeats > MAX_REPEATS:
                    raise _too_little_memory()
                self._upload(response.needed, cancel)

    @cached_property
    def _id(self) -> str:
        """Hash of the volume's content, geometry and model grid; reveals nothing of the patient."""
        parts = json.dumps([PROTOCOL, self._volume.content_hash, self.grid.spacing])
        return hashlib.sha256(parts.encode()).hexdigest()

    @property
    def _path(self) -> str:
        return f"/v1/volumes/{self._id}"

    def _request(self, method: str, call: str, cancel: CancelEvent | None, **body: Any) -> bytes:
        """Send one request about this volume."""
        headers = {VOLUME_HEADER: self._id}
        return self._connection.request(method, self._path + call, headers=headers, cancel=cancel, **body)

    def _request_mask(self, clicks: tuple[Click, ...], reach: Reach, cancel: CancelEvent | None) -> SegmentResponse:
        body = {"clicks": [click.to_dict() for click in clicks], "reach": reach, "model": self.model.hash}
        for _ in range(MAX_REPEATS):
            if not self._registered:
                self._register_volume(cancel)
            try:
                message = self._request("POST", "/segment", cancel, json=body, max_bytes=max_response_bytes(self.grid))
                return SegmentResponse.unpack(message, self.grid)
            except ProtocolError as error:
                raise ServerError(Problem.OTHER_PROGRAM, f"The server's answer cannot be read: {error}") from error
            except ServerError as error:
                if error.problem is not Problem.UNKNOWN_VOLUME:
                    raise
                self._registered = False
        raise _too_little_memory()

    def _register_volume(self, cancel: CancelEvent | None) -> None:
        body = {
            "shape": self.geometry.shape,
            "origin": self.geometry.origin,
            "spacing": self.geometry.spacing,
            "direction": self.geometry.direction,
            "model_spacing": self.grid.spacing,
        }
        self._request("PUT", "", cancel, json=body)
        self._registered = True

    def _upload(self, needed: Sequence[TileIndex], cancel: CancelEvent | None) -> None:
        """Upload tiles in several concurrent requests; some are resampled while others are on their way."""

        def send(indices: Sequence[TileIndex]) -> None:
            stop_if_cancelled(cancel)
            message = pack_tiles({index: self.source.tile(index) for index in indices}, self.grid)
            self._request("PUT", "/tiles", cancel, data=message)

        size = min(MAX_TILES, -(-len(needed) // PARALLEL)) or 1
        groups = [needed[first : first + size] for first in range(0, len(needed), size)]
        try:
            with ThreadPoolExecutor(PARALLEL, "ctsam3d-upload") as pool:
                list(pool.map(send, groups))
        except ServerError as error:
            if error.problem is not Problem.UNKNOWN_VOLUME:
                raise
            self._registered = False  # the next request registers it again

    def _result(self, clicks: tuple[Click, ...], reach: Reach, response: SegmentResponse, final: bool) -> Result:
        return Result(
            clicks=clicks,
            reach=reach,
            model=self.model.info,
            model_hash=self.model.hash,
            quality=response.quality,
            patches=response.patches,
            final=final,
            canvas=response.canvas,
            grid=self.grid,
            geometry=self.geometry,
        )


def _too_little_memory() -> ServerError:
    return ServerError(
        Problem.BUSY,
        "The server forgets what it was sent before it can use it; its --memory is too small for its users.",
    )


def _server_info(body: bytes, address: str) -> ServerInfo:
    try:
        response = json.loads(body)
        models = tuple(_served_model(entry) for entry in response["models"])
        if not models:
            raise ValueError("no model")
        return ServerInfo(address, str(response["version"]), str(response["device"]), models)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ServerError(
            Problem.OTHER_PROGRAM, f"What {address} says of itself cannot be read; check address and port."
        ) from error


def _served_model(entry: dict[str, Any]) -> ServedModel:
    low, high = (float(value) for value in entry["window"])
    info = ModelInfo(
        name=str(entry["name"]),
        window=(low, high),
        spacing=float(entry["spacing"]),
        cross_patch=bool(entry["cross_patch"]),
        labels=tuple(str(label) for label in entry["labels"]),
        data_hash=str(entry["data_hash"]),
        licence=str(entry["licence"]),
        card=str(entry["card"]),
    )
    model = ServedModel(info, str(entry["hash"]))
    if not (0.1 <= info.spacing <= 100 and -math.inf < low < high < math.inf):
        raise ValueError("spacing or window")
    if not all(_fits_a_tag(text) for text in (info.name, model.hash)):
        raise ValueError("name or hash")
    return model


def _fits_a_tag(text: str) -> bool:
    """Whether the text can be the tag of a segment, which must not contain `|`."""
    return 0 < len(text) <= 256 and text.isprintable() and "|" not in text
