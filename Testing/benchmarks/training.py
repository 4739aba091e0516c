"""What training by a recipe costs here: `python -m Testing.benchmarks.training --config paper.yaml [--data FOLDER]`.

Times the drawing of a pair of patches and one round of Algorithm 1, and adds up what the backward pass keeps in
memory. `docs/training.md` extrapolates from these figures.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from CTSAM3DLib.run_command import run_command
from training.config import Recipe
from training.data.stream import training_sampler
from training.learning.algorithm1 import Batch, click_round


def main(
    config: Annotated[Path, typer.Option(help="A recipe.")],
    data: Annotated[Path | None, typer.Option(help="CTs to draw from; phantoms without.")] = None,
    cache: Annotated[Path, typer.Option(help="Where prepared volumes are kept.")] = Path("runs/cache"),
    pairs: Annotated[int, typer.Option(help="Pairs of patches in the batch.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Print seconds, operations and memory of one round, and the hours of the whole recipe on this device."""
    recipe = dataclasses.replace(Recipe.read(config), pairs=pairs)
    on = torch.device(device)
    rng = np.random.default_rng(0)
    draw = training_sampler(recipe, data, cache)
    draw(rng, 0)
    begun = time.perf_counter()
    samples = [draw(rng, 0) for _ in range(pairs)]
    drawing = (time.perf_counter() - begun) / pairs
    model = recipe.build_network().to(on).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    batch = Batch(samples, recipe, rng, on)
    kept = _Kept()
    with (
        torch.autograd.graph.saved_tensors_hooks(kept.count, lambda tensor: tensor),
        FlopCounterMode(display=False) as flops,
    ):
        click_round(model, batch, recipe).loss.backward()
    seconds = min(_timed(model, batch, recipe, on) for _ in range(2))
    patches = 2 * pairs
    all_patches = 2 * Recipe.read(config).pairs * recipe.micro_batches * recipe.rounds * recipe.steps
    Console().print(
        f"{recipe.network} on {device}, {recipe.precision}, {patches} patches, {torch.get_num_threads()} threads\n"
        f"drawing a pair: {drawing:.3f} s\n"
        f"a round, forward and backward: {seconds / patches:.3f} s a patch\n"
        f"operations: {flops.get_total_flops() / patches / 1e12:.3f} TFLOP a patch\n"
        f"kept for the backward pass: {kept.bytes / patches / 2**20:.0f} MiB a patch\n"
        f"the recipe: {all_patches / 1e6:.1f} million patch-rounds, "
        f"{all_patches * seconds / patches / 3600:.0f} h here, "
        f"{all_patches * flops.get_total_flops() / patches:.1e} FLOP"
    )


class _Kept:
    """Adds up the storage that the backward pass keeps, each once."""

    def __init__(self) -> None:
        self.bytes = 0
        self._seen: set[int] = set()

    def count(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return tensor


def _timed(model: torch.nn.Module, batch: Batch, recipe: Recipe, device: torch.device) -> float:
    begun = time.perf_counter()
    result = click_round(model, batch, recipe)  # type: ignore[arg-type]
    result.loss.backward()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


if __name__ == "__main__":
    run_command(lambda: typer.run(main))
