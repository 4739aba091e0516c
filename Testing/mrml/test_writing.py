"""Masks into segments: exactly, within what the Segment Editor allows, with one undo state."""

from dataclasses import replace

import numpy as np
import pytest
import slicer
import slicer.util

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.imaging.volume import Volume
from CTSAM3DLib.mrml import crops
from CTSAM3DLib.mrml.clicks import mask_clicks
from CTSAM3DLib.mrml.crops import Change, Crop
from CTSAM3DLib.mrml.files import read_segmentation_node
from CTSAM3DLib.mrml.frames import image_geometry
from CTSAM3DLib.mrml.labelmaps import cropped_labelmap, segment_mask
from CTSAM3DLib.mrml.writing import LogicSegmentWriter, write_mask
from CTSAM3DLib.output.seg_nrrd import Segment, write_segmentation
from Testing.support.mrml_nodes import add_segmentation, add_volume, bright_boxes, mask_of

SHAPE = (70, 80, 90)


def block(first, size) -> Crop:
    """A filled block of `size` x, y, z from voxel `first`."""
    return Crop(np.ones(size[::-1], np.uint8), first)


def full(*blocks: Crop) -> np.ndarray:
    """The blocks in an array of the whole grid."""
    array = np.zeros(SHAPE, np.uint8)
    for one in blocks:
        array |= one.on((0, 0, 0), SHAPE)
    return array


SMALL = block((40, 30, 20), (5, 4, 3))
LARGE = block((35, 25, 15), (20, 18, 16))


@pytest.fixture
def editor(scene):
    class Editor:
        volume = add_volume(scene, bright_boxes())
        segmentation, (a, b) = add_segmentation(scene, volume, "a", "b")
        writer = LogicSegmentWriter(scene, segmentation, volume)
        node = writer.editor_node

        def write(self, segment_id, crop):
            return write_mask(self.writer, segment_id, crop, {})

        def mask(self, segment_id):
            return mask_of(self.segmentation, segment_id, self.volume)

    made = Editor()
    yield made
    made.writer.close()


def test_a_smaller_mask_leaves_nothing_of_the_larger_one(editor):
    for crop in (LARGE, SMALL, LARGE, Crop.empty(), SMALL):
        editor.write(editor.a, crop)
        assert np.array_equal(editor.mask(editor.a), full(crop))


