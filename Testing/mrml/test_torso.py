"""What a user does in an hour, on a real CT with the bundled model: masks are a function of the clicks."""

import time

import numpy as np
import pytest
import slicer

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.imaging.volume import Volume
from CTSAM3DLib.interaction.prediction_worker import PredictionWorker
from CTSAM3DLib.mrml.clicks import clicks_of, mask_clicks, read_points, write_points
from CTSAM3DLib.mrml.predictor import Failed, SegmentPredictor, Target, Written
from CTSAM3DLib.mrml.writing import LogicSegmentWriter
from Testing.support.data import DATA, needs_data
from Testing.support.mrml_nodes import add_linear_transform, add_segmentation, add_volume, mask_of, rotation
from Testing.support.mrml_scenes import scene_of_slicer

KIDNEY, LIVER = 2, 5

pytestmark = needs_data("ct/torso-3mm.nii.gz", "label/torso-3mm.nii.gz")


@pytest.fixture(scope="module")
def worker():
    from CTSAM3DLib.segmentation.session import Segmenter

    made = PredictionWorker(Segmenter.load)
    yield made
    made.close()


@pytest.fixture(scope="module")
def torso():
    ct = Volume.read(DATA / "ct" / "torso-3mm.nii.gz")
    return ct, Volume.read(DATA / "label" / "torso-3mm.nii.gz").array


