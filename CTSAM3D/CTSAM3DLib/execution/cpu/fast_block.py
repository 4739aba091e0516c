"""A prompt block as a processor runs it fastest: the numbers of `decoder.SpadeBlock` but for rounding.

A block has two units, each a prompt norm, leaky ReLU and convolution. How a unit is computed depends on its grid:

- few voxels (`dense_unit.py`): the weights are most of the work, and are read once;
- many channels (`tiled_unit.py`): Winograd convolution, and scale and shift only where the prompts vary and changed;
- few channels (`slab_unit.py`): convolutions as they are, on slabs that each belong to one thread.

Volumes are (z, y, x, channel), contiguous float32 on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain, zip_longest
from typing import Protocol

from torch import Tensor

from CTSAM3DLib.execution.cpu.buffer_pool import BufferPool
from CTSAM3DLib.execution.cpu.dense_unit import DenseUnit
from CTSAM3DLib.execution.cpu.moments import CACHED, Moments
from CTSAM3DLib.execution.cpu.slab_unit import SlabUnit
from CTSAM3DLib.execution.cpu.thread_team import ThreadTeam
from CTSAM3DLib.execution.cpu.tiled_unit import TiledUnit, tile_on
from CTSAM3DLib.execution.cpu.tiles import features_of, volumes_of
from CTSAM3DLib.model.spade import SpadeBlock, SpadeNorm

DENSE_SIDE = 4
"""On grids up to this side weights take longer to read than to multiply with."""
MIN_TILED_WIDTH = 64
"""With fewer channels the transforms of Winograd convolution cost more than the products."""

Task = Callable[[BufferPool], None]
"""Something that one thread does, with its own memory for intermediates."""


def _run(task: Task, buffers: BufferPool) -> None:
    task(buffers)


class Unit(Protocol):
    """One prompt norm, leaky ReLU and convolution."""

    def modulation_tasks(self, prompts: Tensor) -> Sequence[Sequence[Task]]:
        """What there is to do with the prompts (1, maps, z, y, x) alone, in rounds of tasks that need not wait."""

    def __call__(self, x: Tensor, moments: Moments, onto: Tensor | None, out: Tensor) -> None:
        """Write to `out` the answer to a volume with these moments, added to `onto` if given."""


class FastBlock:
    """A `SpadeBlock` on a grid of `side`³ voxels, for one patch at a time."""

    def __init__(self, block: SpadeBlock, side: int, team: ThreadTeam, shared: BufferPool) -> None:
        self._team, self._shared = team, shared
        # Instance norm takes away whatever a bias adds to all voxels.
        self._first = fast_unit("first", block.norm0, block.conv0.weight, None, side, team, shared)
        self._second = fast_unit("second", block.norm1, block.conv1.weight, block.conv1.bias, side, team, shared)
        self._rounds: list[Callable[[], object]] = []

    def start_modulation(self, prompts: Tensor) -> None:
        """Let idle threads compute γ and β for the prompts (1, maps, z, y, x) of the next call."""
        rounds = self._tasks((self._first, self._second), prompts)
        self._rounds = [
            partial(self._team.map, _run, tasks) if later else self._team.start(_run, tasks)
            for later, tasks in enumerate(rounds)
        ]

    def prefetch(self, prompts: Tensor, stop: Callable[[], bool]) -> None:
        """Precompute the γ and β that are cached, for prompts likely to come next; end early when `stop()` is true."""
        kept = [unit for unit in (self._first, self._second) if isinstance(unit, DenseUnit | TiledUnit)]
        for tasks in self._tasks(kept, prompts):
            self._team.map(lambda task, buffers: None if stop() else task(buffers), tasks)

    def __call__(self, x: Tensor) -> Tensor:
        """Features (1, channel, z, y, x) through the block, for the prompts of the last `start_modulation`."""
        for finish in self._rounds:
            finish()
        (volume,) = volumes_of(x)
        between, out = (self._shared.take(name, *volume.shape) for name in ("between units", "of the block"))
        self._first(volume, self._moments(volume), None, between)
        self._second(between, self._moments(between), volume, out)
        return features_of([out])

    def _tasks(self, units: Sequence[Unit], prompts: Tensor) -> list[list[Task]]:
        rounds = zip_longest(*(unit.modulation_tasks(prompts) for unit in units), fillvalue=())
        return [list(chain(*tasks)) for tasks in rounds]

    def _moments(self, x: Tensor) -> Moments:
        parts = x.flatten(0, 2).split(CACHED // x.shape[-1])
        return Moments.together(self._team.map(lambda rows, _: Moments.of(rows), parts))


def fast_unit(
    name: str, norm: SpadeNorm, weight: Tensor, bias: Tensor | None, side: int, team: ThreadTeam, shared: BufferPool
) -> Unit:
    """The fastest form of unit a block on a grid of `side`³ voxels.

    Halves of different names or grids can respond to prompts in the same shared memory before any is asked for its
    answer.
    """
    if side <= DENSE_SIDE:
        return DenseUnit(norm, weight, bias, side, team)
    if len(weight) >= MIN_TILED_WIDTH:
        return TiledUnit(name, norm, weight, bias, side, team, shared)
    return SlabUnit(name, norm, weight, bias, side, team, shared)


def numbers_kept(width: int, prompt_width: int, side: int) -> int:
    """How many numbers a block's fast form keeps: weights in another form, and modulation maps γ and β."""
    if side <= DENSE_SIDE:
        taps, responses = 27, 0
    elif width >= MIN_TILED_WIDTH:
        taps, responses = (tile_on(side) + 2) ** 3, 4 * width * side**3
    else:
        return 0
    return 2 * (width + 2 * prompt_width) * width * taps + responses
