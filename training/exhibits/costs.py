"""Supplementary Tables 1 and 4: how the network is built and trained, and what a patch costs."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch

from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.imaging.constants import PATCH
from CTSAM3DLib.model.configs import config_named
from training.config import Recipe
from training.evaluation.efficiency import COLUMNS
from training.exhibits.queries import PUBLISHED_FILE
from training.exhibits.tables import DAGGER, NOT_MEASURED, markdown_table
from training.learning.muon import optimisers

RECIPE = "paper.yaml"
TRAINING_VOLUMES, SAMPLES_PER_VOLUME = 1139, 8
"""Factor between the paper's epochs and steps of the recipe."""
METRICS = {
    "params_millions": "params (M)",
    "gflops": "multiply-adds (G)",
    "latency_seconds": "latency (s)",
    "memory_mb": "memory (MB)",
    "organ_seconds_at_most": "time for an organ (s)",
}


def read_costs(path: Path | None) -> pd.DataFrame:
    """Lines of `evaluation.efficiency`; none without a file. Raises CTSAM3DError for a file of another kind."""
    if path is None:
        return pd.DataFrame(columns=list(COLUMNS))
    try:
        costs = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise CTSAM3DError(f"{path} cannot be read ({error}); write it by training.evaluation.efficiency.") from error
    if tuple(costs.columns) != COLUMNS:
        raise CTSAM3DError(f"{path} has other columns than those of training.evaluation.efficiency; give its file.")
    return costs


def cells(exhibit: str, costs: pd.DataFrame) -> pd.DataFrame:
    """Measured and published costs, marked by `source`, in the columns of `training/published.csv`."""
    figures = pd.concat([costs, pd.read_csv(PUBLISHED_FILE)], ignore_index=True)
    return figures[figures["exhibit"] == exhibit]


def configuration(costs: pd.DataFrame) -> str:
    """Supplementary Table 1 as Markdown: our recipe and network beside what the paper published."""
    figures = cells("supplementary1", costs)
    figures = figures[figures["system"] == "CT-SAM3D"]
    measured = figures["source"].str.startswith("measured")
    known_by = ["column", "metric"]
    ours = {**_settings(), **figures[measured].set_index(known_by)["value"].to_dict()}
    rows = [["configuration", f"ours ({RECIPE}, measured)", f"*published* {DAGGER}"]]
    for (column, metric), value in figures[~measured].set_index(known_by)["value"].items():
        name = column if metric == "setting" else f"{column}, {METRICS[metric]}"
        own = ours.get((column, metric))
        rows.append([name, NOT_MEASURED if own is None else f"{own:.4g}", f"*{value:.4g}*"])
    return markdown_table(rows)


def _settings() -> dict[tuple[str, str], float]:
    """What our recipe of the paper says, in the paper's terms."""
    recipe = Recipe.read(RECIPE)
    network = config_named(recipe.network)
    (optimiser,) = optimisers(torch.nn.Linear(1, 1), recipe.optimiser, recipe.learning_rate, recipe.weight_decay)
    volumes_a_step = 2 * recipe.pairs * recipe.micro_batches / SAMPLES_PER_VOLUME
    epochs_a_step = volumes_a_step / TRAINING_VOLUMES
    first, second = optimiser.param_groups[0]["betas"]
    settings = {
        "AdamW beta 1": first,
        "AdamW beta 2": second,
        "weight decay": recipe.weight_decay,
        "initial learning rate": recipe.learning_rate,
        "warm-up epochs": round(recipe.warmup_steps * epochs_a_step),
        "training epochs": round(recipe.steps * epochs_a_step),
        "batch size on a GPU": volumes_a_step / recipe.micro_batches,
        "GPUs": recipe.micro_batches,
        "samples per volume": SAMPLES_PER_VOLUME,
        "iterations per batch": recipe.rounds,
        "patch edge": PATCH,
        "NSD tolerance": 5,
        **{f"embedding dimension of stage {n}": width for n, width in enumerate(network.encoder_widths, 1)},
        **{f"ResT blocks of stage {n}": blocks for n, blocks in enumerate(network.encoder_blocks, 1)},
    }
    return {(name, "setting"): value for name, value in settings.items()}


def efficiency(costs: pd.DataFrame) -> str:
    """Supplementary Table 4 as Markdown."""
    figures = cells("supplementary4", costs)
    rows = [["", "input", *METRICS.values(), "measured on"]]
    for (system, column, source), of_system in figures.groupby(["system", "column", "source"], sort=False):
        values = of_system.set_index("metric")["value"]
        figure = [f"{values[metric]:.4g}" if metric in values else NOT_MEASURED for metric in METRICS]
        if source.startswith("measured on "):
            rows.append([system, column, *figure, source.removeprefix("measured on ")])
        else:
            rows.append([f"*{system}* {DAGGER}", f"*{column}*", *(f"*{text}*" for text in figure), f"*{DAGGER}*"])
    return markdown_table(rows)
