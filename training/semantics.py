"""Teach the semantic network from label maps, before any click: `python -m training.semantics --config small.yaml ...`.

A click teaches about one structure at a time; a label map about all of them at once. The vectors of
`CTSAM3DLib.model.semantics` are trained so that each lies nearest to the prototype of its kind of structure, and
`training.train --start-from` then teaches the decoder to use them. Sides and numbers are left out of the kinds (a left
and a right kidney are alike): telling those apart is what clicks are for.

Data sets label different structures, so each set of kinds has prototypes of its own, and what one calls background is
never held against another. The run folder keeps `state.pt`, `curve.csv` and `model.safetensors`, a whole network.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
import typer
from rich.progress import Progress
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from CTSAM3DLib.atomic import writing_whole
from CTSAM3DLib.cli import run_command
from CTSAM3DLib.model.checkpoints import ModelInfo, load, save
from CTSAM3DLib.model.folding import unshuffled
from CTSAM3DLib.model.semantics import SemanticNetwork
from training.anatomy import kind_of
from training.curve import curve_writer
from training.datasets import CaseRecord
from training.distributed import World
from training.muon import optimisers
from training.real_volumes import AIR, RealVolume
from training.recipe import Recipe, RecipeError
from training.samples import PATCH, Pose, scanner_look
from training.stream import training_records, training_volumes

PATCHES = 8
"""Of one vocabulary in a step."""
STRAY = 24
"""How far, in voxels on each axis, a patch's centre strays from a voxel of the structure that was drawn."""
SHARPNESS = 12.0
"""What cosines are multiplied by before the softmax."""
BACKGROUND_WEIGHT = 0.25
CROSS_ENTROPY_WEIGHT = 2.0
DICE_SMOOTHING = 5.0
FEWEST_VOXELS = 4.0
"""Voxels of 32³ that a kind needs in a batch for its Dice to count."""
LEARNING_RATE, WEIGHT_DECAY, WARMUP_STEPS, LAST_RATE = 3e-3, 1e-2, 20, 0.03
EMA_DECAY = 0.99
CHECKPOINT_EVERY = 100
CURVE_COLUMNS = ("step", "vocabulary", "loss")


@dataclass(frozen=True)
class Vocabulary:
    """Volumes that are labelled with the same kinds of structure.

    Attributes:
        kinds: their names; kind number 0 is everything else, the first name is number 1.
        volumes: the labelled volumes.
        numbers: for each volume, the number of the kind of every value of its label map (uint8).

    """

    kinds: tuple[str, ...]
    volumes: tuple[RealVolume, ...]
    numbers: tuple[np.ndarray, ...]

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A patch around a random structure of a random volume: int16 HU and kind numbers, both (64, 64, 64)."""
        index = int(rng.integers(len(self.volumes)))
        volume = self.volumes[index]
        foreground = volume.foreground["labels"]
        voxel = foreground.draw(int(rng.integers(len(foreground.labels))), rng)
        pose = Pose.random(np.array(np.unravel_index(voxel, volume.ct.shape)), rng, upright_share=1.0)
        start = rng.integers(-STRAY, STRAY + 1, size=3) - PATCH // 2
        labels = pose.read(volume.labels["labels"], start, 0, order=0)
        return scanner_look(rng)(pose.read(volume.ct, start, AIR, order=1)), self.numbers[index][labels]


def vocabularies(records: Sequence[CaseRecord], volumes: Sequence[RealVolume]) -> list[Vocabulary]:
    """The labelled volumes by what they are labelled with; raises RecipeError where there is none."""
    by_kinds: dict[tuple[str, ...], list[tuple[RealVolume, np.ndarray]]] = defaultdict(list)
    for record, volume in zip(records, volumes, strict=True):
        if record.labels and len(volume.foreground["labels"].labels):
            kinds = tuple(sorted({kind_of(name) for name in record.labels.values()}))
            numbers = np.zeros(np.iinfo(volume.labels["labels"].dtype).max + 1, np.uint8)
            for value, name in record.labels.items():
                numbers[value] = 1 + kinds.index(kind_of(name))
            by_kinds[kinds].append((volume, numbers))
    if not by_kinds:
        raise RecipeError("No case of these data has labels to learn from; give labelled CTs.")
    return [
        Vocabulary(kinds, *(tuple(parts) for parts in zip(*found, strict=True))) for kinds, found in by_kinds.items()
    ]


@dataclass(frozen=True)
class LabelledBatches(Dataset[tuple[int, Tensor, Tensor]]):
    """Batch number n of the run, drawn by a generator of its own, so that a resumed run meets the same ones."""

    vocabularies: list[Vocabulary]
    recipe: Recipe
    first_step: int
    steps: int

    def __len__(self) -> int:
        return self.steps - self.first_step

    def __getitem__(self, index: int) -> tuple[int, Tensor, Tensor]:
        """The vocabulary's index, images scaled to [0, 1] and kind numbers, both (patches, 1, 64, 64, 64)."""
        rng = np.random.default_rng([self.recipe.seed, self.first_step + index])
        weights = np.sqrt([len(known.volumes) * len(known.kinds) for known in self.vocabularies])
        which = int(rng.choice(len(weights), p=weights / weights.sum()))
        images, numbers = zip(*(self.vocabularies[which].draw(rng) for _ in range(PATCHES)), strict=True)
        scaled = self.recipe.scaled(np.stack(images)[:, None])
        return which, torch.from_numpy(scaled), torch.from_numpy(np.stack(numbers)[:, None])


