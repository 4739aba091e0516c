"""Algorithm 1 of the paper: several click rounds on pairs of overlapping patches.

Arrays and tensors are (batch, channel, z, y, x). A batch holds pairs: the first half are the patches U, the second half
the patches V in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion
from torch import Tensor

from CTSAM3DLib.clicks.simulation import first_click, next_click
from CTSAM3DLib.model import CTSAM3D
from CTSAM3DLib.segmentation.prompt_maps import click_maps
from training.config import Recipe
from training.data.samples import Sample
from training.learning.losses import dice_of, heat_map, segmentation_loss

QUALITY_WEIGHT = 0.1
"""Weight of the error of the quality estimate in the loss."""
CPU = torch.device("cpu")
CLICK_JITTER = 0.5


@dataclass
class Clicks:
    """The clicks in one patch so far: voxels (x, y, z) and signs (1 positive, 0 negative)."""

    points_xyz: list[tuple[int, int, int]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)

    def add(self, position_zyx: tuple[int, int, int], positive: bool) -> None:
        """Append a click at a voxel."""
        z, y, x = position_zyx
        self.points_xyz.append((x, y, z))
        self.labels.append(int(positive))

    def maps(self) -> NDArray[np.float32]:
        """The positive and negative click maps, (2, 64, 64, 64)."""
        return np.stack(click_maps(self.points_xyz, self.labels))


@dataclass(frozen=True)
class RoundResult:
    """The result of one click round: the loss, the probabilities (b, 1, 64, 64, 64), and figures for the curve."""

    loss: Tensor
    probability: Tensor
    dice: float
    heat_map_error: float


class Batch:
    """Pairs of patches with ground truth and their clicks so far."""

    def __init__(
        self, samples: list[Sample], recipe: Recipe, rng: np.random.Generator, device: torch.device = CPU
    ) -> None:
        self.rng = rng
        self.device = device
        hu = np.stack([s.image_u for s in samples] + [s.image_v for s in samples])[:, None]
        image = torch.from_numpy(recipe.scaled(hu))
        self.image = image.to(device).contiguous(memory_format=torch.channels_last_3d)
        self.truth = np.stack([s.truth_u for s in samples] + [s.truth_v for s in samples])
        self.truth_tensor = torch.from_numpy(self.truth[:, None].astype(np.float32)).to(device)
        self.previous = torch.zeros_like(self.truth_tensor)
        self.levels: list[Tensor] | None = None
        self.clicks = [Clicks() for _ in self.truth]
        for index, truth in enumerate(self.truth):
            neighbour_of = samples[index - len(samples)] if index >= len(samples) else None
            if neighbour_of is not None and rng.random() < recipe.continuation_share:
                self._continue_from_overlap(index, neighbour_of)
            elif truth.any() and rng.random() < recipe.edit_share:
                self._start_from_wrong_mask(index)
            else:
                self._click_first(index)

    @cached_property
    def heat_maps(self) -> Tensor:
        """Target heat maps of the cross-patch network for each patch, (2 * pairs, 1, 64, 64, 64)."""
        return torch.from_numpy(np.stack([heat_map(truth) for truth in self.truth])[:, None]).to(self.device)

    def _click_first(self, index: int) -> None:
        if self.truth[index].any():
            self.clicks[index].add(first_click(self.truth[index], self.rng), positive=True)

    def _continue_from_overlap(self, index: int, sample: Sample) -> None:
        """V starts from the mask of U in their overlap, with or without a first click."""
        previous = np.zeros_like(sample.truth_v)
        into, out_of = overlap(sample.offset, previous.shape[0])
        previous[into] = sample.truth_u[out_of]
        if not previous.any() or self.rng.random() < 0.5:
            self._click_first(index)
        confidence = self.rng.uniform(0.7, 1.0)
        self.previous[index, 0] = torch.from_numpy(previous.astype(np.float32)) * confidence

    def _start_from_wrong_mask(self, index: int) -> None:
        """The previous mask is a wrong one, too small, too large or shifted, and the first click lies in its error."""
        truth = self.truth[index]
        wrong = np.roll(truth, self.rng.integers(-6, 7, size=3), axis=(0, 1, 2))
        steps = int(self.rng.integers(1, 4))
        if self.rng.random() < 0.5:
            wrong = binary_dilation(wrong, iterations=steps)
        elif (smaller := binary_erosion(wrong, iterations=steps)).any():
            wrong = smaller
        self.previous[index, 0] = torch.from_numpy(wrong.astype(np.float32)) * self.rng.uniform(0.7, 1.0)
        self._click_error(index, wrong)

    def prompts(self) -> Tensor:
        """The prompt maps [previous mask, positive clicks, negative clicks], (2 * pairs, 3, 64, 64, 64)."""
        maps = torch.from_numpy(np.stack([clicks.maps() for clicks in self.clicks])).to(self.device)
        return torch.cat([self.previous, maps], dim=1).contiguous(memory_format=torch.channels_last_3d)

    def update(self, probability: Tensor) -> None:
        """Take the probabilities (2 * pairs, 1, 64, 64, 64) as previous masks, and click their errors."""
        self.previous = probability
        predicted = (self.previous[:, 0] > 0.5).cpu().numpy()
        for index, mask in enumerate(predicted):
            self._click_error(index, mask)

    def _click_error(self, index: int, mask: NDArray[np.bool_]) -> None:
        click = next_click(self.truth[index], mask, self.rng, jitter=CLICK_JITTER)
        if click is not None:
            self.clicks[index].add(*click)


def overlap(offset: tuple[int, int, int], size: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The overlap of two patches of `size`³ voxels, V starting at U's start + offset: slices into V and into U."""
    into = tuple(slice(max(-o, 0), size - max(o, 0)) for o in offset)
    out_of = tuple(slice(max(o, 0), size - max(-o, 0)) for o in offset)
    return into, out_of


