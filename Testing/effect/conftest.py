"""The effect in the host: a CT with two bright boxes, a segment, the effect chosen, and a quick network behind it."""

import gc
from dataclasses import dataclass
from typing import Any

import pytest

from Testing.effect.backends import TestBackends
from Testing.host.fixtures import slicer_host  # noqa: F401


@dataclass
class Workplace:
    """What a test of the effect works with."""

    host: Any
    editor: Any
    effect: Any
    """The Python object of the editor's own copy of the effect."""
    volume: Any
    segmentation: Any
    segmentID: str  # noqa: N815 - Slicer's name
    backends: TestBackends

    @property
    def red(self):
        return self.host.app.layoutManager().sliceWidget("Red")

    @property
    def segment(self):
        return self.segmentation.GetSegmentation().GetSegment(self.segmentID)

    def click(self, ras, control=False):
        """A click in the axial view."""
        return self.host.click(self.red, ras, control=control)

    def settle(self, seconds=20.0):
        """Let the application run until no prediction is on its way; then its timers once more."""
        assert self.host.process_events(seconds, until=lambda: not self.effect.driver.busy())
        self.host.process_events(0.05)

    def mask(self, segment_id=None):
        from Testing.support.mrml_nodes import mask_of

        return mask_of(self.segmentation, segment_id or self.segmentID, self.volume)

    def clicks(self, segment_id=None):
        """The clicks of a segment that the user sees."""
        from CTSAM3DLib.mrml.clicks import clicks_of

        return clicks_of(self.segmentation.GetSegmentation().GetSegment(segment_id or self.segmentID))

    def points(self):
        """World position and sign of every point in the views."""
        node = self.effect.points.node
        if node is None or node.GetScene() is None:
            return []
        return [
            (tuple(node.GetNthControlPointPositionWorld(i)), bool(node.GetNthControlPointSelected(i)))
            for i in range(node.GetNumberOfControlPoints())
        ]

    def overlay(self):
        """Names of what is shown over the segments: a growing mask, or what was added and removed."""
        node = self.effect.changeDisplay.node
        if node is None or node.GetScene() is None:
            return []
        segmentation = node.GetSegmentation()
        return [segmentation.GetNthSegment(i).GetName() for i in range(segmentation.GetNumberOfSegments())]

    def status(self):
        return self.effect.panel.statusLabel.text


@pytest.fixture(scope="session", autouse=True)
def imported():
    """Everything heavy is imported once and taken out of the garbage collections that follow every test."""
    import CTSAM3DLib.segmentation.session  # noqa: F401
    import Testing.support.threshold_network  # noqa: F401

    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def registered(slicer_host):  # noqa: F811
    """The host with the effect registered, by its module, as at Slicer's start."""
    from CTSAM3DWidgets.Backends import applicationBackends

    applicationBackends.cache_clear()
    slicer_host.load_module("SegmentEditorCTSAM3D")
    slicer_host.startup_completed()
    return slicer_host


@pytest.fixture
def workplace(registered):
    from Testing.support.mrml_nodes import add_segmentation, add_volume, bright_boxes

    volume = add_volume(registered.scene, bright_boxes())
    segmentation, (segment_id,) = add_segmentation(registered.scene, volume, "box")
    editor = registered.segment_editor()
    editor.setSegmentationNode(segmentation)
    editor.setSourceVolumeNode(volume)
    editor.setCurrentSegmentID(segment_id)
    editor.setActiveEffectByName("CTSAM3D")
    registered.process_events(0.02)
    effect = editor.effectByName("CTSAM3D").self()
    effect.backends = TestBackends()
    return Workplace(registered, editor, effect, volume, segmentation, segment_id, effect.backends)
