"""Nodes for tests: small CTs, segmentations on them, transforms, points."""

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

SPACING = (1.5, 1.5, 1.5)


def bright_boxes(shape=(70, 80, 90)) -> np.ndarray:
    """Soft tissue with two bright boxes that do not touch, HU, z, y, x."""
    array = np.zeros(shape, np.int16)
    array[0] = -1000
    array[20:40, 20:40, 15:35] = 800
    array[20:40, 20:40, 55:75] = 800
    return array


def add_volume(scene, array, ijk_to_ras=None, name="ct"):
    """A volume node with a copy of the voxels (z, y, x), or with components last."""
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    image = vtk.vtkImageData()
    image.SetDimensions(array.shape[2::-1])
    components = 1 if array.ndim == 3 else array.shape[3]
    scalars = numpy_to_vtk(np.ascontiguousarray(array).reshape(-1, components), deep=True)
    image.GetPointData().SetScalars(scalars)
    node.SetAndObserveImageData(image)
    matrix = np.diag([*SPACING, 1.0]) if ijk_to_ras is None else np.asarray(ijk_to_ras)
    node.SetIJKToRASMatrix(vtk_matrix(matrix))
    return node


def add_segmentation(scene, volume_node, *names):
    """A segmentation on the volume's grid, under its transform, with empty segments; and the segments' ids."""
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "segmentation")
    node.CreateDefaultDisplayNodes()
    node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())  # first: the geometry is kept in its frame
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
    return node, [node.GetSegmentation().AddEmptySegment(name, name) for name in names]


def add_linear_transform(scene, matrix):
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "transform")
    node.SetMatrixTransformToParent(vtk_matrix(matrix))
    return node


def rotation(degrees=(20.0, -35.0, 50.0), translation=(30.0, -20.0, 15.0)):
    """A rotation about all three axes, with a translation, 4x4."""
    transform = vtk.vtkTransform()
    transform.Translate(translation)
    for angle, rotate in zip(degrees, (transform.RotateX, transform.RotateY, transform.RotateZ), strict=True):
        rotate(angle)
    matrix = transform.GetMatrix()
    return np.array([[matrix.GetElement(i, j) for j in range(4)] for i in range(4)])


def add_bending_transform(scene, size=4.0):
    """A transform that bends space smoothly by up to `size` mm: a thin-plate spline."""
    corners = np.array([[x, y, z] for x in (0, 130.0) for y in (0, 120.0) for z in (0, 100.0)])
    moved = corners + size * np.sin(corners[:, ::-1] + 1)
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    for corner, there in zip(corners, moved, strict=True):
        source.InsertNextPoint(corner)
        target.InsertNextPoint(there)
    spline = vtk.vtkThinPlateSplineTransform()
    spline.SetBasisToR()
    spline.SetSourceLandmarks(source)
    spline.SetTargetLandmarks(target)
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode", "bending")
    node.SetAndObserveTransformToParent(spline)
    return node


def mask_of(segmentation_node, segment_id, volume_node):
    """The segment on the volume's grid, 0 or 1, z, y, x, by Slicer's own export."""
    return slicer.util.arrayFromSegmentBinaryLabelmap(segmentation_node, segment_id, volume_node)


def vtk_matrix(matrix):
    made = vtk.vtkMatrix4x4()
    for i in range(4):
        for j in range(4):
            made.SetElement(i, j, float(matrix[i][j]))
    return made
