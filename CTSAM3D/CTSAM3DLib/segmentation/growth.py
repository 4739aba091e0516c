"""Cross-patch prompting: from the clicked patch to its neighbours, ring after ring (paper, "CPP", Fig. 2D).

The paper prompts the 26 neighbours of the clicked patch by a heat map and stops there. We go on from every neighbour
whose mask again reaches its border, until no border is open. `docs/cross-patch.md` has the rules with a picture.

Positions are voxels (z, y, x) of the model grid.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.segmentation.canvas import MASK, Canvas
from CTSAM3DLib.segmentation.patch_grid import PATCH, ModelGrid, Start

Reach = Literal["patch", "neighbours", "structure"]
RINGS: dict[Reach, int | None] = {"patch": 0, "neighbours": 1, "structure": None}
"""How many patches away from the clicked one each reach may go; None: as far as there are open borders."""
STRIDE = 48
"""Voxels from a patch to its neighbour: 16 of 64 overlap, which is what the neighbour is told of the mask."""
BORDER = 4
"""Thickness of the layer along a patch's side in which new mask means that the side is open."""
MIN_OPEN = 4
"""Voxels of new mask in that layer that open a side."""
MIN_PEAK = 0.2
"""Peak of a heat map that makes a click; one at the structure's centroid would be 1."""
GROUP = 4
"""Neighbours that are prompted alike before the next see their masks; a partial result follows each group."""
DIRECTIONS = tuple(step for step in itertools.product((-1, 0, 1), repeat=3) if any(step))


@dataclass(frozen=True)
class Patch:
    """A patch that the network answered: where it starts, and how many patches away from the clicked one."""

    start: Start
    ring: int


@dataclass(frozen=True)
class Growth:
    """How far growth has come: the canvas, what was answered beyond the clicked patch, and what comes next."""

    canvas: Canvas
    patches: tuple[Patch, ...] = ()
    following: tuple[Start, ...] = ()
    """Patches that the network looks at next: neighbours and those they are reached from. None at the end."""


def check_reach(reach: str) -> None:
    """Raise CTSAM3DError unless this is a reach."""
    if reach not in RINGS:
        raise CTSAM3DError(f"'{reach}' is not a reach; choose one of: {', '.join(RINGS)}.")


class Prompter(Protocol):
    """What growth needs of a session: the two questions that the network answers."""

    grid: ModelGrid

    def answer(
        self, canvas: Canvas, starts: Sequence[Start], points: Sequence[Start | None]
    ) -> list[NDArray[np.uint8]]:
        """Masks (0..255) of patches, prompted by the canvas, the user's clicks there and a proposed click."""

    def propose(
        self, canvas: Canvas, starts: Sequence[Start], neighbours: Sequence[Start]
    ) -> list[NDArray[np.float32]]:
        """Heat maps in neighbours of where the masks in the patches that they are reached from go on."""


def grow(
    prompter: Prompter, before: Canvas, clicked: Canvas, start: Start, rings: int | None, most_patches: int
) -> Iterator[Growth]:
    """Follow what a positive click added out of its patch at `start`, with a pause before each group of neighbours.

    `before` and `clicked` are the canvas before and after the clicked patch was answered. `rings` bounds how far it
    goes (None: as far as there are open borders), `most_patches` how much is asked. The last growth, and only that,
    has nothing following. Outside the clicked patch a voxel is only ever added to the mask, never taken away.
    """
    canvas = clicked
    depths = _Depths(start)
    visited = {start}
    grown: list[Patch] = []
    ring = [start]
    distance = 0
    while ring and (rings is None or distance < rings) and len(grown) < most_patches:
        distance += 1
        found = _open_neighbours(ring, canvas, before, prompter.grid, visited)
        ring = list(found)[: most_patches - len(grown)]
        visited.update(ring)
        for first in range(0, len(ring), GROUP):
            group = ring[first : first + GROUP]
            sources = [found[neighbour] for neighbour in group]
            yield Growth(canvas, tuple(grown), (*group, *sources))
            heat_maps = prompter.propose(canvas, sources, group)
            points = [_peak(heat_map, neighbour) for heat_map, neighbour in zip(heat_maps, group, strict=True)]
            for neighbour, answer in zip(group, prompter.answer(canvas, group, points), strict=True):
                canvas = canvas.write(neighbour, depths.merge(neighbour, canvas, before, answer))
                grown.append(Patch(neighbour, distance))
    yield Growth(canvas, tuple(grown))


def _open_neighbours(
    ring: Sequence[Start], canvas: Canvas, before: Canvas, grid: ModelGrid, visited: set[Start]
) -> dict[Start, Start]:
    """Neighbours that new mask reaches out to, those with the most of it first, each with the patch it comes from."""
    reaching: dict[Start, tuple[int, Start]] = {}
    for start in ring:
        added = (canvas.read(start) >= MASK) & (before.read(start) < MASK)
        for direction in DIRECTIONS:
            z, y, x = (a + STRIDE * step for a, step in zip(start, direction, strict=True))
            neighbour = (z, y, x)
            if neighbour in visited or not _reaches_into(grid, neighbour):
                continue
            side = tuple(_SIDES[step] for step in direction)
            count = int(np.count_nonzero(added[side]))
            if count >= MIN_OPEN and count > reaching.get(neighbour, (0, start))[0]:
                reaching[neighbour] = (count, start)
    ordered = sorted(reaching, key=lambda neighbour: (-reaching[neighbour][0], neighbour))
    return {neighbour: reaching[neighbour][1] for neighbour in ordered}


_SIDES = {-1: slice(0, BORDER), 0: slice(None), 1: slice(PATCH - BORDER, PATCH)}


def _reaches_into(grid: ModelGrid, start: Start) -> bool:
    """Whether a patch would show voxels of the grid that its predecessor did not."""
    overlap = PATCH - STRIDE
    return all(s + overlap < size and s + STRIDE > 0 for s, size in zip(start, grid.shape, strict=True))


def _peak(heat_map: NDArray[np.float32], start: Start) -> Start | None:
    """The voxel of the model grid at the peak of a heat map, or None where there is no clear peak."""
    peak = np.unravel_index(int(heat_map.argmax()), heat_map.shape)
    if heat_map[peak] < MIN_PEAK:
        return None
    z, y, x = (int(a + b) for a, b in zip(start, peak, strict=True))
    return z, y, x


class _Depths:
    """Which of several overlapping patches of one growth to believe: the one in which a voxel lies deepest."""

    def __init__(self, clicked: Start) -> None:
        self._canvas = Canvas().write(clicked, np.full((PATCH,) * 3, 255, np.uint8))

    def merge(self, start: Start, canvas: Canvas, before: Canvas, answer: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The values to keep in the patch at `start`; the clicked patch stays as it is."""
        deepest = self._canvas.read(start)
        depth = depth_in_patch()
        better = depth > deepest
        self._canvas = self._canvas.write(start, np.where(better, depth, deepest))
        kept = np.where(better, answer, canvas.read(start))
        return np.maximum(kept, before.read(start))


def depth_in_patch() -> NDArray[np.uint8]:
    """Distance of each voxel of a patch to its nearest side: 1 at the side, 32 in the middle."""
    along = np.minimum(np.arange(1, PATCH + 1), np.arange(PATCH, 0, -1)).astype(np.uint8)
    return np.minimum(np.minimum(along[:, None, None], along[:, None]), along)