def click_round(model: CTSAM3D, batch: Batch, recipe: Recipe) -> RoundResult:
    """One click round, lines 3 to 6 of Algorithm 1: prompt, segment, and predict across patches.

    The caller makes the optimiser step (line 7), then adds the next clicks (`Batch.update`).
    """
    levels = _levels(model, batch, recipe)
    with _autocast(batch.device, recipe.precision):
        logits, quality = model.decoder(levels, batch.prompts())
        probability = logits.detach().float().sigmoid()
        heat_map_error = _heat_map_error(model, batch, probability) if recipe.cross_patch else torch.zeros(())
    dice = dice_of(probability, batch.truth_tensor)
    loss = segmentation_loss(logits.float(), batch.truth_tensor) + heat_map_error
    loss = loss + QUALITY_WEIGHT * F.mse_loss(quality.float(), dice)
    return RoundResult(loss, probability, float(dice.mean()), float(heat_map_error.detach()))


def _levels(model: CTSAM3D, batch: Batch, recipe: Recipe) -> list[Tensor]:
    """The encoder's levels; a frozen encoder and the embedding run in the first round only."""
    # Encoded in float32 on a CPU: the last grid is 2³, where oneDNN's bfloat16 weight gradients can be wrong.
    with _autocast(batch.device, recipe.precision if batch.device.type != "cpu" else "float32"):
        if batch.levels is None or "encoder" not in recipe.frozen:
            vectors = batch.levels[1] if batch.levels and model.semantics is not None else None
            batch.levels = model.encode(batch.image, vectors)
    return batch.levels


def _autocast(device: torch.device, precision: str) -> torch.autocast:
    return torch.autocast(device.type, getattr(torch, precision), enabled=precision != "float32")


def _heat_map_error(model: CTSAM3D, batch: Batch, probability: Tensor) -> Tensor:
    """Mean squared error of the heat maps that each patch predicts for its partner."""
    pairs = len(batch.image) // 2
    proposed = model.predict_prompts(batch.image, probability, batch.image.roll(pairs, dims=0))
    return F.mse_loss(proposed.float(), batch.heat_maps.roll(pairs, dims=0))
