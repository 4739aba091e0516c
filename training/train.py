"""Train a network: `python -m training.train RECIPE --data FOLDER --run FOLDER`; run it again to resume.

The run folder keeps `state.pt` (everything that is needed to go on), `curve.csv` (one line a step) and, at the end,
`model.safetensors` with the averaged weights.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.progress import Progress, TextColumn, TimeRemainingColumn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from CTSAM3DLib.atomic import writing_whole
from CTSAM3DLib.model import CTSAM3D, build
from CTSAM3DLib.model.checkpoints import ModelInfo, save
from training.recipe import Recipe
from training.rounds import Batch, play
from training.samples import Sample
from training.stream import training_entries, training_stream

CURVE_COLUMNS = ("step", "round", "loss", "dice", "heat_map_error", "learning_rate")


class Trainer:
    """The state of one run: network, running average of its weights, optimiser, generator and step."""

    def __init__(self, recipe: Recipe, run: Path) -> None:
        self.recipe = recipe
        self.run = run
        torch.manual_seed(recipe.seed)
        self.model = build(recipe.network).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay), use_buffers=True)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self.rng = np.random.default_rng(recipe.seed)
        self.step = 0

    def train(self, draw: Callable[[np.random.Generator], Sample]) -> None:
        """All steps that are left, with a checkpoint every few; `draw` gives one pair of patches."""
        precision: torch.dtype = getattr(torch, self.recipe.precision)
        columns = (*Progress.get_default_columns()[:-1], TimeRemainingColumn(), TextColumn("dice {task.fields[dice]}"))
        with Progress(*columns) as progress, (self.run / "curve.csv").open("a", newline="") as curve_file:
            curve = csv.writer(curve_file)
            if self.step == 0:
                curve.writerow(CURVE_COLUMNS)
            task = progress.add_task("training", total=self.recipe.steps, completed=self.step, dice="?")
            self.model.train()
            while self.step < self.recipe.steps:
                samples = [draw(self.rng) for _ in range(self.recipe.pairs)]
                batch = Batch(samples, self.recipe.window, self.rng)
                for index, result in enumerate(play(self.model, batch, self.recipe.rounds, precision)):
                    rate = self._learn(result.loss, index)
                    figures = (float(result.loss.detach()), result.dice, result.heat_map_error, rate)
                    curve.writerow((self.step, index, *(f"{figure:.6f}" for figure in figures)))
                self.step += 1
                progress.update(task, completed=self.step, dice=f"{result.dice:.2f}")
                if self.step % self.recipe.checkpoint_every == 0:
                    curve_file.flush()
                    self.save_state()

    def _learn(self, loss: torch.Tensor, round_index: int) -> float:
        """One optimiser step; returns the learning rate it was taken at."""
        rate = self.learning_rate(self.step + round_index / self.recipe.rounds)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.gradient_clip)
        self.optimiser.step()
        self.average.update_parameters(self.model)
        return rate

    def learning_rate(self, step: float) -> float:
        """Linear warm-up, then a cosine down to a fiftieth."""
        warmup = self.recipe.warmup_steps
        if step < warmup:
            return self.recipe.learning_rate * (step + 1) / (warmup + 1)
        done = (step - warmup) / max(self.recipe.steps - warmup, 1)
        return self.recipe.learning_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))

    @property
    def _state_file(self) -> Path:
        return self.run / "state.pt"

    def save_state(self) -> None:
        """Write `state.pt` whole or not at all."""
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "generator": self.rng.bit_generator.state,
            "step": self.step,
        }
        with writing_whole(self._state_file) as temporary:
            torch.save(state, temporary)

    def resume(self) -> None:
        """Go on from `state.pt` where there is one."""
        if not self._state_file.exists():
            return
        state = torch.load(self._state_file, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.rng.bit_generator.state = state["generator"]
        self.step = state["step"]


def main(
    recipe_file: Path,
    data: Annotated[Path, typer.Option(help="A folder with a dataset.json.")],
    run: Annotated[Path, typer.Option(help="Where the run keeps its state, curve and result.")],
    cache: Annotated[Path | None, typer.Option(help="Where prepared volumes are kept; default RUN/cache.")] = None,
) -> None:
    """Train by a recipe, or go on with a run that was stopped."""
    recipe = Recipe.read(recipe_file)
    run.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(recipe, run)
    trainer.resume()
    trainer.train(training_stream(recipe, data, cache or run / "cache"))
    trainer.save_state()
    entries = training_entries(recipe, data)
    info = ModelInfo(
        name=recipe.network,
        window=recipe.window,
        labels=tuple(sorted({label["name"] for entry in entries for label in (entry.get("labels") or {}).values()})),
        data_hash=hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest(),
    )
    network = trainer.average.module
    assert isinstance(network, CTSAM3D)  # what was averaged
    save(run / "model.safetensors", network, info)


if __name__ == "__main__":
    typer.run(main)
