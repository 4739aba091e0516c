"""Read labels that a person corrected in 3D Slicer or another tool."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
import slicerio

from CTSAM3DLib.imaging.geometry import Geometry
from CTSAM3DLib.imaging.resampling import as_image
from CTSAM3DLib.imaging.volume import Volume
from training import anatomy
from training.curation.defects import Defect, blaming
from training.data.datasets.records import read_labels

ENDING = ".seg.nrrd"
_VALUES = {name: value for value, name in anatomy.EXTENDED.items()}


def read_corrected(path: Path, reference: Volume) -> Volume:
    """Return corrected labels (uint8, values of `anatomy.EXTENDED`) on the grid of a reference.

    A .seg.nrrd is read by the names of its segments, whatever values and layers Slicer gave them; where segments
    overlap, the later wins. Any other file is a label map that has the values already. Raises Defect.
    """
    if not path.is_file():
        raise Defect(f"{path} does not exist; check its name.", str(path))
    labels = _by_name(path, reference.geometry) if path.name.lower().endswith(ENDING) else _by_value(path, reference)
    if unknown := sorted(set(np.unique(labels).tolist()) - {0, *anatomy.EXTENDED}):
        raise Defect(f"{path} holds the values {unknown}, which are no labels of TotalSeg++; renumber them.", str(path))
    return Volume(labels.astype(np.uint8), reference.geometry, reference.name)


def _by_value(path: Path, reference: Volume) -> np.ndarray:
    with blaming(path):
        return read_labels(path, reference).array


def _by_name(path: Path, grid: Geometry) -> np.ndarray:
    try:
        segmentation = slicerio.read_segmentation(str(path))
        segments = segmentation["segments"]
        voxels = segmentation["voxels"]
    except Exception as error:  # slicerio and pynrrd raise whatever a broken file leads them to
        raise Defect(f"{path} is no segmentation that can be read; save it again from Slicer.", str(path)) from error
    if strange := sorted({segment["name"] for segment in segments} - set(_VALUES)):
        raise Defect(
            f"{path} has segments that TotalSeg++ does not know ({', '.join(strange)}); rename or delete them.",
            str(path),
        )
    layers = voxels[None] if voxels.ndim == 3 else voxels
    labels = np.zeros(layers.shape[1:], np.uint8)
    for segment in segments:
        labels[layers[segment.get("layer", 0)] == segment["labelValue"]] = _VALUES[segment["name"]]
    own = Geometry.from_matrix(labels.shape[::-1], segmentation["ijkToLPS"])
    return _on(grid, np.ascontiguousarray(labels.transpose(2, 1, 0)), own, path)


def _on(grid: Geometry, labels: np.ndarray, own: Geometry, path: Path) -> np.ndarray:
    """Place a label map that Slicer cropped to its non-empty part on the full grid."""
    if own.is_close(grid):
        return labels
    first = grid.to_ijk([own.origin])[0]
    fits = np.allclose(first, np.rint(first), atol=0.05) and np.allclose(own.spacing, grid.spacing, rtol=1e-3)
    if not fits or not np.allclose(own.direction, grid.direction, atol=1e-3):
        raise Defect(f"{path} lies on another grid than its CT; save it with the CT as source geometry.", str(path))
    placed = sitk.Resample(
        as_image(labels, own),
        as_image(np.zeros(grid.shape, np.uint8), grid),
        sitk.Transform(),
        sitk.sitkNearestNeighbor,
    )
    return sitk.GetArrayFromImage(placed)
