"""A file of somebody else's names nothing but what came with it; its own voxels are read as ever."""

from pathlib import Path

import nrrd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import slicerio
from pydicom.fileset import FileSet

from CTSAM3DLib.errors import VolumeError
from CTSAM3DLib.imaging.volume import Volume
from Testing.support.dicom_files import hu_of, write_series

OWN, SECRET = -1000, 12345
PLANE = (8, 8)
META = """ObjectType = Image
NDims = 3
DimSize = 8 8 2
ElementSpacing = 3 3 3
ElementType = MET_SHORT
ElementByteOrderMSB = False
"""
NRRD = """NRRD0004
type: int16
dimension: 3
sizes: 8 8 2
spacings: 3 3 3
endian: little
encoding: raw
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with voxels of its own, and beside it a file that is nobody's business."""
    for name, value, planes in (("own.raw", OWN, 2), ("own0.raw", OWN, 1), ("own1.raw", OWN, 1), ("secret", SECRET, 2)):
        place = tmp_path / name if name == "secret" else tmp_path / "uploaded" / name
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(np.full((planes, *PLANE), value, "<i2").tobytes())
    return tmp_path / "uploaded"


def write(folder: Path, name: str, text: str) -> Path:
    """A header, in which SECRET stands for the file's path."""
    path = folder / name
    path.write_bytes(text.replace("SECRET", str(folder.parent / "secret")).encode("latin-1"))
    return path


def refused(path):
    with pytest.raises(VolumeError) as raised:
        Volume.read(path, untrusted=True)
    message = str(raised.value)
    assert message.endswith(".")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ct.mhd", META + "ElementDataFile = own.raw\n"),
        ("ct.mhd", META + "ElementDataFile = ./own.raw"),
        ("ct.mhd", META + "Comment = 0008|0060: CT\nElementDataFile = LIST\nown0.raw\nown1.raw\n"),
        ("ct.mhd", (META + "ElementDataFile = own.raw\n").replace("\n", "\r\n")),
        ("ct.nhdr", NRRD + "data file: own.raw\n"),
        ("ct.nhdr", NRRD + "# made by hand\nkey:=value\ndatafile: own.raw\n\n"),
        ("ct.nhdr", NRRD + "data file: LIST\nown0.raw\nown1.raw\n"),
        ("ct.nhdr", (NRRD + "data file: own.raw\n").replace("\n", "\r\n")),
    ],
)
def test_files_that_came_along_are_read(name, text, folder):
    array = Volume.read(write(folder, name, text), untrusted=True).array
    assert array.shape == (2, *PLANE)
    assert (array == OWN).all()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", ["ct.mha", "ct.mhd", "ct.nrrd", "ct.nhdr", "ct.nii.gz", "ct.nii", "ct.hdr"])
def test_what_simpleitk_writes_is_read(name, compressed, tmp_path):
    voxels = np.random.default_rng(0).integers(-1000, 1000, (5, 6, 7)).astype(np.int16)
    image = sitk.GetImageFromArray(voxels)
    for key, value in (("0008|0060", "CT"), ("0010|0010", "Müller^Ä"), ("Comment", "x = y: z")):
        image.SetMetaData(key, value)
    sitk.WriteImage(image, str(tmp_path / name), useCompression=compressed)
    np.testing.assert_array_equal(Volume.read(tmp_path / name, untrusted=True).array, voxels)


def test_what_slicer_and_pynrrd_write_is_read(tmp_path):
    mask = {"voxels": np.ones((5, 6, 7), np.uint8), "ijkToLPS": np.eye(4), "segments": []}
    slicerio.write_segmentation(str(tmp_path / "mask.seg.nrrd"), mask)
    assert Volume.read(tmp_path / "mask.seg.nrrd", untrusted=True).array.all()
    nrrd.write(str(tmp_path / "ct.nhdr"), np.ones((5, 6, 7), np.int16), {"spacings": [1, 1, 1]})
    assert Volume.read(tmp_path / "ct.nhdr", untrusted=True).array.all()


ELSEWHERE = [
    ("ct.mhd", META + "ElementDataFile = SECRET\n"),
    ("ct.mha", META + "ElementDataFile = SECRET\n"),
    ("ct.mhd", META + "ElementDataFile = ../secret\n"),
    ("ct.mhd", META + "ElementDataFile = LIST\nown0.raw\nSECRET\n"),
    ("ct.mhd", META + "ElementDataFile = LIST 2\nown0.raw\n../secret\n"),
    ("ct.nhdr", NRRD + "data file: SECRET\n"),
    ("ct.nhdr", NRRD + "data file: ../secret\n"),
    ("ct.nrrd", NRRD + "datafile: SECRET\n\n"),
    ("ct.nhdr", NRRD + "Data File: SECRET\n"),
    ("ct.nhdr", NRRD + "data file: LIST\nown0.raw\nSECRET\n"),
    ("ct.nhdr", NRRD + "data file: SECRET%d 0 1 1\n"),
]


