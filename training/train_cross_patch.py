"""Go on training the cross-patch network alone: `python -m training.train_cross_patch RECIPE --data D --run R`.

Algorithm 1 trains it beside the segmentation network, which costs forty times as much a step. Given true masks it
needs only pairs of patches, so a few minutes here are worth hours there. Reads the run's `model.safetensors` and
writes it again with the cross-patch network replaced by the average of the new one.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
import typer
from rich.progress import Progress, TextColumn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from CTSAM3DLib.model import checkpoints
from CTSAM3DLib.model.cross_patch import CrossPatchNetwork
from training.recipe import Recipe
from training.rounds import Batch
from training.samples import Sample
from training.stream import training_stream

PAIRS = 8
LEARNING_RATE = 2e-3


def loss_of(
    network: CrossPatchNetwork, samples: list[Sample], recipe: Recipe, rng: np.random.Generator
) -> torch.Tensor:
    """Mean squared error of the heat maps proposed from U into V and from V into U, given the true masks."""
    batch = Batch(samples, recipe.window, rng)
    proposed = network(batch.image, batch.truth_tensor, batch.image.roll(len(samples), dims=0))
    return F.mse_loss(proposed, batch.heat_maps.roll(len(samples), dims=0))


def main(
    recipe_file: Path,
    data: Annotated[Path, typer.Option(help="A folder with a dataset.json.")],
    run: Annotated[Path, typer.Option(help="The run whose model.safetensors is to be improved.")],
    minutes: Annotated[float, typer.Option(help="How long to train.")] = 10,
    cache: Annotated[Path | None, typer.Option(help="Where prepared volumes are kept; default RUN/cache.")] = None,
) -> None:
    """Train by the clock, the learning rate falling to zero at its end."""
    recipe = Recipe.read(recipe_file)
    trained = checkpoints.load(run / "model.safetensors")
    network = trained.network.cross_patch.train()
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay))
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=recipe.weight_decay)
    rng = np.random.default_rng(recipe.seed)
    draw = training_stream(recipe, data, cache or run / "cache")
    begun = time.monotonic()
    recent = 0.0
    with Progress(*Progress.get_default_columns(), TextColumn("error {task.fields[error]}")) as progress:
        task = progress.add_task("cross-patch", total=minutes * 60, error="?")
        while (elapsed := time.monotonic() - begun) < minutes * 60:
            for group in optimiser.param_groups:
                group["lr"] = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * elapsed / (minutes * 60)))
            loss = loss_of(network, [draw(rng) for _ in range(PAIRS)], recipe, rng)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            average.update_parameters(network)
            recent = 0.98 * recent + 0.02 * float(loss.detach()) if recent else float(loss.detach())
            progress.update(task, completed=elapsed, error=f"{recent:.5f}")
    network.load_state_dict(average.module.state_dict())
    checkpoints.save(run / "model.safetensors", trained.network, trained.info)


if __name__ == "__main__":
    typer.run(main)
