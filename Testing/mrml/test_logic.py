"""CTSAM3DLogic and the script of docs/batch.md, on nodes of slicer-core."""

import re
import runpy
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.clicks.markups import write_markups
from CTSAM3DLib.errors import Cancelled, ClickError, CTSAM3DError, ModelError
from Testing.host.fixtures import slicer_host as slicer_host
from Testing.support.data import DATA, needs_data
from Testing.support.gated_backend import GatedBackend

ROOT = Path(__file__).parents[2]


@pytest.fixture
def module(slicer_host):
    """CTSAM3D.py, imported as Slicer's scripts import it."""
    import CTSAM3D

    return CTSAM3D


@pytest.fixture
def bench(slicer_host, module):
    """A logic, a CT of two boxes, a segmentation on it, and a backend."""
    from Testing.support.mrml_nodes import add_volume, bright_boxes, mask_of

    class Bench:
        scene = slicer_host.scene
        logic = module.CTSAM3DLogic()
        backend = GatedBackend()
        volume = add_volume(scene, bright_boxes())
        segmentation = logic.addSegmentation(volume)

        def click(self, x, positive=True):
            return self.logic.click(self.segmentation, (x * 1.5, 45.0, 45.0), positive)

        def process(self, segment, clicks, **options):
            return self.logic.process(self.volume, self.segmentation, segment, clicks, self.backend, **options)

        def mask(self, name):
            segment_id = self.segmentation.GetSegmentation().GetSegmentIdBySegmentName(name)
            return mask_of(self.segmentation, segment_id, self.volume)

    return Bench()


def test_the_module_tests_itself(module):
    module.CTSAM3DTest().runTest()


def test_a_segment_is_made_once_and_found_again_by_name_and_id(bench):
    first = bench.process("box", [bench.click(25)], reach="patch")
    assert first.change.added_ml == pytest.approx(bench.mask("box").sum() * 1.5**3 / 1000)
    again = bench.process(first.target.segment_id, [bench.click(25), bench.click(30)], reach="patch")
    assert again.target == first.target
    assert bench.segmentation.GetSegmentation().GetNumberOfSegments() == 1
    assert len(bench.backend.opened) == 1  # the volume stays open
    assert not bench.scene.GetNodesByClass("vtkMRMLSegmentEditorNode").GetNumberOfItems()


def test_masks_of_a_batch_do_not_depend_on_one_another(bench):
    clicks = {"left": [bench.click(25)], "all": [bench.click(25), bench.click(60)]}
    outcomes = bench.logic.processBatch(bench.volume, bench.segmentation, clicks, bench.backend, reach="patch")
    assert list(outcomes) == ["left", "all"]
    assert np.array_equal(bench.mask("left") & bench.mask("all"), bench.mask("left"))
    bench.process("all", clicks["all"], reach="patch", overwriteSegments=True)


def test_overwriting_is_possible_where_it_is_wanted(bench):
    bench.process("first", [bench.click(25)], reach="patch")
    bench.process("second", [bench.click(25)], reach="patch", overwriteSegments=True)
    assert bench.mask("second").any()
    assert not bench.mask("first").any()


def test_one_bad_segment_does_not_keep_the_others_from_their_masks(bench):
    clicks = {"outside": [bench.click(900)], "box": [bench.click(25)]}
    reports = []
    outcomes = bench.logic.processBatch(
        bench.volume, bench.segmentation, clicks, bench.backend, progress=lambda name, result: reports.append(name)
    )
    assert isinstance(outcomes["outside"], ClickError)
    assert outcomes["box"].change.added_ml > 0
    assert set(reports) == {"box"}
    assert bench.segmentation.GetSegmentation().GetNumberOfSegments() == 1  # no empty one is left


def test_a_cancel_ends_a_batch_and_changes_nothing(bench):
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        bench.logic.processBatch(
            bench.volume, bench.segmentation, {"box": [bench.click(25)]}, bench.backend, cancel=cancel
        )
    assert bench.segmentation.GetSegmentation().GetNumberOfSegments() == 0


def test_a_failed_call_leaves_the_mask(bench):
    bench.process("box", [bench.click(25)])
    before = bench.mask("box").copy()
    bench.backend.error = CTSAM3DError("The server is asleep; wake it.")
    with pytest.raises(CTSAM3DError, match="asleep"):
        bench.process("box", [bench.click(25), bench.click(60)])
    assert np.array_equal(bench.mask("box"), before)


def test_models_are_found_by_name(module):
    with pytest.raises(ModelError, match="no model called"):
        module.CTSAM3DLogic().loadSegmenter("nothing")


