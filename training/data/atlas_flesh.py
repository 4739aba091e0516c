"""The outline of a body around bones, from the thickness of soft tissue around each bone."""

from __future__ import annotations

from fnmatch import fnmatchcase

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter

from training.data.label_canvas import LabelCanvas, Mask

FLESH: dict[str, tuple[float, float, float, float]] = {
    "skull": (6, 6, 6, 0),
    "mandible": (8, 8, 8, 0),
    "vertebrae_cervical": (34, 32, 28, 6),
    "vertebrae_*": (28, 28, 28, 0),
    "ribs_*": (20, 20, 20, 4),
    "other_bones": (26, 24, 20, 4),
    "sacrum": (22, 24, 24, 20),
    "hip_*": (34, 34, 26, 38),
    "femur_*": (18, 56, 58, 12),
    "patella_*": (8, 8, 8, 0),
    "tibia_*": (10, 22, 16, 34),
    "fibula_*": (8, 18, 14, 16),
    "talus_*": (12, 12, 12, 4),
    "foot_*": (11, 11, 11, 2),
    "toes_*": (7, 7, 7, 0),
    "humerus_*": (20, 34, 32, 4),
    "ulna_*": (9, 20, 18, 2),
    "radius_*": (9, 20, 20, 2),
    "clavicula_*": (18, 18, 18, 0),
    "scapula_*": (26, 24, 24, 8),
    "*": (8, 8, 8, 0),
}
"""mm of soft tissue around a bone: at its lower end, in its middle, at its upper end, and in addition behind its
middle."""
ROUNDING_MM = 7.0
AROUND_TRUNK_MM = 24.0


def body_around(canvas: LabelCanvas, hull: Mask) -> Mask:
    """The body, bool (z, y, x): the hull and the soft tissue around each bone."""
    bones = canvas.labels > 0
    thickness = np.zeros(bones.shape, np.float32)
    behind = np.zeros(bones.shape, np.float32)
    for value, name in canvas.names.items():
        where = np.nonzero(canvas.labels == value)
        if not where[0].size:
            continue
        low, middle, high, more = next(flesh for pattern, flesh in FLESH.items() if fnmatchcase(name, pattern))
        along = (where[0] - where[0].min()) / max(np.ptp(where[0]), 1)
        thickness[where] = np.interp(along, (0, 0.5, 1), (low, middle, high))
        behind[where] = more * np.interp(along, (0, 0.3, 0.75, 1), (0.1, 0.6, 1, 0.6))
    distance, nearest = distance_transform_edt(~bones, return_indices=True)
    back = (np.arange(bones.shape[1])[None, :, None] - nearest[1]) / np.maximum(distance, 1)
    nearest = tuple(nearest)
    beyond = distance * canvas.spacing - thickness[nearest] - behind[nearest] * np.clip(back, 0, 1)
    del nearest, back, thickness, behind
    around = canvas.distance_to(hull) - AROUND_TRUNK_MM
    surface = np.minimum(beyond, around).astype(np.float32)
    return gaussian_filter(surface, ROUNDING_MM / canvas.spacing, mode="nearest") < 0