class Prototypes(nn.Module):
    """A learnt vector for each kind of each vocabulary, the first of each for everything else."""

    def __init__(self, vocabularies: Sequence[Vocabulary], width: int) -> None:
        super().__init__()
        self.of = nn.ParameterList(nn.Parameter(torch.randn(1 + len(known.kinds), width)) for known in vocabularies)

    def forward(self, vectors: Tensor, which: int) -> Tensor:
        """(b, width, 32, 32, 32) to logits (b, kinds, 32, 32, 32)."""
        return SHARPNESS * torch.einsum("bczyx,kc->bkzyx", vectors, F.normalize(self.of[which], dim=1))


def semantic_loss(logits: Tensor, numbers: Tensor) -> Tensor:
    """Cross-entropy and the mean Dice of the kinds that are there.

    A voxel of the logits (b, kinds, n, n, n) has the shares of its eight voxels of `numbers` (b, 1, 2n, 2n, 2n).
    """
    shares = torch.zeros_like(logits)
    for number in unshuffled(numbers.long()).split(1, dim=1):
        shares.scatter_add_(1, number, torch.full_like(logits[:, :1], 1 / 8))
    weights = torch.ones(logits.shape[1], device=logits.device)
    weights[0] = BACKGROUND_WEIGHT
    weighted = shares * weights[:, None, None, None]
    log_probability = logits.log_softmax(dim=1)
    cross_entropy = -(weighted * log_probability).sum() / weighted.sum()
    probability = log_probability.exp()
    everywhere = (0, 2, 3, 4)
    overlap, total = (probability * shares).sum(everywhere), (probability + shares).sum(everywhere)
    missed = 1 - (2 * overlap + DICE_SMOOTHING) / (total + DICE_SMOOTHING)
    there = shares.sum(everywhere) > FEWEST_VOXELS
    there[0] = False
    dice_loss = missed[there].mean() if there.any() else missed.sum() * 0
    return CROSS_ENTROPY_WEIGHT * cross_entropy + dice_loss


