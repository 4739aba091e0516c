"""Pictures of the structures that a model segments worst.

`python -m training.evaluation.failures DATASET --results CSV --weights FILE --output PNG`

Takes the structures of the lowest Dice at five clicks, one of each name, clicks them again, and shows truth and mask
in three planes. A model card shows the picture.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from matplotlib.figure import Figure
from matplotlib.image import imread

from CTSAM3DLib.clicks.simulation import simulate
from CTSAM3DLib.imaging.volume import Volume
from CTSAM3DLib.output.pictures import PALETTE, Overlay, three_planes
from CTSAM3DLib.run_command import run_command
from CTSAM3DLib.segmentation.session import Segmenter
from training.data.datasets import CaseRecord, read_dataset
from training.evaluation.results import read

CLICKS = 5


def main(
    dataset: Annotated[Path, typer.Argument(help="The data set that was measured.")],
    results: Annotated[Path, typer.Option(help="The CSV of training.evaluate.")],
    weights: Annotated[Path, typer.Option(help="The model.")],
    output: Annotated[Path, typer.Option(help="The picture to write.")],
    count: Annotated[int, typer.Option(help="How many structures.")] = 3,
) -> None:
    """Draw the structures that a model segments worst."""
    lines = read(results)
    records = {record.case: record for record in read_dataset(dataset)}
    segmenter = Segmenter.load(weights=str(weights))
    own = lines[(lines["method"] == "ctsam3d") & (lines["n_clicks"] == CLICKS)]
    worst = own.sort_values("dsc").drop_duplicates("label").head(count)
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for _, line in worst.iterrows():
            same = (lines["run"] == line["run"]) & (lines["case"] == line["case"]) & (lines["label"] == line["label"])
            (first, *_) = lines[same & (lines["n_clicks"] == 1) & (lines["seed"] == line["seed"])]["click_ijk"]
            page = Path(folder) / f"{line['case']}-{line['label']}.png"
            score = _draw(segmenter, records[line["case"]], str(line["label"]), first, page)
            rows.append((f"{line['label']} of {line['case']}: Dice {score:.2f} at {CLICKS} clicks", imread(page)))
    height = sum(9 * drawn.shape[0] / drawn.shape[1] + 0.3 for _, drawn in rows)
    figure = Figure(figsize=(9, height), layout="constrained")
    for axes, (title, drawn) in zip(figure.subplots(len(rows), 1, squeeze=False).flat, rows, strict=True):
        axes.imshow(drawn)
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    figure.savefig(output, dpi=100)


def _draw(segmenter: Segmenter, record: CaseRecord, label: str, first_ijk: str, page: Path) -> float:
    """Draw ground truth and mask after simulated clicks from the first one on; returns the Dice."""
    ct = Volume.read(record.ct)
    value = next(number for number, name in record.labels.items() if name == label)
    truth = record.label_map().array == value
    x, y, z = (int(index) for index in first_ijk.split())
    for answer, score, _ in simulate(segmenter.open(ct), truth, (z, y, x), CLICKS):
        clicks, mask, dice = answer.clicks, answer.mask, score
    shown = [
        Overlay(Volume(truth.astype(np.uint8), ct.geometry), "truth", PALETTE[0]),
        Overlay(mask, "mask", PALETTE[1]),
    ]
    three_planes(ct, shown, clicks, page)
    return dice


if __name__ == "__main__":
    run_command(lambda: typer.run(main))
