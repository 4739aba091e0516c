"""A picture of a case for the review: its labels before curation and after it, in three planes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from CTSAM3DLib.atomic import atomic_write
from CTSAM3DLib.imaging.geometry import filled_box
from training import anatomy
from training.curation.colors import DOUBT, TISSUES, color_table
from training.curation.merge import is_tissue

WINDOW = (-200.0, 300.0)
OPACITY = 0.55
WIDTH_INCHES, DPI = 11.0, 110
WRITING = "#d8d8d8"
LETTERS = (("R", "L"), ("R", "L"), ("A", "P"))
"""Letters left and right of the planes perpendicular to z, y and x."""


class _Shown(NamedTuple):
    """What is drawn: all of it (z, y, x), or a plane of it."""

    hu: np.ndarray
    labels: np.ndarray
    doubt: np.ndarray
    body: np.ndarray


def draw_overlay(
    path: Path,
    hu: np.ndarray,
    labels: np.ndarray,
    doubt: np.ndarray,
    body: np.ndarray,
    spacing: Sequence[float],
    titles: tuple[str, str],
) -> None:
    """Write a PNG: above the own labels alone, below all of them, voxels in doubt marked; a line runs around the body.

    The planes go through the middle of the body. All arrays are (z, y, x) in RAI, the spacing in mm too; the titles
    are those of the two rows. Raises OutputError.
    """
    box = filled_box(body, margin=3)
    hu, labels, doubt, body = (array[box] for array in (hu, labels, doubt, body))
    centre = [int(np.median(places)) for places in np.nonzero(body)]
    before = np.where(is_tissue(labels), 0, labels)
    rows = [_Shown(hu, before, np.zeros_like(doubt), body), _Shown(hu, labels, doubt, body)]
    depth, height, width = (size * step for size, step in zip(hu.shape, spacing, strict=True))
    wide, tall = 2 * width + height, max(height, depth)
    figure = Figure(
        figsize=(WIDTH_INCHES, 2 * WIDTH_INCHES * tall / wide + 1.2), facecolor="black", layout="constrained"
    )
    panels = figure.subplots(2, 3, width_ratios=(width, width, height), squeeze=False)
    for row, title, shown in zip(panels, titles, rows, strict=True):
        row[0].set_title(title, color=WRITING, loc="left", fontsize=11)
        for axis, axes in enumerate(row):
            _draw(axes, _Shown(*(_plane(array, axis, centre[axis]) for array in shown)), _aspect(axis, spacing))
            for letter, place in zip(LETTERS[axis], ("left", "right"), strict=True):
                x = 0.02 if place == "left" else 0.98
                axes.text(x, 0.5, letter, transform=axes.transAxes, ha=place, color=WRITING, fontsize=9)
    _legend(figure, bool(doubt.any()))
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=DPI, facecolor="black")


def _plane(array: np.ndarray, axis: int, index: int) -> np.ndarray:
    """A plane in radiological orientation: axial with the patient's right on the left, the others with the head up."""
    plane = np.take(array, index, axis)
    return plane if axis == 0 else plane[::-1]


def _aspect(axis: int, spacing: Sequence[float]) -> float:
    """Height over width of a pixel."""
    z, y, x = spacing
    return ((y / x), (z / x), (z / y))[axis]


def _draw(axes: Axes, shown: _Shown, aspect: float) -> None:
    low, high = WINDOW
    gray = np.clip((shown.hu.astype(float) - low) / (high - low), 0, 1)[..., None].repeat(3, -1)
    colors = color_table()[shown.labels]
    picture = np.where((shown.labels > 0)[..., None], (1 - OPACITY) * gray + OPACITY * colors, gray)
    picture[shown.doubt] = DOUBT
    axes.imshow(picture, aspect=aspect, interpolation="nearest")
    if shown.body.any():
        axes.contour(shown.body, [0.5], colors=[WRITING], linewidths=0.6)
    axes.set_axis_off()


def _legend(figure: Figure, in_doubt: bool) -> None:
    handles = [Patch(color=color, label=anatomy.EXTENDED[value].replace("_", " ")) for value, color in TISSUES.items()]
    handles.append(Patch(color=(0.3, 0.75, 0.85), label="own labels (green to purple)"))
    if in_doubt:
        handles.append(Patch(color=DOUBT, label="in doubt"))
    figure.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, labelcolor=WRITING, fontsize=9
    )
