"""How a random walk weighs its evidence, learnt through the walk: situations, their loss, and the descent.

The potential x of a walk solves A x = a (`CTSAM3DLib.segmentation.random_walk`). A is symmetric, so that the gradient
of a loss with respect to conductances and pulls takes one more solution, of A y = dloss/dx.

Arrays and tensors are (z, y, x) or have kinds first.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from CTSAM3DLib.model.small.walk import Walk
from CTSAM3DLib.segmentation.evidence import Evidence
from CTSAM3DLib.segmentation.random_walk import potential, solved
from CTSAM3DLib.segmentation.walk import CERTAIN

TOLERANCE = 2e-3
"""Of solutions while learning."""
STEEPNESS = 14.0
"""Of the soft mask that the Dice is taken of."""
GRADIENT_CLIP = 0.5
COSTS_RATE = 4.0
"""How many times as fast the costs of edges are learnt, whose scale nobody knows."""
PATIENCE = 1.5
"""The rate falls to nothing over the last two thirds of the time."""


@dataclass(frozen=True)
class Situation:
    """Clicks at a structure, what is known around them, and the truth."""

    region: str
    step: int
    clicks: NDArray[np.float32]
    voxels: NDArray[np.float16]
    edges: tuple[NDArray[np.float16], ...]
    seeds: NDArray[np.int8]
    truth: NDArray[np.bool_]
    size: float
    """Voxels of the structure, of which some may lie beyond the walk."""

    @classmethod
    def of(cls, region: str, found: Evidence, truth: NDArray[np.bool_], size: float) -> Situation:
        """Halves of the evidence's floats take half the memory."""
        edges = tuple(kinds.astype(np.float16) for kinds in found.edges)
        return cls(region, found.step, found.clicks, found.voxels.astype(np.float16), edges, found.seeds, truth, size)


class Potential(torch.autograd.Function):
    """`random_walk.potential` of conductances along z, y, x, pulls inwards and outwards, with its gradient."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> Tensor:
        """Solve."""
        *conductances, inwards, outwards = (tensor.numpy() for tensor in tensors)
        x = potential(conductances, inwards, outwards, inwards / (inwards + outwards), TOLERANCE)
        ctx.solution = conductances, inwards + outwards, x
        return torch.from_numpy(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        """Solve once more."""
        conductances, pulls, x = ctx.solution
        y = solved(conductances, pulls, gradient.numpy(), tolerance=TOLERANCE)
        of_conductances = [-np.diff(y, axis=axis) * np.diff(x, axis=axis) for axis in range(3)]
        return tuple(torch.from_numpy(array) for array in (*of_conductances, y * (1 - x), -y * x))


def loss_and_dice(walk: Walk, situation: Situation) -> tuple[Tensor, float]:
    """1 - the Dice of the walk's soft mask, and the Dice of its mask."""
    voxels = torch.from_numpy(situation.voxels.astype(np.float32))
    seeds, truth = torch.from_numpy(situation.seeds), torch.from_numpy(situation.truth)
    pulls = walk.pulls(torch.from_numpy(situation.clicks), voxels.flatten(1)).reshape(2, *seeds.shape)
    certain = float(CERTAIN)
    share = situation.step**2
    inwards = torch.where(seeds == 0, pulls[0], torch.where(seeds > 0, certain, 0.0)) * share
    outwards = torch.where(seeds == 0, pulls[1], torch.where(seeds < 0, certain, 0.0)) * share
    edges = [torch.from_numpy(kinds.astype(np.float32)) for kinds in situation.edges]
    x = Potential.apply(*(walk.conductances(kinds) for kinds in edges), inwards, outwards)
    soft = torch.sigmoid(STEEPNESS * (x - 0.5))
    loss = 1 - 2 * soft[truth].sum() / (soft.sum() + situation.size)
    mask = x >= 0.5
    dice = 2 * int((mask & truth).sum()) / (int(mask.sum()) + situation.size)
    return loss, dice


def fit(
    walk: Walk,
    situations: Sequence[Situation],
    minutes: float,
    rate: float,
    batch: int,
    seed: int,
    told: Callable[[int, float], None],
) -> None:
    """Descend for so long, drawing from all regions alike; `told` hears of steps and the mean Dice of late."""
    by_region = defaultdict(list)
    for situation in situations:
        by_region[situation.region].append(situation)
    regions = sorted(by_region)
    costs = [walk.edge_costs]
    others = [weight for name, weight in walk.named_parameters() if name != "edge_costs"]
    optimiser = torch.optim.AdamW([{"params": others}, {"params": costs}], lr=rate, weight_decay=1e-4)
    drawn = random.Random(seed)
    begun, step, scores = time.monotonic(), 0, []
    while (left := 1 - (time.monotonic() - begun) / (60 * minutes)) > 0:
        now = rate * min(1.0, PATIENCE * left)
        for group, times in zip(optimiser.param_groups, (1.0, COSTS_RATE), strict=True):
            group["lr"] = now * times
        optimiser.zero_grad()
        for _ in range(batch):
            loss, dice = loss_and_dice(walk, drawn.choice(by_region[drawn.choice(regions)]))
            (loss / batch).backward()
            scores.append(dice)
        torch.nn.utils.clip_grad_norm_(walk.parameters(), GRADIENT_CLIP)
        optimiser.step()
        step += 1
        if step % 25 == 0:
            told(step, float(np.mean(scores[-50 * batch :])))
