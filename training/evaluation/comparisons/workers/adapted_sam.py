"""Base of SAMed and MA-SAM: SAM without prompts, adapted to a fixed list of organs, on axial slices.

Both were trained on BTCV's slices as they lie in its files, whose first axis is taken to run to the left and whose
second to the front; each turns them its own way.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn.functional import interpolate

from .automatic import Automatic
from .serve import FRESH, Refusal, Settings, Spacing
from .weights import chosen, device_of, identity


class AdaptedSam(Automatic):
    """A network of SAM's with adapters, whose weights are two files: SAM's own and the adapters'."""

    OPTIONS: ClassVar[Mapping[str, str]] = {"sam": ""}
    ADAPTERS: ClassVar[str]
    """Description of the weights that the user must give."""
    NAMES: ClassVar[tuple[str, ...]]
    """Its labels 1, 2, ..."""
    SIDE: ClassVar[int] = 512

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        path = chosen(settings, self.ADAPTERS)
        sam = self.option["sam"]
        if path is not None and not Path(sam).is_file():
            raise Refusal("it needs SAM's own weights as well; give their file by --option sam=FILE.")
        self.weights = FRESH if path is None else identity(path) + identity(Path(sam))
        self.classes = self.NAMES
        self.device = device_of(settings)
        self.network = self.build(None if path is None else sam, path)
        self.network.to(self.device).eval()

    @abstractmethod
    def build(self, sam: str | None, adapters: Path | None) -> torch.nn.Module:
        """The network, with the weights of these files where there are any."""

    @abstractmethod
    def share(self, hu: torch.Tensor) -> torch.Tensor:
        """HU in the range that the network sees."""

    @abstractmethod
    def flipped(self, volume: torch.Tensor) -> torch.Tensor:
        """A volume (..., y, x) turned as the network's slices, or back."""

    @abstractmethod
    def probabilities(self, slices: torch.Tensor) -> torch.Tensor:
        """Those of the labels (z, labels, SIDE, SIDE), of all slices (z, SIDE, SIDE)."""

    def label_map(self, hu: np.ndarray, spacing: Spacing) -> np.ndarray:
        """The most probable label of each voxel."""
        slices = self.flipped(self.share(torch.from_numpy(hu.astype(np.float32))))
        square = interpolate(slices[:, None], (self.SIDE, self.SIDE), mode="bicubic", align_corners=False)[:, 0]
        shares = self.flipped(interpolate(self.probabilities(square), hu.shape[1:], mode="bilinear"))
        return shares.argmax(1).numpy()

    def masks(self, images: torch.Tensor) -> torch.Tensor:
        """The network's logits of images in its own layout."""
        answer: Any = self.network(images.to(self.device), True, self.SIDE)
        logits: torch.Tensor = answer["masks"]
        return logits.softmax(1).cpu()
