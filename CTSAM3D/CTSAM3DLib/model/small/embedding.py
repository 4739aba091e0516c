"""What the network knows of anatomy before any click: for each voxel which kind of structure it is, and which of them.

A click says which voxels are meant; where else the same structure lies is then a matter of likeness
(`guidance.kinship`). Three answers are learnt from label maps without clicks (`training/learning/label_maps.py`):

- a unit vector, alike within one kind of structure, as the prototypes of few-shot segmentation are (Snell et al., 2017;
  PANet, Wang et al., 2019);
- a place, three coordinates that all voxels of one structure point to and no voxel of its neighbour does, so that a
  click on one vertebra does not mean the next (spatial embeddings: Neven et al., CVPR 2019);
- borders: whether a voxel and the next one along each axis belong together (affinities: Turaga et al., 2010).

The published network does without.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from CTSAM3DLib.model.pixel_shuffle import unshuffled
from CTSAM3DLib.model.unet import ConvBlock, UpBlock, named

PLACE_AXES = 3
GRID = 32
PLACE_UNIT = 5.0
"""Voxels of 32³ that are a distance of 1 between places, at which two voxels are no longer alike."""


class Anatomy(NamedTuple):
    """What is known of each voxel of a patch before any click.

    Attributes:
        vectors: of length 1, (batch, width, 32, 32, 32).
        places: in units of `PLACE_UNIT`, in the order z, y, x, (batch, 3, 32, 32, 32); None without places.
        together: logits that a voxel and the next one along z, y, x are of one structure, (batch, 24, 32, 32, 32):
            for each axis the eight voxels of each cube, as `folding.unshuffled` orders them; None without places.

    """

    vectors: Tensor
    places: Tensor | None
    together: Tensor | None


class SemanticNetwork(nn.Module):
    """A patch (batch, 1, 64, 64, 64) scaled to [0, 1] becomes vectors and places (batch, width [+ 3], 32, 32, 32).

    A U-Net of nnU-Net's blocks. Its finest grid is 32³, where the eight voxels of the patch under each of its own are
    channels; `filters` are its channels there, at 16³ and so on.
    """

    def __init__(self, width: int, filters: tuple[int, ...], places: bool = False) -> None:
        super().__init__()
        finer_and_coarser = list(pairwise(filters))
        self.first = ConvBlock(8, filters[0])
        self.down = nn.ModuleList(ConvBlock(finer, coarser, stride=2) for finer, coarser in finer_and_coarser)
        self.up = nn.ModuleList(UpBlock(coarser, finer) for finer, coarser in reversed(finer_and_coarser))
        self.to_vectors = _read_off(filters[0], width)
        self.to_places = _read_off(filters[0], PLACE_AXES) if places else None
        self.to_together = _read_off(filters[0], 8 * PLACE_AXES) if places else None

    def forward(self, image: Tensor) -> Tensor:
        x = self._features(image)
        vectors = self._vectors(x)
        return vectors if self.to_places is None else torch.cat((vectors, self._places(x)), dim=1)

    def anatomy(self, image: Tensor) -> Anatomy:
        """All that is known, for the training."""
        x = self._features(image)
        if self.to_places is None or self.to_together is None:
            return Anatomy(self._vectors(x), None, None)
        return Anatomy(self._vectors(x), self._places(x), self.to_together(x).float())

    def _features(self, image: Tensor) -> Tensor:
        skips = [self.first(unshuffled(image))]
        for down in self.down:
            skips.append(down(skips[-1]))
        x = skips.pop()
        for up in self.up:
            x = up(x, skips.pop())
        return x

    def _vectors(self, x: Tensor) -> Tensor:
        return F.normalize(self.to_vectors(x).float(), dim=1)

    def _places(self, x: Tensor) -> Tensor:
        """Where each voxel lies, moved by what the network says."""
        assert self.to_places is not None
        along = torch.arange(GRID, device=x.device, dtype=torch.float32) / PLACE_UNIT
        where = torch.stack(torch.meshgrid(along, along, along, indexing="ij"))
        return where + self.to_places(x).float()


def _read_off(width: int, new_width: int) -> nn.Sequential:
    return named(conv=named(conv=nn.Conv3d(width, new_width, 1)))
