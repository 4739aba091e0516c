"""Pictures of a run: predictions of a batch, and the learning curve."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from training.learning.algorithm1 import Batch

SHOWN = 12
SMOOTHING = 20
"""Steps over which the curve is averaged."""


def draw_samples(batch: Batch, path: Path) -> None:
    """Patches of a batch after its last round: the CT, the truth in red, the mask in green, the clicks."""
    images = batch.image[:SHOWN, 0].cpu().numpy()
    masks = batch.previous[:SHOWN, 0].cpu().numpy() > 0.5
    columns = 4
    figure = Figure(figsize=(3 * columns, 3 * -(-len(images) // columns)), layout="constrained")
    axes = figure.subplots(-(-len(images) // columns), columns, squeeze=False)
    for place in axes.flat:
        place.set_axis_off()
    for place, image, mask, truth, clicks in zip(axes.flat, images, masks, batch.truth, batch.clicks, strict=False):
        z = int(truth.sum(axis=(1, 2)).argmax())
        place.imshow(image[z], cmap="gray")
        for shown, colour in ((truth[z], "red"), (mask[z], "lime")):
            if shown.any():
                place.contour(shown, [0.5], colors=colour, linewidths=1)
        for (x, y, _), label in zip(clicks.points_xyz, clicks.labels, strict=True):
            place.plot(x, y, "+" if label else "_", color="cyan" if label else "orange", markersize=9)
    figure.savefig(path, dpi=80)


def draw_curve(curve: Path, path: Path) -> None:
    """Dice in the patches against the step, one line for each round, from `curve.csv`."""
    dice: dict[int, list[float]] = defaultdict(list)
    with curve.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            dice[int(row["round"])].append(float(row["dice"]))
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(dice)))
    for colour, (index, values) in zip(colours, sorted(dice.items()), strict=True):
        window = min(SMOOTHING, len(values))
        smooth = np.convolve(values, np.ones(window) / window, mode="valid")
        axes.plot(np.arange(len(smooth)) + window, smooth, color=colour, label=f"{index + 1} clicks")
    axes.set(xlabel="step", ylabel="Dice in training patches", ylim=(0, 1))
    if dice:
        axes.legend(loc="lower right")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
