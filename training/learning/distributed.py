"""Several processes that train one model: `torchrun --nproc-per-node 8 -m training.train ...`.

Every process works on its own micro-batches of a step; the gradients are averaged, so that all weights stay alike and
two processes with one micro-batch each do what one process does with two. Without torchrun there is one process.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class World:
    """Which of how many processes this is, and the device it works on."""

    rank: int
    size: int
    device: torch.device

    @classmethod
    def join(cls, device: str | None = None) -> World:
        """Join the processes that torchrun started, by NCCL on GPUs and by gloo on CPUs; alone without torchrun."""
        cuda = torch.cuda.is_available() if device is None else device.startswith("cuda")
        if "RANK" not in os.environ:
            return cls(0, 1, torch.device(device or ("cuda" if cuda else "cpu")))
        local = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
        if cuda:
            torch.cuda.set_device(local)
        dist.init_process_group("nccl" if cuda else "gloo")
        return cls(dist.get_rank(), dist.get_world_size(), local)

    @property
    def leads(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def average_gradients(self, model: nn.Module) -> None:
        """Give every process the mean of all gradients."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.size
        start = 0
        for gradient in gradients:
            gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
            start += gradient.numel()

    def average_buffers(self, model: nn.Module) -> None:
        """Give every process the mean of the running statistics of batch norms, each of which saw its own patches."""
        for buffer in model.buffers():
            if self.size > 1 and buffer.is_floating_point():
                dist.all_reduce(buffer)
                buffer /= self.size

    def mean(self, figures: list[float]) -> list[float]:
        """The mean of each figure over all processes."""
        if self.size == 1:
            return figures
        total: Tensor = torch.tensor(figures, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return (total / self.size).tolist()

    def all(self, agreed: bool) -> bool:
        """Whether all processes agree, so that none goes on alone and waits for ever."""
        return self.mean([float(agreed)]) == [1.0]

    def leave(self) -> None:
        """Wait for the others and part."""
        if self.size > 1:
            dist.barrier()
            dist.destroy_process_group()
