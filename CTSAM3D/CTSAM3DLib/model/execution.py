"""How a network is run, and how much its numbers may differ from those of its plain execution: the numerical policy.

*Plain* execution is the modules as they are: float32, every map computed in full. Everything else has to agree with it.

- On a CPU everything is float32. What is fast there reorders sums, and nothing else: convolutions by oneDNN and by
  minimal filtering, responses to constant prompts computed once (`fast_decoder.py`). bfloat16 is not used: where the
  processor computes in it by AVX-512 it was measured slower, elsewhere it is emulated.
- On CUDA, convolutions and matrix products are bfloat16 where the card computes in it; sums of layer norms, vectors of
  semantics and what the modules keep as `float()` stay float32. Recorded graphs (`cuda_graphs.py`) change no number.
- Whatever is not plain is tried when an engine starts: on one made-up patch at most `TOLERANCE` of the voxels may
  change sides of the mask, else plain execution is used. The choice depends on the computer, never on timing or load.
- One patch is decoded at a time on a CPU, so that an answer never depends on what else was asked.
- Probabilities leave the engine in 255 steps; masks kept, sent and shown are made from these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from CTSAM3DLib.model.decoder import PromptDecoder
from CTSAM3DLib.model.fast_decoder import FastDecoder
from CTSAM3DLib.model.network import CTSAM3D
from CTSAM3DLib.model.onednn import by_onednn

TOLERANCE = {"float32": 0.0005, "bfloat16": 0.005}
"""Share of voxels that may change sides of the mask against the plain execution, by the precision tried."""


class Execution(Protocol):
    """What the engine asks; the network itself answers plainly."""

    def encode(self, image: Tensor) -> list[Tensor]:
        """As `CTSAM3D.encode`."""

    def decode(self, levels: list[Tensor], prompts: Tensor) -> tuple[Tensor, Tensor]:
        """As `CTSAM3D.decode`."""

    def propose(self, image: Tensor, mask: Tensor, neighbour: Tensor) -> Tensor:
        """As `CTSAM3D.propose`."""


class FastOnCpu:
    """A network's fast execution on the CPU, in float32; weights are shared but for those of minimal filtering."""

    def __init__(self, network: CTSAM3D) -> None:
        twin = by_onednn(network)
        self._twin = twin
        self.encode = twin.encode
        self.propose = twin.propose
        decoder = network.decoder
        fast = FastDecoder(decoder) if isinstance(decoder, PromptDecoder) else None
        self._decoder = twin.decoder if fast is None else fast
        self._probability = torch.sigmoid if fast is None else fast.probability
        self._foreseeing = fast if fast is not None and fast.foresees else None

    @property
    def foresees(self) -> bool:
        """Whether `expect` makes anything."""
        return self._foreseeing is not None

    def expect(self, prompts: Tensor, stop: Callable[[], bool]) -> None:
        """Make ahead what a decode with prompts (1, 3, 64, 64, 64) like these will need, until `stop` says so."""
        if self._foreseeing is not None:
            self._foreseeing.respond_ahead(prompts, stop)

    def decode(self, levels: list[Tensor], prompts: Tensor) -> tuple[Tensor, Tensor]:
        """As `CTSAM3D.decode`."""
        logits, quality = self._decoder(levels, prompts)
        return self._probability(logits), quality
