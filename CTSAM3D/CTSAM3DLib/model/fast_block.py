"""A prompt block as a processor runs it fastest: the numbers of `decoder.PromptBlock` but for rounding.

A block has two halves, each a prompt norm, leaky ReLU and convolution. How a half is computed depends on its grid:

- few voxels (`dense_half.py`): the weights are most of the work, and are read once;
- many channels (`tiled_half.py`): minimal filtering, and scale and shift only where the prompts vary and changed;
- few channels (`slab_half.py`): convolutions as they are, on slabs that each belong to one thread.

Volumes are (z, y, x, channel), contiguous float32 on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain, zip_longest
from typing import Protocol

from torch import Tensor, nn

from CTSAM3DLib.model.crew import Crew
from CTSAM3DLib.model.decoder import PromptBlock, PromptNorm
from CTSAM3DLib.model.dense_half import DenseHalf
from CTSAM3DLib.model.slab_half import SlabHalf
from CTSAM3DLib.model.tiled_half import TiledHalf, tile_on
from CTSAM3DLib.model.tiles import CACHED, Moments, Scratch, features_of, volumes_of

DENSE_SIDE = 4
"""On grids up to this side weights take longer to read than to multiply with."""
LEAST_TILED_WIDTH = 64
"""With fewer channels the transforms of minimal filtering cost more than the products."""

Task = Callable[[Scratch], None]
"""Something that one thread does, with its own memory for intermediates."""


def _run(task: Task, scratch: Scratch) -> None:
    task(scratch)


class Half(Protocol):
    """One prompt norm, leaky ReLU and convolution."""

    def responding(self, prompts: Tensor) -> Sequence[Sequence[Task]]:
        """What there is to do with the prompts (1, maps, z, y, x) alone, in rounds of tasks that need not wait."""

    def __call__(self, x: Tensor, moments: Moments, onto: Tensor | None, out: Tensor) -> None:
        """Write to `out` the answer to a volume with these moments, added to `onto` if given."""


class FastBlock(nn.Module):
    """A `PromptBlock` on a grid of `side`³ voxels, for one patch at a time."""

    def __init__(self, block: PromptBlock, side: int, crew: Crew, shared: Scratch) -> None:
        super().__init__()
        self._crew, self._shared = crew, shared
        # Instance norm takes away whatever a bias adds to all voxels.
        self._first = fast_half("first", block.norm0, block.conv0.weight, None, side, crew, shared)
        self._second = fast_half("second", block.norm1, block.conv1.weight, block.conv1.bias, side, crew, shared)
        self._rounds: list[Callable[[], object]] = []

    def meet(self, prompts: Tensor) -> None:
        """Let helpers begin with what depends on the prompts (1, maps, z, y, x) of the next call alone."""
        rounds = self._tasks((self._first, self._second), prompts)
        self._rounds = [
            partial(self._crew.each, _run, tasks) if later else self._crew.begin(_run, tasks)
            for later, tasks in enumerate(rounds)
        ]

    def respond_ahead(self, prompts: Tensor, stop: Callable[[], bool]) -> None:
        """Make γ and β for prompts that may be met, as far as they are kept, until it is time to stop."""
        kept = [half for half in (self._first, self._second) if isinstance(half, DenseHalf | TiledHalf)]
        for tasks in self._tasks(kept, prompts):
            self._crew.each(lambda task, scratch: None if stop() else task(scratch), tasks)

    def forward(self, x: Tensor, prompts: Tensor) -> Tensor:
        """The block's answer to the prompts, which it has met."""
        for finish in self._rounds:
            finish()
        (volume,) = volumes_of(x)
        between, out = (self._shared.take(name, *volume.shape) for name in ("between halves", "of the block"))
        self._first(volume, self._moments(volume), None, between)
        self._second(between, self._moments(between), volume, out)
        return features_of([out])

    def _tasks(self, halves: Sequence[Half], prompts: Tensor) -> list[list[Task]]:
        rounds = zip_longest(*(half.responding(prompts) for half in halves), fillvalue=())
        return [list(chain(*tasks)) for tasks in rounds]

    def _moments(self, x: Tensor) -> Moments:
        parts = x.flatten(0, 2).split(CACHED // x.shape[-1])
        return Moments.together(self._crew.each(lambda rows, _: Moments.of(rows), parts))


def fast_half(
    name: str, norm: PromptNorm, weight: Tensor, bias: Tensor | None, side: int, crew: Crew, shared: Scratch
) -> Half:
    """The fastest form of half a block on a grid of `side`³ voxels.

    Halves of different names or grids can respond to prompts in the same shared memory before any is asked for its
    answer.
    """
    if side <= DENSE_SIDE:
        return DenseHalf(norm, weight, bias, side, crew)
    if len(weight) >= LEAST_TILED_WIDTH:
        return TiledHalf(name, norm, weight, bias, side, crew, shared)
    return SlabHalf(name, norm, weight, bias, side, crew, shared)


def prepared_numbers(width: int, prompt_width: int, side: int) -> int:
    """How many numbers a block's fast form keeps beside its own weights: theirs in another form, and γ and β."""
    if side <= DENSE_SIDE:
        taps, responses = 27, 0
    elif width >= LEAST_TILED_WIDTH:
        taps, responses = (tile_on(side) + 2) ** 3, 4 * width * side**3
    else:
        return 0
    return 2 * (width + 2 * prompt_width) * width * taps + responses
