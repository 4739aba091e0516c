"""The samples of a recipe: real labels, supervoxels and phantoms in its shares, held-out patients left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from training.real_volumes import prepare
from training.recipe import Recipe
from training.samples import PhantomSamples, RealSamples, Sample, augment, mixed


def training_entries(recipe: Recipe, data: Path) -> list[dict[str, Any]]:
    """What `dataset.json` says of the cases that the recipe trains on."""
    listed = json.loads((data / "dataset.json").read_text(encoding="utf-8"))
    return [entry for entry in listed if entry["case"] not in recipe.held_out]


def training_stream(recipe: Recipe, data: Path, cache: Path) -> Callable[[np.random.Generator], Sample]:
    """A function that draws one augmented pair of patches; volumes are prepared in `cache` on first use."""
    volumes = prepare(data, cache, [entry["case"] for entry in training_entries(recipe, data)])
    real, phantoms = RealSamples(volumes), PhantomSamples()
    return lambda rng: augment(mixed(rng, real, phantoms, recipe.shares), rng)
