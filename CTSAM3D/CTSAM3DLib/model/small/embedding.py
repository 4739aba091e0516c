"""The voxel embedding: a U-Net's description of every voxel's structure, computed before any click.

A click then selects the voxels whose embedding is similar to its own (`guidance.embedding_maps`). Three outputs are
learnt from label maps, without clicks (`training/learning/label_maps.py`):

- a unit vector, similar within one class of structure, as the prototypes of few-shot segmentation (Snell et al., 2017;
  PANet, Wang et al., 2019);
- a place, three coordinates that all voxels of one instance share and no voxel of another does, so that a click on one
  vertebra does not select the next (spatial embeddings: Neven et al., CVPR 2019);
- affinities: whether a voxel and the next one along each axis belong to one structure (Turaga et al., 2010). They are
  used in training alone.

The published network has no embedding.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from CTSAM3DLib.model.pixel_shuffle import pixel_unshuffle
from CTSAM3DLib.model.unet import ConvBlock, UpBlock, named

PLACE_AXES = 3
GRID = 32
"""Voxels of the embedding's grid along each axis; a patch of 64³ has two to each."""
PLACE_UNIT = 5.0
"""Voxels of 32³ to one unit of place; two voxels a unit apart are half as similar (`class_and_instance_similarity`)."""


class VoxelEmbedding(NamedTuple):
    """All outputs of the embedding network, for training.

    Attributes:
        vectors: unit vectors, (b, width, 32, 32, 32).
        places: in units of `PLACE_UNIT`, in the order z, y, x, (b, 3, 32, 32, 32); None without places.
        affinities: logits that a voxel and the next one along z, y, x are of one structure, (b, 24, 32, 32, 32):
            for each axis the eight voxels of each cube, as `pixel_unshuffle` orders them; None without places.

    """

    vectors: Tensor
    places: Tensor | None
    affinities: Tensor | None


class EmbeddingNetwork(nn.Module):
    """Voxel embedding: a patch (b, 1, 64, 64, 64), 0..1, to vectors and places (b, width [+ 3], 32, 32, 32).

    A U-Net of nnU-Net's blocks. Its finest grid is 32³, with the eight voxels of each cube of the patch as channels;
    `filters` are its channels at 32³, 16³ and so on.
    """

    def __init__(self, width: int, filters: tuple[int, ...], places: bool = False) -> None:
        super().__init__()
        finer_and_coarser = list(pairwise(filters))
        self.first = ConvBlock(8, filters[0])
        self.down = nn.ModuleList(ConvBlock(finer, coarser, stride=2) for finer, coarser in finer_and_coarser)
        self.up = nn.ModuleList(UpBlock(coarser, finer) for finer, coarser in reversed(finer_and_coarser))
        self.to_vectors = _pointwise(filters[0], width)
        self.to_places = _pointwise(filters[0], PLACE_AXES) if places else None
        self.to_together = _pointwise(filters[0], 8 * PLACE_AXES) if places else None

    def forward(self, image: Tensor) -> Tensor:
        x = self._features(image)  # (b, filters[0], 32, 32, 32)
        vectors = self._vectors(x)
        return vectors if self.to_places is None else torch.cat((vectors, self._places(x)), dim=1)

    def embed(self, image: Tensor) -> VoxelEmbedding:
        """All outputs for patches (b, 1, 64, 64, 64), 0..1."""
        x = self._features(image)
        if self.to_places is None or self.to_together is None:
            return VoxelEmbedding(self._vectors(x), None, None)
        return VoxelEmbedding(self._vectors(x), self._places(x), self.to_together(x).float())

    def _features(self, image: Tensor) -> Tensor:
        skips = [self.first(pixel_unshuffle(image))]  # (b, 8, 32, 32, 32) to (b, filters[0], 32, 32, 32)
        for down in self.down:
            skips.append(down(skips[-1]))
        x = skips.pop()
        for up in self.up:
            x = up(x, skips.pop())
        return x

    def _vectors(self, x: Tensor) -> Tensor:
        return F.normalize(self.to_vectors(x).float(), dim=1)

    def _places(self, x: Tensor) -> Tensor:
        """Each voxel's own position plus the offset that the network predicts, (b, 3, 32, 32, 32)."""
        assert self.to_places is not None
        along = torch.arange(GRID, device=x.device, dtype=torch.float32) / PLACE_UNIT
        positions = torch.stack(torch.meshgrid(along, along, along, indexing="ij"))  # (3, 32, 32, 32)
        return positions + self.to_places(x).float()


def _pointwise(width: int, new_width: int) -> nn.Sequential:
    return named(conv=named(conv=nn.Conv3d(width, new_width, 1)))
