"""Replace the bundled weights by new ones where these are better: `python -m training.adopt RUN --data DATA`.

RUN is the folder of `training.learn`. Its weights and the bundled ones are measured on the patients that the plan holds
out, by the protocol of `training.evaluate`. They are taken where their mean Dice over heads, chests, abdomens and limbs
at five clicks is higher and no region is worse by more than 0.01 (`training.evaluation.adoption`). A stopped
measurement is resumed.

Into RUN go `adopt.csv` (the lines), `adopt.md` (tables and verdict), `adopt.safetensors` (the weights as they were
measured) and `adopted/` (weights with their card); the bundled folder gets the latter if they are better.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
import typer
from rich.console import Console

from CTSAM3DLib.atomic import atomic_write
from CTSAM3DLib.checkpoints import bundled as bundled_package
from CTSAM3DLib.checkpoints import checkpoint as checkpoints
from CTSAM3DLib.checkpoints.checkpoint import TrainedModel
from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.run_command import run_command
from training.card import Facts, Used, write
from training.config import RecipeError
from training.data.datasets import CaseRecord, read_dataset
from training.data.prepared import Prepared
from training.data.stream import data_hash
from training.evaluate import Completed, Plan, chosen, complete, counts_of
from training.evaluation.adoption import JUDGED_AT, Verdict, judge
from training.evaluation.body_regions import REGIONS, as_markdown, as_table, located, means, with_mean_of_regions
from training.evaluation.methods import BASELINES, MethodChoice, run_name
from training.evaluation.results import take_over
from training.learning.history import History
from training.learning.plan import Plan as LearningPlan

ATLAS_PREFIX = "atlas-"
BUNDLED = Path(bundled_package.__file__).parent
PAINTED = "painted atlases"
"""The region under which atlases are counted."""
MAX_MIB = 16
"""Largest size of a bundled file, which the repository and the extension carry."""


def main(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="The folder of training.learn, with model.safetensors.")],
    data: Annotated[Path, typer.Option(help="The data set with the held-out patients.")],
    plan: Annotated[
        str, typer.Option(help="The recipe that says who is held out; default RUN/plan.yaml, else whole-body.yaml.")
    ] = "",
    prepared: Annotated[
        Path | None, typer.Option(help="What training.prepare wrote for the run: the card names its cases alone.")
    ] = None,
    clicks: Annotated[str, typer.Option(help="Counts of clicks to score, 5 among them.")] = "1,3,5,9",
    quick: Annotated[
        int | None, typer.Option(min=1, help="At most so many structures of a case, of all kinds.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many first clicks each structure gets.")] = 1,
    fewest_voxels: Annotated[int, typer.Option(min=1, help="Smaller structures are left out.")] = 100,
    method: Annotated[
        list[str] | None, typer.Option(help=f"Measured as well, for the card: {', '.join(BASELINES)}.")
    ] = None,
    known: Annotated[
        list[Path] | None, typer.Option(help="CSV of training.evaluate, whose lines need not be measured again.")
    ] = None,
    without_region: Annotated[
        list[str] | None, typer.Option(help=f"May go unmeasured: {', '.join(REGIONS)}. May be repeated.")
    ] = None,
    bundled: Annotated[Path, typer.Option(help="Where the bundled model lies.")] = BUNDLED,
    note: Annotated[str, typer.Option(help="What else has to be known of the run, for the card.")] = "",
    jobs: Annotated[int, typer.Option(min=1, help="How many cases to run at a time.")] = 1,
) -> None:
    """Measure a run's weights against the bundled ones, and take them where they are better.

    Ends with status 1 where they are not taken.
    """
    counts = counts_of(clicks)
    if JUDGED_AT not in counts:
        raise CTSAM3DError(f"--clicks {clicks} lacks {JUDGED_AT}, by which is judged; add it.")
    if unknown := sorted(set(without_region or ()) - set(REGIONS)):
        raise CTSAM3DError(f"'{unknown[0]}' is no region that is compared; choose among: {', '.join(REGIONS)}.")
    if unknown := sorted(set(method or ()) - set(BASELINES)):
        raise CTSAM3DError(f"'{unknown[0]}' needs no weights of ours; choose among: {', '.join(BASELINES)}.")
    plan_file = Path(plan) if plan else run / "plan.yaml" if (run / "plan.yaml").exists() else Path("whole-body.yaml")
    learning = LearningPlan.read(plan_file)
    everyone = read_dataset(data)
    asked = Plan(data.resolve().name, counts, (), seeds, fewest_voxels, quick)
    records = chosen(held_out_records(everyone, learning.held_out, data), asked)

    weights = run / "adopt.safetensors"  # a copy, since the run may go on and write others meanwhile
    new, old, own_file = _opponents(run / "model.safetensors", weights, bundled)
    trained = History.of(run).described(learning)
    choices = [MethodChoice("ctsam3d", weights=str(file)) for file in (weights, own_file)]
    output = run / "adopt.csv"
    for file in known or ():
        take_over(output, file, asked.dataset)
    completed = complete(output, [*choices, *map(MethodChoice, method or ())], records, asked, jobs)

    names = {run_name(new): "new", run_name(old): "bundled"}
    order = {run: place for place, run in enumerate(dict.fromkeys((*names, *completed.runs.values())))}
    lines = located(completed.lines, records).sort_values("run", key=lambda runs: runs.map(order), kind="stable")
    in_card = {run_name(new): "this model", run_name(old): "the bundled model before"}
    verdict = judge(lines, run_name(new), run_name(old), without_region or ())
    reasons = (*_failures(completed), *verdict.reasons)
    used, synthetic = cases_used(everyone, learning.held_out, data, prepared)
    extent = "" if quick is None else f"At most {quick} structures of a case were measured, spread over their kinds."
    facts = Facts(trained, used, records, synthetic, extent, in_card, note)
    info = dataclasses.replace(new.info, data_hash=data_hash(_among(everyone, used), run / "cache"))
    (run / "adopted").mkdir(exist_ok=True)
    write(run / "adopted", dataclasses.replace(new, info=info), lines, facts)
    card_file = run / "adopted" / f"{info.name}.md"
    reasons += tuple(_unfit(new, card_file.with_suffix(".safetensors")))
    verdict = dataclasses.replace(verdict, reasons=reasons)

    shown = lines.assign(run=lines["run"].map(lambda found: names.get(found, found)))
    tables = [with_mean_of_regions(means(shown, "region")), means(shown, "group")]
    for table in tables:
        Console().print(as_table(table))
    remark = (
        f"Plan: {plan_file}. {len(records)} cases; {completed.left_out} structures of fewer than {fewest_voxels} "
        f"voxels were left out. {extent}"
    )
    report = _report(f"{run_name(new)} against {run_name(old)}", verdict, tables, remark, _command(context))
    with atomic_write(run / "adopt.md") as temporary:
        temporary.write_text(report, encoding="utf-8")
    if verdict.adopted:
        for file in (card_file.with_suffix(".safetensors"), card_file):
            with atomic_write(bundled / file.name) as temporary:
                shutil.copyfile(file, temporary)
    typer.echo(verdict.sentence())
    if not verdict.adopted:
        raise typer.Exit(1)


def held_out_records(records: Sequence[CaseRecord], patients: Sequence[str], data: Path) -> list[CaseRecord]:
    """The cases of these patients. Raises RecipeError where there are no patients, or one has no case."""
    if not patients:
        raise RecipeError("The plan holds nobody out, so that nothing can be measured; name patients in held_out.")
    if absent := sorted(set(patients) - {_patient(record) for record in records}):
        raise RecipeError(f"{data} has no patient {', '.join(absent)}, whom the plan holds out; correct the names.")
    return [record for record in records if _patient(record) in patients]


def cases_used(
    records: Sequence[CaseRecord], held_out: Sequence[str], data: Path, prepared: Path | None
) -> tuple[list[Used], str]:
    """The cases that were trained on, and a sentence on synthetic ones: those of what was prepared, or all of the data.

    An atlas of what was prepared has its source and licence in the data's atlases/NAME/names.json. Raises VolumeError.
    """
    learnt = [record for record in records if _patient(record) not in held_out]
    if prepared is None:
        return [Used.of(record) for record in learnt], ""
    own = {record.case: Used.of(record) for record in learnt}
    used: list[Used] = []
    scenes = 0
    for case in Prepared.read(prepared).cases:
        if case.source == "phantom":
            scenes += 1
        elif case.source == "atlas":
            source, licence = _atlas(data / "atlases" / case.name.removeprefix(ATLAS_PREFIX) / "names.json")
            source = f"{source or case.name}; an atlas without a CT, whose CT was painted"
            used.append(Used(case.name, case.patient, PAINTED, source, licence or case.licence))
        elif case.patient not in held_out:
            used.append(own.get(case.name) or Used(case.name, case.patient, case.region, "", case.licence))
    return used, f"{scenes} synthetic scenes of `training/phantoms.py` were used too." if scenes else ""


def _atlas(names: Path) -> tuple[str, str]:
    """Source and licence of an atlas; empty where its description is not there."""
    if not names.is_file():
        return "", ""
    content: dict[str, Any] = json.loads(names.read_text(encoding="utf-8"))
    return content.get("source", ""), content.get("licence", "")


def _opponents(trained: Path, copy: Path, bundled: Path) -> tuple[TrainedModel, TrainedModel, Path]:
    """The new model, copied to `copy`, the bundled one of its name, and the latter's file. Raises CTSAM3DError."""
    if not trained.is_file():
        raise CTSAM3DError(f"There is no {trained}; give the folder of a run of training.learn.")
    with atomic_write(copy) as temporary:
        shutil.copyfile(trained, temporary)
    new = checkpoints.load(copy)
    file = bundled / f"{new.info.name}.safetensors"
    old = checkpoints.load(file)
    ours, theirs = new.network.state_dict(), old.network.state_dict()
    if ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours):
        raise CTSAM3DError(f"{file} has these weights already; train on, or choose another run.")
    return new, old, file


