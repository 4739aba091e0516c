"""A network whose answer is known, bright voxels where it is prompted; in tests it stands in for a trained one.

It keeps the interface of `CTSAM3DLib.model.network.CTSAM3D`, so that the real engine and the real session run on it.
"""

import torch
from torch import nn

from CTSAM3DLib.checkpoints.checkpoint import ModelInfo, TrainedModel
from CTSAM3DLib.model.configs import SMALL

WINDOW = (-1000.0, 1000.0)
BRIGHT = 0.6
"""200 HU in the window above."""


class ThresholdNetwork(nn.Module):
    """Prompted by a positive click or a previous mask, it answers all bright voxels but those near negative clicks."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SMALL
        self.decoded = 0

    def encode(self, image):
        return [image]

    def decode(self, levels, prompts):
        self.decoded += len(prompts)
        previous, positive, negative = prompts.split(1, dim=1)
        prompted = (torch.maximum(previous, positive).flatten(1).amax(1) > 0.5)[:, None, None, None, None]
        spared = negative > 0.05
        probability = 0.99 * ((levels[0] > BRIGHT) & prompted & ~spared).float()
        return probability, probability.flatten(1).amax(1)

    def predict_prompts(self, image, mask, neighbour):
        return torch.zeros_like(neighbour)


def threshold_model() -> TrainedModel:
    return TrainedModel(ThresholdNetwork().eval(), ModelInfo("threshold", WINDOW), "0" * 64)