@pytest.mark.parametrize(("name", "text"), ELSEWHERE)
def test_a_file_elsewhere_is_refused(name, text, folder):
    for number in "01":
        (folder.parent / f"secret{number}").write_bytes(np.full(PLANE, SECRET, "<i2").tobytes())
    path = write(folder, name, text)
    assert SECRET in Volume.read(path).array  # whose own file it is may keep voxels where they like
    there = refused(path)
    assert "no file that came with it" in there
    for file in folder.parent.glob("secret*"):
        file.unlink()
    assert refused(path) == there  # not even that it is there is told


def test_a_link_to_a_file_elsewhere_is_refused(folder):
    (folder / "link.raw").symlink_to(folder.parent / "secret")
    for name, text in (
        ("ct.mhd", META + "ElementDataFile = link.raw\n"),
        ("ct.nhdr", NRRD + "data file: link.raw\n"),
    ):
        assert "no file that came with it" in refused(write(folder, name, text))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ct.mhd", META + "ElementDataFile: SECRET\n"),
        ("ct.mhd", META + "elementdatafile = own.raw\nElementDataFile = SECRET\n"),
        ("ct.mhd", META + "\xa0ElementDataFile = LOCAL\nElementDataFile = SECRET\n"),
        ("ct.mhd", META + "\0ElementDataFile = LOCAL\nElementDataFile = SECRET\n"),
        ("ct.mhd", META + "Comment = x\rElementDataFile = SECRET\nElementDataFile = own.raw\n"),
        ("ct.mhd", META + "Comment = " + "x" * 600 + "\nElementDataFile = own.raw\n"),
        ("ct.mhd", META + "ElementDataFile = LISTED/../../secret\n"),
        ("ct.mhd", META + "ElementDataFile = own%d.raw 0 1 1\n"),
        ("ct.mhd", META + "ElementDataFile = \n"),
        ("ct.mhd", META),
        ("ct.nhdr", NRRD + "comment: x\rdata file: SECRET\n"),
        ("ct.nhdr", NRRD + "data file: own.raw\ndata file: SECRET\n"),
        ("ct.nhdr", NRRD + "data file: LISTED\nSECRET\nSECRET\n"),
        ("ct.nhdr", NRRD + "data file: -\n"),
        ("ct.nhdr", NRRD + "data file: ~/secret\n"),
        ("ct.nhdr", NRRD),
        ("ct.nhdr", NRRD + "data file: LIST\n" + "own0.raw\n" * 200_000 + "SECRET\n"),
        ("ct.nhdr", NRRD + "# x\n" * 400_000 + "data file: SECRET\n"),
    ],
)
def test_a_header_that_could_mean_two_files_is_refused(name, text, folder):
    (folder / "-").write_bytes((folder / "own.raw").read_bytes())
    refused(write(folder, name, text))


@pytest.mark.parametrize("name", ["ct.vtk", "ct.h5", "ct.tif", "ct.mnc"])
def test_other_formats_of_itk_are_not_read(name, tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 4, 4), np.int16)), str(tmp_path / name))
    with pytest.raises(VolumeError, match="unknown format"):
        Volume.read(tmp_path / name)


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
def test_a_dicomdir_leads_nowhere(tmp_path):
    secret = sorted(write_series(tmp_path / "secret", hu_of()))
    files = FileSet()
    for path in secret:
        slice_ = pydicom.dcmread(path)
        slice_.PatientID, slice_.StudyID, slice_.StudyDate, slice_.StudyTime = "1", "1", "20200101", "120000"
        slice_.InstanceNumber = len(files) + 1
        files.add(slice_)
    files.write(tmp_path / "set")
    index = pydicom.dcmread(tmp_path / "set" / "DICOMDIR")
    records = [record for record in index.DirectoryRecordSequence if "ReferencedFileID" in record]
    for record, path in zip(records, secret, strict=True):
        record.ReferencedFileID = ["..", "secret", path.name]
    (tmp_path / "uploaded").mkdir()
    index.save_as(tmp_path / "uploaded" / "DICOMDIR")
    refused(tmp_path / "uploaded" / "DICOMDIR")
    refused(tmp_path / "uploaded")
    write_series(tmp_path / "uploaded", hu_of((2, 8, 9)))
    assert Volume.read(tmp_path / "uploaded", untrusted=True).array.shape[0] == 2
