"""What the CT itself says of the prompts: which voxels look like those clicked, and which are reached without an edge.

A thin network trained for hours, not weeks, has not learnt to follow an organ from a click. These maps show it where
the intensity of a click goes on: by similarity, and by geodesic distance, the length of the cheapest way on which every
change of intensity costs (Criminisi et al., GeoS, ECCV 2008; as input of a network: Wang et al., DeepIGeoS, 2018).
The published network does without; `NetworkConfig.fine_width` switches them on.

Tensors are (batch, channel, z, y, x); the channels of prompts are [previous mask, positive clicks, negative clicks].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from CTSAM3DLib.model.configs import NetworkConfig

EDGE_COSTS = (90.0, 600.0)
"""Length, in voxels of 32³, of a step over an edge as high as the whole HU window; one map for each."""
REACH = 10.0
"""Geodesic length, in voxels of 32³, at which a map has fallen to 1/e."""
LIKENESS = 0.025
"""Difference of intensity, as a share of the HU window, at which similarity has fallen to 1/e."""
ALIENATION = 0.3
"""Difference of the cosine from 1 at which kinship has fallen to 1/e."""
SWEEPS = 3
FAR = 1e4


def guidance_maps(config: NetworkConfig) -> int:
    """How many maps join the prompts: similarity, nearness at each edge cost, and kinship, for each prompt."""
    if not config.fine_width:
        return 0
    return 3 * (1 + len(EDGE_COSTS) + (config.semantic_width > 0))


def similarity(image: Tensor, prompts: Tensor) -> Tensor:
    """How like each voxel of the image is to the mean under each prompt, 0..1; 0 for an empty prompt; (b, 3, 64³)."""
    core = prompts**8  # the middle of a click, not the rim, which may lie in another tissue
    total = core.sum(dim=(2, 3, 4), keepdim=True)
    mean = (core * image).sum(dim=(2, 3, 4), keepdim=True) / total.clamp(min=1e-6)
    return torch.where(total > 0.5, torch.exp(-(image - mean).abs() / LIKENESS), 0.0)


def kinship(vectors: Tensor, prompts: Tensor) -> Tensor:
    """How near each voxel's vector is to the mean one under each prompt, 0..1; 0 for an empty prompt; (b, 3, 32³).

    `vectors` (b, width, 32, 32, 32) have length 1 (`semantics.py`).
    """
    core = F.max_pool3d(prompts, 2) ** 8
    total = core.sum(dim=(2, 3, 4), keepdim=True)
    mean = F.normalize(torch.einsum("bpzyx,bczyx->bpc", core, vectors), dim=2)
    cosine = torch.einsum("bpc,bczyx->bpzyx", mean, vectors)
    return torch.where(total > 0.5, torch.exp((cosine - 1) / ALIENATION), 0.0)


def nearness(image: Tensor, prompts: Tensor) -> Tensor:
    """exp(-geodesic distance / REACH) to each prompt at each edge cost: (b, 3 * costs, 32, 32, 32)."""
    coarse = F.avg_pool3d(image, 2)
    seeds = F.max_pool3d(prompts, 2) > 0.5
    maps = torch.zeros(len(EDGE_COSTS), *seeds.shape, device=image.device)
    for of_cost, cost in zip(maps, EDGE_COSTS, strict=True):
        for given in _given(seeds):
            of_cost[:, given] = torch.exp(-geodesic(coarse, seeds[:, given], cost) / REACH)
    return torch.cat(list(maps), dim=1)


def _given(seeds: Tensor) -> list[slice]:
    """The prompts that some patch has; an empty one is near nothing and needs no sweeps."""
    if torch.compiler.is_compiling():
        return [slice(None)]
    return [slice(index, index + 1) for index in range(seeds.shape[1]) if seeds[:, index].any()]


def geodesic(image: Tensor, seeds: Tensor, edge_cost: float) -> Tensor:
    """Distance in voxels from each voxel of (b, 1, z, y, x) to the seeds (b, c, z, y, x), along the axes.

    A step costs 1 and `edge_cost` times the change of intensity. Each sweep carries distances along whole lines, to and
    fro on every axis; three sweeps leave only ways with many turns a little too long.
    """
    distance = torch.where(seeds, 0.0, FAR)
    walks = []
    for axis in (2, 3, 4):
        steps = 1 + edge_cost * image.diff(dim=axis, prepend=image.narrow(axis, 0, 1)).abs()
        walks.append((axis, steps.cumsum(axis)))
    for _ in range(SWEEPS):
        for axis, walked in walks:
            # min over the starts j before i of (distance j + walked i - walked j), and the same from behind
            forth = walked + (distance - walked).cummin(axis).values
            back = (distance + walked).flip(axis).cummin(axis).values.flip(axis) - walked
            distance = torch.minimum(forth, back)
    return distance
