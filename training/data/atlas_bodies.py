"""Complete atlases by parts of others: a skeleton for a body of organs, a mirrored second arm."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, label, map_coordinates, maximum_filter1d

from training.data.label_canvas import LabelCanvas, Mask

FIELD_OF_VIEW_MM = 250.0
"""mm. Half the field of view; forearms and hands lie outside."""
UNDER_SKIN_MM = 14.0
"""Depth of the spinous processes below the skin."""
ARM_BONE_SHARE = 0.28
"""Radius of the bone of an arm, as a share of that of the arm."""


def give_skeleton(canvas: LabelCanvas, skeleton: LabelCanvas) -> None:
    """Put spine, ribs, skull and mandible of a skeleton into a body that has pelvis, legs and skin, as fillers.

    The skeleton is scaled along z between pelvis and vertex, across by the width of the hips or less, and laid under
    the skin of the back. Bones of arms, which neither has, are drawn along the axes of the arms.
    """
    body = canvas.labels > 0
    hips, lent_hips = canvas.mask("hip_*", "sacrum"), skeleton.mask("hip_*", "sacrum")
    low, lent_low = _extent(hips, 0)[1], _extent(lent_hips, 0)[1]
    high, lent_high = _extent(body, 0)[1] - 8 / canvas.spacing, _extent(skeleton.labels > 0, 0)[1]
    sides, lent_sides = _extent(hips, 2), _extent(lent_hips, 2)
    along = float((lent_high - lent_low) / (high - low))
    # A wide pelvis does not make wide ribs.
    across = max(float(np.ptp(lent_sides) / np.ptp(sides)), along)
    depth = (along + across) / 2 / _deeper(canvas, skeleton, body)
    grid = np.indices(body.shape, np.float32)
    from_z = float(lent_low) + (grid[0] - float(low)) * along
    from_x = float(np.mean(lent_sides)) + (grid[2] - float(np.mean(sides))) * across
    # Along z, the spinous processes lie under the skin of the back.
    lent_back = _back(skeleton, skeleton.mask("vertebrae_*", "sacrum", "skull"), float(np.mean(lent_sides)))
    back = _back(canvas, body, float(np.mean(sides))) - UNDER_SKIN_MM / canvas.spacing
    lent_level = float(lent_low) + (np.arange(len(body)) - float(low)) * along
    of_level = np.interp(lent_level, np.arange(len(lent_back)), lent_back)
    from_y = of_level.astype(np.float32)[:, None, None] + (grid[1] - back.astype(np.float32)[:, None, None]) * depth
    lent = {
        "filler_vertebra": skeleton.mask("vertebrae_*"),
        "filler_rib": skeleton.mask("ribs_and_sternum"),
        "filler_skull": skeleton.mask("skull"),
        "filler_mandible": skeleton.mask("mandible"),
    }
    deep = canvas.depth(body) > 6
    soft = canvas.mask("body")
    for name, mask in lent.items():
        canvas.replace(name, _moved(mask, from_z, from_y, from_x) & soft & deep)
    _draw_arm_bones(canvas, body, float(np.mean(sides)))
    middle = round(float(np.mean(sides)))
    reach = round(FIELD_OF_VIEW_MM / canvas.spacing)
    canvas.labels = canvas.labels[:, :, max(middle - reach, 0) : middle + reach + 1].copy()


def add_left_arm(canvas: LabelCanvas) -> None:
    """Mirror an atlas of the right arm, and the rest of its skeleton, about the middle of the spine."""
    rest = canvas.mask("other_bones").sum(axis=0).astype(np.float32)
    width = rest.shape[1]
    half = 24
    # Twice the middle: where the spine and its mirror image agree most.
    doubled = max(
        range(width, 2 * width - 2 * half),
        key=lambda twice: sum(
            float((rest[:, x] * rest[:, twice - x]).sum())
            for x in range(twice // 2 - half, twice // 2 + half)
            if 0 <= twice - x < width
        ),
    )
    size = doubled + 1
    whole = np.zeros((*canvas.labels.shape[:2], size), np.uint8)
    middle = doubled // 2
    right = canvas.labels[:, :, : middle + 1]
    whole[:, :, : middle + 1] = right
    left = right.copy()
    for value, name in list(canvas.names.items()):
        if name.endswith("_right"):
            left[right == value] = canvas.value(name.removesuffix("_right") + "_left")
    whole[:, :, size - middle - 1 :] = np.where(
        left[:, :, ::-1] > 0, left[:, :, ::-1], whole[:, :, size - middle - 1 :]
    )
    canvas.labels = whole


def _deeper(canvas: LabelCanvas, skeleton: LabelCanvas, body: Mask) -> float:
    """Factor by which the skeleton's thorax must grow from front to back to lie under the skin."""
    lent = float(np.ptp(_extent(skeleton.mask("ribs_and_sternum"), 1)))
    heart = canvas.mask("heart*")
    middle = round(float(np.mean(_extent(heart, 2))))
    own = np.mean([np.ptp(np.flatnonzero(column)) for column in body[np.nonzero(heart)[0], :, middle]])
    return float(np.clip((own - 1.6 * UNDER_SKIN_MM / canvas.spacing) / lent, 0.9, 1.4))


def _extent(mask: Mask, axis: int) -> NDArray[np.float64]:
    found = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
    return np.array([found[0], found[-1]], np.float64)


def _moved(mask: Mask, *where: NDArray[np.float32]) -> Mask:
    return map_coordinates(mask.astype(np.float32), where, order=1, mode="constant", cval=0.0) > 0.5


def _back(canvas: LabelCanvas, mask: Mask, middle: float) -> NDArray[np.float64]:
    """The y voxel of the back of a mask near its middle for each slice, smoothed along z."""
    near = slice(round(middle - 20 / canvas.spacing), round(middle + 20 / canvas.spacing))
    there = np.asarray(np.any(mask[:, :, near], axis=2))
    backmost = there.shape[1] - 1 - there[:, ::-1].argmax(axis=1).astype(np.float64)
    known = np.flatnonzero(there.any(axis=1))
    everywhere = np.interp(np.arange(len(mask)), known, backmost[known])
    return gaussian_filter1d(
        maximum_filter1d(everywhere, round(24 / canvas.spacing)), 30 / canvas.spacing, mode="nearest"
    )


def _draw_arm_bones(canvas: LabelCanvas, body: Mask, middle: float) -> None:
    """Draw a bone along each arm, in the middle of the parts beside the trunk in each slice."""
    bones = np.zeros_like(body)
    hips = _extent(canvas.mask("hip_*"), 0)[0]
    y, x = np.ogrid[: body.shape[1], : body.shape[2]]
    for z in range(int(hips), len(body)):
        parts, count = label(body[z])
        trunk = parts[:, round(middle)].max()
        for part in range(1, count + 1):
            where = parts == part
            if part != trunk and where.sum() * canvas.spacing**2 > 1200:
                centre_y, centre_x = (float(at.mean()) for at in np.nonzero(where))
                radius = ARM_BONE_SHARE * np.sqrt(where.sum() / np.pi)
                bones[z] |= (y - centre_y) ** 2 + (x - centre_x) ** 2 < radius**2
    canvas.replace("filler_long_bone", bones & canvas.mask("body"))
