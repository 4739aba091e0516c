"""Data-parallel training: `torchrun --nproc-per-node 8 -m training.train ...`.

Every process computes its own micro-batches of a step, and gradients are averaged. All weights stay equal, and two
processes with one micro-batch each compute the same as one process with two. Without torchrun there is one process.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class World:
    """Rank, number of processes, and device of this process."""

    rank: int
    size: int
    device: torch.device

    @classmethod
    def join(cls, device: str | None = None) -> World:
        """Join the processes started by torchrun, by NCCL on GPUs and gloo on CPUs; one process without torchrun."""
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
        """Replace the gradients of every process by their mean."""
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
        """Replace the running statistics of batch norms, computed on different patches, by their mean."""
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
        """Whether all processes agree, so that no process continues alone and waits forever."""
        return self.mean([float(agreed)]) == [1.0]

    def leave(self) -> None:
        """Wait for the other processes and leave the group."""
        if self.size > 1:
            dist.barrier()
            dist.destroy_process_group()
