"""The numerical policy: how a network is executed, and how far a fast execution may differ from the reference.

*Plain* execution, the reference, runs the modules as they are: float32, every map computed in full.

- On a CPU everything is float32. The fast execution (`cpu/`) reorders sums and changes nothing else: convolutions by
  oneDNN and by Winograd's algorithm, and modulation maps cached where the prompts did not change. bfloat16 is not used:
  with AVX-512 it was measured slower, without it bfloat16 is emulated.
- On CUDA, convolutions and matrix products are bfloat16 where the card has it; sums of layer norms, the voxel embedding
  and other tensors that the modules convert by `float()` stay float32. CUDA graphs (`cuda_graphs.py`) change no number.
- Every fast execution is checked when an engine starts: on one random patch at most `TOLERANCE` of the voxels may
  change sides of the mask, else plain execution is used. The choice depends on the computer, never on timing or load.
- A CPU decodes one patch at a time, so a prediction never depends on other requests.
- Probabilities leave the engine as uint8; all masks are made from these.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Protocol, runtime_checkable

from torch import Tensor

from CTSAM3DLib.model.configs import NetworkConfig
from CTSAM3DLib.model.network import CTSAM3D

TOLERANCE = {"float32": 0.0005, "bfloat16": 0.005}
"""Share of voxels that may change sides of the mask against plain execution, by the precision of the fast one."""


class Execution(Protocol):
    """The methods that the engine calls; the network itself is the plain execution."""

    def encode(self, image: Tensor) -> list[Tensor]:
        """As `CTSAM3D.encode`."""

    def decode(self, levels: list[Tensor], prompts: Tensor) -> tuple[Tensor, Tensor]:
        """As `CTSAM3D.decode`."""

    def predict_prompts(self, image: Tensor, mask: Tensor, neighbour: Tensor) -> Tensor:
        """As `CTSAM3D.predict_prompts`."""


@runtime_checkable
class Prefetching(Execution, Protocol):
    """An execution that can prefetch part of a decode."""

    @property
    def supports_prefetch(self) -> bool:
        """Whether `prefetch` computes anything."""

    def prefetch(self, prompts: Tensor, stop: Callable[[], bool]) -> None:
        """Precompute for decodes with prompts similar to these (1, 3, 64, 64, 64), until `stop()` is true."""


def fast_on_cpu(network: CTSAM3D) -> Execution | None:
    """The network's fast execution on a CPU; None in an installation without the package `cpu`."""
    fast = _fast_cpu_module()
    if fast is None:
        return None
    execution: Execution = fast.FastOnCpu(network)
    return execution


def fast_cpu_cached_numbers(config: NetworkConfig) -> int:
    """Number of float32 values that the fast execution on a CPU keeps beside the network's own weights."""
    fast = _fast_cpu_module()
    return 0 if fast is None else int(fast.cached_numbers(config))


def _fast_cpu_module() -> ModuleType | None:
    try:
        from CTSAM3DLib.execution.cpu import fast_network
    except ModuleNotFoundError as missing:
        if not (missing.name or "").startswith("CTSAM3DLib.execution.cpu"):
            raise
        return None
    return fast_network
