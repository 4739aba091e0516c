"""Volume nodes as library volumes: where every voxel lies, whatever transforms are above."""

import numpy as np
import pytest
import slicer
import vtk

from CTSAM3DLib.errors import VolumeError
from CTSAM3DLib.mrml.frames import image_geometry, output_grid, to_local, to_world
from CTSAM3DLib.mrml.volumes import volume_in_segmentation, volume_key
from CTSAM3DLib.mrml.writing import LogicSegmentWriter
from Testing.support.mrml_nodes import (
    add_bending_transform,
    add_linear_transform,
    add_segmentation,
    add_volume,
    bright_boxes,
    rotation,
    vtk_matrix,
)

OBLIQUE = rotation((5.0, 12.0, -20.0)) @ np.diag([0.8, 0.8, 2.5, 1.0])
VOXEL = (31, 22, 13)


def reference_of(scene, segmentation, volume):
    with LogicSegmentWriter(scene, segmentation, volume) as writer:
        return writer.reference_image()


def world_of_voxel(volume_node, ijk):
    """World RAS by MRML itself."""
    matrix = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(matrix)
    general = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(volume_node.GetParentTransformNode(), None, general)
    return general.TransformPoint(matrix.MultiplyPoint([*(float(n) for n in ijk), 1.0])[:3])


@pytest.mark.parametrize("moved", ["neither", "both", "volume", "segmentation", "apart"])
def test_a_voxel_of_the_library_is_where_slicer_shows_it(scene, moved):
    volume_node = add_volume(scene, bright_boxes(), OBLIQUE)
    first, second = add_linear_transform(scene, rotation()), add_linear_transform(scene, rotation((-70.0, 8.0, 160.0)))
    if moved in ("both", "volume", "apart"):
        volume_node.SetAndObserveTransformNodeID(first.GetID())
    segmentation, _ = add_segmentation(scene, volume_node)
    if moved == "volume":
        segmentation.SetAndObserveTransformNodeID(None)
    if moved in ("segmentation", "apart"):
        segmentation.SetAndObserveTransformNodeID(second.GetID())
    volume = volume_in_segmentation(volume_node, segmentation, reference_of(scene, segmentation, volume_node))
    world = world_of_voxel(volume_node, VOXEL)
    local = volume.geometry.to_lps([VOXEL])[0]
    assert to_world(local, segmentation) == pytest.approx(world, abs=1e-6)
    assert volume.geometry.to_ijk(to_local(world, segmentation)) == pytest.approx(VOXEL, abs=0.01)


def test_the_voxels_are_the_nodes_own_memory(scene):
    volume_node = add_volume(scene, bright_boxes())
    segmentation, _ = add_segmentation(scene, volume_node)
    volume = volume_in_segmentation(volume_node, segmentation, reference_of(scene, segmentation, volume_node))
    assert np.shares_memory(volume.array, slicer.util.arrayFromVolume(volume_node))
    scene.RemoveNode(volume_node)
    del volume_node
    assert volume.array[30, 30, 25] == 800  # the array keeps them alive


def test_under_the_same_transform_the_geometry_is_the_volumes_own_to_the_bit(scene):
    volume_node = add_volume(scene, bright_boxes(), OBLIQUE)
    plain, _ = add_segmentation(scene, volume_node)
    without = volume_in_segmentation(volume_node, plain, reference_of(scene, plain, volume_node))
    volume_node.SetAndObserveTransformNodeID(add_linear_transform(scene, rotation()).GetID())
    turned, _ = add_segmentation(scene, volume_node)
    assert (
        volume_in_segmentation(volume_node, turned, reference_of(scene, turned, volume_node)).geometry
        == without.geometry
    )


def test_a_bent_volume_is_resampled_onto_the_reference_grid(scene):
    volume_node = add_volume(scene, bright_boxes())
    segmentation, _ = add_segmentation(scene, volume_node)
    straight = volume_in_segmentation(volume_node, segmentation, reference_of(scene, segmentation, volume_node))
    bending = add_bending_transform(scene)
    volume_node.SetAndObserveTransformNodeID(bending.GetID())
    reference = reference_of(scene, segmentation, volume_node)
    bent = volume_in_segmentation(volume_node, segmentation, reference)
    assert bent.geometry == image_geometry(reference)
    assert not np.array_equal(bent.array, straight.array)
    for ijk in ((25, 30, 30), (60, 25, 35), (5, 5, 50)):  # well inside and well outside of the boxes
        where = np.rint(bent.geometry.to_ijk(to_local(world_of_voxel(volume_node, ijk), segmentation))).astype(int)
        assert bent.array[tuple(where[::-1])] == straight.array[ijk[::-1]]
    # Both under the same bending transform: nothing is left to resample.
    segmentation.SetAndObserveTransformNodeID(bending.GetID())
    assert np.array_equal(volume_in_segmentation(volume_node, segmentation, reference).array, straight.array)


