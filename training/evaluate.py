"""Evaluate methods by simulated clicks, on whole structures and on the CT's own grid.

`python -m training.evaluate DATASET --output results.csv` runs our model, and with `--method` others, over the cases of
a data set and writes a long CSV (`evaluation/results.py` names its columns), by the protocol of
`evaluation/click_protocol.py`. Empty structures and those of fewer than `--fewest-voxels` are left out, and their
number is reported at the end; so are those that an automatic method does not know. `--quick N` asks for N structures of
a case (`evaluation/selection.py`), and `--by region` prints the means by region as well (`evaluation/body_regions.py`).

A case is added to the CSV whole or not at all, and what is in the CSV is not run again: a killed run loses one case
in each process. Cases run in parallel on this computer (`--jobs`) or on a Dask cluster (`--scheduler`); the lines are
the same. A case that cannot be read or segmented is listed in `results-failures.csv`, and the others go on.
"""

from __future__ import annotations

import functools
import itertools
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from rich.console import Console
from rich.progress import track

from CTSAM3DLib.atomic import check_output
from CTSAM3DLib.clicks.simulation import Clickable
from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.imaging.volume import Volume
from CTSAM3DLib.run_command import run_command
from CTSAM3DLib.segmentation.session import Reach
from training.anatomy import group_of
from training.data.datasets import CaseRecord, read_dataset
from training.evaluation.body_regions import BY, as_table, located, means
from training.evaluation.click_protocol import click_rng, click_through
from training.evaluation.comparisons.comparison import SystemSettings
from training.evaluation.comparisons.prompting import Prompted
from training.evaluation.methods import METHODS, Answer, Method, MethodChoice
from training.evaluation.results import Failure, Row, append, note_failures, picture, read, summary
from training.evaluation.selection import spread
from training.parallel import parallel_map

_logger = logging.getLogger(__name__)

Key = tuple[str, str, int, int]
"""Key of a row of one case: run, label, seed, number of clicks."""


@dataclass(frozen=True)
class Plan:
    """The evaluation of every case: structures, numbers of clicks and seeds."""

    dataset: str
    counts: tuple[int, ...] = (1, 3, 5, 7, 9)
    """Numbers of clicks after which a mask is scored, rising."""
    labels: tuple[str, ...] = ()
    """Names of structures; all when empty."""
    seeds: int = 1
    fewest_voxels: int = 100
    at_most: int | None = None
    """Structures of a case, chosen by `training.evaluation.selection`; all by default."""


@dataclass(frozen=True)
class CaseDone:
    """The result of one method on one case: new rows, the structures left out as too small (count), and those used."""

    run: str
    rows: list[Row]
    left_out: int
    unknown: tuple[str, ...] = ()
    """Structures that an automatic method has no label for."""
    asked: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Completed:
    """The result of an evaluation: its rows, the number of structures left out as too small, and the failed cases.

    `runs` are the names of the methods' runs in the CSV.
    """

    lines: pd.DataFrame
    runs: dict[MethodChoice, str]
    left_out: int
    failures: list[Failure]


def evaluate_case(choice: MethodChoice, record: CaseRecord, plan: Plan, known: frozenset[Key]) -> CaseDone:
    """Run one method on the structures of a case, except those whose rows are all `known`. Raises CTSAM3DError."""
    method = _loaded(choice)
    ct = Volume.read(record.ct)
    maps = record.label_maps(ct)
    sizes = {part: _sizes(labels) for part, labels in maps.items()}
    large = [
        (part, value, name)
        for part, value, name in _wanted(record, plan)
        if sizes[part].get(value, 0) >= plan.fewest_voxels
    ]
    left_out = len(_wanted(record, plan)) - len(large)
    asked = frozenset(name for _, _, name in large)
    if plan.at_most is not None:
        asked = spread(record.case, asked, plan.at_most)
        large = [found for found in large if found[2] in asked]
    opened: Clickable[Answer] | None = None
    mm3 = float(np.prod(ct.geometry.spacing))
    rows: list[Row] = []
    unknown: list[str] = []
    for (part, value, name), seed in itertools.product(large, range(plan.seeds)):
        counts = [count for count in plan.counts if (method.run, name, seed, count) not in known]
        if not counts:
            continue
        opened = opened or method.open(ct)
        subject = opened.structure(name) if isinstance(opened, Prompted) else opened
        if subject is None:
            unknown.append(name)
            continue
        voxels = sizes[part][value]
        of_structure = {
            **{"run": method.run, "method": method.name, "dataset": plan.dataset, "split": record.split},
            **{"case": record.case, "label": name, "group": group_of(name), "seed": seed},
            **{"gt_voxels": voxels, "gt_mm3": round(voxels * mm3, 1)},
        }
        rng = click_rng(seed, record.case, name)
        rows += [{**of_structure, **line} for line in click_through(subject, maps[part].array == value, counts, rng)]
    return CaseDone(method.run, rows, left_out, tuple(dict.fromkeys(unknown)), asked)


