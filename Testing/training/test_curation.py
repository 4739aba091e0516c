"""The curation as a command: what it makes, that it can be killed anywhere, and that one bad case stops nothing."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from CTSAM3DLib import atomic
from CTSAM3DLib.errors import CTSAM3DError, OutputError
from CTSAM3DLib.imaging.volume import Geometry, Volume
from training import curate as command
from training.curation.folder import CuratedFolder, read_csv
from training.curation.merge import is_tissue
from training.data.datasets import read_dataset
from training.data.synthetic_datasets import write_layout

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Three small synthetic patients as TotalSegmentator's first data set, and masks of their tissues."""
    return write_layout("totalsegmentator-v1", tmp_path_factory.mktemp("data"), cases=3, spacing=9.0)


@pytest.fixture
def own_source(source, tmp_path):
    """A copy that a test may damage."""
    folder = tmp_path / source.name
    shutil.copytree(source, folder)
    shutil.copytree(f"{source}-tissues", f"{folder}-tissues")
    return folder


def run(source, output, *arguments, tissues=None):
    """The command as from a shell, in this process."""
    options = ["--output", str(output), "--tissues", tissues or f"{source}-tissues"]
    with pytest.raises(SystemExit) as end:
        command.main([str(source), *options, *arguments])
    assert end.value.code in (0, None)
    return CuratedFolder(output)


@pytest.fixture(scope="module")
def curated(source, tmp_path_factory):
    return run(source, tmp_path_factory.mktemp("curated") / "out")


def contents(folder):
    """Every file that is part of the result, by name, without the time of day that NRRD files tell in a comment.

    Which files were hashed before, and what was left by a killed run, is no part of it.
    """
    files = [path for path in sorted(folder.root.rglob("*")) if path.is_file() and "hashes" not in path.parts]
    whole = [path for path in files if not path.parent.name.startswith(".writing-")]
    return {folder.relative(path): re.sub(rb"# on .*\(GMT\)", b"", path.read_bytes()) for path in whole}


def test_the_result_is_a_data_set_with_own_labels_untouched(source, curated):
    before = {record.case: record for record in read_dataset(source)}
    records = read_dataset(curated.root)
    assert [record.case for record in records] == ["s0001", "s0002", "s0003"]
    for record in records:
        own = before[record.case]
        labels = record.label_map()
        assert np.array_equal(np.where(is_tissue(labels.array), 0, labels.array), own.label_map().array)
        assert np.array_equal(Volume.read(record.ct).array, Volume.read(own.ct).array)
        assert labels.geometry.direction == (1, 0, 0, 0, 1, 0, 0, 0, 1)
        assert record.split == own.split
        assert {"skeletal_muscle", "visceral_fat", "subcutaneous_fat", "liver"} <= set(record.labels.values())
        assert "tissues: masks made before" in record.labels_made_by


def test_the_report_has_ratios_over_all_bodies(curated):
    report = json.loads((curated.root / "report.json").read_text())
    cases = curated.all_done()
    assert report["cases"] == 3
    assert report["ratio_before"] == pytest.approx(
        sum(case.labelled_before for case in cases) / sum(case.body_voxels for case in cases), abs=1e-4
    )
    assert report["ratio_before"] + 0.3 < report["ratio_with_tissues"]
    assert report["ratio_after_clean_up"] == pytest.approx(report["ratio_with_tissues"], abs=0.01)
    page = (curated.root / "report.md").read_text()
    for picture in ("ratios.png", "review/s0001/overlay.png"):
        assert picture in page
        assert (curated.root / picture).read_bytes().startswith(b"\x89PNG")
    labels = {row["name"]: row for row in read_csv(curated.root / "labels.csv")}
    assert len(labels) == 127
    assert (labels["liver"]["cases"], labels["brain"]["cases"]) == ("3", "0")
    assert int(labels["visceral_fat"]["voxels"]) > 0


