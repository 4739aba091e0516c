"""Voxels that are no numbers, which a library would read as water without a word."""

import gzip

import nrrd
import numpy as np
import pytest
import SimpleITK as sitk

from CTSAM3DLib.errors import VolumeError
from CTSAM3DLib.imaging.volume import Volume


def refused(path, said):
    """The message of the VolumeError that reading raises: one sentence."""
    with pytest.raises(VolumeError, match=said) as raised:
        Volume.read(path)
    message = str(raised.value)
    assert message.endswith(".")
    assert "\n" not in message
    return message


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
