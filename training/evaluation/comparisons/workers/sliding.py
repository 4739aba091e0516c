"""Base of plain segmentation networks: sliding-window inference on the resampled CT, and the most probable label."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from monai.inferers import sliding_window_inference

from .automatic import BTCV, Automatic
from .grids import brought_back, from_ras, resampled, to_ras
from .serve import Refusal, Settings, Spacing, numbers
from .weights import chosen, device_of, identity, load_into


class SlidingNetwork(Automatic):
    """A network from a patch to the logits of its labels; the background comes first.

    `spacing` and `patch` are in the order of the network's axes, `range` the HU that become 0 and 1. Where `sd` is
    given, HU are clipped to the range and then normalised by `mean` and `sd` instead.
    """

    OPTIONS: ClassVar[Mapping[str, str]] = {
        "classes": ",".join(BTCV),
        "spacing": "1.5,1.5,2.0",
        "patch": "96,96,96",
        "range": "-175,250",
        "mean": "0",
        "sd": "",
        "overlap": "0.5",
    }
    RAS: ClassVar[bool] = True
    """Whether the network's axes are x, y, z to the right, front and head, rather than z, y, x."""
    OF_TRAINING: ClassVar[tuple[str, ...]] = ()
    """Options whose values depend on the user's own training."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.classes = tuple(name.strip() for name in self.option["classes"].split(","))
        x, y, z = numbers(self.option["spacing"], 3, "a spacing")
        self._network_spacing: Spacing = (z, y, x) if self.RAS else (x, y, z)
        self.patch = tuple(int(n) for n in numbers(self.option["patch"], 3, "a patch"))
        self._range = numbers(self.option["range"], 2, "a range of HU")
        (self._overlap,) = numbers(self.option["overlap"], 1, "an overlap")
        path = chosen(settings, f"a file of weights for {len(self.classes) + 1} labels with the background")
        self.weights = identity(path)
        if path is not None and (missing := [name for name in self.OF_TRAINING if name not in settings.options]):
            raise Refusal(f"its weights go with the {', '.join(missing)} of their training; give them by --option.")
        self.device = device_of(settings)
        self.network = self.build(len(self.classes) + 1)
        load_into(self.network, path, trusted=self.trusted, key="state_dict")
        self.network.to(self.device).eval()

    @abstractmethod
    def build(self, labels: int) -> torch.nn.Module:
        """The network with random weights, for so many labels with the background."""

    def logits(self, patch: torch.Tensor) -> torch.Tensor:
        """The network's logits (n, labels, *patch) of patches (n, 1, *patch)."""
        answer: Any = self.network(patch)
        return answer

    def label_map(self, hu: np.ndarray, spacing: Spacing) -> np.ndarray:
        """The most probable label of each voxel."""
        image = self._normalised(resampled(hu, spacing, self._network_spacing))
        logits: Any = sliding_window_inference(
            (to_ras(image) if self.RAS else image).to(self.device),
            self.patch,
            1,
            self.logits,
            overlap=self._overlap,
            mode="gaussian",
        )
        logits = brought_back((from_ras(logits) if self.RAS else logits).cpu(), hu.shape)
        return logits.argmax(1)[0].numpy()

    def _normalised(self, image: torch.Tensor) -> torch.Tensor:
        low, high = self._range
        if high <= low:
            raise Refusal("its range of HU is empty; write one like --option range=-175,250.")
        if self.option["sd"]:
            (mean,), (sd,) = numbers(self.option["mean"], 1, "a mean"), numbers(self.option["sd"], 1, "a deviation")
            return (image.clip(low, high) - mean) / sd
        return (image.clip(low, high) - low) / (high - low)
