"""The command line, through its entry point: what it writes, what it prints, and what it says of wrong input."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import slicerio

from CTSAM3DLib.checkpoints.bundled import bundled_models
from CTSAM3DLib.checkpoints.load_model import load_model
from CTSAM3DLib.clicks.click import Click, clicks_from_json
from CTSAM3DLib.clicks.markups import write_markups
from CTSAM3DLib.clicks.simulation import dice
from CTSAM3DLib.commands import cli, demo
from CTSAM3DLib.errors import OutputError
from CTSAM3DLib.imaging.geometry import Geometry
from CTSAM3DLib.imaging.volume import Volume
from CTSAM3DLib.output import pictures
from CTSAM3DLib.phantom import torso
from CTSAM3DLib.segmentation.session import Session

pytestmark = pytest.mark.model

COMMAND = Path(sys.executable).with_name("ctsam3d")
INSIDE = "-3.0,-2.5,1.0"
MODEL = next(iter(bundled_models()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A CT of a ball in soft tissue with its labels, and clicks for it."""
    folder = tmp_path_factory.mktemp("data")
    shape = (36, 40, 44)
    geometry = Geometry(shape, (60.0, -58.0, -50.0), (3.0, 3.0, 3.0), (-1, 0, 0, 0, 1, 0, 0, 0, 1))
    k, j, i = np.indices(shape)
    lps = geometry.to_lps(np.stack([i, j, k], axis=-1))
    labels = np.zeros(shape, np.uint8)
    labels[np.linalg.norm(lps, axis=-1) < 24] = 7
    labels[np.linalg.norm(lps - (-35, 20, 20), axis=-1) < 12] = 9
    hu = np.select([labels == 7, labels == 9], [110, 400], 20) + np.random.default_rng(0).normal(0, 10, shape)
    hu[:, :4] = -1000
    Volume(hu.astype(np.int16), geometry).write(folder / "ct.nii.gz")
    Volume(labels, geometry).write(folder / "labels.nii.gz")
    write_markups(folder / "clicks.mrk.json", [Click((-3.0, -2.5, 1.0))])
    write_markups(folder / "negative.mrk.json", [Click((-3.0, -2.5, 1.0), positive=False)])
    return folder


