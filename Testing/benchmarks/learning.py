"""Samples and steps a second of the loop, beside those of `training.train`, in one run.

    python -m Testing.benchmarks.learning --data DATA.npz --volumes FOLDER --cache CACHE

DATA.npz is what `training.prepare` wrote; FOLDER holds the CTs that `training.train` draws from. Seconds are the least
of a few repetitions, a patch each; "before" is the host's drawing (NumPy, SciPy) and its clicks, with the recipe
small.yaml and its network, "now" the device's with whole-body.yaml.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import torch
import typer

from CTSAM3DLib.checkpoints.checkpoint import ModelInfo
from training.config import Recipe
from training.data.prepared import Prepared
from training.data.stream import training_sampler
from training.learning.algorithm1 import Batch, click_round
from training.learning.distributed import World
from training.learning.learner import Learner
from training.learning.plan import Plan
from training.learning.resident import Resident
from training.learning.samples import read

REPEATS = 3
PAIRS = 4
"""Of the steps of `training.train`: as many patches as a step of the loop has."""


def before(volumes: Path, cache: Path) -> dict[str, float]:
    """Seconds a patch of drawing, of a round of clicks, and of clicking its errors, as `training.train` does them."""
    recipe = Recipe.read("small.yaml")
    draw = training_sampler(recipe, volumes, cache)
    rng = np.random.default_rng(0)
    drawing = _seconds(lambda: [draw(rng, 0) for _ in range(PAIRS)])
    samples = [draw(rng, 0) for _ in range(PAIRS)]
    network = recipe.build_network().to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    assert network.semantics is not None
    network.semantics.requires_grad_(False)  # as in `training.train`
    batch = Batch(samples, recipe, rng)

    def learn() -> Any:
        network.zero_grad(set_to_none=True)
        batch.levels = None  # the graph of the round before is gone
        result = click_round(network, batch, recipe)
        result.loss.backward()
        return result

    probability = learn().probability
    return {
        "drawing": drawing / (2 * PAIRS),
        "click_round": _seconds(learn) / (2 * PAIRS),
        "clicking": _seconds(lambda: batch.update(probability)) / (2 * PAIRS),
    }


def now(data: Path) -> dict[str, float]:
    """Seconds a patch of drawing, reading, a step of label maps, and a round of clicks of the loop."""
    plan = Plan.read("whole-body.yaml")
    prepared = Prepared.read(data)
    resident = Resident.of(prepared.without_any_of(plan.held_out), torch.device("cpu"))
    with TemporaryDirectory() as folder:
        info = ModelInfo(plan.network, plan.window, plan.spacing)
        learner = Learner(plan, resident, Path(folder), info, World(0, 1, torch.device("cpu")))
    learning, generator = learner._learning, torch.Generator().manual_seed(0)
    rng = np.random.default_rng(0)
    found = {}
    for name, task in plan.tasks.items():
        if name == "label_maps":
            found["drawing"] = _seconds(lambda task=task: learning.draw("label_maps", task, rng)) / task.batch
            drawn = learning.draw("label_maps", task, rng)
            found["reading"] = _seconds(lambda drawn=drawn: read(resident, drawn, generator)) / task.batch
        placements = learning.draw(name, task, rng)

        def step(name: str = name, placements: Any = placements) -> None:
            for loss, _ in learning.losses(name, plan.tasks[name], placements):
                learner._optimiser_step(name, loss, 1e-3)

        patches = task.batch * task.rounds
        found[{"clicks": "click_round"}.get(name, name)] = _seconds(step) / patches
    return found


def _seconds(work: Callable[[], Any]) -> float:
    work()
    times = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


def main(
    data: Annotated[Path, typer.Option(help="What training.prepare wrote.")],
    volumes: Annotated[Path | None, typer.Option(help="A folder of CTs, for the figures of training.train.")] = None,
    cache: Annotated[Path, typer.Option(help="Where its prepared volumes are kept.")] = Path("runs/cache"),
) -> None:
    """Print milliseconds a patch."""
    found = {"threads": torch.get_num_threads(), "now": now(data)}
    if volumes is not None:
        found["before"] = before(volumes, cache)
    shown = {
        name: {part: round(1000 * seconds, 1) for part, seconds in parts.items()} if isinstance(parts, dict) else parts
        for name, parts in found.items()
    }
    typer.echo(json.dumps(shown, indent=1))


if __name__ == "__main__":
    typer.run(main)
