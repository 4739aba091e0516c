"""The prompt decoder as a processor runs it fastest: the numbers of `decoder.PromptDecoder` but for rounding.

Blocks take the form of `fast_block.py`, upscalings and heads that of `fast_heads.py`, and a crew of threads works on
each of them part by part (`crew.py`). Nothing is approximated.

Volumes are (z, y, x, channel), contiguous float32 on the CPU, one patch at a time.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from CTSAM3DLib.model.crew import Crew
from CTSAM3DLib.model.decoder import PromptBlock, PromptDecoder, Upscale
from CTSAM3DLib.model.fast_block import FastBlock
from CTSAM3DLib.model.fast_guidance import maps_with_guidance
from CTSAM3DLib.model.fast_heads import FastFineHead, FastHead, FastUpscale
from CTSAM3DLib.model.tiles import Scratch, volumes_of


class FastDecoder(PromptDecoder):
    """A trained `PromptDecoder` with its blocks, upscalings and head in their fast form."""

    def __init__(self, plain: PromptDecoder) -> None:
        nn.Module.__init__(self)
        self.__dict__.update({name: value for name, value in plain.__dict__.items() if not name.startswith("_")})
        crew, shared = Crew(), Scratch()
        self._crew = crew
        self.blocks = nn.ModuleList(
            FastBlock(cast(PromptBlock, block), 2 << index, crew, shared) for index, block in enumerate(plain.blocks)
        )
        upscales = [FastUpscale(cast(Upscale, upscale), crew, shared) for upscale in plain.upscales]
        self.upscales = nn.ModuleList(upscales)
        self.quality_head = plain.quality_head
        if self.fine:
            self._fine_head = FastFineHead(plain.fine_head, crew)
        else:
            self._head = FastHead(upscales[-1], plain.mask_head, crew)

    def forward(self, levels: list[Tensor], prompts: Tensor) -> tuple[Tensor, Tensor]:
        return self._crew.lead(lambda: PromptDecoder.forward(self, levels, prompts))

    def with_guidance(self, image: Tensor, vectors: Tensor | None, prompts: Tensor) -> tuple[list[Tensor], Tensor]:
        return maps_with_guidance(image, vectors, prompts, self._resized, self._crew)

    def _read_off_fine(self, x: Tensor, image: Tensor, likeness: Tensor) -> Tensor:
        logits = [
            self._fine_head(volume, dark, like)
            for volume, dark, like in zip(volumes_of(x), image, likeness, strict=True)
        ]
        return torch.stack(logits)[:, None]

    def _read_off(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits, means = zip(*map(self._head, volumes_of(x)), strict=True)
        return torch.stack(logits)[:, None], self._quality(torch.stack(means))
