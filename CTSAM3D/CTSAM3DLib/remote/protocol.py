"""The wire protocol: binary messages of JSON fields and arrays, whose sizes are checked before memory is allocated.

A message is `CT3D`, the version (2 bytes) and the length (4 bytes) of a JSON header, little endian, the header, and
the arrays, each compressed by zstandard. Of 16-bit voxels all low bytes precede all high bytes, which makes a CT a
sixth smaller. The header states dtype, shape and packed bytes of every array; an array larger than the reader allows is
not unpacked. Arrays are z, y, x.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.imaging.constants import PATCH
from CTSAM3DLib.segmentation.canvas import Canvas
from CTSAM3DLib.segmentation.growth import Patch
from CTSAM3DLib.segmentation.patch_grid import ModelGrid, Start, TileIndex

PROTOCOL = 1
"""Version of the protocol, raised when an older client or server would misunderstand a message."""
PROTOCOL_HEADER = "CTSAM3D-Protocol"
"""HTTP header with the version of the protocol, in every response of a server, refusals included."""
VOLUME_HEADER = "X-Session-Id"
"""HTTP header with the id of the volume, by which load balancers keep a volume on one of several servers."""
MEDIA_TYPE = "application/x-ctsam3d"
DEFAULT_PORT = 8900

MAX_CLICKS = 1024
"""Clicks in one list."""
MAX_TILES = 4
"""Tiles in one upload."""
MAX_UPLOAD = MAX_TILES * (2 * PATCH**3 + 4096)
"""Bytes of one upload, even if its voxels do not compress."""
MAX_PATCHES = 2**17

_MAGIC = b"CT3D"
_START = struct.Struct("<4sHI")
_MAX_HEADER = 2**16
_LEVEL = 3
_MAX_WINDOW = 2**23


class ProtocolError(CTSAM3DError):
    """A received message violates the protocol."""


@dataclass(frozen=True)
class ArrayLimit:
    """The limits of a reader for one array: its dtype, and its largest size along each axis."""

    dtype: str
    max_shape: tuple[int, ...]


def pack(fields: Mapping[str, Any], arrays: Sequence[NDArray[Any]]) -> bytes:
    """Pack JSON fields and arrays (uint8, int16 or int32) into a message."""
    compressor = zstandard.ZstdCompressor(level=_LEVEL)
    packed = [compressor.compress(_bytes_of(array)) for array in arrays]
    described = [
        {"dtype": array.dtype.name, "shape": list(array.shape), "packed_bytes": len(data)}
        for array, data in zip(arrays, packed, strict=True)
    ]
    header = json.dumps({**fields, "arrays": described}, separators=(",", ":")).encode()
    return b"".join((_START.pack(_MAGIC, PROTOCOL, len(header)), header, *packed))


def unpack(data: bytes, allowed: Sequence[ArrayLimit]) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    """Unpack a message into JSON fields and arrays, within these limits. Raises ProtocolError."""
    if len(data) < _START.size or data[: len(_MAGIC)] != _MAGIC:
        raise ProtocolError("The message is not one of CT-SAM3D.")
    _, version, header_length = _START.unpack_from(data)
    if version != PROTOCOL:
        raise ProtocolError(f"The message has version {version} of the protocol, and this program speaks {PROTOCOL}.")
    if header_length > _MAX_HEADER or _START.size + header_length > len(data):
        raise ProtocolError("The message's header is longer than it can be.")
    try:
        fields = json.loads(data[_START.size : _START.size + header_length])
        described = [_Described(**entry) for entry in fields.pop("arrays")]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ProtocolError("The message's header cannot be read.") from error
    if len(described) > len(allowed):
        raise ProtocolError(f"The message holds {len(described)} arrays; at most {len(allowed)} are allowed.")
    for entry, limit in zip(described, allowed, strict=False):
        entry.check(limit)
    position = _START.size + header_length
    if position + sum(entry.packed_bytes for entry in described) != len(data):
        raise ProtocolError("The message is shorter or longer than its header says.")
    arrays = []
    for entry in described:
        arrays.append(entry.read(data[position : position + entry.packed_bytes]))
        position += entry.packed_bytes
    return fields, arrays


@dataclass(frozen=True)
class _Described:
    """The description of an array in a header; not trusted before `check`."""

    dtype: str
    shape: list[int]
    packed_bytes: int

    def check(self, allowed: ArrayLimit) -> None:
        numbers = [*self.shape, self.packed_bytes] if isinstance(self.shape, list) else [None]
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise ProtocolError("The message's header gives an array a size that is none.")
        if self.dtype != allowed.dtype:
            raise ProtocolError(f"The message holds an array of another type than {allowed.dtype}.")
        largest = allowed.max_shape
        if len(self.shape) != len(largest) or any(n > limit for n, limit in zip(self.shape, largest, strict=True)):
            bounds = "x".join(map(str, largest))
            raise ProtocolError(f"The message holds an array that is larger than {bounds} or of other dimensions.")

    def read(self, data: bytes) -> NDArray[Any]:
        dtype = np.dtype(self.dtype).newbyteorder("<")
        size = math.prod(self.shape) * dtype.itemsize
        try:
            # The size in the frame itself decides how much the library allocates.
            if zstandard.get_frame_parameters(data).content_size != size:
                raise ProtocolError("The message holds an array that unpacks to another size than its header says.")
            decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
            raw = decompressor.decompress(data, max_output_size=size, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise ProtocolError("The message holds an array that cannot be unpacked.") from error
        if dtype.itemsize == 2:
            raw = np.frombuffer(raw, np.uint8).reshape(2, -1).T.tobytes()
        return np.frombuffer(raw, dtype).reshape(self.shape).astype(self.dtype, copy=False)


def _bytes_of(array: NDArray[Any]) -> bytes:
    raw = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    if raw.dtype.itemsize == 2:
        return raw.reshape(-1, 1).view(np.uint8).T.tobytes()
    return raw.tobytes()


def tile_shape(index: TileIndex, grid: ModelGrid) -> tuple[int, int, int]:
    """Shape (z, y, x) of the part of a tile that lies in the grid; only this part is sent."""
    z, y, x = (min(PATCH, size - n * PATCH) for n, size in zip(index, grid.shape, strict=True))
    return z, y, x


def pack_tiles(tiles: Mapping[TileIndex, NDArray[np.int16]], grid: ModelGrid) -> bytes:
    """Pack tiles (64, 64, 64), HU, by index into an upload message."""
    inside = [tile[tuple(slice(n) for n in tile_shape(index, grid))] for index, tile in tiles.items()]
    return pack({"tiles": [list(index) for index in tiles]}, inside)


def unpack_tiles(data: bytes, grid: ModelGrid) -> dict[TileIndex, NDArray[np.int16]]:
    """Unpack an upload message: the part of each tile in the grid, HU, by index. Raises ProtocolError."""
    fields, arrays = unpack(data, [ArrayLimit("int16", (PATCH,) * 3)] * MAX_TILES)
    indices = fields.get("tiles")
    if not isinstance(indices, list) or len(indices) != len(arrays):
        raise ProtocolError("The message does not say which tiles it holds.")
    tiles = {}
    for entry, array in zip(indices, arrays, strict=True):
        index = _three_integers(entry)
        if not grid.has_tile(index):
            raise ProtocolError("The message holds a tile that is not in the volume.")
        if array.shape != tile_shape(index, grid):
            raise ProtocolError("The message holds a tile whose shape is not that of its part of the volume.")
        tiles[index] = array
    return tiles


def max_response_bytes(grid: ModelGrid) -> int:
    """Bytes of the longest response about a volume with this grid."""
    raw = math.prod(size + 2 * PATCH for size in grid.shape) + MAX_PATCHES * (16 + 12)
    return raw + raw // 128 + 2 * _MAX_HEADER  # incompressible data becomes a little longer


@dataclass(frozen=True)
class SegmentResponse:
    """A server's response to clicks: the mask so far, and the tiles that the next inference step needs."""

    final: bool
    quality: float
    patches: tuple[Patch, ...]
    values: NDArray[np.uint8]
    """Probabilities around the mask on the model grid, as `Canvas.dense` returns them, from `start` on."""
    start: Start
    needed: tuple[TileIndex, ...]

    @property
    def canvas(self) -> Canvas:
        """The mask as a canvas, empty outside the mask's box."""
        return Canvas.of_dense(self.values, self.start)

    def pack(self) -> bytes:
        """The response as a message."""
        patches = np.array([(*patch.start, patch.hops) for patch in self.patches], np.int32).reshape(-1, 4)
        needed = np.array(self.needed, np.int32).reshape(-1, 3)
        fields = {"final": self.final, "quality": self.quality, "start": list(self.start)}
        return pack(fields, [self.values, patches, needed])

    @classmethod
    def unpack(cls, data: bytes, grid: ModelGrid) -> SegmentResponse:
        """The response in a message about a volume with this grid. Raises ProtocolError."""
        z, y, x = (size + 2 * PATCH for size in grid.shape)  # patches may reach beyond the grid
        limits = [
            ArrayLimit("uint8", (z, y, x)),
            ArrayLimit("int32", (MAX_PATCHES, 4)),
            ArrayLimit("int32", (MAX_PATCHES, 3)),
        ]
        fields, arrays = unpack(data, limits)
        final, quality = fields.get("final"), fields.get("quality")
        if len(arrays) != len(limits) or not isinstance(final, bool):
            raise ProtocolError("The answer lacks a part.")
        if isinstance(quality, bool) or not isinstance(quality, (int, float)) or not 0 <= quality <= 1:
            raise ProtocolError("The answer's quality is none.")
        values, patches, needed = arrays
        start = _three_integers(fields.get("start"))
        if any(abs(n) > size + PATCH for n, size in zip(start, grid.shape, strict=True)):
            raise ProtocolError("The answer's mask lies outside of the volume.")
        wanted = [(z, y, x) for z, y, x in needed.tolist()]
        if len(set(wanted)) < len(wanted) or not all(grid.has_tile(index) for index in wanted):
            raise ProtocolError("The answer asks for tiles that are not in the volume.")
        return cls(
            final=final,
            quality=float(quality),
            patches=tuple(Patch((z, y, x), hops) for z, y, x, hops in patches.tolist()),
            values=values,
            start=start,
            needed=tuple(wanted),
        )


def _three_integers(entry: Any) -> tuple[int, int, int]:
    if not isinstance(entry, list) or len(entry) != 3 or not all(type(n) is int and abs(n) < 2**31 for n in entry):
        raise ProtocolError("The message holds a position that is not three integers.")
    z, y, x = entry
    return z, y, x