GRIDS = {
    "shifted": lambda grid: grid.crop((slice(10, 70), slice(12, 80), slice(14, 90))),
    "shifted by a part of a voxel": lambda grid: replace(grid, origin=tuple(np.add(grid.origin, 0.6))),
    "finer": lambda grid: replace(grid, spacing=(0.75,) * 3, shape=tuple(2 * n for n in grid.shape)),
    "coarser": lambda grid: replace(grid, spacing=(3.0,) * 3, shape=tuple(n // 2 for n in grid.shape)),
    "mirrored": lambda grid: replace(
        grid, origin=tuple(grid.to_lps((89, 0, 0))), direction=(1.0, 0, 0, 0, -1, 0, 0, 0, 1)
    ),
}


@pytest.mark.parametrize("confined", [False, True])
@pytest.mark.parametrize("stored", GRIDS.values(), ids=GRIDS)
def test_a_segment_that_is_stored_on_another_grid_leaves_nothing_of_itself(editor, tmp_path, stored, confined):
    editor.node.SetSourceVolumeIntensityMask(confined)
    editor.node.SetSourceVolumeIntensityMaskRange(-2000, 2000)  # everywhere, but asked for
    loaded, beside = load_on(stored(image_geometry(editor.writer.reference_image())), editor, tmp_path)
    before, of_beside = editor.mask(loaded).copy(), editor.mask(beside).copy()
    part = Crop(before[:30], (0, 0, 0))
    for crop in (part, Crop.empty(), SMALL, LARGE):
        editor.write(loaded, crop)
        assert np.array_equal(editor.mask(loaded), full(crop))
        assert np.array_equal(editor.mask(beside), of_beside)
    for _ in range(4):
        editor.writer.undo()
    assert np.array_equal(editor.mask(loaded), before)


def test_without_regridding_slicers_replacement_would_leave_old_voxels(editor, tmp_path):
    """Why `regrid` is there; should Slicer ever mend it, it may go."""
    reference = editor.writer.reference_image()
    loaded, _ = load_on(GRIDS["shifted"](image_geometry(reference)), editor, tmp_path)
    editor.writer.replace(loaded, cropped_labelmap(SMALL, reference))
    assert editor.mask(loaded).sum() > SMALL.voxels.sum()


def test_labelmaps_keep_the_origin_of_the_grid(editor):
    reference = editor.writer.reference_image()
    labelmap = cropped_labelmap(SMALL, reference)
    assert labelmap.GetOrigin() == reference.GetOrigin()
    assert labelmap.GetExtent() == (40, 44, 30, 33, 20, 22)
    assert cropped_labelmap(Crop.empty(), reference).GetScalarRange() == (0, 0)


def load_on(geometry, editor, folder) -> list[str]:
    """Go on with two segments of a file, which share one layer on this grid."""
    z, y, x = geometry.shape
    labels = np.zeros(geometry.shape, np.uint8)
    labels[z // 4 : z // 2, y // 4 : y // 2, x // 3 : x // 2] = 1
    labels[z // 4 : z // 2, y // 4 : y // 2, x // 2 : x // 2 + 8] = 2
    path = folder / "stored.seg.nrrd"
    write_segmentation(Volume(labels, geometry), path, [Segment(str(n), n, (1.0, 0.0, 0.0)) for n in (1, 2)])
    editor.segmentation = read_segmentation_node(editor.volume.GetScene(), path)
    editor.segmentation.SetReferenceImageGeometryParameterFromVolumeNode(editor.volume)
    editor.node.SetAndObserveSegmentationNode(editor.segmentation)
    segmentation = editor.segmentation.GetSegmentation()
    assert segmentation.GetNumberOfLayers() == 1
    return list(segmentation.GetSegmentIDs())


def test_one_prediction_is_one_undo_state(editor):
    before = {"CTSAM3D.Model": "first", "CTSAM3D.Clicks": '[{"position":[1,2,3]}]'}
    after = {"CTSAM3D.Model": "second", "CTSAM3D.Clicks": '[{"position":[1,2,3]},{"position":[4,5,6]}]'}
    segment = editor.segmentation.GetSegmentation().GetSegment
    write_mask(editor.writer, editor.a, LARGE, before)
    write_mask(editor.writer, editor.a, SMALL, after)
    assert mask_clicks(segment(editor.a)) == [Click((1, 2, 3)), Click((4, 5, 6))]
    editor.writer.undo()
    assert np.array_equal(editor.mask(editor.a), full(LARGE))
    assert mask_clicks(segment(editor.a)) == [Click((1, 2, 3))]
    editor.writer.undo()
    assert not editor.mask(editor.a).any()
    assert mask_clicks(segment(editor.a)) == []
    editor.writer.redo()
    editor.writer.redo()
    assert np.array_equal(editor.mask(editor.a), full(SMALL))
    assert mask_clicks(segment(editor.a)) == [Click((1, 2, 3)), Click((4, 5, 6))]


def test_tags_of_the_last_mask_do_not_outlive_it(editor):
    write_mask(editor.writer, editor.a, LARGE, {"CTSAM3D.Model": "m", "CTSAM3D.Reach": "patch"})
    write_mask(editor.writer, editor.a, Crop.empty(), {"CTSAM3D.Model": "m"})
    segment = editor.segmentation.GetSegmentation().GetSegment(editor.a)
    assert segment.HasTag("CTSAM3D.Model")
    assert not segment.HasTag("CTSAM3D.Reach")


@pytest.mark.parametrize("mode", ["OverwriteAllSegments", "OverwriteVisibleSegments", "OverwriteNone"])
@pytest.mark.parametrize("visible", [True, False])
def test_overwrite_modes(editor, mode, visible):
    editor.write(editor.b, LARGE)
    editor.segmentation.GetDisplayNode().SetSegmentVisibility(editor.b, visible)
    editor.node.SetOverwriteMode(getattr(editor.node, mode))
    editor.write(editor.a, SMALL)
    takes = mode == "OverwriteAllSegments" or (mode == "OverwriteVisibleSegments" and visible)
    assert np.array_equal(editor.mask(editor.a), full(SMALL))
    assert np.array_equal(editor.mask(editor.b), full(LARGE) - (full(SMALL) if takes else 0))


def test_the_change_is_what_the_editable_area_left_of_it(editor):
    half = block((35, 25, 15), (20, 18, 8))
    editor.write(editor.b, half)
    editor.node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment)
    editor.node.SetMaskSegmentID(editor.b)
    change = editor.write(editor.a, LARGE)
    assert np.array_equal(editor.mask(editor.a), full(half))
    assert change.added_ml == pytest.approx(half.voxels.sum() * 1.5**3 / 1000)
    assert change.removed_ml == 0
    assert np.array_equal(change.added.on((0, 0, 0), SHAPE), full(half))


def test_the_change_tells_what_was_taken_away(editor):
    editor.write(editor.a, LARGE)
    change = editor.write(editor.a, SMALL)
    assert np.array_equal(change.removed.on((0, 0, 0), SHAPE), full(LARGE) - full(SMALL))
    assert change.removed_ml == pytest.approx((LARGE.voxels.sum() - SMALL.voxels.sum()) * 1.5**3 / 1000)
    assert change.added_ml == 0
    editor.write(editor.b, LARGE)
    editor.node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment)
    editor.node.SetMaskSegmentID(editor.a)
    change = editor.write(editor.b, Crop.empty())
    assert np.array_equal(change.removed.on((0, 0, 0), SHAPE), full(SMALL))
    assert np.array_equal(editor.mask(editor.b), full(LARGE) - full(SMALL))


def test_a_segment_that_is_its_own_editable_area_is_replaced_within_itself(editor):
    editor.write(editor.a, LARGE)
    editor.node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedInsideAllSegments)
    beyond = block((45, 35, 25), (40, 30, 20))
    editor.write(editor.a, beyond)
    assert np.array_equal(editor.mask(editor.a), full(LARGE) & full(beyond))


MASKS = slicer.vtkMRMLSegmentationNode
EDITABLE = {
    "everywhere": lambda node: None,
    "inside all": lambda node: node.SetMaskMode(MASKS.EditAllowedInsideAllSegments),
    "inside visible": lambda node: node.SetMaskMode(MASKS.EditAllowedInsideVisibleSegments),
    "inside one": lambda node: node.SetMaskMode(MASKS.EditAllowedInsideSingleSegment),
    "outside all": lambda node: node.SetMaskMode(MASKS.EditAllowedOutsideAllSegments),
    "outside visible": lambda node: node.SetMaskMode(MASKS.EditAllowedOutsideVisibleSegments),
    "intensity": lambda node: node.SetSourceVolumeIntensityMask(True),
    "inside one, and intensity": lambda node: (
        node.SetMaskMode(MASKS.EditAllowedInsideSingleSegment),
        node.SetSourceVolumeIntensityMask(True),
    ),
}


@pytest.mark.parametrize("visible", [True, False])
@pytest.mark.parametrize("confine", EDITABLE.values(), ids=EDITABLE)
def test_the_editable_area_is_what_slicers_own_replacement_of_the_whole_grid_makes_of_it(editor, confine, visible):
    area, old, new = block((30, 25, 10), (15, 20, 15)), LARGE, block((38, 22, 12), (15, 15, 15))
    editor.write(editor.a, area)
    editor.write(editor.b, old)
    editor.segmentation.GetDisplayNode().SetSegmentVisibility(editor.a, visible)
    editor.node.SetSourceVolumeIntensityMaskRange(500, 900)
    editor.node.SetMaskSegmentID(editor.a)
    confine(editor.node)
    editor.write(editor.b, new)  # whichever segment is selected
    ours = editor.mask(editor.b).copy()
    assert np.array_equal(editor.mask(editor.a), full(area))
    assert not editor.node.GetSelectedSegmentID()

    editor.writer.undo()
    assert np.array_equal(editor.mask(editor.b), full(old))
    editor.node.SetSelectedSegmentID(editor.b)
    editor.writer.replace(editor.b, cropped_labelmap(Crop(full(new), (0, 0, 0)), editor.writer.reference_image()))
    assert np.array_equal(editor.mask(editor.b), ours)


def test_a_mask_beyond_the_reference_grid_is_kept_whole(editor):
    beyond = block((-4, -3, -2), (10, 10, 10))
    editor.write(editor.a, beyond)
    crop = segment_mask(editor.segmentation, editor.a, editor.writer.reference_image())
    assert np.array_equal(crop.on(beyond.first, beyond.voxels.shape), beyond.voxels)


def test_keep_the_rest_changes_the_mask_only_near_the_points(editor):
    geometry = image_geometry(editor.writer.reference_image())
    point = tuple(geometry.to_lps((40, 30, 20)))
    kept = crops.keep_rest(LARGE, Crop.empty(), [point], 6.0, geometry, (0, 0, 0)).on((0, 0, 0), SHAPE)
    z, y, x = np.indices(SHAPE)
    near = (x - 40) ** 2 + (y - 30) ** 2 + (z - 20) ** 2 <= (6.0 / 1.5) ** 2
    assert np.array_equal(kept, np.where(near, 0, full(LARGE)))
    grown = crops.keep_rest(Crop.empty(), LARGE, [point], 6.0, geometry, (0, 0, 0)).on((0, 0, 0), SHAPE)
    assert np.array_equal(grown, np.where(near, full(LARGE), 0))
    assert np.array_equal(crops.keep_rest(SMALL, LARGE, [], 6.0, geometry, (0, 0, 0)).on((0, 0, 0), SHAPE), full(SMALL))


def test_a_change_counts_what_came_and_went():
    change = Change.between(LARGE, SMALL, voxel_ml=0.5)
    assert (change.added_ml, change.removed_ml) == (0, (LARGE.voxels.sum() - SMALL.voxels.sum()) * 0.5)
    assert Change.between(Crop.empty(), Crop.empty(), 1.0).added_ml == 0


def test_a_segmentation_without_a_grid_takes_that_of_the_volume(editor, scene):
    fresh = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    with LogicSegmentWriter(scene, fresh, editor.volume) as writer:
        assert image_geometry(writer.reference_image()).shape == SHAPE


def test_nothing_to_take_a_grid_from_is_said(scene):
    fresh = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    with LogicSegmentWriter(scene, fresh, None) as writer, pytest.raises(CTSAM3DError, match="no geometry"):
        writer.reference_image()


def test_closing_takes_the_editor_node_away(editor, scene):
    with LogicSegmentWriter(scene, editor.segmentation, editor.volume) as writer:
        assert writer.editor_node.GetScene() is scene
        assert not writer.editor_node.GetSaveWithScene()
    assert writer.editor_node.GetScene() is None
