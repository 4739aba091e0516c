"""How a network is run, and how much its numbers may differ from those of its plain execution: the numerical policy.

*Plain* execution is the modules as they are: float32, every map computed in full. Everything else has to agree with it.

- On a CPU everything is float32. What is fast there (`cpu/`) reorders sums, and nothing else: convolutions by oneDNN
  and by Winograd's algorithm, and modulation maps kept where the prompts stay as they are. bfloat16 is not used: where
  the processor computes in it by AVX-512 it was measured slower, elsewhere it is emulated.
- On CUDA, convolutions and matrix products are bfloat16 where the card computes in it; sums of layer norms, the voxel
  embedding and what the modules keep as `float()` stay float32. Recorded graphs (`cuda_graphs.py`) change no number.
- Whatever is not plain is tried when an engine starts: on one made-up patch at most `TOLERANCE` of the voxels may
  change sides of the mask, else plain execution is used. The choice depends on the computer, never on timing or load.
- One patch is decoded at a time on a CPU, so that an answer never depends on what else was asked.
- Probabilities leave the engine in 255 steps; masks kept, sent and shown are made from these.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Protocol, runtime_checkable

from torch import Tensor

from CTSAM3DLib.model.configs import NetworkConfig
from CTSAM3DLib.model.network import CTSAM3D

TOLERANCE = {"float32": 0.0005, "bfloat16": 0.005}
"""Share of voxels that may change sides of the mask against the plain execution, by the precision tried."""


class Execution(Protocol):
    """What the engine asks for; the network itself is the plain execution."""

    def encode(self, image: Tensor) -> list[Tensor]:
        """As `CTSAM3D.encode`."""

    def decode(self, levels: list[Tensor], prompts: Tensor) -> tuple[Tensor, Tensor]:
        """As `CTSAM3D.decode`."""

    def propose(self, image: Tensor, mask: Tensor, neighbour: Tensor) -> Tensor:
        """As `CTSAM3D.propose`."""


@runtime_checkable
class Prefetching(Execution, Protocol):
    """An execution that can compute part of a decode ahead."""

    @property
    def supports_prefetch(self) -> bool:
        """Whether `prefetch` computes anything."""

    def prefetch(self, prompts: Tensor, stop: Callable[[], bool]) -> None:
        """Compute ahead what a decode with prompts (1, 3, 64, 64, 64) like these needs, until `stop()` is true."""


def fast_on_cpu(network: CTSAM3D) -> Execution | None:
    """The network's fast execution on a CPU; None in an installation without the folder `cpu`."""
    fast = _fast_cpu_module()
    if fast is None:
        return None
    execution: Execution = fast.FastOnCpu(network)
    return execution


def fast_cpu_numbers(config: NetworkConfig) -> int:
    """How many float32 numbers that execution keeps beside the network's own weights."""
    fast = _fast_cpu_module()
    return 0 if fast is None else int(fast.numbers_kept(config))


def _fast_cpu_module() -> ModuleType | None:
    try:
        from CTSAM3DLib.execution.cpu import fast_network
    except ModuleNotFoundError as missing:
        if not (missing.name or "").startswith("CTSAM3DLib.execution.cpu"):
            raise
        return None
    return fast_network
