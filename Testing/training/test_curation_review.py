"""The review: decisions, corrections that come back from Slicer, the audit log, and that nothing is ever lost."""

import json
import shutil
from datetime import datetime

import numpy as np
import pytest
from typer.testing import CliRunner

from CTSAM3DLib.errors import CTSAM3DError
from CTSAM3DLib.imaging.volume import Geometry, Volume
from CTSAM3DLib.output.seg_nrrd import Segment, write_segmentation
from training import curate as command
from training.anatomy import EXTENDED
from training.curation.audit import AuditLog
from training.curation.case import curate_case
from training.curation.defects import Defect
from training.curation.folder import CuratedFolder, read_csv
from training.curation.merge import MUSCLE, VISCERAL_FAT
from training.curation.review import adopt_decisions, decide, import_corrected, write_dataset, write_queue
from training.curation.tissues import provider_for
from training.data.datasets import read_dataset
from training.data.synthetic_datasets import write_layout

CASE = "s0001"
LIVER = 5


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_layout("totalsegmentator-v1", tmp_path_factory.mktemp("data"), cases=2, spacing=9.0)


@pytest.fixture(scope="module")
def curated(source, tmp_path_factory):
    folder = CuratedFolder(tmp_path_factory.mktemp("curated") / "out")
    folder.prepare()
    provider = provider_for(f"{source}-tissues")
    for record in read_dataset(source):
        curate_case(record, folder.root, provider)
    command.write_all(folder)
    return folder


@pytest.fixture
def folder(curated, tmp_path):
    shutil.copytree(curated.root, tmp_path / "out")
    return CuratedFolder(tmp_path / "out")


@pytest.fixture
def corrected(folder):
    """The labels with a box of visceral fat turned into muscle, and how many voxels that are."""
    labels = Volume.read(folder.labels(CASE))
    array = labels.array.copy()
    box = array[:, 5:20, 5:20]
    changed = int((box == VISCERAL_FAT).sum())
    assert changed
    box[box == VISCERAL_FAT] = MUSCLE
    return Volume(array, labels.geometry, CASE), changed


def save_as_slicer(labels, path, geometry=None, offset=0, names=EXTENDED):
    """A .seg.nrrd whose values are not those of TotalSeg++, as Slicer numbers segments by itself."""
    array = np.zeros_like(labels.array)
    segments = []
    for number, value in enumerate(np.unique(labels.array)[1:].tolist(), start=1 + offset):
        array[labels.array == value] = number
        segments.append(Segment(names[value], number, (1, 0, 0)))
    write_segmentation(Volume(array, geometry or labels.geometry), path, segments)
    return path


def test_the_queue_names_every_file_and_the_most_doubtful_case_first(folder):
    rows = read_csv(folder.queue)
    assert {row["case"] for row in rows} == {"s0001", "s0002"}
    doubts = [int(row["doubtful_voxels"]) for row in rows]
    assert doubts == sorted(doubts, reverse=True)
    for row in rows:
        assert (row["status"], row["decision"]) == ("open", "")
        for column in ("labels", "overlay", "scene"):
            assert (folder.root / row[column]).is_file()


def test_the_scene_opens_in_slicer_with_ct_and_labels_even_where_it_was_moved_to(folder):
    slicer = pytest.importorskip("slicer")
    scene = slicer.vtkMRMLScene()
    logic = slicer.vtkSlicerSegmentationsModuleLogic()
    logic.SetMRMLScene(scene)
    scene.SetURL(str(folder.scene(CASE)))
    assert scene.Connect()
    volume = scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
    labels = Volume.read(folder.labels(CASE))
    assert volume.GetImageData().GetDimensions() == labels.array.shape[::-1]
    node = scene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    segmentation = node.GetSegmentation()
    names = {segmentation.GetNthSegment(index).GetName() for index in range(segmentation.GetNumberOfSegments())}
    assert names == {EXTENDED[value] for value in np.unique(labels.array)[1:]}
    assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is volume
    editor = scene.GetFirstNodeByClass("vtkMRMLSegmentEditorNode")
    assert (editor.GetSegmentationNode(), editor.GetSourceVolumeNode()) == (node, volume)
    assert scene.GetSingletonNode("Red", "vtkMRMLSliceCompositeNode").GetBackgroundVolumeID() == volume.GetID()


def test_decisions_are_logged_with_who_and_when(folder):
    decide(folder, CASE, "accepted", "A. Reader")
    decide(folder, CASE, "rejected", "B. Reader", "wrong patient")
    first, second = AuditLog(folder.audit).decisions()
    assert (first.who, first.action, second.reason) == ("A. Reader", "accepted", "wrong patient")
    assert datetime.fromisoformat(first.when).utcoffset().total_seconds() == 0
    assert first.before == first.after == second.before
    assert len(folder.audit.read_text().splitlines()) == 2
    write_queue(folder)
    assert {row["case"]: row["status"] for row in read_csv(folder.queue)} == {CASE: "rejected", "s0002": "open"}