class SemanticTrainer:
    """The state of one run: the network and its prototypes, the running average of the network, the step."""

    def __init__(
        self, network: SemanticNetwork, known: list[Vocabulary], recipe: Recipe, run: Path, device: torch.device
    ) -> None:
        self.recipe, self.run, self.known, self.device = recipe, run, known, device
        self.network = network.to(device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(EMA_DECAY))
        self.prototypes = Prototypes(known, recipe.build_network().config.semantic_width).to(device)
        both = nn.ModuleList([self.network, self.prototypes])
        self.optimisers = optimisers(both, recipe.optimiser, LEARNING_RATE, WEIGHT_DECAY)
        self.parts = {"network": self.network, "average": self.average, "prototypes": self.prototypes}
        self.step = 0

    def train(self, steps: int, workers: int, minutes: float) -> None:
        """All steps that are left of `steps`, or as many as `minutes` allow."""
        stop_at = time.monotonic() + 60 * minutes
        batches = LabelledBatches(self.known, self.recipe, self.step, steps)
        arriving = iter(DataLoader(batches, batch_size=None, num_workers=workers))
        with Progress() as bar, curve_writer(self.run / "curve.csv", CURVE_COLUMNS, self.step) as curve:
            task = bar.add_task("semantics", total=steps, completed=self.step)
            while self.step < steps and time.monotonic() < stop_at:
                which, images, numbers = next(arriving)
                loss = self._learn(which, images.to(self.device), numbers.to(self.device), self._rate(steps))
                curve.writerow((self.step, which, f"{loss:.5f}"))
                self.step += 1
                bar.update(task, advance=1)
                if self.step % CHECKPOINT_EVERY == 0:
                    self.save_state()

    def _learn(self, which: int, images: Tensor, numbers: Tensor, rate: float) -> float:
        self.network.zero_grad(set_to_none=True)
        self.prototypes.zero_grad(set_to_none=True)
        vectors = self.network(images.contiguous(memory_format=torch.channels_last_3d))
        loss = semantic_loss(self.prototypes(vectors, which), numbers)
        loss.backward()
        nn.utils.clip_grad_norm_([*self.network.parameters(), *self.prototypes.parameters()], 1.0)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
        self.average.update_parameters(self.network)
        return float(loss.detach())

    def _rate(self, steps: int) -> float:
        warm = min(1.0, (self.step + 1) / WARMUP_STEPS)
        fallen = 0.5 * (1 + math.cos(math.pi * self.step / steps))
        return LEARNING_RATE * warm * (LAST_RATE + (1 - LAST_RATE) * fallen)

    def save_state(self) -> None:
        """Write `state.pt` whole or not at all."""
        state = {
            **{name: part.state_dict() for name, part in self.parts.items()},
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "step": self.step,
        }
        with writing_whole(self.run / "state.pt") as temporary:
            torch.save(state, temporary)

    def resume(self) -> None:
        """Go on from `state.pt` where there is one."""
        file = self.run / "state.pt"
        if file.exists():
            state = torch.load(file, weights_only=True, map_location=self.device)
            for name, part in self.parts.items():
                part.load_state_dict(state[name])
            for optimiser, kept in zip(self.optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(kept)
            self.step = state["step"]


def main(
    config: Annotated[Path, typer.Option(help="The recipe of the model, as of training.train.")],
    data: Annotated[Path, typer.Option(help="A folder of labelled CTs in a layout of training.datasets.")],
    output: Annotated[Path, typer.Option(help="The run's folder.")],
    cache: Annotated[Path | None, typer.Option(help="Where prepared volumes are kept; default OUTPUT/cache.")] = None,
    start_from: Annotated[Path | None, typer.Option(help="A trained model whose other parts are kept.")] = None,
    steps: Annotated[int, typer.Option(help="Batches to learn from.")] = 2500,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default a GPU where there is one.")] = None,
    workers: Annotated[int, typer.Option(help="Processes that draw patches beside the training.")] = 1,
    minutes: Annotated[float, typer.Option(help="Stop after so long; the same command goes on.")] = math.inf,
) -> None:
    """Train the semantic network of a recipe, or go on with a run that was stopped."""
    recipe = Recipe.read(config)
    torch.manual_seed(recipe.seed)
    model = recipe.build_network() if start_from is None else load(start_from).network.train()
    if model.semantics is None:
        raise RecipeError(f"The network of {config} has no semantics (semantic_width is 0); choose another recipe.")
    output.mkdir(parents=True, exist_ok=True)
    cache = cache or output / "cache"
    volumes = training_volumes(recipe, data, cache)
    known = vocabularies(training_records(recipe, data), volumes)
    trainer = SemanticTrainer(model.semantics, known, recipe, output, World.join(device).device)
    trainer.resume()
    trainer.train(steps, workers, minutes)
    trainer.save_state()
    model.semantics.load_state_dict(trainer.average.module.state_dict())
    info = ModelInfo(recipe.network, recipe.window, recipe.spacing, cross_patch=False)
    save(output / "model.safetensors", model.cpu(), info)


if __name__ == "__main__":
    run_command(lambda: typer.run(main))
