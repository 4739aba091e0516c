"""CTs that a library would read without a word, but wrongly: they are refused until they are read rightly."""

import gzip

import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from CTSAM3DLib.errors import VolumeError
from CTSAM3DLib.imaging.volume import Volume

CT = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT, CONVERTED_CT = f"{CT}.1", f"{CT}.2"
SIX = tuple(range(6))
SPACING_MM = 3.0


def refused(path, said):
    """The message of the VolumeError that reading raises: one sentence."""
    with pytest.raises(VolumeError, match=said) as raised:
        Volume.read(path)
    message = str(raised.value)
    assert message.endswith(".")
    assert "\n" not in message
    return message


def functional_group(**sequences):
    """Each macro of a functional group is a sequence of one item."""
    group = Dataset()
    for name, values in sequences.items():
        item = Dataset()
        item.update(values)
        setattr(group, name, [item])
    return group


def write_multi_frame(path, sop_class, order=SIX, series=None):
    """A DICOM file whose frames are the slices `order` of a CT of six slices, `SPACING_MM` apart."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID, file.Modality = sop_class, meta.MediaStorageSOPInstanceUID, "CT"
    file.StudyInstanceUID, file.SeriesInstanceUID = generate_uid(), series or generate_uid()
    file.NumberOfFrames, file.Rows, file.Columns, file.SamplesPerPixel = len(order), 8, 9, 1
    file.PhotometricInterpretation, file.BitsAllocated, file.BitsStored, file.HighBit = "MONOCHROME2", 16, 16, 15
    file.PixelRepresentation = 1
    file.PixelData = np.stack([np.full((8, 9), 100 * k - 300, "<i2") for k in order]).tobytes()
    if sop_class == CT:  # as some dental scanners write it
        file.ImagePositionPatient, file.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
        file.PixelSpacing, file.RescaleSlope, file.RescaleIntercept = [SPACING_MM] * 2, 1, 0
    else:
        orientation, spacing, scale = Dataset(), Dataset(), Dataset()
        orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        spacing.PixelSpacing, spacing.SpacingBetweenSlices = [SPACING_MM] * 2, SPACING_MM
        scale.RescaleSlope, scale.RescaleIntercept, scale.RescaleType = 1, 0, "HU"
        file.SharedFunctionalGroupsSequence = [
            functional_group(
                PlaneOrientationSequence=orientation,
                PixelMeasuresSequence=spacing,
                PixelValueTransformationSequence=scale,
            )
        ]
        frames = []
        for k in order:
            position = Dataset()
            position.ImagePositionPatient = [0, 0, SPACING_MM * k]
            frames.append(functional_group(PlanePositionSequence=position))
        file.PerFrameFunctionalGroupsSequence = frames
    file.save_as(path, enforce_file_format=True)


class TestMultiFrame:
    @pytest.mark.parametrize("sop_class", [CT, ENHANCED_CT, CONVERTED_CT])
    @pytest.mark.parametrize("order", [SIX, (0, 2, 4, 1, 3, 5), (0, 1, 4, 5)], ids=["whole", "interleaved", "gap"])
    def test_many_frames_in_a_file(self, sop_class, order, tmp_path):
        write_multi_frame(tmp_path / "ct.dcm", sop_class, order)
        for path in (tmp_path / "ct.dcm", tmp_path):
            assert "convert it to NIfTI by dcm2niix" in refused(path, "multi-frame")

    def test_a_series_of_enhanced_files_of_one_frame(self, tmp_path):
        series = generate_uid()
        for k in SIX:
            write_multi_frame(tmp_path / f"{k}.dcm", ENHANCED_CT, (k,), series)
        refused(tmp_path, "multi-frame")

    def test_frames_in_one_of_several_files(self, tmp_path):
        series = generate_uid()
        write_multi_frame(tmp_path / "0.dcm", CT, (0,), series)
        write_multi_frame(tmp_path / "1.dcm", CT, (1, 2), series)
        refused(tmp_path, "multi-frame")

    def test_a_multi_frame_series_beside_others_is_not_in_their_way(self, tmp_path):
        write_multi_frame(tmp_path / "one.dcm", CT, (0,))
        write_multi_frame(tmp_path / "many.dcm", ENHANCED_CT)
        assert Volume.read(tmp_path / "one.dcm").array.shape == (1, 8, 9)


def image_with(value, dtype=np.float32):
    voxels = np.linspace(-1000, 1000, 6 * 8 * 9).reshape(6, 8, 9).astype(dtype)
    voxels[-1, -1, -1] = value
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((0.7, 0.8, 2.5))
    return image


class TestNotFinite:
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize(
        "name", ["ct.nii", "ct.nii.gz", "CT.NII", "ct.nrrd", "ct.nhdr", "ct.mha", "ct.mhd", "ct.hdr", "ct.img.gz"]
    )
    def test_in_any_format(self, name, dtype, value, tmp_path):
        path = tmp_path / name
        sitk.WriteImage(image_with(value, dtype), str(path.with_suffix(".nii") if name.isupper() else path))
        if name.isupper():
            path.with_suffix(".nii").rename(path)
        message = refused(path, "NaN or infinite")
        assert message.startswith(str(path))
        assert "replace them by air (-1024 HU)" in message

    @pytest.mark.parametrize("name", ["ct.hdr", "ct.hdr.gz", "ct.img"])
    def test_in_a_gzipped_pair(self, name, tmp_path):
        sitk.WriteImage(image_with(np.nan), str(tmp_path / "ct.img"))
        if name != "ct.img":
            (tmp_path / "ct.img.gz").write_bytes(gzip.compress((tmp_path / "ct.img").read_bytes()))
            (tmp_path / "ct.img").unlink()
        if name == "ct.hdr.gz":
            (tmp_path / name).write_bytes(gzip.compress((tmp_path / "ct.hdr").read_bytes()))
            (tmp_path / "ct.hdr").unlink()
        refused(tmp_path / name, "NaN or infinite")

    def test_in_a_nifti_of_the_other_byte_order(self, tmp_path):
        sitk.WriteImage(image_with(np.nan), str(tmp_path / "ct.nii"))
        raw = (tmp_path / "ct.nii").read_bytes()
        header = np.frombuffer(raw[:348], "u1").copy()
        for start, end, size in ((0, 4, 4), (40, 56, 2), (68, 76, 2), (76, 120, 4), (252, 256, 2), (256, 328, 4)):
            header[start:end] = header[start:end].reshape(-1, size)[:, ::-1].ravel()
        voxels = np.frombuffer(raw[352:], "<f4").byteswap().tobytes()
        (tmp_path / "ct.nii").write_bytes(header.tobytes() + raw[348:352] + voxels)
        refused(tmp_path / "ct.nii", "NaN or infinite")

    def test_ascii_nrrd(self, tmp_path):
        nrrd.write(str(tmp_path / "ct.nrrd"), np.full((3, 3, 3), np.inf), {"encoding": "ascii", "spacings": [1, 1, 1]})
        refused(tmp_path / "ct.nrrd", "NaN or infinite")

    @pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz", "ct.hdr", "ct.img.gz", "ct.nrrd", "ct.mha"])
    def test_floats_that_are_numbers_are_read(self, name, tmp_path):
        sitk.WriteImage(image_with(0.0), str(tmp_path / name))
        read = Volume.read(tmp_path / name)
        np.testing.assert_allclose(read.array, sitk.GetArrayFromImage(image_with(0.0)))
