"""Train a network by Algorithm 1: `python -m training.train --config small.yaml --data FOLDER --output FOLDER`.

The same command resumes a stopped run. The run's folder holds `state.pt` (the checkpoint), `curve.csv` (one line for
each click round), `samples.png` (predictions) and at the end `model.safetensors` with the averaged weights and
`curve.png`. Under `torchrun` several processes share the work (`training.learning.distributed`).

Every micro-batch is drawn by its own random generator, seeded by the recipe's seed, the step and the number of the
micro-batch. A resumed run therefore draws the same samples as an unbroken one, whatever the number of processes.
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeRemainingColumn
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from CTSAM3DLib.atomic import atomic_write
from CTSAM3DLib.checkpoints.checkpoint import ModelInfo, load, save
from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.model import CTSAM3D
from CTSAM3DLib.model.small.guided_decoder import GuidedDecoder
from CTSAM3DLib.run_command import run_command
from training.config import Recipe
from training.data.samples import Sample
from training.data.stream import data_hash, training_records, training_sampler
from training.learning.algorithm1 import Batch, RoundResult, click_round
from training.learning.curve import curve_writer
from training.learning.distributed import World
from training.learning.muon import optimisers
from training.learning.run_pictures import draw_curve, draw_samples

CURVE_COLUMNS = ("step", "round", "loss", "dice", "heat_map_error", "learning_rate", "seconds")
SMOKE: dict[str, Any] = {
    "steps": 6,
    "pairs": 2,
    "micro_batches": 1,
    "warmup_steps": 1,
    "checkpoint_every": 3,
    "compile": False,
}

Draw = Callable[[np.random.Generator, int], Sample]
"""Draws one pair of patches for a step (`training.data.stream`)."""


class TrainingError(CTSAM3DError):
    """The training cannot continue."""


@dataclass(frozen=True)
class MicroBatches(Dataset[tuple[list[Sample], list[int]]]):
    """The remaining micro-batches of one process: samples, and the seed of their clicks."""

    draw: Draw
    recipe: Recipe
    first_step: int
    world: World

    def __len__(self) -> int:
        return (self.recipe.steps - self.first_step) * self._of_this_process

    def __getitem__(self, index: int) -> tuple[list[Sample], list[int]]:
        step, nth = divmod(index, self._of_this_process)
        step += self.first_step
        seed = [self.recipe.seed, step, nth * self.world.size + self.world.rank]
        rng = np.random.default_rng(seed)
        return [self.draw(rng, step) for _ in range(self.recipe.pairs)], [*seed, 1]

    @property
    def _of_this_process(self) -> int:
        return self.recipe.micro_batches // self.world.size


class Trainer:
    """The state of one run: network, exponential moving average of the weights (EMA), optimisers and step."""

    def __init__(self, recipe: Recipe, run: Path, world: World) -> None:
        if recipe.micro_batches % world.size:
            raise TrainingError(
                f"{recipe.micro_batches} micro-batches cannot be shared by {world.size} processes; change either."
            )
        self.recipe = recipe
        self.run = run
        self.world = world
        torch.manual_seed(recipe.seed)
        network = recipe.build_network().to(world.device)
        self.model = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        for part in self._frozen:
            part.requires_grad_(False)
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay), use_buffers=True)
        self.optimisers = optimisers(self.model, recipe.optimiser, recipe.learning_rate, recipe.weight_decay)
        self.step = 0
        if recipe.compile:
            compile_in_place(self.model.decoder)

    def train(self, draw: Draw, workers: int = 0, minutes: float = math.inf) -> None:
        """Train for all remaining steps, or as many as `minutes` allow, with regular checkpoints.

        Raises TrainingError when the loss is not finite; the last checkpoint is kept.
        """
        stop_at = time.monotonic() + 60 * minutes
        loader = DataLoader(
            MicroBatches(draw, self.recipe, self.step, self.world), batch_size=None, num_workers=workers
        )
        arriving = iter(loader)
        self.model.train()
        for part in self._frozen:
            part.eval()
        file = self.run / "curve.csv" if self.world.leads else Path(os.devnull)
        with self._progress() as show, curve_writer(file, CURVE_COLUMNS, self.step) as curve:
            while self.step < self.recipe.steps and self.world.all(time.monotonic() < stop_at):
                batches = [self._batch(*next(arriving)) for _ in range(self.recipe.micro_batches // self.world.size)]
                for index, figures in enumerate(self.learn(batches)):
                    curve.writerow((self.step, index, *(f"{figure:.6f}" for figure in figures)))
                self.step += 1
                show(figures[1])
                if self.step % self.recipe.checkpoint_every == 0:
                    self.save_state()
                    self._picture(batches[0])

    @property
    def _frozen(self) -> list[nn.Module]:
        parts = [getattr(self.model, name) for name in (*self.recipe.frozen, "semantics")]
        return [part for part in parts if part is not None]

    def learn(self, batches: list[Batch]) -> Iterator[list[float]]:
        """One training step: every click round of Algorithm 1 on all micro-batches, each with an optimiser step.

        Yields loss, Dice, heat-map error, learning rate and seconds of each round, as means over all processes.
        """
        for index in range(self.recipe.rounds):
            start = time.perf_counter()
            rate = self.recipe.rate_at(self.step + index / self.recipe.rounds)
            self.model.zero_grad(set_to_none=True)
            results = []
            for batch in batches:
                result = click_round(self.model, batch, self.recipe)
                (result.loss / len(batches)).backward()
                batch.update(result.probability)
                results.append(result)
            figures = self.world.mean(_means(results))
            if not math.isfinite(figures[0]):
                raise TrainingError(f"The loss of step {self.step} is no number; resume with a lower learning_rate.")
            self._optimiser_step(rate)
            yield [*figures, rate, time.perf_counter() - start]

    def _optimiser_step(self, rate: float) -> None:
        self.world.average_gradients(self.model)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.gradient_clip)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
        self.world.average_buffers(self.model)
        self.average.update_parameters(self.model)

    def _batch(self, samples: list[Sample], seed: list[int]) -> Batch:
        return Batch(samples, self.recipe, np.random.default_rng(seed), self.world.device)

    def save_state(self) -> None:
        """Write the checkpoint `state.pt` atomically; only the first process writes."""
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "step": self.step,
        }
        if self.world.leads:
            with atomic_write(self.run / "state.pt") as temporary:
                torch.save(state, temporary)

    def resume(self) -> None:
        """Resume from `state.pt` if it exists."""
        file = self.run / "state.pt"
        if not file.exists():
            return
        state = torch.load(file, weights_only=True, map_location=self.world.device)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for optimiser, kept in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(kept)
        self.step = state["step"]

    def start_from(self, weights: Path) -> None:
        """Start from trained weights; raises TrainingError for weights of another network."""
        network = load(weights).network
        if network.config != self.model.config:
            raise TrainingError(f"{weights} is of another network than the recipe's; correct either.")
        self.model.load_state_dict(network.state_dict())
        self.average.module.load_state_dict(network.state_dict())

    @property
    def averaged(self) -> CTSAM3D:
        """The network with the averaged weights, the result of a run."""
        network = self.average.module
        assert isinstance(network, CTSAM3D)  # what was averaged
        return network

    @contextmanager
    def _progress(self) -> Iterator[Callable[[float], None]]:
        """A progress bar of the first process; call it with the Dice of the last round after every step."""
        columns = (*Progress.get_default_columns()[:-1], TimeRemainingColumn(), TextColumn("Dice {task.fields[dice]}"))
        with Progress(*columns, disable=not self.world.leads) as bar:
            task = bar.add_task("training", total=self.recipe.steps, completed=self.step, dice="?")
            yield lambda dice: bar.update(task, advance=1, dice=f"{dice:.2f}")

    def _picture(self, batch: Batch) -> None:
        if self.world.leads:
            draw_samples(batch, self.run / "samples.png")


def compile_in_place(decoder: nn.Module, backend: str = "inductor") -> None:
    """Compile a decoder except for its guidance maps, whose hundreds of small steps compiling would unroll."""
    if isinstance(decoder, GuidedDecoder):
        setattr(decoder, "guided_prompts", torch.compiler.disable(decoder.guided_prompts))  # noqa: B010 - a method
    decoder.compile(backend=backend)


def _means(results: list[RoundResult]) -> list[float]:
    rows = [(float(result.loss.detach()), result.dice, result.heat_map_error) for result in results]
    return [float(mean) for mean in np.mean(rows, axis=0)]


def main(
    config: Annotated[Path, typer.Option(help="A recipe: a YAML file, or one of training/recipes by its name.")],
    data: Annotated[Path | None, typer.Option(help="A folder of CTs in a layout of training.data.datasets.")] = None,
    output: Annotated[Path | None, typer.Option(help="The run's folder; default runs/NAME.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Where prepared volumes are kept; default OUTPUT/cache.")] = None,
    start_from: Annotated[Path | None, typer.Option(help="Trained weights to begin a new run with.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default a GPU where there is one.")] = None,
    workers: Annotated[int, typer.Option(help="Processes that prepare samples beside the training.")] = 0,
    minutes: Annotated[float, typer.Option(help="Stop after so long; the same command goes on.")] = math.inf,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="A few small steps, on phantoms if no data are given.")
    ] = False,
) -> None:
    """Train by a recipe, or resume a stopped run."""
    recipe = Recipe.read(config)
    if smoke:
        recipe = dataclasses.replace(recipe, **SMOKE)
    run = output or Path("runs") / (config.stem + ("-smoke" if smoke else ""))
    run.mkdir(parents=True, exist_ok=True)
    world = World.join(device)
    trainer = Trainer(recipe, run, world)
    if start_from is not None:
        trainer.start_from(start_from)
    trainer.resume()
    cache = cache or run / "cache"
    trainer.train(training_sampler(recipe, data, cache), workers, minutes)
    trainer.save_state()
    if world.leads:
        finish(trainer, data, cache)
    world.leave()


def finish(trainer: Trainer, data: Path | None, cache: Path) -> None:
    """Write the averaged network with its metadata, and the picture of the learning curve."""
    recipe = trainer.recipe
    records = training_records(recipe, data) if data is not None else []
    info = ModelInfo(
        name=recipe.network,
        spacing=recipe.spacing,
        window=recipe.window,
        cross_patch=recipe.cross_patch,
        labels=tuple(sorted({name for record in records for name in record.names})),
        data_hash=data_hash(records, cache) if records else "",
    )
    save(trainer.run / "model.safetensors", trainer.averaged, info)
    draw_curve(trainer.run / "curve.csv", trainer.run / "curve.png")
    Console(stderr=True).print(
        f"{trainer.step} of {recipe.steps} steps done; see model.safetensors, curve.png, samples.png in {trainer.run}."
    )


if __name__ == "__main__":
    run_command(lambda: typer.run(main))