@pytest.fixture
def run(monkeypatch, capfd):
    """Run the console entry in this process: exit code, stdout, stderr (that of C libraries included)."""

    def run(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ctsam3d", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return (ended.value.code or 0, *capfd.readouterr())

    return run


class TestSegment:
    def test_report_and_mask_agree(self, run, folder, tmp_path):
        output, preview = tmp_path / "x.nii.gz", tmp_path / "x.png"
        code, out, _ = run(
            "segment", folder / "ct.nii.gz", "--click", INSIDE, "--output", output, "--preview", preview, "--json"
        )
        report = json.loads(out)
        assert code == 0
        assert report["output"] == str(output)
        assert report["clicks"] == [{"position": [-3.0, -2.5, 1.0], "positive": True}]
        assert report["model"]["name"] == MODEL
        assert report["seconds"].keys() == {"read", "load_model", "first_mask", "final_mask", "write"}
        image = sitk.ReadImage(str(output))
        ct = sitk.ReadImage(str(folder / "ct.nii.gz"))
        shape = sitk.LabelShapeStatisticsImageFilter()
        shape.Execute(image)
        assert image.GetSize() == ct.GetSize()
        np.testing.assert_allclose(image.GetOrigin(), ct.GetOrigin())
        assert report["voxels"] == shape.GetNumberOfPixels(1)
        assert report["volume_ml"] == pytest.approx(shape.GetPhysicalSize(1) / 1000, abs=1e-3)
        first, size = np.split(np.array(shape.GetBoundingBox(1)), 2)
        assert report["box"] == {"first": first.tolist(), "last": (first + size - 1).tolist()}
        assert preview.read_bytes().startswith(b"\x89PNG")

    def test_segment_says_how_it_was_made(self, run, folder, tmp_path):
        output = tmp_path / "x.seg.nrrd"
        clicks = ("--click", INSIDE, "--click", "20,20,20,-")
        options = ("--name", "my liver", "--reach", "patch", "--window", "-300", "500")
        code, out, _ = run("segment", folder / "ct.nii.gz", *clicks, *options, "--output", output)
        assert code == 0
        for shown in ("mL", "patches", "quality", "seconds", MODEL):
            assert shown in out
        (segment,) = slicerio.read_segmentation(str(output))["segments"]
        assert segment["name"] == "my liver"
        tags = segment["tags"]
        assert tags["CTSAM3D.Model"] == MODEL
        assert tags["CTSAM3D.ModelHash"] == load_model(MODEL).file_hash
        assert tags["CTSAM3D.Window"] == "-300 500"
        assert tags["CTSAM3D.Reach"] == "patch"
        placed = clicks_from_json(tags["CTSAM3D.Clicks"])
        assert placed == [Click((-3.0, -2.5, 1.0)), Click((20.0, 20.0, 20.0), positive=False)]

    def test_every_way_to_give_a_click_gives_the_same_mask(self, run, folder, tmp_path):
        ways = (
            ("--click", INSIDE),
            ("--click=3.0,2.5,1", "--coordinates", "RAS"),
            ("--click", "21,18.5,17", "--coordinates", "ijk"),
            ("--markups", folder / "clicks.mrk.json"),
        )
        masks = set()
        for number, way in enumerate(ways):
            output = tmp_path / f"{number}.mha"
            code, out, err = run("segment", folder / "ct.nii.gz", *way, "--output", output, "--json")
            assert code == 0, err
            assert json.loads(out)["clicks"] == [{"position": [-3.0, -2.5, 1.0], "positive": True}]
            masks.add(Volume.read(output).content_hash)
        assert len(masks) == 1

    def test_several_segments_of_a_file_are_several_masks(self, run, folder, tmp_path):
        lines = ["segment,l,p,s,sign", "肝臓,-3.0,-2.5,1,+", "other,-3.0,-2.5,1,+", "other,20,20,20,-"]
        (tmp_path / "clicks.csv").write_text("\n".join(lines), encoding="utf-8")
        output = tmp_path / "both.seg.nrrd"
        code, out, err = run(
            "segment", folder / "ct.nii.gz", "--markups", tmp_path / "clicks.csv", "--output", output, "--json"
        )
        assert code == 0, err
        first, second = json.loads(out)["segments"]
        assert (first["name"], second["name"]) == ("肝臓", "other")
        assert [len(first["clicks"]), len(second["clicks"])] == [1, 2]
        assert "肝臓".encode() in output.read_bytes()
        segmentation = slicerio.read_segmentation(str(output))
        for segment, report in zip(segmentation["segments"], (first, second), strict=True):
            layer = segmentation["voxels"][segment["layer"]] if segmentation["voxels"].ndim == 4 else None
            voxels = segmentation["voxels"] if layer is None else layer
            assert np.count_nonzero(voxels == segment["labelValue"]) == report["voxels"]  # whole, though they overlap

    def test_clicks_for_one_of_several_segments_need_its_name(self, run, folder, tmp_path):
        (tmp_path / "clicks.csv").write_text("segment,l,p,s\na,-3.0,-2.5,1\nb,-3.0,-2.5,1\n", encoding="utf-8")
        how = ("--markups", tmp_path / "clicks.csv", "--click", INSIDE, "--output", tmp_path / "x.seg.nrrd")
        code, _, err = run("segment", folder / "ct.nii.gz", *how)
        assert code == 2
        assert "say by --name which one" in err

    def test_in_a_process_of_its_own(self, folder, tmp_path):
        command = [COMMAND, "segment", folder / "ct.nii.gz", "--click", INSIDE, "--output", tmp_path / "x.seg.nrrd"]
        ended = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
        assert json.loads(ended.stdout)["voxels"] > 0
        assert ended.stderr == ""
        assert [path.name for path in tmp_path.iterdir()] == ["x.seg.nrrd"]

    def test_failed_preview_leaves_the_mask(self, run, folder, tmp_path, monkeypatch):
        def fail(*_: object) -> None:
            raise OutputError("The disk is full.")

        monkeypatch.setattr(pictures, "three_planes", fail)
        outputs = ("--output", tmp_path / "x.nrrd", "--preview", tmp_path / "x.png")
        code, _, err = run("segment", folder / "ct.nii.gz", "--click", INSIDE, *outputs)
        assert (code, err) == (
            3,
            f"error: {tmp_path / 'x.nrrd'} is written, but what comes after it failed: The disk is full.\n",
        )
        assert [path.name for path in tmp_path.iterdir()] == ["x.nrrd"]

    def test_a_closed_output_leaves_the_mask(self, folder, tmp_path):
        command = [COMMAND, "segment", folder / "ct.nii.gz", "--click", INSIDE, "--output", tmp_path / "x.nrrd"]
        with open("/dev/full", "w") as full:
            ended = subprocess.run([*command, "--json"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        assert ended.returncode == 3
        assert "x.nrrd is written, but" in ended.stderr
        assert (tmp_path / "x.nrrd").is_file()

    @pytest.mark.parametrize("moment", ["early", "late"])
    def test_interrupt_writes_nothing(self, run, folder, tmp_path, monkeypatch, moment):
        segment = Session.segment

        def interrupted(*arguments, **options):
            if moment == "early":
                signal.raise_signal(signal.SIGINT)
            result = segment(*arguments, **options)
            signal.raise_signal(signal.SIGINT)
            return result

        before = signal.getsignal(signal.SIGINT)
        monkeypatch.setattr(Session, "segment", interrupted)
        code, out, err = run("segment", folder / "ct.nii.gz", "--click", INSIDE, "--output", tmp_path / "x.nrrd")
        assert (code, out) == (130, "")
        assert err.count("\n") == 1
        assert not list(tmp_path.iterdir())
        assert signal.getsignal(signal.SIGINT) is before


def write_image(path: Path, array: np.ndarray, **options) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(array, **options), str(path))
    return path


def not_a_number(folder: Path) -> Path:
    array = np.linspace(-1000, 1000, 4096, dtype=np.float32).reshape(16, 16, 16)
    array[3, 4, 5] = np.nan
    return write_image(folder / "bad.nrrd", array)


def cut_short(folder: Path) -> Path:
    whole = write_image(folder / "bad.nii.gz", np.random.default_rng(0).integers(-1000, 1000, (9, 9, 9), np.int16))
    whole.write_bytes(whole.read_bytes()[:400])
    return whole


def empty_folder(folder: Path) -> Path:
    (folder / "dicom").mkdir()
    (folder / "dicom" / "note.txt").write_text("no image")
    return folder / "dicom"


WRONG_IMAGES = {
    "2D": (lambda at: write_image(at / "bad.nrrd", np.zeros((9, 9), np.int16)), "2D image"),
    "RGB": (lambda at: write_image(at / "bad.nrrd", np.zeros((9, 9, 9, 3), np.uint8), isVector=True), "colour"),
    "NaN": (not_a_number, "NaN or infinite"),
    "one slice": (lambda at: write_image(at / "bad.nrrd", np.zeros((1, 9, 9), np.int16)), "only one slice"),
    "4D": (lambda at: write_image(at / "bad.nrrd", np.zeros((2, 9, 9, 9), np.int16), isVector=False), "2 volumes"),
    "corrupt": (cut_short, "damaged"),
    "no DICOM": (empty_folder, "no DICOM"),
    "missing": (lambda at: at / "nowhere.nii.gz", "does not exist"),
}
WRONG_OPTIONS = {
    "click outside": (("--click", "-3,-2.5,900"), "Click 1"),
    "click as RAS": (("--click", "65,-20,0"), "meant as RAS"),
    "no click": ((), "no click"),
    "only negative clicks": (("--click", f"{INSIDE},-"), "All clicks are negative"),
    "only negative markups": (("--markups", "{data}/negative.mrk.json"), "All clicks are negative"),
    "click text": (("--click", "1,2"), '"1,2"'),
    "markups missing": (("--markups", "{data}/none.mrk.json"), "none.mrk.json"),
    "coordinates": (("--click", INSIDE, "--coordinates", "XYZ"), '"XYZ"'),
    "reach": (("--click", INSIDE, "--reach", "far"), "'far'"),
    "model": (("--click", INSIDE, "--model", "huge"), "'huge'"),
    "weights missing": (("--click", INSIDE, "--weights", "{data}/none.pth"), "none.pth"),
    "weights corrupt": (("--click", INSIDE, "--weights", "{data}/corrupt.safetensors"), "corrupt.safetensors"),
    "device": (("--click", INSIDE, "--device", "abacus"), "'abacus'"),
    "name": (("--click", INSIDE, "--name", "a\nb"), "name"),
    "ending": (("--click", INSIDE, "--output", "{out}/x.jpg"), "unknown ending"),
    "output folder": (("--click", INSIDE, "--output", "{out}/none/x.nrrd"), "does not exist"),
    "output is a folder": (("--click", INSIDE, "--output", "{out}/taken.nrrd"), "is a folder"),
    "output is the CT": (("--click", INSIDE, "--output", "{data}/ct.nii.gz"), "the CT itself"),
    "preview ending": (("--click", INSIDE, "--preview", "{out}/x.nrrd"), "x.nrrd"),
    "preview folder": (("--click", INSIDE, "--preview", "{out}/none/x.png"), "does not exist"),
}


class TestWrongInput:
    """Every fault: exit code 2, one line that names it, and no file touched."""

    @pytest.fixture
    def refused(self, run, tmp_path):
        def refused(*arguments, because: str) -> None:
            before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
            code, out, err = run(*arguments)
            assert code == 2
            assert out == ""
            (line,) = err.splitlines()
            assert line.startswith("error: ")
            assert because in line
            assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before

        return refused

    @pytest.mark.parametrize("fault", WRONG_IMAGES)
    def test_image(self, refused, tmp_path, fault):
        make, because = WRONG_IMAGES[fault]
        refused("segment", make(tmp_path), "--click", "4,4,0", "--output", tmp_path / "x.nrrd", because=because)

    @pytest.mark.parametrize("fault", WRONG_OPTIONS)
    def test_option(self, refused, folder, tmp_path, fault):
        options, because = WRONG_OPTIONS[fault]
        (folder / "corrupt.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{broken}")
        (tmp_path / "taken.nrrd").mkdir()
        (tmp_path / "earlier.nrrd").write_bytes(b"an earlier mask")
        filled = [text.replace("{data}", str(folder)).replace("{out}", str(tmp_path)) for text in options]
        output = () if "--output" in filled else ("--output", tmp_path / "earlier.nrrd")
        refused("segment", folder / "ct.nii.gz", *filled, *output, because=because)

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
    def test_folder_that_must_not_be_written(self, refused, folder, tmp_path):
        locked = tmp_path / "locked"
        locked.mkdir(mode=0o500)
        options = ("--click", INSIDE, "--output", locked / "x.nrrd")
        refused("segment", folder / "ct.nii.gz", *options, because="no permission")

    def test_in_a_process_of_its_own(self, folder, tmp_path):
        output = ("--output", tmp_path / "x.nrrd")
        ended = subprocess.run(
            [COMMAND, "segment", folder / "ct.nii.gz", "--click", "-3,-2.5,900", *output],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 2
        assert ended.stderr.startswith("error: Click 1")
        assert ended.stderr.count("\n") == 1
        assert not list(tmp_path.iterdir())

    def test_usage(self, run):
        code, _, err = run("segment", "ct.nii.gz", "--no-such-option")
        assert code == 2
        assert "--no-such-option" in err

    def test_a_defect_of_ours_is_loud(self, folder, tmp_path, monkeypatch):
        def fail(*_: object, **__: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(Session, "segment", fail)
        arguments = ["segment", folder / "ct.nii.gz", "--click", INSIDE, "--output", tmp_path / "x.nrrd"]
        monkeypatch.setattr(sys, "argv", ["ctsam3d", *map(str, arguments)])
        with pytest.raises(ZeroDivisionError):
            cli.main()

    def test_demo(self, refused, folder, tmp_path):
        ct, labels = folder / "ct.nii.gz", folder / "labels.nii.gz"
        (tmp_path / "file").touch()
        other = write_image(tmp_path / "other.nrrd", np.ones((4, 4, 4), np.uint8))
        refused("demo", ct, "--output", tmp_path / "file", because="--labels")
        refused("demo", "--labels", labels, "--output", tmp_path / "file", because="CT")
        refused("demo", ct, "--labels", labels, "--output", tmp_path / "file", because="cannot be made")
        (tmp_path / "out").mkdir()
        refused("demo", ct, "--labels", other, "--output", tmp_path / "out", because="resample")


class TestModels:
    def test_table_and_card(self, run):
        code, out, _ = run("models")
        assert code == 0
        assert all(name in out for name in bundled_models())
        model = load_model(MODEL)
        assert model.file_hash[:8] in out
        code, out, _ = run("models", "--card", MODEL)
        assert (code, out) == (0, f"{model.info.card}\n")
        assert run("models", "--card", "huge")[0] == 2

    def test_version(self, run):
        code, out, _ = run("--version")
        assert code == 0
        assert out.startswith("ctsam3d ")


class TestDemo:
    def test_on_a_labelled_ct(self, run, folder, tmp_path):
        output = tmp_path / "new" / "demo"
        labels = folder / "labels.nii.gz"
        code, out, _ = run("demo", folder / "ct.nii.gz", "--labels", labels, "--output", output, "--clicks", 2)
        assert code == 0
        assert {path.name for path in output.iterdir()} == {"demo.seg.nrrd", "demo.png", "demo.csv"}
        segments = slicerio.read_segmentation(str(output / "demo.seg.nrrd"))["segments"]
        assert [(segment["name"], segment["labelValue"]) for segment in segments] == [("label 7", 1), ("label 9", 2)]
        with (output / "demo.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert {row["structure"] for row in rows} == {"label 7", "label 9"}
        first = clicks_from_json(segments[0]["tags"]["CTSAM3D.Clicks"])[0]
        assert np.linalg.norm(first.position) < 6  # the middle of the ball
        truth, found = Volume.read(labels).array, Volume.read(output / "demo.seg.nrrd").array
        last = [row for row in rows if row["structure"] == "label 9"][-1]  # the smaller one, which lies on top
        assert float(last["dice"]) == pytest.approx(dice(truth == 9, found == 2), abs=1e-4)
        shown = [float(figure) for figure in re.findall(r"\b[01]\.\d{3}\b", out)]
        assert any(figure == pytest.approx(float(last["dice"]), abs=1e-3) for figure in shown)

    def test_on_the_synthetic_torso(self, run, tmp_path, monkeypatch):
        whole = torso.torso
        monkeypatch.setattr(demo, "torso", lambda seed: whole(seed, spacing=(6.0, 6.0, 6.0)))
        code, out, _ = run("demo", "--output", tmp_path, "--clicks", 1, "--seed", 3)
        assert code == 0
        assert "Synthetic" in out
        assert Volume.read(tmp_path / "torso.nii.gz").content_hash == whole(3, spacing=(6.0, 6.0, 6.0)).ct.content_hash
        segments = slicerio.read_segmentation(str(tmp_path / "demo.seg.nrrd"))["segments"]
        assert [segment["labelValue"] for segment in segments] == [1, 2, 3, 4, 5]
        assert "aorta" in {segment["name"] for segment in segments}
