"""CUDA graphs: one launch in place of the hundreds of kernel launches of a small network.

A graph is valid for one shape of inputs; it is captured when the shape first occurs and replayed from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from CTSAM3DLib.model.network import CTSAM3D

WARM_UPS = 3
"""Runs before the capture, in which libraries choose their kernels."""

Work = Callable[[Sequence[Tensor]], list[Tensor]]


class Recording:
    """A captured graph for inputs of one shape. Must be made and called under the same autocast."""

    def __init__(self, work: Work, inputs: Sequence[Tensor]) -> None:
        self._inputs = [tensor.clone() for tensor in inputs]
        side_stream = torch.cuda.Stream()
        side_stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side_stream):
            for _ in range(WARM_UPS):
                work(self._inputs)
        torch.cuda.current_stream().wait_stream(side_stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = work(self._inputs)

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The outputs for inputs of the same shape, copied out of the graph's memory."""
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._graph.replay()
        return [tensor.clone() for tensor in self._outputs]


class FastOnCuda:
    """An `Execution` that encodes and decodes by CUDA graphs; the rarer cross-patch prompts run plainly."""

    def __init__(self, network: CTSAM3D, record: Callable[[Work, Sequence[Tensor]], Work] = Recording) -> None:
        self._network = network
        self._record = record
        self._recordings: dict[Hashable, Work] = {}
        self.predict_prompts = network.predict_prompts

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
