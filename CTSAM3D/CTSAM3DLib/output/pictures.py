"""Pictures of masks on a CT: an axial, a coronal and a sagittal plane in radiological orientation.

Planes are resampled along the patient's axes, so oblique and sheared CTs are shown upright too.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from CTSAM3DLib.atomic import atomic_write
from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.clicks.colors import NEGATIVE_COLOR, POSITIVE_COLOR
from CTSAM3DLib.imaging.constants import AIR_HU
from CTSAM3DLib.imaging.geometry import Geometry
from CTSAM3DLib.imaging.resampling import as_image, interpolate
from CTSAM3DLib.imaging.volume import Volume

Color = tuple[float, float, float]

PALETTE: tuple[Color, ...] = (
    (0.90, 0.62, 0.00),
    (0.34, 0.71, 0.91),
    (0.95, 0.90, 0.25),
    (0.80, 0.47, 0.65),
    (0.36, 0.45, 0.85),
)
"""Colours for the colour-blind too (after Okabe and Ito), without the green and red of clicks."""

MARKERS: dict[bool, dict[str, Any]] = {
    True: {"marker": "o", "markersize": 7, "color": POSITIVE_COLOR, "markeredgecolor": "black", "linestyle": "none"},
    False: {"marker": "x", "markersize": 7, "color": NEGATIVE_COLOR, "markeredgewidth": 2.2, "linestyle": "none"},
}
"""Markers of positive (True) and negative (False) clicks."""
FIELD_MM = 420.0
"""Largest extent of a plane along an axis."""
CLICK_RANGE_MM = 6.0
"""Largest distance at which a click is drawn on a plane."""
BACKGROUND, WRITING = "black", "#d8d8d8"
WIDTH_INCHES, DPI = 12.0, 150
LEGEND_INCHES, TITLE_INCHES, GAP_MM = 0.45, 0.3, 6.0
MAX_COUNTED = 200_000  # voxels of a mask suffice to find its largest plane


class Overlay(NamedTuple):
    """A mask (0 or 1) on any grid, with name and colour (red, green, blue, 0..1)."""

    mask: Volume
    name: str
    color: Color


@dataclass(frozen=True)
class View:
    """The orientation of a plane: its LPS axes (0..2) to the right and downwards, the latter's sign, and letters."""

    name: str
    across: int
    down: int
    down_sign: int
    letters: tuple[str, str, str, str]
    """Left, right, top, bottom."""

    @property
    def through(self) -> int:
        """The LPS axis (0..2) perpendicular to the plane."""
        return 3 - self.across - self.down


VIEWS = (
    View("axial", 0, 1, 1, ("R", "L", "A", "P")),
    View("coronal", 0, 2, -1, ("R", "L", "S", "I")),
    View("sagittal", 1, 2, -1, ("A", "P", "S", "I")),
)


def three_planes(
    ct: Volume,
    masks: Sequence[Overlay],
    clicks: Sequence[Click],
    path: str | os.PathLike[str],
    window: tuple[float, float] = (-160, 240),
) -> None:
    """Write a PNG of three planes of a CT with masks, filled and outlined, and clicks near each plane.

    The planes lie where masks and clicks show most; without a mask, through the last click or the CT's middle.

    Args:
        ct: the CT.
        masks: masks on any grid, drawn in their order.
        clicks: clicks to mark.
        path: the PNG file.
        window: HU shown as black and white.

    Raises:
        OutputError: the file cannot be written.

    """
    centre = _centre(ct, masks, clicks)
    corners = ct.geometry.corners(margin=0.5)
    first, last = corners.min(axis=0), corners.max(axis=0)
    low = np.clip(centre - FIELD_MM / 2, first, np.maximum(first, last - FIELD_MM))
    high = np.minimum(low + FIELD_MM, last)
    step = float(np.clip(min(ct.geometry.spacing), 0.5, 1.0))
    figure, panels = _layout(high - low)
    for view, axes in zip(VIEWS, panels, strict=True):
        _draw(axes, _Plane(view, centre, low, high, step), ct, masks, clicks, window)
    _add_legend(figure, masks, clicks)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, facecolor=BACKGROUND)


class _Plane:
    """A plane of pixels of `step` mm from `low` to `high` (LPS mm) through `centre`."""

    def __init__(
        self, view: View, centre: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64], step: float
    ) -> None:
        self.view = view
        self.position = float(centre[view.through])
        columns, rows = (max(2, int((high[axis] - low[axis]) / step)) for axis in (view.across, view.down))
        direction = np.zeros((3, 3))
        direction[view.across, 0] = 1
        direction[view.down, 1] = view.down_sign
        direction[view.through, 2] = 1
        origin = low + step / 2
        if view.down_sign < 0:
            origin[view.down] = high[view.down] - step / 2
        origin[view.through] = self.position
        self.geometry = Geometry((1, rows, columns), tuple(origin), (step,) * 3, tuple(direction.ravel()))
        ends = self.geometry.corners(margin=0.5)
        top, bottom = (ends[:, view.down].min(), ends[:, view.down].max())[:: view.down_sign]
        self.extent = (ends[:, view.across].min(), ends[:, view.across].max(), bottom, top)
        """Left, right, bottom, top in LPS mm, in matplotlib's order."""

    def sample(self, volume: Volume, outside: float) -> NDArray[np.float32]:
        """The volume interpolated at the pixels, float32 (rows, columns)."""
        box = volume.geometry.box_around(self.geometry.corners())
        voxels = volume.array[box]
        if not voxels.size:
            return np.full(self.geometry.shape[1:], outside, np.float32)
        plane: NDArray[np.float32] = interpolate(as_image(voxels, volume.geometry.crop(box)), self.geometry, outside)[0]
        return plane


