"""Complete the head of an atlas of bones: brain, sinuses, airway."""

from __future__ import annotations

import cc3d
import numpy as np
from scipy.ndimage import binary_closing, binary_dilation, binary_fill_holes, gaussian_filter1d

from training.data.label_canvas import LabelCanvas, Mask

FORAMEN_MM = 20.0
"""mm. Half the width of the widest opening of the skull."""
SKULL_MM = 6.0
AIRWAY_MM = 8.0


def give_brain(canvas: LabelCanvas) -> None:
    """Label the inside of a hollow skull as brain."""
    skull = canvas.mask("skull")
    voxels = round(FORAMEN_MM / canvas.spacing) + 2
    # Where the volume ends above, so does the skull: a lid closes it.
    padded = np.pad(skull, [(voxels, voxels)] * 3)
    padded[-voxels:] = True
    far = canvas.distance_to(padded) > FORAMEN_MM
    parts = cc3d.connected_components(far, connectivity=6)
    outside = set(np.unique(parts[0])) | set(np.unique(parts[:, 0])) | set(np.unique(parts[:, :, 0]))
    sizes = np.bincount(parts.ravel())
    sizes[list(outside | {0})] = 0
    if not sizes.any():
        return
    inside = parts == sizes.argmax()
    grown = binary_dilation(inside, iterations=round(1.2 * voxels), mask=canvas.distance_to(padded) > 1)
    grown &= canvas.distance_to(inside) < FORAMEN_MM + 3
    canvas.paint("brain", grown[voxels:-voxels, voxels:-voxels, voxels:-voxels])


def split_filled_skull(canvas: LabelCanvas, name: str = "skull") -> None:
    """Split a filled skull into its shell, the brain (the round inside), and the face (the rest)."""
    skull = canvas.mask(name)
    deep = canvas.depth(skull) > SKULL_MM
    core = canvas.depth(deep) > 24
    brain = deep & canvas.near(core, 24)
    canvas.replace("brain" if name == "skull" else "filler_brain", brain)
    canvas.replace("filler_face", deep & ~brain)


def give_sinuses(canvas: LabelCanvas) -> None:
    """Nose and maxillary sinuses: what the bones of the face enclose in axial slices below the brain."""
    skull = canvas.mask("skull")
    brain = canvas.mask("brain")
    closed = binary_closing(np.pad(skull, 3), iterations=2)[3:-3, 3:-3, 3:-3]
    enclosed = np.zeros_like(skull)
    for z in np.flatnonzero(skull.any(axis=(1, 2))):
        enclosed[z] = binary_fill_holes(closed[z])
    front = np.flatnonzero(brain.any(axis=(0, 2)))
    middle = np.mean(np.nonzero(skull)[2])
    y, x = np.ogrid[: skull.shape[1], : skull.shape[2]]
    face = (y < front[0] + 0.3 * (front[-1] - front[0])) & (abs(x - middle) * canvas.spacing < 42)
    enclosed &= face & ~brain & ~binary_dilation(brain, iterations=2)
    nose = np.zeros_like(skull)
    roof = np.flatnonzero(brain[:, : round(front[0] + 40 / canvas.spacing)].any(axis=(1, 2)))[0]
    for level in range(max(int(roof) - round(42 / canvas.spacing), 0), int(roof) - 1):
        found = np.flatnonzero(skull[level].any(axis=1))
        if found.size:
            nose[level] = (y > found[0] + 6 / canvas.spacing) & (y < found[0] + 75 / canvas.spacing)
    nose &= abs(x - middle) * canvas.spacing < 13
    canvas.paint("filler_sinus", enclosed | nose)


def give_airway(canvas: LabelCanvas, body: Mask) -> None:
    """A tube in front of the spine, through the rings of the larynx where there are any, up to the palate."""
    spine = canvas.mask("vertebrae_*")
    neck = canvas.mask("vertebrae_cervical", "vertebrae_C*")
    rings = canvas.mask("thyroid_cartilage", "cricoid_cartilage")
    heights = np.flatnonzero(spine.any(axis=(1, 2)))
    upper = np.flatnonzero(neck.any(axis=(1, 2)))
    bottom = max(upper[0] - round(110 / canvas.spacing), heights[0])
    levels = np.arange(bottom, upper[-1] + 1)
    centre = np.zeros((len(levels), 2))
    for row, z in enumerate(levels):
        y, x = np.nonzero(spine[z])
        if not len(y):
            centre[row] = centre[row - 1]
            continue
        height = (z - upper[0]) / max(upper[-1] - upper[0], 1)
        before = np.interp(height, (-1, 0, 0.5, 1), (16, 22, 20, 12)) / canvas.spacing
        centre[row] = y.min() - before, x.mean()
        if rings[z].sum() > 12:
            y, x = np.nonzero(rings[z])
            centre[row] = y.mean(), x.mean()
    centre = gaussian_filter1d(centre, 12 / canvas.spacing, axis=0, mode="nearest")
    tube = np.zeros_like(spine)
    y, x = np.ogrid[: spine.shape[1], : spine.shape[2]]
    for z, (at_y, at_x) in zip(levels, centre, strict=True):
        tube[z] = ((y - at_y) ** 2 + (x - at_x) ** 2) * canvas.spacing**2 < AIRWAY_MM**2
    # A wall of one voxel around it.
    canvas.paint("filler_air", tube & body)
    canvas.paint("filler_soft_tissue", canvas.near(tube, canvas.spacing) & body)