def _wanted(record: CaseRecord, plan: Plan) -> list[tuple[str, int, str]]:
    """The structures of a case in the plan: (label map, value in it, name)."""
    maps = {"labels": record.labels, "tissue": record.tissues}
    return [
        (part, value, name)
        for part, names in maps.items()
        for value, name in names.items()
        if not plan.labels or name in plan.labels
    ]


def _sizes(labels: Volume) -> dict[int, int]:
    """Voxels of each value of a label map, counted slice by slice to save memory."""
    highest = int(labels.array.max())
    counts = sum(np.bincount(plane.ravel(), minlength=highest + 1) for plane in labels.array)
    return dict(enumerate(np.asarray(counts).tolist()))


@functools.cache
def _loaded(choice: MethodChoice) -> Method:
    """The method, loaded once in each process."""
    return choice.load()


def complete(
    output: Path,
    choices: Sequence[MethodChoice],
    records: Sequence[CaseRecord],
    plan: Plan,
    jobs: int = 1,
    scheduler: str | None = None,
) -> Completed:
    """Add the missing rows of these methods and cases to the CSV, `jobs` at a time or on a Dask cluster.

    A case that cannot be read or segmented is noted beside the CSV, and the other cases continue.
    Raises CTSAM3DError where nothing at all can be measured; OutputError.
    """
    before = read(output)
    known = {
        case: frozenset(zip(lines["run"], lines["label"], lines["seed"], lines["n_clicks"], strict=True))
        for case, lines in before[before["dataset"] == plan.dataset].groupby("case")
    }
    tasks = [(choice, record, plan, known.get(record.case, frozenset())) for choice in choices for record in records]
    runs: dict[MethodChoice, str] = {}
    left_out: dict[str, int] = {}
    asked_of: set[tuple[str, str]] = set()
    unknown: dict[str, set[str]] = {}
    failures: list[Failure] = []
    done = parallel_map(evaluate_case, tasks, jobs, scheduler)
    for (choice, record, *_), result in track(done, "evaluating", len(tasks), console=Console(stderr=True)):
        if isinstance(result, CTSAM3DError):
            failures.append(Failure(plan.dataset, record.case, choice.name, str(result)))
            continue
        runs[choice] = result.run
        left_out[record.case] = result.left_out
        asked_of.update((record.case, label) for label in result.asked)
        unknown.setdefault(result.run, set()).update(result.unknown)
        if result.rows:
            append(output, result.rows)
    cases = [record.case for record in records]
    note_failures(output, failures, plan.dataset, cases, [choice.name for choice in choices])
    if len(failures) == len(tasks):
        raise CTSAM3DError(failures[0].reason)
    for run, names in unknown.items():
        if names:
            _logger.warning("%s does not know: %s", run, ", ".join(sorted(names)))
    lines = read(output)
    asked = (
        lines["run"].isin(runs.values())
        & (lines["dataset"] == plan.dataset)
        & lines["case"].isin(cases)
        & (lines["label"].isin(plan.labels) | (not plan.labels))
        & lines["n_clicks"].isin(plan.counts)
        & (lines["seed"] < plan.seeds)
        & (lines["gt_voxels"] >= plan.fewest_voxels)
    )
    if plan.at_most is not None:  # the file may hold others, of a run without that limit
        asked &= pd.MultiIndex.from_frame(lines[["case", "label"]]).isin(sorted(asked_of))
    if not asked.any():
        raise CTSAM3DError(f"No known structure has {plan.fewest_voxels} voxels or more; choose others.")
    return Completed(lines[asked], runs, sum(left_out.values()), failures)


def chosen(records: Sequence[CaseRecord], plan: Plan, cases: Sequence[str] = (), split: str = "") -> list[CaseRecord]:
    """The records of these cases and this split (all by default) that have a wanted label.

    Raises CTSAM3DError for a case, split or label that is not there.
    """
    if unknown := sorted(set(cases) - {record.case for record in records}):
        raise CTSAM3DError(f"{plan.dataset} has no case {', '.join(unknown)}; see its list of cases.")
    found = [record for record in records if (not cases or record.case in cases) and split in ("", record.split)]
    if not found:
        splits = ", ".join(sorted({record.split for record in records} - {""})) or "none"
        raise CTSAM3DError(f"No chosen case of {plan.dataset} is of the split '{split}'; its splits are: {splits}.")
    names = sorted({name for record in found for name in record.names})
    if absent := sorted(set(plan.labels) - set(names)):
        raise CTSAM3DError(f"No chosen case has the label {', '.join(absent)}; choose among: {', '.join(names)}.")
    labelled = [record for record in found if _wanted(record, plan)]
    if not labelled:
        raise CTSAM3DError(f"No chosen case of {plan.dataset} has labels; choose other cases.")
    if bare := [record.case for record in found if record not in labelled]:
        _logger.warning("%s: left out, since they have none of the labels: %s", plan.dataset, ", ".join(bare))
    return labelled


