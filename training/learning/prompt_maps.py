"""The prompt maps of a batch of patches, with clicks and scribbles drawn on the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from CTSAM3DLib.segmentation.prompt_maps import RADIUS, SIGMA
from training.learning.clicks import Clicks
from training.learning.distance import FAR, squared_distance
from training.learning.strokes import Scribbles


@dataclass
class PromptMaps:
    """The prompts of each patch so far.

    Attributes:
        previous: the previous mask, which the caller sets; float32 (b, 1, z, y, x).
        drawn: positive and negative prompts, not yet scaled to 0..1; float32 (b, 2, z, y, x).

    """

    previous: Tensor
    drawn: Tensor

    @classmethod
    def starting_from(cls, previous: Tensor) -> PromptMaps:
        """Prompt maps without clicks; `previous` is float32 (b, 1, z, y, x), zeros where there is no mask."""
        return cls(previous, torch.zeros_like(previous).repeat(1, 2, 1, 1, 1))

    @torch.no_grad()
    def add(self, clicks: Clicks) -> None:
        """Draw a click in each patch that has one; it overwrites its cube, as in `prompt_maps.click_maps`."""
        device, sizes = self.drawn.device, self.drawn.shape[2:]
        offsets = [
            torch.arange(size, device=device) - axis[:, None]
            for axis, size in zip(clicks.position.unbind(1), sizes, strict=True)
        ]
        cube = _product([offset.abs() <= RADIUS for offset in offsets])
        blob = _product([torch.exp(-(offset.float() ** 2) / (2 * SIGMA**2)) for offset in offsets])
        signs = torch.stack([clicks.sign & clicks.there, ~clicks.sign & clicks.there], dim=1)
        self.drawn = torch.where(cube & signs[:, :, None, None, None], blob, self.drawn)

    @torch.no_grad()
    def add_scribbles(self, scribbles: Scribbles) -> None:
        """Draw a scribble in each patch that has one: the union of the Gaussians of its voxels joins the map."""
        squares = squared_distance(scribbles.points(self.drawn.shape[2:]), RADIUS)
        # Bounded first, since denormal numbers take a processor many times longer; out of reach the map is 0.
        union = torch.exp(squares.clamp(max=3 * RADIUS**2) / (-2 * SIGMA**2)).masked_fill(squares >= FAR, 0.0)
        signs = torch.stack([scribbles.sign, ~scribbles.sign], dim=1)
        self.drawn = torch.maximum(self.drawn, union * signs[:, :, None, None, None])

    def tensor(self) -> Tensor:
        """The network's input [previous mask, positive, negative], float32 (b, 3, z, y, x)."""
        lowest, highest = self.drawn.amin(dim=(2, 3, 4), keepdim=True), self.drawn.amax(dim=(2, 3, 4), keepdim=True)
        extent = highest - lowest
        flat = extent == 0
        scaled = (self.drawn - lowest.masked_fill(flat, 0.0)) / extent.masked_fill(flat, 1.0)
        return torch.cat([self.previous, scaled], dim=1)


def _product(profiles: list[Tensor]) -> Tensor:
    """The outer product (b, 1, z, y, x) of profiles along each axis, (b, z), (b, y), (b, x)."""
    z, y, x = profiles
    return z[:, None, :, None, None] * y[:, None, None, :, None] * x[:, None, None, None, :]