def test_rejected_cases_leave_the_data_set_and_the_report(folder):
    decide(folder, CASE, "rejected", "A. Reader")
    report = command.write_all(folder)
    assert [record.case for record in read_dataset(folder.root)] == ["s0002"]
    assert (report["cases"], report["review"]) == (1, {"open": 1, "rejected": 1})


@pytest.mark.parametrize("ending", [".seg.nrrd", ".nii.gz"])
def test_a_correction_replaces_the_labels_and_is_logged_voxel_by_voxel(folder, corrected, tmp_path, ending):
    labels, changed = corrected
    file = tmp_path / f"mine{ending}"
    if ending == ".seg.nrrd":
        save_as_slicer(labels, file, offset=7)
    else:
        labels.write(file)
    before = folder.labels(CASE).read_bytes()
    decision = import_corrected(folder, CASE, file, "A. Reader")
    assert decision.changed == {"skeletal_muscle": (changed, 0), "visceral_fat": (0, changed)}
    assert AuditLog(folder.audit).decisions()[0].changed == {
        name: list(voxels) for name, voxels in decision.changed.items()
    }
    assert folder.labels(CASE).read_bytes() == before
    write_dataset(folder)
    record = read_dataset(folder.root)[0]
    assert record.label_file == folder.labels(CASE, 1)
    assert record.labels_made_by.endswith("; corrected in review")
    assert np.array_equal(record.label_map().array, labels.array)
    assert folder.overlay(CASE, 1).is_file()


def test_a_second_correction_builds_on_the_first(folder, corrected, tmp_path):
    labels, _ = corrected
    labels.write(tmp_path / "first.nii.gz")
    first = import_corrected(folder, CASE, tmp_path / "first.nii.gz", "A. Reader")
    array = labels.array.copy()
    array[array == LIVER] = 0
    Volume(array, labels.geometry).write(tmp_path / "second.nii.gz")
    second = import_corrected(folder, CASE, tmp_path / "second.nii.gz", "B. Reader")
    assert second.before == first.after != second.after
    assert second.changed == {"liver": (0, int((labels.array == LIVER).sum()))}
    decide(folder, CASE, "accepted", "C. Reader")
    command.write_all(folder)
    assert read_dataset(folder.root)[0].label_file == folder.labels(CASE, 2)
    assert read_csv(folder.queue)[-1]["labels"] == "label/s0001-edit-2.nii.gz"


def test_the_part_of_the_grid_that_slicer_saves_is_put_in_its_place(folder, corrected, tmp_path):
    labels, _ = corrected
    array = labels.array.copy()
    array[:3], array[:, :, -4:] = 0, 0
    part = (slice(3, None), slice(0, None), slice(0, array.shape[2] - 4))
    part = tuple(slice(axis.start, axis.stop or size) for axis, size in zip(part, array.shape, strict=True))
    cropped = Volume(np.ascontiguousarray(array[part]), labels.geometry.crop(part), CASE)
    import_corrected(folder, CASE, save_as_slicer(cropped, tmp_path / "part.seg.nrrd"), "A. Reader")
    assert np.array_equal(Volume.read(folder.labels(CASE, 1)).array, array)


def test_overlapping_segments_of_slicer_are_read_the_later_over_the_earlier(folder, tmp_path):
    """Slicer keeps overlapping segments in layers of their own; its own core writes such a file here."""
    slicer = pytest.importorskip("slicer")
    from CTSAM3DLib.mrml.files import write_segmentation_node

    scene = slicer.vtkMRMLScene()
    logic = slicer.vtkSlicerSegmentationsModuleLogic()
    logic.SetMRMLScene(scene)
    scene.SetURL(str(folder.scene(CASE)))
    scene.Connect()
    node = scene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    segmentation = node.GetSegmentation()
    liver, stomach = (segmentation.GetSegmentIdBySegmentName(name) for name in ("liver", "stomach"))
    segmentation.SeparateSegmentLabelmap(stomach)
    image = slicer.vtkOrientedImageData()
    node.GetBinaryLabelmapRepresentation(liver, image)
    logic.SetBinaryLabelmapToSegment(image, node, stomach, logic.MODE_MERGE_MAX)
    write_segmentation_node(node, tmp_path / "layers.seg.nrrd")
    assert b"dimension: 4" in (tmp_path / "layers.seg.nrrd").read_bytes()
    voxels = int((Volume.read(folder.labels(CASE)).array == LIVER).sum())
    decision = import_corrected(folder, CASE, tmp_path / "layers.seg.nrrd", "A. Reader")
    assert decision.changed == {"liver": (0, voxels), "stomach": (voxels, 0)}


