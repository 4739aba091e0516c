"""Image files that are not what their names say, or of a rarer kind: they open, or the sentence says what they are."""

import bz2
import gzip
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk

from CTSAM3DLib.errors import VolumeError
from CTSAM3DLib.imaging.geometry import Geometry
from CTSAM3DLib.imaging.volume import Volume
from Testing.support.dicom_files import write_frames, write_series

HU = np.random.default_rng(0).integers(-1000, 1500, (6, 8, 9)).astype(np.int16)
OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
GEOMETRY = Geometry(HU.shape, (10.0, -20.0, 30.5), (0.7, 0.8, 2.5), OBLIQUE)
CT = Volume(HU, GEOMETRY)
AFFINE = np.diag([-1, -1, 1, 1]) @ GEOMETRY.ijk_to_lps


def assert_read(path: Path, hu: np.ndarray = HU) -> None:
    volume = Volume.read(path)
    np.testing.assert_array_equal(volume.array, hu)
    assert volume.geometry.is_close(GEOMETRY, 1e-4)


def refused(path: Path, said: str) -> None:
    with pytest.raises(VolumeError, match=said) as raised:
        Volume.read(path)
    assert str(raised.value).endswith(".")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_nifti_2(tmp_path, ending):
    nibabel.save(nibabel.Nifti2Image(HU.transpose(), AFFINE), tmp_path / f"ct{ending}")
    assert_read(tmp_path / f"ct{ending}")


