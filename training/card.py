"""Write a model's card from its run and what was measured: `python -m training.card --config small.yaml ...`.

Puts `NAME.safetensors`, which carries the card, and `NAME.md`, the card itself, into FOLDER.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from CTSAM3DLib.cli import run_command
from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.model import checkpoints
from training import results as measured
from training.datasets import CaseRecord
from training.methods import run_name
from training.recipe import Recipe
from training.stream import training_records

LICENCE = "Apache-2.0"
SHOWN_CLICKS = (1, 3, 5, 7, 9)
TEMPLATE = Path(__file__).with_name("card_template.md")


def main(
    config: Annotated[Path, typer.Option(help="The recipe of the run.")],
    data: Annotated[Path, typer.Option(help="The data that were trained on.")],
    run: Annotated[Path, typer.Option(help="The run with its model.safetensors.")],
    results: Annotated[Path, typer.Option(help="CSV of training.evaluate on the held-out cases.")],
    output: Annotated[Path, typer.Option(help="Folder for the model and its card.")],
    note: Annotated[str, typer.Option(help="What else has to be known of this run.")] = "",
    picture: Annotated[str, typer.Option(help="Address of a picture of failures, as the card sees it.")] = "",
) -> None:
    """Join a trained model with its card."""
    recipe = Recipe.read(config)
    model = checkpoints.load(run / "model.safetensors")
    lines = measured.read(results)
    lines = lines[lines["n_clicks"].isin(SHOWN_CLICKS)]
    own = lines[lines["run"] == run_name(model)]
    if own.empty:
        raise CTSAM3DError(f"{results} holds nothing of {run_name(model)}; measure it with training.evaluate first.")
    records = training_records(recipe, data)
    low, high = recipe.window
    card = TEMPLATE.read_text(encoding="utf-8").format(
        name=recipe.network,
        parameters=sum(parameter.numel() for parameter in model.network.parameters()) / 1e6,
        licence=LICENCE,
        low=low,
        high=high,
        spacing=recipe.spacing,
        side=64 * recipe.spacing / 10,
        steps=recipe.steps,
        patches=2 * recipe.pairs * recipe.micro_batches,
        optimiser=recipe.optimiser,
        rounds=recipe.rounds,
        note=f"- {note}" if note else "",
        picture=f"\n![What it does badly]({picture})\n" if picture else "",
        case_heads=" | ".join(f"{score} @{count}" for score in ("Dice", "NSD") for count in SHOWN_CLICKS),
        case_rule=_rule(2),
        cases="\n".join(_lines(own, by="case", counted="label", scores=("dsc", "nsd_2"))),
        heads=" | ".join(f"Dice @{count}" for count in SHOWN_CLICKS),
        rule=_rule(1),
        structures="\n".join(_lines(own, by="label", counted="case")),
        methods=_methods(lines, own),
        data="\n".join(_sources(records)),
        held_out=", ".join(recipe.held_out),
        data_hash=model.info.data_hash,
    )
    info = dataclasses.replace(model.info, card=card, licence=LICENCE)
    checkpoints.save(output / f"{recipe.network}.safetensors", model.network, info)
    (output / f"{recipe.network}.md").write_text(card, encoding="utf-8")


def _lines(lines: pd.DataFrame, by: str, counted: str, scores: tuple[str, ...] = ("dsc",)) -> list[str]:
    """Table rows: a group, how many it holds, and its mean scores after each shown count of clicks."""
    rows = []
    for group, of_group in lines.groupby(by):
        means = of_group.groupby("n_clicks")[list(scores)].mean()
        figures = " | ".join(f"{means[score].get(n, float('nan')):.3f}" for score in scores for n in SHOWN_CLICKS)
        rows.append(f"| {group} | {of_group[counted].nunique()} | {figures} |")
    return rows


def _methods(lines: pd.DataFrame, own: pd.DataFrame) -> str:
    """A section that compares this model with other methods on its structures; nothing where there are no others."""
    structure = ["dataset", "case", "label", "seed", "n_clicks"]
    same = lines[(lines["method"] != "ctsam3d") | lines.index.isin(own.index)].merge(own[structure], on=structure)
    if same["run"].nunique() < 2:
        return ""
    heads = " | ".join(f"Dice @{count}" for count in SHOWN_CLICKS)
    table = [f"| method | structures | {heads} |", f"| --- | --- | {_rule(1)} |"]
    rows = _lines(same.assign(structure=same["case"] + "/" + same["label"]), by="run", counted="structure")
    return "\n".join(
        ["\nMethods that need no weights, clicked by the same rule, on the same structures:\n", *table, *rows]
    )


def _rule(scores: int) -> str:
    return " | ".join("---" for _ in range(scores * len(SHOWN_CLICKS)))


def _sources(records: list[CaseRecord]) -> list[str]:
    """The cases of each source with its licence."""
    cases = defaultdict(list)
    for record in records:
        cases[record.source, record.licence].append(record.case)
    return [f"- {source}, {licence}: {', '.join(names)}." for (source, licence), names in cases.items()]


if __name__ == "__main__":
    run_command(lambda: typer.run(main))
