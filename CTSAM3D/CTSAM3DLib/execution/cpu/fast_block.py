"""The fast form of `model.spade.SpadeBlock` on a CPU; it differs from the block by rounding alone.

A block has two units, each a SPADE norm, leaky ReLU and convolution. The form of a unit depends on its grid:

- few voxels (`dense_unit.py`): im2col, which reads the weights only once;
- many channels (`tiled_unit.py`): Winograd convolution, with γ and β recomputed only where the prompts changed;
- few channels (`slab_unit.py`): direct convolutions on slabs, each computed by one thread.

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
from CTSAM3DLib.execution.cpu.mean_variance import CACHED, MeanVariance
from CTSAM3DLib.execution.cpu.slab_unit import SlabUnit
from CTSAM3DLib.execution.cpu.thread_team import ThreadTeam
from CTSAM3DLib.execution.cpu.tiled_unit import TiledUnit, tile_on
from CTSAM3DLib.execution.cpu.tiles import features_of, volumes_of
from CTSAM3DLib.model.spade import SpadeBlock, SpadeNorm

DENSE_SIDE = 4
"""Voxels. Side of the largest grid on which reading the weights takes longer than multiplying."""
MIN_TILED_WIDTH = 64
"""Channels from which on Winograd convolution saves more multiplications than its transforms cost."""

Task = Callable[[BufferPool], None]
"""Work of one thread, which is given its own buffers."""


def _run(task: Task, buffers: BufferPool) -> None:
    task(buffers)


class Unit(Protocol):
    """One SPADE norm, leaky ReLU and convolution."""

    def modulation_tasks(self, prompts: Tensor) -> Sequence[Sequence[Task]]:
        """Tasks that compute γ and β for prompts (1, maps, z, y, x), in rounds; tasks of a round are independent."""

    def __call__(self, x: Tensor, statistics: MeanVariance, onto: Tensor | None, out: Tensor) -> None:
        """Write to `out` the unit's output for a volume `x` with these statistics, plus `onto` if given."""


class FastBlock:
    """A `SpadeBlock` on a grid of `side`³ voxels, for one patch at a time."""

    def __init__(self, block: SpadeBlock, side: int, team: ThreadTeam, shared: BufferPool) -> None:
        self._team, self._shared = team, shared
        # No bias before the second norm, since instance norm removes a constant added to all voxels.
        self._first = fast_unit("first", block.norm0, block.conv0.weight, None, side, team, shared)
        self._second = fast_unit("second", block.norm1, block.conv1.weight, block.conv1.bias, side, team, shared)
        self._rounds: list[Callable[[], object]] = []

    def start_modulation(self, prompts: Tensor) -> None:
        """Let idle threads compute γ and β for the prompts (1, maps, side, side, side) of the next call."""
        rounds = self._tasks((self._first, self._second), prompts)
        self._rounds = [
            partial(self._team.map, _run, tasks) if later else self._team.start(_run, tasks)
            for later, tasks in enumerate(rounds)
        ]

    def prefetch(self, prompts: Tensor, stop: Callable[[], bool]) -> None:
        """Precompute the γ and β maps for prompts likely to come next; stop when `stop()` is true."""
        caching = [unit for unit in (self._first, self._second) if isinstance(unit, DenseUnit | TiledUnit)]
        for tasks in self._tasks(caching, prompts):
            self._team.map(lambda task, buffers: None if stop() else task(buffers), tasks)

    def __call__(self, x: Tensor) -> Tensor:
        """Run the block on features (1, channel, z, y, x), for the prompts of the last `start_modulation`."""
        for finish in self._rounds:
            finish()
        (volume,) = volumes_of(x)
        between, out = (self._shared.take(name, *volume.shape) for name in ("between units", "of the block"))
        self._first(volume, self._statistics(volume), None, between)
        self._second(between, self._statistics(between), volume, out)
        return features_of([out])

    def _tasks(self, units: Sequence[Unit], prompts: Tensor) -> list[list[Task]]:
        rounds = zip_longest(*(unit.modulation_tasks(prompts) for unit in units), fillvalue=())
        return [list(chain(*tasks)) for tasks in rounds]

    def _statistics(self, x: Tensor) -> MeanVariance:
        parts = x.flatten(0, 2).split(CACHED // x.shape[-1])
        return MeanVariance.merged(self._team.map(lambda rows, _: MeanVariance.of(rows), parts))


def fast_unit(
    name: str, norm: SpadeNorm, weight: Tensor, bias: Tensor | None, side: int, team: ThreadTeam, shared: BufferPool
) -> Unit:
    """The fastest form of one unit of a block on a grid of `side`³ voxels.

    Units of different names or grids use different buffers of `shared`, so γ and β of several units can be computed
    before any unit is called.
    """
    if side <= DENSE_SIDE:
        return DenseUnit(norm, weight, bias, side, team)
    if len(weight) >= MIN_TILED_WIDTH:
        return TiledUnit(name, norm, weight, bias, side, team, shared)
    return SlabUnit(name, norm, weight, bias, side, team, shared)


def cached_numbers(width: int, prompt_width: int, side: int) -> int:
    """Number of float32 values that a block's fast form keeps: transformed weights, and modulation maps γ and β."""
    if side <= DENSE_SIDE:
        taps, modulation = 27, 0
    elif width >= MIN_TILED_WIDTH:
        taps, modulation = (tile_on(side) + 2) ** 3, 4 * width * side**3
    else:
        return 0
    return 2 * (width + 2 * prompt_width) * width * taps + modulation
