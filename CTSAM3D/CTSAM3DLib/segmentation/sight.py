"""What the network knows of a patch before any click: the CT as it sees it, and the vectors and places of its voxels.

Arrays are (z, y, x), or have kinds first. Those of 32³ lie on every other voxel of the patch's 64³.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from CTSAM3DLib.imaging.constants import PATCH
from CTSAM3DLib.imaging.geometry import Box
from CTSAM3DLib.segmentation.patch_grid import Start

Floats = NDArray[np.float32]

ALIENATION = 0.3
"""Difference of the cosine from 1 at which likeness has fallen to 1/e."""


DEPTHS = np.minimum(np.arange(1, PATCH + 1), np.arange(PATCH, 0, -1)).astype(np.uint8)
"""How deep in a patch its voxels lie along one axis."""


@dataclass(frozen=True)
class Known:
    """Vector (width,) and place (3,) of one voxel; no place where the network knows none."""

    vector: Floats
    place: Floats | None


@dataclass(frozen=True)
class Sight:
    """One patch."""

    start: Start
    hu: Floats
    """Clipped to the window of the network; 64³."""
    vectors: Floats
    """Of length 1, (width, 32, 32, 32)."""
    places: Floats | None
    """(3, 32, 32, 32)."""
    changes: Floats
    """Half the squared change of vectors, and of places (0 without), to the next voxel: (2, axis, 32, 32, 32)."""

    @classmethod
    def of(cls, start: Start, hu: Floats, known: Floats, width: int) -> Sight:
        """`known` are vectors and, where the network has them, places: (width or width + 3, 32, 32, 32)."""
        vectors, places = known[:width], known[width:] if len(known) > width else None
        changes = np.zeros((2, 3, *known.shape[1:]), np.float32)
        for kind, maps in enumerate((vectors, places)):
            for axis in range(3):
                if maps is not None:
                    between = 0.5 * np.square(np.diff(maps, axis=axis + 1)).sum(axis=0)
                    changes[kind, axis][tuple(slice(n) for n in between.shape)] = between
        return cls(start, hu, vectors, places, changes)

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        places = 0 if self.places is None else self.places.nbytes
        return self.hu.nbytes + self.vectors.nbytes + places + self.changes.nbytes

    def within(self, box: Box) -> tuple[Box, Box]:
        """What the patch shares with a box of the grid: as slices of the box, and of the patch; maybe empty."""
        of_box, of_patch = [], []
        for axis, start in zip(box, self.start, strict=True):
            low = min(max(axis.start, start), axis.stop)
            high = max(low, min(axis.stop, start + PATCH))
            of_box.append(slice(low - axis.start, high - axis.start))
            of_patch.append(slice(low - start, high - start))
        return (of_box[0], of_box[1], of_box[2]), (of_patch[0], of_patch[1], of_patch[2])

    def at(self, voxel: NDArray[np.int_]) -> Known:
        """What is known of a voxel (z, y, x) of the grid that lies in the patch."""
        z, y, x = (voxel - np.array(self.start)) // 2
        return Known(self.vectors[:, z, y, x], None if self.places is None else self.places[:, z, y, x])

    def likeness(self, part: Box, clicked: Sequence[Known]) -> tuple[Floats | None, Floats | None]:
        """How like the voxels of a part of 32³ are to the one of `clicked` most like them, 0..1.

        In kind, and in kind and place at once; None where there is nothing to be like.
        """
        if not clicked:
            return None, None
        vectors = self.vectors[(slice(None), *part)]
        shape = vectors.shape[1:]
        # By einsum, not by BLAS, whose sums may depend on the number of threads.
        given = np.stack([known.vector for known in clicked])
        cosines = np.einsum("nc,cv->nv", given, vectors.reshape(len(vectors), -1))
        kind = np.exp((cosines.max(axis=0) - 1) / np.float32(ALIENATION)).reshape(shape)
        if self.places is None:
            return kind, None
        places = self.places[(slice(None), *part)].reshape(3, -1)
        away = np.ones_like(cosines)
        of_clicks = np.stack([known.place for known in clicked if known.place is not None], axis=1)
        for place, of_click in zip(places, of_clicks, strict=True):
            away += np.square(place - of_click[:, None])
        both = np.exp((cosines - 1) / np.float32(ALIENATION)) / away
        return kind, both.max(axis=0).reshape(shape)


def finer(values: Floats, step: int, box: Box) -> Floats:
    """Values of voxels `step` times as large interpolated linearly to those of a box that begins with them."""
    if step == 1:
        return values
    for axis, target in enumerate(box):
        size = values.shape[axis]
        position = (np.arange(target.stop - target.start, dtype=np.float32) - (step - 1) / 2) / step
        values = lerp(values, axis, np.clip(position, 0, size - 1))
    return values


def lerp(values: Floats, axis: int, position: NDArray[np.floating]) -> Floats:
    """The values interpolated linearly at positions of one axis that lie within it."""
    below = np.minimum(position.astype(np.intp), max(values.shape[axis] - 2, 0))
    above = np.minimum(below + 1, values.shape[axis] - 1)
    weight = (position - below).astype(np.float32).reshape([-1 if other == axis else 1 for other in range(3)])
    low: Floats = values.take(below, axis)
    high: Floats = values.take(above, axis)
    high -= low
    high *= weight
    high += low
    return high
