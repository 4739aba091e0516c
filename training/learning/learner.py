"""The training loop of the bundled model: a randomly drawn task at each step, checkpoints, and a learning curve.

No value leaves the device between two lines of the log. A resumed run draws the same samples as an unbroken one; its
weights differ only because checkpoints store the optimisers' momentum in bfloat16.
"""

from __future__ import annotations

import io
import itertools
import math
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from CTSAM3DLib.atomic import atomic_write
from CTSAM3DLib.checkpoints.checkpoint import ModelInfo, load, save
from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.model import CTSAM3D
from training.learning.curve import curve_writer
from training.learning.distributed import World
from training.learning.label_maps import Prototypes
from training.learning.muon import optimisers
from training.learning.plan import Plan
from training.learning.resident import Resident
from training.learning.samples import Placement
from training.learning.tasks import Learning, Step
from training.learning.warm_start import fitted

PART_BYTES = 15 * 2**20
"""Bytes of each part of a checkpoint, for storage that refuses large files."""
CURVE_COLUMNS = ("step", "task", "figure", "value", "rate", "seconds")


class LearningError(CTSAM3DError):
    """The training cannot continue."""


class Learner:
    """The state of one run: weights, their moving average (EMA), optimisers, and the step."""

    def __init__(self, plan: Plan, resident: Resident, run: Path, info: ModelInfo, world: World) -> None:
        """Raises LearningError where the processes of the world cannot share a batch of the plan."""
        if odd := [name for name, task in plan.tasks.items() if task.batch % world.size]:
            raise LearningError(f"{world.size} processes cannot share the batches of {', '.join(odd)}; change either.")
        self.plan, self.run, self._info, self._world = plan, run, info, world
        device = world.device
        torch.manual_seed(plan.seed)
        network = plan.build_network().to(device)
        self.network: CTSAM3D = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.prototypes = Prototypes(network.config.semantic_width).to(device)
        self._generator = torch.Generator(device)
        self._learning = Learning(self.network, self.prototypes, resident, plan, self._generator)
        self._trained_parts = _parts(self.network, self.prototypes)
        self._optimisers = {
            name: optimisers(self._trained_parts[name], "muon", task.rate, plan.weight_decay)
            for name, task in plan.tasks.items()
            if task.share > 0
        }
        self._thread = ThreadPoolExecutor(1, "samples")
        self._prefetched: dict[int, Future[list[Placement]]] = {}
        self._steps_of = dict.fromkeys(self._optimisers, 0)
        self._average = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        self.step = 0

    def learn(
        self, minutes: float = math.inf, steps: float = math.inf, log_every: int = 50, save_s: float = 600
    ) -> None:
        """Train until `minutes` have passed or `steps` are done in all.

        Raises LearningError where the loss is not finite; the last checkpoint is kept.
        """
        started = logged = saved = time.monotonic()
        figures: dict[tuple[str, str], list[Tensor]] = defaultdict(list)
        self.network.train()
        with curve_writer(self._file("curve.csv"), CURVE_COLUMNS, self.step) as curve:
            while self.step < steps and self._world.all(time.monotonic() < started + 60 * minutes):
                name = self._task_of(self.step)
                rate = self._rate(name, (time.monotonic() - started) / (60 * minutes))
                for loss, found in self._losses():
                    self._optimiser_step(name, loss, rate)
                    for figure, value in {"loss": loss, **found}.items():
                        figures[name, figure].append(value.detach())
                self._update_average(name)
                self.step += 1
                if self.step % log_every == 0:
                    self._log(curve, figures, rate, time.monotonic() - logged)
                    logged = time.monotonic()
                if time.monotonic() > saved + save_s:
                    self.save()
                    saved = time.monotonic()
        self.save()

    def _task_of(self, step: int) -> str:
        names = list(self._optimisers)
        shares = np.array([self.plan.tasks[name].share for name in names])
        return str(np.random.default_rng([self.plan.seed, step]).choice(names, p=shares / shares.sum()))

    def _losses(self) -> Step:
        """The losses of a step; the samples of the next step are drawn meanwhile."""
        drawn = self._prefetched.pop(self.step, None)
        placements = self._draw(self.step) if drawn is None else drawn.result()
        self._prefetched[self.step + 1] = self._thread.submit(self._draw, self.step + 1)
        name = self._task_of(self.step)
        self._generator.manual_seed(int(np.random.SeedSequence(self._seed(self.step)).generate_state(1)[0]))
        return self._learning.losses(name, self.plan.tasks[name], placements)

    def _draw(self, step: int) -> list[Placement]:
        """The samples of a step; they depend on the step and on the process alone."""
        name = self._task_of(step)
        task = self.plan.tasks[name]
        share = replace(task, batch=task.batch // self._world.size)
        return self._learning.draw(name, share, np.random.default_rng(self._seed(step)))

    def _seed(self, step: int) -> list[int]:
        return [self.plan.seed, step, 1 + self._world.rank]

    def _optimiser_step(self, name: str, loss: Tensor, rate: float) -> None:
        trained = self._trained_parts[name]
        trained.zero_grad(set_to_none=True)
        loss.backward()
        self._world.average_gradients(trained)
        nn.utils.clip_grad_norm_(trained.parameters(), self.plan.gradient_clip)
        for optimiser in self._optimisers[name]:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
        self._world.average_buffers(trained)

    def _rate(self, name: str, done: float) -> float:
        warm = min(1.0, (self._steps_of[name] + 1) / self.plan.warmup_steps)
        return self.plan.tasks[name].rate * warm * (max(1.0 - done, 0.02) if self.plan.anneal else 1.0)

    @torch.no_grad()
    def _update_average(self, name: str) -> None:
        """Update the moving average of the parts that the task trains; early averages decay faster."""
        self._steps_of[name] += 1
        decay = min(self.plan.ema_decay, self._steps_of[name] / (self._steps_of[name] + 10))
        for key, tensor in self.network.state_dict().items():
            if key.split(".")[0] in _TRAINED_PARTS[name]:
                if tensor.is_floating_point():
                    self._average[key].lerp_(tensor, 1 - decay)
                else:
                    self._average[key].copy_(tensor)

    def _log(self, curve: Any, figures: dict[tuple[str, str], list[Tensor]], rate: float, seconds: float) -> None:
        means = torch.stack([torch.stack(values).float().mean() for values in figures.values()]).tolist()
        for (task, figure), mean in zip(figures, means, strict=True):
            curve.writerow((self.step, task, figure, f"{mean:.5f}", f"{rate:.2e}", f"{seconds:.1f}"))
        figures.clear()
        if not all(map(math.isfinite, means)):
            raise LearningError(f"A loss before step {self.step} is no number; go on with a lower rate.")

    def save(self) -> None:
        """Write `model.safetensors`, the averaged network, and the checkpoint `state-0.pt`, `state-1.pt`, ...

        Only the first of several processes writes.
        """
        if not self._world.leads:
            return
        save(self.run / "model.safetensors", self.averaged(), self._info)
        momenta = [
            {index: _half_precision(state) for index, state in optimiser.state_dict()["state"].items()}
            for optimiser in self._all_optimisers()
        ]
        state = {
            "network": self.network.state_dict(),
            "prototypes": self.prototypes.state_dict(),
            "momenta": momenta,
            "step": self.step,
            "steps_of": self._steps_of,
        }
        content = io.BytesIO()
        torch.save(state, content)
        whole = content.getbuffer()
        for part in range(math.ceil(len(whole) / PART_BYTES)):
            with atomic_write(self.run / f"state-{part}.pt") as temporary:
                temporary.write_bytes(whole[part * PART_BYTES : (part + 1) * PART_BYTES])

    def resume(self) -> bool:
        """Resume from the checkpoint; returns whether there was one."""
        parts = [self.run / f"state-{part}.pt" for part in itertools.takewhile(self._is_there, itertools.count())]
        if not parts:
            return False
        content = io.BytesIO(b"".join(part.read_bytes() for part in parts))
        state = torch.load(content, weights_only=True, map_location="cpu")  # optimisers count their steps there
        self.network.load_state_dict(state["network"])
        self.prototypes.load_state_dict(state["prototypes"])
        for optimiser, momenta in zip(self._all_optimisers(), state["momenta"], strict=True):
            whole = optimiser.state_dict()
            whole["state"] = {index: _full_precision(kept) for index, kept in momenta.items()}
            optimiser.load_state_dict(whole)
        self.step, self._steps_of = state["step"], state["steps_of"]
        self._average = _average_of(self.run / "model.safetensors", self.network)
        return True

    def start_from(self, weights: Path) -> list[str]:
        """Start from trained weights; returns the names of tensors that stay at their initial values.

        Raises ModelError.
        """
        fresh = fitted(self.network, weights)
        self._average = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        return fresh

    def averaged(self) -> CTSAM3D:
        """The network with the averaged weights, on the CPU."""
        network = self.plan.build_network()
        network.load_state_dict({name: tensor.cpu() for name, tensor in self._average.items()})
        return network

    def _file(self, name: str) -> Path:
        return self.run / name if self._world.leads else Path(os.devnull)

    def _is_there(self, part: int) -> bool:
        return (self.run / f"state-{part}.pt").exists()

    def _all_optimisers(self) -> Iterator[torch.optim.Optimizer]:
        return itertools.chain.from_iterable(self._optimisers.values())


_TRAINED_PARTS: Mapping[str, tuple[str, ...]] = {
    "label_maps": ("semantics",),
    "clicks": ("encoder", "decoder"),
    "cross_patch": ("cross_patch",),
}
"""Parts of the network that each task trains."""


def _parts(network: CTSAM3D, prototypes: Prototypes) -> dict[str, nn.Module]:
    found = {
        name: nn.ModuleList(getattr(network, part) for part in parts if getattr(network, part) is not None)
        for name, parts in _TRAINED_PARTS.items()
    }
    found["label_maps"].append(prototypes)
    return dict(found)


def _half_precision(state: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value.bfloat16() if isinstance(value, Tensor) and value.ndim > 1 else value for key, value in state.items()
    }


def _full_precision(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value.float() if isinstance(value, Tensor) else value for key, value in state.items()}


def _average_of(path: Path, network: CTSAM3D) -> dict[str, Tensor]:
    """The averaged weights in a file, on the device and in the precision of the network's."""
    own = network.state_dict()
    kept = load(path).network.state_dict()
    return {name: kept[name].to(tensor.device, tensor.dtype) for name, tensor in own.items()}
