"""The sampler of a recipe: real labels, supervoxels and phantoms by sampling weights, without held-out patients.

`python -m training.data.stream --config RECIPE --data FOLDER --cache FOLDER` preprocesses the volumes before training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from CTSAM3DLib.run_command import run_command
from training import anatomy
from training.config import Recipe, RecipeError
from training.data.datasets import CaseRecord, read_dataset
from training.data.real_volumes import RealVolume, content_hash, prepare
from training.data.samples import Cropping, PhantomSamples, RealSamples, Sample, augment, mixed

TRAINED_SPLITS = ("train", "val")
"""Splits that are trained on; the paper's 1139 cases are TotalSegmentator's training and validation cases."""


def training_records(recipe: Recipe, data: Path) -> list[CaseRecord]:
    """The cases of the recipe, restricted to its labels.

    Raises VolumeError as `read_dataset` does, and RecipeError where the data have only some of the held-out cases,
    since a misspelt case would be trained on.
    """
    records = read_dataset(data)
    absent = sorted(set(recipe.held_out) - {record.case for record in records})
    if 0 < len(absent) < len(recipe.held_out):
        raise RecipeError(f"{data} has no case {', '.join(absent)}, which the recipe holds out; correct the names.")
    records = [record for record in records if record.case not in recipe.held_out]
    if any(record.split for record in records):
        records = [record for record in records if record.split in TRAINED_SPLITS]
    if recipe.label_limit is None:
        return records
    return [
        replace(
            record,
            labels=_up_to(recipe.label_limit, record.labels),
            tissues=_up_to(recipe.label_limit, record.tissues),
        )
        for record in records
    ]


def training_volumes(recipe: Recipe, data: Path, cache: Path, jobs: int = 1) -> list[RealVolume]:
    """The volumes of the recipe, preprocessed in `cache` on first use. Raises as `prepare` does."""
    pseudo = recipe.shares.get("supervoxels", 0) > 0
    return prepare(training_records(recipe, data), cache, recipe.spacing, pseudo, jobs, progress=True)


def training_sampler(
    recipe: Recipe, data: Path | None, cache: Path, jobs: int = 1
) -> Callable[[np.random.Generator, int], Sample]:
    """The recipe's sampler, which draws a pair of patches for a step; volumes are preprocessed in `cache` on first use.

    Without `data` the sampler draws phantoms only.
    """
    cropping = Cropping(recipe.deviation, recipe.varied)
    real = None if data is None else RealSamples(training_volumes(recipe, data, cache, jobs), cropping)
    shares = {"phantom": 1.0} if data is None else recipe.shares
    return Sampler(real, PhantomSamples(recipe.spacing, cropping), shares, recipe.varied)


@dataclass
class Sampler:
    """Draws the samples of a recipe; can be pickled for other processes."""

    real: RealSamples | None
    phantoms: PhantomSamples
    shares: dict[str, float]
    varied: bool

    def __call__(self, rng: np.random.Generator, step: int) -> Sample:
        """Draw a pair of patches for a training step."""
        sample = mixed(rng, step, self.real, self.phantoms, self.shares)
        return augment(sample, rng) if self.varied else sample


def data_hash(records: list[CaseRecord], cache: Path) -> str:
    """SHA-256 of the training data, the contents of all files and the names of the labels; hexadecimal."""
    digest = hashlib.sha256()
    for record in records:
        digest.update(repr((record.case, content_hash(record, cache), record.labels, record.tissues)).encode())
    return digest.hexdigest()


def _up_to(limit: int, labels: dict[int, str]) -> dict[int, str]:
    return {value: name for value, name in labels.items() if (anatomy.index_of(name) or limit + 1) <= limit}


def main(
    config: Annotated[Path, typer.Option(help="A recipe, as of training.train.")],
    data: Annotated[Path, typer.Option(help="A folder of CTs in a layout of training.data.datasets.")],
    cache: Annotated[Path, typer.Option(help="Where prepared volumes are kept.")],
    jobs: Annotated[int, typer.Option(help="How many processes prepare.")] = 1,
) -> None:
    """Prepare the volumes of a recipe ahead of its training, so that several trainers need not do it at once."""
    volumes = training_volumes(Recipe.read(config), data, cache, jobs)
    size = sum(array.nbytes for volume in volumes for array in (volume.ct, *volume.labels.values()))
    Console().print(f"{len(volumes)} volumes are ready in {cache} ({size / 1e9:.2f} GB).")


if __name__ == "__main__":
    run_command(lambda: typer.run(main))
