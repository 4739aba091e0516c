"""Write a model's card from its run: `python -m training.card RECIPE --data D --run R --results CSV --output FOLDER`.

Puts `NAME.safetensors`, which carries the card, and `NAME.md`, the card itself, into FOLDER.
"""

from __future__ import annotations

import csv
import dataclasses
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from CTSAM3DLib.model import checkpoints
from training.recipe import Recipe
from training.stream import training_entries

LICENCE = "Apache-2.0"
SHOWN_CLICKS = (1, 3, 5)
TEMPLATE = Path(__file__).with_name("card_template.md")


def main(
    recipe_file: Path,
    data: Annotated[Path, typer.Option(help="The folder with the dataset.json that was trained on.")],
    run: Annotated[Path, typer.Option(help="The run with its model.safetensors.")],
    results: Annotated[Path, typer.Option(help="CSV of training.evaluate on the held-out cases.")],
    output: Annotated[Path, typer.Option(help="Folder for the model and its card.")],
    note: Annotated[str, typer.Option(help="What else has to be known of this run.")] = "",
) -> None:
    """Join a trained model with its card."""
    recipe = Recipe.read(recipe_file)
    model = checkpoints.load(run / "model.safetensors")
    with results.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    entries = training_entries(recipe, data)
    low, high = recipe.window
    card = TEMPLATE.read_text(encoding="utf-8").format(
        name=recipe.network,
        parameters=sum(parameter.numel() for parameter in model.network.parameters()) / 1e6,
        licence=LICENCE,
        low=low,
        high=high,
        steps=recipe.steps,
        patches=2 * recipe.pairs,
        rounds=recipe.rounds,
        note=f"- {note}" if note else "",
        heads=" | ".join(f"Dice @{count}" for count in SHOWN_CLICKS),
        rule=" | ".join("---" for _ in SHOWN_CLICKS),
        cases="\n".join(_lines(rows, by="case", counted="label")),
        structures="\n".join(_lines(rows, by="label", counted="case")),
        data="\n".join(_sources(entries)),
        held_out=", ".join(recipe.held_out),
        data_hash=model.info.data_hash,
    )
    info = dataclasses.replace(model.info, card=card, licence=LICENCE)
    checkpoints.save(output / f"{recipe.network}.safetensors", model.network, info)
    (output / f"{recipe.network}.md").write_text(card, encoding="utf-8")


def _lines(rows: list[dict[str, str]], by: str, counted: str) -> list[str]:
    """Table rows: a group, how many it holds, and its mean Dice after each shown count of clicks."""
    lines = []
    for group in sorted({row[by] for row in rows}):
        of_group = [row for row in rows if row[by] == group]
        means = [np.mean([float(r["dsc"]) for r in of_group if int(r["n_clicks"]) == n]) for n in SHOWN_CLICKS]
        members = len({row[counted] for row in of_group})
        lines.append(f"| {group} | {members} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
    return lines


def _sources(entries: list[dict[str, Any]]) -> list[str]:
    """The cases of each source with its licence."""
    cases = defaultdict(list)
    for entry in entries:
        cases[entry["source"], entry["licence"]].append(entry["case"])
    return [f"- {source}, {licence}: {', '.join(names)}." for (source, licence), names in cases.items()]


if __name__ == "__main__":
    typer.run(main)
