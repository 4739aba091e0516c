"""A library Volume as a volume node, and a volume node as a library Volume in the segmentation's local frame."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from CTSAM3DLib.errors import VolumeError
from CTSAM3DLib.imaging.constants import AIR_HU
from CTSAM3DLib.imaging.volume import Volume
from CTSAM3DLib.mrml import frames


def add_volume_node(scene: slicer.vtkMRMLScene, volume: Volume, name: str) -> slicer.vtkMRMLScalarVolumeNode:
    """Add a library Volume (LPS of the world) to a scene, with its voxels copied."""
    image = vtk.vtkImageData()
    image.SetDimensions(volume.array.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(volume.array).ravel(), deep=True))
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    node.SetAndObserveImageData(image)
    node.SetIJKToRASMatrix(frames.ras_matrix(volume.geometry))
    return node


def volume_in_segmentation(
    volume_node: slicer.vtkMRMLScalarVolumeNode,
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    reference: slicer.vtkOrientedImageData,
) -> Volume:
    """The CT as it lies in the segmentation's local frame (LPS).

    Linear transforms go into the geometry, and the voxels are the node's own memory, not a copy; a later change of
    the node's voxels shows in them. Where a transform between the two nodes is not linear, the CT is resampled onto
    `reference`, as the Segment Editor does. Of several components the first is taken. Raises VolumeError.
    """
    image = _image(volume_node)
    general, matrix = frames.transform_between(
        volume_node.GetParentTransformNode(), segmentation_node.GetParentTransformNode()
    )
    if matrix is None:
        return _resampled(volume_node, general, reference)
    array = _voxels(image)
    return Volume(array, frames.geometry_of_matrix(array.shape, matrix @ _ijk_to_ras(volume_node)))


def volume_key(
    volume_node: slicer.vtkMRMLScalarVolumeNode,
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    reference: slicer.vtkOrientedImageData,
) -> Hashable:
    """What `volume_in_segmentation` depends on; equal keys within one process mean equal volumes.

    VTK counts modification times over all objects, so that of the image tells another image as well as other voxels.
    """
    image = _image(volume_node)
    parents = volume_node.GetParentTransformNode(), segmentation_node.GetParentTransformNode()
    _, matrix = frames.transform_between(*parents)
    key = (volume_node.GetID(), image.GetMTime(), _ijk_to_ras(volume_node).tobytes())
    if matrix is not None:
        return (*key, matrix.tobytes())
    times = tuple(parent.GetTransformToWorldMTime() if parent else 0 for parent in parents)
    return (*key, times, frames.image_geometry(reference))


def _image(volume_node: slicer.vtkMRMLScalarVolumeNode) -> vtk.vtkImageData:
    if not isinstance(volume_node, slicer.vtkMRMLScalarVolumeNode):
        raise VolumeError("There is no volume to segment; choose a CT as the source volume.")
    if isinstance(volume_node, slicer.vtkMRMLLabelMapVolumeNode):
        raise VolumeError(f"{volume_node.GetName()} is a label map; choose a CT as the source volume.")
    image = volume_node.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None:
        raise VolumeError(f"The volume {volume_node.GetName()} holds no voxels; load it again.")
    return image


def _voxels(image: vtk.vtkImageData) -> NDArray[np.generic]:
    """The first component, (z, y, x), in the image's own memory, which the array keeps alive."""
    scalars = vtk_to_numpy(image.GetPointData().GetScalars())
    array: NDArray[np.generic] = scalars.reshape(*image.GetDimensions()[::-1], -1)[..., 0]
    return array


def _ijk_to_ras(volume_node: slicer.vtkMRMLScalarVolumeNode) -> NDArray[np.float64]:
    matrix = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(matrix)
    return frames.matrix_array(matrix)


def _resampled(
    volume_node: slicer.vtkMRMLScalarVolumeNode,
    to_local: vtk.vtkGeneralTransform,
    reference: slicer.vtkOrientedImageData,
) -> Volume:
    oriented = slicer.vtkOrientedImageData()
    oriented.ShallowCopy(volume_node.GetImageData())
    matrix = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(matrix)
    oriented.SetGeometryFromImageToWorldMatrix(matrix)
    resampled = slicer.vtkOrientedImageData()
    if not slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(
        oriented, reference, resampled, True, False, to_local, AIR_HU
    ):
        raise VolumeError(f"The volume {volume_node.GetName()} cannot be resampled through its transform; harden it.")
    return Volume(_voxels(resampled), frames.image_geometry(resampled))