def test_a_second_run_changes_nothing_and_a_changed_source_only_its_case(own_source, tmp_path):
    folder = run(own_source, tmp_path / "out")
    before = contents(folder)
    stamps = {path: path.stat().st_mtime_ns for path in (folder.root / "label").iterdir()}
    run(own_source, tmp_path / "out")
    assert contents(folder) == before
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}
    tissues = Path(f"{own_source}-tissues/s0002.nii.gz")
    types = Volume.read(tissues)
    Volume(np.where(types.array == 3, 0, types.array), types.geometry).write(tissues)
    run(own_source, tmp_path / "out")
    assert {name for name, content in contents(folder).items() if content != before[name]} >= {"label/s0002.nii.gz"}
    assert stamps[folder.labels("s0001")] == folder.labels("s0001").stat().st_mtime_ns


def test_bad_cases_are_kept_out_with_reasons_and_the_rest_goes_on(own_source, tmp_path):
    ct = own_source / "s0001" / "ct.nii.gz"
    whole = ct.read_bytes()
    ct.write_bytes(whole[: len(whole) // 2])
    shutil.rmtree(own_source / "s0002" / "segmentations")
    shutil.copytree(own_source / "s0003", own_source / "s0004")
    liver = own_source / "s0004" / "segmentations" / "liver.nii.gz"
    mask = Volume.read(liver)
    Volume(mask.array, Geometry(mask.array.shape, (0, 0, 0), mask.geometry.spacing, mask.geometry.direction)).write(
        liver
    )
    shutil.copytree(own_source / "s0003", own_source / "s0005")
    for case in ("s0004", "s0002"):
        shutil.copy(f"{own_source}-tissues/s0003.nii.gz", f"{own_source}-tissues/{case}.nii.gz")
    folder = run(own_source, tmp_path / "out")
    kept_out = {row["case"]: row for row in read_csv(folder.quarantine)}
    assert [case.case for case in folder.all_done()] == ["s0003"]
    assert "is damaged or incomplete" in kept_out["s0001"]["reason"]
    assert kept_out["s0001"]["file"] == str(ct)
    assert "s0002 has no masks" in kept_out["s0002"]["reason"]
    assert "another grid than its CT" in kept_out["s0004"]["reason"]
    assert kept_out["s0004"]["file"] == str(liver)
    assert "no mask of tissues for s0005" in kept_out["s0005"]["reason"]
    assert "s0004 | " in (folder.root / "report.md").read_text()
    ct.write_bytes(whole)
    run(own_source, tmp_path / "out", "--case", "s0001")
    assert {row["case"] for row in read_csv(folder.quarantine)} == {"s0002", "s0004", "s0005"}
    assert [record.case for record in read_dataset(folder.root)] == ["s0001", "s0003"]


def test_masks_that_a_case_lacks_are_noted(own_source, tmp_path):
    (own_source / "s0001" / "segmentations" / "liver.nii.gz").unlink()
    folder = run(own_source, tmp_path / "out")
    notes = {case.case: case.notes for case in folder.all_done()}
    assert notes["s0001"] == ["It has no mask of liver, which other cases have."]
    assert not notes["s0002"]


def test_a_wrong_licence_key_keeps_cases_out_and_nothing_is_lost(source, tmp_path, monkeypatch):
    folder = run(source, tmp_path / "out", "--case", "s0001")
    before = contents(folder)
    (tmp_path / "totalsegmentator").mkdir()
    (tmp_path / "totalsegmentator" / "__init__.py").touch()
    (tmp_path / "totalsegmentator" / "python_api.py").write_text(
        "def totalsegmentator(*arguments, **options):\n    print('ERROR: Invalid license')\n    raise SystemExit(1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.18.0")
    run(source, tmp_path / "out", tissues="totalsegmentator")
    reasons = {row["case"]: row["reason"] for row in read_csv(folder.quarantine)}
    assert set(reasons) == {"s0001", "s0002", "s0003"}
    assert all("refuses its licence key" in reason for reason in reasons.values())
    after = contents(folder)
    assert all(after[name] == before[name] for name in before if "/" in name)
    assert [record.case for record in read_dataset(folder.root)] == ["s0001"]


def test_a_case_without_a_body_is_kept_out(own_source, tmp_path):
    ct = own_source / "s0001" / "ct.nii.gz"
    whole = Volume.read(ct)
    Volume(np.minimum(whole.array, -400), whole.geometry).write(ct)
    folder = run(own_source, tmp_path / "out", "--case", "s0001")
    assert "There is no body in" in read_csv(folder.quarantine)[0]["reason"]


def test_a_curated_folder_can_be_curated_again_with_other_tissues(curated, tmp_path):
    """Its tissues are not taken for own labels."""
    folder = run(curated.root, tmp_path / "out", "--case", "s0001", tissues="rules")
    (again,) = folder.all_done()
    assert again.labelled_before == curated.done("s0001").labelled_before
    assert again.voxels["skeletal_muscle"] != curated.done("s0001").voxels["skeletal_muscle"]
    assert again.voxels["liver"] == curated.done("s0001").voxels["liver"]


def test_processes_give_the_same_result(source, tmp_path):
    """Beside a run of one process of its own: a scene's file also tells what else its process has done with scenes."""
    alone = tmp_path / "alone"
    options = ["--output", str(alone), "--tissues", f"{source}-tissues"]
    subprocess.run([sys.executable, "-m", "training.curate", str(source), *options], cwd=ROOT, check=True)
    assert contents(run(source, tmp_path / "out", "--jobs", "2")) == contents(CuratedFolder(alone))


class Killed(BaseException):
    """Ends the process in the place of a signal."""


def test_killed_before_any_of_its_writes_it_ends_up_the_same(source, curated, tmp_path, monkeypatch):
    """Every file takes its place by `os.replace`; runs are ended before the second of these, the third and so on."""
    expected, replace = contents(curated), os.replace
    folder, ended = CuratedFolder(tmp_path / "out"), 0
    allowed = 0

    def replace_or_die(old, new):
        nonlocal allowed
        if allowed == 0:
            raise Killed
        allowed -= 1
        replace(old, new)

    monkeypatch.setattr(atomic.os, "replace", replace_or_die)
    while len(contents(folder)) < len(expected):
        allowed = ended + 1
        try:
            run(source, folder.root)
        except Killed:
            ended += 1
        found = contents(folder)
        assert {name: content for name, content in found.items() if "/" in name}.items() <= expected.items()
    assert ended > 5
    allowed = len(expected)
    assert contents(run(source, folder.root)) == expected


def files_in(folder):
    return sum(len(files) for _, _, files in os.walk(folder))


def test_killed_by_signal_9_at_random_moments_it_ends_up_the_same(source, curated, tmp_path):
    output, moments = tmp_path / "out", random.Random(7)
    arguments = [str(source), "--output", str(output), "--tissues", f"{source}-tissues"]
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-m", "training.curate", *arguments], cwd=ROOT, stderr=subprocess.DEVNULL
        )
        begun = files_in(output)
        while process.poll() is None and files_in(output) <= begun:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.6))
        process.send_signal(signal.SIGKILL)
        process.wait()
    folder = run(source, output)
    assert contents(folder) == contents(curated)
    assert not list(output.rglob(".writing-*"))


