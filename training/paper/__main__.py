"""Reproduce every table and figure of the paper from scratch: `python -m training.paper --output paper`.

Without data it writes synthetic data sets, curates one of them to TotalSeg++, trains the ablations at a tiny size,
measures, and draws; with `--data NAME=FOLDER` it measures on real ones. Every step is done once: the same command goes
on with a run that was stopped anywhere, and comes to the same end. The folder then holds `results.csv`, `study.yaml`,
`costs.csv`, the pictured cases, and `exhibits/exhibits.md`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.run_command import run_command
from training.evaluation.efficiency import measure_all
from training.evaluation.methods import BASELINES, MethodChoice
from training.evaluation.results import read_failures
from training.exhibits.catalogue import DATASETS, TOTALSEG
from training.exhibits.costs import read_costs
from training.exhibits.material import Material
from training.exhibits.page import write_all
from training.exhibits.study import Study, System, read_results, scores
from training.paper.ablations import ABLATIONS
from training.paper.entrants import Entrant, Network, entrants
from training.paper.steps import Workplace, begin, cases_to_measure, keep_pictures, measure, tiny_networks
from training.paper.synthetic import synthetic_datasets
from training.parallel import local_cluster

BUNDLED = "the bundled ctsam3d-small, trained on real CTs and on synthetic torsos of the same kind"
SYNTHETIC = "synthetic torsos in voxels of {spacing:g} mm, not patients"
DEFAULT_METHODS = ("region-growing", "random-walker")
MIN_VOXELS, MIN_SYNTHETIC_VOXELS = 100, 20
"""Voxels. Smaller structures are left out; voxels of synthetic CTs are large."""


def main(
    output: Annotated[Path, typer.Option(help="A folder, made where it is not there.")] = Path("paper"),
    data: Annotated[
        list[str] | None,
        typer.Option(help=f"NAME=FOLDER, may be repeated; names: {', '.join(DATASETS)}. Synthetic ones without."),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="The network; default the bundled one.")] = None,
    ablation: Annotated[
        list[str] | None,
        typer.Option(help=f"NAME=FILE, trained weights, may be repeated; names: {', '.join(ABLATIONS)}."),
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help=f"Compared methods among {', '.join(BASELINES)}; may be repeated.")
    ] = None,
    results: Annotated[
        list[Path] | None, typer.Option(help="CSVs of training.evaluate with more systems; may be repeated.")
    ] = None,
    cases: Annotated[int, typer.Option(min=1, help="Test cases of each synthetic data set.")] = 2,
    spacing: Annotated[float, typer.Option(min=1, help="Of the synthetic voxels, mm.")] = 4.0,
    steps: Annotated[int, typer.Option(min=1, help="Of each tiny training on synthetic data.")] = 8,
    label: Annotated[
        list[str] | None, typer.Option(help="Structures to use, default all that exhibits ask for; may be repeated.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many first clicks each structure gets.")] = 1,
    jobs: Annotated[int, typer.Option(min=1, help="Processes on this computer.")] = 1,
    scheduler: Annotated[str | None, typer.Option(help="A Dask cluster instead, tcp://host:8786.")] = None,
) -> None:
    """Measure what is missing, and write every exhibit."""
    folders = {name: Path(folder) for name, folder in _pairs(data or (), DATASETS).items()}
    files = {name: Path(file) for name, file in _pairs(ablation or (), ABLATIONS).items()}
    if unknown := sorted(set(method or ()) - set(BASELINES)):
        raise CTSAM3DError(f"'{unknown[0]}' is not among {', '.join(BASELINES)}; measure it apart, give --results.")
    others = read_results(results) if results else None
    given = {name: str(folder.resolve()) for name, folder in folders.items()}
    begin(output, {"data": given} if given else {"cases": cases, "spacing": spacing, "steps": steps})
    with local_cluster(jobs) if jobs > 1 and scheduler is None else nullcontext(scheduler) as address:
        at = Workplace(output, jobs, address)
        networks = {name: Network(f"{ABLATIONS[name].title}, {file}", file) for name, file in files.items()}
        described = {name: str(folder) for name, folder in folders.items()}
        if synthetic := not folders:
            folders = synthetic_datasets(output / "data", cases, spacing, jobs, address)
            described = dict.fromkeys(folders, SYNTHETIC.format(spacing=spacing))
            networks |= tiny_networks(at, [name for name in ABLATIONS if name not in files], steps, folders[TOTALSEG])
        records = {name: cases_to_measure(folder) for name, folder in folders.items()}
        network = Network(str(weights), weights) if weights else Network(BUNDLED)
        taking_part = entrants(network, networks, method or DEFAULT_METHODS)
        fewest = MIN_SYNTHETIC_VOXELS if synthetic else MIN_VOXELS
        runs = measure(at, taking_part, records, label or (), seeds, fewest)
        keep_pictures(at, taking_part, runs, records, label or ())
    if not runs:
        raise CTSAM3DError("Nothing could be measured, for the reasons above; correct the data and try again.")
    costs = output / "costs.csv"
    if not costs.exists():
        at.say("Measuring what the networks cost.")
        measure_all(costs)
    small = f"without structures of fewer than {fewest} voxels"
    study = _study(taking_part, runs, {name: f"{text}, {small}" for name, text in described.items()})
    study = study if others is None else study.with_runs_of(others)
    study.write(output / "study.yaml")
    all_results = [at.results, *(results or ())]
    material = Material(scores(read_results(all_results)), study, read_costs(costs), at.pictures)
    failures = [failure for file in all_results for failure in read_failures(file)]
    typer.echo(write_all(output / "exhibits", material, failures))
    if failures:
        typer.echo(f"{len(failures)} measurements of a case failed; the end of the page lists them.", err=True)


def _study(taking_part: Sequence[Entrant], runs: Mapping[MethodChoice, str], described: dict[str, str]) -> Study:
    systems = [
        System(one.name, runs[one.choice], one.made_from, one.own, one.against, one.exhibits)
        for one in taking_part
        if one.choice in runs
    ]
    return Study(tuple(systems), described)


def _pairs(texts: Sequence[str], names: Collection[str]) -> dict[str, str]:
    """NAME=VALUE of the command line. Raises CTSAM3DError for another form or name."""
    pairs = [text.partition("=") for text in texts]
    for text, (name, _, value) in zip(texts, pairs, strict=True):
        if name not in names or not value:
            raise CTSAM3DError(f"'{text}' is not NAME=PATH with one of the names {', '.join(names)}; correct it.")
    return {name: value for name, _, value in pairs}


if __name__ == "__main__":
    run_command(lambda: typer.run(main))
