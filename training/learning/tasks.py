"""The tasks of the training loop: label maps, clicks (Algorithm 1) and cross-patch prompts, with their losses.

The host draws the patches of a step (`Learning.draw`), which can be prefetched; the device reads them. A task yields
one loss after another, each for one optimiser step, with figures for the learning curve as tensors on the device.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from CTSAM3DLib.model import CTSAM3D
from training.learning.click_rounds import Prompted
from training.learning.label_maps import Prototypes, label_losses
from training.learning.losses import HEAT_MAP_SIGMA, dice_of, segmentation_loss
from training.learning.plan import Plan, Task
from training.learning.resident import Resident
from training.learning.samples import Drawing, Patches, Placement, read, scaled

QUALITY_WEIGHT = 0.1
"""Weight of the error of the quality estimate in the loss."""
PAIR_OFFSET = 44
"""Voxels on each axis. Largest distance between two patches of a pair."""
ERODED_SHARE = 0.2
"""Share of masks given to the cross-patch network that are eroded, since predicted masks are imperfect too."""

Step = Iterator[tuple[Tensor, dict[str, Tensor]]]
"""Losses, one for each optimiser step, with their figures."""


class Learning:
    """Network, data and settings of all tasks."""

    def __init__(
        self, network: CTSAM3D, prototypes: Prototypes, resident: Resident, plan: Plan, generator: torch.Generator
    ) -> None:
        self.network, self.prototypes, self.resident, self.plan = network, prototypes, resident, plan
        self.generator = generator
        self._drawing = Drawing(resident, plan.regions)
        self._device = resident.weight.device

    def draw(self, name: str, task: Task, rng: np.random.Generator) -> list[Placement]:
        """Draw the patches of a step; for the cross-patch task the segmented patches, then as many neighbours."""
        found = []
        for _ in range(task.batch):
            structure = self._drawing.structure(rng, of_pieces=rng.random() < task.pieces)
            found.append(self._drawing.placement(structure, rng, self.plan.stray, self.plan.poses, self.plan.looks))
        if name == "cross_patch":
            offsets = rng.integers(-PAIR_OFFSET, PAIR_OFFSET + 1, size=(len(found), 3))
            found += [shown.moved(offset) for shown, offset in zip(found, offsets, strict=True)]
        return found

    def losses(self, name: str, task: Task, placements: list[Placement]) -> Step:
        """The losses of a step of a task on the patches drawn for it."""
        with torch.no_grad():
            patches = read(self.resident, placements, self.generator)
        if name == "label_maps":
            return self._of_label_maps(patches)
        return self._of_clicks(patches, task.rounds) if name == "clicks" else self._of_neighbours(patches)

    def _of_label_maps(self, patches: Patches) -> Step:
        """Classes, places and affinities of whole label maps."""
        assert self.network.semantics is not None  # a plan with this task has a network that learns it
        with self._autocast():
            embedding = self.network.semantics.embed(scaled(patches.hu, self.plan.window))
        losses = label_losses(embedding, self.prototypes, patches, self.resident, self.generator)
        yield losses.total, {"kinds": losses.kinds, "places": losses.places, "borders": losses.borders}

    def _of_clicks(self, patches: Patches, rounds: int) -> Step:
        """Click rounds on the same patches (Algorithm 1); the voxel embedding is computed once and not trained."""
        image, truth = scaled(patches.hu, self.plan.window), patches.truth[:, None]
        prompted = Prompted(truth, patches.hu[:, None], self.plan.spacing, self.plan.prompting, self.generator)
        embedding = None
        if self.network.semantics is not None:
            with torch.no_grad(), self._autocast():
                embedding = self.network.semantics(image)
        target = truth.float()
        for index in range(rounds):
            with self._autocast(encoding=True):
                levels = self.network.encode(image, embedding)
            with self._autocast():
                logits, quality = self.network.decoder(levels, prompted.maps.tensor())
            probability = logits.detach().float().sigmoid()
            dice = dice_of(probability, target)
            loss = segmentation_loss(logits.float(), target) + QUALITY_WEIGHT * F.mse_loss(quality.float(), dice)
            yield loss, {f"dice_{index + 1}": dice.mean()}
            prompted.update(probability)

    def _of_neighbours(self, patches: Patches) -> Step:
        """Heat maps of where a structure continues in a neighbouring patch; masks come from label maps."""
        image, neighbour = scaled(patches.hu, self.plan.window).chunk(2)
        shown, continued = patches.truth[:, None].chunk(2)
        mask = shown.float()
        eroded = -F.max_pool3d(-mask, 3, stride=1, padding=1)
        is_eroded = torch.rand(len(mask), generator=self.generator, device=self._device) < ERODED_SHARE
        mask = torch.where(is_eroded[:, None, None, None, None], eroded, mask)
        with self._autocast():
            predicted = self.network.predict_prompts(image, mask, neighbour)
        error = F.mse_loss(predicted.float(), heat_maps(continued))
        yield error * 100, {"heat_map_error": error}

    def _autocast(self, encoding: bool = False) -> torch.autocast:
        """Autocast as the plan asks; encoding on a CPU is float32.

        The encoder's last grid is 2³, where oneDNN's bfloat16 weight gradients are wrong on some processors.
        """
        on = self.plan.precision == "bfloat16" and not (encoding and self._device.type == "cpu")
        return torch.autocast(self._device.type, torch.bfloat16, enabled=on)


def heat_maps(truth: Tensor) -> Tensor:
    """Target heat maps as `losses.heat_map` computes them, for bool (b, 1, n, n, n); float32, the same shape."""
    side, device = truth.shape[-1], truth.device
    along = torch.arange(side, device=device, dtype=torch.float32)
    axes = [along.view(shape) for shape in ((1, -1, 1, 1), (1, 1, -1, 1), (1, 1, 1, -1))]
    mask = truth[:, 0].float()
    amount = mask.sum(dim=(1, 2, 3), keepdim=True)
    centres = [(mask * axis).sum(dim=(1, 2, 3), keepdim=True) / amount.clamp(min=1) for axis in axes]
    away = sum((axis - centre).square() for axis, centre in zip(axes, centres, strict=True))
    assert isinstance(away, Tensor)
    nearest = away.masked_fill(~truth[:, 0], torch.inf).flatten(1).argmin(dim=1)
    found = [(nearest // side**2), nearest // side % side, nearest % side]
    squared = sum((axis - voxel.view(-1, 1, 1, 1)).square() for axis, voxel in zip(axes, found, strict=True))
    assert isinstance(squared, Tensor)
    return (torch.exp(-squared / (2 * HEAT_MAP_SIGMA**2)) * (amount > 0))[:, None]
