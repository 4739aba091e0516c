"""Fusion: how the prediction of one patch is merged into the probabilities found so far.

Patches of several clicks, and of the growth of one click, overlap. These rules decide which prediction a voxel keeps.
They are ours; the paper predicts each patch once.

1. A click well inside an earlier clicked patch is decoded in the same patch again, so that a correction sees the
   context of the click it corrects; any other click gets a patch centred on itself (`patch_for_click`).
2. Along the sides of the clicked patch, where the network sees least context, its prediction fades linearly into the
   probabilities found so far (`fuse_click`).
3. From the fifth click on, a positive click only adds to the mask and a negative click only removes from it
   (`fuse_click`): by then the mask is mostly right, and a correction must not undo an earlier one.
4. Among the overlapping patches of one growth, a voxel keeps the prediction of the patch in which it lies deepest
   (`DeepestPatch`).

All arrays are patches of 64³ voxels (z, y, x) of probabilities, uint8, 0..255; 0 marks voxels that no patch covers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from CTSAM3DLib.imaging.constants import PATCH
from CTSAM3DLib.segmentation.canvas import Canvas
from CTSAM3DLib.segmentation.patch_grid import Start

REUSE_MARGIN = 12
"""Voxels. A click at least this far inside the sides of an earlier clicked patch is decoded in that patch."""
RIM = 8
"""Voxels. Width of the layer along a patch's sides in which a prediction fades into the probabilities found so far."""
SETTLED = 5
"""Number of the click from which on a click changes the mask only in the direction of its sign."""


def patch_for_click(voxel: Start, clicked: Sequence[Start], grid_shape: Sequence[int]) -> Start:
    """The patch in which a click is decoded: the latest clicked patch that holds the click well, else a centred one.

    Args:
        voxel: the click's voxel (z, y, x) on the model grid.
        clicked: starts of the patches clicked before, the latest last.
        grid_shape: voxels of the model grid, (z, y, x).

    Returns:
        The patch's first voxel (z, y, x). A centred patch is shifted to show as much of the grid as it can.

    """
    for start in reversed(clicked):
        if all(REUSE_MARGIN <= v - s < PATCH - REUSE_MARGIN for v, s in zip(voxel, start, strict=True)):
            return start
    z, y, x = (_shifted_into_grid(v - PATCH // 2, size) for v, size in zip(voxel, grid_shape, strict=True))
    return z, y, x


def fuse_click(
    before: NDArray[np.uint8], prediction: NDArray[np.uint8], click_number: int, positive: bool
) -> NDArray[np.uint8]:
    """The probabilities of the clicked patch after its click (rules 2 and 3).

    Args:
        before: probabilities found so far, (64, 64, 64); 0 where no patch has covered a voxel.
        prediction: the network's probabilities for this click, (64, 64, 64), 1..255.
        click_number: 1 for the first click of the list.
        positive: the click's sign.

    """
    trust = np.minimum(depth_in_patch().astype(np.float32) / (RIM + 1), 1)
    fused = np.rint(trust * prediction + (1 - trust) * before).astype(np.uint8)
    if click_number >= SETTLED:
        fused = np.maximum(before, fused) if positive else np.minimum(before, fused)
    return np.where(before > 0, fused, prediction)


class DeepestPatch:
    """Rule 4, for the growth of one click: tracks how deep each voxel lies in the patches decoded so far."""

    def __init__(self, clicked: Start) -> None:
        # Deeper than any voxel of another patch can lie: the clicked patch keeps its own prediction.
        self._depths = Canvas().write(clicked, np.full((PATCH,) * 3, 255, np.uint8))

    def fuse(self, start: Start, canvas: Canvas, before: Canvas, prediction: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The probabilities (64, 64, 64) of the patch at `start` after its prediction.

        Args:
            start: first voxel (z, y, x) of the patch.
            canvas: probabilities so far, with the patches of this growth.
            before: probabilities before this click; they are a lower bound, for growth never removes a voxel.
            prediction: the network's probabilities for the patch, (64, 64, 64).

        """
        deepest = self._depths.read(start)
        depth = depth_in_patch()
        deeper = depth > deepest
        self._depths = self._depths.write(start, np.where(deeper, depth, deepest))
        chosen = np.where(deeper, prediction, canvas.read(start))
        return np.maximum(chosen, before.read(start))


def depth_in_patch() -> NDArray[np.uint8]:
    """Distance in voxels of each voxel of a patch (64, 64, 64) to its nearest side: 1 at the side, 32 in the middle."""
    along = np.minimum(np.arange(1, PATCH + 1), np.arange(PATCH, 0, -1)).astype(np.uint8)
    return np.minimum(np.minimum(along[:, None, None], along[:, None]), along)


def _shifted_into_grid(start: int, size: int) -> int:
    """A patch's start along one axis, shifted to show as much of the grid's `size` voxels as it can."""
    return min(max(start, 0), size - PATCH) if size >= PATCH else (size - PATCH) // 2
