"""Guidance maps: how the CT relates every voxel to the prompts, as further input of the decoder.

A small network trained for hours, not weeks, has not learnt to follow an organ from a click. The maps show it which
voxels have the intensity of a click (`intensity_similarity`), which are connected to it without crossing an edge
(`geodesic_proximity`: Criminisi et al., GeoS, ECCV 2008; as input of a network: Wang et al., DeepIGeoS, 2018), and
which have its embedding (`embedding_maps`). The published network has none; `NetworkConfig.fine_width` adds them.

Tensors are (batch, channel, z, y, x); the channels of prompts are [previous mask, positive clicks, negative clicks],
0..1. Every map is 0..1, and 0 for an empty prompt.
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
"""Voxels of 32³. Length of a step across an edge as high as the whole HU window; one map for each."""
DECAY_LENGTH = 10.0
"""Voxels of 32³. Geodesic distance at which proximity has fallen to 1/e."""
INTENSITY_TEMPERATURE = 0.025
"""Difference of intensity, as a share of the HU window, at which the similarity has fallen to 1/e."""
EMBEDDING_TEMPERATURE = 0.3
"""Difference of the cosine from 1 at which the similarity of embeddings has fallen to 1/e."""
MAX_CLICKS_PER_SIGN = 8
"""Clicks of each sign in a patch that are compared one by one; of further clicks an arbitrary choice is left out."""
SWEEPS = 3
"""Passes of the geodesic distance over all axes."""
UNREACHED = 1e4
"""Initial geodesic distance of voxels that are no seeds."""
MAX_GEODESIC = 60 * DECAY_LENGTH
"""Voxels of 32³. Geodesic distance from which on proximity is 0."""


def guidance_maps(config: NetworkConfig) -> int:
    """Number of guidance maps: intensity similarity, proximity at each edge cost, and embedding maps of each prompt."""
    if not config.fine_width:
        return 0
    return 3 * (1 + len(EDGE_COSTS) + (config.semantic_width > 0) * (1 + config.semantic_places))


def intensity_similarity(image: Tensor, prompts: Tensor) -> Tensor:
    """Similarity of each voxel's intensity to the mean intensity under each prompt.

    Args:
        image: (b, 1, 64, 64, 64), 0..1 over the HU window.
        prompts: (b, 3, 64, 64, 64).

    Returns:
        exp(-|difference| / INTENSITY_TEMPERATURE), (b, 3, 64, 64, 64).

    """
    core = _core(prompts)  # the middle of a click: its rim may lie in another tissue
    total = core.sum(dim=(2, 3, 4), keepdim=True)
    mean = (core * image).sum(dim=(2, 3, 4), keepdim=True) / total.clamp(min=1e-6)
    mean = mean.masked_fill(~(total > 0.5), torch.inf)  # an empty prompt has similarity 0 everywhere
    return (image - mean).abs_().mul_(-1 / INTENSITY_TEMPERATURE).exp_()


def embedding_maps(embedding: Tensor, prompts: Tensor, width: int) -> Tensor:
    """Similarity of each voxel's embedding to the embedding under each prompt.

    Args:
        embedding: vectors and, where the network has them, places, (b, `width` or `width` + 3, 32, 32, 32).
        prompts: (b, 3, 64, 64, 64).
        width: length of the vectors.

    Returns:
        `embedding_similarity`, or with places `class_and_instance_similarity`; (b, 3 or 6, 32, 32, 32).

    """
    if embedding.shape[1] == width:
        return embedding_similarity(embedding, prompts)
    return class_and_instance_similarity(embedding[:, :width], embedding[:, width:], prompts)


def class_and_instance_similarity(vectors: Tensor, places: Tensor, prompts: Tensor) -> Tensor:
    """Similarity of vectors alone (class), and of vectors and places together (instance), to each prompt.

    Clicks are compared one by one and the most similar click of each sign counts, for the mean of two clicks on
    different structures would describe neither. The previous mask is described by its mean vector and place.

    Args:
        vectors: unit vectors, (b, width, 32, 32, 32).
        places: (b, 3, 32, 32, 32), in units of `PLACE_UNIT`.
        prompts: (b, 3, 64, 64, 64).

    Returns:
        Three maps of class similarity and three of instance similarity, (b, 6, 32, 32, 32).

    """
    core = _core(max_pooled(prompts)).flatten(2)  # (b, 3, v) with v = 32³ voxels
    vectors, places = vectors.flatten(2), places.flatten(2)  # (b, width, v), (b, 3, v)
    mask, clicks = core[:, :1], core[:, 1:]
    amount = mask.sum(dim=2, keepdim=True)
    of_mask = [torch.einsum("bpv,bcv->bpc", mask, values) / amount.clamp(min=1e-6) for values in (vectors, places)]
    # A click is a voxel above half, since its map falls below half beside the click.
    heights, indices = clicks.topk(MAX_CLICKS_PER_SIGN)  # (b, 2, MAX_CLICKS_PER_SIGN)
    of_clicks = [_at(values, indices.flatten(1)) for values in (vectors, places)]
    # References: the mask, then the positive, then the negative clicks, n = 1 + 2 * MAX_CLICKS_PER_SIGN.
    reference_vectors, reference_places = (torch.cat(pair, dim=1) for pair in zip(of_mask, of_clicks, strict=True))
    present = torch.cat((amount[..., 0] > 0.5, heights.flatten(1) > 0.5), dim=1)  # (b, n)

    cosine = torch.einsum("bnc,bcv->bnv", F.normalize(reference_vectors, dim=2), vectors)
    same_class = torch.exp((cosine - 1) / EMBEDDING_TEMPERATURE).masked_fill(~present[..., None], 0.0)  # (b, n, v)
    squared_distance = torch.zeros_like(same_class)
    for place, reference in zip(places.split(1, dim=1), reference_places.split(1, dim=2), strict=True):  # axis by axis
        squared_distance += (place - reference).square()
    same_instance = same_class / (1 + squared_distance)  # the kernel of the training (training/learning/label_maps.py)
    best = [_best_of_each(maps).unflatten(2, (GRID, GRID, GRID)) for maps in (same_class, same_instance)]
    return torch.cat(best, dim=1)


def _at(values: Tensor, indices: Tensor) -> Tensor:
    """Values (b, c, v) at voxels (b, n), as (b, n, c)."""
    return values.gather(2, indices[:, None].expand(-1, values.shape[1], -1)).transpose(1, 2)


def _best_of_each(maps: Tensor) -> Tensor:
    """Maps of the mask and of each click (b, n, v) to the maximum for mask, positive and negative clicks (b, 3, v)."""
    positive, negative = maps[:, 1:].chunk(2, dim=1)
    return torch.stack((maps[:, 0], positive.amax(dim=1), negative.amax(dim=1)), dim=1)


def embedding_similarity(vectors: Tensor, prompts: Tensor) -> Tensor:
    """Similarity of each voxel's vector to the mean vector under each prompt.

    Args:
        vectors: unit vectors, (b, width, 32, 32, 32).
        prompts: (b, 3, 64, 64, 64).

    Returns:
        exp((cosine - 1) / EMBEDDING_TEMPERATURE), (b, 3, 32, 32, 32).

    """
    core = _core(max_pooled(prompts))
    total = core.sum(dim=(2, 3, 4), keepdim=True)
    mean = F.normalize(torch.einsum("bpzyx,bczyx->bpc", core, vectors), dim=2)  # (b, 3, width)
    cosine = torch.einsum("bpc,bczyx->bpzyx", mean, vectors)
    return torch.exp((cosine - 1) / EMBEDDING_TEMPERATURE).masked_fill(~(total > 0.5), 0.0)


def geodesic_proximity(image: Tensor, prompts: Tensor) -> Tensor:
    """Proximity of each voxel to each prompt along paths that do not cross edges of the image.

    Args:
        image: (b, 1, 64, 64, 64), 0..1 over the HU window.
        prompts: (b, 3, 64, 64, 64); voxels above 0.5 are seeds.

    Returns:
        exp(-geodesic distance / DECAY_LENGTH) at each of the `EDGE_COSTS`, (b, 3 * costs, 32, 32, 32).

    """
    distance = geodesic(F.avg_pool3d(image, 2), max_pooled(prompts) > 0.5, EDGE_COSTS)
    # Cut off before proximity becomes a denormal number, which processors are many times slower with.
    proximity = torch.exp(-distance / DECAY_LENGTH).masked_fill(~(distance < MAX_GEODESIC), 0.0)
    return torch.cat(list(proximity), dim=1)


def geodesic(image: Tensor, seeds: Tensor, edge_costs: Sequence[float]) -> Tensor:
    """Geodesic distance to seeds: the length of the cheapest path along the axes, where crossing an edge costs more.

    A step costs 1 plus the edge cost times the change of intensity. Each sweep carries distances along whole lines,
    forwards and backwards on every axis; after three sweeps only paths with many turns are a little too long.

    Args:
        image: (b, 1, z, y, x).
        seeds: bool, (b, c, z, y, x).
        edge_costs: length in voxels of a step across a change of intensity by 1.

    Returns:
        Distances in voxels, (edge costs, b, c, z, y, x).

    """
    distance = (~seeds * UNREACHED).expand(len(edge_costs), *seeds.shape)
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
    # NumPy on the CPU: the planes are so small that the overhead of PyTorch's calls would take most of the time.
    library: Any = np if on_cpu else torch
    along, between = (list(tensor.numpy() if on_cpu else tensor) for tensor in (planes, steps))
    forwards = [(index, index + 1, step) for index, step in enumerate(between)]
    backwards = [(later, earlier, step) for earlier, later, step in reversed(forwards)]
    for source, target, step in forwards + backwards:
        library.minimum(along[target], library.add(along[source], step), out=along[target])


def max_pooled(prompts: Tensor) -> Tensor:
    """Max pooling by 2: (b, c, 2n, 2n, 2n) to (b, c, n, n, n). Faster than `max_pool3d`, which computes indices too."""
    for axis in (2, 3, 4):
        even, odd = prompts.unflatten(axis, (-1, 2)).unbind(axis + 1)
        prompts = torch.maximum(even, odd)
    return prompts


def _core(prompts: Tensor) -> Tensor:
    """Prompts to the power of eight, which leaves the middle of a click; `square` takes four times as long."""
    for _ in range(3):
        prompts = prompts * prompts
    return prompts
