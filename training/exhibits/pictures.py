"""Figure 5 and supplementary Figure 3: masks of systems beside the ground truth."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from scipy import ndimage

from training import anatomy
from training.curation.colors import TISSUES
from training.exhibits.pictured import PicturedCase, Shown, mean_dice
from training.exhibits.style import WIDTH

WINDOW = (-160.0, 240.0)
OPACITY = 0.55
WRONG = (1.0, 0.84, 0.0)
"""Gold, as the paper's arrows."""
STEP_MM = 1.5
"""mm. Pixel of a rendering."""
LIGHT = np.array([0.45, 0.8, -0.4])
"""Direction of the light in a rendering: up, towards the viewer, and to the patient's right."""
_GOLDEN_RATIO = 0.618


def color_table(values: Iterable[int]) -> NDArray[np.float64]:
    """Red, green, blue (256 x 3) of the values of a picture, far apart from one another; tissues keep their colours."""
    table = np.zeros((256, 3))
    for rank, value in enumerate(sorted(values)):
        hue = rank * _GOLDEN_RATIO % 1
        table[value] = TISSUES.get(value) or colorsys.hsv_to_rgb(hue, 0.5 + 0.3 * (rank % 2), 0.95)
    return table


def side_by_side(pictured: PicturedCase, shown: Shown) -> Figure:
    """Figure 5: the truth and each system in a column; an axial plane, a coronal one, and all in three dimensions."""
    columns = {"truth": shown.truth, **shown.masks}
    values = _values(shown.truth)
    colors = color_table(values)
    places = {axis: _fullest(shown.truth, axis) for axis in (0, 1)}
    figure = Figure(figsize=(WIDTH, 0.8 + 3 * 0.72 * WIDTH / len(columns)), layout="constrained")
    panels = figure.subplots(3, len(columns), squeeze=False)
    for column, (name, labels) in zip(panels.T, columns.items(), strict=True):
        score = "" if name == "truth" else f"\nDSC {mean_dice(shown.truth, labels):.1f}"
        column[0].set_title(f"{name}{score}", fontsize=8, loc="center")
        for axis in (0, 1):
            _show(column[axis], shown, axis, _colored(shown, labels, axis, places[axis], colors))
        column[2].imshow(rendering(labels, shown.spacing, colors))
        column[2].set_axis_off()
    handles = [Patch(color=colors[value], label=anatomy.EXTENDED[value].replace("_", " ")) for value in values]
    figure.legend(handles=handles, loc="outside right center", fontsize=7)
    return figure


def agreement(cases: Sequence[tuple[PicturedCase, Shown]]) -> Figure:
    """Supplementary Figure 3: a case in each row; the truth, the first system's masks, and where they differ."""
    figure = Figure(figsize=(WIDTH, 0.5 + len(cases) * 0.32 * WIDTH), layout="constrained")
    for row, (pictured, shown) in zip(figure.subplots(len(cases), 3, squeeze=False), cases, strict=True):
        truth, mask = shown.truth, shown.masks[pictured.systems[0]]
        place, colors = _fullest(truth, 1), color_table(_values(truth))
        wrong = np.take(mask != truth, place, 1)
        share = np.mean(mask[truth > 0] != truth[truth > 0])
        pictures = {
            f"{pictured.case}: truth": _colored(shown, truth, 1, place, colors),
            f"{pictured.systems[0]}, DSC {mean_dice(truth, mask):.1f}": _colored(shown, mask, 1, place, colors),
            f"gold: differs ({100 * share:.0f} % of the labelled)": np.where(
                wrong[..., None], WRONG, _gray(shown, 1, place)
            ),
        }
        for axes, (title, picture) in zip(row, pictures.items(), strict=True):
            _show(axes, shown, 1, picture)
            axes.set_title(title, fontsize=8, loc="center")
    return figure


def _values(labels: NDArray[np.uint8]) -> list[int]:
    return [int(value) for value in np.unique(labels) if value]


def _fullest(labels: NDArray[np.uint8], axis: int) -> int:
    """The plane at right angles to an axis in which the structures show most, each measured by its own widest plane."""
    others = tuple(other for other in range(3) if other != axis)
    areas = [np.count_nonzero(labels == value, axis=others) for value in np.unique(labels[labels > 0])]
    return int(np.argmax(np.sum([area / area.max() for area in areas], axis=0))) if areas else labels.shape[axis] // 2


def _gray(shown: Shown, axis: int, place: int) -> NDArray[np.float64]:
    """An axial (axis 0) or coronal (1) plane of the CT: red, green, blue."""
    low, high = WINDOW
    hu = np.take(shown.hu, place, axis).astype(float)
    return np.clip((hu - low) / (high - low), 0, 1)[..., None].repeat(3, -1)


def _colored(
    shown: Shown, labels: NDArray[np.uint8], axis: int, place: int, colors: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The plane with labels over it."""
    gray, values = _gray(shown, axis, place), np.take(labels, place, axis)
    return np.where((values > 0)[..., None], (1 - OPACITY) * gray + OPACITY * colors[values], gray)


def _show(axes: Axes, shown: Shown, axis: int, picture: NDArray[np.float64]) -> None:
    """Radiological orientation: the patient's right on the left, the front or the head up."""
    z, y, x = shown.spacing
    axes.imshow(picture if axis == 0 else picture[::-1], aspect=(y / x, z / x)[axis], interpolation="nearest")
    axes.set_axis_off()


def rendering(
    labels: NDArray[np.uint8], spacing: tuple[float, float, float], colors: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The surfaces of all labels (z, y, x, RAI) seen from the front, the head above: red, green, blue, opacity."""
    seen = np.zeros([round(size * step / STEP_MM) for size, step in zip(labels.shape, spacing, strict=True)], np.uint8)
    zoom = np.array(seen.shape) / labels.shape
    for value, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        low = [max(0, part.start - 2) for part in box]
        around = tuple(slice(start, part.stop + 2) for start, part in zip(low, box, strict=True))
        smooth = ndimage.zoom(ndimage.gaussian_filter((labels[around] == value).astype(np.float32), 0.6), zoom, order=1)
        corner = np.rint(np.array(low) * zoom).astype(int)
        place = tuple(slice(start, start + size) for start, size in zip(corner, smooth.shape, strict=True))
        target = seen[place]
        target[(smooth > 0.5)[tuple(slice(size) for size in target.shape)]] = value
    hit = (seen > 0).any(axis=1)
    depth = np.argmax(seen > 0, axis=1)
    front = np.take_along_axis(seen, depth[:, None], axis=1)[:, 0]
    shade = _shade(depth * STEP_MM, front)
    return np.dstack([colors[front] * shade[..., None], hit]).astype(np.float64)[::-1]


def _shade(depth: NDArray[np.float64], front: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Lambert's law on the surface of depths (mm; rows towards the head, columns to the patient's left)."""
    smooth = np.zeros_like(depth)
    for value in np.unique(front[front > 0]):
        here = (front == value).astype(float)
        smooth[front == value] = (
            ndimage.gaussian_filter(depth * here, 1.5) / np.maximum(ndimage.gaussian_filter(here, 1.5), 1e-6)
        )[front == value]
    up, left = np.gradient(smooth, STEP_MM)
    facing = LIGHT[0] * up + LIGHT[1] + LIGHT[2] * left
    cosine = facing / np.sqrt(up**2 + left**2 + 1) / np.linalg.norm(LIGHT)
    return np.asarray(0.3 + 0.7 * np.clip(cosine, 0, 1))
