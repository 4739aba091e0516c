"""Click rounds on the device (paper, Algorithm 1): the prompts of a batch of patches from round to round.

The first prompt of a patch is a click, a scribble, a box or a lasso, alone or with a mask to correct; after each
prediction the deepest error is clicked. No value leaves the device. Tensors are (batch, channel, 64, 64, 64).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from training.learning import draws
from training.learning.clicks import error_region, first_clicks, next_clicks
from training.learning.draws import by_patch
from training.learning.prompt_maps import PromptMaps
from training.learning.starting_masks import starting_masks
from training.learning.strokes import boxes, lassos, scribbles, unsure

BEGINNINGS = ("click", "scribble", "box", "lasso")
MAX_JITTER = 0.6
"""Largest click jitter, as a share of the error's depth."""


@dataclass(frozen=True)
class Prompting:
    """Sampling weights of prompts; the weights of each mapping need not sum to 1.

    Attributes:
        beginnings: of the first prompts, `BEGINNINGS`.
        first_clicks: of first clicks, `clicks.MANNERS`.
        starting_masks: of masks to correct, `starting_masks.MANNERS`.
        scribbled: share of patches whose errors are corrected by scribbles.

    """

    beginnings: Mapping[str, float]
    first_clicks: Mapping[str, float]
    starting_masks: Mapping[str, float]
    scribbled: float = 0.1


class Prompted:
    """A batch of patches with its prompts so far."""

    def __init__(self, truth: Tensor, hu: Tensor, spacing: float, how: Prompting, generator: torch.Generator) -> None:
        """Draw the first prompts. `truth` is bool, `hu` real, both (b, 1, 64, 64, 64); `spacing` in mm."""
        self.truth, self._spacing, self._how, self._generator = truth, spacing, how, generator
        batch, device = len(truth), truth.device
        beginning = draws.kinds(how.beginnings, BEGINNINGS, batch, generator, device)
        masks = starting_masks(truth, hu, how.starting_masks, generator)
        for name, interior in (("box", boxes(truth, generator)), ("lasso", lassos(truth, generator))):
            masks = torch.where(by_patch(beginning == BEGINNINGS.index(name)), unsure(interior), masks)
        self.maps = PromptMaps.starting_from(masks)
        self._scribbles = draws.uniform(batch, generator, device) < how.scribbled

        corrects = masks.flatten(1).amax(dim=1) > 0.5
        clicked = beginning == BEGINNINGS.index("click")
        first, second = first_clicks(truth, how.first_clicks, generator)
        error = next_clicks(truth, masks > 0.5, self._jitter(), generator)
        self.maps.add(first._replace(there=first.there & clicked & ~corrects))
        self.maps.add(second._replace(there=second.there & clicked & ~corrects))
        self.maps.add(error._replace(there=error.there & clicked & corrects))
        self._scribble(masks > 0.5, error.sign, beginning == BEGINNINGS.index("scribble"))

    def update(self, probability: Tensor) -> None:
        """Take the probabilities (b, 1, 64, 64, 64) as previous masks, and prompt in their errors."""
        self.maps.previous = probability
        mask = probability > 0.5
        click = next_clicks(self.truth, mask, self._jitter(), self._generator)
        self.maps.add(click._replace(there=click.there & ~self._scribbles))
        self._scribble(mask, click.sign, self._scribbles)

    def _scribble(self, mask: Tensor, sign: Tensor, which: Tensor) -> None:
        """Draw scribbles into the errors of these signs (b,), in the patches `which` (b,)."""
        drawn = scribbles(error_region(self.truth, mask, sign), sign, self._generator, spacing=self._spacing)
        self.maps.add_scribbles(drawn._replace(there=drawn.there & which))

    def _jitter(self) -> Tensor:
        return draws.uniform(len(self.truth), self._generator, self.truth.device, 0.0, MAX_JITTER)
