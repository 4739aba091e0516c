"""Segments' labelmaps as numpy masks on the reference grid, and back."""

from __future__ import annotations

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from vtk.util.numpy_support import vtk_to_numpy

from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.mrml.crops import Crop
from CTSAM3DLib.mrml.frames import image_first, image_geometry

_LABELMAP = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()


def check_labelmaps(segmentation_node: slicer.vtkMRMLSegmentationNode) -> None:
    """Raise CTSAM3DError where the segments are surfaces, say, into which Slicer writes nothing and tells nobody."""
    source = segmentation_node.GetSegmentation().GetSourceRepresentationName()
    if source != _LABELMAP:
        raise CTSAM3DError(
            f"The segments of {segmentation_node.GetName()} are kept as {source}; make {_LABELMAP} their source."
        )


def cropped_labelmap(crop: Crop, reference: slicer.vtkOrientedImageData) -> slicer.vtkOrientedImageData:
    """An unsigned char labelmap on the reference grid with the crop's extent; of an empty crop, a single zero.

    Its origin is the grid's, wherever the crop begins: Slicer takes labelmaps with another origin for another grid.
    """
    if not crop.voxels.size:
        crop = Crop(np.zeros((1, 1, 1), np.uint8), image_first(reference))
    labelmap = slicer.vtkOrientedImageData()
    ends = [(start, start + size - 1) for start, size in zip(crop.first, crop.voxels.shape[::-1], strict=True)]
    labelmap.SetExtent([end for pair in ends for end in pair])
    labelmap.SetOrigin(reference.GetOrigin())
    labelmap.SetSpacing(reference.GetSpacing())
    labelmap.CopyDirections(reference)
    labelmap.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    _voxels(labelmap)[:] = crop.voxels
    labelmap.Modified()
    return labelmap


def segment_mask(
    segmentation_node: slicer.vtkMRMLSegmentationNode, segment_id: str, reference: slicer.vtkOrientedImageData
) -> Crop:
    """The segment's voxels on the reference grid, resampled if they are stored on another one."""
    labelmap = segmentation_node.GetBinaryLabelmapInternalRepresentation(segment_id)
    if labelmap is None or labelmap.IsEmpty():
        return Crop.empty()
    label = segmentation_node.GetSegmentation().GetSegment(segment_id).GetLabelValue()
    if not _on_grid(labelmap, reference):
        labelmap, label = _resampled(segmentation_node, segment_id, reference), 1
    return Crop((_voxels(labelmap) == label).view(np.uint8), image_first(labelmap))


def regrid(
    segmentation_node: slicer.vtkMRMLSegmentationNode, segment_id: str, reference: slicer.vtkOrientedImageData
) -> None:
    """Bring the segment's stored labelmap onto the reference grid if it is on another one.

    Replacing the segment (`Set`) would leave old voxels otherwise. Segments of the same layer stay as they are.
    """
    labelmap = segmentation_node.GetBinaryLabelmapInternalRepresentation(segment_id)
    if labelmap is None or labelmap.IsEmpty() or _on_grid(labelmap, reference):
        return
    resampled = _resampled(segmentation_node, segment_id, reference)
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    logic.SetBinaryLabelmapToSegment(resampled, segmentation_node, segment_id, logic.MODE_REPLACE)


def voxel_ml(reference: slicer.vtkOrientedImageData) -> float:
    """The volume of a voxel of the grid in mL."""
    return float(abs(np.linalg.det(image_geometry(reference).ijk_to_lps[:3, :3]))) / 1000


def _resampled(
    segmentation_node: slicer.vtkMRMLSegmentationNode, segment_id: str, reference: slicer.vtkOrientedImageData
) -> slicer.vtkOrientedImageData:
    own, resampled = slicer.vtkOrientedImageData(), slicer.vtkOrientedImageData()
    segmentation_node.GetBinaryLabelmapRepresentation(segment_id, own)
    resampler = slicer.vtkOrientedImageDataResample
    resampler.ResampleOrientedImageToReferenceOrientedImage(own, reference, resampled, False)
    return resampled


def _on_grid(labelmap: slicer.vtkOrientedImageData, reference: slicer.vtkOrientedImageData) -> bool:
    return bool(slicer.vtkOrientedImageDataResample.DoGeometriesMatch(labelmap, reference))


def _voxels(image: slicer.vtkOrientedImageData) -> NDArray[np.uint8]:
    """The image's own memory, z, y, x."""
    array: NDArray[np.uint8] = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
    return array