def main(
    dataset: Path,
    output: Annotated[Path, typer.Option(help="The CSV to write, or to go on with.")],
    clicks: Annotated[str, typer.Option(help="Counts of clicks to score, with commas.")] = "1,3,5,7,9",
    method: Annotated[list[str] | None, typer.Option(help=f"{', '.join(METHODS)}; may be repeated.")] = None,
    model: Annotated[str, typer.Option(help="A bundled model, for the method ctsam3d.")] = "ctsam3d-small",
    weights: Annotated[
        str | None, typer.Option(help="A file of weights instead; of a comparison system, its weights or 'fresh'.")
    ] = None,
    reach: Annotated[Reach, typer.Option(help="How far a click of ctsam3d acts.")] = "structure",
    walk: Annotated[
        bool, typer.Option("--walk/--without-walk", help="Whether a ctsam3d that has a random walk takes it.")
    ] = True,
    name: Annotated[str, typer.Option(help="What the results call the data set; default its folder's name.")] = "",
    case: Annotated[list[str] | None, typer.Option(help="Cases to use; default all. May be repeated.")] = None,
    split: Annotated[str, typer.Option(help="Use only the cases of this split: train, val or test.")] = "",
    label: Annotated[list[str] | None, typer.Option(help="Structures to use; default all. May be repeated.")] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="How many first clicks each structure gets, one after another.")
    ] = 1,
    fewest_voxels: Annotated[int, typer.Option(min=1, help="Smaller structures are left out.")] = 100,
    quick: Annotated[
        int | None, typer.Option(min=1, help="At most so many structures of a case, of all kinds.")
    ] = None,
    by: Annotated[list[str] | None, typer.Option(help="A further table, by region or by group of kinds.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="How many cases to run at a time, on this computer.")] = 1,
    scheduler: Annotated[
        str | None, typer.Option(help="Run on a Dask cluster instead: its address, like tcp://host:8786.")
    ] = None,
    picture_file: Annotated[Path | None, typer.Option("--picture", help="Draw Dice against clicks, a PNG.")] = None,
    python: Annotated[str, typer.Option(help="The Python of a comparison system's environment.")] = sys.executable,
    clone: Annotated[str | None, typer.Option(help="A comparison system's repository, where it needs one.")] = None,
    device: Annotated[str | None, typer.Option(help="Where a comparison system works; CUDA if it is found.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="A further choice of a comparison system, NAME=VALUE; may be repeated.")
    ] = None,
    silence: Annotated[
        float, typer.Option(help="Seconds that a comparison system may say nothing before it is ended.")
    ] = 900,
) -> None:
    """Score methods by simulated clicks, and print their mean Dice and NSD.

    Ends with status 1 where cases failed; they are listed beside the CSV, and the same command tries them again.
    """
    check_output(output, (".csv",))
    if picture_file is not None:
        check_output(picture_file, (".png", ".pdf", ".svg"))
    if wrong := sorted(set(by or ()) - set(BY)):
        raise CTSAM3DError(f"There is no table by '{wrong[0]}'; choose one by: {', '.join(BY)}.")
    plan = Plan(name or dataset.resolve().name, counts_of(clicks), tuple(label or ()), seeds, fewest_voxels, quick)
    records = chosen(read_dataset(dataset), plan, case or (), split)
    methods = list(dict.fromkeys(method or ("ctsam3d",)))
    if unknown := sorted(set(methods) - set(METHODS)):
        raise CTSAM3DError(f"'{unknown[0]}' is not a method; choose among: {', '.join(METHODS)}.")
    settings = SystemSettings(python, clone, device, _options(option or ()), silence)
    choices = [MethodChoice(chosen_method, model, weights, reach, walk, settings) for chosen_method in methods]
    completed = complete(output, choices, records, plan, jobs, scheduler)
    Console().print(summary(completed.lines))
    for column in by or ():
        Console().print(as_table(means(located(completed.lines, records), column)))
    typer.echo(f"{completed.left_out} structures of fewer than {fewest_voxels} voxels were left out.")
    if picture_file is not None:
        picture(completed.lines, picture_file)
    for failure in completed.failures:
        typer.echo(f"{failure.case} failed for {failure.method}: {failure.reason}", err=True)
    if completed.failures:
        raise typer.Exit(1)


def _options(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    pairs = [text.partition("=") for text in texts]
    if wrong := [text for text, (name, sign, _) in zip(texts, pairs, strict=True) if not (name and sign)]:
        raise CTSAM3DError(f'"{wrong[0]}" is not an option; write NAME=VALUE, like window=40,400.')
    return tuple((name, value) for name, _, value in pairs)


def counts_of(text: str) -> tuple[int, ...]:
    """The rising numbers of clicks in a text like 1,3,5; raises CTSAM3DError."""
    try:
        counts = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        counts = ()
    if not counts or counts[0] < 1:
        raise CTSAM3DError(f'"{text}" does not count clicks; write whole numbers from 1 on, like 1,3,5,7,9.')
    return counts


if __name__ == "__main__":
    from training.evaluate import main  # by this name, under which other processes find what they are sent

    run_command(lambda: typer.run(main))
