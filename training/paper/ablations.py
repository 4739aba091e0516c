"""The networks of the paper's ablations, and a quick training of each at a tiny size.

The real ones are trained by their recipes for days (`docs/training.md`); the tiny ones learn for seconds, so that the
tables can be made at all. What they show is that the comparison runs, not what it comes to.
"""

from __future__ import annotations

import dataclasses
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.config import Recipe
from training.data.stream import training_sampler
from training.learning.distributed import World
from training.train import Trainer, finish

TINY_NETWORK: dict[str, Any] = {
    "semantic_width": 0,
    "semantic_filters": (),
    "stem_width": 12,
    "encoder_widths": (16, 24, 32, 48),
    "encoder_blocks": (1, 1, 1, 1),
    "encoder_heads": (1, 1, 2, 2),
    "level_widths": (16, 16, 16, 24),
    "upscaled_widths": (24, 16, 16, 10, 8),
    "prompt_widths": (12, 12, 12, 12, 12),
    "quality_width": 8,
    "cross_patch_widths": (4, 8, 8, 8, 16),
}
"""Changes to the bundled network, so that a few training steps suffice."""
TINY: dict[str, Any] = {
    "network": "ctsam3d-small",
    "spacing": 3.0,
    "micro_batches": 1,
    "pairs": 1,
    "rounds": 3,
    "optimiser": "muon",
    "learning_rate": 3e-3,
    "warmup_steps": 3,
    "schedule": "cosine",
    "ema_decay": 0.9,
    "precision": "float32",
    "compile": False,
    "checkpoint_every": 5,
}


@dataclass(frozen=True)
class Ablation:
    """A network of the paper's ablations: its recipe, and what is special about it."""

    name: str
    recipe: str
    title: str


ABLATIONS = {
    ablation.name: ablation
    for ablation in (
        Ablation("full", "paper.yaml", "all of the paper's parts"),
        Ablation("rff", "paper-rff.yaml", "random Fourier features in place of PSAP"),
        Ablation("unet", "paper-unet.yaml", "a U-Net's encoder in place of ResT"),
        Ablation("104-labels", "paper-104-labels.yaml", "without the curated tissues"),
        Ablation("no-cross-patch", "paper-no-cross-patch.yaml", "without cross-patch prompts"),
    )
}
"""By name."""


def tiny_recipe(ablation: Ablation, steps: int) -> Recipe:
    """The ablation's recipe, shrunk until seconds are enough."""
    recipe = Recipe.read(ablation.recipe)
    network = {**TINY_NETWORK, **recipe.network_changes}
    return dataclasses.replace(recipe, **TINY, steps=steps, network_changes=network)


def train_tiny(ablation: Ablation, steps: int, data: Path, run: Path) -> Path:
    """Train or resume, and return the file of weights. The output is in the run's `log.txt`.

    Raises VolumeError for data that cannot be read, TrainingError and OutputError.
    """
    weights = run / "model.safetensors"
    if weights.exists():
        return weights
    run.mkdir(parents=True, exist_ok=True)
    cache = run / "cache"
    with (run / "log.txt").open("a", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
        trainer = Trainer(tiny_recipe(ablation, steps), run, World.join("cpu"))
        trainer.resume()
        trainer.train(training_sampler(trainer.recipe, data, cache))
        trainer.save_state()
        finish(trainer, data, cache)
    return weights
