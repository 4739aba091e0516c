"""The fast execution of a trained network on a CPU, in float32."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from CTSAM3DLib.execution.cpu.fast_block import cached_numbers as kept_by_block
from CTSAM3DLib.execution.cpu.fast_decoder import fast_decoder
from CTSAM3DLib.execution.cpu.onednn import by_onednn
from CTSAM3DLib.model.configs import NetworkConfig
from CTSAM3DLib.model.network import CTSAM3D


class FastOnCpu:
    """An `Execution` that shares the network's weights, except for those transformed for Winograd convolutions."""

    def __init__(self, network: CTSAM3D) -> None:
        twin = by_onednn(network)
        self._twin = twin
        self.encode = twin.encode
        self.predict_prompts = twin.predict_prompts
        self._fast_decoder = fast_decoder(network.decoder)

    @property
    def supports_prefetch(self) -> bool:
        """Whether `prefetch` computes anything."""
        return self._fast_decoder is not None and self._fast_decoder.supports_prefetch

    def prefetch(self, prompts: Tensor, stop: Callable[[], bool]) -> None:
        """Precompute for decodes with prompts similar to these (1, 3, 64, 64, 64), until `stop()` is true."""
        if self._fast_decoder is not None:
            self._fast_decoder.prefetch(prompts, stop)

    def decode(self, levels: list[Tensor], prompts: Tensor) -> tuple[Tensor, Tensor]:
        """As `CTSAM3D.decode`."""
        if self._fast_decoder is None:
            logits, quality = self._twin.decoder(levels, prompts)
            return torch.sigmoid(logits), quality
        logits, quality = self._fast_decoder(levels, prompts)
        return self._fast_decoder.probability(logits), quality


def cached_numbers(config: NetworkConfig) -> int:
    """Number of float32 values that the fast execution keeps beside the network's own weights."""
    sides = (2, 4, 8, 16, 32)
    return sum(map(kept_by_block, config.block_widths, config.prompt_widths, sides))
