"""Measure a model as a user would meet it: simulated clicks, whole structures, on the CT's own grid.

`python -m training.evaluate DATA --output results.csv` reads a folder with a `dataset.json`. The first click is drawn
uniformly in the structure, each next one is the middle of the deepest error in mm (paper, "Evaluation protocol").
When no error is left, the score is carried forward. Every count of clicks is one line of the CSV.
"""

from __future__ import annotations

import csv
import json
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from CTSAM3DLib.clicks import Click
from CTSAM3DLib.session import Reach, Result, Segmenter, Session
from CTSAM3DLib.volume import Volume
from training.click_simulation import Voxel, first_click, next_click

Row = dict[str, Any]
COLUMNS = ("case", "label", "n_clicks", "dsc", "seconds", "n_patches", "gt_voxels", "quality")


def dice(truth: NDArray[np.bool_], mask: NDArray[np.bool_]) -> float:
    """Dice similarity coefficient of two masks of the same shape; 1 where both are empty."""
    total = int(truth.sum()) + int(mask.sum())
    return 2 * int((truth & mask).sum()) / total if total else 1.0


def simulate(
    session: Session, truth: NDArray[np.bool_], first: Voxel, clicks: int, reach: Reach = "structure"
) -> Iterator[tuple[Result, float, float]]:
    """Click at a structure (z, y, x on the CT's grid), from its voxel `first` on, until no error is left.

    Yields the result, its Dice and its seconds after each of at most `clicks` clicks.
    """
    geometry = session.geometry
    rng = np.random.default_rng(0)  # not drawn from, since every further click is the deepest voxel of the error
    placed: list[Click] = []
    error: tuple[Voxel, bool] | None = (first, True)
    while error is not None and len(placed) < clicks:
        position, positive = error
        placed.append(Click(tuple(geometry.to_lps(position[::-1])), positive))
        begun = time.perf_counter()
        result = session.segment(placed, reach)
        mask = np.asarray(result.mask.array, bool)
        seconds = time.perf_counter() - begun
        yield result, dice(truth, mask), seconds
        error = next_click(truth, mask, rng, spacing=geometry.spacing[::-1])


def click_through(
    session: Session, truth: NDArray[np.bool_], clicks: int, rng: np.random.Generator, reach: Reach = "structure"
) -> Iterator[Row]:
    """The figures after each of `clicks` clicks, the first drawn by `rng`; carried forward when no error is left."""
    figures: Row = {}
    answers = simulate(session, truth, first_click(truth, rng), clicks, reach)
    for count in range(1, clicks + 1):
        if (answer := next(answers, None)) is not None:
            result, score, seconds = answer
            figures = {
                "dsc": score,
                "seconds": seconds,
                "n_patches": len(result.patches),
                "quality": result.quality,
            }
        yield {"n_clicks": count, **figures}


def main(
    data: Path,
    output: Annotated[Path, typer.Option(help="The CSV to write.")],
    case: Annotated[list[str] | None, typer.Option(help="Cases to use; default all that have labels.")] = None,
    clicks: Annotated[int, typer.Option(help="How many clicks each structure gets.")] = 5,
    model: Annotated[str, typer.Option(help="A bundled model.")] = "ctsam3d-small",
    weights: Annotated[str | None, typer.Option(help="A file of weights instead.")] = None,
    reach: Annotated[Reach, typer.Option(help="How far a click acts.")] = "structure",
    fewest_voxels: Annotated[int, typer.Option(help="Smaller structures are left out.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the first clicks.")] = 0,
) -> None:
    """Write one line per case, structure and count of clicks, and print the mean Dice."""
    segmenter = Segmenter.load(model, weights)
    entries = json.loads((data / "dataset.json").read_text(encoding="utf-8"))
    chosen = [entry for entry in entries if entry.get("label") and (not case or entry["case"] in case)]
    rows: list[Row] = []
    with output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for entry in chosen:
            session = segmenter.open(Volume.read(data / entry["ct"]))
            labels = Volume.read(data / entry["label"]).array
            for value, label in track(entry["labels"].items(), entry["case"], console=Console(stderr=True)):
                truth = labels == int(value)
                voxels = int(truth.sum())
                if voxels < fewest_voxels:
                    continue
                rng = np.random.default_rng([seed, zlib.crc32(f"{entry['case']}/{label['name']}".encode())])
                for figures in click_through(session, truth, clicks, rng, reach):
                    rows.append({"case": entry["case"], "label": label["name"], "gt_voxels": voxels, **figures})
                    writer.writerow(rows[-1])
            file.flush()
    Console().print(summary(rows, clicks))


def summary(rows: list[Row], clicks: int) -> Table:
    """Mean Dice over the structures of each case, by the number of clicks."""
    table = Table("case", "structures", *(f"Dice @{n}" for n in range(1, clicks + 1)), "s per click")
    for case in dict.fromkeys(row["case"] for row in rows):
        of_case = [row for row in rows if row["case"] == case]
        means = [np.mean([row["dsc"] for row in of_case if row["n_clicks"] == n]) for n in range(1, clicks + 1)]
        seconds = np.median([row["seconds"] for row in of_case])
        table.add_row(case, str(len(of_case) // clicks), *(f"{mean:.3f}" for mean in means), f"{seconds:.2f}")
    return table


if __name__ == "__main__":
    typer.run(main)