class Desk:
    """A scene with the torso under a rotated transform, two segments, a point list, and somebody who clicks."""

    def __init__(self, scene, torso, worker) -> None:
        ct, self.labels = torso
        self.ijk_to_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ ct.geometry.ijk_to_lps
        self.volume = add_volume(scene, ct.array, self.ijk_to_ras, "torso")
        self.volume.SetAndObserveTransformNodeID(add_linear_transform(scene, rotation()).GetID())
        _, (self.liver, self.kidney) = add_segmentation(scene, self.volume, "liver", "kidney")
        self.worker = worker
        self.predictor = SegmentPredictor(worker)
        self.sit_down_at(scene)

    def sit_down_at(self, scene) -> None:
        """Go on with a scene's volume and segmentation."""
        self.volume = scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
        self.segmentation = scene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
        self.points = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "clicks")
        self.writer = LogicSegmentWriter(scene, self.segmentation, self.volume)

    def inside(self, label: int, count: int) -> list[np.ndarray]:
        """World RAS of voxels of a labelled organ, the first in its middle, the others around it."""
        voxels = np.argwhere(self.labels == label)[:, ::-1]
        from_middle = np.linalg.norm(voxels - voxels.mean(axis=0), axis=1)
        order = np.argsort(from_middle)[: len(voxels) // 3]
        chosen = voxels[order[:: max(1, len(order) // count)][:count]]
        local = chosen @ self.ijk_to_ras[:3, :3].T + self.ijk_to_ras[:3, 3]
        return list(local @ rotation()[:3, :3].T + rotation()[:3, 3])

    def show(self, segment_id: str) -> None:
        """Switch to a segment, as the effect does: its clicks become the points."""
        clicks = clicks_of(self.segmentation.GetSegmentation().GetSegment(segment_id))
        write_points(clicks, self.points, self.segmentation)

    def predict(self, segment_id: str) -> Written:
        """The points become the segment's mask."""
        target = Target(self.segmentation, segment_id, self.volume)
        at_once = self.predictor.predict(target, read_points(self.points, self.segmentation), self.writer)
        return at_once or self.answer()

    def answer(self) -> Written:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            self.worker.wait(1)
            for event in self.predictor.poll():
                if isinstance(event, Failed):
                    raise event.error
                if isinstance(event, Written):
                    return event
        raise AssertionError("no answer within a minute")

    def click(self, segment_id: str, world, positive=True) -> Written:
        self.show(segment_id)
        self.points.AddControlPointWorld(*(float(v) for v in world))
        last = self.points.GetNumberOfControlPoints() - 1
        self.points.SetNthControlPointDescription(last, "positive" if positive else "negative")
        return self.predict(segment_id)

    def mask(self, segment_id: str) -> np.ndarray:
        return mask_of(self.segmentation, segment_id, self.volume).copy()

    def clicks(self, segment_id: str) -> list[Click]:
        return mask_clicks(self.segmentation.GetSegmentation().GetSegment(segment_id))

    def close(self) -> None:
        self.predictor.close()
        self.writer.close()


@pytest.fixture
def desk(scene, torso, worker):
    made = Desk(scene, torso, worker)
    yield made
    made.close()


def dice(mask: np.ndarray, truth: np.ndarray) -> float:
    return 2 * np.count_nonzero((mask > 0) & truth) / (np.count_nonzero(mask) + np.count_nonzero(truth))


def test_masks_follow_the_clicks_through_undo_moves_deletions_and_a_reloaded_scene(
    desk, scene, torso, worker, tmp_path
):
    liver, kidney = desk.inside(LIVER, 3), desk.inside(KIDNEY, 2)
    masks: dict[tuple, np.ndarray] = {}

    def remember(segment_id: str) -> np.ndarray:
        """The segment's mask, which has to be the one that these clicks gave before."""
        mask = desk.mask(segment_id)
        assert np.array_equal(mask, masks.setdefault(tuple(desk.clicks(segment_id)), mask))
        return mask

    desk.click(desk.liver, liver[0])
    one_click = remember(desk.liver)
    desk.click(desk.liver, liver[1])
    two_clicks = remember(desk.liver)
    desk.click(desk.kidney, kidney[0])
    of_kidney = remember(desk.kidney)
    assert dice(two_clicks, desk.labels == LIVER) > 0.5  # the points are where the network thinks they are
    assert dice(of_kidney, desk.labels == KIDNEY) > 0.3
    assert np.array_equal(desk.mask(desk.liver), two_clicks)

    desk.writer.undo()  # of the kidney's click
    assert not desk.mask(desk.kidney).any()
    assert desk.clicks(desk.kidney) == []
    desk.writer.redo()
    assert np.array_equal(remember(desk.kidney), of_kidney)

    desk.show(desk.liver)  # switch segments, and take the last click back: a shorter list
    assert desk.points.GetNumberOfControlPoints() == 2
    desk.points.RemoveNthControlPoint(1)
    desk.predict(desk.liver)
    assert np.array_equal(remember(desk.liver), one_click)
    desk.writer.undo()
    assert np.array_equal(remember(desk.liver), two_clicks)

    desk.show(desk.liver)  # move the first click, and back
    desk.points.SetNthControlPointPositionWorld(0, liver[2])
    desk.predict(desk.liver)
    remember(desk.liver)
    desk.points.SetNthControlPointPositionWorld(0, liver[0])
    desk.predict(desk.liver)
    assert np.array_equal(remember(desk.liver), two_clicks)

    desk.points.RemoveNthControlPoint(0)  # delete the first, which leaves the second alone
    desk.predict(desk.liver)
    remember(desk.liver)
    desk.click(desk.kidney, kidney[1], positive=False)
    remember(desk.kidney)
    before = {name: (desk.mask(name), desk.clicks(name)) for name in (desk.liver, desk.kidney)}

    desk.close()
    folder = tmp_path / "scene"
    folder.mkdir()
    assert scene.SaveSceneToSlicerDataBundleDirectory(str(folder), None)
    with scene_of_slicer() as reloaded:
        reloaded.SetURL(str(next(folder.glob("*.mrml"))))
        assert reloaded.Import()
        desk.sit_down_at(reloaded)
        for name, (mask, clicks) in before.items():
            assert np.array_equal(desk.mask(name), mask)
            assert desk.clicks(name) == clicks
        desk.click(desk.liver, liver[0])
        desk.points.RemoveNthControlPoint(1)
        desk.predict(desk.liver)
        assert np.array_equal(remember(desk.liver), before[desk.liver][0])  # predicted anew
        desk.close()


@pytest.mark.parametrize("mode", ["OverwriteAllSegments", "OverwriteVisibleSegments", "OverwriteNone"])
def test_an_earlier_segment_loses_nothing_but_what_the_overwrite_mode_says(desk, mode):
    liver, kidney = desk.inside(LIVER, 2), desk.inside(KIDNEY, 1)
    desk.click(desk.liver, liver[0])
    before = desk.mask(desk.liver)
    editor = desk.writer.editor_node
    editor.SetOverwriteMode(getattr(editor, mode))
    desk.click(desk.kidney, kidney[0])
    desk.click(desk.kidney, liver[1])  # a wrong click, which takes the other segment for the liver too
    assert (desk.mask(desk.kidney) & before).any()
    after = desk.mask(desk.liver)
    taken = np.zeros_like(before) if mode == "OverwriteNone" else desk.mask(desk.kidney)
    assert np.array_equal(after, np.where(taken, 0, before))
    desk.writer.undo()
    desk.writer.undo()
    assert np.array_equal(desk.mask(desk.liver), before)


def test_the_editable_area_is_respected(desk):
    liver = desk.inside(LIVER, 2)
    desk.click(desk.kidney, liver[0])  # some segment that lies where the liver is going to be
    taken = desk.mask(desk.kidney)
    editor = desk.writer.editor_node
    editor.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedOutsideAllSegments)
    desk.click(desk.liver, liver[1])
    outside = desk.mask(desk.liver)
    assert outside.any()
    assert not (outside & taken).any()
    assert np.array_equal(desk.mask(desk.kidney), taken)

    editor.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere)
    editor.SetSourceVolumeIntensityMask(True)
    editor.SetSourceVolumeIntensityMaskRange(20.0, 80.0)
    desk.click(desk.liver, liver[0])
    hu = slicer.util.arrayFromVolume(desk.volume)
    changed = desk.mask(desk.liver) != outside
    assert changed.any()
    assert hu[changed].min() >= 20
    assert hu[changed].max() <= 80
