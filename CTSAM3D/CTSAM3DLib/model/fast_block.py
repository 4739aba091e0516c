"""A prompt block as a processor runs it fastest: the numbers of `decoder.PromptBlock` but for rounding.

A block has two halves, each a prompt norm, leaky ReLU and convolution. How a half is computed depends on its grid:

- few voxels (`dense_half.py`): the weights are most of the work, and are read once;
- many channels (`tiled_half.py`): minimal filtering, and scale and shift only where the prompts vary;
- few channels (`slab_half.py`): convolutions as they are, on slabs that each belong to one thread.

Volumes are (z, y, x, channel), contiguous float32 on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor, nn

from CTSAM3DLib.model.crew import Crew
from CTSAM3DLib.model.decoder import PromptBlock, PromptNorm
from CTSAM3DLib.model.dense_half import DenseHalf
from CTSAM3DLib.model.slab_half import SlabHalf
from CTSAM3DLib.model.tiled_half import TiledHalf, tile_on
from CTSAM3DLib.model.tiles import Moments, Scratch, each_volume

DENSE_SIDE = 4
"""On grids up to this side weights take longer to read than to multiply with."""
LEAST_TILED_WIDTH = 64
"""With fewer channels the transforms of minimal filtering cost more than the products."""
PART = 4096
"""Voxels whose moments one task finds."""

Task = Callable[[Scratch], None]
"""Something that one thread does, with its own memory for intermediates."""


class Half(Protocol):
    """One prompt norm, leaky ReLU and convolution."""

    def responding(self, prompts: Tensor) -> Sequence[Task]:
        """What there is to do with the prompts (1, maps, z, y, x) alone."""

    def __call__(self, x: Tensor, moments: Moments, onto: Tensor | None, out: Tensor) -> None:
        """Write to `out` the answer to a volume with these moments, added to `onto` if given."""


class FastBlock(nn.Module):
    """A `PromptBlock` on a grid of `side`³ voxels; patches of a batch one by one."""

    def __init__(self, block: PromptBlock, side: int, crew: Crew, shared: Scratch) -> None:
        super().__init__()
        self._crew, self._shared = crew, shared
        # Instance norm takes away whatever a bias adds to all voxels.
        self._first = fast_half("first", block.norm0, block.conv0.weight, None, side, crew, shared)
        self._second = fast_half("second", block.norm1, block.conv1.weight, block.conv1.bias, side, crew, shared)

    def forward(self, x: Tensor, prompts: Tensor) -> Tensor:
        return each_volume(x, lambda volume, index: self._of_one(volume, prompts[index : index + 1]))

    def _of_one(self, x: Tensor, prompts: Tensor) -> Tensor:
        tasks: list[Task] = [*self._first.responding(prompts), *self._second.responding(prompts)]
        self._crew.each(lambda task, scratch: task(scratch), tasks)
        between, out = (self._shared.take(name, *x.shape) for name in ("between halves", "of the block"))
        self._first(x, self._moments(x), None, between)
        self._second(between, self._moments(between), x, out)
        return out

    def _moments(self, x: Tensor) -> Moments:
        parts = x.flatten(0, 2).split(PART)
        return Moments.together(self._crew.each(lambda rows, _: Moments.of(rows), parts))


def fast_half(
    name: str, norm: PromptNorm, weight: Tensor, bias: Tensor | None, side: int, crew: Crew, shared: Scratch
) -> Half:
    """The fastest form of half a block on a grid of `side`³ voxels.

    Halves of different names can respond to prompts in the same shared memory before either is asked for its answer.
    """
    if side <= DENSE_SIDE:
        return DenseHalf(norm, weight, bias, side, crew)
    if len(weight) >= LEAST_TILED_WIDTH:
        return TiledHalf(name, norm, weight, bias, side, crew, shared)
    return SlabHalf(name, norm, weight, bias, side, crew, shared)


def prepared_weights(width: int, prompt_width: int, side: int) -> int:
    """How many weights a block's fast form keeps beside its own."""
    taps = 27 if side <= DENSE_SIDE else (tile_on(side) + 2) ** 3 if width >= LEAST_TILED_WIDTH else 0
    return 2 * (width + 2 * prompt_width) * width * taps
