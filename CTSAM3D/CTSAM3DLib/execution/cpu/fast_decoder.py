"""The fast form of a trained prompt decoder on a CPU; it differs from the plain form by rounding alone.

SPADE blocks run by `fast_block.py`, upscalings and heads by `fast_heads.py`, guidance maps by `fast_guidance.py`, each
in parts shared out over a team of threads (`thread_team.py`). Nothing is approximated, and the same inputs give the
same output to the bit: all sums have the same shapes whatever was decoded before and however many threads there are.

Volumes are (z, y, x, channel), contiguous float32 on the CPU, one patch at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor

from CTSAM3DLib.execution.cpu.buffer_pool import BufferPool
from CTSAM3DLib.execution.cpu.fast_block import FastBlock
from CTSAM3DLib.execution.cpu.fast_guidance import guided_maps
from CTSAM3DLib.execution.cpu.fast_heads import FastFineHead, FastHead, FastUpscale
from CTSAM3DLib.execution.cpu.thread_team import ThreadTeam
from CTSAM3DLib.execution.cpu.tiles import volumes_of
from CTSAM3DLib.model.decoder import PromptDecoder, resized
from CTSAM3DLib.model.layers import Upscale, concatenated
from CTSAM3DLib.model.small.guided_decoder import GuidedDecoder
from CTSAM3DLib.model.spade import SpadeBlock


class FastDecoder:
    """A trained decoder with blocks, upscalings and head in their fast form; it shares weights where it can."""

    supports_prefetch: bool
    """Whether `prefetch` computes anything."""

    def __init__(self, decoder: PromptDecoder | GuidedDecoder) -> None:
        self._team = ThreadTeam()
        self._quality_head = decoder.quality_head
        self._team.run(partial(self._prepare, decoder, BufferPool()))

    def _prepare(self, decoder: PromptDecoder | GuidedDecoder, shared: BufferPool) -> None:
        self._blocks = [
            FastBlock(cast(SpadeBlock, block), 2 << index, self._team, shared)
            for index, block in enumerate(decoder.blocks)
        ]
        self._upscales = [FastUpscale(cast(Upscale, upscale), self._team, shared) for upscale in decoder.upscales]

    def __call__(self, levels: list[Tensor], prompts: Tensor) -> tuple[Tensor, Tensor]:
        """Decode levels and prompts, as the decoder takes them, to mask logits (b, 1, 64, 64, 64) and quality (b,)."""
        outputs = [
            self._team.run(
                partial(self._decode, [level[patch : patch + 1] for level in levels], prompts[patch : patch + 1])
            )
            for patch in range(len(prompts))
        ]
        logits, qualities = zip(*outputs, strict=True)
        return torch.stack(logits)[:, None], torch.cat(qualities)

    def probability(self, logits: Tensor) -> Tensor:
        """The sigmoid of logits, by one thread: shared out, the last values of each part would be rounded otherwise."""
        return self._team.run(logits.sigmoid)

    def prefetch(self, prompts: Tensor, stop: Callable[[], bool]) -> None:
        """Precompute what depends on prompts (1, 3, 64, 64, 64) alone, for a decode with similar prompts.

        Stops when `stop()` is true; the decode computes the rest.
        """

    def _decode(self, levels: list[Tensor], prompts: Tensor) -> tuple[Tensor, Tensor]:
        """Mask logits (64, 64, 64) and quality (1,) of one patch."""
        raise NotImplementedError

    def _quality(self, mean: Tensor) -> Tensor:
        """The quality (1,) from the mean of each channel (1, channel)."""
        return cast(Tensor, self._quality_head(mean))[:, 0]

    def _features(self, x: Tensor, skips: list[Tensor], maps: list[Tensor]) -> Tensor:
        """Features of the last block (1, channel, 32, 32, 32), from the level at 2³, the skips and the prompt maps."""
        for block, resized_prompts in zip(self._blocks, maps, strict=True):
            block.start_modulation(resized_prompts)  # helpers start on fine grids while coarse ones do not need them
        for block, upscale in zip(self._blocks, self._upscales, strict=False):
            x = upscale(block(x))
            if skips:
                x = concatenated(x, skips.pop())
        return self._blocks[-1](x)


class FastPromptDecoder(FastDecoder):
    """The fast form of `PromptDecoder`."""

    supports_prefetch = True

    def _prepare(self, decoder: PromptDecoder | GuidedDecoder, shared: BufferPool) -> None:
        assert isinstance(decoder, PromptDecoder)
        super()._prepare(decoder, shared)
        self._head = FastHead(self._upscales.pop(), decoder.mask_head, self._team)

    def prefetch(self, prompts: Tensor, stop: Callable[[], bool]) -> None:
        """As `FastDecoder.prefetch`."""

        def compute() -> None:
            for block, maps in zip(reversed(self._blocks), reversed(resized(prompts)), strict=True):
                block.prefetch(maps, stop)  # the largest grid first

        self._team.run(compute)

    def _decode(self, levels: list[Tensor], prompts: Tensor) -> tuple[Tensor, Tensor]:
        *skips, x = levels
        (volume,) = volumes_of(self._features(x.float(), skips, resized(prompts)))
        logits, mean = self._head(volume)
        return logits, self._quality(mean[None])


class FastGuidedDecoder(FastDecoder):
    """The fast form of `GuidedDecoder`. A click changes all guidance maps, so there is nothing to prefetch."""

    supports_prefetch = False

    def _prepare(self, decoder: PromptDecoder | GuidedDecoder, shared: BufferPool) -> None:
        assert isinstance(decoder, GuidedDecoder)
        super()._prepare(decoder, shared)
        self._plain = decoder
        self._head = FastFineHead(decoder.fine_head, self._team)

    def _decode(self, levels: list[Tensor], prompts: Tensor) -> tuple[Tensor, Tensor]:
        image, embedding, skips, x = self._plain.unpacked(levels)
        maps, similarity = guided_maps(image, embedding, prompts, self._plain.semantic_width, self._team)
        x = self._features(x, skips, maps)
        (volume,) = volumes_of(x)
        return self._head(volume, image[0], similarity[0]), self._quality(x.mean(dim=(2, 3, 4)))


def fast_decoder(decoder: object) -> FastDecoder | None:
    """The fast form of a decoder, or None where its class has none."""
    if isinstance(decoder, PromptDecoder):
        return FastPromptDecoder(decoder)
    return FastGuidedDecoder(decoder) if isinstance(decoder, GuidedDecoder) else None