def _centre(ct: Volume, masks: Sequence[Overlay], clicks: Sequence[Click]) -> NDArray[np.float64]:
    """The LPS point whose three planes show most of masks and clicks; each mask is measured by its largest plane."""
    masked = [points for overlay in masks if len(points := _points(overlay.mask))]
    clicked = np.array([click.position for click in clicks])
    if not masked:
        point: NDArray[np.float64] = clicked[-1] if clicks else ct.geometry.corners().mean(axis=0)
        return point
    step = max(ct.geometry.spacing)
    centre = np.empty(3)
    for axis in range(3):
        low, high = min(points[:, axis].min() for points in masked), max(points[:, axis].max() for points in masked)
        places = np.arange(low, high + step, step)
        edges = np.append(places, places[-1] + step) - step / 2
        areas = [np.histogram(points[:, axis], edges)[0] for points in masked]
        shown = np.sum([area / area.max() for area in areas], axis=0)
        if clicks:
            shown += np.mean(np.abs(clicked[:, axis, None] - places) <= CLICK_RANGE_MM, axis=0)
        centre[axis] = places[int(np.argmax(shown))]
    return centre


def _points(mask: Volume) -> NDArray[np.float64]:
    """LPS mm of the mask's voxels, subsampled evenly where there are many; (N, 3)."""
    voxels = np.flatnonzero(mask.array)
    voxels = voxels[:: max(1, len(voxels) // MAX_COUNTED)]
    return mask.geometry.to_lps(np.stack(np.unravel_index(voxels, mask.array.shape)[::-1], axis=1))


def _layout(size_mm: NDArray[np.float64]) -> tuple[Figure, list[Axes]]:
    """A figure with one panel for each view, all to the same scale side by side, their tops aligned."""
    widths = [size_mm[view.across] for view in VIEWS]
    height = max(size_mm[view.down] for view in VIEWS)
    inches_per_mm = WIDTH_INCHES / (sum(widths) + GAP_MM * (len(VIEWS) - 1))
    total = height * inches_per_mm + TITLE_INCHES + LEGEND_INCHES
    figure = Figure(figsize=(WIDTH_INCHES, total), facecolor=BACKGROUND)
    panels, left = [], 0.0
    for width, view in zip(widths, VIEWS, strict=True):
        own = size_mm[view.down] * inches_per_mm
        bottom = LEGEND_INCHES + height * inches_per_mm - own
        panel = (left / WIDTH_INCHES, bottom / total, width * inches_per_mm / WIDTH_INCHES, own / total)
        panels.append(figure.add_axes(panel))
        left += (width + GAP_MM) * inches_per_mm
    return figure, panels


def _draw(
    axes: Axes,
    plane: _Plane,
    ct: Volume,
    masks: Sequence[Overlay],
    clicks: Sequence[Click],
    window: tuple[float, float],
) -> None:
    view, (left, right, bottom, top) = plane.view, plane.extent
    axes.set_axis_off()
    low, high = window
    gray = plane.sample(ct, outside=AIR_HU)
    axes.imshow(gray, cmap="gray", vmin=low, vmax=high, extent=plane.extent, interpolation="bilinear")
    for overlay in masks:
        share = plane.sample(overlay.mask, outside=0)
        if share.max() >= 0.5:
            shape: dict[str, Any] = {"extent": plane.extent, "origin": "upper"}
            axes.contourf(share, levels=[0.5, np.inf], colors=[overlay.color], alpha=0.3, **shape)
            axes.contour(share, levels=[0.5], colors=[overlay.color], linewidths=1.1, **shape)
    for click in clicks:
        if abs(click.position[view.through] - plane.position) <= CLICK_RANGE_MM:
            x, y = click.position[view.across], click.position[view.down]
            axes.plot(x, y, zorder=3, **MARKERS[click.positive])
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    axes.set_title(f"{view.name}, {'LPS'[view.through]} {plane.position:.0f} mm", color=WRITING, fontsize=9, pad=4)
    places = ((0.02, 0.5), (0.98, 0.5), (0.5, 0.975), (0.5, 0.025))
    for text, (x, y) in zip(view.letters, places, strict=True):
        letter = axes.text(x, y, text, transform=axes.transAxes, color=WRITING, fontsize=9, ha="center", va="center")
        letter.set_path_effects([withStroke(linewidth=2.5, foreground=BACKGROUND)])


def _add_legend(figure: Figure, masks: Sequence[Overlay], clicks: Sequence[Click]) -> None:
    handles: list[Patch | Line2D] = [
        Patch(facecolor=(*overlay.color, 0.3), edgecolor=overlay.color, label=overlay.name) for overlay in masks
    ]
    for positive, label in ((True, "positive click"), (False, "negative click")):
        if any(click.positive == positive for click in clicks):
            handles.append(Line2D([], [], label=label, **MARKERS[positive]))
    figure.legend(
        handles=handles, loc="lower center", ncols=max(1, len(handles)), frameon=False, labelcolor=WRITING, fontsize=9
    )
