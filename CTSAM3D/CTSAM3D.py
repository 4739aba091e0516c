"""CT-SAM3D in Slicer: the visible module with its panel, and `CTSAM3DLogic` for scripts.

The Segment Editor effect is in SegmentEditorCTSAM3DLib; what all of them share is in CTSAM3DLib.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

# CTSAM3DLib is imported where it is used: Slicer imports this file at every start.
if TYPE_CHECKING:
    from CTSAM3DLib.clicks.click import Click
    from CTSAM3DLib.errors import CTSAM3DError
    from CTSAM3DLib.interaction.prediction_worker import Backend
    from CTSAM3DLib.mrml.blocking import BlockingPredictor
    from CTSAM3DLib.mrml.segmenting import Written
    from CTSAM3DLib.segmentation.growth import Reach
    from CTSAM3DLib.segmentation.result import Result


class CTSAM3D(ScriptedLoadableModule):
    """What Slicer shows of the module before it is opened."""

    def __init__(self, parent) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "CT-SAM3D"
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = ["Segmentations", "Markups"]
        parent.contributors = ["The CT-SAM3D extension developers"]
        parent.helpText = _(
            "Models, servers and batches for segmenting any structure in a CT by clicking on it. "
            "To click, use the CT-SAM3D effect of the Segment Editor. Not a medical device."
        )
        parent.acknowledgementText = _(
            "The network is that of H. Guo et al., Towards a Comprehensive, Efficient and Promptable Anatomic "
            "Structure Segmentation Model using 3D Whole-body CT Scans."
        )
        slicer.app.connect("startupCompleted()", self.registerSampleData)

    def registerSampleData(self) -> None:
        """Offer CTs for a first try, once the module Sample Data is there."""
        from CTSAM3DWidgets.SampleCTs import registerSampleCTs

        registerSampleCTs(self.resourcePath("Icons/CTSAM3D.png"))


# The panel


class CTSAM3DWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The module's panel: sections, each of them in a file of CTSAM3DWidgets."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None

    def setup(self) -> None:
        """Build the sections; nothing is installed, started or asked of a network here."""
        ScriptedLoadableModuleWidget.setup(self)
        from CTSAM3DWidgets.Backends import applicationBackends
        from CTSAM3DWidgets.BatchSection import BatchSection
        from CTSAM3DWidgets.ComputerSection import ComputerSection
        from CTSAM3DWidgets.FormWidgets import button
        from CTSAM3DWidgets.ModelsSection import ModelsSection
        from CTSAM3DWidgets.ServersSection import ServersSection

        self.logic = CTSAM3DLogic()
        backends = applicationBackends()
        store = backends.store()
        self.editorButton = button(
            "OpenSegmentEditor",
            _("Open the Segment Editor"),
            _("To segment by clicking, choose the effect CT-SAM3D there."),
        )
        self.editorButton.connect("clicked()", self.onOpenSegmentEditor)
        self.layout.addWidget(self.editorButton)
        self.batch = BatchSection(self.layout, backends, self.logic)
        self.models = ModelsSection(self.layout, store)
        self.computer = ComputerSection(self.layout, backends.requirements, backends.computer, store)
        self.servers = ServersSection(self.layout, backends.settings, backends.requirements)
        self.layout.addStretch(1)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, lambda caller, event: self.batch.sceneCloses())

    def enter(self) -> None:
        """The panel is shown."""
        self.models.refresh()
        self.computer.enter()
        self.servers.refresh()
        self.batch.enter()

    def onOpenSegmentEditor(self) -> None:
        """Go to where clicks are made."""
        slicer.util.selectModule("SegmentEditor")

    def exit(self) -> None:
        """Another module is shown."""
        self.computer.exit()

    def cleanup(self) -> None:
        """The panel goes, at the end of the application or for a reload."""
        self.removeObservers()
        for part in (self.batch, self.models, self.computer, self.servers):
            part.close()


class CTSAM3DLogic(ScriptedLoadableModuleLogic):
    """CT-SAM3D for scripts, with and without Slicer's window: exceptions instead of dialogs, and no Qt.

    Everything that can be wrong is raised as a CTSAM3DError whose text is one sentence for the user. Calls return when
    the masks are written; `cancel` takes a `threading.Event`.
    """

    def __init__(self, scene=None) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        self.scene = slicer.mrmlScene if scene is None else scene
        self._predictor: BlockingPredictor | None = None

    def loadSegmenter(
        self,
        model: str | None = None,
        weights: str | None = None,
        device: str | None = None,
        server: str | None = None,
        key: str | None = None,
        caFile: str | None = None,
    ) -> Backend:
        """A model on this computer, which needs PyTorch, or one behind a server's address. Raises CTSAM3DError.

        `model` is bundled, the user's (`checkpoints.model_store`) or the server's; `weights` is a file instead.
        `key` and `caFile` are the server's, as `CTSAM3DLib.connect` takes them.
        """
        if server is not None:
            from CTSAM3DLib import connect

            return connect(server, key, caFile, model)
        from CTSAM3DLib import Segmenter
        from CTSAM3DLib.checkpoints.model_store import ModelStore

        if model is not None and weights is None:
            weights = str(ModelStore().find(model).path)
        return Segmenter.load(weights=weights, device=device)

    def addSegmentation(self, volumeNode, name: str = "CT-SAM3D"):
        """A new segmentation on the volume's grid and under its parent transform."""
        segmentationNode = self.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
        segmentationNode.CreateDefaultDisplayNodes()
        segmentationNode.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())  # before the grid is taken over
        segmentationNode.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
        return segmentationNode

    def click(self, segmentationNode, positionRAS: Sequence[float], positive: bool = True) -> Click:
        """A click at a position in world RAS, mm."""
        from CTSAM3DLib.clicks.click import Click
        from CTSAM3DLib.mrml.frames import to_local

        return Click(to_local(positionRAS, segmentationNode), positive)

    def clicksFromMarkups(self, markupsNode, segmentationNode) -> list[Click]:
        """All placed points of a list, as clicks at one segment; "-…" and "neg…" points are negative."""
        from CTSAM3DLib.mrml.clicks import read_points

        return read_points(markupsNode, segmentationNode)

    def clicksByLabel(self, markupsNode, segmentationNode) -> dict[str, list[Click]]:
        """The placed points of a list by the segment that their labels name: "liver", "-liver"."""
        from CTSAM3DLib.mrml.clicks import read_labelled_points

        return read_labelled_points(markupsNode, segmentationNode)

    def clicksFromTable(self, table, segmentationNode) -> dict[str, list[Click]]:
        """Clicks by segment out of a .csv or .tsv file or a table node, with positions in world mm.

        Columns: segment, r, a, s (or l, p, s), and perhaps sign.
        """
        from CTSAM3DLib.clicks.tables import read_table
        from CTSAM3DLib.mrml.clicks import read_table_node, world_to_local

        if isinstance(table, (str, os.PathLike)):
            return world_to_local(read_table(table), segmentationNode)
        return read_table_node(table, segmentationNode)

    def process(
        self,
        volumeNode,
        segmentationNode,
        segment: str,
        clicks: Sequence[Click],
        segmenter: Backend | None = None,
        reach: Reach = "structure",
        keepRadiusMm: float | None = None,
        overwriteSegments: bool = False,
        progress: Callable[[Result], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> Written:
        """Give a segment the mask of these clicks; returns the result and what has changed.

        `segment` is an id or a name; where there is none of this name it is made. `segmenter` is what `loadSegmenter`
        gives, the bundled model by default. Other segments stay as they are unless `overwriteSegments`. With
        `keepRadiusMm` the mask changes only so near to clicks that were added, moved or removed since the last time.
        Raises CTSAM3DError, and Cancelled among them, with nothing changed.
        """
        from CTSAM3DLib.mrml.segmenting import Target
        from CTSAM3DLib.mrml.writing import LogicSegmentWriter

        predictor = self._predictorOf(segmenter)
        segmentation = segmentationNode.GetSegmentation()
        segmentId = segment if segmentation.GetSegment(segment) else segmentation.GetSegmentIdBySegmentName(segment)
        isNew = not segmentId
        if isNew:
            segmentId = segmentation.AddEmptySegment("", segment)
        try:
            with LogicSegmentWriter(self.scene, segmentationNode, volumeNode) as writer:
                if overwriteSegments:
                    writer.editor_node.SetOverwriteMode(writer.editor_node.OverwriteAllSegments)
                target = Target(segmentationNode, segmentId, volumeNode)
                return predictor.predict(target, clicks, writer, reach, keepRadiusMm, progress, cancel)
        except Exception:  # whatever it was, it goes on to the caller; only the empty segment is taken away again
            if isNew:
                segmentation.RemoveSegment(segmentId)
            raise

    def processBatch(
        self,
        volumeNode,
        segmentationNode,
        clicksBySegment: Mapping[str, Sequence[Click]],
        segmenter: Backend | None = None,
        reach: Reach = "structure",
        progress: Callable[[str, Result], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> dict[str, Written | CTSAM3DError]:
        """`process` for one segment after another; each name with what was written, or with what was wrong.

        What is wrong with one segment does not keep the others from their masks. Raises Cancelled.
        """
        from CTSAM3DLib.errors import Cancelled, CTSAM3DError

        outcomes: dict[str, Written | CTSAM3DError] = {}
        for name, clicks in clicksBySegment.items():
            report = None if progress is None else functools.partial(progress, name)
            try:
                outcomes[name] = self.process(
                    volumeNode, segmentationNode, name, clicks, segmenter, reach, progress=report, cancel=cancel
                )
            except Cancelled:
                raise
            except CTSAM3DError as error:
                outcomes[name] = error
        return outcomes

    def saveSegmentation(self, segmentationNode, path: str | os.PathLike[str]) -> None:
        """Write a .seg.nrrd file, whole or not at all. Raises CTSAM3DError."""
        from CTSAM3DLib.mrml.files import write_segmentation_node

        write_segmentation_node(segmentationNode, path)

    def _predictorOf(self, segmenter: Backend | None) -> BlockingPredictor:
        """The predictor of the last segmenter, whose last volume is still open, or a new one."""
        from CTSAM3DLib.mrml.blocking import BlockingPredictor

        if self._predictor is None or (segmenter is not None and segmenter is not self._predictor.backend):
            self._predictor = BlockingPredictor(segmenter or self.loadSegmenter())
        return self._predictor


class CTSAM3DTest(ScriptedLoadableModuleTest):
    """Checks of an installed module by Slicer's own test run; they need neither torch nor a network."""

    def setUp(self) -> None:
        """Begin with an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        """Run all checks."""
        self.setUp()
        self.test_clickBecomesSegment()

    def test_clickBecomesSegment(self) -> None:
        """A bright block of a made-up CT, clicked through the logic, with a threshold in the place of the network."""
        from CTSAM3DLib.mrml.clicks import mask_clicks

        voxels = np.full((40, 50, 60), -1000, np.int16)
        voxels[10:30, 10:30, 10:30] = 500
        volumeNode = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
        slicer.util.updateVolumeFromArray(volumeNode, voxels)
        logic = CTSAM3DLogic()
        segmentationNode = logic.addSegmentation(volumeNode)
        clicks = [logic.click(segmentationNode, (20.0, 20.0, 20.0))]
        written = logic.process(volumeNode, segmentationNode, "block", clicks, _BrightVoxels())
        self.assertAlmostEqual(written.change.added_ml, 8.0)
        segmentation = segmentationNode.GetSegmentation()
        self.assertEqual(mask_clicks(segmentation.GetSegment(written.target.segment_id)), clicks)
        self.delayDisplay("A click became a segment.")


class _BrightVoxels:
    """In the place of a segmenter: all bright voxels of the patch around the first click, on a grid of 1 mm."""

    def open(self, volume):
        from CTSAM3DLib.segmentation.patch_grid import TileSampler

        self._source = TileSampler(volume, spacing=1.0)
        self._geometry = volume.geometry
        return self

    def segment(self, clicks, reach="structure", progress=None, cancel=None) -> Result:
        from CTSAM3DLib.checkpoints.model_info import ModelInfo
        from CTSAM3DLib.segmentation.canvas import Canvas
        from CTSAM3DLib.segmentation.growth import Patch
        from CTSAM3DLib.segmentation.result import Result

        x, y, z = (int(v) - 32 for v in self._source.grid.to_voxels(clicks[0].position))
        bright = self._source.patch((z, y, x)) > 0
        return Result(
            clicks=tuple(clicks),
            reach=reach,
            model=ModelInfo("bright voxels", (-1000.0, 1000.0), 1.0),
            model_hash="",
            quality=1.0,
            patches=(Patch((z, y, x), 0),),
            final=True,
            canvas=Canvas().write((z, y, x), np.where(bright, 255, 1).astype(np.uint8)),
            grid=self._source.grid,
            geometry=self._geometry,
        )
