"""Train the bundled model in one loop: `python -m training.learn --plan whole-body.yaml --data DATA.npz --run FOLDER`.

DATA.npz is the output of `training.prepare`. The same command resumes a stopped or killed run. The folder holds
`curve.csv`, `model.safetensors` (the averaged weights so far) and the checkpoint. On two processor cores two processes
of one thread share each batch: `OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 -m training.learn ...`.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Annotated

import typer

from CTSAM3DLib.checkpoints.checkpoint import ModelInfo
from training.config import RecipeError
from training.data.prepared import Prepared
from training.learning.distributed import World
from training.learning.learner import Learner
from training.learning.plan import Plan
from training.learning.resident import Resident


def open_run(plan_file: Path, data: Path, run: Path, world: World, start_from: Path | None) -> Learner:
    """A run at its last checkpoint, or at its start. Raises RecipeError, VolumeError and ModelError."""
    plan = Plan.read(plan_file)
    prepared = Prepared.read(data)
    if (prepared.spacing, prepared.window) != (plan.spacing, plan.window):
        raise RecipeError(f"{data} was prepared for another spacing or window than {plan_file}'s; prepare it again.")
    prepared = prepared.without_any_of(plan.held_out)
    labels = {name for case in prepared.cases for name in case.names.values() if case.source == "ct"}
    trained = plan.tasks.get("cross_patch")
    info = ModelInfo(
        name=plan.network,
        spacing=plan.spacing,
        window=plan.window,
        cross_patch=trained is not None and trained.share > 0,
        labels=tuple(sorted(labels)),
        data_hash=hashlib.sha256(data.read_bytes()).hexdigest(),
    )
    run.mkdir(parents=True, exist_ok=True)
    learner = Learner(plan, Resident.of(prepared, world.device), run, info, world)
    if not learner.resume() and start_from is not None:
        learner.start_from(start_from)
    return learner


def main(
    plan: Annotated[Path, typer.Option(help="A plan: a YAML file, or one of training/plans.")],
    data: Annotated[Path, typer.Option(help="What training.prepare wrote.")],
    run: Annotated[Path, typer.Option(help="The run's folder.")],
    start_from: Annotated[Path | None, typer.Option(help="Trained weights to begin a new run with.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default a GPU where there is one.")] = None,
    minutes: Annotated[float, typer.Option(help="Stop after so long; the same command goes on.")] = math.inf,
    steps: Annotated[float, typer.Option(help="Stop after so many steps in all.")] = math.inf,
) -> None:
    """Train by a plan, or resume a stopped run."""
    world = World.join(device)
    open_run(plan, data, run, world, start_from).learn(minutes, steps)
    world.leave()


if __name__ == "__main__":
    typer.run(main)
