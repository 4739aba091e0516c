"""Algorithm 1 of the paper: pairs of overlapping patches, clicked for several rounds, one optimiser step a round.

Arrays and tensors are (batch, channel, z, y, x). A batch holds pairs: its first half are the patches U, its second
half the patches V in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from CTSAM3DLib.model import CTSAM3D
from CTSAM3DLib.prompts import click_maps
from training.click_simulation import first_click, next_click
from training.losses import dice_of, heat_map, segmentation_loss
from training.samples import Sample

QUALITY_WEIGHT = 0.1
CLICK_JITTER = 0.5
CONTINUATION_SHARE = 0.5
"""Share of pairs whose V is first prompted as growth prompts a neighbour: by the part of the mask that overlaps."""


@dataclass
class Clicks:
    """The clicks in one patch so far: voxel positions (x, y, z) and signs (1 positive, 0 negative)."""

    points_xyz: list[tuple[int, int, int]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)

    def add(self, position_zyx: tuple[int, int, int], positive: bool) -> None:
        """Append a click at a voxel."""
        z, y, x = position_zyx
        self.points_xyz.append((x, y, z))
        self.labels.append(int(positive))

    def maps(self) -> NDArray[np.float32]:
        """(2, 64, 64, 64): positive and negative click maps."""
        return np.stack(click_maps(self.points_xyz, self.labels))


@dataclass(frozen=True)
class RoundResult:
    """What one round of one batch gave: the loss to step on and figures for the curve."""

    loss: Tensor
    dice: float
    heat_map_error: float


class Batch:
    """Pairs of patches with their truth, ready to be clicked."""

    def __init__(self, samples: list[Sample], window: tuple[float, float], rng: np.random.Generator) -> None:
        self.rng = rng
        low, high = window
        hu = np.stack([s.image_u for s in samples] + [s.image_v for s in samples])[:, None]
        image = torch.from_numpy((np.clip(hu, low, high) - low).astype(np.float32) / np.float32(high - low))
        self.image = image.contiguous(memory_format=torch.channels_last_3d)
        self.truth = np.stack([s.truth_u for s in samples] + [s.truth_v for s in samples])
        self.truth_tensor = torch.from_numpy(self.truth[:, None].astype(np.float32))
        self.heat_maps = torch.from_numpy(np.stack([heat_map(t) for t in self.truth])[:, None])
        self.previous = torch.zeros_like(self.truth_tensor)
        self.clicks = [Clicks() for _ in self.truth]
        for index, sample in enumerate(samples):
            self._click_first(index)
            neighbour = index + len(samples)
            if rng.random() < CONTINUATION_SHARE:
                self._continue_from_overlap(neighbour, sample)
            else:
                self._click_first(neighbour)

    def _click_first(self, index: int) -> None:
        if self.truth[index].any():
            self.clicks[index].add(first_click(self.truth[index], self.rng), positive=True)

    def _continue_from_overlap(self, index: int, sample: Sample) -> None:
        """V starts from the mask of U where they overlap, with or without a proposed click."""
        known = np.zeros_like(sample.truth_v)
        into, out_of = overlap(sample.offset, known.shape[0])
        known[into] = sample.truth_u[out_of]
        if not known.any() or self.rng.random() < 0.5:
            self._click_first(index)
        confidence = self.rng.uniform(0.7, 1.0)
        self.previous[index, 0] = torch.from_numpy(known.astype(np.float32)) * confidence

    def prompts(self) -> Tensor:
        """(2 * pairs, 3, 64, 64, 64): previous mask, positive clicks, negative clicks."""
        maps = torch.from_numpy(np.stack([clicks.maps() for clicks in self.clicks]))
        return torch.cat([self.previous, maps], dim=1).contiguous(memory_format=torch.channels_last_3d)

    def answer(self, probability: Tensor) -> None:
        """Keep the soft masks as the previous ones and click where they are wrong."""
        self.previous = probability.detach()
        predicted = (self.previous[:, 0] > 0.5).numpy()
        for index, clicks in enumerate(self.clicks):
            click = next_click(self.truth[index], predicted[index], self.rng, jitter=CLICK_JITTER)
            if click is not None:
                clicks.add(*click)


def overlap(offset: tuple[int, int, int], size: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where two patches of `size`³ share voxels: slices into V and into U, for V starting at U's start + offset."""
    into = tuple(slice(max(-o, 0), size - max(o, 0)) for o in offset)
    out_of = tuple(slice(max(o, 0), size - max(-o, 0)) for o in offset)
    return into, out_of


def play(model: CTSAM3D, batch: Batch, rounds: int, precision: torch.dtype) -> Iterator[RoundResult]:
    """Lines 1 to 10 of Algorithm 1; the caller steps the optimiser on each round's loss before the next round."""
    pairs = len(batch.image) // 2
    neighbour_image = batch.image.roll(pairs, dims=0)
    neighbour_heat_map = batch.heat_maps.roll(pairs, dims=0)
    for _ in range(rounds):
        with torch.autocast(batch.image.device.type, precision, enabled=precision != torch.float32):
            logits, quality = model.decoder(model.encode(batch.image), batch.prompts())
            probability = logits.float().sigmoid()
            proposed = model.propose(batch.image, probability.detach(), neighbour_image).float()
        dice = dice_of(probability.detach(), batch.truth_tensor)
        heat_map_error = F.mse_loss(proposed, neighbour_heat_map)
        quality_error = F.mse_loss(quality.float(), dice)
        loss = segmentation_loss(logits.float(), batch.truth_tensor) + heat_map_error + QUALITY_WEIGHT * quality_error
        yield RoundResult(loss, float(dice.mean()), float(heat_map_error.detach()))
        batch.answer(probability)
