"""What the page gave out, read back."""

from __future__ import annotations

import numpy as np
import slicerio

from CTSAM3DLib.imaging.volume import Volume


def mask_of(path, name: str, ct: Volume) -> np.ndarray:
    """A segment of a .seg.nrrd file on the CT's grid, z, y, x."""
    segmentation = slicerio.read_segmentation(str(path))
    (segment,) = [segment for segment in segmentation["segments"] if segment["name"] == name]
    voxels = segmentation["voxels"]
    layers = voxels if voxels.ndim == 4 else voxels[None]
    mask = (layers[segment.get("layer", 0)] == segment["labelValue"]).transpose(2, 1, 0)
    first = np.rint(ct.geometry.to_ijk(np.asarray(segmentation["ijkToLPS"])[:3, 3])).astype(int)[::-1]
    whole = np.zeros(ct.geometry.shape, bool)
    whole[tuple(slice(start, start + size) for start, size in zip(first, mask.shape, strict=True))] = mask
    return whole


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))
