"""Make the paper's tables and figures out of result files: `python -m training.exhibits RESULTS... --output FOLDER`.

Results are CSVs of `training.evaluate`, whose `--name` has to be that of a data set in `training.exhibits.catalogue`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from CTSAM3DLib.run_command import run_command
from training.evaluation import results
from training.exhibits.costs import read_costs
from training.exhibits.material import Material
from training.exhibits.page import write_all
from training.exhibits.study import Study, read_results, scores


def main(
    results_files: Annotated[list[Path], typer.Argument(metavar="RESULTS", help="CSVs of training.evaluate.")],
    output: Annotated[Path, typer.Option(help="A folder, made where it is not there.")],
    study: Annotated[
        Path | None, typer.Option(help="YAML that names the systems; without, runs stand under their own names.")
    ] = None,
    costs: Annotated[Path | None, typer.Option(help="CSV of training.evaluation.efficiency.")] = None,
    pictures: Annotated[Path | None, typer.Option(help="Folder of cases for the pictures, of training.paper.")] = None,
) -> None:
    """Write a page with every exhibit, its tables as CSV and its figures as PNG and PDF."""
    lines = read_results(results_files)
    described = Study.read(study) if study else Study.of_runs(lines)
    material = Material(scores(lines), described, read_costs(costs), pictures)
    failures = [failure for path in results_files for failure in results.read_failures(path)]
    typer.echo(write_all(output, material, failures))


if __name__ == "__main__":
    run_command(lambda: typer.run(main))
