"""What segmenting gives: a mask and how it was made. Needs no network, so that a client has it without PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from CTSAM3DLib.canvas import Canvas
from CTSAM3DLib.clicks import Click
from CTSAM3DLib.errors import Cancelled, CTSAM3DError
from CTSAM3DLib.geometry import Box, Geometry
from CTSAM3DLib.grid import ModelGrid, bring_back
from CTSAM3DLib.growth import Patch
from CTSAM3DLib.model_info import ModelInfo
from CTSAM3DLib.volume import Volume

Reach = Literal["patch", "neighbours", "structure"]
RINGS: dict[Reach, int | None] = {"patch": 0, "neighbours": 1, "structure": None}
"""How many patches away from the clicked one each reach may go; None: as far as there are open borders."""


class CancelEvent(Protocol):
    """Something like `threading.Event`."""

    def is_set(self) -> bool:
        """Whether the user wants to stop."""


@dataclass(frozen=True)
class Result:
    """A mask and how it was made."""

    clicks: tuple[Click, ...]
    reach: Reach
    model: ModelInfo
    model_hash: str
    quality: float
    """The network's own estimate of the Dice of the last clicked patch, 0..1."""
    patches: tuple[Patch, ...]
    """Every patch that was answered, in order; starts are voxels (z, y, x) of the model grid."""
    final: bool
    canvas: Canvas
    grid: ModelGrid
    geometry: Geometry
    execution: str = ""
    """How the network was executed, such as `cpu float32 fast`; empty where it was on a server, which knows."""

    @cached_property
    def cropped(self) -> tuple[NDArray[np.uint8], Box]:
        """The mask (0 or 1) in the box of the CT that it can lie in, and that box (slices in z, y, x)."""
        probability, start = self.canvas.dense()
        return bring_back(probability, start, self.grid, self.geometry)

    @property
    def box(self) -> Box:
        """The box of the CT, slices in z, y, x, outside of which the mask is empty."""
        return self.cropped[1]

    @cached_property
    def mask(self) -> Volume:
        """The mask on the CT's own grid, uint8, 0 or 1."""
        cropped, box = self.cropped
        array = np.zeros(self.geometry.shape, np.uint8)
        array[box] = cropped
        return Volume(array, self.geometry)


def check_reach(reach: str) -> None:
    """Raise CTSAM3DError unless this is a reach."""
    if reach not in RINGS:
        raise CTSAM3DError(f"'{reach}' is not a reach; choose one of: {', '.join(RINGS)}.")


def stop_if_cancelled(cancel: CancelEvent | None) -> None:
    """Raise Cancelled when the user wants to stop."""
    if cancel is not None and cancel.is_set():
        raise Cancelled("The segmentation was cancelled; the clicks are kept.")
