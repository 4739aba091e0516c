"""The evaluation's CSV in long form: columns, appending cases, failures, summary table and plot.

One line is one count of clicks at one structure of one case by one run. Columns whose sense is not plain:
`run` is the method with all that its masks depend on (our models: name and start of the file's hash), `group` the
group of TotalSeg++ that the label belongs to or nothing, `seed` that of the first click, `seconds` those of the last
click alone, `n_patches` and `quality` what the method says of its answer, `click_ijk` the last click's voxel i j k and
`click_sign` its sign. A line that carries an earlier one forward has neither seconds nor a click.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure
from rich.box import SIMPLE
from rich.table import Table

from CTSAM3DLib.atomic import atomic_write
from CTSAM3DLib.errors import CTSAM3DError
from training.evaluation.metrics import TOLERANCES_MM

Row = dict[str, Any]
NSD_COLUMNS = tuple(f"nsd_{limit}" for limit in TOLERANCES_MM)
COLUMNS = (
    *("run", "method", "dataset", "split", "case", "label", "group", "seed", "n_clicks", "dsc"),
    *NSD_COLUMNS,
    *("seconds", "n_patches", "quality", "click_ijk", "click_sign", "gt_voxels", "gt_mm3"),
)
_TEXT = dict.fromkeys(("run", "method", "dataset", "split", "case", "label", "group", "click_ijk", "click_sign"), str)


def read(path: Path) -> pd.DataFrame:
    """The rows of a results file; none if there is no file. Raises CTSAM3DError for another kind of file."""
    if not path.exists():
        return pd.DataFrame(columns=list(COLUMNS))
    try:
        lines = pd.read_csv(
            path, dtype=_TEXT, keep_default_na=False, na_values=dict.fromkeys(("seconds", "quality", "n_patches"), "")
        )
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise CTSAM3DError(f"{path} cannot be read as a table of results ({error}); choose another file.") from error
    if tuple(lines.columns) != COLUMNS:
        raise CTSAM3DError(f"{path} has other columns than this evaluation writes; choose another file.")
    return lines


def append(path: Path, rows: Sequence[Row]) -> None:
    """Append the rows of a case, all or none even if the process is killed. Raises OutputError."""
    with atomic_write(path) as temporary:
        if path.exists():
            shutil.copyfile(path, temporary)
        with temporary.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            if file.tell() == 0:
                writer.writeheader()
            writer.writerows(rows)


def take_over(path: Path, other: Path, dataset: str) -> int:
    """Append the missing rows of a data set from another results file; returns their number.

    Raises CTSAM3DError where there is no such file or it is of another kind, and OutputError.
    """
    if not other.exists():
        raise CTSAM3DError(f"There is no file {other}; measure with training.evaluate first.")
    found = read(other)
    keys = ["run", "case", "label", "seed", "n_clicks"]
    before = read(path)
    there = pd.MultiIndex.from_frame(before.loc[before["dataset"] == dataset, keys])
    new = (found["dataset"] == dataset) & ~pd.MultiIndex.from_frame(found[keys]).isin(there)
    as_written = pd.read_csv(other, dtype=str, keep_default_na=False)
    if new.any():
        append(path, as_written[new].to_dict("records"))
    return int(new.sum())


class Failure(NamedTuple):
    """A case on which a method could not be measured, with the reason."""

    dataset: str
    case: str
    method: str
    reason: str


def failures_file(results: Path) -> Path:
    """The path of the list of failures of a results file."""
    return results.with_name(f"{results.stem}-failures.csv")


def read_failures(results: Path) -> list[Failure]:
    """The failures beside a results file; none where there is no list."""
    path = failures_file(results)
    if not path.exists():
        return []
    listed = pd.read_csv(path, dtype=str, keep_default_na=False)
    return [Failure(*row) for row in listed[list(Failure._fields)].itertuples(index=False)]


def note_failures(
    results: Path, failures: Sequence[Failure], dataset: str, cases: Sequence[str], methods: Sequence[str]
) -> None:
    """Write failures beside a results file, in place of earlier failures of the same runs. Raises OutputError.

    There is no list where there is no failure.
    """
    path = failures_file(results)
    earlier = [
        failure
        for failure in read_failures(results)
        if not (failure.dataset == dataset and failure.case in cases and failure.method in methods)
    ]
    if not (listed := [*earlier, *failures]):
        path.unlink(missing_ok=True)
        return
    with atomic_write(path) as temporary:
        pd.DataFrame(listed, columns=list(Failure._fields)).to_csv(temporary, index=False)


def summary(lines: pd.DataFrame) -> Table:
    """Mean Dice and NSD at 2 mm of each run by number of clicks, and its median seconds for a click.

    "by label" is the paper's macro mean, over labels of their means over cases; "all" the mean over all structures.
    """
    counts = sorted(lines["n_clicks"].unique())
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("run", overflow="fold")
    for heading in ("mean", *(f"@{count}" for count in counts), "s/click"):
        table.add_column(heading, justify="left" if heading == "mean" else "right", no_wrap=True)
    for run, of_run in lines.groupby("run", sort=False):
        name, seconds = str(run), f"{of_run['seconds'].median():.2f}"
        for column, score in (("dsc", "Dice"), ("nsd_2", "NSD")):
            by_label = of_run.groupby(["n_clicks", "label"])[column].mean().groupby("n_clicks").mean()
            table.add_row(name, f"{score} by label", *(f"{by_label[count]:.3f}" for count in counts), seconds)
            of_all = of_run.groupby("n_clicks")[column].mean()
            table.add_row("", f"{score} all", *(f"{of_all[count]:.3f}" for count in counts), "")
            name = seconds = ""
    return table


def picture(lines: pd.DataFrame, path: Path) -> None:
    """Plot mean Dice over structures against clicks, a bold line for each run and a thin line for each case."""
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    for number, (run, of_run) in enumerate(lines.groupby("run", sort=False)):
        for _, of_case in of_run.groupby(["dataset", "case"]):
            axes.plot(of_case.groupby("n_clicks")["dsc"].mean(), color=f"C{number}", lw=0.7, alpha=0.35)
        axes.plot(of_run.groupby("n_clicks")["dsc"].mean(), "o-", color=f"C{number}", lw=2.2, label=run)
    cases, structures = len(lines.groupby(["dataset", "case"])), len(lines.groupby(["dataset", "case", "label"]))
    axes.set_title(f"{structures} structures of {cases} cases; thin: each case", fontsize="medium")
    axes.set(xlabel="clicks", ylabel="mean Dice", ylim=(0, 1), xticks=sorted(lines["n_clicks"].unique()))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150)
