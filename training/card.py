"""Write a model card from a run and its evaluation: `python -m training.card --config small.yaml ...`.

Puts `NAME.safetensors`, which carries the card, and `NAME.md`, the card itself, into FOLDER. `training.adopt` writes
the card of a run of `training.learn` by the same template.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from CTSAM3DLib.atomic import atomic_write
from CTSAM3DLib.checkpoints import checkpoint as checkpoints
from CTSAM3DLib.checkpoints.checkpoint import TrainedModel
from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.run_command import run_command
from training.anatomy import kind_of
from training.config import Recipe
from training.data.datasets import CaseRecord, read_dataset
from training.data.stream import training_records
from training.evaluation import results as measured
from training.evaluation.body_regions import as_markdown, located, means, region_of, with_mean_of_regions
from training.evaluation.methods import run_name

LICENCE = "Apache-2.0"
SHOWN_CLICKS = (1, 3, 5, 7, 9)
WORST_AT, WORST_KINDS = 5, 6
WORSE_BY = 0.01
"""A mask has become worse where Dice falls by more than this from one number of clicks to the next."""
TEMPLATE = Path(__file__).with_name("card_template.md")


@dataclass(frozen=True)
class Used:
    """A training case: source, licence, patient and region, as far as known."""

    case: str
    patient: str
    region: str
    source: str
    licence: str

    @classmethod
    def of(cls, record: CaseRecord) -> Used:
        """A case of a data set."""
        return cls(record.case, record.patient or record.case, region_of(record), record.source, record.licence)


@dataclass(frozen=True)
class Facts:
    """The texts of a card besides its figures.

    Attributes:
        training: how the model was trained, a sentence.
        used: the cases that were trained on, atlases too.
        synthetic: what was trained on that is no patient and no atlas, a sentence, or nothing.
        held_out: the cases that were measured.
        extent: which of their structures were measured, a sentence, or nothing where all were.
        names: run in the results to what the card calls it; by default as it is.
        note: what else has to be known, or nothing. picture: address of a picture of failures, or nothing.

    """

    training: str
    used: Sequence[Used]
    held_out: Sequence[CaseRecord]
    synthetic: str = ""
    extent: str = ""
    names: dict[str, str] = dataclasses.field(default_factory=dict)
    note: str = ""
    picture: str = ""


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
    if lines[lines["run"] == run_name(model)].empty:
        raise CTSAM3DError(f"{results} holds nothing of {run_name(model)}; measure it with training.evaluate first.")
    cases = set(lines["case"])
    facts = Facts(
        training=(
            f"Algorithm 1 of the paper, a recipe of {recipe.steps} steps of {2 * recipe.pairs * recipe.micro_batches} "
            f"patches, {recipe.rounds} rounds of clicks each, with {recipe.optimiser}."
        ),
        used=[Used.of(record) for record in training_records(recipe, data)],
        synthetic="Synthetic scenes and torsos of `training/phantoms.py` and supervoxels of the CTs were used too.",
        held_out=[record for record in read_dataset(data) if record.case in cases],
        note=note,
        picture=picture,
    )
    write(output, model, lines, facts)


def write(folder: Path, model: TrainedModel, lines: pd.DataFrame, facts: Facts) -> str:
    """Put the model with its card into a folder, and the card beside it; returns the card.

    Raises CTSAM3DError where a patient was both measured and trained on, and OutputError.
    """
    measured_patients = {record.patient or record.case for record in facts.held_out}
    if both := sorted(measured_patients & {case.patient for case in facts.used}):
        raise CTSAM3DError(f"{', '.join(both)} was trained on and measured; measure held-out patients alone.")
    card = card_text(model, lines, facts)
    info = dataclasses.replace(model.info, card=card, licence=LICENCE)
    checkpoints.save(folder / f"{info.name}.safetensors", model.network, info)
    with atomic_write(folder / f"{info.name}.md") as temporary:
        temporary.write_text(card, encoding="utf-8")
    return card


def card_text(model: TrainedModel, lines: pd.DataFrame, facts: Facts) -> str:
    """The card of a model with rows in the results."""
    lines = located(lines[lines["n_clicks"].isin(SHOWN_CLICKS)], facts.held_out)
    own = lines[lines["run"] == run_name(model)]
    counts = [count for count in SHOWN_CLICKS if count in set(own["n_clicks"])]
    info = model.info
    low, high = info.window
    return TEMPLATE.read_text(encoding="utf-8").format(
        name=info.name,
        parameters=sum(parameter.numel() for parameter in model.network.parameters()) / 1e6,
        licence=LICENCE,
        low=low,
        high=high,
        spacing=info.spacing,
        side=64 * info.spacing / 10,
        training=facts.training,
        note=f"- {facts.note}" if facts.note else "",
        picture=f"\n![What it does badly]({facts.picture})\n" if facts.picture else "",
        measured_patients=own["patient"].nunique(),
        labels_by=_labels_by(facts.held_out),
        extent=f"\n{facts.extent}" if facts.extent else "",
        regions=_regions(_same_structures(lines, own), facts.names),
        groups="\n".join(as_markdown(means(own, "group").drop(columns="run"))),
        case_heads=" | ".join(f"{score} @{count}" for score in ("Dice", "NSD") for count in counts),
        case_rule=" | ".join(["---"] * 2 * len(counts)),
        cases="\n".join(_lines(own, "case", "label", ("dsc", "nsd_2"), counts)),
        heads=" | ".join(f"Dice @{count}" for count in counts),
        rule=" | ".join(["---"] * len(counts)),
        structures="\n".join(_lines(own.assign(kind=own["label"].map(kind_of)), "kind", "case", ("dsc",), counts)),
        worst=_worst(own),
        worse=_worse_with_clicks(own),
        experience=_experience(facts.used),
        cross_patch=(
            "Growth follows what its cross-patch network proposes."
            if info.cross_patch
            else "Its cross-patch network was not trained; growth follows the overlap of patches."
        ),
        data="\n".join(_sources(facts.used)),
        synthetic=f"{facts.synthetic} " if facts.synthetic else "",
        held_out=_held_out(facts.held_out),
        data_hash=info.data_hash,
    )


def _lines(lines: pd.DataFrame, by: str, counted: str, scores: Sequence[str], counts: Sequence[int]) -> list[str]:
    """Table rows: a group, its size, and its mean scores by number of clicks."""
    rows = []
    for group, found in lines.groupby(by):
        of_count = found.groupby("n_clicks")[list(scores)].mean()
        figures = " | ".join(f"{of_count[score].get(n, float('nan')):.3f}" for score in scores for n in counts)
        rows.append(f"| {group} | {found[counted].nunique()} | {figures} |")
    return rows


def _same_structures(lines: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
    """The rows of all runs on the structures of this model."""
    structure = ["dataset", "case", "label", "seed", "n_clicks"]
    return lines.merge(own[structure].drop_duplicates(), on=structure)


def _regions(lines: pd.DataFrame, names: dict[str, str]) -> str:
    """The table by region, of this model and of all other runs on the same structures."""
    table = means(lines, "region")
    if not table["region"].eq("not said").all():
        table = with_mean_of_regions(table)
    return "\n".join(as_markdown(table.assign(run=table["run"].map(lambda run: names.get(run, run)))))


def _labels_by(records: Sequence[CaseRecord]) -> str:
    """The origin of the ground truth."""
    made = Counter(record.labels_made_by or "not said" for record in records)
    return "; ".join(f"{by} ({count} case{'s' if count > 1 else ''})" for by, count in made.items())


def _worst(own: pd.DataFrame) -> str:
    """The classes with the lowest mean Dice."""
    at = own[own["n_clicks"] == WORST_AT]
    kinds = at.assign(kind=at["label"].map(kind_of)).groupby("kind")["dsc"].agg(["mean", "count"]).sort_values("mean")
    return ", ".join(
        f"{kind} {mean:.2f} ({int(count)} structure{'s' if count > 1 else ''})"
        for kind, mean, count in kinds.head(WORST_KINDS).itertuples()
    )


def _worse_with_clicks(own: pd.DataFrame) -> str:
    """How often further clicks made a mask worse."""
    scores = own.pivot_table(index=["dataset", "case", "label", "seed"], columns="n_clicks", values="dsc")
    worse = (scores.diff(axis=1) < -WORSE_BY).any(axis=1)
    return f"At {int(worse.sum())} of {len(worse)} structures"


def _experience(used: Sequence[Used]) -> str:
    """Numbers of training patients by region."""
    patients = Counter(region for _, region in dict.fromkeys((case.patient, case.region) for case in used))
    return ", ".join(f"{region or 'region not said'} {count}" for region, count in patients.most_common()) or "none"


def _held_out(records: Sequence[CaseRecord]) -> str:
    """The test patients by region."""
    patients: dict[str, list[str]] = defaultdict(list)
    for record in records:
        if (patient := record.patient or record.case) not in patients[region_of(record)]:
            patients[region_of(record)].append(patient)
    return "; ".join(f"{region or 'region not said'}: {', '.join(found)}" for region, found in patients.items())


def _sources(used: Sequence[Used]) -> list[str]:
    """The cases of each source with its licence."""
    cases: dict[tuple[str, str], list[str]] = defaultdict(list)
    for case in used:
        cases[case.source, case.licence].append(case.case)
    return [
        f"- {source or 'source not said'}, {licence or 'licence not said'}: {', '.join(names)}."
        for (source, licence), names in cases.items()
    ]


if __name__ == "__main__":
    run_command(lambda: typer.run(main))
