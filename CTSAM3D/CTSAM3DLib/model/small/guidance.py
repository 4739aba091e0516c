"""What the CT itself says of the prompts: which voxels look like those clicked, and which are reached without an edge.

A thin network trained for hours, not weeks, has not learnt to follow an organ from a click. These maps show it where
the intensity of a click goes on: by similarity, and by geodesic distance, the length of the cheapest way on which every
change of intensity costs (Criminisi et al., GeoS, ECCV 2008; as input of a network: Wang et al., DeepIGeoS, 2018).
The published network does without; `NetworkConfig.fine_width` switches them on.

Tensors are (batch, channel, z, y, x); the channels of prompts are [previous mask, positive clicks, negative clicks].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from CTSAM3DLib.model.configs import NetworkConfig
from CTSAM3DLib.model.small.embedding import GRID

EDGE_COSTS = (90.0, 600.0)
"""Length, in voxels of 32³, of a step over an edge as high as the whole HU window; one map for each."""
REACH = 10.0
"""Geodesic length, in voxels of 32³, at which a map has fallen to 1/e."""
LIKENESS = 0.025
"""Difference of intensity, as a share of the HU window, at which similarity has fallen to 1/e."""
ALIENATION = 0.3
"""Difference of the cosine from 1 at which kinship has fallen to 1/e."""
CLICKS_OF_A_SIGN = 8
"""So many clicks in a patch speak each for itself; of more, which ones do is not said."""
SWEEPS = 3
FAR = 1e4
NOWHERE = 60 * REACH
"""Geodesic length from which on a voxel is not near at all."""


def guidance_maps(config: NetworkConfig) -> int:
    """How many maps join the prompts: similarity, nearness at each edge cost, kinship and identity, for each prompt."""
    if not config.fine_width:
        return 0
    return 3 * (1 + len(EDGE_COSTS) + (config.semantic_width > 0) * (1 + config.semantic_places))


def similarity(image: Tensor, prompts: Tensor) -> Tensor:
    """How like each voxel of the image is to the mean under each prompt, 0..1; 0 for an empty prompt; (b, 3, 64³)."""
    core = _core(prompts)  # the middle of a click, not the rim, which may lie in another tissue
    total = core.sum(dim=(2, 3, 4), keepdim=True)
    mean = (core * image).sum(dim=(2, 3, 4), keepdim=True) / total.clamp(min=1e-6)
    mean = mean.masked_fill(~(total > 0.5), torch.inf)  # what nothing is like
    return (image - mean).abs_().mul_(-1 / LIKENESS).exp_()


def of_one_structure(known: Tensor, prompts: Tensor, width: int) -> Tensor:
    """What `semantics.py` says of the prompts: kinship, and with places also `kinship_and_identity`; (b, 3 or 6, 32³).

    `known` (b, `width` or `width` + 3, 32, 32, 32) are vectors and, where the network has them, places.
    """
    if known.shape[1] == width:
        return kinship(known, prompts)
    return kinship_and_identity(known[:, :width], known[:, width:], prompts)


def kinship_and_identity(vectors: Tensor, places: Tensor, prompts: Tensor) -> Tensor:
    """How near each voxel is to what was clicked in kind (3 maps), and in kind and place at once (3 maps); 0..1.

    A click speaks for itself, so that two clicks on different structures do not mean what lies between them: each voxel
    has the nearest click of each sign. A mask speaks by the means under it. Shapes as of `semantics.Anatomy`.
    """
    core = _core(halved(prompts)).flatten(2)
    vectors, places = vectors.flatten(2), places.flatten(2)
    mask, clicks = core[:, :1], core[:, 1:]
    amount = mask.sum(dim=2, keepdim=True)
    of_mask = [torch.einsum("bpv,bcv->bpc", mask, known) / amount.clamp(min=1e-6) for known in (vectors, places)]
    # Beside a click its map has fallen below half.
    heights, indices = clicks.topk(CLICKS_OF_A_SIGN)
    of_clicks = [_at(known, indices.flatten(1)) for known in (vectors, places)]
    given_vectors, given_places = (torch.cat(pair, dim=1) for pair in zip(of_mask, of_clicks, strict=True))
    there = torch.cat((amount[..., 0] > 0.5, heights.flatten(1) > 0.5), dim=1)

    cosine = torch.einsum("bnc,bcv->bnv", F.normalize(given_vectors, dim=2), vectors)
    alike = torch.exp((cosine - 1) / ALIENATION).masked_fill(~there[..., None], 0.0)
    away = torch.zeros_like(alike)
    for place, given in zip(places.split(1, dim=1), given_places.split(1, dim=2), strict=True):  # axis by axis
        away += (place - given).square()
    identical = alike / (1 + away)  # as the places were learnt (training/learning/label_maps.py)
    best = [_best_of_each(maps).unflatten(2, (GRID, GRID, GRID)) for maps in (alike, identical)]
    return torch.cat(best, dim=1)


def _at(known: Tensor, indices: Tensor) -> Tensor:
    """(b, c, v) at indices (b, n) as (b, n, c)."""
    return known.gather(2, indices[:, None].expand(-1, known.shape[1], -1)).transpose(1, 2)


def _best_of_each(maps: Tensor) -> Tensor:
    """Maps of the mask and of all clicks (b, n, v) as those of mask, positive and negative clicks (b, 3, v)."""
    positive, negative = maps[:, 1:].chunk(2, dim=1)
    return torch.stack((maps[:, 0], positive.amax(dim=1), negative.amax(dim=1)), dim=1)


def kinship(vectors: Tensor, prompts: Tensor) -> Tensor:
    """How near each voxel's vector is to the mean one under each prompt, 0..1; 0 for an empty prompt; (b, 3, 32³).

    `vectors` (b, width, 32, 32, 32) have length 1 (`semantics.py`).
    """
    core = _core(halved(prompts))
    total = core.sum(dim=(2, 3, 4), keepdim=True)
    mean = F.normalize(torch.einsum("bpzyx,bczyx->bpc", core, vectors), dim=2)
    cosine = torch.einsum("bpc,bczyx->bpzyx", mean, vectors)
    return torch.exp((cosine - 1) / ALIENATION).masked_fill(~(total > 0.5), 0.0)


def nearness(image: Tensor, prompts: Tensor) -> Tensor:
    """exp(-geodesic distance / REACH) to each prompt at each edge cost: (b, 3 * costs, 32, 32, 32)."""
    distance = geodesic(F.avg_pool3d(image, 2), halved(prompts) > 0.5, EDGE_COSTS)
    # Further away it would be a number so small that processors take many times as long over it.
    near = torch.exp(-distance / REACH).masked_fill(~(distance < NOWHERE), 0.0)
    return torch.cat(list(near), dim=1)


def geodesic(image: Tensor, seeds: Tensor, edge_costs: Sequence[float]) -> Tensor:
    """Distance in voxels along the axes from each voxel of (b, 1, z, y, x) to the seeds (b, c, z, y, x).

    The result has a first dimension of edge costs. A step costs 1 and the edge cost times the change of intensity. Each
    sweep carries distances along whole lines, to and fro on every axis; three sweeps leave only ways with many turns a
    little too long.
    """
    distance = (~seeds * FAR).expand(len(edge_costs), *seeds.shape)
    lines = []
    for axis in (-3, -2, -1):
        change = image.diff(dim=axis).abs()
        steps = torch.stack([1 + cost * change for cost in edge_costs])
        lines.append((axis, steps.movedim(axis, 0).contiguous()))
    for _ in range(SWEEPS):
        for axis, steps in lines:
            planes = distance.movedim(axis, 0).contiguous()
            _sweep(planes, steps)
            distance = planes.movedim(0, axis)
    return distance


def _sweep(planes: Tensor, steps: Tensor) -> None:
    """Carry distances from plane to plane and back, in place; `steps` are the lengths between neighbouring planes."""
    on_cpu = planes.device.type == "cpu"
    # The planes are so small that PyTorch's calls would take most of the time; NumPy's do the same sums.
    library: Any = np if on_cpu else torch
    along, between = (list(tensor.numpy() if on_cpu else tensor) for tensor in (planes, steps))
    way = [(index, index + 1, step) for index, step in enumerate(between)]
    back = [(later, earlier, step) for earlier, later, step in reversed(way)]
    for source, target, step in way + back:
        library.minimum(along[target], library.add(along[source], step), out=along[target])


def halved(prompts: Tensor) -> Tensor:
    """The greatest of each cube of eight voxels: `max_pool3d`, without the indices that it takes its time for."""
    for axis in (2, 3, 4):
        even, odd = prompts.unflatten(axis, (-1, 2)).unbind(axis + 1)
        prompts = torch.maximum(even, odd)
    return prompts


def _core(prompts: Tensor) -> Tensor:
    """The prompts to the power of eight, by products: `square` takes four times as long."""
    for _ in range(3):
        prompts = prompts * prompts
    return prompts
