"""The prompt decoder as a processor runs it fastest: the numbers of `decoder.PromptDecoder` but for rounding.

Blocks take the form of `fast_block.py`, upscalings and heads that of `fast_heads.py`, and a crew of threads works on
each of them part by part (`crew.py`). Nothing is approximated, and the same question has the same answer to the bit:
all sums are of the same shapes whatever was asked before and however many threads there are.

Volumes are (z, y, x, channel), contiguous float32 on the CPU, one patch at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
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
        self._crew = Crew()
        self._crew.lead(partial(self._prepare, plain, self._crew, Scratch()))

    def _prepare(self, plain: PromptDecoder, crew: Crew, shared: Scratch) -> None:
        self._fast_blocks = [
            FastBlock(cast(PromptBlock, block), 2 << index, crew, shared) for index, block in enumerate(plain.blocks)
        ]
        self.blocks = nn.ModuleList(self._fast_blocks)
        upscales = [FastUpscale(cast(Upscale, upscale), crew, shared) for upscale in plain.upscales]
        self.upscales = nn.ModuleList(upscales)
        self.quality_head = plain.quality_head
        if self.fine:
            self._fine_head = FastFineHead(plain.fine_head, crew)
        else:
            self._head = FastHead(upscales[-1], plain.mask_head, crew)

    def forward(self, levels: list[Tensor], prompts: Tensor) -> tuple[Tensor, Tensor]:
        answer = partial(PromptDecoder.forward, self)
        answers = [
            self._crew.lead(partial(answer, [level[patch : patch + 1] for level in levels], prompts[patch : patch + 1]))
            for patch in range(len(prompts))
        ]
        logits, qualities = zip(*answers, strict=True)
        return torch.cat(logits), torch.cat(qualities)

    def probability(self, logits: Tensor) -> Tensor:
        """The logits' sigmoid, by one thread: the last numbers of a part are rounded another way than the others."""
        return self._crew.lead(logits.sigmoid)

    @property
    def foresees(self) -> bool:
        """Whether something can be made ahead; with guidance every click changes all the maps."""
        return not self.fine

    def respond_ahead(self, prompts: Tensor, stop: Callable[[], bool]) -> None:
        """Make what depends on prompts alone, so that a decode with much the same prompts (1, 3, 64³) finds it there.

        It takes as long as it takes, or until `stop` says so; a decode makes whatever is left.
        """

        def respond() -> None:
            for block, maps in zip(reversed(self._fast_blocks), reversed(self._resized(prompts)), strict=True):
                block.respond_ahead(maps, stop)  # the largest first

        self._crew.lead(respond)

    def with_guidance(self, image: Tensor, known: Tensor | None, prompts: Tensor) -> tuple[list[Tensor], Tensor]:
        return maps_with_guidance(image, known, prompts, self.semantic_width, self._resized, self._crew)

    def _climbed(self, levels: list[Tensor], maps: list[Tensor]) -> Tensor:
        for block, prompts in zip(self._fast_blocks, maps, strict=True):
            block.meet(prompts)  # so that helpers work on fine grids where coarse ones do not need them
        return super()._climbed(levels, maps)

    def _read_off_fine(self, x: Tensor, image: Tensor, likeness: Tensor) -> Tensor:
        logits = [
            self._fine_head(volume, dark, like)
            for volume, dark, like in zip(volumes_of(x), image, likeness, strict=True)
        ]
        return torch.stack(logits)[:, None]

    def _read_off(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits, means = zip(*map(self._head, volumes_of(x)), strict=True)
        return torch.stack(logits)[:, None], self._quality(torch.stack(means))
