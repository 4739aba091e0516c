"""Where things lie: the segmentation's local frame, world, and the grid that its labelmaps are written on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer
import vtk
from numpy.typing import ArrayLike, NDArray

from CTSAM3DLib.clicks.click import Position
from CTSAM3DLib.errors import VolumeError
from CTSAM3DLib.imaging.geometry import Geometry

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SAME_GRID_MM = 1e-3
_DECIMALS = 3
"""Positions that come through a transform are rounded to a micrometre: a trip to world and back changes no mask."""


@dataclass(frozen=True)
class OutputGrid:
    """The grid that a mask is made on: voxel (0, 0, 0) of `geometry` is voxel `first` (i, j, k) of the reference."""

    geometry: Geometry
    first: tuple[int, int, int]


def output_grid(reference: slicer.vtkOrientedImageData, ct: Geometry) -> OutputGrid:
    """The grid of the segmentation's reference image, of which it may be a part, with exact positions.

    Where the reference has the CT's own voxels, the CT's geometry is taken: that of the reference went through text
    and is rounded, which would make a mask depend on whether the scene was saved.
    """
    geometry, first = image_geometry(reference), image_first(reference)
    offset = np.rint(geometry.to_ijk(ct.to_lps((0, 0, 0)))).astype(int)
    last = np.subtract(ct.shape[::-1], 1)
    ends = np.stack([np.zeros(3), last])
    differences = ct.to_lps(ends) - geometry.to_lps(ends + offset)
    same_axes = np.allclose(geometry.ijk_to_lps[:3, :3], ct.ijk_to_lps[:3, :3], atol=1e-4)
    if same_axes and np.all(np.abs(differences) <= _SAME_GRID_MM):
        i, j, k = (int(n) for n in offset + first)
        return OutputGrid(ct, (i, j, k))
    return OutputGrid(geometry, first)


def image_geometry(image: slicer.vtkOrientedImageData) -> Geometry:
    """The grid of an oriented image's extent, in LPS. Raises VolumeError where it holds no voxel."""
    low, high = _extent(image)
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    corner = np.eye(4)
    corner[:3, 3] = low
    x, y, z = (int(n) for n in high - low + 1)
    return geometry_of_matrix((z, y, x), matrix_array(matrix) @ corner)


def image_first(image: slicer.vtkOrientedImageData) -> tuple[int, int, int]:
    """The first voxel (i, j, k) of an image's extent."""
    i, j, k = (int(n) for n in _extent(image)[0])
    return i, j, k


def geometry_of_matrix(shape: tuple[int, int, int], ijk_to_ras: ArrayLike) -> Geometry:
    """The grid of `shape` (z, y, x) with this 4x4 matrix to RAS. Raises VolumeError where it is none."""
    return Geometry.from_matrix(shape, _RAS_TO_LPS @ np.asarray(ijk_to_ras, np.float64))


def ras_matrix(geometry: Geometry) -> vtk.vtkMatrix4x4:
    """The matrix from voxels i, j, k of a grid to RAS mm."""
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy((_RAS_TO_LPS @ geometry.ijk_to_lps).ravel().tolist())
    return matrix


def to_local(world_ras: ArrayLike, segmentation_node: slicer.vtkMRMLSegmentationNode) -> Position:
    """A point in world RAS as LPS mm of the segmentation's local frame, rounded to a micrometre."""
    return _lps(_through(None, segmentation_node.GetParentTransformNode(), world_ras))


def to_world(local_lps: ArrayLike, segmentation_node: slicer.vtkMRMLSegmentationNode) -> tuple[float, float, float]:
    """A point in LPS mm of the segmentation's local frame as world RAS."""
    r, a, s = _through(segmentation_node.GetParentTransformNode(), None, np.multiply(local_lps, (-1, -1, 1)))
    return r, a, s


def transform_between(
    source: slicer.vtkMRMLTransformNode | None, target: slicer.vtkMRMLTransformNode | None
) -> tuple[vtk.vtkGeneralTransform, NDArray[np.float64] | None]:
    """The transform from below one parent transform (None: world) to below another, and its 4x4 matrix if linear."""
    general = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(source, target, general)
    linear = vtk.vtkTransform()
    if not slicer.vtkMRMLTransformNode.IsGeneralTransformLinear(general, linear):
        return general, None
    return general, matrix_array(linear.GetMatrix())


def matrix_array(matrix: vtk.vtkMatrix4x4) -> NDArray[np.float64]:
    """A VTK matrix as an array (4, 4)."""
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def _extent(image: slicer.vtkOrientedImageData | None) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    extent = np.reshape((0, -1) * 3 if image is None else image.GetExtent(), (3, 2))
    if np.any(extent[:, 1] < extent[:, 0]):
        raise VolumeError("The segmentation has no reference geometry yet; choose its source volume first.")
    return extent[:, 0], extent[:, 1]


def _through(
    source: slicer.vtkMRMLTransformNode | None, target: slicer.vtkMRMLTransformNode | None, point: ArrayLike
) -> tuple[float, float, float]:
    general, _ = transform_between(source, target)
    x, y, z = general.TransformPoint([float(v) for v in np.asarray(point)])
    return x, y, z


def _lps(ras: tuple[float, float, float]) -> Position:
    r, a, s = (round(v, _DECIMALS) + 0.0 for v in ras)
    return -r + 0.0, -a + 0.0, s  # adding 0.0 turns -0.0, which equals 0.0 but is written otherwise