def _failures(completed: Completed) -> list[str]:
    return [f"{failure.case} failed for {failure.method} ({failure.reason})." for failure in completed.failures]


def _unfit(model: TrainedModel, file: Path) -> list[str]:
    """Reasons why a file cannot be bundled, whatever its scores."""
    reasons = []
    if not all(torch.isfinite(tensor).all() for tensor in model.network.state_dict().values()):
        reasons.append("Some of the weights are no numbers.")
    if (size := file.stat().st_size / 2**20) > MAX_MIB:
        reasons.append(f"The file has {size:.1f} MiB, more than the {MAX_MIB} that may be bundled.")
    return reasons


def _among(records: Sequence[CaseRecord], used: Sequence[Used]) -> list[CaseRecord]:
    names = {case.case for case in used}
    return [record for record in records if record.case in names]


def _patient(record: CaseRecord) -> str:
    return record.patient or record.case


def _report(title: str, verdict: Verdict, tables: Sequence[pd.DataFrame], remark: str, command: str) -> str:
    """The text of adopt.md."""
    scored = "Mean Dice, and NSD at 2 mm, over structures of patients that were held out:"
    drawn = ["\n".join(as_markdown(table)) for table in tables]
    return "\n\n".join([f"# {title}", verdict.sentence(), scored, *drawn, remark, f"```\n{command}\n```"]) + "\n"


def _command(context: typer.Context) -> str:
    """The command that this is, with all options that are not as by default."""
    words = ["python", "-m", "training.adopt"]
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if value in (None, (), []) or value == parameter.get_default(context):
            continue
        flag = [] if parameter.param_type_name == "argument" else [parameter.opts[0]]
        for one in value if isinstance(value, (list, tuple)) else [value]:
            words += [*flag, str(one)]
    return shlex.join(words)


if __name__ == "__main__":
    from training.adopt import main  # by this name, under which other processes find what they are sent

    run_command(lambda: typer.run(main))
