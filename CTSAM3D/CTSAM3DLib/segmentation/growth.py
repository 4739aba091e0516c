"""Growth: from the clicked patch into its neighbours by cross-patch prompts (paper, "CPP", Fig. 2D).

The paper prompts the 26 neighbours of the clicked patch by a heat map and stops there. Here, growth continues from
every neighbour whose own mask reaches its border, until no border is open. `docs/cross-patch.md` shows the rules.

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
from CTSAM3DLib.imaging.constants import PATCH
from CTSAM3DLib.segmentation.canvas import MASK, Canvas
from CTSAM3DLib.segmentation.fusion import DeepestPatch
from CTSAM3DLib.segmentation.patch_grid import ModelGrid, Start

Reach = Literal["patch", "neighbours", "structure"]
MAX_HOPS: dict[Reach, int | None] = {"patch": 0, "neighbours": 1, "structure": None}
"""Hops from the clicked patch that each reach allows; None: as many as there are open borders."""
STRIDE = 48
"""Voxels from a patch to its neighbour. The overlap of 16 voxels is what prompts the neighbour with the mask so far."""
BORDER = 4
"""Voxels. Thickness of the layer along a patch's side in which new mask opens that side."""
MIN_OPEN = 4
"""Voxels of new mask in that layer that open a side."""
MIN_PEAK = 0.2
"""Height from which on a heat map's peak becomes a click; at the structure's centroid the trained height is 1."""
GROUP = 4
"""Neighbours decoded from the same canvas before it is updated; a partial result follows each group."""
DIRECTIONS = tuple(step for step in itertools.product((-1, 0, 1), repeat=3) if any(step))


@dataclass(frozen=True)
class Patch:
    """A decoded patch: its first voxel, and its hops from the clicked patch (0 for the clicked patch itself)."""

    start: Start
    hops: int


@dataclass(frozen=True)
class Growth:
    """The state of one growth: probabilities so far, patches decoded beyond the clicked one, and patches to come."""

    canvas: Canvas
    patches: tuple[Patch, ...] = ()
    following: tuple[Start, ...] = ()
    """Patches whose voxels the next inference step reads: neighbours and the patches they adjoin. None at the end."""


def check_reach(reach: str) -> None:
    """Raise CTSAM3DError unless this is a reach."""
    if reach not in MAX_HOPS:
        raise CTSAM3DError(f"'{reach}' is not a reach; choose one of: {', '.join(MAX_HOPS)}.")


class Prompter(Protocol):
    """The two predictions that growth asks of a session."""

    grid: ModelGrid

    def predict(
        self, canvas: Canvas, starts: Sequence[Start], points: Sequence[Start | None]
    ) -> list[NDArray[np.uint8]]:
        """Probabilities (64, 64, 64), 1..255, of each patch.

        A patch is prompted by the canvas, by the user's clicks in it, and by a positive click at `points[i]` if given.
        """

    def predict_prompts(
        self, canvas: Canvas, starts: Sequence[Start], neighbours: Sequence[Start]
    ) -> list[NDArray[np.float32]]:
        """For each neighbour: a heat map (64, 64, 64) of where the mask in the adjoining patch continues into it."""


def grow(
    prompter: Prompter, before: Canvas, clicked: Canvas, start: Start, max_hops: int | None, max_patches: int
) -> Iterator[Growth]:
    """Follow the mask that a positive click added out of its patch, pausing before each group of neighbours.

    Outside the clicked patch growth only adds voxels to the mask.

    Args:
        prompter: makes the predictions.
        before: probabilities before the click.
        clicked: probabilities after the clicked patch was decoded.
        start: first voxel of the clicked patch.
        max_hops: bound on the hops from the clicked patch; None: as many as there are open borders.
        max_patches: bound on the patches decoded here.

    Yields:
        The growth before each group; the last one, and only that, has no patches following.

    """
    canvas = clicked
    fusion = DeepestPatch(start)
    visited = {start}
    grown: list[Patch] = []
    frontier = [start]
    hops = 0
    while frontier and (max_hops is None or hops < max_hops) and len(grown) < max_patches:
        hops += 1
        adjoining = _open_neighbours(frontier, canvas, before, prompter.grid, visited)
        frontier = list(adjoining)[: max_patches - len(grown)]
        visited.update(frontier)
        for first in range(0, len(frontier), GROUP):
            group = frontier[first : first + GROUP]
            sources = [adjoining[neighbour] for neighbour in group]
            yield Growth(canvas, tuple(grown), (*group, *sources))
            heat_maps = prompter.predict_prompts(canvas, sources, group)
            points = [_peak(heat_map, neighbour) for heat_map, neighbour in zip(heat_maps, group, strict=True)]
            for neighbour, prediction in zip(group, prompter.predict(canvas, group, points), strict=True):
                canvas = canvas.write(neighbour, fusion.fuse(neighbour, canvas, before, prediction))
                grown.append(Patch(neighbour, hops))
    yield Growth(canvas, tuple(grown))


def _open_neighbours(
    frontier: Sequence[Start], canvas: Canvas, before: Canvas, grid: ModelGrid, visited: set[Start]
) -> dict[Start, Start]:
    """Unvisited neighbours behind open sides, those with the most new mask first, each with the patch it adjoins."""
    reaching: dict[Start, tuple[int, Start]] = {}
    for start in frontier:
        added = (canvas.read(start) >= MASK) & (before.read(start) < MASK)
        for direction in DIRECTIONS:
            z, y, x = (a + STRIDE * step for a, step in zip(start, direction, strict=True))
            neighbour = (z, y, x)
            if neighbour in visited or not _shows_new_voxels(grid, neighbour):
                continue
            side = tuple(_SIDES[step] for step in direction)
            count = int(np.count_nonzero(added[side]))
            if count >= MIN_OPEN and count > reaching.get(neighbour, (0, start))[0]:
                reaching[neighbour] = (count, start)
    ordered = sorted(reaching, key=lambda neighbour: (-reaching[neighbour][0], neighbour))
    return {neighbour: reaching[neighbour][1] for neighbour in ordered}


_SIDES = {-1: slice(0, BORDER), 0: slice(None), 1: slice(PATCH - BORDER, PATCH)}


def _shows_new_voxels(grid: ModelGrid, start: Start) -> bool:
    """Whether a neighbour holds voxels of the grid beyond its overlap with the patch it adjoins."""
    overlap = PATCH - STRIDE
    return all(s + overlap < size and s + STRIDE > 0 for s, size in zip(start, grid.shape, strict=True))


def _peak(heat_map: NDArray[np.float32], start: Start) -> Start | None:
    """The voxel of the model grid at the peak of a heat map (64, 64, 64), or None where the peak is too low."""
    peak = np.unravel_index(int(heat_map.argmax()), heat_map.shape)
    if heat_map[peak] < MIN_PEAK:
        return None
    z, y, x = (int(a + b) for a, b in zip(start, peak, strict=True))
    return z, y, x
