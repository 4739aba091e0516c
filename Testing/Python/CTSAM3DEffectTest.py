"""Run by ctest inside Slicer: clicks in a slice view through the Segment Editor effect. No torch, no network.

A threshold stands in for the network, as in the module's self test.
"""

import time
import unittest

import numpy as np
import slicer
import vtk

import CTSAM3D

INSIDE = (20.0, 20.0, 20.0)
"""RAS in mm, in the bright block."""
BLOCK_VOXELS = 20**3
SECONDS = 30


class BrightBackends:
    """In the place of the effect's choice of computers and models."""

    def choices(self):
        return [("This computer", "This computer")]

    def models(self, address):
        return ["bright voxels"]

    def ready(self, address, model):
        return self

    def load(self):
        return CTSAM3D._BrightVoxels()

    def progress(self):
        return ""


class CTSAM3DEffectTest(unittest.TestCase):
    """The effect in a Segment Editor of its own, over a made-up CT with a bright block."""

    def setUp(self):
        slicer.mrmlScene.Clear()
        voxels = np.full((40, 50, 60), -1000, np.int16)
        voxels[10:30, 10:30, 10:30] = 500
        self.volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
        self.volume.CreateDefaultDisplayNodes()
        slicer.util.updateVolumeFromArray(self.volume, voxels)
        self.segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Segmentation")
        self.segmentation.CreateDefaultDisplayNodes()
        self.segmentation.SetReferenceImageGeometryParameterFromVolumeNode(self.volume)
        self.segmentID = self.segmentation.GetSegmentation().AddEmptySegment("", "block")
        self.editor = slicer.qMRMLSegmentEditorWidget()
        self.editor.setMRMLScene(slicer.mrmlScene)
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
        self.editor.setMRMLSegmentEditorNode(node)
        self.editor.setSegmentationNode(self.segmentation)
        self.editor.setSourceVolumeNode(self.volume)
        self.editor.setCurrentSegmentID(self.segmentID)
        self.editor.setActiveEffectByName("CTSAM3D")
        self.effect = self.editor.activeEffect().self()
        self.effect.backends = BrightBackends()

    def tearDown(self):
        self.editor.setActiveEffectByName("")
        slicer.mrmlScene.Clear()

    def test_a_click_segments_and_undo_takes_it_back(self):
        self.click(INSIDE)
        self.wait()
        self.assertEqual(self.voxels(), BLOCK_VOXELS)
        self.editor.undo()
        self.assertEqual(self.voxels(), 0)
        self.editor.redo()
        self.assertEqual(self.voxels(), BLOCK_VOXELS)

    def test_the_scene_can_be_closed_while_the_effect_is_active(self):
        self.click(INSIDE)
        slicer.mrmlScene.Clear()
        slicer.app.processEvents()
        self.assertFalse(self.effect.driver.busy())
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode"), 0)

    def click(self, ras):
        """Press and release the left button at RAS (mm) in the axial view."""
        sliceWidget = slicer.app.layoutManager().sliceWidget("Red")
        sliceNode = sliceWidget.mrmlSliceNode()
        sliceNode.JumpSliceByOffsetting(*ras)
        rasToXY = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(sliceNode.GetXYToRAS(), rasToXY)
        x, y, _, _ = rasToXY.MultiplyPoint((*ras, 1.0))
        interactor = sliceWidget.sliceView().interactor()
        interactor.SetEventInformation(round(x), round(y))
        interactor.InvokeEvent("LeftButtonPressEvent")
        interactor.InvokeEvent("LeftButtonReleaseEvent")

    def wait(self):
        """Let timers run until the mask is there."""
        end = time.monotonic() + SECONDS
        while self.voxels() == 0 and time.monotonic() < end:
            slicer.app.processEvents()
            time.sleep(0.01)

    def voxels(self):
        """How many voxels the segment has."""
        return int(slicer.util.arrayFromSegmentBinaryLabelmap(self.segmentation, self.segmentID, self.volume).sum())


if __name__ == "__main__":
    unittest.main()