@pytest.mark.parametrize("name", ["ct.hdr", "ct.img"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_pair_of_header_and_voxels(tmp_path, name, packed):
    nibabel.save(nibabel.Nifti1Pair(HU.transpose(), AFFINE), tmp_path / "ct.img")
    if packed:
        (tmp_path / "ct.img.gz").write_bytes(gzip.compress((tmp_path / "ct.img").read_bytes()))
        (tmp_path / "ct.img").unlink()
        name = name.replace(".img", ".img.gz")
    assert_read(tmp_path / name)
    assert_read(tmp_path)


def test_gzipped_or_not_whatever_the_name_says(tmp_path):
    CT.write(tmp_path / "ct.nii.gz")
    CT.write(tmp_path / "plain.nii")
    shutil.move(tmp_path / "ct.nii.gz", tmp_path / "packed.nii")
    shutil.move(tmp_path / "plain.nii", tmp_path / "plain.nii.gz")
    assert_read(tmp_path / "packed.nii")
    assert_read(tmp_path / "plain.nii.gz")


def test_gzipped_twice(tmp_path):
    CT.write(tmp_path / "ct.nii.gz")
    (tmp_path / "ct.nii.gz").write_bytes(gzip.compress((tmp_path / "ct.nii.gz").read_bytes()))
    refused(tmp_path / "ct.nii.gz", "packed by gzip twice")


@pytest.mark.parametrize(("space", "signs"), [("LPS", (1, 1)), ("right-anterior-superior", (-1, -1))])
def test_nrrd_packed_by_bzip2(tmp_path, space, signs):
    flip = np.array([*signs, 1])
    header = {
        "space": space,
        "space directions": GEOMETRY.ijk_to_lps[:3, :3].T * flip,
        "space origin": np.array(GEOMETRY.origin) * flip,
        "encoding": "bzip2",
    }
    nrrd.write(str(tmp_path / "ct.nrrd"), HU.transpose(), header)
    assert_read(tmp_path / "ct.nrrd")
    (tmp_path / "ct.nrrd").write_bytes((tmp_path / "ct.nrrd").read_bytes()[:-200])
    refused(tmp_path / "ct.nrrd", "damaged or incomplete")


def test_nrrd_packed_by_bzip2_that_lies_nowhere(tmp_path):
    head = b"NRRD0004\ntype: int16\ndimension: 3\nsizes: 9 8 6\nendian: little\nencoding: bzip2\n\n"
    (tmp_path / "ct.nrrd").write_bytes(head + bz2.compress(HU.astype("<i2").tobytes()))
    refused(tmp_path / "ct.nrrd", "does not say where its voxels lie")


@pytest.mark.parametrize("ending", [".nhdr", ".mhd"])
def test_a_header_without_its_voxels(tmp_path, ending):
    sitk.WriteImage(sitk.GetImageFromArray(HU), tmp_path / f"ct{ending}")
    next(path for path in tmp_path.iterdir() if path.suffix != ending).unlink()
    refused(tmp_path / f"ct{ending}", "names a file of voxels that is not there")


def test_analyze_does_not_tell_left_from_right(tmp_path):
    nibabel.save(nibabel.AnalyzeImage(HU.transpose(), AFFINE), tmp_path / "ct.img")
    refused(tmp_path / "ct.hdr", "Analyze 7.5 .*does not tell left from right")


def test_an_empty_file(tmp_path):
    (tmp_path / "ct.nii.gz").touch()
    refused(tmp_path / "ct.nii.gz", "is empty")


@pytest.mark.parametrize("name", ["ct.nii.gz", "ct.nrrd", "ct.mha", "ct.dcm"])
def test_something_else_under_the_name_of_an_image(tmp_path, name):
    (tmp_path / name).write_text("<html>Not found</html>" * 100)
    refused(tmp_path / name, "whatever its name says|not what its name says")


def test_a_size_beyond_all_bounds(tmp_path):
    CT.write(tmp_path / "ct.nii")
    raw = bytearray((tmp_path / "ct.nii").read_bytes())
    struct.pack_into("<8h", raw, 40, 3, 32767, 32767, 32767, 1, 1, 1, 1)
    (tmp_path / "ct.nii").write_bytes(raw)
    refused(tmp_path / "ct.nii", "damaged or incomplete")


def test_several_images_in_a_folder(tmp_path):
    CT.write(tmp_path / "a.nii.gz")
    CT.write(tmp_path / "b.nrrd")
    refused(tmp_path, "holds 2 images")


FUZZ = """
import random, sys
from pathlib import Path
from CTSAM3DLib.errors import VolumeError
from CTSAM3DLib.imaging.volume import Volume
folder, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
whole = {path: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
for number in range(first, first + count):
    rng = random.Random(number)
    path, content = rng.choice(list(whole.items()))
    damaged = bytearray(content)
    is_cut = rng.random() < 0.4
    if is_cut:
        del damaged[rng.randrange(len(damaged)) :]
    else:
        for _ in range(rng.choice((1, 3, 20))):
            damaged[rng.randrange(min(len(damaged), rng.choice((200, 600, len(damaged)))))] = rng.randrange(256)
    target = folder / "damaged" / path.name
    target.write_bytes(damaged)
    print(number, path.name, flush=True)
    try:
        volume = Volume.read(target)
    except VolumeError as error:
        assert str(error).endswith("."), error
        assert "Traceback" not in str(error)
    else:
        assert not (is_cut and len(damaged) < 0.9 * len(content)), "a file cut short was read"
        assert volume.array.shape == volume.geometry.shape
print("done")
"""


LONG = pytest.param(2000, id="long", marks=pytest.mark.slow)


@pytest.mark.parametrize("count", [pytest.param(200, id="short"), LONG])
def test_damaged_files_of_every_format(tmp_path, count):
    """No traceback, no abort, and nothing cut short is read."""
    hu = np.random.default_rng(0).integers(-1000, 1500, (12, 40, 40)).astype(np.int16)
    for name in ("ct.nii", "ct.nii.gz", "ct.nrrd", "ct.mha"):
        Volume(hu, Geometry(hu.shape, (0, 0, 0), (1, 1, 2), OBLIQUE)).write(tmp_path / name)
    header = {"encoding": "bzip2", "space": "LPS", "space directions": np.eye(3), "space origin": [0, 0, 0]}
    nrrd.write(str(tmp_path / "bzip2.nrrd"), hu.transpose(), header)
    write_frames(tmp_path / "frames.dcm", hu)
    write_series(tmp_path, hu[:1], names=lambda k: "slice.dcm")
    shutil.make_archive(str(tmp_path / "ct"), "zip", tmp_path, "ct.nii")
    (tmp_path / "damaged").mkdir()
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FUZZ, str(tmp_path), "0", str(count)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert run.returncode == 0, run.stdout[-300:] + run.stderr[-2000:]
    assert run.stdout.endswith("done\n")
