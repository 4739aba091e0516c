"""A network's execution on CUDA as recorded graphs: one launch in place of the hundreds that a small network needs.

A graph holds for one shape of inputs; it is recorded when that shape first occurs and replayed from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from CTSAM3DLib.model.network import CTSAM3D

WARM_UPS = 3
"""Runs before the recording, in which libraries choose their kernels."""

Work = Callable[[Sequence[Tensor]], list[Tensor]]


class Recording:
    """Some work on inputs of one shape, recorded. Must be made and called under the same autocast."""

    def __init__(self, work: Work, inputs: Sequence[Tensor]) -> None:
        self._inputs = [tensor.clone() for tensor in inputs]
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM_UPS):
                work(self._inputs)
        torch.cuda.current_stream().wait_stream(beside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = work(self._inputs)

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The outputs for other inputs of the same shape, in memory of their own."""
        for mine, given in zip(self._inputs, inputs, strict=True):
            mine.copy_(given)
        self._graph.replay()
        return [tensor.clone() for tensor in self._outputs]


class FastOnCuda:
    """A network whose encoding and decoding are recorded; proposals, which are rarer, are not."""

    def __init__(self, network: CTSAM3D, record: Callable[[Work, Sequence[Tensor]], Work] = Recording) -> None:
        self._network = network
        self._record = record
        self._recordings: dict[Hashable, Work] = {}
        self.propose = network.propose

    def encode(self, image: Tensor) -> list[Tensor]:
        """As `CTSAM3D.encode`."""
        return self._replayed("encode", lambda inputs: self._network.encode(inputs[0]), [image])

    def decode(self, levels: list[Tensor], prompts: Tensor) -> tuple[Tensor, Tensor]:
        """As `CTSAM3D.decode`."""
        probability, quality = self._replayed(
            "decode", lambda inputs: list(self._network.decode(list(inputs[:-1]), inputs[-1])), [*levels, prompts]
        )
        return probability, quality

    def _replayed(self, name: str, work: Work, inputs: Sequence[Tensor]) -> list[Tensor]:
        key = (name, *((tensor.shape, tensor.dtype, tensor.stride()) for tensor in inputs))
        if key not in self._recordings:
            self._recordings[key] = self._record(work, inputs)
        return self._recordings[key](inputs)