def test_corrections_that_cannot_be_used_leave_all_as_it_was(folder, corrected, tmp_path):
    labels, _ = corrected
    wrong = {
        "does not exist": tmp_path / "none.seg.nrrd",
        "no segmentation that can be read": tmp_path / "broken.seg.nrrd",
        "does not know .tumour.": tmp_path / "strange.seg.nrrd",
        "another grid than its CT": tmp_path / "moved.seg.nrrd",
        r"the values \[200\]": tmp_path / "values.nii.gz",
    }
    (tmp_path / "broken.seg.nrrd").write_bytes(b"NRRD0004\nnonsense")
    save_as_slicer(labels, tmp_path / "strange.seg.nrrd", names=EXTENDED | {LIVER: "tumour"})
    geometry = labels.geometry
    moved = Geometry(geometry.shape, np.add(geometry.origin, 4.0), geometry.spacing, geometry.direction)
    save_as_slicer(labels, tmp_path / "moved.seg.nrrd", moved)
    Volume(np.where(labels.array == LIVER, 200, labels.array), geometry).write(tmp_path / "values.nii.gz")
    before = {path: path.read_bytes() for path in folder.root.rglob("*") if path.is_file()}
    for sentence, file in wrong.items():
        with pytest.raises(Defect, match=sentence):
            import_corrected(folder, CASE, file, "A. Reader")
    assert before == {path: path.read_bytes() for path in folder.root.rglob("*") if path.is_file()}


def test_an_import_that_was_killed_before_its_line_in_the_log_has_not_happened(
    folder, corrected, tmp_path, monkeypatch
):
    labels, _ = corrected
    labels.write(tmp_path / "mine.nii.gz")
    with monkeypatch.context() as patch:
        patch.setattr(AuditLog, "add", lambda log, decision: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            import_corrected(folder, CASE, tmp_path / "mine.nii.gz", "A. Reader")
    write_dataset(folder)
    assert read_dataset(folder.root)[0].label_file == folder.labels(CASE)
    import_corrected(folder, CASE, tmp_path / "mine.nii.gz", "A. Reader")
    write_dataset(folder)
    assert read_dataset(folder.root)[0].label_file == folder.labels(CASE, 1)


def test_decisions_written_into_the_queue_are_adopted_once(folder):
    text = folder.queue.read_text().replace(f"{CASE},,open", f"{CASE},accepted,open")
    folder.queue.write_text(text)
    assert [decision.case for decision in adopt_decisions(folder, "A. Reader")] == [CASE]
    assert adopt_decisions(folder, "A. Reader") == []
    write_queue(folder)
    assert {row["case"]: (row["decision"], row["status"]) for row in read_csv(folder.queue)}[CASE] == ("", "accepted")
    folder.queue.write_text(folder.queue.read_text().replace("s0002,,open", "s0002,perhaps,open"))
    with pytest.raises(CTSAM3DError, match=r'decision on s0002 .* is "perhaps"; write accepted or rejected'):
        adopt_decisions(folder, "A. Reader")


def test_reviewed_cases_are_not_curated_again(source, folder):
    decide(folder, CASE, "accepted", "A. Reader")
    record = read_dataset(source)[0]
    before = folder.figures(CASE).read_bytes()
    curate_case(record, folder.root, provider_for("rules"), reviewed=True)
    assert folder.figures(CASE).read_bytes() == before
    curate_case(record, folder.root, provider_for("rules"))
    assert folder.figures(CASE).read_bytes() != before


def test_a_segmentation_that_somebody_edited_is_not_overwritten(source, folder, corrected):
    record = read_dataset(source)[0]
    save_as_slicer(corrected[0], folder.segmentation(CASE))
    edited = folder.segmentation(CASE).read_bytes()
    with pytest.raises(Defect, match=r"has to be curated again, but .* was edited"):
        curate_case(record, folder.root, provider_for("rules"))
    assert folder.segmentation(CASE).read_bytes() == edited
    import_corrected(folder, CASE, folder.segmentation(CASE), "A. Reader")
    assert np.array_equal(Volume.read(folder.labels(CASE, 1)).array, corrected[0].array)


def test_a_damaged_log_and_an_unknown_case_get_one_sentence(folder):
    with pytest.raises(CTSAM3DError, match=r"no curated case s0009; see queue\.csv"):
        decide(folder, "s0009", "accepted", "A. Reader")
    folder.audit.write_text("not json\n")
    with pytest.raises(CTSAM3DError, match="a line that is no decision"):
        decide(folder, CASE, "accepted", "A. Reader")


def test_the_commands_of_the_review(folder, corrected):
    shell = CliRunner()
    who = ["--output", str(folder.root), "--reviewer", "A. Reader"]
    answer = shell.invoke(command.review, ["accept", "s0002", *who])
    assert answer.output == "s0002 accepted by A. Reader.\n"
    labels, changed = corrected
    save_as_slicer(labels, folder.segmentation(CASE))
    answer = shell.invoke(command.review, ["import", CASE, *who])
    assert answer.output == f"{CASE} edited by A. Reader. skeletal_muscle +{changed} -0; visceral_fat +0 -{changed}\n"
    answer = shell.invoke(command.review, ["reject", "s0002", "--reason", "too noisy", *who])
    assert answer.exit_code == 0
    assert json.loads((folder.root / "report.json").read_text())["review"] == {"edited": 1, "rejected": 1}
    actions = [decision.action for decision in AuditLog(folder.audit).decisions()]
    assert actions == ["accepted", "edited", "rejected"]