def test_wrong_words_get_one_sentence(source, tmp_path):
    with pytest.raises(CTSAM3DError, match="no case s0009"):
        command.main([str(source), "--output", str(tmp_path), "--tissues", "rules", "--case", "s0009"])
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be made"):
        command.main([str(source), "--output", str(tmp_path / "file"), "--tissues", "rules"])
    with pytest.raises(CTSAM3DError, match="No Dask scheduler answers"):
        command.main([str(source), "--output", str(tmp_path / "a"), "--tissues", "rules", "--scheduler", "nonsense"])


def test_a_full_disk_ends_the_run_and_blames_no_case(source, tmp_path, monkeypatch):
    def full(old, new):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "replace", full)
    with pytest.raises(OutputError, match="the disk is full"):
        command.main([str(source), "--output", str(tmp_path / "out"), "--tissues", f"{source}-tissues"])
    assert not CuratedFolder(tmp_path / "out").quarantine.exists()


def test_dice_of_two_sources_is_printed(source, capsys):
    with pytest.raises(SystemExit):
        command.main(["agreement", str(source), "--tissues", "rules", "--reference", f"{source}-tissues"])
    printed = capsys.readouterr().out
    assert printed.count("subcutaneous_fat") == 3
    assert "rules of Hounsfield units and anatomy, against masks made before" in printed