def test_a_bent_point_comes_back(scene):
    volume_node = add_volume(scene, bright_boxes())
    segmentation, _ = add_segmentation(scene, volume_node)
    segmentation.SetAndObserveTransformNodeID(add_bending_transform(scene).GetID())
    local = (-40.5, -33.25, 51.125)
    assert to_local(to_world(local, segmentation), segmentation) == pytest.approx(local, abs=0.01)


def test_of_several_components_the_first_is_taken(scene):
    array = np.stack([bright_boxes(), np.full_like(bright_boxes(), 7)], axis=-1)
    volume_node = add_volume(scene, array)
    segmentation, _ = add_segmentation(scene, volume_node)
    volume = volume_in_segmentation(volume_node, segmentation, reference_of(scene, segmentation, volume_node))
    assert np.array_equal(volume.array, bright_boxes())


def test_the_key_changes_with_whatever_the_volume_depends_on(scene):
    volume_node = add_volume(scene, bright_boxes())
    segmentation, _ = add_segmentation(scene, volume_node)
    reference = reference_of(scene, segmentation, volume_node)
    bending = add_bending_transform(scene)
    keys = [volume_key(volume_node, segmentation, reference)]

    def differs(change):
        change()
        keys.append(volume_key(volume_node, segmentation, reference))
        assert keys[-1] not in keys[:-1]

    assert volume_key(volume_node, segmentation, reference) == keys[0]
    volume_node.SetName("renamed")
    assert volume_key(volume_node, segmentation, reference) == keys[0]
    differs(lambda: slicer.util.updateVolumeFromArray(volume_node, bright_boxes() + 1))
    differs(lambda: volume_node.SetOrigin(1, 2, 3))
    differs(lambda: volume_node.SetAndObserveTransformNodeID(add_linear_transform(scene, rotation()).GetID()))
    differs(
        lambda: volume_node.GetParentTransformNode().SetMatrixTransformToParent(vtk_matrix(np.eye(4)[[1, 0, 2, 3]]))
    )
    differs(lambda: volume_node.SetAndObserveTransformNodeID(bending.GetID()))
    differs(
        lambda: (
            bending.GetTransformToParent().GetSourceLandmarks().SetPoint(0, 9, 9, 9)
            or bending.GetTransformToParent().Modified()
        )
    )


def test_the_grid_of_masks_is_the_cts_own_where_the_reference_is_a_part_of_it_or_more(scene):
    volume_node = add_volume(scene, bright_boxes(), OBLIQUE)
    segmentation, _ = add_segmentation(scene, volume_node)
    reference = reference_of(scene, segmentation, volume_node)
    ct = volume_in_segmentation(volume_node, segmentation, reference).geometry
    grid = output_grid(reference, ct)
    assert grid.geometry is ct
    assert grid.first == (0, 0, 0)
    moved = slicer.vtkOrientedImageData()
    moved.DeepCopy(reference)
    origin = np.array(ct.to_lps([(-3, -4, -5)])[0]) * (-1, -1, 1)
    moved.SetOrigin(origin)
    moved.SetExtent(2, 100, 0, 90, -1, 80)
    grid = output_grid(moved, ct)
    assert grid.geometry is ct
    assert grid.first == (3, 4, 5)
    moved.SetSpacing(1.0, 1.0, 1.0)
    assert output_grid(moved, ct).geometry == image_geometry(moved)
    assert output_grid(moved, ct).first == (2, 0, -1)


def test_impossible_volumes_are_refused_in_one_sentence(scene):
    ct = add_volume(scene, bright_boxes())
    segmentation, _ = add_segmentation(scene, ct)
    reference = reference_of(scene, segmentation, ct)
    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    labels = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    flat = add_volume(scene, bright_boxes(), np.diag([1.0, 1.0, 1.0, 1.0]))
    flattened = add_linear_transform(scene, np.diag([1.0, 1.0, 0.0, 1.0]))
    flat.SetAndObserveTransformNodeID(flattened.GetID())
    for node, reason in (
        (None, "no volume"),
        (empty, "no voxels"),
        (labels, "label map"),
        (flat, "header|span|positive"),
    ):
        with pytest.raises(VolumeError, match=reason) as refusal:
            volume_in_segmentation(node, segmentation, reference)
        assert str(refusal.value).count(".") >= 1
