"""The result of a segmentation: a mask and the record of how it was made. Imports no PyTorch, for thin clients."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from CTSAM3DLib.checkpoints.model_info import ModelInfo
from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.imaging.geometry import Box, Geometry
from CTSAM3DLib.imaging.volume import Volume
from CTSAM3DLib.segmentation.bring_back import bring_back
from CTSAM3DLib.segmentation.canvas import Canvas
from CTSAM3DLib.segmentation.growth import Patch, Reach
from CTSAM3DLib.segmentation.patch_grid import ModelGrid


@dataclass(frozen=True)
class Result:
    """A mask and the record of how it was made."""

    clicks: tuple[Click, ...]
    reach: Reach
    model: ModelInfo
    model_hash: str
    quality: float
    """The network's own estimate of the Dice of the last clicked patch, 0..1."""
    patches: tuple[Patch, ...]
    """All decoded patches in order; starts are voxels (z, y, x) of the model grid."""
    final: bool
    """False for a partial result, while growth goes on."""
    canvas: Canvas
    grid: ModelGrid
    geometry: Geometry
    execution: str = ""
    """How the network was executed, such as `cpu float32 fast`; empty for results of a server."""

    @cached_property
    def cropped(self) -> tuple[NDArray[np.uint8], Box]:
        """The mask, uint8 0 or 1 (z, y, x), in a box of the CT, and the box (slices in z, y, x)."""
        probability, start = self.canvas.dense()
        return bring_back(probability, start, self.grid, self.geometry)

    @property
    def box(self) -> Box:
        """A box of the CT (slices in z, y, x) outside of which the mask is empty."""
        return self.cropped[1]

    @cached_property
    def mask(self) -> Volume:
        """The mask on the CT's own grid, uint8 0 or 1 (z, y, x)."""
        cropped, box = self.cropped
        array = np.zeros(self.geometry.shape, np.uint8)
        array[box] = cropped
        return Volume(array, self.geometry)