def test_a_server_gives_the_same_mask(bench):
    from Testing.server.conftest import serving

    bench.process("here", [bench.click(25), bench.click(60, positive=False)])
    with serving() as server:
        there = bench.logic.loadSegmenter(server=server.address)
        clicks = [bench.click(25), bench.click(60, positive=False)]
        bench.logic.process(bench.volume, bench.segmentation, "there", clicks, there)
    assert bench.mask("here").any()
    assert np.array_equal(bench.mask("here"), bench.mask("there"))


def test_the_bundled_model_is_found_by_its_name(module):
    from CTSAM3DLib.checkpoints.bundled import bundled_models

    name = next(iter(bundled_models()))
    assert module.CTSAM3DLogic().loadSegmenter(name).engine.model.info.name == name


def test_clicks_of_a_table_file_are_world_positions(bench, tmp_path):
    path = tmp_path / "clicks.csv"
    path.write_text("segment,r,a,s,sign\nbox,37.5,45,45,+\nbox,90,45,45,-\n")
    for table in (str(path), path):
        clicks = bench.logic.clicksFromTable(table, bench.segmentation)
        assert clicks == {"box": [bench.click(25), bench.click(60, positive=False)]}


def test_clicks_of_points(bench):
    import vtk

    points = bench.scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "list")
    points.AddControlPoint(vtk.vtkVector3d(37.5, 45, 45), "box")
    points.AddControlPoint(vtk.vtkVector3d(90, 45, 45), "-box")
    expected = [bench.click(25), bench.click(60, positive=False)]
    assert bench.logic.clicksFromMarkups(points, bench.segmentation) == expected
    assert bench.logic.clicksByLabel(points, bench.segmentation) == {"box": expected}


@needs_data("ct/torso-3mm.nii.gz", "label/torso-3mm.nii.gz")
def test_the_script_of_the_documentation(slicer_host, module, tmp_path, monkeypatch, capsys):
    """As it stands there; only what desktop Slicer would load and end is done by storage nodes and an exception."""
    import slicer

    from CTSAM3DLib.imaging.volume import Volume
    from CTSAM3DLib.mrml.files import read_segmentation_node

    labels = Volume.read(DATA / "label" / "torso-3mm.nii.gz")
    points = [(name, _middle(labels, value)) for name, value in (("liver", 5), ("kidney", 2))]
    path = tmp_path / "points.mrk.json"
    write_markups(path, [Click(position) for _, position in points])
    text = path.read_text()
    for number, (name, _) in enumerate(points, start=1):
        text = text.replace(f'"label": "+{number}"', f'"label": "{name}"')
    path.write_text(text)
    output = tmp_path / "masks.seg.nrrd"
    script = tmp_path / "segment_points.py"
    script.write_text(re.search(r"```python\n(.*?)```", (ROOT / "docs" / "batch.md").read_text(), re.DOTALL)[1])

    def load(node_class, storage_class):
        def loaded(file):
            node, storage = slicer_host.scene.AddNewNodeByClass(node_class), getattr(slicer, storage_class)()
            storage.SetFileName(str(file))
            assert storage.ReadData(node)
            return node

        return loaded

    monkeypatch.setattr(slicer.util, "loadVolume", load("vtkMRMLScalarVolumeNode", "vtkMRMLVolumeArchetypeStorageNode"))
    monkeypatch.setattr(slicer.util, "loadMarkups", load("vtkMRMLMarkupsFiducialNode", "vtkMRMLMarkupsJsonStorageNode"))
    monkeypatch.setattr(slicer.util, "exit", sys.exit)
    monkeypatch.setattr(sys, "argv", [str(script), str(DATA / "ct" / "torso-3mm.nii.gz"), str(path), str(output)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(script), run_name="__main__")
    said = capsys.readouterr()
    assert end.value.code == 0, said.err
    assert re.fullmatch(r"liver: [\d.]+ mL\nkidney: [\d.]+ mL\n", said.out)
    assert "liver: 1 patches" in said.err
    node = read_segmentation_node(slicer_host.scene, output)
    segmentation = node.GetSegmentation()
    names = [segmentation.GetNthSegment(n).GetName() for n in range(segmentation.GetNumberOfSegments())]
    assert names == ["liver", "kidney"]
    from CTSAM3DLib.mrml.clicks import mask_clicks

    assert mask_clicks(segmentation.GetNthSegment(0)) == [Click(points[0][1])]


def _middle(labels, value):
    """LPS of the labelled voxel that is nearest to the middle of its structure, in whole micrometres."""
    voxels = np.argwhere(labels.array == value)[:, ::-1]
    nearest = voxels[np.argmin(np.linalg.norm(voxels - voxels.mean(axis=0), axis=1))]
    return tuple(round(float(n), 3) for n in labels.geometry.to_lps([nearest])[0])
